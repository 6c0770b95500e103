"""Which releases a plan names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "plan_release",
        sa.Column("plan", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("release", sa.String(64), nullable=False),
    )
    op.create_index("plan_release_by_release", "plan_release", ["release"])
