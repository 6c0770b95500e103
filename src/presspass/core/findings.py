"""What an inspection found, as values: facts with a path, never a verdict.

A report is a function of bytes alone. Each input is a digest in it; it holds no time, no machine path and no
order that depends on the machine, so two inspections of the same bytes give the same report, byte for byte.
All text in it may come from hostile files: it is bounded here, and must be escaped by whoever shows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import rfc8785

from presspass.core import limits
from presspass.core.digests import JsonObject, canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.strict import Members

REPORT_TYPE = "presspass/report/v1"


class Severity(StrEnum):
    """How much a finding should weigh for the person who reads it; policy decides what follows."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 (info) to 4 (critical)."""
        return list(Severity).index(self)


class ChangeKind(StrEnum):
    """What happened to a path between the baseline and the candidate."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


def bounded(text: str, chars_max: int) -> str:
    """`text` as valid Unicode of at most `chars_max` characters, plus a note of how many were cut."""
    sound = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(sound) <= chars_max:
        return sound
    return f"{sound[:chars_max]}… [{len(sound) - chars_max} more characters]"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. `rule` reads "archive.duplicate-member"; `path` is a member of the file `artifact`; both may be ""."""

    rule: str
    severity: Severity
    path: str
    message: str
    evidence: str = ""
    artifact: str = ""

    def to_json(self) -> JsonObject:
        """The finding as it stands in the report."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "message": self.message,
            "evidence": self.evidence,
            "artifact": self.artifact,
        }


def finding(rule: str, severity: Severity, path: str, message: str, evidence: str = "") -> Finding:
    """A Finding whose hostile parts (`path`, `evidence`) are bounded; `message` is our own sentence."""
    return Finding(
        rule,
        severity,
        bounded(path, limits.MEMBER_PATH_BYTES_MAX),
        message,
        bounded(evidence, limits.EVIDENCE_CHARS_MAX),
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first, then by path and rule; of each rule at most FINDINGS_PER_RULE_MAX, and a count of the rest."""
    seen: dict[str, int] = {}
    kept = []
    for one in sorted(set(findings), key=_order):
        seen[one.rule] = seen.get(one.rule, 0) + 1
        if seen[one.rule] <= limits.FINDINGS_PER_RULE_MAX:
            kept.append(one)
    for one in tuple(kept):
        left_out = seen.pop(one.rule, 0) - limits.FINDINGS_PER_RULE_MAX
        if left_out > 0:
            message = f"{left_out} more findings of this rule are not listed."
            kept.append(finding(one.rule, one.severity, "", message))
    return tuple(sorted(kept, key=_order))


def _order(one: Finding) -> tuple[int, str, str, str, str, str]:
    return (-one.severity.rank, one.artifact, one.path, one.rule, one.message, one.evidence)


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that went into the inspection: `size` in bytes."""

    name: str
    sha256: str
    size: int

    def to_json(self) -> JsonObject:
        """The file as it stands in the report."""
        return {"name": self.name, "sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file inside an artifact. `flags`: sorted, out of "executable" (mode bit), "native" (machine code)."""

    path: str
    size: int
    sha256: str
    flags: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The entry as it stands in the report."""
        return {
            "path": self.path,
            "size": self.size,
            "sha256": self.sha256,
            "flags": list(self.flags),
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs. `diff`: unified lines, None when it is not text; `diff_cut`: some of it is left out."""

    path: str
    kind: ChangeKind
    old: FileEntry | None
    new: FileEntry | None
    diff: tuple[str, ...] | None = None
    diff_cut: bool = False

    def to_json(self) -> JsonObject:
        """The change as it stands in the report."""
        return {
            "path": self.path,
            "kind": self.kind.value,
            "old": self.old.to_json() if self.old else None,
            "new": self.new.to_json() if self.new else None,
            "diff": None if self.diff is None else list(self.diff),
            "diff_cut": self.diff_cut,
        }


@dataclass(frozen=True, slots=True)
class ArtifactReport:
    """One file of the set: what it says it is, what is in it, what differs from the file `compared_with` (or None)."""

    name: str
    sha256: str
    kind: str
    project: str
    version: str
    requires_python: str
    requires_dist: tuple[str, ...]
    entries: tuple[FileEntry, ...]
    compared_with: str | None = None
    changes: tuple[Change, ...] = ()
    metadata: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The core metadata under the names of the upload form, in order of name."""

    def to_json(self) -> JsonObject:
        """The artifact as it stands in the report."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "kind": self.kind,
            "project": self.project,
            "version": self.version,
            "requires_python": self.requires_python,
            "requires_dist": list(self.requires_dist),
            "entries": [entry.to_json() for entry in self.entries],
            "compared_with": self.compared_with,
            "changes": [change.to_json() for change in self.changes],
            "metadata": {name: list(values) for name, values in self.metadata},
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The whole inspection of one release. `engine` names the rules: other rules may report otherwise."""

    engine: str
    project: str
    version: str
    candidate: tuple[InputFile, ...]
    baseline_version: str | None
    baseline: tuple[InputFile, ...]
    artifacts: tuple[ArtifactReport, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def worst(self) -> Severity:
        """The highest severity found; info when there is nothing."""
        return max(
            (one.severity for one in self.findings), key=lambda s: s.rank, default=Severity.INFO
        )

    def to_json(self) -> JsonObject:
        """The report as a JSON object; its canonical form is what is signed for."""
        baseline = None
        if self.baseline_version is not None:
            files = [one.to_json() for one in self.baseline]
            baseline = {"version": self.baseline_version, "files": files}
        return {
            "type": REPORT_TYPE,
            "engine": self.engine,
            "project": self.project,
            "version": self.version,
            "candidate": [one.to_json() for one in self.candidate],
            "baseline": baseline,
            "artifacts": [one.to_json() for one in self.artifacts],
            "findings": [one.to_json() for one in self.findings],
        }

    def to_bytes(self) -> bytes:
        """Canonical bytes (RFC 8785)."""
        return canonical(self.to_json())


def report_digest(report: bytes) -> str:
    """SHA-256 (hex) of the report's RFC 8785 form, however `report` spells it. Refuses what is not a JSON object."""
    return sha256_hex(canonical(_json_object(report)))


def parse_report(report: bytes) -> Report:
    """Reads a report that came out of an inspector: its output is hostile too, so every member is checked.

    Refuses with `statement.malformed` (a member is missing, unknown, of another type) or `inspection.too-large`.
    """
    members = Members(_json_object(report), "report")
    members.choice("type", (REPORT_TYPE,))
    baseline_version, baseline = _read_baseline(members.take("baseline"))
    result = Report(
        engine=members.text("engine"),
        project=members.text("project"),
        version=members.text("version"),
        candidate=_read_files(members, "candidate"),
        baseline_version=baseline_version,
        baseline=baseline,
        artifacts=members.items(
            "artifacts", _read_artifact, count_max=limits.FILES_PER_RELEASE_MAX
        ),
        findings=members.items("findings", _read_finding, count_max=limits.FINDINGS_MAX),
    )
    members.done()
    return result


def _json_object(report: bytes) -> JsonObject:
    if len(report) > limits.REPORT_BYTES_MAX:
        raise Refusal(
            Code.INSPECTION_TOO_LARGE,
            f"The report has {len(report)} bytes; the limit is {limits.REPORT_BYTES_MAX}.",
        )
    try:
        value = json.loads(report.decode("utf-8"))
        rfc8785.dumps(value)
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise Refusal(Code.STATEMENT_MALFORMED, f"The report is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise Refusal(Code.STATEMENT_MALFORMED, "The report is not a JSON object.")
    return value


def _read_baseline(value: object) -> tuple[str | None, tuple[InputFile, ...]]:
    if value is None:
        return None, ()
    members = Members(value, "report's baseline")
    version = members.text("version")
    files = _read_files(members, "files")
    members.done()
    return version, files


def _read_files(members: Members, name: str) -> tuple[InputFile, ...]:
    return members.items(name, read_input_file, count_max=limits.FILES_PER_RELEASE_MAX)


def read_input_file(value: object) -> InputFile:
    """`{"name", "sha256", "size"}` and nothing else; refuses with `statement.malformed`."""
    members = Members(value, "file")
    result = InputFile(
        members.text("name", chars_max=limits.FILENAME_CHARS_MAX),
        members.sha256("sha256"),
        members.integer("size"),
    )
    members.done()
    return result


def _read_finding(value: object) -> Finding:
    members = Members(value, "report's finding")
    result = Finding(
        rule=members.text("rule"),
        severity=Severity(members.choice("severity", tuple(Severity))),
        path=_hostile_text(members, "path"),
        message=_hostile_text(members, "message"),
        evidence=_hostile_text(members, "evidence"),
        artifact=members.text("artifact", chars_max=limits.FILENAME_CHARS_MAX, empty=True),
    )
    members.done()
    return result


def _read_artifact(value: object) -> ArtifactReport:
    members = Members(value, "report's artifact")
    compared_with = members.take("compared_with")
    result = ArtifactReport(
        name=members.text("name", chars_max=limits.FILENAME_CHARS_MAX),
        sha256=members.sha256("sha256"),
        kind=members.choice("kind", ("sdist", "wheel")),
        project=_hostile_text(members, "project"),
        version=_hostile_text(members, "version"),
        requires_python=_hostile_text(members, "requires_python"),
        requires_dist=members.items(
            "requires_dist", _as_text(members), count_max=limits.REQUIREMENTS_MAX
        ),
        entries=members.items("entries", _read_entry, count_max=limits.ARCHIVE_MEMBERS_MAX),
        compared_with=None if compared_with is None else _as_text(members)(compared_with),
        changes=members.items("changes", _read_change, count_max=2 * limits.ARCHIVE_MEMBERS_MAX),
        metadata=_read_metadata(members),
    )
    members.done()
    return result


def _read_metadata(members: Members) -> tuple[tuple[str, tuple[str, ...]], ...]:
    value = members.take("metadata")
    if not isinstance(value, dict) or len(value) > limits.METADATA_FIELDS_MAX:
        members.refuse(
            f"has no object of at most {limits.METADATA_FIELDS_MAX} members in 'metadata'"
        )
    for name, values in value.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
            members.refuse("has a field with an impossible name in 'metadata'")
        if not isinstance(values, list) or len(values) > limits.METADATA_VALUES_MAX:
            members.refuse(f"has no list of values for {name!r} in 'metadata'")
        if not all(
            isinstance(one, str) and len(one) < 2 * limits.METADATA_FIELD_CHARS_MAX
            for one in values
        ):
            members.refuse(f"has a value that is no text, or too long, for {name!r} in 'metadata'")
    return tuple((name, tuple(values)) for name, values in sorted(value.items()))


def _read_entry(value: object) -> FileEntry:
    members = Members(value, "report's entry")
    result = FileEntry(
        path=_hostile_text(members, "path"),
        size=members.integer("size"),
        sha256=members.sha256("sha256"),
        flags=members.names("flags", count_max=8),
    )
    members.done()
    return result


def _read_change(value: object) -> Change:
    members = Members(value, "report's change")
    old, new, diff = members.take("old"), members.take("new"), members.take("diff")
    result = Change(
        path=_hostile_text(members, "path"),
        kind=ChangeKind(members.choice("kind", tuple(ChangeKind))),
        old=None if old is None else _read_entry(old),
        new=None if new is None else _read_entry(new),
        diff=None if diff is None else _read_diff(members, diff),
        diff_cut=members.boolean("diff_cut"),
    )
    members.done()
    return result


def _read_diff(members: Members, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > limits.DIFF_LINES_MAX:
        members.refuse(f"has no list of at most {limits.DIFF_LINES_MAX} lines in 'diff'")
    return tuple(_as_text(members)(line) for line in value)


def _hostile_text(members: Members, name: str) -> str:
    return _as_text(members)(members.take(name))


def _as_text(members: Members) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > 2 * limits.MEMBER_PATH_BYTES_MAX:
            members.refuse("has a text of another type or over its limit")
        return value

    return read
