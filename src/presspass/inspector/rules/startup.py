"""Files that Python runs at every start, whatever is imported: `*.pth`, `*.start`, sitecustomize, usercustomize.

("site - Site-specific configuration hook", PEP 829.) Several poisoned releases carried their payload in one.
"""

from __future__ import annotations

from collections.abc import Iterator

from presspass.core.findings import ChangeKind, Finding, Severity, finding
from presspass.inspector.artifact import Artifact
from presspass.inspector.compare import Comparison

_SUFFIXES = (".pth", ".start")
_NAMES = ("sitecustomize.py", "usercustomize.py", "sitecustomize.pyc", "usercustomize.pyc")


def new_startup_file(comparison: Comparison) -> Iterator[Finding]:
    """Start-up files that are new or changed; in a first release all of them."""
    for path, kind in sorted(_new_paths(comparison)):
        if not _is_startup(path):
            continue
        new = kind is ChangeKind.ADDED
        rule, verb = ("startup.new-file", "new") if new else ("startup.changed-file", "changed")
        message = f"A {verb} file that Python runs at every start, or that looks like one."
        severity = Severity.HIGH if _takes_effect(comparison.new, path) else Severity.MEDIUM
        yield finding(rule, severity, path, message)


def _new_paths(comparison: Comparison) -> Iterator[tuple[str, ChangeKind]]:
    if comparison.old is None:
        yield from ((entry.path, ChangeKind.ADDED) for entry in comparison.new.entries.values())
    for change in comparison.changes:
        if change.new:
            yield change.path, change.kind


def _is_startup(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    return name.endswith(_SUFFIXES) or name in _NAMES


def _takes_effect(artifact: Artifact, path: str) -> bool:
    """In a wheel only what lands in site-packages itself runs; deeper, `.pth` is also a name for model weights."""
    folder = path.partition("/")[0]
    return artifact.kind == "sdist" or "/" not in path or folder.endswith(".data")
