"""From an inspector's report to what a page shows of it: the odd things first, then every change of every file.

Pure, and without a verdict: it orders and counts what the report says and adds only what follows from its bytes
(a file that the wheel has and the sdist has not). The report is hostile; its text is escaped where it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from presspass.core.findings import (
    ArtifactReport,
    Change,
    ChangeKind,
    FileEntry,
    Finding,
    Report,
    Severity,
)
from presspass.core.limits import (
    CONSOLE_CHANGES_MAX,
    CONSOLE_DIFF_LINES_MAX,
    CONSOLE_ODD_FIRST_MAX,
)
from presspass.gateway.console.text import listed, plural

ODD_FROM = Severity.MEDIUM
_CUT = "Part of this difference is left out; compare the files themselves."
_METADATA_NAMES = ("METADATA", "PKG-INFO")
_BUILD_WRITES = frozenset({*_METADATA_NAMES, "RECORD", "WHEEL"})
_METADATA_FIELD = re.compile(
    r"(Metadata-Version|Name|Version|Dynamic|Platform|Supported-Platform|Summary|Description-Content-Type|Keywords"
    r"|Home-page|Download-URL|Author|Author-email|Maintainer|Maintainer-email|License|License-Expression|License-File"
    r"|Classifier|Requires-Dist|Requires-Python|Requires-External|Project-URL|Provides-Extra|Provides-Dist"
    r"|Obsoletes-Dist|Import-Name|Import-Namespace): "
)
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
Sdist = dict[str, set[str]]
_KIND_ORDER = {ChangeKind.ADDED: 0, ChangeKind.CHANGED: 1, ChangeKind.REMOVED: 2}


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line of a difference. `sign`: "+", "-", " " or "@" (a jump); line numbers are None where none applies."""

    sign: str
    text: str
    old_line: int | None = None
    new_line: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: in which file of the set, under which path."""

    artifact: str
    path: str


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding, in which files of the set, and the anchor of the change it is about ("" when none is listed)."""

    severity: Severity
    rule: str
    path: str
    message: str
    evidence: str
    artifacts: tuple[str, ...] = ()
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One change, once, however many files of the set hold it. `diff` is None when there is none: see `note`."""

    anchor: str
    kind: ChangeKind
    places: tuple[Place, ...]
    old: FileEntry | None
    new: FileEntry | None
    tags: tuple[str, ...]
    findings: tuple[FindingView, ...] = ()
    diff: tuple[DiffLine, ...] | None = None
    note: str = ""

    @property
    def path(self) -> str:
        return self.places[0].path

    @property
    def worst(self) -> Severity | None:
        """Highest severity of the findings about this path; None when there is no finding."""
        return max((one.severity for one in self.findings), key=lambda s: s.rank, default=None)

    @property
    def is_odd(self) -> bool:
        return self.worst is not None and self.worst.rank >= ODD_FROM.rank


@dataclass(frozen=True, slots=True)
class MetadataLine:
    """A line of core metadata that came ("+") or went ("-"), and in which files of the set."""

    sign: str
    text: str
    artifacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReviewView:
    """A report as a page shows it."""

    report: Report
    findings: tuple[FindingView, ...]
    changes: tuple[ChangeView, ...]
    changes_left_out: int
    metadata: tuple[MetadataLine, ...]
    metadata_unread: tuple[Place, ...]
    totals: dict[ChangeKind, int] = field(default_factory=dict)

    @property
    def odd(self) -> tuple[FindingView, ...]:
        """What people should see first."""
        return tuple(one for one in self.findings if one.severity.rank >= ODD_FROM.rank)

    @property
    def first_odd(self) -> tuple[FindingView, ...]:
        return self.odd[:CONSOLE_ODD_FIRST_MAX]

    @property
    def tags(self) -> dict[str, tuple[str, ...]]:
        """The tags of each row, by its anchor."""
        return {change.anchor: change.tags for change in self.changes}

    @property
    def gone(self) -> tuple[int, int] | None:
        """(how many, of how many) files of the release before are gone, of the artifact that lost the largest part;
        None below half."""
        lost = [
            (removed, len(one.entries) - added + removed)
            for one in self.report.artifacts
            if one.compared_with is not None
            for added, removed in [_came_and_went(one)]
        ]
        worst = max(lost, key=lambda one: one[0] / max(1, one[1]), default=(0, 0))
        return worst if worst[0] and 2 * worst[0] >= worst[1] else None

    @property
    def by_severity(self) -> list[tuple[Severity, int]]:
        """How many findings of each severity, worst first, without zeros."""
        counts = [
            (one, sum(f.severity is one for f in self.findings)) for one in reversed(list(Severity))
        ]
        return [(severity, count) for severity, count in counts if count]

    @property
    def summary(self) -> str:
        """ "1 high, 2 info; 3 files added, 9 changed"."""
        found = listed([f"{count} {severity.value}" for severity, count in self.by_severity])
        return f"{found or 'no findings'}; {self.change_words}"

    @property
    def change_words(self) -> str:
        """ "2 files added, 9 changed, 1 removed"."""
        parts = [(kind, self.totals.get(kind, 0)) for kind in ChangeKind]
        some = [(kind, count) for kind, count in parts if count]
        if not some:
            return "no file differs"
        first_kind, first = some[0]
        rest = [f"{count:,} {kind.value}" for kind, count in some[1:]]
        return ", ".join([f"{plural(first, 'file')} {first_kind.value}", *rest])


def view(report: Report) -> ReviewView:
    """Everything a page shows of `report`, bounded: the odd ones are never among what is left out."""
    merged = _merge(report)
    linked, findings = _link(merged, report.findings)
    ordered = sorted(linked, key=_by_oddness)
    shown = ordered[:CONSOLE_CHANGES_MAX]
    anchors = {change.anchor for change in shown}
    return ReviewView(
        report=report,
        findings=tuple(
            one if one.anchor in anchors else replace(one, anchor="") for one in findings
        ),
        changes=tuple(_cut_diffs(shown)),
        changes_left_out=len(ordered) - len(shown),
        metadata=_metadata(report),
        metadata_unread=_metadata_unread(report),
        totals={kind: sum(change.kind is kind for change in ordered) for kind in ChangeKind},
    )


def _came_and_went(artifact: ArtifactReport) -> tuple[int, int]:
    kinds = [change.kind for change in artifact.changes]
    return kinds.count(ChangeKind.ADDED), kinds.count(ChangeKind.REMOVED)


def _by_oddness(change: ChangeView) -> tuple[int, int, bool, int, str]:
    """Worst first; what a build writes by itself last."""
    rank = -1 if change.worst is None else change.worst.rank
    written = change.path.rpartition("/")[2] in _BUILD_WRITES
    return (-rank, -len(change.tags), written, _KIND_ORDER[change.kind], change.path)


# --- one row for one change ---------------------------------------------------------------------------------------


def _common_path(artifact: ArtifactReport, path: str) -> str:
    """The path of a member as both kinds of artifact can have it: an sdist's own folder and `src/` taken off."""
    if artifact.kind != "sdist":
        return path
    return path.partition("/")[2].removeprefix("src/") or path


def _changes_of(artifact: ArtifactReport) -> Iterable[Change]:
    """The artifact's changes; everything in it counts as added when there was nothing to compare it with."""
    if artifact.compared_with is not None or artifact.changes:
        return artifact.changes
    return (Change(entry.path, ChangeKind.ADDED, None, entry) for entry in artifact.entries)


def _merge(report: Report) -> list[ChangeView]:
    """The same change in wheel and sdist becomes one row with two places."""
    rows: dict[tuple[object, ...], ChangeView] = {}
    sdist = _sdist(report)
    ordered = sorted(report.artifacts, key=lambda artifact: artifact.kind != "wheel")
    for artifact in ordered:
        for change in _changes_of(artifact):
            place = Place(artifact.name, change.path)
            key = (
                change.kind,
                change.old and change.old.sha256,
                change.new and change.new.sha256,
                _common_path(artifact, change.path),
            )
            if key in rows and all(p.artifact != artifact.name for p in rows[key].places):
                rows[key] = replace(rows[key], places=(*rows[key].places, place))
            else:
                row = _row(f"c{len(rows) + 1}", artifact, change, sdist)
                rows[(*key, place) if key in rows else key] = row
    return list(rows.values())


def _row(anchor: str, artifact: ArtifactReport, change: Change, sdist: Sdist | None) -> ChangeView:
    diff = None if change.diff is None else numbered(change.diff)
    return ChangeView(
        anchor=anchor,
        kind=change.kind,
        places=(Place(artifact.name, change.path),),
        old=change.old,
        new=change.new,
        tags=_tags(artifact, change, sdist),
        diff=diff,
        note=_note(change, artifact),
    )


def _note(change: Change, artifact: ArtifactReport) -> str:
    if change.diff is not None:
        return _CUT if change.diff_cut else ""
    if artifact.compared_with is None:
        return "There is nothing to compare this file with, so no difference is shown."
    if change.path.endswith(".dist-info/RECORD"):
        return (
            "RECORD lists every file, so it always differs; the inspector checks it line by line."
        )
    if change.kind is ChangeKind.REMOVED:
        return "The file is gone; its old lines are not shown."
    return (
        "The text is too large to show."
        if change.diff_cut
        else "Not text: there are no lines to show."
    )


def _tags(artifact: ArtifactReport, change: Change, sdist: Sdist | None) -> tuple[str, ...]:
    """Facts that weigh without being findings; each follows from the entries alone."""
    tags = []
    entry = change.new
    old_flags = change.old.flags if change.old else ()
    if entry is not None:
        tags += [flag for flag in entry.flags if flag not in old_flags]
        tags += _against_sdist(artifact, entry, sdist)
    if not change.path.isascii():
        tags.append("name is not ASCII")
    return tuple(tags)


def _against_sdist(artifact: ArtifactReport, entry: FileEntry, sdist: Sdist | None) -> list[str]:
    if sdist is None or artifact.kind != "wheel" or ".dist-info/" in entry.path:
        return []
    twins = sdist.get(entry.path)
    if twins is None:
        return ["not in the sdist"]
    return [] if entry.sha256 in twins else ["other content than the sdist"]


def _sdist(report: Report) -> Sdist | None:
    """What the set's sdist holds: digests by the path that a wheel would give them. None when there is no sdist."""
    sdist = next((one for one in report.artifacts if one.kind == "sdist"), None)
    if sdist is None:
        return None
    held: Sdist = {}
    for entry in sdist.entries:
        held.setdefault(_common_path(sdist, entry.path), set()).add(entry.sha256)
    return held


# --- findings and the rows they are about -------------------------------------------------------------------------


def _link(
    changes: list[ChangeView], findings: Iterable[Finding]
) -> tuple[list[ChangeView], list[FindingView]]:
    """Findings, worst first, each tied to the row it is about; the same one in wheel and sdist is said once."""
    find = _anchors(changes)
    merged: dict[tuple[object, ...], FindingView] = {}
    for one in findings:
        anchor = find(one)
        key = (one.rule, one.severity, one.message, one.evidence, anchor or one.path)
        before = merged.get(key)
        where = (*(before.artifacts if before else ()), *([one.artifact] if one.artifact else ()))
        path = before.path if before else one.path
        merged[key] = FindingView(
            one.severity,
            one.rule,
            path,
            one.message,
            one.evidence,
            tuple(dict.fromkeys(where)),
            anchor,
        )
    seen = sorted(merged.values(), key=lambda one: -one.severity.rank)
    about: dict[str, list[FindingView]] = {}
    for view_ in seen:
        about.setdefault(view_.anchor, []).append(view_)
    linked = [replace(c, findings=tuple(about.get(c.anchor, ()))) for c in changes]
    return linked, seen


def _anchors(changes: list[ChangeView]) -> Callable[[Finding], str]:
    """How to find the row a finding is about: by file and path, then by path, then by what lies below the path."""
    exact: dict[tuple[str, str], str] = {}
    below: dict[str, str] = {}
    for change in changes:
        for place in change.places:
            exact[(place.artifact, place.path)] = change.anchor
            exact.setdefault(("", place.path), change.anchor)
            below.setdefault(place.path.partition("/")[0], change.anchor)

    def find(one: Finding) -> str:
        if not one.path:
            return ""
        return (
            exact.get((one.artifact, one.path))
            or exact.get(("", one.path))
            or below.get(one.path, "")
        )

    return find


# --- differences --------------------------------------------------------------------------------------------------


def numbered(lines: Iterable[str]) -> tuple[DiffLine, ...]:
    """Unified diff lines with the line numbers that their hunk headers imply; the two file headers are dropped."""
    shown: list[DiffLine] = []
    old = new = 0
    for line in lines:
        hunk = _HUNK.match(line)
        if hunk is not None:
            old, new = int(hunk[1]), int(hunk[2])
            if shown or max(old, new) > 1:
                shown.append(DiffLine("@", line[hunk.end() :].strip()))
        elif not (old or new) and line.startswith(("---", "+++")):
            continue
        elif line.startswith("\\"):
            shown.append(DiffLine("@", line[1:].strip()))
        elif line.startswith("+"):
            shown.append(DiffLine("+", line[1:], None, new or None))
            new += 1
        elif line.startswith("-"):
            shown.append(DiffLine("-", line[1:], old or None, None))
            old += 1
        else:
            shown.append(DiffLine(" ", line[1:], old or None, new or None))
            old, new = old + 1, new + 1
    return tuple(shown)


def _cut_diffs(changes: list[ChangeView]) -> Iterable[ChangeView]:
    """Keeps a page readable and its size bounded: later, less odd differences give way first."""
    left = CONSOLE_DIFF_LINES_MAX
    for change in changes:
        lines = len(change.diff or ())
        if lines > left:
            note = f"{plural(lines, 'line')} of difference are not shown on this page; they are in the full report."
            yield replace(change, diff=None, note=note)
        else:
            left -= lines
            yield change


# --- metadata -----------------------------------------------------------------------------------------------------


def _is_metadata(path: str) -> bool:
    return path.rpartition("/")[2] in _METADATA_NAMES and ".egg-info/" not in path


def _metadata(report: Report) -> tuple[MetadataLine, ...]:
    found: dict[tuple[str, str], list[str]] = {}
    for artifact in report.artifacts:
        for change in artifact.changes:
            for line in change.diff or () if _is_metadata(change.path) else ():
                if line[:1] in ("+", "-") and _METADATA_FIELD.match(line[1:]):
                    names = found.setdefault((line[0], line[1:]), [])
                    names += [] if artifact.name in names else [artifact.name]
    ordered = sorted(found.items(), key=lambda item: _metadata_order(*item[0]))
    return tuple(MetadataLine(sign, text, tuple(names)) for (sign, text), names in ordered)


def _metadata_order(sign: str, text: str) -> tuple[bool, bool, str, bool]:
    """Requirements first, the version (which always differs) last."""
    name = text.partition(":")[0]
    return (not name.startswith("Requires"), name == "Version", name, sign == "+")


def _metadata_unread(report: Report) -> tuple[Place, ...]:
    """Metadata files that differ without a full difference in the report."""
    return tuple(
        Place(artifact.name, change.path)
        for artifact in report.artifacts
        for change in artifact.changes
        if _is_metadata(change.path)
        and change.kind is ChangeKind.CHANGED
        and (change.diff is None or change.diff_cut)
    )
