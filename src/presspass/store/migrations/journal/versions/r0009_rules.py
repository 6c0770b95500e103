"""Rule documents in force, and what the rules were asked about each release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Creates two tables."""
    op.create_table(
        "rules",
        sa.Column("digest", sa.String(length=64), primary_key=True),
        sa.Column("document", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "ruling",
        sa.Column("statement", sa.String(length=64), primary_key=True),
        sa.Column("question", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.String(length=64), nullable=False),
        sa.Column("allowed", sa.Integer(), nullable=False),
        sa.Column("rules", sa.String(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ruling_by_time", "ruling", ["at_ms"])
