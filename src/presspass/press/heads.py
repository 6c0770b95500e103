"""Revocation heads: what is revoked of what was published, signed anew by the press all the time.

1. Another head is made as soon as what is revoked has changed, a second after the ledger has grown (a proof is to be
   looked for in a head of its own tree), and otherwise before the last one is a minute old: its age says how long ago
   somebody who has it could have been told of a revocation.
2. Size and time never go down, but for the size where the log goes on under another name. While the clock cannot be
   trusted, only what is revoked changes; the time stays.
3. Listed is what has a proof: nothing else is taken for published by this gate, and whoever may stop a release without
   a signature cannot make the list longer than what went out.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.ledger import revocations
from presspass.core.ledger.note import Note
from presspass.core.ledger.revocations import HEAD_BYTES_MAX, RevocationHead
from presspass.core.limits import REVOCATION_HEAD_S_MAX, REVOKED_FILES_MAX
from presspass.press.clock import Clock
from presspass.press.log import Log
from presspass.store import journal_view, ledger_view
from presspass.store.database import Writer
from presspass.store.journal_tables import REVOCATION_HEAD

_LOG = logging.getLogger("presspass.press")
#: Twice in the time that is promised, so that a slow moment breaks no promise.
_RENEW_S: Final = REVOCATION_HEAD_S_MAX // 2
_GROWN_S: Final = 1


@dataclass(slots=True)
class Heads:
    """Looks and signs. Safe to use from several threads."""

    writer: Writer
    log: Log
    clock: Clock
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """Makes another head where one is due."""
        if self._looking.acquire(blocking=False):
            try:
                with self.writer.read() as connection:
                    due = self._due(connection) is not None
                if due:
                    self.writer.run(self._make)
            finally:
                self._looking.release()

    def _make(self, connection: Connection) -> None:
        head = self._due(connection)
        if head is None:
            return
        log = self.log.in_force(connection)
        note = revocations.sign(head, log.public_key, partial(self.log.sign_raw, log.key))
        row = {"size": head.size, "time_s": head.time_s, "note": note}
        connection.execute(sa.delete(REVOCATION_HEAD))
        connection.execute(sa.insert(REVOCATION_HEAD).values(**row))

    def _due(self, connection: Connection) -> RevocationHead | None:
        """The head to be made now; None where the last one will do, or none can be made."""
        size, before = ledger_view.size(connection), ledger_view.revocation_age(connection)
        trusted_ms = self.clock.trusted_ms()
        if not size or (before is None and trusted_ms is None):
            return None
        before_size, before_s = before or (0, 0)
        origin = self.log.in_force(connection).origin
        if size < before_size and _last(connection).origin == origin:
            _LOG.error("the ledger is smaller than the last revocation head says: none is made")
            return None
        time_s = max(before_s, (trusted_ms or 0) // 1000)
        age_s = time_s - before_s
        if before is not None and age_s < _RENEW_S and size == before_size:
            return None  # what is revoked changes with an entry
        files = journal_view.revoked_proofs(connection)
        if before is not None and age_s < _GROWN_S and files == _last(connection).files:
            return None
        if len(files) > REVOKED_FILES_MAX:
            _LOG.error("%d files are revoked, more than a head can list: none is made", len(files))
            return None
        return RevocationHead(origin, size, time_s, files)


def _last(connection: Connection) -> RevocationHead:
    """The last one that was made."""
    note = Note.from_bytes(ledger_view.revocation_note(connection), HEAD_BYTES_MAX)
    return RevocationHead.from_text(note.text)
