"""Git objects from a forge: little is read from a good one, and a hostile one costs no more than the limits."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from presspass.core import limits
from presspass.core.errors import Code, Fault, Refusal
from presspass.drill.world.forge import Content, Forge, ForgeRepository, Submodule, Symlink
from presspass.drill.world.loopback import LoopbackServer, Request, Response
from presspass.formats.git_objects import GitKind, object_id, raw_object
from presspass.gateway.forge.cache import PathCache
from presspass.gateway.forge.paths import WorkflowPaths, authorization
from presspass.gateway.forge.remote import check_repository_url
from presspass.verify.workflow import WorkflowPath, prove
from test_formats_git_pack import BLOB, head, pack_of, whole

PATH = ".github/workflows/release.yml"
WORKFLOW = b"on: push\njobs: {}\n"
FORMATS = pytest.mark.parametrize("object_format", ["sha1", "sha256"])


def fetch(
    url: str,
    commit: str,
    path: str = PATH,
    *,
    cache: PathCache | None = None,
    timeout_s: float = limits.FORGE_FETCH_S_MAX,
    token_file: Path | None = None,
) -> WorkflowPath:
    async def run() -> WorkflowPath:
        paths = WorkflowPaths(cache or PathCache(None), timeout_s=timeout_s)
        return await paths.fetch(url, commit, path, token_file=token_file)

    return asyncio.run(run())


def refused(code: Code, url: str, commit: str, path: str = PATH) -> str:
    with pytest.raises(Refusal) as caught:
        fetch(url, commit, path)
    assert caught.value.code is code, caught.value
    return str(caught.value)


def large(forge: Forge, object_format: str = "sha1") -> tuple[ForgeRepository, str]:
    """A repository with 2,000 files in 40 folders beside the workflow, and some history."""
    repository = forge.repository("acme", "demo", object_format=object_format)
    files: dict[str | bytes, Content] = {
        f"src/part{number % 40}/module{number}.py": f"value = {number}\n" * 40
        for number in range(2000)
    }
    repository.commit(files)
    repository.commit({"src/part1/module1.py": "value = 'changed'\n"})
    return repository, repository.commit({PATH: WORKFLOW})


# from the real git


@FORMATS
def test_a_workflow_is_fetched_from_real_git_and_little_else(
    forge: Forge, object_format: str
) -> None:
    repository, commit = large(forge, object_format)
    found = fetch(repository.url, commit)
    assert prove(commit, PATH, found.objects) == WORKFLOW
    assert [request.method for request in forge.requests] == ["GET"] + ["POST"] * 5
    received = sum(forge.answered)
    assert received < 4 * limits.KIB, f"{received} bytes"


@FORMATS
def test_a_server_that_knows_no_trees_filter_or_no_filter_at_all_serves_too(
    forge: Forge, object_format: str
) -> None:
    repository, commit = large(forge, object_format)
    repository.git("config", "uploadpackfilter.tree.allow", "false")
    found = fetch(repository.url, commit)
    assert prove(commit, PATH, found.objects) == WORKFLOW
    assert len(forge.requests) == 4, "the server's word, no blobs, the blob"
    forge.requests.clear()
    repository.serve_filters(False)
    assert fetch(repository.url, commit) == found
    assert len(forge.requests) == 2, "one snapshot"


def test_an_older_commit_is_fetched_by_its_id_whatever_branch_it_is_on(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    first = repository.commit({PATH: WORKFLOW})
    other = repository.commit({PATH: b"on: workflow_dispatch\n"}, branch="release/1")
    repository.commit({PATH: b"on: pull_request\n"})
    assert prove(first, PATH, fetch(repository.url, first).objects) == WORKFLOW
    assert b"dispatch" in prove(other, PATH, fetch(repository.url, other).objects)


@pytest.mark.parametrize("path", ["x.yml", "a/b/c/d/e/f/g.yml", "é/ß w.yml", "same/same/same"])
def test_any_path_is_fetched(forge: Forge, path: str) -> None:
    repository = forge.repository("acme", "demo")
    commit = repository.commit({path: WORKFLOW})
    assert prove(commit, path, fetch(repository.url, commit, path).objects) == WORKFLOW


def test_what_is_not_there_is_said_and_nothing_is_believed(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    first = repository.commit({PATH: WORKFLOW, "dir": Symlink(".github")})
    commit = repository.commit({"sub": Submodule(first)})
    tree = repository.git("rev-parse", f"{commit}^{{tree}}").decode().strip()
    url = repository.url
    assert "no file" in refused(Code.WORKFLOW_MISSING, url, commit, "other.yml")
    refused(Code.WORKFLOW_NOT_A_FILE, url, commit, "dir/workflows/release.yml")
    refused(Code.WORKFLOW_NOT_A_FILE, url, commit, "sub")
    refused(Code.WORKFLOW_NOT_A_FILE, url, commit, ".github")
    refused(Code.WORKFLOW_MISSING, url, commit, "../x")
    assert "not our ref" in refused(Code.WORKFLOW_UNAVAILABLE, url, "1" * 40)
    assert "sha256" in refused(Code.WORKFLOW_UNAVAILABLE, url, "1" * 64)
    refused(Code.WORKFLOW_UNPROVEN, url, commit[:12])
    refused(Code.WORKFLOW_UNPROVEN, url, "main")
    assert "commit belongs" in refused(Code.WORKFLOW_UNPROVEN, url, tree)
    assert "404" in refused(Code.WORKFLOW_UNAVAILABLE, f"{forge.url}/acme/none.git", commit)


def test_a_workflow_over_the_limit_is_refused(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    largest = b"#" * limits.WORKFLOW_BYTES_MAX
    commit = repository.commit({"a.yml": largest, "b.yml": largest + b"#"})
    assert prove(commit, "a.yml", fetch(repository.url, commit, "a.yml").objects) == largest
    refused(Code.WORKFLOW_TOO_LARGE, repository.url, commit, "b.yml")


def test_a_folder_over_the_limit_is_refused_and_nothing_beyond_it_asked_for(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    beside: dict[str | bytes, Content] = {f"{number:0220}": "x" for number in range(18_000)}
    commit = repository.commit({PATH: WORKFLOW, **beside})
    refused(Code.WORKFLOW_TOO_LARGE, repository.url, commit)
    assert len(forge.requests) == 3, "the server's word, the commit, the root folder"


def test_a_snapshot_over_the_limit_is_refused_with_the_way_out(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    noise = bytes(range(256)) * 4096 * 80  # 80 MiB, which go into little
    commit = repository.commit({PATH: WORKFLOW, "noise": noise})
    assert prove(commit, PATH, fetch(repository.url, commit).objects) == WORKFLOW
    repository.serve_filters(False)
    with pytest.raises(Refusal) as caught:
        fetch(repository.url, commit)
    assert caught.value.code is Code.WORKFLOW_UNAVAILABLE
    assert "presspass submit" in caught.value.hint


def token(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("text", ["s3cret\n", "basic somebody:s3cret", "Bearer s3cret\n"])
def test_a_private_repository_takes_the_token_of_a_file(
    forge: Forge, tmp_path: Path, text: str
) -> None:
    repository = forge.repository("acme", "demo")
    commit = repository.commit({PATH: WORKFLOW})
    forge.require("s3cret")
    assert "401" in refused(Code.WORKFLOW_UNAVAILABLE, repository.url, commit)
    found = fetch(repository.url, commit, token_file=token(tmp_path, text))
    assert prove(commit, PATH, found.objects) == WORKFLOW
    with pytest.raises(Refusal) as caught:
        fetch(repository.url, commit, token_file=token(tmp_path, "0ther"))
    assert caught.value.code is Code.WORKFLOW_UNAVAILABLE and "0ther" not in str(caught.value)


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(token(tmp_path, "s3cret"))
    (tmp_path / "folder").mkdir()
    large_file = tmp_path / "large"
    large_file.write_bytes(b"x" * (limits.FORGE_TOKEN_BYTES_MAX + 1))
    large_file.chmod(0o600)
    for file in (link, tmp_path / "none", tmp_path / "folder", large_file):
        with pytest.raises(Refusal) as caught:
            authorization(file)
        assert caught.value.code is Code.CONFIG_INVALID
    for text, mode in [("s3cret", 0o640), ("s3cret", 0o604), ("", 0o600), ("a\nb", 0o600)]:
        with pytest.raises(Refusal) as caught:
            authorization(token(tmp_path, text, mode))
        assert caught.value.code is Code.CONFIG_INVALID and "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://forge.example/a/b",
        "ssh://git@forge.example/a/b",
        "git://forge.example/a/b",
        "file:///a/b",
        "https://user:password@forge.example/a",
        "https://forge.example/a?service=x",
        "https://forge.example/a#b",
        "https://forge.example:x/a",
        "https://forge.example/a b",
        "https://forge.example/a\nb",
        "https:///a",
        "https://[::1/a",
        "http://localhost.example/a",
        "http://127.0.0.1@forge.example/a",
        "forge.example/a/b",
        "-upload-pack=x",
        "https://forge.example/" + "a" * limits.URL_CHARS_MAX,
        "",
    ],
)
def test_only_plain_https_addresses_are_dialled(url: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_repository_url(url)
    assert caught.value.code is Code.WORKFLOW_UNAVAILABLE
    refused(Code.WORKFLOW_UNAVAILABLE, url, "1" * 40)


def test_sound_addresses_are_taken_as_they_are() -> None:
    for url in (
        "https://forge.example/a/b.git",
        "https://forge.example:8443/a",
        "http://[::1]:80/a",
    ):
        assert check_repository_url(url + "/") == url


# the cache


def test_a_second_fetch_asks_nobody_not_even_after_a_restart(forge: Forge, tmp_path: Path) -> None:
    repository = forge.repository("acme", "demo")
    commit = repository.commit({PATH: WORKFLOW})
    cache = PathCache(tmp_path / "cache")
    found = fetch(repository.url, commit, cache=cache)
    forge.requests.clear()
    assert fetch(repository.url, commit, cache=cache) == found
    assert fetch(repository.url, commit, cache=PathCache(tmp_path / "cache")) == found
    assert forge.requests == []


def test_what_was_changed_on_the_disk_is_fetched_again(forge: Forge, tmp_path: Path) -> None:
    repository = forge.repository("acme", "demo")
    commit = repository.commit({PATH: WORKFLOW})
    other = repository.commit({PATH: b"on: workflow_dispatch\n"})
    folder = tmp_path / "cache"
    found = fetch(repository.url, commit, cache=PathCache(folder))
    (file,) = folder.iterdir()
    good = file.read_bytes()
    foreign = fetch(repository.url, other).to_bytes()
    for wrong in (b"", good[:-1], good.replace(b"e", b"f"), foreign, b" " * len(good)):
        file.write_bytes(wrong)
        forge.requests.clear()
        assert fetch(repository.url, commit, cache=PathCache(folder)) == found
        assert len(forge.requests) == 6 and file.read_bytes() == good


def path_of_blob(number: int, size: int) -> WorkflowPath:
    """A whole proof of one file of about `size` bytes."""
    blob = raw_object(GitKind.BLOB, b"%08d" % number * (size // 8))
    tree = raw_object(GitKind.TREE, b"100644 a\0" + bytes.fromhex(object_id(blob, 20)))
    body = f"tree {object_id(tree, 20)}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\n"
    commit = raw_object(GitKind.COMMIT, body.encode())
    return WorkflowPath(object_id(commit, 20), "a", (commit, tree, blob))


def test_the_cache_is_bounded_and_forgets_the_longest_unused(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cache = PathCache(folder, memory_bytes_max=4000, disk_bytes_max=8000)
    entries = [path_of_blob(number, 1000) for number in range(12)]
    for entry in entries:
        cache.put(entry)
        assert cache.get(entries[0].commit, "a") == entries[0], "used each time, so it stays"
    assert cache.get(entries[5].commit, "a") is None
    assert cache.get(entries[11].commit, "a") == entries[11]
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8000
    sizes = [len(entry.to_bytes()) for entry in entries]
    disk = PathCache(tmp_path / "disk", memory_bytes_max=0, disk_bytes_max=sum(sizes[:3]))
    for entry in entries[:3]:
        disk.put(entry)
    assert disk.get(entries[0].commit, "a") == entries[0]
    disk.put(entries[3])
    assert [disk.get(one.commit, "a") is not None for one in entries[:4]] == [
        True,
        False,
        True,
        True,
    ]
    memory = PathCache(None, memory_bytes_max=4000)
    for entry in entries:
        memory.put(entry)
    kept = [entry for entry in entries if memory.get(entry.commit, "a")]
    assert kept == entries[-len(kept) :] and 1 < len(kept) < 4


def test_what_a_killed_process_left_half_written_is_swept(tmp_path: Path) -> None:
    (tmp_path / "abc.part").write_bytes(b"half")
    PathCache(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_or_closed_disk_costs_only_the_entry(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cache = PathCache(folder, memory_bytes_max=0)
    folder.rmdir()
    folder.write_text("no folder any more")
    entry = path_of_blob(1, 100)
    cache.put(entry)
    assert cache.get(entry.commit, "a") is None


# hostile servers


class Hostile(LoopbackServer):
    """Answers the capabilities of a git server, and then whatever the test says."""

    def __init__(
        self, answer: Callable[[Request], Response | None], advertise: Response | None = None
    ) -> None:
        super().__init__()
        self._answer = answer
        self._advertise = advertise or Response(
            200, b"000eversion 2\n0019fetch=shallow filter\n0000", ADVERTISEMENT
        )
        self.requests: list[Request] = []

    def answer(self, request: Request) -> Response | None:
        self.requests.append(request)
        if request.method == "GET":
            return self._advertise
        return self._answer(request)


ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
RESULT = "application/x-git-upload-pack-result"


def packed(pack: bytes) -> Response:
    """A pack as the answer to a fetch."""
    body = b"000dpackfile\n"
    for start in range(0, len(pack), 65_000):
        piece = b"\x01" + pack[start : start + 65_000]
        body += b"%04x" % (len(piece) + 4) + piece
    return Response(200, body + b"0000", RESULT)


@pytest.mark.parametrize(
    "response",
    [
        packed(pack_of(whole(BLOB, b"something else"))),
        packed(pack_of()),
        packed(pack_of(head(BLOB, 10) + zlib.compress(b"\0" * (64 * limits.MIB), 9))),
        packed(pack_of(head(BLOB, 1 << 40) + zlib.compress(b""))),
        packed(b""),
        packed(b"PACK"),
        Response(200, b"", RESULT),
        Response(200, b"0000", RESULT),
        Response(200, b"000dpackfile\n", RESULT),
        Response(200, b"0003", RESULT),
        Response(200, b"zzzz", RESULT),
        Response(200, b"<html>sign in</html>", "text/html"),
        Response(200, b"0000", RESULT, headers=(("Content-Encoding", "gzip"),)),
        Response(200, b"000dpackfile\n000a\x03\x1b[2Jx0000", RESULT),
        Response(200, b"000dERR \x1b[31m0000", RESULT),
        Response(201, b"0000", RESULT),
        Response(403, b""),
        Response(302, b"", headers=(("Location", "http://127.0.0.1:1/"),)),
        Response(307, b""),
    ],
)
def test_any_answer_but_the_right_objects_is_refused(response: Response) -> None:
    with Hostile(lambda _request: response) as server:
        message = refused(Code.WORKFLOW_UNAVAILABLE, f"{server.url}/a/b", "1" * 40)
        assert "\x1b" not in message


@pytest.mark.parametrize(
    "advertise",
    [
        Response(200, b"0000", ADVERTISEMENT),
        Response(200, b"001e# service=git-upload-pack\n0000", ADVERTISEMENT),
        Response(200, b"000eversion 1\n0000", ADVERTISEMENT),
        Response(200, b"000eversion 2\n0010fetch=filter0000", ADVERTISEMENT),
        Response(200, b"000eversion 2\n0000", "text/plain"),
        Response(200, b"<html>", "text/html"),
        Response(200, b"0000" * limits.MIB, ADVERTISEMENT),
    ],
)
def test_a_server_that_cannot_do_what_is_needed_is_refused(advertise: Response) -> None:
    with Hostile(lambda _request: None, advertise) as server:
        refused(Code.WORKFLOW_UNAVAILABLE, f"{server.url}/a/b", "1" * 40)
        assert len(server.requests) == 1


def test_a_workflow_of_another_commit_is_not_taken_for_the_one_that_was_asked_for() -> None:
    other = path_of_blob(1, 100)
    pack = pack_of(
        *(
            whole(kind, raw.partition(b"\0")[2])
            for kind, raw in zip((1, 2, 3), other.objects, strict=True)
        )
    )
    with Hostile(lambda _request: packed(pack)) as server:
        found = fetch(f"{server.url}/a", other.commit, "a")
        assert found == other and len(server.requests) == 2
        refused(Code.WORKFLOW_UNAVAILABLE, f"{server.url}/a", path_of_blob(2, 100).commit, "a")
    good = packed(pack)
    for wrapped in (
        replace(good, content_type="text/plain"),
        replace(good, headers=(("Content-Encoding", "identity"),)),
        replace(good, body=good.body[:-4]),
        replace(good, status=203),
    ):
        with Hostile(lambda _request, wrapped=wrapped: wrapped) as server:
            refused(Code.WORKFLOW_UNAVAILABLE, f"{server.url}/a", other.commit, "a")


def test_a_redirect_within_the_origin_is_followed_once_and_to_elsewhere_never(
    forge: Forge, tmp_path: Path
) -> None:
    repository = forge.repository("acme", "demo")
    commit = repository.commit({PATH: WORKFLOW})
    forge.redirects["/acme/demo"] = "/acme/demo.git"
    found = fetch(f"{forge.url}/acme/demo", commit)
    assert prove(commit, PATH, found.objects) == WORKFLOW
    forge.redirects["/a"] = "/acme/demo"
    refused(Code.WORKFLOW_UNAVAILABLE, f"{forge.url}/a", commit)
    with Forge(tmp_path / "elsewhere") as elsewhere:
        for target in (
            f"{elsewhere.url}/acme/demo.git",
            f"//127.0.0.1:{elsewhere.port}/acme/demo.git",
        ):
            forge.redirects["/b"] = target
            with pytest.raises(Refusal) as caught:
                fetch(f"{forge.url}/b", commit, token_file=token(tmp_path, "s3cret"))
            assert caught.value.code is Code.WORKFLOW_UNAVAILABLE
        assert elsewhere.requests == []


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Says what `talk` writes to each connection, and nothing of HTTP by itself."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65_536)
                    talk(connection)
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a"
    finally:
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"


def endless_body(connection: socket.socket) -> None:
    connection.sendall(HTTP + b"\r\n")
    while True:
        connection.sendall(b"0004" * 16_384)


def endless_head(connection: socket.socket) -> None:
    connection.sendall(HTTP)
    while True:
        connection.sendall(b"X-More: and more\r\n" * 1000)


def endless_pack(connection: socket.socket) -> None:
    """Says politely what it can do, and then sends a pack that never ends."""
    able = b"000eversion 2\n0019fetch=shallow filter\n0000"
    connection.sendall(HTTP + b"Content-Length: %d\r\n\r\n" % len(able) + able)
    connection.recv(65_536)
    connection.sendall(HTTP.replace(b"advertisement", b"result") + b"\r\n000dpackfile\n")
    while True:
        connection.sendall((b"8004\x01" + b"\0" * 0x7FFF) * 8)


def test_an_endless_answer_is_cut_off_at_the_limit() -> None:
    with raw_server(endless_pack) as url:
        message = refused(Code.WORKFLOW_UNAVAILABLE, url, "1" * 40)
        assert str(limits.FORGE_ANSWERS_BYTES_MAX) in message
    with raw_server(endless_body) as url:
        assert "bytes" in refused(Code.WORKFLOW_UNAVAILABLE, url, "1" * 40)
    with raw_server(endless_head) as url, pytest.raises(Fault) as caught:
        fetch(url, "1" * 40)
    assert caught.value.code == "forge.unreachable"


def silence(connection: socket.socket) -> None:
    connection.recv(1)


def drip(start: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(drop)
            time.sleep(0.05)

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        silence,
        drip(b"", b"H"),
        drip(HTTP, b"X"),
        drip(HTTP + b"\r\n", b"0004"),
        drip(HTTP, b"A: b\r\n"),
    ],
    ids=["silence", "slow status", "slow header", "slow body", "slow headers"],
)
def test_a_slow_answer_ends_at_the_time_limit_however_it_drips(
    talk: Callable[[socket.socket], None],
) -> None:
    with raw_server(talk) as url:
        began = time.monotonic()
        with pytest.raises(Fault) as caught:
            fetch(url, "1" * 40, timeout_s=0.5)
        took = time.monotonic() - began
    assert caught.value.retryable and caught.value.code in ("forge.slow", "forge.unreachable")
    assert took < 3


def test_a_server_that_is_down_or_failing_is_a_fault_that_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Fault) as caught:
        fetch(f"http://127.0.0.1:{port}/a", "1" * 40)
    assert caught.value.code == "forge.unreachable" and caught.value.retryable
    for response in (Response(503), Response(429), None):
        with (
            Hostile(lambda _request, response=response: response) as server,
            pytest.raises(Fault) as caught,
        ):
            fetch(f"{server.url}/a", "1" * 40)
        assert caught.value.code == "forge.unreachable" and caught.value.retryable


def test_many_at_once_wait_for_their_turn_and_all_come_back(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    commits = [repository.commit({PATH: WORKFLOW + b"#\n" * number}) for number in range(8)]

    async def run() -> list[WorkflowPath]:
        paths = WorkflowPaths(PathCache(None), fetches_max=2)
        return await asyncio.gather(*(paths.fetch(repository.url, one, PATH) for one in commits))

    for commit, found in zip(commits, asyncio.run(run()), strict=True):
        assert prove(commit, PATH, found.objects)


def test_a_server_that_hangs_holds_up_nobody_elses_fetches(forge: Forge) -> None:
    repository = forge.repository("acme", "demo")
    commit = repository.commit({PATH: WORKFLOW})

    async def run(hanging: str) -> WorkflowPath:
        paths = WorkflowPaths(PathCache(None), fetches_max=1, timeout_s=60)
        stuck = [asyncio.create_task(paths.fetch(hanging, "1" * 40, PATH)) for _ in range(3)]
        await asyncio.sleep(0.1)
        try:
            return await paths.fetch(repository.url, commit, PATH)
        finally:
            assert not any(task.done() for task in stuck)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)

    with raw_server(silence) as url:
        assert prove(commit, PATH, asyncio.run(run(url)).objects) == WORKFLOW


def test_the_proof_is_fetched_from_a_worker_thread_too(forge: Forge) -> None:
    """As a handler of the gateway does it: Starlette runs those in threads of anyio."""
    import anyio

    repository = forge.repository("acme", "demo")
    commit = repository.commit({PATH: WORKFLOW})

    async def run() -> WorkflowPath:
        paths = WorkflowPaths(PathCache(None))
        return await anyio.to_thread.run_sync(
            lambda: anyio.from_thread.run(paths.fetch, repository.url, commit, PATH)
        )

    assert prove(commit, PATH, asyncio.run(run()).objects) == WORKFLOW


# TLS


class TlsForge(Forge):
    """A forge behind TLS, with a certificate that nobody has to trust."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate = folder.with_suffix(".pem")
        make_certificate(self.certificate)
        self._tls.load_cert_chain(self.certificate)

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")

    def start(self) -> None:
        super().start()
        assert self._server is not None
        # The same descriptor, so the thread that waits for connections does not notice.
        self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)


def make_certificate(file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a forge")])
    now = datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(pem))


def test_over_tls_only_a_server_with_a_trusted_certificate_is_asked(
    forge: Forge, tmp_path: Path
) -> None:
    async def run(context: ssl.SSLContext | None, url: str) -> WorkflowPath:
        return await WorkflowPaths(PathCache(None), context=context).fetch(url, commit, PATH)

    with TlsForge(tmp_path / "tls") as server:
        repository = server.repository("acme", "demo")
        commit = repository.commit({PATH: WORKFLOW})
        with pytest.raises(Fault) as caught:
            asyncio.run(run(None, repository.url))
        assert caught.value.code == "forge.unreachable" and server.requests == []
        trusting = ssl.create_default_context(cafile=server.certificate)
        found = asyncio.run(run(trusting, repository.url))
        assert prove(commit, PATH, found.objects) == WORKFLOW
        other_name = repository.url.replace("127.0.0.1", "localhost")
        with pytest.raises(Fault):
            asyncio.run(run(trusting, other_name))
