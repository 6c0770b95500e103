"""What people have put in force, and the packages of this gate: for the pages that show them. Only reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.effects import effects
from presspass.core.lifecycle import State
from presspass.core.limits import CONSOLE_PACKAGES_MAX, CONSOLE_VERSIONS_MAX
from presspass.core.statement import Kind
from presspass.gateway.console.models import (
    InForce,
    PackageLine,
    Packages,
    PolicyStep,
    ReleaseLine,
)
from presspass.gateway.gate import Gate
from presspass.gateway.journal import Rules
from presspass.store.gateway_tables import RELEASE
from presspass.store.journal_tables import STATEMENT
from presspass.store.journal_view import chained

_OUT: Final = (State.PUBLISHED.value, State.VERIFIED.value)
_LINE: Final = tuple(
    RELEASE.c[name]
    for name in ("id", "upstream", "project", "version", "requester", "state", "opened_ms", "code")
)


def in_force(gate: Gate) -> InForce | None:
    """Upstreams, publishers and delegations that hold now, and every policy so far; None before genesis."""
    rules = gate.journal.now()
    chain = rules.chain
    if chain is None:
        return None
    return InForce(
        upstreams=tuple(chain.upstreams[name] for name in sorted(chain.upstreams)),
        publishers=tuple(one for _name, one in sorted(chain.publishers.items()) if one[1].projects),
        delegations=tuple(
            one for _name, one in sorted(chain.delegations.items()) if one[1].projects
        ),
        policies=gate.journal.read(lambda c: _policies(c, rules)),
    )


def _policies(connection: Connection, rules: Rules) -> tuple[PolicyStep, ...]:
    s = STATEMENT.c
    since = dict(connection.execute(sa.select(s.digest, s.admitted_ms)).tuples().all())
    policies = rules.trust().policies
    brought = {
        one.digest: statement.digest
        for statement in chained(connection)
        for one in effects(statement)
        if one.kind is Kind.POLICY
    }
    return tuple(
        PolicyStep(
            number, brought.get(digest, digest), since.get(brought.get(digest, digest), 0), policy
        )
        for number, (digest, policy) in enumerate(policies.items(), 1)
    )


def packages(gate: Gate, begins: str, after: str) -> Packages:
    """A page of packages by name: those that a set was opened for, and those that a publisher may ask for."""
    rules = gate.journal.now()
    modes = {name: body.mode for name, (_, body) in rules.upstreams.items()}
    bound: dict[tuple[str, str], list[str]] = {}
    for name, (_, body) in sorted(rules.publishers.items()):
        for project in body.projects:
            bound.setdefault((project, body.upstream), []).append(name)
    r = RELEASE.c
    with gate.writer.read() as connection:
        pairs = sa.select(r.project, r.upstream).distinct()
        known = {*bound, *connection.execute(pairs).tuples()}
        named = sorted(one for one in known if one[0].startswith(begins) and one[0] > after)
        shown = _page(named)
        last = _last(connection, {project for project, _ in shown})
    lines = []
    for project, upstream in shown:
        count, line = last.get((project, upstream), (0, None))
        publishers = tuple(bound.get((project, upstream), ()))
        lines.append(
            PackageLine(upstream, project, modes.get(upstream, ""), publishers, count, line)
        )
    return Packages(tuple(lines), shown[-1][0] if len(shown) < len(named) else "")


def _page(named: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first of them, and whatever has the same name as the last."""
    kept = named[:CONSOLE_PACKAGES_MAX]
    return kept + [one for one in named[len(kept) :] if one[0] == kept[-1][0]]


def _last(
    connection: Connection, projects: Iterable[str]
) -> dict[tuple[str, str], tuple[int, ReleaseLine]]:
    """By (project, upstream): how many sets there were, and the newest that went out, or the newest."""
    r = RELEASE.c
    package = (r.upstream, r.project)
    out = sa.case((r.state.in_(_OUT), 0), else_=1)
    ranked = sa.select(
        *_LINE,
        sa.func.count().over(partition_by=package).label("sets"),
        sa.func.row_number()
        .over(partition_by=package, order_by=(out, r.opened_ms.desc()))
        .label("place"),
    ).where(r.project.in_(projects))
    sub = ranked.subquery()
    rows = connection.execute(sa.select(sub).where(sub.c.place == 1))
    return {(row.project, row.upstream): (row.sets, _line(row)) for row in rows}


def versions(gate: Gate, upstream: str, project: str) -> tuple[ReleaseLine, ...]:
    """The sets of one package, the newest first."""
    r = RELEASE.c
    query = sa.select(*_LINE).where(r.upstream == upstream, r.project == project)
    with gate.writer.read() as connection:
        rows = connection.execute(query.order_by(r.opened_ms.desc()).limit(CONSOLE_VERSIONS_MAX))
        return tuple(_line(row) for row in rows)


def _line(row: sa.Row[Any]) -> ReleaseLine:
    return ReleaseLine(
        row.id, row.upstream, row.project, row.version, row.requester, State(row.state),
        row.opened_ms, row.code,
    )  # fmt: skip
