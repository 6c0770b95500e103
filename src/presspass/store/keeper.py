"""Small files that arrive together become blobs together, as rows are committed together.

One thread takes everything that waits and takes each step of `blobs` (write, sync, link, sync the folder) for the whole
group before the next step. A journalling file system then commits the group's names at once, and a busy process has one
thread waiting for the interpreter's lock after each system call instead of many. A group of one takes the same steps.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from presspass.store.blobs import Blobs, Spool, explained, open_folder

GROUP_MAX: Final = 32
#: A sync that takes longer waits for a device. The others of its group then wait at the same time, in threads.
_SLOW_SYNC_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A file that waits. `digest` returns its name, or refuses it."""

    pieces: Sequence[bytes]
    digest: Callable[[], str]
    kept: Future[str]


@dataclass(frozen=True, slots=True)
class _Written:
    """A file on its way to its name."""

    kept: Future[str]
    sha256: str
    spool: Spool


class Keeper:
    """The thread that keeps small files. `pool`: threads to wait in where the disk is slow."""

    def __init__(self, blobs: Blobs, pool: Executor) -> None:
        self._blobs = blobs
        self._pool = pool
        self._arrivals: queue.SimpleQueue[_Arrival | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def submit(self, pieces: Sequence[bytes], digest: Callable[[], str]) -> Future[str]:
        """Keeps `pieces` under the SHA-256 that `digest` returns; that, once bytes and name are durable.

        Raises there what `digest` raises, Refusal `storage.full`, or a Fault. `digest` and callbacks run in the thread.
        """
        arrival = _Arrival(pieces, digest, Future())
        self._arrivals.put(arrival)
        return arrival.kept

    def close(self) -> None:
        """Keeps what was submitted, then ends."""
        self._arrivals.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._arrivals.get()) is not None:
            group = [one for one in self._gather(first) if one.kept.set_running_or_notify_cancel()]
            try:
                self._keep(group)
            except Exception as error:  # a bug: who waits hears of it, and the thread lives on
                for one in group:
                    if not one.kept.done():
                        one.kept.set_exception(error)

    def _gather(self, first: _Arrival) -> list[_Arrival]:
        group = [first]
        with contextlib.suppress(queue.Empty):
            while len(group) < GROUP_MAX:
                arrival = self._arrivals.get_nowait()
                if arrival is None:
                    self._arrivals.put(None)  # for the next turn, which ends the thread
                    break
                group.append(arrival)
        return group

    def _keep(self, group: list[_Arrival]) -> None:
        with contextlib.ExitStack() as spools:
            written = self._write(group, spools)
            synced = self._durable(written, [one.spool.fd for one in written])
            kept = self._name(synced)
        for one in kept:
            one.kept.set_result(one.sha256)

    def _write(self, group: list[_Arrival], spools: contextlib.ExitStack) -> list[_Written]:
        written = []
        for one in group:
            with _told(one.kept), contextlib.ExitStack() as unless_written:
                sha256 = one.digest()
                spool = self._blobs.spool()
                unless_written.callback(
                    spool.close
                )  # at once: a full disk has room for the others then
                spool.write(one.pieces)
                spools.push(unless_written.pop_all())
                if len(group) > 1:
                    spool.hand_over()  # the disk begins with all of them before the first is waited for
                written.append(_Written(one.kept, sha256, spool))
        return written

    def _name(self, synced: list[_Written]) -> list[_Written]:
        with contextlib.ExitStack() as opened:
            folders: dict[Path, int] = {}
            named, fds = [], []
            for one in synced:
                with _told(one.kept):
                    folder = one.spool.link(one.sha256)
                    if folder not in folders:
                        folders[folder] = open_folder(folder)
                        opened.callback(os.close, folders[folder])
                    named.append(one)
                    fds.append(folders[folder])
            return self._durable(named, fds)

    def _durable(self, files: list[_Written], fds: list[int]) -> list[_Written]:
        """Those of `files` whose descriptor, at the same place in `fds`, could be synced."""
        errors = self._sync(list(dict.fromkeys(fds)))
        good = []
        for one, fd in zip(files, fds, strict=True):
            with _told(one.kept):
                if error := errors[fd]:
                    raise error
                good.append(one)
        return good

    def _sync(self, fds: list[int]) -> dict[int, OSError | None]:
        if not fds:
            return {}
        begin = time.monotonic()
        first = _error_of_sync(fds[0])
        slow = time.monotonic() - begin > _SLOW_SYNC_S
        others = (self._pool.map if slow else map)(_error_of_sync, fds[1:])
        return dict(zip(fds, (first, *others), strict=True))


@contextlib.contextmanager
def _told(kept: Future[str]) -> Iterator[None]:
    """What goes wrong with one file is raised where it is awaited; the others of its group go on."""
    try:
        yield
    except OSError as error:
        kept.set_exception(explained(error))
    except Exception as error:  # a refusal, a fault, or a bug of whoever said what the name is
        kept.set_exception(error)


def _error_of_sync(fd: int) -> OSError | None:
    try:
        os.fsync(fd)
    except OSError as error:
        return error
    return None
