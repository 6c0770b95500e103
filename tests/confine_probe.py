"""A worker process for tests: the same zygote and the same cell as the inspector's, but it does what it is told.

Started as `python confine_probe.py [--cpu SECONDS] --fd N`. The request names one of PROBES; its result is the answer.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from presspass.confine import self_confine, zygote
from presspass.core import limits

_libc = ctypes.CDLL(None, use_errno=True)
"".encode("idna")  # a codec that connecting needs: later its file would be what is refused


def attempt(act: Callable[[], object]) -> str:
    """The name of the error that `act` ends in, or "allowed"."""
    try:
        act()
    except (OSError, RuntimeError, ValueError) as error:
        return type(error).__name__
    return "allowed"


def connect() -> None:
    """Port 9 of the loopback, where nobody listens."""
    socket.create_connection(("127.0.0.1", 9), timeout=1)


def acts(parent: int) -> dict[str, Callable[[], object]]:
    """What a confined process must not be able to do; `parent` is the zygote's process id."""
    return {
        "open a file": lambda: Path(__file__).read_bytes(),
        "list a folder": lambda: os.listdir("/"),
        "stat a file": lambda: Path("/etc/passwd").stat(),
        "create a file": lambda: os.open("made-by-probe", os.O_CREAT | os.O_WRONLY),
        "change a mode": lambda: Path(__file__).chmod(0o644),
        "read the parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "read its own memory map": lambda: Path("/proc/self/maps").read_bytes(),
        "make a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "make a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "make a Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "make a socket pair": socket.socketpair,
        "connect": connect,
        "run a program": lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]),
        "spawn a program": lambda: os.posix_spawn(sys.executable, [sys.executable], {}),
        "fork": os.fork,
        "start a thread": lambda: threading.Thread(target=int).start(),
        "signal the parent": lambda: os.kill(parent, 0),
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "trace the parent": lambda: _trace(parent),
        "become root": lambda: os.setuid(0),
        "make memory executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "raise its own limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10)),
        "open another descriptor": os.pipe,
    }


def _trace(pid: int) -> None:
    seize = 0x4206  # unlike PTRACE_ATTACH it would not stop the process if it were allowed
    if _libc.ptrace(ctypes.c_long(seize), ctypes.c_long(pid), None, None) < 0:
        raise PermissionError(ctypes.get_errno(), "refused")


def outside(parent: int) -> dict[str, object]:
    """How each forbidden act ended."""
    return {name: attempt(act) for name, act in acts(parent).items()}


def _memory() -> dict[str, object]:
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def _spin() -> dict[str, object]:
    while True:
        pass


def _hang() -> dict[str, object]:
    _libc.syscall(
        ctypes.c_long(202), ctypes.byref(ctypes.c_int(0)), 0, 0, None, None, 0
    )  # futex: waits for ever
    return _hang()


def _crash() -> dict[str, object]:
    ctypes.string_at(0)
    return {}


def _lie() -> dict[str, object]:
    os.write(_pipe(), b"E" + (20).to_bytes(8, "big") + b'{"code":"no.such.one"}'[:20])
    os._exit(0)


def _flood() -> dict[str, object]:
    pipe = _pipe()
    while True:
        os.write(pipe, b"R" * (1 << 20))


def _pipe() -> int:
    """The descriptor that answers go to: the one above the standard ones that can be written."""
    for fd in range(3, 64):
        try:
            os.write(fd, b"")
        except OSError:
            continue
        return fd
    raise LookupError


PROBES = {
    "memory": _memory,
    "spin": _spin,
    "hang": _hang,
    "crash": _crash,
    "lie": _lie,
    "flood": _flood,
    "fail": lambda: {}["x"],
    "nothing": lambda: {"pid": os.getpid()},
}


def work(request: dict[str, Any], fds: list[int]) -> bytes:
    """What the child does: one probe, or the first bytes of its files."""
    if request["probe"] == "read":
        return json.dumps([os.pread(fd, 100, 0).decode() for fd in fds]).encode()
    if request["probe"] == "outside":
        return json.dumps(outside(request["parent"])).encode()
    return json.dumps(PROBES[request["probe"]]()).encode()


def main() -> None:
    """Serves until the socket closes."""
    if "--cpu" in sys.argv:
        limits.INSPECTION_CPU_S_MAX = int(sys.argv[sys.argv.index("--cpu") + 1])
    attempt(connect)  # loads codecs and name resolution, so that probes fail for the right reason
    link = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
    null = os.open(os.devnull, os.O_RDWR)
    self_confine()
    zygote.serve(link, work, null)


if __name__ == "__main__":
    main()
