"""Rule documents that a policy asked for names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "rules",
        sa.Column("digest", sa.String(length=64), primary_key=True),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
    )
