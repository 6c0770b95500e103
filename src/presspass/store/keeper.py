"""Small files that arrive together become blobs together, as rows are committed together.

A thread takes everything that waits and takes each step of `blobs` (write, sync, link, sync the folder) for the whole
group before the next step. A journalling file system then commits the group's names at once, and a busy process has one
thread that waits for the interpreter's lock after each system call, not many. Where a sync takes long, files go one by
one instead, each in a thread of its own: many syncs are under way then, and a slow disk ends them together.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from presspass.store.blobs import Blobs, Spool, explained, open_folder

GROUP_MAX: Final = 32
THREADS: Final = 16
#: Where the syncs of a group take longer than this each, the disk is called slow for a while; then a group tries again.
_SLOW_SYNC_S: Final = 0.001
_SLOW_FOR_S: Final = 1.0


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
    """The threads that keep small files."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._arrivals: queue.SimpleQueue[_Arrival | None] = queue.SimpleQueue()
        # Whoever has it takes the next group; on a fast disk it is given back when that group is kept.
        self._turn = threading.Lock()
        self._slow_until = 0.0
        self._threads = [
            threading.Thread(target=self._run, name=f"keeper-{number}", daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, pieces: Sequence[bytes], digest: Callable[[], str]) -> Future[str]:
        """Keeps `pieces` under the SHA-256 that `digest` returns; that, once bytes and name are durable.

        Raises there what `digest` raises, Refusal `storage.full`, or a Fault. `digest` and callbacks run in a thread
        of the keeper.
        """
        arrival = _Arrival(pieces, digest, Future())
        self._arrivals.put(arrival)
        return arrival.kept

    def close(self) -> None:
        """Keeps what was submitted, then ends."""
        self._arrivals.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        more = True
        while more:
            with contextlib.ExitStack() as turn:
                turn.enter_context(self._turn)
                slow = self._is_slow()
                group, more = self._gather(1 if slow else GROUP_MAX)
                if slow:
                    turn.close()
                self._keep([one for one in group if one.kept.set_running_or_notify_cancel()])

    def _is_slow(self) -> bool:
        return time.monotonic() < self._slow_until

    def _gather(self, count_max: int) -> tuple[list[_Arrival], bool]:
        """What waits, at least one; false at the end."""
        group: list[_Arrival] = []
        arrival = self._arrivals.get()
        with contextlib.suppress(queue.Empty):
            while arrival is not None:
                group.append(arrival)
                if len(group) == count_max:
                    return group, True
                arrival = self._arrivals.get_nowait()
            self._arrivals.put(None)  # for the next thread
            return group, False
        return group, True

    def _keep(self, group: list[_Arrival]) -> None:
        try:
            with contextlib.ExitStack() as spools:
                written = self._write(group, spools)
                synced = self._durable(written, [one.spool.fd for one in written])
                kept = self._name(synced)
        except Exception as error:  # a bug: who waits hears of it, and the thread lives on
            for one in group:
                if not one.kept.done():
                    one.kept.set_exception(error)
            return
        for file in kept:
            file.kept.set_result(file.sha256)

    def _write(self, group: list[_Arrival], spools: contextlib.ExitStack) -> list[_Written]:
        written = []
        for one in group:
            with _told(one.kept), contextlib.ExitStack() as unless_written:
                sha256 = one.digest()
                spool = self._blobs.spool()
                unless_written.callback(spool.close)  # at once: the others find room on a full disk
                spool.write(one.pieces)
                spools.push(unless_written.pop_all())
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
        errors = {fd: _error_of_sync(fd) for fd in fds}
        now = time.monotonic()
        # While many are under way each takes longer, which says nothing about the disk.
        if not self._is_slow() and now - begin > _SLOW_SYNC_S * len(fds):
            self._slow_until = now + _SLOW_FOR_S
        return errors


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
