"""How answers leave: head and first bytes of the body in one write, and a head without a body all the same."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from gateway_world import until
from presspass.gateway.http import AsgiApp, Receive, Scope, Send, _Line, reply
from presspass.gateway.problems import Answer
from presspass.services.gateway import _server

HEAD = b"HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\n\r\n"


class Recorder(asyncio.Transport):
    """A transport that keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.writes.append(b"".join(pieces))

    def pause_reading(self) -> None:
        raise AssertionError("nobody reads here")

    resume_reading = pause_reading


@pytest.fixture
def line() -> tuple[_Line, Recorder]:
    recorder = Recorder()
    return _Line(recorder, lambda: None), recorder


def test_head_and_body_leave_in_one_write(line: tuple[_Line, Recorder]) -> None:
    line[0].expect_head(b"")
    line[0].write(HEAD)
    line[0].write(b"body")
    line[0].write(b"more")
    line[0].flush()
    assert line[1].writes == [HEAD + b"body", b"more"]


def test_a_head_alone_leaves_when_its_answer_is_over(line: tuple[_Line, Recorder]) -> None:
    line[0].expect_head(b"")
    line[0].write(HEAD)
    assert line[1].writes == []
    line[0].flush()
    line[0].flush()
    assert line[1].writes == [HEAD]


def test_only_the_head_gets_the_reason(line: tuple[_Line, Recorder]) -> None:
    line[0].expect_head(b"Staged")
    line[0].write(HEAD)
    line[0].write(HEAD)
    assert line[1].writes == [HEAD.replace(b"Accepted", b"Staged") + HEAD]


@contextmanager
def served(app: AsgiApp) -> Iterator[socket.socket]:
    """A client of `app`, connected."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _server(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        until(lambda: server.started, "the server to start")
        with socket.create_connection(listener.getsockname(), timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def read_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = client.recv(4096)
        assert piece, data
        data += piece
    return data


async def answers(_scope: Scope, _receive: Receive, send: Send) -> None:
    await reply(send, Answer(200, b"body"))


async def breaks_off(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("in the middle of an answer")


def test_a_question_for_the_head_alone_is_answered_and_the_connection_lives_on() -> None:
    with served(answers) as client:
        for _ in range(2):
            client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_until(client, b"body").startswith(b"HTTP/1.1 200")


def test_an_answer_that_breaks_off_is_seen_to_break_off() -> None:
    with served(breaks_off) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while piece := client.recv(4096):
            data += piece
    assert data.startswith(b"HTTP/1.1 200")
    assert not data.endswith(b"0\r\n\r\n")  # the end of a chunked body
