"""What a witness remembers: of each log the last checkpoint that it has cosigned, durable before anybody hears of it.

A lost memory is a witness that cosigns a fork: so it is made only together with the key (`services.witness`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.ledger import note
from presspass.core.ledger.note import VerifierKey
from presspass.core.ledger.witness import NotCosignedError, Seen, Submission, judge
from presspass.store.database import Writer, open_engine
from presspass.verify.ed25519 import verifies

_METADATA: Final = sa.MetaData()
_COSIGNED: Final = sa.Table(
    "cosigned",
    _METADATA,
    sa.Column("origin", sa.String, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness with its memory. `sign_raw`: raw Ed25519 signature by `key`; `logs`: whose checkpoints it cosigns,
    their keys by origin; `clock`: Unix seconds.
    """

    key: VerifierKey
    sign_raw: Callable[[bytes], bytes]
    logs: Mapping[str, Sequence[VerifierKey]]
    writer: Writer
    clock: Callable[[], float] = time.time

    def add_checkpoint(self, body: bytes) -> bytes:
        """The cosignature of what was submitted, kept before it is given; NotCosignedError where it may not be."""
        submission = Submission.from_bytes(body)

        def work(connection: Connection) -> bytes:
            checkpoint, text = judge(
                submission, self.logs, lambda o: _seen(connection, o), verifies
            )
            row = {"size": checkpoint.size, "root": checkpoint.root, "note": submission.note}
            where = _COSIGNED.c.origin == checkpoint.origin
            if not connection.execute(sa.update(_COSIGNED).where(where).values(**row)).rowcount:
                connection.execute(sa.insert(_COSIGNED).values(origin=checkpoint.origin, **row))
            line = note.cosign(text, self.key, int(self.clock()), self.sign_raw)
            return line.to_text().encode()

        answer: bytes | NotCosignedError = self.writer.run(lambda c: _or_no(work, c))
        if isinstance(answer, NotCosignedError):
            raise answer
        return answer

    def latest(self) -> dict[str, int]:
        """Size of the last cosigned checkpoint, by origin; 0 of logs that have not come yet."""
        query = sa.select(_COSIGNED.c.origin, _COSIGNED.c.size)
        with self.writer.read() as connection:
            known = {row.origin: row.size for row in connection.execute(query)}
        return {origin: known.get(origin, 0) for origin in self.logs}

    def close(self) -> None:
        """Closes the memory."""
        self.writer.close()


def open_memory(path: Path, *, new: bool) -> Writer:
    """The memory in the file `path`, which is made where it is `new`."""
    engine = open_engine(path)
    if new:
        _METADATA.create_all(engine)
    return Writer(engine)


def _or_no(work: Callable[[Connection], bytes], connection: Connection) -> bytes | NotCosignedError:
    """A no is an answer: nothing has failed, and nothing was written."""
    try:
        return work(connection)
    except NotCosignedError as no:
        return no


def _seen(connection: Connection, origin: str) -> Seen:
    query = sa.select(_COSIGNED.c.size, _COSIGNED.c.root).where(_COSIGNED.c.origin == origin)
    row = connection.execute(query).first()
    return Seen(row.size, row.root) if row else Seen()
