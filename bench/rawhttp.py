"""A client that costs next to nothing: requests prepared ahead, one kept-alive connection, files sent by the kernel.

What it sends is what upload clients send: one form, the file last but for the closing boundary, its SHA-256 in a field.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

_BOUNDARY: Final = "a-boundary-that-no-wheel-holds-6f1c0a"
_TIMEOUT_S: Final = 120
_READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Door:
    """Where uploads go: a loopback port, a path, and the password (None: nobody asks for one)."""

    port: int
    path: str
    password: str | None = None

    @property
    def authorization(self) -> str:
        """The header line, or nothing."""
        if self.password is None:
            return ""
        word = base64.b64encode(f"__token__:{self.password}".encode()).decode()
        return f"Authorization: Basic {word}\r\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel to send: its bytes, or the path of a file that holds them."""

    filename: str
    project: str
    version: str
    sha256: str
    size: int
    content: bytes | Path

    @classmethod
    def of_bytes(cls, filename: str, project: str, version: str, content: bytes) -> Self:
        """A small one."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(filename, project, version, digest, len(content), content)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A whole request, ready to go out: what stands before the file and what behind it."""

    head: bytes
    content: bytes | Path
    tail: bytes

    @classmethod
    def upload(cls, door: Door, wheel: Wheel) -> Self:
        """The upload of `wheel` at `door`."""
        fields = {
            ":action": "file_upload",
            "protocol_version": "1",
            "metadata_version": "2.1",
            "name": wheel.project,
            "version": wheel.version,
            "filetype": "bdist_wheel",
            "pyversion": "py3",
            "sha256_digest": wheel.sha256,
        }
        form = "".join(_field(name, value) for name, value in fields.items()) + (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="content"; '
            f'filename="{wheel.filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        )
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        head = (
            f"POST {door.path} HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\n"
            f"User-Agent: presspass-bench\r\nAccept: */*\r\n{door.authorization}"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
            f"Content-Length: {len(form) + wheel.size + len(tail)}\r\n\r\n{form}"
        )
        return cls(head.encode(), wheel.content, tail)


class Line:
    """One connection to a server on this machine, opened when it is needed and kept alive."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def send(self, request: Prepared) -> tuple[int, bytes]:
        """Status and body of the answer. OSError when the connection breaks; the next call opens another."""
        try:
            return self._send(request)
        except OSError:
            self.close()
            raise

    def _send(self, request: Prepared) -> tuple[int, bytes]:
        line = self._socket or self._connect()
        if isinstance(request.content, bytes):
            line.sendall(request.head + request.content + request.tail)
        else:
            line.sendall(request.head)
            with request.content.open("rb") as file:
                line.sendfile(file)
            line.sendall(request.tail)
        status, headers, body = _answer(line)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, body

    def _connect(self) -> socket.socket:
        self._socket = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def close(self) -> None:
        """Ends the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def must(line: Line, request: Prepared) -> dict[str, Any]:
    """Sends an upload that has to be taken; the answer if it is a JSON object, else an empty one."""
    status, body = line.send(request)
    if status not in (200, 202):
        raise RuntimeError(f"an upload was answered with {status}: {body[:300]!r}")
    with contextlib.suppress(ValueError):
        value = json.loads(body)
        if isinstance(value, dict):
            return value
    return {}


def crowd(door: Door, wheels: Iterable[Wheel], width: int) -> tuple[list[dict[str, Any]], int]:
    """Sends all of `wheels`, `width` at a time, each sender on a connection of its own.

    The answers, and how many attempts broke (a broken one is sent again).
    """
    waiting = iter([Prepared.upload(door, wheel) for wheel in wheels])
    lock, answers, broken = threading.Lock(), list[dict[str, Any]](), list[OSError]()
    failed = list[Exception]()

    def work() -> None:
        with Line(door.port) as line:
            while True:
                with lock:
                    request = next(waiting, None)
                if request is None:
                    return
                answers.append(_insist(line, request, broken))

    def guarded() -> None:
        try:
            work()
        except Exception as error:  # told to the caller, who waits for all
            failed.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return answers, len(broken)


def _insist(line: Line, request: Prepared, broken: list[OSError]) -> dict[str, Any]:
    tries_max = 20
    for _ in range(tries_max):
        try:
            return must(line, request)
        except OSError as error:
            broken.append(error)
    raise RuntimeError(f"an upload broke {tries_max} times: {broken[-1]}")


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    """A plain request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _field(name: str, value: str) -> str:
    return f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


def _answer(line: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(line)
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    pairs: Sequence[tuple[str, str, str]] = [one.partition(":") for one in lines]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    while len(body) < int(headers.get("content-length", 0)):
        body += _more(line)
    return int(status_line.split(" ", 2)[1]), headers, body


def _more(line: socket.socket) -> bytes:
    data = line.recv(_READ_BYTES)
    if not data:
        raise ConnectionError("the server closed the connection without an answer")
    return data
