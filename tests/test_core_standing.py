"""The bounds of a standing approval: nothing passes that is outside one of them, whatever the others say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

import core_values as values
from core_values import law
from presspass.core.errors import Code, Refusal
from presspass.core.findings import ArtifactReport, InputFile, Report, Severity, finding
from presspass.core.standing import (
    FINDINGS,
    KINDS,
    LIFE_S_MAX,
    StandingBody,
    check_count,
    check_life,
    check_review,
    check_time,
    check_version,
    is_chosen,
    kinds_of,
)

BODY = StandingBody(
    "routine", "main", ("ci",), ("demo",), ("patch",), "low", 5, 2, 1_000_000, 10, 3600
)
numbers = st.integers(0, 3)
versions = st.builds(
    lambda a, b, c, tail: f"{a}.{b}.{c}{tail}",
    numbers,
    numbers,
    numbers,
    st.sampled_from(["", "", "", "a1", "rc2", ".post1", ".dev3", "+local"]),
)


@law
@given(versions, st.sets(versions.filter(lambda one: "+" not in one), max_size=5))
def test_a_version_has_kinds_only_above_everything_before_it(
    version: str, published: set[str]
) -> None:
    found = kinds_of(version, published)
    new, known = Version(version), [Version(one) for one in published]
    above = bool(known) and all(new > one for one in known) and new.local is None
    assert bool(found) is above
    assert found <= set(KINDS)
    if not above:
        return
    assert len(found & {"major", "minor", "patch"}) == 1
    assert ("pre" in found) is new.is_prerelease and ("post" in found) is new.is_postrelease
    finals = [one for one in known if not one.is_prerelease]
    same_major = any(one.major == new.major for one in finals)
    same_minor = any((one.major, one.minor) == (new.major, new.minor) for one in finals)
    assert ("major" in found) is not same_major
    assert ("patch" in found) is same_minor


@pytest.mark.parametrize(
    ("version", "published", "kinds"),
    [
        ("1.0.1", {"1.0"}, {"patch"}),
        ("1.1", {"1.0", "1.1rc1"}, {"minor"}),
        ("1.1rc2", {"1.0", "1.1rc1"}, {"minor", "pre"}),
        ("1.0", {"1.0rc1"}, {"major"}),
        ("1!0.1", {"1.0"}, {"major"}),
        ("1.0.post1", {"1.0"}, {"patch", "post"}),
        ("1.0", set(), set()),
        ("1.0", {"1.0"}, set()),
        ("1.0.1", {"1.0", "2.0"}, set()),
        ("1.0.1", {"1.0", "no version"}, set()),
        ("no version", {"1.0"}, set()),
    ],
)
def test_kinds_of_versions(version: str, published: set[str], kinds: set[str]) -> None:
    assert kinds_of(version, published) == kinds


def report(**changes: Any) -> Report:
    file = InputFile("demo-1.1-py3-none-any.whl", "0" * 64, 1)
    artifact = ArtifactReport(
        file.name, file.sha256, "wheel", "demo", "1.1", "", (), (), changes.pop("compared", "old")
    )
    whole = Report("engine/1", "demo", "1.1", (file,), "1.0", (file,), (artifact,))
    return replace(whole, **changes)


@law
@given(
    st.sampled_from(FINDINGS),
    st.lists(st.sampled_from(Severity), max_size=3),
    st.sampled_from(["1.0", None]),
    st.sampled_from(["old", None]),
    st.sampled_from(["", "release.no-counterpart", "difference.cut"]),
)
def test_nothing_passes_that_is_worse_than_is_let_through_or_was_not_compared(
    limit: str,
    severities: list[Severity],
    baseline: str | None,
    compared: str | None,
    unassessed: str,
) -> None:
    found = [finding("rule.x", one, "path", "words") for one in severities]
    if unassessed:
        found.append(finding(unassessed, Severity.INFO, "path", "not all of it"))
    shown = report(compared=compared, baseline_version=baseline, findings=tuple(found))
    worst = max((one.rank for one in severities), default=0)
    whole = baseline is not None and compared is not None and not unassessed
    try:
        check_review(replace(BODY, worst_finding=limit), shown)
    except Refusal as refusal:
        wanted = Code.STANDING_FINDING if whole else Code.STANDING_UNASSESSED
        assert refusal.code is wanted
        assert not whole or worst > FINDINGS.index(limit)
    else:
        assert whole and worst <= FINDINGS.index(limit)


@law
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 6), st.integers(0, 6))
def test_no_more_pass_than_the_numbers_say(
    daily: int, per_project: int, of_project: int, others: int
) -> None:
    body = replace(BODY, daily=daily, daily_per_project=per_project)
    in_all = of_project + others
    try:
        check_count(body, of_project, in_all)
    except Refusal as refusal:
        assert refusal.code is Code.STANDING_SPENT
        assert of_project >= per_project or in_all >= daily
    else:
        assert of_project < per_project and in_all < daily


def test_its_end_is_not_included_and_its_life_is_bounded() -> None:
    check_time(BODY, 999_999.9)
    with pytest.raises(Refusal):
        check_time(BODY, 1_000_000)
    check_life(BODY, 1_000_000 - LIFE_S_MAX)
    with pytest.raises(Refusal):
        check_life(BODY, 1_000_000 - LIFE_S_MAX - 1)
    with pytest.raises(Refusal):
        check_version(BODY, "demo", "1.1", {"1.0"})


@law
@given(st.lists(st.binary(min_size=32, max_size=32), min_size=100, max_size=100))
def test_never_do_as_many_as_named_go_by_without_one_that_is_read(chances: list[bytes]) -> None:
    since = 0
    for chance in chances:
        chosen = is_chosen(chance, since, BODY)
        since = 0 if chosen else since + 1
        assert since < BODY.read_every


@law
@given(values.standing_bodies(), st.data())
def test_a_body_reads_back_and_one_outside_the_hard_limits_does_not(
    body: StandingBody, data: st.DataObject
) -> None:
    assert StandingBody.from_json(body.to_json()) == body
    beyond = data.draw(
        st.sampled_from(
            [
                ("worst_finding", "high"), ("read_every", 0), ("read_every", 101), ("read_within_s", 3599),
                ("read_within_s", 604_801), ("daily", 0), ("daily", 1001), ("version_kinds", ["first"]),
            ]
        )
    )  # fmt: skip
    with pytest.raises(Refusal):
        StandingBody.from_json({**body.to_json(), beyond[0]: beyond[1]})
