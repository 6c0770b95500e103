"""Workloads, passes and what ends them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates them."""
    op.create_table(
        "seen_token",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "stop",
        sa.Column(
            "serial",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=True),
        sa.Column("approval", sa.LargeBinary(), nullable=True),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("stop_by_target", "stop", ["what", "target"], unique=False)
    op.create_table(
        "workflow",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "workload_token",
        sa.Column(
            "serial",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("publisher", sa.String(length=128), nullable=False),
        sa.Column("publisher_statement", sa.String(length=64), nullable=False),
        sa.Column("delegation", sa.String(length=64), nullable=False),
        sa.Column("delegation_name", sa.String(length=128), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("workflow", sa.String(length=64), nullable=False),
        sa.Column("workflow_path", sa.LargeBinary(), nullable=True),
        sa.Column("stage_only", sa.Integer(), nullable=False),
        sa.Column("set_digest", sa.String(length=64), nullable=False),
        sa.Column("described", sa.LargeBinary(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial"),
        sa.UniqueConstraint("hash"),
    )
    op.create_index("workload_token_by_run", "workload_token", ["run"], unique=False)
    op.create_table(
        "pass",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("workload", sa.String(length=64), nullable=False),
        sa.Column("publisher", sa.String(length=128), nullable=False),
        sa.Column("upstream", sa.String(length=128), nullable=False),
        sa.Column("project", sa.String(length=214), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("person", sa.String(length=128), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=True),
        sa.Column("files", sa.LargeBinary(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_why", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["workload"],
            ["workload_token.hash"],
        ),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("pass_by_publisher", "pass", ["publisher"], unique=False)
    op.create_index("pass_by_workload", "pass", ["workload"], unique=False)
    op.add_column(
        "release", sa.Column("workload", sa.String(64), server_default="", nullable=False)
    )
    op.add_column("release", sa.Column("note", sa.String(), server_default="", nullable=False))
