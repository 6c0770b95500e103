"""Releases that have passed under a standing approval."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Creates the table and its index."""
    op.create_table(
        "standing_use",
        sa.Column("statement", sa.String(length=64), primary_key=True),
        sa.Column("standing", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("project", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("due_ms", sa.BigInteger()),
        sa.Column("read_ms", sa.BigInteger()),
        sa.Column("read_by", sa.String(length=128), nullable=False),
    )
    op.create_index("standing_use_by_name", "standing_use", ["name", "at_ms"])
