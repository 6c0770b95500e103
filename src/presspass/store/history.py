"""Questions after the fact to the press's journal, and the index that answers them.

An answer is read page by page, and never held as a whole. Each page is a snapshot of its own: acts come in the order of
their time and are never taken away, so the pages follow each other without gaps, and what is done meanwhile comes last.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Refusal, invariant
from presspass.core.history import FACETS, Act, Question, facets_of, subjects, subjects_of
from presspass.core.limits import HISTORY_PAGE_MAX
from presspass.core.statement import Kind, Statement
from presspass.store import journal_tables as t

#: Where an answer goes on: time (ms) and digest of the last act of the page before.
Mark: TypeAlias = tuple[int, str]
BEGINNING: Final[Mark] = (0, "")
END: Final[Mark] = (2**62, "")
_TAG_DIGITS: Final = 15  # 60 bits: a whole number that every database keeps in 8 bytes


def tags(entry: Mapping[str, object]) -> list[int]:
    """Of everything that an entry of the ledger is about, in LEDGER_MENTION."""
    return sorted(_tag(subject) for subject in subjects_of(entry))


def _tag(digest: str) -> int:
    return int(digest[:_TAG_DIGITS], 16)


def facet_rows(
    statement: Statement, approvals: Iterable[Approval], policy: str, now_ms: int
) -> list[dict[str, object]]:
    """What STATEMENT_FACET has of an act. `policy`: the one in force when the press acts."""
    found = facets_of(statement, (one.key for one in approvals), policy)
    row = {"at_ms": now_ms, "statement": statement.digest}
    return [{"facet": facet, "value": value, **row} for facet, value in sorted(found)]


def acts(
    connection: Connection,
    question: Question,
    after: Mark = BEGINNING,
    count: int = HISTORY_PAGE_MAX,
    *,
    newest_first: bool = False,
) -> list[Act]:
    """The next acts that answer the question, at most `count`; fewer only at the end. With `newest_first` from the END,
    or where the page before has ended, backwards.
    """
    query = _page(question, after, newest_first).limit(count)
    digests = connection.execute(query).scalars()
    return _read(connection, [str(one) for one in digests])


def every(
    ask: Callable[[Callable[[Connection], list[Act]]], list[Act]], question: Question
) -> Iterator[list[Act]]:
    """The whole answer, page by page. `ask` runs a reading on one snapshot."""
    after = BEGINNING
    while page := ask(partial(acts, question=question, after=after)):
        yield page
        if len(page) < HISTORY_PAGE_MAX:
            return
        after = mark_of(page[-1])


def mark_of(act: Act) -> Mark:
    """Where to go on after this act."""
    return act.at_ms, act.statement.digest


def mark_text(mark: Mark) -> str:
    """For an address."""
    return f"{mark[0]}.{mark[1]}"


def read_mark(text: str) -> Mark:
    """From `mark_text`; refuses with `request.malformed`."""
    at, _, digest = text.partition(".")
    if not (at.isascii() and at.isdigit() and len(at) <= 16 and is_sha256(digest)):
        hint = "Follow the link as it stands, or ask from the beginning."
        raise Refusal(Code.REQUEST_MALFORMED, "That is no place in an answer.", hint)
    return int(at), digest


def _page(question: Question, after: Mark, newest_first: bool) -> sa.Select[tuple[str]]:
    """Digests in order of time. What finds fewest is walked, in its order; the other parts are looked up for each."""
    named = sorted(question.parts, key=FACETS.index)
    invariant(bool(named), "a question of a journal names its space")
    walked = t.STATEMENT_FACET.alias()
    w = walked.c
    place, mark = sa.tuple_(w.at_ms, w.statement), sa.tuple_(*after)
    parts = [_has(walked, named[0], question), place < mark if newest_first else place > mark]
    if question.since is not None:
        parts.append(w.at_ms >= question.since * 1000)
    if question.until is not None:
        parts.append(w.at_ms < question.until * 1000)
    for facet in named[1:]:
        other = t.STATEMENT_FACET.alias()
        same = sa.and_(other.c.at_ms == w.at_ms, other.c.statement == w.statement)
        parts.append(sa.exists().where(_has(other, facet, question), same))
    query = sa.select(w.statement).where(*parts)
    if len(question.parts[named[0]]) != 1:  # one act may have several of the values
        query = query.group_by(w.at_ms, w.statement)
    order = (w.at_ms, w.statement)
    return query.order_by(*(one.desc() for one in order) if newest_first else order)


def _has(rows: sa.FromClause, facet: str, question: Question) -> sa.ColumnElement[bool]:
    return sa.and_(rows.c.facet == facet, rows.c.value.in_(question.parts[facet]))


def _read(connection: Connection, digests: Sequence[str]) -> list[Act]:
    s = t.STATEMENT.c
    columns = (s.digest, s.statement, s.height, s.admitted_ms)
    rows = connection.execute(sa.select(*columns).where(s.digest.in_(digests))).all()
    found = {row.digest: (Statement.from_bytes(row.statement), row) for row in rows}
    approvals = _approvals(connection, digests)
    plans = _plans(connection, approvals)
    entries = _entries(connection, [found[one][0] for one in digests])
    moved = _heights(connection)
    return [
        Act(
            statement,
            tuple(approvals.get(digest, ())),
            row.admitted_ms,
            bisect_left(moved, row.height),
            tuple(sorted({one for about in subjects(statement) for one in entries.get(about, ())})),
            tuple(plans[one] for one in _other(approvals, digest)),
        )
        for digest, (statement, row) in ((digest, found[digest]) for digest in digests)
    ]


def _heights(connection: Connection) -> list[int]:
    s = t.STATEMENT.c
    moving = [Kind.GENESIS.value, *(kind.value for kind in Statement.MOVING)]
    query = sa.select(s.height).where(s.kind.in_(moving)).order_by(s.height)
    return list(connection.execute(query).scalars())


def _approvals(connection: Connection, digests: Sequence[str]) -> dict[str, list[Approval]]:
    a = t.APPROVAL.c
    query = sa.select(a.statement, a.approval).where(a.statement.in_(digests)).order_by(a.key)
    found: dict[str, list[Approval]] = {}
    for row in connection.execute(query):
        found.setdefault(row.statement, []).append(Approval.from_bytes(row.approval))
    return found


def _other(approvals: Mapping[str, Sequence[Approval]], digest: str) -> list[str]:
    """Digests of what else than the act's own statement its signatures stand under, in their order."""
    return sorted({one.statement for one in approvals.get(digest, ())} - {digest})


def _plans(
    connection: Connection, approvals: Mapping[str, Sequence[Approval]]
) -> dict[str, Statement]:
    """The plans under which signatures of these acts stand, by digest."""
    wanted = sorted({one for digest in approvals for one in _other(approvals, digest)})
    s = t.STATEMENT.c
    rows = connection.execute(sa.select(s.digest, s.statement).where(s.digest.in_(wanted)))
    return {row.digest: Statement.from_bytes(row.statement) for row in rows}


def _entries(
    connection: Connection, statements: Sequence[Statement]
) -> dict[str, list[tuple[int, bytes]]]:
    """The ledger's entries about these, by what they are about."""
    wanted = {_tag(one) for statement in statements for one in subjects(statement)}
    m, e = t.LEDGER_MENTION.c, t.LEDGER_ENTRY.c
    query = (
        sa.select(e.position, e.entry)
        .join(t.LEDGER_MENTION, m.position == e.position)
        .where(m.tag.in_(sorted(wanted)))
    )
    found: dict[str, list[tuple[int, bytes]]] = {}
    for row in connection.execute(query):
        for subject in subjects_of(json.loads(row.entry)):
            found.setdefault(subject, []).append((row.position, row.entry))
    return found
