"""What the kernel says of a process: CPU time, memory, children. Reads /proc; writes only the reset of a peak."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TICK_MS: Final = 1000 / os.sysconf("SC_CLK_TCK")
_RESET_PEAK: Final = (
    "5"  # proc(5), clear_refs: sets the peak of resident memory to its present size
)
_UTIME, _STIME = (
    11,
    12,
)  # proc(5), stat: fields 14 and 15, counted behind the name, which may hold spaces
_KB: Final = 1024
MB: Final = 1_000_000


def cpu_ms(pid: int) -> float:
    """User and system time of the process so far, in milliseconds (steps of one clock tick, mostly 10 ms)."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_MS


def resident_bytes(pid: int) -> int:
    """Resident memory now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most resident memory since the process began, or since `reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """The next `peak_bytes` counts from here."""
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


def shared_out_bytes(pid: int) -> int:
    """Proportional set size: each page divided among the processes that share it."""
    return _kilobytes(_read(pid, "smaps_rollup"), "Pss")


def family(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def command(pid: int) -> str:
    """The command line, words separated by spaces."""
    return _read(pid, "cmdline").replace("\0", " ").strip()


def _status(pid: int, name: str) -> int:
    return _kilobytes(_read(pid, "status"), name)


def _kilobytes(text: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"the kernel does not tell {name}")
    return int(match.group(1)) * _KB


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
