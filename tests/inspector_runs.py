"""Runs inspections in the test's own process, on files in memory."""

from __future__ import annotations

import os
from typing import Any

from inspector_files import PROJECT, memory_file
from presspass.core.digests import sha256_hex
from presspass.core.findings import Report
from presspass.inspector.engine import inspect

Files = dict[str, bytes]


def request_for(
    candidate: Files, baseline: Files | None, version: str
) -> tuple[dict[str, Any], list[bytes]]:
    """The request, and the contents in the order of its files."""

    def listed(files: Files) -> list[dict[str, object]]:
        return [
            {"name": name, "sha256": sha256_hex(data), "size": len(data)}
            for name, data in files.items()
        ]

    request = {
        "project": PROJECT,
        "version": version,
        "candidate": listed(candidate),
        "baseline": None if baseline is None else {"version": "1.0", "files": listed(baseline)},
    }
    return request, [*candidate.values(), *(baseline or {}).values()]


def inspect_sets(candidate: Files, baseline: Files | None, *, version: str) -> Report:
    """The report on `candidate` beside `baseline` (name to bytes)."""
    request, contents = request_for(candidate, baseline, version)
    fds = [memory_file(content) for content in contents]
    try:
        return inspect(request, fds)
    finally:
        for fd in fds:
            os.close(fd)
