"""What stops releases, and what ends that: freeze windows and holidays, by the press's own clock; one act that denies
whatever is open and freezes; too many at once, which are one incident.

Releases come as rows of a gateway's database: the press, its journal, its ledger and the registry are real.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from press_rig import TOKEN, Rig, rigs
from presspass.core.calendar import FreezeWindow, Holiday
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.statement import (
    FreezeBody,
    PolicyBody,
    ReleaseBody,
    ReleaseFile,
    Statement,
)
from presspass.drill.packages import make_wheel
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.registry import Registry
from presspass.press import journal
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.store import journal_tables as t
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


# --- deny all and freeze ------------------------------------------------------------------------------------------


def deny_all(rig: Rig, way: str, project: str = "") -> None:
    if way == "gateway":
        rig.freeze("cleo", project, deny_open=True)
        return
    freeze = {"project": project, "reason": "too many", "deny_open": True}
    (rig.home / "drop" / "stop.json").write_text(json.dumps({"freeze": freeze}))


def clear_freezes(rig: Rig, press: Press, **changes: Any) -> None:
    ids = [one.id for one in rig.journal(view.narrowings) if one.what == "freeze"]
    clear = rig.statement(FreezeBody("clear", "", tuple(sorted(ids)), ""), **changes)
    rig.request(clear)
    rig.sign(clear, "ana", "ben")
    rig.until(press, clear.digest, "admitted")


def ask(
    rig: Rig, press: Press, folder: Path, version: str, project: str = "demo", **changes: Any
) -> Statement:
    return rig.stage(press, wheel(folder, version, project), project, version, **changes)


@pytest.mark.parametrize("way", ["gateway", "drop box"])
def test_one_act_denies_whatever_is_open_and_freezes_and_the_quorum_ends_the_freeze_alone(
    make_rig: Callable[..., Rig], tmp_path: Path, way: str
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=3600))
    world = WorldClock(wall_s=float(int(time.time())))
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        rig.upstream(press)
        waiting, approved = (ask(rig, press, tmp_path, one) for one in ("1.0", "1.1"))
        change = rig.statement(PolicyBody(POLICY), rig.journal(view.heads).policy)
        rig.request(change)
        rig.sign(approved, "ben")
        rig.until(press, approved.digest, "approved")
        rig.stays(press, waiting.digest, "seen")
        unseen = ask(rig, press, tmp_path, "1.2")
        deny_all(rig, way)
        for one in (waiting, approved, unseen, change):
            assert rig.until(press, one.digest, "rejected").code == "narrowing.vetoed"
        world.advance(60)
        now = int(world.wall())
        later = ask(rig, press, tmp_path, "1.3", "other", issued_at=now)
        rig.sign(later, "ben")
        assert rig.stays(press, later.digest, "seen").code == "narrowing.frozen"
        clear_freezes(rig, press, issued_at=now)
        rig.sign(approved, "cleo")
        rig.stays(press, approved.digest, "rejected")
        rig.until(press, later.digest, "approved")
        assert not rig.registry.uploads


def test_denying_what_is_open_of_one_project_leaves_the_others(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        denied, kept = (ask(rig, press, tmp_path, "1.0", one) for one in ("demo", "other"))
        deny_all(rig, "gateway", "Demo")
        rig.until(press, denied.digest, "rejected")
        rig.sign(kept, "ben")
        rig.until(press, kept.digest, "verified")
        with pytest.raises(Refusal) as refusal:
            veto = next(one for one in rig.journal(view.narrowings) if one.what == "veto")
            press.books.writer.run(lambda c: journal.clear(c, [veto.id], "0" * 64))
        assert refusal.value.code is Code.NARROWING_CANNOT_CLEAR


# --- too many at once ---------------------------------------------------------------------------------------------


def flood(rig: Rig, *versions: tuple[str, str]) -> list[Statement]:
    """Requests for these (project, version), which nobody has reviewed."""
    upstream = rig.journal(view.upstreams)["main"][0]
    made = []
    for project, version in versions:
        file = ReleaseFile(f"{project}-{version}.tar.gz", "0" * 64, 1)
        release = secrets.token_hex(16)
        body = ReleaseBody(release, upstream, project, version, (file,), (), "", "0" * 64)
        made.append(rig.statement(body))
        rig.release_row(release, project, version)
        rig.request(made[-1], release)
    return made


def freezes(rig: Rig) -> list[tuple[str, str]]:
    return [
        (one.target, one.source) for one in rig.journal(view.narrowings) if one.what == "freeze"
    ]


def notices(rig: Rig, about: str = "") -> list[str]:
    query = sa.select(t.NOTICE.c.subject).where(t.NOTICE.c.address == "mailto:ben@team.invalid")
    found = rig.journal(lambda c: list(c.execute(query).scalars()))
    return [one for one in found if about in one]


def test_S04_eighty_four_releases_of_forty_two_packages_are_one_incident(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, burst_cap=100))
    with rig.press() as press:
        rig.upstream(press)
        packages = [f"pkg-{number}" for number in range(42)]
        asked = flood(rig, *((one, version) for one in packages for version in ("1.0.1", "1.0.2")))
        rig.sign(asked[-1], "ana", "ben", "cleo")
        assert rig.stays(press, asked[-1].digest, "seen").code == "narrowing.frozen"
        assert freezes(rig) == [("", "burst")]
        assert len(notices(rig, "too many releases at once")) == 1
        assert not rig.registry.uploads


def test_S09_revived_lines_are_held_as_one_incident_until_a_quorum_clears_it(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = make_rig(replace(POLICY, burst_cap=100))
    with rig.press() as press:
        rig.upstream(press)
        others = ("0.5.4", "0.5.5", "1.6.3", "1.6.4", "2.2.1", "2.2.2", "3.0.3", "3.0.4")
        flood(rig, *(("demo", version) for version in others))
        press.tick()
        last = ask(rig, press, tmp_path, "4.0")
        rig.sign(last, "ben")
        assert rig.stays(press, last.digest, "seen").code == "narrowing.frozen"
        assert freezes(rig) == [("demo", "burst")]
        assert not rig.registry.uploads
        elsewhere = ask(rig, press, tmp_path, "1.0", "other")
        rig.sign(elsewhere, "ben")
        rig.until(press, elsewhere.digest, "verified")
        clear_freezes(rig, press)
        rig.until(press, last.digest, "verified")
        assert freezes(rig) == []


def test_S10_thirty_requests_are_a_few_notices_and_one_act_ends_all_of_them(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        asked = flood(rig, *(("demo", f"1.0.{number}") for number in range(30)))
        rig.stays(press, asked[-1].digest, "seen")
        assert freezes(rig) == []  # this policy has no limit
        assert len(notices(rig, "A release waits")) == 3
        assert len(notices(rig, "Several releases of demo wait")) in (1, 2)  # by the hour
        deny_all(rig, "drop box")
        for one in asked:
            rig.until(press, one.digest, "rejected")


def test_what_went_out_before_raises_the_limit_and_what_was_only_asked_for_does_not(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, burst_cap=100))
    hour = 3_600_000
    with rig.press() as press:
        rig.upstream(press)
        long_ago = (int(time.time()) - 30 * DAY_S) * 1000 // hour * hour
        rows = [
            {"upstream": "main", "filename": f"f{number}", "project": "busy", "version": "1.0",
             "sha256": "0" * 64, "size": 1, "statement": f"{number:064}", "verified_ms": long_ago + number}
            for number in range(3)
        ]  # fmt: skip
        press.books.writer.run(lambda c: c.execute(t.PUBLISHED_FILE.insert(), rows))
        six = flood(rig, *(("busy", f"2.{number}") for number in range(6)))
        flood(rig, ("busy", "2.0"))  # asked for again: the same bytes are no other release
        rig.stays(press, six[-1].digest, "seen")
        assert freezes(rig) == []  # twice the busiest hour
        one_more = flood(rig, ("busy", "2.6"))
        rig.stays(press, one_more[-1].digest, "seen")
        assert freezes(rig) == [("busy", "burst")]
        clear_freezes(rig, press)
        again = flood(rig, *(("busy", f"3.{number}") for number in range(6)))
        rig.stays(press, again[-1].digest, "seen")
        assert freezes(rig) == []  # counted anew since people have looked
        flood(rig, ("busy", "3.6"))
        press.tick()
        assert freezes(rig) == [("busy", "burst")]
