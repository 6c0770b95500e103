"""Roles: what a signed-in person may see and ask for. Reserved groups of the roster, so the quorum alone gives them.

1. A person of the roster in force with at least one key, and nobody else, has a role.
2. Without any of the reserved groups that person is approver and requester.
3. With one or more of them the person has exactly those.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from presspass.core.errors import Code, Refusal
from presspass.core.roster import Roster

GROUP_PREFIX: Final = "role:"


class Role(StrEnum):
    """`requester` sees what is asked for in the own name; `approver` and `auditor` see everything; `admin` also asks
    for changes and makes enrolment links.
    """

    REQUESTER = "requester"
    APPROVER = "approver"
    ADMIN = "admin"
    AUDITOR = "auditor"


SEE_EVERYTHING: Final = frozenset({Role.APPROVER, Role.ADMIN, Role.AUDITOR})
_USUAL: Final = frozenset({Role.APPROVER, Role.REQUESTER})


def roles_of(roster: Roster, person: str) -> frozenset[Role]:
    """The roles of a person in this roster; empty for whoever is not in it."""
    found = roster.person(person)
    if found is None or not found.keys:
        return frozenset()
    named = {group.removeprefix(GROUP_PREFIX) for group in found.groups if _is_role(group)}
    return frozenset(map(Role, named)) if named else _USUAL


def _is_role(group: str) -> bool:
    return group.startswith(GROUP_PREFIX) and group.removeprefix(GROUP_PREFIX) in set(Role)


def require_role(roles: frozenset[Role], *wanted: Role) -> None:
    """Refuses with `session.role-missing` unless one of `wanted` is there."""
    if not roles & set(wanted):
        names = " or ".join(f"{GROUP_PREFIX}{one.value}" for one in wanted)
        raise Refusal(
            Code.ROLE_MISSING,
            "Your roles do not let you do this.",
            f"It takes a group {names} in the roster, which two people give: `presspass people change`.",
        )
