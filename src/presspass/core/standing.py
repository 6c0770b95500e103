"""A standing approval: people let releases through in advance, within bounds, so that routine needs no ceremony each.

1. It names packages, where they go, which publishers may ask, kinds of version, the worst finding, numbers a day, and
   an end. Every part is a limit; the first that is passed is the refusal, and people sign the release like any other.
2. A first release, one that is not higher than everything before it, and one of which anything is unassessed never
   pass: there is nothing to compare them with.
3. A day is the last 24 hours, so that no midnight doubles a number.
4. Some of what passes is chosen to be read afterwards, by chance and at the latest every so many; what nobody reads in
   time suspends the approval.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from presspass.core.delegation import read_version
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import PROJECTS_PER_STANDING_MAX, PUBLISHERS_PER_STANDING_MAX
from presspass.core.strict import Members

if TYPE_CHECKING:
    from presspass.core.findings import Report

_DAY_S: Final = 86_400
DAY_MS: Final = _DAY_S * 1000
#: How long a standing approval may hold, from when it was asked for.
LIFE_S_MAX: Final = 90 * _DAY_S
#: A version has one of the first three, and each of the others that holds of it; all of them must be allowed.
KINDS: Final = ("major", "minor", "patch", "post", "pre")
#: The worst finding that it may let through, mildest first. What is high people see before it goes out, not after.
FINDINGS: Final = ("info", "low", "medium")
DAILY_MAX: Final = 1000
READ_EVERY_MAX: Final = 100
READ_WITHIN_S_MIN: Final = 3600
READ_WITHIN_S_MAX: Final = 7 * _DAY_S
#: Findings that say of something that it was not compared, or not all of it.
UNASSESSED: Final = frozenset({"release.first", "release.no-counterpart", "difference.cut"})
_ASK: Final = "Let people sign this release, or ask for a standing approval that covers it."


@dataclass(frozen=True, slots=True)
class StandingBody:
    """`upstream`, `publishers`: names; `worst_finding`: of FINDINGS; `daily`, `daily_per_project`: releases in 24
    hours; `not_after`: Unix seconds, not included; `read_every`: one of so many is read afterwards, within
    `read_within_s`.
    """

    name: str
    upstream: str
    publishers: tuple[str, ...]
    projects: tuple[str, ...]
    version_kinds: tuple[str, ...]
    worst_finding: str
    daily: int
    daily_per_project: int
    not_after: int
    read_every: int
    read_within_s: int

    def to_json(self) -> JsonObject:
        return {
            "daily": self.daily,
            "daily_per_project": self.daily_per_project,
            "name": self.name,
            "not_after": self.not_after,
            "projects": list(self.projects),
            "publishers": list(self.publishers),
            "read_every": self.read_every,
            "read_within_s": self.read_within_s,
            "upstream": self.upstream,
            "version_kinds": list(self.version_kinds),
            "worst_finding": self.worst_finding,
        }

    @classmethod
    def from_json(cls, value: object) -> StandingBody:
        members = Members(value, "standing approval")
        body = cls(
            name=members.name("name"),
            upstream=members.name("upstream"),
            publishers=members.names("publishers", count_max=PUBLISHERS_PER_STANDING_MAX),
            projects=members.names("projects", count_max=PROJECTS_PER_STANDING_MAX),
            version_kinds=members.names("version_kinds", count_max=len(KINDS)),
            worst_finding=members.choice("worst_finding", FINDINGS),
            daily=members.integer("daily", low=1, high=DAILY_MAX),
            daily_per_project=members.integer("daily_per_project", low=1, high=DAILY_MAX),
            not_after=members.integer("not_after"),
            read_every=members.integer("read_every", low=1, high=READ_EVERY_MAX),
            read_within_s=members.integer(
                "read_within_s", low=READ_WITHIN_S_MIN, high=READ_WITHIN_S_MAX
            ),
        )
        members.done()
        if not set(body.version_kinds) <= set(KINDS):
            members.refuse(f"has kinds of version other than {', '.join(KINDS)}")
        if body.projects and not (body.publishers and body.version_kinds):
            members.refuse("names no publisher or no kind of version")
        return body


def check_life(body: StandingBody, issued_at: int) -> None:
    """Refuses with `standing.unusable` one that would hold for longer than any may. `issued_at`: of its statement."""
    if body.not_after > issued_at + LIFE_S_MAX:
        raise Refusal(
            Code.STANDING_UNUSABLE,
            f"The standing approval {body.name} would hold for more than {LIFE_S_MAX // _DAY_S} days.",
            "Ask for a shorter one, and for the next when it ends.",
        )


def check_time(body: StandingBody, now_s: float) -> None:
    """Refuses with `standing.expired`."""
    if now_s >= body.not_after:
        raise Refusal(Code.STANDING_EXPIRED, f"The standing approval {body.name} is over.", _ASK)


def check_version(
    body: StandingBody, project: str, version: str, published: Collection[str]
) -> None:
    """Refuses with `standing.version-kind`. `published`: every version of the project so far."""
    kinds = kinds_of(version, published)
    if not kinds:
        raise Refusal(
            Code.STANDING_VERSION,
            f"{project} {version} is not higher than every version before it, or there is none before it.",
            "Let people sign this release.",
        )
    beyond = sorted(kinds - set(body.version_kinds))
    if beyond:
        raise Refusal(
            Code.STANDING_VERSION,
            f"{project} {version} is a {' and '.join(sorted(kinds))} version; {body.name} covers "
            f"{', '.join(body.version_kinds)}.",
            _ASK,
        )


def check_count(body: StandingBody, of_project: int, in_all: int) -> None:
    """Refuses with `standing.spent`; the numbers are those of the last 24 hours, this release not among them."""
    if of_project >= body.daily_per_project or in_all >= body.daily:
        whose = "of this package " if of_project >= body.daily_per_project else ""
        most = body.daily_per_project if whose else body.daily
        raise Refusal(
            Code.STANDING_SPENT,
            f"{most} releases {whose}have passed under {body.name} in 24 hours, which is all that may.",
            "Let people sign this release, or wait.",
        )


def check_review(body: StandingBody, report: Report) -> None:
    """Refuses with `standing.unassessed` or `standing.finding`."""
    alone = [one.name for one in report.artifacts if one.compared_with is None]
    unseen = [one for one in report.findings if one.rule in UNASSESSED]
    if report.baseline_version is None or not report.artifacts or alone or unseen:
        what = unseen[0].message if unseen else "There is nothing to compare it with."
        raise Refusal(
            Code.STANDING_UNASSESSED,
            f"Not all of this release is assessed: {what}",
            "Let people sign this release.",
        )
    let_through = FINDINGS[: FINDINGS.index(body.worst_finding) + 1]
    if report.worst.value not in let_through:
        raise Refusal(
            Code.STANDING_FINDING,
            f"The inspection finds something of severity {report.worst.value}: "
            f"{report.findings[0].message} {body.name} lets {body.worst_finding} through at most.",
            "Let people sign this release.",
        )


def kinds_of(version: str, published: Collection[str]) -> frozenset[str]:
    """Which of KINDS a version is after these, by PEP 440; none where it is not higher than all of them, there are
    none, one cannot be read, or it has a local part. What is compared with is the highest final release.
    """
    new, known = read_version(version), [read_version(one) for one in published]
    if new is None or new.local or not known:
        return frozenset()
    before = [one for one in known if one is not None]
    if len(before) < len(known) or new <= max(before):
        return frozenset()
    finals = [one for one in before if not one.is_prerelease]
    level = "major"
    if finals and (new.epoch, new.major) == (max(finals).epoch, max(finals).major):
        level = "patch" if new.minor == max(finals).minor else "minor"
    found = {level}
    if new.is_prerelease:
        found.add("pre")
    if new.is_postrelease:
        found.add("post")
    return frozenset(found)


def bounds(body: StandingBody) -> tuple[tuple[str, str], ...]:
    """What it lets through, in words: (what, how much), all but when it ends."""
    hours = body.read_within_s // 3600
    return (
        ("packages", ", ".join(body.projects) or "none"),
        ("upstream", body.upstream),
        ("publishers", ", ".join(body.publishers) or "none"),
        ("kinds of version", ", ".join(body.version_kinds) or "none"),
        ("worst finding", body.worst_finding),
        ("in 24 hours", f"{body.daily_per_project} of a package, {body.daily} in all"),
        ("read afterwards", f"one of {body.read_every}, within {hours} hours"),
    )


def is_chosen(chance: bytes, passed_since: int, body: StandingBody) -> bool:
    """Whether a release is to be read afterwards. `chance`: bytes that whoever asks cannot know (32 at least);
    `passed_since`: how many have passed under it since the last one that was chosen.
    """
    by_chance = int.from_bytes(chance[:32], "big") % body.read_every == 0
    return by_chance or passed_since >= body.read_every - 1
