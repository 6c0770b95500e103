"""The client of the gate: what went wrong reaches the user as a refusal with a hint, or a fault with a next step."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli_gate import as_json, problem
from presspass.cli.client import Gate, PageUrl, control, parse_page_url
from presspass.core.errors import Code, Fault, Refusal
from presspass.drill.world.loopback import LoopbackServer, Request, Response


class OneAnswer(LoopbackServer):
    """Answers everything with `given`."""

    given: Response | None = None

    def answer(self, request: Request) -> Response | None:
        return self.given


@pytest.fixture
def server() -> Iterator[OneAnswer]:
    with OneAnswer() as running:
        yield running


def asked(server: OneAnswer) -> object:
    with Gate(server.url) as gate:
        return gate.get_json("/x")


def test_a_problem_becomes_the_refusal_that_it_is(server: OneAnswer) -> None:
    server.given = problem(403, "token.expired", "The token has expired.", "Ask for a new one.")
    with pytest.raises(Refusal) as caught:
        asked(server)
    assert caught.value.code is Code.TOKEN_EXPIRED
    assert (caught.value.message, caught.value.hint) == (
        "The token has expired.",
        "Ask for a new one.",
    )


def test_a_code_from_a_newer_gate_is_still_a_refusal(server: OneAnswer) -> None:
    server.given = problem(403, "brand.new", "No, for a new reason.")
    with pytest.raises(Refusal, match="No, for a new reason"):
        asked(server)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Response(500, b"oops"), "gate.failed"),
        (Response(503, b"", reason="Slow Down"), "gate.failed"),
        (
            Response(302, b"", headers=(("Location", "https://elsewhere.example/"),)),
            "gate.redirect",
        ),
        (Response(200, b"<html>"), "gate.bad-answer"),
        (Response(200, b"[1]"), "gate.bad-answer"),
        (Response(200, b"[" * 100_000), "gate.bad-answer"),
        (None, "gate.unreachable"),
    ],
)
def test_whatever_is_no_answer_is_a_fault(
    server: OneAnswer, answer: Response | None, code: str
) -> None:
    server.given = answer
    with pytest.raises(Fault) as caught:
        asked(server)
    assert caught.value.code == code


def test_an_answer_that_lacks_a_member_is_the_gates_failure(server: OneAnswer) -> None:
    server.given = as_json({"outer": {}})
    with Gate(server.url) as gate:
        answer = gate.get_json("/x")
    for lacking in (lambda: answer["url"], lambda: answer["outer"]["inner"]):
        with pytest.raises(Fault, match="lacks"):
            lacking()


def test_a_gate_that_is_not_there_is_named_with_a_next_step() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            Gate(url) as gate,
            pytest.raises(Fault, match=f"{url} cannot be reached.*presspass serve"),
        ):
            gate.get_json("/x")


def test_an_answer_over_its_limit_is_refused(server: OneAnswer) -> None:
    server.given = Response(200, b"x" * 1001)
    with Gate(server.url) as gate:
        with pytest.raises(Refusal) as caught:
            gate.get_bytes("/x", bytes_max=1000)
        assert caught.value.code is Code.REQUEST_TOO_LARGE
        assert len(gate.get_bytes("/x", bytes_max=1001)) == 1001


def test_an_answer_that_unpacks_over_its_limit_is_refused(server: OneAnswer) -> None:
    import gzip

    server.given = Response(
        200, gzip.compress(bytes(1_000_000)), headers=(("Content-Encoding", "gzip"),)
    )
    with Gate(server.url) as gate, pytest.raises(Refusal, match="more than 1000 bytes"):
        gate.get_bytes("/x", bytes_max=1000)


def test_the_token_goes_to_the_gate_and_nowhere_else(server: OneAnswer) -> None:
    seen: list[str] = []
    other = OneAnswer()
    with other:
        server.given = Response(307, b"", headers=(("Location", f"{other.url}/x"),))
        other.answer = lambda request: (
            seen.append(request.headers.get("authorization", "")) or as_json({})
        )  # type: ignore[method-assign]  # listens in
        with Gate(server.url, token="secret") as gate, pytest.raises(Fault, match="redirects"):
            gate.post_json("/x", {})
    assert seen == []


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("https://g.example/r/abc", PageUrl("https://g.example", "r", "abc")),
        ("https://g.example:8443/r/abc/", PageUrl("https://g.example:8443", "r", "abc")),
        ("http://localhost:1/below/q/00ff", PageUrl("http://localhost:1/below", "q", "00ff")),
    ],
)
def test_page_addresses_are_taken_apart(text: str, page: PageUrl) -> None:
    assert parse_page_url(text) == page


@pytest.mark.parametrize(
    "text", ["", "abc", "https://g.example/", "ftp://g/r/x", "https://g/r/", "/r/x", "https:///r/x"]
)
def test_what_is_no_page_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_page_url(text)
    assert "/r/" in caught.value.hint


def test_a_path_in_an_id_stays_an_id() -> None:
    assert parse_page_url("https://g.example/r/a%2Fb").api == "/api/v1/releases/a%2Fb"


def test_the_control_socket_is_spoken_to_by_its_path(
    tmp_path: Path, unix_server: Callable[[Path, bytes], None]
) -> None:
    (tmp_path / "gateway").mkdir()
    unix_server(
        tmp_path / "gateway" / "control.sock",
        b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"ok": "yes"}',
    )
    with control(tmp_path) as gate:
        assert gate.get_json("/status") == {"ok": "yes"}


def test_a_home_without_a_running_gate_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="presspass serve"):
        control(tmp_path)


@pytest.fixture
def unix_server() -> Iterator[Callable[[Path, bytes], None]]:
    """Answers one connection on a Unix socket with these bytes."""
    import threading

    threads: list[threading.Thread] = []

    def start(path: Path, answer: bytes) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener, listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)
