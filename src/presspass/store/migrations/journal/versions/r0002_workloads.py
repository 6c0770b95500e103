"""Workloads as the press has verified them, the workflows that people bound anew, and what forges were told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates them."""
    op.create_table(
        "rebound",
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("publisher_statement", sa.String(length=64), nullable=False),
        sa.Column("workflow", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("release"),
    )
    op.create_index("rebound_by_publisher", "rebound", ["publisher_statement"], unique=False)
    op.create_table(
        "forge_report",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("told", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("statement"),
    )
    op.create_index("forge_report_by_told", "forge_report", ["told"], unique=False)
    op.create_table(
        "workload",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("publisher", sa.String(length=128), nullable=False),
        sa.Column("publisher_statement", sa.String(length=64), nullable=False),
        sa.Column("delegation", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("workflow", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=128), nullable=False),
        sa.Column("set_digest", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("repository", sa.String(), nullable=False),
        sa.Column("commit_id", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("replay_key", sa.String(length=64), nullable=True),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=True),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("token"),
        sa.UniqueConstraint("release"),
        sa.UniqueConstraint("replay_key"),
    )
