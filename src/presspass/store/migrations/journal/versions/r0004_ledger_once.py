"""What stands in the ledger once, however often the press comes to it again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates it; it fills by itself."""
    op.create_table(
        "ledger_once",
        sa.Column("entry", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("entry"),
    )
