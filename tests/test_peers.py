"""The real programs the other tests rely on start, take an upload and serve it; each one that is missing says so."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import packages
import peers

ROOT = Path(__file__).resolve().parent.parent


def installed_version(target: Path, module: str) -> str:
    """What a fresh Python finds in `target`."""
    code = f"import sys; sys.path.insert(0, {str(target)!r}); import {module}; print({module}.__version__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


def test_twine_uploads_into_pypiserver_and_pip_installs_from_it(
    pypiserver: peers.PypiServer, tmp_path: Path
) -> None:
    peers.require_peer("twine")
    wheel = packages.make_wheel(tmp_path / "dist", "tiny-peer", "1.0")
    sdist = packages.make_sdist(tmp_path / "dist", "tiny-peer", "1.0")

    uploaded = peers.run_twine(pypiserver.upload_url, "x", "y", [sdist, wheel])
    assert uploaded.exit_code == 0, uploaded.text
    assert pypiserver.files()[wheel.name] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert pypiserver.files()[sdist.name] == hashlib.sha256(sdist.read_bytes()).hexdigest()

    installed = peers.run_pip_install(pypiserver.simple_url, "tiny-peer==1.0", tmp_path / "target")
    assert installed.exit_code == 0, installed.text
    assert installed_version(tmp_path / "target", "tiny_peer") == "1.0"


def test_uv_uploads_into_pypiserver(pypiserver: peers.PypiServer, tmp_path: Path) -> None:
    peers.require_peer("uv")
    wheel = packages.make_wheel(tmp_path, "tiny-peer", "2.0")
    uploaded = peers.run_uv_publish(pypiserver.upload_url, "x", "y", [wheel])
    assert uploaded.exit_code == 0, uploaded.text
    assert list(pypiserver.files()) == [wheel.name]


def test_pypiserver_with_a_token_refuses_everybody_else(
    pypiserver_with_token: peers.PypiServer, tmp_path: Path
) -> None:
    server = pypiserver_with_token
    wheel = packages.make_wheel(tmp_path, "tiny-peer", "3.0")
    assert server.password is not None

    refused = peers.run_twine(server.upload_url, server.user, "not-" + server.password, [wheel])
    assert refused.exit_code == 1
    assert "403" in refused.text
    assert server.files() == {}

    accepted = peers.run_twine(server.upload_url, server.user, server.password, [wheel])
    assert accepted.exit_code == 0, accepted.text
    assert list(server.files()) == [wheel.name]


def test_devpi_takes_an_upload_and_serves_it(devpi: peers.Devpi, tmp_path: Path) -> None:
    wheel = packages.make_wheel(tmp_path, "tiny-devpi", "1.0")
    uploaded = peers.run_twine(devpi.upload_url, devpi.user, devpi.password, [wheel])
    assert uploaded.exit_code == 0, uploaded.text
    installed = peers.run_pip_install(devpi.simple_url, "tiny-devpi==1.0", tmp_path / "target")
    assert installed.exit_code == 0, installed.text
    assert installed_version(tmp_path / "target", "tiny_devpi") == "1.0"


def test_postgresql_answers(postgresql: peers.Postgresql) -> None:
    with psycopg.connect(postgresql.dsn) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    assert row == ("presspass",)


def test_chromium_answers(chromium: Path) -> None:
    done = subprocess.run([chromium, "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert any(character.isdigit() for character in done.stdout)


def test_ssh_keygen_signs_and_verifies(ssh_keygen: Path, tmp_path: Path) -> None:
    key, message = tmp_path / "key", tmp_path / "message"
    message.write_text("these bytes\n")
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=30)
    sign = [ssh_keygen, "-q", "-Y", "sign", "-f", key, "-n", "presspass", message]
    subprocess.run(sign, check=True, timeout=30, stderr=subprocess.DEVNULL)
    check = [
        ssh_keygen,
        "-Y",
        "check-novalidate",
        "-n",
        "presspass",
        "-s",
        tmp_path / "message.sig",
    ]
    assert (
        subprocess.run(
            check, input=b"these bytes\n", timeout=30, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )
    assert (
        subprocess.run(check, input=b"other bytes\n", timeout=30, capture_output=True).returncode
        != 0
    )


def test_node_and_npm_come_from_the_peers_lock(
    node: Path, npm: Callable[..., peers.Answer]
) -> None:
    version = peers.run_client([node, "--version"]).stdout
    assert int(version.removeprefix("v").split(".")[0]) >= 22
    answer = npm("--version", timeout_s=60)
    assert answer.exit_code == 0, answer.text
    assert tuple(map(int, answer.stdout.split(".")[:2])) >= (11, 15)


def test_the_npm_peers_are_those_of_their_lock(node: Path) -> None:
    wanted = json.loads((ROOT / "locks" / "npm" / "package.json").read_text())["dependencies"]
    for package in ("oidc-provider", "npm"):
        installed = json.loads((peers.require_npm_peer(package) / "package.json").read_text())
        assert installed["version"] == wanted[package]
    npm_cli = peers.require_npm_peer("npm") / "bin" / "npm-cli.js"
    assert peers.run_client([node, npm_cli, "--version"]).stdout.strip() == wanted["npm"]
    script = "import('oidc-provider').then((module) => console.log(typeof module.default))"
    loads = [node, "--input-type=module", "--eval", script]
    folder = peers.require_npm_peer("oidc-provider").parent
    answer = peers.run_client(["env", "-C", folder, *loads])
    assert answer.stdout == "function\n", answer.text


def test_pnpm_is_a_program_of_its_own() -> None:
    program = peers.require_npm_peer("pnpm") / "pnpm"
    answer = peers.run_client([program, "--version"])
    assert answer.exit_code == 0, answer.text
    assert int(answer.stdout.split(".")[0]) >= 12


@pytest.mark.parametrize("client", ["flit", "hatch", "pdm", "poetry"])
def test_the_other_upload_clients_start(client: str) -> None:
    answer = peers.run_client([peers.require_peer(client), "--version"])
    assert answer.exit_code == 0, answer.text
    assert client in answer.text.lower()


def test_the_project_itself_builds_to_the_same_bytes_twice(tmp_path: Path) -> None:
    peers.require_peer("python")
    built = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        answer = peers.run_build(ROOT, folder)
        assert answer.exit_code == 0, answer.text
        built.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert built[0] == built[1]
    assert {name.split("-")[0] for name in built[0]} == {"presspass"}
    assert len(built[0]) == 2


def test_a_peer_sees_nothing_of_the_users_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/leak/")
    monkeypatch.setenv("TWINE_REPOSITORY_URL", "http://127.0.0.1:9/leak/")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(peers.run_client([sys.executable, "-c", code]).stdout)
    assert "leak" not in json.dumps(seen)
    assert seen["HOME"] != str(Path.home())
    assert not Path(seen["HOME"]).exists()  # it was removed with the client


def test_what_is_missing_skips_and_where_all_is_required_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRESSPASS_PEERS", "/nonexistent")
    monkeypatch.delenv("PRESSPASS_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make peers"):
        peers.require_peer("twine")
    monkeypatch.setenv("PRESSPASS_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="make peers"):
        peers.require_peer("twine")
