"""Core metadata (METADATA of a wheel, PKG-INFO of an sdist), WHEEL and entry_points.txt.

Specification: "Core metadata specifications" 2.5, "Entry points specification", "Binary distribution format".
`packaging.metadata` splits the fields; each field that matters is then judged by itself, so that one damaged field
does not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from presspass.core.findings import Finding, Severity, bounded, finding
from presspass.core.limits import (
    ENTRY_POINTS_MAX,
    EVIDENCE_CHARS_MAX,
    METADATA_FIELD_CHARS_MAX,
    METADATA_VALUES_MAX,
    REQUIREMENTS_MAX,
)

# Read for what they say; the other fields are text for people.
_JUDGED = ("metadata-version", "name", "version", "requires-dist", "requires-python", "dynamic")
_FORM_NAMES = {
    "platforms": "platform",
    "supported_platforms": "supported_platform",
    "license_files": "license_file",
}
_SECTION = re.compile(r"\[\s*([\w.-]+)\s*\]")


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """What an artifact says of itself. `project`, `version` in normal form, "" when unusable; requirements sorted."""

    metadata_version: str = ""
    project: str = ""
    version: str = ""
    requires_python: str = ""
    requires_dist: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Everything it says, under the names of the upload form (legacy API), for registries and for people."""


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One line of entry_points.txt: what `name` in `group` runs."""

    group: str
    name: str
    target: str


def parse_metadata(data: bytes, path: str) -> tuple[CoreMetadata, tuple[Finding, ...]]:
    """Reads METADATA or PKG-INFO. Fields that are damaged, or given twice, are empty in the value and findings."""
    try:
        raw, unparsed = parse_email(data)
    except Exception as error:  # the email package raises errors of many kinds for hostile bytes
        message = "The metadata cannot be read."
        kind = type(error).__name__
        return CoreMetadata(), (
            finding("metadata.unreadable", Severity.CRITICAL, path, message, kind),
        )
    findings = [
        finding(
            "metadata.ambiguous",
            Severity.CRITICAL,
            path,
            "A field of the metadata is given twice or is not UTF-8, so programs differ in its value.",
            f"{name}: {values}",
        )
        for name, values in sorted(unparsed.items())
        if name in _JUDGED
    ]
    requirements = raw.get("requires_dist", [])
    value = CoreMetadata(
        metadata_version=bounded(raw.get("metadata_version", ""), 10),
        project=_project(raw, path, findings),
        version=_version(raw, path, findings),
        requires_python=bounded(raw.get("requires_python", "").strip(), EVIDENCE_CHARS_MAX),
        requires_dist=_requirements(requirements, path, findings),
        dynamic=tuple(sorted({field.strip().lower() for field in raw.get("dynamic", [])})),
        fields=_form_fields(raw),
    )
    return value, tuple(findings)


def _form_fields(raw: RawMetadata) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The fields as the legacy upload API names them, in order of name: some keep the singular of the metadata file."""
    fields = {}
    for name, value in raw.items():
        if isinstance(value, dict):
            values = [f"{label}, {url}" for label, url in value.items()]
        elif isinstance(value, list):
            values = [", ".join(value)] if name == "keywords" else value
        else:
            values = [str(value)]
        kept = tuple(bounded(one, METADATA_FIELD_CHARS_MAX) for one in values[:METADATA_VALUES_MAX])
        fields[_FORM_NAMES.get(name, name)] = kept
    return tuple(sorted(fields.items()))


def _project(raw: RawMetadata, path: str, findings: list[Finding]) -> str:
    name = raw.get("name", "")
    if re.fullmatch(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9]", name, re.IGNORECASE | re.ASCII):
        return canonicalize_name(name)
    message = "The metadata has no valid Name."
    findings.append(finding("metadata.no-name", Severity.CRITICAL, path, message, name))
    return ""


def _version(raw: RawMetadata, path: str, findings: list[Finding]) -> str:
    version = raw.get("version", "")
    try:
        return str(Version(version))
    except InvalidVersion:
        message = "The metadata has no valid Version."
        findings.append(finding("metadata.no-version", Severity.CRITICAL, path, message, version))
        return ""


def _requirements(lines: list[str], path: str, findings: list[Finding]) -> tuple[str, ...]:
    """Requirements in one spelling, so that the same ones compare as equal; those that are not valid as they stand."""
    if len(lines) > REQUIREMENTS_MAX:
        message = (
            f"The metadata has more than {REQUIREMENTS_MAX} requirements; the rest was not read."
        )
        findings.append(finding("metadata.too-many", Severity.HIGH, path, message))
    result = set()
    for line in lines[:REQUIREMENTS_MAX]:
        try:
            result.add(bounded(_one_spelling(line), EVIDENCE_CHARS_MAX))
        except InvalidRequirement:
            result.add(bounded(line.strip(), EVIDENCE_CHARS_MAX))
            message = (
                "A requirement is not valid (PEP 508), so programs differ in what it asks for."
            )
            findings.append(
                finding("metadata.bad-requirement", Severity.MEDIUM, path, message, line)
            )
    return tuple(sorted(result))


def _one_spelling(line: str) -> str:
    requirement = Requirement(line)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def parse_wheel_tags(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Wheel-Version and the sorted Tag lines of a WHEEL file ("The .dist-info directory"); ("", ()) if absent."""
    fields: dict[str, list[str]] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    return (fields.get("wheel-version") or [""])[0], tuple(sorted(set(fields.get("tag", []))))


def parse_entry_points(
    data: bytes, path: str
) -> tuple[tuple[EntryPoint, ...], tuple[Finding, ...]]:
    """Reads entry_points.txt. Lines that are neither section nor `name = target` are a finding."""
    points: set[EntryPoint] = set()
    odd: list[str] = []
    group = ""
    for line in _meaningful_lines(data):
        if section := _SECTION.fullmatch(line):
            group = section[1]
            continue
        name, equals, target = line.partition("=")
        if not equals or not group or len(points) >= ENTRY_POINTS_MAX:
            odd.append(line)
            continue
        points.add(EntryPoint(*(bounded(part.strip(), 200) for part in (group, name, target))))
    message = "entry_points.txt has lines that cannot be read as entry points."
    findings = (
        [finding("metadata.bad-entry-point", Severity.MEDIUM, path, message, odd[0])] if odd else []
    )
    order = sorted(points, key=lambda one: (one.group, one.name, one.target))
    return tuple(order), tuple(findings)


def _meaningful_lines(data: bytes) -> Iterator[str]:
    for line in data.decode("utf-8", "backslashreplace").splitlines():
        line = line.strip()
        if line and line[0] not in "#;":
            yield line
