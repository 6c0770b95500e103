"""The console in a real Chromium with a virtual authenticator: layout, inertness, signing. The API is a stand-in.

A broken content policy, a script error or a failed load on any page is a failed test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

import console_world as w
from console_browser import Authenticator, browser, complaints_of, screens
from presspass.core.digests import canonical
from presspass.core.lifecycle import State
from presspass.core.roster import Roster
from presspass.core.statement import Intent, ReleaseBody, RosterBody, Statement

SIZES = [(360, 740), (768, 1024), (1600, 900)]
REFUSED_PAGES = (
    "lost",
    "locked",
)  # answered with 404 and 401, which a browser reports as an error of its own
TOUCH_PX = 44


@pytest.fixture(scope="module")
def driven(chromium: Path) -> Iterator[Browser]:
    """Chromium, running."""
    with browser(chromium) as found:
        yield found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[w.World, dict[str, str]]]:
    """Pages of every sort, served; nothing in them is changed by tests."""
    world, paths = screens(tmp_path_factory.mktemp("console"))
    with w.serving(world):
        yield world, paths


@pytest.fixture
def world() -> Iterator[w.World]:
    """A served world of this test alone."""
    with w.serving(w.World()) as served:
        yield served


@contextmanager
def opened(driven: Browser, width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page in a context of its own; whatever the page complains about fails the test."""
    context = driven.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints = complaints_of(page)
    try:
        yield page
        assert complaints == []
    finally:
        context.close()


def report_of(version: str = "2.4.1") -> bytes:
    """The smallest report that can be read."""
    value = {
        "artifacts": [],
        "baseline": None,
        "candidate": [],
        "engine": "test",
        "findings": [],
        "project": "acme-http",
        "type": "presspass/report/v1",
        "version": version,
    }
    return canonical(value)


def put_release(world: w.World, name: str = "one", nonce: int = 1) -> str:
    """A release that waits for somebody other than Alice; the digest of its request."""
    file = w.ReleaseFile("acme_http-2.4.1.tar.gz", hashlib.sha256(name.encode()).hexdigest(), 10)
    facts = w.release((file,), report_of(), release_id=name, nonce=nonce)
    world.releases[name] = facts
    assert facts.ballot is not None
    return Statement.from_bytes(facts.ballot.statement).digest


def with_key(page: Page, *names: str, verifies_user: bool = True) -> Authenticator:
    """Gives the page's browser an authenticator that holds these people's keys."""
    authenticator = Authenticator(page.context, page, verifies_user=verifies_user)
    for name in names:
        authenticator.hold(w.PASSKEYS[name])
    return authenticator


# --- every page ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_page_is_wider_than_the_screen_and_every_button_can_be_hit(
    driven: Browser, shown: tuple[w.World, dict[str, str]], width: int, height: int
) -> None:
    world, paths = shown
    with opened(driven, width, height) as page:
        for name, path in paths.items():
            if name in REFUSED_PAGES:
                continue
            page.goto(world.origin + path)
            too_wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert too_wide <= 0, (name, too_wide)
            heights = page.locator("button, input, .change > summary").evaluate_all(
                "nodes => nodes.map(node => node.getBoundingClientRect().height)"
            )
            assert all(found >= TOUCH_PX for found in heights), (name, heights)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_first_sight_holds_what_a_decision_needs(
    driven: Browser, shown: tuple[w.World, dict[str, str]], width: int, height: int
) -> None:
    world, _ = shown
    with opened(driven, width, height) as page:
        page.goto(f"{world.origin}/r/odd")
        first = [
            page.get_by_role("heading", name="acme-http 2.4.1"),
            page.get_by_text("asked for by Alice Osei"),
            page.locator("#steps .now"),
            page.get_by_text("0 given, 2 more needed, by people other than Alice Osei"),
            page.locator(".odds").get_by_text("acme_http_init.pth"),
            page.get_by_text("1 high and 2 medium; 3 files added"),
            page.get_by_role("button", name="Approve"),
            page.get_by_role("button", name="Veto"),
        ]
        covered = page.locator(".act").bounding_box() if width < 900 else None
        bottom = covered["y"] if covered else height
        for one in first[:6]:
            expect(one).to_be_visible()
        for one in (first[0], first[1], first[2], first[4], first[5]):
            box = one.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= bottom
        approve, veto = first[6].bounding_box(), first[7].bounding_box()
        assert approve is not None
        assert veto is not None
        assert veto["y"] + veto["height"] <= height
        assert (approve["width"], approve["height"], approve["y"]) == pytest.approx(
            (veto["width"], veto["height"], veto["y"]), abs=1
        )


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_S05_a_changed_workflow_is_seen_at_first_sight(
    driven: Browser, shown: tuple[w.World, dict[str, str]], width: int, height: int
) -> None:
    world, _ = shown
    with opened(driven, width, height) as page:
        page.goto(f"{world.origin}/r/workflow")
        covered = page.locator(".act").bounding_box() if width < 900 else None
        bottom = covered["y"] if covered else height
        heading = page.get_by_role("heading", name="approving this release binds the new one")
        line = page.locator(".workflow .plus").get_by_text("./tools/prepare.sh")
        for one in (heading, line):
            expect(one).to_be_visible()
            box = one.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= bottom
        first = page.locator("#first").bounding_box()
        box = heading.bounding_box()
        assert first is not None and box is not None
        assert box["y"] < first["y"]
        expect(page.locator(".workflow .diff")).to_contain_text("U+202E")


def test_no_page_asks_anything_of_another_host(
    driven: Browser, shown: tuple[w.World, dict[str, str]]
) -> None:
    world, paths = shown
    with opened(driven) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for name, path in paths.items():
            if name not in REFUSED_PAGES:
                page.goto(world.origin + path)
        assert asked
        assert [url for url in asked if not url.startswith(f"{world.origin}/")] == []


def test_hostile_names_and_differences_are_shown_inert(
    driven: Browser, shown: tuple[w.World, dict[str, str]]
) -> None:
    world, _ = shown
    with opened(driven) as page:
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page.goto(f"{world.origin}/r/hostile")
        title = page.title()
        expect(page.locator("main script, main img")).to_have_count(0)
        expect(page.locator(".odds .path").first).to_have_text(
            "acme_http/U+202Egpj.<script>alert(1)<\\script>U+200B.py"
        )
        expect(page.locator(".diff").first).to_contain_text(
            "<script>document.title='owned'</script>"
        )
        expect(page.locator(".diff").first).to_contain_text("U+202E")
        content = page.locator("main").evaluate("node => node.textContent")
        assert not set("\u202e\u2066\u2069\u200b\ufe0f\x07") & set(content)
        assert (page.title(), dialogs) == (title, [])


def test_the_keyboard_reaches_both_buttons_and_focus_is_drawn(
    driven: Browser, shown: tuple[w.World, dict[str, str]]
) -> None:
    world, _ = shown
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/odd")
        reached: list[str] = []
        for _step in range(30):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
            )
            if focused[0] in ("approve", "veto"):
                assert focused[1] == "solid"
                reached.append(focused[0])
        assert reached[:2] == ["approve", "veto"]


# --- signing ------------------------------------------------------------------------------------------------------


def test_a_passkey_approves_exactly_the_statement_on_the_page(
    driven: Browser, world: w.World
) -> None:
    digest = put_release(world)
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        with_key(page, "bob")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#outcome")).to_contain_text("Bob Lindqvist has signed to approve")
        expect(page.locator("#steps [aria-current]")).to_have_text("approved")
        expect(page.locator("#counted")).to_have_text("1")
        expect(page.locator("#signatures")).to_contain_text("Bob Lindqvist approved just now")
        expect(page.get_by_role("button", name="Approve")).to_be_disabled()
        expect(page.get_by_role("button", name="Veto")).to_be_enabled()
    assert [(one.statement, one.key) for one in world.accepted] == [
        (digest, w.passkey_of("bob").id)
    ]


def test_a_veto_takes_one_press_and_carries_its_reason(driven: Browser, world: w.World) -> None:
    put_release(world)
    with opened(driven, 390, 844) as page:
        page.goto(f"{world.origin}/r/one")
        with_key(page, "carol")
        page.get_by_label("Reason for a veto").fill("What is <this> for?")
        page.get_by_role("button", name="Veto").click()
        expect(page.locator("#steps [aria-current]")).to_have_text("rejected")
        expect(page.locator("#words")).to_contain_text("Nothing was published")
        expect(page.get_by_role("button", name="Veto")).to_be_disabled()
        page.get_by_role("link", name="Load this page again").click()
        expect(page.locator("#signatures q")).to_have_text("What is <this> for?")
        expect(page.get_by_role("button")).to_have_count(0)
    ballot = world.releases["one"].ballot
    assert ballot is not None
    veto = Statement.from_bytes(ballot.statement).with_intent(Intent.VETO)
    assert [one.statement for one in world.accepted] == [veto.digest]


def test_the_person_who_asked_may_veto_and_proves_it_but_does_not_approve(
    driven: Browser, world: w.World
) -> None:
    put_release(world)
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        authenticator = with_key(page, "alice")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#outcome")).to_contain_text("Alice Osei has signed", timeout=20_000)
        expect(page.locator("#counted")).to_have_text("0")
        page.reload()
        expect(page.locator("#signatures")).to_contain_text("proves who asked; approves nothing")
        page.get_by_role("button", name="Veto").click()
        expect(page.locator("#steps [aria-current]")).to_have_text("rejected")
        assert authenticator.id
    assert len(world.accepted) == 2


def test_a_key_that_does_not_verify_its_user_makes_no_signature(
    driven: Browser, world: w.World
) -> None:
    put_release(world)
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        with_key(page, "bob", verifies_user=False)
        page.get_by_role("button", name="Approve").click()
        outcome = page.locator("#outcome")
        expect(outcome).to_contain_text("PIN, fingerprint or face", timeout=20_000)
        expect(outcome).to_contain_text("presspass approve")
        expect(page.get_by_role("button", name="Approve")).to_be_enabled()
    assert (world.accepted, world.refused) == ([], [])


def test_approving_on_the_page_of_one_request_never_signs_another(
    driven: Browser, world: w.World
) -> None:
    one, other = put_release(world, "one", 1), put_release(world, "other", 2)
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        with_key(page, "bob")
        second = page.context.new_page()
        second.goto(f"{world.origin}/r/other")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#outcome")).to_contain_text("has signed")
    assert [approval.statement for approval in world.accepted] == [one]
    ballot = world.releases["other"].ballot
    assert ballot is not None
    assert (one != other, ballot.signatures) == (True, ())


def test_a_gate_that_names_another_request_afterwards_gets_no_signature_for_it(
    driven: Browser, world: w.World
) -> None:
    put_release(world, "one", 1)
    other = put_release(world, "other", 2)
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        with_key(page, "bob")
        world.lies = {"request": other}
        expect(page.locator("#fresh")).to_contain_text("written anew")
        expect(page.get_by_role("button", name="Approve")).to_be_disabled()
        expect(page.get_by_role("button", name="Veto")).to_be_disabled()
    assert world.accepted == []


@pytest.mark.parametrize("intent", ["approve", "veto"])
def test_a_statement_that_is_not_the_one_asked_for_is_not_signed(
    driven: Browser, world: w.World, intent: str
) -> None:
    put_release(world)
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        with_key(page, "bob")
        page.evaluate(
            "id => { const text = document.getElementById(id);"
            " text.textContent = text.textContent.replace('2.4.1', '6.6.6'); }",
            f"statement-{intent}",
        )
        page.locator(f"#{intent}").click()
        expect(page.locator("#outcome")).to_contain_text("Do not sign")
    assert (world.accepted, world.refused) == ([], [])


def test_hiding_characters_in_a_statement_are_visible_and_still_signed_exactly(
    driven: Browser, world: w.World
) -> None:
    put_release(world)
    facts = world.releases["one"]
    assert facts.ballot is not None
    made = Statement.from_bytes(facts.ballot.statement)
    body = replace(
        made.body_as(ReleaseBody), project="acme-\u202eptth\u200b", version="1 <b>\u00a0</b>"
    )
    odd = replace(made, body=body)
    world.releases["one"] = replace(facts, ballot=replace(facts.ballot, statement=odd.to_bytes()))
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        with_key(page, "bob")
        page.get_by_text("The statement you sign to approve").click()
        marked = page.locator("#statement-approve .ctl")
        assert [one.get_attribute("data-cp") for one in marked.all()] == [
            "U+202E",
            "U+200B",
            "U+00A0",
        ]
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#outcome")).to_contain_text("has signed")
    assert [one.statement for one in world.accepted] == [odd.digest]


def test_a_page_opened_at_another_address_does_not_ask_for_a_signature(
    driven: Browser, world: w.World
) -> None:
    put_release(world)
    with opened(driven) as page:
        page.goto(f"{world.origin.replace('localhost', '127.0.0.1')}/r/one")
        expect(page.locator("#outcome")).to_contain_text(f"Open {world.origin}/r/one")
        expect(page.get_by_role("button", name="Approve")).to_be_disabled()
        expect(page.get_by_role("button", name="Veto")).to_be_disabled()


def test_a_roster_request_takes_two_people(driven: Browser, world: w.World) -> None:
    now = w.team("alice", "bob")
    digest = world.add(RosterBody(Roster((*now.people, w.person("carol")))), now)
    for name, says in (("alice", "seen"), ("bob", "admitted")):
        with opened(driven) as page:
            page.goto(f"{world.origin}/q/{digest}")
            expect(
                page.get_by_role("heading", name="Carol Tanaka joins the roster")
            ).to_be_visible()
            with_key(page, name)
            page.get_by_role("button", name="Approve").click()
            expect(page.locator("#steps [aria-current]")).to_have_text(says)
    assert [one.statement for one in world.accepted] == [digest, digest]


# --- live state ---------------------------------------------------------------------------------------------------


def test_the_state_moves_on_the_page_without_a_reload(driven: Browser, world: w.World) -> None:
    put_release(world)
    facts = world.releases["one"]
    with opened(driven) as page:
        loads: list[str] = []
        page.on("framenavigated", lambda frame: loads.append(frame.url))
        page.goto(f"{world.origin}/r/one")
        for state in (State.APPROVED, State.PUBLISHING, State.PUBLISHED, State.VERIFIED):
            world.releases["one"] = replace(facts, state=state)
            expect(page.locator("#steps [aria-current]")).to_have_text(state.value)
        expect(page.locator("#words")).to_contain_text("serves exactly the approved files")
        expect(page.locator("#steps li.done")).to_have_count(7)
        assert page.locator("#words").get_attribute("aria-live") == "polite"
        assert len(loads) == 1


def test_a_page_opened_early_says_when_there_is_something_to_sign(
    driven: Browser, world: w.World
) -> None:
    put_release(world)
    ready = world.releases["one"]
    world.releases["one"] = replace(ready, state=State.STAGED, report=None, ballot=None)
    with opened(driven) as page:
        page.goto(f"{world.origin}/r/one")
        expect(page.get_by_text("Nothing to see yet")).to_be_visible()
        world.releases["one"] = ready
        expect(page.locator("#fresh")).to_contain_text("something to sign now")
        page.get_by_role("link", name="Load this page again").click()
        expect(page.get_by_role("button", name="Approve")).to_be_enabled()


def test_a_gate_that_does_not_answer_is_said_so_and_forgiven(
    driven: Browser, world: w.World
) -> None:
    put_release(world)
    context: BrowserContext = driven.new_context()
    page = context.new_page()
    page.goto(f"{world.origin}/r/one")
    context.set_offline(True)
    expect(page.locator("#link-words")).to_contain_text("does not answer")
    context.set_offline(False)
    expect(page.locator("#link-words")).to_be_empty()
    context.close()


# --- enrolment ----------------------------------------------------------------------------------------------------


def test_a_link_without_its_secret_says_so(driven: Browser, world: w.World) -> None:
    with opened(driven) as page:
        page.goto(f"{world.origin}/enrol")
        expect(page.locator("#outcome")).to_contain_text("lacks the secret")
        expect(page.get_by_role("button", name="Begin")).to_be_disabled()
