"""What waits is in the order of its risk, and the versions that an attack leaves behind are unusual."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_values import law
from presspass.core.burst import GATE_FLOOR, PACKAGE_FLOOR, limit
from presspass.core.findings import Severity
from presspass.core.risk import Waiting, by_risk
from presspass.core.versioning import Unusual, line_of, unusual

MINUTE: Final = 60_000
DAY: Final = 86_400_000
NOW: Final = 2000 * DAY

waiting = st.builds(
    Waiting, st.none() | st.sampled_from(Severity), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 9)
)  # fmt: skip


@law
@given(st.lists(waiting), waiting)
def test_nothing_of_less_risk_stands_before_something_of_more(
    items: list[Waiting], one: Waiting
) -> None:
    found = by_risk([*items, one], lambda item: item)
    assert sorted(map(repr, found)) == sorted(map(repr, [*items, one]))
    ranks = [-1 if item.highest is None else item.highest.rank for item in found]
    assert ranks == sorted(ranks, reverse=True)
    riskier = (replace(one, unusual=True), replace(one, first=True), replace(one, burst=True))
    assert by_risk([one, *riskier], lambda item: item)[-1] == one
    older = replace(one, since_ms=one.since_ms - 1)
    assert by_risk([one, older], lambda item: item) == [older, one]


def weekly(*versions: str, last: int = NOW - 7 * DAY) -> dict[str, int]:
    return {one: last - 7 * DAY * place for place, one in enumerate(reversed(versions))}


@pytest.mark.parametrize(
    ("version", "published", "found"),
    [
        ("1.2.4", weekly("1.2.0", "1.2.1", "1.2.2", "1.2.3"), ()),
        ("1.0", {}, ()),
        ("0.0.0-b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2", {}, (Unusual.SNAPSHOT,)),
        ("0.0.0+g1a2b3c4", {}, (Unusual.SNAPSHOT,)),
        ("0.0.0", {}, ()),
        ("1.6.3", {"1.6.2": NOW - 400 * DAY, "3.0.2": NOW - 9 * DAY}, (Unusual.LINE_REVIVED,)),
        ("1.6.3", {"1.6.1": NOW - 700 * DAY, "1.6.2": NOW - 200 * DAY}, ()),
        ("0.30.4", {"0.30.3": NOW - 9 * DAY, "1.14.1": NOW - 39 * MINUTE}, (Unusual.LINES_TOGETHER,)),
        ("1.3.4", {**weekly("1.3.0", "1.3.1", "1.3.2"), "1.3.3": NOW - 6 * MINUTE}, (Unusual.TOO_SOON,)),
        ("1.3", {"1.0": NOW - 3 * DAY, "1.1": NOW - 2 * DAY, "1.2": NOW - DAY}, ()),
        ("2.0rc1", weekly("1.0", "1.1"), ()),
        ("2.0", {**weekly("1.0", "1.1"), "2.0rc1": NOW - 4 * DAY}, ()),
    ],
)  # fmt: skip
def test_what_is_unusual_about_a_version(
    version: str, published: dict[str, int], found: tuple[Unusual, ...]
) -> None:
    assert unusual(version, published, NOW) == found


def test_the_lines_that_an_attack_revives_in_minutes_are_all_unusual() -> None:
    published = {f"{line}.4.0": NOW - (400 + line) * DAY for line in range(3)}
    versions = ("0.5.4", "0.5.5", "1.6.3", "1.6.4", "2.2.1", "2.2.2", f"0.0.0-{'ab' * 20}")
    for place, version in enumerate(versions):
        now = NOW + 3 * MINUTE * place
        assert unusual(version, published, now), version
        published[version] = now


@law
@given(st.text(max_size=12), st.dictionaries(st.text(max_size=12), st.integers(0, NOW), max_size=4))
def test_any_text_is_taken_for_a_version(version: str, published: dict[str, int]) -> None:
    unusual(version, published, NOW)
    assert line_of(version) is None or version.lstrip("v")[0].isdigit()


@law
@given(st.integers(0, 500), st.sampled_from([PACKAGE_FLOOR, GATE_FLOOR]), st.integers(1, 100))
def test_the_limit_follows_the_history_and_never_passes_the_policys(
    busiest: int, floor: int, cap: int
) -> None:
    found = limit(busiest, floor, cap)
    assert found <= cap
    assert found == cap or found >= max(floor, busiest)
    assert limit(busiest + 1, floor, cap) >= found
