"""The ledger as the press writes it: entries, tree and checkpoint in the transaction of the decision they describe.

Order (law 6): entries, tiles and the signed checkpoint are committed together with the journal row that permits the
effect; only after that commit is the effect carried out or shown. A crash before the commit leaves nothing, after it
everything. A checkpoint that was signed and not committed has left this process nowhere, so the next one may be of the
same size and another root: nobody has seen two.

Entries are rows at once; the tree grows and is signed at the end of the transaction, once for all work in it. An entry
that the tree lacks can only be one whose transaction has not ended.

One row is the head, and it is moved on from the size that was read: whoever else has written meanwhile makes the whole
transaction fail (`ledger.moved`) rather than fork the tree. The size is the fencing token: it only grows, every
transaction takes the next one, and no two take the same, since the position of an entry is a key as well. Several
presses may live on one journal (ADR 0017); who of them holds no turn any more can neither extend the tree from what it
remembers, nor write into the middle of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import canonical
from presspass.core.errors import Code, Fault, Refusal, invariant
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, sign
from presspass.core.ledger.tiles import ENTRY_BYTES_MAX, HASH_BYTES, HEIGHT, WIDTH
from presspass.core.log import LogBody, LogRecovery
from presspass.store import history, journal_view
from presspass.store import journal_tables as t
from presspass.store import ledger_view as view
from presspass.store.database import Prepared
from presspass.store.ledger_view import Head

_LAST: Final = Prepared(sa.select(sa.func.max(t.LEDGER_ENTRY.c.position)))
_NEW_ENTRY: Final = Prepared(sa.insert(t.LEDGER_ENTRY))
_NEW_MENTION: Final = Prepared(sa.insert(t.LEDGER_MENTION))
_NEW_TILE: Final = Prepared(sa.insert(t.LEDGER_TILE))
_TILE: Final = Prepared(
    sa.update(t.LEDGER_TILE)
    .where(
        t.LEDGER_TILE.c.level == sa.bindparam("at_level"),
        t.LEDGER_TILE.c.position == sa.bindparam("at"),
    )
    .values(hashes=sa.bindparam("hashes"))
)
_NEW_HEAD: Final = Prepared(sa.insert(t.LEDGER_HEAD))
_HEAD: Final = Prepared(
    sa.update(t.LEDGER_HEAD)
    .where(t.LEDGER_HEAD.c.size == sa.bindparam("before"))
    .values(size=sa.bindparam("size"), edge=sa.bindparam("edge"), note=sa.bindparam("note"))
)


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where an entry stands: its position, and the proof against the tree of the given checkpoint."""

    position: int
    entry: bytes
    proof: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """`beginning`: the log by genesis; `sign_raw`: of a key (public half, hex) and a message, raw Ed25519 signature."""

    beginning: LogBody
    sign_raw: Callable[[str, bytes], bytes]

    def in_force(self, connection: Connection) -> LogBody:
        """The name and key that the checkpoint of this transaction is signed with: what people have put in force, also
        in this transaction.
        """
        return journal_view.log(connection) or self.beginning

    def append(self, connection: Connection, entry: Mapping[str, Any]) -> int:
        """Adds one entry (canonical JSON); its position. The tree grows at the end of the transaction (`grow`).

        What it is about is kept beside it, so that an answer after the fact finds it.
        """
        position = self.extend(connection, [canonical(entry)])
        for tag in history.tags(entry):
            _NEW_MENTION.run(connection, tag=tag, position=position)
        return position

    def extend(self, connection: Connection, entries: Sequence[bytes]) -> int:
        """Adds entries, one at least; the position of the first. None may be longer than a bundle can say it is: what
        is in an entry is bounded where it comes in, so that would be a fault of ours.
        """
        invariant(all(len(one) <= ENTRY_BYTES_MAX for one in entries), "an entry fits its bundle")
        ((last,),) = _LAST.rows(connection)
        position = 0 if last is None else int(last) + 1
        _add_entries(connection, position, entries)
        return position

    def grow(self, connection: Connection) -> None:
        """Brings the tree to all entries of the transaction and signs it: once before the commit (group commit)."""
        before = view.head(connection)
        entries = list(view.entries(connection, before.size))
        if not entries:
            return
        edge, made = list(before.edge), dict[int, list[bytes]]()
        for position, one in enumerate(entries, before.size):
            for level, _index, value in merkle.append(position, edge, merkle.leaf_hash(one)):
                if level and level % HEIGHT == 0:
                    made.setdefault(level // HEIGHT, []).append(value)
        for level, found in made.items():
            _add_to_tiles(connection, level, before.size >> HEIGHT * level, found)
        size = before.size + len(entries)
        log = self.in_force(connection)
        checkpoint = Checkpoint(log.origin, size, merkle.edge_root(edge))
        note = sign(checkpoint, log.public_key, partial(self.sign_raw, log.key))
        _move_head(connection, before, Head(size, tuple(edge), note))

    def inclusion(self, connection: Connection, position: int) -> Inclusion:
        """The proof of one entry, also of this transaction, against the newest checkpoint."""
        self.grow(connection)
        head = view.head(connection)
        proof = merkle.inclusion_proof(position, head.size, view.node_reader(connection))
        return Inclusion(position, view.entry(connection, position), tuple(proof), head.note)


def _add_entries(connection: Connection, position: int, entries: Sequence[bytes]) -> None:
    if len(entries) == 1:
        _NEW_ENTRY.run(connection, position=position, entry=entries[0])
        return
    rows = [{"position": n, "entry": one} for n, one in enumerate(entries, position)]
    connection.execute(t.LEDGER_ENTRY.insert(), rows)


def _add_to_tiles(connection: Connection, level: int, count: int, found: list[bytes]) -> None:
    """Adds hashes to a level that has `count` of them."""
    index, width = divmod(count, WIDTH)
    data = b"".join(found)
    if width:
        room = (WIDTH - width) * HASH_BYTES
        whole = view.hashes(connection, level, index)[: width * HASH_BYTES] + data[:room]
        _TILE.run(connection, at_level=level, at=index, hashes=whole)
        index, data = index + 1, data[room:]
    size = WIDTH * HASH_BYTES
    for number, at in enumerate(range(0, len(data), size), index):
        _NEW_TILE.run(connection, level=level, position=number, hashes=data[at : at + size])


def _move_head(connection: Connection, before: Head, after: Head) -> None:
    row: dict[str, object] = {"size": after.size, "edge": b"".join(after.edge), "note": after.note}
    if before.size == 0:
        _NEW_HEAD.run(connection, **row)
        return
    if _HEAD.run(connection, before=before.size, **row) != 1:
        raise Fault("ledger.moved", "Another process has written to the ledger.", retryable=True)


def check_recovery(connection: Connection, recovery: LogRecovery) -> None:
    """Refuses with `log.unusable` a recovery that goes on from another tree than this ledger has, or that gives up less
    than a witness says it has seen.
    """
    seen = int(journal_view.fact(connection, journal_view.LEDGER_SEEN) or 0)
    begins = recovery.size <= view.size(connection) and recovery.root == (
        merkle.root(recovery.size, view.node_reader(connection)).hex()
    )
    if not begins or recovery.seen_size < seen:
        raise Refusal(
            Code.LOG_UNUSABLE,
            f"The recovery speaks of another ledger than this one, of which {seen} entries were seen."
            if begins
            else f"This ledger does not begin with the {recovery.size} entries that the recovery goes on from.",
            "Ask for it on the press's host: presspass log recover",
        )
