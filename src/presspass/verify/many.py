"""Many proofs under one trust root, with a process for each processor core: the same checks, by the same `Verifier`.

What is wrong with one proof says nothing of the next, so each gets its own answer, in the order in which they came. Few
proofs are checked right here: to start a process takes as long as some hundred of them.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context
from typing import Final, TypeAlias

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.ledger.note import VerifierKey
from presspass.verify.proof import Valid
from presspass.verify.verifier import Verifier

_BATCH: Final = 64
_BATCH_BYTES: Final = 1 << 20  # from here on a batch takes no further proof
_BATCHES_ALONE: Final = 6
#: As it travels between processes: a refusal by its parts.
_Said: TypeAlias = Valid | tuple[Code, str, str]


def check_all(
    trust_root: bytes,
    proofs: Iterable[bytes],
    witnesses: Sequence[VerifierKey] = (),
    processes: int | None = None,
) -> Iterator[Valid | Refusal]:
    """What `Verifier.open` says of each of these proof files. They are read as they are needed.

    `processes`: at most so many; None: as many as there are cores. As `multiprocessing` has it, a program that calls
    this does so under `if __name__ == "__main__"`.
    """
    verifier = Verifier(trust_root, witnesses)
    count = _cores() if processes is None else processes
    batches = _batches(proofs)
    first = list(islice(batches, _BATCHES_ALONE + 1))
    every = chain(first, batches)
    pool = None
    if count > 1 and len(first) > _BATCHES_ALONE:
        pool = _pool(count, trust_root, tuple(witnesses))
    said = _spread(pool, 2 * count, every) if pool else (_check(verifier, one) for one in every)
    for one in chain.from_iterable(said):
        yield Refusal(*one) if isinstance(one, tuple) else one


def _cores() -> int:
    """Those that this process may use, where the system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _batches(proofs: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch, size = list[bytes](), 0
    for proof in proofs:
        batch.append(proof)
        size += len(proof)
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check(verifier: Verifier, batch: list[bytes]) -> list[_Said]:
    said: list[_Said] = []
    for proof in batch:
        try:
            said.append(verifier.open(proof))
        except Refusal as refusal:
            said.append((refusal.code, refusal.message, refusal.hint))
    return said


def _pool(
    count: int, trust_root: bytes, witnesses: tuple[VerifierKey, ...]
) -> ProcessPoolExecutor | None:
    """None where the system has no means for it, as in some containers without shared memory."""
    try:
        return ProcessPoolExecutor(
            count, get_context("spawn"), _Worker.begin, (trust_root, witnesses)
        )
    except (ImportError, NotImplementedError, OSError):
        return None


def _spread(
    pool: ProcessPoolExecutor, pending_max: int, batches: Iterable[list[bytes]]
) -> Iterator[list[_Said]]:
    """The answers in order. Never more than a few batches are under way, however many there are."""
    pending = deque[Future[list[_Said]]]()
    try:
        for batch in batches:
            pending.append(pool.submit(_Worker.check, batch))
            if len(pending) > pending_max:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenExecutor:
        raise Fault(
            "verify.process-ended", "A process that checks proofs was ended.", retryable=True
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """One of the processes: its verifier goes from batch to batch."""

    _verifier: Verifier

    @classmethod
    def begin(cls, trust_root: bytes, witnesses: tuple[VerifierKey, ...]) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
        cls._verifier = Verifier(trust_root, witnesses)

    @classmethod
    def check(cls, batch: list[bytes]) -> list[_Said]:
        return _check(cls._verifier, batch)
