"""Pictures of every page of the console, both themes, wide and narrow: `python tests/console_screenshots.py FOLDER`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from console_browser import browser, screens
from console_world import serving


def shoot(page: Page, folder: Path, name: str, url: str, *, full: bool) -> None:
    """One picture, after the page has settled."""
    page.goto(url)
    page.wait_for_load_state("load")
    page.screenshot(path=folder / f"{name}.png", full_page=full)


def shoot_all(driven: Browser, origin: str, paths: dict[str, str], folder: Path) -> None:
    """Every page in both themes at both widths: first sight, and the whole page in the light theme."""
    for theme in ("light", "dark"):
        for width, height in ((1280, 800), (390, 844)):
            context = driven.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
            )
            page = context.new_page()
            for name, path in paths.items():
                label = f"{name}-{width}-{theme}"
                shoot(page, folder, label, origin + path, full=False)
                if theme == "light" or name == "odd":
                    shoot(page, folder, f"{label}-full", origin + path, full=True)
            context.close()


def main() -> None:
    """Builds the values, serves them, takes the pictures."""
    folder = Path(sys.argv[1])
    program = Path(shutil.which("chromium") or "chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        world, paths = screens(Path(work))
        with serving(world), browser(program) as driven:
            shoot_all(driven, world.origin, paths, folder)


if __name__ == "__main__":
    main()
