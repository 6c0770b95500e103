"""A strict reader for gzip-compressed tar files (RFC 1952; POSIX.1-2017 "pax Interchange Format", with GNU long names).

One gzip member, then nothing. Plain files and folders are read; anything else a tar can hold (links, devices,
sparse files) is a finding and is passed over. Two zero blocks end the archive, and only zeros may follow.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from presspass.core import limits
from presspass.core.findings import Finding, Severity, finding
from presspass.formats.archive import (
    Archive,
    Budget,
    Member,
    Source,
    Unreadable,
    collision_findings,
    member_of,
    name_findings,
)

_BLOCK = 512
_FILES = b"0\x007"  # regular, regular in old archives, contiguous
_FOLDER = b"5"
_LINKS = b"12"
_PAX_NEXT, _PAX_ALL, _GNU_NAME, _GNU_LINK = b"x", b"g", b"L", b"K"


@dataclass(frozen=True, slots=True)
class _Header:
    """One member as it is to be understood: long names and pax values are already in place."""

    path: str
    kind: bytes
    size: int
    mode: int

    @property
    def folder(self) -> bool:
        return self.kind == _FOLDER or (self.kind in (b"0", b"\0") and self.path.endswith("/"))


class _Stream:
    """The unpacked tar, forward only, in bounded memory."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._offset = 0
        self._inflater = zlib.decompressobj(
            zlib.MAX_WBITS | 16
        )  # 16: gzip header and trailer, CRC checked
        self._pending = b""
        self._buffer = b""
        self._at = 0
        self._budget = Budget(source.size)

    def some(self, count: int) -> bytes:
        """Between 1 and `count` bytes; b"" at the end."""
        while self._at == len(self._buffer) and not self._inflater.eof:
            self._fill()
        result = self._buffer[self._at : self._at + count]
        self._at += len(result)
        return result

    def exactly(self, count: int) -> bytes:
        """`count` bytes; raises Unreadable when the stream ends before."""
        parts = []
        while count:
            part = self.some(count)
            if not part:
                raise Unreadable("The tar ends inside a structure that it announces.")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    @property
    def unread_input(self) -> int:
        """Bytes of the file after the end of its gzip member."""
        return self._source.size - self._offset + len(self._inflater.unused_data)

    def _fill(self) -> None:
        data = self._pending
        if not data:
            left = self._source.size - self._offset
            data = self._source.exactly(self._offset, min(limits.READ_CHUNK_BYTES, left))
            self._offset += len(data)
        try:
            self._buffer = self._inflater.decompress(data, limits.READ_CHUNK_BYTES)
        except zlib.error:
            raise Unreadable("The gzip data is damaged.") from None
        self._at = 0
        self._pending = self._inflater.unconsumed_tail
        self._budget.take(len(self._buffer))
        if not self._buffer and not data and not self._inflater.eof:
            raise Unreadable("The gzip data is cut short.")


def read_tar_gz(source: Source) -> Archive:
    """Reads every member. Never raises for what the file holds: that becomes findings."""
    findings: list[Finding] = []
    members: dict[str, Member] = {}
    names: list[str] = []
    stream = _Stream(source)
    try:
        for header in _headers(stream, findings):
            names.append(header.path.rstrip("/") + "/" if header.folder else header.path)
            if len(names) > limits.ARCHIVE_MEMBERS_MAX:
                raise Unreadable(f"The tar has more than {limits.ARCHIVE_MEMBERS_MAX} members.")
            findings.extend(_header_findings(header))
            content = member_of(header.path, bool(header.mode & 0o111), _content(stream, header))
            if header.kind in _FILES and not header.folder:
                members[header.path] = content
        findings.extend(_ending_findings(stream))
    except Unreadable as stop:
        findings.append(stop.finding)
    findings.extend(collision_findings(names))

    def read(paths: Collection[str], bytes_max: int) -> dict[str, bytes]:
        wanted = {path for path in paths if path in members and members[path].size <= bytes_max}
        return _read_again(source, wanted) if wanted else {}

    return Archive(tuple(members.values()), tuple(findings), read)


def _read_again(source: Source, wanted: set[str]) -> dict[str, bytes]:
    """Content by path; where a name comes twice the last one counts, as it does for unpackers."""
    found: dict[str, bytes] = {}
    stream = _Stream(source)
    try:
        for header in _headers(stream, []):
            if header.path in wanted and header.kind in _FILES:
                found[header.path] = b"".join(_content(stream, header))
            else:
                for _ in _content(stream, header):
                    pass
    except Unreadable:  # reported by the first reading, which stopped at the same place
        return found
    return found


def _content(stream: _Stream, header: _Header) -> Iterator[bytes]:
    left = header.size
    while left:
        chunk = stream.some(left)
        if not chunk:
            raise Unreadable("The tar ends inside a member.")
        yield chunk
        left -= len(chunk)
    stream.exactly(-header.size % _BLOCK)


def _headers(stream: _Stream, findings: list[Finding]) -> Iterator[_Header]:
    """Members in order. The caller takes the content of each before it asks for the next."""
    extra: dict[str, bytes] = {}
    while True:
        block = stream.exactly(_BLOCK)
        if block == bytes(_BLOCK):
            break
        kind, size = block[156:157], _number(block[124:136])
        _check_sum(block)
        if kind in (_PAX_NEXT, _PAX_ALL):
            _take_pax(_small(stream, size), kind, extra, findings)
        elif kind in (_GNU_NAME, _GNU_LINK):
            name = _small(stream, size).rstrip(b"\0")
            extra["path" if kind == _GNU_NAME else "linkpath"] = name
        else:
            yield _header(block, kind, size, extra, findings)
            extra = {}
    if extra:
        raise Unreadable("The tar ends after a long name that belongs to no member.")


def _header(
    block: bytes, kind: bytes, size: int, extra: dict[str, bytes], findings: list[Finding]
) -> _Header:
    raw = extra.get("path", _short_name(block))
    if not raw or len(raw) > limits.MEMBER_PATH_BYTES_MAX:
        raise Unreadable("A member has no name, or one that is too long.")
    if "size" in extra:
        if size not in (0, _decimal(extra["size"])):
            message = (
                "The member has two sizes; programs that take the other one see other members."
            )
            findings.append(finding("archive.header-mismatch", Severity.CRITICAL, "", message))
        size = _decimal(extra["size"])
    path = raw.decode("utf-8", "replace")
    if path.encode() != raw:
        message = "The member's name is not UTF-8."
        findings.append(finding("archive.bad-encoding", Severity.HIGH, path, message))
    return _Header(path, kind, size, _number(block[100:108]))


def _short_name(block: bytes) -> bytes:
    """ustar: `prefix` (155 bytes at 345) and `name` (100 at 0). GNU headers ("ustar  ") keep other things at 345."""
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set (GNU). Raises Unreadable otherwise."""
    if field[0] in (0x80, 0xFF):
        return _not_negative(int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1)
    digits = field.strip(b" \0")
    if not all(digit in b"01234567" for digit in digits):
        raise Unreadable("A tar header has a field that is no number.")
    return int(digits, 8) if digits else 0


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise Unreadable("A pax header has a size that is no number.")
    return int(digits)


def _not_negative(number: int) -> int:
    if number < 0:
        raise Unreadable("A tar header has a negative number.")
    return number


def _check_sum(block: bytes) -> None:
    """The sum of all bytes of the header, its own field taken as eight spaces."""
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise Unreadable("A tar header does not have its own checksum.")


def _small(stream: _Stream, size: int) -> bytes:
    if size > limits.ARCHIVE_HEADER_BYTES_MAX:
        raise Unreadable("A tar header of variable length is too long.")
    data = stream.exactly(size)
    stream.exactly(-size % _BLOCK)
    return data


def _take_pax(data: bytes, kind: bytes, extra: dict[str, bytes], findings: list[Finding]) -> None:
    """Records "LENGTH KEYWORD=VALUE\\n". What changes how members are read may stand before one member only."""
    for keyword, value in _pax_records(data):
        unusual = keyword.startswith("GNU.sparse.") or keyword in ("charset", "hdrcharset")
        if unusual or (kind == _PAX_ALL and keyword in ("path", "linkpath", "size")):
            message = (
                "A pax header changes how members are read, in a way that programs do not agree on."
            )
            findings.append(finding("archive.pax-header", Severity.CRITICAL, "", message, keyword))
        elif keyword in ("path", "linkpath", "size") and kind == _PAX_NEXT:
            extra[keyword] = value


def _pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data:
        digits, space, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[len(digits) + 1 : length]
        keyword, equals, value = record[:-1].partition(b"=")
        if not (space and equals and record.endswith(b"\n") and length <= len(data)):
            raise Unreadable("A pax header is damaged.")
        yield keyword.decode("utf-8", "backslashreplace"), value
        data = data[length:]


def _header_findings(header: _Header) -> Iterator[Finding]:
    yield from name_findings(header.path)
    if header.kind in _LINKS:
        message = "The member is a link."
        yield finding("archive.link", Severity.HIGH, header.path, message)
    elif header.kind not in _FILES and header.kind != _FOLDER:
        message = "The member is neither a file nor a folder."
        evidence = f"type {ascii(header.kind.decode('latin-1'))}"
        yield finding("archive.special-file", Severity.HIGH, header.path, message, evidence)
    if header.mode & 0o6000 and not header.folder:
        message = "The member asks to run with its owner's or group's rights."
        yield finding("archive.setid", Severity.HIGH, header.path, message, oct(header.mode))
    if header.size and (header.folder or header.kind not in _FILES):
        message = (
            "The member is no file and has content; programs that pass over it see other members."
        )
        yield finding("archive.content-without-file", Severity.CRITICAL, header.path, message)


def _ending_findings(stream: _Stream) -> Iterator[Finding]:
    """After the first zero block: zeros to the end of the stream, and the stream is the whole file."""
    zeros, other = 0, False
    while chunk := stream.some(limits.READ_CHUNK_BYTES):
        zeros += len(chunk)
        other = other or chunk.count(0) != len(chunk)
    if other:
        message = "The tar goes on after its end mark; some programs read on."
        yield finding("archive.trailing-bytes", Severity.CRITICAL, "", message)
    elif zeros < _BLOCK:
        message = "The tar lacks the second of its two closing blocks."
        yield finding("archive.no-end", Severity.LOW, "", message)
    if stream.unread_input:
        message = "Bytes follow the end of the compressed data; some programs read on."
        evidence = f"{stream.unread_input} bytes"
        yield finding("archive.trailing-bytes", Severity.CRITICAL, "", message, evidence)
