"""The console over the real gateway process, in a real Chromium: enrols, approves, vetoes, and is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect

import gateway_world
from console_browser import Authenticator, browser, complaints_of
from gateway_world import World, basic
from peers import free_port
from presspass.core.approval import Approval
from presspass.core.statement import Intent, Statement
from presspass.drill.packages import make_wheel
from presspass.drill.world.keys import SoftwarePasskey
from presspass.store import gateway_tables as g


@pytest.fixture(scope="module")
def driven(chromium: Path) -> Iterator[Browser]:
    """Chromium, running."""
    with browser(chromium) as found:
        yield found


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> str:
    """The origin of this test's gateway: passkeys are bound to it, so its port is chosen before genesis."""
    monkeypatch.setattr(gateway_world, "ORIGIN", f"http://localhost:{free_port()}")
    return gateway_world.ORIGIN


@contextmanager
def gate(tmp_path: Path, origin: str, *, sealed: bool = True) -> Iterator[World]:
    """A gateway that serves at `origin`."""
    port = origin.rpartition(":")[2]
    with World(tmp_path / "home", "--port", port, sealed=sealed) as world:
        yield world


@contextmanager
def opened(driven: Browser, *refusals_expected: str) -> Iterator[Page]:
    """A page whose complaints fail the test, but for those with a part that is expected."""
    context = driven.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints = complaints_of(page)
    try:
        yield page
        assert [
            one for one in complaints if not any(part in one for part in refusals_expected)
        ] == []
    finally:
        context.close()


def holding(page: Page, *passkeys: SoftwarePasskey, verifies_user: bool = True) -> None:
    """Gives the page's browser an authenticator with these keys."""
    authenticator = Authenticator(page.context, page, verifies_user=verifies_user)
    for passkey in passkeys:
        authenticator.hold(passkey)


def invite(world: World, person: str, name: str) -> str:
    """A single-use enrolment link."""
    asked = {"person": person, "name": name, "addresses": [], "groups": [], "forge_ids": []}
    answer = world.control("POST", "/links", asked)
    assert answer.status in (200, 201), answer.body
    return str(answer.json["url"])


def release(world: World, tmp_path: Path, version: str = "1.0", **files: str) -> str:
    """A wheel of the project, uploaded by Ada, closed and reviewed; the id of its set."""
    content = {"greet/__init__.py": f'__version__ = "{version}"\n', **files}
    wheel = make_wheel(tmp_path, gateway_world.PROJECT, version, content)
    token = world.token()
    placed = world.upload(token, wheel.name, wheel.read_bytes())
    assert placed.status == 202, placed.body
    found = placed.headers["location"].rpartition("/")[2]
    closed = world.ask("POST", f"/api/v1/releases/{found}/close", Authorization=basic(token))
    assert closed.status == 200, closed.body
    world.until(found, "awaiting")
    return found


def approvals(world: World) -> list[tuple[str, str]]:
    """Stored signatures: (statement, key)."""
    query = sa.select(g.APPROVAL.c.statement, g.APPROVAL.c.key).order_by(g.APPROVAL.c.id)
    return [(row.statement, row.key) for row in world.rows(query)]


def statement_of(world: World, release_id: str) -> Statement:
    """What approvers of this release sign."""
    return Statement.from_bytes(gateway_world.release_statement(world.release(release_id)))


def shown_fingerprint(page: Page) -> str:
    """The fingerprint on the page, without its spaces."""
    return page.locator("#fingerprint").inner_text().replace(" ", "").replace("\n", "")


# --- enrolment ----------------------------------------------------------------------------------------------------


def test_a_person_enrols_a_passkey_before_genesis(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin, sealed=False) as world, opened(driven) as page:
        Authenticator(page.context, page)
        page.goto(invite(world, "", "Ada Byron"))
        expect(page.get_by_text("Not sealed yet")).to_be_visible()
        page.get_by_role("button", name="Begin").click()
        expect(page.get_by_role("heading", name="The key of Ada Byron is enrolled")).to_be_visible()
        expect(page.get_by_text("presspass init --seal")).to_be_visible()
        rows = world.rows(sa.select(g.ENROLMENT))
        assert [row.key for row in rows] == [shown_fingerprint(page)]
        assert "#" not in page.url


def test_a_link_enrols_one_key_and_then_says_that_it_is_used(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin, sealed=False) as world:
        link = invite(world, "", "Ada Byron")
        with opened(driven) as page:
            Authenticator(page.context, page)
            page.goto(link)
            page.get_by_role("button", name="Begin").click()
            expect(page.locator("#done")).to_be_visible()
        with opened(driven, "status of 403") as page:
            Authenticator(page.context, page)
            page.goto(link)
            page.get_by_role("button", name="Begin").click()
            expect(page.locator("#outcome")).to_contain_text("[enrolment.used]")
            expect(page.locator("#outcome")).to_contain_text("Ask the operator of the gate")
        assert world.count(g.ENROLMENT) == 1


def test_an_authenticator_that_does_not_verify_its_user_cannot_enrol(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin, sealed=False) as world, opened(driven) as page:
        Authenticator(page.context, page, verifies_user=False)
        page.goto(invite(world, "", "Ada Byron"))
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#outcome")).to_contain_text("does not ask for a PIN", timeout=30_000)
        assert world.count(g.ENROLMENT) == 0


def test_a_key_enrolled_after_genesis_waits_for_two_people(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin) as world:
        with opened(driven) as page:
            Authenticator(page.context, page)
            page.goto(invite(world, "", "Eve Newcomer"))
            page.get_by_role("button", name="Begin").click()
            page.get_by_role("link", name="the request for approval").wait_for()
            fingerprint = shown_fingerprint(page)
            page.get_by_role("link", name="the request for approval").click()
            heading = page.get_by_role("heading", name="Eve Newcomer joins the roster")
            expect(heading).to_be_visible()
            on_request = page.locator(".items .fingerprint").inner_text()
            assert "".join(on_request.split()) == fingerprint
            address = page.url
        for passkey in (world.ada, world.grace):
            with opened(driven) as page:
                page.goto(address)
                holding(page, passkey)
                page.get_by_role("button", name="Approve").click()
                expect(page.locator("#outcome")).to_contain_text("has signed")
        digest = address.rpartition("/")[2]
        assert approvals(world) == [(digest, world.ada.key.id), (digest, world.grace.key.id)]
        tally = world.ask("GET", f"/api/v1/requests/{digest}").json["tally"]
        assert (tally["needed"], len(tally["counted"])) == (2, 2)


# --- releases -----------------------------------------------------------------------------------------------------


def test_somebody_else_approves_exactly_these_bytes(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin) as world:
        found = release(world, tmp_path)
        made = statement_of(world, found)
        with opened(driven) as page:
            page.goto(f"{origin}/r/{found}")
            expect(page.get_by_text("people other than ada")).to_be_visible()
            expect(page.locator("#statement-approve")).to_have_text(made.to_bytes().decode())
            holding(page, world.grace)
            page.get_by_role("button", name="Approve").click()
            expect(page.locator("#outcome")).to_contain_text("grace has signed to approve")
            expect(page.locator("#counted")).to_have_text("1")
        assert approvals(world) == [(made.digest, world.grace.key.id)]
        row = world.rows(sa.select(g.APPROVAL))[0]
        assert Approval.from_bytes(row.approval).to_bytes() == row.approval


def test_a_veto_is_stored_as_a_signature_under_the_veto(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin) as world:
        found = release(world, tmp_path, **{"greet_init.pth": "import sys\n"})
        veto = statement_of(world, found).with_intent(Intent.VETO)
        with opened(driven) as page:
            page.goto(f"{origin}/r/{found}")
            expect(page.locator(".odds .path").first).to_have_text("greet_init.pth")
            holding(page, world.ada)
            page.get_by_label("Reason for a veto").fill("Nobody needs a <.pth> file.")
            page.get_by_role("button", name="Veto").click()
            expect(page.locator("#outcome")).to_contain_text("ada has signed to veto")
            expect(page.locator("#signatures")).to_contain_text("ada vetoed just now")
            page.reload()
            expect(page.locator("#signatures q")).to_have_text("Nobody needs a <.pth> file.")
        assert approvals(world) == [(veto.digest, world.ada.key.id)]


def test_what_the_press_decides_shows_without_a_reload(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin) as world:
        found = release(world, tmp_path)
        digest = statement_of(world, found).digest
        with opened(driven) as page:
            page.goto(f"{origin}/r/{found}")
            world.journal.decide(digest, found, "rejected", "narrowing.vetoed", "Grace vetoed it.")
            expect(page.locator("#steps [aria-current]")).to_have_text("rejected")
            expect(page.locator("#words")).to_contain_text("Grace vetoed it.")
            expect(page.get_by_role("button", name="Approve")).to_be_disabled()


def test_a_signature_that_comes_too_late_is_refused_with_the_reason(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin) as world:
        found = release(world, tmp_path)
        digest = statement_of(world, found).digest
        with opened(driven, "status of 403", "api/v1/releases") as page:
            page.goto(f"{origin}/r/{found}")
            holding(page, world.grace)
            page.route("**/api/v1/releases/*", lambda route: route.abort())
            world.journal.decide(digest, found, "rejected", "narrowing.vetoed", "Grace vetoed it.")
            world.until(found, "rejected")
            page.get_by_role("button", name="Approve").click()
            expect(page.locator("#outcome")).to_contain_text("[release.wrong-state]")
        assert approvals(world) == []


def test_a_key_that_does_not_verify_its_user_signs_nothing(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin) as world:
        found = release(world, tmp_path)
        with opened(driven) as page:
            page.goto(f"{origin}/r/{found}")
            holding(page, world.grace, verifies_user=False)
            page.get_by_role("button", name="Approve").click()
            expect(page.locator("#outcome")).to_contain_text(
                "No signature was made", timeout=30_000
            )
        assert approvals(world) == []


def test_the_page_of_one_release_never_signs_another(
    driven: Browser, tmp_path: Path, origin: str
) -> None:
    with gate(tmp_path, origin) as world:
        one, other = release(world, tmp_path, "1.0"), release(world, tmp_path, "2.0")
        with opened(driven) as page:
            page.goto(f"{origin}/r/{one}")
            holding(page, world.grace)
            page.context.new_page().goto(f"{origin}/r/{other}")
            page.get_by_role("button", name="Approve").click()
            expect(page.locator("#outcome")).to_contain_text("has signed")
        assert approvals(world) == [(statement_of(world, one).digest, world.grace.key.id)]
        assert world.release(other)["approvals"] == []


# --- the list -----------------------------------------------------------------------------------------------------


def test_the_list_opens_with_a_view_link_only(driven: Browser, tmp_path: Path, origin: str) -> None:
    with gate(tmp_path, origin) as world:
        release(world, tmp_path)
        with opened(driven, "status of 401") as page:
            page.goto(f"{origin}/c")
            expect(page.get_by_role("heading", name="The list is not public")).to_be_visible()
            page.goto(world.control("POST", "/view-tokens", {}).json["url"])
            expect(page).to_have_url(f"{origin}/c")
            expect(page.get_by_text("awaiting · 0 of 2")).to_be_visible()
            page.get_by_role("link", name="greet 1.0").click()
            expect(page.get_by_role("heading", name="greet 1.0")).to_be_visible()
