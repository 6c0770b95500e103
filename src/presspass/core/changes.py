"""What a statement changes, member by member, in words that everybody is shown: the press's notices, the page, the
command line. Computed from what is in force and from the statement alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from presspass.core.delegation import DelegationBody
from presspass.core.digests import JsonObject, sha256_hex
from presspass.core.effects import Effect
from presspass.core.log import LogBody
from presspass.core.publisher import WITH_REF, PublisherBody
from presspass.core.roster import Details, Person, Roster
from presspass.core.signer import SignerBody
from presspass.core.standing import StandingBody
from presspass.core.statement import ChainedBody, Kind, OriginBody, RosterBody, UpstreamBody

#: What is in force of a chain; None where nothing is.
Before = Callable[[Kind, str], ChainedBody | None]
#: From a commitment to the details behind it; None where they are not known.
Opened = Callable[[str], Details | None]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changes. `sign`: added, changed, removed (retired) or same; `what`: publisher, key, person, …

    `members`: (name, value before, value after), "" where there is none; `odd`: why people should look at it twice.
    """

    sign: str
    what: str
    name: str
    members: tuple[tuple[str, str, str], ...] = ()
    odd: tuple[str, ...] = ()


def value_text(value: object) -> str:
    """A member's value on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(
            " ".join(map(str, one)) if isinstance(one, list | tuple) else str(one) for one in value
        )
    return str(value)


def changes_of(
    before: Before, moves: Iterable[Effect], origin: str = "", opened: Opened = lambda _: None
) -> list[Change]:
    """Everything that these effects change; what is odd first, else in the order of the statement.

    `origin`: the one in force, "" where it is not known.
    """
    found: list[Change] = []
    for one in moves:
        old = before(one.kind, one.name)
        if isinstance(one.body, RosterBody | OriginBody):
            if isinstance(one.body, OriginBody):
                found.append(_moves_to(origin, one.body))
            known = old.roster if isinstance(old, RosterBody | OriginBody) else Roster(())
            found += roster_changes(known, one.body.roster, opened)
        else:
            found.append(_body_change(one.kind.value, one.name, old, one.body))
    return sorted(found, key=lambda change: not change.odd)


def _moves_to(origin: str, new: OriginBody) -> Change:
    members = (("origin", origin, new.origin), ("RP id", "", new.rp_id))
    return Change("changed", "address", "", members, (_KEYS_STAY_BEHIND,))


def _body_change(kind: str, name: str, old: ChainedBody | None, new: ChainedBody) -> Change:
    before, after = old.to_json() if old else {}, new.to_json()
    if isinstance(new, UpstreamBody):  # a commitment says nothing to people
        before, after = _without_commitment(before), _without_commitment(after)
        if isinstance(old, UpstreamBody) and old.credential != new.credential:
            before, after = {**before, "credential": "sealed"}, {**after, "credential": "another"}
    if isinstance(new, LogBody):
        before, after = _log_members(before), _log_members(after)
    if isinstance(new, SignerBody):
        before, after = _by_fingerprint(old), _by_fingerprint(new)
    if kind == Kind.POLICY.value:
        before, after = before.get("policy", {}), after["policy"]
    members = tuple(
        (member, value_text(before.get(member, "")), value_text(after[member]))
        for member in after
        if before.get(member) != after[member]
    )
    return Change(_sign(old, new), kind, name, members, odd_about(old, new))


def _by_fingerprint(body: ChainedBody | None) -> JsonObject:
    if not isinstance(body, SignerBody):
        return {}
    return {"scheme": body.scheme, "fingerprint": sha256_hex(body.public_key)}


def _log_members(value: JsonObject) -> JsonObject:
    """With what a recovery says as members of their own."""
    return {**value, **value.get("recovery", {}), "recovery": "yes" if "recovery" in value else ""}


def _without_commitment(body: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in body.items() if name != "credential"}


def _sign(old: ChainedBody | None, new: ChainedBody) -> str:
    if old == new:
        return "same"
    if isinstance(new, PublisherBody | DelegationBody | StandingBody) and not new.projects:
        return "removed"
    return "changed" if old and not _is_retired(old) else "added"


def _is_retired(body: ChainedBody) -> bool:
    return isinstance(body, PublisherBody | DelegationBody | StandingBody) and not body.projects


_SELF_HOSTED: Final = (
    "It may run on self-hosted runners, where earlier jobs may have left something behind."
)
_UNPROTECTED: Final = (
    "It may run on refs that are not protected at the forge: whoever may push may release."
)
_BOT: Final = (
    "It is a bot's or agent's: it may ask for nothing but what a delegation in force names."
)
_OTHER_IDS: Final = "It is another workload than the one in force, by its ids."


_KEYS_STAY_BEHIND: Final = (
    "Keys work at one address only: whoever has none at the new one cannot sign any more."
)
_COMPARE_LOG_KEY: Final = (
    "Whoever has this key can sign checkpoints of the ledger: "
    "compare it with what the press's host has printed."
)
_ENTRIES_ARE_LOST: Final = (
    "Entries that others have seen are given up. The ledger goes on under another name."
)


_NOBODY_LOOKS: Final = (
    "What it covers goes out without anybody looking at it first, for as long as it holds."
)


def odd_about(old: ChainedBody | None, new: ChainedBody) -> tuple[str, ...]:
    """Why people should look twice at what a statement says of one thing; not for what they have accepted before."""
    if isinstance(new, LogBody):
        return (_COMPARE_LOG_KEY, *((_ENTRIES_ARE_LOST,) if new.recovery else ()))
    if isinstance(new, StandingBody) and new.projects:
        return (_NOBODY_LOOKS,)
    if not isinstance(new, PublisherBody) or not new.projects:
        return ()
    found = []
    if isinstance(old, PublisherBody) and (old.issuer, old.ids) != (new.issuer, new.ids):
        found.append(_OTHER_IDS)
    if new.self_hosted:
        found.append(_SELF_HOSTED)
    if new.provider in WITH_REF and not new.protected_refs_only:
        found.append(_UNPROTECTED)
    if new.delegated_only:
        found.append(_BOT)
    known = odd_about(None, old) if isinstance(old, PublisherBody) else ()
    return tuple(one for one in found if one not in known)


def roster_changes(before: Roster, after: Roster, opened: Opened = lambda _: None) -> list[Change]:
    """Who comes and goes, with every key, and whose groups or details change."""
    found: list[Change] = []
    for id in sorted({person.id for person in (*before.people, *after.people)}):
        old, new = before.person(id), after.person(id)
        if old == new:
            continue
        if old is None or new is None:
            found.append(Change("added" if new else "removed", "person", id))
        else:
            found += _same_person(old, new, opened)
        found += [Change("added", "key", key.id, (("kind", "", key.kind), ("person", "", id)))
                  for key in (new.keys if new else ()) if before.key(key.id) is None]  # fmt: skip
        found += [Change("removed", "key", key.id, (("kind", key.kind, ""), ("person", id, "")))
                  for key in (old.keys if old else ()) if after.key(key.id) is None]  # fmt: skip
    return found


def _same_person(old: Person, new: Person, opened: Opened) -> list[Change]:
    """Groups, addresses and ids at forges and at the sign-in provider: these are how somebody is taken over."""
    members = []
    if old.groups != new.groups:
        members.append(("groups", *_shown(old.groups, new.groups)))
    if old.details != new.details:
        members += _details_members(opened(old.details), opened(new.details))
    return [Change("changed", "person", new.id, tuple(members))] if members else []


def _details_members(old: Details | None, new: Details | None) -> list[tuple[str, str, str]]:
    if new is None:
        return [("details", "", "name, addresses or ids change; which ones is not known here")]
    found = []
    for what in ("name", "addresses", "forge_ids"):
        was = "(not known here)" if old is None else getattr(old, what)
        becomes = getattr(new, what)
        if was != becomes:
            found.append((what, *_shown(was, becomes)))
    return found


def _shown(before: object, after: object) -> tuple[str, str]:
    return value_text(before) or "(none)", value_text(after) or "(none)"


_GLYPHS: Final = {"added": "+", "removed": "-", "changed": "~", "same": "="}


def change_lines(change: Change) -> list[str]:
    """A change as lines of text: the thing itself, then its members."""
    lines = [f"  {_GLYPHS[change.sign]} {change.what} {change.name}".rstrip()]
    lines += [f"      LOOK TWICE: {odd}" for odd in change.odd]
    for name, before, after in change.members:
        if change.sign == "removed" and not after:
            after = "(none)"
        value = f"{before} -> {after or '(none)'}" if before else after
        if value:
            lines.append(f"      {name}: {value}")
    return lines


#: What every publisher has of its own; publishers that differ in nothing else are told as one group.
_OWN: Final = frozenset(
    {"ids", "name", "projects", "repository", "repository_url", "workflow_sha256"}
)
_ALIKE_MIN: Final = 3


def all_lines(changes: Iterable[Change]) -> list[str]:
    """Changes as lines of text. Publishers that change alike are one group, with what each has of its own by name."""
    groups: dict[object, list[Change]] = {}
    for change in changes:
        groups.setdefault(_alike(change), []).append(change)
    lines: list[str] = []
    for group in groups.values():
        if len(group) < _ALIKE_MIN:
            lines += [line for change in group for line in change_lines(change)]
            continue
        first = group[0]
        shared = tuple(member for member in first.members if member[0] not in _OWN)
        lines += change_lines(
            Change(first.sign, f"{len(group)} publishers,", "alike in:", shared, first.odd)
        )
        lines += [f"      {change.name}: {_own_text(change)}" for change in group]
    return lines


def _alike(change: Change) -> object:
    own = any(name in _OWN for name, _before, _after in change.members)
    if change.what != Kind.PUBLISHER.value or (change.sign == "changed" and own):
        return (change.what, change.name)
    shared = tuple(member for member in change.members if member[0] not in _OWN)
    return (change.what, change.sign, change.odd, shared)


def _own_text(change: Change) -> str:
    own = [(name, after or before) for name, before, after in change.members if name in _OWN]
    return "; ".join(f"{name} {value}" for name, value in own if value and name != "name") or "-"
