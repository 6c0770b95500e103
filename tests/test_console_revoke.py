"""Revoking and freezing from a page: one person's passkey in a real Chromium, at the real gateway, in force at once.

A broken content policy, a script error or a failed load on any page is a failed test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect

import console_world as w
import gateway_world
import workload_world
from console_browser import Authenticator, browser, complaints_of
from gateway_world import basic
from peers import free_port
from presspass.core.approval import approval_id
from presspass.core.statement import FreezeBody, RevocationBody, Statement
from presspass.drill.packages import make_sdist
from presspass.gateway.console import Situation, Viewer, pages, revoking
from presspass.gateway.console.views import render
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as j
from workload_world import WorkloadWorld


@pytest.fixture(scope="module")
def driven(chromium: Path) -> Iterator[Browser]:
    """Chromium, running."""
    with browser(chromium) as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkloadWorld]:
    """A gate with a bound workload that serves at its own origin, so that passkeys answer there."""
    port = free_port()
    origin = f"http://localhost:{port}"
    for module in (gateway_world, workload_world):
        monkeypatch.setattr(module, "ORIGIN", origin)
    made = WorkloadWorld(tmp_path)
    made.world.gateway._more = ("--port", str(port))
    with made:
        yield made


@contextmanager
def opened(
    driven: Browser, *refusals_expected: str, width: int = 1280, height: int = 900
) -> Iterator[Page]:
    """A page whose complaints fail the test, but for those with a part that is expected."""
    context = driven.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints = complaints_of(page)
    try:
        yield page
        found = [one for one in complaints if not any(part in one for part in refusals_expected)]
        assert found == []
    finally:
        context.close()


def view_token(world: WorkloadWorld) -> str:
    answer = world.world.control("POST", "/view-tokens", {})
    assert answer.status == 201, answer.body
    return str(answer.json["url"]).rpartition("token=")[2]


def goto_revoke(page: Page, world: WorkloadWorld, *, verifies_user: bool = True) -> None:
    """The page, looked at with a view token, in a browser that holds Ada's key."""
    page.goto(f"{gateway_world.ORIGIN}/c?token={view_token(world)}")
    page.get_by_role("link", name="Revoke or freeze").click()
    expect(page.get_by_role("heading", name="Revoke or freeze")).to_be_visible()
    Authenticator(page.context, page, verifies_user=verifies_user).hold(world.world.ada)


def stops(world: WorkloadWorld) -> list[tuple[str, str, str]]:
    """What was revoked at the gateway: what, target, source."""
    query = sa.select(g.STOP.c.what, g.STOP.c.target, g.STOP.c.source).order_by(g.STOP.c.serial)
    return [tuple(row) for row in world.world.rows(query)]


def identities(world: WorkloadWorld) -> dict[str, Any]:
    answer = world.world.ask(
        "GET", "/api/v1/identities", None, Authorization=f"Bearer {view_token(world)}"
    )
    assert answer.status == 200, answer.body
    return dict(answer.json)


def targets(found: dict[str, Any], what: str) -> list[str]:
    return [one["target"] for one in found["revocable"] if one["what"] == what]


# --- in the browser -----------------------------------------------------------------------------------------------


def test_a_person_revokes_a_publisher_with_a_passkey_and_its_pass_is_dead_at_once(
    driven: Browser, world: WorkloadWorld
) -> None:
    secret = world.pass_()
    with opened(driven) as page:
        goto_revoke(page, world)
        page.get_by_label("Reason").fill('Its runner was taken over: naïve „quotes“ \\ "x"')
        page.get_by_role("button", name="Revoke publisher greet-ci").click()
        expect(page.locator("#outcome")).to_contain_text("greet-ci: revoked publisher, signed by")
        expect(page.locator("#publisher-greet-ci")).to_contain_text("revoked")
        expect(page.get_by_role("button", name="Revoke publisher greet-ci")).to_have_count(0)
        expect(page.locator("#stopped")).to_contain_text("Its runner was taken over")
        page.get_by_text("What exactly was signed").click()
        signed = page.locator("#statement").inner_text()
    assert stops(world) == [("publisher", "greet-ci", "signed")]
    row = world.world.rows(sa.select(g.STOP))[0]
    assert bytes(row.statement).decode() == signed
    body = Statement.from_bytes(bytes(row.statement)).body
    assert body == RevocationBody(
        "publisher", "greet-ci", 'Its runner was taken over: naïve „quotes“ \\ "x"'
    )
    assert world.upload(secret).code == "pass.ended"
    assert world.mint(world.token()).code == "identity.revoked"
    shown = identities(world)
    assert [(one["what"], one["target"], one["latched"]) for one in shown["stops"]] == [
        ("publisher", "greet-ci", False)
    ]


def test_a_person_freezes_a_project_and_everything_with_a_passkey_on_a_phone(
    driven: Browser, world: WorkloadWorld
) -> None:
    with opened(driven, width=390, height=844) as page:
        page.goto(f"{gateway_world.ORIGIN}/c?token={view_token(world)}")
        page.locator("a.tool").click()
        Authenticator(page.context, page).hold(world.world.ada)
        page.get_by_label("Project").fill("Greet_Me")
        page.get_by_role("button", name="Freeze this project").click()
        expect(page.locator("#outcome")).to_contain_text("greet-me: frozen, signed by")
        page.get_by_role("button", name="Freeze everything").click()
        expect(page.locator("#outcome")).to_contain_text("everything: frozen, signed by")
        page.get_by_role("button", name="Deny all and freeze").click()
        expect(page.locator("#outcome")).to_contain_text("everything: denied and frozen, signed by")
        expect(page.locator("#stopped-count")).to_have_text("3")
    rows = world.world.rows(sa.select(g.NARROWING.c.statement).order_by(g.NARROWING.c.id))
    bodies = [Statement.from_bytes(row.statement).body for row in rows]
    assert bodies == [
        FreezeBody("set", "greet-me", (), ""),
        FreezeBody("set", "", (), ""),
        FreezeBody("set", "", (), "", deny_open=True),
    ]


def test_a_freeze_of_no_project_is_asked_for_again_and_signs_nothing(
    driven: Browser, world: WorkloadWorld
) -> None:
    with opened(driven) as page:
        goto_revoke(page, world)
        page.get_by_role("button", name="Freeze this project").click()
        expect(page.locator("#outcome")).to_contain_text("Name the project")
    assert world.world.count(g.NARROWING) == 0


def test_a_key_that_does_not_verify_its_user_revokes_nothing(
    driven: Browser, world: WorkloadWorld
) -> None:
    with opened(driven) as page:
        goto_revoke(page, world, verifies_user=False)
        page.get_by_role("button", name="Revoke publisher greet-ci").click()
        expect(page.locator("#outcome")).to_contain_text("Nothing is stopped.", timeout=30_000)
        expect(page.get_by_role("button", name="Revoke publisher greet-ci")).to_be_enabled()
    assert stops(world) == []


def test_a_key_that_left_the_roster_revokes_nothing_and_the_gate_says_why(
    driven: Browser, world: WorkloadWorld
) -> None:
    with opened(driven, "status of 403") as page:
        goto_revoke(page, world)
        world.world.journal.set_roster({"grace": [world.world.grace.key]})
        page.get_by_role("button", name="Revoke publisher greet-ci").click()
        expect(page.locator("#outcome")).to_contain_text("[approval.key-removed]")
    assert stops(world) == []


def test_the_links_of_a_release_lead_to_the_row_of_its_run(
    driven: Browser, world: WorkloadWorld, tmp_path: Path
) -> None:
    secret = world.pass_()
    data = make_sdist(tmp_path, "greet", "1.0", {"greet/__init__.py": ""}).read_bytes()
    release = world.upload(secret, "greet-1.0.tar.gz", data).json["id"]
    with opened(driven) as page:
        goto_revoke(page, world)
        page.goto(f"{gateway_world.ORIGIN}/r/{release}")
        page.get_by_role("link", name="Revoke this run").click()
        row = page.locator(".row:target")
        expect(row).to_contain_text("acme/greet")
        row.get_by_role("button", name="Revoke").click()
        expect(page.locator("#outcome")).to_contain_text("revoked run")
    run = world.world.rows(sa.select(g.WORKLOAD_TOKEN.c.run))[0].run
    assert stops(world) == [("run", run, "signed")]


def test_the_page_asks_nothing_of_another_host(driven: Browser, world: WorkloadWorld) -> None:
    with opened(driven) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        goto_revoke(page, world)
        assert asked
        assert [one for one in asked if not one.startswith(gateway_world.ORIGIN)] == []


# --- what is listed -----------------------------------------------------------------------------------------------


def test_everything_that_can_be_revoked_is_listed_with_the_target_that_a_statement_names(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    gate = world.world
    world.admit(world.delegation())
    secret = world.pass_()
    data = make_sdist(tmp_path, "greet", "1.0", {"greet/__init__.py": ""}).read_bytes()
    release = world.upload(secret, "greet-1.0.tar.gz", data).json["id"]
    found = identities(world)
    token = gate.rows(sa.select(g.WORKLOAD_TOKEN))[0]
    assert targets(found, "person") == ["ada", "grace"]
    assert targets(found, "publisher") == ["greet-ci"]
    assert targets(found, "delegation") == ["bot"]
    assert targets(found, "workload") == [token.identity]
    assert targets(found, "run") == [token.run]
    assert targets(found, "pass") == [gate.rows(sa.select(g.PASS))[0].hash]
    assert targets(found, "approval") == []
    assert secret not in str(found)
    gate.ask("POST", "/_/oidc/burn-token", {"token": secret})
    assert targets(identities(world), "pass") == []
    made = Statement.from_bytes(str(gate.until(release, "awaiting")["statement"]).encode())
    approval = gate.grace.approve(
        made.to_bytes(), origin=gateway_world.ORIGIN, rp_id=gateway_world.RP_ID
    )
    gate.ask("POST", f"/api/v1/requests/{made.digest}/approvals", approval.to_bytes())
    assert targets(identities(world), "approval") == [approval_id(made.digest, gate.grace.key.id)]


def test_a_revoked_approval_and_a_revoked_person_count_no_more_at_once(
    world: WorkloadWorld, tmp_path: Path
) -> None:
    gate = world.world
    data = make_sdist(tmp_path, "greet", "1.0", {"greet/__init__.py": ""}).read_bytes()
    token = gate.token(person="ada")
    release = gate.upload(token, "greet-1.0.tar.gz", data).json["id"]
    gate.ask("POST", f"/api/v1/releases/{release}/close", Authorization=basic(token))
    made = Statement.from_bytes(str(gate.until(release, "awaiting")["statement"]).encode())
    for passkey in (gate.grace, gate.ada):
        approval = passkey.approve(
            made.to_bytes(), origin=gateway_world.ORIGIN, rp_id=gateway_world.RP_ID
        )
        gate.ask("POST", f"/api/v1/requests/{made.digest}/approvals", approval.to_bytes())
    tally = gate.release(release)["tally"]
    assert (tally["counted"], tally["requester_signed"]) == (["grace"], True)
    assert world.revoke("approval", approval_id(made.digest, gate.grace.key.id)).status == 202
    assert gate.release(release)["tally"]["counted"] == []
    html = gate.ask("GET", f"/r/{release}", Accept="text/html").body.decode()
    assert "does not count: it was ended when its signer left, or was revoked" in html
    assert world.revoke("person", "ada").status == 202
    tally = gate.release(release)["tally"]
    assert (tally["requester_signed"], tally["needed"]) == (False, 2)
    # Whoever leaves takes the own signatures along: they are ended one by one, and no longer looked at.
    assert tally["counted"] == [] and tally["excluded"] == []


def test_what_a_quorum_has_ended_is_no_longer_stopped(world: WorkloadWorld) -> None:
    gate = world.world
    digest = world.revoke("publisher", "greet-ci").json["statement"]
    assert [one["id"] for one in identities(world)["stops"]] == [digest]
    row = {
        "id": digest,
        "what": "publisher",
        "target": "greet-ci",
        "source": "signed",
        "seen_ms": 1,
    }
    gate.journal.write(sa.insert(j.NARROWING).values(row))
    assert [one["latched"] for one in identities(world)["stops"]] == [True]
    gate.journal.write(sa.update(j.NARROWING).values(cleared_by="ab" * 32))
    found = identities(world)
    assert found["stops"] == []
    assert [one["stopped"] for one in found["revocable"] if one["what"] == "publisher"] == [False]


def test_the_list_is_for_holders_of_a_view_token_as_a_page_and_in_the_api(
    world: WorkloadWorld,
) -> None:
    gate = world.world
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "presspass_view=wrong"}):
        page = gate.ask("GET", "/revoke", Accept="text/html", **headers)
        assert (page.status, b"greet-ci" in page.body) == (401, False)
        answer = gate.ask("GET", "/api/v1/identities", **headers)
        assert (answer.status, answer.code, b"greet-ci" in answer.body) == (
            403,
            "token.invalid",
            False,
        )
    cookie = f"presspass_view={view_token(world)}"
    assert b"greet-ci" in gate.ask("GET", "/revoke", Accept="text/html", Cookie=cookie).body
    assert gate.ask("GET", "/api/v1/identities", Cookie=cookie).status == 200


# --- words --------------------------------------------------------------------------------------------------------


def test_the_banner_does_not_call_a_revoked_person_a_frozen_project() -> None:
    person = w.narrowing("person", "alice", "left the company")
    now = Situation(True, (person, w.narrowing("limited", "acme-ci", "")), names=w.NAMES)
    page = revoking.revoke_page(w.identities(), now)
    made = render("list.html", now, page=pages.list_page(w.overview()))
    html = bytes(made.body).decode()
    assert "Frozen" not in html
    assert "Limited: the publisher acme-ci, and 1 more." in html
    assert [one.by for one in page.stops] == ["", "Carol Tanaka"]


def test_hostile_words_in_what_is_listed_are_shown_inert() -> None:
    hostile = "<img src=x onerror=alert(1)> \u202e \u200b"
    from dataclasses import replace

    known = w.identities()
    row = w.Revocable("run", "ab" * 32, hostile, (("ref", hostile),))
    known = replace(known, rows={**known.rows, "run": (row,)}, left_out={"run": 3})
    page = revoking.revoke_page(known, Situation(True))
    made = render("revoke.html", Situation(True), page=page, origin="https://g.example", url="x")
    html = bytes(made.body).decode()
    assert "<img src=x" not in html
    assert "U+202E" in html
    assert "3 more, older ones, are not listed." in html


def test_who_sees_the_own_releases_only_is_told_of_no_other_ones_here_either() -> None:
    known = w.identities()
    requester = Viewer("alice", "Alice Osei", "oidc", ("requester",), 0, False, False)
    approver = Viewer("bob", "Bob Lindqvist", "oidc", ("approver",), 0, True, False)
    shown = revoking.revoke_page(revoking.for_viewer(known, requester), Situation(True))
    assert [one.what for one in shown.groups] == ["publisher", "delegation", "workload", "person"]
    whole = revoking.revoke_page(revoking.for_viewer(known, approver), Situation(True))
    assert {"run", "pass", "approval"} < {one.what for one in whole.groups}
    assert revoking.for_viewer(known, None) == known


def test_what_was_published_is_listed_and_stands_among_what_is_stopped_once_it_is_revoked(
    world: WorkloadWorld,
) -> None:
    older, newer = "5" * 64, "6" * 64
    world.world.journal.publish("0.8", {"greet-0.8.tar.gz": b"x", "greet-0.8.zip": b"y"}, older)
    world.world.journal.publish("0.9", {"greet-0.9.tar.gz": b"z"}, newer)
    assert sorted(targets(identities(world), "release")) == [older, newer]
    assert world.revoke("release", "greet==0.8").code == "statement.malformed"
    assert world.revoke("release", older).status == 202
    found = identities(world)
    stopped = {one["target"]: one["stopped"] for one in found["revocable"]}
    assert (stopped[older], stopped[newer]) == (True, False)
    [stop] = found["stops"]
    assert (stop["what"], stop["target"]) == ("release", older)
    assert world.revoke("file", "7" * 64).status == 202
    page = world.world.ask("GET", "/revoke", None, Authorization=f"Bearer {view_token(world)}")
    assert "Published releases" in page.body.decode()
