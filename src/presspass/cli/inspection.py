"""The approver's own inspection: the same confined worker as the gate's, started here for one release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from presspass.cli.show import note
from presspass.confine.worker import Worker, inspector_command
from presspass.core.digests import JsonObject
from presspass.core.limits import INSPECTION_WALL_S_MAX
from presspass.core.statement import ReleaseFile

Opened = Sequence[tuple[ReleaseFile, IO[bytes]]]


def inspect_here(
    project: str, version: str, candidate: Opened, baseline_version: str | None, baseline: Opened
) -> bytes:
    """The report on these open files, as the inspector wrote it. Refusal or Fault as in `Worker.call`."""
    request: JsonObject = {
        "project": project,
        "version": version,
        "candidate": [file.to_json() for file, _ in candidate],
        "baseline": None,
    }
    if baseline_version is not None:
        request["baseline"] = {
            "version": baseline_version,
            "files": [file.to_json() for file, _ in baseline],
        }
    worker = Worker(inspector_command())
    try:
        fds = [opened.fileno() for _, opened in (*candidate, *baseline)]
        report = worker.call(request, fds, timeout_s=INSPECTION_WALL_S_MAX)
        for line in worker.missing:
            note(f"the inspection here was not fully confined: {line}")
        return report
    finally:
        worker.close()
