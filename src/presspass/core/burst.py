"""How many releases may be asked for in an hour before they are held as one incident.

Learned from what went out before, of the package and of the whole gate, never from what was merely asked for: a flood
that was stopped must not raise the limit of the next. The policy says what the limit is at most.
"""

from __future__ import annotations

from typing import Final

#: So many an hour are never a burst (unless the policy says less): of one package, of the whole gate.
PACKAGE_FLOOR: Final = 4
GATE_FLOOR: Final = 20
#: How much more than in the busiest hour of HISTORY_DAYS is still usual.
FACTOR: Final = 2
HISTORY_DAYS: Final = 90


def limit(busiest: int, floor: int, cap: int) -> int:
    """The limit. `busiest`: releases that went out in the busiest hour of the history; `cap`: the policy's."""
    return min(cap, max(floor, FACTOR * busiest))
