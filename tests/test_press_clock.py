"""The press's own time: what the wall clock skipped counts for no delay, and what it repeats is waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_values import law
from presspass.core.errors import Code, Refusal
from presspass.drill.world.clock import WorldClock
from presspass.press.clock import Clock

SETTLE_S = 30.0


def clocks() -> tuple[WorldClock, Clock]:
    world = WorldClock()
    return world, Clock(world.wall, world.monotonic, settle_s=SETTLE_S)


def trusted_ms(clock: Clock) -> int | None:
    try:
        return clock.now_ms()
    except Refusal as refusal:
        assert refusal.code is Code.CLOCK_UNTRUSTED
        return None


events = st.lists(
    st.tuples(st.sampled_from(["advance", "jump"]), st.integers(-5000, 5000)),
    min_size=1,
    max_size=12,
)


@law
@given(events)
def test_no_delay_is_ever_shorter_than_the_time_that_passed(story: list[tuple[str, int]]) -> None:
    world, clock = clocks()
    since, began = clock.now_ms(), world.monotonic()
    for what, seconds in story:
        if what == "advance":
            world.advance(abs(seconds))
        else:
            world.jump_wall(seconds)
        now = trusted_ms(clock)
        if now is not None:
            passed_ms = (world.monotonic() - began) * 1000
            slack_ms = 2100 * sum(
                one == "jump" for one, _ in story
            )  # a jump below the limit is not seen as one
            assert clock.elapsed_ms(since, now) <= passed_ms + slack_ms


@law
@given(events)
def test_trusted_time_never_goes_back(story: list[tuple[str, int]]) -> None:
    world, clock = clocks()
    seen = clock.now_ms()
    for what, seconds in story:
        world.advance(abs(seconds)) if what == "advance" else world.jump_wall(seconds)
        now = trusted_ms(clock)
        if now is not None:
            assert now >= seen
            seen = now
        assert clock.raw_ms() >= seen


@pytest.mark.parametrize("jump_s", [3.0, -3.0, 1e6, -1e6])
def test_a_jump_is_waited_out(jump_s: float) -> None:
    world, clock = clocks()
    clock.now_ms()
    world.jump_wall(jump_s)
    assert trusted_ms(clock) is None
    world.advance(SETTLE_S - 1)
    assert trusted_ms(clock) is None
    world.advance(2)
    assert (trusted_ms(clock) is not None) == (jump_s > -100)


def test_a_clock_that_is_put_right_has_skipped_nothing() -> None:
    world, clock = clocks()
    since = clock.now_ms()
    for jump_s in (7200, -7200):
        world.jump_wall(jump_s)
        assert trusted_ms(clock) is None
        world.advance(10)
    world.advance(SETTLE_S)
    now = trusted_ms(clock)
    assert now is not None
    assert clock.elapsed_ms(since, now) == 50_000


def test_honest_time_passes_in_full() -> None:
    world, clock = clocks()
    since = clock.now_ms()
    for _ in range(100):
        world.advance(60)
        clock.now_ms()
    assert clock.elapsed_ms(since, clock.now_ms()) == 6_000_000
