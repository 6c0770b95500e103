"""What the gateway has refused and whom it has let in, entered into the ledger: its word, of which nothing follows.

1. A refusal of somebody known at one of its doors is an entry, and so is every exchange of an identity token for a
   pass. For strangers, and for what is beyond a bound (there or here), a number stands.
2. No words of the gateway's are entered: a door and a code that are known, digits, numbers (no personal data).
3. It takes a look of a moment and nobody's network: `services.press` gives it a thread of its own, so that an entry
   follows within a second, whatever issuers and registries do meanwhile.
4. How far was read is journalled with the entries: a press that starts anew repeats and forgets none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject, is_sha256
from presspass.core.errors import Code, Fault
from presspass.press import bounds, journal
from presspass.press.clock import Clock
from presspass.press.log import Log
from presspass.store import gateway_tables as g
from presspass.store import journal_view as view
from presspass.store.database import Reader, Writer

_LOG = logging.getLogger("presspass.press")
_PER_LOOK: Final = 100
_EVENTS, _TOKENS = "gateway-events-read", "gateway-tokens-read"
_DOORS: Final = frozenset({"exchange", "signature", "upload"})
_CODES: Final = frozenset(code.value for code in Code)
_WHY: Final = {g.STRANGERS: "stranger", g.LEFT_OUT: "gateway-bound"}
_DIGITS_MAX: Final = 9
_ABOUT_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class _Found:
    """Entries to be made, each with the kind of word that it is, and how far was read."""

    entries: tuple[tuple[str, JsonObject], ...] = ()
    marks: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Doors:
    """Looks and enters. Safe to use from several threads."""

    writer: Writer
    log: Log
    clock: Clock
    gateway: Callable[[], Reader | None]
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """Enters what has happened at the gateway's doors since the last look."""
        if self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()

    def _look(self) -> None:
        now_ms = self.clock.raw_ms()
        with self.writer.read() as connection:
            if view.fact(connection, view.GENESIS) is None:
                return  # nothing is logged before genesis; what happened until then is read when it is there
            marks = _mark(connection, _EVENTS), _mark(connection, _TOKENS)
            due = bounds.is_due(connection, now_ms)
        found = self._read(marks)
        if found.marks != marks or due:
            self.writer.run(lambda c: self._enter(c, found, now_ms))

    def _read(self, marks: tuple[int, int]) -> _Found:
        reader = self.gateway()
        try:
            return reader.run(lambda c: _read(c, *marks)) if reader else _Found(marks=marks)
        except Fault as fault:
            _LOG.warning("the gateway's database cannot be read just now: %s", fault.message)
            return _Found(marks=marks)

    def _enter(self, connection: Connection, found: _Found, now_ms: int) -> None:
        bounds.settle(connection, self.log, now_ms)
        for kind, entry in found.entries:
            if bounds.within(connection, self.log, kind, now_ms):
                journal.log_entry(connection, self.log, now_ms, entry)
        for name, mark in zip((_EVENTS, _TOKENS), found.marks, strict=True):
            journal.set_fact(connection, name, str(mark))


def _mark(connection: Connection, name: str) -> int:
    return int(view.fact(connection, name) or 0)


def _read(connection: Connection, event: int, token: int) -> _Found:
    e, w = g.EVENT.c, g.WORKLOAD_TOKEN.c
    events = connection.execute(
        sa.select(e.id, e.kind, e.code, e.detail)
        .where(e.id > event)
        .order_by(e.id)
        .limit(_PER_LOOK)
    ).all()
    tokens = connection.execute(
        sa.select(w.serial, w.hash).where(w.serial > token).order_by(w.serial).limit(_PER_LOOK)
    ).all()
    told = [_event(kind, code, detail) for _, kind, code, detail in events]
    let_in = [
        ("let-in", {"kind": "exchange", "token": hash}) for _, hash in tokens if is_sha256(hash)
    ]
    return _Found(
        (*(one for one in told if one is not None), *let_in),
        (_last(events, event), _last(tokens, token)),
    )


def _last(rows: Sequence[Sequence[Any]], before: int) -> int:
    return max((row[0] for row in rows if isinstance(row[0], int)), default=before)


def _event(kind: object, code: object, detail: object) -> tuple[str, JsonObject] | None:
    """The entry of a row: door, code and the first 16 digits of whose secret or key it was, or a number; None of a row
    that is no refusal."""
    if not isinstance(kind, str) or not isinstance(detail, str):
        return None
    if kind in _WHY and code == "":
        number = detail.isascii() and detail.isdigit() and len(detail) <= _DIGITS_MAX
        entry = {"kind": "left-out", "why": _WHY[kind], "count": int(detail) if number else 0}
        return ("numbers", entry) if entry["count"] else None
    if kind not in _DOORS or code not in _CODES:
        return None
    about = detail[:_ABOUT_CHARS]
    plain = len(about) == _ABOUT_CHARS and all(char in "0123456789abcdef" for char in about)
    entry = {"kind": "refused-at-gateway", "door": kind, "code": code}
    return kind, {**entry, "about": about if plain else ""}
