"""A real gate for tests: made by `presspass init`, run by `presspass serve`, spoken to by the commands alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ledger_reading
from presspass.core.digests import JsonObject
from presspass.drill.peers import free_port, trusting, wait_until


class Rig:
    """One home with its supervisor. `ada` (software passkey) and `grace` (SSH) are enrolled by `seal`.

    With `tls` it is served by TLS from a private CA; its commands trust `ca`, and so must other clients
    (`peers.trusting(rig.ca)`; None without TLS).
    """

    def __init__(
        self,
        folder: Path,
        interpreter: str = sys.executable,
        python_path: str = "",
        tls: bool = False,
    ) -> None:
        self.folder = folder
        self.command = [interpreter, "-m", "presspass.cli.main"]
        self.environment = {"XDG_CONFIG_HOME": str(folder / "config")}
        if python_path:
            self.environment["PYTHONPATH"] = python_path
        self.home = folder / "home"
        self.port = free_port()
        self.origin = f"{'https' if tls else 'http'}://localhost:{self.port}"
        self.ca = self.home / "gateway" / "tls" / "ca.pem" if tls else None
        self.ada = folder / "ada.json"
        self.grace = folder / "grace"
        self.server: subprocess.Popen[bytes] | None = None
        self.links: list[str] = []
        self.recovery_key = ""

    def run(self, *arguments: object, code: int = 0, given: str = "", **extra: str) -> str:
        """Runs a command to its end, checks its exit code, and returns its stdout."""
        trust = trusting(self.ca)
        home = {"PRESSPASS_HOME": str(self.home)}
        environment = {**os.environ, **self.environment, **home, **trust, **extra}
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            env=environment,
            input=given,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, (
            f"{arguments} -> {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        )
        return done.stdout

    def ask(self, *arguments: object, **more: Any) -> Any:
        """As `run` with --format json; the document."""
        return json.loads(self.run(*arguments, "--format", "json", **more))

    def init(self, *more: str) -> None:
        people = ("--person", "Ada:mailto:ada@team.example", "--person", "Grace")
        options = (
            "--url",
            self.origin,
            "--port",
            self.port,
            "--software-keys",
            "--veto-window",
            "0",
            "--key-wait",
            "0",
            *(("--trial-tls",) if self.ca else ()),
            *more,
        )
        made = self.ask("init", *people, *options)
        self.links = [link["url"] for link in made["links"]]
        self.recovery_key = made["recovery_key"]

    def start(self) -> None:
        """Starts the supervisor and waits until it says that it is ready."""
        with (
            (self.folder / "serve.out").open("wb") as out,
            (self.folder / "serve.err").open("ab") as err,
        ):
            command = [*self.command, "serve", "--home", str(self.home), "--format", "json"]
            self.server = subprocess.Popen(
                command, stdout=out, stderr=err, env={**os.environ, **self.environment}
            )
        wait_until(self._is_ready, f"the gate is ready; it said: {self.log()}", 30.0)

    def _is_ready(self) -> bool:
        assert self.server is not None
        assert self.server.poll() is None, self.log()
        return (self.folder / "serve.out").read_text().startswith('{"ready": true')

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends the supervisor and returns its exit code."""
        server, self.server = self.server, None
        if server is None:
            return 0
        server.send_signal(number)
        try:
            return server.wait(60)
        finally:
            server.kill()

    def log(self) -> str:
        path = self.folder / "serve.err"
        return path.read_text() if path.exists() else ""

    def children(self) -> dict[str, int]:
        """Names and process ids of what the supervisor started, newest of each name."""
        found = {}
        for line in self.log().splitlines():
            words = line.split()
            if words[2:3] == ["started"]:
                found[words[1]] = int(words[4].rstrip(")"))
        return found

    def seal(self) -> None:
        """Enrols both people at the running gate and seals genesis."""
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.grace], check=True
        )
        self.run("enrol", self.links[0], "--software-passkey", self.ada)
        self.run("enrol", self.links[1], "--ssh-key", f"{self.grace}.pub")
        self.run("init", "--seal", "--yes-all-fingerprints-compared")

    def ledger(self) -> list[JsonObject]:
        """Every entry of the public log, checked as an auditor does."""
        return ledger_reading.over_http(self.origin, self.home / "trust-root.json", self.ca)

    def approve(self, url: str, *who: str) -> None:
        """Has these people approve, each with the own key."""
        for person in who:
            self.run("approve", url, *self.key(person), "--yes")

    def key(self, person: str) -> tuple[object, ...]:
        return ("--software-passkey", self.ada) if person == "ada" else ("--key", self.grace)

    def add_upstream(self, upload_url: str, index_url: str, secret: str) -> None:
        """Adds the upstream `private`, approved by both."""
        urls = ("--upload-url", upload_url, "--index-url", index_url)
        url = self.ask("upstream", "add", "private", *urls, "--secret-stdin", given=secret + "\n")[
            "url"
        ]
        self.approve(url, "ada", "grace")
        self.run("wait", url, "--timeout", "30s")

    def token(self, project: str, person: str = "Ada") -> str:
        where = ("--project", project, "--upstream", "private", "--person", person)
        return str(self.ask("token", "create", *where)["token"])

    def submit(self, token: str, *files: Path, code: int = 0, **more: Any) -> str:
        """Submits and returns the release's URL."""
        url = f"{self.origin}/pypi/private/"
        return self.run(
            "submit", *files, "--url", url, code=code, PRESSPASS_TOKEN=token, **more
        ).strip()


@contextmanager
def running(folder: Path, *options: str, tls: bool = False) -> Iterator[Rig]:
    """A fresh gate, started, not sealed; ended at the end whatever happens."""
    rig = Rig(folder, tls=tls)
    rig.init(*options)
    rig.start()
    try:
        yield rig
    finally:
        if rig.server is not None:
            rig.stop()
