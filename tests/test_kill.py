"""kill -9 anywhere: gateway, press, inspectors or the supervisor, at any moment of the whole flow.

One seed chooses the victims and the moments. People and clients do what they would do: run the same command again.
At the end there is exactly one upload per file, the ledger is intact, and the proof verifies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from presspass.core.digests import JsonObject
from presspass.core.statement import Statement
from presspass.drill.demo.gate import Gate
from presspass.drill.demo.tell import DemoFailedError, Teller
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.registry import Registry
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store import ledger_check
from presspass.verify.proof import Proof, check_proof

SEEDS_IN_CI, SEEDS_LONG = 25, 100
TOKEN = "upstream-credential-for-kill-tests"
LEASE_MS = 200
_FLOW_S_MAX = 240.0


@dataclass
class Prepared:
    """A sealed home with an upstream and an upload token, copied for each seed."""

    gate: Gate
    registry: Registry
    token: str
    genesis: str


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("prepared")
    with Registry(seed=1, token=TOKEN) as registry:
        gate = Gate(folder, Teller(), tls=False)
        try:
            gate.begin(["Ana", "Ben"], approvals=1)
            config = gate.home / "presspass.toml"
            config.write_text(
                config.read_text().replace("lease_ms = 30000", f"lease_ms = {LEASE_MS}")
            )
            gate.add_upstream(registry.upload_url, registry.simple_url, TOKEN, ["Ana", "Ben"])
            token = gate.token("demo", "Ana")
            genesis = gate.journal(view.genesis)
        finally:
            gate.stop()
        assert genesis is not None
        assert f"lease_ms = {LEASE_MS}" in config.read_text()
        yield Prepared(gate, registry, token, genesis.digest)


@dataclass
class Run:
    """One seed: a gate on a copy of the home, and somebody who kills."""

    prepared: Prepared
    folder: Path
    seed: int
    gate: Gate = field(init=False)
    killed: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate = Gate(self.folder, Teller(), tls=False, port=self.prepared.gate.port)
        shutil.copytree(
            self.prepared.gate.home,
            self.gate.home,
            ignore=shutil.ignore_patterns("*.sock", "*-shm"),
        )
        for key in self.prepared.gate.folder.glob("*.key"):
            shutil.copy(key, self.folder)

    def kill_at_random(self) -> None:
        """Up to three kills, the supervisor included; the supervisor is started again as systemd would."""
        dice = random.Random(self.seed)
        for _ in range(dice.randint(1, 3)):
            if self.done.wait(dice.uniform(0.0, 0.6)):
                return
            victims = self._processes()
            if victims:
                name, pid = dice.choice(sorted(victims))
                self.killed.append(name)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if name == "supervisor":
                    self._start_again()

    def _start_again(self) -> None:
        """As often as systemd would: while what the killed one has started is still ending, the next one gives up."""
        assert self.gate.server is not None
        self.gate.server.wait()
        while not self.done.is_set():
            with contextlib.suppress(DemoFailedError):
                self.gate.serve()
                return

    def _processes(self) -> list[tuple[str, int]]:
        server = self.gate.server
        if server is None or server.poll() is not None:
            return []
        found = [("supervisor", server.pid)]
        for pid in _children(server.pid):
            name = "gateway" if b"services.gateway" in _command(pid) else "press"
            found.append((name, pid))
            found += [(f"{name}'s inspector", child) for child in _children(pid)]
        return found

    def flow(self, files: list[Path], version: str) -> JsonObject:
        """Upload, close, sign, wait: each step repeated until it works."""
        deadline = time.monotonic() + _FLOW_S_MAX
        page = ""
        for path in files:
            answer = _insist(lambda path=path: self._upload(path), deadline)
            page = answer.headers["location"]
        release = page.rsplit("/", 1)[-1]
        bearer = {"authorization": f"Bearer {self.prepared.token}"}
        _insist(
            lambda: httpx2.post(
                f"{self._base}/api/v1/releases/{release}/close", headers=bearer, timeout=5
            ),
            deadline,
        )
        found = self._until(
            release, {"awaiting", "approved", "publishing", "published", "verified"}, deadline
        )
        statement = Statement.from_bytes(found["statement"].encode())
        for name in ("Ben", "Ana"):  # Ana asked: her signature proves that, Ben's approves
            self._sign(statement, name, deadline)
        return self._until(release, {"verified"}, deadline)

    def _sign(self, statement: Statement, name: str, deadline: float) -> None:
        key = SoftwarePasskey.load(self.gate.key_file(name))
        approval = key.approve(
            statement.to_bytes(), origin=self.gate.origin, rp_id="localhost"
        ).to_bytes()
        url = f"{self._base}/api/v1/requests/{statement.digest}/approvals"
        _insist(lambda: httpx2.post(url, content=approval, timeout=5), deadline)

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self.gate.port}"

    def _upload(self, path: Path) -> httpx2.Response:
        form = {":action": "file_upload", "protocol_version": "1", "sha256_digest": _sha256(path)}
        content = {"content": (path.name, path.read_bytes())}
        auth = httpx2.BasicAuth("__token__", self.prepared.token)
        return httpx2.post(
            f"{self._base}/pypi/main/legacy/", data=form, files=content, auth=auth, timeout=5
        )

    def _until(self, release: str, states: set[str], deadline: float) -> JsonObject:
        while True:
            found: JsonObject = _insist(
                lambda: httpx2.get(f"{self._base}/api/v1/releases/{release}", timeout=5), deadline
            ).json()
            if found["state"] in states:
                return found
            assert found["state"] not in {"rejected", "failed", "expired", "withdrawn"}, found
            assert time.monotonic() < deadline, f"killed {self.killed}; the gate says {found}"
            time.sleep(0.02)


def _run_seed(prepared: Prepared, folder: Path, seed: int) -> None:
    version = f"1.{seed}"
    files = [make_wheel(folder, "demo", version), make_sdist(folder, "demo", version)]
    run = Run(prepared, folder, seed)
    run.gate.serve()
    killer = threading.Thread(target=run.kill_at_random)
    try:
        killer.start()
        found = run.flow(files, version)
        run.done.set()
        killer.join()
    finally:
        run.done.set()
        killer.join()
        run.gate.stop()
    for path in files:
        assert prepared.registry.accepted(path.name) == 1, (path.name, run.killed)
        assert prepared.registry.files()[path.name] == _sha256(path)
    _check_journal(run, found, files, prepared.genesis)


def _check_journal(run: Run, found: JsonObject, files: list[Path], genesis: str) -> None:
    engine = sa.create_engine(f"sqlite:///{run.gate.home}/press/journal/journal.db")
    with engine.connect() as connection:
        assert ledger_check.check(connection) > 0
        entries = [row.entry for row in connection.execute(sa.select(t.LEDGER_ENTRY))]
        for path in files:
            proof = view.proof(connection, found["request"], path.name)
            assert proof is not None
            check_proof(
                Proof.from_bytes(proof),
                filename=path.name,
                sha256=_sha256(path),
                size=path.stat().st_size,
                trust_root=genesis,
            )
    engine.dispose()
    assert sum(b'"kind":"verified"' in entry for entry in entries) == 1
    assert sum(b'"kind":"intent"' in entry for entry in entries) == 1


@pytest.mark.parametrize("seed", range(SEEDS_IN_CI))
def test_kill_9_anywhere_ends_with_one_upload_and_an_intact_log(
    prepared: Prepared, tmp_path: Path, seed: int
) -> None:
    _run_seed(prepared, tmp_path, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEEDS_IN_CI, SEEDS_LONG))
def test_kill_9_anywhere_many_more_seeds(prepared: Prepared, tmp_path: Path, seed: int) -> None:
    _run_seed(prepared, tmp_path, seed)


def _insist(ask: Callable[[], httpx2.Response], deadline: float) -> httpx2.Response:
    """Runs the same request again until it is answered well: connections die when processes do."""
    said = ""
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except httpx2.HTTPError as error:
            said = repr(error)
        else:
            if answer.is_success:
                return answer
            said = answer.text
            assert answer.status_code not in (400, 401, 403), said
        time.sleep(0.05)
    raise AssertionError(f"no good answer in time: {said}")


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
