"""Somebody leaves: everything ends at once, at every stage of a release, and the number of approvers stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cli_rig import running
from gateway_world import ORIGIN, PROJECT, World, until
from press_rig import Rig, rigs
from presspass.core.approval import approval_id
from presspass.core.errors import Code
from presspass.core.quorum import Electorate
from presspass.core.statement import FreezeBody, Kind, RevocationBody, RosterBody, Statement
from presspass.drill.packages import make_wheel
from presspass.drill.world.registry import Registry
from presspass.gateway import stops
from presspass.gateway.stops import Stop
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as j
from presspass.store import journal_view as view
from presspass.verify.chain import Chain, veto_of
from presspass.verify.shortage import Package, short_of_approvers
from sign_in_world import Browser, HostileProvider, SignInWorld
from test_press_laws import (
    POLICY,
    TOKEN,
    Files,
    change_roster,
    files,
    wait_for,
    watch,
    world_clock,
)
from workload_world import WorkloadWorld

__all__ = ["files"]


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    with Registry(seed=7, token=TOKEN) as registry, rigs(tmp_path, registry, POLICY) as make:
        yield make


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


def gone(rig: Rig, person: str, *signed: Statement) -> str:
    """What the gateway leaves for the press when a person leaves; the id of the stop."""
    stop = Stop("person", f"p-{person}", "has left", "operator", nonce=str(time.monotonic_ns()))
    ended = [approval_id(one.digest, rig.keys[person].key.id) for one in signed]
    more = [Stop("approval", one, "who signed has left", "leaving", nonce=stop.id) for one in ended]

    def work(connection: sa.Connection) -> None:
        for one in (stop, *more):
            stops.record(connection, one, 1)

    rig.rows.run(work)
    return stop.id


def latched(rig: Rig) -> set[str]:
    return {one.id for one in rig.journal(view.narrowings)}


# --- the press, at each stage -----------------------------------------------------------------------------------------


def test_an_approver_who_leaves_before_the_quorum_counts_no_more(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0", requester_signs=False)
        rig.sign(statement, "ben")
        rig.stays(press, statement.digest, "seen")
        gone(rig, "ben")
        rig.sign(statement, "ana")
        assert rig.stays(press, statement.digest, "seen").code == "identity.revoked"
        assert not rig.registry.uploads
        rig.sign(statement, "cleo")
        rig.until(press, statement.digest, "verified")


def test_an_approver_who_leaves_in_the_veto_window_stops_the_release_until_another_signs(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=60))
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "approved")
        gone(rig, "ben")
        press.tick()
        world.advance(61)
        assert rig.stays(press, statement.digest, "approved").code == "identity.revoked"
        assert not rig.registry.uploads
        rig.sign(statement, "cleo")
        world.advance(2)
        rig.until(press, statement.digest, "verified")


@pytest.mark.parametrize(
    ("who", "code"), [("ben", "quorum.missing"), ("ana", "release.requester-gone")]
)
def test_who_leaves_between_two_files_stops_the_second(
    rig: Rig, files: Files, who: str, code: str
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(sdist=True), "demo", "1.0")
        left = threading.Event()

        def leave(_name: str) -> None:
            if not left.is_set():
                stop = gone(rig, who, statement)
                ended = approval_id(statement.digest, rig.keys[who].key.id)
                wait_for(lambda: stop in latched(rig))
                wait_for(lambda: ended in {n.target for n in rig.journal(view.narrowings)})
                left.set()

        sent = watch(press, after=leave)
        rig.sign(statement, "ben")
        decision = rig.until(press, statement.digest, "failed")
        assert decision.code == code
        assert len(sent) == 1


def test_what_a_leaver_asked_for_is_over_for_good(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.stays(press, statement.digest, "seen")
        stop = gone(rig, "ana")
        rig.sign(statement, "ben", "cleo")
        assert rig.until(press, statement.digest, "rejected").code == "release.requester-gone"
        cleared = rig.statement(FreezeBody("clear", "", (stop,), "came back"))
        rig.request(cleared)
        rig.sign(cleared, "ben", "cleo")
        rig.until(press, cleared.digest, "admitted")
        rig.stays(press, statement.digest, "rejected")
    assert not rig.registry.uploads


def test_a_cleared_stop_lets_the_person_count_again_and_revives_no_approval(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0", requester="p-cleo")
        rig.sign(statement, "ben")
        stop = gone(rig, "ben", statement)
        wait_for(lambda: press.tick() or stop in latched(rig))
        again = rig.statement(FreezeBody("clear", "", (stop,), "came back"))
        rig.request(again)
        rig.sign(again, "ana", "ben")
        assert rig.stays(press, again.digest, "seen").code == "quorum.missing"
        rig.sign(again, "cleo")
        rig.until(press, again.digest, "admitted")
        assert rig.stays(press, statement.digest, "seen").code == "quorum.missing"
        fresh = rig.stage(press, files("1.1"), "demo", "1.1", requester="p-cleo")
        rig.sign(fresh, "ben")
        rig.until(press, fresh.digest, "verified")
        assert rig.decision(statement.digest).state == "seen"  # type: ignore[union-attr]  # it was seen


def test_a_cleared_stop_helps_nobody_whose_keys_are_out_of_the_roster(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        stop = gone(rig, "ben")
        change_roster(rig, press, rig.roster(without=("ben",)), "ana", "cleo")
        ended = rig.statement(FreezeBody("clear", "", (stop,), "came back"))
        rig.request(ended)
        rig.sign(ended, "ana", "cleo")
        rig.until(press, ended.digest, "admitted")
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ben")
        assert rig.stays(press, statement.digest, "seen").code == "approval.key-unknown"


def test_too_few_approvers_freeze_and_everybody_is_told_which_packages(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(names=("ana", "ben"))
    with rig.press() as press:
        rig.upstream(press)
        first = rig.stage(press, files(), "demo", "1.0")
        rig.sign(first, "ben")
        rig.until(press, first.digest, "verified")
        second = rig.stage(press, files("1.1"), "demo", "1.1")
        stop = gone(rig, "ben")
        rig.sign(second, "ben")
        assert rig.stays(press, second.digest, "seen").code == "quorum.too-few-people"
        query = sa.select(j.NOTICE.c.address, j.NOTICE.c.body).where(j.NOTICE.c.about == stop)
        told = {row.address: row.body for row in rig.journal(lambda c: c.execute(query).all())}
        assert set(told) == {"mailto:ana@team.invalid", "mailto:ben@team.invalid"}
        assert "FROZEN" in told["mailto:ana@team.invalid"]
        assert "demo at main" in told["mailto:ana@team.invalid"]


def test_a_package_is_short_only_when_no_case_would_do(rig: Rig) -> None:
    chain = Chain.begin(rig.genesis)
    packages = [Package("main", "demo"), Package("main", "bound", by_workload=True)]
    assert short_of_approvers(chain, frozenset(), packages) == []
    assert short_of_approvers(chain, frozenset({"p-ana"}), packages) == []
    short = short_of_approvers(chain, frozenset({"p-ana", "p-ben"}), packages)
    assert [one.package.project for one in short] == ["bound", "demo"]
    for one in short:
        assert one.eligible < one.needed
    roster, policy = chain.roster, chain.policy
    assert Electorate(Kind.RELEASE, roster, roster, policy, "").needed() == 2


# --- the gateway ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider() -> Iterator[HostileProvider]:
    with HostileProvider() as running_provider:
        yield running_provider


@pytest.fixture
def world(tmp_path: Path, provider: HostileProvider) -> Iterator[SignInWorld]:
    provider.claims = {}
    with SignInWorld(tmp_path / "home", provider) as started:
        yield started


def awaiting(world: World, token: str, folder: Path, version: str = "1.0") -> dict[str, Any]:
    """A release that is asked for and waits for signatures."""
    wheel = make_wheel(folder, PROJECT, version)
    placed = world.upload(token, wheel.name, wheel.read_bytes())
    assert placed.status == 202, placed.body
    release = placed.json["id"]
    world.ask("POST", f"/api/v1/releases/{release}/close", None, Authorization=f"Bearer {token}")
    return world.until(release, "awaiting")


def approve(world: SignInWorld, release: dict[str, Any], person: str) -> Any:
    data = release["statement"].encode()
    approval = world.passkeys[person].approve(data, origin=ORIGIN, rp_id="localhost")
    path = f"/api/v1/requests/{release['request']}/approvals"
    return world.ask("POST", path, approval.to_bytes())


def remove(world: World, person: str, reason: str = "has left") -> dict[str, Any]:
    answer = world.control("POST", "/people/remove", {"person": person, "reason": reason})
    assert answer.status == 200, answer.body
    return dict(answer.json)


def test_removing_somebody_ends_everything_of_theirs_before_the_answer(
    world: SignInWorld, tmp_path: Path
) -> None:
    browser, other = Browser(world), Browser(world)
    browser.sign_in("grace")
    other.sign_in("ada")
    token = world.token(person="grace")
    mine = awaiting(world, token, tmp_path)
    theirs = awaiting(world, world.token("greet", person="ada"), tmp_path, "1.1")
    assert approve(world, theirs, "grace").status == 202
    assert world.control("POST", "/sign-in-links", {"person": "grace"}).status == 201
    link = {"person": "grace", "name": "Grace", "addresses": [], "groups": [], "forge_ids": []}
    assert world.control("POST", "/links", link).status == 201

    left = remove(world, "Grace")

    ended = ("sessions", "upload_tokens", "approvals", "links", "new", "person")
    assert {name: left[name] for name in ended} == {
        "sessions": 1, "upload_tokens": 1, "approvals": 1, "links": 2, "new": True, "person": "grace",
    }  # fmt: skip
    assert browser.who == {} and other.who["person"] == "ada"
    assert browser.sign_in("grace").code == "identity.revoked"
    refused = world.upload(token, "greet-2.0-py3-none-any.whl", b"x")
    assert (refused.status, refused.code) == (403, "token.invalid")
    mine_now = world.release(mine["id"])
    assert (mine_now["state"], mine_now["code"]) == ("withdrawn", "release.requester-gone")
    assert left["releases"] == [f"{ORIGIN}/r/{mine['id']}"]
    assert world.release(theirs["id"])["state"] == "awaiting"
    again = {"upstream": "private", "project": "greet", "person": "grace", "life_s": 60}
    assert world.control("POST", "/tokens", again).code == "identity.revoked"


def test_removing_somebody_twice_changes_nothing_the_second_time(
    world: SignInWorld, tmp_path: Path
) -> None:
    theirs = awaiting(world, world.token(person="ada"), tmp_path)
    approve(world, theirs, "grace")
    first = remove(world, "grace")
    before = world.rows(sa.select(g.STOP).order_by(g.STOP.c.serial))
    asked = world.count(g.REQUEST)
    second = remove(world, "grace", "said differently")
    assert not second["new"]
    assert (second["stop"], second["request"]) == (first["stop"], first["request"])
    assert [second[name] for name in ("sessions", "approvals", "links", "passes")] == [0] * 4
    assert world.rows(sa.select(g.STOP).order_by(g.STOP.c.serial)) == before
    assert world.count(g.REQUEST) == asked


def test_the_others_are_asked_to_take_the_keys_out_and_nothing_is_taken_out_by_itself(
    world: SignInWorld,
) -> None:
    remove(world, "rita")
    left = remove(world, "grace")
    statement = Statement.from_bytes(
        world.ask("GET", f"/api/v1/requests/{left['request']}").json["statement"].encode()
    )
    body = statement.body_as(RosterBody)
    assert [one.id for one in body.roster.people] == ["ada", "otto"]
    people = Browser(world)
    people.sign_in("ada")
    assert world.journal.roster().person("grace") is not None


def test_no_roster_is_asked_for_under_which_nobody_could_change_anything(
    world: SignInWorld,
) -> None:
    for person in ("rita", "otto"):
        remove(world, person)
    left = remove(world, "grace")
    assert left["request"] is None and left["url"] == ""


def test_what_a_leaver_signs_later_is_refused_but_a_veto_is_taken(
    world: SignInWorld, tmp_path: Path
) -> None:
    theirs = awaiting(world, world.token(person="ada"), tmp_path)
    remove(world, "grace")
    assert approve(world, theirs, "grace").code == "identity.revoked"
    statement = Statement.from_bytes(theirs["statement"].encode())
    data = veto_of(statement).to_bytes()
    veto = world.passkeys["grace"].approve(data, origin=ORIGIN, rp_id="localhost")
    path = f"/api/v1/requests/{theirs['request']}/approvals"
    assert world.ask("POST", path, veto.to_bytes()).status == 202


def test_a_signed_revocation_of_a_person_does_the_same(world: SignInWorld, tmp_path: Path) -> None:
    browser = Browser(world)
    browser.sign_in("grace")
    mine = awaiting(world, world.token(person="grace"), tmp_path)
    statement = world.journal.statement(RevocationBody("person", "grace", "stolen laptop"))
    data = statement.to_bytes()
    approval = world.passkeys["ada"].approve(data, origin=ORIGIN, rp_id="localhost")
    body = {"statement": data.decode(), "approval": approval.to_json()}
    assert world.ask("POST", "/api/v1/narrowings", body).status == 202
    assert browser.who == {}
    assert world.release(mine["id"])["code"] == "release.requester-gone"
    assert remove(world, "grace")["stop"] == statement.digest


def test_what_the_press_latched_elsewhere_is_carried_out_here_too(
    world: SignInWorld, tmp_path: Path
) -> None:
    browser = Browser(world)
    browser.sign_in("grace")
    mine = awaiting(world, world.token(person="grace"), tmp_path)
    world.journal.latch("7" * 64, "grace")
    world.until(mine["id"], "withdrawn")
    assert browser.who == {}
    assert browser.sign_in("grace").code == "identity.revoked"
    asked = until(
        lambda: world.rows(sa.select(g.REQUEST).where(g.REQUEST.c.kind == "roster")), "a roster"
    )
    assert len(asked) == 1


def test_after_a_clearing_the_person_can_be_removed_again(world: SignInWorld) -> None:
    first = remove(world, "grace")
    world.journal.latch(first["stop"], "grace", cleared_by="8" * 64)
    browser = Browser(world)
    assert browser.sign_in("grace").status == 303
    second = remove(world, "grace")
    assert second["new"] and second["stop"] != first["stop"]
    assert browser.who == {}


def test_delegations_of_a_leaver_and_the_passes_under_them_end(tmp_path: Path) -> None:
    with WorkloadWorld(tmp_path, delegated_only=True) as world:
        world.admit(world.delegation(person="ada"))
        secret = world.pass_()
        placed = world.upload(secret)
        assert placed.status == 202, placed.body
        left = remove(world.world, "ada")
        assert left["delegations"] == ["bot"]
        assert world.upload(secret, "greet-1.0-py3-none-any.whl").code == "pass.ended"
        assert world.mint(world.token()).code == "identity.revoked"
        release = world.world.release(placed.json["id"])
        assert (release["state"], release["code"]) == ("withdrawn", "release.requester-gone")
        stopped = world.world.rows(
            sa.select(g.STOP.c.what, g.STOP.c.target).order_by(g.STOP.c.serial)
        )
        assert [tuple(row) for row in stopped] == [("person", "ada"), ("delegation", "bot")]


def test_packages_left_with_too_few_approvers_are_listed(
    world: SignInWorld, tmp_path: Path
) -> None:
    awaiting(world, world.token(person="ada"), tmp_path)
    world.journal.publish("0.9", {"other-0.9.tar.gz": b"x"})
    assert world.control("GET", "/status").json["frozen_packages"] == []
    for person in ("rita", "otto"):
        assert remove(world, person)["frozen_packages"] == []
    left = remove(world, "grace")
    frozen = {"upstream": "private", "project": PROJECT, "needed": 2, "eligible": 1}
    assert left["frozen_packages"] == [frozen]
    assert world.control("GET", "/status").json["frozen_packages"] == [frozen]


def test_nobody_of_that_name_is_said_so(world: SignInWorld) -> None:
    answer = world.control("POST", "/people/remove", {"person": "Nobody", "reason": ""})
    assert (answer.status, answer.code) == (404, Code.REQUEST_NOT_FOUND.value)


# --- the whole gate ---------------------------------------------------------------------------------------------------


def test_people_remove_at_a_running_gate_freezes_what_is_short(
    tmp_path: Path, ssh_keygen: Path
) -> None:
    with running(tmp_path) as gate:
        gate.seal()
        gate.add_upstream("http://localhost:9/legacy/", "http://localhost:9/simple/", "secret")
        url = gate.submit(gate.token("greet"), make_wheel(tmp_path, "greet", "1.0"))
        until(lambda: gate.ask("status", url)["state"] == "awaiting", "a review")
        gate.approve(url, "grace")
        said = gate.run("people", "remove", "Grace", "--reason", "has left")
        assert "1 approvals on unfinished requests" in said
        assert "greet" in said
        until(lambda: gate.ask("status")["narrowings"], "the press")
        assert gate.ask("status")["frozen_packages"][0]["project"] == "greet"
        shown = gate.ask("status", url)
        assert shown["tally"]["frozen"] and shown["tally"]["counted"] == []
        found = gate.ask("doctor", code=1)
        assert any("nothing can be approved" in line["found"] for line in found)
        gate.approve(url, "ada")
        time.sleep(0.5)
        assert gate.ask("status", url)["state"] == "awaiting"
