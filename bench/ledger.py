"""The ledger, measured: appends in batches, one by one and 16 at once, beside bare commits of the same disk; a million
entries: how large they are, and how long a proof of one takes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

import procfs
from presspass.core.digests import canonical
from presspass.core.ledger import merkle
from presspass.core.log import LogBody
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
    """Rates a second; `proof_ms`: wall milliseconds; `size_mb`: of the database when all is in its file."""

    batch: float
    single: float
    group: float
    commits: float
    proof_ms: float
    size_mb: float


def measure(folder: Path, entries: int, appends: int) -> Measured:
    """Fills a journal in `folder` with `entries` and then appends more, one by one and 16 at once."""
    folder.mkdir()
    engine = open_engine(folder / "journal.db")
    migrate.upgrade(engine, "journal")
    key = Ed25519PrivateKey.generate()
    body = LogBody("gate.example/log", key.public_key().public_bytes_raw().hex())
    log = Log(body, lambda _key, message: key.sign(message))
    writer = Writer(engine)
    writer.before_commit = log.grow
    batches_s = 0.0
    for start in range(0, entries, _BATCH):
        batch = [_entry(number) for number in range(start, start + _BATCH)]
        begin = time.perf_counter()
        writer.run(lambda c, batch=batch: log.extend(c, batch))
        batches_s += time.perf_counter() - begin
        writer.run(lambda c, start=start, batch=batch: _mention(c, start, batch))
    size_mb = _size_mb(folder / "journal.db")
    commits = _commits(folder / "floor.db", appends)
    begin = time.perf_counter()
    for number in range(appends):
        writer.run(lambda c, number=number: log.append(c, {"kind": "bench", "n": number}))
    single = appends / (time.perf_counter() - begin)
    group = _group(writer, log, appends * 4)
    proof_ms = _proof_ms(writer)
    writer.close()
    return Measured(entries / batches_s, single, group, commits, proof_ms, size_mb)


def _entry(number: int) -> bytes:
    """As large as the refusal of a request, which is the most frequent one."""
    value = {"at": 1795498969, "code": "quorum.missing", "kind": "refused", "space": "main"}
    return canonical(value | {"statement": f"{number:064x}"})


def _mention(connection: Connection, first: int, batch: list[bytes]) -> None:
    """What is kept beside each entry, so that an answer after the fact finds it (`Log.append`)."""
    rows = [
        {"tag": tag, "position": position}
        for position, entry in enumerate(batch, first)
        for tag in history.tags(json.loads(entry))
    ]
    connection.execute(LEDGER_MENTION.insert(), rows)


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
        connection.execute("INSERT INTO floor VALUES (?)", (_entry(number),))
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
