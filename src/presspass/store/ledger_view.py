"""Questions to the ledger in the press's journal: its head, its tiles and entries, proofs from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Fault
from presspass.core.ledger import tiles
from presspass.core.ledger.merkle import ReadNode, leaf_hash
from presspass.core.ledger.note import Note
from presspass.core.ledger.tiles import ENTRIES, HASH_BYTES, WIDTH, Tile
from presspass.store.database import Prepared
from presspass.store.journal_tables import (
    LEDGER_ENTRY,
    LEDGER_HEAD,
    LEDGER_TILE,
    LEDGER_WITNESS,
    REVOCATION_HEAD,
)

_HEAD: Final = Prepared(sa.select(LEDGER_HEAD.c.size, LEDGER_HEAD.c.edge, LEDGER_HEAD.c.note))
_ROWS_AT_ONCE: Final = 1000
_POSITION_MAX: Final = 2**63 - 1
_ENTRIES: Final = Prepared(
    sa.select(LEDGER_ENTRY.c.position, LEDGER_ENTRY.c.entry)
    .where(
        LEDGER_ENTRY.c.position >= sa.bindparam("start"),
        LEDGER_ENTRY.c.position < sa.bindparam("end"),
    )
    .order_by(LEDGER_ENTRY.c.position)
)
_TILE: Final = Prepared(
    sa.select(LEDGER_TILE.c.hashes).where(
        LEDGER_TILE.c.level == sa.bindparam("level"),
        LEDGER_TILE.c.position == sa.bindparam("position"),
    )
)


@dataclass(frozen=True, slots=True)
class Head:
    """The tree as it is. `edge`: see `merkle.append`; `note`: its checkpoint, b"" of an empty tree."""

    size: int
    edge: tuple[bytes, ...]
    note: bytes


def head(connection: Connection) -> Head:
    """The newest one; of an empty ledger, an empty one."""
    rows = _HEAD.rows(connection)
    if not rows:
        return Head(0, (), b"")
    ((count, edge, note),) = rows
    hashes = [edge[at : at + HASH_BYTES] for at in range(0, len(edge), HASH_BYTES)]
    return Head(count, tuple(hashes), note)


def cosigned(connection: Connection) -> dict[str, tuple[int, bytes]]:
    """By name of a witness: size of the newest checkpoint that it has cosigned, and that checkpoint with its line."""
    rows = connection.execute(sa.select(LEDGER_WITNESS).order_by(LEDGER_WITNESS.c.name))
    return {row.name: (row.size, row.note) for row in rows}


def checkpoint(connection: Connection, size: int | None = None) -> bytes:
    """The checkpoint of `size`, by default the newest, with the lines of all witnesses that have cosigned it; b"" where
    there is none, or no witness has cosigned that size.
    """
    newest = head(connection)
    of_size = newest.size if size is None else size
    notes = [newest.note] if newest.note and of_size == newest.size else []
    notes += [note for at, note in cosigned(connection).values() if at == of_size]
    if not notes:
        return b""
    opened = [Note.from_bytes(one) for one in notes]
    lines = dict.fromkeys(line for one in opened for line in one.signatures)
    return Note(opened[0].text, tuple(lines)).to_bytes()


def revocation_age(connection: Connection) -> tuple[int, int] | None:
    """Size and time (Unix seconds) of the newest revocation head; None where there is none yet."""
    row = connection.execute(sa.select(REVOCATION_HEAD.c.size, REVOCATION_HEAD.c.time_s)).first()
    return None if row is None else (row.size, row.time_s)


def revocation_note(connection: Connection) -> bytes:
    """The newest revocation head, signed; b"" where there is none yet."""
    found: bytes | None = connection.execute(sa.select(REVOCATION_HEAD.c.note)).scalar()
    return found or b""


def size(connection: Connection) -> int:
    """Number of entries."""
    return head(connection).size


def entry(connection: Connection, position: int) -> bytes:
    """One entry; Fault("ledger.damaged") where it is missing."""
    query = sa.select(LEDGER_ENTRY.c.entry).where(LEDGER_ENTRY.c.position == position)
    found: bytes | None = connection.execute(query).scalar()
    if found is None:
        raise damaged(f"lacks entry {position}")
    return found


def entries(connection: Connection, start: int = 0, count: int | None = None) -> Iterator[bytes]:
    """Every entry from `start` on, `count` at most, in order; Fault("ledger.damaged") where one before the last is
    missing.
    """
    end = _POSITION_MAX if count is None else start + count
    while start < end:
        upto = min(start + _ROWS_AT_ONCE, end)
        rows = _ENTRIES.rows(connection, start=start, end=upto)
        for position, found in rows:
            if position != start:
                raise damaged(f"lacks entry {start}")
            yield found
            start += 1
        if start < upto:
            return


def hashes(connection: Connection, level: int, index: int) -> bytes:
    """The hashes that a tile has now; b"" where there is none. Those of entries are kept nowhere but in the entries."""
    if level == 0:
        return b"".join(map(leaf_hash, entries(connection, index * WIDTH, WIDTH)))
    rows = _TILE.rows(connection, level=level, position=index)
    return bytes(rows[0][0]) if rows else b""


def node_reader(connection: Connection) -> ReadNode:
    """Reads subtree hashes, each tile once; Fault("ledger.damaged") where one is missing."""
    known: dict[tuple[int, int], bytes] = {}

    def tile(level: int, index: int) -> bytes:
        if (level, index) not in known:
            known[level, index] = hashes(connection, level, index)
        return known[level, index]

    within = tiles.node_reader(tile)

    def read(level: int, index: int) -> bytes:
        try:
            return within(level, index)
        except IndexError:
            raise damaged(f"lacks node {level}/{index}") from None

    return read


def served(connection: Connection, tile: Tile) -> bytes | None:
    """A tile or bundle as it is served (C2SP tlog-tiles); None where the log has none such, or not yet."""
    if not tiles.is_served(tile, size(connection)):
        return None
    if tile.level != ENTRIES:
        return hashes(connection, tile.level, tile.index)[: tile.width * HASH_BYTES]
    return tiles.bundle(list(entries(connection, tile.index * WIDTH, tile.width)))


def damaged(what: str) -> Fault:
    """The fault of a ledger that is not what it should be."""
    return Fault("ledger.damaged", f"The ledger {what}.", retryable=False)
