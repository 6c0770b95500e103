"""A client's handle on a confined worker process: starts it, restarts it when it has died, asks it one at a time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from presspass.confine import framing
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import INSPECTION_ANSWER_GRACE_S, INSPECTION_FDS_MAX, REPORT_BYTES_MAX

# The zygote gets no more of our environment than an interpreter needs to start: secrets travel in environments.
_ENVIRONMENT = (
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
)
_PATH_LISTS = ("LD_LIBRARY_PATH", "PATH", "PYTHONPATH")

#: Where our processes stand: nothing there is anybody's but root's.
FOLDER = "/"


def module_command(module: str) -> tuple[str, ...]:
    """How a process of ours is started. -P: what lies in the folder where the caller stands is not imported."""
    return (sys.executable, "-P", "-m", module)


def inspector_command() -> tuple[str, ...]:
    """The inspector, for `Worker`."""
    return module_command("presspass.services.inspector")


def environment(names: Iterable[str] | None = None) -> dict[str, str]:
    """Our environment (of it: `names`) for a process that stands in `FOLDER`.

    Search paths are made absolute. Empty entries, which stand for the current folder, are left out.
    """
    found = {name: os.environ[name] for name in names or os.environ if name in os.environ}
    for name in _PATH_LISTS:
        if name in found:
            parts = found[name].split(os.pathsep)
            found[name] = os.pathsep.join(str(Path(one).absolute()) for one in parts if one)
    return found


class Worker:
    """Runs `argv` (given `--fd N`, its end of a socket) and passes requests to it. Safe to use from many threads."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._closed = False
        self.missing: tuple[str, ...] = ()
        """Protections that the machine lacked at the last call, as sentences; empty before the first."""

    @property
    def pid(self) -> int | None:
        """Process id of the zygote; None while none runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the process ahead of the first call, which otherwise does it."""
        with self._lock:
            self._ready()

    def call(self, request: JsonObject, fds: list[int], timeout_s: float) -> bytes:
        """The result for `request`, whose files are `fds` (they stay open and are read by position).

        Raises Refusal with the code of the inspection (`inspection.timed-out`, `.crashed`, `.too-large`, or what it
        refused itself), Fault `inspection.crashed` (retryable) when the process as a whole failed.
        """
        if len(fds) > INSPECTION_FDS_MAX:
            raise Refusal(
                Code.INSPECTION_TOO_LARGE,
                f"More than {INSPECTION_FDS_MAX} files in one inspection.",
            )
        with self._lock:
            link = self._ready()
            try:
                link.settimeout(timeout_s + INSPECTION_ANSWER_GRACE_S)
                framing.send_request(link, {"timeout_s": timeout_s, "request": request}, fds)
                header, result = framing.receive_answer(link, bytes_max=REPORT_BYTES_MAX)
            except (OSError, ValueError) as error:
                self._stop()
                message = f"The inspector gave no answer and was stopped ({type(error).__name__})."
                raise Fault(Code.INSPECTION_CRASHED.value, message, retryable=True) from error
        self.missing = tuple(map(str, header.get("missing", ())))
        if header.get("ok") is True:
            return result
        raise _refusal(header)

    def close(self) -> None:
        """Ends the process; calls after this raise Fault."""
        with self._lock:
            self._closed = True
            self._stop()

    def _ready(self) -> socket.socket:
        if self._closed:
            raise Fault(
                Code.INSPECTION_CRASHED.value, "The inspector has been closed.", retryable=False
            )
        if self._process and self._link and self._process.poll() is None:
            return self._link
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._process = subprocess.Popen(
                [*self._argv, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=FOLDER,
                env=environment(_ENVIRONMENT),
                # No terminal: nothing can be typed into it, and Ctrl-C ends our parent, which ends us in its own order.
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            message = f"The inspector could not be started: {error}."
            raise Fault(Code.INSPECTION_CRASHED.value, message, retryable=True) from error
        finally:
            theirs.close()
        self._link = ours
        return ours

    def _stop(self) -> None:
        if self._link:
            self._link.close()
        if self._process:
            try:
                self._process.wait(timeout=0.5)  # it ends by itself when its socket closes
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._link = self._process = None


def _refusal(header: JsonObject) -> Refusal:
    try:
        code = Code(str(header.get("code")))
    except ValueError:
        code = Code.INSPECTION_CRASHED
    return Refusal(code, str(header.get("message", "The inspection failed.")))
