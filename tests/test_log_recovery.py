"""A ledger of which others have seen more publishes nothing until a quorum has signed what it goes on from."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

import backends
from press_rig import TOKEN, Rig
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Fault
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, log_key, sign
from presspass.core.ledger.witness import Submission
from presspass.core.log import LogBody, LogRecovery
from presspass.core.statement import FreezeBody, GenesisBody, Kind, Statement
from presspass.drill.packages import make_wheel
from presspass.drill.world.registry import Registry
from presspass.press.press import Press
from presspass.press.witnesses import Witnesses
from presspass.services import press as service
from presspass.services.config import read_config, write_config
from presspass.services.places import places
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store import ledger_check, ledger_view
from presspass.store.database import Writer, open_engine
from presspass.verify.proof import is_signed_by
from test_log_key import POLICY, chain, checked, publish
from test_press_crash import Fuse
from test_press_witnesses import configure, until_cosigned, witness_of
from witness_rig import Running

SEEN = 1000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Registry(seed=7, token=TOKEN) as registry:
        built = Rig(tmp_path / "home", registry, POLICY).build()
        built.seal()
        yield built
        built.rows.close()


@pytest.fixture
def witness(rig: Rig, tmp_path: Path) -> Iterator[Running]:
    """It has cosigned a ledger of SEEN entries, which this one has lost since: the log's key had signed them."""
    with witness_of(rig, tmp_path / "w") as running:
        key = Ed25519PrivateKey.from_private_bytes(
            (rig.home / "press" / "keys" / "log.key").read_bytes()
        )
        seen = Checkpoint(chain(rig).log.origin, SEEN, b"r" * 32)
        note = sign(seen, key.public_key().public_bytes_raw(), key.sign)
        assert running.submit(Submission(0, (), note))[0] == 200
        configure(rig, running)
        yield running


def until(press: Press, over: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not over():
        assert time.monotonic() < deadline, "never came to its end"
        press.tick()
        time.sleep(0.01)


def until_stopped(rig: Rig, press: Press) -> view.Narrowing:
    until(press, lambda: rig.journal(view.narrowings))
    (stop,) = rig.journal(view.narrowings)
    assert isinstance(stop, view.Narrowing)
    return stop


def body(rig: Rig, **changed: Any) -> LogBody:
    """What `presspass log recover` asks for."""
    head, now = rig.journal(ledger_view.head), chain(rig)
    root = merkle.edge_root(list(head.edge)).hex()
    recovery = LogRecovery(head.size, root, SEEN, "", "the disk was lost")
    return LogBody(now.next_log_origin, now.log.key, replace(recovery, **changed))


def ask(rig: Rig, wanted: LogBody, *signers: str) -> Statement:
    statement = rig.statement(wanted, chain(rig).head(Kind.LOG))
    rig.request(statement)
    rig.sign(statement, *signers)
    return statement


def test_nothing_goes_out_until_a_quorum_has_signed_the_recovery_and_then_all_is_checked(
    rig: Rig, witness: Running, tmp_path: Path
) -> None:
    first, second = (make_wheel(tmp_path, "demo", version) for version in ("1.0", "2.0"))
    with rig.press() as press:
        rig.upstream(press)
        stop = until_stopped(rig, press)
        assert stop.is_ledger_behind and str(SEEN) in stop.reason
        held = rig.stage(press, [first], "demo", "1.0")
        rig.sign(held, "ben")
        assert rig.stays(press, held.digest, "seen").code == Code.FROZEN.value
        clearing = rig.statement(FreezeBody("clear", "", (stop.id,), "it is nothing"))
        rig.request(clearing)
        rig.sign(clearing, "ana", "ben")
        decision = rig.until(press, clearing.digest, "rejected")
        assert decision.code == Code.NARROWING_CANNOT_CLEAR.value
        freeze = rig.freeze("cleo")  # requests and stops are heard as ever
        until(press, lambda: len(rig.journal(view.narrowings)) == 2)

        statement = ask(rig, body(rig), "ana")
        rig.stays(press, statement.digest, "seen")
        rig.sign(statement, "ben")
        rig.until(press, statement.digest, "admitted")
        assert [one.id for one in rig.journal(view.narrowings)] == [freeze.digest]
        assert {"kind": "cleared", "id": stop.id}.items() <= rig.ledger()[-1].items()
        again = rig.statement(FreezeBody("clear", "", (freeze.digest,), "looked at"))
        rig.request(again)
        rig.sign(again, "ana", "ben")
        rig.until(press, again.digest, "admitted")
        rig.until(press, held.digest, "verified")
    name = f"{rig.genesis.body_as(GenesisBody).log.origin}/2"
    now = chain(rig).log
    assert now.origin == name and is_signed_by(rig.journal(ledger_view.head).note, now)
    assert checked(rig, held, first).checkpoint.origin == name
    assert rig.journal(ledger_check.check) == rig.journal(ledger_view.size)
    # A witness that is told the new name cosigns it from its beginning, and nothing is stopped any more.
    with Running(tmp_path / "w2", log_key(name, now.public_key)) as other:
        configure(rig, other)
        with rig.press() as press:
            until_cosigned(rig, press)
            after = publish(rig, press, second, "2.0")
            until_cosigned(rig, press)
        assert checked(rig, after, second).checkpoint.origin == name
    assert rig.journal(view.narrowings) == []


def test_a_recovery_of_another_ledger_or_of_less_than_was_seen_is_refused(
    rig: Rig, witness: Running
) -> None:
    with rig.press() as press:
        until_stopped(rig, press)
        size = rig.journal(ledger_view.size)
        for wrong in (
            {"root": "ab" * 32},
            {"size": 1},
            {"size": size + 50},
            {"seen_size": SEEN - 1},
        ):
            statement = ask(rig, body(rig, **wrong), "ana", "ben")
            decision = rig.until(press, statement.digest, "rejected")
            assert decision.code == Code.LOG_UNUSABLE.value, wrong
        for name in (chain(rig).log.origin, f"{chain(rig).log.origin}/3", "elsewhere.example/log"):
            statement = ask(rig, replace(body(rig), origin=name), "ana", "ben")
            decision = rig.until(press, statement.digest, "rejected")
            assert decision.code == Code.LOG_UNUSABLE.value, name
        assert len(rig.journal(view.narrowings)) == 1


def test_of_two_recoveries_one_comes_into_force_and_the_next_has_a_name_of_its_own(
    rig: Rig, witness: Running
) -> None:
    with rig.press() as press:
        until_stopped(rig, press)
        first, second = ask(rig, body(rig), "ana", "ben"), ask(rig, body(rig), "ana", "cleo")
        rig.until(press, first.digest, "admitted")
        assert rig.until(press, second.digest, "stale").code == Code.STATEMENT_OLD_HEAD.value
        third = ask(rig, body(rig), "ana", "ben")
        rig.until(press, third.digest, "admitted")
    assert chain(rig).log.origin.endswith("/log/3")


def test_what_a_witness_answers_to_the_ledger_before_its_recovery_stops_nothing_after_it(
    rig: Rig, witness: Running
) -> None:
    with rig.press() as press:
        real, asked = press.witnesses, list[Statement]()
        asking = Witnesses(real.writer, real.narrowings, real.witnesses, real.post)
        real.witnesses = ()

        def post(url: str, data: bytes) -> tuple[int, str, bytes]:
            """The witness's own answer, which arrives when people have signed."""
            answer = real.post(url, data)
            if not asked:
                asked.append(ask(rig, body(rig), "ana", "ben"))
                rig.until(press, asked[0].digest, "admitted")
            return answer

        asking.post = post
        assert asking.look() == 0 and asked
        assert rig.journal(view.narrowings) == []


def cut(rig: Rig, before: dict[Any, Any]) -> None:
    """Puts the tables of the ledger back as they were; what is kept beside them stays."""
    writer = Writer(open_engine(places(rig.home, read_config(rig.home), "press").journal))

    def work(connection: Connection) -> None:
        for table, rows in before.items():
            connection.execute(sa.delete(table))
            if rows:
                connection.execute(sa.insert(table), rows)

    writer.run(work)
    writer.close()


def tables(connection: Connection) -> dict[Any, Any]:
    every = (t.LEDGER_ENTRY, t.LEDGER_TILE, t.LEDGER_HEAD, t.LEDGER_MENTION)
    return {
        one: [dict(row._mapping) for row in connection.execute(sa.select(one))] for one in every
    }


def test_a_ledger_that_was_cut_in_the_journal_is_stopped_by_what_is_kept_beside_it(
    rig: Rig, tmp_path: Path
) -> None:
    """Also with no witness to be asked: by its cosignature, or by the revocation head."""
    with witness_of(rig, tmp_path / "w") as running:
        configure(rig, running)
        with rig.press() as press:
            rig.upstream(press)
            before = rig.journal(tables)
            rig.freeze("ana", "some-project")
            press.tick()
            until_cosigned(rig, press)
            press.heads.look()
    seen = rig.journal(ledger_view.size)
    cut(rig, before)
    write_config(rig.home, replace(read_config(rig.home), witnesses=()))
    with rig.press() as press:
        (stop,) = [one for one in rig.journal(view.narrowings) if one.is_ledger_behind]
        assert "the journal says that" in stop.reason
        size = len(before[t.LEDGER_ENTRY])
        for wrong in ({"seen_size": seen - 1}, {"size": size, "root": "ab" * 32}):
            refused = ask(rig, body(rig, **{"seen_size": seen, **wrong}), "ana", "ben")
            assert rig.until(press, refused.digest, "rejected").code == Code.LOG_UNUSABLE.value
        statement = ask(rig, body(rig, seen_size=seen), "ana", "ben")
        rig.until(press, statement.digest, "admitted")
        assert not [one for one in rig.journal(view.narrowings) if one.is_ledger_behind]
        press.heads.look()
    with rig.press() as press:
        press.tick()
        assert not [one for one in rig.journal(view.narrowings) if one.is_ledger_behind]
    note = rig.journal(ledger_view.revocation_note)
    assert note.startswith(f"{chain(rig).log.origin}/revocations\n".encode())


def test_what_a_gateway_calls_a_witness_can_be_cleared_by_people(rig: Rig) -> None:
    """The source of a stop is the gateway's word: it must not make one that nobody can end."""
    row = {
        "id": sha256_hex(b"a stop"),
        "what": "person",
        "target": "p-cleo",
        "source": view.LEDGER_BEHIND,
        "made_ms": 1,
    }
    with rig.press() as press:
        rig.rows.run(lambda c: c.execute(g.STOP.insert().values(**row)))
        stop = until_stopped(rig, press)
        assert stop.source == view.LEDGER_BEHIND and not stop.is_ledger_behind
        clearing = rig.statement(FreezeBody("clear", "", (stop.id,), "looked at"))
        rig.request(clearing)
        rig.sign(clearing, "ana", "ben")
        rig.until(press, clearing.digest, "admitted")
    assert rig.journal(view.narrowings) == []


@pytest.mark.parametrize("persisted", [False, True], ids=["commit-lost", "commit-kept"])
def test_a_crash_at_any_commit_of_the_recovery_leaves_it_stopped_or_recovered(
    rig: Rig, witness: Running, persisted: bool
) -> None:
    with rig.press() as press:
        until_stopped(rig, press)
    statement = ask(rig, body(rig), "ana", "ben")
    rig.rows.close()
    for good in range(40):
        run = replace(rig, home=rig.home.with_name(f"run{good}"))
        run.genesis, run.identity = rig.genesis, rig.identity
        shutil.copytree(rig.home, run.home)
        backends.copied(run.home)
        fuse = Fuse(good, persisted)
        with service.composed(run.home, commit=fuse) as press:
            try:
                while not fuse.blown and not _is_admitted(run, statement):
                    press.tick()
            except Fault as fault:
                assert fault.code == "store.write-failed"
        recovered = chain(run).log.origin.endswith("/log/2")
        assert recovered == (run.journal(view.narrowings) == [])
        with service.composed(run.home) as press:
            until(press, lambda run=run: _is_admitted(run, statement))
        assert run.journal(view.narrowings) == []
        assert is_signed_by(run.journal(ledger_view.head).note, chain(run).log)
        if not fuse.blown:
            assert good >= 3
            return
    raise AssertionError("it never got through without a crash")


def _is_admitted(rig: Rig, statement: Statement) -> bool:
    decision = rig.decision(statement.digest)
    return decision is not None and decision.state == "admitted"
