"""The page on which one person ends something at once: what there is to end, in groups, and what has been ended.

Pure: values in, values out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from presspass.gateway.console.models import Identities, Revocable, Situation, StopLine, Viewer
from presspass.gateway.console.text import plural

#: By kind: heading of its group, and what a revocation of it ends.
_GROUPS = {
    "publisher": (
        "Publishers",
        "Its passes end, its runs get no new ones, and none of its releases goes out.",
    ),
    "delegation": (
        "Bots and agents",
        "Passes under it end, the bot gets no new ones, and none of its releases goes out.",
    ),
    "standing": (
        "Standing approvals",
        "No release passes under it any more; those that wait are signed by people.",
    ),
    "workload": (
        "Repositories",
        "As for a publisher, whatever publisher it asks by.",
    ),
    "run": ("Runs that live", "Its passes end, and its release does not go out."),
    "pass": ("Passes that live", "It opens nothing any more. What it has staged stays staged."),
    "approval": ("Approvals on open releases", "It counts no longer. The others do."),
    "release": (
        "Published releases",
        "It stays at the registry. Whoever asks this gate what is revoked gets its files refused.",
    ),
    "person": (
        "People",
        "Counts for nothing at once: passes end, no approval of theirs counts, and nothing they asked for goes out.",
    ),
}
_STOPPED = {
    "freeze": "frozen",
    "limited": "limited: asks, and does not count",
    "person": "revoked person",
    "publisher": "revoked publisher",
    "delegation": "revoked delegation",
    "standing": "ended standing approval",
    "workload": "revoked repository",
    "run": "revoked run",
    "pass": "revoked pass",
    "approval": "revoked approval",
    "release": "revoked release",
    "file": "revoked file",
}


_OF_RELEASES = frozenset({"run", "pass", "approval", "release"})


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one kind. `more`: how many are not listed, in words; "" for none."""

    what: str
    title: str
    effect: str
    rows: tuple[Revocable, ...]
    more: str


@dataclass(frozen=True, slots=True)
class StopRow:
    """Something that is stopped, in words."""

    line: StopLine
    what: str
    by: str


@dataclass(frozen=True, slots=True)
class RevokePage:
    """`in_browser`: at least one key of the roster can sign in a browser."""

    facts: Identities
    groups: tuple[Group, ...]
    stops: tuple[StopRow, ...]
    in_browser: bool


def for_viewer(facts: Identities, viewer: Viewer | None) -> Identities:
    """Without what tells of others' releases, for somebody signed in who sees the own ones only."""
    if viewer is None or viewer.sees_everything:
        return facts
    return replace(
        facts,
        rows={what: rows for what, rows in facts.rows.items() if what not in _OF_RELEASES},
        left_out={what: n for what, n in facts.left_out.items() if what not in _OF_RELEASES},
    )


def revoke_page(facts: Identities, situation: Situation) -> RevokePage:
    """Groups in the order in which they are looked for when something is wrong."""
    groups = tuple(
        Group(what, title, effect, facts.rows.get(what, ()), _more(facts.left_out.get(what, 0)))
        for what, (title, effect) in _GROUPS.items()
        if what in facts.rows
    )
    stops = tuple(
        StopRow(one, _STOPPED.get(one.what, one.what), situation.name(one.by) if one.by else "")
        for one in facts.stops
    )
    in_browser = any(one.credential for one in facts.signers)
    return RevokePage(facts, groups, stops, in_browser)


def _more(count: int) -> str:
    return f"{plural(count, 'more', 'more')}, older ones, are not listed." if count else ""
