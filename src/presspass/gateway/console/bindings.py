"""What statements change about publishers and delegations, in words; of many that are alike, once.

A bundle may bind hundreds of repositories. Those that are bound in the same way are one item, so that the few that are
bound in another way stand out: each way that deserves a second look is an item of its own, above the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from presspass.core.changes import odd_about, value_text
from presspass.core.delegation import DelegationBody
from presspass.core.publisher import PublisherBody
from presspass.gateway.console.items import DifferenceView, Item
from presspass.gateway.console.models import Situation
from presspass.gateway.console.text import listed, plural

#: A publisher or delegation: what is in force (None: nothing), and what would be.
Publisher = tuple[PublisherBody | None, PublisherBody]
Delegation = tuple[DelegationBody | None, DelegationBody]

_WORDS = {
    "upstream": "publishes to",
    "projects": "projects",
    "issuer": "issuer of its tokens",
    "provider": "runs at",
    "ids": "ids",
    "repository": "repository",
    "repository_url": "read at",
    "workflow": "workflow",
    "workflow_sha256": "workflow's SHA-256",
    "refs": "refs",
    "protected_refs_only": "protected refs only",
    "events": "events",
    "environment": "environment",
    "self_hosted": "self-hosted runners",
    "delegated_only": "only by a delegation",
}
#: What every publisher has of its own; the rest is how it is bound.
_OWN = ("projects", "repository", "repository_url", "ids", "workflow_sha256")
_HOW = tuple(name for name in _WORDS if name not in _OWN)


def publisher_view(old: PublisherBody | None, new: PublisherBody) -> DifferenceView:
    """One publisher in a statement of its own."""
    items = publisher_items([(old, new)])
    headline = items[0].title if items else f"Publisher {new.name} changes: nothing"
    return DifferenceView(headline, f"publisher {new.name}", tuple(items))


def publishers_headline(pairs: Sequence[Publisher]) -> list[str]:
    """What happens to these publishers, as parts of a sentence."""
    counts = Counter(_sign(old, new) for old, new in pairs)
    parts = []
    for sign, one, many in (
        ("added", "is added", "are added"),
        ("changed", "changes", "change"),
        ("removed", "is retired", "are retired"),
    ):
        if counts[sign]:
            words = one if counts[sign] == 1 else many
            parts.append(f"{plural(counts[sign], 'publisher')} {words}")
    return parts


def publisher_items(pairs: Sequence[Publisher]) -> list[Item]:
    """These publishers, grouped by what happens to them; what deserves a second look first."""
    usual = _usual_issuer(new for _old, new in pairs if new.projects)
    groups: dict[tuple[object, ...], list[Publisher]] = {}
    for old, new in pairs:
        sign = _sign(old, new)
        if sign != "same":
            groups.setdefault((sign, _odd(old, new, usual), *_alike(sign, old, new)), []).append(
                (old, new)
            )
    items = [_group(str(key[0]), str(key[1]), group) for key, group in groups.items()]
    return sorted(items, key=lambda item: not item.odd)


def _sign(old: PublisherBody | None, new: PublisherBody) -> str:
    if old == new:
        return "same"
    if not new.projects:
        return "removed"
    return "changed" if old and old.projects else "added"


def _alike(sign: str, old: PublisherBody | None, new: PublisherBody) -> tuple[object, ...]:
    """What publishers of one group have in common."""
    if sign == "added":
        return tuple(getattr(new, name) for name in _HOW)
    if sign == "changed" and old is not None:
        shared = tuple(
            (name, getattr(old, name), getattr(new, name)) for name in _changed(old, new)
        )
        own = {"projects", "repository", "repository_url", "ids"}
        # What only one of them has cannot be shared: such a change is shown on its own.
        return (*shared, new.name if own & set(_changed(old, new)) else "")
    return ()


def _changed(old: PublisherBody, new: PublisherBody) -> list[str]:
    return [name for name in _WORDS if getattr(old, name) != getattr(new, name)]


def _usual_issuer(bodies: Iterable[PublisherBody]) -> str:
    """The issuer of most of these; "" where there is no such."""
    counts = Counter(body.issuer for body in bodies)
    found = counts.most_common(1)
    return found[0][0] if found and 2 * found[0][1] > counts.total() else ""


def _odd(old: PublisherBody | None, new: PublisherBody, usual_issuer: str) -> str:
    found = list(odd_about(old, new))
    if new.projects and usual_issuer and new.issuer != usual_issuer:
        found.append(f"Its tokens come from another issuer than those of the others: {new.issuer}.")
    return " ".join(found)


def _group(sign: str, odd: str, group: list[Publisher]) -> Item:
    old, new = group[0]
    many = len(group) > 1
    title = f"{plural(len(group), 'publisher')}, bound alike" if many else f"Publisher {new.name}"
    if sign == "removed":
        title = (
            f"{plural(len(group), 'publisher')} may ask for nothing any more"
            if many
            else f"Publisher {new.name} may ask for nothing any more"
        )
        before = tuple((one.name, _projects(was)) for was, one in group)
        return Item(
            sign,
            title,
            () if many else (("asked for", before[0][1]),),
            "",
            odd,
            before if many else (),
        )
    if sign == "changed" and old is not None:
        names = listed([_WORDS[name] for name in _changed(old, new)])
        title = (
            f"{plural(len(group), 'publisher')} change: {names}"
            if many
            else f"{title} changes: {names}"
        )
        facts = tuple(
            (_WORDS[name], f"{_text(old, name)} → {_text(new, name)}")
            for name in _changed(old, new)
        )
        return Item(sign, title, facts, "", odd, _each(group) if many else ())
    shown = _HOW if many else tuple(_WORDS)
    facts = tuple((_WORDS[name], _text(new, name)) for name in shown if getattr(new, name) != "")
    return Item(sign, title, facts, "", odd, _each(group) if many else ())


def _each(group: list[Publisher]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            new.name,
            "; ".join(f"{_WORDS[name]} {_text(new, name)}" for name in _OWN if getattr(new, name)),
        )
        for _old, new in group
    )


def _projects(body: PublisherBody | None) -> str:
    return ", ".join(body.projects) if body else "nothing"


def _text(body: PublisherBody, name: str) -> str:
    return value_text(getattr(body, name)) or "none"


def delegation_view(
    old: DelegationBody | None, new: DelegationBody, situation: Situation
) -> DifferenceView:
    """What a bot may ask for, before and after."""
    before = _delegation_facts(old, situation) if old else {}
    after = _delegation_facts(new, situation)
    subject = f"delegation {new.name}"
    if not new.projects:
        item = Item("removed", f"Delegation {new.name} ends", tuple(before.items()))
        return DifferenceView(item.title, subject, (item,))
    if old is None or not old.projects:
        item = Item("added", f"Delegation {new.name}", tuple(after.items()))
        return DifferenceView(f"A new delegation: {new.name}", subject, (item,))
    facts = tuple(
        (name, f"{before[name]} → {after[name]}") for name in after if before[name] != after[name]
    )
    names = listed([name for name, _value in facts]) or "nothing"
    item = Item("changed", f"Delegation {new.name} changes: {names}", facts)
    return DifferenceView(item.title, subject, (item,) if facts else ())


def _delegation_facts(body: DelegationBody, situation: Situation) -> dict[str, str]:
    return {
        "asks through the publisher": body.publisher,
        "who answers for it": situation.name(body.person),
        "projects": ", ".join(body.projects) or "none",
        "kinds of version": ", ".join(body.version_kinds) or "none",
        "releases": str(body.count),
        "from": _time(body.not_before),
        "until": _time(body.not_after),
    }


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return str(seconds)
