"""The press and the registry: one upload whatever goes wrong, nothing believed that was not read back, no secret
astray.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import peers
from press_rig import TOKEN, Rig
from presspass.core.errors import Fault
from presspass.core.policy import Policy
from presspass.core.statement import Statement, UpstreamBody
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.loopback import LoopbackServer, Request, Response
from presspass.drill.world.registry import Door, Registry
from presspass.press.press import Press
from presspass.press.publishers import pypi
from presspass.press.publishers.pypi import PyPIPublisher
from presspass.services import press as service
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store import ledger_check
from presspass.verify.proof import Proof, check_proof

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, registry: Registry) -> Iterator[Rig]:
    built = Rig(tmp_path / "home", registry, POLICY).build()
    built.seal()
    yield built
    built.rows.close()


@pytest.fixture
def press(rig: Rig) -> Iterator[Press]:
    with rig.press() as press:
        rig.upstream(press)
        yield press


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, "demo", "1.0")


def approved(
    rig: Rig, press: Press, *files: Path, project: str = "demo", **changes: Any
) -> Statement:
    statement = rig.stage(press, files, project, "1.0", **changes)
    rig.sign(statement, "ana", "ben")
    return statement


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def entries(rig: Rig, kind: str) -> list[dict[str, Any]]:
    query = sa.select(t.LEDGER_ENTRY.c.entry)
    found = rig.journal(lambda c: [json.loads(entry) for entry in c.execute(query).scalars()])
    return [entry for entry in found if entry["kind"] == kind]


def assert_published_once(rig: Rig, statement: Statement, wheel: Path) -> None:
    assert rig.registry.accepted(wheel.name) == 1
    assert rig.registry.files()[wheel.name] == sha256(wheel)
    assert [entry["statement"] for entry in entries(rig, "verified")] == [statement.digest]
    proof = rig.journal(lambda c: view.proof(c, statement.digest, wheel.name))
    check_proof(
        Proof.from_bytes(proof),
        filename=wheel.name,
        sha256=sha256(wheel),
        size=wheel.stat().st_size,
        trust_root=rig.genesis.digest,
    )


FAULTS: dict[str, Callable[[Registry], None]] = {
    "5xx-after-it-was-stored": lambda registry: registry.error_after_store(502),
    "5xx-before-it-was-stored": lambda registry: registry.error_before_store(503),
    "429": lambda registry: registry.error_before_store(429),
    "408-after-it-was-stored": lambda registry: registry.error_after_store(408),
    "connection-lost-before-the-answer": lambda registry: registry.drop_connection_before_answer(),
    "slow": lambda registry: registry.slow(0.4),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_ends_in_one_upload_and_a_proof(
    rig: Rig, press: Press, wheel: Path, name: str
) -> None:
    FAULTS[name](rig.registry)
    statement = approved(rig, press, wheel)
    rig.until(press, statement.digest, "verified")
    rig.stays(press, statement.digest, "verified")
    assert_published_once(rig, statement, wheel)


def test_while_a_registry_fails_the_release_says_so_and_waits(
    rig: Rig, press: Press, wheel: Path
) -> None:
    rig.registry.error_before_store(503, times=None)
    statement = approved(rig, press, wheel)
    deadline = time.monotonic() + 10
    while (decision := rig.until(press, statement.digest, "publishing")).code != "upstream.failing":
        assert time.monotonic() < deadline
    assert "503" in decision.message
    rig.registry.heal()
    rig.until(press, statement.digest, "verified")
    assert_published_once(rig, statement, wheel)


@pytest.mark.parametrize(
    "doors", [(Door.DOWNLOAD,), (Door.INDEX, Door.DOWNLOAD)], ids=["download", "both"]
)
def test_a_registry_that_serves_other_bytes_than_were_sent_is_found_out(
    rig: Rig, press: Press, wheel: Path, doors: tuple[Door, ...]
) -> None:
    rig.registry.serve_other_bytes(doors)
    statement = approved(rig, press, wheel)
    decision = rig.until(press, statement.digest, "failed")
    assert decision.code == "upstream.serves-other-bytes"
    (entry,) = entries(rig, "failed")
    assert (entry["statement"], entry["code"]) == (statement.digest, "upstream.serves-other-bytes")
    assert not entries(rig, "verified")
    assert rig.journal(lambda c: view.proof(c, statement.digest, wheel.name)) is None
    assert rig.journal(lambda c: view.last_release(c, "main", "demo")) is None
    rig.registry.heal()
    rig.stays(press, statement.digest, "failed")
    assert rig.registry.accepted(wheel.name) == 1


def test_a_redirect_is_refused_and_the_credential_goes_nowhere_else(
    rig: Rig, press: Press, wheel: Path
) -> None:
    with Registry(seed=8, token=TOKEN) as elsewhere:
        rig.registry.redirect(elsewhere.url)
        statement = approved(rig, press, wheel)
        assert rig.until(press, statement.digest, "failed").code == "upstream.redirect"
        assert elsewhere.requests == []
    assert not rig.registry.files()


def test_a_redirect_of_a_download_is_refused_too(rig: Rig, press: Press, wheel: Path) -> None:
    with Registry(seed=8, token=TOKEN) as elsewhere:
        rig.registry.redirect(elsewhere.url, [Door.DOWNLOAD])
        statement = approved(rig, press, wheel)
        assert rig.until(press, statement.digest, "failed").code == "upstream.redirect"
        assert elsewhere.requests == []


def test_the_credential_is_sent_with_the_upload_only(rig: Rig, press: Press, wheel: Path) -> None:
    statement = approved(rig, press, wheel)
    rig.until(press, statement.digest, "verified")
    assert {(seen.method, seen.with_credential) for seen in rig.registry.requests} == {
        ("POST", True),
        ("GET", False),
    }


def test_a_refused_credential_fails_the_release_in_the_registrys_own_words(
    rig: Rig, press: Press, wheel: Path
) -> None:
    rig.registry.refuse_auth()
    statement = approved(rig, press, wheel)
    decision = rig.until(press, statement.digest, "failed")
    assert decision.code == "upstream.refused"
    assert "Invalid or non-existent authentication information" in decision.message
    assert not rig.registry.files()


def test_a_registry_that_says_nothing_is_waited_for_no_longer_than_the_limit(
    rig: Rig, press: Press, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pypi, "UPSTREAM_TIMEOUT_S", 0.3)
    rig.registry.stall()
    statement = approved(rig, press, wheel)
    deadline = time.monotonic() + 10
    while (
        decision := rig.until(press, statement.digest, "publishing")
    ).code != "upstream.unreachable":
        assert time.monotonic() < deadline
    assert decision.message
    rig.registry.heal()
    rig.until(press, statement.digest, "verified")
    assert_published_once(rig, statement, wheel)


def put(registry: Registry, path: Path, body: bytes) -> None:
    """Somebody publishes past the gate."""
    with registry._lock:
        from presspass.drill.world.registry import StoredFile

        digest = hashlib.sha256(body).hexdigest()
        registry._files[path.name] = StoredFile(path.name, "demo", "1.0", body, digest, 0.0)


def test_what_the_registry_has_already_is_not_sent_again(
    rig: Rig, press: Press, wheel: Path
) -> None:
    put(rig.registry, wheel, wheel.read_bytes())
    statement = approved(rig, press, wheel)
    rig.until(press, statement.digest, "verified")
    assert rig.registry.uploads == []


@pytest.mark.parametrize("tail", [b"", b"longer" * 1000], ids=["same-size", "longer"])
def test_other_bytes_at_the_registry_are_an_incident(
    rig: Rig, press: Press, wheel: Path, tail: bytes
) -> None:
    put(rig.registry, wheel, bytes(reversed(wheel.read_bytes())) + tail)
    statement = approved(rig, press, wheel)
    assert rig.until(press, statement.digest, "failed").code == "upstream.conflict"
    assert rig.registry.uploads == []
    assert [entry["code"] for entry in entries(rig, "failed")] == ["upstream.conflict"]


def test_a_name_once_published_never_gets_other_bytes(
    rig: Rig, press: Press, tmp_path: Path, wheel: Path
) -> None:
    statement = approved(rig, press, wheel)
    rig.until(press, statement.digest, "verified")
    with rig.registry._lock:
        rig.registry._files.clear()  # even when the registry has forgotten
    other = make_wheel(tmp_path / "other", "demo", "1.0", {"demo/__init__.py": "other = True\n"})
    assert other.name == wheel.name
    again = approved(rig, press, other)
    assert rig.until(press, again.digest, "rejected").code == "release.other-bytes"
    assert rig.registry.files() == {}


class LateIndex(LoopbackServer):
    """A registry whose index shows a file only on the third look, and that takes no name twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.looks, self.posts = b"", 0, 0

    def answer(self, request: Request) -> Response | None:
        if request.method == "POST":
            self.posts += 1
            if self.body:
                return Response(400, b"File already exists\n")
            self.body = request.body.split(b"application/octet-stream\r\n\r\n", 1)[1].rsplit(
                b"\r\n--", 1
            )[0]
            return None  # stored, and the connection lost
        if request.path.endswith(".whl"):
            return Response(200, self.body)
        self.looks += bool(self.body)
        if self.looks < 3:
            return Response(404)
        return Response(
            200, b'<a href="../files/demo-1.0-py3-none-any.whl#sha256=0">x</a>', "text/html"
        )


def test_a_registry_that_lists_late_gets_the_file_once(rig: Rig, press: Press, wheel: Path) -> None:
    with LateIndex() as late:
        rig.upstream(press, upload_url=f"{late.url}/legacy/", index_url=f"{late.url}/simple")
        statement = approved(rig, press, wheel)
        rig.until(press, statement.digest, "verified")
        assert late.body == wheel.read_bytes()


class Page(LoopbackServer):
    """Answers every question with one page."""

    def __init__(self, body: bytes, kind: str = "text/html") -> None:
        super().__init__()
        self._answer = Response(200, body, kind)

    def answer(self, request: Request) -> Response | None:
        return self._answer


NAME = "demo-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f'<a href="http://[broken/{NAME}">x</a>'.encode(), "text/html"),
        (f'<a href="http://h:99999999/{NAME}">x</a>'.encode(), "text/html"),
        (f'<a href="file:///etc/{NAME}">x</a>'.encode(), "text/html"),
        (f'<a href="//{NAME}">x</a><![oops[ ]]>'.encode(), "text/html"),
        (b"<![oops[" * 100, "text/html"),
        (b"\xff\xfe\x00" * 50, "text/html"),
        (b'{"files": 1}', "application/vnd.pypi.simple.v1+json"),
        (b'{"files": [1]}', "application/vnd.pypi.simple.v1+json"),
        (b"[" * 100_000, "application/json"),
        (b"", "application/json"),
        (f'{{"files": [{{"url": "http://[/{NAME}"}}]}}'.encode(), "application/json"),
    ],
)
def test_a_hostile_index_page_ends_in_an_answer_or_a_fault_that_can_pass(
    body: bytes, kind: str
) -> None:
    with Page(body, kind) as page:
        publisher = PyPIPublisher(f"{page.url}/legacy/", f"{page.url}/simple/")
        try:
            assert publisher.served("demo", NAME, 100) is None
        except Fault as fault:
            assert fault.retryable
        finally:
            publisher.close()


def test_an_index_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "UPSTREAM_ANSWER_BYTES_MAX", 10_000)
    with Page(b"x" * 1_000_000) as page:
        publisher = PyPIPublisher(f"{page.url}/legacy/", f"{page.url}/simple/")
        with pytest.raises(Fault, match="too large"):
            publisher.served("demo", NAME, 100)
        publisher.close()


def test_a_download_longer_than_the_file_is_not_read_to_its_end(
    registry: Registry, wheel: Path
) -> None:
    put(registry, wheel, b"x" * 3_000_000)
    publisher = PyPIPublisher(registry.upload_url, registry.simple_url)
    served = publisher.served("demo", wheel.name, 10)
    assert served is not None
    assert 10 < served.size < 3_000_000
    publisher.close()


def test_downloads_are_hashed_as_they_lie_there_and_not_as_an_encoding_would_have_them(
    wheel: Path,
) -> None:
    """A server that marks an sdist with `Content-Encoding: gzip` serves its bytes, not what is packed in them."""
    sdist = make_sdist(wheel.parent, "demo", "1.0")

    class Marked(LoopbackServer):
        def answer(self, request: Request) -> Response | None:
            if request.path.endswith(".tar.gz"):
                gzip = (("Content-Encoding", "gzip"),)
                return Response(200, sdist.read_bytes(), "application/x-tar", headers=gzip)
            return Response(200, f'<a href="/{sdist.name}">x</a>'.encode(), "text/html")

    with Marked() as server:
        publisher = PyPIPublisher(f"{server.url}/", f"{server.url}/simple/")
        served = publisher.served("demo", sdist.name, sdist.stat().st_size)
        publisher.close()
    assert served is not None
    assert served.sha256 == sha256(sdist)


def test_two_projects_are_published_beside_each_other(
    rig: Rig, press: Press, tmp_path: Path, wheel: Path
) -> None:
    other = make_wheel(tmp_path, "other", "1.0")
    rig.registry.slow(0.3, [Door.UPLOAD])
    first = approved(rig, press, wheel)
    second = approved(rig, press, other, project="other")
    for statement in (first, second):
        rig.until(press, statement.digest, "verified")
    assert sorted(rig.registry.files()) == sorted((wheel.name, other.name))
    assert rig.journal(ledger_check.check) > 8
    published = {entry["statement"] for entry in entries(rig, "verified")}
    assert published == {first.digest, second.digest}


def test_a_press_that_closes_lets_its_upload_end(rig: Rig, wheel: Path) -> None:
    rig.registry.slow(0.4, [Door.UPLOAD])
    with rig.press() as press:
        rig.upstream(press)
        statement = approved(rig, press, wheel)
        rig.until(press, statement.digest, "publishing")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("publication")]
    with rig.press() as press:
        rig.until(press, statement.digest, "verified")
    assert_published_once(rig, statement, wheel)


# --- real registries --------------------------------------------------------------------------------------------------


def other_upstream(
    rig: Rig, press: Press, upload: str, simple: str, user: str, password: str
) -> None:
    salt = secrets.token_hex(16)
    commitment = service.credential_commitment(password, salt)
    known = rig.journal(view.upstreams).get("main")
    body = UpstreamBody("main", "pypi", upload, simple, user, "custody", commitment)
    statement = rig.statement(body, known[0] if known else rig.genesis.digest)
    order = {
        "do": "credential",
        "statement": statement.to_bytes().decode(),
        "secret": password,
        "salt": salt,
    }
    press.desk.inbox.joinpath("real.json").write_text(json.dumps(order))
    rig.request(statement)
    rig.sign(statement, "ana", "ben")
    rig.until(press, statement.digest, "admitted")


def test_pypiserver_takes_a_release_and_serves_it_back(
    rig: Rig, press: Press, pypiserver_with_token: peers.PypiServer, tmp_path: Path, wheel: Path
) -> None:
    server = pypiserver_with_token
    other_upstream(
        rig, press, server.upload_url, server.simple_url, server.user, str(server.password)
    )
    sdist = make_sdist(tmp_path, "demo", "1.0")
    statement = approved(rig, press, wheel, sdist)
    rig.until(press, statement.digest, "verified")
    assert server.files() == {path.name: sha256(path) for path in (sdist, wheel)}


def test_pypiserver_refuses_a_wrong_credential_and_the_release_fails(
    rig: Rig, press: Press, pypiserver_with_token: peers.PypiServer, wheel: Path
) -> None:
    server = pypiserver_with_token
    other_upstream(rig, press, server.upload_url, server.simple_url, server.user, "wrong")
    statement = approved(rig, press, wheel)
    assert rig.until(press, statement.digest, "failed").code == "upstream.refused"
    assert server.files() == {}


def test_devpi_takes_a_release_and_serves_it_back(
    rig: Rig, press: Press, devpi: peers.Devpi, tmp_path: Path
) -> None:
    other_upstream(rig, press, devpi.upload_url, devpi.simple_url, devpi.user, devpi.password)
    name = f"demo-{secrets.token_hex(4)}"
    built = [make_wheel(tmp_path, name, "1.0"), make_sdist(tmp_path, name, "1.0")]
    statement = approved(rig, press, *built, project=name)
    rig.until(press, statement.digest, "verified", timeout_s=40)
    assert rig.journal(lambda c: len(view.proof_names(c, statement.digest))) == 2


def test_the_publisher_of_a_statement_is_chosen_by_its_protocol_alone(registry: Registry) -> None:
    body = UpstreamBody(
        "main", "pypi", registry.upload_url, registry.simple_url, "u", "custody", "ab" * 32
    )
    publisher = service.publisher_for(replace(body, name="other"))
    assert isinstance(publisher, PyPIPublisher)
    publisher.close()
