"""By what an act of the press is asked for after the fact, and which entries of the ledger are about it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.effects import effects
from presspass.core.statement import Kind, Statement
from presspass.store.history import facet_rows, tags

revision = "0005"
down_revision = "0004"

_ROWS_AT_ONCE = 1000


def upgrade() -> None:
    """Creates both, and fills them from what is there."""
    op.create_table(
        "ledger_mention",
        sa.Column("tag", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tag", "position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "statement_facet",
        sa.Column("facet", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("facet", "value", "at_ms", "statement"),
        sqlite_with_rowid=False,
    )
    if not op.get_context().as_sql:  # the script for an administrator is for an empty database
        connection = op.get_bind()
        _index_entries(connection)
        _index_statements(connection)


def _index_entries(connection: Connection) -> None:
    some = sa.text(
        "SELECT position, entry FROM ledger_entry WHERE position >= :start ORDER BY position LIMIT :count"
    )
    row = sa.text("INSERT INTO ledger_mention (tag, position) VALUES (:tag, :position)")
    start = 0
    while rows := connection.execute(some, {"start": start, "count": _ROWS_AT_ONCE}).all():
        found = [{"tag": tag, "position": at} for at, entry in rows for tag in _tags(entry)]
        if found:
            connection.execute(row, found)
        start = rows[-1].position + 1


def _tags(entry: bytes) -> list[int]:
    value = json.loads(entry)
    return tags(value) if isinstance(value, dict) else []


def _index_statements(connection: Connection) -> None:
    """Each under the policy that was in force: the last one that came at a smaller height."""
    row = sa.text(
        "INSERT INTO statement_facet (facet, value, at_ms, statement) VALUES (:facet, :value, :at_ms, :statement)"
    )
    in_force, coming, reached = "", "", 0
    for statement, height, at_ms in _statements(connection):
        if height > reached:
            in_force, reached = coming, height
        approvals = _approvals(connection, statement.digest)
        rows = facet_rows(statement, approvals, in_force or statement.digest, at_ms)
        connection.execute(row, rows)
        for one in effects(statement):
            coming = one.digest if one.kind is Kind.POLICY else coming


def _statements(connection: Connection) -> Iterator[tuple[Statement, int, int]]:
    order = sa.text("SELECT digest FROM statement ORDER BY height, admitted_ms, digest")
    whole = sa.text("SELECT statement, height, admitted_ms FROM statement WHERE digest = :digest")
    for digest in connection.execute(order).scalars().all():
        data, height, at_ms = connection.execute(whole, {"digest": digest}).one()
        yield Statement.from_bytes(data), height, at_ms


def _approvals(connection: Connection, digest: str) -> list[Approval]:
    query = sa.text("SELECT approval FROM approval WHERE statement = :digest")
    found = connection.execute(query, {"digest": digest}).scalars()
    return [Approval.from_bytes(data) for data in found]
