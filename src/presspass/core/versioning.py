"""What is unusual about a version, by the versions of the same package that were published before it and when.

Registries order versions in ways of their own; what is asked here is less: a line is the first number of a version, and
whatever has no number in front belongs to none. Every answer is a fact for people to look at, and none a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Final

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
#: A line has died when it was silent for longer than this, and for longer than so many of its own longest gaps.
_SILENT_MS: Final = 180 * _DAY_MS
_GAPS_MAX: Final = 2
#: Several lines within this time are released together; security fixes are, and so is poison.
_TOGETHER_MS: Final = 60 * _MINUTE_MS
#: A release after this part of the time that usually passes, and within a day, comes much too soon.
_SOON_PART: Final = 20
_NUMBERS = re.compile(r"v?(?:[0-9]+!)?([0-9]+)(?:\.[0-9]+)*")
_SNAPSHOT = re.compile(r"v?0\.0\.0[-+.].*(?:[0-9a-f]{7,}).*", re.IGNORECASE)


class Unusual(StrEnum):
    """What may be unusual about a version."""

    SNAPSHOT = "snapshot"  # 0.0.0 with a commit's hash: made by a machine from something that has no version
    LINE_REVIVED = "line-revived"
    LINES_TOGETHER = "several-lines"
    TOO_SOON = "too-soon"


def line_of(version: str) -> int | None:
    """The first number of a version, its epoch left out; None where it begins with none."""
    found = _NUMBERS.match(version)
    return int(found[1]) if found else None


def unusual(version: str, published: Mapping[str, int], now_ms: int) -> tuple[Unusual, ...]:
    """Everything that is, in the order of `Unusual`. `published`: earlier versions of the package, and when (ms)."""
    before = {one: at_ms for one, at_ms in published.items() if one != version}
    line = line_of(version)
    of_line = sorted(at_ms for one, at_ms in before.items() if line_of(one) == line)
    holds = {
        Unusual.SNAPSHOT: _SNAPSHOT.fullmatch(version) is not None,
        Unusual.LINE_REVIVED: _revived(of_line, now_ms),
        Unusual.LINES_TOGETHER: any(
            now_ms - at_ms < _TOGETHER_MS for one, at_ms in before.items() if line_of(one) != line
        ),
        Unusual.TOO_SOON: _too_soon(sorted(before.values()), now_ms),
    }
    return tuple(one for one in Unusual if holds[one])


def _revived(of_line: list[int], now_ms: int) -> bool:
    if not of_line:
        return False
    longest = max((later - earlier for earlier, later in pairwise(of_line)), default=0)
    return now_ms - of_line[-1] > max(_SILENT_MS, _GAPS_MAX * longest)


def _too_soon(times: list[int], now_ms: int) -> bool:
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    if len(gaps) < 2:
        return False
    since = now_ms - times[-1]
    return since < _DAY_MS and since * _SOON_PART < gaps[len(gaps) // 2]
