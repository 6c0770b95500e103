"""Which people of the roster a user of the identity provider is, and what follows for them when the user goes.

A user may be several people where several claim the same id: each of them leaves, since leaving can only narrow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.engine import Connection

from presspass.gateway import leaving, people
from presspass.gateway.gate import Gate
from presspass.gateway.identity.subjects import subject_id
from presspass.gateway.scim.rows import Held, Known, compared

_SCHEME: Final = "scim:"
_SOURCE: Final = "scim"


@dataclass(slots=True)
class Persons:
    """Safe to use from any thread. `issuer`: of the sign-in provider, whose subjects are external ids; "" for none."""

    gate: Gate
    issuer: str
    _by_id: tuple[str, dict[str, frozenset[str]]] = field(default=("", {}))

    def of(self, connection: Connection, users: Iterable[Known]) -> frozenset[str]:
        """Everybody in the roster whom one of these users means."""
        known = self._known(connection)
        found: set[str] = set()
        for user in users:
            for one in self._ids(user):
                found |= known.get(one, frozenset())
        return frozenset(found)

    def held(self, connection: Connection, users: Iterable[Known]) -> dict[str, Held]:
        """By the user's id: the person, and the stop that stands against it."""
        stops = leaving.standing_stops(self.gate, connection)
        found = {}
        for user in users:
            persons = sorted(self.of(connection, [user]))
            stopped = [one for one in persons if one in stops]
            person = (stopped or persons or [""])[0]
            found[user.id] = Held(person, stops.get(person, ""))
        return found

    def leave(self, connection: Connection, users: Iterable[Known], why: str) -> None:
        """Everybody whom these users mean leaves, in the caller's transaction."""
        for person in sorted(self.of(connection, users)):
            leaving.leave_in(self.gate, connection, person, why, _SOURCE)

    def _ids(self, user: Known) -> list[str]:
        found = [_SCHEME + compared(user.user_name)]
        if user.external_id:
            found.append(_SCHEME + compared(user.external_id))
            found += [subject_id(self.issuer, user.external_id)] if self.issuer else []
        return found

    def _known(self, connection: Connection) -> dict[str, frozenset[str]]:
        rules = self.gate.journal.rules
        head = rules.chain.heads.roster if rules.chain else ""
        if self._by_id[0] != head:
            found: dict[str, frozenset[str]] = {}
            for one, persons in people.claimed_ids(self.gate, connection).items():
                found[_normal(one)] = found.get(_normal(one), frozenset()) | persons
            self._by_id = (head, found)
        return self._by_id[1]


def _normal(forge_id: str) -> str:
    return compared(forge_id) if forge_id.startswith(_SCHEME) else forge_id
