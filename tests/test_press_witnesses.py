"""The press and its witnesses: a real one cosigns, proofs are renewed, a ledger that was set back is stopped."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from press_rig import TOKEN, Rig
from presspass.core.digests import sha256_hex
from presspass.core.errors import Refusal
from presspass.core.ledger.checkpoint import log_key, open_note
from presspass.core.ledger.note import VerifierKey
from presspass.core.policy import Policy
from presspass.core.statement import GenesisBody, Statement
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.registry import Registry
from presspass.notify import posting
from presspass.press import witnesses
from presspass.press.press import Press
from presspass.press.witnesses import Witness
from presspass.services.config import (
    Config,
    WitnessSettings,
    parse_config,
    read_config,
    write_config,
)
from presspass.store import journal_view, ledger_view
from presspass.verify.ed25519 import verifies
from presspass.verify.proof import Proof, check_proof, open_checkpoint
from test_log_key import chain, checked, proof_of, publish, rotate
from witness_rig import NAME, Running

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Registry(seed=7, token=TOKEN) as registry:
        built = Rig(tmp_path / "home", registry, POLICY).build()
        built.seal()
        yield built
        built.rows.close()


def witness_of(rig: Rig, home: Path) -> Running:
    """A real witness of the rig's ledger."""
    origin = rig.genesis.body_as(GenesisBody).log.origin
    return Running(home, log_key(origin, public_key(rig)))


def configure(rig: Rig, witness: Running) -> None:
    settings = WitnessSettings(f"http://127.0.0.1:{witness.port}", witness.key.to_text())
    write_config(rig.home, replace(read_config(rig.home), witnesses=(settings,)))


def until_cosigned(rig: Rig, press: Press) -> None:
    """Turns until the newest checkpoint is cosigned."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        press.tick()
        head, known = rig.journal(ledger_view.head), rig.journal(ledger_view.cosigned)
        if known.get(NAME, (0, b""))[0] == head.size:
            return
        time.sleep(0.02)
    raise AssertionError(f"not cosigned: {known}")


def public_key(rig: Rig) -> bytes:
    return bytes.fromhex(rig.identity.log_key)


def test_a_release_is_cosigned_and_its_proof_is_renewed_with_the_cosignature(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a transaction of its own here: all are renewed, however many there are at once."""
    monkeypatch.setattr(witnesses, "_PROOFS_AT_ONCE", 1)
    with witness_of(rig, tmp_path / "w") as witness:
        configure(rig, witness)
        with rig.press() as press:
            rig.upstream(press)
            files = [make_wheel(tmp_path, "demo", "1.0"), make_sdist(tmp_path, "demo", "1.0")]
            statement = rig.stage(press, files, "demo", "1.0")
            rig.sign(statement, "ben")
            rig.until(press, statement.digest, "verified")
            until_cosigned(rig, press)
        note = rig.journal(ledger_view.checkpoint)
        served = open_note(note, public_key(rig), verifies, [witness.key])
        assert [name for name, _time in served.witnesses] == [NAME]
        for path in files:
            data = rig.journal(
                lambda c, path=path: journal_view.proof(c, statement.digest, path.name)
            )
            assert data is not None
            data_of = path.read_bytes()
            valid = check_proof(
                Proof.from_bytes(data),
                filename=path.name,
                sha256=sha256_hex(data_of),
                size=len(data_of),
                trust_root=rig.genesis.digest,
                witnesses=[witness.key],
            )
            assert [name for name, _time in valid.witnesses] == [NAME]
            assert valid.checkpoint == served.checkpoint


def test_a_witness_that_is_away_keeps_nothing_waiting_and_is_asked_again(
    rig: Rig, tmp_path: Path
) -> None:
    with witness_of(rig, tmp_path / "w") as witness:
        configure(rig, witness)
    with rig.press() as press:
        rig.upstream(press)
        press.tick()
        assert rig.journal(ledger_view.cosigned) == {}
        with witness_of(rig, tmp_path / "w") as again:
            press.witnesses.witnesses = (
                replace(press.witnesses.witnesses[0], url=f"http://127.0.0.1:{again.port}"),
            )
            until_cosigned(rig, press)


def test_a_ledger_that_was_set_back_freezes_everything_and_is_shown_to_no_other_witness(
    rig: Rig, tmp_path: Path
) -> None:
    with witness_of(rig, tmp_path / "w") as witness:
        configure(rig, witness)
        with rig.press() as press:
            until_cosigned(rig, press)
        backup = tmp_path / "backup"
        shutil.copytree(rig.home / "press", backup)
        with rig.press() as press:
            rig.upstream(press)
            until_cosigned(rig, press)
        shutil.rmtree(rig.home / "press")
        shutil.copytree(backup, rig.home / "press")
        with rig.press() as press:
            deadline = time.monotonic() + 60
            while (
                not (found := rig.journal(journal_view.narrowings)) and time.monotonic() < deadline
            ):
                press.tick()
                time.sleep(0.02)
            (stop,) = found
            assert (stop.what, stop.target, stop.source) == ("freeze", "", "witness")
            assert "more than this ledger has" in stop.reason and stop.is_ledger_behind
            with witness_of(rig, tmp_path / "one that has seen nothing") as other:
                configure(rig, other)
                url = f"http://127.0.0.1:{other.port}"
                press.witnesses.witnesses = (Witness(url, other.key),)
                press.witnesses._patience.clear()
                before = rig.journal(ledger_view.cosigned)
                for _ in range(20):
                    press.tick()
                assert rig.journal(ledger_view.cosigned) == before
            assert len(rig.journal(journal_view.narrowings)) == 1


def test_after_a_rotation_nothing_is_frozen_and_who_knows_the_new_key_cosigns_again(
    rig: Rig, tmp_path: Path
) -> None:
    """Proofs from before keep the checkpoint that they have; later ones are renewed."""
    wheels = [make_wheel(tmp_path, "demo", version) for version in ("1.0", "2.0")]
    with rig.press() as press:
        with witness_of(rig, tmp_path / "w") as witness:
            configure(rig, witness)
        rig.upstream(press)
        before = publish(rig, press, wheels[0], "1.0")
        key = rotate(rig, press)
        after = publish(rig, press, wheels[1], "2.0")
    kept = proof_of(rig, before, wheels[0])
    with witness_of(rig, tmp_path / "w") as witness, rig.press() as press:
        press.witnesses.witnesses = (
            replace(press.witnesses.witnesses[0], url=f"http://127.0.0.1:{witness.port}"),
        )
        assert press.witnesses.look() == 0, "it does not know the key"
        assert rig.journal(journal_view.narrowings) == []
        assert cosigned_by(rig, after, wheels[1], witness) == []
    old, new = (
        log_key(chain(rig).log.origin, one) for one in (public_key(rig), bytes.fromhex(key))
    )
    with Running(tmp_path / "w", old, new) as witness, rig.press() as press:
        press.witnesses.witnesses = (
            replace(press.witnesses.witnesses[0], url=f"http://127.0.0.1:{witness.port}"),
        )
        until_cosigned(rig, press)
        assert rig.journal(journal_view.narrowings) == []
        deadline = time.monotonic() + 60
        while not cosigned_by(rig, after, wheels[1], witness) and time.monotonic() < deadline:
            press.tick()
        assert cosigned_by(rig, after, wheels[1], witness) == [NAME]
    assert proof_of(rig, before, wheels[0]) == kept
    checked(rig, before, wheels[0])


def cosigned_by(rig: Rig, statement: Statement, wheel: Path, witness: Running) -> list[str]:
    valid = checked(rig, statement, wheel, [witness.key])
    return [name for name, _time in valid.witnesses]


def test_a_witness_that_cosigned_before_and_after_a_rotation_has_seen_one_log(
    rig: Rig, tmp_path: Path
) -> None:
    with witness_of(rig, tmp_path / "w") as witness:
        configure(rig, witness)
        with rig.press() as press:
            until_cosigned(rig, press)
            key = rotate(rig, press)
    new = log_key(chain(rig).log.origin, bytes.fromhex(key))
    with Running(tmp_path / "w", new) as witness:
        configure(rig, witness)
        with rig.press() as press:
            until_cosigned(rig, press)
        note, log = rig.journal(ledger_view.checkpoint), chain(rig).log
        assert [name for name, _at in open_checkpoint(note, log, [witness.key]).witnesses] == [NAME]


def test_what_is_written_of_witnesses_is_read_back_and_nonsense_is_refused() -> None:
    key = VerifierKey(NAME, 4, bytes(32)).to_text()
    config = Config("https://gate.example", witnesses=(WitnessSettings("https://w.example", key),))
    assert parse_config(config.to_toml()) == config
    log = VerifierKey(NAME, 1, bytes(32)).to_text()
    for url, wrong in (
        ("http://w.example", key),
        ("https://w.example", "nonsense"),
        ("https://w.example", log),
    ):
        with pytest.raises(Refusal):
            parse_config(replace(config, witnesses=(WitnessSettings(url, wrong),)).to_toml())
    with pytest.raises(Refusal, match="same name"):
        parse_config(replace(config, witnesses=config.witnesses * 2).to_toml())


def test_an_answer_that_drips_ends_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A witness must not keep the press from asking the others, nor from ending."""
    monkeypatch.setattr(posting, "WITNESS_TIMEOUT_S", 0.3)
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as line:
            line.recv(65536)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not over.wait(0.05):
                line.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            with pytest.raises(OSError, match="too slow"):
                posting.post(f"http://127.0.0.1:{listener.getsockname()[1]}/add-checkpoint", b"x")
        finally:
            over.set()
            thread.join()
