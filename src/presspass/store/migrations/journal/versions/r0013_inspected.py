"""What the press's own inspections found at worst."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Creates one table."""
    op.create_table(
        "inspected",
        sa.Column("review", sa.String(length=64), primary_key=True),
        sa.Column("worst", sa.String(length=16), nullable=False),
    )
