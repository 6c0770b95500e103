"""Which file of the last release a new file answers to, and what differs between the two, path by path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from presspass.core import limits
from presspass.core.findings import Change, ChangeKind, FileEntry
from presspass.formats.textdiff import as_lines, unified
from presspass.inspector.artifact import Artifact

_UNSHOWN = (
    "*.dist-info/RECORD",
)  # differs whenever anything does, and is checked line by line elsewhere


@dataclass(frozen=True, slots=True)
class Comparison:
    """A file of the set beside the one it is compared with; `old` is None where there is none."""

    new: Artifact
    old: Artifact | None
    changes: tuple[Change, ...] = ()


class DiffBudget:
    """How many bytes of difference the whole report may still hold."""

    def __init__(self) -> None:
        self._left = limits.DIFF_REPORT_BYTES_MAX

    def take(self, lines: Sequence[str]) -> bool:
        """True, and accounted for, when `lines` still fit."""
        size = sum(len(line.encode()) + 1 for line in lines)
        if size > self._left:
            return False
        self._left -= size
        return True


def counterpart(new: Artifact, baseline: Sequence[Artifact]) -> Artifact | None:
    """The baseline's sdist for an sdist; for a wheel the one with the same tags, else the one that is nearest to it."""
    same_kind = [one for one in baseline if one.kind == new.kind]
    wanted = set(new.distribution.name.tags)

    def distance(old: Artifact) -> tuple[bool, int, str]:
        tags = set(old.distribution.name.tags)
        shared = len(_tag_parts(tags) & _tag_parts(wanted))
        return tags != wanted, -shared, old.file.name

    return min(same_kind, key=distance, default=None)


def _tag_parts(tags: set[str]) -> set[str]:
    return {part for tag in tags for part in tag.split("-")}


def compare(new: Artifact, old: Artifact | None, budget: DiffBudget) -> Comparison:
    """All changes from `old` to `new`, by path; no changes where there is nothing to compare with."""
    if old is None:
        return Comparison(new, None)
    keys = sorted(
        key
        for key in new.entries.keys() | old.entries.keys()
        if not _same(new.entries.get(key), old.entries.get(key))
    )
    changes = {key: _change(old.entries.get(key), new.entries.get(key)) for key in keys}
    shown, too_bulky = _texts_to_show(changes)
    before = old.contents(shown, limits.MEMBER_TEXT_BYTES_MAX)
    after = new.contents(shown, limits.MEMBER_TEXT_BYTES_MAX)
    for key in shown:
        changes[key] = _with_diff(changes[key], before.get(key), after.get(key), budget)
    changes.update({key: replace(changes[key], diff_cut=True) for key in too_bulky})
    return Comparison(
        new, old, tuple(sorted(changes.values(), key=lambda one: (one.path, one.kind)))
    )


def _same(new: FileEntry | None, old: FileEntry | None) -> bool:
    """Equal but for the path, which carries the version."""
    return new is not None and old is not None and replace(new, path="") == replace(old, path="")


def _change(before: FileEntry | None, after: FileEntry | None) -> Change:
    if after is None:
        return Change(before.path if before else "", ChangeKind.REMOVED, before, None)
    return Change(after.path, ChangeKind.CHANGED if before else ChangeKind.ADDED, before, after)


def _texts_to_show(changes: dict[str, Change]) -> tuple[list[str], list[str]]:
    """Keys to show and keys that do not fit; smallest first, so that one bulky file cannot take the others' room."""
    sizes = {
        key: max(entry.size for entry in (one.new, one.old) if entry)
        for key, one in changes.items()
        if one.new and key not in _UNSHOWN
    }
    order = sorted(sizes, key=lambda key: (sizes[key], key))
    held = count = 0
    for key in order:
        held += sizes[key]
        if sizes[key] > limits.MEMBER_TEXT_BYTES_MAX or held > limits.HELD_TEXT_BYTES_MAX:
            break
        count += 1
    return order[:count], [key for key in order[count:] if not _is_native(changes[key])]


def _is_native(change: Change) -> bool:
    """Machine code has no difference to show, so none is missing."""
    return change.new is not None and "native" in change.new.flags


def _with_diff(
    change: Change, before: bytes | None, after: bytes | None, budget: DiffBudget
) -> Change:
    old_lines, new_lines = as_lines(before or b""), as_lines(after or b"")
    if old_lines is None or new_lines is None:
        return change
    lines, cut = unified(old_lines, new_lines)
    if not budget.take(lines):
        return replace(change, diff_cut=True)
    return replace(change, diff=lines, diff_cut=cut)
