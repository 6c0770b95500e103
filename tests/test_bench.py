"""The bench: rows say what the issue asks and are true to their own numbers; what is sent is real. Nothing is timed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import procfs
import run
from figures import FULL_MB, Figure, figures, holds, to_json
from floors import DurableWrite, copy_s
from peers import require_peer, require_postgresql
from presspass.core.findings import Severity
from presspass.formats.upload_form import FileStart, FormReader
from presspass.inspector.engine import inspect
from rawhttp import Door, Prepared, Wheel
from scenarios import QUICK, Sizes
from wheels import LargeWheel, small_wheel

MEMBERS = {"name", "value", "unit", "peer", "peer_value", "ratio", "goal", "met"}
#: What the issues name: (words of the row, unit, goal).
ISSUE = [
    (("500 MB", "pypiserver"), "MB/s", "ratio >= 1.5"),
    (("500 MB", "plain copy"), "MB/s", "ratio >= 0.6"),
    (("500 MB", "memory"), "MB", "value <= 16"),
    (("durable and authenticated", "p50"), "ms", "value <= peer_value + 2.5"),
    (("durable and authenticated", "CPU"), "ms", "value <= 2.5"),
    (("durable and authenticated", "16 at a time"), "uploads/s", "ratio >= 3"),
    (("approval to live upstream", "above the upstream's own"), "ms", "value <= 500"),
    (("presspass --help", "CPU"), "ms", "value <= 150"),
    (("serve", "ready"), "s", "value <= 3"),
    (("all processes together", "PSS"), "MB", "value <= 400"),
    (("verified and exchanged",), "exchanges/CPU s", "value >= 1500"),
    (("check of a pass", "CPU"), "ms", "value <= 0.2"),
    (("revocation", "embedded"), "s", "value <= 0.2"),
    (("revocation", "8 gateways on PostgreSQL"), "s", "value <= 1"),
    (("decision of the rules", "10,000"), "ms", "value <= 5"),
    (("ledger", "1,000 at a time"), "entries/s", "value >= 50000"),
    (("ledger", "one by one"), "appends/s", "ratio >= 0.6"),
    (("ledger", "16 at once"), "appends/s", "ratio >= 3"),
    (("inclusion proof", "1,000,000"), "ms", "value <= 1"),
    (("ledger of 1,000,000", "on disk"), "MB", "value <= 200"),
    (("audit", "1,000,000"), "s", "value <= 600"),
    (("stop in the drop box",), "s", "value <= 1"),
    (("presspass verify", "beyond the start"), "ms", "value <= 30"),
    (("proofs checked by the library", "in one process"), "proofs/CPU s", "ratio >= 0.4"),
    (("proofs checked by the library", "a process a core"), "proofs/s", "value >= 2000"),
]
TINY = Sizes(
    large_mb=3,
    large_rounds=1,
    small_count=4,
    small_rounds=1,
    crowd_count=20,
    crowd_rounds=1,
    release_rounds=1,
    start_rounds=1,
    help_rounds=1,
    exchange_rounds=1,
    exchanges=64,
    revocations=2,
    gateways=2,
    gateway_revocations=2,
    ledger_entries=2000,
    ledger_appends=20,
    rule_packages=20,
    rule_rounds=1,
    rule_decisions=10,
    engine_decisions=10,
    drops=2,
    proofs=2,
    proof_checks=4,
    proof_rounds=1,
    verify_rounds=1,
)

positive = st.floats(min_value=0.001, max_value=1e6)


# --- rows and goals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "value", "peer_value", "met"),
    [
        ("value <= 16", 16.0, None, True),
        ("value <= 16", 16.01, None, False),
        ("ratio >= 1.5", 150.0, 100.0, True),
        ("ratio >= 1.5", 149.9, 100.0, False),
        ("value <= peer_value + 2.5", 9.5, 7.0, True),
        ("value <= peer_value + 2.5", 9.51, 7.0, False),
    ],
)
def test_a_goal_is_met_up_to_its_limit_and_not_beyond(
    goal: str, value: float, peer_value: float | None, met: bool
) -> None:
    assert Figure("f", "ms", goal).row(value, peer_value).met is met


@given(st.sampled_from([figure.goal for figure in figures().values()]), positive, positive)
def test_a_written_row_is_true_to_its_own_numbers(goal: str, value: float, beside: float) -> None:
    (written,) = json.loads(to_json([Figure("f", "ms", goal, "p").row(value, beside)]))
    assert set(written) == MEMBERS
    assert written["met"] is holds(written["goal"], written)
    assert math.isclose(written["ratio"], written["value"] / written["peer_value"], rel_tol=1e-3)


@pytest.mark.parametrize("goal", ["", "value < 3", "value <= fast", "ratio >= 3 or so"])
def test_a_goal_that_says_nothing_clear_is_an_error(goal: str) -> None:
    with pytest.raises(ValueError, match="not a goal"):
        Figure("f", "ms", goal).row(1.0, 1.0)


@pytest.mark.parametrize("goal", ["ratio >= 3", "value <= peer_value + 2.5"])
def test_a_comparison_without_its_peer_is_an_error(goal: str) -> None:
    with pytest.raises(ValueError, match="not measured"):
        Figure("f", "ms", goal, "p").row(1.0)


def test_every_figure_of_the_issues_is_measured_with_its_goal() -> None:
    for words, unit, goal in ISSUE:
        found = [one for one in figures().values() if all(word in one.name for word in words)]
        assert found, words
        assert {(one.unit, one.goal) for one in found} == {(unit, goal)}


def test_the_committed_results_hold_a_row_for_every_figure() -> None:
    rows = json.loads((run.ROOT / "bench" / "results.json").read_text())
    wanted = figures(FULL_MB)
    assert [row["name"] for row in rows] == [one.name for one in wanted.values()]
    for row, figure in zip(rows, wanted.values(), strict=True):
        assert set(row) == MEMBERS
        assert (row["unit"], row["goal"], row["peer"]) == (figure.unit, figure.goal, figure.peer)
        assert row["met"] is holds(row["goal"], row)


def test_the_committed_results_say_what_they_were_measured_on() -> None:
    about = json.loads((run.ROOT / "bench" / "machine.json").read_text())
    assert about["sizes"]["large_mb"] == FULL_MB
    assert set(about["rounds"]) == set(figures())
    assert {"processor", "processors", "file_system", "python"} <= set(about["machine"])


# --- what is sent ---------------------------------------------------------------------------------------------------


def worst_finding(path: Path, wheel: Wheel) -> Severity | None:
    request = {
        "project": wheel.project,
        "version": wheel.version,
        "candidate": [{"name": wheel.filename, "sha256": wheel.sha256, "size": wheel.size}],
        "baseline": None,
    }
    with path.open("rb") as file:
        return inspect(request, [file.fileno()]).worst


def test_a_large_wheel_is_a_sound_wheel_and_each_version_another_file(tmp_path: Path) -> None:
    source = LargeWheel(tmp_path / "large.whl", "bench-large", 2_500_001)
    seen = set()
    for version in ("1.0", "1.10", "1.1"):
        wheel = source.become(version)
        data = source.path.read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (wheel.sha256, wheel.size)
        seen.add(wheel.sha256)
        with zipfile.ZipFile(source.path) as archive:
            assert archive.testzip() is None
            assert f"bench_large-{version}.dist-info/RECORD" in archive.namelist()
        assert worst_finding(source.path, wheel) is not Severity.CRITICAL
    assert len(seen) == 3


def test_a_small_wheel_is_a_sound_wheel_of_the_size_asked_for(tmp_path: Path) -> None:
    wheel = small_wheel("bench-small", "1.0", 20_000)
    assert isinstance(wheel.content, bytes)
    assert abs(wheel.size - 20_000) < 500
    path = tmp_path / wheel.filename
    path.write_bytes(wheel.content)
    assert worst_finding(path, wheel) is not Severity.CRITICAL
    assert small_wheel("bench-small", "1.0", 20_000).sha256 != wheel.sha256


def test_a_prepared_upload_is_a_form_that_the_gateway_reads() -> None:
    wheel = small_wheel("bench-small", "1.0", 3000)
    request = Prepared.upload(Door(1, "/pypi/main/legacy/", "secret"), wheel)
    head, _, form = request.head.partition(b"\r\n\r\n")
    lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert isinstance(request.content, bytes)
    body = form + request.content + request.tail
    assert int(lines["Content-Length"]) == len(body)
    reader = FormReader(lines["Content-Type"])
    start, *pieces = list(reader.feed(body))
    assert start == FileStart(wheel.filename, {"sha256_digest": wheel.sha256})
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == wheel.content
    assert reader.finish().digests == {"sha256_digest": wheel.sha256}


# --- what it is held against ----------------------------------------------------------------------------------------


def test_the_floors_write_what_they_say_and_leave_no_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 << 20))
    assert copy_s(source, tmp_path) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    with DurableWrite(tmp_path, 20_000) as floor:
        assert floor.once_s() > 0
        assert floor.once_s() > 0
    assert [path.stat().st_size for path in sorted(tmp_path.glob("floor-*"))] == [20_000] * 2


def test_memory_and_time_of_a_process_are_its_own() -> None:
    code = "import time; data = bytearray(40_000_000); del data; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert procfs.peak_bytes(child.pid) - procfs.resident_bytes(child.pid) > 30_000_000
            procfs.reset_peak(child.pid)
            assert procfs.peak_bytes(child.pid) - procfs.resident_bytes(child.pid) < 5_000_000
            assert 0 < procfs.shared_out_bytes(child.pid) <= procfs.resident_bytes(child.pid)
            assert procfs.cpu_ms(child.pid) >= 0
            assert child.pid in procfs.family(os.getpid())
            assert "time.sleep" in procfs.command(child.pid)
        finally:
            child.kill()


# --- all of it ------------------------------------------------------------------------------------------------------


def test_a_whole_run_measures_every_figure(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_peer("pypi-server")
    require_postgresql()
    monkeypatch.setenv("PYTHONPATH", "")  # a run sets it, for what it starts
    folder = tmp_path_factory.mktemp("b")  # sockets of gateways lie below: their paths are short
    samples = run.measure(folder, TINY, lambda _text: None)
    rows = run.rows_of(samples, TINY)
    assert [row.name for row in rows] == [one.name for one in TINY.figures.values()]
    assert all(math.isfinite(row.value) for row in rows)
    # A tiny run may use less CPU than the kernel's ticks show, and a difference of two short times may be nothing.
    assert all(row.value > 0 for row in rows if row.unit not in ("ms", "MB"))
    assert all((row.peer_value is None) is (row.peer == "") for row in rows)


def test_a_quick_run_leaves_the_committed_results_alone() -> None:
    assert run.default_out(quick=True).parent != run.default_out(quick=False).parent
    assert run.default_out(quick=False) == run.ROOT / "bench" / "results.json"
    assert QUICK.large_mb == 50
