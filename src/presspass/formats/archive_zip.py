"""A strict zip reader (PKWARE APPNOTE 6.3.10; section numbers below are its own).

The whole file must be explained: local entries one after the other from byte 0, then the central directory, then
the end records. Whatever two unpackers could read differently is a finding. The signature of an end record inside
a member's data is ordinary (a wheel may hold a zip); a second end record that *closes the file* is not.
"""

from __future__ import annotations

import stat
import struct
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

_END = struct.Struct("<4s4H2LH")  # 4.3.16
_END_SIGNATURE = b"PK\x05\x06"
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR64 = struct.Struct("<4sLQL")  # 4.3.15
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_COMMENT_BYTES_MAX = 0xFFFF

_STORED, _DEFLATED = 0, 8  # 4.4.5
_FLAG_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13  # 4.4.4: encrypted, strongly, or with masked headers
_FLAG_DESCRIPTOR = 1 << 3
_FLAG_UTF8 = 1 << 11
_FLAGS_COMPARED = (
    _FLAG_ENCRYPTED | _FLAG_DESCRIPTOR | _FLAG_UTF8
)  # the others are hints for packers
_EXTRA_ZIP64, _EXTRA_UNICODE_PATH = 0x0001, 0x7075  # 4.5.3, 4.6.9

b"".decode(
    "cp437"
)  # loads the codec now: under Landlock the file that holds it can no longer be opened


@dataclass(frozen=True, slots=True)
class _End:
    """Where the central directory is. `shift`: bytes before the zip that its offsets do not count."""

    directory: int
    directory_size: int
    entries: int
    shift: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One central header: sizes in bytes, `offset` of its local header within the file, `mode` as in Unix."""

    raw_name: bytes
    path: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int

    @property
    def folder(self) -> bool:
        return self.path.endswith("/")


@dataclass(frozen=True, slots=True)
class _Extent:
    """The bytes of one local entry: header from `start`, data from `data`, all of it ends before `end`."""

    start: int
    data: int
    end: int


def read_zip(source: Source) -> Archive:
    """Reads the directory and every member. Never raises for what the file holds: that becomes findings."""
    findings: list[Finding] = []
    members: dict[str, Member] = {}
    places: dict[str, tuple[_Entry, _Extent]] = {}
    try:
        end = _find_end(source, findings)
        entries = _read_directory(source, end, findings)
        findings.extend(collision_findings(entry.path for entry in entries))
        extents = [_read_local(source, end, entry, findings) for entry in entries]
        findings.extend(_layout_findings(end, extents))
        budget = Budget(source.size)
        for entry, extent in zip(entries, extents, strict=True):
            if extent is None or not _unpackable(entry, findings):
                continue
            member = _read_member(source, entry, extent, budget, findings)
            if member and not entry.folder:
                members[entry.path] = member
                places[entry.path] = entry, extent
    except Unreadable as stop:
        findings.append(stop.finding)

    def read(paths: Collection[str], bytes_max: int) -> dict[str, bytes]:
        return {
            path: b"".join(_unpack(source, *places[path]))
            for path in paths
            if path in places and places[path][0].size <= bytes_max
        }

    return Archive(tuple(members.values()), tuple(findings), read)


def _find_end(source: Source, findings: list[Finding]) -> _End:
    """The end record (4.3.16): the last one whose comment reaches exactly to the end of the file."""
    tail_start = max(0, source.size - _END.size - _COMMENT_BYTES_MAX)
    tail = source.exactly(tail_start, source.size - tail_start)
    possible = [at for at in _all_of(tail, _END_SIGNATURE) if at + _END.size <= len(tail)]
    closing = [at for at in possible if _closes(tail, at)]
    if not possible:
        raise Unreadable("The file has no end record: it is not a zip, or it is cut short.")
    if not closing:
        message = "The file goes on after the end of the zip; some programs read it all the same."
        findings.append(finding("archive.trailing-bytes", Severity.CRITICAL, "", message))
    at = (closing or possible)[-1]
    if len(closing) > 1 or possible[-1] > at:
        message = "The zip can be read from two end records, so programs differ in what it holds."
        findings.append(finding("archive.two-ends", Severity.CRITICAL, "", message))
    _, disk, start_disk, here, total, size, offset, comment = _END.unpack_from(tail, at)
    if comment:
        message = "The zip carries a comment of its own."
        findings.append(finding("archive.comment", Severity.LOW, "", message))
    if disk not in (0, 0xFFFF) or start_disk not in (0, 0xFFFF) or here != total:
        raise Unreadable("The zip says that it is one part of several.")
    return _with_zip64(source, tail_start + at, (total, size, offset), findings)


def _all_of(data: bytes, needle: bytes) -> Iterator[int]:
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + 1)


def _closes(tail: bytes, at: int) -> bool:
    comment: int = _END.unpack_from(tail, at)[7]
    return at + _END.size + comment == len(tail)


def _with_zip64(
    source: Source, position: int, short: tuple[int, int, int], findings: list[Finding]
) -> _End:
    """Puts the zip64 end record (4.3.14) in place of the short one where there is one."""
    locator_at = position - _LOCATOR64.size
    locator = source.read_at(locator_at, _LOCATOR64.size) if locator_at >= 0 else b""
    if not locator.startswith(b"PK\x06\x07"):
        if 0xFFFF in short[:1] or 0xFFFFFFFF in short[1:]:
            raise Unreadable("The zip needs a zip64 end record and has none.")
        return _end(position, short)
    end64_at = locator_at - _END64.size
    _, _, announced, _ = _LOCATOR64.unpack(locator)
    record = _END64.unpack(source.exactly(end64_at, _END64.size))
    if record[0] != b"PK\x06\x06" or record[1] != _END64.size - 12:
        raise Unreadable(
            "The zip64 end record is not where it must be, or has parts of unknown kind."
        )
    long = (record[7], record[8], record[9])
    end = _end(end64_at, long)
    whole = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    same = all(a in (b, full) for a, b, full in zip(short, long, whole, strict=True))
    if not same or announced + end.shift != end64_at or record[6] != record[7]:
        findings.append(
            finding(
                "archive.header-mismatch",
                Severity.CRITICAL,
                "",
                "The two end records of the zip contradict each other.",
            )
        )
    return end


def _end(directory_end: int, fields: tuple[int, int, int]) -> _End:
    entries, size, offset = fields
    shift = directory_end - size - offset
    if shift < 0 or size > limits.ARCHIVE_INDEX_BYTES_MAX:
        raise Unreadable("The zip's directory does not fit between its members and its end.")
    return _End(directory_end - size, size, entries, shift)


def _read_directory(source: Source, end: _End, findings: list[Finding]) -> list[_Entry]:
    """All central headers (4.3.12), which must fill the directory exactly."""
    if end.entries > limits.ARCHIVE_MEMBERS_MAX:
        raise Unreadable(f"The zip has more than {limits.ARCHIVE_MEMBERS_MAX} members.")
    data = source.exactly(end.directory, end.directory_size)
    entries: list[_Entry] = []
    at = 0
    while at < len(data) and data[at : at + 4] == b"PK\x01\x02":
        if len(entries) == limits.ARCHIVE_MEMBERS_MAX:
            raise Unreadable(f"The zip has more than {limits.ARCHIVE_MEMBERS_MAX} members.")
        entry, at = _central_entry(data, at, end.shift, findings)
        entries.append(entry)
    if at != len(data) or len(entries) != end.entries:
        findings.append(
            finding(
                "archive.directory-mismatch",
                Severity.CRITICAL,
                "",
                "The zip's directory does not hold exactly the entries that its end record announces.",
                f"announced {end.entries}, found {len(entries)}, {len(data) - at} bytes unexplained",
            )
        )
    return entries


def _central_entry(data: bytes, at: int, shift: int, findings: list[Finding]) -> tuple[_Entry, int]:
    if at + _CENTRAL.size > len(data):
        raise Unreadable("The zip's directory ends inside an entry.")
    fields = _CENTRAL.unpack_from(data, at)
    flags, method, crc, packed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
    name_end = at + _CENTRAL.size + fields[10]
    extra_end = name_end + fields[11]
    following = extra_end + fields[12]
    if following > len(data):
        raise Unreadable("The zip's directory ends inside an entry.")
    raw_name = data[at + _CENTRAL.size : name_end]
    path = _decode_name(raw_name, flags, findings)
    extra = _extra_blocks(data[name_end:extra_end], path, findings)
    _check_second_name(path, extra.get(_EXTRA_UNICODE_PATH), findings)
    size, packed, offset = _zip64_values(extra.get(_EXTRA_ZIP64, b""), size, packed, fields[16])
    mode = fields[15] >> 16  # 4.4.15: the upper half is the Unix mode, as unpackers take it
    entry = _Entry(raw_name, path, flags, method, crc, packed, size, offset + shift, mode)
    findings.extend(_entry_findings(entry))
    return entry, following


def _decode_name(raw: bytes, flags: int, findings: list[Finding]) -> str:
    """Names are UTF-8 where bit 11 says so, else cp437 (appendix D)."""
    if len(raw) > limits.MEMBER_PATH_BYTES_MAX or not raw:
        raise Unreadable("A member has no name, or one that is too long.")
    if raw.isascii():
        return raw.decode("ascii")
    if not flags & _FLAG_UTF8:
        name = raw.decode("cp437")
        message = "The member's name is not ASCII and not marked as UTF-8, so programs differ in what it is."
        findings.append(finding("archive.ambiguous-name", Severity.MEDIUM, name, message))
        return name
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        name = raw.decode("utf-8", "replace")
        message = "The member's name is marked as UTF-8 and is not."
        findings.append(finding("archive.bad-encoding", Severity.HIGH, name, message))
        return name


def _extra_blocks(extra: bytes, path: str, findings: list[Finding]) -> dict[int, bytes]:
    """Data by header id (4.5.1); a rest too short for a block is padding and left out."""
    blocks: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind in blocks and kind in (_EXTRA_ZIP64, _EXTRA_UNICODE_PATH):
            message = (
                "The member has two blocks of one kind; programs differ in which of them counts."
            )
            findings.append(finding("archive.header-mismatch", Severity.CRITICAL, path, message))
        blocks[kind] = extra[at + 4 : at + 4 + length]
        at += 4 + length
    return blocks


def _check_second_name(path: str, block: bytes | None, findings: list[Finding]) -> None:
    """4.6.9: version (1 byte), CRC of the first name (4), a second name that some unpackers prefer."""
    if block is None or block[5:] == path.encode("utf-8", "replace"):
        return
    message = "The member has a second name, which some programs prefer to the first."
    second = block[5:].decode("utf-8", "backslashreplace")
    findings.append(finding("archive.second-name", Severity.CRITICAL, path, message, second))


def _zip64_values(block: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """4.5.3: the 64-bit values stand in this order, each only where its short field is all ones."""
    values = []
    for short in (size, packed, offset):
        if short != 0xFFFFFFFF:
            values.append(short)
            continue
        if len(block) < 8:
            raise Unreadable("A member needs zip64 values and has none.")
        values.append(int.from_bytes(block[:8], "little"))
        block = block[8:]
    return values[0], values[1], values[2]


def _entry_findings(entry: _Entry) -> Iterator[Finding]:
    yield from name_findings(entry.path)
    kind = stat.S_IFMT(entry.mode)
    if kind == stat.S_IFLNK:
        message = "The member is a symbolic link."
        yield finding("archive.link", Severity.HIGH, entry.path, message)
    elif kind not in (0, stat.S_IFREG) and not (kind == stat.S_IFDIR and entry.folder):
        message = "The member is neither a file nor a folder, or says two things about it."
        yield finding("archive.special-file", Severity.HIGH, entry.path, message, oct(entry.mode))
    if entry.mode & (stat.S_ISUID | stat.S_ISGID) and kind != stat.S_IFDIR:
        message = "The member asks to run with its owner's or group's rights."
        yield finding("archive.setid", Severity.HIGH, entry.path, message, oct(entry.mode))
    if entry.folder and entry.size:
        message = "The member is named as a folder and has content."
        yield finding("archive.content-without-file", Severity.HIGH, entry.path, message)


def _read_local(
    source: Source, end: _End, entry: _Entry, findings: list[Finding]
) -> _Extent | None:
    """The local header (4.3.7) must say what the central one says. None when the member's bytes are not there."""
    header = source.read_at(entry.offset, _LOCAL.size) if entry.offset < source.size else b""
    if len(header) != _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        findings.append(_mismatch(entry, "there is no local header where the directory points"))
        return None
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
    names_at = entry.offset + _LOCAL.size
    names = source.exactly(names_at, name_length + extra_length)
    data_at = names_at + len(names)
    if data_at + entry.packed > end.directory:
        findings.append(_mismatch(entry, "the data runs into the directory"))
        return None
    extra = _extra_blocks(names[name_length:], entry.path, findings)
    _check_second_name(entry.path, extra.get(_EXTRA_UNICODE_PATH), findings)
    try:
        size, packed, _ = _zip64_values(extra.get(_EXTRA_ZIP64, b""), size, packed, 0)
    except Unreadable:
        findings.append(_mismatch(entry, "zip64 values are missing"))
    local = (names[:name_length], flags & _FLAGS_COMPARED, method, crc, packed, size)
    wrong = _contradictions(entry, local)
    if wrong:
        findings.append(_mismatch(entry, ", ".join(wrong)))
    data_end = data_at + entry.packed
    if flags & _FLAG_DESCRIPTOR:
        data_end += _descriptor_bytes(source, data_end, entry, findings)
    return _Extent(entry.offset, data_at, data_end)


def _contradictions(entry: _Entry, local: tuple[bytes, int, int, int, int, int]) -> list[str]:
    """Names of the fields that differ. 4.4.4 bit 3: CRC and sizes may be zero here, and follow the data."""
    central = (
        entry.raw_name,
        entry.flags & _FLAGS_COMPARED,
        entry.method,
        entry.crc,
        entry.packed,
        entry.size,
    )
    labels = ("name", "flags", "method", "crc", "packed size", "size")
    streamed = bool(local[1] & _FLAG_DESCRIPTOR)
    return [
        label
        for place, (label, here, there) in enumerate(zip(labels, local, central, strict=True))
        if here != there and not (streamed and place >= 3 and here == 0)
    ]


def _mismatch(entry: _Entry, what: str) -> Finding:
    message = "The member's local header and the zip's directory contradict each other."
    return finding("archive.header-mismatch", Severity.CRITICAL, entry.path, message, what)


def _descriptor_bytes(source: Source, at: int, entry: _Entry, findings: list[Finding]) -> int:
    """Length of the data descriptor (4.3.9): with or without signature, sizes of 8 or 4 bytes."""
    found = source.read_at(at, 24)
    long = struct.pack("<L2Q", entry.crc, entry.packed, entry.size)
    short = struct.pack("<3L", entry.crc, entry.packed & 0xFFFFFFFF, entry.size & 0xFFFFFFFF)
    for values in (long, short):
        for wanted in (b"PK\x07\x08" + values, values):
            if found.startswith(wanted):
                return len(wanted)
    findings.append(_mismatch(entry, "data descriptor"))
    return 0


def _layout_findings(end: _End, extents: list[_Extent | None]) -> Iterator[Finding]:
    """Every byte before the directory belongs to exactly one member."""
    position = 0
    for extent in sorted((one for one in extents if one), key=lambda one: one.start):
        if extent.start < position:
            message = "Two members share bytes of the archive."
            yield finding("archive.overlap", Severity.CRITICAL, "", message)
        elif extent.start > position:
            yield _gap(position, extent.start)
        position = max(position, extent.end)
    if position < end.directory:
        yield _gap(position, end.directory)


def _gap(start: int, stop: int) -> Finding:
    if start == 0:
        message = (
            "Bytes stand before the first member: a script or another archive may be glued on."
        )
        return finding(
            "archive.prefix-bytes", Severity.CRITICAL, "", message, f"{stop - start} bytes"
        )
    message = "Bytes of the archive belong to no member that its directory lists."
    return finding(
        "archive.hidden-bytes", Severity.CRITICAL, "", message, f"{stop - start} bytes at {start}"
    )


def _unpackable(entry: _Entry, findings: list[Finding]) -> bool:
    if entry.flags & _FLAG_ENCRYPTED:
        message = "The member is encrypted, so nobody can review it."
        findings.append(finding("archive.encrypted", Severity.CRITICAL, entry.path, message))
        return False
    if entry.method not in (_STORED, _DEFLATED):
        message = "The member is packed by a method that installers do not read."
        evidence = f"method {entry.method}"
        findings.append(finding("archive.method", Severity.CRITICAL, entry.path, message, evidence))
        return False
    return True


def _read_member(
    source: Source, entry: _Entry, extent: _Extent, budget: Budget, findings: list[Finding]
) -> Member | None:
    budget.take(entry.size)
    crc = 0

    def checked() -> Iterator[bytes]:
        nonlocal crc
        for chunk in _unpack(source, entry, extent):
            crc = zlib.crc32(chunk, crc)
            yield chunk

    try:
        member = member_of(entry.path, bool(entry.mode & 0o111), checked())
    except Unreadable as stop:
        message = str(stop)
        findings.append(finding("archive.bad-data", Severity.CRITICAL, entry.path, message))
        return None
    if crc != entry.crc:
        message = "The member's content does not have the checksum that the directory gives."
        findings.append(finding("archive.bad-crc", Severity.CRITICAL, entry.path, message))
    return member


def _unpack(source: Source, entry: _Entry, extent: _Extent) -> Iterator[bytes]:
    """The member's content, in chunks; raises Unreadable unless it is exactly as long as announced."""
    packed = _packed(source, extent.data, entry.packed)
    produced = 0
    for chunk in packed if entry.method == _STORED else _inflate(packed):
        produced += len(chunk)
        if produced > entry.size:
            raise Unreadable("The member unpacks to more than the directory announces.")
        yield chunk
    if produced != entry.size:
        raise Unreadable("The member unpacks to less than the directory announces.")


def _packed(source: Source, offset: int, count: int) -> Iterator[bytes]:
    while count:
        chunk = source.exactly(offset, min(count, limits.READ_CHUNK_BYTES))
        yield chunk
        offset += len(chunk)
        count -= len(chunk)


def _inflate(packed: Iterator[bytes]) -> Iterator[bytes]:
    """Raw deflate in bounded memory; the stream must end exactly where its bytes end."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in packed:
            while chunk and not inflater.eof:
                yield inflater.decompress(chunk, limits.READ_CHUNK_BYTES)
                chunk = inflater.unconsumed_tail
            if inflater.unused_data or chunk:
                raise Unreadable("Bytes follow the end of the member's packed data.")
        while not inflater.eof:
            rest = inflater.decompress(b"", limits.READ_CHUNK_BYTES)
            if not rest:
                raise Unreadable("The member's packed data is cut short.")
            yield rest
    except zlib.error:
        raise Unreadable("The member's packed data is damaged.") from None
