"""What the gate tells of requests: only what waits is shown as waiting, and what is in force beside what was before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway_world import UPSTREAM, World, details_of
from presspass.core.roster import Person, Roster
from presspass.core.statement import RosterBody, Statement, UpstreamBody
from presspass.drill.world.keys import SoftwarePasskey


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("facts") / "home") as world:
        yield world


def with_one_more(world: World) -> Roster:
    """The roster and Edsger."""
    key = SoftwarePasskey.generate(4711).key
    edsger = Person("edsger", details_of("edsger").commitment, (), (key,))
    return Roster((*world.journal.roster().people[:1], edsger, *world.journal.roster().people[1:]))


def ask_for(world: World, statement: Statement) -> str:
    """Puts it before people; its digest."""
    answer = world.control("POST", "/requests", {"statement": statement.to_bytes().decode()})
    assert answer.status == 201, answer.body
    return statement.digest


def open_requests(world: World) -> dict[str, str]:
    """Title by digest, as `presspass status` lists them."""
    return {one["digest"]: one["title"] for one in world.control("GET", "/status").json["requests"]}


def page_of(world: World, digest: str) -> str:
    return world.ask("GET", f"/q/{digest}", accept="text/html").body.decode()


@pytest.mark.parametrize("state", ["stale", "rejected", "expired", "admitted"])
def test_a_request_that_has_ended_no_longer_waits(world: World, state: str) -> None:
    statement = world.journal.statement(RosterBody(with_one_more(world)), world.journal.roster_head)
    digest = ask_for(world, statement)
    assert open_requests(world) == {digest: "edsger joins the roster"}
    world.journal.decide(digest, "", state)
    assert open_requests(world) == {}


def test_a_roster_in_force_is_shown_beside_the_one_before_it(world: World) -> None:
    statement = world.journal.statement(RosterBody(with_one_more(world)), world.journal.roster_head)
    digest = ask_for(world, statement)
    world.journal._admit(statement, "roster")
    world.journal.decide(digest, "", "admitted")
    page = page_of(world, digest)
    assert "edsger joins the roster" in page
    assert "What changed" in page


def test_an_upstream_in_force_is_shown_beside_the_one_before_it(world: World) -> None:
    body = UpstreamBody(
        UPSTREAM,
        "pypi",
        "https://moved.example/",
        "https://moved.example/simple/",
        "",
        "custody",
        "5" * 64,
    )
    statement = world.journal.statement(body, world.journal.upstream)
    digest = ask_for(world, statement)
    world.journal._admit(statement, f"upstream:{UPSTREAM}")
    world.journal.decide(digest, "", "admitted")
    assert "index.example becomes moved.example" in page_of(world, digest)


def test_normal_waiting_shows_no_reason_code_and_a_frozen_gate_does(world: World) -> None:
    statement = world.journal.statement(RosterBody(with_one_more(world)), world.journal.roster_head)
    digest = ask_for(world, statement)
    world.journal.decide(digest, "", "seen", "quorum.missing", "0 of 2 needed approvals count.")
    assert "quorum.missing" not in page_of(world, digest)
    world.journal.decide(digest, "", "seen", "upstream.missing", "<h1>No</h1> credential")
    page = page_of(world, digest)
    assert "upstream.missing" in page
    assert "No credential" in page
