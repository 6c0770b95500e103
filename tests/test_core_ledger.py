"""The log's mathematics and its tiles against a naive recomputation and the specifications' own examples."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core_values import law
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import merkle, tiles
from presspass.core.ledger.tiles import ENTRIES, WIDTH, Tile

entries = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 section 2.1 defines it, recomputed from nothing."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(
        b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])
    ).digest()


def grown(leaves: list[bytes]) -> merkle.ReadNode:
    """A reader over the nodes that appending one leaf after another makes."""
    nodes: dict[tuple[int, int], bytes] = {}
    edge: list[bytes] = []
    for size, leaf in enumerate(leaves):
        for level, index, value in merkle.append(size, edge, merkle.leaf_hash(leaf)):
            assert (level, index) not in nodes
            nodes[level, index] = value
        assert len(edge) == (size + 1).bit_count()
        assert merkle.edge_root(edge) == merkle.root(size + 1, lambda lv, ix: nodes[lv, ix])
    return lambda level, index: nodes[level, index]


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


@law
@given(entries)
def test_the_root_is_the_one_that_the_definition_gives(leaves: list[bytes]) -> None:
    read = grown(leaves)
    for size in range(len(leaves) + 1):
        assert merkle.root(size, read) == naive_root(leaves[:size])


@law
@given(entries, st.data())
def test_inclusion_holds_for_the_leaf_its_place_and_nothing_else(
    leaves: list[bytes], data: st.DataObject
) -> None:
    read = grown(leaves)
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(index, size, read), naive_root(leaves[:size])
    leaf = merkle.leaf_hash(leaves[index])
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    bit = data.draw(st.integers(0, 255))
    assert not merkle.verify_inclusion(flipped(leaf, bit), index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, flipped(root, bit))
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, root], root)
    for place in range(len(proof)):
        changed = [*proof[:place], flipped(proof[place], bit), *proof[place + 1 :]]
        assert not merkle.verify_inclusion(leaf, index, size, changed, root)
        assert not merkle.verify_inclusion(
            leaf, index, size, proof[:place] + proof[place + 1 :], root
        )
    for other in set(range(-1, size + 2)) - {index}:
        if not 0 <= other < size or leaves[other] != leaves[index]:
            assert not merkle.verify_inclusion(leaf, other, size, proof, root)


@law
@given(entries, st.data())
def test_consistency_holds_between_a_tree_and_its_own_past(
    leaves: list[bytes], data: st.DataObject
) -> None:
    read = grown(leaves)
    new = data.draw(st.integers(1, len(leaves)))
    old = data.draw(st.integers(1, new))
    proof = merkle.consistency_proof(old, new, read)
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves[:new])
    assert merkle.verify_consistency(old, new, old_root, new_root, proof)
    bit = data.draw(st.integers(0, 255))
    assert not merkle.verify_consistency(old, new, flipped(old_root, bit), new_root, proof)
    assert not merkle.verify_consistency(old, new, old_root, flipped(new_root, bit), proof)
    for place in range(len(proof)):
        changed = [*proof[:place], flipped(proof[place], bit), *proof[place + 1 :]]
        assert not merkle.verify_consistency(old, new, old_root, new_root, changed)


@law
@given(entries, st.data())
def test_a_rewritten_past_is_not_consistent(leaves: list[bytes], data: st.DataObject) -> None:
    assume(len(leaves) > 1)
    old = data.draw(st.integers(1, len(leaves) - 1))
    place = data.draw(st.integers(0, old - 1))
    other = [*leaves]
    other[place] += b"!"
    proof = merkle.consistency_proof(old, len(leaves), grown(other))
    assert not merkle.verify_consistency(
        old, len(leaves), naive_root(leaves[:old]), naive_root(other), proof
    )


def test_a_tree_is_never_consistent_with_a_larger_one_before_it() -> None:
    read = grown([b"a", b"b", b"c"])
    with pytest.raises(ValueError, match="not later"):
        merkle.consistency_proof(3, 2, read)
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion_proof(3, 3, read)
    assert not merkle.verify_consistency(3, 2, naive_root([b"a"] * 3), naive_root([b"a"] * 2), [])


#: The well-known test tree of Certificate Transparency: eight entries and the root after each of them.
RFC_6962_ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
RFC_6962_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_known_tree_has_the_known_roots() -> None:
    read = grown(RFC_6962_ENTRIES)
    for size, root in enumerate(RFC_6962_ROOTS, 1):
        assert merkle.root(size, read).hex() == root
    assert merkle.root(0, read).hex() == hashlib.sha256(b"").hexdigest()


def test_the_examples_of_rfc_6962_section_2_1_3_hold() -> None:
    """The tree of seven leaves a … j, l: its audit paths and consistency proofs, node by node."""
    leaves = [b"%d" % number for number in range(7)]
    a, b, c, d, e, f, j = (merkle.leaf_hash(leaf) for leaf in leaves)
    g, h, i = merkle.node_hash(a, b), merkle.node_hash(c, d), merkle.node_hash(e, f)
    k = merkle.node_hash(g, h)
    side = merkle.node_hash(i, j)
    read = grown(leaves)
    assert merkle.inclusion_proof(0, 7, read) == [b, h, side]
    assert merkle.inclusion_proof(3, 7, read) == [c, g, side]
    assert merkle.inclusion_proof(4, 7, read) == [f, j, k]
    assert merkle.inclusion_proof(6, 7, read) == [i, k]
    assert merkle.consistency_proof(3, 7, read) == [c, d, g, side]
    assert merkle.consistency_proof(4, 7, read) == [side]
    assert merkle.consistency_proof(6, 7, read) == [i, j, k]


# --- tiles (C2SP tlog-tiles) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),  # the specification's own example
        (Tile(0, 0), "tile/0/000"),
        (Tile(1, 999, 1), "tile/1/999.p/1"),
        (Tile(2, 1000, 255), "tile/2/x001/000.p/255"),
        (Tile(ENTRIES, 273, 112), "tile/entries/273.p/112"),
    ],
)
def test_a_tile_has_the_path_that_the_specification_gives_it(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.from_path(path) == tile


@law
@given(st.integers(ENTRIES, 63), st.integers(0, 2**50), st.integers(1, WIDTH))
def test_the_path_of_a_tile_reads_as_that_tile(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.from_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "", "tile/0", "tile/00/000", "tile/64/000", "tile/0/0", "tile/0/0000", "tile/0/x000/001", "tile/0/x01/001",
        "tile/0/001/001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/../000",
        "tile/0/000/", "/tile/0/000", "tile/-1/000", "tile/0/000.p/300", "tile/entries/0", "tile/0/٠٠٠",
        "tile/0/000\n", "checkpoint",
    ],
)  # fmt: skip
def test_every_other_spelling_is_no_tile(path: str) -> None:
    assert Tile.from_path(path) is None


def test_a_tree_of_70_000_has_the_tiles_of_the_specifications_example() -> None:
    found = list(tiles.grown(0, 70_000))
    level = {n: [one for one in found if one.level == n] for n in (ENTRIES, 0, 1, 2)}
    assert [one.width for one in level[0]] == [WIDTH] * 273 + [112]
    assert [one.width for one in level[1]] == [WIDTH, 17]
    assert [one.width for one in level[2]] == [1]
    assert [one.width for one in level[ENTRIES]] == [WIDTH] * 273 + [112]
    assert [one.path for one in tiles.widths(256)] == ["tile/0/000", "tile/1/000.p/1"]


@law
@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_what_a_log_serves_is_what_it_has_grown_by(one: int, other: int) -> None:
    old, new = sorted((one, other))
    before, after = set(tiles.grown(0, old)), set(tiles.grown(0, new))
    made = set(tiles.grown(old, new))
    assert after - before <= made <= after
    assert all(tiles.is_served(tile, new) for tile in made | before)
    assert set(tiles.widths(new)) == {
        max((t for t in after if t.level == level), key=lambda t: t.index)
        for level in {t.level for t in after} - {ENTRIES}
    }
    assert not any(tiles.is_served(tile, old) for tile in made if tile.level == 0)


@law
@given(st.integers(1, 700), st.data())
def test_subtrees_read_out_of_tiles_are_those_of_the_tree(size: int, data: st.DataObject) -> None:
    leaves = [b"%d" % number for number in range(size)]
    read = grown(leaves)

    def tile(level: int, index: int) -> bytes:
        count = min(WIDTH, (size >> 8 * level) - index * WIDTH)
        return b"".join(read(8 * level, index * WIDTH + one) for one in range(count))

    found = tiles.node_reader(tile)
    assert merkle.root(size, found) == merkle.root(size, read)
    index = data.draw(st.integers(0, size - 1))
    assert merkle.inclusion_proof(index, size, found) == merkle.inclusion_proof(index, size, read)
    old = data.draw(st.integers(0, size))
    assert merkle.consistency_proof(old, size, found) == merkle.consistency_proof(old, size, read)


@law
@given(st.lists(st.binary(max_size=70), min_size=1, max_size=20), st.data())
def test_a_bundle_holds_its_entries_and_no_changed_length_passes(
    found: list[bytes], data: st.DataObject
) -> None:
    packed = tiles.bundle(found)
    assert tiles.entries_of(packed, len(found)) == found
    cut = data.draw(st.integers(0, len(packed) - 1))
    for wrong, width in (
        (packed[:cut], len(found)),
        (packed + b"\0", len(found)),
        (packed, len(found) - 1),
        (packed, len(found) + 1),
    ):
        with pytest.raises(Refusal) as refusal:
            tiles.entries_of(wrong, width)
        assert refusal.value.code is Code.PROOF_INVALID
    with pytest.raises(OverflowError):
        tiles.bundle([bytes(tiles.ENTRY_BYTES_MAX + 1)])
