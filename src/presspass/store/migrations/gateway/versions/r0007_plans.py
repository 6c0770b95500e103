"""Which requests a plan names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "plan_member",
        sa.Column("plan", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("request", sa.String(64), nullable=False),
    )
    op.create_index("plan_member_by_request", "plan_member", ["request"])
