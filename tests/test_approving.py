"""Who approves, and when how many must: the policy's own members, above the floor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core_values as values
from core_values import law, signed_by
from presspass.core.approval import Signed
from presspass.core.approving import SEVERITIES, Approving, is_high
from presspass.core.errors import Code, Refusal
from presspass.core.findings import Severity
from presspass.core.policy import Policy
from presspass.core.quorum import (
    Circumstances,
    Electorate,
    check_not_locked,
    count,
    may_narrow,
    require,
    window_s,
)
from presspass.core.roster import Key, Person, Roster
from presspass.core.statement import Kind

NAMES = ("ana", "ben", "cleo", "dan", "eve")
GROUPS = {"ana": ("maint",), "ben": ("maint",), "cleo": ("maint", "security"), "dan": ("reserve",)}
KEYS = {name: Key("passkey", name.encode()) for name in NAMES}


def roster(groups: dict[str, tuple[str, ...]] | None = None) -> Roster:
    found = GROUPS if groups is None else groups
    return Roster(
        tuple(Person(name, "0" * 64, found.get(name, ()), (KEYS[name],)) for name in NAMES)
    )


def release(
    approving: Approving,
    *,
    approvals: int = 1,
    kind: Kind = Kind.RELEASE,
    then: Roster | None = None,
    now: Roster | None = None,
    risk: str = "low",
    waited_s: int = 0,
    workload: bool = False,
) -> Electorate:
    """Asked for by ana, of three maintainers, one of them of security; dan is a reserve, eve has no group."""
    policy = Policy(approvals=approvals, approving=approving)
    around = Circumstances(workload, risk=risk, waited_s=waited_s)
    return Electorate(kind, then or roster(), now or roster(), policy, "ana", around)


def by(*names: str) -> list[Signed]:
    return [signed_by(KEYS[name]) for name in names]


def reached(electorate: Electorate, *names: str) -> bool:
    return count(electorate, by(*names)).reached


def test_the_severities_are_those_of_findings() -> None:
    assert tuple(one.value for one in Severity) == SEVERITIES
    assert [one for one in ("", *SEVERITIES) if is_high(one)] == ["", "high", "critical"]


def test_only_approvers_approve_and_everybody_may_still_veto() -> None:
    maintainers = release(Approving(approvers="maint"))
    assert reached(maintainers, "ana", "ben")
    assert not reached(maintainers, "ana", "eve")
    tally = count(maintainers, by("ana", "eve"))
    assert tally.excluded == ((KEYS["eve"].id, Code.APPROVAL_NOT_ASKED),)
    assert tally.requester_signed
    assert may_narrow(maintainers.roster_now, by("eve")[0])


def test_an_approver_is_one_then_and_now() -> None:
    joined = {**GROUPS, "eve": ("maint",)}
    for then, now in ((roster(), roster(joined)), (roster(joined), roster())):
        assert not reached(release(Approving(approvers="maint"), then=then, now=now), "ana", "eve")


def test_who_asked_proves_that_without_being_an_approver() -> None:
    groups = {**GROUPS, "ana": ()}
    asked = release(Approving(approvers="maint"), then=roster(groups), now=roster(groups))
    assert reached(asked, "ana", "ben")
    assert not reached(asked, "ben")


@pytest.mark.parametrize("kind", [Kind.RELEASE, Kind.POLICY, Kind.ROSTER])
def test_a_group_must_be_among_those_who_approve(kind: Kind) -> None:
    asked = release(Approving(groups=(("security", 1),)), approvals=2, kind=kind)
    assert not reached(asked, "ana", "ben", "dan", "eve")
    assert reached(asked, "ana", "ben", "cleo")
    tally = count(asked, by("ana", "ben", "dan"))
    assert (tally.missing, tally.lacking) == (1, (("security", 1),))
    with pytest.raises(Refusal, match="1 more of security must") as refusal:
        require(asked, by("ana", "ben", "dan"))
    assert refusal.value.code is Code.QUORUM_MISSING


def test_a_group_counts_people_not_keys_and_one_person_for_every_group() -> None:
    two = tuple(sorted((KEYS["cleo"], Key("passkey", b"second")), key=lambda one: one.id))
    people = [one if one.id != "cleo" else replace(one, keys=two) for one in roster().people]
    both = Roster(tuple(people))
    twice = release(Approving(groups=(("security", 2),)), then=both, now=both)
    assert not count(twice, [*by("ana", "ben"), *(signed_by(one) for one in two)]).reached
    once = release(Approving(groups=(("maint", 1), ("security", 1))))
    assert reached(once, "ana", "cleo")


def test_who_asked_is_no_member_of_the_group_that_must_approve() -> None:
    asked = replace(release(Approving(groups=(("security", 1),))), requester="cleo")
    assert not reached(asked, "cleo", "ana", "ben")
    assert count(asked, by("cleo", "ana", "ben")).frozen


def test_without_the_group_it_is_frozen_and_says_so() -> None:
    nobody = roster({**GROUPS, "cleo": ("maint",)})
    asked = release(Approving(groups=(("security", 1),)), now=nobody)
    with pytest.raises(Refusal, match="1 more of security among them") as refusal:
        require(asked, by("ana", "ben"))
    assert refusal.value.code is Code.QUORUM_TOO_FEW_PEOPLE


@pytest.mark.parametrize(
    ("risk", "more"),
    [("info", 0), ("low", 0), ("medium", 1), ("high", 3), ("critical", 3), ("", 3)],
)
def test_more_approve_where_more_was_found_and_what_is_not_known_is_the_worst(
    risk: str, more: int
) -> None:
    approving = Approving(extra_by_finding=(("high", 3), ("medium", 1)))
    assert release(approving, risk=risk).needed(requester_signed=True) == 1 + more
    assert release(approving, risk=risk, kind=Kind.POLICY).needed() == 2


def test_changes_of_the_rules_have_a_number_of_their_own_and_no_smaller_one() -> None:
    asked = release(Approving(change_approvals=3), kind=Kind.POLICY)
    assert not reached(asked, "ana", "ben")
    assert reached(asked, "ana", "ben", "cleo")
    assert reached(release(Approving(change_approvals=3)), "ana", "ben")
    assert not reached(release(Approving(change_approvals=1), kind=Kind.POLICY), "ana")
    with pytest.raises(Refusal, match="fewer people change the rules"):
        Policy.from_json(Policy(approvals=2, approving=Approving(change_approvals=1)).to_json())


def test_a_reserve_approves_a_release_only_once_it_has_waited() -> None:
    approving = Approving(approvers="maint", reserve="reserve", reserve_after_s=900)
    assert not reached(release(approving, waited_s=899), "ana", "dan")
    tally = count(release(approving, waited_s=899), by("ana", "dan"))
    assert tally.excluded == ((KEYS["dan"].id, Code.APPROVAL_RESERVE),)
    assert not tally.frozen
    assert reached(release(approving, waited_s=900), "ana", "dan")
    assert not reached(release(approving, waited_s=900), "ana", "eve")
    assert not reached(release(approving, waited_s=900, kind=Kind.POLICY), "ben", "dan")


def test_whoever_becomes_a_reserve_is_one_at_once_and_counts_as_one_only_then_and_now() -> None:
    joined = {**GROUPS, "ben": ("maint", "reserve")}
    approving = Approving(reserve="reserve", reserve_after_s=900)
    early = release(approving, now=roster(joined), waited_s=0)
    assert not reached(early, "ana", "ben")
    left = {**GROUPS, "dan": ()}
    late = release(
        Approving(approvers="maint", reserve="reserve", reserve_after_s=900),
        now=roster(left),
        waited_s=900,
    )
    assert not reached(late, "ana", "dan")


HOLIDAY = Approving(groups=(("security", 1),), holiday_after_s=3600)


def test_the_holiday_rule_takes_back_what_is_above_the_floor_and_nothing_of_it() -> None:
    before, after = (release(HOLIDAY, approvals=3, waited_s=one) for one in (3599, 3600))
    assert not reached(before, "ana", "ben")
    tally = count(after, by("ana", "ben"))
    assert tally.reached and tally.by_holiday
    assert (tally.needed, tally.lacking) == (1, ())
    assert not reached(after, "ana")  # only the requester is awake
    assert not reached(after, "ben")  # one person, and nobody has proved to have asked
    assert reached(after, "ben", "dan")
    assert not reached(release(HOLIDAY, approvals=3, waited_s=3600, kind=Kind.POLICY), "ana", "ben")


@pytest.mark.parametrize("risk", ["high", "critical", ""])
def test_the_holiday_rule_never_holds_with_a_high_finding_or_an_unknown_one(risk: str) -> None:
    assert not reached(release(HOLIDAY, approvals=3, waited_s=10**6, risk=risk), "ana", "ben")


def test_a_workload_and_one_approver_are_two_identities_in_the_holiday_too() -> None:
    around = release(HOLIDAY, approvals=3, waited_s=3600, workload=True)
    assert reached(around, "ben")
    unknown = replace(around, requester="")
    assert not reached(unknown, "ben")
    assert reached(unknown, "ben", "dan")


def test_what_is_approved_by_the_holiday_rule_alone_waits_longer_for_a_veto() -> None:
    after = release(HOLIDAY, waited_s=3600)
    assert window_s(after, by("ana", "ben")) == 4 * 3600
    assert window_s(after, by("ana", "cleo")) == 120
    slow = replace(after, policy=replace(after.policy, veto_window_s=86_400))
    assert window_s(slow, by("ana", "ben")) == 86_400


def test_suspending_people_does_not_bring_the_holiday_rule_nearer() -> None:
    asked = release(HOLIDAY, approvals=3, waited_s=3599)
    gone = replace(asked.circumstances, suspended=frozenset({"cleo", "dan", "eve"}))
    assert not reached(replace(asked, circumstances=gone), "ana", "ben")


ballot = st.frozensets(st.sampled_from(NAMES))


@st.composite
def asked_for(draw: st.DrawFn) -> Electorate:
    """A request in the small world above, under any policy of which the groups are those of this world."""
    pairs = st.dictionaries(st.sampled_from(["maint", "security"]), st.integers(1, 2), max_size=2)
    approving = replace(
        draw(values.approvings()),
        groups=tuple(sorted(draw(pairs).items())),
        approvers=draw(st.sampled_from(["", "maint"])),
    )
    asked = release(
        approving,
        approvals=draw(st.integers(1, 3)),
        kind=draw(st.sampled_from([Kind.RELEASE, Kind.POLICY])),
        risk=draw(values.risks),
        waited_s=draw(st.integers(0, 90_000)),
        workload=draw(st.booleans()),
    )
    return replace(asked, requester=draw(st.sampled_from(["", *NAMES])))


@settings(law, max_examples=200)
@given(asked_for(), ballot)
def test_whatever_is_asked_beyond_the_number_only_the_holiday_rule_lets_more_through(
    asked: Electorate, names: Iterable[str]
) -> None:
    plain = replace(asked, policy=replace(asked.policy, approving=Approving()))
    tally = count(asked, by(*names))
    if tally.reached and not tally.by_holiday:
        assert reached(plain, *names)
    if tally.by_holiday:
        floor = replace(plain, policy=replace(plain.policy, approvals=1))
        unknown = asked.circumstances.workload and not asked.requester_resolved
        assert reached(floor, *names) or unknown
        assert len(tally.counted) >= asked.floor(requester_signed=tally.requester_signed)


@settings(law, max_examples=200)
@given(asked_for(), ballot, st.sampled_from(NAMES), st.integers(0, 90_000))
def test_more_signatures_less_risk_and_more_time_never_undo_an_approval(
    asked: Electorate, names: frozenset[str], another: str, later_s: int
) -> None:
    if reached(asked, *names):
        assert reached(asked, *names, another)
        around = asked.circumstances
        longer = replace(around, waited_s=around.waited_s + later_s)
        assert reached(replace(asked, circumstances=longer), *names)
        for less in SEVERITIES[: SEVERITIES.index(around.risk) if around.risk else None]:
            assert reached(replace(asked, circumstances=replace(around, risk=less)), *names)


@settings(law, max_examples=100)
@given(asked_for(), ballot)
def test_what_is_reached_was_reachable(asked: Electorate, names: frozenset[str]) -> None:
    tally = count(asked, by(*names))
    assert tally.reached == (not tally.missing)
    if tally.frozen:
        assert not count(asked.in_the_end(), by(*NAMES)).reached


@law
@given(values.approvings())
def test_what_is_written_is_read_the_same_and_what_is_not_set_is_not_written(
    approving: Approving,
) -> None:
    assert Approving.from_json(approving.to_json()) == approving
    assert "approving" not in Policy().to_json()
    policy = Policy(approving=approving)
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"groups": {}},
        {"groups": {"security": 0}},
        {"groups": {"secur ity": 1}},
        {"groups": {1: 1}},
        {"groups": {f"g{number}": 1 for number in range(17)}},
        {"extra_by_finding": {"terrible": 1}},
        {"extra_by_finding": {"high": 65}},
        {"extra_by_finding": {"high": True}},
        {"change_approvals": 0},
        {"approvers": ""},
        {"reserve": "reserve"},
        {"reserve_after_s": 60},
        {"holiday_after_s": 599},
        {"holiday_after_s": 3600},
        {"holiday_window_s": 3600},
        {"holiday_after_s": 3600, "holiday_window_s": 599},
        {"veto": "nobody"},
    ],
    ids=str,
)
def test_a_policy_that_is_not_understood_is_refused(wrong: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        Approving.from_json(wrong)
    assert refusal.value.code is Code.STATEMENT_MALFORMED


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Policy(approvals=9), "no rule could be changed"),
        (Policy(approving=Approving(approvers="nobody")), "no rule could be changed"),
        (Policy(approving=Approving(groups=(("security", 2),))), "1 more of security"),
        (
            Policy(approving=Approving(extra_by_finding=(("info", 5),))),
            "nothing could be released",
        ),
    ],
)
def test_a_policy_that_locks_everybody_out_is_refused(policy: Policy, said: str) -> None:
    with pytest.raises(Refusal, match=said) as refusal:
        check_not_locked(policy, roster())
    assert refusal.value.code is Code.POLICY_LOCKS_OUT


def test_a_policy_that_people_can_live_with_is_not_refused() -> None:
    check_not_locked(Policy(approvals=4), roster())
    check_not_locked(Policy(approving=replace(HOLIDAY, approvers="maint")), roster())
    high = Approving(extra_by_finding=(("high", 60),))  # such a release stays frozen; others go out
    check_not_locked(Policy(approving=high), roster())
