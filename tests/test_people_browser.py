"""People in a real Chromium, at a whole gate with press and a certified provider.

Approving stays what it was: every request here is approved by roster keys at a terminal.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from cli_rig import Rig
from console_browser import Authenticator, browser, complaints_of
from people_provider import PeopleProvider, use_provider

TOUCH_PX = 44
pytestmark = pytest.mark.usefixtures("chromium")


@pytest.fixture(scope="module")
def driven(chromium: Path) -> Iterator[Browser]:
    """Chromium, running."""
    with browser(chromium) as found:
        yield found


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, PeopleProvider]]:
    """A sealed gate that signs people in; Ada is admin and known to the provider as ada-7f3a."""
    folder = tmp_path_factory.mktemp("people")
    made = Rig(folder)
    made.init()
    callback = f"{made.origin}/sign-in/callback"
    claims = {"email": "grace@team.example", "email_verified": True}
    with PeopleProvider(folder / "provider", callback, **claims) as provider:
        use_provider(made, provider)
        made.start()
        try:
            made.seal()
            subject = f"oidc:{provider.url}#ada-7f3a"
            words = ("people", "change", "Ada", "--forge-id", subject, "--group", "role:admin")
            admit(made, made.ask(*words)["url"])
            yield made, provider
        finally:
            made.stop()


def admit(rig: Rig, url: str) -> None:
    """Both sign with their roster keys, and the press admits it."""
    rig.approve(url, "ada", "grace")
    rig.run("wait", url, "--timeout", "30s")


@contextmanager
def opened(
    driven: Browser,
    *expected: str,
    width: int = 390,
    height: int = 844,
    theme: Literal["light", "dark"] = "light",
) -> Iterator[Page]:
    """A page in a context of its own; whatever it complains about, but for what is expected, fails the test."""
    context: BrowserContext = driven.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints = complaints_of(page)
    try:
        yield page
        assert [one for one in complaints if not any(part in one for part in expected)] == []
    finally:
        context.close()


def sign_in(page: Page, rig: Rig, subject: str, back_to: str = "/c") -> None:
    """The whole way over the provider."""
    page.goto(f"{rig.origin}/sign-in?next={back_to}")
    page.get_by_role("link", name="Sign in at").click()
    page.get_by_label("Name").fill(subject)
    page.get_by_role("button", name="Sign in").click()


def sign_out(page: Page) -> None:
    page.locator(".me summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")


def test_a_person_signs_in_at_the_provider_sees_the_list_and_signs_out(
    driven: Browser, rig: tuple[Rig, PeopleProvider]
) -> None:
    gate, _provider = rig
    with opened(driven, "401") as page:
        page.goto(f"{gate.origin}/c")
        expect(page.get_by_role("heading", name="The list is not public")).to_be_visible()
        page.locator("main").get_by_role("link", name="Sign in", exact=True).click()
        sign_in(page, gate, "ada-7f3a")
        expect(page.get_by_role("heading", name="Releases and requests")).to_be_visible()
        expect(page.locator(".me .name")).to_have_text("Ada")
        cookies = {one["name"]: one for one in page.context.cookies(gate.origin)}
        kept = cookies["presspass_session"]
        assert kept["httpOnly"] and kept["sameSite"] == "Lax"
        assert page.evaluate("document.cookie") == ""
        sign_out(page)
        page.goto(f"{gate.origin}/c")
        expect(page.get_by_role("heading", name="The list is not public")).to_be_visible()


def test_somebody_the_roster_does_not_know_is_told_what_to_hand_to_an_admin(
    driven: Browser, rig: tuple[Rig, PeopleProvider]
) -> None:
    """The provider vouches for Grace's e-mail address; that says nothing here."""
    gate, provider = rig
    with opened(driven, "403") as page:
        sign_in(page, gate, "grace-of-the-provider")
        expect(page.locator("main")).to_contain_text("sign-in.unknown-person")
        expect(page.locator("main")).to_contain_text(f"oidc:{provider.url}#grace-of-the-provider")
        page.goto(f"{gate.origin}/sign-in")
        expect(page.locator(".me")).to_have_count(0)


def test_a_code_is_good_once_and_a_state_of_another_browser_for_nothing(
    driven: Browser, rig: tuple[Rig, PeopleProvider]
) -> None:
    gate, _provider = rig
    seen: list[str] = []
    with opened(driven, "400") as page:
        page.on("request", lambda one: seen.append(one.url) if "/callback?" in one.url else None)
        sign_in(page, gate, "ada-7f3a")
        expect(page.locator(".me .name")).to_have_text("Ada")
        page.goto(seen[0])
        expect(page.locator("main")).to_contain_text("sign-in.expired")
    with opened(driven, "400") as other:
        other.goto(f"{gate.origin}/sign-in/start")
        other.goto(seen[0])
        expect(other.locator("main")).to_contain_text("sign-in.expired")
        other.goto(f"{gate.origin}/sign-in")
        expect(other.locator(".me")).to_have_count(0)


def test_a_sign_in_passkey_is_made_by_a_link_and_signs_in_and_the_roster_does_not_know_it(
    driven: Browser, rig: tuple[Rig, PeopleProvider]
) -> None:
    gate, _provider = rig
    link = gate.ask("people", "sign-in-link", "Grace")["url"]
    with opened(driven, "status of 400") as page:
        Authenticator(page.context, page)
        page.goto(link)
        page.get_by_label("What you call it").fill("Grace's phone")
        page.get_by_role("button", name="Make a passkey").click()
        expect(page.get_by_role("heading", name="Made")).to_be_visible()
        assert "#" not in page.url
        page.get_by_role("link", name="Sign in with it").click()
        page.get_by_role("button", name="Use a sign-in passkey").click()
        expect(page.get_by_role("heading", name="Releases and requests")).to_be_visible()
        page.goto(f"{gate.origin}/sign-in/keys")
        expect(page.locator("#keys")).to_contain_text("Grace's phone")
        page.get_by_role("button", name="Remove Grace's phone").click()
        expect(page.locator("#keys")).to_contain_text("None yet.")
        sign_out(page)
        page.get_by_role("button", name="Use a sign-in passkey").click()
        expect(page.locator("#outcome")).to_contain_text("sign-in.key-invalid")
    kinds = {one["kind"] for one in gate.ask("roster", "show")["people"]}
    assert kinds == {"software-passkey", "ssh"}


def test_a_passkey_of_a_device_that_verifies_nobody_is_not_made(
    driven: Browser, rig: tuple[Rig, PeopleProvider]
) -> None:
    gate, _provider = rig
    with opened(driven) as page:
        Authenticator(page.context, page, verifies_user=False)
        page.goto(gate.ask("people", "sign-in-link", "Grace")["url"])
        page.get_by_role("button", name="Make a passkey").click()
        expect(page.locator("#outcome")).to_contain_text("PIN, fingerprint or face")


def test_an_admin_asks_on_the_page_and_the_others_approve(
    driven: Browser, rig: tuple[Rig, PeopleProvider]
) -> None:
    gate, _provider = rig
    with opened(driven) as page:
        sign_in(page, gate, "ada-7f3a", "/people")
        grace = page.locator(".people > li", has=page.get_by_role("heading", name="Grace"))
        grace.locator("summary").click()
        grace.get_by_label("Addresses").fill("mailto:grace@elsewhere.example")
        grace.get_by_role("button", name="Ask for it").click()
        expect(page.get_by_role("heading", name="Grace's details change")).to_be_visible()
        admit(gate, page.url)
        page.goto(f"{gate.origin}/people")
        expect(page.locator(".people")).to_contain_text("mailto:grace@elsewhere.example")
        page.locator("#invite-form").get_by_label("Name").fill("Zoe")
        page.get_by_role("button", name="Make a link").click()
        expect(page.locator("#link")).to_contain_text(f"{gate.origin}/enrol#")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
def test_the_pages_of_people_fit_every_screen(
    driven: Browser,
    rig: tuple[Rig, PeopleProvider],
    tmp_path: Path,
    width: int,
    height: int,
    theme: Literal["light", "dark"],
) -> None:
    gate, _provider = rig
    pictures = Path(os.environ.get("PRESSPASS_PICTURES", tmp_path))
    with (
        Login(gate, tmp_path) as login,
        opened(driven, "401", width=width, height=height, theme=theme) as page,
    ):
        for name, path in (("locked", "/c"), ("sign-in", "/sign-in"), ("link", "/sign-in/keys#x")):
            check_layout(page, f"{gate.origin}{path}", pictures / f"{name}-{width}-{theme}.png")
        sign_in(page, gate, "ada-7f3a")
        expect(page.locator(".me .name")).to_have_text("Ada")
        device = login.address.removeprefix(gate.origin)
        paths = {"list": "/c", "keys": "/sign-in/keys", "people": "/people", "device": device}
        for name, path in {**paths, "code": "/device", "wrong": "/device?user_code=X"}.items():
            check_layout(page, f"{gate.origin}{path}", pictures / f"{name}-{width}-{theme}.png")
        page.locator(".me summary").click()
        page.screenshot(path=pictures / f"menu-{width}-{theme}.png")
        page.goto(f"{gate.origin}{device}")
        page.get_by_role("button", name="Deny").click()
        expect(page.locator("#done")).to_contain_text("Denied")
        assert login.ended()[0] == 1


def check_layout(page: Page, url: str, picture: Path) -> None:
    """Nothing is cut off, and everything that is pressed is as large as a finger."""
    page.goto(url)
    page.wait_for_load_state("load")
    for one in page.locator("main details > summary").all():
        one.click()
    page.screenshot(path=picture, full_page=True)
    too_wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert too_wide <= 0, (url, too_wide)
    heights = page.locator("main :is(button, input, summary, textarea, a.button)").evaluate_all(
        "nodes => nodes.map(node => node.getBoundingClientRect().height)"
    )
    assert all(found >= TOUCH_PX for found in heights), (url, heights)


class Login:
    """`with Login(…) as login:` `presspass login`, running; what it prints, line by line."""

    def __init__(self, rig: Rig, config: Path) -> None:
        self.environment = {"XDG_CONFIG_HOME": str(config)}
        self.process = subprocess.Popen(
            [*rig.command, "login", rig.origin],
            env={**os.environ, **rig.environment, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self._line("open  ")
        self.code = self._line("code  ")

    def _line(self, begins: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(begins), line
        return line.removeprefix(begins).strip()

    def __enter__(self) -> Login:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ended(self) -> tuple[int, str]:
        text, _ = self.process.communicate(timeout=60)
        return self.process.returncode, text


def test_a_terminal_is_signed_in_by_a_browser_looks_asks_and_cannot_approve(
    driven: Browser, rig: tuple[Rig, PeopleProvider], tmp_path: Path
) -> None:
    gate, _provider = rig
    with Login(gate, tmp_path) as login, opened(driven) as page:
        page.goto(login.address)
        page.get_by_role("link", name="Sign in at").click()
        page.get_by_label("Name").fill("ada-7f3a")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".user-code")).to_have_text(login.code)
        expect(page.locator("#asking")).to_contain_text("presspass on")
        expect(page.locator("#asking")).to_contain_text("127.0.0.1")
        page.get_by_role("button", name="Allow").click()
        expect(page.locator("#done")).to_contain_text("Allowed")
        code, text = login.ended()
    assert (code, "as Ada" in text) == (0, True), text
    kept = tmp_path / "presspass" / "sessions.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    who: Any = gate.ask("whoami", **login.environment)
    assert (who["name"], who["roles"], who["place"]) == ("Ada", ["admin"], "terminal")
    assert "requests" in gate.ask("status", "--gate", gate.origin, **login.environment)
    done = gate.ask("history", "--gate", gate.origin, "--kind", "genesis", **login.environment)
    assert [one["title"] for one in done["acts"]] == ["genesis"]
    words = ("people", "change", "Grace", "--group", "reviewers", "--gate", gate.origin)
    asked = gate.ask(*words, **login.environment)["url"]
    before = gate.ask("status", asked)
    token = json.loads(kept.read_text())[gate.origin]
    from presspass.cli.client import Gate
    from presspass.core.errors import Refusal

    with Gate(gate.origin, token=token) as client, pytest.raises(Refusal) as refused:
        client.post_json(f"/api/v1/requests/{before['digest']}/approvals", {"token": token})
    assert refused.value.code.value in ("approval.invalid", "statement.malformed")
    assert gate.ask("status", asked)["tally"]["counted"] == []
    gate.run("logout", **login.environment)
    gate.run("whoami", code=1, **login.environment)
    with Gate(gate.origin, token=token) as client, pytest.raises(Refusal) as refused:
        client.get_json("/api/v1/session")
    assert refused.value.code.value == "session.missing"


def test_a_terminal_that_is_denied_says_so(
    driven: Browser, rig: tuple[Rig, PeopleProvider], tmp_path: Path
) -> None:
    gate, _provider = rig
    with Login(gate, tmp_path) as login, opened(driven) as page:
        sign_in(page, gate, "ada-7f3a", "/device")
        page.get_by_label("The code on your terminal").fill(login.code.lower().replace("-", " "))
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="Deny").click()
        expect(page.locator("#done")).to_contain_text("Denied")
        code, text = login.ended()
    assert code == 1
    assert "denied in the browser" in text
    assert not (tmp_path / "presspass" / "sessions.json").exists()
