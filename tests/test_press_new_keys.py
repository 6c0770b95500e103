"""New keys wait and need somebody else; a change of addresses is told to the old one: held against the press."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from press_rig import TOKEN, Rig
from presspass.core.policy import Policy
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import RosterBody, Statement
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.registry import Registry
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.store import journal_tables as t
from presspass.store import journal_view as view

DAY_S = 86_400
POLICY = Policy(veto_window_s=60, software_keys=True)
BEFORE_THE_RULE = replace(POLICY, veto_window_s=0, key_wait_s=None)


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Sealed rigs; their press is stopped by each test."""
    made: list[Rig] = []
    with Registry(seed=7, token=TOKEN) as registry:

        def make(policy: Policy = POLICY, **options: Any) -> Rig:
            rig = Rig(tmp_path / f"home{len(made)}", registry, policy, **options).build()
            made.append(rig)
            rig.seal()
            return rig

        yield make
        for rig in made:
            rig.rows.close()


def clocks() -> tuple[WorldClock, Clock]:
    world = WorldClock(wall_s=float(int(time.time())))
    return world, Clock(world.wall, world.monotonic, settle_s=30)


def ask(rig: Rig, roster: Roster) -> Statement:
    statement = rig.statement(RosterBody(roster), rig.journal(view.heads).roster, life_s=7 * DAY_S)
    rig.request(statement)
    return statement


def with_second_key(rig: Rig, name: str) -> Roster:
    """The roster with one more key for `name`."""
    second = SoftwarePasskey.generate(90).key
    people = [
        replace(one, keys=tuple(sorted((*one.keys, second), key=lambda key: key.id)))
        if one.id == f"p-{name}"
        else one
        for one in rig.roster().people
    ]
    return Roster(tuple(people))


def changed(rig: Rig, name: str, **changes: Any) -> Roster:
    """The roster with other groups or details for one person."""
    people = [
        replace(one, **changes) if one.id == f"p-{name}" else one for one in rig.roster().people
    ]
    return Roster(tuple(people))


def notices(rig: Rig, address: str) -> str:
    """Everything that was told to one address."""
    query = sa.select(t.NOTICE.c.body).where(t.NOTICE.c.address == address)
    return "\n".join(rig.journal(lambda c: c.execute(query).scalars().all()))


def test_a_new_key_waits_from_the_first_sight_however_early_people_sign(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig()
    world, clock = clocks()
    with rig.press(clock) as press:
        change = ask(rig, with_second_key(rig, "cleo"))
        rig.stays(press, change.digest, "seen")
        world.advance(DAY_S / 2)
        rig.sign(change, "ana", "ben")
        rig.stays(press, change.digest, "approved")
        world.advance(DAY_S / 2 - 60)
        rig.stays(press, change.digest, "approved")
        assert f"not before {DAY_S} s" in notices(rig, "mailto:cleo@team.invalid")
        world.advance(61)
        turn_until(rig, press, change, "admitted")


def turn_until(rig: Rig, press: Press, statement: Statement, state: str) -> None:
    """Turns the press without moving its clock."""
    rig.stays(press, statement.digest, state, turns=3)


def test_the_wait_of_a_new_key_is_never_shorter_than_the_veto_window(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=3600, key_wait_s=1))
    world, clock = clocks()
    with rig.press(clock) as press:
        change = ask(rig, with_second_key(rig, "cleo"))
        rig.sign(change, "ana", "ben")
        rig.stays(press, change.digest, "approved")
        world.advance(3590)
        rig.stays(press, change.digest, "approved")
        world.advance(11)
        turn_until(rig, press, change, "admitted")


def test_a_clock_that_jumps_does_not_shorten_the_wait_of_a_new_key(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig()
    world, clock = clocks()
    with rig.press(clock) as press:
        change = ask(rig, with_second_key(rig, "cleo"))
        rig.sign(change, "ana", "ben")
        rig.stays(press, change.digest, "approved")
        world.jump_wall(2 * DAY_S)
        press.tick()
        world.advance(120)
        rig.stays(press, change.digest, "approved")


def test_one_veto_in_the_wait_ends_a_new_key(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    world, clock = clocks()
    with rig.press(clock) as press:
        change = ask(rig, with_second_key(rig, "cleo"))
        rig.sign(change, "ana", "ben")
        rig.stays(press, change.digest, "approved")
        rig.veto(change, "cleo")
        world.advance(DAY_S + 1)
        assert rig.until(press, change.digest, "rejected").code == "narrowing.vetoed"


def test_the_owner_of_a_new_key_is_no_approver_of_it(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=0, key_wait_s=0, approvals=2))
    with rig.press() as press:
        change = ask(rig, with_second_key(rig, "cleo"))
        rig.sign(change, "ana", "cleo")
        assert rig.stays(press, change.digest, "seen").code == "quorum.missing"
        rig.sign(change, "ben")
        rig.until(press, change.digest, "admitted")


def test_the_owner_alone_brings_no_key_in_and_one_other_is_enough_in_a_team_of_two(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=0, key_wait_s=0), names=("ana", "ben"))
    with rig.press() as press:
        change = ask(rig, with_second_key(rig, "ben"))
        rig.sign(change, "ben")
        rig.stays(press, change.digest, "seen")
        rig.sign(change, "ana")
        rig.until(press, change.digest, "admitted")


def test_somebody_new_needs_two_of_those_who_are_there(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=0, key_wait_s=0))
    with rig.press() as press:
        newcomer = Person("p-zoe", "ab" * 32, (), (SoftwarePasskey.generate(91).key,))
        change = ask(rig, Roster((*rig.roster().people, newcomer)))
        rig.sign(change, "ana")
        rig.stays(press, change.digest, "seen")
        rig.sign(change, "cleo")
        rig.until(press, change.digest, "admitted")


def test_a_policy_from_before_the_rule_goes_on_as_it_was_signed(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(BEFORE_THE_RULE)
    assert b"key_wait_s" not in rig.genesis.to_bytes()
    with rig.press() as press:
        change = ask(rig, with_second_key(rig, "cleo"))
        rig.sign(change, "ana", "cleo")
        rig.until(press, change.digest, "admitted")
    with rig.press() as press:  # the chain is verified anew when the press starts
        press.tick()


@pytest.mark.parametrize("more", ["groups", "details"])
def test_a_group_more_or_other_details_do_not_pass_as_taking_away(
    make_rig: Callable[..., Rig], more: str
) -> None:
    """A role is a group, and an id at the sign-in provider is a detail: neither may slip in beside a lost key."""
    rig = make_rig(replace(POLICY, veto_window_s=3600))
    world, clock = clocks()
    values = {"groups": ("approvers", "role:admin"), "details": "ab" * 32}
    with rig.press(clock) as press:
        roster = changed(rig, "ben", **{more: values[more]})
        without_cleo = Roster(tuple(one for one in roster.people if one.id != "p-cleo"))
        change = ask(rig, without_cleo)
        rig.sign(change, "ana", "ben")
        rig.stays(press, change.digest, "approved")
        world.advance(3601)
        turn_until(rig, press, change, "admitted")


def test_a_change_of_address_is_told_to_the_old_address_before_and_to_both_after(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=3600))
    world, clock = clocks()
    old, new = "mailto:ben@team.invalid", "mailto:ben@elsewhere.invalid"
    moved = Details("Ben", (new,), ("oidc:https://id.invalid#1",), "7" * 32)
    rig.put_details(moved)
    with rig.press(clock) as press:
        change = ask(rig, changed(rig, "ben", details=moved.commitment))
        rig.sign(change, "ana", "cleo")
        rig.stays(press, change.digest, "approved")
        for told in (notices(rig, old), notices(rig, "mailto:ana@team.invalid")):
            assert "~ person p-ben" in told
            assert f"addresses: {old} -> {new}" in told
            assert "forge_ids: (none) -> oidc:https://id.invalid#1" in told
        assert not notices(rig, new)
        world.advance(3601)
        turn_until(rig, press, change, "admitted")
        assert "in force" in notices(rig, old)
        assert "in force" in notices(rig, new)


def test_details_that_do_not_fit_their_commitment_are_not_told_as_true(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=3600))
    _world, clock = clocks()
    with rig.press(clock) as press:
        change = ask(rig, changed(rig, "ben", details="ab" * 32))
        rig.sign(change, "ana", "cleo")
        rig.stays(press, change.digest, "approved")
        assert "which ones is not known here" in notices(rig, "mailto:ben@team.invalid")
