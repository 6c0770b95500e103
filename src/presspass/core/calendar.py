"""When nothing is published: windows that come every week, and holidays, as people write them in the policy.

One line each, in one form only: `Fri 16:00 to Mon 08:00 +01:00` and `2026-12-24 to 2026-12-27 +01:00`, the last day
included. The offset is from UTC and stands for the whole year: `UTC`, `+01:00`, `-05:30`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NoReturn

from presspass.core.errors import Code, Refusal

WINDOWS_MAX: Final = 50
HOLIDAYS_MAX: Final = 500
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MINUTE_S, _DAY_S, _WEEK_S = 60, 86_400, 7 * 86_400
_MONDAY_S: Final = 4 * _DAY_S  # 1970-01-05 was the first Monday
_OFFSET_S_MAX: Final = 14 * 3600
_OFFSET = r"(?P<offset>UTC|[+-][0-9]{2}:[0-5][0-9])"
_WEEKLY = re.compile(
    r"(?P<day>[A-Z][a-z]{2}) (?P<time>[0-9]{2}:[0-5][0-9]) to "
    rf"(?P<last_day>[A-Z][a-z]{{2}}) (?P<last_time>[0-9]{{2}}:[0-5][0-9]) {_OFFSET}"
)
_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_DATED = re.compile(rf"(?P<first>{_ISO})(?: to (?P<last>{_ISO}))? {_OFFSET}")


@dataclass(frozen=True, slots=True)
class FreezeWindow:
    """A time of every week in which nothing is published. `text`: as it was written."""

    text: str
    _begins_s: int = field(init=False, repr=False)  # since Monday 00:00 UTC
    _lasts_s: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = _WEEKLY.fullmatch(self.text)
        if found is None or not {found["day"], found["last_day"]} <= set(_DAYS):
            _refuse(self.text, "Fri 16:00 to Mon 08:00 +01:00")
        begins = _of_week(self.text, found["day"], found["time"])
        lasts = (_of_week(self.text, found["last_day"], found["last_time"]) - begins) % _WEEK_S
        if not lasts:
            _refuse(self.text, "Fri 16:00 to Mon 08:00 +01:00, which lasts a while")
        object.__setattr__(self, "_begins_s", begins - _offset_s(self.text, found["offset"]))
        object.__setattr__(self, "_lasts_s", lasts)

    def end(self, at_s: int) -> int | None:
        """When the window that `at_s` (seconds since 1970) lies in is over; None outside."""
        into = (at_s - _MONDAY_S - self._begins_s) % _WEEK_S
        return at_s - into + self._lasts_s if into < self._lasts_s else None


@dataclass(frozen=True, slots=True)
class Holiday:
    """A day, or days one after the other, on which nothing is published. `text`: as it was written."""

    text: str
    _begins_s: int = field(init=False, repr=False)
    _ends_s: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = _DATED.fullmatch(self.text)
        if found is None:
            _refuse(self.text, "2026-12-24 to 2026-12-27 +01:00")
        first = _day_s(self.text, found["first"])
        last = _day_s(self.text, found["last"]) if found["last"] else first
        if last < first:
            _refuse(self.text, "2026-12-24 to 2026-12-27 +01:00, the earlier day first")
        offset = _offset_s(self.text, found["offset"])
        object.__setattr__(self, "_begins_s", first - offset)
        object.__setattr__(self, "_ends_s", last + _DAY_S - offset)

    def end(self, at_s: int) -> int | None:
        """When the holiday that `at_s` lies in is over; None outside."""
        return self._ends_s if self._begins_s <= at_s < self._ends_s else None


def open_again(closed: Iterable[FreezeWindow | Holiday], at_s: int) -> tuple[str, int] | None:
    """What holds releases at `at_s`, as it is written, and when nothing of it holds them any more; None where nothing
    does. What overlaps is one time. The windows among `closed` must leave some of the week open (`leaves_open`).
    """
    periods = tuple(closed)
    standing = [(end, one.text) for one in periods if (end := one.end(at_s)) is not None]
    if not standing:
        return None
    until, text = max(standing)
    while later := [end for one in periods if (end := one.end(until)) is not None]:
        until = max(later)
    return text, until


def leaves_open(windows: Iterable[FreezeWindow]) -> bool:
    """Whether there is a minute of the week in which none of them stands."""
    periods = tuple(windows)
    ends = [one._begins_s + one._lasts_s + _MONDAY_S for one in periods]  # one is the first open
    return not periods or any(all(one.end(at) is None for one in periods) for at in ends)


def _of_week(text: str, day: str, time: str) -> int:
    hours, minutes = int(time[:2]), int(time[3:])
    if hours > 23:
        _refuse(text, "Fri 16:00 to Mon 08:00 +01:00, with hours from 00 to 23")
    return _DAYS.index(day) * _DAY_S + hours * 3600 + minutes * _MINUTE_S


def _day_s(text: str, day: str) -> int:
    try:
        return (date.fromisoformat(day) - date(1970, 1, 1)).days * _DAY_S
    except ValueError:
        _refuse(text, "2026-12-24 UTC, a day that there is")


def _offset_s(text: str, offset: str) -> int:
    if offset == "UTC":
        return 0
    seconds = int(offset[1:3]) * 3600 + int(offset[4:]) * _MINUTE_S
    if not 0 < seconds <= _OFFSET_S_MAX:
        _refuse(text, "+01:00, at most 14 hours, or UTC")
    return -seconds if offset[0] == "-" else seconds


def _refuse(text: str, form: str) -> NoReturn:
    raise Refusal(Code.STATEMENT_MALFORMED, f"{text!r:.80} is not of the form {form}.")
