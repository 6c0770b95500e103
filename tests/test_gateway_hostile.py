"""Hostile requests on a raw socket: each is answered with its code or cut off, and nothing of it stays."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers
from gateway_world import World, basic, form, until
from presspass.core import limits

MIB = 1 << 20
FILE_MAX = 4 * MIB
NAME = "greet-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(
        tmp_path_factory.mktemp("hostile") / "home", "--file-bytes-max", str(FILE_MAX)
    ) as world:
        yield world


@pytest.fixture(autouse=True)
def _nothing_stays_and_the_gate_goes_on(world: World) -> Iterator[None]:
    blobs = len(world.blobs())
    yield
    until(lambda: world.leftovers() == [], "the spool to be empty")
    assert len(world.blobs()) == blobs
    assert world.ask("GET", "/healthz").status == 200
    assert not [event for event in world.gateway.events() if event["event"] == "internal"]


@pytest.fixture(scope="module")
def token(world: World) -> str:
    return world.token()


def head(token: str, *lines: str, path: str = "/pypi/private/legacy/") -> bytes:
    found = [f"POST {path} HTTP/1.1", "Host: gate.example", "Connection: close", *lines]
    if token:
        found.append(f"Authorization: {basic(token)}")
    return ("\r\n".join(found) + "\r\n\r\n").encode()


def post(
    world: World, token: str, body: bytes, content_type: str = "multipart/form-data; boundary=b"
) -> tuple[int, str]:
    """(status, code) of an upload with this body."""
    request = head(token, f"Content-Type: {content_type}", f"Content-Length: {len(body)}") + body
    return parsed(world.raw(request))


def parsed(answer: bytes) -> tuple[int, str]:
    """(status, code) of the first answer in these bytes."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    top, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in top.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    return int(answer.split()[1]), json.loads(body[:length]).get("code", "")


PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n'
CONTENT = b'--b\r\nContent-Disposition: form-data; name="content"; filename="greet-1.0-py3-none-any.whl"\r\n\r\n'


def test_a_hundred_thousand_parts(world: World, token: str) -> None:
    assert post(world, token, PART * 100_000 + b"--b--\r\n") == (413, "request.too-large")


def test_line_feeds_alone_are_not_a_form(world: World, token: str) -> None:
    body = (PART + CONTENT + b"x\r\n--b--\r\n").replace(b"\r\n", b"\n")
    assert post(world, token, body) == (400, "request.malformed")


def test_a_second_file(world: World, token: str) -> None:
    assert post(world, token, CONTENT + b"one\r\n" + CONTENT + b"two\r\n--b--\r\n") == (
        400,
        "request.malformed",
    )


def test_no_file_at_all(world: World, token: str) -> None:
    action = b'--b\r\nContent-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n'
    assert post(world, token, action + b"--b--\r\n") == (400, "request.malformed")


def test_an_empty_file(world: World, token: str) -> None:
    content_type, body = form(NAME, b"")
    assert post(world, token, body, content_type) == (400, "request.malformed")


def test_contradicting_digests(world: World, token: str) -> None:
    fields = [(":action", "file_upload"), ("sha256_digest", "0" * 64), ("sha256_digest", "1" * 64)]
    content_type, body = form(NAME, b"x", fields=fields)
    assert post(world, token, body, content_type) == (400, "request.malformed")


@pytest.mark.parametrize("action", ["submit", "doc_upload", ""])
def test_other_actions_are_gone(world: World, token: str, action: str) -> None:
    content_type, body = form(NAME, b"x", fields=[(":action", action)])
    assert post(world, token, body, content_type) == (410, "request.unsupported")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/cron.d/greet-1.0-py3-none-any.whl",
        "greet-1.0-py3-none-any.whl/../x",
        "greet-1.0.zip",
        "greet-1.0-py3-none-any.whl\x00",
        "greet-1.0.tar.gz\u202e",
        "-1.0.tar.gz",
        "greet-" + "1" * 400 + ".tar.gz",
    ],
)
def test_names_that_no_artifact_has(world: World, token: str, name: str) -> None:
    content_type, body = form(name, b"x")
    status, code = post(world, token, body, content_type)
    assert (status, code) in {
        (400, "artifact.bad-filename"),
        (403, "token.wrong-project"),
        (400, "request.malformed"),
    }


def test_a_file_over_the_limit_is_refused_though_its_length_is_not_told(
    world: World, token: str
) -> None:
    body = CONTENT + bytes(FILE_MAX + 1) + b"\r\n--b--\r\n"
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (body[i : i + MIB] for i in range(0, len(body), MIB))
    )
    request = head(
        token, "Content-Type: multipart/form-data; boundary=b", "Transfer-Encoding: chunked"
    )
    assert parsed(world.raw(request + chunks + b"0\r\n\r\n")) == (413, "request.too-large")


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(
    world: World, token: str
) -> None:
    request = head(
        token, "Content-Type: multipart/form-data; boundary=b", f"Content-Length: {10**13}"
    )
    assert parsed(world.raw(request, half_close=True)) == (413, "request.too-large")


def test_a_client_that_expects_to_be_told_first_is_told_no(world: World) -> None:
    request = head(
        "",
        "Content-Type: multipart/form-data; boundary=b",
        "Content-Length: 1000000",
        "Expect: 100-continue",
    )
    answer = world.raw(request, half_close=True)
    assert parsed(answer) == (401, "token.invalid")
    assert b"100 Continue" not in answer


def test_a_refused_client_that_goes_on_sending_still_gets_its_answer(world: World) -> None:
    """Closing under a sending client would wipe the answer out of its buffers."""
    content_type, body = form(NAME, bytes(64 * MIB))
    request = head("", f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
    assert parsed(world.raw(request + body)) == (401, "token.invalid")


@pytest.mark.parametrize("kept", [10, 200, 5000])
def test_a_truncated_upload_leaves_nothing(world: World, token: str, kept: int) -> None:
    content_type, body = form(NAME, bytes(3 * MIB))
    request = (
        head(token, f"Content-Type: {content_type}", f"Content-Length: {len(body)}") + body[:-kept]
    )
    assert world.raw(request, half_close=True) == b""


def test_a_form_that_ends_too_early_though_the_request_is_whole(world: World, token: str) -> None:
    assert post(world, token, CONTENT + b"x") == (400, "request.malformed")


def test_twenty_megabytes_of_header(world: World, token: str) -> None:
    status, code = parsed(world.raw(head(token, "X-Long: " + "x" * (20 * MIB))))
    assert (status, code) == (431, "request.too-large")


def test_many_headers(world: World, token: str) -> None:
    lines = [
        f"X-Header-{number}: {'x' * 80}" for number in range(limits.REQUEST_HEADER_BYTES_MAX // 80)
    ]
    assert parsed(world.raw(head(token, *lines))) == (431, "request.too-large")


def test_a_long_address(world: World, token: str) -> None:
    path = "/pypi/" + "x" * limits.REQUEST_HEADER_BYTES_MAX
    assert parsed(world.raw(head(token, "Content-Length: 0", path=path))) == (
        431,
        "request.too-large",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_told_so(world: World, data: bytes) -> None:
    assert parsed(world.raw(data)) == (400, "request.malformed")


def test_a_json_body_over_the_limit(world: World) -> None:
    body = b"{" + b" " * limits.JSON_BODY_BYTES_MAX + b"}"
    request = head("", f"Content-Length: {len(body)}", path="/api/v1/narrowings") + body
    assert parsed(world.raw(request)) == (413, "request.too-large")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"statement": 1, "approval": 2}']
)
@pytest.mark.parametrize(
    "path", ["/api/v1/narrowings", "/api/v1/enrolments", "/api/v1/enrolments/begin"]
)
def test_json_that_is_none(world: World, path: str, body: bytes) -> None:
    answer = world.ask("POST", path, body)
    assert answer.status == 400, answer.body
    assert answer.code in ("request.malformed", "statement.malformed")


def test_an_address_out_of_every_form_is_not_found(world: World) -> None:
    for path in (
        "/api/v1/releases/../../etc",
        "/api/v1/releases/" + "%00" * 10,
        "/pypi//legacy/",
        "/pypi/a/b/legacy/",
    ):
        assert world.ask("GET", path).status == 404


def test_a_browser_gets_a_page_and_a_program_gets_a_problem(world: World) -> None:
    page = world.ask("GET", "/nothing-here", Accept="text/html")
    assert (page.status, page.headers["content-type"].split(";")[0]) == (404, "text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert world.ask("GET", "/nothing-here").headers["content-type"] == "application/problem+json"


def test_no_answer_is_one_that_clients_misread(world: World, token: str) -> None:
    """Never 1xx beyond 100, 409, 423, 425, 429 or a redirect: clients take them for success, skip, or send again."""
    bodies = [form(NAME, b"x")[1], b"", PART, CONTENT]
    seen = {post(world, secret, body)[0] for secret in ("", "x", token) for body in bodies}
    assert seen <= {400, 401, 403}


def test_memory_stays_flat_for_a_large_upload(tmp_path: Path) -> None:
    size = 200 * MIB
    with World(tmp_path / "home") as world:
        secret, process = world.token(), world.gateway.pid
        world.upload(secret, "greet-0.1-py3-none-any.whl", b"warm")
        before = _peak_kib(process)
        content_type, body = form(
            NAME, os.urandom(size // 8) * 8, fields=[(":action", "file_upload")]
        )
        request = head(secret, f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
        assert parsed(world.raw(request + body))[0] == 202
        assert _peak_kib(process) - before <= 16 * 1024


def test_a_client_that_stops_in_the_middle_does_not_hold_up_a_drain(tmp_path: Path) -> None:
    with World(tmp_path / "home") as world:
        content_type, body = form(NAME, bytes(3 * MIB))
        request = head(
            world.token(), f"Content-Type: {content_type}", f"Content-Length: {len(body)}"
        )
        with socket.create_connection(("127.0.0.1", world.gateway.port)) as client:
            client.sendall(request + body[: 2 * MIB])
            until(lambda: world.leftovers(), "the upload to have begun")
            began = time.monotonic()
            client.close()
            assert world.gateway.stop() == 0
            assert time.monotonic() - began < limits.GATEWAY_DRAIN_S_MAX
            assert world.leftovers() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder `home` whose part `gateway` is a disk of 24 MiB."""
    if os.geteuid() != 0:
        peers.missing("only root can mount a small disk")
    folder = tmp_path / "home" / "gateway"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        peers.missing("this machine does not let us mount a small disk")
    try:
        yield tmp_path / "home"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_a_refusal_that_changes_nothing_and_passes(small_disk: Path) -> None:
    with World(small_disk) as world:
        secret = world.token()
        first = world.upload(secret, NAME, b"before")
        answer = world.upload(secret, "greet-2.0-py3-none-any.whl", os.urandom(30 * MIB))
        assert (answer.status, answer.code) == (413, "storage.full")
        assert answer.headers["retry-after"] == "300"
        assert world.leftovers() == []
        assert (
            world.upload(secret, NAME, b"before").headers["location"] == first.headers["location"]
        )
        assert world.upload(secret, "greet-2.0-py3-none-any.whl", b"after").status == 202


def _peak_kib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
