"""What happens at the gateway's doors stands in the ledger at the press's next look: no words, no people, bounded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger_reading import entered, until_entered
from press_rig import TOKEN, Rig
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.limits import EVENTS_PER_MINUTE_MAX
from presspass.core.policy import Policy
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.registry import Registry
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.services import press as service
from presspass.store import gateway_tables as g

POLICY = Policy(veto_window_s=0, software_keys=True)
WHO = "a" * 16
KINDS = ("refused-at-gateway", "exchange", "left-out")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Registry(seed=7, token=TOKEN) as registry:
        rig = Rig(tmp_path / "home", registry, POLICY).build()
        rig.seal()
        yield rig
        rig.rows.close()


def put(rig: Rig, count: int = 1, **changes: Any) -> None:
    """Rows of the gateway's events."""
    row = {"at_ms": 1, "kind": "upload", "code": "pass.ended", "detail": f"{WHO}: words", **changes}
    rig.rows.run(lambda c: c.execute(g.EVENT.insert(), [row] * count))


def let_in(rig: Rig, token: str) -> str:
    digest = sha256_hex(token.encode())
    zeros = dict.fromkeys(("publisher_statement", "identity", "run", "workflow"), "0" * 64)
    row = {"hash": digest, "token": token.encode(), "publisher": "ci", "described": b"{}", **zeros}
    rig.rows.run(lambda c: c.execute(g.WORKLOAD_TOKEN.insert().values(received_ms=1, **row)))
    return digest


def told(rig: Rig) -> list[JsonObject]:
    """The entries that the doors have made, without their time and space."""
    found = [one for one in rig.ledger() if one["kind"] in KINDS]
    return [
        {name: value for name, value in one.items() if name not in ("at", "space")} for one in found
    ]


def refused(door: str, code: str, about: str = WHO) -> JsonObject:
    return {"kind": "refused-at-gateway", "door": door, "code": code, "about": about}


def test_one_look_enters_every_refusal_and_every_exchange_since_the_last_one(rig: Rig) -> None:
    with rig.press() as press:
        press.doors.look()
        put(rig)
        put(rig, kind="exchange", code="identity.replayed")
        put(rig, kind="signature", code="approval.wrong-origin")
        token = let_in(rig, "a.b.c")
        press.doors.look()
        first = told(rig)
        assert first == [
            refused("upload", "pass.ended"),
            refused("exchange", "identity.replayed"),
            refused("signature", "approval.wrong-origin"),
            {"kind": "exchange", "token": token},
        ]
        press.doors.look()
        assert told(rig) == first, "once"
        put(rig, code="pass.expired")
        press.doors.look()
        assert told(rig) == [*first, refused("upload", "pass.expired")]


def test_a_running_press_looks_often_enough_for_an_entry_within_a_second(rig: Rig) -> None:
    """By design, not by a stopwatch: one look is enough (above), and the next begins after this pause at the latest,
    also while another look hangs: in a thread of its own."""
    assert service.LISTEN_S <= 0.5
    put(rig)
    hanging, end = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        end.wait()

    with rig.press() as press:
        looks = (hang, press.doors.look)
        with service.listening(looks):
            hanging.wait()
            until_entered(rig.ledger, "refused-at-gateway", code="pass.ended")
            end.set()
        assert press.doors.look in service.looks(press)


def test_what_the_gateway_says_in_words_or_cannot_mean_is_not_entered(rig: Rig) -> None:
    put(rig, kind="signed-in", code="", detail="ana@team.invalid by passkey")
    put(rig, code="no.such-code")
    put(rig, kind="ana@team.invalid")
    put(rig, detail="ana@team.invalid: words")
    put(rig, detail="A" * 16)
    put(rig, kind="left-out", code="", detail="many")
    put(rig, kind="strangers", code="", detail="9" * 30)
    put(rig, kind="strangers", code="", detail="0")
    with rig.press() as press:
        press.doors.look()
    assert told(rig) == [refused("upload", "pass.ended", "")] * 2
    whole = json.dumps(rig.ledger())
    assert "words" not in whole and "team.invalid" not in whole


def test_numbers_stand_for_strangers_and_for_what_the_gateway_left_out(rig: Rig) -> None:
    put(rig, kind="strangers", code="", detail="17")
    put(rig, kind="left-out", code="", detail="3")
    with rig.press() as press:
        press.doors.look()
    assert told(rig) == [
        {"kind": "left-out", "why": "stranger", "count": 17},
        {"kind": "left-out", "why": "gateway-bound", "count": 3},
    ]


def look_at_all(press: Press, rows: int) -> None:
    for _ in range(rows // 100 + 1):  # as many rows as one look takes
        press.doors.look()


def test_the_bound_holds_over_a_restart_and_hides_no_other_door_and_its_number_is_entered(
    rig: Rig,
) -> None:
    world = WorldClock()
    clock = Clock(wall=world.wall, monotonic=world.monotonic)
    put(rig, EVENTS_PER_MINUTE_MAX - 10)
    with rig.press(clock) as press:
        look_at_all(press, EVENTS_PER_MINUTE_MAX)
    put(rig, 50)
    put(rig, kind="exchange", code="identity.replayed")
    with rig.press(clock) as press:
        look_at_all(press, 50)
        entries = rig.ledger()
        assert len(entered(entries, "refused-at-gateway", door="upload")) == EVENTS_PER_MINUTE_MAX
        assert len(entered(entries, "refused-at-gateway", door="exchange")) == 1
        assert not entered(entries, "left-out")
    with rig.press(clock) as press:
        world.advance(61)
        press.doors.look()
        press.doors.look()
    assert [one["count"] for one in entered(rig.ledger(), "left-out", why="press-bound")] == [40]


def test_before_genesis_nothing_is_entered_and_nothing_is_lost(tmp_path: Path) -> None:
    with Registry(seed=7, token=TOKEN) as registry:
        rig = Rig(tmp_path / "home", registry, POLICY).build()
        put(rig)
        with rig.press() as press:
            press.doors.look()
        rig.seal()
        with rig.press() as press:
            press.doors.look()
        assert told(rig) == [refused("upload", "pass.ended")]
        rig.rows.close()
