"""Enrolment links may be for another origin, to which the gate is about to move."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds `origin`; links that are there are for the origin in force."""
    op.add_column(
        "enrolment_link",
        sa.Column("origin", sa.String(length=2048), nullable=False, server_default=""),
    )
