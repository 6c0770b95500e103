"""What a difference is made of on a page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that changes. `sign`: added, removed, changed or same; `odd`: people should look at it twice.

    `facts`: (name, value) pairs; `key`: a fingerprint to compare, "" where there is none; `each`: where the item stands
    for many that are alike, (name, what it has of its own) of every one.
    """

    sign: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    key: str = ""
    odd: str = ""
    each: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DifferenceView:
    """A statement's effect: one sentence, then its parts."""

    headline: str
    subject: str
    items: tuple[Item, ...]
