"""A plan as one page: what is unusual first, then the others by what changes alike in them.

Pure. Reports are hostile; what cannot be read is unusual.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from presspass.core.delegation import version_kind
from presspass.core.errors import Refusal
from presspass.core.findings import Change, Report, Severity, parse_report
from presspass.core.lifecycle import SETTLED, State
from presspass.gateway.console import ballots, review
from presspass.gateway.console.models import (
    Gist,
    PlanFacts,
    PlannedFacts,
    RequestFacts,
    Situation,
)
from presspass.gateway.console.text import plural

_UNUSUAL_VERSIONS: Final = {
    "first": "a first release, nothing to compare with",
    "major": "another major version",
    "older": "not newer than what is published",
}
_WRITTEN: Final = ("RECORD", "METADATA", "PKG-INFO", "WHEEL")
ORDER_WORDS: Final = {
    "any": "Each goes out as soon as it may.",
    "given": "They go out in the order of the plan, each once those before it are no longer on their way.",
    "held": "They go out in the order of the plan; one that is not published holds back those after it.",
}


def gist(digest: str, report: bytes | None, project: str, version: str) -> Gist:
    """Of a stored report; of none, as of one that cannot be shown."""
    try:
        read = parse_report(report or b"")
        shown = review.view(read)
    except Refusal as refusal:
        return Gist(
            digest, Severity.CRITICAL, (str(refusal),), "the report cannot be shown", "", "", ""
        )
    baseline = read.baseline_version or ""
    return Gist(
        digest,
        read.worst,
        tuple(f"{one.message} {one.path}".strip() for one in shown.first_odd),
        shown.summary,
        baseline,
        _alike(read, project, version),
        version_kind(version, [baseline] if baseline else []),
    )


def _alike(report: Report, project: str, version: str) -> str:
    """The changes, with what the package is called and numbered left out."""
    own = sorted({project, project.replace("-", "_"), project.replace("-", ".")}, key=len)[::-1]
    words = [*((one, "\0name") for one in own), (version, "\0version")]
    if report.baseline_version:
        words.append((report.baseline_version, "\0before"))

    def plain(text: str) -> str:
        for word, sign in words:
            text = text.replace(word, sign)
        return text

    changes: list[Change] = [change for artifact in report.artifacts for change in artifact.changes]
    told = sorted(
        (change.kind.value, plain(change.path), *map(plain, change.diff or ("?", _new(change))))
        for change in changes
        if not change.path.endswith(_WRITTEN)
    )
    findings = sorted((one.rule, plain(one.path), plain(one.message)) for one in report.findings)
    return hashlib.sha256(repr((told, findings)).encode("utf-8", "replace")).hexdigest()


def _new(change: Change) -> str:
    return change.new.sha256 if change.new else ""


@dataclass(frozen=True, slots=True)
class PlannedView:
    """One release. `unusual`: why it stands first; `waits`: what is missing, "" for nothing."""

    facts: PlannedFacts
    unusual: tuple[str, ...]
    waits: str

    @property
    def worst(self) -> str:
        worst = self.facts.gist.worst
        return worst.value if worst and worst.rank >= review.ODD_FROM.rank else ""


@dataclass(frozen=True, slots=True)
class GroupView:
    """Releases in which the same changes. `sample`: the difference of the first of them, as far as it is shown."""

    members: tuple[PlannedView, ...]
    sample: review.ReviewView | None

    @property
    def headline(self) -> str:
        first = self.members[0].facts
        if len(self.members) == 1:
            return f"{first.project} {first.version}"
        others = plural(len(self.members) - 1, "other")
        return f"{first.project} {first.version} and {others} change alike"


@dataclass(frozen=True, slots=True)
class PlanPage:
    """The page of a plan."""

    facts: RequestFacts
    plan: PlanFacts
    words: str
    odd: tuple[GroupView, ...]
    alike: tuple[GroupView, ...]
    order: str
    ballot: ballots.BallotView
    enough: int
    may_sign: bool

    @property
    def groups(self) -> tuple[GroupView, ...]:
        return (*self.odd, *self.alike)


def arrange(members: Sequence[PlannedFacts]) -> tuple[list[list[PlannedFacts]], int]:
    """The groups, what is unusual first and each of those by itself; how many of those there are."""
    odd = sorted((one for one in members if unusual(one)), key=_by_oddness)
    groups: dict[str, list[PlannedFacts]] = {}
    for one in members:
        if not unusual(one):
            groups.setdefault(one.gist.alike, []).append(one)
    alike = sorted(groups.values(), key=len)
    return [*([one] for one in odd), *alike], len(odd)


def _by_oddness(one: PlannedFacts) -> tuple[int, str]:
    return -(one.gist.worst.rank if one.gist.worst else -1), one.project


def unusual(one: PlannedFacts) -> tuple[str, ...]:
    """Why a release is not like the others of its plan."""
    why = list(one.gist.odd)
    if one.workflow_changed:
        why.append("the workflow that asked is another than the one that people have bound")
    if one.gist.version_kind in _UNUSUAL_VERSIONS:
        why.append(_UNUSUAL_VERSIONS[one.gist.version_kind])
    return tuple(why)


def plan_page(facts: RequestFacts, plan: PlanFacts, situation: Situation) -> PlanPage:
    """The page, from what `arrange` has put in order."""
    groups, odd = arrange(plan.releases)
    views = tuple(
        GroupView(tuple(_planned(one) for one in group), _sample(plan, group[0]))
        for group in groups
    )
    enough = sum(one.reached or one.state not in (State.AWAITING,) for one in plan.releases)
    waiting = [one for one in plan.releases if one.state is State.AWAITING]
    words = f"{len(plan.releases)} releases; {len(waiting)} wait for people to look and sign."
    if facts.state in ("rejected", "expired", "verified", "failed"):
        words = f"Ended: {facts.state}. {facts.message}".strip()
    elif facts.message:
        words = f"{words} {facts.message}"
    return PlanPage(
        facts,
        plan,
        words,
        views[:odd],
        views[odd:],
        ORDER_WORDS[plan.order],
        ballots.view(facts.ballot, situation),
        enough,
        facts.state in ("", "seen") and any(one.state not in SETTLED for one in plan.releases),
    )


def _planned(one: PlannedFacts) -> PlannedView:
    waits = ""
    if one.state is State.AWAITING and not one.reached:
        waits = f"{one.counted} of {one.needed} approvals"
    return PlannedView(one, unusual(one), waits)


def _sample(plan: PlanFacts, one: PlannedFacts) -> review.ReviewView | None:
    report = plan.samples.get(one.release)
    return None if report is None else review.view(parse_report(report))
