"""Machine code and executable files: what a reader of source text does not see."""

from __future__ import annotations

from collections.abc import Iterator

from presspass.core.findings import ChangeKind, Finding, Severity, finding
from presspass.inspector.compare import Comparison


def new_machine_code(comparison: Comparison) -> Iterator[Finding]:
    """Files that became machine code (by suffix or first bytes) or got an execute bit since the last release."""
    for change in comparison.changes:
        new = change.new.flags if change.new else ()
        old = change.old.flags if change.old else ()
        if "native" in new and "native" not in old:
            message = "A new file of machine code, which the shown difference cannot explain."
            yield finding("native.new-file", Severity.MEDIUM, change.path, message)
        elif "executable" in new and "executable" not in old:
            message = "The file may now be run as a program."
            severity = Severity.LOW if change.kind is ChangeKind.ADDED else Severity.MEDIUM
            yield finding("native.new-executable", severity, change.path, message)
