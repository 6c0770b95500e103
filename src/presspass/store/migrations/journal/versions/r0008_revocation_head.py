"""What is revoked of what was published, as a note that the log's key has signed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "revocation_head",
        sa.Column("size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("time_s", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
    )
