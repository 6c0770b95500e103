"""A real gateway process over a fresh home whose journal a test has written, and the small clients to talk to it.

The journal is written through the press's own tables, so that the gateway meets what it would meet in service, and each
test can say what the press has decided without running one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

import backends
from presspass.core.policy import Policy
from presspass.core.roster import Details, Key, Person, Roster
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    GenesisBody,
    Heads,
    Intent,
    RosterBody,
    Statement,
    UpstreamBody,
)
from presspass.drill.world.keys import SoftwarePasskey
from presspass.gateway.tls.trial import make_trial
from presspass.services.config import Config, Listen, Tls, write_config
from presspass.services.layout import FOLDERS, make_folders
from presspass.services.places import places
from presspass.store import gateway_tables as g
from presspass.store import history, migrate
from presspass.store import journal_tables as j
from presspass.store.address import Place
from presspass.store.database import Reader, Writer, open_engine

ORIGIN, RP_ID = "http://localhost:8460", "localhost"
UPSTREAM, PROJECT = "private", "greet"
WAIT_S = 60.0


@dataclass
class JournalFixture:
    """The press's journal as a test wants it to be."""

    place: Place
    policy: Policy = field(
        default_factory=lambda: Policy(
            approval_life_s=3600, quiet_period_s=3600, software_keys=True
        )
    )
    people: dict[str, list[Key]] = field(default_factory=dict)
    genesis: str = ""
    roster_head: str = ""
    upstream: str = ""
    origin: str = ORIGIN

    def __post_init__(self) -> None:
        engine = open_engine(self.place)
        migrate.bring_up(engine, "journal")
        self.writer = Writer(engine)

    def write(self, *changes: sa.Executable) -> None:
        """All of `changes` in one transaction."""
        self.writer.run(lambda connection: [connection.execute(change) for change in changes])

    def seal(self, people: Mapping[str, Sequence[Key]]) -> None:
        """Genesis with these people, and the upstream UPSTREAM."""
        self.people = {person: list(keys) for person, keys in people.items()}
        body = GenesisBody(self.origin, RP_ID, self.roster(), self.policy, "1" * 64, "2" * 64)
        heads = Heads(HEAD_AT_GENESIS, HEAD_AT_GENESIS, HEAD_AT_GENESIS)
        genesis = self._statement(body, HEAD_AT_GENESIS, heads, None)
        self.genesis = self.roster_head = genesis.digest
        self._admit(genesis, "roster", "policy", "revocation", genesis=True)
        index = "https://index.example"
        upstream = UpstreamBody(
            UPSTREAM, "pypi", f"{index}/legacy/", f"{index}/simple/", "", "custody", "3" * 64
        )
        statement = self._statement(upstream, self.genesis, self.heads(), self.genesis)
        self.upstream = statement.digest
        self._admit(statement, f"upstream:{UPSTREAM}")

    def set_roster(self, people: Mapping[str, Sequence[Key]]) -> None:
        """An admitted roster statement."""
        self.people = {person: list(keys) for person, keys in people.items()}
        statement = self._statement(
            RosterBody(self.roster()), self.genesis, self.heads(), self.roster_head
        )
        self._admit(statement, "roster")
        self.roster_head = statement.digest

    def roster(self) -> Roster:
        """The people as a roster."""
        return Roster(
            tuple(
                Person(
                    person,
                    details_of(person).commitment,
                    (),
                    tuple(sorted(keys, key=lambda key: key.id)),
                )
                for person, keys in sorted(self.people.items())
            )
        )

    def latch(self, stop: str, person: str, **more: str) -> None:
        """The press has latched a stop of `person`; `more`: other columns."""
        row = {"id": stop, "what": "person", "target": person, "by": "", "reason": "seen"}
        row |= {"source": "drop box", "seen_ms": 1} | more
        self.write(sa.insert(j.NARROWING).values(row))

    def heads(self) -> Heads:
        return Heads(self.roster_head, self.genesis, self.genesis)

    def decide(
        self, statement: str, release: str, state: str, code: str = "", message: str = ""
    ) -> None:
        """What the press thinks of a statement."""
        now = now_ms()
        row = {
            "statement": statement,
            "kind": "release",
            "release": release,
            "state": state,
            "code": code,
            "message": message,
            "first_seen_ms": now,
            "updated_ms": now,
        }
        old = sa.delete(j.DECISION).where(j.DECISION.c.statement == statement)
        self.write(old, sa.insert(j.DECISION).values(row))

    def publish(self, version: str, files: Mapping[str, bytes], statement: str = "4" * 64) -> None:
        """Files that the press has sent."""
        rows = [
            {
                "upstream": UPSTREAM,
                "filename": name,
                "project": PROJECT,
                "version": version,
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "statement": statement,
                "verified_ms": now_ms(),
            }
            for name, data in files.items()
        ]
        self.write(*(sa.insert(j.PUBLISHED_FILE).values(row) for row in rows))

    def statement(self, body: Any, previous: str | None = None) -> Statement:
        """A statement under the present heads."""
        return self._statement(body, self.genesis, self.heads(), previous)

    def _statement(self, body: Any, genesis: str, heads: Heads, previous: str | None) -> Statement:
        now = int(time.time())
        return Statement(
            genesis,
            "main",
            Intent.APPROVE,
            body,
            heads,
            previous,
            os.urandom(16).hex(),
            now,
            now + 3600,
        )

    def _admit(self, statement: Statement, *chains: str, genesis: bool = False) -> None:
        now = now_ms()
        facets = history.facet_rows(statement, (), self.genesis, now)
        changes: list[sa.Executable] = [
            sa.insert(j.STATEMENT_FACET).values(facets),
            sa.insert(j.STATEMENT).values(
                digest=statement.digest,
                kind=statement.kind.value,
                statement=statement.to_bytes(),
                height=sa.select(sa.func.count()).select_from(j.STATEMENT).scalar_subquery(),
                admitted_ms=now,
            ),
        ]
        if genesis:
            changes.append(sa.insert(j.FACT).values(name="genesis", value=statement.digest))
        for chain in chains:
            changes.append(sa.delete(j.HEAD).where(j.HEAD.c.chain == chain))
            changes.append(sa.insert(j.HEAD).values(chain=chain, digest=statement.digest, height=1))
        self.write(*changes)


@dataclass
class HttpAnswer:
    """Status, reason phrase, headers and body of one answer."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json.get("code", ""))


class GatewayProcess:
    """`python -m presspass.services.gateway` over `home`."""

    def __init__(self, home: Path, *more: str) -> None:
        self.home = home
        self._more = more
        self._supervised: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> Self:
        end_for_child, self._supervised = os.pipe()
        command = [
            sys.executable,
            "-m",
            "presspass.services.gateway",
            "--home",
            str(self.home),
            "--port",
            "0",
        ]
        command += ["--fd-supervisor", str(end_for_child), *self._more]
        log = (self.home / "gateway.log").open("ab")
        try:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=(end_for_child,),
            )
        finally:
            log.close()
            os.close(end_for_child)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the gateway did not start: {self.log()}"
        said = json.loads(line)
        assert said["ready"] is True
        self.port = said["port"]
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return (self.home / "gateway.log").read_text(errors="replace")

    def events(self) -> list[dict[str, Any]]:
        """Lines of JSON on its standard error."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """Closes the supervisor's pipe; the exit code."""
        if self.process is None:
            return 0
        if self._supervised is not None:
            os.close(self._supervised)
            self._supervised = None
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        if self._supervised is not None:
            os.close(self._supervised)
            self._supervised = None
        try:
            code = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()


class World:
    """A home, its journal, its gateway, two people with software passkeys, and ways to talk to the gateway.

    With `tls` the gateway speaks TLS with a certificate of a private CA, for `localhost` and 127.0.0.1; clients must
    trust `ca` (`peers.trusting(world.ca)`; None without TLS). `config` stands in for the whole configuration.
    """

    def __init__(
        self,
        home: Path,
        *more: str,
        sealed: bool = True,
        policy: Policy | None = None,
        tls: bool = False,
        config: Config | None = None,
    ) -> None:
        with contextlib.suppress(FileExistsError):
            make_folders(home)
        for name in FOLDERS:
            (home / name).mkdir(exist_ok=True)
        if config is None:
            mode = Tls("private-ca") if tls else Tls()
            origin = ORIGIN.replace("http:", "https:") if tls else ORIGIN
            config = Config(origin, listen=Listen(port=0), tls=mode)
        config = replace(config, database=backends.section())
        write_config(home, config)
        self.home, self.config = home, config
        self.ca: Path | None = None
        if config.tls.mode == "private-ca":
            self.ca = make_trial(home / "gateway" / "tls", config.hosts)
        self.journal = JournalFixture(places(home, config, "press").journal, origin=config.origin)
        if policy is not None:
            self.journal.policy = policy
        self.ada, self.grace = SoftwarePasskey.generate(1), SoftwarePasskey.generate(2)
        if sealed:
            self.journal.seal({"ada": [self.ada.key], "grace": [self.grace.key]})
        self.gateway = GatewayProcess(home, *more)

    @property
    def url(self) -> str:
        if self.config.tls.mode != "off":
            return f"https://localhost:{self.gateway.port}"
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def upload_url(self) -> str:
        return f"{self.url}/pypi/{UPSTREAM}/legacy/"

    # HTTP

    def ask(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, **headers: str
    ) -> HttpAnswer:
        """One request on a connection of its own."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = self._connection()
        return _ask(connection, method, path, data, headers)

    def _connection(self) -> http.client.HTTPConnection:
        port = self.gateway.port
        if self.config.tls.mode == "off":
            return http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection("localhost", port, timeout=WAIT_S, context=context)

    def control(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None
    ) -> HttpAnswer:
        """One request on the control socket."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = _UnixConnection(self.home / "gateway" / "control.sock")
        return _ask(connection, method, path, data, {})

    def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Sends bytes as they are and reads until the server closes; what could be read of the answer."""
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=WAIT_S) as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            if half_close:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_WR)
            answer = bytearray()
            with contextlib.suppress(ConnectionResetError):
                while piece := client.recv(65536):
                    answer += piece
        return bytes(answer)

    # uploads

    def token(self, project: str = PROJECT, person: str = "ada", life_s: int = 3600) -> str:
        """An upload token, by the control socket."""
        asked = {"upstream": UPSTREAM, "project": project, "person": person, "life_s": life_s}
        answer = self.control("POST", "/tokens", asked)
        assert answer.status == 201, answer.body
        return str(answer.json["token"])

    def upload(self, token: str, filename: str, data: bytes, **more: Any) -> HttpAnswer:
        """A well-formed upload; `more` as for `form`, and `upstream`."""
        upstream = more.pop("upstream", UPSTREAM)
        content_type, body = form(filename, data, **more)
        return self.ask(
            "POST",
            f"/pypi/{upstream}/legacy/",
            body,
            **{"Content-Type": content_type, "Authorization": basic(token)},
        )

    def release(self, release_id: str) -> dict[str, Any]:
        """A release as the API shows it."""
        answer = self.ask("GET", f"/api/v1/releases/{release_id}")
        assert answer.status == 200, answer.body
        return dict(answer.json)

    def until(self, release_id: str, *states: str) -> dict[str, Any]:
        """The release once it is in one of these states."""
        return until(
            lambda: (found := self.release(release_id))["state"] in states and found, str(states)
        )

    # the database, read-only

    def rows(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        """Rows of the gateway's database."""
        reader = Reader(places(self.home, self.config, "press").gateway)
        try:
            return reader.run(lambda connection: list(connection.execute(query).all()))
        finally:
            reader.close()

    def refusals(self, token: str) -> list[sa.Row[Any]]:
        """The events of what was refused to this token. They are written behind the answer: wait for the last one."""
        mark = hashlib.sha256(token.encode()).hexdigest()[:16]
        rows = self.rows(sa.select(g.EVENT).order_by(g.EVENT.c.id))
        return [row for row in rows if row.detail.startswith(f"{mark}: ")]

    def count(self, table: sa.Table) -> int:
        return len(self.rows(sa.select(table)))

    def blobs(self) -> list[Path]:
        """Every file in the folder of blobs."""
        folder = self.home / "gateway" / "blobs" / "sha256"
        return [path for path in folder.rglob("*") if path.is_file()]

    def leftovers(self) -> list[Path]:
        """Every file in the temporary folder, which on PostgreSQL is beside the blobs."""
        folders = (self.home / "gateway" / "tmp", self.home / "gateway" / "blobs" / "incoming")
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    def __enter__(self) -> Self:
        self.gateway.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.gateway.stop()
        self.journal.writer.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=WAIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(str(self._path))


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> HttpAnswer:
    with contextlib.closing(connection):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        found: dict[str, str] = {}
        for name, value in answer.getheaders():  # one that is there twice: on lines of their own
            known = found.get(name.lower())
            found[name.lower()] = value if known is None else f"{known}\n{value}"
        return HttpAnswer(answer.status, answer.reason, found, answer.read())


def basic(token: str, user: str = "__token__") -> str:
    """The Authorization header that clients send."""
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


def form(
    filename: str,
    data: bytes,
    *,
    fields: Sequence[tuple[str, str]] | None = None,
    after: Sequence[tuple[str, str]] = (),
    content: str = "content",
    boundary: str = "a-boundary-of-the-tests",
) -> tuple[str, bytes]:
    """(content type, body) of an upload form; by default with a right sha256."""
    if fields is None:
        fields = [(":action", "file_upload"), ("sha256_digest", hashlib.sha256(data).hexdigest())]
    parts = [_field(boundary, name, value) for name, value in fields]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{content}"; filename="{filename}"\r\n\r\n'
    parts += [head.encode(), data, b"\r\n"]
    parts += [_field(boundary, name, value) for name, value in after]
    parts.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(parts)


def _field(boundary: str, name: str, value: str) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    )


def details_of(person: str) -> Details:
    """A person's details, the same each time."""
    return Details(person.capitalize(), (f"mailto:{person}@people.example",), (), "5" * 32)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)
    return found


def release_statement(release: Mapping[str, Any]) -> bytes:
    """The statement that approvers of this release sign."""
    return str(release["statement"]).encode()


__all__ = [
    "ORIGIN", "PROJECT", "RP_ID", "UPSTREAM", "GatewayProcess", "HttpAnswer", "JournalFixture", "World", "basic",
    "details_of", "form", "now_ms", "release_statement", "until",
]  # fmt: skip
