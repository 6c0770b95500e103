"""The reviewer must know when the difference on the page is not all of it."""

from __future__ import annotations

from collections.abc import Iterator

from presspass.core.findings import Finding, Severity, finding
from presspass.inspector.compare import Comparison


def is_fully_shown(comparison: Comparison) -> Iterator[Finding]:
    """Changes whose lines were left out, in part or in whole, because there are too many of them."""
    for change in comparison.changes:
        if change.diff_cut:
            message = "The file is too large for its difference to be shown in full."
            yield finding("difference.cut", Severity.LOW, change.path, message)
