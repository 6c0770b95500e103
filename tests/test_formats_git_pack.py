"""Packs and packet lines: what real git packed comes out whole, and no hostile pack gets past a limit."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presspass.core import limits
from presspass.core.errors import Code, Refusal
from presspass.drill.world.forge import (
    Content,
    Executable,
    Forge,
    ForgeRepository,
    Symlink,
    git_env,
)
from presspass.formats.git_objects import GitKind, object_id, raw_object
from presspass.formats.git_pack import read_pack
from presspass.formats.pkt_line import Mark, packet, packets

COMMIT, TREE, BLOB, TAG, OFS, REF = 1, 2, 3, 4, 6, 7


def refused(data: bytes, id_bytes: int = 20) -> str:
    with pytest.raises(Refusal) as caught:
        read_pack(data, id_bytes)
    assert caught.value.code is Code.WORKFLOW_UNAVAILABLE
    return caught.value.message


# packs of the real git


def everything(repository: ForgeRepository) -> dict[str, bytes]:
    """Every object of a repository, as the real git reads it."""
    listing = repository.git("cat-file", "--batch-all-objects", "--batch-check").decode()
    found = {}
    for line in listing.splitlines():
        name, kind, _size = line.split()
        body = repository.git("cat-file", kind, name)
        found[name] = b"%s %d\0" % (kind.encode(), len(body)) + body
    return found


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("option", ["--delta-base-offset", "--no-reuse-delta"])
def test_what_real_git_packs_comes_out_byte_for_byte(
    forge: Forge, object_format: str, option: str
) -> None:
    repository = forge.repository("acme", "demo", object_format=object_format)
    lines = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(600)]
    for version in range(5):  # alike enough for deltas, long enough for copies beyond 64 KiB
        lines[version * 90] = f"changed in {version}"
        text = "\n".join(lines * 3)
        files: dict[str | bytes, Content] = {
            "a/long.txt": text,
            f"b/{version}": b"",
            "l": Symlink("a"),
        }
        files["x"] = Executable(b"#!/bin/sh\n")
        commit = repository.commit(files)
    repository.git("tag", "-a", "-m", "words", "v1", commit)
    names = "".join(f"{name}\n" for name in everything(repository))
    packing = ["pack-objects", "--stdout", "--window=50", option, "-q"]
    pack = repository.git(*packing, stdin=names.encode())
    found = read_pack(pack, 20 if object_format == "sha1" else 32)
    assert found == everything(repository)
    assert len(pack) < 0.5 * sum(map(len, found.values())), "it has deltas"


# packs of this test's own making


def head(kind: int, size: int) -> bytes:
    first, size = kind << 4 | size & 15, size >> 4
    result = bytearray()
    while size:
        result.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    result.append(first)
    return bytes(result)


def whole(kind: int, body: bytes) -> bytes:
    return head(kind, len(body)) + zlib.compress(body)


def ref_delta(base: str, delta: bytes) -> bytes:
    return head(REF, len(delta)) + bytes.fromhex(base) + zlib.compress(delta)


def pack_of(*entries: bytes, count: int | None = None, version: int = 2) -> bytes:
    number = len(entries) if count is None else count
    return sealed(struct.pack(">4sII", b"PACK", version, number) + b"".join(entries))


def sealed(data: bytes) -> bytes:
    return data + hashlib.sha1(data).digest()


def size(number: int) -> bytes:
    """A size in seven bits a byte, lowest first."""
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(result) + bytes([number])


def insert(base: bytes, text: bytes) -> bytes:
    """A delta that makes `text` of `base` by inserting all of it (at most 127 bytes)."""
    return bytes([len(base), len(text), len(text)]) + text


def blob_id(body: bytes) -> str:
    return object_id(raw_object(GitKind.BLOB, body), 20)


def test_a_delta_may_come_before_its_base_and_stand_on_another_delta() -> None:
    bodies = [b"one", b"two", b"three", b"four"]
    deltas = [
        ref_delta(blob_id(base), insert(base, text))
        for base, text in zip(bodies, bodies[1:], strict=False)
    ]
    for entries in ([whole(BLOB, b"one"), *deltas], [*reversed(deltas), whole(BLOB, b"one")]):
        found = read_pack(pack_of(*entries), 20)
        assert found == {blob_id(body): raw_object(GitKind.BLOB, body) for body in bodies}


def test_a_delta_without_its_base_and_one_that_is_its_own_base_are_refused() -> None:
    lonely = ref_delta(blob_id(b"one"), insert(b"one", b"two"))
    assert "does not hold" in refused(pack_of(lonely))
    assert "does not hold" in refused(
        pack_of(lonely, ref_delta(blob_id(b"two"), insert(b"two", b"one")))
    )
    content = zlib.compress(insert(b"one", b"two"))
    itself = head(OFS, 6) + b"\0" + content
    assert "does not hold" in refused(pack_of(itself))
    before = head(OFS, 6) + b"\xff\xff\xff\xff\x7f" + content
    assert "before the pack" in refused(pack_of(whole(BLOB, b"one"), before))


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"\x03",
        b"\x83" * 9,
        b"\x04\x01\x01a",  # another base
        b"\x03\x01\x00\x01a",  # the reserved instruction
        b"\x03\x01\x02a",  # cut off
        b"\x03\x02\x01a",  # too little
        b"\x03\x01\x02ab",  # too much
        b"\x03\x01\x91\x03\x01",  # copies beyond the end of the base
        b"\x03\x01\x91",  # a copy that is cut off
        b"\x03\x01\x80",  # copies 64 KiB
        b"\x03\xff\xff\xff\xff\x7f\x01a",
    ],
)
def test_a_delta_that_does_not_fit_is_refused(delta: bytes) -> None:
    refused(pack_of(whole(BLOB, b"one"), ref_delta(blob_id(b"one"), delta)))


def test_a_delta_that_copies_and_inserts_makes_what_it_says() -> None:
    base = bytes(range(256)) * 300
    expected = base[258:261] + b"hi" + base[:0x10000]
    copy_3_from_258 = b"\x93\x02\x01\x03"  # two bytes of offset and one of length, lowest first
    delta = size(len(base)) + size(len(expected)) + copy_3_from_258 + b"\x02hi" + b"\x80"
    found = read_pack(pack_of(whole(BLOB, base), ref_delta(blob_id(base), delta)), 20)
    assert found[blob_id(expected)] == raw_object(GitKind.BLOB, expected)


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    zeros = zlib.compress(b"\0" * (8 * limits.MIB), 9)
    assert len(zeros) < 16 * limits.KIB
    assert "longer than it says" in refused(pack_of(head(BLOB, 10) + zeros))
    assert "shorter than it says" in refused(pack_of(head(BLOB, 9 * limits.MIB) + zeros))
    huge = head(BLOB, limits.FORGE_UNPACKED_BYTES_MAX + 1) + zeros
    assert "unpacks to more" in refused(pack_of(huge))
    began = time.process_time()
    assert "unpacks to more" in refused(pack_of(b"\xbf" + b"\xff" * limits.MIB + b"\x7f"))
    assert time.process_time() - began < 2, "a size without end is not even read to its end"
    eighths = [whole(BLOB, b"\0" * (8 * limits.MIB))] * 9
    assert "unpacks to more" in refused(pack_of(*eighths))
    assert "objects" in refused(pack_of(count=limits.FORGE_PACK_OBJECTS_MAX + 1))


def test_what_deltas_make_counts_as_well() -> None:
    base = b"\0" * 0x10000
    times = (
        limits.FORGE_UNPACKED_BYTES_MAX // len(base) - 2
    )  # each time by an instruction of one byte
    delta = size(len(base)) + size(times * len(base)) + b"\x80" * times
    bomb = ref_delta(blob_id(base), delta)
    assert len(read_pack(pack_of(whole(BLOB, base), bomb), 20)) == 2
    assert "unpacks to more" in refused(pack_of(whole(BLOB, base), bomb, bomb))
    understated = size(len(base)) + size(1) + b"\x80" * times
    lying = ref_delta(blob_id(base), understated)
    assert "does not fit" in refused(pack_of(whole(BLOB, base), lying)), "nothing beyond is made"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PACK",
        sealed(b"PACK"),
        sealed(b"KCAP" + struct.pack(">II", 2, 0)),
        pack_of(version=1),
        pack_of(version=4),
        pack_of(count=1),
        pack_of(whole(BLOB, b"a"), count=0),
        pack_of(whole(0, b"a")),
        pack_of(whole(5, b"a")),
        pack_of(head(BLOB, 1) + b"no zlib"),
        pack_of(head(BLOB, 1) + zlib.compress(b"a")[:-1]),
        pack_of(head(REF, 1)),
        pack_of(head(OFS, 1)),
        pack_of(whole(BLOB, b"a"))[:-1] + b"\0",
        pack_of(whole(BLOB, b"a")) + b"\0",
    ],
)
def test_a_damaged_pack_is_refused(data: bytes) -> None:
    refused(data)


SOUND = pack_of(
    whole(TREE, b""), ref_delta(blob_id(b"one"), insert(b"one", b"two")), whole(BLOB, b"one")
)


@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_and_with_a_new_checksum_no_object_has_a_wrong_id(
    where: int, change: int
) -> None:
    changed = bytearray(SOUND)
    changed[where] ^= change
    refused(bytes(changed))
    try:
        found = read_pack(sealed(bytes(changed[:-20])), 20)
    except Refusal as refusal:
        assert refusal.code is Code.WORKFLOW_UNAVAILABLE
    else:
        assert all(object_id(raw, 20) == name for name, raw in found.items())


@given(st.integers(0, len(SOUND) - 21))
def test_a_pack_that_ends_anywhere_too_early_is_refused(length: int) -> None:
    refused(sealed(SOUND[:length]))


@given(st.binary(max_size=300), st.integers(0, 4), st.sampled_from([20, 32]))
def test_hostile_packs_are_read_or_refused_and_nothing_else(
    data: bytes, count: int, id_bytes: int
) -> None:
    body = struct.pack(">4sII", b"PACK", 2, count) + data
    seal = hashlib.sha1(body).digest() if id_bytes == 20 else hashlib.sha256(body).digest()
    try:
        assert len(read_pack(body + seal, id_bytes)) <= count
    except Refusal as refusal:
        assert refusal.code is Code.WORKFLOW_UNAVAILABLE


# packet lines


def test_packets_are_those_that_the_documentation_shows() -> None:
    """gitprotocol-common(5), "pkt-line Format", has these examples."""
    assert list(packets(b"0006a\n0005a000bfoobar\n0004")) == [b"a\n", b"a", b"foobar\n", b""]
    assert packet("a") == b"0006a\n"
    assert list(packets(b"000000010002")) == [Mark.FLUSH, Mark.DELIMITER, Mark.RESPONSE_END]


@pytest.mark.parametrize(
    "data", [b"0", b"0003", b"0006a", b"+006a\n", b" 006a\n", b"0x06a\n", b"fff1" + b"a" * 65_521]
)
def test_what_is_no_packet_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        list(packets(data))
    assert caught.value.code is Code.WORKFLOW_UNAVAILABLE


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=50)))
def test_packets_are_read_back_as_they_were_written(lines: list[str]) -> None:
    data = b"".join(map(packet, lines))
    assert list(packets(data)) == [line.encode() + b"\n" for line in lines]


def test_git_itself_reads_our_packets(forge: Forge) -> None:
    """`git upload-pack` is asked with them in one go, without HTTP around."""
    repository = forge.repository("acme", "demo")
    commit = repository.commit({"a": "b"})
    request = packet("command=fetch") + Mark.DELIMITER.value
    request += b"".join(map(packet, ["no-progress", f"want {commit}", "done"])) + Mark.FLUSH.value
    answer = subprocess.run(
        [
            "git",
            "-c",
            "protocol.version=2",
            "upload-pack",
            "--stateless-rpc",
            str(repository.folder),
        ],
        input=request,
        capture_output=True,
        env=git_env() | {"GIT_PROTOCOL": "version=2"},
        check=True,
    ).stdout
    lines = list(packets(answer))
    assert lines[0] == b"packfile\n" and lines[-1] is Mark.FLUSH
    bands = [line for line in lines[1:] if isinstance(line, bytes)]
    pack = b"".join(line[1:] for line in bands if line[:1] == b"\x01")
    assert commit in read_pack(pack, 20)
