"""A wheel: a zip with one `.dist-info` folder ("Binary distribution format", PEP 427)."""

from __future__ import annotations

from packaging.tags import InvalidTag, TooManyTagsError, parse_tag

from presspass.core import limits
from presspass.core.findings import Finding, Severity, finding
from presspass.formats.archive import Archive, Source
from presspass.formats.archive_zip import read_zip
from presspass.formats.distribution import Distribution, metadata_of, same_name_and_version
from presspass.formats.filenames import ArtifactName
from presspass.formats.metadata import (
    CoreMetadata,
    parse_entry_points,
    parse_wheel_tags,
)
from presspass.formats.record import compare_record, parse_record


def read_wheel(source: Source, name: ArtifactName) -> Distribution:
    """Reads the archive, its metadata and its RECORD. What is wrong is in the findings; never raises for content."""
    archive = read_zip(source)
    findings = list(archive.findings)
    root = _dist_info(archive, name, findings)
    if not root:
        return Distribution(name, archive, "", CoreMetadata(), (), tuple(findings))
    metadata = metadata_of(archive, f"{root}/METADATA", findings)
    _check_wheel_file(archive, f"{root}/WHEEL", name, findings)
    _check_record(archive, root, findings)
    path = f"{root}/entry_points.txt"
    content = archive.read([path], limits.MEMBER_TEXT_BYTES_MAX).get(path, b"")
    points, more = parse_entry_points(content, path)
    findings.extend(more)
    return Distribution(name, archive, root, metadata, points, tuple(findings))


def _dist_info(archive: Archive, name: ArtifactName, findings: list[Finding]) -> str:
    """The one top-level `*.dist-info` folder; "" (and a finding) when there is none."""
    tops = {member.path.partition("/")[0] for member in archive.members if "/" in member.path}
    found = sorted(top for top in tops if top.lower().endswith(".dist-info"))
    own = [top for top in found if same_name_and_version(top[: -len(".dist-info")], name)]
    if len(found) != 1 or not own:
        message = "A wheel has exactly one .dist-info folder, named after its project and version."
        evidence = ", ".join(found) or "none"
        findings.append(finding("wheel.dist-info", Severity.CRITICAL, "", message, evidence))
    return (own or found or [""])[0]


def _check_wheel_file(
    archive: Archive, path: str, name: ArtifactName, findings: list[Finding]
) -> None:
    content = archive.read([path], limits.MEMBER_TEXT_BYTES_MAX).get(path, b"")
    version, tags = parse_wheel_tags(content)
    if not version.startswith("1."):
        message = "The WHEEL file is missing or of a version that installers do not read."
        findings.append(finding("wheel.version", Severity.HIGH, path, message, version))
    expanded = {tag for line in tags for tag in _expanded(line)}
    if expanded != set(name.tags):
        message = "The WHEEL file names other tags than the file name."
        evidence = f"{', '.join(tags)} against {', '.join(name.tags)}"
        findings.append(finding("wheel.tags", Severity.MEDIUM, path, message, evidence))


def _expanded(compressed: str) -> set[str]:
    try:
        return {str(tag) for tag in parse_tag(compressed, limit=limits.WHEEL_TAGS_MAX)}
    except (InvalidTag, TooManyTagsError):
        return {compressed}


def _check_record(archive: Archive, root: str, findings: list[Finding]) -> None:
    path = f"{root}/RECORD"
    content = archive.read([path], limits.RECORD_BYTES_MAX).get(path)
    if content is None:
        message = "The wheel has no RECORD."
        findings.append(finding("record.absent", Severity.CRITICAL, path, message))
        return
    lines, more = parse_record(content, path)
    findings.extend(more)
    findings.extend(compare_record(lines, archive.members, root))
