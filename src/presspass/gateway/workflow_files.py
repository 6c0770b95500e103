"""The contents of workflows that people are shown, by their SHA-256; whoever brings one has proved or checked it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.store.gateway_tables import WORKFLOW


def keep_workflow(connection: Connection, sha256: str, content: bytes, now_ms: int) -> None:
    """Keeps the content of a workflow, so that pages can show it; in the caller's transaction, once each."""
    known = sa.select(WORKFLOW.c.sha256).where(WORKFLOW.c.sha256 == sha256)
    if connection.execute(known).first() is None:
        row = {"sha256": sha256, "content": content, "seen_ms": now_ms}
        connection.execute(sa.insert(WORKFLOW), row)
