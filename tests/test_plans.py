"""Plans: many releases under one signature of each approver, and nothing that signing each of them would not do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core_values as values
from core_values import law
from ledger_reading import entered
from press_rig import TOKEN, Rig, rigs
from presspass.core.approval import approval_id
from presspass.core.digests import canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import RELEASES_PER_PLAN_MAX, STATEMENT_BYTES_MAX
from presspass.core.plan import PlanBody
from presspass.core.policy import Policy
from presspass.core.quorum import Circumstances
from presspass.core.statement import Intent, ReleaseBody, Statement
from presspass.drill.packages import make_wheel
from presspass.drill.world.registry import Registry
from presspass.press.press import Press
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view
from presspass.verify.proof import Entry, Proof, SignedStatement, check_proof, verdict_json
from proof_world import FILE, NOW, Paper

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)
PEOPLE = ("ana", "ben", "cleo", "dora")
some_people = st.frozensets(st.sampled_from(PEOPLE))


def plan_of(*statements: Statement, order: str = "any") -> PlanBody:
    digests = [one.digest for one in statements]
    return PlanBody(tuple(sorted(digests) if order == "any" else digests), order)


# --- laws ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper() -> Paper:
    found = Paper(PEOPLE)
    found.add_upstream()
    return found


around = st.builds(
    Circumstances, st.booleans(), st.frozensets(st.sampled_from([f"p-{one}" for one in PEOPLE]))
)
policies = st.builds(
    Policy,
    profile=st.sampled_from(["team", "solo"]),
    approvals=st.integers(1, 3),
    software_keys=st.booleans(),
)


@settings(law, max_examples=60)
@given(
    st.lists(st.sampled_from(["", *(f"p-{one}" for one in PEOPLE), "p-gone"]), min_size=1, max_size=3),
    some_people, some_people, some_people, around, policies, st.data(),
)  # fmt: skip
def test_a_signature_under_a_plan_counts_for_each_release_as_one_under_the_release_itself(
    paper: Paper,
    requesters: list[str],
    planners: frozenset[str],
    singles: frozenset[str],
    without: frozenset[str],
    circumstances: Circumstances,
    policy: Policy,
    data: st.DataObject,
) -> None:
    releases = [paper.release(requester=one) for one in requesters]
    plan = paper.statement(plan_of(*releases))
    under = paper.approve(plan, *sorted(planners))
    chain = replace(
        paper.chain, rosters=dict(paper.chain.rosters), policies=dict(paper.chain.policies)
    )
    if data.draw(st.booleans()):  # people have left since
        chain.rosters["ab" * 32] = paper.roster(sorted(without))
        chain.sites = {**chain.sites, "ab" * 32: chain.site}
        chain.heads = replace(chain.heads, roster="ab" * 32)
    chain.policies["cd" * 32] = policy
    chain.heads = replace(chain.heads, policy="cd" * 32)
    for release in releases:
        own = paper.approve(release, *sorted(singles))
        planned = chain.evaluate(release, (*own, *under), circumstances, [plan])
        single = chain.evaluate(
            release, paper.approve(release, *sorted(planners | singles)), circumstances
        )
        assert planned.tally == single.tally
        assert (planned.reached, planned.problems) == (single.reached, single.problems)


@law
@given(st.data())
def test_a_plan_counts_for_no_release_that_it_does_not_name(
    paper: Paper, data: st.DataObject
) -> None:
    named, other = paper.release(), paper.release()
    kind = data.draw(st.sampled_from(["another release", "another version", "no plan", "a veto"]))
    plan = paper.statement(plan_of(named))
    target = {
        "another release": other,
        "another version": replace(named, body=replace(named.body_as(ReleaseBody), version="1.1")),
        "no plan": named,
        "a veto": named,
    }[kind]
    if kind == "no plan":
        plan = data.draw(st.sampled_from([other, paper.genesis]))
    if kind == "a veto":
        plan = plan.with_intent(Intent.VETO)
    approvals = paper.approve(plan, "ben", "cleo")
    with pytest.raises(Refusal) as refused:
        paper.chain.evaluate(target, approvals, plans=[plan])
    assert refused.value.code in (Code.APPROVAL_WRONG_STATEMENT, Code.STATEMENT_FOREIGN)
    alone = paper.chain.evaluate(target, approvals)  # the plan kept back
    assert alone.signed == () and not alone.reached


@law
@given(values.plan_bodies(), st.data())
def test_a_plan_is_written_in_one_way_and_names_each_release_once(
    body: PlanBody, data: st.DataObject
) -> None:
    assert PlanBody.from_json(body.to_json()) == body
    listed = list(body.releases)
    wrong = data.draw(
        st.sampled_from(
            [
                {"releases": [], "order": body.order},
                {"releases": [*listed, listed[0]], "order": "held"},
                {"releases": [one.upper() + "g" for one in listed], "order": body.order},
                {"releases": [*listed, 7], "order": body.order},
                {"releases": listed, "order": "some"},
                {"releases": listed, "order": body.order, "and": 1},
                {
                    "releases": [f"{n:064x}" for n in range(RELEASES_PER_PLAN_MAX + 1)],
                    "order": "any",
                },
                {"releases": [f"{n:064x}" for n in (2, 1)], "order": "any"},
            ]
        )
    )
    with pytest.raises(Refusal) as refused:
        PlanBody.from_json(wrong)
    assert refused.value.code is Code.STATEMENT_MALFORMED


def test_the_largest_plan_fits_into_a_statement(paper: Paper) -> None:
    body = PlanBody(tuple(f"{number:064x}" for number in range(RELEASES_PER_PLAN_MAX)), "held")
    statement = paper.statement(body)
    assert len(statement.to_bytes()) < STATEMENT_BYTES_MAX // 16
    assert Statement.from_bytes(statement.to_bytes()) == statement


# --- proofs -------------------------------------------------------------------------------------------------------


def planned_proof(paper: Paper, **changes: int) -> Proof:
    release = paper.release()
    others = [paper.release(requester="p-cleo") for _ in range(3)]
    plan = paper.statement(plan_of(release, *others), **changes)
    approvals = (*paper.approve(release, "ana"), *paper.approve(plan, "ben", "cleo"))
    signed = SignedStatement(release, approvals, (plan,))
    return signed_proof(paper, signed)


def signed_proof(paper: Paper, signed: SignedStatement) -> Proof:
    proof = paper.proof(signed.statement, signed.approvals)
    entry = Entry.from_bytes(proof.record.entry)
    return replace(proof, release=signed, attestations=paper.attest(signed, entry))


def check(paper: Paper, proof: Proof) -> str:
    valid = check_proof(
        Proof.from_bytes(proof.to_bytes()),
        filename=FILE.name,
        sha256=FILE.sha256,
        size=FILE.size,
        trust_root=paper.genesis.digest,
    )
    return verdict_json(valid)


def test_the_proof_of_one_release_of_a_plan_verifies_alone_and_says_of_how_many_it_was_one(
    paper: Paper,
) -> None:
    proof = planned_proof(paper)
    said = json.loads(check(paper, proof))
    assert said["plans"] == [{"statement": proof.release.plans[0].digest, "releases": 4}]
    assert said["approved_by"] == ["p-ben", "p-cleo"]
    assert said["requester_signed"] is True


def test_a_proof_with_another_plan_than_that_of_its_signatures_is_refused(paper: Paper) -> None:
    proof = planned_proof(paper)
    release, (plan,) = proof.release, proof.release.plans
    body = plan.body_as(PlanBody)
    without = PlanBody(tuple(one for one in body.releases if one != release.statement.digest))
    own = tuple(one for one in release.approvals if one.statement == release.statement.digest)
    stranger = paper.statement(without)
    wrong = {
        "left out": replace(release, plans=()),
        "one more": replace(release, plans=tuple(sorted((plan, paper.statement(body)), key=lambda p: p.digest))),
        "for nothing": SignedStatement(release.statement, paper.approve(release.statement, "ben", "cleo"), (plan,)),
        "another": SignedStatement(release.statement, (*own, *paper.approve(stranger, "ben", "cleo")), (stranger,)),
        "expired": planned_proof(paper, issued_at=NOW - 100, expires_at=NOW + 5).release,
    }  # fmt: skip
    for what, signed in wrong.items():
        with pytest.raises(Refusal):
            check(paper, signed_proof(paper, signed))
            pytest.fail(what)


def test_a_proof_lists_no_plans_where_there_are_none(paper: Paper) -> None:
    release = paper.release()
    proof = paper.proof(release, paper.approve(release, "ben", "cleo"))
    assert "plans" not in json.loads(check(paper, proof))
    value = json.loads(proof.to_bytes())
    value["release"]["plans"] = []
    with pytest.raises(Refusal):
        Proof.from_bytes(canonical(value))


# --- the press ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as found:
        yield found


@pytest.fixture
def make_rig(tmp_path: Path, registry: Registry) -> Iterator[Callable[..., Rig]]:
    with rigs(tmp_path, registry, POLICY) as make:
        yield make


def staged(rig: Rig, press: Press, folder: Path, count: int, **options: object) -> list[Statement]:
    """Releases of as many packages as `count`; nobody has signed."""
    names = [f"part{number}-{sha256_hex(str(folder).encode())[:6]}" for number in range(count)]
    options = {"requester_signs": False, **options}
    return [
        rig.stage(press, [make_wheel(folder / name, name, "1.0", {f"{name.replace('-', '_')}/__init__.py": ""})],
                  name, "1.0", **options)
        for name in names
    ]  # fmt: skip


def put_plan(rig: Rig, plan: Statement, *, listed: tuple[str, ...] | None = None) -> Statement:
    """The plan among the gateway's rows, said to name what it names, or `listed`."""
    rig.request(plan)
    names = plan.body_as(PlanBody).releases if listed is None else listed
    rows = [{"plan": plan.digest, "position": at, "request": one} for at, one in enumerate(names)]
    rig.rows.run(lambda c: c.execute(g.PLAN_MEMBER.insert(), rows))
    return plan


def states(rig: Rig, statements: list[Statement]) -> list[str]:
    found = [rig.decision(one.digest) for one in statements]
    return [one.state if one else "" for one in found]


def check_proofs(rig: Rig, statement: Statement) -> dict[str, object]:
    """The verdict on a release's one file, offline."""
    (file,) = statement.body_as(ReleaseBody).files
    data = rig.journal(lambda c: view.proof(c, statement.digest, file.name))
    valid = check_proof(
        Proof.from_bytes(data),
        filename=file.name,
        sha256=file.sha256,
        size=file.size,
        trust_root=rig.genesis.digest,
    )
    said: dict[str, object] = json.loads(verdict_json(valid))
    return said


def test_S16_twelve_packages_in_one_plan_take_one_signature_and_wait_where_it_is_the_requesters(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        by_ana = staged(rig, press, tmp_path, 10, requester_signs=True)
        own = [
            rig.stage(press, [make_wheel(tmp_path, f"own{at}", "1.0")], f"own{at}", "1.0", "p-ben")
            for at in range(2)
        ]
        plan = put_plan(rig, rig.statement(plan_of(*by_ana, *own)))
        rig.until(press, plan.digest, "seen")
        assert set(states(rig, by_ana + own)) == {"seen"}
        rig.sign(plan, "ben")
        for one in by_ana:
            rig.until(press, one.digest, "verified")
        rig.stays(press, own[0].digest, "seen")
        assert states(rig, own) == ["seen", "seen"]
        decision = rig.decision(plan.digest)
        assert decision is not None
        assert (decision.state, decision.message) == ("seen", "10 of 12 releases are published.")
        for one in by_ana:
            said = check_proofs(rig, one)
            assert said["plans"] == [{"statement": plan.digest, "releases": 12}]
            assert said["approved_by"] == ["p-ben"]
        rig.sign(plan, "cleo")
        for one in own:
            rig.until(press, one.digest, "verified")
            assert check_proofs(rig, one)["approved_by"] == ["p-cleo"]
        rig.until(press, plan.digest, "verified")
        assert entered(rig.ledger(), "signed", statement=plan.digest, by="p-ben")


@pytest.mark.parametrize("way", ["gateway", "drop box"])
def test_a_veto_stops_one_release_of_a_plan_and_another_all_of_them(
    make_rig: Callable[..., Rig], tmp_path: Path, way: str
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        first = staged(rig, press, tmp_path / "first_a", 3, requester_signs=True)
        plan = put_plan(rig, rig.statement(plan_of(*first)))
        rig.until(press, plan.digest, "seen")
        stop(rig, press, first[1], way)
        rig.sign(plan, "ben")
        for one in (first[0], first[2]):
            rig.until(press, one.digest, "verified")
        assert states(rig, first) == ["verified", "rejected", "verified"]
        rig.until(press, plan.digest, "failed")

        second = staged(rig, press, tmp_path / "second_b", 3, requester_signs=True)
        plan = put_plan(rig, rig.statement(plan_of(*second)))
        rig.until(press, plan.digest, "seen")
        stop(rig, press, plan, way)
        rig.sign(plan, "ben")
        for one in second:  # their own signatures help no more
            rig.sign(one, "ben", "cleo")
        rig.until(press, plan.digest, "rejected")
        assert states(rig, second) == ["rejected"] * 3
        rig.stays(press, second[0].digest, "rejected")


def stop(rig: Rig, press: Press, statement: Statement, way: str) -> None:
    """One person's veto, through the gateway; or one of nobody's through the drop box."""
    if way == "gateway":
        rig.veto(statement, "cleo")
        return
    dropped = press.narrowings.dropbox.folder / f"{statement.digest[:8]}.json"
    dropped.parent.mkdir(exist_ok=True)
    dropped.write_text(json.dumps({"veto": {"statement": statement.digest, "reason": "no"}}))


def test_what_the_gateway_lists_in_a_plan_that_does_not_name_it_is_not_published(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        named, other, twin = staged(rig, press, tmp_path, 3, requester_signs=True)
        plan = rig.statement(plan_of(named))
        put_plan(rig, plan, listed=(named.digest, other.digest, twin.digest))
        rig.sign(plan, "ben", "cleo")
        # Signatures under the plan in the row of a release, and a plan that nobody signed with those of one that was.
        forged = rig.statement(plan_of(named, other, twin))
        put_plan(rig, forged)
        for approval in (rig.approval(plan, "ben"), rig.approval(plan, "cleo")):
            rig.put_approval(forged, approval)
            rig.put_approval(other, replace(approval, statement=other.digest))
            rig.put_approval(forged, replace(approval, statement=forged.digest))
        rig.until(press, named.digest, "verified")
        for one in (other, twin):
            rig.stays(press, one.digest, "seen")


def test_what_ends_one_release_of_a_plan_leaves_the_others_as_they_are(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        good, frozen, old, gone = staged(rig, press, tmp_path, 4, requester_signs=True)
        expired = rig.stage(
            press, [make_wheel(tmp_path, "late", "1.0")], "late", "1.0", life_s=0,
            issued_at=int(time.time()) - 50, expires_at=int(time.time()) - 10,
        )  # fmt: skip
        rig.freeze("cleo", frozen.body_as(ReleaseBody).project)
        rig.veto(old, "cleo")
        missing = sha256_hex(b"a release that nobody has seen")
        body = PlanBody(
            tuple(
                sorted(
                    [good.digest, frozen.digest, old.digest, gone.digest, expired.digest, missing]
                )
            )
        )
        plan = put_plan(rig, rig.statement(body))
        rig.sign(plan, "ben")
        for one in (good, gone):
            rig.until(press, one.digest, "verified")
        rig.until(press, expired.digest, "expired")
        rig.until(press, old.digest, "rejected")
        assert rig.stays(press, frozen.digest, "seen").code == Code.FROZEN.value


def test_signatures_under_a_plan_end_with_the_plan_their_signer_and_their_revocation(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        late, revoked = staged(rig, press, tmp_path, 2, requester_signs=True)
        old = rig.statement(
            plan_of(late), issued_at=int(time.time()) - 50, expires_at=int(time.time()) - 10
        )
        put_plan(rig, old)
        rig.sign(old, "ben", "cleo")
        rig.until(press, old.digest, "expired")
        rig.stays(press, late.digest, "seen")
        plan = put_plan(rig, rig.statement(plan_of(revoked)))
        approval = rig.approval(plan, "ben")
        stop_file = press.narrowings.dropbox.folder / "revoke.json"
        stop_file.parent.mkdir(exist_ok=True)
        target = approval_id(plan.digest, approval.key)
        stop_file.write_text(json.dumps({"revoke": {"what": "approval", "target": target}}))
        press.tick()
        rig.put_approval(plan, approval)
        rig.stays(press, revoked.digest, "seen")
        rig.sign(revoked, "cleo")  # the release's own way stays open
        rig.until(press, revoked.digest, "verified")
        assert "plans" not in check_proofs(rig, revoked)


@pytest.mark.parametrize(("order", "after_it"), [("given", "verified"), ("held", "approved")])
def test_releases_go_out_in_the_order_of_the_plan_and_one_that_fails_holds_the_later_ones_if_so_asked(
    make_rig: Callable[..., Rig], tmp_path: Path, order: str, after_it: str
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        releases = staged(rig, press, tmp_path, 5, requester_signs=True)
        planned = sorted(releases, key=lambda one: one.digest, reverse=True)
        plan = put_plan(rig, rig.statement(plan_of(*planned, order=order)))
        rig.veto(planned[2], "cleo")
        rig.sign(planned[4], "ben")  # enough without the plan: nobody's plan holds it up
        rig.sign(plan, "ben")
        for one in (planned[0], planned[1], planned[4]):
            rig.until(press, one.digest, "verified")
        if after_it == "verified":
            rig.until(press, planned[3].digest, "verified")
        else:
            rig.stays(press, planned[3].digest, "approved")
        events = [(one["kind"], one.get("statement")) for one in rig.ledger()]
        begun = events.index(("intent", planned[1].digest))
        assert events.index(("verified", planned[0].digest)) < begun
