"""What runs under standing approvals: their uses by the press's journal, and what each would have let through before.

For people to look at. The past is held against the bounds alone, by the reports that this gate keeps: who signed the
standing approval, and whether they count, is asked only of what is to come.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.findings import parse_report
from presspass.core.standing import (
    DAY_MS,
    StandingBody,
    check_count,
    check_review,
    check_version,
)
from presspass.core.statement import ReleaseBody, set_bytes
from presspass.gateway import requests
from presspass.gateway.console.models import PastLine, StandingFacts, UseLine
from presspass.gateway.gate import Gate
from presspass.gateway.journal import Rules
from presspass.store import journal_view
from presspass.store.gateway_tables import REVIEW
from presspass.store.journal_tables import PUBLISHED_FILE
from presspass.store.journal_view import StandingUse

_USES_MAX: Final = 100
_PAST_MAX: Final = 200


def standings(gate: Gate) -> tuple[StandingFacts, ...]:
    """Every standing approval that people have signed, by name; () before genesis."""
    rules = gate.journal.now()
    if rules.chain is None:
        return ()
    with gate.writer.read() as connection:
        return tuple(
            _facts(gate, connection, rules, name, body)
            for name, (_, body) in sorted(rules.chain.standings.items())
        )


def to_be_read(gate: Gate, connection: Connection) -> tuple[UseLine, ...]:
    """What went out and was chosen to be read afterwards; that of which the time ends first comes first."""
    rules = gate.journal.rules
    if rules.chain is None or not rules.chain.standings:
        return ()
    waiting = gate.journal.read(journal_view.to_be_read)
    return tuple(_line(connection, one) for one in waiting)


def _facts(
    gate: Gate, connection: Connection, rules: Rules, name: str, body: StandingBody
) -> StandingFacts:
    now_ms = gate.clock()
    stop = next(
        (one for one in rules.narrowings if (one.what, one.target) == ("standing", name)), None
    )
    uses = gate.journal.read(lambda c: journal_view.standing_uses(c, name))
    return StandingFacts(
        name=name,
        body=body,
        state=_state(body, stop is not None, now_ms),
        stop=stop,
        today=sum(one.at_ms >= now_ms - DAY_MS for one in uses),
        in_all=len(uses),
        uses=tuple(_line(connection, one) for one in uses[:_USES_MAX]),
        past=_past(gate, connection, body),
    )


def _state(body: StandingBody, stopped: bool, now_ms: int) -> str:
    if stopped:
        return "ended"
    if not body.projects:
        return "retired"
    return "over" if now_ms >= body.not_after * 1000 else "in force"


def _line(connection: Connection, use: StandingUse) -> UseLine:
    request = requests.find(connection, use.statement)
    release = request.release if request is not None else None
    return UseLine(
        release or "",
        use.name,
        use.project,
        use.version,
        use.at_ms,
        use.due_ms,
        use.read_ms,
        use.read_by,
    )


def _past(gate: Gate, connection: Connection, body: StandingBody) -> tuple[PastLine, ...]:
    """The last releases of its packages, the newest first, each held against the bounds as it was asked for."""
    found = gate.journal.read(lambda c: _releases(c, body))
    before: dict[str, set[str]] = {}
    passed: list[tuple[int, str]] = []
    lines = []
    for at_ms, release in found:
        known = before.setdefault(release.project, set())
        why = ""
        try:
            _check(gate, connection, body, release, known, at_ms, passed)
            passed.append((at_ms, release.project))
        except Refusal as refusal:
            why = refusal.message
        known.add(release.version)
        lines.append(PastLine(release.release, release.project, release.version, at_ms, why))
    return tuple(lines[::-1][:_PAST_MAX])


def _releases(connection: Connection, body: StandingBody) -> list[tuple[int, ReleaseBody]]:
    """What was published of its packages, the oldest first: all of it, since kinds of version go by what was before."""
    p = PUBLISHED_FILE.c
    at_ms = sa.func.min(p.verified_ms)
    rows = connection.execute(
        sa.select(p.statement, at_ms.label("at_ms"))
        .where(p.upstream == body.upstream, p.project.in_(body.projects))
        .group_by(p.statement)
        .order_by(at_ms, p.statement)
    )
    found = []
    for row in rows.all():
        statement = journal_view.statement(connection, row.statement)
        if statement is not None and isinstance(statement.body, ReleaseBody):
            found.append((int(row.at_ms), statement.body))
    return found


def _check(
    gate: Gate,
    connection: Connection,
    body: StandingBody,
    release: ReleaseBody,
    before: set[str],
    at_ms: int,
    passed: list[tuple[int, str]],
) -> None:
    asked = release.asked_by
    seen = gate.journal.read(lambda c: journal_view.workload(c, asked.token)) if asked else None
    if seen is None or seen.publisher not in body.publishers:
        raise Refusal(Code.STANDING_NOT_COVERED, "None of its publishers asked for it.")
    if seen.set_digest != sha256_hex(set_bytes(release.files)) or not seen.counted:
        raise Refusal(Code.STANDING_UNBOUND, "The run had not bound its files, or did not count.")
    check_version(body, release.project, release.version, before)
    report = connection.execute(
        sa.select(REVIEW.c.report).where(REVIEW.c.digest == release.review)
    ).scalar()
    if report is None:
        raise Refusal(Code.STANDING_UNASSESSED, "Its report is not kept here any more.")
    check_review(body, parse_report(report))
    recent = [project for at, project in passed if at >= at_ms - DAY_MS]
    check_count(body, recent.count(release.project), len(recent))
