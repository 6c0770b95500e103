"""The log as files that never change: tiles of hashes and bundles of entries (C2SP tlog-tiles). No I/O.

A tile of level l holds up to WIDTH hashes, each of a subtree of 256^l entries. The rightmost tile of a level is
partial: a prefix of the full one, named by its width. Levels of the tree in between are hashed from a tile's hashes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from presspass.core.errors import Code, Refusal
from presspass.core.ledger.merkle import ReadNode, node_hash

HEIGHT: Final = 8
WIDTH: Final = 256
HASH_BYTES: Final = 32
#: The level under which bundles of entries are named.
ENTRIES: Final = -1
ENTRY_BYTES_MAX: Final = 0xFFFF
_LENGTH_BYTES: Final = 2
_LEVEL_MAX: Final = 63
_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile, or with level ENTRIES which bundle. `width`: how many hashes or entries, 1 to WIDTH."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it is served, below the log's prefix (tlog-tiles, "Merkle Tree", "Log entries")."""
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        number = "/".join([*(f"x{one}" for one in groups[:-1]), groups[-1]])
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{number}{partial}"

    @classmethod
    def from_path(cls, path: str) -> Tile | None:
        """Reads the one spelling of a path; None for every other text."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        level, number, width = found.groups()
        tile = cls(
            ENTRIES if level == "entries" else int(level),
            int(number.replace("x", "").replace("/", "")),
            int(width) if width else WIDTH,
        )
        known = tile.level <= _LEVEL_MAX and tile.width <= WIDTH and tile.path == path
        return tile if known else None


def widths(size: int) -> Iterator[Tile]:
    """The rightmost tile of each level of a tree of `size`, partial or full, without the bundle of entries."""
    level, count = 0, size
    while count:
        index, width = divmod(count, WIDTH)
        yield Tile(level, index, width) if width else Tile(level, index - 1)
        level, count = level + 1, count // WIDTH


def is_served(tile: Tile, size: int) -> bool:
    """Whether a tree of `size` has this tile, or had it at an earlier size."""
    level = max(tile.level, 0)
    return tile.index * WIDTH + tile.width <= size >> HEIGHT * level


def grown(old: int, new: int) -> Iterator[Tile]:
    """Every tile and bundle that a log of `new` entries serves and one of `old` did not: full ones, and per level the
    partial one that a checkpoint of `new` needs.
    """
    level, before, after = 0, old, new
    while after:
        for index in range(before // WIDTH, -(-after // WIDTH)) if after > before else ():
            width = min(WIDTH, after - index * WIDTH)
            yield Tile(level, index, width)
            if level == 0:
                yield Tile(ENTRIES, index, width)
        level, before, after = level + 1, before // WIDTH, after // WIDTH


def node_reader(read_tile: Callable[[int, int], bytes]) -> ReadNode:
    """Reads subtree hashes of any level out of tiles. `read_tile(level, index)`: the hashes that the tile has now."""

    def read(level: int, index: int) -> bytes:
        tile_level, inside = divmod(level, HEIGHT)
        first = index << inside
        hashes = read_tile(tile_level, first // WIDTH)
        start = first % WIDTH * HASH_BYTES
        return subtree_hash(hashes[start : start + (HASH_BYTES << inside)])

    return read


def subtree_hash(hashes: bytes) -> bytes:
    """The hash over a power of two of concatenated hashes."""
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each behind its length as two bytes, big-endian. OverflowError where one has more than 65,535 bytes."""
    return b"".join(len(one).to_bytes(_LENGTH_BYTES, "big") + one for one in entries)


def entries_of(data: bytes, width: int) -> list[bytes]:
    """The `width` entries of a bundle; refuses with `proof.invalid` where it has not exactly these."""
    found: list[bytes] = []
    at = 0
    while at < len(data) and len(found) < width:
        end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        if end > len(data) or at + _LENGTH_BYTES > len(data):
            break
        found.append(data[at + _LENGTH_BYTES : end])
        at = end
    if at != len(data) or len(found) != width:
        raise Refusal(Code.PROOF_INVALID, f"The bundle does not hold {width} entries.")
    return found
