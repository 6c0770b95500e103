"""Too many releases asked for at once: one incident, latched as a freeze that a quorum clears.

Counted is the press's own first sight, so that no time in a statement evades it; a press that was away for hours sees
what came meanwhile at once, and may latch for it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core import burst
from presspass.core.digests import sha256_hex
from presspass.core.policy import Policy
from presspass.core.statement import ReleaseBody, Statement, set_bytes
from presspass.press import journal, notices
from presspass.press.log import Log
from presspass.store import journal_tables as t
from presspass.store import journal_view as view

SOURCE = "burst"
#: Requests of one package that are open before their notices are merged.
OPEN_MAX = 3
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_NAMED_MAX = 20


def note(
    connection: Connection, log: Log, policy: Policy, statement: Statement, now_ms: int
) -> None:
    """Journals that a release is asked for, and latches an incident where it is one too many. The same bytes asked for
    again, because a head has moved on, are the same release."""
    body = statement.body_as(ReleaseBody)
    project = body.project
    release = sha256_hex(f"{project}\n{body.version}\n".encode() + set_bytes(body.files))
    row = {"statement": statement.digest, "project": project, "seen_ms": now_ms}
    if not journal.insert_new(connection, t.RELEASE_SEEN, release=release, **row):
        where = t.RELEASE_SEEN.c.release == release
        newest = t.RELEASE_SEEN.update().where(where).values(statement=statement.digest)
        connection.execute(newest)
        return
    if policy.burst_cap is None or _stands(connection, project):
        return
    for scope, floor in (("", burst.GATE_FLOOR), (project, burst.PACKAGE_FLOOR)):
        count = _asked(connection, scope, now_ms)
        if count > min(floor, policy.burst_cap):
            allowed = burst.limit(_busiest(connection, scope, now_ms), floor, policy.burst_cap)
            if count > allowed:
                _latch(connection, log, scope, statement, (count, allowed), now_ms)
                return


def prompt(connection: Connection, statement: Statement, now_ms: int) -> tuple[str, str]:
    """What the notice of a request is about, and its subject: its own while few of the package are open; else one
    notice an hour of all of them, so that nobody is asked until they give in."""
    project = statement.body_as(ReleaseBody).project
    hour = now_ms // _HOUR_MS
    s, d = t.RELEASE_SEEN.c, t.DECISION.c
    still_open = (
        sa.select(sa.func.count())
        .select_from(t.RELEASE_SEEN.join(t.DECISION, d.statement == s.statement))
        .where(s.project == project, d.state.not_in(journal.FINAL))
    )
    if connection.execute(still_open).scalar_one() > OPEN_MAX:
        return f"open\n{project}\n{hour}", f"Several releases of {project} wait for signatures"
    return statement.digest, "A release waits for signatures"


def _stands(connection: Connection, project: str) -> bool:
    """Whether an incident holds releases of the project already: what comes then is of the same one."""
    return any(
        one.what == "freeze" and one.source == SOURCE and one.target in ("", project)
        for one in view.narrowings(connection)
    )


def _asked(connection: Connection, scope: str, now_ms: int) -> int:
    """How many were asked for in the last hour, since people have cleared the last incident."""
    n, a = t.NARROWING.c, t.STATEMENT.c
    cleared = (
        sa.select(sa.func.max(a.admitted_ms))
        .select_from(t.STATEMENT.join(t.NARROWING, n.cleared_by == a.digest))
        .where(n.what == "freeze", n.source == SOURCE, n.target.in_(("", scope)))
    )
    since_ms = max(now_ms - _HOUR_MS, connection.execute(cleared).scalar() or 0)
    s = t.RELEASE_SEEN.c
    query = sa.select(sa.func.count()).select_from(t.RELEASE_SEEN).where(s.seen_ms > since_ms)
    query = query.where(s.project == scope) if scope else query
    return int(connection.execute(query).scalar_one())


def _busiest(connection: Connection, scope: str, now_ms: int) -> int:
    """Releases that went out in the busiest hour of the history; 0 without any."""
    p = t.PUBLISHED_FILE.c
    count = sa.func.count(p.statement.distinct())
    since_ms = now_ms - burst.HISTORY_DAYS * _DAY_MS
    query = sa.select(count).where(p.verified_ms > since_ms).group_by(p.verified_ms // _HOUR_MS)
    query = query.where(p.project == scope) if scope else query
    return int(connection.execute(query.order_by(count.desc()).limit(1)).scalar() or 0)


def _latch(
    connection: Connection,
    log: Log,
    scope: str,
    statement: Statement,
    counted: tuple[int, int],
    now_ms: int,
) -> None:
    count, allowed = counted
    id = sha256_hex(f"burst\n{scope}\n{statement.digest}".encode())
    what = f"{count} releases of {scope or 'this gate'} were asked for within an hour"
    reason = f"{what}; {allowed} are usual at most."
    values = {"id": id, "what": "freeze", "target": scope, "by": "", "source": SOURCE}
    if journal.latch(connection, reason=reason, now_ms=now_ms, **values):
        journal.log_entry(connection, log, now_ms, {"kind": "narrowing", **values})
        text = (
            f"{reason} All of them are held, as one incident: {_names(connection, scope, now_ms)}.\n"
            f"They are good: a quorum clears it, presspass freeze --clear {id[:16]}\n"
            "They are not: presspass freeze --deny-all"
        )
        notices.tell_everybody(connection, id, "freeze: too many releases at once", text, now_ms)


def _names(connection: Connection, scope: str, now_ms: int) -> str:
    """The packages, and how often each was asked for."""
    s = t.RELEASE_SEEN.c
    query = sa.select(s.project, sa.func.count()).where(s.seen_ms > now_ms - _HOUR_MS)
    query = query.where(s.project == scope) if scope else query
    rows = connection.execute(query.group_by(s.project).order_by(s.project)).all()
    named = ", ".join(f"{project} ({count})" for project, count in rows[:_NAMED_MAX])
    return named + (f" and {len(rows) - _NAMED_MAX} more" if len(rows) > _NAMED_MAX else "")
