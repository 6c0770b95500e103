"""Several gateways on one PostgreSQL: how long a revocation takes until each of them refuses what was revoked.

The server waits for the disk. Gateways are processes as they are in an installation, each with a home of its own; the
passes are exchanged in this process, which is one more gateway.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import exchange
import rawhttp
from presspass.core.digests import sha256_hex
from presspass.core.statement import Heads, Statement
from presspass.drill.peers import Postgresql, end_process
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.issuer import Issuer
from presspass.gateway.exchange.minting import Minting
from presspass.services.config import Database
from presspass.store import provision
from presspass.store.address import Roles
from rawhttp import Door, Line, Prepared, must
from wheels import small_wheel

_DATABASE: Final = "bench"
_WHEEL_BYTES: Final = 2_000
_ASK_AGAIN_S: Final = 0.01
_REFUSED_S_MAX: Final = 30.0
_STOP_S_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Nodes:
    """Gateways that run, by their ports, over a journal with `genesis`; and what their passes come from."""

    ports: tuple[int, ...]
    genesis: Statement
    minting: Minting
    issuer: Issuer


@contextlib.contextmanager
def nodes(folder: Path, count: int) -> Iterator[Nodes]:
    """`count` gateways below `folder`; everything is ended afterwards."""
    with contextlib.ExitStack() as stack:
        # Where every user of the machine gets to, and on disk: root starts the server as the user postgres.
        away = stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))
        server = stack.enter_context(Postgresql(Path(away), durable=True))
        server.admin(f"CREATE DATABASE {_DATABASE} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        provision.prepare(server.url(_DATABASE, server.USER), Roles(), {})
        homes = [folder / f"node-{number}" for number in range(count + 1)]
        for home in homes:
            exchange.make_home(home, Database(server.url(_DATABASE)))
        for home in homes[1:]:
            (home / "gateway" / "blobs").rmdir()
            (home / "gateway" / "blobs").symlink_to(homes[0] / "gateway" / "blobs")
        issuer = stack.enter_context(Issuer(clock=WorldClock.of_this_machine()))
        genesis = exchange.make_journal(homes[0], issuer)
        minting = stack.enter_context(exchange.minting(homes[0]))
        started = [(home, stack.enter_context(_gateway(home))) for home in homes[1:]]
        yield Nodes(tuple(_port(*one) for one in started), genesis, minting, issuer)


@contextlib.contextmanager
def _gateway(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-m",
        "presspass.services.gateway",
        "--home",
        str(home),
        "--port",
        "0",
    ]
    with (home / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
    try:
        yield process
    finally:
        end_process(process, _STOP_S_MAX)
        if process.stdout is not None:
            process.stdout.close()


def _port(home: Path, gateway: subprocess.Popen[bytes]) -> int:
    line = gateway.stdout.readline() if gateway.stdout else b""
    if not line:
        said = (home / "gateway.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"a gateway did not start: {said}")
    return int(json.loads(line)["port"])


def revocation_s(folder: Path, count: int, rounds: int) -> float:
    """Seconds, 99th percentile over `rounds`: from a signed revocation's leaving for one of `count` gateways until
    every one of them has refused an upload with the pass. Each is asked again and again meanwhile.
    """
    with nodes(folder, count) as found, ThreadPoolExecutor(count) as pool:
        took = [_round_s(found, number, pool) for number in range(rounds + 1)]
    return statistics.quantiles(took[1:], n=100, method="inclusive")[98]


def _round_s(found: Nodes, number: int, pool: ThreadPoolExecutor) -> float:
    version = f"1.{number}"
    text = exchange.token(found.issuer, str(number), version)
    (secret,) = exchange.mint(found.minting, [text])
    wheel = small_wheel(exchange.PROJECT, version, _WHEEL_BYTES)
    path = f"/pypi/{exchange.UPSTREAM}/legacy/"
    genesis = found.genesis
    heads = Heads(genesis.digest, genesis.digest, genesis.digest)
    target = sha256_hex(secret.encode())
    body = exchange.revocation(genesis, heads, exchange.signer(0), exchange.ORIGIN, target)
    ready = threading.Barrier(len(found.ports) + 1)

    def refused_at(port: int) -> float:
        request = Prepared.upload(Door(port, path, secret), wheel)
        with Line(port) as line:
            must(line, request)
            ready.wait(_REFUSED_S_MAX)
            return _refused_at(line, request)

    asking = [pool.submit(refused_at, port) for port in found.ports]
    ready.wait(_REFUSED_S_MAX)
    begin = time.perf_counter()
    told = found.ports[number % len(found.ports)]
    status, answer = rawhttp.ask(told, "POST", "/api/v1/narrowings", body)
    if status != 202:
        raise RuntimeError(f"a revocation was answered with {status}: {answer[:300]!r}")
    return max(one.result() for one in asking) - begin


def _refused_at(line: Line, request: Prepared) -> float:
    """When an upload was refused because its pass has ended (perf_counter)."""
    deadline = time.monotonic() + _REFUSED_S_MAX
    while time.monotonic() < deadline:
        status, answer = line.send(request)
        now = time.perf_counter()
        if status == 403 and json.loads(answer)["code"] == "pass.ended":
            return now
        if status != 202:
            raise RuntimeError(f"an upload was answered with {status}: {answer[:300]!r}")
        time.sleep(_ASK_AGAIN_S)
    raise RuntimeError(f"a gateway still takes a revoked pass after {_REFUSED_S_MAX:g} s")
