"""Work that waits for others, beside the press's loop: a server that does not answer must not keep a stop waiting."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_LOG = logging.getLogger("presspass.press")


class Aside:
    """One thing at a time in a thread of its own. `work` gets milliseconds since the epoch, and is asked to look at
    `closing` between its steps.
    """

    def __init__(self, name: str, work: Callable[[int], object]) -> None:
        self.closing = threading.Event()
        self._name = name
        self._work = work
        self._pool = ThreadPoolExecutor(1, name)
        self._under_way: Future[object] | None = None

    def begin(self, now_ms: int) -> None:
        """Starts the work, unless it is under way; tells the log of one that has failed."""
        if self._under_way is not None and self._under_way.done():
            if self._under_way.exception() is not None:
                _LOG.error("%s: %r", self._name, self._under_way.exception())
            self._under_way = None
        if self._under_way is None and not self.closing.is_set():
            self._under_way = self._pool.submit(self._work, now_ms)

    def close(self) -> None:
        """Waits for what is under way."""
        self.closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
