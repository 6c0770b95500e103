"""The wire between a worker's client and its zygote: one request, one answer, over a Unix stream socket.

Request: 4 bytes length (big-endian, with it the file descriptors as SCM_RIGHTS), JSON `{"timeout_s", "request"}`.
Answer: 4 bytes length, JSON header, then `bytes` bytes of result where the header is ok:
`{"ok": true, "bytes", "missing"}` or `{"ok": false, "code", "message", "missing"}`.
`missing` names the protections that this machine lacks; it is beside the result, never in it.
"""

from __future__ import annotations

import json
import socket

from presspass.core.digests import JsonObject
from presspass.core.limits import INSPECTION_FDS_MAX, INSPECTION_REQUEST_BYTES_MAX, KIB

_HEADER_BYTES_MAX = 64 * KIB
_LENGTH_BYTES = 4


def send_request(link: socket.socket, envelope: JsonObject, fds: list[int]) -> None:
    """Sends `envelope` and duplicates of `fds`. Raises OSError when the other side is gone."""
    body = json.dumps(envelope).encode()
    length = len(body).to_bytes(_LENGTH_BYTES, "big")
    if fds:
        socket.send_fds(link, [length], fds)
    else:
        link.sendall(length)
    link.sendall(body)


def receive_request(link: socket.socket) -> tuple[JsonObject, list[int]] | None:
    """The next request and its descriptors, which the caller must close; None when the other side is gone."""
    length, fds, flags, _ = socket.recv_fds(link, _LENGTH_BYTES, INSPECTION_FDS_MAX)
    if not length:
        return None
    if flags & socket.MSG_CTRUNC:
        raise ValueError("the request carries more file descriptors than allowed")
    length += _exactly(link, _LENGTH_BYTES - len(length))
    return _json(link, length, INSPECTION_REQUEST_BYTES_MAX), fds


def send_answer(link: socket.socket, header: JsonObject, result: bytes = b"") -> None:
    """Sends `header`, and `result` after it."""
    body = json.dumps(header).encode()
    link.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
    link.sendall(result)


def receive_answer(link: socket.socket, *, bytes_max: int) -> tuple[JsonObject, bytes]:
    """Header and result. Raises ConnectionError when the other side is gone, ValueError when it breaks the form."""
    header = _json(link, _exactly(link, _LENGTH_BYTES), _HEADER_BYTES_MAX)
    count = header.get("bytes", 0)
    if not isinstance(count, int) or not 0 <= count <= bytes_max:
        raise ValueError("the answer announces more bytes than allowed")
    return header, _exactly(link, count)


def _json(link: socket.socket, length: bytes, bytes_max: int) -> JsonObject:
    count = int.from_bytes(length, "big")
    if count > bytes_max:
        raise ValueError("the message is longer than allowed")
    value = json.loads(_exactly(link, count))
    if not isinstance(value, dict):
        raise ValueError("the message is not a JSON object")
    return value


def _exactly(link: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = link.recv(min(count, 1 << 20))
        if not part:
            raise ConnectionError("the other side is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
