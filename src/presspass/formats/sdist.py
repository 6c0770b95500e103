"""An sdist: a gzip-compressed tar with one top folder `{name}-{version}` and PKG-INFO in it (PEP 625, PEP 517)."""

from __future__ import annotations

from presspass.core.findings import Finding, Severity, finding
from presspass.formats.archive import Archive, Source
from presspass.formats.archive_tar import read_tar_gz
from presspass.formats.distribution import Distribution, metadata_of, same_name_and_version
from presspass.formats.filenames import ArtifactName
from presspass.formats.metadata import CoreMetadata


def read_sdist(source: Source, name: ArtifactName) -> Distribution:
    """Reads the archive and its metadata. What is wrong is in the findings; never raises for content."""
    archive = read_tar_gz(source)
    findings = list(archive.findings)
    root = _top_folder(archive, name, findings)
    metadata = metadata_of(archive, f"{root}/PKG-INFO", findings) if root else CoreMetadata()
    return Distribution(name, archive, root, metadata, findings=tuple(findings))


def _top_folder(archive: Archive, name: ArtifactName, findings: list[Finding]) -> str:
    tops = sorted({member.path.partition("/")[0] for member in archive.members})
    own = [top for top in tops if same_name_and_version(top, name)]
    if len(tops) != 1 or not own:
        message = "An sdist has exactly one top folder, named after its project and version."
        evidence = ", ".join(tops[:5]) or "none"
        findings.append(finding("sdist.top-folder", Severity.HIGH, "", message, evidence))
    return (own or tops or [""])[0]
