"""Requirements: whose code is installed along with this release."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from presspass.core.findings import Finding, Severity, finding
from presspass.inspector.compare import Comparison

_PROJECT = re.compile(r"[A-Za-z0-9._-]*")


def changed_requirements(comparison: Comparison) -> Iterator[Finding]:
    """Requirements that are new, changed or gone since the last release, by project."""
    if comparison.old is None:
        return
    old = set(comparison.old.distribution.metadata.requires_dist)
    new = set(comparison.new.distribution.metadata.requires_dist)
    before, after = _by_project(old - new), _by_project(new - old)
    known = set(_by_project(old))
    for project, lines in sorted(after.items()):
        yield from _direct_urls(lines)
        if project not in known:
            message = "A project that the last release did not require."
            yield finding("requires.added", Severity.MEDIUM, "", message, "; ".join(lines))
        else:
            message = "The requirement differs from the last release."
            evidence = f"{'; '.join(lines)} (before: {'; '.join(before.get(project, ['nothing']))})"
            yield finding("requires.changed", Severity.LOW, "", message, evidence)
    for project, lines in sorted(before.items()):
        if project not in _by_project(new):
            message = "The release no longer requires this project."
            yield finding("requires.removed", Severity.INFO, "", message, "; ".join(lines))


def _direct_urls(lines: Iterable[str]) -> Iterator[Finding]:
    for line in lines:
        if " @ " in line.partition(";")[0]:
            message = (
                "The requirement is fetched from an address of its own, past the package index."
            )
            yield finding("requires.direct-url", Severity.HIGH, "", message, line)


def _by_project(requirements: Iterable[str]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for line in sorted(requirements):
        match = _PROJECT.match(line)
        result.setdefault(match[0] if match else "", []).append(line)
    return result
