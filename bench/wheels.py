"""Wheels to measure with: valid in layout, random in content, as many different ones as are needed."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from presspass.drill.packages import (
    Member,
    escaped,
    metadata_of,
    record_of,
    wheel_filename,
    wheel_members,
    zip_bytes,
)
from rawhttp import Wheel

_PIECE_BYTES: Final = 1 << 20
_STORED_VERSION, _DATE, _MODE = 20, 0x5021, 0o100644 << 16  # 1 January 2020, as a zip writes it


def small_wheel(project: str, version: str, size: int) -> Wheel:
    """A wheel of about `size` bytes that nobody has seen before."""
    packaging_bytes = 900  # what METADATA, WHEEL, RECORD and the zip's own records take
    files = {f"{escaped(project)}/data.bin": os.urandom(size - packaging_bytes)}
    body = zip_bytes(wheel_members(project, version, files))
    return Wheel.of_bytes(wheel_filename(project, version), project, version, body)


@dataclass(slots=True)
class LargeWheel:
    """One large wheel on disk that becomes another version by a new end: its payload is written only once.

    The payload is the archive's first member, stored; METADATA, WHEEL, RECORD and the central directory come behind it.
    """

    path: Path
    project: str
    size: int
    _member: str = field(init=False)
    _crc: int = field(init=False, default=0)
    _record: str = field(init=False)
    _hashed: hashlib._Hash = field(init=False)

    def __post_init__(self) -> None:
        self._member = f"{escaped(self.project)}/data.bin"
        digest = hashlib.sha256()
        with self.path.open("xb") as file:
            file.write(_local(self._member, 0, self.size))  # its checksum is known only at the end
            for start in range(0, self.size, _PIECE_BYTES):
                piece = os.urandom(min(_PIECE_BYTES, self.size - start))
                file.write(piece)
                digest.update(piece)
                self._crc = zlib.crc32(piece, self._crc)
            file.seek(0)
            file.write(_local(self._member, self._crc, self.size))
        with self.path.open("rb") as file:
            self._hashed = hashlib.file_digest(file, "sha256")
        encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        self._record = f"{self._member},sha256={encoded},{self.size}\n"

    @property
    def _payload_end(self) -> int:
        return len(_local(self._member, 0, 0)) + self.size

    def become(self, version: str) -> Wheel:
        """The wheel of this version; the file on disk is now it, and durable."""
        end = self._end(version)
        digest = self._hashed.copy()
        digest.update(end)
        with self.path.open("r+b") as file:
            file.truncate(self._payload_end)
            file.seek(self._payload_end)
            file.write(end)
            file.flush()
            os.fsync(file.fileno())
        name = wheel_filename(self.project, version)
        size = self._payload_end + len(end)
        return Wheel(name, self.project, version, digest.hexdigest(), size, self.path)

    def _end(self, version: str) -> bytes:
        info = f"{escaped(self.project)}-{version}.dist-info"
        tags = b"Wheel-Version: 1.0\nGenerator: presspass-bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        members: list[Member] = [
            (f"{info}/METADATA", metadata_of(self.project, version)),
            (f"{info}/WHEEL", tags),
        ]
        record = self._record.encode() + record_of(members, f"{info}/RECORD")
        members.append((f"{info}/RECORD", record))
        directory, body = _central(self._member, self._crc, self.size, 0), b""
        for path, content in members:
            crc = zlib.crc32(content)
            directory += _central(path, crc, len(content), self._payload_end + len(body))
            body += _local(path, crc, len(content)) + content
        count = len(members) + 1
        sizes = (count, count, len(directory), self._payload_end + len(body), 0)
        return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *sizes)


def _local(path: str, crc: int, size: int) -> bytes:
    """A zip's local file header, stored (APPNOTE 4.3.7)."""
    name = path.encode()
    fields = (b"PK\3\4", _STORED_VERSION, 0, 0, 0, _DATE, crc, size, size, len(name), 0)
    return struct.pack("<4s5H3L2H", *fields) + name


def _central(path: str, crc: int, size: int, offset: int) -> bytes:
    """A zip's central directory header (APPNOTE 4.3.12); made on Unix."""
    name = path.encode()
    made_on = 3 << 8 | _STORED_VERSION
    head = (b"PK\1\2", made_on, _STORED_VERSION, 0, 0, 0, _DATE, crc, size, size)
    return struct.pack("<4s6H3L5H2L", *head, len(name), 0, 0, 0, 0, _MODE, offset) + name
