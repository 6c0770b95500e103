"""Which requests of the gateway the press looks at now: those not decided yet, signed ones first, all in their turn."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.press import asks, journal
from presspass.press.asks import Ask
from presspass.press.books import Books
from presspass.press.clock import Clock
from presspass.store import journal_tables as t

_LOG = logging.getLogger("presspass.press")
_UNSIGNED_PER_LOOK = 100
_LOOK_BACK_MS = 3_600_000  # the gateway's clock is not ours: how far it may be set back without a request being missed


@dataclass(slots=True)
class Pending:
    """Remembers between looks what is open, what cannot be read, and whose turn it is."""

    books: Books
    clock: Clock
    _open: set[str] = field(default_factory=set)
    _unreadable: set[str] = field(default_factory=set)
    _since_ms: int = 0
    _turn: int = 0

    def look(self) -> list[Ask]:
        """The requests to consider now, with the signatures under them."""
        listed = self.books.ask_gateway(lambda c: asks.list_asks(c, self._since_ms))
        if listed is None:
            return []
        candidates = [one for one in (*sorted(self._open), *listed) if one not in self._unreadable]
        final = self.books.read(_final_among, candidates)
        waiting = [one for one in dict.fromkeys(candidates) if one not in final]
        wanted = self._fair(waiting)
        found = self.books.ask_gateway(lambda c: asks.read_asks(c, wanted)) if wanted else []
        if found is None:
            return []
        unreadable = set(wanted) - {ask.digest for ask in found}
        for digest in unreadable:
            _LOG.warning(
                "passed over a request of the gateway that is not what its digest says: %s",
                digest[:16],
            )
        self._unreadable |= unreadable
        self._open = set(waiting) - unreadable
        # What the gateway says of the future is not believed: it would hide every later request.
        newest_ms = min(max(listed.values(), default=0), self.clock.raw_ms())
        self._since_ms = max(self._since_ms, newest_ms - _LOOK_BACK_MS)
        return found

    def _fair(self, waiting: list[str]) -> list[str]:
        """As many as one look takes: first what somebody has signed, then the others in turns. No number of requests
        that nobody signs can keep one that people did sign from being looked at."""
        if len(waiting) <= _UNSIGNED_PER_LOOK:
            return waiting
        signed = self.books.ask_gateway(lambda c: asks.signed_among(c, waiting)) or set()
        first = [one for one in waiting if one in signed][: asks.ASKS_PER_LOOK - _UNSIGNED_PER_LOOK]
        others = [one for one in waiting if one not in signed]
        start = self._turn % max(len(others), 1)
        self._turn = start + _UNSIGNED_PER_LOOK
        return first + (others[start:] + others[:start])[:_UNSIGNED_PER_LOOK]


def _final_among(connection: Connection, digests: list[str]) -> set[str]:
    d = t.DECISION.c
    final: set[str] = set()
    for start in range(0, len(digests), asks.ASKS_PER_LOOK):
        some = digests[start : start + asks.ASKS_PER_LOOK]
        query = sa.select(d.statement).where(d.statement.in_(some), d.state.in_(journal.FINAL))
        final.update(connection.execute(query).scalars())
    return final
