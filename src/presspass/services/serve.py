"""The supervisor: starts the processes of one installation as children, watches them, and ends them in order.

1. Each child holds the read end of a pipe whose write end only this process has. When this process dies, even by
   kill -9, the pipe closes and the child ends itself.
2. A child that ends by itself is started again: the first time at once, then after a delay that doubles; a child that
   has been up for a while starts with a clean slate.
3. SIGTERM or SIGINT drains: first the gateway (no new work comes in), then the press (what it is publishing ends).
   A second signal ends both at once.
4. No child has a terminal: each is a session of its own, and what it says comes through a pipe and is told line by
   line, with nothing in it that could act on a terminal. What a child leaves behind in its group ends with it.
It opens no database and no socket, and imports neither the gateway nor the press.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from presspass.confine.worker import FOLDER, environment, module_command
from presspass.core.errors import Code, Fault, Refusal, broken, invariant
from presspass.core.limits import (
    ACME_DRAIN_S_MAX,
    CHILD_LINE_BYTES_MAX,
    CHILD_READY_S_MAX,
    GATEWAY_DRAIN_S_MAX,
    PRESS_DRAIN_S_MAX,
    RESTART_DELAY_S_MAX,
)
from presspass.core.text import safe
from presspass.services.config import Config
from presspass.services.zones import Identity

_RESTART_FIRST_S = 0.5
_STEADY_S = 60.0
_KILL_WAIT_S = 5.0
_LAST_READS_MAX = 16
_STARTS_MAX = 4  # until a first success: the children of a supervisor that was killed may still be about to end


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start one process. `{fd}` in `command` stands for the number of the supervisor's pipe.

    `drain_s`: time to end after SIGTERM. `identity`: the user it runs as (None: ours). `keep_port`: when
    it is started again, it is told to listen on the port it had, which the system may have chosen.
    """

    name: str
    command: tuple[str, ...]
    drain_s: float
    identity: Identity | None = None
    keep_port: bool = False


@dataclass(slots=True)
class _Said:
    """One output of a child: its pipe, and the line that has begun."""

    pipe: IO[bytes]
    line: bytearray = field(default_factory=bytearray)

    def read(self) -> list[bytes] | None:
        """Whole lines, as far as there are any now (one that never ends in pieces); None at the end of the output."""
        try:
            data = os.read(self.pipe.fileno(), CHILD_LINE_BYTES_MAX)
        except BlockingIOError:
            return []
        self.line += data
        *lines, rest = bytes(self.line).split(b"\n")
        if rest and (not data or len(rest) >= CHILD_LINE_BYTES_MAX):
            lines, rest = [*lines, rest], b""
        self.line[:] = rest
        return lines if data or lines else None


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    exit_fd: int = -1
    started_at: float = 0.0
    restarts: int = 0
    restart_at: float | None = None
    ready: dict[str, Any] | None = None
    outputs: tuple[_Said, ...] = ()

    @property
    def running(self) -> bool:
        return self.process is not None


def child_specs(
    home: Path, identities: dict[str, Identity] | None = None, *, acme: bool = False
) -> tuple[ChildSpec, ...]:
    """Gateway and press, in the order in which they are drained; with `acme` the certifier before them."""
    found = identities or {}
    zones = "separated" if found else "not separated"

    def spec(name: str, drain_s: float) -> ChildSpec:
        words = ("--home", str(home.absolute()), "--fd-supervisor", "{fd}", "--zones", zones)
        command = (*module_command(f"presspass.services.{name}"), *words)
        user = found.get("gateway" if name == "acme" else name)
        return ChildSpec(name, command, drain_s, user, name == "gateway")

    both = spec("gateway", GATEWAY_DRAIN_S_MAX), spec("press", PRESS_DRAIN_S_MAX)
    return (spec("acme", ACME_DRAIN_S_MAX), *both) if acme else both


class Supervisor:
    """Runs children until a signal ends it. `tell` gets each event as one line for the operator."""

    def __init__(self, specs: Sequence[ChildSpec], tell: Callable[[str], None]) -> None:
        self._children = [_Child(spec) for spec in specs]
        self._tell = tell
        self._selector = selectors.DefaultSelector()
        self._signals = 0

    def run(self, ready: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        """Starts all children, calls `ready` once with what each of them said, and returns after a drain.

        Fault("serve.not-ready") when a child is not ready in CHILD_READY_S_MAX; everything has ended then.
        """
        with self._signals_noted(), self._selector:
            try:
                for child in self._children:
                    self._start(child)
                self._until_ready()
                if not self._signals:
                    ready({child.spec.name: child.ready or {} for child in self._children})
                while not self._signals:
                    self._turn(None)
                self._drain()
            finally:
                self._kill_all()

    # starting and watching

    def _start(self, child: _Child) -> None:
        end_for_child, lifeline = os.pipe()
        command = [part.replace("{fd}", str(end_for_child)) for part in child.spec.command]
        if child.spec.keep_port and child.ready is not None and "port" in child.ready:
            command += ["--port", str(child.ready["port"])]
        identity = child.spec.identity
        user: dict[str, Any] = {} if identity is None else identity.popen_arguments()
        try:
            # A session of its own: Ctrl-C must reach the supervisor alone, which then drains in order, and a child that
            # is taken over must not type into the operator's terminal.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                pass_fds=(end_for_child,), start_new_session=True, cwd=FOLDER, env=environment(), **user,
            )  # fmt: skip
        except OSError as error:
            os.close(lifeline)
            raise _cannot_start(child.spec, error) from None
        finally:
            os.close(end_for_child)
        child.process, child.lifeline = process, lifeline
        child.exit_fd = os.pidfd_open(process.pid)
        child.started_at, child.restart_at = time.monotonic(), None
        child.outputs = tuple(_Said(pipe) for pipe in (process.stdout, process.stderr) if pipe)
        for said in child.outputs:
            os.set_blocking(said.pipe.fileno(), False)
            read = functools.partial(self._read, said=said)
            self._selector.register(said.pipe, selectors.EVENT_READ, (read, child))
        self._selector.register(child.exit_fd, selectors.EVENT_READ, (self._reap, child))
        self._say(f"{child.spec.name} started (pid {process.pid})")

    def _until_ready(self) -> None:
        deadline = time.monotonic() + CHILD_READY_S_MAX
        while not self._signals and any(child.ready is None for child in self._children):
            if time.monotonic() > deadline:
                late = ", ".join(c.spec.name for c in self._children if c.ready is None)
                raise Fault(
                    "serve.not-ready",
                    f"Not ready after {CHILD_READY_S_MAX} seconds: {late}. The lines above say why.",
                    retryable=True,
                )
            self._turn(deadline)

    def _turn(self, deadline: float | None) -> None:
        """Waits for one event (a line, an exit, a signal, a restart that is due) and answers it."""
        due = [c.restart_at for c in self._children if c.restart_at is not None]
        ends = [*due, *([] if deadline is None else [deadline])]
        timeout = max(0.0, min(ends) - time.monotonic()) if ends else None
        for key, _mask in self._selector.select(timeout):
            answer, child = key.data
            answer(child)
        for child in self._children:
            if child.restart_at is not None and child.restart_at <= time.monotonic():
                self._start(child)

    def _read(self, child: _Child, said: _Said) -> bool:
        """Tells what the child has said; False at the end of this output."""
        if said.pipe.closed:  # it was reaped in the same turn
            return False
        lines = said.read()
        if lines is None:
            self._selector.unregister(said.pipe)
            return False
        for line in lines:
            self._heard(child, line, is_output=said is child.outputs[0])
        return True

    def _heard(self, child: _Child, line: bytes, *, is_output: bool) -> None:
        ready = _ready_line(line) if is_output else None
        if ready is not None:
            child.ready = ready
        elif line:
            prefix = f"{child.spec.name}: "
            self._say(prefix + line.decode("utf-8", "backslashreplace").removeprefix(prefix))

    def _say(self, text: str) -> None:
        self._tell(safe(text))

    def _reap(self, child: _Child) -> None:
        code = self._forget(child)
        delay = self._next_delay(child)
        if self._signals:
            self._say(f"{child.spec.name} ended ({_how(code)})")
            return
        if child.ready is None and child.restarts >= _STARTS_MAX:
            raise Fault(
                "serve.child-failed",
                f"The {child.spec.name} does not start ({_how(code)}). Its own lines above say why.",
                retryable=False,
            )
        when = f"in {delay:g} s" if delay else "at once"
        self._say(f"{child.spec.name} ended unexpectedly ({_how(code)}); starting it again {when}")
        child.restart_at = time.monotonic() + delay

    def _next_delay(self, child: _Child) -> float:
        if time.monotonic() - child.started_at >= _STEADY_S:
            child.restarts = 0
        child.restarts += 1
        if child.restarts == 1:
            return 0.0
        return float(min(_RESTART_FIRST_S * 2 ** (child.restarts - 2), RESTART_DELAY_S_MAX))

    def _forget(self, child: _Child) -> int:
        """Takes note that the process has ended: ends its group, reads what it still said, returns its exit code."""
        process = child.process
        if process is None:
            broken("only a running child is reaped")
        _end_group(process)
        code = process.wait()
        for said in child.outputs:
            with contextlib.suppress(KeyError):  # its end has been read before
                self._read_rest(child, said)
                self._selector.unregister(said.pipe)
            said.pipe.close()
        self._selector.unregister(child.exit_fd)
        for fd in (child.exit_fd, child.lifeline):
            os.close(fd)
        child.process, child.lifeline, child.exit_fd = None, -1, -1
        return code

    def _read_rest(self, child: _Child, said: _Said) -> None:
        """Not to the end of the pipe: somebody in another session might hold it open, and write for ever."""
        for _ in range(_LAST_READS_MAX):
            if not self._read(child, said):
                return
        self._heard(child, bytes(said.line), is_output=False)

    # ending

    def _drain(self) -> None:
        for child in self._children:
            child.restart_at = None
        for child in self._children:
            if child.running and self._signals < 2:
                self._end(child)

    def _end(self, child: _Child) -> None:
        self._say(
            f"draining the {child.spec.name} (up to {child.spec.drain_s:g} s; press Ctrl-C again to stop at once)"
        )
        self._signal(child, signal.SIGTERM)
        deadline = time.monotonic() + child.spec.drain_s
        while child.running and self._signals < 2 and time.monotonic() < deadline:
            self._turn(deadline)

    def _kill_all(self) -> None:
        for child in self._children:
            child.restart_at = None
            self._signal(child, signal.SIGKILL)
        deadline = time.monotonic() + _KILL_WAIT_S
        while any(child.running for child in self._children) and time.monotonic() < deadline:
            self._signals = max(self._signals, 1)
            self._turn(deadline)

    @staticmethod
    def _signal(child: _Child, number: signal.Signals) -> None:
        if child.running:
            with contextlib.suppress(ProcessLookupError):  # it has ended and is not reaped yet
                signal.pidfd_send_signal(child.exit_fd, number)

    @contextlib.contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Turns SIGTERM and SIGINT into bytes that `select` sees; nothing of ours runs inside a handler."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(reader, selectors.EVENT_READ, (self._note_signals, reader))
        old_fd = signal.set_wakeup_fd(writer)
        old = {
            number: signal.signal(number, _do_nothing) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_fd)
            os.close(reader)
            os.close(writer)

    def _note_signals(self, reader: int) -> None:
        self._signals += sum(
            number in (signal.SIGTERM, signal.SIGINT) for number in os.read(reader, 64)
        )


@contextlib.contextmanager
def only_supervisor(home: Path) -> Iterator[None]:
    """Holds the home's supervisor lock; refuses with `home.in-use` while another `serve` has it."""
    with (home / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(
                Code.HOME_IN_USE,
                f"Another `presspass serve` is running on {home}.",
                "Stop it first, or use that one.",
            ) from None
        yield


def _cannot_start(spec: ChildSpec, error: OSError) -> Fault:
    who = "" if spec.identity is None else f" as user {spec.identity.uid}"
    hint = (
        ""
        if spec.identity is None
        else " Python and Presspass must lie where that user can read them, such as /opt."
    )
    return Fault(
        "serve.child-failed",
        f"{spec.command[0]} cannot be run{who}: {error.strerror}.{hint}",
        retryable=False,
    )


def _do_nothing(_number: int, _frame: object) -> None:
    """A Python handler must stand, or the wake-up descriptor is not written."""


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a session that has ended. Before it is reaped: until then its number is nobody else's."""
    invariant(process.returncode is None, "a group is ended before its leader is reaped")
    with contextlib.suppress(ProcessLookupError):
        group = os.getpgid(process.pid)
        invariant(group == process.pid > 1, "each child leads a group of its own")
        os.killpg(group, signal.SIGKILL)


def _ready_line(line: bytes) -> dict[str, Any] | None:
    """`{"ready": true, ...}` as a child prints it once; None for any other line."""
    if not line.startswith(b"{"):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.get("ready") is True else None


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def shown_url(config: Config, ready: dict[str, dict[str, Any]]) -> str:
    """Where the gateway listens, as its own ready line says (the port may have been chosen by the system)."""
    port = ready.get("gateway", {}).get("port", config.listen.port)
    host = f"[{config.listen.host}]" if ":" in config.listen.host else config.listen.host
    return f"{'http' if config.tls.mode == 'off' else 'https'}://{host}:{port}"
