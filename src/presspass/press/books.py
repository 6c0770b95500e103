"""What every part of the press reads and writes: its journal and ledger, and the gateway's database to be asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.roster import Roster
from presspass.press import bounds, journal, notices
from presspass.press.log import Log
from presspass.store import journal_view as view
from presspass.store.database import Reader, Writer
from presspass.verify.chain import Chain

_LOG = logging.getLogger("presspass.press")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Books:
    """`writer`: the journal's; `gateway`: a reader of the gateway's database, None while there is none."""

    writer: Writer
    log: Log
    gateway: Callable[[], Reader | None]

    def read(self, question: Callable[..., T], *arguments: object) -> T:
        """Asks the journal."""
        with self.writer.read() as connection:
            return question(connection, *arguments)

    def decision(self, digest: str) -> view.Decision | None:
        """What the press thinks of this statement, if it has seen it."""
        return self.read(lambda connection: view.decisions(connection, [digest]).get(digest))

    def ask_gateway(self, question: Callable[[Connection], T]) -> T | None:
        """The answer of the gateway's database; None while there is none. Whatever it holds stops nothing here."""
        reader = self.gateway()
        try:
            return reader.run(question) if reader is not None else None
        except Fault as fault:
            _LOG.warning("the gateway's database cannot be read just now: %s", fault.message)
            return None

    @staticmethod
    def chain(connection: Connection) -> Chain:
        """The chains as admitted; refuses with `genesis.missing` before there are any."""
        chain = journal.load_chain(connection)
        if chain is None:
            raise Refusal(Code.GENESIS_MISSING, "Nothing is done before genesis.")
        return chain

    def enter(self, connection: Connection, now_ms: int, **entry: object) -> None:
        """Appends to the ledger."""
        journal.log_entry(connection, self.log, now_ms, entry)

    def enter_refusal(
        self, connection: Connection, now_ms: int, kind: str, statement: str, code: str
    ) -> None:
        """Enters that a request is refused, for good or as it stands (`not-yet`): each reason once, and of all of them
        as many a minute as a gateway may cause that asks for nonsense."""
        entry = {"kind": kind, "statement": statement, "code": code}
        if journal.first_time(connection, entry) and bounds.within(
            connection, self.log, kind, now_ms
        ):
            journal.log_entry(connection, self.log, now_ms, entry)

    @staticmethod
    def tell(
        connection: Connection,
        about: str,
        subject: str,
        body: str,
        now_ms: int,
        also: Roster | None = None,
        urgent: bool = True,
    ) -> None:
        """Journals a notice to everybody in the roster in force, and in `also`."""
        notices.tell_everybody(connection, about, subject, body, now_ms, also, urgent)
