"""The supervisor: children end with it, come back after a crash, and are ended in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peers import wait_until
from presspass.core.errors import Fault, Refusal
from presspass.core.limits import CHILD_LINE_BYTES_MAX
from presspass.services.serve import ChildSpec, Supervisor, child_specs, only_supervisor

# A child that keeps the contract of services: ready line, end on EOF of the pipe, end on SIGTERM.
CHILD = """
import json, os, select, signal, sys, time
name, log, fd, *flags = sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]
def note(what):
    with open(log, "a") as file:
        file.write(f"{time.monotonic_ns()} {name} {what} {os.getpid()}\\n")
def end(*_):
    if "slow" in flags:
        time.sleep(0.3)
    note("drained")
    sys.exit(0)
if "deaf" in flags:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, end)
note("start")
if "with-helper" in flags and os.fork() == 0:
    note("helped")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)
if "hostile" in flags:
    os.write(2, b"\\x1b]0;owned\\x07 \\xc2\\x9b31m \\xe2\\x80\\xae \\xff end\\n")
    os.write(2, b'{"ready": true, "port": 1}\\n')
    os.write(2, b"x" * 200_000)
    os.write(2, b"\\nno newline at the end")
if "broken" in flags:
    sys.exit(7)
print("a word from " + name, flush=True)
print(json.dumps({"ready": True, "port": 4711}), flush=True)
while os.read(fd, 1):
    pass
note("orphaned")
"""

# A supervisor in a process of its own, so that it can be signalled and killed.
SUPERVISOR = """
import json, sys
from presspass.services.serve import ChildSpec, Supervisor
specs = [ChildSpec(s["name"], tuple(s["command"]), s["drain_s"]) for s in json.loads(sys.argv[1])]
tell = lambda line: print("tell " + line, flush=True)
Supervisor(specs, tell).run(lambda said: print("ready " + json.dumps(said), flush=True))
print("over", flush=True)
"""


class Stage:
    """A folder with the children's common log, and the specs of two children."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.program = folder / "child.py"
        self.program.write_text(textwrap.dedent(CHILD))
        self.said = folder / "said"

    def spec(self, name: str, *flags: str, drain_s: float = 10.0) -> ChildSpec:
        command = (sys.executable, "-S", str(self.program), name, str(self.log), "{fd}", *flags)
        return ChildSpec(name, command, drain_s)

    def notes(self, what: str) -> list[tuple[str, int]]:
        """(name, pid) of each note of this kind, oldest first."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [line.split() for line in lines if line.split()[2] == what]
        return [(name, int(pid)) for _time, name, _what, pid in found]

    def heard(self) -> str:
        return self.said.read_text()

    @contextmanager
    def supervisor(self, *specs: ChildSpec) -> Iterator[subprocess.Popen[bytes]]:
        values = [{"name": s.name, "command": s.command, "drain_s": s.drain_s} for s in specs]
        with self.said.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISOR, json.dumps(values)], stdout=out, stderr=out
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for _name, pid in self.notes("start"):
                wait_until(lambda pid=pid: not alive(pid), f"child {pid} is gone", 10.0)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_children_end_by_themselves_when_the_supervisor_is_killed(stage: Stage) -> None:
    with stage.supervisor(stage.spec("gateway"), stage.spec("press")) as process:
        wait_until(lambda: "ready {" in stage.heard(), "both are ready", 10.0)
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: len(stage.notes("orphaned")) == 2, "both saw their pipe close", 10.0)
        for _name, pid in stage.notes("start"):
            wait_until(lambda pid=pid: not alive(pid), "the child has ended", 10.0)


def test_a_killed_child_is_started_again_at_once_and_the_other_is_left_alone(stage: Stage) -> None:
    with stage.supervisor(stage.spec("gateway"), stage.spec("press")) as process:
        wait_until(lambda: "ready {" in stage.heard(), "both are ready", 10.0)
        first = dict(stage.notes("start"))
        os.kill(first["press"], signal.SIGKILL)
        wait_until(lambda: len(stage.notes("start")) == 3, "the press is back", 10.0)
        assert [name for name, _pid in stage.notes("start")].count("press") == 2
        assert alive(first["gateway"])
        assert (
            "press ended unexpectedly (killed by signal 9); starting it again at once"
            in stage.heard()
        )
        process.terminate()
        assert process.wait(10) == 0
        assert sorted(name for name, _pid in stage.notes("drained")) == ["gateway", "press"]


def test_the_second_crash_in_a_row_waits(stage: Stage) -> None:
    with stage.supervisor(stage.spec("press")):
        wait_until(lambda: "ready {" in stage.heard(), "it is ready", 10.0)
        for crash in (1, 2):
            os.kill(stage.notes("start")[-1][1], signal.SIGKILL)
            wait_until(
                lambda crash=crash: len(stage.notes("start")) == crash + 1, "it is back", 10.0
            )
        assert "starting it again in 0.5 s" in stage.heard()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_gateway_first_and_the_press_last(
    stage: Stage, number: signal.Signals
) -> None:
    with stage.supervisor(stage.spec("gateway", "slow"), stage.spec("press")) as process:
        wait_until(lambda: "ready {" in stage.heard(), "both are ready", 10.0)
        process.send_signal(number)
        assert process.wait(10) == 0
        assert [name for name, _pid in stage.notes("drained")] == ["gateway", "press"]
        assert not stage.notes("orphaned")
        assert stage.heard().endswith("over\n")


def test_a_child_that_does_not_drain_is_ended_after_its_time(stage: Stage) -> None:
    with stage.supervisor(
        stage.spec("gateway", "deaf", drain_s=0.2), stage.spec("press")
    ) as process:
        wait_until(lambda: "ready {" in stage.heard(), "both are ready", 10.0)
        process.terminate()
        assert process.wait(10) == 0
        assert [name for name, _pid in stage.notes("drained")] == ["press"]
        assert not any(alive(pid) for _name, pid in stage.notes("start"))


def test_a_second_signal_ends_a_drain_that_hangs(stage: Stage) -> None:
    with stage.supervisor(
        stage.spec("gateway", "deaf", drain_s=600), stage.spec("press")
    ) as process:
        wait_until(lambda: "ready {" in stage.heard(), "both are ready", 10.0)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "draining the gateway" in stage.heard(), "it drains", 10.0)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert not any(alive(pid) for _name, pid in stage.notes("start"))


def test_a_child_that_cannot_start_ends_the_supervisor_with_a_reason(stage: Stage) -> None:
    told: list[str] = []
    supervisor = Supervisor([stage.spec("gateway"), stage.spec("press", "broken")], told.append)
    with pytest.raises(Fault, match=r"The press does not start \(exit code 7\)"):
        supervisor.run(lambda _said: pytest.fail("it was never ready"))
    assert not any(alive(pid) for _name, pid in stage.notes("start"))


def test_what_a_child_says_reaches_the_operator_and_its_ready_line_does_not(stage: Stage) -> None:
    with stage.supervisor(stage.spec("gateway")):
        wait_until(lambda: "ready {" in stage.heard(), "it is ready", 10.0)
        assert "tell gateway: a word from gateway" in stage.heard()
        assert "tell gateway: {" not in stage.heard()
        assert (
            json.loads(stage.heard().split("ready ", 1)[1].splitlines()[0])["gateway"]["port"]
            == 4711
        )


def test_nothing_that_a_child_says_acts_on_the_terminal_or_passes_for_its_ready_line(
    stage: Stage,
) -> None:
    with stage.supervisor(stage.spec("gateway", "hostile")) as process:
        wait_until(lambda: "ready {" in stage.heard(), "it is ready", 10.0)
        process.terminate()
        assert process.wait(10) == 0
    heard = stage.heard()
    assert not set(heard) & (set(map(chr, range(160))) - set(map(chr, range(32, 127))) - {"\n"})
    assert "\u202e" not in heard
    assert r"tell gateway: \x1b]0;owned\x07 \x9b31m \u202e \xff end" in heard
    assert '"port": 4711' in heard and 'tell gateway: {"ready": true, "port": 1}' in heard
    told = [line.removeprefix("tell gateway: ") for line in heard.splitlines()]
    assert sum(len(line) for line in told if set(line) == {"x"}) == 200_000
    assert max(map(len, told)) < 3 * CHILD_LINE_BYTES_MAX
    assert "no newline at the end" in told


def test_a_child_is_a_session_of_its_own_without_the_terminal_of_the_operator(
    stage: Stage,
) -> None:
    with stage.supervisor(stage.spec("gateway"), stage.spec("press")):
        wait_until(lambda: "ready {" in stage.heard(), "both are ready", 10.0)
        for _name, pid in stage.notes("start"):
            assert os.getsid(pid) == os.getpgid(pid) == pid
            assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
            shown = [Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in (0, 1, 2)]
            assert str(shown[0]) == "/dev/null"
            assert all(str(one).startswith("pipe:") for one in shown[1:])


@pytest.mark.parametrize("flags", [("with-helper",), ("with-helper", "deaf")])
def test_what_a_child_started_in_its_group_ends_with_it(stage: Stage, flags: tuple[str]) -> None:
    with stage.supervisor(stage.spec("gateway", *flags, drain_s=0.2)) as process:
        wait_until(lambda: "ready {" in stage.heard(), "it is ready", 10.0)
        wait_until(lambda: bool(stage.notes("helped")), "its helper runs", 10.0)
        process.terminate()
        assert process.wait(10) == 0
        [(_name, helper)] = stage.notes("helped")
        wait_until(lambda: not alive(helper), "the helper has ended, too", 10.0)


def test_no_child_holds_the_other_ones_lifeline(stage: Stage) -> None:
    with stage.supervisor(stage.spec("gateway"), stage.spec("press")) as process:
        wait_until(lambda: "ready {" in stage.heard(), "both are ready", 10.0)
        for _name, pid in stage.notes("start"):
            pipes = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            # its two outputs and its own end of its own lifeline; one more pipe would keep a sibling alive
            assert sum(one.startswith("pipe:") for one in pipes) == 3, pipes
        assert process.poll() is None


def test_two_supervisors_never_share_a_home(tmp_path: Path) -> None:
    with (
        only_supervisor(tmp_path),
        pytest.raises(Refusal, match="Another `presspass serve`"),
        only_supervisor(tmp_path),
    ):
        pytest.fail("the second got in")
    with only_supervisor(tmp_path):
        pass


def test_the_gateway_is_named_first_because_it_is_drained_first(tmp_path: Path) -> None:
    assert [spec.name for spec in child_specs(tmp_path)] == ["gateway", "press"]


def test_a_program_that_cannot_be_run_is_a_fault_that_says_so(tmp_path: Path) -> None:
    supervisor = Supervisor(
        [ChildSpec("press", (str(tmp_path / "none"), "{fd}"), 1.0)], tell=lambda _line: None
    )
    with pytest.raises(Fault, match="none cannot be run"):
        supervisor.run(lambda _said: pytest.fail("it was never ready"))


def test_nothing_of_the_folder_where_the_operator_stands_is_imported(tmp_path: Path) -> None:
    for spec in child_specs(tmp_path):
        assert spec.command[1:4] == ("-P", "-m", f"presspass.services.{spec.name}")
