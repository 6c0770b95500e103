"""What each process can import, open and reach: the fence in the tree (import-linter) has another half at run time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from presspass import confine
from presspass.drill.demo.gate import Gate
from presspass.drill.demo.tell import Teller

_LISTEN = "0A"
_NOT_IN_GATEWAY = {
    "presspass.press",
    "presspass.keystore",
    "presspass.notify",
    "presspass.inspector",
    "smtplib",
    "securesystemslib",
}
_NOT_IN_PRESS = {
    "presspass.gateway",
    "presspass.inspector",
    "presspass.cli",
    "starlette",
    "uvicorn",
    "jinja2",
    "webauthn",
    "multipart",
}
_NOT_IN_INSPECTOR = {
    "presspass.press", "presspass.gateway", "presspass.keystore", "presspass.store", "presspass.notify",
    "presspass.verify",
    "ssl", "http.client", "urllib.request", "sqlite3", "sqlalchemy", "httpx2", "smtplib", "asyncio", "cryptography",
}  # fmt: skip

needs_kernel = pytest.mark.skipif(
    bool([line for line in confine.missing() if not line.startswith("own-user")])
    and not os.environ.get("PRESSPASS_REQUIRE_ALL"),
    reason="this kernel lacks a mechanism: " + "; ".join(confine.missing()),
)


@pytest.mark.parametrize(
    ("service", "forbidden"),
    [
        ("gateway", _NOT_IN_GATEWAY),
        ("acme", _NOT_IN_GATEWAY),
        ("press", _NOT_IN_PRESS),
        ("inspector", _NOT_IN_INSPECTOR),
    ],
)
def test_a_process_imports_nothing_of_another_zone(service: str, forbidden: set[str]) -> None:
    program = (
        f"import json, sys; import presspass.services.{service} as s; getattr(s, 'warm_up', int)(); "
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(json.loads(done.stdout))
    assert f"presspass.services.{service}" in loaded
    assert not loaded & forbidden


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    running = Gate(tmp_path_factory.mktemp("boundaries"), Teller())
    try:
        running.begin(["Ana", "Ben"], approvals=1)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def processes(gate: Gate) -> dict[str, int]:
    assert gate.server is not None
    found = {"supervisor": gate.server.pid}
    for child in _children(gate.server.pid):
        name = (
            "gateway"
            if b"services.gateway" in Path(f"/proc/{child}/cmdline").read_bytes()
            else "press"
        )
        found[name] = child
        for inspector in _children(child):
            found[f"{name}'s inspector"] = inspector
    assert {"gateway", "press"} <= set(found)
    return found


def test_the_press_listens_nowhere_and_the_gateway_on_its_two_doors_only(
    gate: Gate, processes: dict[str, int]
) -> None:
    assert _listening(processes["gateway"]) == {
        f"tcp:{gate.port}",
        f"unix:{gate.home}/gateway/control.sock",
    }
    for name in processes.keys() - {"gateway"}:
        assert _listening(processes[name]) == set(), name


def test_no_process_but_the_press_has_a_key_open_and_no_inspector_a_database(
    gate: Gate, processes: dict[str, int]
) -> None:
    for name, pid in processes.items():
        opened = _open_files(pid)
        if name != "press":
            assert not any("/press/keys" in path or "/press/inbox" in path for path in opened), name
        if "inspector" in name:
            assert not any(path.endswith((".db", "-wal", "-shm")) for path in opened), name
        if name == "gateway":
            writable = {
                path
                for path in opened
                if path.startswith(str(gate.home)) and _open_for_writing(pid, path)
            }
            assert all(path.startswith(f"{gate.home}/gateway/") for path in writable), writable


@needs_kernel
@pytest.mark.parametrize("name", ["gateway", "press"])
def test_the_running_process_is_confined_by_the_kernel(
    processes: dict[str, int], name: str
) -> None:
    status = Path(f"/proc/{processes[name]}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


@pytest.fixture
def somebody(tmp_path: Path) -> Iterator[list[str]]:
    """Paths of two Unix sockets that do not belong to the gate: one for connections, one for datagrams."""
    paths = [str(tmp_path / "stream"), str(tmp_path / "datagram")]
    with (
        socket.socket(socket.AF_UNIX) as stream,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
    ):
        stream.bind(paths[0])
        stream.listen()
        datagram.bind(paths[1])
        yield paths


_TRY = """
import fcntl, json, os, socket, sys, termios
from pathlib import Path
from presspass.services import isolation
os.setsid()
master, terminal = os.openpty()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
home, process, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if process == "gateway":
    isolation.confine_gateway(home, ())
elif process == "gateway that may dial":
    isolation.confine_gateway(home, (443,))
elif process == "acme":
    isolation.confine_acme(home, "")
else:
    isolation.confine_press(home)
def attempt(act):
    try:
        act()
        return "done"
    except PermissionError:
        return "denied"
    except OSError as error:
        return f"failed: {error.strerror}"
def connect():
    with socket.socket() as s:
        s.settimeout(5)
        s.connect(("127.0.0.1", port))
def connect_unix():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(sys.argv[4])
def send_unix():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", sys.argv[5])
def send_unix_from_a_pair():
    with socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0] as s:
        s.sendmsg([b"x"], [], 0, sys.argv[5])
def send_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("127.0.0.1", port))
def bind():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
acts = {
    "read the key-encryption key": lambda: (home / "press/keys/kek").read_bytes(),
    "read the log key": lambda: (home / "press/keys/log.key").read_bytes(),
    "list the credentials": lambda: os.listdir(home / "press/keys/credentials"),
    "put an order into the inbox": lambda: (home / "press/inbox/x.tmp").write_text("{}"),
    "read the journal": lambda: (home / "press/journal/journal.db").read_bytes(),
    "write the journal": lambda: (home / "press/journal/journal.db").open("r+b").close(),
    "read the gateway's database": lambda: (home / "gateway/gateway.db").read_bytes(),
    "write the gateway's database": lambda: (home / "gateway/gateway.db").open("r+b").close(),
    "read the drop box": lambda: os.listdir(home / "drop"),
    "write the drop box": lambda: (home / "drop/x.tmp").write_text("{}"),
    "write the configuration": lambda: (home / "presspass.toml").open("r+b").close(),
    "connect somewhere": connect,
    "listen somewhere": bind,
    "connect to somebody's Unix socket": connect_unix,
    "send to somebody's Unix socket": send_unix,
    "send there from a pair": send_unix_from_a_pair,
    "send a datagram": send_udp,
    "type into a terminal": lambda: fcntl.ioctl(terminal, termios.TIOCSTI, b"x"),
}
print(json.dumps({name: attempt(act) for name, act in acts.items()}))
"""
_ALLOWED = {
    "gateway": {"read the journal", "read the gateway's database", "write the gateway's database"},
    "gateway that may dial": {
        "read the journal", "read the gateway's database", "write the gateway's database", "send a datagram",
    },
    "acme": {
        "connect somewhere", "connect to somebody's Unix socket", "send to somebody's Unix socket",
        "send there from a pair", "send a datagram",
    },
    "press": {
        "read the key-encryption key", "read the log key", "list the credentials", "put an order into the inbox",
        "read the journal", "write the journal", "read the gateway's database", "read the drop box",
        "connect somewhere", "connect to somebody's Unix socket", "send to somebody's Unix socket",
        "send there from a pair", "send a datagram",
    },
}  # fmt: skip


@needs_kernel
@pytest.mark.parametrize("process", ["gateway", "gateway that may dial", "acme", "press"])
def test_what_a_taken_over_process_can_still_open_and_reach(
    gate: Gate, process: str, somebody: list[str]
) -> None:
    command = [sys.executable, "-c", _TRY, str(gate.home), process, str(gate.port), *somebody]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    outcome = json.loads(done.stdout)
    assert {name for name, result in outcome.items() if result == "done"} == _ALLOWED[process], (
        outcome
    )
    assert {result for name, result in outcome.items() if name not in _ALLOWED[process]} == {
        "denied"
    }, outcome


def test_the_home_is_closed_to_other_users(gate: Gate) -> None:
    for name in ("press", "press/keys", "press/keys/credentials", "press/inbox", "gateway", "drop"):
        assert (gate.home / name).stat().st_mode & 0o077 == 0, name
    for key in (gate.home / "press" / "keys").iterdir():
        assert key.stat().st_mode & 0o077 == 0, key.name


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _open_files(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the process is at work, and closes files
            found.add(os.readlink(link))
    return found


def _open_for_writing(pid: int, path: str) -> bool:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(link) != path:
                continue
            status = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()
            flags = status.split("flags:")[1].split()[0]
            if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                return True
    return False


def _listening(pid: int) -> set[str]:
    inodes = {name[8:-1] for name in _open_files(pid) if name.startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == _LISTEN and parts[9] in inodes:
                found.add(f"tcp:{int(parts[1].rsplit(':', 1)[1], 16)}")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[6] in inodes and parts[3] == "00010000":
            found.add(f"unix:{parts[7] if len(parts) > 7 else ''}")
    return found
