"""When which release was asked for, by the press's own first sight."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Creates a table."""
    op.create_table(
        "release_seen",
        sa.Column("release", sa.String(length=64), primary_key=True),
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=128), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("release_seen_by_time", "release_seen", ["seen_ms"])
    op.create_index("release_seen_by_project", "release_seen", ["project", "seen_ms"])
