"""What the tests need around them, and how a missing part shows: a visible skip, or a failure in CI.

`require(...)` is the only place that skips. With PRESSPASS_REQUIRE_ALL=1 it fails instead.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from presspass.drill.peers import (
    Answer,
    Peer,
    PeerMissingError,
    Postgresql,
    PypiServer,
    answers_http,
    clean_env,
    free_port,
    npm_peer,
    peer,
    peers_folder,
    postgresql_program,
    run_build,
    run_client,
    run_pip_install,
    run_twine,
    run_uv_publish,
    trusting,
    wait_until,
)

__all__ = [
    "Answer",
    "Devpi",
    "Peer",
    "Postgresql",
    "PypiServer",
    "answers_http",
    "clean_env",
    "free_port",
    "missing",
    "npm_peer",
    "peers_folder",
    "require_npm_peer",
    "require_peer",
    "require_postgresql",
    "require_program",
    "run_build",
    "run_client",
    "run_pip_install",
    "run_twine",
    "run_uv_publish",
    "trusting",
    "wait_until",
]


def missing(reason: str) -> NoReturn:
    """A part is not installed: skips the test with the reason, or fails it where everything is required."""
    if os.environ.get("PRESSPASS_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (required, since PRESSPASS_REQUIRE_ALL=1)", pytrace=False)
    pytest.skip(reason)


def require_peer(program: str) -> Path:
    """A program of the peers' environment."""
    try:
        return peer(program)
    except PeerMissingError as error:
        missing(str(error))


def require_npm_peer(package: str) -> Path:
    """The folder of one of the npm packages of the peers' environment."""
    try:
        return npm_peer(package)
    except PeerMissingError as error:
        missing(str(error))


def require_program(*names: str, package: str) -> Path:
    """The first of these programs that the system has. `package` is the Debian package to name when none is there."""
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    missing(f"{names[0]} is not installed; 'make system' installs the Debian package {package}")


@dataclass(frozen=True, slots=True)
class Devpi:
    """A running devpi-server with one index that anybody may read and its owner may fill."""

    upload_url: str
    simple_url: str
    user: str
    password: str


class DevpiProcess(Peer):
    """devpi-server over a fresh folder. Slow to start: `start` it early, `ready_index` waits."""

    PASSWORD = "correct-horse"  # lives as long as the test run, on loopback

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        server = require_peer("devpi-server")
        require_peer("devpi")
        init = [require_peer("devpi-init"), "--serverdir", self._data]
        init += ["--root-passwd", self.PASSWORD, "--no-root-pypi"]
        serve = [server, "--serverdir", self._data, "--host", "127.0.0.1"]
        serve += ["--port", str(port), "--offline-mode", "--threads", "4"]
        script = 'set -e; n=$1; shift; "${@:1:$n}"; shift "$n"; exec "$@"'
        command = ["bash", "-c", script, "devpi", str(len(init)), *init, *serve]
        super().__init__(command, folder, lambda: answers_http(f"{self.url}/+api"))

    def ready_index(self) -> Devpi:
        """Waits for the server, makes the index root/dev and says where it is."""
        self.wait()
        client = ["--clientdir", str(self._data.parent / "client")]
        for arguments in (
            ["use", self.url],
            ["login", "root", f"--password={self.PASSWORD}"],
            ["index", "-c", "root/dev", "bases="],
        ):
            done = run_client([peer("devpi"), arguments[0], *client, *arguments[1:]])
            assert done.exit_code == 0, done.text
        index = f"{self.url}/root/dev"
        return Devpi(f"{index}/", f"{index}/+simple/", "root", self.PASSWORD)


def require_postgresql() -> None:
    """The programs that make and start a PostgreSQL server."""
    try:
        postgresql_program("initdb")
    except PeerMissingError as error:
        missing(str(error))
