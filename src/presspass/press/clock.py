"""The press's own time (law 12): wall and monotonic clock must agree, and the wall clock must not run behind the
journal.

Every delay starts at the press's first sight of something, journalled in wall milliseconds. A wall clock that is moved
could shorten a veto window or revive an expired request; so after a jump the press waits until both clocks have
agreed for a while, and never acts on a wall time earlier than one it has already journalled. By how much the wall
clock jumped forward is kept (the press journals it) and counts for no delay: `elapsed_ms`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from presspass.core.errors import Code, Refusal
from presspass.core.limits import CLOCK_DRIFT_S_MAX

_JUMPS_MAX = 100


@dataclass(slots=True)
class Clock:
    """`wall` and `monotonic` give seconds. `settle_s`: how long both must agree after a jump.

    `jumps`: the wall clock's jumps forward, each as (wall time after it, how far), in milliseconds.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    settle_s: float = 30.0
    floor_ms: int = 0
    jumps: tuple[tuple[int, int], ...] = ()
    _offset: float = field(init=False)
    _agreed_since: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._offset = self.wall() - self.monotonic()

    def now_ms(self) -> int:
        """Wall time in milliseconds; refuses with `clock.untrusted` while the clocks disagree or run behind."""
        wall, monotonic = self.wall(), self.monotonic()
        drift_s = wall - monotonic - self._offset
        if abs(drift_s) > CLOCK_DRIFT_S_MAX:
            self._note_jump(int(wall * 1000), int(drift_s * 1000))
            self._offset = wall - monotonic
            self._agreed_since = monotonic
        if self._agreed_since is not None:
            if monotonic - self._agreed_since < self.settle_s:
                raise self._untrusted(
                    "The wall clock jumped; nothing is published until it has been steady for a while."
                )
            self._agreed_since = None
        now_ms = int(wall * 1000)
        if now_ms + CLOCK_DRIFT_S_MAX * 1000 < self.floor_ms:
            raise self._untrusted("The wall clock is behind what the journal has already seen.")
        self.floor_ms = max(self.floor_ms, now_ms)
        return self.floor_ms

    def elapsed_ms(self, since_ms: int, now_ms: int) -> int:
        """Time passed from the journalled moment `since_ms` to `now_ms`, without what the wall clock skipped."""
        return now_ms - since_ms - sum(skipped for at_ms, skipped in self.jumps if at_ms > since_ms)

    def trusted_ms(self) -> int | None:
        """What `now_ms` would say, without moving what it remembers; None where it would refuse."""
        wall, monotonic = self.wall(), self.monotonic()
        jumped = abs(wall - monotonic - self._offset) > CLOCK_DRIFT_S_MAX
        behind = int((wall + CLOCK_DRIFT_S_MAX) * 1000) < self.floor_ms
        if jumped or behind or self._agreed_since is not None:
            return None
        return max(int(wall * 1000), self.floor_ms)

    def raw_ms(self) -> int:
        """Wall time for narrowing, which never waits for a clock."""
        return max(int(self.wall() * 1000), self.floor_ms)

    def _note_jump(self, at_ms: int, by_ms: int) -> None:
        """A jump back takes away from the jumps forward before it: a clock that is put right has skipped nothing."""
        jumps = list(self.jumps)
        while by_ms < 0 and jumps:
            earlier_ms, skipped_ms = jumps.pop()
            by_ms += skipped_ms
            at_ms = earlier_ms
        if by_ms > 0:
            jumps.append((at_ms, by_ms))
        self.jumps = tuple(jumps[-_JUMPS_MAX:])

    @staticmethod
    def _untrusted(why: str) -> Refusal:
        return Refusal(Code.CLOCK_UNTRUSTED, why, "Check the time service on the press's host.")
