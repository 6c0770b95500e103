"""HTTP itself: the connection that uvicorn drives, and reading and answering in ASGI without a framework.

Three things that uvicorn's connection does not do, and clients need:

1. A reason phrase of our own: it is the only text of a refusal that twine, hatch and flit show.
2. A bound on the bytes of a request's head, and an end for clients that stop sending in the middle.
3. A lingering close (RFC 9112 section 9.6): a client that is still sending when it is refused loses the answer if the
   connection is closed under it. So the sending side is closed first, and what still arrives is read and dropped,
   up to LINGER_BYTES_MAX and LINGER_S_MAX. TLS cannot be closed on one side in Python: there the answer stands with
   its length and `connection: close`, and the connection ends when the request's body has, or the client ends it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    CLIENT_IDLE_S_MAX,
    JSON_BODY_BYTES_MAX,
    LINGER_BYTES_MAX,
    LINGER_S_MAX,
    REQUEST_HEADER_BYTES_MAX,
    UPLOAD_READ_BYTES,
)
from presspass.gateway.problems import Answer, plain_problem, standard_phrase

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Member of an `http.response.start` message that holds the reason phrase (bytes, ISO-8859-1).
REASON: Final = "presspass.reason"
_IDLE_LOOKS = 4


class ClientGoneError(Exception):
    """The client closed the connection; there is nobody to answer."""


async def reply(send: Send, answer: Answer) -> None:
    """Sends a whole answer; nobody keeps it, unless it says otherwise."""
    headers = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (b"content-length", str(len(answer.body)).encode("latin-1")),
        (b"x-content-type-options", b"nosniff"),
    ]
    if not any(name == "cache-control" for name, _value in answer.headers):
        headers.append((b"cache-control", b"no-store"))
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.close:
        headers.append((b"connection", b"close"))
    start: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
    if answer.reason:
        start[REASON] = answer.reason.encode("latin-1")
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})


def json_answer(value: JsonObject, status: int = 200, **more: Any) -> Answer:
    """`value` as an answer."""
    return Answer(status, json.dumps(value).encode(), **more)


def header(scope: Scope, name: bytes) -> str:
    """The value of a request header, "" when it is absent."""
    for found, value in scope["headers"]:
        if found == name:
            return str(value.decode("latin-1"))
    return ""


async def read_body(receive: Receive, bytes_max: int = JSON_BODY_BYTES_MAX) -> bytes:
    """A whole small body; refuses with `request.too-large`."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise Refusal(Code.REQUEST_TOO_LARGE, f"The request has more than {bytes_max} bytes.")
        if not message.get("more_body", False):
            return bytes(body)


def read_json(body: bytes) -> JsonObject:
    """A JSON object; refuses with `request.malformed`."""
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(Code.REQUEST_MALFORMED, "The request body is not a JSON object.")
    return value


class _Line:
    """uvicorn's transport, with the reason phrase of the next answer put in, and closed by its connection's rules.

    The head of an answer waits for the first bytes of its body: both leave in one system call and wake the client once.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.closing = False
        self._reason = b""
        self._head_is_next = False
        self._head = b""

    def is_closing(self) -> bool:
        return self.closing or self._transport.is_closing()

    def expect_head(self, reason: bytes) -> None:
        """What is written next is the head of an answer; `reason` (b"" for the standard phrase) goes into it."""
        self._reason, self._head_is_next = reason, True

    def write(self, data: bytes) -> None:
        if self._head_is_next:
            self._head_is_next = False
            self._head = _with_phrase(data, self._reason)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Sends a head that has no body."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


def _with_phrase(head: bytes, reason: bytes) -> bytes:
    if not reason:
        return head
    status_line, rest = head.split(b"\r\n", 1)
    return b"%b %b\r\n%b" % (status_line[: len("HTTP/1.1 200")], reason, rest)


class Connection(HttpToolsProtocol):
    """One client connection. `uvicorn.Config(http=Connection)`."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._answering = self.app
        self.app = self._with_reason
        self._line: _Line | None = None
        self._raw: asyncio.Transport | None = None
        self._in_head = self._in_request = False
        self._head_bytes = 0
        self._linger_bytes: int | None = None
        self._read_on = False
        self._unwanted = 0
        self._heard_at = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    async def _with_reason(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_reason(message: Message) -> None:
            line = self._line
            if line is None:
                return  # nobody is connected any more
            if message["type"] == "http.response.start":
                line.expect_head(message.get(REASON, b""))
                await send(message)
            else:
                await send(message)
                line.flush()

        await self._answering(scope, receive, send_with_reason)

    # what uvicorn calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        self._raw = transport
        self._line = _Line(transport, self._close)
        super().connection_made(self._line)  # type: ignore[arg-type]  # the part of a transport that uvicorn uses
        self._timer = self.loop.call_later(CLIENT_IDLE_S_MAX / _IDLE_LOOKS, self._look_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        if self._linger_bytes is not None:
            self._drop(data)
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > REQUEST_HEADER_BYTES_MAX:
            self._refuse_head()

    def eof_received(self) -> None:
        if self._linger_bytes is not None:
            self._end()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._in_request = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._linger_bytes is not None:  # a next request, on a connection that is being closed
            return
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > REQUEST_HEADER_BYTES_MAX:
            self.app = _head_too_large
            self.url = b"/"  # httptools cannot take apart an address as long as this one may be
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._linger_bytes is not None:
            return
        cycle = self.cycle
        if cycle.response_complete:
            self._unwanted += len(body)
            if self._unwanted > LINGER_BYTES_MAX:
                self._end()
            return
        cycle.body += body
        # More than uvicorn's own mark: each turn of the event loop then takes more of a large file.
        if len(cycle.body) > UPLOAD_READ_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._in_request = False
        if self._linger_bytes is not None:
            self._end()
            return
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._linger_bytes is not None:
            self._end()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        message = "This is not an HTTP request."
        self._write_and_close(plain_problem(400, Code.REQUEST_MALFORMED.value, message, close=True))

    # closing

    def _refuse_head(self) -> None:
        self._write_and_close(_too_large())

    def _write_and_close(self, answer: Answer) -> None:
        phrase = answer.reason or standard_phrase(answer.status)
        head = (
            f"HTTP/1.1 {answer.status} {phrase}\r\ncontent-type: {answer.content_type}\r\n"
            f"content-length: {len(answer.body)}\r\nconnection: close\r\n\r\n"
        )
        self._in_request = True  # whatever still comes belongs to what was refused
        self.transport.write(head.encode("latin-1") + answer.body)
        self.transport.close()

    def _close(self) -> None:
        """Closes at once, or lingers while the client is still sending what was refused."""
        line, raw = self._line, self._raw
        if line is None or raw is None or line.closing:
            return
        line.flush()
        line.closing = True
        if not self._in_request or raw.is_closing():
            raw.close()
            return
        self._linger_bytes = LINGER_BYTES_MAX
        if raw.can_write_eof():
            raw.write_eof()
        else:
            self._read_on = not self._in_head
        self.flow.resume_reading()
        self._watch(LINGER_S_MAX, self._end)

    def _drop(self, data: bytes) -> None:
        self._linger_bytes = (self._linger_bytes or 0) - len(data)
        if self._linger_bytes <= 0:
            self._end()
        elif self._read_on:  # to find the end of the body; nothing of it is kept
            try:
                self.parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._read_on = False
            self.headers.clear()  # trailers

    def _end(self) -> None:
        if self._raw is not None:
            self._raw.close()

    def _look_idle(self) -> None:
        # `cycle` is None before the first request; between two, uvicorn's keep-alive timer is at work.
        waiting = (self._in_request or self.cycle is None) and not self.flow.read_paused
        if waiting and self.loop.time() - self._heard_at > CLIENT_IDLE_S_MAX:
            self._end()
        else:
            self._watch(CLIENT_IDLE_S_MAX / _IDLE_LOOKS, self._look_idle)

    def _watch(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, then)


def _too_large() -> Answer:
    message = f"The head of the request is larger than {REQUEST_HEADER_BYTES_MAX} bytes."
    return plain_problem(431, Code.REQUEST_TOO_LARGE.value, message, close=True)


async def _head_too_large(_scope: Scope, _receive: Receive, send: Send) -> None:
    await reply(send, _too_large())
