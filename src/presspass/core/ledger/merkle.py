"""Merkle tree hash, inclusion and consistency proofs: RFC 6962 section 2.1, verification as in RFC 9162 section 2.1.

The tree is kept as the hashes of its complete subtrees: node (level, index) covers leaves [index·2^level,
(index+1)·2^level). Whoever stores nodes hands in a reader; nothing here does I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

ReadNode = Callable[[int, int], bytes]
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def append(size: int, edge: list[bytes], leaf: bytes) -> list[tuple[int, int, bytes]]:
    """The nodes (level, index, hash) that become complete when `leaf` is added to a tree of `size` leaves.

    `edge`: the hashes of the tree's largest complete subtrees, left to right, one for each bit of `size`; it is changed
    to that of the tree with `leaf`.
    """
    made = [(0, size, leaf)]
    level, index, value = 0, size, leaf
    while index & 1:
        value = node_hash(edge.pop(), value)
        level, index = level + 1, index >> 1
        made.append((level, index, value))
    edge.append(value)
    return made


def edge_root(edge: Sequence[bytes]) -> bytes:
    """Root of the tree with this edge."""
    if not edge:
        return EMPTY_ROOT
    value = edge[-1]
    for left in reversed(edge[:-1]):
        value = node_hash(left, value)
    return value


def range_hash(start: int, end: int, read: ReadNode) -> bytes:
    """MTH of leaves [start, end); `start` is a multiple of the largest power of two below the width (RFC 6962 2.1)."""
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return read(level, start >> level)
    split = 1 << (width - 1).bit_length() - 1
    return node_hash(range_hash(start, start + split, read), range_hash(start + split, end, read))


def root(size: int, read: ReadNode) -> bytes:
    """Root of the first `size` leaves; of none, SHA-256 of the empty string."""
    return range_hash(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: ReadNode) -> list[bytes]:
    """PATH(index, D[size]), lowest sibling first (RFC 6962 section 2.1.1). ValueError outside the tree."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if index < split:
            path.append(range_hash(split, end, read))
            end = split
        else:
            path.append(range_hash(start, split, read))
            start = split
    return path[::-1]


def consistency_proof(old: int, new: int, read: ReadNode) -> list[bytes]:
    """PROOF(old, D[new]) (RFC 6962 section 2.1.2); empty when old is 0 or equals new. ValueError when old > new."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} is not later than one of {old}")
    return [] if old in (0, new) else _subproof(old, 0, new, True, read)


def _subproof(old: int, start: int, end: int, whole: bool, read: ReadNode) -> list[bytes]:
    width = end - start
    if old == width:
        return [] if whole else [range_hash(start, end, read)]
    split = 1 << (width - 1).bit_length() - 1
    if old <= split:
        return [
            *_subproof(old, start, start + split, whole, read),
            range_hash(start + split, end, read),
        ]
    return [
        *_subproof(old - split, start + split, end, False, read),
        range_hash(start, start + split, read),
    ]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> bool:
    """RFC 9162 section 2.1.3.2: does the tree of `size` with this root contain `leaf` at `index`?"""
    if not 0 <= index < size:
        return False
    fn, sn, value = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            value = node_hash(sibling, value)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = node_hash(value, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and value == expected_root


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """RFC 9162 section 2.1.4.2: is the tree (new, new_root) an extension of (old, old_root)?"""
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof
    if old > new or not proof:
        return False
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_value = new_value = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old_value, new_value = node_hash(sibling, old_value), node_hash(sibling, new_value)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_value = node_hash(new_value, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old_value == old_root and new_value == new_root
