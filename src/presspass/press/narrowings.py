"""Stopping: every veto, freeze and withdrawal that reaches the press, latched at once (law 8).

Two sources, looked at independently, each in a thread of its own where the press runs as a process: the drop box needs
the journal alone, so no gateway, however broken or hostile, can keep a stop that was dropped there from being heard.
Signed or not, a narrowing is latched; a signature only decides whose name stands in the ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.statement import FreezeBody, Intent
from presspass.press import asks, journal, notices
from presspass.press.clock import Clock
from presspass.press.dropbox import DropBox, Dropped, set_freeze
from presspass.press.log import Log
from presspass.store import journal_view as view
from presspass.store.database import Reader, Writer

_LOG = logging.getLogger("presspass.press")
#: Stops of one release, with the reason for which it is rejected, in a code and in a word.
_ENDS_RELEASE = {"veto": (Code.VETOED, "vetoed"), "release": (Code.RELEASE_REVOKED, "revoked")}
T = TypeVar("T")
_SUBJECTS = {
    "veto": "veto: publishing stopped",
    "freeze": "freeze: publishing stopped",
    "limited": "a publisher is limited",
    "person": "somebody has left, or was revoked",
}


@dataclass(slots=True)
class Narrowings:
    """Looks and latches. Safe to use from several threads: a look that is under way is not begun a second time."""

    writer: Writer
    log: Log
    clock: Clock
    dropbox: DropBox
    gateway: Callable[[], Reader | None]
    _dropping: threading.Lock = field(default_factory=threading.Lock)
    _asking: threading.Lock = field(default_factory=threading.Lock)
    _marks: asks.Marks = field(default_factory=asks.Marks)
    _latched: set[str] = field(default_factory=set)

    def look_dropped(self) -> None:
        """Latches what lies in the drop box and was not seen before."""
        if self._dropping.acquire(blocking=False):
            try:
                for dropped in self.dropbox.look():
                    self.latch(dropped, "drop box")
            finally:
                self._dropping.release()

    def look_gateway(self) -> None:
        """Latches vetoes, freezes and withdrawals that the gateway has received since the last look."""
        if self._asking.acquire(blocking=False):
            try:
                self._look_gateway()
            finally:
                self._asking.release()

    def _look_gateway(self) -> None:
        reader, marks = self.gateway(), self._marks
        try:
            found = reader.run(lambda c: asks.read_stops(c, marks)) if reader else None
        except Fault as fault:
            _LOG.warning("the gateway's database cannot be read just now: %s", fault.message)
            return
        if found is None:
            return
        for veto in found.vetoes:
            self.latch(_veto(veto), "gateway")
        for freeze in found.freezes:
            body = freeze.statement.body
            if isinstance(body, FreezeBody) and body.action == "set":
                self.latch(set_freeze(freeze.statement, body, freeze.approval), "gateway")
        for one in found.stops:
            stop = Dropped(one.id, one.what, one.target, one.reason, one.statement, one.approval)
            self.latch(stop, one.source[:16] or "gateway")
        for digest in found.withdrawn:
            id = sha256_hex(b"withdrawn\n" + digest.encode())
            self.latch(Dropped(id, "veto", digest, "withdrawn by whoever asked for it"), "gateway")
        self._marks = found.marks

    def latch(
        self, found: Dropped, source: str, still: Callable[[Connection], bool] = lambda _: True
    ) -> None:
        """Journals one narrowing, tells people, and ends what it ends. The same one again does nothing. `still`: asked
        in its transaction whether it is to be latched at all.
        """
        if found.id in self._latched:
            return
        now_ms, by = self.clock.raw_ms(), self._signer(found)

        def work(connection: Connection) -> bool | None:
            if not still(connection):
                return None
            return self._latch(connection, found, by, source, now_ms)

        new = self.writer.run(work)
        if new is None:
            return
        if new:
            _LOG.warning(
                "latched a %s of %s from the %s",
                found.what,
                found.target[:16] or "everything",
                source,
            )
        self._latched.add(found.id)

    def _latch(
        self, connection: Connection, found: Dropped, by: str, source: str, now_ms: int
    ) -> bool:
        what, target = found.what, found.target
        new = journal.latch(
            connection,
            id=found.id,
            what=what,
            target=target,
            by=by,
            reason=found.reason,
            source=source,
            now_ms=now_ms,
        )
        if new:
            entry = {
                "kind": "narrowing",
                "id": found.id,
                "what": what,
                "target": target,
                "by": by,
                "source": source,
            }
            journal.log_entry(connection, self.log, now_ms, entry)
            text = f"{what} of {target or 'everything'}. {found.reason}"
            if found.denies:
                text = f"Everything that was open is vetoed. {text}"
                self._deny_open(connection, found, by, source, now_ms)
            if what == "person":
                text += notices.left_text(connection)
            subject = _SUBJECTS.get(what, f"{what} revoked")
            notices.tell_everybody(connection, found.id, subject, text, now_ms)
        if what in _ENDS_RELEASE:
            code, word = _ENDS_RELEASE[what]
            said = found.reason or word
            planned = view.planned_states(connection, target) if what == "veto" else ()
            for digest in (target, *(release for release, _ in planned)):
                journal.reject_stopped(connection, self.log, digest, now_ms, code, said)
        return new

    def _deny_open(
        self, connection: Connection, found: Dropped, by: str, source: str, now_ms: int
    ) -> None:
        """One veto of all that is asked for by now; each request ends when it is looked at next. As every veto it stays
        when the freeze is cleared."""
        veto = {
            "id": sha256_hex(f"denied\n{found.id}".encode()),
            "what": "veto",
            "target": view.open_target(found.target),
            "by": by,
            "source": source,
        }
        journal.latch(connection, reason=found.reason, now_ms=now_ms, **veto)
        journal.log_entry(connection, self.log, now_ms, {"kind": "narrowing", **veto})

    def _signer(self, found: Dropped) -> str:
        """Whose signature it carries; "" for nobody's. Whether to stop is not made to depend on it."""
        if found.statement is None or found.approval is None:
            return ""
        with self.writer.read() as connection:
            chain = journal.load_chain(connection)
        try:
            if chain is not None:
                chain.verify_narrowing(found.statement.to_bytes(), found.approval)
                owner = chain.roster.owner(found.approval.key)
                return owner.id if owner else ""
        except Refusal as refusal:
            _LOG.warning("a narrowing is not signed by the roster: %s", refusal.message)
        return ""


def _veto(found: asks.SignedNarrowing) -> Dropped:
    """A veto is known by its twin, and ends the statement that says the opposite."""
    target = found.statement.with_intent(Intent.APPROVE).digest
    return Dropped(found.statement.digest, "veto", target, "", found.statement, found.approval)
