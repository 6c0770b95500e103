"""What statements change about standing approvals, in words. Pure: values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime

from presspass.core.changes import odd_about
from presspass.core.standing import StandingBody, bounds
from presspass.gateway.console.items import DifferenceView, Item
from presspass.gateway.console.text import listed


def standing_view(old: StandingBody | None, new: StandingBody) -> DifferenceView:
    """What may go out without a signature of its own, before and after; all that holds after is shown."""
    subject = f"standing approval {new.name}"
    if not new.projects:
        item = Item("removed", f"The standing approval {new.name} ends", _facts(old) if old else ())
        return DifferenceView(item.title, subject, (item,))
    odd = " ".join(odd_about(old, new))
    if old is None or not old.projects:
        item = Item("added", f"Standing approval {new.name}", _facts(new), odd=odd)
        return DifferenceView(f"A new standing approval: {new.name}", subject, (item,))
    before = dict(_facts(old))
    changed = [name for name, value in _facts(new) if before[name] != value]
    facts = tuple(
        (name, f"{before[name]} → {value}" if name in changed else value)
        for name, value in _facts(new)
    )
    title = f"The standing approval {new.name} changes: {listed(changed) or 'nothing'}"
    return DifferenceView(title, subject, (Item("changed", title, facts, odd=odd),))


def _facts(body: StandingBody) -> tuple[tuple[str, str], ...]:
    return (*bounds(body), ("until", _time(body.not_after)))


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return str(seconds)
