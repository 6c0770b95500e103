"""Who approves, and when how many must: the members of a policy that ask for more than a number of people.

All are optional, and absent means: nobody more. They stand above the floor in `quorum`, which none of them lowers.

1. `approvers`: only members of this group approve. Everybody in the roster may still veto, freeze and revoke; a policy
   has no word for who may narrow.
2. `change_approvals`: how many must approve a change of the rules; never fewer than a release.
3. `groups`: so many members of each group must be among those who approve, a release or a change.
4. `extra_by_finding`: so many more must approve a release with a finding of this severity or a higher one. A severity
   that is not known counts as the highest.
5. `reserve`: members of this group approve a release only when it has waited `reserve_after_s`; then also those who are
   not among the `approvers`.
6. `holiday_after_s`: a release that has waited so long needs the floor alone: no more people than that, and no group.
   It then waits `holiday_window_s` for a veto. Never with a high finding, nor with one that is not known.

Groups are those of the roster (`core.roster.Person.groups`); times are whole seconds since the press first saw the
request, by its own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from presspass.core.digests import JsonObject
from presspass.core.limits import APPROVAL_GROUPS_MAX, NAME_CHARS_MAX
from presspass.core.strict import Members

#: As in `core.findings.Severity`, the lowest first; that module is not needed to count signatures.
SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
#: Findings with which the holiday rule never holds.
HIGH: Final = frozenset({"high", "critical"})
_DAY_S = 86_400
LONGEST_WAIT_S: Final = 30 * _DAY_S
_NUMBER_MAX = 64
HOLIDAY_WINDOW_S: Final = 4 * 3_600
#: Whoever answers at once must have had the time: below it the rule would be the ordinary one.
HOLIDAY_AFTER_S_MIN: Final = 600
HOLIDAY_WINDOW_S_MIN: Final = 600


def is_high(risk: str) -> bool:
    """Whether findings of this severity are high ones; "" (not known) are."""
    return not risk or risk in HIGH


@dataclass(frozen=True, slots=True)
class Approving:
    """`groups`, `extra_by_finding`: pairs in order of their names. `change_approvals`: 0 for as many as a release."""

    approvers: str = ""
    change_approvals: int = 0
    groups: tuple[tuple[str, int], ...] = ()
    extra_by_finding: tuple[tuple[str, int], ...] = ()
    reserve: str = ""
    reserve_after_s: int = 0
    holiday_after_s: int | None = None
    holiday_window_s: int = HOLIDAY_WINDOW_S

    def extra(self, risk: str) -> int:
        """How many more must approve; `risk`: the highest severity found, "" where it is not known."""
        worst = SEVERITIES.index(risk) if risk else len(SEVERITIES)
        return max(
            (number for name, number in self.extra_by_finding if SEVERITIES.index(name) <= worst),
            default=0,
        )

    def reserve_called(self, waited_s: int) -> bool:
        """Whether reserve approvers count by now."""
        return bool(self.reserve) and waited_s >= self.reserve_after_s

    def holiday(self, risk: str, waited_s: int) -> bool:
        """Whether the floor alone is enough by now."""
        after_s = self.holiday_after_s
        return after_s is not None and waited_s >= after_s and not is_high(risk)

    @property
    def asks_risk(self) -> bool:
        """Whether the count depends on what was found."""
        return bool(self.extra_by_finding) or self.holiday_after_s is not None

    @property
    def asks_time(self) -> bool:
        """Whether the count depends on how long the request has waited."""
        return bool(self.reserve) or self.holiday_after_s is not None

    def to_json(self) -> JsonObject:
        """Only what is set: a policy that was signed without a member is written again without it."""
        found: JsonObject = {}
        if self.approvers:
            found["approvers"] = self.approvers
        if self.change_approvals:
            found["change_approvals"] = self.change_approvals
        if self.groups:
            found["groups"] = dict(self.groups)
        if self.extra_by_finding:
            found["extra_by_finding"] = dict(self.extra_by_finding)
        if self.reserve:
            found |= {"reserve": self.reserve, "reserve_after_s": self.reserve_after_s}
        if self.holiday_after_s is not None:
            found["holiday_after_s"] = self.holiday_after_s
            found["holiday_window_s"] = self.holiday_window_s
        return found

    @classmethod
    def from_json(cls, value: object) -> Approving:
        members = Members(value, "policy's part `approving`")

        def name(one: str) -> str:
            return members.name(one) if members.has(one) else ""

        def seconds(one: str, low: int, otherwise: int) -> int:
            return (
                members.integer(one, low=low, high=LONGEST_WAIT_S)
                if members.has(one)
                else otherwise
            )

        after_s = seconds("holiday_after_s", HOLIDAY_AFTER_S_MIN, 0) or None
        found = cls(
            approvers=name("approvers"),
            change_approvals=members.integer("change_approvals", low=1, high=_NUMBER_MAX)
            if members.has("change_approvals")
            else 0,
            groups=members.optional("groups", lambda one: _numbers(one, "groups", ())) or (),
            extra_by_finding=members.optional(
                "extra_by_finding", lambda one: _numbers(one, "extra_by_finding", SEVERITIES)
            )
            or (),
            reserve=name("reserve"),
            reserve_after_s=seconds("reserve_after_s", 0, 0),
            holiday_after_s=after_s,
            holiday_window_s=seconds("holiday_window_s", HOLIDAY_WINDOW_S_MIN, HOLIDAY_WINDOW_S),
        )
        members.done()
        if found != cls() and found.to_json() != _plain(value):
            members.refuse("has a time without the member that it belongs to, or lacks one")
        return found


def _numbers(value: object, what: str, known: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """A map of names to numbers, in order of the names."""
    members = Members(value, what)
    names = sorted(value) if isinstance(value, Mapping) else []
    if not 0 < len(names) <= APPROVAL_GROUPS_MAX:
        members.refuse(f"has not 1 to {APPROVAL_GROUPS_MAX} members")
    found = []
    for name in names:
        Members({"name": name}, what).name("name")
        if len(name) > NAME_CHARS_MAX or (known and name not in known):
            members.refuse(f"has {name!r:.80}, which is none of {', '.join(known)}")
        found.append((name, members.integer(name, low=1, high=_NUMBER_MAX)))
    return tuple(found)


def _plain(value: object) -> JsonObject:
    return dict(value) if isinstance(value, Mapping) else {}
