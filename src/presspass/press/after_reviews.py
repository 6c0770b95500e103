"""Releases that passed under a standing approval and were chosen to be read afterwards: who has, and what nobody has.

1. Somebody has read one when a person who could have approved it signs its statement, as for any release: the same
   page, the same bytes, the same rules of who counts (`core.quorum`). The press verifies that signature itself.
2. One that nobody has read in time suspends the standing approval under which it passed: a narrowing like any other,
   once for each release, that only a quorum ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.press import asks
from presspass.press.asks import Ask
from presspass.press.books import Books
from presspass.press.dropbox import Dropped
from presspass.press.narrowings import Narrowings
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.journal_view import StandingUse

_LOG = logging.getLogger("presspass.press")
_SOURCE = "press"
_LOOK_MS = 500  # between two looks at the signatures under what went out


@dataclass(slots=True)
class AfterReviews:
    """Looks for signatures under what waits to be read, and suspends what waited too long."""

    books: Books
    narrowings: Narrowings
    _next_ms: int = 0

    def look(self, now_ms: int) -> None:
        """One look; nothing to do is nearly always the answer."""
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + _LOOK_MS
        waiting = self.books.read(view.to_be_read)
        if not waiting:
            return
        wanted = [one.statement for one in waiting[: asks.ASKS_PER_LOOK]]
        found = self.books.ask_gateway(lambda c: asks.read_asks(c, wanted)) or []
        read = self._read_by(found)
        for one in waiting:
            if one.statement in read:
                self._enter(one, read[one.statement], now_ms)
            elif one.due_ms is not None and now_ms >= one.due_ms:
                self._suspend(one)

    def _read_by(self, found: Sequence[Ask]) -> dict[str, tuple[str, ...]]:
        """By release: ids of those whose signatures under it count (in `solo`: of the keys)."""
        signed = [ask for ask in found if ask.approvals]
        if not signed:
            return {}

        def question(connection: Connection) -> dict[str, tuple[str, ...]]:
            chain = self.books.chain(connection)
            read = {}
            for ask in signed:
                around = view.circumstances(connection, ask.statement.body)
                given = view.unrevoked(connection, ask.approvals)
                by = chain.recount(ask.statement, given, around).tally.counted
                if by:
                    read[ask.digest] = by
            return read

        return self.books.read(question)

    def _enter(self, one: StandingUse, by: tuple[str, ...], now_ms: int) -> None:
        def work(connection: Connection) -> None:
            u = t.STANDING_USE
            change = u.update().where(u.c.statement == one.statement, u.c.read_ms.is_(None))
            if connection.execute(change.values(read_ms=now_ms, read_by=by[0])).rowcount:
                entry = {"kind": "read-afterwards", "statement": one.statement, "by": list(by)}
                self.books.enter(connection, now_ms, **entry)

        self.books.writer.run(work)
        _LOG.info("%s %s was read afterwards", one.project, one.version)

    def _suspend(self, one: StandingUse) -> None:
        id = sha256_hex(f"standing-overdue\n{one.statement}".encode())
        reason = f"nobody has read {one.project} {one.version} in time, which went out under it"
        self.narrowings.latch(Dropped(id, "standing", one.name, reason), _SOURCE)
