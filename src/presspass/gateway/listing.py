"""Which releases the list holds, where there are more than a page can: what waits for people comes before all others.

Of what waits, where the risk is first and then what has waited longest; nothing is pushed out by what is newer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.findings import Severity, parse_report
from presspass.core.lifecycle import State
from presspass.core.risk import Waiting, by_risk
from presspass.store.gateway_tables import RELEASE, REVIEW

#: How many severities are remembered; of every report one word.
_KEPT: Final = 100_000
_AT_ONCE: Final = 500


class Severities:
    """The highest severity of each report by its digest, "" without one. A report never changes: it is read once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def of(self, connection: Connection, reviews: Iterable[str | None]) -> dict[str | None, str]:
        """Of these reports; one that is not kept here has none."""
        wanted = {one for one in reviews if one}
        with self._lock:
            found = {one: self._known[one] for one in wanted if one in self._known}
        missing = sorted(wanted - found.keys())
        for start in range(0, len(missing), _AT_ONCE):
            found |= _read(connection, missing[start : start + _AT_ONCE])
        with self._lock:
            if len(self._known) + len(found) > _KEPT:
                self._known.clear()
            self._known |= found
        answer: dict[str | None, str] = dict.fromkeys([None, *wanted], "")
        answer.update(found.items())
        return answer


def _read(connection: Connection, reviews: list[str]) -> dict[str, str]:
    query = sa.select(REVIEW.c.digest, REVIEW.c.report).where(REVIEW.c.digest.in_(reviews))
    return {row.digest: parse_report(row.report).worst.value for row in connection.execute(query)}


def listed(
    connection: Connection, severities: Severities, most: int
) -> tuple[list[sa.Row[Any]], int]:
    """At most so many rows of RELEASE, the newest first, and how many that wait are not among them."""
    r = RELEASE.c
    waits = r.state == State.AWAITING.value
    waiting = connection.execute(sa.select(r.id, r.review, r.opened_ms).where(waits)).all()
    chosen = [one.id for one in waiting]
    if len(waiting) > most:
        worst = severities.of(connection, (one.review for one in waiting))
        places = [(one.id, _place(worst[one.review], one.opened_ms)) for one in waiting]
        chosen = [name for name, _ in by_risk(places, lambda one: one[1])[:most]]
    rows = list(connection.execute(sa.select(RELEASE).where(r.id.in_(chosen))))
    others = sa.select(RELEASE).where(~waits).order_by(r.live.is_(None), r.opened_ms.desc())
    rows += connection.execute(others.limit(most - len(rows)))
    rows.sort(key=lambda row: row.opened_ms, reverse=True)
    return rows, len(waiting) - len(chosen)


def _place(worst: str, since_ms: int) -> Waiting:
    return Waiting(Severity(worst) if worst else None, since_ms=since_ms)
