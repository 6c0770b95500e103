"""Approving at a terminal: the gate is believed in nothing, and what is signed is what was looked at."""

from __future__ import annotations

import base64
import io
import json
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import packages
from cli_gate import (
    GENESIS,
    RELEASE_ID,
    StandInGate,
    as_json,
    make_release,
    make_upstream,
    request_json,
)
from presspass.cli import exits
from presspass.cli.main import run
from presspass.core.delegation import DelegationBody
from presspass.core.digests import sha256_hex
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Key, Roster
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    AskedBy,
    GenesisBody,
    Heads,
    Intent,
    ReleaseBody,
    RosterBody,
    Statement,
)
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.loopback import Response
from presspass.formats import sshsig
from presspass.verify.approvals import verify_approval

BASE = f"/api/v1/releases/{RELEASE_ID}"


pytestmark = pytest.mark.usefixtures("own_config")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[StandInGate]:
    files = [
        packages.make_wheel(tmp_path, "greet", "1.0"),
        packages.make_sdist(tmp_path, "greet", "1.0"),
    ]
    with StandInGate(make_release(files, "greet", "1.0")) as server:
        yield server


@pytest.fixture
def ssh_key(tmp_path: Path, ssh_keygen: Path) -> Path:
    path = tmp_path / "id"
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def enrolled(path: Path) -> Key:
    return Key("ssh", sshsig.parse_public_key_line(path.with_suffix(".pub").read_text()))


def test_an_ssh_signature_made_here_verifies_over_the_statement_itself(
    gate: StandInGate, ssh_key: Path
) -> None:
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    [approval] = gate.received
    statement = gate.release.statement.to_bytes()
    signed = verify_approval(
        statement, approval, enrolled(ssh_key), origin="https://g.example", rp_id="g.example"
    )
    assert signed.statement == sha256_hex(statement)
    assert not signed.user_verified


@pytest.mark.parametrize("state", ["failed", "rejected", "verified", "withdrawn"])
def test_what_has_ended_is_not_signed_and_its_state_is_named(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    ended = {**gate.release_json(), "state": state, "reason": "The registry said no."}
    gate.lies[BASE] = as_json(ended)
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert f"It has ended: {state} (The registry said no)" in capsys.readouterr().err
    assert gate.received == []


def test_a_release_that_ended_while_it_was_signed_is_no_success(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"/api/v1/requests/{gate.release.statement.digest}/approvals"
    gate.lies[path] = as_json({"state": "rejected", "message": "Grace vetoed it.", "tally": None})
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert "Grace vetoed it" in capsys.readouterr().err


def test_a_veto_signs_the_other_intent(gate: StandInGate, ssh_key: Path) -> None:
    assert run(["veto", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    [approval] = gate.received
    against = gate.release.statement.with_intent(Intent.VETO).to_bytes()
    assert approval.statement == sha256_hex(against) != gate.release.statement.digest
    verify_approval(
        against, approval, enrolled(ssh_key), origin="https://g.example", rp_id="g.example"
    )


def test_a_software_passkey_signs_for_the_gate_it_was_asked_by(
    gate: StandInGate, tmp_path: Path
) -> None:
    passkey = SoftwarePasskey.generate()
    passkey.save(tmp_path / "passkey.json")
    page = gate.page.replace("127.0.0.1", "localhost")
    assert (
        run(["approve", page, "--software-passkey", str(tmp_path / "passkey.json"), "--yes"])
        == exits.DONE
    )
    [approval] = gate.received
    origin = gate.url.replace("127.0.0.1", "localhost")
    verify_approval(
        gate.release.statement.to_bytes(), approval, passkey.key, origin=origin, rp_id="localhost"
    )


def test_nothing_is_signed_without_a_yes(
    gate: StandInGate,
    ssh_key: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run(["approve", gate.page, "--key", str(ssh_key)]) == exits.INTERRUPTED
    assert gate.received == []
    shown = capsys.readouterr().out
    assert "publish greet 1.0" in shown
    assert "greet-1.0-py3-none-any.whl" in shown


def _upstream_path(gate: StandInGate) -> str:
    return f"/api/v1/requests/{gate.release.upstream.digest}"


LIES = {
    "other bytes": (
        f"{BASE}/files/greet-1.0.tar.gz",
        lambda g: Response(200, b"x" * len(g.release.files["greet-1.0.tar.gz"])),
    ),
    "more bytes": (
        f"{BASE}/files/greet-1.0.tar.gz",
        lambda g: Response(200, g.release.files["greet-1.0.tar.gz"] + b"x"),
    ),
    "fewer bytes": (
        f"{BASE}/files/greet-1.0.tar.gz",
        lambda g: Response(200, g.release.files["greet-1.0.tar.gz"][:-1]),
    ),
    "another report": (
        f"{BASE}/review",
        lambda g: Response(200, g.release.review.replace(b'"1.0"', b'"1.1"', 1)),
    ),
    "another statement": (
        BASE,
        lambda g: as_json({**g.release_json(), "statement": _other(g).to_bytes().decode()}),
    ),
    "another release's statement": (
        BASE,
        lambda g: as_json(
            {
                **g.release_json(),
                "statement": _moved(g).to_bytes().decode(),
                "request": _moved(g).digest,
            }
        ),
    ),
    "a roster at the release's address": (
        BASE,
        lambda g: as_json(
            {
                **g.release_json(),
                "statement": _roster(g).to_bytes().decode(),
                "request": _roster(g).digest,
            }
        ),
    ),
    "another upstream": (
        _upstream_path,
        lambda g: as_json(request_json(replace(g.release.upstream, nonce="2" * 32))),
    ),
    "no upstream": (_upstream_path, lambda g: as_json({"state": "awaiting", "statement": None})),
    "a veto to sign": (
        BASE,
        lambda g: as_json(
            {
                **g.release_json(),
                "statement": _veto(g).to_bytes().decode(),
                "request": _veto(g).digest,
            }
        ),
    ),
}


def _roster(gate: StandInGate) -> Statement:
    """What a stolen gateway wants signed most: other people in the place of those who approve."""
    return replace(gate.release.statement, body=RosterBody(Roster(())), previous=GENESIS)


def _other(gate: StandInGate) -> Statement:
    return replace(gate.release.statement, nonce="1" * 32)


def _moved(gate: StandInGate) -> Statement:
    return replace(
        gate.release.statement, body=replace(gate.release.statement.body, release="another")
    )


def _veto(gate: StandInGate) -> Statement:
    return gate.release.statement.with_intent(Intent.VETO)


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_gate_gets_no_signature(gate: StandInGate, ssh_key: Path, lie: str) -> None:
    path, answer = LIES[lie]
    gate.lies[path(gate) if callable(path) else path] = answer(gate)
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert gate.received == []


def test_a_report_that_the_inspection_here_does_not_come_to_is_not_signed(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The statement and the shown report agree, and hide a finding: only our own inspection can tell."""
    from presspass.core.findings import parse_report, report_digest

    report = parse_report(gate.release.review)
    hiding = replace(report, artifacts=report.artifacts[:1]).to_bytes()
    body = replace(gate.release.statement.body, review=report_digest(hiding))
    gate.release.review = hiding
    gate.release.statement = replace(gate.release.statement, body=body)
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert "inspection.disagrees" in capsys.readouterr().err
    assert gate.received == []


def test_an_expired_request_is_not_signed(tmp_path: Path, ssh_key: Path) -> None:
    release = make_release(
        [packages.make_wheel(tmp_path, "greet", "1.0")], "greet", "1.0", life_s=5
    )
    with StandInGate(release) as server:
        assert run(["approve", server.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
        assert server.received == []


def test_hostile_names_in_a_release_cannot_act_on_the_terminal(
    tmp_path: Path, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = {
        "greet/__init__.py": b"",
        "greet/a\x1b]0;owned\x07\u202e.py": b"print('\x1b[2J\x9b')\n# \xe2\x80\xae\n",
    }
    wheel = packages.make_wheel(tmp_path, "greet", "1.0", files=hostile)
    old = (
        packages.make_wheel(tmp_path / "old", "greet", "0.9")
        if (tmp_path / "old").mkdir() is None
        else None
    )
    assert old is not None
    with StandInGate(make_release([wheel], "greet", "1.0", baseline=[old])) as server:
        run(["approve", server.page, "--key", str(ssh_key), "--yes"])
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not set(text) & (set(map(chr, range(32))) - {"\n"}), repr(text)
        assert "\x9b" not in text
        assert "\u202e" not in text
    assert r"\x1b]0;owned\x07\u202e" in shown.out


def test_the_difference_to_the_release_before_is_shown(
    tmp_path: Path, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old").mkdir()
    old = packages.make_wheel(
        tmp_path / "old", "greet", "0.9", files={"greet/__init__.py": "a = 1\n"}
    )
    new = packages.make_wheel(
        tmp_path,
        "greet",
        "1.0",
        files={"greet/__init__.py": "a = 2\n", "evil.pth": packages.INERT_PTH},
    )
    with StandInGate(make_release([new], "greet", "1.0", baseline=[old])) as server:
        assert run(["approve", server.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    shown = capsys.readouterr().out
    assert "against 0.9" in shown
    assert "added    evil.pth" in shown
    assert "-a = 1" in shown
    assert "+a = 2" in shown


def test_a_gate_that_refuses_a_signature_is_quoted(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cli_gate import problem

    path = f"/api/v1/requests/{gate.release.statement.digest}/approvals"
    gate.lies[path] = problem(
        403, "approval.key-removed", "This key was removed.", "Enrol another."
    )
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert capsys.readouterr().err.endswith(
        "error: This key was removed. [approval.key-removed]\n  Enrol another.\n"
    )


def test_a_roster_at_the_address_of_a_release_is_not_vetoed_either(
    gate: StandInGate, ssh_key: Path
) -> None:
    path, answer = LIES["a roster at the release's address"]
    gate.lies[path] = answer(gate)
    assert run(["veto", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert gate.received == []


def test_it_is_shown_to_which_registry_the_files_would_go(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    shown = capsys.readouterr().out
    assert "upstream main (pypi, custody)" in shown
    assert "upload to    https://registry.example/legacy/" in shown


def test_an_upstream_of_another_installation_is_not_taken_for_ours(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _use_upstream(gate, make_upstream(gate.release.statement.issued_at, "9" * 64))
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert "another installation" in capsys.readouterr().err
    assert gate.received == []


def _use_upstream(gate: StandInGate, upstream: Statement) -> None:
    body = gate.release.statement.body_as(ReleaseBody)
    named = replace(gate.release.statement, body=replace(body, upstream=upstream.digest))
    gate.release.statement, gate.release.upstream = named, upstream


# which installation


def known_gates(config: Path) -> Path:
    return config / "presspass" / "known-gates.json"


def move_to(gate: StandInGate, genesis: str) -> None:
    """The same gate, suddenly another installation."""
    gate.release.statement = replace(gate.release.statement, genesis=genesis)
    _use_upstream(gate, make_upstream(gate.release.statement.issued_at, genesis))


def test_the_installation_is_shown_whole_the_first_time_and_remembered(
    gate: StandInGate, ssh_key: Path, own_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["approve", gate.page, "--key", str(ssh_key), "--yes"]
    whole = " ".join(["aaaa"] * 16)
    assert run(words) == exits.DONE
    assert whole in capsys.readouterr().out
    file = known_gates(own_config)
    assert json.loads(file.read_text()) == {gate.url: GENESIS}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run(words) == exits.DONE
    assert whole not in capsys.readouterr().out


def test_another_installation_behind_a_known_gate_gets_no_signature(
    gate: StandInGate, ssh_key: Path, own_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["approve", gate.page, "--key", str(ssh_key), "--yes"]
    assert run(words) == exits.DONE
    move_to(gate, "9" * 64)
    assert run(words) == exits.REFUSED
    assert "shows another installation than the one remembered" in capsys.readouterr().err
    assert len(gate.received) == 1
    assert json.loads(known_gates(own_config).read_text()) == {gate.url: GENESIS}


def test_what_was_not_signed_is_not_remembered(
    gate: StandInGate, ssh_key: Path, own_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run(["approve", gate.page, "--key", str(ssh_key)]) == exits.INTERRUPTED
    assert not known_gates(own_config).exists()


def test_a_pinned_trust_root_counts_and_takes_the_place_of_what_is_remembered(
    gate: StandInGate, ssh_key: Path, tmp_path: Path, own_config: Path
) -> None:
    words = ["approve", gate.page, "--key", str(ssh_key), "--yes"]
    assert run(words) == exits.DONE
    roots = [genesis(number) for number in ("3", "4")]
    for root in roots:
        (tmp_path / root.nonce).write_bytes(root.to_bytes())
    move_to(gate, roots[0].digest)
    wrong, right = (str(tmp_path / root.nonce) for root in reversed(roots))
    assert run([*words, "--trust", wrong]) == exits.REFUSED
    assert run([*words, "--trust", right]) == exits.DONE
    assert json.loads(known_gates(own_config).read_text()) == {gate.url: roots[0].digest}
    assert run(words) == exits.DONE


def genesis(number: str) -> Statement:
    body = GenesisBody("https://g.example", "g.example", Roster(()), Policy(), "a" * 64, "b" * 64)
    heads = Heads(HEAD_AT_GENESIS, HEAD_AT_GENESIS, HEAD_AT_GENESIS)
    return Statement(HEAD_AT_GENESIS, "main", Intent.APPROVE, body, heads, None, number * 32, 1, 2)


@pytest.mark.parametrize("content", ["{", "[]", '{"http://x": "short"}'])
def test_a_damaged_memory_is_refused_and_never_taken_for_an_empty_one(
    gate: StandInGate, ssh_key: Path, own_config: Path, content: str
) -> None:
    known_gates(own_config).parent.mkdir(parents=True)
    known_gates(own_config).write_text(content)
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert gate.received == []


def test_a_memory_that_cannot_be_written_is_said_and_stops_nobody(
    gate: StandInGate,
    ssh_key: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc")
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    assert "could not be remembered" in capsys.readouterr().err


# --- who asked ----------------------------------------------------------------------------------------------------

OLD_WORKFLOW = b"on: push\njobs:\n  publish: {steps: [{run: build}]}\n"
NEW_WORKFLOW = OLD_WORKFLOW + b"# \x1b[2J one more step \xe2\x80\xae\n"
WORKFLOW_PATH = f"{BASE}/workflow"


def asked_by_workload(
    gate: StandInGate, ran: bytes = OLD_WORKFLOW, *, delegated: bool = False
) -> None:
    """The release of `gate`, asked for by a workload (or a bot) whose run had the workflow `ran`."""
    publisher = PublisherBody(
        name="greet-ci", upstream="main", projects=("greet",), issuer="https://issuer.example",
        provider="github", ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
        repository="acme/greet", repository_url="", workflow=".github/workflows/release.yml",
        workflow_sha256=sha256_hex(OLD_WORKFLOW), refs=("refs/tags/v*",), protected_refs_only=True,
        events=("push",), environment="release", self_hosted=False, delegated_only=delegated,
    )  # fmt: skip
    bot = DelegationBody(
        "patches", "greet-ci", "p-ada", ("greet",), ("patch",), 5, 1, 4_000_000_000
    )
    release = gate.release
    statements = [replace(release.upstream, body=body) for body in (publisher, bot)]
    delegation = statements[1].digest if delegated else ""
    asked = AskedBy(statements[0].digest, "d" * 64, sha256_hex(ran), delegation)
    body = replace(release.statement.body_as(ReleaseBody), asked_by=asked)
    release.statement = replace(release.statement, body=body)
    release.named = statements
    gate.lies[WORKFLOW_PATH] = as_json(workflows(ran))


def workflows(ran: bytes, *, named: bytes | None = OLD_WORKFLOW, since: bool = False) -> Any:
    """What the gate answers about the workflow."""

    def file(content: bytes | None, sha256: str) -> Any:
        text = None if content is None else base64.b64encode(content).decode()
        return {"sha256": sha256, "content": text}

    bound = ran if since else OLD_WORKFLOW
    return {
        "bound": file(bound, sha256_hex(bound)),
        "named": file(named, sha256_hex(OLD_WORKFLOW)),
        "path": ".github/workflows/release.yml",
        "ran": file(ran, sha256_hex(ran)),
    }


def test_the_workload_that_asked_is_shown_from_its_own_signed_statement(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_by_workload(gate)
    gate.release.told = {
        "asked_by": {
            "ref": "refs/tags/v1.0\x1b[2J", "ref_protected": True, "counts": False,
            "press": {"state": "waiting"}, "against": ["unseen"],
        }
    }  # fmt: skip
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    shown = capsys.readouterr().out
    assert "asked by the workload greet-ci of acme/greet" in shown
    assert "repository_id 1001" in shown
    assert r"the gate says: on refs/tags/v1.0\x1b[2J (protected)" in shown
    assert "waiting by the press; it does NOT count as one of two identities (unseen)" in shown
    assert "ANOTHER" not in shown
    assert [one.path for one in gate.requests if one.path == WORKFLOW_PATH] == []


def test_S05_a_changed_workflow_is_shown_before_anything_is_signed(
    gate: StandInGate,
    ssh_key: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked_by_workload(gate, NEW_WORKFLOW)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run(["approve", gate.page, "--key", str(ssh_key)]) == exits.INTERRUPTED
    shown = capsys.readouterr().out
    assert "the release workflow is ANOTHER than the one people bound" in shown
    assert r"+# \x1b[2J one more step \u202e" in shown
    assert shown.index("one more step") < shown.index("inspected here")
    assert "\x1b[2J" not in shown
    assert gate.received == []


def test_a_named_workflow_that_is_not_kept_at_the_gate_has_the_new_one_shown_whole(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_by_workload(gate, NEW_WORKFLOW)
    gate.lies[WORKFLOW_PATH] = as_json(workflows(NEW_WORKFLOW, named=None))
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    shown = capsys.readouterr().out
    assert "is not kept at the gate; this is the whole new file" in shown
    assert "+on: push" in shown


def test_a_gate_that_says_that_it_was_bound_since_does_not_hide_the_difference(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_by_workload(gate, NEW_WORKFLOW)
    gate.lies[WORKFLOW_PATH] = as_json(workflows(NEW_WORKFLOW, since=True))
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    shown = capsys.readouterr().out
    assert "that cannot be checked here" in shown
    assert "one more step" in shown


HIDDEN = {
    "no content of what ran": lambda: as_json(
        {**workflows(NEW_WORKFLOW), "ran": {"content": None}}
    ),
    "another content of what ran": lambda: as_json(
        {**workflows(NEW_WORKFLOW), "ran": workflows(OLD_WORKFLOW)["ran"]}
    ),
    "another content of what was named": lambda: as_json(
        {**workflows(NEW_WORKFLOW), "named": workflows(NEW_WORKFLOW)["ran"]}
    ),
    "no base64": lambda: as_json({**workflows(NEW_WORKFLOW), "ran": {"content": "?"}}),
    "no workflow at all": lambda: as_json({"detail": "no"}, 404),
}


@pytest.mark.parametrize("lie", HIDDEN)
def test_a_gate_that_hides_a_changed_workflow_gets_no_signature(
    gate: StandInGate, ssh_key: Path, lie: str
) -> None:
    asked_by_workload(gate, NEW_WORKFLOW)
    gate.lies[WORKFLOW_PATH] = HIDDEN[lie]()
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert gate.received == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_gate_that_shows_another_publisher_or_delegation_gets_no_signature(
    gate: StandInGate, ssh_key: Path, number: int
) -> None:
    asked_by_workload(gate, delegated=True)
    hidden = gate.release.named[number]
    other = replace(hidden, nonce="7" * 32)
    gate.lies[f"/api/v1/requests/{hidden.digest}"] = as_json(request_json(other))
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.REFUSED
    assert gate.received == []


def test_S13_for_whom_a_bot_asks_is_shown_and_what_it_writes_comes_last_and_inert(
    gate: StandInGate, ssh_key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_by_workload(gate, delegated=True)
    note = "Safe to approve \x1b]0;owned\x07 \u202e\nno findings"
    gate.release.told = {"note": note, "asked_by": {"act": {"used": 2, "count": 5}}}
    assert run(["approve", gate.page, "--key", str(ssh_key), "--yes"]) == exits.DONE
    shown = capsys.readouterr().out
    assert (
        "greet-ci asks on behalf of p-ada under the delegation patches: at most 5 releases" in shown
    )
    assert "the gate says: 2 of 5 used before this" in shown
    assert r"  | Safe to approve \x1b]0;owned\x07 \u202e" in shown
    assert "  | no findings" in shown
    assert shown.index("inspected here") < shown.index("unverified text") < shown.index("| Safe")
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
