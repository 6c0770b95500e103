"""What went on at this gate in the last days, for the page that draws it: counted from the press's journal."""

from __future__ import annotations

from collections import Counter
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Refusal
from presspass.core.limits import CONSOLE_ACTIVITY_DAYS, CONSOLE_ACTIVITY_ROWS_MAX
from presspass.core.statement import Kind
from presspass.gateway.console.models import Activity, Day
from presspass.gateway.gate import Gate
from presspass.store.journal_tables import APPROVAL, DECISION
from presspass.verify.chain import Chain

_DAY_MS: Final = 86_400_000
_OUT: Final = ("published", "verified")
_ENDED: Final = ("rejected", "expired", "failed", "stale")


def activity(gate: Gate) -> Activity:
    """Of the last CONSOLE_ACTIVITY_DAYS days, today (UTC) among them."""
    chain, today = gate.journal.now().chain, gate.clock() // _DAY_MS
    first = today - CONSOLE_ACTIVITY_DAYS + 1

    def ask(connection: Connection) -> Activity:
        found = _releases(connection, first, today)
        return found if chain is None else _with_people(connection, found, chain, first)

    return gate.journal.read(ask)


def _releases(connection: Connection, first: int, today: int) -> Activity:
    """All but who signed. `first`, `today`: days since 1970-01-01."""
    d = DECISION.c
    rows = connection.execute(
        sa.select(d.first_seen_ms, d.reached_ms, d.updated_ms, d.state, d.code)
        .where(d.kind == Kind.RELEASE.value, d.updated_ms >= first * _DAY_MS)
        .order_by(d.updated_ms.desc())
        .limit(CONSOLE_ACTIVITY_ROWS_MAX + 1)
    ).all()
    counted = rows[:CONSOLE_ACTIVITY_ROWS_MAX]
    asked = Counter(row.first_seen_ms // _DAY_MS for row in counted)
    out = Counter(row.updated_ms // _DAY_MS for row in counted if row.state in _OUT)
    ended = [row for row in counted if row.state in _ENDED]
    ends = Counter(row.updated_ms // _DAY_MS for row in ended)
    return Activity(
        days=tuple(
            Day(day * _DAY_MS, asked[day], out[day], ends[day]) for day in range(first, today + 1)
        ),
        waits_ms=tuple(
            row.reached_ms - row.first_seen_ms for row in counted if row.reached_ms is not None
        ),
        refusals=tuple(Counter(row.code or row.state for row in ended).most_common()),
        partial=len(rows) > len(counted),
    )


def _with_people(connection: Connection, found: Activity, chain: Chain, first: int) -> Activity:
    a = APPROVAL.c
    keys = connection.execute(
        sa.select(a.key, sa.func.count()).where(a.seen_ms >= first * _DAY_MS).group_by(a.key)
    )
    signed: Counter[str] = Counter()
    for key, count in keys.tuples():
        signed[_owner(chain, key)] += count
    return Activity(
        found.days, found.waits_ms, tuple(signed.most_common()), found.refusals, found.partial
    )


def _owner(chain: Chain, key: str) -> str:
    try:
        return chain.enrolled(key)[1]
    except Refusal:
        return ""  # the recovery key
