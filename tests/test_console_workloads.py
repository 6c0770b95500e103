"""What people see of a workload that asks: who it is, whether it counts, what changed in its workflow, what it says."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import console_world as w
from gateway_world import HttpAnswer, basic, form, now_ms
from presspass.core.digests import sha256_hex
from presspass.core.lifecycle import State
from presspass.core.limits import ASKER_NOTE_CHARS_MAX, DIFF_LINES_MAX
from presspass.core.statement import ReleaseBody, Statement
from presspass.drill.packages import make_sdist
from presspass.drill.world.runner import GithubJob
from presspass.gateway.console import Situation, askers, pages
from presspass.gateway.console.views import render
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as j
from workload_world import CHANGED, HONEST, WORKFLOW, WorkloadWorld

SEALED = Situation(sealed=True, names=w.NAMES)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WorkloadWorld]:
    with WorkloadWorld(tmp_path) as world:
        yield world


# --- helpers ------------------------------------------------------------------------------------------------------


def put(world: WorkloadWorld, folder: Path, secret: str, note: str = "") -> HttpAnswer:
    """A real sdist of greet 1.0, uploaded with a pass."""
    data = make_sdist(folder, "greet", "1.0", {"greet/__init__.py": "x = 1\n"}).read_bytes()
    fields = [(":action", "file_upload"), ("sha256_digest", hashlib.sha256(data).hexdigest())]
    kind, body = form("greet-1.0.tar.gz", data, fields=fields, after=[("comment", note)])
    headers = {"Content-Type": kind, "Authorization": basic(secret)}
    return world.world.ask("POST", "/pypi/private/legacy/", body, **headers)


def staged(world: WorkloadWorld, folder: Path, job: GithubJob | None = None, note: str = "") -> str:
    """A release that a workload has asked for and that waits for people; its id."""
    secret = world.pass_(job=job) if job else world.pass_()
    placed = put(world, folder, secret, note)
    assert placed.status == 202, placed.body
    release = str(placed.json["id"])
    world.world.ask("POST", "/_/oidc/burn-token", {"token": secret})
    world.world.until(release, "awaiting")
    return release


def changed_job(world: WorkloadWorld) -> GithubJob:
    """A job on an allowed ref whose workflow has one more step."""
    commit = world.repository.commit({WORKFLOW: CHANGED})
    return replace(world.job, workflow_sha=commit, sha=commit)


def press_has_verified(world: WorkloadWorld, id: str, **changes: object) -> None:
    """What the press journals once it has looked at the token behind a release."""
    row = world.world.rows(
        sa.select(g.WORKLOAD_TOKEN)
        .join(g.RELEASE, g.RELEASE.c.workload == g.WORKLOAD_TOKEN.c.hash)
        .where(g.RELEASE.c.id == id)
    )[0]
    values: dict[str, object] = {
        "token": row.hash,
        "state": "verified",
        "publisher": row.publisher,
        "publisher_statement": row.publisher_statement,
        "delegation": row.delegation,
        "identity": row.identity,
        "run": row.run,
        "workflow": row.workflow,
        "person": "",
        "first_seen_ms": now_ms(),
        **changes,
    }
    world.world.journal.write(sa.insert(j.WORKLOAD).values(values))


def page(world: WorkloadWorld, release: str) -> str:
    answer = world.world.ask("GET", f"/r/{release}", Accept="text/html")
    assert answer.status == 200, answer.body
    return answer.body.decode()


def shown(html: str) -> str:
    """The text of a page on one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# --- who asked ----------------------------------------------------------------------------------------------------


def test_the_page_and_the_api_say_which_workload_asked(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    release = staged(world, tmp_path)
    asked = world.world.release(release)["asked_by"]
    assert (asked["publisher"], asked["repository"]) == ("greet-ci", "acme/greet")
    assert asked["ids"] == {"repository_id": "1001", "repository_owner_id": "501"}
    assert (asked["ref"], asked["ref_protected"]) == (world.job.ref, True)
    assert (asked["event"], asked["environment"]) == ("push", "release")
    assert asked["press"]["state"] == "waiting"
    assert (asked["counts"], asked["against"]) == (False, ["unseen"])
    assert asked["workflow"]["changed"] is False
    text = shown(page(world, release))
    assert "asked for by the workload greet-ci" in text
    assert "repository_id 1001" in text
    assert "protected at the forge" in text
    assert "the press has not verified its token yet" in text
    assert "exactly the one that people bound" in text
    assert "upload token" not in text


def test_a_workload_that_the_press_verified_counts_and_fewer_people_are_needed(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    release = staged(world, tmp_path)
    before = world.world.release(release)
    assert before["tally"]["needed"] == 2
    press_has_verified(world, release)
    after = world.world.release(release)
    assert after["asked_by"]["press"]["state"] == "verified"
    assert after["asked_by"]["counts"] is True
    # nobody knows the person behind this run: the workload counts, and one approver more is needed
    assert after["tally"]["needed"] == 2
    text = shown(page(world, release))
    assert "Verified by the press itself" in text
    assert "Counts as one of the two identities" in text
    assert "is not in the roster: one approver more" in text


@pytest.mark.parametrize(
    ("seen", "against", "words"),
    [
        ({"person": "ada"}, ["person"], "knows another person behind the run"),
        ({"publisher_statement": "e" * 64}, ["publisher"], "was bound anew since it asked"),
        (
            {"state": "refused", "code": "identity.expired", "message": "The token has expired."},
            ["refused"],
            "Refused by the press: The token has expired. [identity.expired]",
        ),
    ],
)
def test_why_a_workload_does_not_count_is_said(
    world: WorkloadWorld, tmp_path: Path, seen: dict[str, object], against: list[str], words: str
) -> None:
    release = staged(world, tmp_path)
    press_has_verified(world, release, **seen)
    asked = world.world.release(release)["asked_by"]
    assert (asked["counts"], asked["against"]) == (False, against)
    text = shown(page(world, release))
    assert words in text
    assert "Does not count as one of the two identities" in text


def test_a_release_of_a_person_says_nothing_of_a_workload(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    gate = world.world
    data = make_sdist(tmp_path, "greet", "1.0", {"greet/__init__.py": ""}).read_bytes()
    token = gate.token()
    release = gate.upload(token, "greet-1.0.tar.gz", data).json["id"]
    assert gate.release(release)["asked_by"] is None
    assert gate.ask("GET", f"/api/v1/releases/{release}/workflow").status == 404
    assert "by an upload token issued to that person" in shown(page(world, release))


# --- a changed workflow -------------------------------------------------------------------------------------------


def test_S05_a_changed_workflow_is_the_first_thing_on_the_page(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    world.pass_()  # a run of the bound workflow: its content is known here from then on
    release = staged(world, tmp_path, changed_job(world))
    press_has_verified(world, release)
    html = page(world, release)
    words = "The release workflow is another than the one people bound; approving this release binds the new one"
    assert words in html
    assert html.index(words) < html.index('id="first"') < html.index('id="findings"')
    assert "# one more step" in html[html.index(words) : html.index('id="first"')]
    assert "its workflow is another than the one people bound" in shown(html)
    asked = world.world.release(release)["asked_by"]
    assert asked["workflow"]["changed"] is True
    assert asked["against"] == ["workflow"]


def test_both_contents_of_a_changed_workflow_are_in_the_api(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    world.pass_()
    release = staged(world, tmp_path, changed_job(world))
    answer = world.world.ask("GET", f"/api/v1/releases/{release}/workflow").json
    assert (answer["path"], answer["changed"]) == (WORKFLOW, True)
    for name, content in (("ran", CHANGED), ("bound", HONEST), ("named", HONEST)):
        assert answer[name]["sha256"] == sha256_hex(content)
        assert base64.b64decode(answer[name]["content"]) == content


def test_a_bound_workflow_that_is_not_kept_here_is_said_to_be_so_and_the_new_one_shown_whole(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    release = staged(world, tmp_path, changed_job(world))
    answer = world.world.ask("GET", f"/api/v1/releases/{release}/workflow").json
    assert answer["bound"] == {"sha256": sha256_hex(HONEST), "content": None}
    text = shown(page(world, release))
    assert (
        "What the bound workflow says is not kept here, so the whole file that ran is shown" in text
    )
    assert "one more step" in text


def test_after_the_release_went_out_its_page_still_says_what_it_bound(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    world.pass_()
    release = staged(world, tmp_path, changed_job(world))
    made = Statement.from_bytes(world.world.release(release)["statement"].encode())
    asked = made.body_as(ReleaseBody).asked_by
    assert asked is not None
    row = {
        "release": made.digest,
        "publisher_statement": asked.publisher,
        "workflow": asked.workflow,
        "at_ms": now_ms(),
    }
    world.world.journal.write(sa.insert(j.REBOUND).values(row))
    text = shown(page(world, release))
    assert "approving this release bound the new one" in text
    later = world.world.release(release)["asked_by"]["workflow"]
    assert (later["rebound"], later["bound"]) == (True, sha256_hex(HONEST))


def released(ran: bytes, **changes: Any) -> pages.ReleasePage:
    """The page of a release that a workload asked for with this workflow."""
    file = w.ReleaseFile("acme_http-2.4.1.tar.gz", "ab" * 32, 10)
    facts = w.release((file,), _report())
    return pages.release_page(replace(facts, asker=w.asker(ran), **changes), SEALED)


def _report() -> bytes:
    from presspass.core.digests import canonical

    return canonical(
        {
            "artifacts": [], "baseline": None, "candidate": [], "engine": "test", "findings": [],
            "project": "acme-http", "type": "presspass/report/v1", "version": "2.4.1",
        }
    )  # fmt: skip


def html_of(one: pages.ReleasePage) -> str:
    made = render(
        "release.html", SEALED, page=one, origin="https://g.example", url="https://g.example/r/x"
    )
    return bytes(made.body).decode()


def test_nobody_is_asked_to_approve_a_changed_workflow_that_cannot_be_shown() -> None:
    seen = released(w.CHANGED_WORKFLOW)
    assert seen.may_approve
    facts = seen.facts.asker
    assert facts is not None and facts.workflow is not None
    lost = replace(facts, workflow=replace(facts.workflow, contents={}))
    unseen = pages.release_page(replace(seen.facts, asker=lost), SEALED)
    assert (unseen.may_approve, unseen.may_veto) == (False, True)
    assert "Nobody should approve what cannot be seen" in html_of(unseen)


@pytest.mark.parametrize(
    "content",
    [
        w.WORKFLOW + b"# \xe2\x80\xae hidden \xe2\x81\xa6 \x07 \xe2\x80\x8b\r\n",
        w.WORKFLOW + b"<script>alert(1)</script></td></table>\n",
        w.WORKFLOW.decode().encode("utf-16"),
        b"\xff\xfe\x00\x01 not text \x1b[2J\n",
    ],
)
def test_a_hostile_workflow_is_shown_inert_and_never_hidden(content: bytes) -> None:
    one = released(content)
    assert one.asker is not None and one.asker.workflow is not None and one.asker.workflow.lines
    html = html_of(one)
    part = html[html.index('id="workflow"') : html.index('id="first"')]
    assert "<script>" not in part
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08\x0b-\x1f\x7f-\x9f]", part)


def test_a_workflow_of_very_many_lines_is_cut_and_says_so() -> None:
    many = w.WORKFLOW + b"".join(b"# %d\n" % n for n in range(4 * DIFF_LINES_MAX))
    one = released(many)
    assert one.asker is not None and one.asker.workflow is not None
    lines = one.asker.workflow.lines
    assert lines is not None and len(lines) <= DIFF_LINES_MAX
    assert "Part of this difference is left out" in html_of(one)


def test_a_settled_release_with_a_changed_workflow_does_not_say_that_it_binds() -> None:
    one = released(w.CHANGED_WORKFLOW, state=State.REJECTED)
    assert one.asker is not None and one.asker.workflow is not None
    assert "nothing was bound by this release" in one.asker.workflow.headline


# --- agents, and what they write ----------------------------------------------------------------------------------


def test_S13_the_act_chain_says_for_whom_a_bot_asks_and_how_often_it_may(
    tmp_path: Path,
) -> None:
    with WorkloadWorld(tmp_path, delegated_only=True) as world:
        body = world.delegation()
        world.admit(body)
        release = staged(world, tmp_path)
        act = world.world.release(release)["asked_by"]["act"]
        assert (act["bot"], act["person"], act["delegation"]) == ("greet-ci", "ada", "bot")
        assert (act["used"], act["count"], act["not_after"]) == (0, 2, body.not_after)
        press_has_verified(world, release, person="ada", release="another")
        text = shown(page(world, release))
        assert "the bot greet-ci on behalf of ada" in text
        assert (
            "under the delegation bot for first or patch versions: 1 of 2 used before this" in text
        )
        assert "Answers for the bot ada, who therefore approves none of its releases" in text


def test_what_an_agent_writes_is_framed_as_unverified_below_the_findings(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    note = "Safe, trust me: <a href='https://evil.example'>approve</a>\nfor \u202eadmins\u202c <script>x()</script>"
    release = staged(world, tmp_path, note=note)
    assert world.world.release(release)["note"] == note
    html = page(world, release)
    at = html.index('id="said"')
    places = ('id="first"', 'id="findings"', 'id="asker"', 'id="origin"', 'id="set"')
    assert max(html.index(place) for place in places) < at
    said = html[at : html.index("</section>", at)]
    assert "not checked by anything" in said
    assert "&lt;a href=" in said
    assert not re.search(r"<a |<script", said)
    assert "\u202e" not in said
    assert "U+202E" in said
    assert html.count("Safe, trust me") == 1


def test_the_first_note_of_a_set_stays_what_it_was(world: WorkloadWorld, tmp_path: Path) -> None:
    secret = world.pass_()
    first = put(world, tmp_path, secret, "as people read it")
    wheel = b"PK\x05\x06" + bytes(18)
    fields = [(":action", "file_upload"), ("comment", "something else")]
    kind, body = form("greet-1.0-py3-none-any.whl", wheel, fields=fields)
    headers = {"Content-Type": kind, "Authorization": basic(secret)}
    second = world.world.ask("POST", "/pypi/private/legacy/", body, **headers)
    assert (first.status, second.status, second.json["id"]) == (202, 202, first.json["id"])
    assert world.world.release(first.json["id"])["note"] == "as people read it"


def test_a_note_that_is_too_long_is_refused_before_anything_is_kept(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    secret = world.pass_()
    answer = put(world, tmp_path, secret, "x" * (ASKER_NOTE_CHARS_MAX + 1))
    assert (answer.status, answer.code) == (413, "request.too-large")
    assert world.world.count(g.RELEASE) == 0
    assert put(world, tmp_path, secret, "x" * ASKER_NOTE_CHARS_MAX).status == 202


def test_a_stop_against_the_workload_stands_on_its_release_at_once(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    release = staged(world, tmp_path)
    assert world.world.release(release)["asked_by"]["stopped"] == []
    assert world.revoke("publisher", "greet-ci").status == 202
    stopped = world.world.release(release)["asked_by"]["stopped"]
    assert stopped == [{"what": "publisher", "reason": "no longer trusted"}]
    assert "Its publisher is revoked: no longer trusted." in shown(page(world, release))


def test_an_asker_without_details_is_shown_as_what_is_known() -> None:
    bare = w.AskerFacts("ci", "ab" * 32, "cd" * 32, "ef" * 32, "01" * 32)
    file = w.ReleaseFile("acme_http-2.4.1.tar.gz", "ab" * 32, 10)
    facts = replace(w.release((file,), _report()), asker=bare, requester="")
    one = pages.release_page(facts, SEALED)
    assert one.asker is not None
    assert one.asker.person == "The token names nobody: one approver more."
    assert askers.view(replace(facts, asker=None), SEALED) is None
    assert "the workload ci" in html_of(one)
