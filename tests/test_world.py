"""The seeded world is a registry to real clients, and its faults are the ones asked for."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import packages
import peers
from presspass.drill.world import Door, Issuer, Outcome, Registry, WorldClock


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7) as served:
        yield served


def twine(registry: Registry, *files: Path) -> peers.Answer:
    peers.require_peer("twine")
    return peers.run_twine(registry.upload_url, registry.user, registry.token, files)


def raw_upload(
    registry: Registry, wheel: Path, timeout_s: float = 20, **changes: str
) -> tuple[int, str]:
    """One upload without a client's own ideas: status and reason. Raises what the connection raises."""
    body = wheel.read_bytes()
    name, version = wheel.name.split("-")[:2]
    fields = {":action": "file_upload", "protocol_version": "1", "name": name, "version": version}
    fields |= {"sha256_digest": hashlib.sha256(body).hexdigest()} | changes
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    file_part = f'--B\r\nContent-Disposition: form-data; name="content"; filename="{wheel.name}"'
    form = b"".join(parts) + file_part.encode() + b"\r\n\r\n" + body + b"\r\n--B--\r\n"
    credential = base64.b64encode(f"{registry.user}:{registry.token}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=timeout_s)
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    headers["Authorization"] = f"Basic {credential}"
    try:
        connection.request("POST", "/legacy/", form, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.reason
    finally:
        connection.close()


def get(url: str, accept: str = "*/*") -> bytes:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        body: bytes = answer.read()
        return body


def index_of(registry: Registry, project: str) -> dict[str, Any]:
    page = get(f"{registry.simple_url}{project}/", "application/vnd.pypi.simple.v1+json")
    return dict(json.loads(page))


# --- a registry to real clients ---------------------------------------------------------------------------------------


def test_twine_uploads_and_pip_installs(registry: Registry, tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path / "dist", "Tiny.World", "1.0")
    sdist = packages.make_sdist(tmp_path / "dist", "Tiny.World", "1.0")
    done = twine(registry, sdist, wheel)
    assert done.exit_code == 0, done.text
    assert registry.files()[wheel.name] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert [upload.outcome for upload in registry.uploads] == [Outcome.STORED] * 2
    assert {upload.project for upload in registry.uploads} == {"tiny-world"}

    installed = peers.run_pip_install(registry.simple_url, "Tiny.World==1.0", tmp_path / "target")
    assert installed.exit_code == 0, installed.text
    assert (tmp_path / "target" / "tiny_world" / "__init__.py").exists()


def test_uv_uploads_and_an_identical_file_is_fine_a_second_time(
    registry: Registry, tmp_path: Path
) -> None:
    peers.require_peer("uv")
    wheel = packages.make_wheel(tmp_path, "tiny-world", "2.0")
    for _ in range(2):
        done = peers.run_uv_publish(registry.upload_url, registry.user, registry.token, [wheel])
        assert done.exit_code == 0, done.text
    assert [u.outcome for u in registry.uploads] == [Outcome.STORED, Outcome.IDENTICAL]
    assert registry.accepted(wheel.name) == 2


def test_other_bytes_under_a_taken_name_are_refused(registry: Registry, tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path / "a", "tiny-world", "1.0")
    other = packages.make_wheel(
        tmp_path / "b", "tiny-world", "1.0", {"tiny_world/x.py": b"x = 2\n"}
    )
    assert twine(registry, wheel).exit_code == 0
    done = twine(registry, other)
    assert done.exit_code == 1
    assert "File already exists" in done.text
    assert registry.files() == {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest()}


def test_a_wrong_token_stores_nothing(registry: Registry, tmp_path: Path) -> None:
    peers.require_peer("twine")
    wheel = packages.make_wheel(tmp_path, "tiny-world", "1.0")
    done = peers.run_twine(registry.upload_url, registry.user, "stolen", [wheel])
    assert done.exit_code == 1
    assert "403" in done.text
    assert registry.files() == {}
    assert [upload.outcome for upload in registry.uploads] == [Outcome.REFUSED]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha256_digest": "0" * 64}, "digest"),
        ({"md5_digest": "0" * 32}, "digest"),
        ({"sha256_digest": ""}, "digest"),
        ({"name": "somebody-else"}, "name of the project"),
        ({"version": ""}, "required"),
        ({"protocol_version": "2"}, "protocol"),
    ],
)
def test_a_form_that_contradicts_the_file_is_refused(
    registry: Registry, tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    status, said = raw_upload(registry, packages.make_wheel(tmp_path, "tiny", "1.0"), **changes)
    assert status == 400
    assert reason in said
    assert registry.files() == {}


def test_both_forms_of_the_index_name_the_same_digest(registry: Registry, tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    assert raw_upload(registry, wheel)[0] == 200
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (listed,) = index_of(registry, "tiny")["files"]
    assert listed["hashes"] == {"sha256": digest}
    assert f"#sha256={digest}" in get(f"{registry.simple_url}tiny/", "text/html").decode()
    assert get(registry.url + listed["url"]) == wheel.read_bytes()
    assert b"tiny" in get(registry.simple_url)


def test_what_is_stored_survives_a_restart_at_the_same_address(tmp_path: Path) -> None:
    registry = Registry(seed=1)
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    with registry:
        assert raw_upload(registry, wheel)[0] == 200
        address = registry.url
    with pytest.raises(OSError):
        get(address + "/simple/")
    with registry:
        assert registry.url == address
        assert raw_upload(registry, wheel) == (200, "OK")
    assert [u.outcome for u in registry.uploads] == [Outcome.STORED, Outcome.IDENTICAL]


def test_parallel_uploads_of_one_file_store_it_once(registry: Registry, tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    threads = [threading.Thread(target=raw_upload, args=(registry, wheel)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = sorted(upload.outcome for upload in registry.uploads)
    assert outcomes == [Outcome.IDENTICAL] * 7 + [Outcome.STORED]
    assert [upload.number for upload in registry.uploads] == list(range(8))


# --- faults on request ------------------------------------------------------------------------------------------------


def test_an_error_after_storing_has_stored(registry: Registry, tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    registry.error_after_store(status=502)
    assert raw_upload(registry, wheel)[0] == 502
    assert list(registry.files()) == [wheel.name]
    assert raw_upload(registry, wheel)[0] == 200
    assert [(u.outcome, u.status) for u in registry.uploads] == [
        (Outcome.STORED, 502),
        (Outcome.IDENTICAL, 200),
    ]


def test_an_error_before_storing_has_not_stored(registry: Registry, tmp_path: Path) -> None:
    registry.error_before_store()
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    assert raw_upload(registry, wheel)[0] == 503
    assert registry.files() == {}


def test_a_dropped_connection_has_stored_and_says_nothing(
    registry: Registry, tmp_path: Path
) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    registry.drop_connection_before_answer()
    with pytest.raises(http.client.RemoteDisconnected):
        raw_upload(registry, wheel)
    assert list(registry.files()) == [wheel.name]
    assert registry.uploads[0].status == 0


def test_a_stalled_upload_stores_nothing_and_ends_when_healed(
    registry: Registry, tmp_path: Path
) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    registry.stall()
    with pytest.raises(TimeoutError):
        raw_upload(registry, wheel, timeout_s=0.3)
    registry.heal()
    assert registry.files() == {}
    assert raw_upload(registry, wheel)[0] == 200


def test_stopping_lets_a_stalled_client_go(tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    ended: list[BaseException] = []

    def upload() -> None:
        try:
            raw_upload(registry, wheel)
        except OSError as error:
            ended.append(error)

    with Registry() as registry:
        registry.stall()
        client = threading.Thread(target=upload)
        client.start()
        peers.wait_until(lambda: bool(registry.requests), "the upload to arrive")
    client.join(10)
    assert len(ended) == 1


def test_a_slow_registry_waits(registry: Registry, tmp_path: Path) -> None:
    registry.slow(0.4)
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    with pytest.raises(TimeoutError):
        raw_upload(registry, wheel, timeout_s=0.1)
    assert raw_upload(registry, wheel)[0] == 200


def test_a_redirect_names_the_other_address(registry: Registry, tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    with Registry(token=registry.token) as elsewhere:
        registry.redirect(elsewhere.url)
        assert raw_upload(registry, wheel)[0] == 307
        assert twine(registry, wheel).exit_code != 0  # twine does not follow
        assert elsewhere.requests == []
    assert {upload.status for upload in registry.uploads} == {307}
    assert registry.files() == {}


def test_refused_credentials_and_rotated_tokens_store_nothing(
    registry: Registry, tmp_path: Path
) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    registry.refuse_auth()
    assert raw_upload(registry, wheel)[0] == 403
    registry.heal()
    old = registry.token
    registry.rotate_token("new")
    done = peers.run_twine(registry.upload_url, registry.user, old, [wheel])
    assert done.exit_code == 1
    assert registry.files() == {}
    assert raw_upload(registry, wheel)[0] == 200


@pytest.mark.parametrize(
    ("doors", "index_lies", "download_lies"),
    [
        ((Door.INDEX,), True, False),
        ((Door.DOWNLOAD,), False, True),
        ((Door.INDEX, Door.DOWNLOAD), True, True),
    ],
)
def test_other_bytes_are_served_where_asked(
    registry: Registry,
    tmp_path: Path,
    doors: tuple[Door, ...],
    index_lies: bool,
    download_lies: bool,
) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert raw_upload(registry, wheel)[0] == 200
    registry.serve_other_bytes(doors)
    (listed,) = index_of(registry, "tiny")["files"]
    body = get(registry.url + listed["url"])
    assert (listed["hashes"]["sha256"] != right) is index_lies
    assert (hashlib.sha256(body).hexdigest() != right) is download_lies
    if (
        index_lies and download_lies
    ):  # a liar who is consistent: a client that trusts the index notices nothing
        assert hashlib.sha256(body).hexdigest() == listed["hashes"]["sha256"]
    registry.heal()
    assert get(registry.url + listed["url"]) == wheel.read_bytes()


def test_the_same_seed_tells_the_same_lie(tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny", "1.0")
    lies = []
    for _ in range(2):
        with Registry(seed=3) as registry:
            raw_upload(registry, wheel)
            registry.serve_other_bytes()
            lies.append(index_of(registry, "tiny")["files"])
    assert lies[0] == lies[1]


# --- issuer and clock -------------------------------------------------------------------------------------------------


def unsegment(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def served_key(issuer: Issuer) -> rsa.RSAPublicKey:
    discovery = json.loads(get(f"{issuer.url}/.well-known/openid-configuration"))
    assert discovery["issuer"] == issuer.url
    (key,) = json.loads(get(discovery["jwks_uri"]))["keys"]
    n, e = (int.from_bytes(unsegment(key[part]), "big") for part in ("n", "e"))
    return rsa.RSAPublicNumbers(e, n).public_key()


def verify(token: str, key: rsa.RSAPublicKey) -> None:
    signed, _, signature = token.rpartition(".")
    key.verify(unsegment(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_a_minted_token_verifies_under_the_served_key_and_no_longer_after_rotation() -> None:
    clock = WorldClock()
    with Issuer(seed=7, clock=clock) as issuer:
        token = issuer.mint({"sub": "repo:tiny", "nbf": None}, lifetime_s=60)
        claims = json.loads(unsegment(token.split(".")[1]))
        assert claims["iss"] == issuer.url
        assert claims["exp"] - claims["iat"] == 60
        assert claims["iat"] == int(clock.wall())
        assert "nbf" not in claims
        verify(token, served_key(issuer))
        issuer.rotate()
        with pytest.raises(InvalidSignature):
            verify(token, served_key(issuer))
        verify(issuer.mint({}), served_key(issuer))


def test_the_same_seed_mints_the_same_token_and_another_seed_another() -> None:
    claims = {"iss": "http://127.0.0.1/fixed", "sub": "repo:tiny"}
    assert Issuer(seed=7).mint(claims) == Issuer(seed=7).mint(claims)
    assert Issuer(seed=7).jwks() != Issuer(seed=8).jwks()


def test_the_clock_moves_only_when_told() -> None:
    clock = WorldClock(wall_s=100.0, monotonic_s=5.0)
    clock.advance(2.5)
    assert (clock.wall(), clock.monotonic()) == (102.5, 7.5)
    clock.jump_wall(-50)
    assert (clock.wall(), clock.monotonic()) == (52.5, 7.5)
    with pytest.raises(ValueError):
        clock.advance(-1)
