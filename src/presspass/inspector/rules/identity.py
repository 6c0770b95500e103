"""A file must be what its name says: installers trust the name, tools trust the metadata."""

from __future__ import annotations

from collections.abc import Iterator

from presspass.core.findings import Finding, Severity, finding
from presspass.formats.distribution import same_version
from presspass.inspector.compare import Comparison


def names_itself_as_its_file(comparison: Comparison) -> Iterator[Finding]:
    """Name and version of the metadata against the file name, in normal form. Unusable ones are reported already."""
    name, metadata = comparison.new.distribution.name, comparison.new.distribution.metadata
    if metadata.project and metadata.project != name.project:
        message = "The metadata names another project than the file name."
        evidence = f"{metadata.project} against {name.project}"
        yield finding("identity.name-mismatch", Severity.CRITICAL, "", message, evidence)
    if metadata.version and not same_version(metadata.version, name.version):
        message = "The metadata gives another version than the file name."
        evidence = f"{metadata.version} against {name.version}"
        yield finding("identity.version-mismatch", Severity.CRITICAL, "", message, evidence)
