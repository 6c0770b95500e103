"""The gate's certificate by ACME: against a stand-in of a server that follows RFC 8555 (tests/acme_standin.py)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import peers
from acme_standin import AcmeStandIn
from cli_rig import Rig
from gateway_world import until
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import ACME_RETRY_FIRST_S, ACME_RETRY_S_MAX
from presspass.gateway.tls.acme import PAIR_NAME, Renewer, Settings, State
from presspass.gateway.tls.certificate import read_pair
from presspass.gateway.tls.challenges import CHALLENGES, PlainDoor
from presspass.services.config import Config, Tls, read_config, write_config
from presspass.services.gateway import _server

HOSTS = ["localhost", "gate.example"]


@pytest.fixture(autouse=True)
def _library() -> None:
    if find_spec("acme") is None:
        peers.missing("the ACME library is not installed (presspass[acme])")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tls"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def plain_port(folder: Path) -> Iterator[int]:
    """The gateway's own plain door over `folder`, served as the gateway serves it."""
    listener = socket.create_server(("127.0.0.1", 0))
    door = PlainDoor(folder, {"gate.example": "https://gate.example"})
    server = _server(door)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    until(lambda: server.started, "the door to open")
    yield int(listener.getsockname()[1])
    server.should_exit = True
    thread.join()


@pytest.fixture
def standin(tmp_path: Path, plain_port: int) -> Iterator[AcmeStandIn]:
    with AcmeStandIn(tmp_path / "acme", plain_port) as server:
        yield server


@pytest.fixture
def renewer(folder: Path, standin: AcmeStandIn) -> Renewer:
    return Renewer(folder, Settings(standin.directory, "ada@team.example", str(standin.ca), HOSTS))


def test_a_certificate_is_got_by_answering_the_challenges(
    renewer: Renewer, standin: AcmeStandIn, folder: Path
) -> None:
    assert renewer.due_at() == 0.0
    pair = renewer.renew()
    assert sorted(pair.names) == sorted(HOSTS)
    assert pair.chain[0] == standin.issued[0]
    assert len(standin.fetched) == len(HOSTS)
    assert read_pair(folder / PAIR_NAME, folder / PAIR_NAME).pem == pair.pem
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert list((folder / CHALLENGES).iterdir()) == []


def test_the_next_certificate_is_due_at_two_thirds_of_the_life_of_this_one(
    renewer: Renewer,
) -> None:
    pair = renewer.renew()
    life = pair.ends - pair.begins
    due = datetime.fromtimestamp(renewer.due_at(), UTC)
    assert abs(due - (pair.begins + life * 2 / 3)) < timedelta(seconds=1)


def test_a_renewal_uses_the_same_account_and_a_new_key(
    renewer: Renewer, standin: AcmeStandIn
) -> None:
    standin.life = timedelta(days=30)
    first = renewer.renew()
    standin.life = timedelta(days=90)
    second = renewer.renew()
    assert len(standin.accounts) == 1
    assert first.chain[0].public_key() != second.chain[0].public_key()
    assert renewer.present() is not None and renewer.present() == second


def test_a_nonce_that_is_not_taken_is_tried_again(renewer: Renewer, standin: AcmeStandIn) -> None:
    standin.faults.add("bad-nonce")
    assert renewer.renew().chain[0] == standin.issued[0]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("refuse", "too many certificates"),
        ("no-http-01", "no http-01 challenge for"),
        ("other-name", "other.example"),
        ("broken-chain", "was not issued by"),
        ("dies", "No certificate by ACME"),
    ],
)
def test_a_failure_leaves_the_certificate_and_is_tried_later(
    renewer: Renewer, standin: AcmeStandIn, folder: Path, fault: str, says: str
) -> None:
    standin.life = timedelta(days=30)
    good = renewer.renew()
    standin.life = timedelta(days=90)
    standin.faults.add(fault)
    with pytest.raises((Fault, Refusal), match=says):
        renewer.renew()
    assert renewer.present() == good
    assert list((folder / CHALLENGES).iterdir()) == []
    standin.faults.clear()
    assert renewer.renew().ends > good.ends


def test_a_certificate_that_ends_earlier_never_replaces_one_that_is_good(
    renewer: Renewer, standin: AcmeStandIn
) -> None:
    good = renewer.renew()
    standin.life = timedelta(days=1)
    with pytest.raises(Refusal) as caught:
        renewer.renew()
    assert caught.value.code is Code.TLS_NOT_VALID_NOW
    assert renewer.present() == good


def test_a_challenge_that_cannot_be_reached_is_told_with_the_servers_words(
    renewer: Renewer, standin: AcmeStandIn
) -> None:
    standin.validation_port = peers.free_port()
    with pytest.raises(Fault, match="localhost: incorrectResponse: got b'no connection"):
        renewer.renew()
    assert renewer.present() is None


def test_a_server_of_another_authority_is_not_spoken_to(
    folder: Path, standin: AcmeStandIn, tmp_path: Path
) -> None:
    stranger = Renewer(folder, Settings(standin.directory, "", "", HOSTS))
    with pytest.raises(Fault, match="CERTIFICATE_VERIFY_FAILED"):
        stranger.renew()
    assert standin.requests == []


def test_failures_are_waited_for_ever_longer_and_a_restart_forgets_none(
    renewer: Renewer, standin: AcmeStandIn, folder: Path
) -> None:
    standin.faults.add("refuse")
    begun = time.time()
    for tries in (1, 2):
        with pytest.raises(Fault):
            renewer.renew()
        again = Renewer(folder, Settings(standin.directory, "", str(standin.ca), HOSTS))
        assert again.due_at() >= begun + ACME_RETRY_FIRST_S * 2 ** (tries - 1)
    waits = [State(failures).wait_s() for failures in range(200)]
    assert waits == sorted(waits) and waits[0] == 0 and waits[-1] == ACME_RETRY_S_MAX


def test_a_state_that_cannot_be_read_is_no_state(renewer: Renewer, folder: Path) -> None:
    (folder / "acme-state.json").write_text("{")
    assert renewer.due_at() == 0.0


# the plain door


def plain(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request + b"\r\nConnection: close\r\n\r\n")
        answer = bytearray()
        while piece := client.recv(65536):
            answer += piece
    return bytes(answer)


@pytest.mark.parametrize(
    "path",
    [b"/.well-known/acme-challenge/..%2facme.pem", b"/.well-known/acme-challenge/../acme.pem",
     b"/.well-known/acme-challenge/", b"/.well-known/acme-challenge/none"],
)  # fmt: skip
def test_the_plain_door_serves_challenges_and_no_other_file(
    plain_port: int, folder: Path, path: bytes
) -> None:
    (folder / "acme.pem").write_text("secret")
    (folder / CHALLENGES).mkdir()
    answer = plain(plain_port, b"GET " + path + b" HTTP/1.1\r\nHost: gate.example")
    assert b"secret" not in answer
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 308 "))


def test_the_plain_door_sends_pages_to_https(plain_port: int) -> None:
    for host in (b"gate.example", b"elsewhere.example"):
        answer = plain(plain_port, b"GET /r/abc?x=1 HTTP/1.1\r\nHost: " + host)
        assert answer.startswith(b"HTTP/1.1 308 ")
        assert b"location: https://gate.example/r/abc?x=1\r\n" in answer


def test_an_upload_in_the_clear_is_refused_and_told_that_its_token_is_known(
    plain_port: int,
) -> None:
    request = b"POST /pypi/main/legacy/ HTTP/1.1\r\nHost: gate.example\r\nContent-Length: 0"
    assert b"have that token revoked" in plain(plain_port, request)


# the whole


def test_a_gate_gets_its_certificate_by_itself_and_serves_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tls=True)
    rig.init()
    acme_port = peers.free_port()
    with AcmeStandIn(tmp_path / "acme", acme_port) as standin:
        tls = Tls(
            "acme", acme_directory=standin.directory, acme_ca=str(standin.ca), acme_port=acme_port
        )
        config = read_config(rig.home)
        write_config(rig.home, replace(config, tls=tls))
        rig.ca = tmp_path / "root.pem"
        rig.ca.write_bytes(standin.root.public_bytes(Encoding.PEM))
        try:
            rig.start()
            assert "acme started" in rig.log()
            until(lambda: standin.issued, "the certificate", 30)
            until(lambda: serial(rig) == [standin.issued[0].serial_number], "it to be served", 30)
            rig.seal()
        finally:
            code = rig.stop()
        assert code == 0
        assert '"done": true' in rig.log()


def serial(rig: Rig) -> list[int]:
    context = ssl.create_default_context(cafile=rig.ca)
    with contextlib.suppress(OSError):
        with (
            socket.create_connection(("127.0.0.1", rig.port), timeout=20) as tcp,
            context.wrap_socket(tcp, server_hostname="localhost") as client,
        ):
            der = client.getpeercert(binary_form=True)
        assert der is not None
        return [x509.load_der_x509_certificate(der).serial_number]
    return []


def test_without_the_library_the_certifier_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "gateway" / "tls").mkdir(parents=True)
    write_config(
        tmp_path,
        Config("https://gate.example", tls=Tls("acme", acme_directory="https://ca.example/")),
    )
    program = (
        "import importlib.util as u; u.find_spec = lambda name: None\n"
        f"import sys; sys.argv = ['acme', '--home', {str(tmp_path)!r}]\n"
        "from presspass.services import acme; sys.exit(acme.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert "Install presspass[acme]" in done.stderr
