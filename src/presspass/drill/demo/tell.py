"""How the demo speaks: what is done, what came of it, and a count at the end. Prints, nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text


class DemoFailedError(Exception):
    """Something did not happen as told; the demo ends with exit code 1."""


@dataclass(slots=True)
class Teller:
    """Tells the story and keeps the counts."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started_s: float = field(default_factory=time.monotonic)
    touches: int = 0
    uploads: int = 0
    refused: int = 0
    _scene_s: float = 0.0

    def scene(self, number: str, title: str) -> None:
        """A new scene."""
        self._scene_s = time.monotonic()
        self.console.print()
        self.console.print(Text(f" {number} ", style="bold reverse"), Text(title, style="bold"))

    def opening(self, folder: Path) -> None:
        """What runs where, and who is who, before anything happens."""
        for line in (
            f"A gate and two private registries run on this machine, on loopback ports; their files lie in {folder}/.",
            "Nothing leaves the machine, and the attacks use inert files.",
            "Ana uploads releases; Ben, Cleo and Dan approve them.",
            "Each is known to the gate by an id such as p-264a989c6558; names stay out of what is signed and proved.",
        ):
            self.console.print(Text(line))

    def step(self, what: str) -> None:
        """Something somebody does."""
        self.console.print(Text(f"  {what}"))

    def good(self, what: str) -> None:
        """It went as it should."""
        self.console.print(Text("  ✓ ", style="bold green"), Text(what), sep="")

    def bad(self, what: str) -> None:
        """Harm that is done (only before the gate)."""
        self.console.print(Text("  ✗ ", style="bold red"), Text(what, style="red"), sep="")

    def refusal(self, what: str, reason: str) -> None:
        """An attempt that failed, with the reason it was given."""
        self.refused += 1
        self.console.print(Text("  ✓ refused ", style="bold green"), Text(what), sep="")
        self.console.print(Text(f"      {reason}", style="dim"))

    def held(self, what: str, reason: str) -> None:
        """Something that was taken and goes no further by itself."""
        self.console.print(Text("  ✓ held    ", style="bold green"), Text(what), sep="")
        self.console.print(Text(f"      {reason}", style="dim"))

    def quote(self, text: str, limit: int = 14) -> None:
        """Output of a program, indented."""
        for line in text.strip().splitlines()[:limit]:
            self.console.print(Text(f"      {line}", style="dim"))

    def expect(self, holds: bool, what: str, detail: str = "") -> None:
        """Ends the demo unless `holds`."""
        if not holds:
            raise DemoFailedError(f"{what}\n{detail}".strip())

    def summary(self, out: str) -> None:
        """The counters."""
        table = Table(show_header=False, box=None, padding=(0, 2))
        for name, value in (
            ("seconds", f"{time.monotonic() - self.started_s:.1f}"),
            ("touches of a key", str(self.touches)),
            ("uploads to the registry by the press", str(self.uploads)),
            ("attempts refused", str(self.refused)),
            ("published files, proofs, trust root", out),
        ):
            table.add_row(name, value)
        self.console.print()
        self.console.print(table)
