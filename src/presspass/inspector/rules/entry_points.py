"""Entry points: commands that land on the PATH, and code that other programs load without being asked."""

from __future__ import annotations

from collections.abc import Iterator

from presspass.core.findings import Finding, Severity, finding
from presspass.formats.metadata import EntryPoint
from presspass.inspector.artifact import Artifact
from presspass.inspector.compare import Comparison


def changed_entry_points(comparison: Comparison) -> Iterator[Finding]:
    """Entry points of a wheel that are new, or run other code than in the last release."""
    if comparison.old is None:
        return
    old = _targets(comparison.old)
    for point in comparison.new.distribution.entry_points:
        before = old.get((point.group, point.name), set())
        if point.target in before:
            continue
        rule, verb = ("entry-points.changed", "changed") if before else ("entry-points.new", "new")
        message = f"A {verb} entry point: other programs run this code."
        evidence = f"[{point.group}] {point.name} = {point.target}"
        if before:
            evidence += f" (before: {', '.join(sorted(before))})"
        yield finding(rule, Severity.MEDIUM, _path(comparison.new), message, evidence)


def _targets(artifact: Artifact) -> dict[tuple[str, str], set[str]]:
    result: dict[tuple[str, str], set[str]] = {}
    points: tuple[EntryPoint, ...] = artifact.distribution.entry_points
    for point in points:
        result.setdefault((point.group, point.name), set()).add(point.target)
    return result


def _path(artifact: Artifact) -> str:
    return f"{artifact.distribution.root}/entry_points.txt"
