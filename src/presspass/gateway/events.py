"""What happened at the doors: a row for what somebody with a right was refused, a line for everything else.

Bounded in both forms: whoever is refused a thousand times a minute must not fill the gate's disk with it, nor hide what
is refused at another door. What has no row of its own, because nobody known was refused or because it is beyond the
bound, is counted, and the count becomes a row when its minute is over: the press enters both into the ledger.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Refusal
from presspass.core.limits import EVENTS_PER_MINUTE_MAX
from presspass.store.database import Writer
from presspass.store.gateway_tables import EVENT, LEFT_OUT, STRANGERS

_MINUTE_MS = 60_000
_DETAIL_CHARS_MAX = 500
_LINES = "lines"


class Events:
    """Safe to use from any thread. `clock`: milliseconds since the epoch."""

    def __init__(self, writer: Writer, clock: Callable[[], int]) -> None:
        self._writer = writer
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def refused(self, refusal: Refusal, door: str, who: str) -> None:
        """Somebody was refused at `door`. `who`: hash of the token that was shown, or id of the key that signed; "" for
        a stranger, who is counted."""
        if not who:
            self._count(STRANGERS)
            self.told(refusal, door)
        elif self._within_bound(door):
            row = {
                "at_ms": self._clock(),
                "kind": door,
                "code": refusal.code.value,
                "detail": f"{who[:16]}: {refusal.message}"[:_DETAIL_CHARS_MAX],
            }
            self._put(row)
        else:
            self._count(LEFT_OUT)

    def told(self, refusal: Refusal, door: str) -> None:
        """A refusal that is nobody's business but the operator's."""
        if self._within_bound(_LINES):
            log("refused", kind=door, code=refusal.code.value)

    def happened(self, kind: str, detail: str) -> None:
        """Something that changes who may look or ask, for those who look back: who signed in, what was allowed."""
        if self._within_bound(kind):
            row = {"at_ms": self._clock(), "kind": kind, "detail": detail[:_DETAIL_CHARS_MAX]}
            self._put(row)

    def settle(self, *, ending: bool = False) -> None:
        """Writes what was only counted in the minute that is over; when the process ends, in this one too."""
        minute = self._clock() // _MINUTE_MS
        with self._lock:
            if minute == self._minute and not ending:
                return
            counts, self._counts, self._minute = self._counts, Counter(), minute
        for kind in (STRANGERS, LEFT_OUT):
            if counts[kind]:
                row = {"at_ms": self._clock(), "kind": kind, "detail": str(counts[kind])}
                self._put(row)
        if counts[_LINES] > EVENTS_PER_MINUTE_MAX:
            log("refused", left_out=counts[_LINES] - EVENTS_PER_MINUTE_MAX)

    def _put(self, row: dict[str, object]) -> None:
        self._writer.submit(lambda connection: connection.execute(sa.insert(EVENT), row))

    def _within_bound(self, what: str) -> bool:
        return self._count(what) <= EVENTS_PER_MINUTE_MAX

    def _count(self, what: str) -> int:
        self.settle()
        with self._lock:
            self._counts[what] += 1
            return self._counts[what]


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
