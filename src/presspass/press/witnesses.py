"""Cosignatures: the press shows each new checkpoint to the witnesses that are configured (C2SP tlog-witness).

1. What a witness has cosigned is kept with the checkpoint: that is what is served, and what proofs are made against.
2. Without an answer nothing waits: entries, publications and proofs go on, and proofs say who has cosigned.
3. A witness that has cosigned a larger tree, or another one of the same size, than this ledger has: the ledger was set
   back, or forked. Everything is frozen until a quorum has signed the ledger's recovery, and by nothing else. The
   witness is believed for that on its word, since it can only stop something.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import INTEGER_MAX, sha256_hex
from presspass.core.errors import Refusal
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, is_size
from presspass.core.ledger.note import Note, Signature, VerifierKey
from presspass.core.ledger.witness import PATH, SIZE_TYPE, Submission, read_cosignature
from presspass.core.limits import WITNESS_RETRY_FIRST_S, WITNESS_RETRY_S_MAX
from presspass.press import journal
from presspass.press.dropbox import Dropped
from presspass.press.log import Log
from presspass.press.narrowings import Narrowings
from presspass.store import journal_view
from presspass.store import ledger_view as view
from presspass.store.database import Writer
from presspass.store.journal_tables import LEDGER_WITNESS, PROOF
from presspass.store.ledger_check import seen_beyond
from presspass.store.ledger_view import Head
from presspass.verify.ed25519 import verifies
from presspass.verify.proof import Proof, Record, is_signed_by

_LOG = logging.getLogger("presspass.press")
_PROOFS_AT_ONCE = 100  # renewed in one transaction
_TRIES = 2  # the second with the size that the witness has said it has
#: `post(url, body)`: status, content type and body of the answer; OSError where there is none.
Post = Callable[[str, bytes], tuple[int, str, bytes]]


@dataclass(frozen=True, slots=True)
class Witness:
    """One that is asked. `url`: what stands before "/add-checkpoint"."""

    url: str
    key: VerifierKey


@dataclass(slots=True)
class _Patience:
    """When a witness that has failed is asked again (monotonic seconds)."""

    failures: int = 0
    again_s: float = 0.0


@dataclass(slots=True)
class Witnesses:
    """Those that are configured, with what they have cosigned. `monotonic`: seconds."""

    writer: Writer
    narrowings: Narrowings
    witnesses: Sequence[Witness]
    post: Post
    monotonic: Callable[[], float] = time.monotonic
    _patience: dict[str, _Patience] = field(default_factory=dict)
    _met: set[str] = field(default_factory=set)

    def look(self) -> int:
        """Shows the newest checkpoint to every witness that has not seen it, then renews proofs; how many cosigned.

        None is shown one while the log waits for its recovery: who has not seen the lost entries would cosign a fork.
        """
        with self.writer.read() as connection:
            if int(journal_view.fact(connection, journal_view.LEDGER_SEEN) or 0):
                return 0
        cosigned = sum([self._ask(one) for one in self.witnesses])
        after: tuple[str, str] | None = ("", "") if cosigned else None
        while after is not None:
            after = self.writer.run(partial(_renew_proofs, log=self.narrowings.log, after=after))
        return cosigned

    def _ask(self, witness: Witness) -> bool:
        patience = self._patience.setdefault(witness.key.name, _Patience())
        if self.monotonic() < patience.again_s:
            return False
        with self.writer.read() as connection:
            head, known = view.head(connection), view.cosigned(connection)
        size = min(known.get(witness.key.name, (0, b""))[0], head.size)
        # Once a process also what is cosigned already: a ledger that was set back whole knows nothing of more.
        if not head.size or (size == head.size and witness.key.name in self._met):
            return False
        try:
            self._cosign(witness, head, size)
        except (OSError, Refusal) as error:
            wait_s = WITNESS_RETRY_FIRST_S << min(patience.failures, 16)
            patience.failures += 1
            patience.again_s = self.monotonic() + min(wait_s, WITNESS_RETRY_S_MAX)
            _LOG.warning("the witness %s has not cosigned: %s", witness.key.name, error)
            return False
        self._patience[witness.key.name] = _Patience()
        self._met.add(witness.key.name)
        return True

    def _cosign(self, witness: Witness, head: Head, size: int) -> None:
        who = f"the witness {witness.key.name} has cosigned"
        for _ in range(_TRIES):
            submission = Submission(size, self._proof(size, head.size), head.note)
            status, kind, body = self.post(witness.url + PATH, submission.to_bytes())
            if status == 200:
                self._keep(witness, head, body)
                return
            said = body.decode("ascii", "replace").strip()
            sized = status == 409 and kind.partition(";")[0].strip().lower() == SIZE_TYPE
            has = int(said) if sized and is_size(said) else None
            if status == 422 or (status == 409 and (has is None or has == size)):
                self._stop(_origin(head), f"{who} another ledger than this one", size)
                raise OSError("it has cosigned another ledger")
            if has is None:
                raise OSError(f"it answered {status}: {said[:200]!r}")
            if has > head.size:
                # Another press may have written, and had cosigned, since this one has looked.
                if has > self.writer.run(view.size):
                    self._stop(
                        _origin(head), f"{who} {has} entries, more than this ledger has", has
                    )
                raise OSError(f"it has cosigned {has} entries")
            size = has
        raise OSError("it does not stay with the size that it says it has")

    def _proof(self, old: int, new: int) -> tuple[bytes, ...]:
        with self.writer.read() as connection:
            return tuple(merkle.consistency_proof(old, new, view.node_reader(connection)))

    def _keep(self, witness: Witness, head: Head, answer: bytes) -> None:
        note = Note.from_bytes(head.note)
        line, _time_s = read_cosignature(answer, note.text, witness.key, verifies)
        cosigned = Note(note.text, (*note.signatures, Signature.from_text(line[:-1]))).to_bytes()
        row = {"size": head.size, "note": cosigned}
        where = LEDGER_WITNESS.c.name == witness.key.name

        def work(connection: Connection) -> None:
            if not connection.execute(
                sa.update(LEDGER_WITNESS).where(where).values(**row)
            ).rowcount:
                insert = sa.insert(LEDGER_WITNESS).values(name=witness.key.name, **row)
                connection.execute(insert)

        self.writer.run(work)

    def look_back(self) -> None:
        """When the press starts: what its own journal says was seen of the ledger must be in it."""
        with self.writer.read() as connection:
            found, log = seen_beyond(connection), self.narrowings.log.in_force(connection)
        if found is not None:
            size, what = found
            self._stop(log.origin, f"the journal says that {what}", size)

    def _stop(self, origin: str, reason: str, size: int) -> None:
        """Latches it, unless the log has been recovered since it was called `origin`. `size`: of the tree that was
        seen, as far as a statement can say it.
        """

        def still(connection: Connection) -> bool:
            if self.narrowings.log.in_force(connection).origin != origin:
                return False
            seen = int(journal_view.fact(connection, journal_view.LEDGER_SEEN) or 0)
            known = str(max(seen, min(size, INTEGER_MAX)))
            journal.set_fact(connection, journal_view.LEDGER_SEEN, known)
            return True

        id = sha256_hex(f"witness\n{origin}\n{reason}".encode())
        stop = Dropped(id, "freeze", "", reason)
        self.narrowings.latch(stop, journal_view.LEDGER_BEHIND, still)


def _origin(head: Head) -> str:
    return Checkpoint.from_text(Note.from_bytes(head.note).text).origin


def _renew_proofs(
    connection: Connection, log: Log, after: tuple[str, str]
) -> tuple[str, str] | None:
    """Proofs whose checkpoint has fewer cosignatures than the newest cosigned one are made against that: the same
    entry, at the same place, in a tree that more have seen. Those from before the log got another key stay as they are:
    their chains do not lead to that key. Some at a time, in the order of (statement, file name)
    `after` the last ones; the last of these, None where there are no more.
    """
    size = max(size for size, _note in view.cosigned(connection).values())
    note = view.checkpoint(connection, size)
    if not is_signed_by(note, log.in_force(connection)):
        return None  # the newest cosignature is from before the log got another key
    lines, p = len(Note.from_bytes(note).signatures) - 1, PROOF.c
    since_ms = journal_view.log_since_ms(connection)
    later = sa.or_(p.statement > after[0], sa.and_(p.statement == after[0], p.filename > after[1]))
    rows = connection.execute(
        sa.select(p.statement, p.filename, p.proof)
        .where(p.cosignatures < lines, p.made_ms >= since_ms, later)
        .order_by(p.statement, p.filename)
        .limit(_PROOFS_AT_ONCE)
    ).all()
    read = view.node_reader(connection)
    for statement, filename, data in rows:
        proof = Proof.from_bytes(data)
        place = proof.record.position
        if place < size and is_signed_by(proof.record.checkpoint, log.in_force(connection)):
            path = merkle.inclusion_proof(place, size, read)
            record = Record(proof.record.entry, place, tuple(path), note)
            renewed = replace(proof, record=record).to_bytes()
            mine = sa.update(PROOF).where(p.statement == statement, p.filename == filename)
            connection.execute(mine.values(proof=renewed, cosignatures=lines))
    return (rows[-1].statement, rows[-1].filename) if rows else None
