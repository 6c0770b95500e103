"""What stops releases, and what ends that: freeze windows and holidays, by the press's own clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from press_rig import TOKEN, Rig, rigs
from presspass.core.calendar import FreezeWindow, Holiday
from presspass.core.policy import Policy
from presspass.core.statement import PolicyBody
from presspass.drill.packages import make_wheel
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.registry import Registry
from presspass.press.clock import Clock
from presspass.store import journal_view as view

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)
DAY_S = 86_400


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as running:
        yield running


@pytest.fixture
def make_rig(tmp_path: Path, registry: Registry) -> Iterator[Callable[..., Rig]]:
    with rigs(tmp_path, registry, POLICY) as make:
        yield make


def wheel(folder: Path, version: str, project: str = "demo") -> list[Path]:
    path = folder / f"{project}-{version}"
    path.mkdir()
    return [make_wheel(path, project, version)]


def window_around(now: datetime) -> FreezeWindow:
    """From an hour before to two hours after."""
    begins, ends = now - timedelta(hours=1), now + timedelta(hours=2)
    return FreezeWindow(f"{begins:%a %H:%M} to {ends:%a %H:%M} UTC")


def test_a_release_in_a_freeze_window_waits_and_goes_out_when_it_is_over(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    world = WorldClock(wall_s=float(int(time.time())))
    now = datetime.fromtimestamp(world.wall(), UTC)
    rig = make_rig(replace(POLICY, freeze_windows=(window_around(now),)))
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        rig.upstream(press)
        statement = rig.stage(press, wheel(tmp_path, "1.0"), "demo", "1.0", life_s=DAY_S)
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "approved")
        held = rig.stays(press, statement.digest, "approved")
        assert held.code == "narrowing.freeze-window"
        assert f"until {now + timedelta(hours=2):%a %Y-%m-%d %H:%M} UTC" in held.message
        assert not rig.registry.uploads
        world.advance(2 * 3600 + 60)
        rig.until(press, statement.digest, "verified")


def test_a_holiday_ends_when_a_quorum_takes_it_out_of_the_policy(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    today = datetime.now(UTC)
    rig = make_rig(
        replace(POLICY, holidays=(Holiday(f"{today:%Y-%m-%d} to {today.year + 1}-12-31 UTC"),))
    )
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, wheel(tmp_path, "1.0"), "demo", "1.0")
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "approved")
        change = rig.statement(PolicyBody(POLICY), rig.journal(view.heads).policy)
        rig.request(change)
        rig.sign(change, "ana")
        rig.stays(press, change.digest, "seen")
        assert rig.stays(press, statement.digest, "approved").code == "narrowing.freeze-window"
        rig.sign(change, "cleo")
        rig.until(press, change.digest, "admitted")
        rig.until(press, statement.digest, "verified")
