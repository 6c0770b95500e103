"""What people ask of the press, read from the gateway's database: bytes to be checked, not facts to be believed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.digests import parse_canonical
from presspass.core.errors import Refusal
from presspass.core.limits import APPROVAL_BYTES_MAX, APPROVALS_PER_STATEMENT_MAX, STATEMENT_BYTES_MAX
from presspass.core.roster import Details
from presspass.core.statement import Intent, Statement
from presspass.store import gateway_tables as g

_LOG = logging.getLogger("presspass.press")
_ASKS_PER_LOOK = 500
_DETAILS_BYTES_MAX = 64 * 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """A statement before the approvers. `approvals` and `vetoes` are unverified; `created_ms` is the gateway's word."""

    statement: Statement
    release: str
    approvals: tuple[Approval, ...]
    vetoes: tuple[Approval, ...]
    created_ms: int

    @property
    def digest(self) -> str:
        return self.statement.digest


@dataclass(frozen=True, slots=True)
class SignedNarrowing:
    """A freeze as the gateway received it, unverified."""

    id: int
    statement: Statement
    approval: Approval


def read_asks(connection: Connection, since_ms: int, still_open: Iterable[str]) -> list[Ask]:
    """Requests made since `since_ms`, and those in `still_open`, oldest first, with every signature under them."""
    r = g.REQUEST.c
    wanted = sa.or_(r.created_ms >= since_ms, r.digest.in_(list(still_open)))
    fits = sa.func.length(r.statement) <= STATEMENT_BYTES_MAX
    rows = connection.execute(
        sa.select(r.digest, r.release, r.statement, r.created_ms)
        .where(wanted, fits)
        .order_by(r.created_ms, r.digest)
        .limit(_ASKS_PER_LOOK)
    ).all()
    asks = []
    for digest, release, data, created_ms in rows:
        statement = _readable(Statement.from_bytes, data, digest)
        if statement is None or statement.digest != digest or statement.intent is not Intent.APPROVE:
            continue
        veto = statement.with_intent(Intent.VETO).digest
        found = _signatures(connection, digest)
        asks.append(
            Ask(
                statement,
                str(release or ""),
                tuple(one for one in found if one.statement == digest),
                tuple(one for one in found if one.statement == veto),
                int(created_ms),
            )
        )
    return asks


def read_narrowings(connection: Connection, after_id: int) -> list[SignedNarrowing]:
    """Freezes received after the row `after_id`, oldest first."""
    n = g.NARROWING.c
    fits = sa.and_(
        sa.func.length(n.statement) <= STATEMENT_BYTES_MAX, sa.func.length(n.approval) <= APPROVAL_BYTES_MAX
    )
    rows = connection.execute(
        sa.select(n.id, n.statement, n.approval).where(n.id > after_id, fits).order_by(n.id).limit(_ASKS_PER_LOOK)
    ).all()
    found = []
    for id, statement_data, approval_data in rows:
        statement = _readable(Statement.from_bytes, statement_data, f"narrowing {id}")
        approval = _readable(Approval.from_bytes, approval_data, f"narrowing {id}")
        if statement is not None and approval is not None:
            found.append(SignedNarrowing(int(id), statement, approval))
    return found


def read_details(connection: Connection, commitments: Iterable[str]) -> list[Details]:
    """The opened details that the gateway keeps for these commitments; each must match its commitment."""
    d = g.PERSON_DETAILS.c
    wanted = list(commitments)
    fits = sa.func.length(d.details) <= _DETAILS_BYTES_MAX
    rows = connection.execute(sa.select(d.commitment, d.details).where(d.commitment.in_(wanted), fits)).all()
    found = []
    for commitment, data in rows:
        details = _readable(_details, data, commitment)
        if details is not None and details.commitment == commitment:
            found.append(details)
    return found


def _signatures(connection: Connection, request: str) -> list[Approval]:
    a = g.APPROVAL.c
    rows = connection.execute(
        sa.select(a.approval)
        .where(a.request == request, sa.func.length(a.approval) <= APPROVAL_BYTES_MAX)
        .order_by(a.id)
        .limit(APPROVALS_PER_STATEMENT_MAX)
    ).scalars()
    read = (_readable(Approval.from_bytes, data, request) for data in rows)
    return [approval for approval in read if approval is not None]


def _details(data: bytes) -> Details:
    return Details.from_json(parse_canonical(data, bytes_max=_DETAILS_BYTES_MAX, what="person's details"))


def _readable(read: Callable[[bytes], T], data: bytes, where: str) -> T | None:
    """The value, or None and a line in the log: one unreadable row must not hide the others."""
    try:
        return read(data)
    except Refusal as refusal:
        _LOG.warning("passed over a row of the gateway (%s): %s", where[:24], refusal.message)
        return None
