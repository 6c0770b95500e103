"""How many entries a minute stand in the ledger on the gateway's word.

The gateway may be in other hands, and must neither fill the ledger nor hide one kind of word behind another: each has a
bound of its own. What is beyond it is counted, and the number is an entry when its minute is over. The count is
journalled, so that a press that starts anew goes on with it.
"""

from __future__ import annotations

import json

from sqlalchemy.engine import Connection

from presspass.core.limits import EVENTS_PER_MINUTE_MAX
from presspass.press import journal
from presspass.press.log import Log
from presspass.store import journal_view as view

_FACT = "gateway-minute"
_MINUTE_MS = 60_000
_NUMBER, _LEFT_OUT = "minute", "left-out"


def within(connection: Connection, log: Log, kind: str, now_ms: int) -> bool:
    """Whether one more entry of this kind of word may be made in this minute; if not, it is counted."""
    counts = settle(connection, log, now_ms)
    fits = counts.get(kind, 0) < EVENTS_PER_MINUTE_MAX
    what = kind if fits else _LEFT_OUT
    counts[what] = counts.get(what, 0) + 1
    journal.set_fact(connection, _FACT, json.dumps(counts))
    return fits


def is_due(connection: Connection, now_ms: int) -> bool:
    """Whether a number waits to be entered."""
    counts = _counts(connection)
    return counts[_NUMBER] != now_ms // _MINUTE_MS and _LEFT_OUT in counts


def settle(connection: Connection, log: Log, now_ms: int) -> dict[str, int]:
    """Enters the number of a minute that is over; the counts of the one under way."""
    counts, minute = _counts(connection), now_ms // _MINUTE_MS
    if counts[_NUMBER] == minute:
        return counts
    if _LEFT_OUT in counts:
        entry = {"kind": "left-out", "why": "press-bound", "count": counts[_LEFT_OUT]}
        journal.log_entry(connection, log, now_ms, entry)
    fresh = {_NUMBER: minute}
    journal.set_fact(connection, _FACT, json.dumps(fresh))
    return fresh


def _counts(connection: Connection) -> dict[str, int]:
    return {_NUMBER: 0, **json.loads(view.fact(connection, _FACT) or "{}")}
