"""What the machine itself takes for the same durable work: the figures are held against these, in the same run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Final, Self

_BLOCK_BYTES: Final = 1 << 20


def copy_s(source: Path, folder: Path) -> float:
    """Seconds to read `source`, hash it with SHA-256, write a copy into `folder` and fsync that. Removes the copy."""
    target = folder / "copy"
    begin = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        while block := reader.read(_BLOCK_BYTES):
            digest.update(block)
            writer.write(block)
        os.fsync(writer.fileno())
    digest.hexdigest()
    seconds = time.perf_counter() - begin
    target.unlink()
    return seconds


class DurableWrite:
    """One new file with fsync, then one SQLite commit in WAL mode with synchronous=FULL."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._content = os.urandom(size)
        self._count = 0
        self._database = sqlite3.connect(folder / "floor.db", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE file (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL)",
        ):
            self._database.execute(statement)

    def once_s(self) -> float:
        """Seconds for both."""
        self._count += 1
        path = self._folder / f"floor-{self._count}"
        begin = time.perf_counter()
        with path.open("xb", buffering=0) as file:
            file.write(self._content)
            os.fsync(file.fileno())
        self._database.execute("BEGIN IMMEDIATE")
        row = (path.name, "0" * 64, len(self._content))
        self._database.execute("INSERT INTO file VALUES (?, ?, ?)", row)
        self._database.execute("COMMIT")
        return time.perf_counter() - begin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        with contextlib.closing(self._database):
            pass
