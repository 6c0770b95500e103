"""What people ask of the press, read from the gateway's database: bytes to be checked, not facts to be believed.

SQLite keeps any value in any column, and the gateway may be in other hands: types are checked here like everything
else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.digests import is_sha256, parse_canonical
from presspass.core.errors import Refusal
from presspass.core.limits import (
    APPROVAL_BYTES_MAX,
    APPROVALS_PER_STATEMENT_MAX,
    PLANS_PER_LOOK_MAX,
    PLANS_PER_RELEASE_MAX,
    RULES_BYTES_MAX,
    STATEMENT_BYTES_MAX,
)
from presspass.core.plan import PlanBody
from presspass.core.roster import Details
from presspass.core.statement import REVOCABLE, Intent, RevocationBody, Statement
from presspass.store import gateway_tables as g

_LOG = logging.getLogger("presspass.press")
ASKS_PER_LOOK = 500
LISTED_MAX = 10_000
_CLOCKS_APART_MS = 3_600_000
_DETAILS_BYTES_MAX = 64 * 1024
_STOP_CHARS_MAX = 1000
#: What can be stopped: what people revoke, and a publisher whose workload no longer counts as an identity.
STOPPABLE = frozenset({*REVOCABLE, "limited"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """A statement before the approvers. `approvals` are unverified: those under the statement itself, then those under
    the `plans` that name it, as the gateway has them.
    """

    statement: Statement
    approvals: tuple[Approval, ...]
    plans: tuple[Statement, ...] = ()

    @property
    def digest(self) -> str:
        return self.statement.digest


@dataclass(frozen=True, slots=True)
class SignedNarrowing:
    """A freeze, or the veto twin of a request, as the gateway received it, unverified."""

    statement: Statement
    approval: Approval


def list_asks(connection: Connection, since_ms: int) -> dict[str, int]:
    """Digest and age of requests that the gateway says were made since `since_ms`, oldest first, LISTED_MAX at most."""
    r = g.REQUEST.c
    rows = connection.execute(
        sa.select(r.digest, r.created_ms)
        .where(r.created_ms >= since_ms)
        .order_by(r.created_ms, r.digest)
        .limit(LISTED_MAX)
    )
    return {
        digest: made if isinstance(made, int) else 0 for digest, made in rows if is_sha256(digest)
    }


def signed_among(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Which of these requests have a signature, valid or not, under themselves or a plan that names them: they are
    looked at before the others.
    """
    a, m = g.APPROVAL.c, g.PLAN_MEMBER.c
    planned = sa.select(m.request).join(g.APPROVAL, a.request == m.plan)
    found: set[str] = set()
    for start in range(0, len(digests), ASKS_PER_LOOK):
        some = digests[start : start + ASKS_PER_LOOK]
        queries = (
            sa.select(a.request).where(a.request.in_(some)).distinct(),
            planned.where(m.request.in_(some)).distinct(),
        )
        for query in queries:
            found.update(one for one in connection.execute(query).scalars() if is_sha256(one))
    return found


def read_asks(connection: Connection, digests: Sequence[str]) -> list[Ask]:
    """These requests (at most ASKS_PER_LOOK) with every signature under them, as far as they can be read."""
    r = g.REQUEST.c
    fits = sa.func.length(r.statement) <= STATEMENT_BYTES_MAX
    rows = connection.execute(
        sa.select(r.digest, r.statement).where(r.digest.in_(digests), fits)
    ).all()
    planned = _signed_plans(connection, digests)
    asks = []
    for digest, data in rows:
        statement = _readable(_statement, data, digest)
        if (
            statement is None
            or statement.digest != digest
            or statement.intent is not Intent.APPROVE
        ):
            continue
        approvals = _signatures(connection, digest, digest)
        plans = planned.get(digest, [])
        under = (approval for plan in plans for approval in plan.approvals)
        asks.append(Ask(statement, (*approvals, *under), tuple(plan.statement for plan in plans)))
    places = {digest: place for place, digest in enumerate(digests)}
    return sorted(asks, key=lambda ask: places[ask.digest])


def _signed_plans(connection: Connection, digests: Sequence[str]) -> dict[str, list[Ask]]:
    """The plans with signatures that name these requests, by request. Which they are is the gateway's word; whether a
    plan names a release, its own statement says.
    """
    m, a, r = g.PLAN_MEMBER.c, g.APPROVAL.c, g.REQUEST.c
    plans = connection.execute(
        sa.select(r.digest, r.statement)
        .where(
            r.digest.in_(sa.select(m.plan).where(m.request.in_(digests))),
            sa.exists().where(a.request == r.digest, a.statement == r.digest),
            sa.func.length(r.statement) <= STATEMENT_BYTES_MAX,
        )
        .order_by(r.created_ms.desc(), r.digest)
        .limit(PLANS_PER_LOOK_MAX)
    ).all()
    wanted, found = frozenset(digests), dict[str, list[Ask]]()
    for digest, data in plans:
        plan = _readable(_plan, data, digest)
        if plan is None or plan.digest != digest or plan.intent is not Intent.APPROVE:
            continue
        signed = Ask(plan, _signatures(connection, digest, digest))
        for release in plan.body_as(PlanBody).releases:
            of = found.setdefault(release, [])
            if release in wanted and len(of) < PLANS_PER_RELEASE_MAX:
                of.append(signed)
    return found


@lru_cache(maxsize=PLANS_PER_LOOK_MAX)
def _plan(data: bytes) -> Statement:
    statement = Statement.from_bytes(data)
    statement.body_as(PlanBody)
    return statement


#: Requests that are longer than this are read once while they wait, not at every look; so many of them are kept.
_LONG_BYTES = 64 * 1024
_LONG_KEPT = 8
_read_long = lru_cache(maxsize=_LONG_KEPT)(Statement.from_bytes)


def _statement(data: bytes) -> Statement:
    return _read_long(data) if len(data) > _LONG_BYTES else Statement.from_bytes(data)


@dataclass(frozen=True, slots=True)
class Marks:
    """How far the stops were read: row ids of freezes and signatures, and the age of withdrawals."""

    freeze: int = 0
    stop: int = 0
    signature: int = 0
    withdrawn_ms: int = 0


@dataclass(frozen=True, slots=True)
class IdentityStop:
    """What the gateway says has ended an identity. Its word, which is enough to narrow; `statement` and `approval`
    where a person has signed it.
    """

    id: str
    what: str
    target: str
    reason: str
    source: str
    statement: Statement | None
    approval: Approval | None


@dataclass(frozen=True, slots=True)
class Stops:
    """What arrived at the gateway to stop something, and how far that was read."""

    freezes: tuple[SignedNarrowing, ...]
    stops: tuple[IdentityStop, ...]
    vetoes: tuple[SignedNarrowing, ...]
    withdrawn: tuple[str, ...]
    marks: Marks


def read_stops(connection: Connection, marks: Marks) -> Stops:
    """Freezes, vetoes and withdrawals since `marks`, whatever else waits at the gateway."""
    freezes, freeze = _read_freezes(connection, marks.freeze)
    stops, stop = _read_identity_stops(connection, marks.stop)
    vetoes, signature = _read_vetoes(connection, marks.signature)
    withdrawn, withdrawn_ms = _read_withdrawn(connection, marks.withdrawn_ms)
    marks = Marks(freeze, stop, signature, withdrawn_ms)
    return Stops(tuple(freezes), tuple(stops), tuple(vetoes), withdrawn, marks)


def _read_vetoes(connection: Connection, after_id: int) -> tuple[list[SignedNarrowing], int]:
    """Signatures under the veto twin of a request; the twin is made here, from the request's own bytes."""
    a, r = g.APPROVAL.c, g.REQUEST.c
    fits = sa.and_(
        sa.func.length(r.statement) <= STATEMENT_BYTES_MAX,
        sa.func.length(a.approval) <= APPROVAL_BYTES_MAX,
    )
    rows = connection.execute(
        sa.select(a.id, r.statement, a.approval)
        .join(g.REQUEST, r.digest == a.request)
        .where(a.id > after_id, a.statement != r.digest, fits)
        .order_by(a.id)
        .limit(ASKS_PER_LOOK)
    ).all()
    found = []
    for id, statement_data, approval_data in rows:
        statement = _readable(Statement.from_bytes, statement_data, f"veto {id}")
        approval = _readable(Approval.from_bytes, approval_data, f"veto {id}")
        if statement is not None and approval is not None:
            twin = statement.with_intent(Intent.VETO)
            if approval.statement == twin.digest:
                found.append(SignedNarrowing(twin, approval))
    return found, max((id for id, _, _ in rows if isinstance(id, int)), default=after_id)


def _read_withdrawn(connection: Connection, since_ms: int) -> tuple[tuple[str, ...], int]:
    """Requests whose release the gateway calls withdrawn: its word, and a word that only stops.

    Those of the hour before the newest are read again: each gateway has a clock of its own, and one that is behind
    withdraws at a time that another has passed. What was latched is not latched twice.
    """
    r, s = g.REQUEST.c, g.RELEASE.c
    rows = connection.execute(
        sa.select(r.digest, s.updated_ms)
        .join(g.RELEASE, s.id == r.release)
        .where(s.state == "withdrawn", s.updated_ms >= since_ms - _CLOCKS_APART_MS)
        .order_by(s.updated_ms)
        .limit(LISTED_MAX)
    ).all()
    times = [made for _, made in rows if isinstance(made, int)]
    return tuple(digest for digest, _ in rows if is_sha256(digest)), max(times, default=since_ms)


def _read_identity_stops(connection: Connection, after: int) -> tuple[list[IdentityStop], int]:
    """Rows of STOP since `after`. A kind that is not known stops nothing here; the others are taken at their word."""
    s = g.STOP.c
    rows = connection.execute(
        sa.select(g.STOP).where(s.serial > after).order_by(s.serial).limit(ASKS_PER_LOOK)
    ).all()
    found = []
    for row in rows:
        texts = (row.id, row.what, row.target, row.reason, row.source)
        if not all(isinstance(text, str) and len(text) <= _STOP_CHARS_MAX for text in texts):
            continue
        if row.what not in STOPPABLE or not is_sha256(row.id):
            continue
        statement = _readable(Statement.from_bytes, row.statement, f"stop {row.serial}")
        approval = _readable(Approval.from_bytes, row.approval, f"stop {row.serial}")
        if statement is not None:  # what was signed is what counts, not the columns beside it
            body = statement.body
            same = isinstance(body, RevocationBody) and (body.what, body.target) == texts[1:3]
            if not same or statement.digest != row.id:
                statement = approval = None
        found.append(IdentityStop(*texts, statement, approval))
    serials = [row.serial for row in rows if isinstance(row.serial, int)]
    return found, max(serials, default=after)


def _read_freezes(connection: Connection, after_id: int) -> tuple[list[SignedNarrowing], int]:
    """Freezes received after the row `after_id`, oldest first, and the last row that was looked at."""
    n = g.NARROWING.c
    fits = sa.and_(
        sa.func.length(n.statement) <= STATEMENT_BYTES_MAX,
        sa.func.length(n.approval) <= APPROVAL_BYTES_MAX,
    )
    rows = connection.execute(
        sa.select(n.id, n.statement, n.approval)
        .where(n.id > after_id, fits)
        .order_by(n.id)
        .limit(ASKS_PER_LOOK)
    ).all()
    found = []
    for id, statement_data, approval_data in rows:
        statement = _readable(Statement.from_bytes, statement_data, f"narrowing {id}")
        approval = _readable(Approval.from_bytes, approval_data, f"narrowing {id}")
        if statement is not None and approval is not None:
            found.append(SignedNarrowing(statement, approval))
    return found, max((id for id, _, _ in rows if isinstance(id, int)), default=after_id)


def read_details(connection: Connection, commitments: Iterable[str]) -> list[Details]:
    """The opened details that the gateway keeps for these commitments; each must match its commitment."""
    d = g.PERSON_DETAILS.c
    wanted = list(commitments)
    fits = sa.func.length(d.details) <= _DETAILS_BYTES_MAX
    rows = connection.execute(
        sa.select(d.commitment, d.details).where(d.commitment.in_(wanted), fits)
    ).all()
    found = []
    for commitment, data in rows:
        details = _readable(_details, data, commitment)
        if details is not None and details.commitment == commitment:
            found.append(details)
    return found


def read_rules(connection: Connection, digest: str) -> bytes | None:
    """What the gateway keeps as the rule document with this digest; None where it keeps nothing that could be one."""
    r = g.RULES.c
    fits = sa.func.length(r.document) <= RULES_BYTES_MAX
    data = connection.execute(sa.select(r.document).where(r.digest == digest, fits)).scalar()
    return data if isinstance(data, bytes) else None


def _signatures(connection: Connection, request: str, statement: str) -> tuple[Approval, ...]:
    a = g.APPROVAL.c
    rows = connection.execute(
        sa.select(a.approval)
        .where(
            a.request == request,
            a.statement == statement,
            sa.func.length(a.approval) <= APPROVAL_BYTES_MAX,
        )
        .order_by(a.id)
        .limit(APPROVALS_PER_STATEMENT_MAX)
    ).scalars()
    read = (_readable(Approval.from_bytes, data, request) for data in rows)
    return tuple(
        approval for approval in read if approval is not None and approval.statement == statement
    )


def _details(data: bytes) -> Details:
    return Details.from_json(
        parse_canonical(data, bytes_max=_DETAILS_BYTES_MAX, what="person's details")
    )


def _readable(read: Callable[[bytes], T], data: object, where: str) -> T | None:
    """The value, or None: one unreadable row must not hide the others."""
    try:
        if isinstance(data, bytes):
            return read(data)
    except Refusal as refusal:
        _LOG.debug("passed over a row of the gateway (%s): %s", where[:24], refusal.message)
    return None
