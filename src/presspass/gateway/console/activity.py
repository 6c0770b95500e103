"""What went on, drawn: bars as numbers, so that the template writes SVG and no script is needed.

Pure: facts in, view models out. Every drawing has the same numbers beside it as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Final

from presspass.gateway.console.models import Activity, Situation
from presspass.gateway.console.text import plural

#: Of a drawing of days, in its own units: a day is a column of WIDTH / days.
WIDTH: Final = 600
HEIGHT: Final = 96
_MINUTE_MS: Final = 60_000
#: How long people let a release wait: up to so many minutes, and how that is said.
_WAITS: Final = (
    (10, "up to 10 minutes"),
    (60, "up to an hour"),
    (240, "up to 4 hours"),
    (1440, "up to a day"),
)
_LONGER: Final = "longer"


@dataclass(frozen=True, slots=True)
class Column:
    """One day: where its bar stands and how high it is, in units of the drawing; `value`: what it stands for."""

    x: float
    y: float
    width: float
    height: float
    value: int
    start_ms: int


@dataclass(frozen=True, slots=True)
class Columns:
    """A number a day. `most`: the highest of them; `total`: all of them together."""

    title: str
    kind: str
    columns: tuple[Column, ...]
    most: int
    total: int


@dataclass(frozen=True, slots=True)
class Share:
    """One line of a drawing of lines: `percent` of the longest of them."""

    words: str
    value: int
    percent: float


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """The page. `middle`: how long half of the releases waited at most, "" where none was signed."""

    days: tuple[Columns, ...]
    waits: tuple[Share, ...]
    middle: str
    people: tuple[Share, ...]
    refusals: tuple[Share, ...]
    partial: bool


def activity_page(facts: Activity, situation: Situation) -> ActivityPage:
    """Everything that the template lays out."""
    starts = [day.start_ms for day in facts.days]
    most = max((max(day.asked, day.published, day.ended) for day in facts.days), default=0)
    lines = (
        ("Asked for", "asked", [day.asked for day in facts.days]),
        ("Went out", "out", [day.published for day in facts.days]),
        ("Ended otherwise", "ended", [day.ended for day in facts.days]),
    )
    return ActivityPage(
        days=tuple(_columns(title, kind, values, starts, most) for title, kind, values in lines),
        waits=_shares(_waits(facts.waits_ms)) if facts.waits_ms else (),
        middle=_about(median(facts.waits_ms)) if facts.waits_ms else "",
        people=_shares(
            (situation.name(id) if id else "the recovery key", count) for id, count in facts.people
        ),
        refusals=_shares(facts.refusals),
        partial=facts.partial,
    )


def _columns(
    title: str, kind: str, values: Sequence[int], starts: Sequence[int], most: int
) -> Columns:
    """All drawings of a page have one scale, `most`, so that they can be compared by eye."""
    step = WIDTH / max(1, len(values))
    heights = [HEIGHT * value / most if most else 0.0 for value in values]
    columns = tuple(
        Column(
            round(number * step + step * 0.1, 1),
            round(HEIGHT - height, 1),
            round(step * 0.8, 1),
            round(height, 1),
            value,
            start_ms,
        )
        for number, (value, height, start_ms) in enumerate(
            zip(values, heights, starts, strict=True)
        )
    )
    return Columns(title, kind, columns, max(values, default=0), sum(values))


def _waits(waits_ms: Iterable[int]) -> list[tuple[str, int]]:
    counts = {words: 0 for _, words in _WAITS} | {_LONGER: 0}
    for wait_ms in waits_ms:
        fits = (words for minutes, words in _WAITS if wait_ms <= minutes * _MINUTE_MS)
        counts[next(fits, _LONGER)] += 1
    return list(counts.items())


def _about(wait_ms: float) -> str:
    """Rounded up, in the largest unit of which there are two."""
    minutes = max(1, ceil(wait_ms / _MINUTE_MS))
    for unit, length in (("day", 1440), ("hour", 60)):
        if minutes >= 2 * length:
            return plural(ceil(minutes / length), unit)
    return plural(minutes, "minute")


def _shares(counts: Iterable[tuple[str, int]]) -> tuple[Share, ...]:
    found = list(counts)
    most = max((count for _, count in found), default=0)
    return tuple(
        Share(words, count, round(100 * count / most, 1) if most else 0.0) for words, count in found
    )
