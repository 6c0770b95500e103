"""What was measured on, for whoever reads the figures later: no name of a host or a person, no path."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from presspass.drill.peers import peer

_WITH: tuple[str, ...] = ("presspass", "uvicorn", "uvloop", "httptools", "sqlalchemy")


def describe(folder: Path) -> dict[str, Any]:
    """Processor, memory, kernel, file system of `folder`, versions, and how busy the machine is now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_GiB": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _WITH} | {"pypiserver": _pypiserver()},
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }


def file_system(folder: Path) -> str:
    """Kind of the file system that `folder` is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        inside = folder.resolve().is_relative_to(place)
        if inside and len(place) >= len(best):
            best, kind = place, found
    return kind


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def _pypiserver() -> str:
    code = "from importlib.metadata import version; print(version('pypiserver'))"
    done = subprocess.run([peer("python"), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
