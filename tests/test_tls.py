"""TLS at the gateway's port: real clients over it, refused large uploads, what is refused at the start, renewal."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import packages
import peers
from cli_rig import running
from gateway_world import PROJECT, World, until
from presspass.cli.exits import DONE
from presspass.cli.main import run
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    CLIENT_IDLE_S_MAX,
    FILE_BYTES_MAX,
    KIB,
    MIB,
    REQUEST_HEADER_BYTES_MAX,
    TLS_TRIAL_S,
)
from presspass.gateway.tls.certificate import chain_gap, check, covers, pair_of, read_pair
from presspass.gateway.tls.serving import ServingTls
from presspass.gateway.tls.trial import make_trial, write_private
from presspass.services.config import (
    Config,
    Listen,
    Tls,
    parse_config,
    read_config,
    write_config,
)
from presspass.services.isolation import tls_folders
from presspass.store import gateway_tables as g

LARGE = 64 << 20
_VERSIONS = count(1)
Client = Callable[..., peers.Answer]
CLIENTS = [pytest.param(peers.run_twine, id="twine"), pytest.param(peers.run_uv_publish, id="uv")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    peers.require_peer("twine")
    peers.require_peer("uv")
    with World(tmp_path_factory.mktemp("tls") / "home", tls=True) as world:
        yield world


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A wheel of a version of its own."""
    return [packages.make_wheel(tmp_path, PROJECT, f"{next(_VERSIONS)}.0")]


# clients


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unchanged_client_uploads_over_tls(
    world: World, files: list[Path], client: Client
) -> None:
    answer = client(world.upload_url, "__token__", world.token(), files, ca=world.ca)
    assert answer.exit_code == 0, answer.text
    names = [row.filename for row in world.rows(sa.select(g.RELEASE_FILE))]
    assert files[0].name in names


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_does_not_trust_the_private_ca_sends_nothing(
    world: World, files: list[Path], client: Client
) -> None:
    before = world.count(g.RELEASE_FILE)
    answer = client(world.upload_url, "__token__", world.token(), files)
    assert answer.exit_code != 0
    assert world.count(g.RELEASE_FILE) == before


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refused_large_upload_over_tls_shows_its_answer(
    world: World, files: list[Path], tmp_path: Path, client: Client
) -> None:
    """The refusal leaves before the body is there; the client must be able to read it all the same."""
    large = packages.make_wheel(
        tmp_path / "large", PROJECT, "7.0", {"greet/noise.bin": os.urandom(LARGE)}
    )
    answer = client(world.upload_url, "__token__", world.token("other"), [large], ca=world.ca)
    assert answer.exit_code != 0
    assert "This upload token is for other, and the file is of greet." in " ".join(
        answer.text.split()
    )


def test_a_refused_client_that_goes_on_sending_reads_its_answer_and_then_the_end(
    world: World,
) -> None:
    head = (
        b"POST /pypi/private/legacy/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Authorization: Basic bm9ib2R5Om5vbmU=\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: %d\r\n\r\n" % LARGE
    )
    with connected(world) as client:
        client.sendall(head)
        for _ in range(LARGE >> 20):
            client.sendall(bytes(1 << 20))
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"token.invalid" in answer
    assert world.ask("GET", "/enrol").status == 200


def test_what_follows_a_refused_request_is_not_answered(world: World) -> None:
    refused = b"POST /pypi/private/legacy/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    with connected(world) as client:
        client.sendall(refused + b"12")
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
        client.sendall(b"345GET /enrol HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1" not in read_to_end(client)


def connected(world: World) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=world.ca)
    plain = socket.create_connection(("127.0.0.1", world.gateway.port), timeout=20)
    return context.wrap_socket(plain, server_hostname="localhost")


def read_to_end(client: ssl.SSLSocket) -> bytes:
    answer = bytearray()
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while piece := client.recv(65536):
            answer += piece
    return bytes(answer)


# what is spoken


def test_older_tls_and_plain_http_get_nothing(world: World) -> None:
    context = ssl.create_default_context(cafile=world.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", world.gateway.port), timeout=20) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
    connection = http.client.HTTPConnection("127.0.0.1", world.gateway.port, timeout=20)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.request("GET", "/enrol")
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_tls_is_spoken_with_http_1_1(world: World, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=world.ca)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", world.gateway.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        assert client.selected_alpn_protocol() == "http/1.1"


def test_a_whole_gate_is_set_up_and_used_over_tls(tmp_path: Path) -> None:
    with running(tmp_path, tls=True) as rig:
        rig.seal()
        assert rig.origin.startswith("https://")
        assert "for trials only" in rig.log()
        said = json.loads((tmp_path / "serve.out").read_text())
        assert said["listening"] == f"https://127.0.0.1:{rig.port}"


# the private CA


def test_the_key_of_the_private_ca_is_kept_nowhere(tmp_path: Path) -> None:
    ca = make_trial(tmp_path, ["localhost"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ca.pem",
        "certificate.pem",
        "key.pem",
    ]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    authority = x509.load_pem_x509_certificate(ca.read_bytes())
    pair = read_pair(tmp_path / "certificate.pem", tmp_path / "key.pem")
    assert pair.chain[0].public_key() != authority.public_key()
    pair.chain[0].verify_directly_issued_by(authority)
    assert pair.ends - datetime.now(UTC) < timedelta(seconds=TLS_TRIAL_S)


def test_the_private_ca_speaks_for_the_gates_hosts_alone(tmp_path: Path) -> None:
    ca = make_trial(tmp_path, ["gate.example", "upload.example"])
    constraints = x509.load_pem_x509_certificate(ca.read_bytes()).extensions
    found = constraints.get_extension_for_class(x509.NameConstraints)
    assert found.critical
    permitted = [one.value for one in found.value.permitted_subtrees or []]
    assert permitted[:2] == ["gate.example", "upload.example"]
    assert all(network.is_loopback for network in permitted[2:])


# what is refused


def test_the_gateway_does_not_start_with_a_certificate_for_another_name(tmp_path: Path) -> None:
    world = World(tmp_path / "home", tls=True)
    make_trial(world.home / "gateway" / "tls", ["other.example"])
    with pytest.raises(AssertionError, match="tls.wrong-name"):
        world.gateway.start()
    assert f"presspass tls trial --home {world.home}" in world.gateway.log()
    world.gateway.stop()


def test_a_move_that_is_only_prepared_does_not_stop_the_gate(tmp_path: Path) -> None:
    tls, listen = Tls("private-ca"), Listen(port=0)
    config = Config(
        "https://localhost:8460", listen=listen, tls=tls, next_origin="https://n.example"
    )
    world = World(tmp_path / "home", config=config)
    world.ca = make_trial(world.home / "gateway" / "tls", ["localhost"])
    with world:
        assert world.ask("GET", "/enrol").status == 200


def test_what_is_no_tls_is_not_logged(tmp_path: Path) -> None:
    with World(tmp_path / "home", tls=True) as world:
        before = world.gateway.log()
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""):
            with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=20) as plain:
                plain.sendall(nonsense)
                plain.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    plain.recv(65536)
        assert world.ask("GET", "/enrol").status == 200
        assert world.gateway.log() == before


def test_the_gateway_serves_a_certificate_from_files(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    ca = make_trial(folder, ["localhost"])
    tls = Tls("file", str(folder / "certificate.pem"), str(folder / "key.pem"))
    config = Config("https://localhost:8460", listen=Listen(port=0), tls=tls)
    with World(tmp_path / "home", config=config) as world:
        world.ca = ca
        assert world.ask("GET", "/enrol").status == 200


def refused(call: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    make_trial(tmp_path, ["gate.example"])
    return tmp_path / "certificate.pem", tmp_path / "key.pem"


def test_a_key_of_another_certificate_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    make_trial(tmp_path / "other", ["gate.example"])
    assert (
        refused(lambda: read_pair(pair[0], tmp_path / "other" / "key.pem")).code is Code.TLS_BAD_KEY
    )


@pytest.mark.parametrize(
    ("which", "content", "code"),
    [
        (0, b"", Code.TLS_BAD_CERTIFICATE),
        (0, b"no pem", Code.TLS_BAD_CERTIFICATE),
        (0, b"x" * (300 << 10), Code.TLS_BAD_CERTIFICATE),
        (0, None, Code.TLS_BAD_CERTIFICATE),
        (1, b"no pem", Code.TLS_BAD_KEY),
        (1, None, Code.TLS_BAD_KEY),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    pair: tuple[Path, Path], which: int, content: bytes | None, code: Code
) -> None:
    if content is None:
        pair[which].unlink()
    else:
        pair[which].write_bytes(content)
    assert refused(lambda: read_pair(*pair)).code is code


def test_a_key_that_everybody_may_read_is_refused_with_its_fix(pair: tuple[Path, Path]) -> None:
    pair[1].chmod(0o644)
    refusal = refused(lambda: read_pair(*pair))
    assert refusal.code is Code.TLS_BAD_KEY
    assert refusal.hint == f"chmod 600 {pair[1]}"


def test_a_weak_key_is_refused(pair: tuple[Path, Path]) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    text = weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    refusal = refused(lambda: pair_of(pair[0].read_bytes(), text))
    assert refusal.code is Code.TLS_BAD_KEY and "2048" in refusal.hint


def test_a_certificate_out_of_its_time_is_refused(pair: tuple[Path, Path]) -> None:
    found = read_pair(*pair)
    for when in (found.begins - timedelta(seconds=1), found.ends):
        refusal = refused(lambda when=when: check(found, ["gate.example"], when))
        assert refusal.code is Code.TLS_NOT_VALID_NOW
    check(found, ["gate.example"], found.ends - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("name", "host", "holds"),
    [
        ("gate.example", "gate.example", True),
        ("Gate.Example", "gate.example", True),
        ("*.example", "gate.example", True),
        ("*.example", "a.gate.example", False),
        ("*.example", "example", False),
        ("g*.example", "gate.example", False),
        ("gate.example", "gate.example.org", False),
        ("*", "gate", False),
    ],
)
def test_names_stand_for_hosts_as_clients_read_them(name: str, host: str, holds: bool) -> None:
    assert covers([name], host) is holds


def test_a_chain_that_does_not_follow_is_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ca, certificate, key = (
        (tmp_path / "ca.pem").read_bytes(),
        pair[0].read_bytes(),
        pair[1].read_bytes(),
    )
    assert chain_gap(pair_of(certificate + ca, key)) == ""
    (tmp_path / "other").mkdir()
    other = make_trial(tmp_path / "other", ["gate.example"]).read_bytes()
    assert "was not issued by" in chain_gap(pair_of(certificate + other, key))


def test_certificates_beside_the_presss_keys_are_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("press/keys", "gateway/tls"):
        (home / name).mkdir(parents=True)
    assert tls_folders(home, [home / "gateway" / "tls" / "a.pem"]) == (home / "gateway" / "tls",)
    for place in (home / "press" / "keys", home, tmp_path):
        assert (
            refused(lambda place=place: tls_folders(home, [place / "a.pem"])).code
            is Code.CONFIG_INVALID
        )


# renewal


def serial(world: World) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", world.gateway.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def test_a_renewed_certificate_is_served_without_a_restart_and_a_bad_one_is_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "home" / "gateway" / "tls"
    with World(tmp_path / "home", tls=True) as world:
        first, pid = serial(world), world.gateway.pid
        shutil.copytree(folder, tmp_path / "first")
        write_private(folder / "certificate.pem", b"broken")
        until(lambda: taken(world, False), "the bad one to be seen", 30)
        assert serial(world) == first
        make_trial(folder, ["localhost"])
        until(lambda: serial(world) != first, "the new one to be served", 30)
        assert world.gateway.pid == pid
        assert world.ask("GET", "/enrol").status == 200


def taken(world: World, right: bool) -> bool:
    return any(
        event["event"] == "tls-certificate" and event.get("taken") is right
        for event in world.gateway.events()
    )


def test_a_half_written_renewal_leaves_what_is_served(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    tls = ServingTls(*pair, ["gate.example"])
    served = tls.load()
    (tmp_path / "new").mkdir()
    make_trial(tmp_path / "new", ["gate.example"])
    shutil.copy(tmp_path / "new" / "key.pem", pair[1])
    tls.look()
    assert presented(tls) == served.chain[0].serial_number
    shutil.copy(tmp_path / "new" / "certificate.pem", pair[0])
    tls.look()
    assert (
        presented(tls) == read_pair(*pair).chain[0].serial_number != served.chain[0].serial_number
    )


def presented(tls: ServingTls) -> int:
    """The serial number of what the context presents, by a handshake in memory."""
    client_context = ssl.create_default_context()
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


# configuration


@pytest.mark.parametrize(
    "config",
    [
        Config("http://localhost:1", tls=Tls("private-ca")),
        Config("https://gate.example", tls=Tls("file", "only.pem")),
        Config("https://gate.example", tls=Tls("acme")),
        Config("https://gate.example", tls=Tls("acme", acme_directory="http://ca.example/")),
        Config("https://gate.example", upload_url="https://gate.example:8443"),
        Config("https://gate.example", upload_url="https://Upload.example"),
        Config("https://gate.example", listen=Listen(trusted_proxies=("10.0.0.1/8",))),
        Config("https://gate.example", listen=Listen(trusted_proxies=("proxy.example",))),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path, config: Config) -> None:
    write_config(tmp_path, config)
    assert refused(lambda: read_config(tmp_path)).code is Code.CONFIG_INVALID


def test_a_file_of_version_0_1_means_what_it_meant() -> None:
    text = Config("https://gate.example").to_toml()
    old = text.replace('upload_url = ""\n', "").replace("trusted_proxies = []\n", "")
    old = old[: old.index("[tls]")] + old[old.index("# Read once") :]
    assert "[tls]" not in old and "proxies" not in old
    assert parse_config(old) == Config("https://gate.example")


def test_init_with_trial_tls_needs_an_https_address(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "presspass.cli.main",
        "init",
        "--trial-tls",
        "--profile",
        "solo",
    ]
    command += [
        "--person",
        "Ada",
        "--url",
        "http://localhost:8460",
        "--home",
        str(tmp_path / "home"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "config.invalid" in done.stderr
    assert not (tmp_path / "home").exists()


def test_tls_trial_makes_it_anew_and_turns_it_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "gateway").mkdir(parents=True)
    write_config(home, Config("https://gate.example", upload_url="https://upload.example"))
    serials = set()
    for _ in range(2):
        assert run(["tls", "trial", "--home", str(home)]) == DONE
        config = read_config(home)
        assert config.tls.mode == "private-ca"
        pair = read_pair(*config.tls_files(home))
        check(pair, ["gate.example", "upload.example"], datetime.now(UTC))
        serials.add(pair.chain[0].serial_number)
    assert len(serials) == 2
    assert stat.S_IMODE((home / "gateway" / "tls").stat().st_mode) == 0o700


# the proxies of docs/tls.md

DOCS = Path(__file__).resolve().parent.parent / "docs" / "tls.md"


def snippet(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def directives(text: str) -> dict[tuple[str, ...], list[str]]:
    """An nginx or Caddy file as {(blocks…, directive): all its arguments}; every block must be closed."""
    found: dict[tuple[str, ...], list[str]] = {}
    blocks: list[str] = []
    for line in text.splitlines():
        words = shlex.split(line.strip().rstrip(";"))
        if not words:
            continue
        if words[-1] == "{":
            blocks.append(words[0])
        if words == ["}"]:
            blocks.pop()
        else:
            found.setdefault((*blocks, words[0]), []).extend(words[1:])
    assert not blocks
    return found


def test_the_documented_nginx_passes_on_what_clients_need() -> None:
    server = directives(snippet("nginx"))
    size = server["server", "client_max_body_size"][0]
    assert size.endswith("m") and int(size[:-1]) * MIB > FILE_BYTES_MAX
    count_, each = server["server", "large_client_header_buffers"]
    assert int(count_) * int(each[:-1]) * KIB >= REQUEST_HEADER_BYTES_MAX
    assert server["server", "ssl_protocols"] == ["TLSv1.2", "TLSv1.3"]
    location = {key[2]: value for key, value in server.items() if len(key) == 3}
    assert location["proxy_http_version"] == ["1.1"]
    assert location["proxy_request_buffering"] == location["proxy_buffering"] == ["off"]
    assert int(location["proxy_read_timeout"][0].rstrip("s")) > CLIENT_IDLE_S_MAX
    sent = location["proxy_set_header"]
    headers = dict(zip(sent[::2], sent[1::2], strict=True))
    assert headers["Host"] == headers["X-Forwarded-Host"] == "$host"
    # what the client wrote is replaced, not added to
    assert headers["X-Forwarded-For"] == "$remote_addr"
    assert headers["X-Forwarded-Proto"] == "$scheme"
    assert not {"http2", "early_hints"} & {key[-1] for key in server}
    assert "http2" not in server["server", "listen"]


def test_the_documented_caddy_passes_on_what_clients_need() -> None:
    site = directives(snippet("caddyfile"))
    size = site["gate.example,", "request_body", "max_size"][0]
    assert int(size.removesuffix("MB")) * 1_000_000 > FILE_BYTES_MAX
    proxy = ("gate.example,", "reverse_proxy")
    assert site[*proxy, "transport", "versions"] == ["1.1"]
    wait = site[*proxy, "transport", "response_header_timeout"][0]
    assert int(wait.rstrip("s")) > CLIENT_IDLE_S_MAX


def test_the_documented_settings_are_settings() -> None:
    text = Config("https://gate.example").to_toml()
    for body in re.findall(r"^```toml\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL):
        known = tomllib.loads(text)
        for name, value in tomllib.loads(body).items():
            if isinstance(value, dict):
                assert set(value) == set(known[name])
            else:
                assert name in known
