"""The zip reader: reads what is sound, says what is not, never raises, never unpacks without bound."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector_files import (
    Entry,
    central_header,
    end_record,
    local_header,
    raw_zip,
    raw_zip64,
    source,
)
from presspass.core import limits
from presspass.formats.archive_zip import read_zip

A, B = Entry(b"a.py", b"print('a')\n" * 20), Entry(b"b/c.txt", b"text", method=0)
LONG_TEXT = b"x" * 100


def rules(data: bytes) -> set[str]:
    return {one.rule for one in read_zip(source(data)).findings}


def test_a_sound_zip_has_no_findings_and_true_digests() -> None:
    archive = read_zip(source(raw_zip(A, B)))
    assert archive.findings == ()
    assert [(one.path, one.size, one.sha256) for one in archive.members] == [
        (one.name.decode(), len(one.data), hashlib.sha256(one.data).hexdigest()) for one in (A, B)
    ]
    assert archive.read(["a.py", "absent"], 1000) == {"a.py": A.data}
    assert archive.read(["a.py"], 3) == {}


def test_the_execute_bit_is_read() -> None:
    archive = read_zip(source(raw_zip(Entry(b"run.sh", mode=0o100755), A)))
    assert [one.executable for one in archive.members] == [True, False]


def _swap(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) >= 1 and len(old) == len(new)
    return data.replace(old, new, 1)


def _shifted_offsets() -> bytes:
    """A script before the zip, offsets as if it were not there: what self-extracting archives look like."""
    return b"#!/bin/sh\n" + raw_zip(A, B)


def _overlapping() -> bytes:
    body = local_header(A) + A.packed_data()
    central = central_header(A, 0) + central_header(A, 0)
    return body + central + end_record(2, len(central), len(body))


def _second_end_in_comment() -> bytes:
    inner = raw_zip(B)
    outer = raw_zip(A)
    return outer[:-2] + struct.pack("<H", len(inner)) + inner


LINK = Entry(b"link", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
UNICODE_PATH = struct.pack("<2HBL", 0x7075, 5 + 4, 1, zlib.crc32(b"a.py")) + b"b.py"
WRONG_IN_ONE_WAY = {
    "duplicate name": (raw_zip(A, A), {"archive.duplicate-member"}),
    "name equal but for case": (raw_zip(A, Entry(b"A.py")), {"archive.colliding-names"}),
    "name equal but for Unicode form": (
        raw_zip(Entry("é".encode(), flags=0x800), Entry("e\u0301".encode(), flags=0x800)),
        {"archive.colliding-names"},
    ),
    "file and folder": (raw_zip(Entry(b"a"), Entry(b"a/b")), {"archive.file-and-folder"}),
    "bytes before, offsets true": (raw_zip(A, prefix=b"#!/bin/sh\n"), {"archive.prefix-bytes"}),
    "bytes before, offsets shifted": (_shifted_offsets(), {"archive.prefix-bytes"}),
    "two zips glued": (raw_zip(A) + raw_zip(B), {"archive.prefix-bytes"}),
    "bytes after": (raw_zip(A) + b"more", {"archive.trailing-bytes"}),
    "bytes no member owns": (raw_zip(A, after_members=b"hidden"), {"archive.hidden-bytes"}),
    "second zip in the comment": (
        _second_end_in_comment(),
        {"archive.two-ends", "archive.prefix-bytes"},
    ),
    "comment": (raw_zip(A, comment=b"hello"), {"archive.comment"}),
    "two entries on the same bytes": (
        _overlapping(),
        {"archive.overlap", "archive.duplicate-member"},
    ),
    "local name differs": (
        raw_zip(Entry(b"a.py", local={"name": b"b.py"})),
        {"archive.header-mismatch"},
    ),
    "local size differs": (raw_zip(Entry(b"a.py", local={"size": 9})), {"archive.header-mismatch"}),
    "local packed size differs": (
        raw_zip(Entry(b"a.py", local={"packed": 9})),
        {"archive.header-mismatch"},
    ),
    "local checksum differs": (
        raw_zip(Entry(b"a.py", local={"crc": 9})),
        {"archive.header-mismatch"},
    ),
    "local method differs": (
        raw_zip(Entry(b"a.py", local={"method": 0})),
        {"archive.header-mismatch"},
    ),
    "offset points elsewhere": (
        raw_zip(A, Entry(b"b", central={"offset": 1})),
        {"archive.header-mismatch", "archive.hidden-bytes"},
    ),
    "fewer entries than announced": (raw_zip(A, count=2), {"archive.directory-mismatch"}),
    "both checksums wrong": (
        raw_zip(Entry(b"a", local={"crc": 1}, central={"crc": 1})),
        {"archive.bad-crc"},
    ),
    "both sizes too small": (
        raw_zip(Entry(b"a", local={"size": 1}, central={"size": 1})),
        {"archive.bad-data"},
    ),
    "both sizes too large": (
        raw_zip(Entry(b"a", local={"size": 9}, central={"size": 9})),
        {"archive.bad-data"},
    ),
    "damaged deflate": (raw_zip(Entry(b"a", packed=b"\xff\xff\xff")), {"archive.bad-data"}),
    "cut deflate": (
        raw_zip(Entry(b"a", LONG_TEXT, packed=Entry(b"a", LONG_TEXT).packed_data()[:-1])),
        {"archive.bad-data"},
    ),
    "bytes after the deflate stream": (
        raw_zip(Entry(b"a", packed=Entry(b"a").packed_data() + b"x")),
        {"archive.bad-data"},
    ),
    "encrypted": (raw_zip(Entry(b"a", flags=1)), {"archive.encrypted"}),
    "strongly encrypted": (raw_zip(Entry(b"a", flags=1 << 6)), {"archive.encrypted"}),
    "unknown method": (raw_zip(Entry(b"a", method=12)), {"archive.method"}),
    "link": (raw_zip(LINK), {"archive.link"}),
    "device": (raw_zip(Entry(b"a", mode=stat.S_IFCHR | 0o666)), {"archive.special-file"}),
    "fifo": (raw_zip(Entry(b"a", mode=stat.S_IFIFO | 0o666)), {"archive.special-file"}),
    "setuid": (raw_zip(Entry(b"a", mode=stat.S_IFREG | 0o4755)), {"archive.setid"}),
    "parent folder": (raw_zip(Entry(b"../a")), {"archive.path-escape"}),
    "parent folder inside": (raw_zip(Entry(b"a/../../b")), {"archive.path-escape"}),
    "absolute": (raw_zip(Entry(b"/a")), {"archive.path-escape", "archive.unclean-name"}),
    "drive": (raw_zip(Entry(b"C:a")), {"archive.path-escape"}),
    "backslash": (raw_zip(Entry(b"a\\b")), {"archive.backslash"}),
    "NUL": (raw_zip(Entry(b"a.py\0.txt")), {"archive.deceptive-name"}),
    "control character": (raw_zip(Entry(b"a\rb")), {"archive.deceptive-name"}),
    "direction override": (
        raw_zip(Entry("a\u202eyp.b".encode(), flags=0x800)),
        {"archive.deceptive-name"},
    ),
    "empty part": (raw_zip(Entry(b"a//b")), {"archive.unclean-name"}),
    "dot part": (raw_zip(Entry(b"./b")), {"archive.unclean-name"}),
    "not UTF-8": (raw_zip(Entry(b"a\xff", flags=0x800)), {"archive.bad-encoding"}),
    "not marked as UTF-8": (raw_zip(Entry("é".encode())), {"archive.ambiguous-name"}),
    "folder with content": (
        raw_zip(Entry(b"a/", mode=stat.S_IFDIR | 0o755)),
        {"archive.content-without-file"},
    ),
    "second name": (
        raw_zip(Entry(b"a.py", central={"extra": UNICODE_PATH})),
        {"archive.second-name"},
    ),
    "two blocks of one kind": (
        raw_zip(Entry(b"b.py", local={"extra": UNICODE_PATH * 2})),
        {"archive.header-mismatch"},
    ),
    "second name, local": (
        raw_zip(Entry(b"a.py", local={"extra": UNICODE_PATH})),
        {"archive.second-name"},
    ),
    "two zip64 ends disagree": (
        _swap(raw_zip64(A), b"\xff\xff\0\0", b"\x02\0\0\0"),
        {"archive.header-mismatch"},
    ),
    "wrong data descriptor": (
        raw_zip(Entry(b"a", flags=8, descriptor=b"PK\7\x08" + bytes(12))),
        {"archive.header-mismatch", "archive.hidden-bytes"},
    ),
    "cut": (raw_zip(A, B)[:-1], {"archive.unreadable"}),
    "empty": (b"", {"archive.unreadable"}),
    "not a zip": (b"hello" * 100, {"archive.unreadable"}),
}


@pytest.mark.parametrize(("data", "expected"), WRONG_IN_ONE_WAY.values(), ids=WRONG_IN_ONE_WAY)
def test_each_fault_is_found_and_nothing_else(data: bytes, expected: set[str]) -> None:
    assert rules(data) == expected


def test_an_end_record_inside_stored_data_is_ordinary() -> None:
    nested = raw_zip(A, B)
    archive = read_zip(source(raw_zip(Entry(b"fixtures/inner.zip", nested, method=0), A)))
    assert archive.findings == ()
    assert archive.members[0].sha256 == hashlib.sha256(nested).hexdigest()


def test_two_end_records_inside_stored_data_as_last_member_are_ordinary() -> None:
    nested = raw_zip(A) + raw_zip(B, comment=b"PK\5\6")
    assert rules(raw_zip(A, Entry(b"inner.zip", nested, method=0))) == set()


def test_zip64_is_read() -> None:
    archive = read_zip(source(raw_zip64(A, B)))
    assert archive.findings == ()
    assert len(archive.members) == 2


@pytest.mark.parametrize("layout", ["<L2L", "<L2Q"])
@pytest.mark.parametrize("signature", [b"PK\7\x08", b""])
def test_streamed_members_are_read(layout: str, signature: bytes) -> None:
    data = b"streamed"
    packed = Entry(b"a", data).packed_data()
    descriptor = signature + struct.pack(layout, zlib.crc32(data), len(packed), len(data))
    absent = {"crc": 0, "packed": 0, "size": 0}
    assert (
        rules(raw_zip(Entry(b"a", data, flags=8, local=absent, descriptor=descriptor), A)) == set()
    )


def test_folders_are_no_members() -> None:
    folder = Entry(b"b/", b"", method=0, mode=stat.S_IFDIR | 0o755)
    archive = read_zip(source(raw_zip(folder, B)))
    assert (archive.findings, [one.path for one in archive.members]) == ((), ["b/c.txt"])


def test_a_bomb_ends_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNPACKED_ALLOWANCE_BYTES", 1 * limits.MIB)
    zeros = bytes(3 * limits.MIB)
    archive = read_zip(source(raw_zip(A, Entry(b"bomb", zeros))))
    assert {one.rule for one in archive.findings} == {"archive.bomb"}
    assert [one.path for one in archive.members] == ["a.py"]


def test_a_bomb_that_lies_about_its_size_is_not_unpacked() -> None:
    packed = Entry(b"bomb", bytes(50 * limits.MIB)).packed_data()
    liar = Entry(b"bomb", b"tiny", packed=packed)
    assert rules(raw_zip(liar)) == {"archive.bad-data"}


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_MEMBERS_MAX", 3)
    assert rules(raw_zip(*(Entry(b"%d" % n) for n in range(3)))) == set()
    assert rules(raw_zip(*(Entry(b"%d" % n) for n in range(4)))) == {"archive.unreadable"}
    assert "archive.unreadable" in rules(raw_zip(*(Entry(b"%d" % n) for n in range(4)), count=1))


NAMES = st.lists(st.text("abcdeé", min_size=1, max_size=8), unique=True, max_size=6)


@given(names=NAMES, content=st.binary(max_size=2000), packed=st.booleans(), streamed=st.booleans())
def test_the_reader_agrees_with_zipfile_on_sound_zips(
    names: list[str], content: bytes, packed: bool, streamed: bool
) -> None:
    target = io.BytesIO()
    stream = _Unseekable(target) if streamed else target
    with zipfile.ZipFile(
        stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    ) as archive:
        for name in names:
            archive.writestr(name, content + name.encode())
    ours = read_zip(source(target.getvalue()))
    assert ours.findings == ()
    assert ours.read(names, 10_000) == {name: content + name.encode() for name in names}
    assert {one.sha256 for one in ours.members} == {
        hashlib.sha256(content + name.encode()).hexdigest() for name in names
    }


class _Unseekable(io.RawIOBase):
    def __init__(self, target: io.BytesIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override] # narrower than RawIOBase, wide enough for zipfile
        return self._target.write(data)


SEEDS = st.sampled_from(
    [
        raw_zip(A, B),
        raw_zip64(A, B),
        raw_zip(Entry(b"a", flags=8, descriptor=b"PK\7\x08" + bytes(12))),
        raw_zip(LINK),
    ]
)
EDITS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=400)
@given(seed=SEEDS, edits=EDITS, cut=st.integers(0, 60))
def test_no_mutation_makes_the_reader_raise(
    seed: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(seed)
    for at, value in edits:
        data[at % len(data)] = value
    archive = read_zip(source(bytes(data[: len(data) - cut])))
    archive.read([one.path for one in archive.members], 10_000)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    assert read_zip(source(data + raw_zip(A)[-22:])).findings
