"""Rules asked early: a workload that wants a pass, and files on their way, are told at the door what has no way out.

A courtesy, as everything that the gateway decides by the journal is: the press asks the rules itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from presspass.core.delegation import version_kind
from presspass.gateway.gate import Gate
from presspass.gateway.tokens import Right
from presspass.rules.question import EXCHANGE, STAGE, Context, Question
from presspass.store import journal_view
from presspass.store.gateway_tables import WORKLOAD_TOKEN

_HOUR_MS = 3_600_000


def require_exchange(
    gate: Gate,
    publisher: str,
    upstream: str,
    projects: Iterable[str],
    *,
    resolved: bool,
    unchanged: bool,
) -> None:
    """Refuses a pass that the rules let nobody use: for none of `projects` is it to be had. `resolved`: the person
    behind the run is in the roster; `unchanged`: it ran the bound workflow.
    """
    rules = gate.journal.rule_set()
    if rules is None:
        return
    context = Context(workload=True, requester_resolved=resolved, workflow_unchanged=unchanged)
    asked = [
        _question(gate, EXCHANGE, ("Publisher", publisher), upstream, project, context)
        for project in projects
    ]
    decided = [(rules.decide(one), one) for one in asked]
    if not any(decision.allowed for decision, _ in decided):
        for decision, question in decided:
            decision.require(rules, question)


def require_stage(gate: Gate, right: Right, project: str, version: str) -> None:
    """Refuses a file whose release the rules do not let in."""
    rules = gate.journal.rule_set()
    if rules is None:
        return
    kind = version_kind(version, gate.journal.versions(right.upstream, project) - {version})
    context = Context(
        version=version,
        version_kind=kind,
        workload=bool(right.workload),
        requester_resolved=bool(right.person),
        workflow_unchanged=bool(right.workload) and not _is_stage_only(gate, right.workload),
    )
    principal = ("Unproved", "requester")
    if right.workload:
        principal = ("Publisher", right.publisher)
    elif right.person:
        principal = ("Person", right.person)
    person = gate.journal.rules.roster.person(right.person) if right.person else None
    question = _question(gate, STAGE, principal, right.upstream, project, context)
    question = replace(question, groups=person.groups if person else ())
    rules.decide(question).require(rules, question)


def _is_stage_only(gate: Gate, workload: str) -> bool:
    query = sa.select(WORKLOAD_TOKEN.c.stage_only).where(WORKLOAD_TOKEN.c.hash == workload)
    with gate.writer.read() as connection:
        return connection.execute(query).scalar() != 0


def _question(
    gate: Gate, action: str, principal: tuple[str, str], upstream: str, project: str, known: Context
) -> Question:
    now_ms = gate.clock()
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    times = gate.journal.read(lambda c: journal_view.released_at(c, upstream, project, "")).values()
    before = [one for one in times if one <= now_ms]
    context = replace(
        known,
        hour_utc=now.hour,
        weekday=now.isoweekday(),
        releases_last_hour=sum(now_ms - one < _HOUR_MS for one in before),
        hours_since_last_release=(now_ms - max(before)) // _HOUR_MS if before else None,
    )
    body = gate.journal.rules.upstreams.get(upstream)
    mode = body[1].mode if body else ""
    return Question(principal, (), project, upstream, mode, context, action)
