"""The connection itself, small applications behind it: reason phrases, lingering, clients that stop sending."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from gateway_world import until
from presspass.gateway import http
from presspass.gateway.http import AsgiApp, Receive, Scope, Send, read_body, reply
from presspass.gateway.problems import Answer
from presspass.services.gateway import _server

Serve = Callable[[AsgiApp], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves an application on a loopback port, in a thread, until the end of the test."""
    running: list[tuple[object, threading.Thread]] = []

    def start(app: AsgiApp) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        server = _server(app)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        running.append((server, thread))
        until(lambda: server.started, "the server to start")
        return int(listener.getsockname()[1])

    yield start
    for server, thread in running:
        server.should_exit = True  # type: ignore[attr-defined]  # uvicorn's own switch
        thread.join()


def refuse(answer: Answer) -> AsgiApp:
    """An application that answers without reading."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, answer)

    return app


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    await reply(send, Answer(200, await read_body(receive), reason="All of it"))


def talk(port: int, *pieces: bytes) -> bytes:
    """Sends `pieces`, then reads to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                client.sendall(piece)
        answer = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(65536):
                answer += piece
    return bytes(answer)


def test_the_reason_phrase_is_the_answers_own_and_only_of_that_answer(serve: Serve) -> None:
    phrases = iter(["Caf\xe9 closed: http://x", ""])

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, Answer(403, b"body", reason=next(phrases)))

    once = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = talk(serve(app), once + once.replace(b"Host", b"Connection: close\r\nHost"))
    lines = [line for line in answer.split(b"\r\n") if b"HTTP/1.1" in line]
    assert lines[0] == b"HTTP/1.1 403 Caf\xe9 closed: http://x"
    assert lines[1].endswith(b"HTTP/1.1 403 Forbidden")


def test_a_body_that_looks_like_a_status_line_is_left_alone(serve: Serve) -> None:
    body = b"HTTP/1.1 200 OK\r\n\r\n"
    request = (
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    assert talk(serve(echo), request + body).endswith(b"\r\n\r\n" + body)


def test_two_requests_at_once_are_answered_in_their_order(serve: Serve) -> None:
    def request(body: bytes, more: bytes = b"") -> bytes:
        return b"POST / HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (
            more,
            len(body),
            body,
        )

    answer = talk(serve(echo), request(b"first") + request(b"second", b"Connection: close\r\n"))
    assert answer.index(b"first") < answer.index(b"second")


LARGE = 64 << 20
UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE


def test_a_refused_client_that_goes_on_sending_reads_its_answer(serve: Serve) -> None:
    port = serve(refuse(Answer(403, b"no", close=True)))
    assert talk(port, UPLOAD, bytes(LARGE)).startswith(b"HTTP/1.1 403 ")


def test_the_rest_of_a_refused_body_is_read_to_a_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LINGER_BYTES_MAX", 1 << 20)
    for close in (True, False):
        port = serve(refuse(Answer(403, b"no", close=close)))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as client,
            pytest.raises(OSError),
        ):
            client.sendall(UPLOAD)
            for _ in range(LARGE >> 16):
                client.sendall(bytes(1 << 16))


def test_lingering_ends_by_itself(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_S_MAX", 0.2)
    port = serve(refuse(Answer(403, b"no", close=True)))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(UPLOAD)
        while client.recv(65536):
            pass
        until(lambda: _is_gone(client), "the server to close")


def _is_gone(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False


def test_a_client_that_stops_in_the_middle_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CLIENT_IDLE_S_MAX", 0.3)
    port = serve(echo)
    body_begun = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
    for begun in (b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHo", body_begun):
        assert talk(port, begun) == b""


def test_a_client_that_is_waited_for_is_not_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CLIENT_IDLE_S_MAX", 0.1)

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await reply(send, Answer(200, b"done"))

    assert talk(serve(slow), b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(
        b"done"
    )
