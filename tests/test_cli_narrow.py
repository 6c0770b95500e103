"""Stopping things past the gate: what the commands drop is what the press reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import packages
from cli_gate import StandInGate, make_release
from presspass.cli import exits
from presspass.cli.main import run
from presspass.core.digests import sha256_hex
from presspass.core.roster import Key
from presspass.core.statement import Intent, Statement
from presspass.formats import sshsig
from presspass.press.dropbox import DropBox
from presspass.verify.approvals import verify_approval


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


def test_a_dropped_freeze_needs_no_key_and_is_read_by_the_press(drop: Path) -> None:
    assert (
        run(["freeze", "--project", "My.Project", "--reason", "leak", "--drop", str(drop), "--yes"])
        == exits.DONE
    )
    [found] = DropBox(drop).look()
    assert (found.what, found.target, found.reason) == ("freeze", "my-project", "leak")


def test_a_dropped_freeze_that_denies_what_is_open_says_so_and_no_other_does(drop: Path) -> None:
    assert run(["freeze", "--deny-all", "--drop", str(drop), "--yes"]) == exits.DONE
    [found] = DropBox(drop).look()
    assert (found.what, found.target, found.denies) == ("freeze", "", True)
    assert run(["freeze", "--deny-all", "--clear", "0", "--home", str(drop)]) == exits.CANNOT_SAY


def test_a_freeze_of_everything_is_asked_about_and_a_no_leaves_nothing(
    drop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run(["freeze", "--drop", str(drop)]) == exits.INTERRUPTED
    assert "EVERYTHING" in capsys.readouterr().err
    assert list(drop.iterdir()) == []


def test_a_dropped_veto_of_a_request_needs_neither_the_gate_nor_a_key(drop: Path) -> None:
    digest = sha256_hex(b"some request")
    url = f"https://gate.invalid/q/{digest}"
    assert run(["veto", url, "--drop", str(drop), "--reason", "not mine"]) == exits.DONE
    [found] = DropBox(drop).look()
    assert (found.what, found.target, found.reason) == ("veto", digest, "not mine")


def test_a_signed_veto_from_a_file_is_dropped_with_its_signature(
    drop: Path, tmp_path: Path, ssh_keygen: Path
) -> None:
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    statement = make_release(
        [packages.make_wheel(tmp_path, "greet", "1.0")], "greet", "1.0"
    ).statement
    (tmp_path / "request.json").write_bytes(statement.to_bytes())
    arguments = [
        "--statement",
        str(tmp_path / "request.json"),
        "--drop",
        str(drop),
        "--key",
        str(tmp_path / "id"),
        "--yes",
    ]
    assert run(["veto", *arguments]) == exits.DONE
    [found] = DropBox(drop).look()
    assert (found.what, found.target) == ("veto", statement.digest)
    assert found.statement is not None
    assert found.approval is not None
    key = Key("ssh", sshsig.parse_public_key_line((tmp_path / "id.pub").read_text()))
    assert found.statement.intent is Intent.VETO
    verify_approval(
        found.statement.to_bytes(),
        found.approval,
        key,
        origin="https://g.example",
        rp_id="g.example",
    )


def test_a_drop_is_written_whole_or_not_at_all(drop: Path) -> None:
    run(["freeze", "--drop", str(drop), "--yes"])
    [path] = drop.iterdir()
    assert path.suffix == ".json"
    assert json.loads(path.read_text()) == {"freeze": {"project": "", "reason": ""}}


def test_a_drop_box_that_cannot_be_written_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = Path("/proc")
    assert run(["freeze", "--drop", str(closed), "--yes"]) == exits.FAULT
    assert "cannot be written" in capsys.readouterr().err


def test_a_genesis_is_never_signed_as_a_request(tmp_path: Path, drop: Path) -> None:
    from dataclasses import replace

    from presspass.cli.genesis import Identity, genesis_statement
    from presspass.core.roster import Roster
    from presspass.services.config import Config

    genesis = genesis_statement(
        Config("https://g.example"), Identity("a" * 64, "b" * 64), Roster(())
    )
    for statement in (genesis, _veto(tmp_path)):
        (tmp_path / "request.json").write_bytes(replace(statement).to_bytes())
        arguments = [
            "--statement",
            str(tmp_path / "request.json"),
            "--drop",
            str(drop),
            "--key",
            __file__,
            "--yes",
        ]
        assert run(["veto", *arguments]) == exits.REFUSED


def _veto(folder: Path) -> Statement:
    release = make_release([packages.make_wheel(folder, "greet", "1.0")], "greet", "1.0")
    return release.statement.with_intent(Intent.VETO)


def test_without_key_or_drop_a_veto_is_wrong_usage(tmp_path: Path) -> None:
    with StandInGate(
        make_release([packages.make_wheel(tmp_path, "greet", "1.0")], "greet", "1.0")
    ) as gate:
        assert run(["veto", gate.page]) == exits.CANNOT_SAY
        assert gate.received == []
