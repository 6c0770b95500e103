"""Builds wheels, sdists, zips and tars for the inspector's tests: sound ones, and ones wrong in exactly one way."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import struct
import tarfile
import zlib
from dataclasses import dataclass, field

from presspass.formats.archive import Source

PROJECT, VERSION = "demo-pkg", "1.0"


def source(data: bytes) -> Source:
    """`data` as the readers take it."""
    return Source(lambda offset, count: data[offset : offset + count], len(data))


def memory_file(data: bytes) -> int:
    """A file descriptor on `data`; the caller closes it."""
    fd = os.memfd_create("test")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


@dataclass
class Entry:
    """A zip member. `local` and `central` override fields of the two headers by name."""

    name: bytes
    data: bytes = b"data"
    method: int = 8
    flags: int = 0
    mode: int = 0o100644
    local: dict[str, object] = field(default_factory=dict)
    central: dict[str, object] = field(default_factory=dict)
    packed: bytes | None = None
    descriptor: bytes = b""

    def packed_data(self) -> bytes:
        """The data as it lies in the archive."""
        if self.packed is not None:
            return self.packed
        if self.method != 8:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()

    def fields(self, changes: dict[str, object]) -> dict[str, object]:
        """All header fields, some of them changed."""
        packed = self.packed_data()
        return {
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.data),
            "packed": len(packed),
            "size": len(self.data),
            "name": self.name,
            "extra": b"",
            "external": self.mode << 16,
            **changes,
        }


def local_header(entry: Entry) -> bytes:
    f = entry.fields(entry.local)
    lengths = len(f["name"]), len(f["extra"])
    head = struct.pack(
        "<4s5H3L2H",
        b"PK\3\4",
        20,
        f["flags"],
        f["method"],
        0,
        33,
        f["crc"],
        f["packed"],
        f["size"],
        *lengths,
    )
    return head + f["name"] + f["extra"]


def central_header(entry: Entry, offset: int) -> bytes:
    f = entry.fields({"offset": offset, **entry.central})
    lengths = len(f["name"]), len(f["extra"]), 0
    numbers = f["flags"], f["method"], 0, 33, f["crc"], f["packed"], f["size"]
    head = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 0x0314, 20, *numbers, *lengths, 0, 0, f["external"], f["offset"]
    )
    return head + f["name"] + f["extra"]


def end_record(count: int, size: int, offset: int, comment: bytes = b"") -> bytes:
    return (
        struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, offset, len(comment)) + comment
    )


def raw_zip(
    *entries: Entry,
    prefix: bytes = b"",
    after_members: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
) -> bytes:
    """A zip of `entries` with true offsets, so that `prefix` and `after_members` are accounted for nowhere."""
    body, central = prefix, b""
    for entry in entries:
        central += central_header(entry, len(body))
        body += local_header(entry) + entry.packed_data() + entry.descriptor
    body += after_members
    return (
        body
        + central
        + end_record(len(entries) if count is None else count, len(central), len(body), comment)
    )


def raw_zip64(*entries: Entry, **changes: int) -> bytes:
    """The same with a zip64 end record, whose short companion says "see there" everywhere."""
    plain = raw_zip(*entries)
    size, offset = struct.unpack("<2L", plain[-10:-2])
    f = {"count": len(entries), "size": size, "offset": offset, **changes}
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, f["count"], f["count"], f["size"], f["offset"]
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(plain) - 22, 1)
    return plain[:-22] + end64 + locator + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def metadata(
    name: str = PROJECT, version: str = VERSION, requires: tuple[str, ...] = (), more: str = ""
) -> str:
    lines = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}"]
    lines += [f"Requires-Dist: {one}\n" for one in requires]
    return "".join(lines) + "\nA description.\n"


def record_line(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}\n"


def wheel(
    files: dict[str, str | bytes] | None = None,
    *,
    version: str = VERSION,
    meta: str | None = None,
    record: str | None = None,
    extra_record: str = "",
    tag: str = "py3-none-any",
) -> bytes:
    """A sound wheel of demo-pkg with `files` in it; `record` replaces RECORD."""
    info = f"demo_pkg-{version}.dist-info"
    content = {"demo_pkg/__init__.py": b"", **(files or {})}
    content[f"{info}/METADATA"] = metadata(version=version) if meta is None else meta
    content[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    )
    encoded = {
        path: data.encode() if isinstance(data, str) else data for path, data in content.items()
    }
    if record is None:
        lines = "".join(record_line(path, data) for path, data in encoded.items())
        record = f"{lines}{extra_record}{info}/RECORD,,\n"
    encoded[f"{info}/RECORD"] = record.encode()
    return raw_zip(
        *(
            Entry(path.encode(), data, flags=0 if path.isascii() else 0x800)
            for path, data in encoded.items()
        )
    )


def tar_member(name: str, data: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in changes.items():
        setattr(member, key, value)
    return member, data


def raw_tar(*members: tuple[tarfile.TarInfo, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tar_format) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def compress(tar: bytes) -> bytes:
    return gzip.compress(tar, mtime=0)


def sdist(
    files: dict[str, str | bytes] | None = None, *, version: str = VERSION, meta: str | None = None
) -> bytes:
    """A sound sdist of demo-pkg with `files` in its top folder."""
    content = {"PKG-INFO": metadata(version=version) if meta is None else meta, **(files or {})}
    members = [
        tar_member(f"demo_pkg-{version}/{path}", data.encode() if isinstance(data, str) else data)
        for path, data in content.items()
    ]
    return compress(raw_tar(*members))
