"""The demo is the main job, live: it ends well only if all of it happened, and leaves what it says."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import peers
from ledger_reading import entered, in_journal
from presspass.drill.demo.tell import DemoFailedError, Teller
from presspass.store.database import Reader


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The demo writes below the current folder; it publishes the source that presspass is imported from."""
    for program in ("twine", "uv", "pypi-server"):
        peers.require_peer(program)
    return tmp_path


def test_the_demo_goes_as_told_and_leaves_files_proofs_and_trust_root(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "presspass.cli.main", "demo"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    for number in ("i", "ii", "iii", "iv", "v"):
        assert f" {number} " in done.stdout
    out = checkout / ".demo" / "out"
    published = sorted(path.name for path in out.iterdir() if path.suffix in (".whl", ".gz"))
    assert len(published) == 3
    assert {f"{name}.presspass.json" for name in published} | {"trust-root.json"} <= {
        path.name for path in out.iterdir()
    }
    assert "attempts refused" in done.stdout
    first = done.stdout[: done.stdout.index(" i ")]
    for word in ("on this machine", "Nothing leaves", "Ana uploads", "Ben, Cleo and Dan", "p-"):
        assert word in first
    assert _as_the_readme_says(checkout).returncode == 0
    _attempts_stand_in_the_ledger(checkout / ".demo" / "gate")


def _attempts_stand_in_the_ledger(home: Path) -> None:
    """Every refused attempt of somebody known; the token that is none here is a stranger's, and only counted."""
    reader = Reader(home / "press" / "journal" / "journal.db")
    try:
        entries = reader.run(in_journal)
    finally:
        reader.close()
    at_doors = {
        (one["door"], one["code"]) for one in entered(entries, "refused-at-gateway") if one["about"]
    }
    assert at_doors >= {
        ("exchange", "publisher.wrong-event"),
        ("exchange", "identity.replayed"),
        ("upload", "pass.ended"),
        ("signature", "approval.wrong-statement"),
        ("signature", "approval.key-removed"),
    }
    assert entered(entries, "narrowing", what="run")
    assert len(entered(entries, "refused", code="narrowing.vetoed")) == 2
    assert entered(entries, "not-yet", code="approval.key-removed")
    ends = [one["kind"] for one in entries if one.get("code") == "artifact.digest-mismatch"]
    assert ends in (["refused"], ["rejected"])


def _as_the_readme_says(checkout: Path) -> subprocess.CompletedProcess[str]:
    """The block of the README that checks a proof, run where the demo ran."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    [block] = [one for one in readme.split("```") if "cd .demo/out" in one]
    module = f"{shlex.quote(sys.executable)} -m presspass.cli.main"
    script = "set -e" + block.replace("presspass verify", f"{module} verify")
    return subprocess.run(
        ["sh", "-c", script], cwd=checkout, capture_output=True, text=True, timeout=60
    )


def test_kept_running_it_prints_a_console_address_that_answers_and_ends_on_interrupt(
    checkout: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "presspass.cli.main", "demo", "--keep"],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "Ctrl-C" in line:
                break
        address = next(line.split("console:")[1].strip() for line in printed if "console:" in line)
        ca = checkout / ".demo" / "gate" / "gateway" / "tls" / "ca.pem"
        peers.wait_until(lambda: peers.answers_http(address, ca), "the console answers")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


def test_a_demo_whose_story_breaks_says_so_and_does_not_end_well(tmp_path: Path) -> None:
    tell = Teller()
    with pytest.raises(DemoFailedError):
        tell.expect(False, "this was expected")
    environment = {**os.environ, "PRESSPASS_PEERS": str(tmp_path / "no-peers-here")}
    done = subprocess.run(
        [sys.executable, "-m", "presspass.cli.main", "demo"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "make peers" in done.stdout
