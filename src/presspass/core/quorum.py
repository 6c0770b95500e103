"""Who counts, and whether it is enough: the floor below every policy (law 2).

1. A signer counts when the key is enrolled in the statement's roster *and* in the press's current one, for one person.
2. Two distinct identities stand behind every widening, each of them proved by a signature under this very statement.
3. Excluded people are removed before counting approvals: the person behind a release never approves it.
4. Who asked for a release is the gateway's word until that person signs it too. The signature of the requester proves
   one of the two identities and approves nothing; without it, one approver more is needed. So an unproved name can only
   make the decision stricter (law 1): it excludes somebody, and counts for nobody.
5. A workload whose identity the press has verified itself is the other identity: who asked is then known, and where the
   person behind the run is in the roster, that person is excluded and no approver is added. Where nobody knows that
   person, one approver more is needed.
6. Software keys count only where the policy allows them; so do passkeys that are copied to other devices or a cloud,
   by what they said when they were enrolled and when they signed.
7. A policy can raise the number of approvers, never lower it. Too few eligible people freezes; the number stays.
8. Whoever gets a new key by a roster statement stands to it as the requester to a release: the own signature, made
   with a key that is enrolled already, proves one of the two identities and approves nothing. So a stolen key cannot
   help to bring in the thief's next one beyond what its owner's word is worth, and a team of two can still add a key.
9. `solo` is one person: two different keys stand in for two people, and nobody pretends otherwise.
10. Narrowing takes one person of the current roster. Who is suspended counts for nothing at once, and the number stays.
11. What a policy says of who approves (`core.approving`) asks for more than this: certain people, groups, more where
    more was found. Its holiday rule takes back what stands above the floor, and nothing of the floor.
12. A group is had by whoever is in it in both rosters. Neither is time or severity anybody's word but the press's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from presspass.core.approval import Signed
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.roster import Roster
from presspass.core.statement import Kind

FLOOR = 2


@dataclass(frozen=True, slots=True)
class Tally:
    """The count. `counted`: ids of the people (in `solo`: of the keys) that approve; `excluded`: (key, code) of the
    others.

    `needed`: approvers needed, one fewer when `requester_signed`; `eligible`: how many could approve at all;
    `reachable`: whether everybody together could reach the number; `lacking`: groups of which more members must
    approve, and how many; `by_holiday`: whether it is enough by the holiday rule alone.
    """

    needed: int
    counted: tuple[str, ...]
    eligible: int
    reachable: bool
    requester_signed: bool
    excluded: tuple[tuple[str, Code], ...]
    lacking: tuple[tuple[str, int], ...] = ()
    by_holiday: bool = False

    @property
    def missing(self) -> int:
        """How many more must approve, at least."""
        return max(0, self.needed - len(self.counted), *(number for _, number in self.lacking))

    @property
    def frozen(self) -> bool:
        """Not even everybody together could reach the number."""
        return not self.reachable

    @property
    def reached(self) -> bool:
        return not self.missing and not self.frozen


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the press knows beside statement and signatures. `workload`: a workload that it verified itself asked;
    `suspended`: ids of people who count for nothing at present; `risk`: the highest severity that it has found itself,
    "" before it has looked; `waited_s`: seconds since its own first sight.
    """

    workload: bool = False
    suspended: frozenset[str] = frozenset()
    risk: str = ""
    waited_s: int = 0


ORDINARY = Circumstances()
#: Longer than any statement lives.
_IN_THE_END_S = 2**40


@dataclass(frozen=True, slots=True)
class Electorate:
    """What a count is taken over: both rosters, the rules, and who asked ("" = not resolved to a person).

    `gaining`: ids of the people of the roster before to whom the statement gives a new key (rule 8).
    """

    kind: Kind
    roster_then: Roster
    roster_now: Roster
    policy: Policy
    requester: str
    circumstances: Circumstances = ORDINARY
    gaining: frozenset[str] = frozenset()

    @property
    def solo(self) -> bool:
        return self.policy.profile == "solo"

    @property
    def requester_resolved(self) -> bool:
        """Whether a person of the current roster is named as the requester; that it is this person is not proved by
        it.
        """
        return bool(self.requester) and self.roster_now.person(self.requester) is not None

    def needed(self, *, requester_signed: bool = False) -> int:
        """How many must approve; together with a signed requester, or a workload, never fewer than the floor."""
        unknown_run = (
            self.kind is Kind.RELEASE
            and not self.solo
            and self.circumstances.workload
            and not self.requester_resolved
        )
        return max(self.floor(requester_signed=requester_signed), self.asked + unknown_run)

    @property
    def asked(self) -> int:
        """How many the policy asks for, above the floor or not."""
        approving = self.policy.approving
        if self.kind is not Kind.RELEASE:
            return approving.change_approvals or self.policy.approvals
        return self.policy.approvals + approving.extra(self.circumstances.risk)

    def floor(self, *, requester_signed: bool = False) -> int:
        """How many must approve whatever any policy says: with whoever asked, two distinct identities."""
        if self.solo:
            return FLOOR
        if self.kind is not Kind.RELEASE:
            return FLOOR - 1 if requester_signed and self.gaining else FLOOR
        if self.circumstances.workload:
            return FLOOR - 1 if self.requester_resolved else FLOOR
        return FLOOR - 1 if requester_signed else FLOOR

    @property
    def holiday(self) -> bool:
        """Whether the floor alone is enough by now (of a release)."""
        around = self.circumstances
        return self.kind is Kind.RELEASE and self.policy.approving.holiday(
            around.risk, around.waited_s
        )

    def in_the_end(self) -> Electorate:
        """The same once the request has waited for everybody and everything."""
        return replace(self, circumstances=replace(self.circumstances, waited_s=_IN_THE_END_S))

    def why_not(self, key_id: str) -> Code | None:
        """The reason why a signature of this key is worth nothing here, or None if it approves or proves the
        requester.
        """
        then, now = self.roster_then.owner(key_id), self.roster_now.owner(key_id)
        key = self.roster_now.key(key_id)
        if now is None or key is None:
            return Code.APPROVAL_KEY_REMOVED if then is not None else Code.APPROVAL_KEY_UNKNOWN
        if then is None or then.id != now.id:
            return Code.APPROVAL_KEY_UNKNOWN
        if now.id in self.circumstances.suspended:
            return Code.IDENTITY_REVOKED
        if key.is_software and not self.policy.software_keys:
            return Code.APPROVAL_SOFTWARE_KEY
        if key.backed_up and not self.policy.synced_passkeys:
            return Code.APPROVAL_SYNCED_KEY
        return None

    def objection(self, signed: Signed) -> Code | None:
        """`why_not` of this very signature: a passkey may have been copied since it was enrolled."""
        why = self.why_not(signed.key)
        if why is None and signed.synced and not self.policy.synced_passkeys:
            return Code.APPROVAL_SYNCED_KEY
        return why

    def is_requester(self, key_id: str) -> bool:
        """Whether this key belongs to the person behind the release, or to one who gets a new key: it proves who
        asked, and never approves.
        """
        owner = self.roster_now.owner(key_id)
        if self.solo or owner is None:
            return False
        return owner.id in self.gaining or (
            self.kind is Kind.RELEASE and owner.id == self.requester
        )

    def approves(self, key_id: str) -> bool:
        """Whether a signature of this key counts as an approval."""
        return (
            self.why_not(key_id) is None
            and not self.is_requester(key_id)
            and self.why_no_approver(key_id) is None
        )

    def why_no_approver(self, key_id: str) -> Code | None:
        """Why the person of a key that counts is not asked to approve this, or not yet; None if the person is."""
        approving = self.policy.approving
        if approving.reserve and self.kind is Kind.RELEASE:
            called = approving.reserve_called(self.circumstances.waited_s)
            if called and self.is_in(key_id, approving.reserve):
                return None
            if not called and self._was_or_is_in(key_id, approving.reserve):
                return Code.APPROVAL_RESERVE
        if approving.approvers and not self.is_in(key_id, approving.approvers):
            return Code.APPROVAL_NOT_ASKED
        return None

    def is_in(self, key_id: str, group: str) -> bool:
        """Whether the key's person is in the group, then and now."""
        then, now = self.roster_then.owner(key_id), self.roster_now.owner(key_id)
        return then is not None and now is not None and group in then.groups and group in now.groups

    def _was_or_is_in(self, key_id: str, group: str) -> bool:
        owners = (self.roster_then.owner(key_id), self.roster_now.owner(key_id))
        return any(one is not None and group in one.groups for one in owners)

    def lacking(self, keys: Iterable[str]) -> tuple[tuple[str, int], ...]:
        """Groups of which more members must approve than those behind these keys, and how many."""
        found = []
        for group, number in self.policy.approving.groups:
            members = {self.identity(one) for one in keys if self.is_in(one, group)}
            if len(members) < number:
                found.append((group, number - len(members)))
        return tuple(found)

    def identity(self, key_id: str) -> str:
        """Whom a key stands for: its person; in `solo` the key itself."""
        owner = self.roster_now.owner(key_id)
        return key_id if self.solo or owner is None else owner.id

    def eligible(self) -> int:
        """How many identities could approve at all, sooner or later."""
        return len({self.identity(one) for one in self._could_approve()})

    def _could_approve(self) -> list[str]:
        later = self.in_the_end()
        return [one for one in self.roster_now.key_ids() if later.approves(one)]

    def reachable(self) -> bool:
        """Whether it could be enough if everybody signed, sooner or later."""
        asked = any(
            self.is_requester(one) and self.why_not(one) is None
            for one in self.roster_now.key_ids()
        )
        keys, eligible = self._could_approve(), self.eligible()
        if self.in_the_end().holiday and eligible >= self.floor(requester_signed=asked):
            return True
        return eligible >= self.needed(requester_signed=asked) and not self.lacking(keys)


def count(electorate: Electorate, signed: Iterable[Signed]) -> Tally:
    """Counts distinct identities among verified signatures. Order and repeats of `signed` do not matter."""
    approving: set[str] = set()
    excluded: set[tuple[str, Code]] = set()
    requester_signed = False
    for one in signed:
        why = electorate.objection(one)
        if why is None and electorate.is_requester(one.key):
            requester_signed = True
            continue
        why = why or electorate.why_no_approver(one.key)
        if why is not None:
            excluded.add((one.key, why))
        else:
            approving.add(one.key)
    counted = {electorate.identity(one) for one in approving}
    needed = electorate.needed(requester_signed=requester_signed)
    lacking = electorate.lacking(approving)
    floor = electorate.floor(requester_signed=requester_signed)
    short = len(counted) < needed or bool(lacking)
    by_holiday = short and electorate.holiday and len(counted) >= floor
    return Tally(
        needed=floor if by_holiday else needed,
        counted=tuple(sorted(counted)),
        eligible=electorate.eligible(),
        reachable=electorate.reachable(),
        requester_signed=requester_signed,
        excluded=tuple(sorted(excluded)),
        lacking=() if by_holiday else lacking,
        by_holiday=by_holiday,
    )


def window_s(electorate: Electorate, signed: Iterable[Signed]) -> int:
    """How long people can still veto what is approved: longer where it is approved by the holiday rule."""
    window, approving = electorate.policy.window_s, electorate.policy.approving
    by_holiday = count(electorate, signed).by_holiday
    return max(window, approving.holiday_window_s) if by_holiday else window


def check_not_locked(policy: Policy, roster: Roster) -> None:
    """Refuses with `policy.locks-out` a policy under which these people could change no rule, or let no release out, in
    the case that needs least, whoever signs and however long it takes.
    """
    change = Electorate(Kind.POLICY, roster, roster, policy, "")
    releases = [
        Electorate(
            Kind.RELEASE, roster, roster, policy, who, Circumstances(by_workload, risk="info")
        )
        for by_workload in (False, True)
        for who in ("", *(person.id for person in roster.people))
    ]
    for what, could in (
        ("no rule could be changed", [change]),
        ("nothing could be released", releases),
    ):
        if not any(one.reachable() for one in could):
            groups = "".join(
                f", {n} more of {g} among them" for g, n in change.lacking(roster.key_ids())
            )
            raise Refusal(
                Code.POLICY_LOCKS_OUT,
                f"Under this policy {what}: {could[0].needed()} must approve{groups}, "
                f"and {could[0].eligible()} could.",
                "Put people into the groups that it names first, or ask for fewer.",
            )


def gains_key(before: Roster, after: Roster) -> frozenset[str]:
    """Ids of everybody who has a key in `after` that was not theirs in `before`; newcomers too. A key of another kind
    is another key: relabelled, a software key would begin to count.
    """
    known = {person.id: frozenset(person.keys) for person in before.people}
    return frozenset(
        person.id
        for person in after.people
        if not frozenset(person.keys) <= known.get(person.id, frozenset())
    )


def require(electorate: Electorate, signed: Iterable[Signed]) -> Tally:
    """The tally, if it is enough; else a refusal that says what is missing."""
    tally = count(electorate, signed)
    if tally.frozen:
        raise Refusal(
            Code.QUORUM_TOO_FEW_PEOPLE,
            f"{_wanted(tally)} must approve and only {tally.eligible} could: this stays frozen.",
            "Enrol more people or keys (an approved roster statement); the number is not lowered.",
        )
    if tally.missing:
        only = tally.excluded[0][1] if tally.excluded and not tally.counted else Code.QUORUM_MISSING
        raise Refusal(only, _missing_text(electorate, tally), _who_can_help(electorate, tally))
    return tally


def _wanted(tally: Tally) -> str:
    """How many, and of which groups no longer enough."""
    return f"{tally.needed}" + "".join(
        f", {number} more of {group} among them," for group, number in tally.lacking
    )


def _signatures(number: int) -> str:
    return "1 signature does" if number == 1 else f"{number} signatures do"


def _missing_text(electorate: Electorate, tally: Tally) -> str:
    text = f"{len(tally.counted)} of {tally.needed} needed approvals count"
    if tally.lacking:
        text += "".join(f", {number} more of {group} must" for group, number in tally.lacking)
    if tally.requester_signed:
        who = "the requester" if electorate.kind is Kind.RELEASE else "the owner of a new key"
        text += f", and {who} has signed for having asked"
    if tally.excluded:
        reasons = ", ".join(sorted({code.value for _, code in tally.excluded}))
        text += f"; {_signatures(len(tally.excluded))} not ({reasons})"
    return text + "."


def _who_can_help(electorate: Electorate, tally: Tally) -> str:
    if (
        electorate.kind is Kind.RELEASE
        and not electorate.solo
        and not tally.requester_signed
        and electorate.requester
    ):
        return "Somebody else, enrolled then and now, must sign; the requester's own signature saves one approver."
    if electorate.gaining and not electorate.solo and not tally.requester_signed:
        return (
            "Somebody who gets no key by this must sign; the own signature of who does saves one."
        )
    return "Somebody else, enrolled then and now, must sign."


def may_narrow(roster_now: Roster, signed: Signed) -> bool:
    """One person of the current roster may veto, freeze or deny; the press latches it at once."""
    return roster_now.owner(signed.key) is not None
