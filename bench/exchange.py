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

import sqlalchemy as sa
from sqlalchemy.engine import Connection

import rawhttp
from house import APPROVER, House
from presspass.cli.drop import drop_unsigned_revocation
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
    UpstreamBody,
)
from presspass.core.workload import Workload
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.issuer import Issuer
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.runner import GithubJob
from presspass.gateway import rights
from presspass.gateway.exchange.minting import Asked, Minting
from presspass.services import gateway as service
from presspass.services.config import Config, Database, Listen, read_config, write_config
from presspass.services.layout import make_folders
from presspass.services.places import places
from presspass.store import journal_tables as t
from presspass.store import migrate
from presspass.store.database import Reader, Writer, open_engine

ORIGIN: Final = "http://localhost:8460"
UPSTREAM, PROJECT = "main", "bench"
_NAME: Final = "bench-ci"
_WORKFLOW: Final = b"on: push\n"
_POLL_S: Final = 0.005
_LATCHED_S_MAX: Final = 30.0
_GROUP: Final = 64  # exchanges under way at once, as many as one commit takes together


@dataclass(frozen=True, slots=True)
class _KnownWorkflow:
    """The workflow as it is in a gate that has seen this commit before; its git path is proved once for each."""

    def prove(self, _body: PublisherBody, _workload: Workload) -> tuple[bytes, bytes]:
        return b"{}", _WORKFLOW

    def show(self, _workload: Workload, _data: bytes) -> NoReturn:
        raise RuntimeError("nobody shows a workflow in the bench")


@contextmanager
def minting(folder: Path) -> Iterator[Minting]:
    """The exchange over the home `folder`, whose configuration and journal are there."""
    with service.composed(service.Options(folder), read_config(folder)) as gate:
        yield Minting(gate, _KnownWorkflow())


def make_home(folder: Path, database: Database | None = None) -> None:
    """A home with its configuration."""
    make_folders(folder)
    write_config(folder, Config(ORIGIN, listen=Listen(port=0), database=database or Database()))


def make_journal(home: Path, issuer: Issuer) -> Statement:
    """A press's journal with genesis, an upstream, and one publisher in force; genesis."""
    engine = open_engine(places(home, read_config(home), "press").journal)
    migrate.bring_up(engine, "journal")
    genesis = genesis_of("1" * 64)
    index = "https://index.example"
    bodies: dict[str, Body] = {
        f"upstream:{UPSTREAM}": UpstreamBody(
            UPSTREAM, "pypi", f"{index}/legacy/", f"{index}/simple/", "", "custody", "3" * 64
        ),
        f"publisher:{_NAME}": _binding(issuer),
    }
    admitted = {
        chain: _statement(body, genesis.digest, genesis.digest) for chain, body in bodies.items()
    }

    def work(connection: Connection) -> None:
        for height, one in enumerate((genesis, *admitted.values())):
            row = {"digest": one.digest, "kind": one.kind.value, "statement": one.to_bytes()}
            connection.execute(t.STATEMENT.insert().values(**row, height=height, admitted_ms=1))
        connection.execute(t.FACT.insert().values(name="genesis", value=genesis.digest))
        heads = dict.fromkeys(("roster", "policy", "revocation"), genesis)
        for chain, one in (heads | admitted).items():
            height = 0 if one is genesis else 1
            connection.execute(
                t.HEAD.insert().values(chain=chain, digest=one.digest, height=height)
            )

    writer = Writer(engine)
    writer.run(work)
    writer.close()
    return genesis


def genesis_of(log_key: str) -> Statement:
    """Of an installation of two people, whose ledger is signed by this key (public half, hex)."""
    people = []
    for number, name in enumerate(("p-ana", "p-ben")):
        details = Details(name, (), (f"github:{7001 + number}",), "5" * 32)
        people.append(Person(name, details.commitment, (), (signer(number).key,)))
    roster, policy = Roster(tuple(people)), Policy(software_keys=True)
    body = GenesisBody(ORIGIN, "localhost", roster, policy, log_key, "2" * 64)
    return _statement(body, HEAD_AT_GENESIS, None)


def signer(number: int) -> SoftwarePasskey:
    """The key of one of the two people in the journal."""
    return SoftwarePasskey.generate(number + 1)


def _statement(body: Body, genesis: str, previous: str | None) -> Statement:
    now = int(time.time())
    heads = Heads(genesis, genesis, genesis)
    nonce = secrets.token_hex(16)
    return Statement(genesis, "main", Intent.APPROVE, body, heads, previous, nonce, now, now + 3600)


def _binding(issuer: Issuer) -> PublisherBody:
    return PublisherBody(
        name=_NAME, upstream=UPSTREAM, projects=(PROJECT,), issuer=issuer.url, provider="github",
        ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
        repository="acme/greet", repository_url="", workflow=".github/workflows/release.yml",
        workflow_sha256=sha256_hex(_WORKFLOW), refs=("refs/tags/v*",), protected_refs_only=True,
        events=("push",), environment="release", self_hosted=False,
    )  # fmt: skip


def exchanges(folder: Path, count: int) -> tuple[float, float]:
    """(exchanges per CPU second of the whole process, CPU milliseconds of one check of a pass)."""
    with Issuer(clock=WorldClock.of_this_machine()) as issuer:
        tokens = [token(issuer, str(number), "1.0") for number in range(count + _GROUP)]
        make_home(folder)
        make_journal(folder, issuer)
        with minting(folder) as found:
            secret = mint(found, tokens[:_GROUP])[-1]
            begin = time.process_time()
            mint(found, tokens[_GROUP:])
            rate = count / (time.process_time() - begin)
            return rate, _check_ms(found, secret, count)


def token(issuer: Issuer, run: str, version: str) -> str:
    """The identity token of a job that was started by the tag of `version`."""
    job = GithubJob(run_id=run, ref=f"refs/tags/v{version}")
    return issuer.mint({**job.claims(), "aud": "presspass:localhost"})


def mint(minting: Minting, tokens: list[str]) -> list[str]:
    """A pass for each of `tokens`."""
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
            rights.require_upstream(right, UPSTREAM)
            rights.require_project(right, PROJECT, "1.0", gate.projects_of(right))
            right = rights.again(connection, right, gate.clock())
            rights.require_project(right, PROJECT, "1.0", gate.projects_of(right))
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
        sent = revocation(genesis, heads, key, house.gate.origin, secrets.token_hex(32))
        begin = time.perf_counter()
        status, answer = rawhttp.ask(house.gate.port, "POST", "/api/v1/narrowings", sent)
        if status != 202:
            raise RuntimeError(f"a revocation was answered with {status}: {answer[:300]!r}")
        took.append(time.perf_counter() - begin)
    return statistics.quantiles(took, n=100, method="inclusive")[98]


def dropped(house: House, count: int) -> float:
    """Seconds, 99th percentile: from when the file is durable in the drop box until the press's journal has it latched.

    It is a pass that does not exist, as above.
    """
    took = []
    home = house.gate.home
    reader = Reader(places(home, read_config(home), "press").journal)
    latched = sa.select(t.NARROWING.c.id)
    for _ in range(count):
        target = secrets.token_hex(32)
        drop_unsigned_revocation(home / "drop", RevocationBody("pass", target, "measured"))
        begin = time.perf_counter()
        found = latched.where(t.NARROWING.c.target == target)
        while not reader.run(lambda c, found=found: c.execute(found).first()):
            if time.perf_counter() - begin > _LATCHED_S_MAX:
                raise RuntimeError("the press does not look into the drop box")
            time.sleep(_POLL_S)
        took.append(time.perf_counter() - begin)
    reader.close()
    return statistics.quantiles(took, n=100, method="inclusive")[98]


def revocation(
    genesis: Statement, heads: Heads, key: SoftwarePasskey, origin: str, target: str
) -> bytes:
    """The body that ends the pass `target` (SHA-256 of its secret, hex), signed."""
    body, now = RevocationBody("pass", target, "measured"), int(time.time())
    statement = Statement(
        genesis.digest, genesis.space, Intent.APPROVE, body, heads, None, secrets.token_hex(16), now, now + 600
    )  # fmt: skip
    data = statement.to_bytes()
    approval = key.approve(data, origin=origin, rp_id="localhost")
    return canonical({"approval": approval.to_json(), "statement": data.decode()})
