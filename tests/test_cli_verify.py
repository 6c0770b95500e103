"""What `verify` takes for granted, which is nothing, and what it says about a proof that holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from presspass.cli import exits
from presspass.cli.main import run
from presspass.core.approval import Approval
from presspass.core.policy import Policy
from presspass.core.statement import Statement
from proof_world import FILE, Paper


@pytest.fixture(autouse=True)
def _no_trust_root_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRESSPASS_TRUST", raising=False)


def lay_out(
    folder: Path, paper: Paper, statement: Statement, approvals: tuple[Approval, ...]
) -> tuple[Path, Path]:
    """The file with its proof and a trust root beside it, as whoever serves the file could lay them out."""
    file = folder / FILE.name
    file.write_bytes(b"the wheel")
    proof = paper.proof(statement, approvals)
    Path(f"{file}.presspass.json").write_bytes(proof.to_bytes())
    trust = folder / "trust-root.json"
    trust.write_bytes(paper.genesis.to_bytes())
    return file, trust


def signed_by(paper: Paper, *names: str) -> tuple[Statement, tuple[Approval, ...]]:
    paper.add_upstream()
    statement = paper.release()
    return statement, paper.approve(statement, *names)


def test_no_trust_root_is_taken_from_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = Paper()
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, "ben", "cleo"))
    assert run(["verify", str(file)]) == exits.CANNOT_SAY
    told = capsys.readouterr()
    assert "VALID" not in told.out
    assert "--trust or PRESSPASS_TRUST" in told.err
    monkeypatch.setenv("PRESSPASS_TRUST", str(trust))
    assert run(["verify", str(file)]) == exits.DONE


def test_the_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paper = Paper()
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, "ben", "cleo"))
    proof = Path(f"{file}.presspass.json")
    assert run(["verify", str(file), "--trust", str(proof)]) == exits.REFUSED
    assert f"error: {proof}: " in capsys.readouterr().err
    assert run(["verify", str(file), "--trust", str(trust), "--proof", str(trust)]) == exits.REFUSED
    assert f"error: {trust}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("signers", "said"),
    [(("ben", "cleo"), "p-ana (the gateway's word)"), (("ana", "ben"), "p-ana, who signed that")],
)
def test_who_asked_is_called_the_gateways_word_unless_that_person_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signers: tuple[str, ...], said: str
) -> None:
    paper = Paper()
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, *signers))
    assert run(["verify", str(file), "--trust", str(trust)]) == exits.DONE
    assert f"asked by     {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize("profile", ["team", "solo"])
def test_a_solo_installation_is_called_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: str
) -> None:
    paper = Paper(policy=Policy(profile=profile, software_keys=True))
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, "ana", "ben"))
    words = ["verify", str(file), "--trust", str(trust)]
    assert run(words) == exits.DONE
    assert ("solo: one person" in capsys.readouterr().out) == (profile == "solo")
    assert run([*words, "--format", "json"]) == exits.DONE
    assert json.loads(capsys.readouterr().out)["profile"] == profile
