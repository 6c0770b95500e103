"""Unified differences of hostile text, bounded in time, lines and line length. Lines are data: escape to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from presspass.core import limits
from presspass.core.findings import bounded

_CONTEXT_LINES = 3
Diff = tuple[tuple[str, ...], bool]


def as_lines(content: bytes) -> list[str] | None:
    """Lines of UTF-8 text without NUL; None for anything else. A "\\r" stays in its line, where it can be seen."""
    if b"\0" in content:
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def unified(old: Sequence[str], new: Sequence[str]) -> Diff:
    """Hunks ("@@ …", then lines led by " ", "-" or "+") and whether some of it is left out."""
    result: list[str] = []
    for line in _hunks(old, new):
        if len(result) == limits.DIFF_LINES_MAX:
            return tuple(result), True
        result.append(bounded(line, limits.DIFF_LINE_CHARS_MAX))
    return tuple(result), False


def difference(old: bytes, new: bytes) -> Diff | None:
    """The hunks from one whole file to another, as `unified` gives them; None where one of them is not text.

    Different bytes never come out as no difference: where only one side ends in a line feed, a last line says so (it
    is led by "\\", as diff and git have it).
    """
    before, after = as_lines(old), as_lines(new)
    if before is None or after is None:
        return None
    lines, cut = unified(before, after)
    if old and new and old.endswith(b"\n") != new.endswith(b"\n"):
        side = "new" if old.endswith(b"\n") else "old"
        lines += (f"\\ No newline at end of the {side} file",)
    return lines, cut


def _hunks(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    start, old_end, new_end = _different_part(old, new)
    before, after = old[start:old_end], new[start:new_end]
    if _too_costly(before, after):
        yield _header(start, start + len(before), start, start + len(after))
        yield from (f"-{line}" for line in before)
        yield from (f"+{line}" for line in after)
        return
    for group in SequenceMatcher(None, before, after).get_grouped_opcodes(_CONTEXT_LINES):
        first, last = group[0], group[-1]
        yield _header(start + first[1], start + last[2], start + first[3], start + last[4])
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                yield from (f" {line}" for line in before[old_from:old_to])
                continue
            yield from (f"-{line}" for line in before[old_from:old_to])
            yield from (f"+{line}" for line in after[new_from:new_to])


def _different_part(old: Sequence[str], new: Sequence[str]) -> tuple[int, int, int]:
    """Start, end in `old`, end in `new` of what is left without the common beginning and end, with some context."""
    shorter = min(len(old), len(new))
    start = 0
    while start < shorter and old[start] == new[start]:
        start += 1
    same = 0
    while same < shorter - start and old[-1 - same] == new[-1 - same]:
        same += 1
    same = max(0, same - _CONTEXT_LINES)
    return max(0, start - _CONTEXT_LINES), len(old) - same, len(new) - same


def _too_costly(old: Sequence[str], new: Sequence[str]) -> bool:
    """SequenceMatcher weighs each pair of equal lines, again and again: hostile text makes that millions."""
    if max(len(old), len(new)) > limits.DIFF_INPUT_LINES_MAX:
        return True
    counts = Counter(new)
    return sum(counts[line] for line in old) > limits.DIFF_PAIRS_MAX


def _header(old_from: int, old_to: int, new_from: int, new_to: int) -> str:
    return f"@@ -{_range(old_from, old_to)} +{_range(new_from, new_to)} @@"


def _range(start: int, stop: int) -> str:
    count = stop - start
    return f"{start + 1 if count else start},{count}"
