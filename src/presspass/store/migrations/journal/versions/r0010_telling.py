"""Whom a notice is for and whether it may wait, and what people were reminded of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds the columns, which for notices of before say "urgent", and creates the table."""
    with op.batch_alter_table("notice") as notice:
        notice.add_column(
            sa.Column("person", sa.String(length=128), nullable=False, server_default="")
        )
        notice.add_column(sa.Column("urgent", sa.Integer(), nullable=False, server_default="1"))
        notice.add_column(sa.Column("made_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("notice_by_due", "notice", ["sent_ms", "next_ms"])
    op.create_index("notice_by_address", "notice", ["address", "sent_ms"])
    op.create_table(
        "reminded",
        sa.Column("statement", sa.String(length=64), primary_key=True),
        sa.Column("what", sa.String(length=16), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
