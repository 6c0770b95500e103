"""The press with a policy that asks for more than a number: groups, findings, reserves, and the holiday rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger_reading import entered
from press_rig import TOKEN, Rig, rigs
from presspass.core.approving import Approving
from presspass.core.errors import Code
from presspass.core.policy import Policy
from presspass.core.statement import PolicyBody, ReleaseBody, Statement
from presspass.drill.packages import INERT_PTH, make_wheel
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.registry import Registry
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.store import journal_view as view
from presspass.verify.proof import Proof, check_proof

HOUR_S = 3600
HOLIDAY = Approving(holiday_after_s=HOUR_S, holiday_window_s=4 * HOUR_S)
POLICY = Policy(approvals=2, veto_window_s=0, software_keys=True, key_wait_s=0, approving=HOLIDAY)
LIFE_S = 24 * HOUR_S


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as running:
        yield running


@pytest.fixture
def make_rig(tmp_path: Path, registry: Registry) -> Iterator[Callable[..., Rig]]:
    with rigs(tmp_path, registry, POLICY) as make:
        yield make


def world_clock() -> tuple[WorldClock, Clock]:
    world = WorldClock(wall_s=float(int(time.time())))
    return world, Clock(world.wall, world.monotonic, settle_s=30)


def wheel(folder: Path, version: str = "1.0", *, high: bool = False) -> list[Path]:
    """The wheel of demo; with a start-up file that the inspector marks as high."""
    return [make_wheel(folder, "demo", version, {"demo.pth": INERT_PTH} if high else None)]


def waits(rig: Rig, press: Press, statement: Statement, code: Code) -> None:
    decision = rig.stays(press, statement.digest, "seen")
    assert decision.code == code.value
    assert not rig.registry.uploads


def check_proofs(rig: Rig, statement: Statement) -> list[Proof]:
    """The proofs of a release, each of which verifies with the trust root alone."""
    found = []
    for name in rig.journal(lambda c: view.proof_names(c, statement.digest)):
        data = rig.journal(lambda c, name=name: view.proof(c, statement.digest, name))
        proof = Proof.from_bytes(data)
        file = next(one for one in statement.body_as(ReleaseBody).files if one.name == name)
        check_proof(
            proof,
            filename=name,
            sha256=file.sha256,
            size=file.size,
            trust_root=rig.genesis.digest,
        )
        found.append(proof)
    return found


def test_when_only_the_requester_is_awake_nothing_goes_out_however_long_it_takes(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, wheel(tmp_path), "demo", "1.0", life_s=LIFE_S)
        for _ in range(6):
            waits(rig, press, statement, Code.QUORUM_MISSING)
            world.advance(2 * HOUR_S)
        assert rig.decision(statement.digest) is not None


def test_one_approver_is_enough_by_the_holiday_rule_after_its_time_and_its_veto_window(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, wheel(tmp_path), "demo", "1.0", life_s=LIFE_S)
        rig.sign(statement, "ben")
        waits(rig, press, statement, Code.QUORUM_MISSING)
        world.advance(HOUR_S - 60)
        waits(rig, press, statement, Code.QUORUM_MISSING)
        world.advance(61)
        rig.until(press, statement.digest, "approved")
        world.advance(4 * HOUR_S - 60)
        rig.stays(press, statement.digest, "approved")
        assert not rig.registry.uploads
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        rig.stays(press, statement.digest, "approved")
        world.advance(61)
        rig.until(press, statement.digest, "verified")
    proofs = check_proofs(rig, statement)
    assert [proof.record.entry for proof in proofs]
    verified = entered(rig.ledger(), "verified", statement=statement.digest)
    assert verified[0]["waited_s"] >= HOUR_S and verified[0]["risk"]


def test_one_veto_ends_what_the_holiday_rule_lets_out(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, wheel(tmp_path), "demo", "1.0", life_s=LIFE_S)
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "seen")
        world.advance(HOUR_S + 1)
        rig.until(press, statement.digest, "approved")
        rig.veto(statement, "cleo")
        rig.until(press, statement.digest, "rejected")
        world.advance(5 * HOUR_S)
        rig.stays(press, statement.digest, "rejected")
        assert not rig.registry.uploads


def test_the_holiday_rule_is_no_way_round_for_a_high_finding(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, wheel(tmp_path, high=True), "demo", "1.0", life_s=LIFE_S)
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "seen")
        world.advance(6 * HOUR_S)
        waits(rig, press, statement, Code.QUORUM_MISSING)
        rig.sign(statement, "cleo")
        rig.until(press, statement.digest, "verified")
    check_proofs(rig, statement)


def test_a_clock_that_jumps_forward_does_not_bring_the_holiday_rule_nearer(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, wheel(tmp_path), "demo", "1.0", life_s=LIFE_S)
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "seen")
        world.jump_wall(2 * HOUR_S)
        press.tick()
        world.advance(40)
        waits(rig, press, statement, Code.QUORUM_MISSING)
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        waits(rig, press, statement, Code.QUORUM_MISSING)
        world.advance(HOUR_S)
        rig.until(press, statement.digest, "approved")


def test_more_people_approve_what_the_presss_own_inspection_finds_worse(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    approving = Approving(extra_by_finding=(("high", 1),))
    rig = make_rig(replace(POLICY, approvals=1, approving=approving))
    with rig.press() as press:
        rig.upstream(press)
        plain = rig.stage(press, wheel(tmp_path), "demo", "1.0")
        rig.sign(plain, "ben")
        rig.until(press, plain.digest, "verified")
        worse = rig.stage(press, wheel(tmp_path, "1.1", high=True), "demo", "1.1")
        rig.sign(worse, "ben")
        decision = rig.stays(press, worse.digest, "seen")
        assert decision.code == Code.QUORUM_MISSING.value
        assert len(rig.registry.uploads) == 1
        rig.sign(worse, "cleo")
        rig.until(press, worse.digest, "verified")
    for statement in (plain, worse):
        check_proofs(rig, statement)


def test_one_of_security_and_the_reserve_that_is_called(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    approving = Approving(groups=(("security", 1),), reserve="reserve", reserve_after_s=900)
    rig = make_rig(
        replace(POLICY, approvals=1, approving=approving),
        names=("ana", "ben", "cleo", "dan"),
        groups={"cleo": ("security",), "dan": ("reserve", "security")},
    )
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press, signers=("ana", "cleo"))
        statement = rig.stage(press, wheel(tmp_path), "demo", "1.0", life_s=LIFE_S)
        rig.sign(statement, "ben")
        waits(rig, press, statement, Code.QUORUM_MISSING)
        rig.sign(statement, "dan")
        waits(rig, press, statement, Code.QUORUM_MISSING)
        world.advance(901)
        rig.until(press, statement.digest, "verified")
    check_proofs(rig, statement)


def test_a_policy_that_locks_everybody_out_does_not_come_into_force(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, approvals=1))
    with rig.press() as press:
        nobody = replace(POLICY, approving=Approving(groups=(("security", 1),)))
        statement = rig.statement(PolicyBody(nobody), rig.journal(view.heads).policy)
        rig.request(statement)
        rig.sign(statement, "ana", "ben", "cleo")
        decision = rig.until(press, statement.digest, "rejected")
        assert decision.code == Code.POLICY_LOCKS_OUT.value


def test_a_rule_is_loosened_only_by_whom_it_asks_for(make_rig: Callable[..., Rig]) -> None:
    approving = Approving(groups=(("security", 1),), change_approvals=3)
    rig = make_rig(
        replace(POLICY, approving=approving),
        names=("ana", "ben", "cleo", "dan"),
        groups={"cleo": ("security",)},
    )
    with rig.press() as press:
        plain = replace(POLICY, approving=Approving())
        statement = rig.statement(PolicyBody(plain), rig.journal(view.heads).policy)
        rig.request(statement)
        rig.sign(statement, "ana", "ben", "dan")
        rig.stays(press, statement.digest, "seen")
        rig.sign(statement, "cleo")
        rig.until(press, statement.digest, "admitted")
