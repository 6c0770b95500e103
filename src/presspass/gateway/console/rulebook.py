"""What people have put in force, as pages: upstreams, publishers with delegations, and the policy with its history.

Pure: facts in, view models out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from presspass.core.limits import CONSOLE_CARDS_MAX
from presspass.gateway.console import bindings, differences
from presspass.gateway.console.items import DifferenceView, Item
from presspass.gateway.console.models import InForce, PolicyStep, Situation


@dataclass(frozen=True, slots=True)
class Card:
    """One thing in force. `links`: (words, address)."""

    item: Item
    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CardsPage:
    """A page of them. `empty`: what to do where there is none; `left_out`: how many more there are."""

    room: str
    title: str
    words: str
    empty: str
    cards: tuple[Card, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One policy of the history, and what it changed; None for genesis'."""

    step: PolicyStep
    difference: DifferenceView | None


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """The policy in force, rule by rule, and every change of it, the newest first."""

    now: PolicyStep
    rules: tuple[tuple[str, str], ...]
    changes: tuple[PolicyChange, ...]
    left_out: int


_ROOMS = {
    "upstreams": (
        "Upstreams",
        "Registries that this gate publishes to. Their credentials stay sealed at the press; nothing here shows one.",
        "No registry is connected yet. Connect one on the press's host: presspass upstream add.",
    ),
    "publishers": (
        "Publishers",
        "Workflows that may ask for releases, and bots that may on somebody's behalf. Asking publishes nothing.",
        "No workflow is bound yet. Bind one: presspass publisher add.",
    ),
}


def cards(room: str, found: InForce, situation: Situation) -> CardsPage:
    """The page of `upstreams` or `publishers`."""
    made = list(_upstreams(found) if room == "upstreams" else _publishers(found, situation))
    title, words, empty = _ROOMS[room]
    left_out = max(0, len(made) - CONSOLE_CARDS_MAX)
    return CardsPage(f"/{room}", title, words, empty, tuple(made[:CONSOLE_CARDS_MAX]), left_out)


def _upstreams(found: InForce) -> Iterator[Card]:
    for digest, body in found.upstreams:
        (item,) = differences.upstream_view(None, body).items
        links = (
            ("What was published there", _asked("upstream", body.name)),
            ("Its statement", f"/q/{digest}"),
        )
        yield Card(_standing(item), links)


def _publishers(found: InForce, situation: Situation) -> Iterator[Card]:
    for digest, body in found.publishers:
        items = bindings.publisher_view(None, body).items
        links = (
            ("What it has asked for", _asked("publisher", body.name)),
            ("Its statement", f"/q/{digest}"),
            ("Revoke", "/revoke"),
        )
        yield from (Card(_standing(item), links) for item in items)
    for digest, delegation in found.delegations:
        items = bindings.delegation_view(None, delegation, situation).items
        more = (("Its statement", f"/q/{digest}"), ("Revoke", "/revoke"))
        yield from (Card(_standing(item), more) for item in items)


def _asked(name: str, value: str) -> str:
    return f"/history?{urlencode({name: value})}"


def _standing(item: Item) -> Item:
    """It is in force: what was said about it when it was new is said no more, what is odd about it is."""
    return replace(item, sign="same")


def policies(found: InForce) -> PolicyPage:
    """The page of the policy."""
    now = found.policies[-1]
    rules = differences.policy_view(now.policy, now.policy).items
    changes = list(_changes(found.policies))[::-1]
    return PolicyPage(
        now,
        tuple((item.title, item.facts[0][1]) for item in rules),
        tuple(changes[:CONSOLE_CARDS_MAX]),
        max(0, len(changes) - CONSOLE_CARDS_MAX),
    )


def _changes(steps: Iterable[PolicyStep]) -> Iterator[PolicyChange]:
    before: PolicyStep | None = None
    for step in steps:
        shown = differences.policy_view(before.policy, step.policy) if before else None
        yield PolicyChange(step, shown)
        before = step
