"""What wheels and sdists have in common once they are read."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.utils import canonicalize_name, canonicalize_version

from presspass.core.findings import Finding, Severity, finding
from presspass.core.limits import MEMBER_TEXT_BYTES_MAX
from presspass.formats.archive import Archive
from presspass.formats.filenames import ArtifactName
from presspass.formats.metadata import CoreMetadata, EntryPoint, parse_metadata


@dataclass(frozen=True, slots=True)
class Distribution:
    """A wheel or sdist, read. `root`: its `.dist-info` folder (wheel) or its one top folder (sdist), "" if none."""

    name: ArtifactName
    archive: Archive
    root: str
    metadata: CoreMetadata
    entry_points: tuple[EntryPoint, ...] = ()
    findings: tuple[Finding, ...] = ()


def same_name_and_version(folder: str, name: ArtifactName) -> bool:
    """True when `folder` is `{name}-{version}`, each part in any spelling of the same name and version."""
    project, _, version = folder.rpartition("-")
    return canonicalize_name(project) == name.project and same_version(version, name.version)


def same_version(one: str, other: str) -> bool:
    """Equal as versions (PEP 440): 1.0 and 1.0.0 are the same one."""
    return canonicalize_version(one) == canonicalize_version(other)


def metadata_of(archive: Archive, path: str, findings: list[Finding]) -> CoreMetadata:
    """The metadata at `path`; an empty value, and a finding, when it is not there."""
    content = archive.read([path], MEMBER_TEXT_BYTES_MAX).get(path)
    if content is None:
        message = "The metadata is missing or too large."
        findings.append(finding("metadata.missing", Severity.CRITICAL, path, message))
        return CoreMetadata()
    value, more = parse_metadata(content, path)
    findings.extend(more)
    return value
