"""What happened at the doors: a row for what somebody with a right was refused, a line for everything else.

Bounded in both forms: whoever is refused a thousand times a minute must not fill the gate's disk with it. What is
beyond the bound is counted, and the count is told when the next minute begins.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
import traceback
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Refusal
from presspass.core.limits import EVENTS_PER_MINUTE_MAX
from presspass.store.database import Writer
from presspass.store.gateway_tables import EVENT

_MINUTE_MS = 60_000
_DETAIL_CHARS_MAX = 500


class Events:
    """Safe to use from any thread. `clock`: milliseconds since the epoch."""

    def __init__(self, writer: Writer, clock: Callable[[], int]) -> None:
        self._writer = writer
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._count = 0

    def refused(self, refusal: Refusal, kind: str, who: str) -> None:
        """Somebody was refused at the door `kind`. `who`: hash of the token that was shown, "" for a stranger."""
        if not self._within_bound():
            return
        if who:
            row = {
                "at_ms": self._clock(),
                "kind": kind,
                "code": refusal.code.value,
                "detail": f"{who[:16]}: {refusal.message}"[:_DETAIL_CHARS_MAX],
            }
            self._writer.submit(lambda connection: connection.execute(sa.insert(EVENT), row))
        else:
            log("refused", kind=kind, code=refusal.code.value)

    def happened(self, kind: str, detail: str) -> None:
        """Something that changes who may look or ask, for those who look back: who signed in, what was allowed."""
        if self._within_bound():
            row = {"at_ms": self._clock(), "kind": kind, "detail": detail[:_DETAIL_CHARS_MAX]}
            self._writer.submit(lambda connection: connection.execute(sa.insert(EVENT), row))

    def _within_bound(self) -> bool:
        minute = self._clock() // _MINUTE_MS
        with self._lock:
            if minute != self._minute:
                left_out, self._minute, self._count = self._count - EVENTS_PER_MINUTE_MAX, minute, 0
                if left_out > 0:
                    log("refused", left_out=left_out)
            self._count += 1
            return self._count <= EVENTS_PER_MINUTE_MAX


def note(connection: Connection, kind: str, detail: str, now_ms: int, code: str = "") -> None:
    """A row in the transaction of what it tells of: it is there exactly if that happened."""
    row = {"at_ms": now_ms, "kind": kind, "code": code, "detail": detail[:_DETAIL_CHARS_MAX]}
    connection.execute(sa.insert(EVENT), row)


def internal(error: BaseException, where: str) -> str:
    """Writes our own failure to standard error and returns the id that the caller may show instead of it."""
    number = secrets.token_hex(6)
    trace = "".join(traceback.format_exception(error))
    log("internal", id=number, where=where, error=type(error).__name__, trace=trace)
    return number


def log(event: str, **members: object) -> None:
    """One line of JSON on standard error. That nobody reads it any more must not stop what is told about."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"event": event, **members}), file=sys.stderr, flush=True)
