"""A delegation: what a bot or agent may ask for on somebody's behalf. It may only ask; people approve as ever.

1. It names one publisher (the bot's own bound identity) and the person who answers for it; that person approves none of
   its releases.
2. Projects, kinds of version, number of releases and window are all limits; the first that is passed is the refusal.
3. Nobody can hand a delegation on: a token that carries another actor is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import PROJECTS_PER_PUBLISHER_MAX
from presspass.core.strict import Members

if TYPE_CHECKING:
    from packaging.version import Version

#: How a version relates to the highest one that was published before it.
VERSION_KINDS: Final = ("first", "major", "minor", "older", "patch", "pre")
_ASK: Final = "Ask for a delegation that covers it (an approved `delegation` statement), or let a person release it."


@dataclass(frozen=True, slots=True)
class DelegationBody:
    """`publisher`: its name; `person`: id of who answers for the bot; times: Unix seconds, the end not included."""

    name: str
    publisher: str
    person: str
    projects: tuple[str, ...]
    version_kinds: tuple[str, ...]
    count: int
    not_before: int
    not_after: int

    def to_json(self) -> JsonObject:
        return {
            "count": self.count,
            "name": self.name,
            "not_after": self.not_after,
            "not_before": self.not_before,
            "person": self.person,
            "projects": list(self.projects),
            "publisher": self.publisher,
            "version_kinds": list(self.version_kinds),
        }

    @classmethod
    def from_json(cls, value: object) -> DelegationBody:
        members = Members(value, "delegation")
        body = cls(
            name=members.name("name"),
            publisher=members.name("publisher"),
            person=members.name("person"),
            projects=members.names("projects", count_max=PROJECTS_PER_PUBLISHER_MAX),
            version_kinds=members.names("version_kinds", count_max=len(VERSION_KINDS)),
            count=members.integer("count", high=10_000),
            not_before=members.integer("not_before"),
            not_after=members.integer("not_after"),
        )
        members.done()
        if not set(body.version_kinds) <= set(VERSION_KINDS):
            members.refuse(f"has kinds of version other than {', '.join(VERSION_KINDS)}")
        if body.not_after <= body.not_before:
            members.refuse("ends before it begins")
        return body


def check_window(body: DelegationBody, now_s: float) -> None:
    """Refuses with `delegation.outside-window`."""
    if not body.not_before <= now_s < body.not_after:
        raise Refusal(
            Code.DELEGATION_WINDOW,
            f"The delegation {body.name} {'is over' if now_s >= body.not_after else 'has not begun'}.",
            _ASK,
        )


def check_use(
    body: DelegationBody, project: str, version: str, published: Collection[str], used: int
) -> None:
    """Whether one more release may be asked for. `published`: versions of the project so far; `used`: how many releases
    were asked for under it before.
    """
    if project not in body.projects:
        raise Refusal(
            Code.DELEGATION_PROJECT,
            f"The delegation {body.name} does not cover {project}.",
            _ASK,
        )
    kind = version_kind(version, published)
    if kind not in body.version_kinds:
        raise Refusal(
            Code.DELEGATION_LEVEL,
            f"{project} {version} is a {kind} version; {body.name} covers {', '.join(body.version_kinds)}.",
            _ASK,
        )
    if used >= body.count:
        raise Refusal(
            Code.DELEGATION_SPENT,
            f"The delegation {body.name} was for {body.count} releases, and all of them were asked for.",
            _ASK,
        )


def version_kind(version: str, published: Collection[str]) -> str:
    """One of VERSION_KINDS, by PEP 440: pre-releases are `pre` whatever else they are."""
    new = read_version(version)
    if new is None:
        return "major"
    if new.is_prerelease:
        return "pre"
    known = [
        one
        for text in published
        if (one := read_version(text)) is not None and not one.is_prerelease
    ]
    if not known:
        return "first"
    highest = max(known)
    if new <= highest:
        return "older"
    if (new.epoch, new.major) != (highest.epoch, highest.major):
        return "major"
    return "minor" if new.minor != highest.minor else "patch"


def read_version(text: str) -> Version | None:
    """A version by PEP 440; None for what is none."""
    from packaging.version import InvalidVersion, Version  # no proof that is checked needs it

    try:
        return Version(text)
    except InvalidVersion:
        return None
