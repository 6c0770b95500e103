"""Standing approvals at the press: what passes under one, and that whoever has the gateway gets nothing out by it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from ledger_reading import entered
from press_rig import Rig
from presspass.core.approval import approval_id
from presspass.core.digests import sha256_hex
from presspass.core.errors import Refusal
from presspass.core.standing import LIFE_S_MAX, StandingBody
from presspass.core.statement import (
    BundleBody,
    FreezeBody,
    Kind,
    Member,
    ReleaseBody,
    ReleaseFile,
    RosterBody,
    Statement,
    set_bytes,
)
from presspass.drill.packages import INERT_PTH, make_wheel, module_of
from presspass.drill.world.clock import WorldClock
from presspass.press import journal, standing
from presspass.press.clock import Clock
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.proof import Proof, Valid, check_proof
from workload_scene import AUDIENCE, POLICY, Scene, scenes
from workload_world import CHANGED, WORKFLOW

ROUTINE = StandingBody(
    name="routine",
    upstream="main",
    publishers=("demo-ci",),
    projects=("demo",),
    version_kinds=("minor", "patch"),
    worst_finding="low",
    daily=5,
    daily_per_project=3,
    not_after=int(time.time()) + 86_400,
    read_every=100,
    read_within_s=3600,
)


@dataclass
class Routine:
    """A scene in which demo 1.0 was signed and published, and a standing approval is in force."""

    scene: Scene
    standing: str = ""

    def let_in(self, body: StandingBody = ROUTINE, *signers: str) -> str:
        """Puts the standing approval in force; its digest."""
        rig = self.scene.rig
        statement = rig.statement(body, self.standing or rig.genesis.digest)
        rig.request(statement)
        rig.sign(statement, *(signers or ("ben", "cleo")))
        rig.until(self.scene.press, statement.digest, "admitted")
        self.standing = statement.digest
        return statement.digest

    def published(self, version: str) -> Statement:
        statement = self.scene.stage(self.scene.token(), version=version)
        self.scene.rig.sign(statement, "ben")
        self.scene.rig.until(self.scene.press, statement.digest, "verified")
        return statement

    def bound(self, version: str) -> str:
        """The audience of a run that has bound its files."""
        listed = []
        for path in self.scene.files(version):
            data = path.read_bytes()
            listed.append(ReleaseFile(path.name, sha256_hex(data), len(data)))
        return f"{AUDIENCE}:sha256:{sha256_hex(set_bytes(tuple(listed)))}"

    def ask(self, version: str, **claims: Any) -> Statement:
        """What an honest run asks for, of which nobody signs anything."""
        claims.setdefault("audience", self.bound(version))
        return self.scene.stage(self.scene.token(**claims), version=version)

    def goes_out(self, version: str) -> Statement:
        statement = self.ask(version)
        self.scene.rig.until(self.scene.press, statement.digest, "verified")
        return statement

    def waits(self, statement: Statement, why: str) -> None:
        """It stays with the approvers, and nothing of it is at the registry."""
        decision = self.scene.rig.stays(self.scene.press, statement.digest, "seen")
        assert decision.code.startswith("standing.") and why in decision.message, decision
        self.nothing_of(statement)

    def ends(self, statement: Statement, code: str) -> None:
        """It is refused for good, and nothing of it is at the registry."""
        assert self.scene.rig.until(self.scene.press, statement.digest, "rejected").code == code
        self.nothing_of(statement)

    def nothing_of(self, statement: Statement) -> None:
        names = {file.name for file in statement.body_as(ReleaseBody).files}
        rig = self.scene.rig
        assert not names & {upload.filename for upload in rig.registry.uploads}
        assert rig.journal(lambda c: view.standing_use(c, statement.digest)) is None

    def proved(self, statement: Statement) -> Valid:
        rig, [file] = self.scene.rig, statement.body_as(ReleaseBody).files
        proof = rig.journal(lambda c: view.proof(c, statement.digest, file.name))
        return check_proof(
            Proof.from_bytes(proof), filename=file.name, sha256=file.sha256, size=file.size,
            trust_root=rig.genesis.digest,
        )  # fmt: skip


@pytest.fixture
def routine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Routine]:
    with scenes(tmp_path, getattr(request, "param", POLICY)) as scene:
        found = Routine(scene)
        found.published("1.0")
        found.let_in()
        yield found


def test_a_routine_release_goes_out_unsigned_and_its_proof_says_under_what(
    routine: Routine,
) -> None:
    statement = routine.goes_out("1.1")
    valid = routine.proved(statement)
    assert valid.approved_by == () and valid.standing is not None
    assert valid.standing.body == ROUTINE and valid.standing.approved_by == ("p-ben", "p-cleo")
    [entry] = entered(routine.scene.rig.ledger(), "approved", statement=statement.digest)
    assert entry["standing"] == routine.standing
    [verified] = entered(routine.scene.rig.ledger(), "verified", statement=statement.digest)
    assert verified["standing"] == routine.standing
    told = routine.scene.rig.journal(
        lambda c: c.exec_driver_sql("SELECT body FROM notice WHERE subject LIKE 'About%1.1'").all()
    )
    assert len(told) == 3 and all("standing approval routine" in body for (body,) in told)


def test_a_proof_that_names_another_standing_approval_or_none_is_refused(
    routine: Routine,
) -> None:
    statement = routine.goes_out("1.1")
    [file] = statement.body_as(ReleaseBody).files
    data = routine.scene.rig.journal(lambda c: view.proof(c, statement.digest, file.name))
    value = json.loads(data)
    entry = json.loads(value["record"]["entry"])
    for named, code in (
        (None, "quorum.missing"),
        ("5" * 64, "proof.invalid"),
        (routine.scene.publisher, "standing.ended"),
    ):
        changed = {name: one for name, one in entry.items() if name != "standing"}
        changed |= {} if named is None else {"standing": named}
        text = json.dumps(changed, sort_keys=True, separators=(",", ":"))
        forged = {**value, "record": {**value["record"], "entry": text}}
        with pytest.raises(Refusal) as refused:
            check_proof(
                Proof.from_json(forged), filename=file.name, sha256=file.sha256, size=file.size,
                trust_root=routine.scene.rig.genesis.digest,
            )  # fmt: skip
        assert refused.value.code.value == code


def test_S09_a_stolen_gateway_that_forges_routine_releases_gets_nothing_out(
    routine: Routine,
) -> None:
    scene = routine.scene
    unbound = routine.ask("1.1", audience=AUDIENCE)
    routine.waits(unbound, "has not bound these files")
    routine.ends(
        routine.ask("1.2", audience=f"{AUDIENCE}:sha256:{'e' * 64}"), "artifact.digest-mismatch"
    )
    commit = scene.repository.commit({WORKFLOW: CHANGED})
    other = replace(scene.job, workflow_sha=commit, sha=commit)
    changed = scene.stage(
        scene.token(routine.bound("1.3"), other), version="1.3", workflow=CHANGED,
        path=scene.path(commit),
    )  # fmt: skip
    routine.waits(changed, "identity counts")
    claims = {"aud": routine.bound("1.4"), "repository_id": "6"}
    routine.ends(routine.ask("1.4", **claims), "publisher.other-repository")
    token = scene.token(routine.bound("1.5"))
    first = scene.stage(token, version="1.5")
    scene.rig.until(scene.press, first.digest, "verified")
    again = scene.stage(token, version="1.6", token_hash=sha256_hex(token.encode()))
    routine.ends(again, "identity.replayed")
    nobody = scene.stage(scene.token(routine.bound("1.7")), version="1.7", requester="")
    routine.ends(nobody, "identity.invalid")
    lied = routine.ask("1.8")
    body = replace(lied.body_as(ReleaseBody), review="d" * 64)
    lie = scene.rig.statement(body)
    scene.rig.request(lie, body.release)
    routine.ends(lie, "inspection.disagrees")
    assert [one.filename for one in scene.rig.registry.uploads if "1.5" in one.filename]


def test_a_release_that_nobody_asked_for_by_a_workload_does_not_pass(routine: Routine) -> None:
    statement = routine.scene.rig.stage(
        routine.scene.press, routine.scene.files("1.1"), "demo", "1.1", requester_signs=False
    )
    routine.waits(statement, "has not bound these files")


def test_versions_that_are_not_higher_or_of_another_kind_wait(routine: Routine) -> None:
    for version, why in [
        ("0.9", "not higher"),
        ("1.0.post1", "patch and post"),
        ("2.0", "major version"),
        ("1.1rc1", "minor and pre"),
        ("1.1+local", "not higher"),
    ]:
        routine.waits(routine.ask(version), why)
    routine.goes_out("1.0.1")


def test_a_first_release_waits(routine: Routine, tmp_path: Path) -> None:
    scene = routine.scene
    scene.publisher = scene.bind(scene.publisher, projects=("demo", "fresh"))
    routine.let_in(replace(ROUTINE, projects=("demo", "fresh")))
    [wheel] = [make_wheel(tmp_path, "fresh", "1.0")]
    data = wheel.read_bytes()
    listed = (ReleaseFile(wheel.name, sha256_hex(data), len(data)),)
    token = scene.token(f"{AUDIENCE}:sha256:{sha256_hex(set_bytes(listed))}")
    digest = scene.shown(token)
    scene.press.workloads.look()
    statement = scene.rig.stage(
        scene.press, [wheel], "fresh", "1.0", requester_signs=False, asked_by=scene.asked(digest)
    )
    routine.waits(statement, "there is none before it")


def test_a_finding_above_the_limit_waits_and_a_person_can_sign(routine: Routine) -> None:
    routine.scene.contents["1.1"] = {**module_of("demo", "1.1"), "hook.pth": INERT_PTH}
    statement = routine.ask("1.1")
    routine.waits(statement, "severity high")
    routine.scene.rig.sign(statement, "ben")
    routine.scene.rig.until(routine.scene.press, statement.digest, "verified")
    assert routine.proved(statement).standing is None


def test_the_numbers_of_a_day_are_counted_in_the_journal_also_when_it_is_signed_anew(
    routine: Routine,
) -> None:
    routine.let_in(replace(ROUTINE, daily_per_project=2))
    for version in ("1.1", "1.2"):
        routine.goes_out(version)
    third = routine.ask("1.3")
    routine.waits(third, "2 releases of this package")
    routine.let_in(replace(ROUTINE, daily=2))
    routine.waits(third, "2 releases have passed")
    uses = routine.scene.rig.journal(lambda c: view.standing_uses(c, "routine"))
    assert sorted(one.version for one in uses) == ["1.1", "1.2"]


def test_ending_one_takes_one_person_and_works_at_once_also_in_the_veto_window(
    tmp_path: Path,
) -> None:
    with scenes(tmp_path, replace(POLICY, veto_window_s=1)) as scene:
        routine = Routine(scene)
        routine.published("1.0")
        routine.let_in()
        statement = routine.ask("1.1")
        scene.rig.until(scene.press, statement.digest, "approved")
        row = {
            "id": "5" * 64, "what": "standing", "target": "routine", "source": "test", "made_ms": 1,
        }  # fmt: skip
        scene.rig.rows.run(lambda c: c.execute(g.STOP.insert().values(**row)))
        time.sleep(1.1)
        decision = scene.rig.stays(scene.press, statement.digest, "approved")
        assert decision.code == "standing.ended"
        assert not [one for one in scene.rig.registry.uploads if "1.1" in one.filename]
        scene.rig.sign(statement, "cleo")
        scene.rig.until(scene.press, statement.digest, "verified")
        valid = routine.proved(statement)
        assert valid.standing is None and valid.approved_by == ("p-cleo",)


def test_a_signer_who_leaves_the_roster_counts_no_more_and_people_are_asked_again(
    routine: Routine,
) -> None:
    rig = routine.scene.rig
    change = rig.statement(
        RosterBody(rig.roster(without=("cleo",))), rig.journal(view.heads).roster
    )
    rig.request(change)
    rig.sign(change, "ana", "ben")
    rig.until(routine.scene.press, change.digest, "admitted")
    statement = routine.ask("1.1")
    routine.waits(statement, "Too few of those who signed routine")
    rig.sign(statement, "ben")
    rig.until(routine.scene.press, statement.digest, "verified")


def test_the_person_behind_the_run_is_no_approver_under_it(tmp_path: Path) -> None:
    with scenes(tmp_path, replace(POLICY, approvals=2)) as scene:
        routine = Routine(scene)
        first = scene.stage(scene.token(), version="1.0")
        scene.rig.sign(first, "ben", "cleo")
        scene.rig.until(scene.press, first.digest, "verified")
        routine.let_in(ROUTINE, "ana", "ben")
        statement = routine.ask("1.1")
        routine.waits(statement, "1 of 2 needed approvals")
        routine.let_in(ROUTINE, "ben", "cleo")
        scene.rig.until(scene.press, statement.digest, "verified")


def test_a_publisher_that_is_bound_otherwise_needs_it_signed_anew_but_not_for_more_packages(
    routine: Routine,
) -> None:
    scene = routine.scene
    scene.publisher = scene.bind(scene.publisher, projects=("another", "demo"))
    routine.goes_out("1.1")
    scene.publisher = scene.bind(scene.publisher, events=("push", "workflow_dispatch"))
    statement = routine.ask("1.2")
    routine.waits(statement, "was changed since routine was signed")
    routine.let_in()
    scene.rig.until(scene.press, statement.digest, "verified")


def test_one_that_is_over_lets_nothing_through_and_none_may_hold_for_longer_than_90_days(
    routine: Routine,
) -> None:
    rig = routine.scene.rig
    routine.let_in(replace(ROUTINE, not_after=int(time.time()) + 2))
    time.sleep(2)
    routine.waits(routine.ask("1.1"), "is over")
    endless = rig.statement(
        replace(ROUTINE, not_after=int(time.time()) + LIFE_S_MAX + 60), routine.standing
    )
    rig.request(endless)
    rig.sign(endless, "ben", "cleo")
    assert rig.until(routine.scene.press, endless.digest, "rejected").code == "standing.unusable"


def test_it_may_come_into_force_in_a_bundle_with_its_publisher(routine: Routine) -> None:
    scene = routine.scene
    chain = scene.rig.journal(lambda c: view.effect(c, scene.publisher, "publisher"))
    members = (
        Member(replace(ROUTINE, name="another"), scene.rig.genesis.digest),
        Member(replace(chain.body, events=("push", "workflow_dispatch")), scene.publisher),
    )
    bundle = scene.rig.statement(BundleBody(members))
    scene.rig.request(bundle)
    scene.rig.sign(bundle, "ben", "cleo")
    scene.rig.until(scene.press, bundle.digest, "admitted")
    scene.publisher = scene.rig.journal(lambda c: view.head(c, "publisher:demo-ci"))
    statement = routine.goes_out("1.1")
    valid = routine.proved(statement)
    assert valid.standing is not None and valid.standing.body.name == "another"


# --- the law ----------------------------------------------------------------------------------------------------------


class UndoneError(Exception):
    """Ends a transaction so that nothing of it stays."""


@dataclass(frozen=True)
class Case:
    """What a journal may hold beside one honest request for 1.1; the first value of each is that of an honest world."""

    state: str
    set_digest: str
    limited: bool
    workflow: str
    ended: bool
    suspended: str
    revoked: bool
    of_project: int
    of_others: int
    newer: str
    late_s: int

    @property
    def is_routine(self) -> bool:
        sound = self.state == "verified" and self.set_digest == "" and self.workflow == ""
        free = not (self.limited or self.ended or self.suspended == "p-ben" or self.revoked)
        counted = self.of_project < ROUTINE.daily_per_project
        counted &= self.of_project + self.of_others < ROUTINE.daily
        return sound and free and counted and self.newer in ("", "1.0.5") and self.late_s < 86_000


cases = st.builds(
    Case,
    state=st.sampled_from(["verified"] * 6 + ["refused", "seen"]),
    set_digest=st.sampled_from([""] * 6 + ["none", "e" * 64]),
    limited=st.sampled_from([False] * 6 + [True]),
    workflow=st.sampled_from([""] * 6 + ["e" * 64]),
    ended=st.sampled_from([False] * 6 + [True]),
    suspended=st.sampled_from([""] * 4 + ["p-ana", "p-ben"]),
    revoked=st.sampled_from([False] * 6 + [True]),
    of_project=st.sampled_from([0, 0, 1, 2, 3]),
    of_others=st.sampled_from([0, 0, 1, 4, 5]),
    newer=st.sampled_from([""] * 4 + ["1.0.5", "1.1", "2.0"]),
    late_s=st.sampled_from([0] * 6 + [86_500]),
)


def test_no_release_passes_outside_its_bounds_whatever_the_journal_holds(
    routine: Routine,
) -> None:
    rig, press = routine.scene.rig, routine.scene.press
    statement = routine.ask("1.1")
    now_ms = press.clock.now_ms()
    passed: list[bool] = []

    def look(case: Case, connection: Connection) -> None:
        lay_out(case, connection, statement, rig, now_ms)
        chain = press.books.chain(connection)
        try:
            found = standing.find(connection, chain, statement, now_ms + case.late_s * 1000)
            passed.append(found is not None)
        except Refusal:
            passed.append(False)
        raise UndoneError

    @settings(max_examples=150, deadline=None, database=None)
    @given(cases)
    def law(case: Case) -> None:
        with contextlib.suppress(UndoneError):
            press.books.writer.run(lambda c: look(case, c))
        assert passed[-1] is case.is_routine

    law()
    assert set(passed) == {True, False}, "the law was tried on both"


def lay_out(case: Case, connection: Connection, release: Statement, rig: Rig, now_ms: int) -> None:
    """Changes the journal to what the case says, within the caller's transaction."""
    asked = release.body_as(ReleaseBody).asked_by
    assert asked is not None
    changes: dict[str, Any] = {"state": case.state, "code": "identity.invalid"}
    if case.set_digest:
        changes["set_digest"] = "" if case.set_digest == "none" else case.set_digest
    if case.workflow:
        changes["workflow"] = case.workflow
    connection.execute(
        t.WORKLOAD.update().where(t.WORKLOAD.c.token == asked.token).values(**changes)
    )
    [signed] = [one for one in view.chained(connection) if one.kind is Kind.STANDING]
    [ben] = [
        approval_id(signed.digest, one.key)
        for one in view.approvals_under(connection, signed.digest)
        if one.key == rig.keys["ben"].key.id
    ]
    stops = [
        ("limited", "demo-ci", case.limited),
        ("standing", "routine", case.ended),
        ("person", case.suspended, bool(case.suspended)),
        ("approval", ben, case.revoked),
    ]
    for number, (what, target, holds) in enumerate(stops):
        if holds:
            journal.latch(
                connection, id=str(number) * 64, what=what, target=target, by="", reason="", source="law",
                now_ms=now_ms,
            )  # fmt: skip
    projects = ["demo"] * case.of_project + ["another"] * case.of_others
    for number, project in enumerate(projects):
        connection.execute(
            t.STANDING_USE.insert().values(
                statement=f"{number:064}", standing=signed.digest, name="routine", project=project, version="1",
                at_ms=now_ms - number * 1000,
            )
        )  # fmt: skip
    if case.newer:
        file = ReleaseFile(f"demo-{case.newer}-py3-none-any.whl", "a" * 64, 1)
        journal.keep_published(connection, "main", release, "demo", case.newer, file, now_ms)


# --- read afterwards --------------------------------------------------------------------------------------------------


def test_who_could_have_approved_it_reads_it_afterwards_and_nobody_else(routine: Routine) -> None:
    rig, press = routine.scene.rig, routine.scene.press
    routine.let_in(replace(ROUTINE, read_every=1))
    statement = routine.goes_out("1.1")
    [use] = rig.journal(view.to_be_read)
    assert use.statement == statement.digest and use.due_ms == use.at_ms + 3_600_000
    [entry] = entered(rig.ledger(), "approved", statement=statement.digest)
    assert entry["chosen"] is True
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(rig.identity.log_key))
    chance = b"presspass/standing-choice/v1\n" + statement.digest.encode()
    key.verify(bytes.fromhex(entry["chance"]), chance)
    told = rig.journal(
        lambda c: c.exec_driver_sql("SELECT body FROM notice WHERE subject LIKE 'About%1.1'").all()
    )
    assert told and all("chosen to be read afterwards" in body for (body,) in told)
    rig.sign(statement, "ana")  # behind the run
    look(routine)
    assert rig.journal(view.to_be_read)
    rig.sign(statement, "cleo")
    look(routine)
    press.tick()
    assert rig.journal(view.to_be_read) == []
    assert rig.journal(lambda c: view.standing_use(c, statement.digest)).read_by == "p-cleo"
    [read] = entered(rig.ledger(), "read-afterwards", statement=statement.digest)
    assert read["by"] == ["p-cleo"]


def look(routine: Routine) -> None:
    time.sleep(0.6)
    routine.scene.press.tick()


def test_what_nobody_reads_in_time_suspends_the_standing_approval_until_a_quorum_ends_that(
    tmp_path: Path,
) -> None:
    world = WorldClock(wall_s=float(int(time.time())))
    clock = Clock(world.wall, world.monotonic, settle_s=30)
    with scenes(tmp_path, clock=clock) as scene:
        routine = Routine(scene)
        routine.published("1.0")
        routine.let_in(replace(ROUTINE, read_every=1))
        statement = routine.goes_out("1.1")
        world.advance(3590)
        scene.press.tick()
        assert scene.rig.journal(view.narrowings) == []
        world.advance(11)
        scene.press.tick()
        [stop] = scene.rig.journal(view.narrowings)
        assert (stop.what, stop.target, stop.source) == ("standing", "routine", "press")
        assert "1.1" in stop.reason
        assert entered(scene.rig.ledger(), "narrowing", what="standing", target="routine")
        clear = scene.rig.statement(FreezeBody("clear", "", (stop.id,), "read now"), life_s=9000)
        scene.rig.request(clear)
        scene.rig.sign(clear, "ana", "ben")
        scene.rig.until(scene.press, clear.digest, "admitted")
        world.advance(60)
        scene.press.tick()
        assert scene.rig.journal(view.narrowings) == [], "once for each release"
        assert [one.statement for one in scene.rig.journal(view.to_be_read)] == [statement.digest]


def test_whoever_withdraws_what_was_chosen_only_has_the_next_one_chosen(tmp_path: Path) -> None:
    with scenes(tmp_path, replace(POLICY, veto_window_s=1)) as scene:
        routine = Routine(scene)
        routine.published("1.0")
        routine.let_in(replace(ROUTINE, read_every=1))
        stopped = routine.ask("1.1")
        scene.rig.until(scene.press, stopped.digest, "approved")
        scene.rig.veto(stopped, "ana")
        scene.rig.until(scene.press, stopped.digest, "rejected")
        routine.let_in(replace(ROUTINE, read_every=100))
        again = routine.ask("1.1")
        scene.rig.until(scene.press, again.digest, "approved")
        assert scene.rig.journal(lambda c: view.standing_use(c, again.digest)).chosen == 1
