"""The ledger, measured: appends in batches, one by one and 16 at once, beside bare commits of the same disk; a million
entries: how large they are, how long a proof of one takes, and an audit of all.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

import exchange
import procfs
from presspass.core.digests import JsonObject, canonical
from presspass.core.ledger import merkle, tiles
from presspass.core.statement import GenesisBody, Statement
from presspass.press.log import Log
from presspass.store import history, ledger_view, migrate
from presspass.store.database import Writer, open_engine
from presspass.store.journal_tables import LEDGER_MENTION

CROWD: Final = 16
_BATCH: Final = 1000
_PROOFS: Final = 200
_STRIDE: Final = 7919  # a prime: places all over the tree


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates a second; `proof_ms`: wall milliseconds; `size_mb`: of the database when all is in its file; `audit_s`: CPU
    seconds of `presspass audit`.
    """

    batch: float
    single: float
    group: float
    commits: float
    proof_ms: float
    size_mb: float
    audit_s: float


def measure(folder: Path, entries: int, appends: int) -> Measured:
    """Fills a journal in `folder` with `entries` and then appends more, one by one and 16 at once."""
    folder.mkdir()
    engine = open_engine(folder / "journal.db")
    migrate.upgrade(engine, "journal")
    key = Ed25519PrivateKey.generate()
    genesis = exchange.genesis_of(key.public_key().public_bytes_raw().hex())
    log = Log(genesis.body_as(GenesisBody).log, lambda _key, message: key.sign(message))
    writer = Writer(engine)
    writer.before_commit = log.grow
    batches_s = 0.0
    for start in range(0, entries, _BATCH):
        batch = [_entry(number, genesis.digest) for number in range(start, start + _BATCH)]
        begin = time.perf_counter()
        writer.run(lambda c, batch=batch: log.extend(c, batch))
        batches_s += time.perf_counter() - begin
        writer.run(lambda c, start=start, batch=batch: _mention(c, start, batch))
    size_mb = _size_mb(folder / "journal.db")
    audit_s = _audit_s(writer, folder / "copy", genesis)
    commits = _commits(folder / "floor.db", appends)
    begin = time.perf_counter()
    for number in range(appends):
        writer.run(lambda c, number=number: log.append(c, {"kind": "bench", "n": number}))
    single = appends / (time.perf_counter() - begin)
    group = _group(writer, log, appends * 4)
    proof_ms = _proof_ms(writer)
    writer.close()
    return Measured(entries / batches_s, single, group, commits, proof_ms, size_mb, audit_s)


def _entry(number: int, genesis: str) -> bytes:
    """Genesis, and then the refusal of a request, which is the most frequent one."""
    value: JsonObject = {"at": 1795498969, "space": "main"}
    if number == 0:
        return canonical(value | {"kind": "genesis", "statement": genesis})
    value |= {"code": "quorum.missing", "kind": "refused"}
    return canonical(value | {"statement": f"{number:064x}"})


def _mention(connection: Connection, first: int, batch: list[bytes]) -> None:
    """What is kept beside each entry, so that an answer after the fact finds it (`Log.append`)."""
    rows = [
        {"tag": tag, "position": position}
        for position, entry in enumerate(batch, first)
        for tag in history.tags(json.loads(entry))
    ]
    connection.execute(LEDGER_MENTION.insert(), rows)


def _audit_s(writer: Writer, folder: Path, genesis: Statement) -> float:
    """Reads all of it from a static copy that another process hands out, and checks every entry."""
    trust = folder / "trust-root.json"
    with writer.read() as connection:
        size = ledger_view.size(connection)
        for tile in tiles.grown(0, size):
            file = folder / "log" / tile.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(ledger_view.served(connection, tile) or b"")
        (folder / "log" / "checkpoint").write_bytes(ledger_view.checkpoint(connection))
    trust.write_bytes(genesis.to_bytes())
    with _served(folder) as url:
        program = [sys.executable, "-m", "presspass.cli.main", "audit", url, "--trust", trust]
        program += ["--state", folder / "state.json", "--format", "json"]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
            said = process.stdout.read() if process.stdout else b""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or json.loads(said)["log"]["size"] != size:
        raise RuntimeError(f"the audit ended with {process.returncode}: {said[:300]!r}")
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    program = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        program, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            found = re.search(r"port (\d+)", server.stdout.readline() if server.stdout else "")
            if found is None:
                raise RuntimeError("the copy is not served")
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            server.terminate()


def _size_mb(path: Path) -> float:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size / procfs.MB


def _commits(path: Path, count: int) -> float:
    """Commits a second of one small row each, synced as the ledger's are."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE floor (entry BLOB)")
    os.sync()
    begin = time.perf_counter()
    for number in range(count):
        connection.execute("INSERT INTO floor VALUES (?)", (_entry(number, "0" * 64),))
    rate = count / (time.perf_counter() - begin)
    connection.close()
    return rate


def _group(writer: Writer, log: Log, count: int) -> float:
    """CROWD threads, each of which waits for its entry to be durable before it has the next one."""

    def one(first: int) -> None:
        for number in range(first, count, CROWD):
            writer.run(lambda c, n=number: log.append(c, {"kind": "bench", "n": n}))

    with ThreadPoolExecutor(CROWD) as pool:
        begin = time.perf_counter()
        for _ in pool.map(one, range(CROWD)):
            pass
        return count / (time.perf_counter() - begin)


def _proof_ms(writer: Writer) -> float:
    with writer.read() as connection:
        size = ledger_view.size(connection)
        begin = time.perf_counter()
        for number in range(_PROOFS):
            reader = ledger_view.node_reader(connection)
            merkle.inclusion_proof(number * _STRIDE % size, size, reader)
        return (time.perf_counter() - begin) * 1000 / _PROOFS
