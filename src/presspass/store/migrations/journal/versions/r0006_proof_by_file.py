"""Proofs are found by the digest of their file."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the index."""
    op.create_index("ix_proof_sha256", "proof", ["sha256"])
