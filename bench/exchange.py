"""Workload identity, measured: exchanges of identity tokens, the pass of an upload, revocation at the gate.

The first two run the gateway's own code in this process, over a home of its own, so that CPU time is exactly theirs.
Tokens are signed beforehand; keys and workflow are at hand, as they are in a gate that runs.
"""

from __future__ import annotations

import json
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import rawhttp
from house import APPROVER, House
from presspass.core.digests import canonical, sha256_hex
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    Body,
    GenesisBody,
    Heads,
    Intent,
    RevocationBody,
    Statement,
)
from presspass.core.workload import Workload
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.issuer import Issuer
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.runner import GithubJob
from presspass.gateway import rights
from presspass.gateway.exchange.minting import Asked, Minting
from presspass.services import gateway as service
from presspass.services.config import Config, Listen, write_config
from presspass.services.layout import make_folders
from presspass.store import journal_tables as t
from presspass.store import migrate
from presspass.store.database import open_engine

_ORIGIN: Final = "http://localhost:8460"
_PROJECT, _NAME = "bench", "bench-ci"
_WORKFLOW: Final = b"on: push\n"
_GROUP: Final = 64  # exchanges under way at once, as many as one commit takes together


@dataclass(frozen=True, slots=True)
class _KnownWorkflow:
    """The workflow as it is in a gate that has seen this commit before; its git path is proved once for each."""

    def prove(self, _body: PublisherBody, _workload: Workload) -> tuple[bytes, bytes]:
        return b"{}", _WORKFLOW

    def show(self, _workload: Workload, _data: bytes) -> NoReturn:
        raise RuntimeError("nobody shows a workflow in the bench")


@contextmanager
def _minting(folder: Path, issuer: Issuer) -> Iterator[Minting]:
    make_folders(folder)
    config = Config(_ORIGIN, listen=Listen(port=0))
    write_config(folder, config)
    _journal(folder, issuer)
    with service.composed(service.Options(folder), config) as gate:
        yield Minting(gate, _KnownWorkflow())


def _journal(folder: Path, issuer: Issuer) -> None:
    """A press's journal with genesis and one publisher in force."""
    engine = open_engine(folder / "press" / "journal" / "journal.db")
    migrate.upgrade(engine, "journal")
    people = []
    for number, name in enumerate(("p-ana", "p-ben")):
        details = Details(name, (), (f"github:{7001 + number}",), "5" * 32)
        key = SoftwarePasskey.generate(number + 1).key
        people.append(Person(name, details.commitment, (), (key,)))
    body = GenesisBody(
        _ORIGIN, "localhost", Roster(tuple(people)), Policy(software_keys=True), "1" * 64, "2" * 64
    )
    genesis = _statement(body, HEAD_AT_GENESIS, None)
    publisher = _statement(_binding(issuer), genesis.digest, genesis.digest)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for height, one in enumerate((genesis, publisher)):
            row = {"digest": one.digest, "kind": one.kind.value, "statement": one.to_bytes()}
            connection.execute(t.STATEMENT.insert().values(**row, height=height, admitted_ms=1))
        connection.execute(t.FACT.insert().values(name="genesis", value=genesis.digest))
        for chain in ("roster", "policy", "revocation"):
            connection.execute(t.HEAD.insert().values(chain=chain, digest=genesis.digest, height=0))
        chain = f"publisher:{_NAME}"
        connection.execute(t.HEAD.insert().values(chain=chain, digest=publisher.digest, height=1))
        connection.exec_driver_sql("COMMIT")
    engine.dispose()


def _statement(body: Body, genesis: str, previous: str | None) -> Statement:
    now = int(time.time())
    heads = Heads(genesis, genesis, genesis)
    nonce = secrets.token_hex(16)
    return Statement(genesis, "main", Intent.APPROVE, body, heads, previous, nonce, now, now + 3600)


def _binding(issuer: Issuer) -> PublisherBody:
    return PublisherBody(
        name=_NAME, upstream="main", projects=(_PROJECT,), issuer=issuer.url, provider="github",
        ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
        repository="acme/greet", repository_url="", workflow=".github/workflows/release.yml",
        workflow_sha256=sha256_hex(_WORKFLOW), refs=("refs/tags/v*",), protected_refs_only=True,
        events=("push",), environment="release", self_hosted=False,
    )  # fmt: skip


def exchanges(folder: Path, count: int) -> tuple[float, float]:
    """(exchanges per CPU second of the whole process, CPU milliseconds of one check of a pass)."""
    with Issuer(clock=WorldClock.of_this_machine()) as issuer:
        tokens = [_token(issuer, number) for number in range(count + _GROUP)]
        with _minting(folder, issuer) as minting:
            secret = _mint(minting, tokens[:_GROUP])[-1]
            begin = time.process_time()
            _mint(minting, tokens[_GROUP:])
            rate = count / (time.process_time() - begin)
            return rate, _check_ms(minting, secret, count)


def _token(issuer: Issuer, number: int) -> str:
    job = GithubJob(run_id=str(number), ref="refs/tags/v1.0")
    return issuer.mint({**job.claims(), "aud": "presspass:localhost"})


def _mint(minting: Minting, tokens: list[str]) -> list[str]:
    secrets_: list[str] = []
    for start in range(0, len(tokens), _GROUP):
        group = [minting.begin(text, Asked()) for text in tokens[start : start + _GROUP]]
        secrets_ += [future.result().secret for future in group]
    return secrets_


def _check_ms(minting: Minting, secret: str, count: int) -> float:
    """What an upload asks of a pass: before its body is read, and again in the transaction that places the file."""
    gate = minting.gate
    with gate.writer.read() as connection:
        begin = time.thread_time()
        for _ in range(count):
            right = rights.check_right(connection, secret, gate.clock())
            rights.require_upstream(right, "main")
            rights.require_project(right, _PROJECT, "1.0", gate.projects_of(right))
            right = rights.again(connection, right, gate.clock())
            rights.require_project(right, _PROJECT, "1.0", gate.projects_of(right))
        return (time.thread_time() - begin) * 1000 / count


def revocations(house: House, count: int) -> float:
    """Seconds, 99th percentile: from a signed revocation's leaving until the gate refuses the first request after it.

    What is revoked is a pass that does not exist: the way through the gate is the same, and nothing needs a CI system.
    The next request that would be refused comes on another connection and reads what the first has committed.
    """
    took = []
    key = house.gate.passkey(APPROVER)
    trust = json.loads(rawhttp.ask(house.gate.port, "GET", "/api/v1/trust")[1])
    genesis = Statement.from_bytes(trust["genesis"].encode())
    heads = Heads.from_json(trust["heads"])
    for _ in range(count):
        body = RevocationBody("pass", secrets.token_hex(32), "measured")
        now = int(time.time())
        statement = Statement(
            genesis.digest, genesis.space, Intent.APPROVE, body, heads, None, secrets.token_hex(16), now, now + 600
        )  # fmt: skip
        data = statement.to_bytes()
        approval = key.approve(data, origin=house.gate.origin, rp_id="localhost")
        sent = canonical({"approval": approval.to_json(), "statement": data.decode()})
        begin = time.perf_counter()
        status, answer = rawhttp.ask(house.gate.port, "POST", "/api/v1/narrowings", sent)
        if status != 202:
            raise RuntimeError(f"a revocation was answered with {status}: {answer[:300]!r}")
        took.append(time.perf_counter() - begin)
    return statistics.quantiles(took, n=100)[98]
