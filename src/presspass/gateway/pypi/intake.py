"""The bytes of one file on their way from the socket to a durable blob, hashed once, in constant memory.

A file below one block stays in memory until its form is complete; then the keeper hashes, writes and syncs it together
with all others that wait.
A larger one is taken block by block: two threads hash and write a block (both leave the interpreter lock) while the
next one is read from the socket. At most one block is at work and one is being gathered; the socket waits otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from presspass.core.errors import Code, Refusal
from presspass.core.limits import UPLOAD_BLOCK_BYTES
from presspass.store.blobs import Blobs, Spool
from presspass.store.keeper import Keeper

if TYPE_CHECKING:
    from hashlib import _Hash

_PIECES_MAX: Final = 256  # below what one writev takes (IOV_MAX: 1024)
_SHA256: Final = "sha256_digest"
Result = TypeVar("Result")


class Intake:
    """One file. Call `add` (and `flush` when it says so) in order, then `finish`; `abandon` in any other case."""

    def __init__(
        self, blobs: Blobs, keeper: Keeper, pool: Executor, digests: Iterable[str]
    ) -> None:
        """`digests`: form fields of the digests that are known to be wanted; SHA-256 always is."""
        self._blobs = blobs
        self._keeper = keeper
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._hashes = _hashes({*digests, _SHA256})
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._spool: Spool | None = None
        self._at_work: tuple[Future[Any], ...] = ()

    def add(self, piece: bytes) -> bool:
        """Takes a piece; true when `flush` is due."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        return self._waiting >= UPLOAD_BLOCK_BYTES or len(self._pieces) >= _PIECES_MAX

    async def flush(self) -> None:
        """Hands the gathered block to the threads, after the one before it is done."""
        block, self._pieces, self._waiting = self._pieces, [], 0
        if self._spool is None:
            self._spool = await self._loop.run_in_executor(self._pool, self._blobs.spool)
        await self._settle()
        self._at_work = (
            self._pool.submit(_update, self._hashes, block),
            self._pool.submit(self._spool.write, block),
        )

    async def finish(
        self, claimed: Mapping[str, str], then: Callable[[str], Future[Result]]
    ) -> Result:
        """Checks every claimed digest, keeps the blob, and asks `then` where it belongs; what that answers.

        `then` gets the SHA-256 once bytes and name are durable. It is called in the thread that made them so: the event
        loop has no part in the way from one durable step to the next. Refuses with `artifact.digest-mismatch` or
        `storage.full`.
        """
        if self._spool is None:
            kept = self._keeper.submit(self._pieces, partial(_digest, self._pieces, claimed))
        else:
            if self._pieces:
                await self.flush()
            await self._settle()
            kept = self._pool.submit(_keep, self._spool, self._hashes, claimed)
            self._at_work = (kept,)
        return await asyncio.wrap_future(_followed(kept, then))

    async def close(self) -> None:
        """Forgets what was not kept. The threads end first (one block at most): they use the file's descriptor."""
        spool, self._spool = self._spool, None
        if spool is not None:
            await self._loop.run_in_executor(self._pool, _close_after, self._at_work, spool)

    async def _settle(self) -> None:
        for job in self._at_work:
            await asyncio.wrap_future(job)


def _followed(first: Future[str], then: Callable[[str], Future[Result]]) -> Future[Result]:
    """The answer to `then(first's answer)`. Not to be cancelled: a file that is being kept is kept."""
    whole: Future[Result] = Future()
    whole.set_running_or_notify_cancel()

    def first_done(done: Future[str]) -> None:
        try:
            then(done.result()).add_done_callback(second_done)
        except Exception as error:  # raised where the whole is awaited
            whole.set_exception(error)

    def second_done(done: Future[Result]) -> None:
        if error := done.exception():
            whole.set_exception(error)
        else:
            whole.set_result(done.result())

    first.add_done_callback(first_done)
    return whole


def _close_after(jobs: Sequence[Future[Any]], spool: Spool) -> None:
    wait(jobs)  # they were given to the threads before this was, so none of them waits for us
    spool.close()


def _digest(pieces: Sequence[bytes], claimed: Mapping[str, str]) -> str:
    hashes = _hashes({*claimed, _SHA256})
    _update(hashes, pieces)
    return _checked(hashes, claimed)


def _keep(spool: Spool, hashes: dict[str, _Hash], claimed: Mapping[str, str]) -> str:
    # A digest that was named only after the content (its field may come last) is checked on the spooled bytes.
    late = _hashes(set(claimed) - set(hashes))
    if late:
        for block in spool.read_again():
            _update(late, (block,))
    sha256 = _checked(hashes | late, claimed)
    spool.keep(sha256)
    return sha256


def _checked(hashes: Mapping[str, _Hash], claimed: Mapping[str, str]) -> str:
    for name, value in claimed.items():
        found = hashes[name].hexdigest()
        if not hmac.compare_digest(found, value):
            raise Refusal(
                Code.ARTIFACT_DIGEST_MISMATCH,
                f"The file has {name.removesuffix('_digest')} {found}, and the form says {value}.",
                "The file changed on its way or while it was read; upload it again.",
            )
    return hashes[_SHA256].hexdigest()


def _hashes(names: Iterable[str]) -> dict[str, _Hash]:
    return {name: _new_hash(name) for name in names}


def _new_hash(name: str) -> _Hash:
    if name == "blake2_256_digest":
        return hashlib.blake2b(digest_size=32)  # type: ignore[return-value]  # same methods, no common type in typeshed
    if name == "md5_digest":
        return hashlib.md5(usedforsecurity=False)
    return hashlib.sha256()


def _update(hashes: Mapping[str, _Hash], block: Sequence[bytes]) -> None:
    for one in hashes.values():
        for piece in block:
            one.update(piece)
