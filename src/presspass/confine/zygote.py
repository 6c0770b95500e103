"""The zygote: a warm process that forks a confined child for each request, and outlives what happens to it.

A fresh interpreter would cost some 90 ms a request; a fork costs one or two. The zygote never opens the files it is
handed. It believes nothing of what a child writes beyond its length: the result is passed on as bytes.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from presspass.confine import cell, framing, missing
from presspass.core import limits
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal

Work = Callable[[JsonObject, list[int]], bytes]

_RESULT, _ERROR = b"R", b"E"
_FRAME_HEAD_BYTES = 9  # kind, then the length of what follows in 8 bytes (big-endian)
_ERROR_BYTES_MAX = 4 * limits.KIB
_EXIT_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one child: its result, or a code and a sentence."""

    result: bytes = b""
    code: Code | None = None
    message: str = ""


def serve(link: socket.socket, work: Work, null: int) -> None:
    """Answers requests on `link` until its other side is closed.

    `work(request, fds)` runs in the child, confined, and returns the result. `null` is an open /dev/null.
    Must be called from a process with one thread.
    """
    lacking = list(missing())
    with contextlib.suppress(ConnectionError):  # the client is gone in the middle of something
        while (received := framing.receive_request(link)) is not None:
            envelope, fds = received
            try:
                outcome = _run(link, work, envelope, fds, null)
            finally:
                for fd in fds:
                    os.close(fd)
            header = _header(outcome, lacking)
            framing.send_answer(link, header, outcome.result)


def _header(outcome: _Outcome, lacking: list[str]) -> JsonObject:
    if outcome.code is None:
        return {"ok": True, "bytes": len(outcome.result), "missing": lacking}
    return {
        "ok": False,
        "code": outcome.code.value,
        "message": outcome.message,
        "missing": lacking,
    }


def _run(
    link: socket.socket, work: Work, envelope: JsonObject, fds: list[int], null: int
) -> _Outcome:
    timeout_s = min(float(envelope["timeout_s"]), limits.INSPECTION_WALL_S_MAX)
    deadline = time.monotonic() + timeout_s
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _child(work, envelope["request"], fds, writing, parent, null)
    os.close(writing)
    frame = None
    try:
        frame = _collect(reading, link, deadline)
    finally:
        os.close(reading)
        status = _end(child, grace_s=0 if frame is None else _EXIT_GRACE_S)
    return _outcome(frame, status, timeout_s)


def _child(
    work: Work, request: JsonObject, fds: list[int], pipe: int, parent: int, null: int
) -> None:
    """The rest of the child's life. Whatever happens here it ends here: it must never return into the zygote's loop."""
    status = 1
    gc.disable()  # the child ends soon, and a collection would copy the pages that it shares with the zygote
    try:
        cell.enter(parent, [*fds, pipe], null)
        _send(pipe, _RESULT, work(request, fds))
        status = 0
    except Refusal as refusal:
        _send_error(pipe, refusal.code, refusal.message)
    except MemoryError:
        _send_error(
            pipe, Code.INSPECTION_TOO_LARGE, "The inspection needs more memory than it may have."
        )
    except BaseException as error:
        _send_error(
            pipe, Code.INSPECTION_CRASHED, f"The inspection failed ({type(error).__name__})."
        )
    finally:
        os._exit(status)


def _send(pipe: int, kind: bytes, body: bytes) -> None:
    view = memoryview(kind + len(body).to_bytes(_FRAME_HEAD_BYTES - 1, "big") + body)
    while view:
        view = view[os.write(pipe, view) :]


def _send_error(pipe: int, code: Code, message: str) -> None:
    with contextlib.suppress(OSError):
        _send(pipe, _ERROR, json.dumps({"code": code.value, "message": message}).encode())


def _collect(pipe: int, link: socket.socket, deadline: float) -> bytes | None:
    """All that the child writes; None when the time is up or the client is gone. Stops reading past the limit."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(link, select.POLLRDHUP)
    most = _FRAME_HEAD_BYTES + limits.REPORT_BYTES_MAX
    parts: list[bytes] = []
    while most >= 0:
        left_s = deadline - time.monotonic()
        ready = dict(poll.poll(max(0, left_s * 1000)))
        if not ready or link.fileno() in ready:
            return None
        part = os.read(pipe, 1 << 20)
        if not part:
            break
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _end(child: int, *, grace_s: float) -> int:
    """Waits `grace_s` for the child to end by itself, else ends it; returns its wait status."""
    handle = os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], grace_s)[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    finally:
        os.close(handle)


def _outcome(frame: bytes | None, status: int, timeout_s: float) -> _Outcome:
    if frame is None:
        message = f"The inspection was ended because it took longer than {timeout_s:g} s."
        return _Outcome(code=Code.INSPECTION_TIMED_OUT, message=message)
    kind, length, body = frame[:1], frame[1:_FRAME_HEAD_BYTES], frame[_FRAME_HEAD_BYTES:]
    announced = int.from_bytes(length, "big")
    if kind == _RESULT and announced > limits.REPORT_BYTES_MAX:
        message = f"The report is larger than {limits.REPORT_BYTES_MAX} bytes."
        return _Outcome(code=Code.INSPECTION_TOO_LARGE, message=message)
    if kind == _RESULT and announced == len(body):
        return _Outcome(result=body)
    if kind == _ERROR and announced == len(body) <= _ERROR_BYTES_MAX:
        return _reported(body)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        message = (
            f"The inspection used more than {limits.INSPECTION_CPU_S_MAX} s of processor time."
        )
        return _Outcome(code=Code.INSPECTION_TIMED_OUT, message=message)
    ended = (
        f"signal {os.WTERMSIG(status)}"
        if os.WIFSIGNALED(status)
        else f"status {os.WEXITSTATUS(status)}"
    )
    message = f"The inspection ended without a report ({ended})."
    return _Outcome(code=Code.INSPECTION_CRASHED, message=message)


def _reported(body: bytes) -> _Outcome:
    """The child's own words, which are hostile: the code must be a known one, the sentence is bounded."""
    try:
        value = json.loads(body)
        return _Outcome(
            code=Code(value["code"]), message=str(value["message"])[: limits.EVIDENCE_CHARS_MAX]
        )
    except (ValueError, KeyError, TypeError):
        return _Outcome(
            code=Code.INSPECTION_CRASHED, message="The inspection ended without a report."
        )
