"""Packs of git objects as servers send them (gitformat-pack(5)), read whole from hostile bytes, bounded.

A pack says how long each object will be when it is unpacked; that is checked against the limit before anything is
unpacked, and no byte more is ever unpacked. Deltas are applied, and what they make counts as well.
"""

from __future__ import annotations

import hashlib
import struct
import zlib

from presspass.core import limits
from presspass.core.errors import Code, Refusal
from presspass.formats.git_objects import SHA256_BYTES, object_id

_HEADER = struct.Struct(">4sII")
_CHUNK_BYTES = 4096
_OFS_DELTA, _REF_DELTA = 6, 7
_TYPES = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
_COPY_BYTES_DEFAULT = 0x10000


def read_pack(data: bytes, id_bytes: int) -> dict[str, bytes]:
    """Id to raw object (header included) of everything in a pack.

    Refuses with `identity.workflow-unavailable` a pack that is damaged, over a limit, or needs objects it does not
    hold.
    """
    return _Pack(data, id_bytes).read()


class _Pack:
    def __init__(self, data: bytes, id_bytes: int) -> None:
        self._data = memoryview(data)
        self._id_bytes = id_bytes
        self._end = len(data) - id_bytes
        self._at = 0
        self._left = limits.FORGE_UNPACKED_BYTES_MAX
        self._found: dict[str, bytes] = {}
        self._names: dict[int, str] = {}  # offset to id
        self._waiting: dict[int | str, list[tuple[int, bytes]]] = {}  # base to offset and delta

    def read(self) -> dict[str, bytes]:
        for _ in range(self._count()):
            self._entry()
        if self._at != self._end:
            raise _invalid("bytes are left over")
        if self._waiting:
            raise _invalid("it needs objects that it does not hold")
        return self._found

    def _count(self) -> int:
        """The number of objects, after the header and the checksum at the end have been checked."""
        if self._end < _HEADER.size:
            raise _invalid("it is too short")
        magic, version, count = _HEADER.unpack_from(self._data)
        new = hashlib.sha256 if self._id_bytes == SHA256_BYTES else hashlib.sha1
        if magic != b"PACK" or version not in (2, 3):
            raise _invalid("it is no pack of version 2 or 3")
        if new(self._data[: self._end], usedforsecurity=False).digest() != self._data[self._end :]:
            raise _invalid("its checksum is wrong")
        if count > limits.FORGE_PACK_OBJECTS_MAX:
            raise _invalid(f"it has more than {limits.FORGE_PACK_OBJECTS_MAX} objects")
        self._at = _HEADER.size
        return int(count)

    def _entry(self) -> None:
        """One entry: its type and size, for a delta its base, and the compressed content."""
        start = self._at
        first = self._byte()
        kind, size, shift = first >> 4 & 7, first & 15, 4
        while first & 0x80:
            first = self._byte()
            size |= (first & 0x7F) << shift
            shift += 7
            self._allow(size)
        base: int | str = 0
        if kind == _OFS_DELTA:
            base = start - self._offset()
        elif kind == _REF_DELTA:
            base = bytes(self._take(self._id_bytes)).hex()
        elif kind not in _TYPES:
            raise _invalid("it has an object of an unknown type")
        body = self._inflate(size)
        if kind in _TYPES:
            self._keep(start, _TYPES[kind], body)
        elif (name := self._name(base)) is not None:
            self._keep(start, *self._patched(name, body))
        else:
            self._waiting.setdefault(base, []).append((start, body))

    def _name(self, base: int | str) -> str | None:
        """The id of a base that is there already."""
        if isinstance(base, int):
            return self._names.get(base)
        return base if base in self._found else None

    def _keep(self, start: int, kind: bytes, body: bytes) -> None:
        """Takes an object in, and then each one that has waited for it, and those that waited for them."""
        ready = [(start, kind, body)]
        while ready:
            offset, kind, body = ready.pop()
            raw = b"%s %d\0" % (kind, len(body)) + body
            name = object_id(raw, self._id_bytes)
            self._found[name] = raw
            self._names[offset] = name
            for waiter, delta in self._waiting.pop(offset, []) + self._waiting.pop(name, []):
                ready.append((waiter, *self._patched(name, delta)))

    def _patched(self, base: str, delta: bytes) -> tuple[bytes, bytes]:
        header, _, _ = self._found[base][:40].partition(b"\0")
        kind, body = header.partition(b" ")[0], memoryview(self._found[base])[len(header) + 1 :]
        source_size, at = _varint(delta, 0)
        target_size, at = _varint(delta, at)
        if source_size != len(body):
            raise _invalid("a delta belongs to another base")
        self._allow(target_size, take=True)
        return kind, _apply(body, delta, at, target_size)

    def _offset(self) -> int:
        """The distance to the base of an OFS_DELTA; at most to the beginning of the pack."""
        byte = self._byte()
        value = byte & 0x7F
        while byte & 0x80:
            byte = self._byte()
            value = (value + 1) << 7 | byte & 0x7F
            if value > len(self._data):
                raise _invalid("a delta has its base before the pack")
        return value

    def _inflate(self, size: int) -> bytes:
        """Exactly `size` bytes from here; never unpacks more than one byte beyond."""
        self._allow(size, take=True)
        stream, parts, left = zlib.decompressobj(), [], size + 1
        while not stream.eof:
            chunk = self._data[self._at : min(self._at + _CHUNK_BYTES, self._end)]
            if not chunk:
                raise _invalid("it ends in the middle of an object")
            try:
                part = stream.decompress(chunk, left)
            except zlib.error:
                raise _invalid("an object cannot be unpacked") from None
            left -= len(part)
            if left <= 0 or stream.unconsumed_tail:
                raise _invalid("an object is longer than it says")
            parts.append(part)
            self._at += len(chunk) - len(stream.unused_data)
        if left != 1:
            raise _invalid("an object is shorter than it says")
        return b"".join(parts)

    def _allow(self, size: int, *, take: bool = False) -> None:
        if size > self._left:
            raise _invalid(f"it unpacks to more than {limits.FORGE_UNPACKED_BYTES_MAX} bytes")
        if take:
            self._left -= size

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> memoryview:
        if self._at + count > self._end:
            raise _invalid("it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]


def _apply(base: memoryview, delta: bytes, at: int, size: int) -> bytes:
    """The instructions of a delta ("Deltified representation"): copy from the base, or insert."""
    result = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 0x80:
            offset, length = 0, 0
            for bit in range(7):
                if code >> bit & 1:
                    if at == len(delta):
                        raise _invalid("a delta is cut off")
                    if bit < 4:
                        offset |= delta[at] << 8 * bit
                    else:
                        length |= delta[at] << 8 * (bit - 4)
                    at += 1
            piece = base[offset : offset + (length or _COPY_BYTES_DEFAULT)]
            length = length or _COPY_BYTES_DEFAULT
        else:
            length, piece = code, memoryview(delta)[at : at + code]
            at += code
        if not length or len(piece) != length or len(result) + length > size:
            raise _invalid("a delta has an instruction that does not fit")
        result += piece
    if len(result) != size:
        raise _invalid("a delta makes another length than it says")
    return bytes(result)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A size in seven bits a byte, lowest first; the limits allow five of them."""
    value = 0
    for position, byte in enumerate(data[at : at + 5]):
        value |= (byte & 0x7F) << 7 * position
        if not byte & 0x80:
            return value, at + position + 1
    raise _invalid("a delta has no size that can be read")


def _invalid(why: str) -> Refusal:
    return Refusal(
        Code.WORKFLOW_UNAVAILABLE,
        f"The pack that the git server sent cannot be used: {why}.",
        "Let the workload hand the git objects over (`presspass submit` does).",
    )
