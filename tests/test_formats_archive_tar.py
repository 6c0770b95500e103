"""The tar.gz reader: reads what is sound, says what is not, never raises, never unpacks without bound."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector_files import compress, raw_tar, source, tar_member
from presspass.core import limits
from presspass.formats.archive import Archive
from presspass.formats.archive_tar import read_tar_gz

A, B = tar_member("top/a.py", b"print('a')\n" * 100), tar_member("top/b.sh", b"#!", mode=0o755)
BLOCK = 512


def read(tar: bytes) -> Archive:
    return read_tar_gz(source(compress(tar)))


def rules(tar: bytes) -> set[str]:
    return {one.rule for one in read(tar).findings}


def test_a_sound_tar_has_no_findings_and_true_digests() -> None:
    archive = read(raw_tar(tar_member("top", type=tarfile.DIRTYPE), A, B))
    assert archive.findings == ()
    assert [(one.path, one.sha256, one.executable) for one in archive.members] == [
        ("top/a.py", hashlib.sha256(A[1]).hexdigest(), False),
        ("top/b.sh", hashlib.sha256(b"#!").hexdigest(), True),
    ]
    assert archive.read(["top/b.sh", "absent"], 100) == {"top/b.sh": b"#!"}
    assert archive.read(["top/a.py"], 100) == {}


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_long_names_are_read_in_every_format(tar_format: int) -> None:
    name = "top/" + "/".join(["x" * 40] * 5) + "/f.py"
    archive = read(raw_tar(tar_member(name, b"1"), tar_format=tar_format))
    assert (archive.findings, [one.path for one in archive.members]) == ((), [name])


def _patched(tar: bytes, at: int, new: bytes) -> bytes:
    """The first header with `new` at `at`, its checksum made right."""
    header = bytearray(tar[:BLOCK])
    header[at : at + len(new)] = new
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar[BLOCK:]


def _link(kind: bytes) -> bytes:
    return raw_tar(tar_member("top/l", type=kind, linkname="/etc/passwd"))


def _pax(headers: dict[str, str], *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    member, data = tar_member("top/p.py", b"123")
    member.pax_headers = headers
    return raw_tar((member, data), *members)


def _global_pax(headers: dict[str, str]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", pax_headers=headers) as archive:
        archive.addfile(*A[:1], io.BytesIO(A[1]))
    return target.getvalue()


PLAIN = raw_tar(A)
USTAR = raw_tar(A, tar_format=tarfile.USTAR_FORMAT)
END = USTAR.rstrip(b"\0")
END += bytes(-len(END) % BLOCK)
WRONG_IN_ONE_WAY = {
    "symbolic link": (_link(tarfile.SYMTYPE), {"archive.link"}),
    "hard link": (_link(tarfile.LNKTYPE), {"archive.link"}),
    "character device": (_link(tarfile.CHRTYPE), {"archive.special-file"}),
    "block device": (_link(tarfile.BLKTYPE), {"archive.special-file"}),
    "fifo": (_link(tarfile.FIFOTYPE), {"archive.special-file"}),
    "sparse": (
        _patched(USTAR, 156, b"S"),
        {"archive.special-file", "archive.content-without-file"},
    ),
    "folder with content": (_patched(USTAR, 156, b"5"), {"archive.content-without-file"}),
    "setuid": (raw_tar(tar_member("top/s", b"", mode=0o4755)), {"archive.setid"}),
    "duplicate": (raw_tar(A, A), {"archive.duplicate-member"}),
    "equal but for case": (raw_tar(A, tar_member("top/A.py")), {"archive.colliding-names"}),
    "file and folder": (raw_tar(tar_member("top"), A), {"archive.file-and-folder"}),
    "parent folder": (raw_tar(tar_member("top/../../x")), {"archive.path-escape"}),
    "absolute": (raw_tar(tar_member("/x")), {"archive.path-escape", "archive.unclean-name"}),
    "backslash": (raw_tar(tar_member("top\\x")), {"archive.backslash"}),
    "control character": (raw_tar(tar_member("top/x\ny")), {"archive.deceptive-name"}),
    "not UTF-8": (_patched(USTAR, 0, b"top/\xff"), {"archive.bad-encoding"}),
    "wrong checksum": (USTAR[:148] + b"0000000\0" + USTAR[156:], {"archive.unreadable"}),
    "number that is none": (_patched(USTAR, 124, b"0000000000x\0"), {"archive.unreadable"}),
    "negative size": (_patched(USTAR, 124, b"\xff" * 12), {"archive.unreadable"}),
    "cut inside a member": (USTAR[: BLOCK + 100], {"archive.unreadable"}),
    "no end": (END, {"archive.unreadable"}),
    "one closing block": (END + bytes(BLOCK), {"archive.no-end"}),
    "members after the end": (USTAR + raw_tar(B), {"archive.trailing-bytes"}),
    "pax size differs": (_pax({"size": "2"}), {"archive.header-mismatch"}),
    "pax charset": (_pax({"hdrcharset": "BINARY"}), {"archive.pax-header"}),
    "pax sparse": (_pax({"GNU.sparse.major": "1"}), {"archive.pax-header"}),
    "path for all members": (_global_pax({"path": "top/other.py"}), {"archive.pax-header"}),
}


@pytest.mark.parametrize(("tar", "expected"), WRONG_IN_ONE_WAY.values(), ids=WRONG_IN_ONE_WAY)
def test_each_fault_is_found_and_nothing_else(tar: bytes, expected: set[str]) -> None:
    assert rules(tar) == expected


GZIP_FAULTS = {
    "bytes after": (compress(PLAIN) + b"more", {"archive.trailing-bytes"}),
    "second gzip member": (compress(PLAIN) + compress(raw_tar(B)), {"archive.trailing-bytes"}),
    "cut": (compress(PLAIN)[:-9], {"archive.unreadable"}),
    "cut trailer": (compress(PLAIN)[:-1], {"archive.unreadable"}),
    "wrong checksum": (compress(PLAIN)[:-8] + bytes(8), {"archive.unreadable"}),
    "not gzip": (PLAIN, {"archive.unreadable"}),
    "empty": (b"", {"archive.unreadable"}),
}


@pytest.mark.parametrize(("data", "expected"), GZIP_FAULTS.values(), ids=GZIP_FAULTS)
def test_each_gzip_fault_is_found_and_nothing_else(data: bytes, expected: set[str]) -> None:
    assert {one.rule for one in read_tar_gz(source(data)).findings} == expected


def test_a_commit_noted_for_all_members_is_ordinary() -> None:
    assert rules(_global_pax({"comment": "0" * 40})) == set()


def test_the_pax_size_is_the_one_read() -> None:
    archive = read(_pax({"size": "2"}))
    assert archive.members[0].size == 2


def test_a_bomb_ends_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNPACKED_ALLOWANCE_BYTES", 1 * limits.MIB)
    archive = read(raw_tar(A, tar_member("top/bomb", bytes(3 * limits.MIB))))
    assert {one.rule for one in archive.findings} == {"archive.bomb"}
    assert [one.path for one in archive.members] == ["top/a.py"]


def test_too_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_MEMBERS_MAX", 3)
    assert rules(raw_tar(*(tar_member(f"top/{n}") for n in range(3)))) == set()
    assert rules(raw_tar(*(tar_member(f"top/{n}") for n in range(4)))) == {"archive.unreadable"}


def test_an_endless_header_is_refused() -> None:
    member, data = tar_member("top/x")
    member.pax_headers = {"comment": "x" * (limits.ARCHIVE_HEADER_BYTES_MAX + 1)}
    assert rules(raw_tar((member, data))) == {"archive.unreadable"}


NAMES = st.lists(st.text("abcé-_", min_size=1, max_size=150), unique_by=str, min_size=1, max_size=6)
FORMATS = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@given(names=NAMES, content=st.binary(max_size=2000), tar_format=FORMATS)
def test_the_reader_agrees_with_tarfile_on_sound_tars(
    names: list[str], content: bytes, tar_format: int
) -> None:
    members = {f"top/{name}": content + name.encode() for name in names}
    archive = read(
        raw_tar(*(tar_member(name, data) for name, data in members.items()), tar_format=tar_format)
    )
    assert archive.findings == ()
    assert archive.read(list(members), 10_000) == members
    assert [one.sha256 for one in archive.members] == [
        hashlib.sha256(data).hexdigest() for data in members.values()
    ]


SEEDS = st.sampled_from(
    [PLAIN, USTAR, _pax({"path": "top/é"}), _link(tarfile.SYMTYPE), raw_tar(A, B)]
)
EDITS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=300)
@given(seed=SEEDS, edits=EDITS, right_checksum=st.booleans())
def test_no_mutation_makes_the_reader_raise(
    seed: bytes, edits: list[tuple[int, int]], right_checksum: bool
) -> None:
    data = bytearray(seed)
    for at, value in edits:
        data[at % len(data)] = value
    mutated = _patched(bytes(data), 0, b"") if right_checksum else bytes(data)
    archive = read(mutated)
    archive.read([one.path for one in archive.members], 10_000)


@given(seed=SEEDS, edits=EDITS)
def test_no_mutation_of_the_gzip_makes_the_reader_raise(
    seed: bytes, edits: list[tuple[int, int]]
) -> None:
    data = bytearray(gzip.compress(seed, mtime=0))
    for at, value in edits:
        data[at % len(data)] = value
    read_tar_gz(source(bytes(data)))
