"""Whether the ledger in the press's journal is what its entries come to."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from presspass.core.errors import Refusal
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint
from presspass.core.ledger.note import Note
from presspass.core.ledger.tiles import HEIGHT, WIDTH
from presspass.store import ledger_view as view
from presspass.store.ledger_view import Head


def check(connection: Connection) -> int:
    """Recomputes the whole tree from the entries and compares every tile and the head; returns the size.

    Fault("ledger.damaged") at the first difference. A press looks when it starts: about 1.8 s for a million entries.
    """
    edge, total = list[bytes](), 0
    rows: dict[int, list[bytes]] = {}
    for entry in view.entries(connection):
        for level, _index, value in merkle.append(total, edge, merkle.leaf_hash(entry)):
            if level and level % HEIGHT == 0:
                rows.setdefault(level // HEIGHT, []).append(value)
        total += 1
        for level, found in rows.items():
            if len(found) == WIDTH:
                _check_tile(connection, level, (total >> HEIGHT * level) // WIDTH - 1, found)
                rows[level] = []
    for level, found in rows.items():
        if found:
            _check_tile(connection, level, (total >> HEIGHT * level) // WIDTH, found)
    _check_head(view.head(connection), total, edge)
    return total


def seen_beyond(connection: Connection) -> tuple[int, str] | None:
    """What the journal itself says was seen of the ledger, and is not in it: the size of that tree, and what says so;
    None where there is nothing. It is looked for in what is kept beside the ledger, by whoever cut the one alone.
    """
    size, read = view.head(connection).size, view.node_reader(connection)
    for name, (seen, note) in view.cosigned(connection).items():
        try:
            checkpoint = Checkpoint.from_text(Note.from_bytes(note).text)
        except Refusal as refusal:
            raise view.damaged(f"has no checkpoint of {name}: {refusal.message}") from None
        if seen > size or merkle.root(seen, read) != checkpoint.root:
            return seen, f"{name} has cosigned {seen} other entries"
    signed = view.revocation_age(connection)
    if signed is not None and signed[0] > size:
        return signed[0], f"a revocation head was signed for {signed[0]} entries"
    return None


def _check_tile(connection: Connection, level: int, index: int, found: list[bytes]) -> None:
    if view.hashes(connection, level, index) != b"".join(found):
        raise view.damaged(f"has a tile {level}/{index} that does not match its entries")


def _check_head(head: Head, total: int, edge: list[bytes]) -> None:
    if head.size != total or list(head.edge) != edge:
        raise view.damaged(f"has {total} entries and a head of {head.size} that does not match")
    if not total:
        return
    try:
        found = Checkpoint.from_text(Note.from_bytes(head.note).text)
    except Refusal as refusal:
        raise view.damaged(f"has no checkpoint: {refusal.message}") from None
    if (found.size, found.root) != (total, merkle.edge_root(edge)):
        raise view.damaged(f"has a checkpoint of size {found.size} that does not match the tree")
