"""`presspass history`: what was done is found after the fact, in words, as a document, as lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from press_rig import TOKEN, Rig
from presspass.cli.main import run
from presspass.core.policy import Policy
from presspass.core.statement import PolicyBody, Statement
from presspass.drill.packages import make_wheel
from presspass.drill.world.registry import Registry

POLICY = Policy(veto_window_s=0, software_keys=True, key_wait_s=0)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two releases under two policies: ana asked, ben approved the first and cleo the second."""
    folder = tmp_path_factory.mktemp("installation")
    with Registry(seed=7, token=TOKEN) as registry:
        built = Rig(folder / "home", registry, POLICY).build()
        built.seal()
        built.put_details(*(built.details(name) for name in built.names))
        with built.press() as press:
            built.upstream(press)
            for version, signer in (("1.0", "ben"), ("2.0", "cleo")):
                wheel = make_wheel(folder, "demo", version)
                release = built.stage(press, [wheel], "demo", version)
                built.sign(release, signer)
                built.until(press, release.digest, "verified")
                if version == "1.0":
                    body = PolicyBody(replace(POLICY, quiet_period_s=60))
                    change = built.statement(body, built.genesis.digest)
                    built.request(change)
                    built.sign(change, "ana", "ben")
                    built.until(press, change.digest, "admitted")
        yield built
        built.rows.close()


def ask(
    rig: Rig, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0
) -> tuple[str, str]:
    assert run(["history", "--home", str(rig.home), *words]) == code
    shown = capsys.readouterr()
    return shown.out, shown.err


def lines(rig: Rig, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    out, _ = ask(rig, capsys, *words, "--format", "jsonl")
    return [json.loads(line) for line in out.splitlines()]


def test_everything_that_a_key_signed(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    cleo = rig.keys["cleo"].key.id
    (act,) = lines(rig, capsys, "--key", cleo[:12])
    assert (act["title"], act["outcome"], act["upstream"]) == ("demo 2.0", "verified", "main")
    assert {one["person"] for one in act["signed_by"]} == {"p-ana", "p-cleo"}
    assert [one["key"] for one in act["approvals"]] == [one["key"] for one in act["signed_by"]]
    assert Statement.from_bytes(act["statement"].encode()).digest == act["digest"]
    kinds = [json.loads(one["entry"])["kind"] for one in act["entries"]]
    assert kinds == ["asked", "signed", "signed", "approved", "intent", "verified"]
    positions = [one["position"] for one in act["entries"]]
    assert positions == sorted(positions)
    assert lines(rig, capsys, "--person", "Cleo") == [act]


def test_everything_under_a_policy(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert [one["title"] for one in lines(rig, capsys, "--policy", "2")] == ["demo 2.0"]
    first = [one["title"] for one in lines(rig, capsys, "--policy", "1", "--kind", "release")]
    assert first == ["demo 1.0"]


def test_a_document_has_what_the_lines_have(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = ask(rig, capsys, "--format", "json")
    assert json.loads(out) == {"acts": lines(rig, capsys)}
    out, _ = ask(rig, capsys, "--format", "json", "--until", "2001-01-01")
    assert json.loads(out) == {"acts": []}


def test_people_read_names_and_times(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = ask(rig, capsys)
    told = [line for line in out.splitlines() if not line.startswith(" ")]
    assert [line.split("  ")[1].split()[0] for line in told] == [
        *("admitted", "admitted", "verified", "admitted", "verified")
    ]
    assert "release: demo 1.0 to main" in out and "signed by  Ben (p-ben), software-passkey" in out
    assert "policy 2; entries " in out
    assert err == "5 acts\n"


def test_nothing_found_is_no_failure(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(rig, capsys, "--project", "other") == ("", "Nothing answers this question.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--key", "00112233"),
            "no key of this roster or an earlier one that starts with 00112233",
        ),
        (("--policy", "7"), "There are: 1 ("),
        (("--workflow", "acme/x"), "No publisher was ever bound to 'acme/x'"),
        (("--person", "Mallory"), "There are: Ana (p-ana), Ben (p-ben), Cleo (p-cleo)."),
    ],
)
def test_what_nobody_knows_is_a_refusal(
    rig: Rig, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    out, err = ask(rig, capsys, *words, code=1)
    assert out == "" and said in err and "[request.not-found]" in err


def test_evidence_is_written_by_the_press_and_checked_by_anybody_with_the_trust_root(
    rig: Rig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trust, file = tmp_path / "trust-root.json", tmp_path / "cleo.evidence.json"
    trust.write_bytes(rig.genesis.to_bytes())
    cleo = rig.keys["cleo"].key.id
    out, err = ask(rig, capsys, "--key", cleo, "--evidence", str(file))
    assert out == "" and f"presspass verify {file} --trust FILE" in err
    check = ["verify", str(file), "--trust", str(trust)]
    assert run(check) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("VALID  evidence of 1 act, made") and f"key {cleo}" in shown
    assert "signed by  p-cleo, software-passkey" in shown
    assert "That none is missing is not proved" in shown
    assert run([*check, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["acts"] == lines(rig, capsys, "--key", cleo)
    assert (found["valid"], found["question"]["key"]) == (True, [cleo])

    assert run(check[:2]) == 2  # nothing to trust
    other = tmp_path / "other.json"
    other.write_bytes(replace(rig.genesis, nonce="0" * 32).to_bytes())
    assert run([*check[:3], str(other)]) == 1
    assert "another installation" in capsys.readouterr().err
    file.write_bytes(file.read_bytes().replace(b'"made_at":1', b'"made_at":2'))
    assert run(check) == 1
    assert "[proof.invalid]" in capsys.readouterr().err


def test_the_documentation_shows_what_is_shown(
    rig: Rig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "evidence.md").read_text()
    documented = re.search(r"^```text\n(VALID.*?)```", page, re.MULTILINE | re.DOTALL)
    assert documented is not None
    trust, file = tmp_path / "trust-root.json", tmp_path / "all.evidence.json"
    trust.write_bytes(rig.genesis.to_bytes())
    ask(
        rig,
        capsys,
        "--since",
        "2001-01-01",
        "--key",
        rig.keys["ana"].key.id,
        "--evidence",
        str(file),
    )
    assert run(["verify", str(file), "--trust", str(trust)]) == 0
    shown = capsys.readouterr().out
    for line in documented[1].splitlines():
        fixed = line[:15] if line.startswith("  ") else line.partition("  ")[0]
        if not re.match(r"\d|    …", line):
            assert re.search(f"^{re.sub(r'of .*', 'of ', fixed)}", shown, re.MULTILINE), line


def test_evidence_is_not_made_where_it_would_be_lost_or_not_known(
    rig: Rig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    known = tmp_path / "known.evidence.json"
    known.write_text("mine")
    ask(rig, capsys, "--evidence", str(known), code=4)
    assert known.read_text() == "mine"
    ask(rig, capsys, "--evidence", str(tmp_path / "x.json"), code=2)
    gate = ("--gate", "https://gate.example")
    _, err = ask(rig, capsys, *gate, "--evidence", str(tmp_path / "y.evidence.json"), code=2)
    assert "press's host" in err
    ask(rig, capsys, "--policy", "9", "--evidence", str(tmp_path / "z.evidence.json"), code=1)
    assert [one.name for one in tmp_path.iterdir()] == ["known.evidence.json"]


def test_a_home_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["history", "--home", str(tmp_path / "none")]) in (1, 4)
    assert "error: " in capsys.readouterr().err
