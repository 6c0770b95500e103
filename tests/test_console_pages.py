"""The console's pages as values and over HTTP, without a browser: what they say, what they hold back, their headers."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

import console_world as w
from console_browser import screens
from presspass.core.calendar import Holiday
from presspass.core.errors import Code, Refusal
from presspass.core.findings import (
    ArtifactReport,
    Change,
    ChangeKind,
    FileEntry,
    Finding,
    Report,
    Severity,
    parse_report,
)
from presspass.core.lifecycle import SETTLED, State
from presspass.core.limits import CONSOLE_CHANGES_MAX, CONSOLE_DIFF_LINES_MAX
from presspass.core.policy import Policy
from presspass.core.quorum import Electorate, count
from presspass.core.roster import Roster
from presspass.core.statement import FreezeBody, PolicyBody, RosterBody
from presspass.gateway.console import (
    Activity,
    Ballot,
    History,
    InForce,
    Situation,
    Viewer,
    differences,
    pages,
    review,
    text,
    views,
)
from presspass.gateway.console import ballots as ballot_views
from presspass.gateway.console.models import Overview, ReleaseLine
from presspass.verify.history import Words

CONSOLE = Path(views.__file__).parent
SEALED = Situation(sealed=True, names=w.NAMES)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=60)
HIDING = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u200b-\u200f\ufeff\u00ad\u3164\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class _TextOf(HTMLParser):
    """Collects the text content, as a browser would."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def text_of(markup: Markup) -> tuple[str, set[str]]:
    parser = _TextOf()
    parser.feed(str(markup))
    parser.close()
    return "".join(parser.found), set(parser.tags)


# --- text from strangers ------------------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_text_from_strangers_brings_no_markup_and_no_hiding_character(hostile: str) -> None:
    shown, tags = text_of(text.visible(hostile))
    assert tags <= {"span"}
    assert not HIDING.search(shown)


@given(ANY_TEXT)
def test_text_to_be_signed_keeps_every_character(statement: str) -> None:
    shown, tags = text_of(text.exact(statement))
    assert shown == statement
    assert tags <= {"span"}


@pytest.mark.parametrize(
    ("hostile", "code_point"),
    [
        ("a\u202egpj.py", "U+202E"),
        ("a\u200bb", "U+200B"),
        ("a\u00a0b", "U+00A0"),
        ("\u3164", "U+3164"),
        ("x\ufe0f", "U+FE0F"),
        ("tab\there", "U+0009"),
        ("e\u0301\u0301\u0301", "U+0301"),
    ],
)
def test_a_hiding_character_is_drawn_as_its_code_point(hostile: str, code_point: str) -> None:
    assert code_point in text_of(text.visible(hostile))[0]


def test_ordinary_text_of_any_script_is_left_alone() -> None:
    for word in ("naïve", "Łódź", "日本語", "e\u0301", "דוגמה"):
        assert text_of(text.visible(word))[0] == word


# --- what changes -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Real reports of the inspector, by name."""
    world, _ = screens(tmp_path_factory.mktemp("console"))
    return {name: parse_report(one.report) for name, one in world.releases.items() if one.report}


def test_the_same_change_in_wheel_and_sdist_is_one_row(reports: dict[str, Report]) -> None:
    shown = review.view(reports["calm"])
    by_path = {change.path: change for change in shown.changes}
    places = [place.path for place in by_path["acme_http/retry.py"].places]
    assert places == ["acme_http/retry.py", "acme_http-2.4.1/src/acme_http/retry.py"]
    assert by_path["acme_http/retry.py"].tags == ()


def test_the_odd_file_comes_first_and_open(reports: dict[str, Report]) -> None:
    shown = review.view(reports["odd"])
    assert shown.changes[0].path == "acme_http_init.pth"
    assert shown.changes[0].is_odd
    assert shown.first_odd[0].path == "acme_http_init.pth"
    assert shown.first_odd[0].anchor == shown.changes[0].anchor
    assert "not in the sdist" in shown.changes[0].tags


def test_a_wheel_that_differs_from_its_sdist_says_so(tmp_path: Path) -> None:
    old = w.build(tmp_path / "old", "2.4.0", w.OLD_CODE, w.OLD_CODE, "idna")
    other = {**w.NEW_CODE, "acme_http/retry.py": "def retry(times=9):\n    return times\n"}
    new = w.build(tmp_path / "new", "2.4.1", other, w.NEW_CODE, "idna")
    shown = review.view(parse_report(w.report_on("2.4.1", new, old)))
    tags = {(change.path, tag) for change in shown.changes for tag in change.tags}
    assert tags == {("acme_http/retry.py", "other content than the sdist")}


def test_new_requirements_are_named_in_the_metadata(reports: dict[str, Report]) -> None:
    lines = [(line.sign, line.text) for line in review.view(reports["odd"]).metadata]
    assert lines[0] == ("+", "Requires-Dist: easy-day-js")
    assert len({line.artifacts for line in review.view(reports["odd"]).metadata}) == 1


def test_a_first_release_lists_every_file_as_added(reports: dict[str, Report]) -> None:
    shown = review.view(reports["first"])
    assert {change.kind for change in shown.changes} == {ChangeKind.ADDED}
    assert all(change.diff is None and change.note for change in shown.changes)


def test_line_numbers_follow_the_hunks(reports: dict[str, Report]) -> None:
    rows = {change.path: change for change in review.view(reports["calm"]).changes}
    diff = rows["acme_http/client.py"].diff or ()
    removed = next(line for line in diff if line.sign == "-")
    added = next(line for line in diff if line.sign == "+")
    old = w.OLD_CODE["acme_http/client.py"].splitlines()
    new = w.NEW_CODE["acme_http/client.py"].splitlines()
    assert removed.old_line and old[removed.old_line - 1] == removed.text
    assert added.new_line and new[added.new_line - 1] == added.text


def _entry(path: str, number: int) -> FileEntry:
    return FileEntry(path, number, f"{number:064x}")


def _big_report(count_: int, diff: tuple[str, ...], findings: tuple[Finding, ...]) -> Report:
    changes = tuple(
        Change(f"pkg/{n:06}.py", ChangeKind.ADDED, None, _entry(f"pkg/{n:06}.py", n), diff)
        for n in range(count_)
    )
    one = ArtifactReport(
        "pkg-1-py3-none-any.whl", "0" * 64, "wheel", "pkg", "1", "", (), (), "x", changes
    )
    return Report("engine", "pkg", "1", (), "0", (), (one,), findings)


def test_what_is_left_out_of_a_long_page_is_counted_and_never_odd() -> None:
    last = f"pkg/{CONSOLE_CHANGES_MAX + 49:06}.py"
    odd = Finding("rule.x", Severity.MEDIUM, last, "Odd.")
    shown = review.view(_big_report(CONSOLE_CHANGES_MAX + 50, ("@@ -0,0 +1,1 @@", "+x"), (odd,)))
    assert shown.changes[0].path == last
    assert len(shown.changes) == CONSOLE_CHANGES_MAX
    assert shown.changes_left_out == 50


def test_differences_beyond_the_limit_of_a_page_are_left_out_with_a_note() -> None:
    lines = ("@@ -0,0 +1,900 @@", *(f"+{n}" for n in range(900)))
    shown = review.view(_big_report(20, lines, ()))
    kept = [change for change in shown.changes if change.diff is not None]
    assert sum(len(change.diff or ()) for change in kept) <= CONSOLE_DIFF_LINES_MAX
    left = [change for change in shown.changes if change.diff is None]
    assert left
    assert all("full report" in change.note for change in left)


# --- who must sign ------------------------------------------------------------------------------------------------


def _ballot(policy: Policy, requester: str, roster: Roster | None = None) -> Ballot:
    world_roster = roster or w.team("alice", "bob")
    facts = w.release((w.ReleaseFile("a-1.tar.gz", "0" * 64, 1),), b"{}")
    assert facts.ballot is not None
    electorate = Electorate(
        facts.ballot.electorate.kind, world_roster, world_roster, policy, requester
    )
    return replace(facts.ballot, electorate=electorate, tally=count(electorate, ()))


@pytest.mark.parametrize(
    ("policy", "requester", "needed", "says"),
    [
        (
            Policy(),
            "alice",
            2,
            "people other than Alice Osei; one fewer once Alice Osei has signed",
        ),
        (Policy(), "", 2, "by different people"),
        (Policy(profile="solo"), "alice", 2, "nobody else has looked"),
    ],
)
def test_the_page_says_who_must_sign(
    policy: Policy, requester: str, needed: int, says: str
) -> None:
    shown = ballot_views.view(_ballot(policy, requester), SEALED)
    assert shown.needed == needed
    assert says in shown.condition


def test_too_few_people_is_said_and_the_number_is_not_lowered() -> None:
    shown = ballot_views.view(_ballot(Policy(approvals=3), "alice"), SEALED)
    assert shown.needed == 3
    assert "3 must approve and only 1 could" in shown.frozen


def test_keys_that_do_not_count_are_listed_with_the_reason() -> None:
    roster = Roster((w.team("alice").people[0], w.person("bob")))
    shown = ballot_views.view(_ballot(Policy(), "alice", roster), SEALED)
    reasons = {one.person: one.why_not for one in shown.signers}
    assert "proves who asked, approves nothing" in reasons["Alice Osei"]
    assert "software keys" in reasons["Bob Lindqvist"]


def test_every_state_has_words_and_its_own_mark() -> None:
    for state in State:
        facts = w.release((), None)
        steps = pages.release_steps(replace(facts, state=state))
        now = [step for step in steps if step.name == state.value]
        assert len(now) == 1
        assert now[0].shown
        assert now[0].words
        assert [step.name for step in steps if step.mark == "bad" and step.shown] == (
            [state.value] if state in SETTLED - {State.VERIFIED} else []
        )


def test_a_report_that_cannot_be_read_cannot_be_approved_on_the_page() -> None:
    facts = replace(w.release((w.ReleaseFile("a-1.tar.gz", "0" * 64, 1),), b"{}"), report=b"{}")
    page = pages.release_page(facts, SEALED)
    assert page.unreadable
    assert not page.may_approve
    assert page.may_veto


# --- other statements ---------------------------------------------------------------------------------------------


def test_what_waits_is_listed_by_its_risk_and_says_what_is_unusual() -> None:
    def line(id: str, opened_ms: int, **more: Any) -> ReleaseLine:
        return ReleaseLine(id, "main", id, "1.0", "", State.AWAITING, opened_ms, **more)

    lines = (
        line("newest", 9),
        line("oldest", 1),
        line("first-one", 8, first=True),
        line("revived", 7, unusual=("line-revived",)),
        line("worst-one", 6, worst="high"),
    )
    page = pages.list_page(Overview(lines))
    assert [one.id for one in page.waiting] == [
        "worst-one",
        "revived",
        "first-one",
        "oldest",
        "newest",
    ]
    shown = bytes(views.render("list.html", SEALED, page=page).body).decode()
    assert "unusual version: line-revived" in shown
    assert shown.count("first release") == 1


def test_every_rule_of_a_policy_has_words() -> None:
    body = PolicyBody(Policy(profile="solo", approvals=2))
    world = w.World()
    shown = differences.view(world.requests[world.add(body, w.team("alice", "bob"))], SEALED)
    assert len(shown.items) == len(fields(Policy))


@pytest.mark.parametrize(
    ("change", "looser"),
    [
        (Policy(veto_window_s=0), True),
        (Policy(veto_window_s=600), False),
        (Policy(software_keys=True), True),
        (Policy(approvals=2), False),
        (Policy(approval_life_s=8 * 86_400), True),
        (Policy(holidays=(Holiday("2026-12-24 UTC"),)), False),
        (Policy(profile="solo"), True),
    ],
)
def test_a_policy_that_lets_more_through_is_marked(change: Policy, looser: bool) -> None:
    world = w.World()
    shown = differences.view(
        world.requests[world.add(PolicyBody(change), w.team("alice", "bob"))], SEALED
    )
    assert any(item.odd for item in shown.items) is looser


@pytest.mark.parametrize(
    ("body", "locks"),
    [
        (RosterBody(w.team("alice")), True),
        (RosterBody(w.team("alice", "bob")), False),
        (PolicyBody(Policy(approvals=4)), True),
        (PolicyBody(Policy(approvals=3)), False),
    ],
)
def test_a_change_after_which_nobody_could_change_anything_says_so_first_and_in_red(
    body: RosterBody | PolicyBody, locks: bool
) -> None:
    world = w.World()
    digest = world.add(body, w.team("alice", "bob", "carol"))
    shown = differences.view(world.requests[digest], SEALED)
    first = shown.items[0]
    assert ("Nothing can be approved any more" in first.title) is locks
    assert not locks or "recovery key" in first.odd


def test_what_was_admitted_is_compared_with_what_was_in_force_before_it() -> None:
    world = w.World()
    digest = world.add(RosterBody(w.team("alice", "bob", "carol")), w.team("alice", "bob", "carol"))
    before = {"roster": RosterBody(w.team("alice", "bob"))}
    facts = replace(world.requests[digest], state="admitted", before=before)
    shown = differences.view(facts, SEALED)
    assert shown.headline == "Carol Tanaka joins the roster"


def test_the_end_of_a_freeze_is_called_that_also_when_it_has_ended() -> None:
    world = w.World()
    frozen = w.narrowing("freeze", "acme-data", "")
    digest = world.add(FreezeBody("clear", "", (frozen.id,), ""), w.team("alice", "bob"))
    facts = replace(world.requests[digest], narrowings=(frozen,))
    assert differences.view(facts, SEALED).headline == "End the freeze of acme-data"


def test_half_the_files_gone_is_never_called_nothing_odd(tmp_path: Path) -> None:
    code = {"acme_http/__init__.py": '__version__ = "2.4.1"\n'}
    old = w.build(tmp_path / "old", "2.4.0", w.OLD_CODE, w.OLD_CODE, "idna>=3")
    new = w.build(tmp_path / "new", "2.4.1", code, code, "idna>=3")
    calm = w.build(tmp_path / "calm", "2.4.1", w.NEW_CODE, w.NEW_CODE, "idna>=3")
    report = w.report_on("2.4.1", new, old)
    gone = review.view(parse_report(report)).gone
    assert gone is not None
    assert 2 * gone[0] >= gone[1] > gone[0] >= 3
    assert review.view(parse_report(w.report_on("2.4.1", calm, old))).gone is None
    facts = w.release(w.as_files(new), report)
    page = pages.release_page(facts, SEALED)
    html = bytes(views.render("release.html", SEALED, page=page, origin="", url="").body).decode()
    assert "Nothing odd found" not in html
    assert f"{gone[0]} of {gone[1]} files" in html


def test_what_the_press_waits_for_stands_in_place_of_waiting_for_people() -> None:
    facts = w.release((w.ReleaseFile("a-1.tar.gz", "0" * 64, 1),), b"{}")
    waiting = pages.release_page(replace(facts, code="quorum.missing", reason="0 of 1"), SEALED)
    assert waiting.words.startswith("Waiting for people")
    frozen = replace(facts, code="narrowing.frozen", reason="Publishing is frozen for acme-http.")
    assert pages.release_page(frozen, SEALED).words == "Publishing is frozen for acme-http."


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("0 of 2 needed approvals count.", "0 of 2 needed approvals count."),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        (
            "403 Forbidden: <!DOCTYPE html><title>No</title><style>a{b:c}</style><h1>Not yours</h1><a href=",
            "403 Forbidden: Not yours",
        ),
        ("<script>alert(1)</script>x", "x"),
        ("y" * 1000, "y" * 299 + "…"),
    ],
)
def test_a_registrys_page_is_shown_as_a_bounded_line_of_text(said: str, shown: str) -> None:
    assert text.told(said) == shown


def test_a_roster_request_names_who_and_which_key() -> None:
    world = w.World()
    now = w.team("alice", "bob")
    after = Roster((*now.people, w.person("carol")))
    shown = differences.view(world.requests[world.add(RosterBody(after), now)], SEALED)
    assert shown.headline == "Carol Tanaka joins the roster"
    keys = [item for item in shown.items if item.key]
    assert [item.key for item in keys] == [w.PASSKEYS["carol"].key.id]
    assert "verifies nobody" in keys[0].odd


def test_an_upstream_that_moves_names_both_addresses() -> None:
    world = w.World()
    moved = replace(w.REGISTRY, upload_url="https://elsewhere.example/legacy/")
    digest = world.add(moved, w.team("alice"), upstream_now=w.REGISTRY)
    shown = differences.view(world.requests[digest], SEALED)
    assert "index.example becomes elsewhere.example" in shown.items[0].odd


def test_plain_http_is_remarked_on() -> None:
    world = w.World()
    plain = replace(w.REGISTRY, upload_url="http://localhost:8461/legacy/")
    shown = differences.view(world.requests[world.add(plain, w.team("alice"))], SEALED)
    assert "Plain http" in shown.items[0].odd


# --- over HTTP ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[w.World, dict[str, str]]]:
    """The pages of every sort, served, and their addresses."""
    world, paths = screens(tmp_path_factory.mktemp("console"))
    with w.serving(world):
        yield world, paths


def get(world: w.World, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(world.origin).port or 0, 10)
    try:
        connection.request("GET", path.partition("#")[0], headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


def test_every_page_forbids_everything_foreign_and_inline(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, paths = served
    for path in paths.values():
        _, headers, body = get(world, path, Accept="text/html")
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert not re.search(
            r"<script(?![^>]* src=\"/assets/)|<style| style=| on[a-z]+=\"", body.split("<main")[0]
        )


def test_no_template_has_inline_script_or_style() -> None:
    for path in (CONSOLE / "templates").iterdir():
        source = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|\|\s*safe|autoescape", source), path.name
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", source)), path.name


def test_the_scripts_stay_small_and_touch_no_markup() -> None:
    for path in (CONSOLE / "static").glob("*.js"):
        source = path.read_text()
        assert len(source.splitlines()) <= 120, path.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://", source
        )


def test_the_list_is_for_holders_of_a_view_token(served: tuple[w.World, dict[str, str]]) -> None:
    world, _ = served
    status, _, body = get(world, "/c")
    assert status == 401
    assert "acme-" not in body.replace(
        "acme-data", ""
    )  # the banner about the frozen project is on every page
    assert get(world, "/c?token=wrong")[0] == 401
    status, headers, _ = get(world, f"/c?token={w.VIEW_TOKEN}")
    assert (status, headers["location"]) == (303, "/c")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    status, _, body = get(world, "/c", Cookie=cookie.partition(";")[0])
    assert status == 200
    assert "acme-core" in body


COOKIE = f"presspass_view={w.VIEW_TOKEN}"


def test_history_asks_for_what_stands_in_its_address(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    assert get(world, "/history")[0] == 401
    status, _, body = get(
        world, "/history?key=ab12+cd34&policy=7&kind=release&kind=&x=1", Cookie=COOKIE
    )
    assert (status, world.words[-1]) == (
        200,
        Words(key="ab12 cd34", policy="7", kinds=("release",)),
    )
    assert 'value="ab12 cd34"' in body and "policy <strong>7</strong>" in body
    (older,) = re.findall(r'href="([^"]+)" rel="next"', body)
    assert older.startswith("/history?key=ab12+cd34&amp;policy=7&amp;kind=release&amp;further=")
    assert 'rel="next"' not in get(world, older.replace("&amp;", "&"), Cookie=COOKIE)[2]
    assert world.words[-1] == world.words[-2]


def test_history_leads_from_each_act_to_everything_like_it(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    body = get(world, "/history", Cookie=COOKIE)[2]
    alice = w.passkey_of("alice").id
    for address in (
        *("person=alice", f"key={alice}", "policy=6", "policy=7", "publisher=acme-ci"),
        *("kind=roster", "workflow=acme%2Fhttp%2F.github%2Fworkflows%2Frelease.yml"),
        f"workflow={w.sha256(w.WORKFLOW)}",
    ):
        assert f'href="/history?{address}"' in body, address
    assert 'href="/r/verified"' in body and f'href="/q/{w.sha256(b"change")}"' in body
    assert "Alice Osei" in body and "entries 706, 709, 710, 711" in body
    assert "\u202e" not in body and "U+202E" in body


def test_history_says_why_there_is_no_answer(served: tuple[w.World, dict[str, str]]) -> None:
    refusal = Refusal(Code.REQUEST_NOT_FOUND, "There was never a policy <9>.", "There are: 1.")
    world = w.World(done=History(refusal=refusal))
    with w.serving(world):
        status, _, body = get(world, "/history?policy=9", Cookie=COOKIE)
    assert status == 404
    assert "There was never a policy &lt;9&gt;." in body and "There are: 1." in body
    assert 'value="9"' in body and 'class="acts"' not in body


def test_pages_lead_to_history_for_who_may_see_everything(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, paths = served
    viewer = Viewer("alice", "Alice Osei", "oidc", ("auditor",), w.NOW_S * 1000, True, False)
    world.viewers = {"sees": viewer, "own": replace(viewer, sees_everything=False)}
    key = f'href="/history?key={w.passkey_of("bob").id}"'
    for path, link in (
        (paths["workload"], 'href="/history?publisher=acme-ci"'),
        (paths["workload"], key),
        (paths["roster"], key),
        (paths["roster"], 'href="/history">'),
    ):
        assert link in get(world, path, Cookie="presspass_session=sees")[2], (path, link)
        assert link not in get(world, path, Cookie="presspass_session=own")[2]
        assert link not in get(world, path)[2]
    assert get(world, "/history", Cookie="presspass_session=sees")[0] == 200
    assert get(world, "/history", Cookie="presspass_session=own")[0] == 403


def test_the_list_says_how_much_more_waits_and_when_nothing_does_what_to_do() -> None:
    with w.serving(w.World(list_of=replace(w.overview(), left_out=7))) as world:
        body = get(world, "/c", Cookie=COOKIE)[2]
    assert "7 more wait" in body and '<span class="summary">10</span>' in body
    with w.serving(w.World()) as world:
        body = get(world, "/c", Cookie=COOKIE)[2]
    assert "Nothing waits for anybody." in body and 'href="/packages">what may be released' in body


PAGES_OF_ALL = ("/packages", "/publishers", "/upstreams", "/policy", "/activity")


@pytest.mark.parametrize("path", PAGES_OF_ALL)
def test_what_is_in_force_is_for_who_may_see_everything(
    served: tuple[w.World, dict[str, str]], path: str
) -> None:
    world, _ = served
    viewer = Viewer("alice", "Alice Osei", "oidc", ("auditor",), w.NOW_S * 1000, True, False)
    world.viewers = {"sees": viewer, "own": replace(viewer, sees_everything=False)}
    assert get(world, path)[0] == 401
    assert get(world, path, Cookie="presspass_session=own")[0] == 403
    status, _, body = get(world, path, Cookie="presspass_session=sees")
    assert status == 200
    assert f'href="{path}" aria-current="page"' in body
    assert get(world, path, Cookie=COOKIE)[0] == 200
    assert 'class="rooms"' not in get(world, "/c", Cookie="presspass_session=own")[2]


def test_activity_is_drawn_to_one_scale_with_the_same_numbers_as_text(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    body = get(world, "/activity", Cookie=COOKIE)[2]
    drawn = re.findall(
        r'<rect x="[0-9.]+" y="([0-9.]+)"[^>]+ height="([0-9.]+)"><title>([^<]+)<', body
    )
    assert {float(y) + float(height) for y, height, _ in drawn} == {96.0}
    assert max(float(height) for _, height, _ in drawn) == 96.0
    scale = {round(float(height) / int(words.rpartition(": ")[2]), 1) for _, height, words in drawn}
    assert scale == {4.0}, "a release is as high in every drawing"
    table = body.partition("The same as a table")[2]
    text = re.sub(r"<[^>]+>", " ", table)
    assert len(re.findall(r"\d+ \w{3} 20\d\d", text)) == sum(
        any((day.asked, day.published, day.ended)) for day in world.went_on.days
    )
    assert "half of them within 33 minutes" in text and "the recovery key" in text
    assert "Alice Osei" in text and "narrowing.vetoed" in text


def test_a_gate_where_nothing_went_on_says_so() -> None:
    quiet = Activity(
        tuple(replace(day, asked=0, published=0, ended=0) for day in w.activity().days)
    )
    with w.serving(w.World(went_on=quiet)) as world:
        body = get(world, "/activity", Cookie=COOKIE)[2]
    assert "<rect" not in body and "0 releases, at most 0 a day" in body
    assert "Nobody has signed anything" in body and "None did in these days." in body


def test_packages_are_found_by_the_beginning_of_their_name_and_lead_to_their_versions(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    body = get(world, "/packages", Cookie=COOKIE)[2]
    assert "\u202e" not in body and "U+202E" in body
    assert "no release yet" in body and "which is not in force" in body
    (further,) = re.findall(r'rel="next" href="([^"]+)"', body)
    assert 'rel="next"' not in get(world, further.replace("&amp;", "&"), Cookie=COOKIE)[2]
    found = get(world, "/packages?name=acme-h", Cookie=COOKIE)[2]
    assert "acme-new" not in found and 'value="acme-h"' in found
    (address,) = re.findall(r'href="(/packages[?]upstream=[^"]+)"', found)
    versions = get(world, address.replace("&amp;", "&"), Cookie=COOKIE)[2]
    assert re.findall(r'href="/r/(list.)"', versions) == ["list0", "list3", "list4"]
    none = get(world, "/packages?name=%3Cb%3E", Cookie=COOKIE)[2]
    assert "begins with &lt;b&gt;" in none


def test_the_policy_stands_in_words_with_every_change_of_it(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    body = re.sub(r"<[^>]+>", "", get(world, "/policy", Cookie=COOKIE)[2])
    now, changes = body.split("Every policy so far")
    assert re.search(r"Time to veto after the last signature\s*1 minute", now)
    assert changes.index("Policy 3") < changes.index("Policy 2") < changes.index("Policy 1")
    assert "10 minutes → 1 minute This lets more through than the rule in force." in changes
    assert "1 → 2" in changes and "1 rule changes, 1 of them lets more through." in changes


def test_publishers_and_upstreams_say_what_they_may_and_what_is_odd_about_them(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    body = get(world, "/publishers", Cookie=COOKIE)[2]
    assert "acme-core, acme-http" in body and "Delegation patches" in body
    assert 'href="/history?publisher=acme-ci"' in body and f'/q/{w.sha256(b"bot")}"' in body
    odd = re.findall(r'<li class="odd">\s*<h2 class="title">([^<]+)', body)
    assert odd == ["Publisher open-ci"]
    body = get(world, "/upstreams", Cookie=COOKIE)[2]
    assert "Plain http" in body and "sealed at the press" in body
    assert w.REGISTRY.credential not in body


@pytest.mark.parametrize("path", PAGES_OF_ALL[1:4])
def test_before_genesis_nothing_is_in_force_and_the_page_says_so(path: str) -> None:
    with w.serving(w.World()) as world:
        status, _, body = get(world, path, Cookie=COOKIE)
    assert status == 404 and "not sealed yet" in body


@pytest.mark.parametrize("path", PAGES_OF_ALL[1:3])
def test_an_empty_page_says_what_to_do(path: str) -> None:
    with w.serving(w.World(held=InForce())) as world:
        assert "presspass " in get(world, path, Cookie=COOKIE)[2]
        assert "presspass token" in get(world, "/packages", Cookie=COOKIE)[2]


def test_the_cookie_is_bound_to_the_host_where_there_is_https() -> None:
    class Secure(w.World):
        """Behind a proxy that does TLS."""

    world = Secure()
    with w.serving(world):
        port_origin, world.origin = world.origin, "https://gate.example"
        plain = w.World(origin=port_origin)
        cookie = get(plain, f"/c?token={w.VIEW_TOKEN}")[1]["set-cookie"]
        world.origin = port_origin
    assert cookie.startswith("__Host-")
    assert "Secure" in cookie
    assert "Path=/;" in cookie


def test_assets_are_cached_for_ever_under_the_digest_of_their_content(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    body = get(world, "/enrol")[2]
    for address in re.findall(r"/assets/[^\"]+", body):
        status, headers, _ = get(world, address)
        assert status == 200
        assert "immutable" in headers["cache-control"]
    assert get(world, "/assets/console.css")[0] == 404
    assert get(world, "/favicon.ico")[0] == 200


def test_an_unknown_capability_gets_a_page_that_says_what_to_do(
    served: tuple[w.World, dict[str, str]],
) -> None:
    status, headers, body = get(served[0], "/r/nothing", Accept="text/html")
    assert status == 404
    assert headers["content-type"].startswith("text/html")
    assert "copied whole" in body


def test_what_is_not_known_is_said_to_be_not_known(served: tuple[w.World, dict[str, str]]) -> None:
    _, _, body = get(served[0], "/r/odd")
    for heading in ("Provenance", "Workflow", "Registry's own settings"):
        assert re.search(
            heading.replace("'", "(?:'|&#39;)") + r"</dt><dd class=\"unknown\">Not known\.", body
        ), heading


def test_the_page_carries_the_exact_statement_and_both_digests(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, _ = served
    ballot = world.releases["odd"].ballot
    assert ballot is not None
    _, _, body = get(world, "/r/odd")
    shown = ballot_views.view(ballot, SEALED)
    assert str(Markup.escape(shown.approve.text)) in body
    assert json.loads(shown.veto.text)["intent"] == "veto"
    for one in (shown.approve, shown.veto):
        assert one.digest in body
        assert one.challenge in body


def test_narrowings_software_keys_and_zones_stand_on_every_page(
    served: tuple[w.World, dict[str, str]],
) -> None:
    world, paths = served
    for name, path in paths.items():
        if name != "list":
            _, _, body = get(world, path, Accept="text/html")
            assert "Frozen: acme-data" in body, name
            assert "software keys" in body, name
            assert "zones not separated" in body, name


# --- colours ------------------------------------------------------------------------------------------------------


def _variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


PAIRS = [
    *((ink, ground) for ink in ("ink", "quiet") for ground in ("ground", "sheet", "sunk")),
    *(
        (f"{name}", f"{name}-ground")
        for name in ("critical", "high", "medium", "low", "info", "mark", "good")
    ),
    *((ink, ground) for ink in ("ink", "quiet") for ground in ("plus-ground", "minus-ground")),
    ("plus-ink", "plus-ground"),
    ("minus-ink", "minus-ground"),
    ("on-accent", "accent"),
    ("on-stop", "stop"),
    *((ink, ground) for ink in ("accent", "stop", "good") for ground in ("ground", "sheet")),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_enough_contrast(theme: str) -> None:
    css = (CONSOLE / "static" / "console.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)", 1)
    colours = _variables(light) | (_variables(dark.split("\n}\n", 1)[0]) if theme == "dark" else {})
    poor = [(a, b) for a, b in PAIRS if _contrast(colours[a], colours[b]) < 4.5]
    assert poor == []
