"""What `verify` takes for granted, which is nothing, and what it says about a proof that holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from presspass.cli import exits, start
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


# the short way of `presspass verify` (cli.start)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("profile", ["team", "solo"])
def test_the_short_way_says_of_a_valid_proof_what_the_command_says(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    profile: str,
) -> None:
    paper = Paper(policy=Policy(profile=profile, software_keys=True))
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, "ana", "ben"))
    moved = tmp_path / "elsewhere.json"
    Path(f"{file}.presspass.json").rename(moved)
    words = ["verify", str(file), "--proof", str(moved), "--trust", str(trust), "--format", form]
    assert run(words) == exits.DONE
    said = capsys.readouterr().out
    assert start.valid_verdict(words) == said
    assert start.valid_verdict(["verify", *words[2:], str(file)]) == said
    monkeypatch.setenv("PRESSPASS_TRUST", str(trust))
    moved.rename(f"{file}.presspass.json")
    assert start.valid_verdict(["verify", str(file), "--format", form]) == said


def test_the_short_way_answers_nothing_but_plain_words_about_a_valid_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = Paper()
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, "ana", "ben"))
    words = ["verify", str(file), "--trust", str(trust)]
    assert start.valid_verdict(words)
    evidence = file.with_name("act.evidence.json")
    evidence.write_bytes(file.read_bytes())
    for other in (
        [],
        ["verify"],
        words[:2],
        words[:3],
        ["audit", *words[1:]],
        [*words, "--witness", "w+1+x"],
        [*words, "--max-age", "1d"],
        [*words, "--help"],
        [*words, "-h"],
        [*words, str(file)],
        [*words, "--trust", str(trust)],
        [*words, "--format", "yaml"],
        [*words, "--proof", "--trust"],
        [*words, "--proof", ""],
        [*words, "--proof"],
        [*words, "--proof", str(trust)],
        [*words[:3], str(file)],
        [*words[:3], str(tmp_path / "missing")],
        ["verify", str(trust), *words[2:]],
        ["verify", str(tmp_path), *words[2:]],
        ["verify", str(evidence), "--proof", f"{file}.presspass.json", *words[2:]],
        ["verify", f"--trust={trust}", str(file)],
        ["verify", "--", str(file), "--trust", str(trust)],
    ):
        assert start.valid_verdict(other) is None, other
    with monkeypatch.context() as patch:
        patch.setenv("PRESSPASS_WITNESS", "w+1+x")
        assert start.valid_verdict(words) is None
    file.write_bytes(b"the wheeL")
    assert start.valid_verdict(words) is None


def test_a_valid_proof_is_answered_without_what_other_commands_need(tmp_path: Path) -> None:
    paper = Paper()
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, "ana", "ben"))
    program = f"""
import sys
before = set(sys.modules)
from presspass.cli.start import valid_verdict
print(valid_verdict(["verify", {str(file)!r}, "--trust", {str(trust)!r}]))
heavy = {{"click", "pathlib", "urllib.parse", "packaging", "rfc8785", "rich", "socket",
    "cryptography.hazmat.primitives.serialization"}}
print(sorted(heavy & (set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], text=True, capture_output=True, check=True
    )
    assert done.stdout.startswith("VALID ")
    assert done.stdout.endswith("\n[]\n"), done.stdout


def test_the_installed_program_ends_with_all_its_words_and_the_right_code(tmp_path: Path) -> None:
    paper = Paper()
    file, trust = lay_out(tmp_path, paper, *signed_by(paper, "ana", "ben"))
    program = Path(sys.executable).with_name("presspass")
    words = ["verify", str(file), "--trust", str(trust)]
    done = subprocess.run([program, *words], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (exits.DONE, start.valid_verdict(words))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [program, *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.returncode != exits.DONE
    assert "Traceback" not in done.stderr
    file.write_bytes(b"the wheeL")
    done = subprocess.run([program, *words], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (exits.REFUSED, "")
    assert "proof.wrong-file" in done.stderr
