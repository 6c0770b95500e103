"""The ledger in tiles, and one row for the tree as it is, in place of nodes and checkpoints; what witnesses signed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0003"
down_revision = "0002"

_HEIGHT, _WIDTH = 8, 256


def upgrade() -> None:
    """Creates them, and fills them from what is there."""
    op.create_table(
        "ledger_tile",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "position"),
    )
    op.create_table(
        "ledger_head",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("edge", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_table(
        "ledger_witness",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    cosignatures = sa.Column("cosignatures", sa.Integer(), nullable=False, server_default="0")
    op.add_column("proof", cosignatures)
    if op.get_context().dialect.name == "sqlite":
        _number_rows_by_position()
    if not op.get_context().as_sql:  # the script for an administrator is for an empty database
        _move(op.get_bind())
    op.drop_table("ledger_node")
    op.drop_table("checkpoint")


def _number_rows_by_position() -> None:
    """A BIGINT key is kept twice there; an INTEGER one is the row's own number."""
    op.create_table(
        "ledger_entry_new",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.execute(
        "INSERT INTO ledger_entry_new SELECT position, entry FROM ledger_entry ORDER BY position"
    )
    op.drop_table("ledger_entry")
    op.rename_table("ledger_entry_new", "ledger_entry")


def _move(connection: Connection) -> None:
    newest = sa.text("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1")
    head = connection.execute(newest).first()
    if head is None:
        return
    nodes = sa.text("SELECT hash FROM ledger_node WHERE level = :level ORDER BY position")
    row = sa.text(
        "INSERT INTO ledger_tile (level, position, hashes) VALUES (:level, :position, :hashes)"
    )
    level = 0
    while hashes := connection.execute(nodes, {"level": level * _HEIGHT}).scalars().all():
        for position in range(-(-len(hashes) // _WIDTH)):
            tile = b"".join(hashes[position * _WIDTH : (position + 1) * _WIDTH])
            connection.execute(row, {"level": level, "position": position, "hashes": tile})
        level += 1
    node = sa.text("SELECT hash FROM ledger_node WHERE level = :level AND position = :position")
    edge, start = [], 0
    for bit in reversed(range(head.size.bit_length())):
        if head.size >> bit & 1:
            place = {"level": bit, "position": start >> bit}
            edge.append(connection.execute(node, place).scalar_one())
            start += 1 << bit
    now = {"size": head.size, "edge": b"".join(edge), "note": head.note}
    insert = sa.text("INSERT INTO ledger_head (size, edge, note) VALUES (:size, :edge, :note)")
    connection.execute(insert, now)
