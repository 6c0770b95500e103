"""One result of `doctor`, and how it is graded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARN: Final = "warn"
BAD: Final = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """`grade` ok, warn or bad; what was looked at; what was found; the fix ("" where none is needed)."""

    grade: str
    what: str
    found: str
    fix: str = ""
