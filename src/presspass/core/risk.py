"""In which order people should look at what waits: where the risk is first, then what has waited longest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from presspass.core.findings import Severity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What counts for the place of one release. `highest`: of its findings; None without any, or without a report.

    `unusual`: something is about its version (`versioning`); `first`: nothing of the package was published before;
    `burst`: it is held with others since too many came at once; `since_ms`: when it was asked for.
    """

    highest: Severity | None = None
    unusual: bool = False
    first: bool = False
    burst: bool = False
    since_ms: int = 0


def by_risk(items: Iterable[T], about: Callable[[T], Waiting]) -> list[T]:
    """The items by highest finding, then unusual version, first release, burst, and the oldest first."""

    def place(item: T) -> tuple[int, bool, bool, bool, int]:
        one = about(item)
        rank = -1 if one.highest is None else one.highest.rank
        return -rank, not one.unusual, not one.first, not one.burst, one.since_ms

    return sorted(items, key=place)
