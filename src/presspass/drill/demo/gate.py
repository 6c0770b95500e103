"""A real gate for the demo: the same commands a person would type, run as subprocesses on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject
from presspass.core.statement import Body, Intent, Statement
from presspass.drill.demo.tell import DemoFailedError, Teller
from presspass.drill.peers import Answer, free_port, trusting, wait_until
from presspass.drill.world.keys import SoftwarePasskey
from presspass.store import journal_view as view
from presspass.store.database import Reader

_COMMAND_S_MAX = 60
_SETTLE_S_MAX = 30.0
UPSTREAM = "main"
_PRESSPASS = (sys.executable, "-P", "-m", "presspass.cli.main")
T = TypeVar("T")


@dataclass(slots=True)
class Gate:
    """One installation in `folder`, its server process, and its people's key files (`<name>.key`).

    `tls`: served by a private CA's certificate, as trusted publishing needs it; plain only for what is measured.
    """

    folder: Path
    tell: Teller
    tls: bool = True
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[str] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "gate"

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    @property
    def upload_url(self) -> str:
        return f"{self.origin}/pypi/{UPSTREAM}/legacy/"

    @property
    def ca(self) -> Path:
        """Whom clients trust: the private CA that `init --trial-tls` has made."""
        return self.home / "gateway" / "tls" / "ca.pem"

    @property
    def _trust(self) -> str | bool:
        return str(self.ca) if self.tls else True

    def journal(self, question: Callable[[Connection], T]) -> T:
        """Asks the press's journal."""
        reader = Reader(self.home / "press" / "journal" / "journal.db")
        try:
            return reader.run(question)
        finally:
            reader.close()

    def command(self, *words: str, **environment: str) -> Answer:
        """`presspass WORDS`, to its end."""
        done = subprocess.run(
            [*_PRESSPASS, *words],
            env={
                **os.environ,
                "NO_COLOR": "1",
                "COLUMNS": "110",
                "XDG_CONFIG_HOME": str(self.folder.absolute()),  # its gates are not the user's
                **trusting(self.ca if self.ca.exists() else None),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S_MAX,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str, **environment: str) -> str:
        """A command that must work; what it prints."""
        answer = self.command(*words, **environment)
        if answer.exit_code != 0:
            raise DemoFailedError(
                f"presspass {' '.join(words[:2])} ended with {answer.exit_code}\n{answer.text}"
            )
        return answer.stdout

    def ask(self, *words: str, **environment: str) -> JsonObject:
        """A command that must work, with its answer as JSON."""
        value: JsonObject = json.loads(self.must(*words, "--format", "json", **environment))
        return value

    def begin(
        self, people: list[str], approvals: int, dials: tuple[int, ...] = (), **ids: str
    ) -> None:
        """init, serve, enrol everybody, seal.

        `dials`: ports of the issuer and the forge; `ids`: people's ids at the forge, by name.
        """
        words = ["init", "--home", str(self.home), "--url", self.origin, "--port", str(self.port)]
        words += [
            *(["--trial-tls"] if self.tls else []),
            "--software-keys",
            "--veto-window",
            "0s",
            "--key-wait",
            "0s",
            "--approvals",
            str(approvals),
        ]
        named = [f"{name}:{ids[name]}" if name in ids else name for name in people]
        made = self.ask(*words, *(word for name in named for word in ("--person", name)))
        self._let_dial(dials)
        self.serve()
        for name, link in zip(people, made["links"], strict=True):
            self.ask("enrol", str(link["url"]), "--software-passkey", str(self.key_file(name)))
        self.ask("init", "--seal", "--home", str(self.home), "--yes-all-fingerprints-compared")

    def _let_dial(self, ports: tuple[int, ...]) -> None:
        """Issuer and forge are on this machine's ports here; in service they are at 443, which is the default."""
        path = self.home / "presspass.toml"
        text = path.read_text()
        path.write_text(text.replace("ports = [443]", f"ports = [{', '.join(map(str, ports))}]"))

    def serve(self) -> None:
        """Starts `presspass serve` and waits until it says that it is ready."""
        self._forget_server()
        with (self.folder / "serve.log").open("a") as log:
            self.server = subprocess.Popen(
                [*_PRESSPASS, "serve", "--home", str(self.home), "--format", "json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.server.stdout.readline() if self.server.stdout else ""
        if not line:
            raise DemoFailedError(
                f"presspass serve did not start:\n{(self.folder / 'serve.log').read_text()[-2000:]}"
            )

    def stop(self) -> None:
        """Drains the server."""
        if self.server is not None:
            self.server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(15)
            if self.server.poll() is None:
                self.server.kill()
                self.server.wait()
        self._forget_server()

    def _forget_server(self) -> None:
        if self.server is not None and self.server.stdout is not None:
            self.server.stdout.close()
        self.server = None

    def add_upstream(
        self, upload_url: str, index_url: str, secret: str, signers: list[str]
    ) -> None:
        """The credential goes to the press, the statement before the approvers."""
        secret_file = self.folder / "credential"
        secret_file.touch(mode=0o600)
        secret_file.write_text(secret)
        words = ["upstream", "add", UPSTREAM, "--home", str(self.home), "--upload-url", upload_url]
        words += [
            "--index-url",
            index_url,
            "--username",
            "__token__",
            "--secret-file",
            str(secret_file),
        ]
        asked = self.ask(*words)
        secret_file.unlink()
        self.sign(str(asked["url"]), *signers)
        self.must("wait", str(asked["url"]), "--timeout", "20s")

    def token(self, project: str, person: str) -> str:
        """An upload token of the operator for one project, good for an hour: for what has no CI run behind it."""
        words = ["token", "create", "--home", str(self.home), "--project", project]
        words += ["--upstream", UPSTREAM, "--person", person, "--life", "1h"]
        return str(self.ask(*words)["token"])

    def bind(self, name: str, words: list[str], signers: list[str]) -> None:
        """Which workload may ask for what: put before the approvers, signed, in force."""
        asked = self.ask("publisher", "bind", name, "--home", str(self.home), *words)
        self.sign(str(asked["url"]), *signers)
        self.must("wait", str(asked["url"]), "--timeout", "20s")

    def page_of(self, project: str, version: str) -> str:
        """The page of the living release of a version: clients say nothing of it where all is well."""
        found: list[str] = []

        def look() -> bool:
            for one in self.ask("status", "--home", str(self.home))["releases"]:
                if (one["project"], one["version"]) == (project, version):
                    found.append(str(one["url"]))
            return bool(found)

        wait_until(look, f"{project} {version} is staged", _SETTLE_S_MAX)
        return found[-1]

    def submit(self, files: list[Path], job: Mapping[str, str]) -> JsonObject:
        """`presspass submit` as a step of a CI job: it proves what it is, binds its files, and needs no secret."""
        return self.ask("submit", *map(str, files), "--url", self.origin, **job)

    def sign(self, url: str, *names: str) -> None:
        """`presspass approve` by each of these people: fetches, inspects and compares everything itself, then signs."""
        for name in names:
            self.must("approve", url, "--software-passkey", str(self.key_file(name)), "--yes")
            self.tell.touches += 1

    def veto(self, url: str, name: str) -> None:
        """One veto."""
        self.must("veto", url, "--software-passkey", str(self.key_file(name)), "--yes")
        self.tell.touches += 1

    def key_file(self, name: str) -> Path:
        """Where this person's virtual key is kept."""
        return self.folder / f"{name.lower()}.key"

    def passkey(self, name: str) -> SoftwarePasskey:
        """This person's virtual key."""
        return SoftwarePasskey.load(self.key_file(name))

    def release(self, url: str) -> JsonObject:
        """What the gate says of a release now."""
        value: JsonObject = self.get(f"/api/v1/releases/{url.rsplit('/', 1)[-1]}").json()
        return value

    def get(self, path: str) -> httpx2.Response:
        """A GET at the gate."""
        return httpx2.get(f"{self.origin}{path}", trust_env=False, timeout=20, verify=self._trust)

    def post(self, path: str, body: bytes) -> httpx2.Response:
        """A POST of JSON at the gate."""
        headers = {"content-type": "application/json"}
        return httpx2.post(
            f"{self.origin}{path}",
            content=body,
            headers=headers,
            trust_env=False,
            timeout=20,
            verify=self._trust,
        )

    def until(self, url: str, holds: Callable[[JsonObject], bool], what: str) -> JsonObject:
        """The release, as soon as `holds` says so."""
        found: list[JsonObject] = []

        def look() -> bool:
            found.append(self.release(url))
            return holds(found[-1])

        try:
            wait_until(look, what, _SETTLE_S_MAX)
        except TimeoutError as error:
            raise DemoFailedError(
                f"{error}; the gate says: {json.dumps(found[-1])[:1500]}"
            ) from None
        return found[-1]

    def propose(self, body: Body, previous: str | None) -> str:
        """Puts a statement before the approvers over the gateway's control socket; returns its page."""
        now = int(time.time())
        genesis = self.journal(view.genesis)
        if genesis is None:
            raise DemoFailedError("there is no genesis")
        statement = Statement(
            genesis=genesis.digest,
            space=genesis.space,
            intent=Intent.APPROVE,
            body=body,
            heads=self.journal(view.heads),
            previous=previous,
            nonce=secrets.token_hex(16),
            issued_at=now,
            expires_at=now + 3600,
        )
        return str(self.control("/requests", {"statement": statement.to_bytes().decode()})["url"])

    def console_url(self) -> str:
        """A link to the console's list, good for looking only."""
        return str(self.control("/view-tokens", {})["url"])

    def control(self, path: str, value: dict[str, Any]) -> JsonObject:
        """A POST on the gateway's control socket."""
        transport = httpx2.HTTPTransport(uds=str(self.home / "gateway" / "control.sock"))
        with httpx2.Client(transport=transport, trust_env=False, timeout=20) as client:
            answer = client.post(f"http://gateway{path}", json=value)
        if not answer.is_success:
            raise DemoFailedError(f"the gateway did not take {path}: {answer.text}")
        found: JsonObject = answer.json()
        return found
