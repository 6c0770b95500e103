"""Freeze windows and holidays hold exactly the times that they name, and say when those are over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_values import freeze_windows, holidays, law
from presspass.core.calendar import FreezeWindow, Holiday, leaves_open, open_again
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy

HOUR_S = 3600


def at(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("time", "until"),
    [
        ("2026-11-27 14:59", None),  # a Friday
        ("2026-11-27 15:00", "2026-11-30 07:00"),
        ("2026-11-29 12:00", "2026-11-30 07:00"),
        ("2026-11-30 06:59", "2026-11-30 07:00"),
        ("2026-11-30 07:00", None),
    ],
)
def test_a_window_holds_from_its_first_minute_to_its_last(time: str, until: str | None) -> None:
    end = FreezeWindow("Fri 16:00 to Mon 08:00 +01:00").end(at(time))
    assert end == (None if until is None else at(until))


def test_a_window_may_cross_the_turn_of_the_week_by_its_offset() -> None:
    window = FreezeWindow("Mon 00:00 to Mon 02:00 +05:30")
    assert window.end(at("2026-11-29 18:30")) == at("2026-11-29 20:30")
    assert window.end(at("2026-11-29 18:29")) is None


def test_a_holiday_holds_its_last_day_to_the_end() -> None:
    holiday = Holiday("2026-12-24 to 2026-12-26 -05:00")
    assert holiday.end(at("2026-12-24 04:59")) is None
    assert holiday.end(at("2026-12-24 05:00")) == at("2026-12-27 05:00")
    assert holiday.end(at("2026-12-27 04:59")) == at("2026-12-27 05:00")
    assert Holiday("2027-01-01 UTC").end(at("2027-01-02 00:00")) is None


def test_what_follows_without_a_gap_is_one_time() -> None:
    closed = (
        Holiday("2026-12-24 to 2026-12-25 UTC"),
        FreezeWindow("Sat 00:00 to Mon 00:00 UTC"),
    )
    held = open_again(closed, at("2026-12-24 12:00"))
    assert held == ("2026-12-24 to 2026-12-25 UTC", at("2026-12-28 00:00"))
    assert open_again(closed, at("2026-12-28 00:00")) is None


periods = st.tuples(
    st.lists(freeze_windows, max_size=3).filter(leaves_open), st.lists(holidays, max_size=3)
)


@law
@given(periods, st.integers(at("2026-06-01 00:00"), at("2026-07-20 00:00")))
def test_releases_are_held_until_the_first_minute_in_which_nothing_stands(
    periods: tuple[list[FreezeWindow], list[Holiday]], now: int
) -> None:
    closed = (*periods[0], *periods[1])
    held = open_again(closed, now)
    stands = [one for one in closed if one.end(now) is not None]
    assert (held is None) == (not stands)
    if held is not None:
        text, until = held
        assert text in {one.text for one in stands}
        assert all(one.end(until) is None for one in closed)
        begun = range(now, until, HOUR_S)
        assert all(any(one.end(time) is not None for one in closed) for time in begun)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Fri 16:00 to Mon 08:00",
        "fri 16:00 to Mon 08:00 UTC",
        "Fry 16:00 to Mon 08:00 UTC",
        "Fri 24:00 to Mon 08:00 UTC",
        "Fri 16:00 to Fri 16:00 UTC",
        "Fri 16:00 to Mon 08:00 +14:01",
        "Fri 16:00 to Mon 08:00 -00:00",
        "Fri 16:00 to Mon 08:00 UTC\n",
        "Fri 16:00 to Mon 08:00 CET",
    ],
)
def test_a_window_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Policy.from_json({**Policy().to_json(), "freeze_windows": [text]})
    assert refusal.value.code is Code.STATEMENT_MALFORMED


@pytest.mark.parametrize(
    "text", ["2026-02-30 UTC", "2026-12-26 to 2026-12-24 UTC", "2026-12-24", "24.12.2026 UTC", "2026-12-24 UTC to"]
)  # fmt: skip
def test_a_holiday_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Policy.from_json({**Policy().to_json(), "holidays": [text]})
    assert refusal.value.code is Code.STATEMENT_MALFORMED


def test_windows_that_leave_no_time_open_are_refused() -> None:
    whole = [
        "Mon 00:00 to Thu 12:00 UTC",
        "Thu 12:00 to Sun 12:00 UTC",
        "Sun 11:00 to Mon 01:00 UTC",
    ]
    with pytest.raises(Refusal, match="leave no time open"):
        Policy.from_json({**Policy().to_json(), "freeze_windows": whole})
    Policy.from_json({**Policy().to_json(), "freeze_windows": whole[:2]})


def test_a_policy_without_windows_is_written_as_before() -> None:
    assert not {"freeze_windows", "holidays"} & set(Policy().to_json())
