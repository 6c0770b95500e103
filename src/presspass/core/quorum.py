"""Who counts, and whether it is enough: the floor below every policy (law 2).

1. A signer counts when the key is enrolled in the statement's roster *and* in the press's current one, for one person.
2. Excluded people are removed before counting: the person behind the run never approves the own release.
3. Software keys count only where the policy allows them, and never verify a user elsewhere.
4. Two distinct identities per widening. For a release the resolved requester is one of them; an unresolved requester
   adds one approver. For every other widening both sign.
5. A policy can raise the number, never lower it. Too few eligible people freezes; the number stays.
6. `solo` is one person: two different keys stand in for two people, and nobody pretends otherwise.
7. Narrowing takes one person of the current roster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from presspass.core.approval import Signed
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.roster import Key, Roster
from presspass.core.statement import Kind

FLOOR = 2


@dataclass(frozen=True, slots=True)
class Tally:
    """The count. `counted`: ids of people (in `solo`: of keys) that count; `excluded`: (key, code) of those that do not."""

    needed: int
    counted: tuple[str, ...]
    eligible: int
    excluded: tuple[tuple[str, Code], ...]

    @property
    def missing(self) -> int:
        return max(0, self.needed - len(self.counted))

    @property
    def frozen(self) -> bool:
        """Not even everybody together could reach the number."""
        return self.eligible < self.needed

    @property
    def reached(self) -> bool:
        return not self.missing and not self.frozen


@dataclass(frozen=True, slots=True)
class Electorate:
    """What a count is taken over: both rosters, the rules, and who asked ("" = not resolved to a person)."""

    kind: Kind
    roster_then: Roster
    roster_now: Roster
    policy: Policy
    requester: str

    @property
    def solo(self) -> bool:
        return self.policy.profile == "solo"

    @property
    def requester_resolved(self) -> bool:
        return bool(self.requester) and self.roster_now.person(self.requester) is not None

    def needed(self) -> int:
        """How many must sign; never below the floor."""
        if self.solo or self.kind is not Kind.RELEASE:
            floor = FLOOR
        else:
            floor = FLOOR - 1 if self.requester_resolved else FLOOR
        return max(floor, self.policy.approvals)

    def why_not(self, key_id: str) -> Code | None:
        """The reason why this key does not count here, or None if it does."""
        then, now = self.roster_then.owner(key_id), self.roster_now.owner(key_id)
        key = self.roster_now.key(key_id)
        if now is None or key is None:
            return Code.APPROVAL_KEY_REMOVED if then is not None else Code.APPROVAL_KEY_UNKNOWN
        if then is None or then.id != now.id:
            return Code.APPROVAL_KEY_UNKNOWN
        if not self._may_count(key):
            return Code.APPROVAL_SOFTWARE_KEY
        if self.kind is Kind.RELEASE and not self.solo and now.id == self.requester:
            return Code.QUORUM_MISSING
        return None

    def _may_count(self, key: Key) -> bool:
        return self.policy.software_keys or not key.is_software

    def identity(self, key_id: str) -> str:
        """Whom a key stands for: its person; in `solo` the key itself."""
        owner = self.roster_now.owner(key_id)
        return key_id if self.solo or owner is None else owner.id

    def eligible(self) -> int:
        """How many identities could sign at all."""
        return len({self.identity(key.id) for key in self.roster_now.keys() if self.why_not(key.id) is None})


def count(electorate: Electorate, signed: Iterable[Signed]) -> Tally:
    """Counts distinct identities among verified signatures. Order and repeats of `signed` do not matter."""
    counted: set[str] = set()
    excluded: set[tuple[str, Code]] = set()
    for one in signed:
        why = electorate.why_not(one.key)
        if why is None:
            counted.add(electorate.identity(one.key))
        else:
            excluded.add((one.key, why))
    return Tally(electorate.needed(), tuple(sorted(counted)), electorate.eligible(), tuple(sorted(excluded)))


def require(electorate: Electorate, signed: Iterable[Signed]) -> Tally:
    """The tally, if it is enough; else a refusal that says what is missing."""
    tally = count(electorate, signed)
    if tally.frozen:
        raise Refusal(
            Code.QUORUM_TOO_FEW_PEOPLE,
            f"{tally.needed} must sign and only {tally.eligible} could: this stays frozen.",
            "Enrol more people or keys (an approved roster statement); the number is not lowered.",
        )
    if tally.missing:
        only = tally.excluded[0][1] if tally.excluded and not tally.counted else Code.QUORUM_MISSING
        raise Refusal(
            only,
            f"{len(tally.counted)} of {tally.needed} needed signatures count"
            + (f"; {len(tally.excluded)} do not ({', '.join(sorted({c.value for _, c in tally.excluded}))})" if tally.excluded else "")
            + ".",
            "Somebody else, enrolled then and now, must sign.",
        )
    return tally


def may_narrow(roster_now: Roster, signed: Signed) -> bool:
    """One person of the current roster may veto, freeze or deny; the press latches it at once."""
    return roster_now.owner(signed.key) is not None
