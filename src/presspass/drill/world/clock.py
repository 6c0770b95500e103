"""A clock that moves only when told to, with the two hands that law 12 compares: wall and monotonic.

Both are seconds as floats. `advance` is honest time; `jump_wall` is what a wrong NTP server or an attacker does.
"""

from __future__ import annotations

import threading
import time

START_S = 1_798_761_600.0  # 2027-01-01T00:00:00Z, any fixed day


class WorldClock:
    """Thread-safe. The monotonic hand starts at an odd value, so that nobody takes it for the wall hand."""

    def __init__(self, wall_s: float = START_S, monotonic_s: float = 1_000.5) -> None:
        self._lock = threading.Lock()
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s

    @classmethod
    def of_this_machine(cls) -> WorldClock:
        """A clock that goes as the machine's does, for what runs beside processes that have no other."""
        return _MachineClock()

    def wall(self) -> float:
        """Seconds since the Unix epoch, as this world believes."""
        with self._lock:
            return self._wall_s

    def monotonic(self) -> float:
        """Seconds since an unspecified moment; never goes back."""
        with self._lock:
            return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Time passes: both hands move. Raises ValueError for a negative span."""
        if seconds < 0:
            raise ValueError("time does not pass backwards; use jump_wall")
        with self._lock:
            self._wall_s += seconds
            self._monotonic_s += seconds

    def jump_wall(self, seconds: float) -> None:
        """The wall hand is set forward or back; no time passes."""
        with self._lock:
            self._wall_s += seconds


class _MachineClock(WorldClock):
    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
