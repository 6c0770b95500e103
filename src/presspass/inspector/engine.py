"""One inspection: open the files of a set and of the last approved release, compare, find, report.

The report is a function of the bytes and of `ENGINE`; nothing else goes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from presspass import __version__
from presspass.core import limits
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.findings import (
    ArtifactReport,
    Finding,
    InputFile,
    Report,
    Severity,
    finding,
    in_order,
    read_input_file,
)
from presspass.core.strict import Members
from presspass.formats.distribution import same_version
from presspass.inspector import rules
from presspass.inspector.artifact import Artifact, open_artifact
from presspass.inspector.compare import Comparison, DiffBudget, compare, counterpart

RULES_VERSION = 1  # raise with every change that makes the same bytes give another report
ENGINE = f"presspass-inspector/{RULES_VERSION} presspass/{__version__}"


@dataclass(frozen=True, slots=True)
class _Request:
    project: str
    version: str
    candidate: tuple[InputFile, ...]
    baseline_version: str | None
    baseline: tuple[InputFile, ...]


def inspect(request: JsonObject, open_files: Sequence[int]) -> Report:
    """Inspects the files of `request`, whose descriptors are `open_files`: candidate first, then baseline.

    `request`: `{"project", "version", "candidate": [{"name", "sha256", "size"}, …], "baseline": null |
    {"version", "files": […]}}`, project and version in normal form. Whatever the archives hold gives findings.
    Raises Refusal: `artifact.digest-mismatch` when a file is not the one asked for, `artifact.bad-filename`,
    `statement.malformed` for a request that is not of this form.
    """
    wanted = _read_request(request)
    if len(wanted.candidate) + len(wanted.baseline) != len(open_files):
        raise Refusal(Code.STATEMENT_MALFORMED, "The request names other files than it hands over.")
    candidate = _open_all(wanted.candidate, open_files[: len(wanted.candidate)])
    baseline = _open_all(wanted.baseline, open_files[len(wanted.candidate) :])
    budget = DiffBudget()
    comparisons = [compare(one, counterpart(one, baseline), budget) for one in candidate]
    return Report(
        engine=ENGINE,
        project=wanted.project,
        version=wanted.version,
        candidate=tuple(one.file for one in candidate),
        baseline_version=wanted.baseline_version,
        baseline=tuple(one.file for one in baseline),
        artifacts=tuple(_artifact_report(one) for one in comparisons),
        findings=in_order(_findings(wanted, comparisons, baseline)),
    )


def _open_all(files: Sequence[InputFile], fds: Sequence[int]) -> list[Artifact]:
    """In order of name: the order of the request must not change the report."""
    if len({file.name for file in files}) != len(files):
        raise Refusal(Code.STATEMENT_MALFORMED, "The request names a file twice.")
    pairs = sorted(zip(files, fds, strict=True), key=lambda pair: pair[0].name)
    return [open_artifact(file, fd) for file, fd in pairs]


def _read_request(request: JsonObject) -> _Request:
    members = Members(request, "inspection request")
    project, version = members.text("project"), members.text("version")
    candidate = members.items("candidate", read_input_file, count_max=limits.FILES_PER_RELEASE_MAX)
    baseline = members.take("baseline")
    members.done()
    if baseline is None:
        return _Request(project, version, candidate, None, ())
    inner = Members(baseline, "inspection request's baseline")
    baseline_version = inner.text("version")
    files = inner.items("files", read_input_file, count_max=limits.FILES_PER_RELEASE_MAX)
    inner.done()
    return _Request(project, version, candidate, baseline_version, files)


def _findings(
    wanted: _Request, comparisons: Sequence[Comparison], baseline: Sequence[Artifact]
) -> list[Finding]:
    found = [
        replace(one, artifact=comparison.new.file.name)
        for comparison in comparisons
        for one in comparison.new.findings
    ]
    for comparison in comparisons:
        found.extend(rules.of_comparison(comparison))
    found.extend(rules.of_set([one.new for one in comparisons], baseline))
    found.extend(_scope_findings(wanted, comparisons))
    return found


def _scope_findings(wanted: _Request, comparisons: Sequence[Comparison]) -> list[Finding]:
    """What the set is, and what it is compared with."""
    found = []
    if wanted.baseline_version is None:
        message = "There is no approved release to compare with: everything in this set is new."
        found.append(finding("release.first", Severity.INFO, "", message))
    for comparison in comparisons:
        name = comparison.new.distribution.name
        if name.project != wanted.project or not same_version(name.version, wanted.version):
            message = "The file belongs to another project or version than the release."
            evidence = f"{name.project} {name.version} against {wanted.project} {wanted.version}"
            found.append(
                finding("release.foreign-file", Severity.CRITICAL, name.filename, message, evidence)
            )
        if wanted.baseline_version is not None and comparison.old is None:
            message = "The last release has no file of this kind, so nothing in it was compared."
            found.append(finding("release.no-counterpart", Severity.MEDIUM, name.filename, message))
    return found


def _artifact_report(comparison: Comparison) -> ArtifactReport:
    new, metadata = comparison.new, comparison.new.distribution.metadata
    return ArtifactReport(
        name=new.file.name,
        sha256=new.file.sha256,
        kind=new.kind,
        project=metadata.project,
        version=metadata.version,
        requires_python=metadata.requires_python,
        requires_dist=metadata.requires_dist,
        metadata=metadata.fields,
        entries=tuple(sorted(new.entries.values(), key=lambda one: one.path)),
        compared_with=comparison.old.file.name if comparison.old else None,
        changes=comparison.changes,
    )
