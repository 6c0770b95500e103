"""The laws, held against the press by somebody who has the gateway, its database, its clock or its network."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from press_rig import TOKEN, Rig, rigs
from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import RECOVERY_WAIT_S
from presspass.core.policy import Policy
from presspass.core.roster import Key, Person, Roster
from presspass.core.statement import (
    FreezeBody,
    PolicyBody,
    ReleaseBody,
    RosterBody,
    Statement,
    UpstreamBody,
    signed_message,
)
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.clock import WorldClock
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.loopback import LoopbackServer, Request, Response
from presspass.drill.world.registry import Registry, basic_credentials
from presspass.press import journal
from presspass.press.clock import Clock
from presspass.press.press import Press
from presspass.press.publishers import Outgoing, Publisher, Served
from presspass.services import press as service
from presspass.services.config import read_config
from presspass.services.places import places
from presspass.store import database, ledger_check, ledger_view
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.database import Writer, open_engine
from presspass.verify.chain import veto_of

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)
HOUR_S = 3600


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(seed=7, token=TOKEN) as running:
        yield running


@pytest.fixture
def make_rig(tmp_path: Path, registry: Registry) -> Iterator[Callable[..., Rig]]:
    """Rigs of other policies and people than usual; sealed unless told otherwise."""
    with rigs(tmp_path, registry, POLICY) as make:
        yield make


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[Path]]:
    """`files("1.1", sdist=True)`: the wheel, and the sdist, of demo 1.1."""

    def make(version: str = "1.0", sdist: bool = False) -> list[Path]:
        folder = tmp_path / version
        folder.mkdir(exist_ok=True)
        wheel = make_wheel(folder, "demo", version)
        return [wheel, make_sdist(folder, "demo", version)] if sdist else [wheel]

    return make


Files = Callable[..., list[Path]]


def world_clock() -> tuple[WorldClock, Clock]:
    world = WorldClock(wall_s=float(int(time.time())))
    return world, Clock(world.wall, world.monotonic, settle_s=30)


def change_roster(rig: Rig, press: Press, roster: Roster, *signers: str) -> Statement:
    statement = rig.statement(RosterBody(roster), rig.journal(view.heads).roster)
    rig.request(statement)
    rig.sign(statement, *signers)
    rig.until(press, statement.digest, "admitted")
    return statement


def change_policy(rig: Rig, press: Press, policy: Policy, *signers: str) -> None:
    statement = rig.statement(PolicyBody(policy), rig.journal(view.heads).policy)
    rig.request(statement)
    rig.sign(statement, *signers)
    rig.until(press, statement.digest, "admitted")


def drop(rig: Rig, value: object, name: str = "") -> Path:
    path = rig.home / "drop" / f"{name or secrets.token_hex(4)}.json"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def clear(rig: Rig, press: Press, *ids: str, **changes: Any) -> Statement:
    statement = rig.statement(FreezeBody("clear", "", tuple(sorted(ids)), "looked at"), **changes)
    rig.request(statement)
    rig.sign(statement, "ana", "ben")
    return statement


def raw_row(rig: Rig, table: sa.Table, **row: object) -> None:
    """Writes what a stolen gateway could: any value into any column, past the types of the table."""
    connection = sqlite3.connect(rig.home / "gateway" / "gateway.db", timeout=5)
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
    with connection:
        connection.execute(
            f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', tuple(row.values())
        )
    connection.close()


# --- law 1 and 2: only signatures that count, under what is in force now ----------------------------------------------


def test_a_removed_approvers_signature_under_an_old_roster_does_not_count(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        change_roster(rig, press, rig.roster(without=("ben",)), "ana", "cleo")
        rig.sign(statement, "ana", "ben")
        decision = rig.stays(press, statement.digest, "seen")
        assert decision.code == "approval.key-removed"
        rig.sign(statement, "cleo")
        rig.until(press, statement.digest, "verified")


def test_an_approver_removed_in_the_veto_window_stops_the_release_until_another_signs(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=60))
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "approved")
        change_roster(rig, press, rig.roster(without=("ben",)), "ana", "cleo")
        world.advance(61)
        decision = rig.stays(press, statement.digest, "approved")
        assert decision.code == "approval.key-removed"
        assert not rig.registry.uploads
        rig.sign(statement, "cleo")
        world.advance(2)
        rig.until(press, statement.digest, "verified")


def test_a_replaced_keys_old_signature_does_not_count_and_the_new_key_signs_anew(
    rig: Rig, files: Files
) -> None:
    new = SoftwarePasskey.generate(99)
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        change_roster(rig, press, rig.roster(ben=new), "ana", "cleo")
        rig.sign(statement, "ana", "ben")
        rig.stays(press, statement.digest, "seen")
        rig.keys["ben"] = new
        rig.sign(statement, "ben")  # enrolled now, but not when this was asked for
        rig.stays(press, statement.digest, "seen")
        again = rig.stage(press, files(), "demo", "1.0")
        rig.sign(again, "ana", "ben")
        rig.until(press, again.digest, "verified")


def test_a_policy_made_stricter_after_signing_asks_again(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        change_policy(rig, press, replace(POLICY, approvals=2), "ana", "ben")
        rig.sign(statement, "ana", "ben")
        assert rig.stays(press, statement.digest, "seen").code == "quorum.missing"
        rig.sign(statement, "cleo")
        rig.until(press, statement.digest, "verified")


def test_a_policy_made_laxer_after_signing_does_not_lower_what_was_asked(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(replace(POLICY, approvals=2))
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        change_policy(rig, press, POLICY, "ana", "ben")
        rig.sign(statement, "ana", "ben")
        assert rig.stays(press, statement.digest, "seen").code == "quorum.missing"


def test_software_keys_do_not_count_where_the_policy_does_not_say_so(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig()
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        change_policy(rig, press, replace(POLICY, software_keys=False), "ana", "ben")
        rig.sign(statement, "ana", "ben")
        assert rig.stays(press, statement.digest, "seen").code == "quorum.too-few-people"


FOREIGN: dict[str, tuple[dict[str, Any], str, str]] = {
    "genesis": ({"genesis": "ab" * 32}, "rejected", "statement.foreign-genesis"),
    "space": ({"space": "other"}, "rejected", "statement.foreign-genesis"),
    "expired": (
        {"issued_at": 1_000_000_000, "expires_at": 1_000_000_600},
        "expired",
        "statement.expired",
    ),
    "older-than-the-policy-lets-live": (
        {"issued_at": int(time.time()) - 8 * 86_400},
        "expired",
        "statement.expired",
    ),
    "from-the-future": (
        {"issued_at": int(time.time()) + 7200, "expires_at": int(time.time()) + 9000},
        "seen",
        "clock.untrusted",
    ),
}


def test_a_statement_of_another_place_or_time_is_not_acted_upon(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        staged = {
            name: rig.stage(press, files(), "demo", "1.0", **changes)
            for name, (changes, _, _) in FOREIGN.items()
        }
        for statement in staged.values():
            rig.sign(statement, "ben", "cleo")
        for name, (_, state, code) in FOREIGN.items():
            assert rig.until(press, staged[name].digest, state).code == code, name
            rig.stays(press, staged[name].digest, state, turns=2)
    assert not rig.registry.uploads


def test_a_statement_under_heads_that_never_were_is_not_acted_upon(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        right = rig.journal(view.heads)
        staged = {
            head: rig.stage(
                press, files(), "demo", "1.0", heads=replace(right, **{head: "cd" * 32})
            )
            for head in ("roster", "policy", "revocation")
        }
        for statement in staged.values():
            rig.sign(statement, "ben", "cleo")
        for head, code in (
            ("roster", "foreign-genesis"),
            ("policy", "foreign-genesis"),
            ("revocation", "old-head"),
        ):
            state = "stale" if head == "revocation" else "rejected"
            assert rig.until(press, staged[head].digest, state).code == f"statement.{code}"
    assert not rig.registry.uploads


def test_a_nonce_is_used_once(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        first = rig.stage(press, files(), "demo", "1.0")
        rig.sign(first, "ana", "ben")
        rig.until(press, first.digest, "verified")
        second = rig.stage(press, files("1.1"), "demo", "1.1", nonce=first.nonce)
        rig.sign(second, "ana", "ben")
        assert rig.until(press, second.digest, "rejected").code == "statement.replayed"


def test_a_finished_statement_asked_for_again_does_nothing(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")
        uploads, size = len(rig.registry.uploads), rig.journal(ledger_view.size)
        rig.rows.run(lambda c: c.execute(g.APPROVAL.delete()))
        rig.rows.run(lambda c: c.execute(g.REQUEST.delete()))
        rig.request(statement)
        rig.sign(statement, "ben", "cleo")
        rig.stays(press, statement.digest, "verified")
    with rig.press() as press:
        rig.stays(press, statement.digest, "verified")
        assert (len(rig.registry.uploads), rig.journal(ledger_view.size)) == (uploads, size)


# --- a gateway in other hands -----------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_garbage_among_the_signatures_hides_none_of_the_others(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        row = {"request": statement.digest, "statement": statement.digest, "received_ms": 1}
        for number, garbage in enumerate(
            (b"", b"\xff\xfe", b"{}", b"[]", "text", 7, 1.5, b"x" * 20_000)
        ):
            raw_row(rig, g.APPROVAL, **row, key=f"{number:064x}", approval=garbage)
        rig.stays(press, statement.digest, "seen")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")


@pytest.mark.sqlite_only
def test_garbage_among_the_requests_and_narrowings_hides_none_of_the_others(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        for number, garbage in enumerate((b"", b"\xff", "text", 7)):
            for made in (0, "soon", b"\x00", 2**62):
                row = {"veto_digest": secrets.token_hex(32), "kind": "x", "statement": garbage}
                raw_row(rig, g.REQUEST, digest=secrets.token_hex(32), created_ms=made, **row)
            row = {"veto_digest": f"b{number}", "kind": b"x", "statement": garbage}
            raw_row(rig, g.REQUEST, digest=number, created_ms=1, **row)
            raw_row(rig, g.NARROWING, statement=garbage, approval=garbage, received_ms="x")
        press.tick()
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")
        rig.freeze("cleo")
        press.tick()
        assert [one.what for one in rig.journal(view.narrowings)] == ["freeze"]


def test_many_old_requests_do_not_hide_a_new_one_from_a_press_that_starts(
    rig: Rig, files: Files
) -> None:
    rows = [
        {
            "digest": f"{n:064x}",
            "veto_digest": f"{n + 10_000:064x}",
            "kind": "x",
            "statement": b"",
            "created_ms": n,
        }
        for n in range(1200)
    ]
    rig.rows.run(lambda c: c.execute(g.REQUEST.insert(), rows))
    lies = [{"statement": b"x", "approval": b"x", "received_ms": 1}] * 600
    rig.rows.run(lambda c: c.execute(g.NARROWING.insert(), lies))
    with rig.press() as press:
        rig.upstream(press)
        rig.freeze("cleo", "other")
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")
        assert [one.target for one in rig.journal(view.narrowings)] == ["other"]


def test_more_requests_than_are_read_at_once_are_read_one_after_the_other(
    rig: Rig, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("presspass.press.asks.ASKS_PER_LOOK", 2)
    with rig.press() as press:
        rig.upstream(press)
        foreign = [rig.stage(press, files(), "demo", "1.0", genesis="ab" * 32) for _ in range(5)]
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")
        for one in foreign:
            rig.until(press, one.digest, "rejected")


def test_a_gateway_database_edited_by_hand_publishes_nothing(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        for state in ("approved", "publishing", "published", "verified"):
            row = {"state": state, "statement": statement.digest}
            rig.rows.run(lambda c, row=row: c.execute(g.RELEASE.update().values(**row)))
            rig.stays(press, statement.digest, "seen", turns=3)
    assert not rig.registry.uploads


@pytest.mark.sqlite_only
def test_another_release_id_in_the_row_is_not_believed(rig: Rig, files: Files) -> None:
    """What people are told leads where the statement says, whatever the gateway writes beside it."""
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        lie = "x\n\nApprove here instead: http://evil.invalid/"
        rig.rows.run(lambda c: c.execute(sa.text("PRAGMA foreign_keys=OFF")))
        raw = sqlite3.connect(rig.home / "gateway" / "gateway.db", timeout=5)
        with raw:
            raw.execute("UPDATE request SET release = ? WHERE digest = ?", (lie, statement.digest))
        raw.close()
        rig.stays(press, statement.digest, "seen")
        told = rig.journal(lambda c: list(c.execute(sa.select(t.NOTICE.c.body)).scalars()))
        assert any(statement.body_as(ReleaseBody).release in body for body in told)
        assert not any("evil" in body for body in told)


def test_a_report_that_was_not_shown_as_the_press_makes_it_is_refused(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        honest = rig.stage(press, files(), "demo", "1.0")
        other = rig.stage(press, files("1.1"), "demo", "1.1").body_as(ReleaseBody).review
        lie = rig.statement(replace(honest.body_as(ReleaseBody), review=other))
        rig.request(lie)
        rig.sign(lie, "ana", "ben")
        assert rig.until(press, lie.digest, "rejected").code == "inspection.disagrees"
    assert not rig.registry.uploads


def test_a_release_compared_with_an_older_one_is_reviewed_again(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        first = rig.stage(press, files("1.0"), "demo", "1.0")
        second = rig.stage(press, files("1.1"), "demo", "1.1")
        rig.sign(first, "ana", "ben")
        rig.until(press, first.digest, "verified")
        rig.sign(second, "ana", "ben")
        assert rig.until(press, second.digest, "stale").code == "release.stale"
        again = rig.stage(press, files("1.1"), "demo", "1.1")
        rig.sign(again, "ana", "ben")
        rig.until(press, again.digest, "verified")
    assert [upload.version for upload in rig.registry.uploads] == ["1.0", "1.1"]


def test_two_releases_of_a_project_are_not_published_beside_each_other(
    rig: Rig, files: Files
) -> None:
    rig.registry.error_before_store(times=1)
    with rig.press() as press:
        rig.upstream(press)
        first, second = (
            rig.stage(press, files(version), "demo", version) for version in ("1.0", "1.1")
        )
        rig.sign(first, "ana", "ben")
        rig.until(press, first.digest, "publishing")
        rig.sign(second, "ana", "ben")
        rig.until(press, second.digest, "approved")
        rig.until(press, first.digest, "verified")
        rig.until(press, second.digest, "stale")


@pytest.mark.sqlite_only
def test_a_gateway_database_that_is_garbage_does_not_stop_the_drop_box(rig: Rig) -> None:
    rig.rows.close()
    for suffix in ("-wal", "-shm"):
        rig.home.joinpath("gateway", f"gateway.db{suffix}").unlink(missing_ok=True)
    rig.home.joinpath("gateway", "gateway.db").write_bytes(b"not a database" * 1000)
    drop(rig, {"freeze": {"project": "", "reason": "odd"}})
    with rig.press() as press:
        press.tick()
    assert len(rig.journal(view.narrowings)) == 1


@pytest.mark.sqlite_only
def test_a_gateway_database_that_never_answers_does_not_stop_the_drop_box(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_READ_S_MAX", 0.2)
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x, x, x, x FROM n"
    )
    raw = sqlite3.connect(rig.home / "gateway" / "gateway.db", timeout=5)
    with raw:
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("DROP TABLE narrowing")
        raw.execute("ALTER TABLE request RENAME TO hidden")
        columns = "digest, created_ms, statement, release"
        raw.execute(f"CREATE VIEW request ({columns}) AS {endless}")
        raw.execute(f"CREATE VIEW narrowing (id, statement, approval, received_ms) AS {endless}")
    raw.close()
    drop(rig, {"freeze": {"project": "", "reason": "odd"}})
    began = time.monotonic()
    with rig.press() as press:
        press.tick()
        drop(rig, {"freeze": {"project": "demo", "reason": "odd"}})
        press.tick()
    assert len(rig.journal(view.narrowings)) == 2
    assert time.monotonic() - began < 20


# --- law 12: time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_nothing_is_published_while_the_clock_cannot_be_trusted(
    rig: Rig, files: Files, jump_s: float
) -> None:
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        press.tick()
        world.jump_wall(jump_s)
        rig.sign(statement, "ana", "ben")
        rig.stays(press, statement.digest, "seen")
        drop(rig, {"freeze": {"project": "other", "reason": "latched whatever the clock says"}})
        press.tick()
        assert [one.target for one in rig.journal(view.narrowings)] == ["other"]
        world.advance(29)
        rig.stays(press, statement.digest, "seen")
        assert not rig.registry.uploads
        world.jump_wall(-jump_s)
        press.tick()
        world.advance(31)
        rig.until(press, statement.digest, "verified")


def test_a_clock_that_is_set_back_over_a_restart_is_noticed(rig: Rig, files: Files) -> None:
    _, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        press.tick()
    behind = WorldClock(wall_s=time.time() - HOUR_S)
    with rig.press(Clock(behind.wall, behind.monotonic)) as press:
        rig.sign(statement, "ana", "ben")
        rig.stays(press, statement.digest, "seen")
    assert not rig.registry.uploads


def test_the_veto_window_runs_in_full_and_over_a_restart(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=120))
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        reached = rig.until(press, statement.digest, "approved").reached_ms
        world.advance(100)
        rig.stays(press, statement.digest, "approved")
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        world.advance(19)
        decision = rig.stays(press, statement.digest, "approved")
        assert decision.reached_ms == reached
        assert not rig.registry.uploads
        world.advance(2)
        rig.until(press, statement.digest, "verified")


def test_a_clock_that_jumps_forward_does_not_shorten_the_veto_window(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=120))
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "approved")
        world.jump_wall(130)
        press.tick()
        world.advance(31)
        rig.stays(press, statement.digest, "approved")
        assert not rig.registry.uploads
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        world.advance(80)
        rig.stays(press, statement.digest, "approved")
        assert not rig.registry.uploads
        world.advance(15)
        rig.until(press, statement.digest, "verified")


def test_a_forged_terminal_signature_does_not_end_the_veto_window(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    """An approver's own tool makes the window unnecessary; a row that only says so does not."""
    rig = make_rig(replace(POLICY, veto_window_s=120))
    _, clock = world_clock()
    forged = Key("security-key-ssh", b"forged")
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.put_approval(statement, Approval(statement.digest, forged.id, "sshsig", b"SSHSIG"))
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "approved")
        rig.stays(press, statement.digest, "approved")
    assert not rig.registry.uploads


# --- law 8: narrowings ------------------------------------------------------------------------------------------------


def test_anybody_who_can_write_to_the_drop_box_can_stop_a_release(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        drop(rig, {"veto": {"statement": statement.digest, "reason": "not mine"}})
        rig.sign(statement, "ben", "cleo")
        assert rig.until(press, statement.digest, "rejected").code == "narrowing.vetoed"
    assert not rig.registry.uploads


def test_a_veto_that_comes_before_its_statement_waits_for_it(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        body = rig.stage(press, files(), "demo", "1.0").body_as(ReleaseBody)
        statement = rig.statement(body)
        drop(rig, {"veto": {"statement": statement.digest, "reason": "I know what comes"}})
        press.tick()
    with rig.press() as press:
        rig.request(statement)
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "rejected")


def test_a_signed_narrowing_in_the_drop_box_names_its_signer_and_an_unsigned_one_nobody(
    rig: Rig,
) -> None:
    freeze = rig.statement(FreezeBody("set", "demo", (), "signed"))
    signed = {
        "statement": freeze.to_bytes().decode(),
        "approval": rig.approval(freeze, "cleo").to_json(),
    }
    drop(rig, signed)
    forged = rig.statement(FreezeBody("set", "other", (), "forged"))
    approval = replace(rig.approval(freeze, "cleo"), statement=forged.digest)
    drop(rig, {"statement": forged.to_bytes().decode(), "approval": approval.to_json()})
    with rig.press() as press:
        press.tick()
    found = {one.target: one.by for one in rig.journal(view.narrowings)}
    assert found == {"demo": "p-cleo", "other": ""}
    assert freeze.digest in {one.id for one in rig.journal(view.narrowings)}


def test_a_veto_row_with_a_forged_signature_stops_but_names_nobody(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        approval = replace(rig.approval(statement, "cleo"), statement=veto_of(statement).digest)
        rig.put_approval(veto_of(statement), approval)
        rig.until(press, statement.digest, "rejected")
    assert [one.by for one in rig.journal(view.narrowings)] == [""]


DROPPED_GARBAGE = [
    b"",
    b"\xff",
    b"{}",
    b"[" * 100_000,
    b'{"freeze":{"project":"\\ud800","reason":""}}',
    b'{"veto":{"statement":"x","reason":""}}',
    b'{"statement":1,"approval":{}}',
    b"x" * 2_000_000,
]


def test_garbage_in_the_drop_box_hides_no_narrowing(rig: Rig) -> None:
    for number, garbage in enumerate(DROPPED_GARBAGE):
        drop(rig, garbage, f"a{number}")
    drop(rig, {"freeze": {"project": "", "reason": "real"}}, "b")
    rig.home.joinpath("drop", "folder.json").mkdir()
    os.mkfifo(rig.home / "drop" / "pipe.json")
    rig.home.joinpath("drop", "nowhere.json").symlink_to("missing")
    with rig.press() as press:
        press.tick()
        press.tick()
    assert [one.reason for one in rig.journal(view.narrowings)] == ["real"]


@pytest.mark.parametrize(
    ("words", "target"),
    [({}, ""), ({"project": "demo"}, "demo"), ({"project": "demo ", "reason": "x"}, "demo")],
)
def test_a_stop_without_all_its_words_is_a_stop(
    rig: Rig, words: dict[str, str], target: str
) -> None:
    drop(rig, {"freeze": words}, "short")
    with rig.press() as press:
        press.tick()
    assert [(one.what, one.target) for one in rig.journal(view.narrowings)] == [("freeze", target)]


def test_a_withdrawal_at_a_gateway_whose_clock_is_behind_is_heard(rig: Rig, files: Files) -> None:
    """Gateways that share a database have clocks of their own."""
    with rig.press() as press:
        rig.upstream(press)
        for version, at_s in (("1.0", 0), ("1.1", -90)):
            statement = rig.stage(press, files(version), "demo", version)
            body = statement.body_as(ReleaseBody)
            at_ms = int((time.time() + at_s) * 1000)
            change = g.RELEASE.update().where(g.RELEASE.c.id == body.release)
            rig.rows.run(
                lambda c, q=change, t=at_ms: c.execute(q.values(state="withdrawn", updated_ms=t))
            )
            rig.until(press, statement.digest, "rejected")


def test_a_withdrawn_release_is_stopped_although_enough_have_signed(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        row = g.RELEASE.c.id == statement.body_as(ReleaseBody).release
        later = int(time.time() * 1000)
        rig.rows.run(
            lambda c: c.execute(
                g.RELEASE.update().where(row).values(state="withdrawn", updated_ms=later)
            )
        )
        rig.sign(statement, "ben")
        assert rig.until(press, statement.digest, "rejected").code == "narrowing.vetoed"
    assert not rig.registry.uploads


def test_a_change_waits_for_its_veto_window_and_everybody_is_told_what_changes(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=3600))
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.keys["mallory"] = SoftwarePasskey.generate(66)
        taken = rig.roster(without=("ana", "ben", "cleo"))
        change = rig.statement(RosterBody(taken), rig.journal(view.heads).roster)
        rig.request(change)
        rig.sign(change, "ana", "ben")
        rig.stays(press, change.digest, "approved")
        told = rig.journal(
            lambda c: c.execute(sa.select(t.NOTICE.c.address, t.NOTICE.c.body)).all()
        )
        texts = {row.address: row.body for row in told if rig.keys["mallory"].key.id in row.body}
        assert set(texts) == {f"mailto:{name}@team.invalid" for name in ("ana", "ben", "cleo")}
        rig.veto(change, "cleo")
        world.advance(3700)
        assert rig.until(press, change.digest, "rejected").code == "narrowing.vetoed"


def test_a_roster_that_only_loses_keys_is_in_force_at_once(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=3600))
    _world, clock = world_clock()
    with rig.press(clock) as press:
        change = rig.statement(
            RosterBody(rig.roster(without=("cleo",))), rig.journal(view.heads).roster
        )
        rig.request(change)
        rig.sign(change, "ana", "ben")
        rig.stays(press, change.digest, "admitted")


def test_a_key_removed_after_the_claim_stops_what_was_not_sent(rig: Rig, files: Files) -> None:
    rig.registry.error_before_store(times=None)
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "publishing")
        change = change_roster(rig, press, rig.roster(without=("ben",)), "ana", "cleo")
        rig.until(press, change.digest, "admitted")
        rig.registry.heal()
        assert rig.until(press, statement.digest, "failed").code == "approval.key-removed"
    assert not rig.registry.files()


def test_requests_that_nobody_signs_keep_no_signed_one_waiting(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        for _ in range(600):
            rig.request(rig.statement(FreezeBody("clear", "", ("nothing",), "")))
        press.tick()
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "verified", timeout_s=60)


def test_a_pipe_in_place_of_a_blob_holds_nothing_up(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        digest = statement.body_as(ReleaseBody).files[0].sha256
        blob = rig.home / "gateway" / "blobs" / "sha256" / digest[:2] / digest
        blob.unlink()
        os.mkfifo(blob)
        rig.sign(statement, "ben")
        assert rig.until(press, statement.digest, "rejected").code == "artifact.missing"


def test_a_journal_whose_signatures_do_not_carry_it_is_not_believed(rig: Rig) -> None:
    with rig.press() as press:
        change = change_roster(rig, press, rig.roster(without=("cleo",)), "ana", "ben")
        rig.until(press, change.digest, "admitted")
    journal = Writer(open_engine(places(rig.home, read_config(rig.home), "press").journal))
    journal.run(lambda c: c.execute(t.APPROVAL.delete()))
    journal.close()
    with pytest.raises(Fault, match="signatures do not carry"), rig.press():
        pass


@pytest.mark.parametrize("damage", ["edited", "cut", "set back"])
def test_a_press_does_not_start_with_a_ledger_that_does_not_fit_its_entries(
    rig: Rig, damage: str
) -> None:
    with rig.press() as press:
        rig.upstream(press)
    e, head = t.LEDGER_ENTRY, t.LEDGER_HEAD
    last = rig.journal(lambda c: ledger_view.size(c)) - 1
    change = {
        "edited": e.update().where(e.c.position == 1).values(entry=b"{}"),
        "cut": e.delete().where(e.c.position == last),
        "set back": head.update().values(size=last),
    }[damage]
    journal = Writer(open_engine(places(rig.home, read_config(rig.home), "press").journal))
    journal.run(lambda c: c.execute(change))
    journal.close()
    with pytest.raises(Fault) as fault, rig.press():
        pass
    assert fault.value.code == "ledger.damaged"


def test_the_same_freeze_in_a_later_file_stops_publishing_again(rig: Rig) -> None:
    words = {"freeze": {"project": "", "reason": "stop"}}
    drop(rig, words, "first")
    with rig.press() as press:
        press.tick()
        (first,) = rig.journal(view.narrowings)
        rig.until(press, clear(rig, press, first.id).digest, "admitted")
        assert not rig.journal(view.narrowings)
    with rig.press() as press:  # the file still lies there: what was cleared stays cleared
        press.tick()
        assert not rig.journal(view.narrowings)
        drop(rig, words, "second")
        press.tick()
    assert len(rig.journal(view.narrowings)) == 1


def test_a_freeze_of_a_project_stops_it_however_its_name_is_spelled(rig: Rig, files: Files) -> None:
    drop(rig, {"freeze": {"project": "DeMo", "reason": ""}})
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        assert rig.stays(press, statement.digest, "seen").code == "narrowing.frozen"


def test_a_freeze_of_one_project_stops_no_other(rig: Rig, files: Files) -> None:
    drop(rig, {"freeze": {"project": "other", "reason": ""}})
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")


def test_no_quorum_clears_a_veto(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.veto(statement, "cleo")
        rig.until(press, statement.digest, "rejected")
        (veto,) = rig.journal(view.narrowings)
        refused = clear(rig, press, veto.id)
        rig.sign(refused, "cleo")
        assert rig.until(press, refused.digest, "rejected").code == "narrowing.cannot-clear"
        assert rig.journal(view.narrowings) == [veto]


def test_a_vetoed_clearing_clears_nothing_even_with_its_quorum(rig: Rig) -> None:
    with rig.press() as press:
        freeze = rig.freeze("cleo")
        press.tick()
        statement = clear(rig, press, freeze.digest)
        rig.veto(statement, "cleo")
        assert rig.until(press, statement.digest, "rejected").code == "narrowing.vetoed"
    assert freeze.digest in {one.id for one in rig.journal(view.narrowings)}


def test_a_freeze_replayed_after_it_was_cleared_does_not_freeze_again(rig: Rig) -> None:
    with rig.press() as press:
        freeze = rig.freeze("cleo")
        press.tick()
        rig.until(press, clear(rig, press, freeze.digest).digest, "admitted")
        row = {"statement": freeze.to_bytes(), "approval": rig.approval(freeze, "cleo").to_bytes()}
        rig.rows.run(lambda c: c.execute(g.NARROWING.insert().values(**row, received_ms=2)))
        press.tick()
    assert not rig.journal(view.narrowings)


@dataclass
class Watched:
    """A real publisher; `before` and `after` each upload, something may happen."""

    real: Publisher
    before: Callable[[str], None] = lambda name: None
    after: Callable[[str], None] = lambda name: None
    sent: list[str] = field(default_factory=list)

    def served(self, project: str, filename: str, size_max: int) -> Served | None:
        return self.real.served(project, filename, size_max)

    def send(self, outgoing: Outgoing, username: str, secret: str) -> None:
        self.before(outgoing.file.name)
        self.real.send(outgoing, username, secret)
        self.sent.append(outgoing.file.name)
        self.after(outgoing.file.name)

    def close(self) -> None:
        self.real.close()


def watch(press: Press, **hooks: Callable[[str], None]) -> list[str]:
    """Puts hooks around each upload of this press; returns the names that it will have sent."""
    real, sent = press.tools.publisher, []  # type: ignore[var-annotated]  # list[str]

    def make(upstream: UpstreamBody) -> Publisher:
        return Watched(real(upstream), sent=sent, **hooks)

    press.publications.tools = replace(press.tools, publisher=make)
    return sent


def wait_for(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("what", ["freeze", "veto", "release", "file"])
def test_a_narrowing_between_two_files_stops_the_second(rig: Rig, files: Files, what: str) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(sdist=True), "demo", "1.0")
        last = statement.body_as(ReleaseBody).files[-1].sha256
        words = {
            "freeze": {"freeze": {"project": "demo"}},
            "veto": {"veto": {"statement": statement.digest}},
            "release": {"revoke": {"what": "release", "target": statement.digest}},
            "file": {"revoke": {"what": "file", "target": last}},
        }
        latched = threading.Event()

        def stop(name: str) -> None:
            if not latched.is_set():
                drop(rig, words[what])
                wait_for(lambda: bool(rig.journal(view.narrowings)))
                latched.set()

        sent = watch(press, after=stop)
        rig.sign(statement, "ana", "ben")
        if what == "freeze":
            wait_for(lambda: press.tick() or latched.is_set())
            wait_for(lambda: press.tick() or not press.busy)
            assert rig.stays(press, statement.digest, "publishing").code == "narrowing.frozen"
            assert len(sent) == 1
            (freeze,) = rig.journal(view.narrowings)
            rig.until(press, clear(rig, press, freeze.id).digest, "admitted")
            rig.until(press, statement.digest, "verified")
            assert len(sent) == 2
        else:
            code = "narrowing.vetoed" if what == "veto" else "release.revoked"
            assert rig.until(press, statement.digest, "failed").code == code
            assert len(sent) == 1


def test_a_veto_after_the_last_file_is_too_late_and_the_truth_is_told(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")

        def late(name: str) -> None:
            drop(rig, {"veto": {"statement": statement.digest, "reason": "late"}})
            wait_for(lambda: bool(rig.journal(view.narrowings)))

        watch(press, after=late)
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")


# --- genesis, recovery, upstreams -------------------------------------------------------------------------------------


def test_team_needs_two_people_and_solo_one_with_two_keys(make_rig: Callable[..., Rig]) -> None:
    for policy, names in (
        (POLICY, ("ana",)),
        (replace(POLICY, approvals=3), ("ana", "ben")),
        (replace(POLICY, profile="solo"), ("ana", "ben")),
        (replace(POLICY, profile="solo"), ("ana",)),
        (replace(POLICY, software_keys=False), ("ana", "ben", "cleo")),
    ):
        rig = make_rig(policy, sealed=False, names=names)
        with pytest.raises(Refusal) as refusal:
            rig.seal()
        assert refusal.value.code is Code.GENESIS_INCOMPLETE


def test_genesis_is_sealed_once(rig: Rig) -> None:
    first = rig.genesis
    with pytest.raises(Refusal) as refusal:
        rig.seal()
    assert refusal.value.code is Code.GENESIS_SEALED
    # The same order again, as after a crash before its answer, is answered as done.
    order = {"do": "seal", "statement": first.to_bytes().decode(), "details": []}
    assert service.ask(rig.home, order, 10)["genesis"] == first.digest
    assert rig.journal(lambda c: view.genesis(c)) == first
    assert rig.journal(ledger_check.check) == 1


def test_a_genesis_asked_for_through_the_gateway_is_refused(rig: Rig) -> None:
    with rig.press() as press:
        again = replace(rig.genesis, nonce=secrets.token_hex(16))
        rig.request(again)
        rig.sign(again, "ana", "ben", "cleo")
        rig.until(press, again.digest, "rejected")
        assert rig.journal(view.heads).roster == rig.genesis.digest


def test_nothing_is_done_before_genesis(make_rig: Callable[..., Rig], files: Files) -> None:
    unsealed, sealed = make_rig(sealed=False), make_rig()
    unsealed.genesis = sealed.genesis
    statement = sealed.statement(PolicyBody(POLICY), sealed.genesis.digest)
    unsealed.request(statement)
    unsealed.sign(statement, "ana", "ben")
    with unsealed.press() as press:
        drop(unsealed, {"freeze": {"project": "", "reason": "early"}})
        press.tick()
        press.tick()
    assert unsealed.decision(statement.digest) is None
    assert len(unsealed.journal(view.narrowings)) == 1


def test_solo_publishes_with_two_keys_and_not_with_one(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(replace(POLICY, profile="solo"), sealed=False, names=("ana", "ben"))
    keys = tuple(sorted((rig.keys["ana"].key, rig.keys["ben"].key), key=lambda key: key.id))
    only = Person("p-ana", rig.details("ana").commitment, (), keys)
    rig.roster = lambda *_, **__: Roster((only,))  # type: ignore[method-assign]  # one person, whatever is asked
    rig.seal()
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0", requester="p-ana")
        rig.sign(statement, "ana")
        assert rig.stays(press, statement.digest, "seen").code == "quorum.missing"
        rig.sign(statement, "ben")
        rig.stays(press, statement.digest, "approved")  # the delay, although the policy says none
        world.advance(121)
        rig.until(press, statement.digest, "verified")


def recovery(
    rig: Rig, without: tuple[str, ...] = ("ana",), seed: str = ""
) -> tuple[Statement, dict[str, Any]]:
    body = RosterBody(rig.roster(without), recovery=True)
    statement = rig.statement(body, rig.journal(view.heads).roster, life_s=20 * 86_400)
    private = service.recovery_signer(seed or rig.identity.recovery_key)
    public = sha256_hex(private.public_key().public_bytes_raw())
    approval = Approval(
        statement.digest, public, "recovery", private.sign(signed_message(statement.to_bytes()))
    )
    order = {
        "do": "recover",
        "statement": statement.to_bytes().decode(),
        "approval": approval.to_json(),
    }
    return statement, order


def order_at(press: Press, order: dict[str, Any]) -> dict[str, Any]:
    path = press.desk.inbox / f"{secrets.token_hex(4)}.json"
    path.write_text(json.dumps(order))
    press.tick()
    answer: dict[str, Any] = json.loads(path.with_suffix(".done").read_text())
    return answer


def test_the_recovery_key_waits_72_hours_and_everybody_is_told(rig: Rig) -> None:
    world, clock = world_clock()
    with rig.press(clock) as press:
        statement, order = recovery(rig)
        assert order_at(press, order)["ok"]
        told = rig.journal(
            lambda c: list(c.execute(sa.select(t.NOTICE.c.address, t.NOTICE.c.subject)))
        )
        assert {address for address, subject in told if subject == "The recovery key was used"} == {
            f"mailto:{name}@team.invalid" for name in rig.names
        }
        world.advance(RECOVERY_WAIT_S - 60)
        rig.stays(press, statement.digest, "seen")
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        world.advance(61)
        rig.until(press, statement.digest, "admitted")
        assert rig.journal(view.roster).person("p-ana") is None


def test_one_veto_ends_a_recovery(rig: Rig) -> None:
    world, clock = world_clock()
    with rig.press(clock) as press:
        statement, order = recovery(rig)
        order_at(press, order)
        drop(rig, {"veto": {"statement": statement.digest, "reason": "not us"}})
        rig.until(press, statement.digest, "rejected")
        world.advance(RECOVERY_WAIT_S + HOUR_S)
        rig.stays(press, statement.digest, "rejected")
        order_at(press, order)
        rig.stays(press, statement.digest, "rejected")
        assert rig.journal(view.heads).roster == rig.genesis.digest


def test_another_recovery_key_is_refused(rig: Rig, make_rig: Callable[..., Rig]) -> None:
    with rig.press() as press:
        _, order = recovery(rig, seed=make_rig().identity.recovery_key)
        assert order_at(press, order)["code"] == "approval.invalid"
        statement, order = recovery(rig)
        order["approval"]["signature"] = order["approval"]["signature"][::-1]
        assert order_at(press, order)["ok"] is False
        assert rig.decision(statement.digest) is None


def test_a_recovery_seen_by_the_press_before_the_key_was_used_waits_all_the_same(rig: Rig) -> None:
    world, clock = world_clock()
    with rig.press(clock) as press:
        statement, order = recovery(rig)
        rig.request(statement)  # anybody may ask; three days later the key's thief signs
        rig.stays(press, statement.digest, "seen")
        world.advance(RECOVERY_WAIT_S + 60)
        order_at(press, order)
        rig.stays(press, statement.digest, "seen")
        world.advance(RECOVERY_WAIT_S - 120)
        order_at(press, order)  # asking again neither shortens nor prolongs it
        rig.stays(press, statement.digest, "seen")
        world.advance(180)
        rig.until(press, statement.digest, "admitted")


def test_a_clock_that_jumps_does_not_bring_a_recovery_into_force(rig: Rig) -> None:
    world, clock = world_clock()
    with rig.press(clock) as press:
        statement, order = recovery(rig)
        order_at(press, order)
        world.jump_wall(RECOVERY_WAIT_S + 60)
        press.tick()
        world.advance(31)
        rig.stays(press, statement.digest, "seen")
        assert rig.journal(view.heads).roster == rig.genesis.digest


def test_an_upstream_takes_a_quorum_and_its_sealed_credential(rig: Rig) -> None:
    with rig.press() as press:
        body = UpstreamBody(
            "main",
            "pypi",
            rig.registry.upload_url,
            rig.registry.simple_url,
            "__token__",
            "custody",
            "ab" * 32,
        )
        unsealed = rig.statement(body, rig.genesis.digest)
        rig.request(unsealed)
        rig.sign(unsealed, "ana")
        assert rig.stays(press, unsealed.digest, "seen").code == "quorum.missing"
        rig.sign(unsealed, "ben")
        assert rig.stays(press, unsealed.digest, "seen").code == "upstream.missing"
        assert not rig.journal(view.upstreams)
        order = {
            "do": "credential",
            "statement": unsealed.to_bytes().decode(),
            "secret": TOKEN,
            "salt": "00",
        }
        assert order_at(press, order)["ok"] is False  # another credential than people approved
        rig.stays(press, unsealed.digest, "seen")
        rig.upstream(press)
        assert set(rig.journal(view.upstreams)) == {"main"}


def test_a_release_for_an_upstream_that_was_replaced_is_asked_for_again(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.upstream(press)
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "stale")
        again = rig.stage(press, files(), "demo", "1.0")
        rig.sign(again, "ana", "ben")
        rig.until(press, again.digest, "verified")


# --- law 5: the credential stays where it is --------------------------------------------------------------------------


class EchoingRegistry(LoopbackServer):
    """Refuses every upload and repeats the password in reason phrase and body, as some servers' debug pages do."""

    def answer(self, request: Request) -> Response | None:
        if request.method != "POST":
            return Response(404)
        password = basic_credentials(request.headers["authorization"])[1]
        return Response(403, f"no such token: {password}".encode(), reason=f"bad {password}")


def spelled(secret: str) -> list[bytes]:
    raw = secret.encode()
    pair = f"__token__:{secret}".encode()
    return [raw, base64.b64encode(raw), base64.b64encode(pair), raw.hex().encode(), raw[::-1]]


def assert_nowhere(home: Path, said: str) -> None:
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [one for one in spelled(TOKEN) if one in data], path
    assert not [one for one in spelled(TOKEN) if one.decode() in said]


def test_the_credential_stands_in_no_file_no_log_and_no_proof(
    rig: Rig, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rig.registry.error_before_store(times=1)
    with rig.press() as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")
    assert list((rig.home / "press" / "keys" / "credentials").iterdir())
    assert_nowhere(rig.home, caplog.text)


def test_a_registry_that_repeats_the_credential_does_not_spread_it(
    rig: Rig, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with EchoingRegistry() as echo, rig.press() as press:
        rig.upstream(press, upload_url=f"{echo.url}/legacy/", index_url=f"{echo.url}/simple/")
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        decision = rig.until(press, statement.digest, "failed")
        assert decision.code == "upstream.refused"
        assert "[credential]" in decision.message
    assert_nowhere(rig.home, caplog.text)


def test_an_envelope_moved_to_another_upstream_does_not_open(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        first = rig.upstream(press)
        second = rig.upstream(press, "other")
        folder = rig.home / "press" / "keys" / "credentials"
        shutil.copy(folder / f"{first}.json", folder / f"{second}.json")
        with pytest.raises(Fault, match="does not open"):
            press.tools.vault.use(second)
        assert press.tools.vault.use(first) == TOKEN.encode()


def test_a_credential_that_is_gone_stops_the_upload_and_nothing_else(
    rig: Rig, files: Files
) -> None:
    with rig.press() as press:
        upstream = rig.upstream(press)
        envelope = rig.home / "press" / "keys" / "credentials" / f"{upstream}.json"
        kept = envelope.read_bytes()
        envelope.unlink()
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        wait_for(lambda: press.tick() or rig.decision(statement.digest).code == "keystore.missing")  # type: ignore[union-attr]  # staged above
        envelope.write_bytes(kept)
        rig.until(press, statement.digest, "verified")
    assert len(rig.registry.uploads) == 1


# --- restored backups, and more than one press ------------------------------------------------------------------------


def restored(rig: Rig, backup: Path) -> None:
    shutil.rmtree(rig.home / "press" / "journal")
    shutil.copytree(backup, rig.home / "press" / "journal")
    service.mark_restored(rig.home)


@pytest.mark.parametrize("claimed", [False, True], ids=["approved", "claimed"])
def test_a_restored_press_starts_frozen_and_publishes_nothing_from_before(
    make_rig: Callable[..., Rig], files: Files, tmp_path: Path, claimed: bool
) -> None:
    rig = make_rig(replace(POLICY, veto_window_s=0 if claimed else 100))
    rig.registry.error_before_store(times=None)
    world, clock = world_clock()
    with rig.press(clock) as press:
        rig.upstream(press)
        statement = rig.stage(press, files(), "demo", "1.0", life_s=9000)
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "publishing" if claimed else "approved")
        wait_for(lambda: press.tick() or not press.busy)
    backup = tmp_path / "backup"
    shutil.copytree(rig.home / "press" / "journal", backup)
    restored(rig, backup)
    rig.registry.heal()
    world.advance(60)
    with rig.press(Clock(world.wall, world.monotonic)) as press:
        world.advance(110)
        if not claimed:
            assert rig.stays(press, statement.digest, "approved").code == "narrowing.frozen"
        (freeze,) = rig.journal(view.narrowings)
        later = int(world.wall())
        ending = clear(rig, press, freeze.id, issued_at=later, expires_at=later + 9000)
        rig.until(press, ending.digest, "admitted")
        world.advance(2)
        over = rig.until(press, statement.digest, "failed" if claimed else "expired")
        assert over.code == "statement.expired"
        assert "restored" in over.message  # its own life is not over yet
    assert not rig.registry.files()


def test_a_restored_press_reads_the_drop_box_again(rig: Rig, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(rig.home / "press" / "journal", backup)
    with rig.press() as press:
        drop(rig, {"freeze": {"project": "demo", "reason": "after the backup"}})
        press.tick()
    restored(rig, backup)
    with rig.press() as press:
        press.tick()
    assert {one.target for one in rig.journal(view.narrowings)} == {"", "demo"}


def test_a_second_press_on_a_home_does_not_start(rig: Rig) -> None:
    command = [sys.executable, "-m", "presspass.services.press", "--home", str(rig.home)]
    with service.writer_lock(rig.home):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "another press" in done.stderr


def test_of_two_presses_on_one_journal_the_one_that_lives_keeps_its_work(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    """Its lease is long enough for a machine that stands still for a second, and its upload takes longer than that."""
    rig = make_rig(lease_ms=3_000)
    go_on = threading.Event()
    with rig.press() as first, rig.press() as second:
        rig.upstream(first)
        statement = rig.stage(first, files(), "demo", "1.0")
        watch(first, before=lambda name: go_on.wait(60))
        rig.sign(statement, "ana", "ben")
        rig.until(first, statement.digest, "publishing")
        over_ms = time.time() * 1000 + 6_000  # it was renewed meanwhile, or is over
        wait_for(lambda: first.tick() or second.tick() or time.time() * 1000 > over_ms, 60)
        wait_for(lambda: first.tick() or second.tick() or go_on.set() or finished(rig, statement))
        assert rig.journal(fence_of(statement)) == 1
    assert len(rig.registry.uploads) == 1


def finished(rig: Rig, statement: Statement) -> bool:
    decision = rig.decision(statement.digest)
    return decision is not None and decision.state in journal.FINAL


def fence_of(statement: Statement) -> Callable[[Any], int]:
    query = sa.select(t.INTENT.c.fence).where(t.INTENT.c.statement == statement.digest)
    return lambda connection: connection.execute(query).scalar_one()  # type: ignore[no-any-return]  # an integer column


@pytest.mark.parametrize("outcome", ["lost connection", "refusal"])
def test_a_press_that_lost_its_lease_has_nothing_more_to_say(
    make_rig: Callable[..., Rig], files: Files, outcome: str
) -> None:
    """The first press hangs before its upload, the second takes over; then the first wakes up with a bad answer."""
    rig = make_rig(lease_ms=200)
    wake = threading.Event()

    def hang(name: str) -> None:
        wake.wait(20)
        if outcome == "refusal":
            raise Refusal(Code.UPSTREAM_REFUSED, "somebody else stored it already")
        raise Fault("upstream.unreachable", "the connection is gone", retryable=True)

    with rig.press() as first, rig.press() as second:
        rig.upstream(first)
        statement = rig.stage(first, files(sdist=True), "demo", "1.0")
        second.publications.tools = replace(second.tools, lease_ms=60_000)
        watch(first, before=hang)
        rig.sign(statement, "ana", "ben")
        rig.until(first, statement.digest, "publishing")
        lost = first.publications._running[statement.digest].lease

        def let_first_speak(name: str) -> None:
            if not wake.is_set():
                wake.set()
                wait_for(lambda: first.tick() or not first.busy)

        sent = watch(second, after=let_first_speak)
        rig.until(second, statement.digest, "verified")
        assert len(sent) == 2
        assert rig.journal(fence_of(statement)) == 2
        for write in (
            lambda c: journal.renew(c, lost, 1, 1),
            lambda c: journal.postpone(c, lost, 1),
            lambda c: journal.finish(c, lost, 1),
        ):
            with pytest.raises(Fault, match="taken over"):
                first.tools.writer.run(write)
        rig.stays(first, statement.digest, "verified")
    assert len(rig.registry.uploads) == 2
    assert rig.journal(ledger_check.check) > 3


def test_every_narrowing_and_decision_stands_in_the_ledger(rig: Rig, files: Files) -> None:
    with rig.press() as press:
        rig.upstream(press)
        drop(rig, {"freeze": {"project": "other", "reason": ""}})
        statement = rig.stage(press, files(), "demo", "1.0")
        rig.sign(statement, "ana", "ben")
        rig.until(press, statement.digest, "verified")
    entries = rig.ledger()
    assert [entry["kind"] for entry in entries] == [
        "genesis",
        *("credential", "asked", "signed", "signed", "approved", "admitted"),
        "narrowing",
        *("asked", "signed", "signed", "approved", "intent", "verified"),
    ]
    assert hashlib.sha256(files()[0].read_bytes()).hexdigest() in json.dumps(entries[-2])
