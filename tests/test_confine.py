"""The cell holds, and the zygote outlives what happens in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import confine_probe
from confine_probe import acts, attempt, connect
from inspector_files import memory_file, wheel
from inspector_runs import request_for
from presspass import confine
from presspass.confine import framing, rlimits, zygote
from presspass.confine.worker import FOLDER, Worker, environment, inspector_command
from presspass.core import limits
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.findings import parse_report

PROBE = [sys.executable, str(Path(__file__).with_name("confine_probe.py"))]
INSPECTOR = inspector_command()


@pytest.fixture
def probe_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the probe's process find this very source tree."""
    source = Path(confine.__file__).parent.parent.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(source), str(Path(__file__).parent)]))


@pytest.fixture
def probe(probe_path: None) -> Iterator[Worker]:
    """A worker whose child does what a test tells it."""
    worker = Worker(PROBE)
    yield worker
    worker.close()


@pytest.fixture
def inspector() -> Iterator[Worker]:
    worker = Worker(INSPECTOR)
    yield worker
    worker.close()


def ask(worker: Worker, name: str, timeout_s: float = 20) -> Any:
    return json.loads(worker.call({"probe": name}, [], timeout_s))


def refusal(worker: Worker, name: str, timeout_s: float = 20) -> Refusal:
    with pytest.raises(Refusal) as caught:
        ask(worker, name, timeout_s)
    return caught.value


def test_seccomp_and_landlock_are_there_on_the_machines_that_test_this() -> None:
    assert confine.missing() == () or os.geteuid() != 0
    assert {one.name for one in confine.available()} == {
        "landlock-files",
        "landlock-tcp",
        "landlock-scope",
        "seccomp",
        "own-user",
    }


# How Python reports a refused call where it is not as PermissionError.
OTHER_ERRORS = {"start a thread": "RuntimeError", "raise its own limits": "ValueError"}


def test_nothing_outside_the_cell_can_be_reached(probe: Worker) -> None:
    probe.start()
    answer = json.loads(probe.call({"probe": "outside", "parent": probe.pid}, [], 20))
    assert answer == {name: OTHER_ERRORS.get(name, "PermissionError") for name in acts(1)}
    assert not Path(FOLDER, "made-by-probe").exists()


def test_the_kernel_sees_the_child_as_nobody_with_nothing_open(probe: Worker) -> None:
    zygote_pid = _started(probe)
    asking = threading.Thread(target=lambda: refusal(probe, "hang", timeout_s=3))
    asking.start()
    child, status = _confined_child(zygote_pid)
    open_files = [os.readlink(one) for one in Path(f"/proc/{child}/fd").iterdir()]
    asking.join()
    own = rlimits.NOBODY if rlimits.is_root() else os.getuid()
    assert status["Uid"].split() == [str(own)] * 4
    assert status["NoNewPrivs"] == "1"
    assert sorted(one.partition(":")[0] for one in open_files) == [*["/dev/null"] * 3, "pipe"]


def _confined_child(zygote_pid: int) -> tuple[int, dict[str, str]]:
    """The zygote's child and its /proc status, once it has its own filter on top of the zygote's."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        listed = Path(f"/proc/{zygote_pid}/task/{zygote_pid}/children").read_text().split()
        for child in map(int, listed):
            lines = Path(f"/proc/{child}/status").read_text().splitlines()
            status = {
                name: value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            if status["Seccomp_filters"] == "2":
                return child, status
    raise AssertionError("no confined child was seen")


def test_the_same_acts_are_allowed_outside_the_cell() -> None:
    """Else the test above would prove nothing."""
    harmless = ("open a file", "list a folder", "stat a file", "signal the parent", "signal itself")
    tried = acts(os.getpid())
    assert {attempt(tried[name]) for name in harmless} == {"allowed"}


def test_landlock_alone_keeps_files_out_of_reach(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed, other):
        folder.mkdir()
        (folder / "f").write_text("x")
    results = _in_child(lambda: _landlocked(allowed, other))
    assert results == [
        "allowed",
        "PermissionError",
        "PermissionError",
        "PermissionError",
        "PermissionError",
    ]


def _landlocked(allowed: Path, other: Path) -> list[str]:
    """Runs in a forked child: Landlock only, as the gateway and the press have it."""
    from presspass.confine import landlock

    landlock.restrict(landlock.Rights(read=(str(allowed),)))
    return [
        attempt((allowed / "f").read_text),
        attempt((other / "f").read_text),
        attempt(lambda: (allowed / "new").write_text("x")),
        attempt(connect),
        attempt(lambda: os.kill(os.getppid(), 0)),
    ]


def test_a_process_confined_to_folders_keeps_what_it_named(tmp_path: Path) -> None:
    def confined() -> list[str]:
        lacking = confine.self_confine(write=[tmp_path], network=False)
        return [
            *lacking,
            attempt(lambda: (tmp_path / "new").write_text("x")),
            attempt(lambda: (tmp_path / "new").rename(tmp_path / "moved")),
            attempt(lambda: Path(__file__).read_text()),
            attempt(acts(1)["make a Unix socket"]),
            attempt(acts(1)["make a UDP socket"]),
            attempt(acts(1)["run a program"]),
            attempt(acts(os.getppid())["trace the parent"]),
        ]

    refused = "PermissionError"
    assert _in_child(confined) == [
        "allowed",
        "allowed",
        refused,
        "allowed",
        refused,
        refused,
        refused,
    ]


def test_a_process_confined_to_ports_reaches_only_those() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        ports = [server.getsockname()[1] for server in (one, two)]

        def confined() -> list[str]:
            confine.self_confine(network=True, connect=ports[:1], bind=[])
            reach = [
                attempt(lambda port=port: socket.create_connection(("127.0.0.1", port)))
                for port in ports
            ]
            return [*reach, attempt(lambda: socket.create_server(("127.0.0.1", 0)))]

        assert _in_child(confined) == ["allowed", "PermissionError", "PermissionError"]


def test_the_cell_holds_for_a_process_that_was_never_root() -> None:
    def work(request: dict[str, Any], _fds: list[int]) -> bytes:
        return json.dumps(confine_probe.outside(request["parent"])).encode()

    def unprivileged() -> list[str]:
        rlimits.drop_root()
        ours, theirs = socket.socketpair()
        null = os.open(os.devnull, os.O_RDWR)
        confine.self_confine()
        server = os.fork()
        if server == 0:
            ours.close()
            zygote.serve(theirs, work, null)
            os._exit(0)
        theirs.close()
        framing.send_request(ours, {"timeout_s": 20, "request": {"parent": server}}, [])
        answer = framing.receive_answer(ours, bytes_max=10_000)[1]
        ours.close()
        os.waitpid(server, 0)
        results: dict[str, str] = json.loads(answer)
        return [name for name, result in results.items() if result == "allowed"]

    assert _in_child(unprivileged) == []


def _in_child(act: Any) -> list[str]:
    """What `act` returns, run in a forked child of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(act()).encode())
        except BaseException as error:
            os.write(writing, json.dumps([repr(error)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    result: list[str] = json.loads(text)
    return result


def test_a_hang_is_ended_at_the_time_limit_and_the_next_call_is_served(probe: Worker) -> None:
    pid = _started(probe)
    begun = time.monotonic()
    assert refusal(probe, "hang", timeout_s=0.5).code is Code.INSPECTION_TIMED_OUT
    assert time.monotonic() - begun < 5
    assert ask(probe, "nothing") and probe.pid == pid


def test_a_loop_is_ended_by_the_kernel_when_its_processor_time_is_used(probe_path: None) -> None:
    busy = Worker([*PROBE, "--cpu", "1"])
    try:
        found = refusal(busy, "spin")
    finally:
        busy.close()
    assert found.code is Code.INSPECTION_TIMED_OUT and "processor time" in found.message


def test_memory_without_end_is_refused(probe: Worker) -> None:
    assert refusal(probe, "memory").code is Code.INSPECTION_TOO_LARGE


@pytest.mark.parametrize("name", ["crash", "lie", "fail"])
def test_a_child_that_breaks_is_a_refusal_and_the_zygote_goes_on(probe: Worker, name: str) -> None:
    pid = _started(probe)
    assert refusal(probe, name).code is Code.INSPECTION_CRASHED
    assert ask(probe, "nothing") and probe.pid == pid


def test_a_flood_of_output_is_stopped_at_the_limit(probe: Worker) -> None:
    assert refusal(probe, "flood").code is Code.INSPECTION_TOO_LARGE
    assert ask(probe, "nothing")


def test_sixty_four_files_arrive_in_order(probe: Worker) -> None:
    fds = [memory_file(str(n).encode()) for n in range(64)]
    try:
        answer = json.loads(probe.call({"probe": "read"}, fds, 10))
    finally:
        for fd in fds:
            os.close(fd)
    assert answer == [str(n) for n in range(64)]


def test_a_zygote_that_died_is_started_again(probe: Worker) -> None:
    first = _started(probe)
    end_process(first)
    with pytest.raises(Fault) as caught:
        for _ in range(2):  # the first call may find it dead already, and start another
            ask(probe, "nothing")
        raise Fault("none", "", retryable=True)
    assert caught.value.retryable
    assert ask(probe, "nothing") and probe.pid != first


def end_process(pid: int) -> None:
    """Ends exactly this process: a descriptor, unlike a number, never stands for several."""
    handle = os.pidfd_open(pid)
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    select.select([handle], [], [], 10)
    os.close(handle)


def _started(worker: Worker) -> int:
    worker.start()
    assert worker.pid is not None and worker.pid > 1
    return worker.pid


def test_the_zygote_ends_when_its_client_does(probe: Worker) -> None:
    pid = _started(probe)
    probe.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(Fault):
        ask(probe, "nothing")


def test_calls_from_many_threads_each_get_their_own_answer(probe: Worker) -> None:
    results: dict[int, str] = {}

    def call(n: int) -> None:
        fd = memory_file(str(n).encode())
        results[n] = json.loads(probe.call({"probe": "read"}, [fd], 20))[0]
        os.close(fd)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: str(n) for n in range(8)}


def test_the_zygote_sees_nothing_of_our_environment(
    probe: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESSPASS_SECRET", "hunter2")
    pid = _started(probe)
    assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("search_path", ["", ".", "{source}", "{relative}", ":{source}:"])
def test_nothing_of_the_callers_folder_runs_in_the_inspector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search_path: str
) -> None:
    """The folder may be a checkout of the very package that is inspected."""
    ran = tmp_path / "ran"
    planted = tmp_path / "checkout"
    planted.mkdir()
    source = Path(confine.__file__).parent.parent.parent
    if search_path != ".":  # who says so oneself gets it
        (planted / "argparse.py").write_text(f"open({str(ran)!r}, 'w')\nraise SystemExit\n")
    monkeypatch.chdir(planted)
    relative = os.path.relpath(source, planted)
    monkeypatch.setenv("PYTHONPATH", search_path.format(source=source, relative=relative))
    worker = Worker(inspector_command())
    try:
        assert parse_report(_inspected(worker, WHEEL)).findings
        assert Path(f"/proc/{worker.pid}/cwd").readlink() == Path(FOLDER)
        assert Path(f"/proc/{worker.pid}/cmdline").read_bytes().split(b"\0")[1] == b"-P"
    finally:
        worker.close()
    assert not ran.exists()


def test_search_paths_are_handed_on_absolute_and_without_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"src::/usr/x:{os.pathsep}")
    monkeypatch.setenv("LANG", "a::b")
    assert environment(["PYTHONPATH", "LANG", "NOT_SET"]) == {
        "PYTHONPATH": f"{tmp_path}/src:/usr/x",
        "LANG": "a::b",
    }


def test_the_worker_is_a_session_without_a_terminal(probe: Worker) -> None:
    pid = _started(probe)
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert _terminal(pid) == 0


def _terminal(pid: int) -> int:
    """tty_nr of proc_pid_stat(5): 0 for none."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])


def test_no_confined_process_may_type_into_a_terminal() -> None:
    """Refused before the kernel looks at the descriptor: it is not even open."""

    def type_into_it() -> str:
        with contextlib.suppress(PermissionError):
            fcntl.ioctl(CLOSED, termios.TIOCSTI, b"x")
        with contextlib.suppress(PermissionError):
            fcntl.ioctl(CLOSED, TIOCLINUX, b"\x03")
        try:
            fcntl.ioctl(CLOSED, termios.FIONREAD, b"1234")
        except OSError as error:
            return str(error.errno)
        return "allowed"

    def confined() -> list[str]:
        confine.self_confine(network=True)
        return [type_into_it()]

    assert _in_child(confined) == [str(errno.EBADF)]


CLOSED, TIOCLINUX = 999, 0x541C


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_without_new_sockets_only_stream_pairs_can_be_made(
    tmp_path: Path, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_UNIX, kind) as server, socket.socket(socket.AF_UNIX, kind) as held:
        server.bind(str(tmp_path / "s"))
        if kind != socket.SOCK_DGRAM:
            server.listen()

        def confined() -> list[str]:
            confine.self_confine(new_sockets=False)
            return [
                attempt(lambda: socket.socket(socket.AF_UNIX, kind)),
                attempt(lambda: held.connect(str(tmp_path / "s"))),
                attempt(lambda: socket.socketpair(socket.AF_UNIX, kind)),
            ]

        last = "allowed" if kind == socket.SOCK_STREAM else "PermissionError"
        assert _in_child(confined) == ["PermissionError", "PermissionError", last]


def _inspected(worker: Worker, files: dict[str, bytes]) -> bytes:
    request, contents = request_for(files, None, "1.0")
    fds = [memory_file(content) for content in contents]
    try:
        return worker.call(request, fds, 30)
    finally:
        for fd in fds:
            os.close(fd)


WHEEL = {
    "demo_pkg-1.0-py3-none-any.whl": wheel({"demo_pkg/é.py": "x = 1\n", "x.pth": "import os\n"})
}


def test_two_inspectors_give_the_same_report_byte_for_byte(inspector: Worker) -> None:
    other = Worker(INSPECTOR)
    try:
        first = _inspected(inspector, WHEEL)
        assert first == _inspected(other, WHEEL) == _inspected(inspector, WHEEL)
    finally:
        other.close()
    assert [one.rule for one in parse_report(first).findings] == [
        "startup.new-file",
        "release.first",
    ]
    assert inspector.missing == confine.missing()


def test_a_bomb_is_a_finding_within_the_limits(inspector: Worker) -> None:
    bomb = wheel({"demo_pkg/zeros": bytes(80 * limits.MIB)})
    report = parse_report(_inspected(inspector, {"demo_pkg-1.0-py3-none-any.whl": bomb}))
    assert "archive.bomb" in [one.rule for one in report.findings]


def test_a_swapped_file_is_refused_by_the_inspector_itself(inspector: Worker) -> None:
    request, contents = request_for(WHEEL, None, "1.0")
    fd = memory_file(contents[0] + b"x")
    with pytest.raises(Refusal) as caught:
        inspector.call(request, [fd], 10)
    os.close(fd)
    assert caught.value.code is Code.ARTIFACT_DIGEST_MISMATCH


def test_the_inspector_has_neither_network_nor_files(inspector: Worker) -> None:
    _inspected(inspector, WHEEL)
    pid = inspector.pid
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert len([one for one in links if one.startswith("socket:")]) == 1
    assert all(
        one.startswith(("socket:", "pipe:", "/dev/null")) or one == _own_stderr() for one in links
    )


def test_the_inspector_has_no_network_or_database_library_in_memory(inspector: Worker) -> None:
    _inspected(inspector, WHEEL)
    mapped = Path(f"/proc/{inspector.pid}/maps").read_text()
    assert "libpython" in mapped or "python" in mapped
    for library in (
        "_ssl.",
        "libssl",
        "_sqlite3.",
        "libsqlite3",
        "sqlalchemy",
        "uvloop",
        "_asyncio.",
    ):
        assert library not in mapped


def _own_stderr() -> str:
    return os.readlink("/proc/self/fd/2")
