"""The ledger as the press writes it: entry, tree and checkpoint in the transaction of the decision they describe.

Order (law 6): entry and nodes and signed checkpoint are committed together with the journal row that permits the
effect; only after that commit is the effect carried out or shown. A crash before the commit leaves nothing, after it
everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import canonical
from presspass.core.errors import Fault
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, sign
from presspass.store import journal_tables as t


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where an entry stands: its position, and the proof against the tree of the given checkpoint."""

    position: int
    entry: bytes
    proof: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """`origin`: the log's name in checkpoints; `sign_raw`: raw Ed25519 signature by the press's log key."""

    origin: str
    public_key: bytes
    sign_raw: Callable[[bytes], bytes]

    def append(self, connection: Connection, entry: Mapping[str, Any]) -> int:
        """Adds one entry (canonical JSON) and signs the tree that has it; returns its position."""
        data = canonical(entry)
        position = size(connection)
        connection.execute(t.LEDGER_ENTRY.insert().values(position=position, entry=data))
        nodes = merkle.append(position, merkle.leaf_hash(data), reader(connection))
        connection.execute(
            t.LEDGER_NODE.insert(),
            [{"level": lv, "position": ix, "hash": value} for lv, ix, value in nodes],
        )
        checkpoint = Checkpoint(
            self.origin, position + 1, merkle.root(position + 1, reader(connection))
        )
        note = sign(checkpoint, self.public_key, self.sign_raw)
        connection.execute(t.CHECKPOINT.insert().values(size=position + 1, note=note))
        return position

    def inclusion(self, connection: Connection, position: int) -> Inclusion:
        """The proof of one entry against the newest checkpoint."""
        total = size(connection)
        note = connection.execute(
            sa.select(t.CHECKPOINT.c.note).where(t.CHECKPOINT.c.size == total)
        ).scalar_one()
        entry = connection.execute(
            sa.select(t.LEDGER_ENTRY.c.entry).where(t.LEDGER_ENTRY.c.position == position)
        ).scalar_one()
        proof = merkle.inclusion_proof(position, total, reader(connection))
        return Inclusion(position, entry, tuple(proof), note)


def size(connection: Connection) -> int:
    """Number of entries."""
    top = connection.execute(sa.select(sa.func.max(t.LEDGER_ENTRY.c.position))).scalar()
    return 0 if top is None else int(top) + 1


def reader(connection: Connection) -> merkle.ReadNode:
    """Reads stored subtree hashes; Fault("ledger.damaged") where one is missing."""
    n = t.LEDGER_NODE.c

    def read(level: int, position: int) -> bytes:
        value: bytes | None = connection.execute(
            sa.select(n.hash).where(n.level == level, n.position == position)
        ).scalar()
        if value is None:
            raise Fault(
                "ledger.damaged", f"The ledger lacks node {level}/{position}.", retryable=False
            )
        return value

    return read


def check(connection: Connection) -> int:
    """Recomputes the whole tree from the entries and compares every node and checkpoint; returns the size.

    Fault("ledger.damaged") at the first difference. Used at start, after a restore, and by the crash tests.
    """
    rows = connection.execute(
        sa.select(t.LEDGER_ENTRY.c.position, t.LEDGER_ENTRY.c.entry).order_by(sa.text("1"))
    )
    nodes: dict[tuple[int, int], bytes] = {}
    total = 0
    stored = reader(connection)
    for position, entry in rows.all():
        if position != total:
            raise Fault("ledger.damaged", f"The ledger lacks entry {total}.", retryable=False)
        for level, index, value in merkle.append(
            total, merkle.leaf_hash(entry), lambda lv, ix: nodes[lv, ix]
        ):
            nodes[level, index] = value
            if stored(level, index) != value:
                raise Fault(
                    "ledger.damaged",
                    f"Ledger node {level}/{index} does not match.",
                    retryable=False,
                )
        total += 1
        _check_checkpoint(connection, total, merkle.root(total, lambda lv, ix: nodes[lv, ix]))
    return total


def _check_checkpoint(connection: Connection, total: int, root: bytes) -> None:
    note = connection.execute(
        sa.select(t.CHECKPOINT.c.note).where(t.CHECKPOINT.c.size == total)
    ).scalar()
    if (
        note is None
        or Checkpoint(_origin(note), total, root).to_text().encode()
        != note.partition(b"\n\n")[0] + b"\n"
    ):
        raise Fault(
            "ledger.damaged",
            f"The checkpoint of size {total} does not match the tree.",
            retryable=False,
        )


def _origin(note: bytes) -> str:
    return note.split(b"\n", 1)[0].decode("utf-8", "replace")
