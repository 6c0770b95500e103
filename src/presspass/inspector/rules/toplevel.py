"""Names that can be imported after the installation: a new one may shadow another project's."""

from __future__ import annotations

from collections.abc import Iterator

from presspass.core.findings import Finding, Severity, finding
from presspass.inspector.artifact import Artifact
from presspass.inspector.compare import Comparison

_INTO_SITE_PACKAGES = ("purelib", "platlib")


def new_import_name(comparison: Comparison) -> Iterator[Finding]:
    """Top-level packages and modules of a wheel that the last release did not have."""
    if comparison.old is None or comparison.new.kind != "wheel":
        return
    for name in sorted(_import_names(comparison.new) - _import_names(comparison.old)):
        message = "The wheel installs a top-level package or module that it did not install before."
        yield finding("toplevel.new-name", Severity.MEDIUM, name, message)


def _import_names(artifact: Artifact) -> set[str]:
    names = set()
    for key in artifact.entries:
        top, _, rest = key.partition("/")
        if top == "*.data":
            scheme, _, inner = rest.partition("/")
            if scheme not in _INTO_SITE_PACKAGES:
                continue
            top, _, rest = inner.partition("/")
        if rest and not top.endswith(".dist-info"):
            names.add(top)
        elif not rest and top.endswith((".py", ".pyc", ".pyi", ".so", ".pyd")):
            names.add(top.partition(".")[0])
    return names - {"*"}
