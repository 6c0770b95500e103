"""Bundles: many changes under one signature of each approver, and nothing that the same changes alone would not do."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

import console_world as w
import core_values as values
import docs_examples
from core_values import law
from press_rig import TOKEN, Rig
from presspass.core.approval import Approval
from presspass.core.changes import changes_of
from presspass.core.delegation import DelegationBody
from presspass.core.digests import canonical, sha256_hex
from presspass.core.effects import effects, member_digest, only_takes_away, roster_after
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import MEMBERS_PER_BUNDLE_MAX, STATEMENT_BYTES_MAX
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.quorum import Electorate
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import (
    AskedBy,
    BundleBody,
    ChainedBody,
    Intent,
    Kind,
    Member,
    OriginBody,
    PolicyBody,
    RosterBody,
    Statement,
    UpstreamBody,
    subject,
)
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.registry import Registry
from presspass.gateway.console import Situation, differences, pages, views
from presspass.gateway.console.items import DifferenceView
from presspass.gateway.console.models import RequestFacts
from presspass.press import journal
from presspass.press.clock import Clock
from presspass.press.notices import change_text
from presspass.press.press import Press
from presspass.services import press as service
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.chain import Chain, needed_for
from presspass.verify.proof import Proof, check_proof
from proof_world import ORIGIN, RP_ID, Paper
from workload_world import WorkloadWorld

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)


# --- laws ---------------------------------------------------------------------------------------------------------


def chain_of(genesis: Statement) -> Chain:
    chain = Chain.of([genesis])
    assert chain is not None
    return chain


def alone(genesis: Statement, body: ChainedBody, previous: str, nonce: int) -> Statement:
    """A statement of this body alone."""
    changed: dict[str, Any] = {"body": body, "previous": previous, "nonce": f"{nonce:032x}"}
    return replace(genesis, genesis=genesis.digest, **changed)


def bundle(genesis: Statement, members: tuple[Member, ...]) -> Statement:
    heads = chain_of(genesis).heads
    body = BundleBody(members)
    return replace(genesis, genesis=genesis.digest, body=body, heads=heads, intent=Intent.APPROVE)


def members_for(chain: Chain, bodies: list[ChainedBody]) -> tuple[Member, ...]:
    return tuple(Member(body, chain.head(*subject(body))) for body in bodies)


@law
@given(values.statements(Kind.GENESIS), st.lists(values.changes, min_size=1, max_size=3), st.data())
def test_a_bundle_does_what_its_members_do_one_by_one_in_any_order(
    genesis: Statement, rounds: list[list[ChainedBody]], data: st.DataObject
) -> None:
    together, shuffled, single = chain_of(genesis), chain_of(genesis), chain_of(genesis)
    seen = set()
    for bodies in rounds:
        together.move_head(bundle(genesis, members_for(together, bodies)))
        other = data.draw(st.permutations(bodies))
        shuffled.move_head(bundle(genesis, members_for(shuffled, other)))
        for number, body in enumerate(data.draw(st.permutations(bodies))):
            single.move_head(alone(genesis, body, single.head(*subject(body)), number))
        seen |= {subject(body) for body in bodies}
    for kind, name in seen:
        assert together.in_force(kind, name) == shuffled.in_force(kind, name)
        assert together.in_force(kind, name) == single.in_force(kind, name)
    assert (together.roster, together.policy) == (single.roster, single.policy)


@law
@given(values.statements(Kind.BUNDLE))
def test_every_head_of_a_bundle_is_its_own_and_named_ones_follow_from_the_bundles_digest(
    statement: Statement,
) -> None:
    digest, moves = statement.digest, effects(statement)
    named = [one for one in moves if one.name]
    assert len({one.digest for one in named} | {digest}) == len(named) + 1
    for one in moves:
        assert one.statement == digest
        if one.name:
            text = f"presspass/bundle-member/v1\n{digest}\n{one.kind.value}:{one.name}"
            assert one.digest == hashlib.sha256(text.encode()).hexdigest()
            assert one.digest == member_digest(digest, one.kind, one.name)
        else:
            assert one.digest == digest


@law
@given(values.statements(Kind.BUNDLE), st.data())
def test_another_member_is_another_statement_with_other_heads(
    statement: Statement, data: st.DataObject
) -> None:
    members = statement.body_as(BundleBody).members
    at = data.draw(st.integers(0, len(members) - 1))
    old = members[at]
    body = data.draw(values.chained_bodies[subject(old.body)[0]])
    other = Member(old.body, data.draw(values.digests)), Member(body, old.previous)
    member = data.draw(st.sampled_from(other))
    changed = replace(statement, body=BundleBody((*members[:at], member, *members[at + 1 :])))
    if member != old:
        assert changed.digest != statement.digest
        before = {one.digest for one in effects(statement)}
        assert before.isdisjoint(one.digest for one in effects(changed))


@law
@given(values.rosters(), values.policies, values.bundle_bodies)
def test_a_bundle_needs_as_many_as_the_strictest_of_its_members(
    roster: Roster, policy: Policy, body: BundleBody
) -> None:
    kinds = {subject(member.body)[0] for member in body.members}
    needed = [Electorate(kind, roster, roster, policy, "").needed() for kind in kinds]
    own = Electorate(Kind.BUNDLE, roster, roster, policy, "").needed()
    assert own >= max(*needed, 2)


@law
@given(values.statements(Kind.GENESIS), values.changes, st.data())
def test_a_bundle_of_which_one_head_has_moved_is_stale_as_a_whole(
    genesis: Statement, bodies: list[ChainedBody], data: st.DataObject
) -> None:
    chain = chain_of(genesis)
    statement = bundle(genesis, members_for(chain, bodies))
    chain.check_belongs(statement)
    moved = data.draw(st.sampled_from(bodies))
    chain.move_head(alone(genesis, moved, chain.head(*subject(moved)), 7))
    with pytest.raises(Refusal) as refused:
        chain.check_belongs(statement)
    assert refused.value.code is Code.STATEMENT_OLD_HEAD


def a_publisher(name: str = "demo-ci", **changes: object) -> PublisherBody:
    body = PublisherBody(
        name=name,
        upstream="main",
        projects=("demo",),
        issuer="https://issuer.example",
        provider="github",
        ids=(("repository_id", "1"), ("repository_owner_id", "2")),
        repository="acme/demo",
        repository_url="",
        workflow=".github/workflows/release.yml",
        workflow_sha256="a" * 64,
        refs=("refs/tags/v*",),
        protected_refs_only=True,
        events=("push",),
        environment="release",
        self_hosted=False,
    )
    return replace(body, **changes)  # type: ignore[arg-type]  # the members' own types


_PREVIOUS = "3" * 64


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ((), "is empty"),
        ((Member(a_publisher(), _PREVIOUS),) * 2, "changes the same thing twice"),
        (
            (Member(a_publisher(), _PREVIOUS), Member(a_publisher(projects=()), "4" * 64)),
            "changes the same thing twice",
        ),
        ((Member(PolicyBody(Policy()), _PREVIOUS),) * 2, "changes the same thing twice"),
        ((Member(RosterBody(Roster(()), recovery=True), _PREVIOUS),), "holds a recovery"),
        (
            tuple(
                Member(a_publisher(f"p{n}"), _PREVIOUS) for n in range(MEMBERS_PER_BUNDLE_MAX + 1)
            ),
            f"has no list of at most {MEMBERS_PER_BUNDLE_MAX}",
        ),
    ],
)
def test_a_bundle_that_says_nothing_or_twice_the_same_is_refused(
    members: tuple[Member, ...], says: str
) -> None:
    with pytest.raises(Refusal) as refused:
        BundleBody.from_json(BundleBody(members).to_json())
    assert refused.value.code is Code.STATEMENT_MALFORMED
    assert says in refused.value.message


def test_a_thousand_publishers_fit_into_one_statement() -> None:
    members = tuple(Member(a_publisher(f"project-{n:04}-ci"), _PREVIOUS) for n in range(1000))
    assert len(canonical(BundleBody(members).to_json())) < STATEMENT_BYTES_MAX


PERSON = Person("p-ana", "a" * 64, ("approvers",), (SoftwarePasskey.generate(1).key,))
WITHOUT_KEY = replace(PERSON, keys=())
BOT = DelegationBody("bot", "demo-ci", "p-ana", ("demo",), ("patch",), 3, 1, 2)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (RosterBody(Roster((PERSON,))), RosterBody(Roster(())), True),
        (RosterBody(Roster((PERSON,))), RosterBody(Roster((WITHOUT_KEY,))), True),
        (RosterBody(Roster((WITHOUT_KEY,))), RosterBody(Roster((PERSON,))), False),
        (
            RosterBody(Roster((PERSON,))),
            RosterBody(Roster((replace(PERSON, details="b" * 64),))),
            False,
        ),
        (RosterBody(Roster((PERSON,))), RosterBody(Roster((replace(PERSON, groups=()),))), True),
        (
            RosterBody(Roster((PERSON,))),
            RosterBody(Roster((replace(PERSON, groups=(*PERSON.groups, "role:admin")),))),
            False,
        ),
        (
            RosterBody(Roster((PERSON,))),
            RosterBody(Roster((replace(PERSON, keys=(replace(PERSON.keys[0], kind="other"),)),))),
            False,
        ),
        (
            RosterBody(Roster((PERSON,))),
            OriginBody("https://new.example", "new.example", Roster((WITHOUT_KEY,))),
            False,
        ),
        (a_publisher(), a_publisher(projects=()), True),
        (a_publisher(), a_publisher(projects=(), self_hosted=True), False),
        (a_publisher(), a_publisher(projects=("demo", "more")), False),
        (None, a_publisher(), False),
        (BOT, replace(BOT, projects=()), True),
        (BOT, replace(BOT, projects=(), count=4), False),
        (PolicyBody(Policy()), PolicyBody(Policy(approvals=3)), False),
    ],
)
def test_only_what_gives_nobody_anything_takes_away(
    before: ChainedBody | None, after: ChainedBody, expected: bool
) -> None:
    assert only_takes_away(before, after) is expected


# --- with a move to another origin --------------------------------------------------------------------------------

NEW, NEW_RP = "https://new.example", "new.example"
ELSEWHERE = {"ana": SoftwarePasskey.generate(101), "ben": SoftwarePasskey.generate(102)}


def at_new_origin() -> OriginBody:
    people = (
        Person(f"p-{name}", sha256_hex(name.encode()), (), (passkey.key,))
        for name, passkey in ELSEWHERE.items()
    )
    return OriginBody(NEW, NEW_RP, Roster(tuple(people)))


def test_a_move_to_another_origin_is_no_member_of_a_bundle() -> None:
    paper = Paper()
    value = json.loads(paper.statement(BundleBody((Member(a_publisher(), "a" * 64),))).to_bytes())
    member = value["body"]["members"][0]
    member["kind"], member["body"] = "origin", at_new_origin().to_json()
    with pytest.raises(Refusal) as refused:
        Statement.from_bytes(canonical(value))
    assert refused.value.code is Code.STATEMENT_MALFORMED


@pytest.mark.parametrize("with_roster", [False, True], ids=["no roster", "with a roster"])
def test_a_bundle_after_a_move_is_signed_at_the_new_origin_by_the_keys_there(
    with_roster: bool,
) -> None:
    paper = Paper()
    paper.admit(at_new_origin(), "ana", "ben")
    bodies: list[ChainedBody] = [a_publisher(), PolicyBody(replace(paper.policy, approvals=2))]
    if with_roster:
        same = paper.chain.roster.people
        bodies.append(RosterBody(Roster(tuple(replace(one, groups=("docs",)) for one in same))))
    statement = paper.statement(BundleBody(members_for(paper.chain, bodies)))
    data = statement.to_bytes()

    def signed(origin: str, rp_id: str) -> list[Approval]:
        return [one.approve(data, origin=origin, rp_id=rp_id) for one in ELSEWHERE.values()]

    before = paper.chain.heads
    for approvals in (signed(ORIGIN, RP_ID), paper.approve(statement, "ana", "ben")):
        with pytest.raises(Refusal):
            paper.chain.admit(statement, approvals)
        assert paper.chain.heads == before and not paper.chain.publishers
    paper.chain.admit(statement, signed(NEW, NEW_RP))
    assert [paper.chain.in_force(*subject(body)) for body in bodies] == bodies
    assert paper.chain.site == (NEW, NEW_RP)


def test_a_bundle_from_before_a_move_is_stale_where_it_holds_a_roster_and_worth_nothing_else() -> (
    None
):
    paper = Paper()
    bodies: list[ChainedBody] = [a_publisher(), RosterBody(paper.roster())]
    with_roster = paper.statement(BundleBody(members_for(paper.chain, bodies)))
    without = paper.statement(BundleBody(members_for(paper.chain, bodies[:1])))
    paper.admit(at_new_origin(), "ana", "ben")
    with pytest.raises(Refusal) as refused:
        paper.chain.admit(with_roster, paper.approve(with_roster, "ana", "ben"))
    assert refused.value.code is Code.STATEMENT_OLD_HEAD
    assert not paper.chain.evaluate(without, paper.approve(without, "ana", "ben")).reached
    assert not paper.chain.publishers


# --- the press ----------------------------------------------------------------------------------------------------


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, registry: Registry) -> Iterator[Rig]:
    made = Rig(tmp_path / "home", registry, POLICY).build()
    made.seal()
    yield made
    made.rows.close()


def upstream_body(rig: Rig, name: str = "main") -> UpstreamBody:
    return UpstreamBody(
        name,
        "pypi",
        rig.registry.upload_url,
        rig.registry.simple_url,
        "__token__",
        "custody",
        service.credential_commitment(TOKEN, "00"),
    )


def ask(rig: Rig, *bodies: ChainedBody) -> Statement:
    """Puts a bundle of these before people, over the heads of now."""
    chain = rig.journal(journal.load_chain)
    statement = rig.statement(BundleBody(members_for(chain, list(bodies))))
    rig.request(statement)
    return statement


def give_credential(rig: Rig, press: Press, statement: Statement) -> None:
    text = statement.to_bytes().decode()
    order = {"do": "credential", "statement": text, "secret": TOKEN, "salt": "00"}
    press.desk.inbox.joinpath("credential.json").write_text(json.dumps(order))
    press.tick()
    answer = json.loads(press.desk.inbox.joinpath("credential.done").read_text())
    assert answer["ok"], answer


def everything(rig: Rig) -> list[ChainedBody]:
    return [
        RosterBody(rig.roster(without=("cleo",))),
        PolicyBody(replace(POLICY, quiet_period_s=7)),
        upstream_body(rig),
        a_publisher(),
        DelegationBody("bot", "demo-ci", "p-ana", ("demo",), ("patch",), 3, 1, 2**40),
    ]


def test_one_touch_each_brings_everything_into_force_and_releases_go_out_under_it(
    rig: Rig, tmp_path: Path
) -> None:
    files = [make_wheel(tmp_path, "demo", "1.0"), make_sdist(tmp_path, "demo", "1.0")]
    with rig.press() as press:
        bodies = everything(rig)
        statement = ask(rig, *bodies)
        give_credential(rig, press, statement)
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "admitted")
        chain = rig.journal(journal.load_chain)
        for body in bodies:
            assert chain.in_force(*subject(body)) == body
        assert chain.heads.roster == chain.heads.policy == statement.digest
        upstream = member_digest(statement.digest, Kind.UPSTREAM, "main")
        assert rig.journal(view.upstreams) == {"main": (upstream, bodies[2])}
        assert rig.journal(view.roster) == rig.roster(without=("cleo",))
        assert rig.journal(view.policy).quiet_period_s == 7
        release = rig.stage(press, files, "demo", "1.0")
        rig.sign(release, "ben")
        rig.until(press, release.digest, "verified")
    with rig.press() as press:  # the journal is replayed with its signatures
        press.tick()
    for path in files:
        data = path.read_bytes()
        proof = rig.journal(lambda c, name=path.name: view.proof(c, release.digest, name))
        valid = check_proof(
            Proof.from_bytes(proof),
            filename=path.name,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            trust_root=rig.genesis.digest,
        )
        assert valid.upstream == "main"
        assert valid.entry.roster == statement.digest


def test_one_signature_is_not_enough_and_a_veto_ends_all_of_it(rig: Rig) -> None:
    with rig.press() as press:
        statement = ask(rig, a_publisher(), PolicyBody(replace(POLICY, approvals=2)))
        rig.sign(statement, "ana")
        waiting = rig.stays(press, statement.digest, "seen")
        assert waiting.code == Code.QUORUM_MISSING.value
        rig.veto(statement, "cleo")
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "rejected")
        chain = rig.journal(journal.load_chain)
        assert chain.publishers == {} and chain.policy == POLICY


def test_a_bundle_of_hundreds_that_waits_costs_the_press_little(rig: Rig) -> None:
    with rig.press() as press:
        statement = ask(rig, *fleet(300))
        rig.sign(statement, "ana")
        rig.stays(press, statement.digest, "seen")
        begun = time.process_time()
        for _ in range(10):
            press.tick()
        assert (time.process_time() - begun) / 10 < 0.1, (
            "seconds of CPU a turn; five turns a second"
        )


def test_who_leaves_by_the_bundle_still_counts_for_it_and_who_joins_does_not(rig: Rig) -> None:
    newcomer = SoftwarePasskey.generate(9)
    rig.keys["dora"] = newcomer
    with rig.press() as press:
        statement = ask(rig, RosterBody(rig.roster(without=("cleo",))), a_publisher())
        rig.sign(statement, "dora", "cleo")
        rig.stays(press, statement.digest, "seen")
        rig.sign(statement, "ana")
        rig.until(press, statement.digest, "admitted")
        assert [one.id for one in rig.journal(view.roster).people] == ["p-ana", "p-ben", "p-dora"]


def test_a_bundle_waits_for_the_credential_of_every_upstream_in_it(rig: Rig) -> None:
    with rig.press() as press:
        other = replace(upstream_body(rig, "other"), credential="c" * 64)
        statement = ask(rig, upstream_body(rig), other, a_publisher())
        rig.sign(statement, "ana", "ben")
        give_credential(rig, press, statement)
        waiting = rig.stays(press, statement.digest, "seen")
        assert waiting.code == Code.UPSTREAM_MISSING.value
        assert rig.journal(journal.load_chain).publishers == {}


def test_where_one_thing_changed_meanwhile_nothing_of_the_bundle_comes_into_force(rig: Rig) -> None:
    with rig.press() as press:
        stale = ask(
            rig, a_publisher(), a_publisher("other-ci"), PolicyBody(replace(POLICY, approvals=2))
        )
        first = rig.statement(a_publisher("other-ci", projects=("other",)), rig.genesis.digest)
        rig.request(first)
        rig.sign(first, "ana", "ben")
        rig.until(press, first.digest, "admitted")
        rig.sign(stale, "ana", "ben")
        assert rig.until(press, stale.digest, "stale").code == Code.STATEMENT_OLD_HEAD.value
        chain = rig.journal(journal.load_chain)
        assert set(chain.publishers) == {"other-ci"} and chain.policy == POLICY
        assert rig.journal(lambda c: view.head(c, "publisher:demo-ci")) is None


def test_the_journal_moves_no_head_of_a_bundle_where_one_is_stale(rig: Rig) -> None:
    statement = rig.statement(
        BundleBody(
            (Member(a_publisher(), rig.genesis.digest), Member(a_publisher("other-ci"), "5" * 64))
        )
    )
    with rig.press() as press:
        with pytest.raises(Refusal) as refused:
            press.books.writer.run(lambda c: journal.admit(c, statement, [], 1))
        assert refused.value.code is Code.STATEMENT_OLD_HEAD
    assert rig.journal(lambda c: view.head(c, "publisher:demo-ci")) is None
    assert rig.journal(lambda c: view.statement(c, statement.digest)) is None


@pytest.mark.parametrize("also", [False, True], ids=["only takes away", "also gives"])
def test_a_bundle_skips_the_veto_window_only_where_every_member_takes_away(
    tmp_path: Path, registry: Registry, also: bool
) -> None:
    policy = Policy(veto_window_s=600, software_keys=True)
    rig = Rig(tmp_path / "home", registry, policy).build()
    rig.seal()
    world = WorldClock(wall_s=float(int(time.time())))
    clock = Clock(world.wall, world.monotonic, settle_s=30)
    with rig.press(clock) as press:
        first = ask(rig, a_publisher())
        rig.sign(first, "ana", "ben")
        rig.until(press, first.digest, "admitted")
        more = [PolicyBody(replace(policy, approvals=2))] if also else []
        gone = ask(rig, RosterBody(rig.roster(without=("cleo",))), a_publisher(projects=()), *more)
        rig.sign(gone, "ana", "ben")
        if also:
            rig.stays(press, gone.digest, "approved")
            world.advance(601)
        for _ in range(20):
            press.tick()
        decision = rig.decision(gone.digest)
        assert decision is not None and decision.state == "admitted"
    rig.rows.close()


def test_a_bundle_that_gives_a_new_key_waits_for_it_and_its_owner_does_not_approve_it(
    tmp_path: Path, registry: Registry
) -> None:
    day_s = 86_400
    policy = Policy(approvals=2, veto_window_s=60, software_keys=True, key_wait_s=day_s)
    rig = Rig(tmp_path / "home", registry, policy).build()
    rig.seal()
    world = WorldClock(wall_s=float(int(time.time())))
    second = SoftwarePasskey.generate(90).key
    people = [
        replace(one, keys=tuple(sorted((*one.keys, second), key=lambda key: key.id)))
        if one.id == "p-cleo"
        else one
        for one in rig.roster().people
    ]
    with rig.press(Clock(world.wall, world.monotonic, settle_s=30)) as press:
        members = members_for(
            rig.journal(journal.load_chain), [a_publisher(), RosterBody(Roster(tuple(people)))]
        )
        statement = rig.statement(BundleBody(members), life_s=7 * day_s)
        rig.request(statement)
        rig.sign(statement, "ana", "cleo")
        rig.stays(press, statement.digest, "seen")
        rig.sign(statement, "ben")
        rig.stays(press, statement.digest, "approved")
        world.advance(day_s / 2)
        rig.stays(press, statement.digest, "approved")
        assert rig.journal(lambda c: view.head(c, "publisher:demo-ci")) is None
        world.advance(day_s / 2 + 1)
        rig.stays(press, statement.digest, "admitted", turns=5)
        found = rig.journal(journal.load_chain)
        assert found is not None and found.roster.owner(second.id) is not None
        assert found.in_force(Kind.PUBLISHER, "demo-ci") == a_publisher()
        about = sa.select(t.NOTICE.c.body).where(t.NOTICE.c.about == statement.digest)
        told = "\n".join(rig.journal(lambda c: c.execute(about).scalars().all()))
        assert f"not before {day_s} s" in told and second.id in told
    rig.rows.close()


def test_everybody_before_and_after_is_told_what_changes_member_by_member(rig: Rig) -> None:
    rig.keys["dora"] = SoftwarePasskey.generate(9)
    rig.put_details(rig.details("dora"))
    with rig.press() as press:
        unprotected = a_publisher("odd-ci", protected_refs_only=False, self_hosted=True)
        statement = ask(
            rig,
            a_publisher(),
            RosterBody(rig.roster(without=("cleo",))),
            PolicyBody(replace(POLICY, approvals=2)),
            unprotected,
        )
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "admitted")
        n = t.NOTICE.c
        rows = rig.journal(
            lambda c: c.execute(
                sa.select(n.address, n.subject, n.body).where(n.about == statement.digest)
            ).all()
        )
    about = [row for row in rows if row.subject == "About to change: bundle"]
    assert sorted(row.address for row in about) == [
        f"mailto:{name}@team.invalid" for name in ("ana", "ben", "cleo")
    ]
    after = [row for row in rows if row.subject == "bundle changed"]
    assert sorted(row.address for row in after) == [
        f"mailto:{name}@team.invalid" for name in ("ana", "ben", "cleo", "dora")
    ]
    for row in (*about, *after):
        text = row.body
        assert "+ publisher demo-ci" in text and "repository_id 1, repository_owner_id 2" in text
        assert "- person p-cleo" in text and "+ person p-dora" in text
        assert rig.keys["dora"].key.id in text and rig.keys["cleo"].key.id in text
        assert "approvals: 1 -> 2" in text
        assert text.index("odd-ci") < text.index("demo-ci")
        assert "self-hosted" in text and "not protected" in text


def test_the_notice_of_three_hundred_names_each_and_says_once_what_they_share() -> None:
    odd = a_publisher("zz-odd-ci", self_hosted=True)
    genesis = docs_examples.genesis()
    made = bundle(genesis, members_for(chain_of(genesis), [*fleet(300), odd]))
    text = change_text(chain_of(genesis), made)
    assert len(text.splitlines()) < 300 + 60
    assert text.index("+ publisher zz-odd-ci") < text.index("+ 300 publishers, alike in:")
    assert text.count("workflow: .github/workflows/release.yml") == 2
    for one in fleet(300):
        assert f"      {one.name}: ids repository_id 1" in text and one.repository in text
    chain = chain_of(genesis)
    chain.move_head(made)
    gone = [replace(one, projects=()) for one in fleet(300)]
    again = replace(made, body=BundleBody(members_for(chain, gone)))
    assert "- 300 publishers, alike in:" in change_text(chain, again)
    moved = [
        replace(one, ids=(("repository_id", "9"), ("repository_owner_id", "2"))) for one in fleet(4)
    ]
    again = replace(made, body=BundleBody(members_for(chain, moved)))
    assert change_text(chain, again).count("another workload") == 4


def test_a_journal_with_another_member_in_its_bundle_is_not_believed(rig: Rig) -> None:
    with rig.press() as press:
        statement = ask(rig, a_publisher(), a_publisher("other-ci"))
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "admitted")
    forged = replace(
        statement,
        body=BundleBody((Member(a_publisher(self_hosted=True), rig.genesis.digest),)),
    )
    engine = sa.create_engine(f"sqlite:///{rig.home}/press/journal/journal.db")
    with engine.begin() as connection:
        row = t.STATEMENT.update().where(t.STATEMENT.c.digest == statement.digest)
        connection.execute(row.values(statement=forged.to_bytes(), digest=forged.digest))
        signatures = t.APPROVAL.update().where(t.APPROVAL.c.statement == statement.digest)
        connection.execute(signatures.values(statement=forged.digest))
    engine.dispose()
    with pytest.raises(Fault) as fault, rig.press():
        pass
    assert fault.value.code == "journal.damaged"


class Died(OSError):
    """The end of a process, as the code in it would see the last thing it did."""


@pytest.mark.parametrize("persisted", [False, True], ids=["commit-lost", "commit-kept"])
def test_a_crash_at_any_commit_of_a_bundle_leaves_all_of_it_or_nothing(
    tmp_path: Path, registry: Registry, persisted: bool
) -> None:
    prepared = Rig(tmp_path / "prepared", registry, POLICY)
    prepared.details = lambda name: Details(name.title(), (), (), "0" * 32)  # type: ignore[method-assign]  # no notices
    prepared.build().seal()
    bodies = everything(prepared)
    statement = ask(prepared, *bodies)
    prepared.sign(statement, "ana", "ben")
    text = statement.to_bytes().decode()
    order = {"do": "credential", "statement": text, "secret": TOKEN, "salt": "00"}
    service.ask(prepared.home, order, 10)
    prepared.rows.close()
    for good in range(20):
        rig = replace(prepared, home=tmp_path / f"run{good}-{persisted}")
        rig.genesis = prepared.genesis
        shutil.copytree(prepared.home, rig.home)
        seen = [0]

        def commit(connection: Connection, good: int = good, seen: list[int] = seen) -> None:
            seen[0] += 1
            if seen[0] <= good or (persisted and seen[0] == good + 1):
                connection.exec_driver_sql("COMMIT")
            if seen[0] > good:
                raise Died("the press is dead")

        with service.composed(rig.home, commit=commit) as press:
            try:
                while seen[0] <= good and not admitted(rig, statement):
                    press.tick()
            except Fault as fault:
                assert fault.code == "store.write-failed"
        heads = rig.journal(lambda c: set(c.execute(sa.select(t.HEAD.c.chain)).scalars()))
        assert heads in (
            {"roster", "policy", "revocation"},
            {
                "roster",
                "policy",
                "revocation",
                "upstream:main",
                "publisher:demo-ci",
                "delegation:bot",
            },
        )
        with service.composed(rig.home) as press:
            rig.until(press, statement.digest, "admitted")
        chain = rig.journal(journal.load_chain)
        assert [chain.in_force(*subject(body)) for body in bodies] == bodies
        told = [json.loads(one) for one in rig.journal(ledger)]
        about = [one["kind"] for one in told if one.get("statement") == statement.digest]
        assert about == ["asked", "signed", "signed", "approved", "admitted"]
        if seen[0] <= good:
            assert good >= 3
            return
    raise AssertionError("the bundle never got through without a crash")


def ledger(connection: Connection) -> list[bytes]:
    """Every entry, in order."""
    e = t.LEDGER_ENTRY.c
    return list(connection.execute(sa.select(e.entry).order_by(e.position)).scalars())


def admitted(rig: Rig, statement: Statement) -> bool:
    decision = rig.decision(statement.digest)
    return decision is not None and decision.state == "admitted"


# --- proofs -------------------------------------------------------------------------------------------------------


def test_a_proof_brings_what_a_bundle_in_it_builds_on_and_no_other_publisher(rig: Rig) -> None:
    genesis = rig.genesis
    chain = chain_of(genesis)
    admitted: list[Statement] = []

    def take(*bodies: ChainedBody) -> Statement:
        if len(bodies) == 1:
            made = rig.statement(bodies[0], chain.head(*subject(bodies[0])))
        else:
            made = rig.statement(BundleBody(members_for(chain, list(bodies))))
        chain.move_head(made)
        admitted.append(made)
        return made

    before = take(a_publisher("other-ci"))
    unrelated = take(a_publisher("third-ci"))
    together = take(a_publisher("other-ci", projects=("other",)), upstream_body(rig))
    later = take(a_publisher("other-ci", projects=("more",)))
    mine = take(a_publisher())
    many = take(a_publisher("third-ci", projects=("third",)), a_publisher("fourth-ci"))
    assert needed_for(admitted, {"publisher:demo-ci"}) == [before, together, mine]
    assert needed_for(admitted, {"publisher:fourth-ci"}) == [before, unrelated, together, many]
    for wanted in ({"publisher:demo-ci"}, {"publisher:fourth-ci"}, set[str]()):
        replayed = chain_of(genesis)
        for statement in needed_for(admitted, wanted):
            replayed.check_belongs(replace(statement, heads=replayed.heads))
            replayed.move_head(statement)
        assert replayed.upstreams == chain.upstreams
    assert later not in needed_for(admitted, {"publisher:demo-ci"})


def test_what_a_bundle_did_is_found_by_each_members_digest(rig: Rig) -> None:
    with rig.press() as press:
        statement = ask(rig, a_publisher(), RosterBody(rig.roster(without=("cleo",))))
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "admitted")
    digest = member_digest(statement.digest, Kind.PUBLISHER, "demo-ci")
    found = rig.journal(lambda c: view.effect(c, digest, Kind.PUBLISHER))
    assert found.body == a_publisher() and found.statement == statement.digest
    assert rig.journal(lambda c: view.effect(c, digest, Kind.UPSTREAM)) is None
    assert rig.journal(lambda c: view.effect(c, sha256_hex(b"x"), Kind.PUBLISHER)) is None
    assert roster_after(statement) == rig.journal(lambda c: view.roster_at(c, statement.digest))
    chain = rig.journal(journal.load_chain)
    assert chain.holding(digest) == chain.holding(statement.digest) == statement.digest
    assert chain.once_in_force(Kind.PUBLISHER, digest) == a_publisher()


def test_a_workload_bound_by_a_bundle_is_let_in_and_what_is_bound_is_that_members(
    tmp_path: Path,
) -> None:
    with WorkloadWorld(tmp_path) as world:
        gate, previous = world.world.journal, world.publisher
        with gate.writer.read() as reader:
            head = view.head(reader, f"publisher:{previous.name}")
        changed = replace(previous, events=("push",))
        ids = (("repository_id", "7"), ("repository_owner_id", "7"))
        other = replace(previous, name="other-ci", projects=("other",), ids=ids)
        members = (Member(other, gate.genesis), Member(changed, head))
        made = gate.statement(BundleBody(members))
        gate._admit(made)
        answer = world.mint(world.token())
        assert answer.status == 200, answer.body
        refused = world.mint(world.token(event_name="workflow_dispatch"))
        assert refused.status != 200 and b"publisher.wrong-event" in refused.body
        digest = member_digest(made.digest, Kind.PUBLISHER, previous.name)
        with gate.writer.read() as reader:
            chain = Chain.of(view.chained(reader))
            assert chain.publishers[previous.name] == (digest, changed)
            asked = AskedBy(digest, "0" * 64, previous.workflow_sha256, "")
            assert not view.workflow_changed(reader, asked)
            assert view.workflow_changed(reader, replace(asked, workflow="1" * 64))


# --- the page -----------------------------------------------------------------------------------------------------

SEALED = Situation(sealed=True, names=w.NAMES)


def shown(*bodies: ChainedBody, before: dict[str, ChainedBody] | None = None) -> DifferenceView:
    world = w.World()
    members = tuple(Member(body, w.GENESIS) for body in bodies)
    made = w.statement(BundleBody(members))
    asked = RequestFacts(made.digest, w.ballot(made, w.team("alice", "bob")), before=before or {})
    world.requests[made.digest] = asked
    return differences.view(asked, SEALED)


def fleet(count: int) -> list[PublisherBody]:
    return [
        a_publisher(
            f"project-{n:03}-ci", projects=(f"project-{n:03}",), repository=f"acme/project-{n:03}"
        )
        for n in range(count)
    ]


def test_three_hundred_that_are_bound_alike_are_one_group_with_everyone_by_name() -> None:
    view = shown(*fleet(300))
    assert view.headline == "300 publishers are added"
    [group] = view.items
    assert group.title == "300 publishers, bound alike" and not group.odd
    assert ("workflow", ".github/workflows/release.yml") in group.facts
    assert [name for name, _own in group.each] == [one.name for one in fleet(300)]
    for one, (_name, own) in zip(fleet(300), group.each, strict=True):
        assert one.repository in own and one.projects[0] in own and "repository_id 1" in own
        assert one.workflow_sha256 in own


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"self_hosted": True}, "self-hosted runners"),
        ({"protected_refs_only": False}, "not protected"),
        ({"delegated_only": True}, "a bot"),
        ({"issuer": "https://elsewhere.example"}, "another issuer"),
    ],
)
def test_what_is_unusual_is_on_top_and_by_itself(changes: dict[str, object], says: str) -> None:
    odd = replace(a_publisher("zz-odd-ci"), **changes)  # type: ignore[arg-type]  # the members' own types
    view = shown(*fleet(40), odd)
    assert view.items[0].title == "Publisher zz-odd-ci" and says in view.items[0].odd
    assert not view.items[1].odd and len(view.items[1].each) == 40
    told = changes_of(
        lambda _kind, _name: None, effects(w.statement(BundleBody((Member(odd, w.GENESIS),))))
    )
    assert ("issuer" in changes) or says in " ".join(told[0].odd)


def test_changes_that_are_alike_are_one_and_another_repository_is_never_among_them() -> None:
    old = fleet(20)
    new = [replace(one, environment="pypi") for one in old]
    moved = replace(old[7], ids=(("repository_id", "66"), ("repository_owner_id", "2")))
    gone = replace(old[8], projects=())
    bodies = [*new[:7], moved, gone, *new[9:]]
    before: dict[str, ChainedBody] = {f"publisher:{one.name}": one for one in old}
    view = shown(*bodies, before=before)
    assert view.headline == "19 publishers change and 1 publisher is retired"
    assert "project-007-ci" in view.items[0].title and "another workload" in view.items[0].odd
    alike = next(item for item in view.items if item.title == "18 publishers change: environment")
    assert alike.facts == (("environment", "release → pypi"),) and len(alike.each) == 18
    assert any(
        item.title == "Publisher project-008-ci may ask for nothing any more" for item in view.items
    )


def test_what_people_have_accepted_before_is_not_odd_again() -> None:
    old = a_publisher(self_hosted=True)
    new = replace(old, environment="pypi")
    view = shown(new, before={"publisher:demo-ci": old})
    assert [item.odd for item in view.items] == [""]
    fresh = shown(replace(new, protected_refs_only=False), before={"publisher:demo-ci": old})
    assert "not protected" in fresh.items[0].odd and "self-hosted" not in fresh.items[0].odd


def test_everything_else_of_a_bundle_stands_on_the_page_and_a_lock_is_in_red() -> None:
    view = shown(
        RosterBody(w.team("alice", "bob", "carol")),
        PolicyBody(Policy(approvals=2)),
        w.REGISTRY,
        a_publisher(),
        BOT,
    )
    assert view.headline == "1 publisher is added and 4 other things change"
    titles = [item.title for item in view.items]
    assert any("Carol Tanaka joins the roster" in title for title in titles)
    assert "Policy: Signatures needed for a release" in titles
    assert any(w.REGISTRY.name in title for title in titles)
    assert "Publisher demo-ci" in titles and "Delegation bot" in titles
    locked = shown(RosterBody(w.team("alice")), a_publisher())
    assert "Nothing can be approved any more" in locked.items[0].title
    apart = shown(RosterBody(w.team("alice", "bob", "carol")), PolicyBody(Policy(approvals=3)))
    assert "Nothing can be approved" not in apart.items[0].title


def test_the_page_of_three_hundred_is_one_page_and_shows_every_name() -> None:
    made = w.statement(BundleBody(tuple(Member(body, w.GENESIS) for body in fleet(300))))
    asked = RequestFacts(made.digest, w.ballot(made, w.team("alice", "bob")))
    page = pages.request_page(asked, SEALED)
    html = bytes(views.render("request.html", SEALED, page=page, origin="", url="").body).decode()
    before = html[: html.index("What would change")]
    assert "300 publishers are added" in before
    assert html.count("<details") >= 1 and "All 300 by name" in html
    for one in fleet(300):
        assert one.name in html
