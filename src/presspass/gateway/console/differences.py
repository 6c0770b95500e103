"""What a statement other than a release changes, in words: against what is in force.

Pure. Every line is derived from two signed values; the names of people come from the gateway and are only names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

from presspass.core.approving import Approving
from presspass.core.changes import changes_of
from presspass.core.delegation import DelegationBody
from presspass.core.digests import sha256_hex
from presspass.core.effects import chain_name, effects
from presspass.core.log import LogBody
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.quorum import Electorate
from presspass.core.roster import Key, Person, Roster
from presspass.core.signer import SignerBody
from presspass.core.standing import StandingBody
from presspass.core.statement import (
    BundleBody,
    ChainedBody,
    FreezeBody,
    Kind,
    OriginBody,
    PolicyBody,
    RosterBody,
    Statement,
    UpstreamBody,
    subject,
)
from presspass.gateway.console.ballots import KIND_WORDS
from presspass.gateway.console.bindings import (
    Publisher,
    delegation_view,
    publisher_items,
    publisher_view,
    publishers_headline,
)
from presspass.gateway.console.items import DifferenceView, Item
from presspass.gateway.console.models import RequestFacts, Situation
from presspass.gateway.console.standings import standing_view
from presspass.gateway.console.text import duration, listed, plural
from presspass.store.journal_view import Narrowing, is_open_target


def view(facts: RequestFacts, situation: Situation) -> DifferenceView:
    """The effect of `facts`' statement on what is in force now."""
    statement = Statement.from_bytes(facts.ballot.statement)
    body = statement.body
    if isinstance(body, FreezeBody):
        return _freeze(body, facts, situation)
    if isinstance(body, BundleBody):
        bodies = [member.body for member in body.members]
        return _with_lock(_bundle(facts, bodies, situation), facts, bodies)
    if isinstance(body, ChainedBody):
        return _with_lock(_one(facts, body, situation), facts, [body])
    return DifferenceView(
        f"A {statement.kind.value} statement is not shown on this page.", statement.kind.value, ()
    )


def _one(facts: RequestFacts, body: ChainedBody, situation: Situation) -> DifferenceView:
    """The effect of one chained body."""
    before = _before(facts, body)
    match before, body:
        case RosterBody(), RosterBody():
            return _roster(before.roster, body, situation, _policy_before(facts))
        case RosterBody(), OriginBody():
            return _origin(before.roster, body, situation, _policy_before(facts))
        case PolicyBody(), PolicyBody():
            return policy_view(before.policy, body.policy)
        case ((UpstreamBody() | None), UpstreamBody()):
            return upstream_view(before, body)
        case ((PublisherBody() | None), PublisherBody()):
            return publisher_view(before, body)
        case ((DelegationBody() | None), DelegationBody()):
            return delegation_view(before, body, situation)
        case ((StandingBody() | None), StandingBody()):
            return standing_view(before, body)
        case ((SignerBody() | None), SignerBody()):
            return _signer(before, body)
        case (_, LogBody()):
            return _log(facts, body)
    return DifferenceView("What this changes is not known here.", "", ())


def _before(facts: RequestFacts, body: ChainedBody) -> ChainedBody | None:
    kind, name = subject(body)
    if kind is Kind.ROSTER:
        return RosterBody(_roster_before(facts))
    if kind is Kind.POLICY:
        return PolicyBody(_policy_before(facts))
    return facts.before.get(chain_name(kind, name))


def _roster_before(facts: RequestFacts) -> Roster:
    """What the statement is compared with where it changes the roster; else the one in force."""
    found = facts.before.get(chain_name(Kind.ROSTER, ""))
    if isinstance(found, RosterBody | OriginBody):
        return found.roster
    return facts.ballot.electorate.roster_now


def _policy_before(facts: RequestFacts) -> Policy:
    found = facts.before.get(chain_name(Kind.POLICY, ""))
    return found.policy if isinstance(found, PolicyBody) else facts.ballot.electorate.policy


def _bundle(
    facts: RequestFacts, bodies: Sequence[ChainedBody], situation: Situation
) -> DifferenceView:
    """Many changes on one page: publishers by what they have in common, everything else by itself; odd things first."""
    pairs: list[Publisher] = []
    parts, items = [], []
    for body in bodies:
        if isinstance(body, PublisherBody):
            old = _before(facts, body)
            pairs.append((old if isinstance(old, PublisherBody) else None, body))
            continue
        shown = _one(facts, body, situation)
        about = f"{shown.subject.removeprefix('the ').capitalize()}: "
        changed = [item for item in shown.items if item.sign != "same"]
        items += [replace(item, title=_under(about, item.title)) for item in changed]
        if changed:
            parts.append(shown.headline)
    items += publisher_items(pairs)
    bound = publishers_headline(pairs)
    if len(bound) + len(parts) > _HEADLINE_PARTS_MAX:
        others = "other thing changes" if len(parts) == 1 else "other things change"
        parts = [f"{len(parts)} {others if bound else 'things change'}"] if parts else []
    headline = listed([*bound, *parts]) or "Nothing changes"
    items.sort(key=lambda item: not item.odd)
    return DifferenceView(headline, "several things at once", tuple(items))


def _under(about: str, title: str) -> str:
    """The title of an item that no longer stands on a page of its own."""
    return title if about.split()[-1].rstrip(":") in title else about + title


def _with_lock(
    shown: DifferenceView, facts: RequestFacts, bodies: Sequence[ChainedBody]
) -> DifferenceView:
    """Says first, in red, when nobody could change anything any more after this."""
    rosters = [body.roster for body in bodies if isinstance(body, RosterBody | OriginBody)]
    policies = [body.policy for body in bodies if isinstance(body, PolicyBody)]
    if not rosters and not policies:
        return shown
    roster = rosters[0] if rosters else _roster_before(facts)
    policy = policies[0] if policies else _policy_before(facts)
    after = Electorate(Kind.ROSTER, roster, roster, policy, "")
    if after.reachable():
        return shown
    odd = (
        f"{after.needed()} must sign a change then, and {after.eligible()} could. Only the offline recovery key would "
        "help, after 72 hours."
    )
    item = Item("changed", "Nothing can be approved any more after this", (), "", odd)
    return replace(shown, items=(item, *shown.items))


_HEADLINE_PARTS_MAX = 3

# --- roster -------------------------------------------------------------------------------------------------------


def _roster(now: Roster, body: RosterBody, situation: Situation, policy: Policy) -> DifferenceView:
    items: list[Item] = []
    news: list[str] = []
    ids = sorted({person.id for person in (*now.people, *body.roster.people)})
    for person_id in ids:
        old, new = now.person(person_id), body.roster.person(person_id)
        if old != new:
            found = _person(old, new, situation, policy)
            items += found
            news.append(found[0].title)
    items.sort(key=lambda item: not item.odd)
    if body.recovery:
        note = "The offline recovery key asks for this: it waits 72 hours, and one veto ends it."
        items.insert(0, Item("changed", "Recovery", (), "", note))
    few = 0 < len(news) <= _HEADLINE_PARTS_MAX
    headline = listed(news) if few else f"{plural(len(news), 'person', 'people')} would change"
    return DifferenceView(headline, "the roster", tuple(items))


def _origin(now: Roster, body: OriginBody, situation: Situation, policy: Policy) -> DifferenceView:
    """The address first, then every key that comes and goes with it."""
    note = "Passkeys work at one address only. Whoever has no key there cannot sign any more."
    address = Item("changed", "Address", (("after", body.origin), ("RP id", body.rp_id)), "", note)
    keys = _roster(now, RosterBody(body.roster), situation, policy).items
    headline = f"This gate moves to {body.origin}"
    return DifferenceView(headline, "the address and the roster", (address, *keys))


def _person(
    old: Person | None, new: Person | None, situation: Situation, policy: Policy
) -> list[Item]:
    known = old or new
    name = situation.name(known.id) if known else ""
    items = [_key_item("added", key, name, policy) for key in _keys_beyond(new, old)]
    items += [_key_item("removed", key, name, policy) for key in _keys_beyond(old, new)]
    if old is None and new is not None:
        who = (("id", new.id), ("groups", ", ".join(new.groups) or "none"))
        items.insert(0, Item("added", f"{name} joins the roster", who))
    elif new is None and old is not None:
        items.insert(0, Item("removed", f"{name} leaves the roster", (("id", old.id),)))
    elif old is not None and new is not None:
        items += _same_person(old, new, name)
    return items


def _same_person(old: Person, new: Person, name: str) -> list[Item]:
    items = []
    if old.groups != new.groups:
        groups = (
            ("before", ", ".join(old.groups) or "none"),
            ("after", ", ".join(new.groups) or "none"),
        )
        items.append(Item("changed", f"{name}'s groups change", groups))
    if old.details != new.details:
        note = "Name, addresses or forge ids change. The roster holds only a commitment to them: ask what changes."
        items.append(Item("changed", f"{name}'s details change", (), "", note))
    return items


def _keys_beyond(one: Person | None, other: Person | None) -> list[Key]:
    """The keys that `one` has and `other` has not."""
    known = {key.id for key in other.keys} if other else set()
    return [key for key in (one.keys if one else ()) if key.id not in known]


def _key_item(sign: str, key: Key, name: str, policy: Policy) -> Item:
    odd = ""
    if sign == "added":
        odd = (
            "A software key verifies nobody: whoever can read its file can sign."
            if key.is_software
            else ""
        )
    title = f"{name} gets a key" if sign == "added" else f"{name} loses a key"
    kind = KIND_WORDS[key.kind] + (", synced between devices" if key.backed_up else "")
    facts = [("kind", kind)]
    if sign == "added" and policy.key_wait_s is not None and policy.new_key_wait_s:
        wait = duration(policy.new_key_wait_s)
        facts.append(("counts", f"{wait} after the press first saw this, at the earliest"))
    return Item(sign, title, tuple(facts), key.id, odd)


# --- policy -------------------------------------------------------------------------------------------------------


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _seconds(value: object) -> str:
    return duration(value if isinstance(value, int) else 0)


def _key_wait(value: object) -> str:
    return (
        "no time of its own, and its owner's approval counts" if value is None else _seconds(value)
    )


def _rules(value: object) -> str:
    return "none" if value is None else f"{value}, to be read at /api/v1/rules/{value}"


def _cap(value: object) -> str:
    return "as many as there are" if value is None else str(value)


def _times(value: object) -> str:
    held = value if isinstance(value, tuple) else ()
    return "; ".join(one.text for one in held) or "never"


def _escalates(value: object) -> str:
    return "never" if value is None else _seconds(value)


def _whom(value: object) -> str:
    return str(value) or "everybody"


def _approving(value: object) -> str:
    """The members that are set, in the words of the policy file."""
    found = value.to_json() if isinstance(value, Approving) else {}
    parts = []
    for name, one in sorted(found.items()):
        if isinstance(one, dict):
            one = ", ".join(f"{key} {number}" for key, number in sorted(one.items()))
        text = duration(one) if name.endswith("_s") else str(one)
        parts.append(f"{name.removesuffix('_s')}: {text}")
    return "; ".join(parts) or "nobody more than the number"


#: Per field: what it is, how its value reads, and the direction that lets more through ("" where there is none).
_POLICY_FIELDS: dict[str, tuple[str, Callable[[object], str], str]] = {
    "profile": ("Profile", str, ""),
    "approvals": ("Signatures needed for a release", str, "down"),
    "approval_life_s": ("A request lives for", _seconds, "up"),
    "quiet_period_s": ("A set closes by itself after", _seconds, ""),
    "veto_window_s": ("Time to veto after the last signature", _seconds, "down"),
    "software_keys": ("Software keys count", _yes, "up"),
    "synced_passkeys": ("Synced passkeys count", _yes, "up"),
    "key_wait_s": ("A new key waits for", _key_wait, "down"),
    "approving": ("Who approves, and when more must", _approving, ""),
    "rules": ("Rules beyond the quorum", _rules, ""),
    "freeze_windows": ("Releases are held every week", _times, "fewer"),
    "holidays": ("Releases are held on", _times, "fewer"),
    "escalate_after_s": ("Without a decision, others are told after", _escalates, ""),
    "escalate_to": ("Told then", _whom, ""),
    "burst_cap": ("Releases asked for in an hour, at most", _cap, "up"),
}


_LOOSER = "This lets more through than the rule in force."


def policy_view(now: Policy, new: Policy) -> DifferenceView:
    """What another policy changes, what lets more through first; what stays is among it."""
    items = []
    for one in fields(Policy):
        before, after = getattr(now, one.name), getattr(new, one.name)
        what, words, loosening = _POLICY_FIELDS[one.name]
        if before == after:
            items.append(Item("same", what, (("stays", words(before)),)))
            continue
        odd = _looser(one.name, before, after, loosening)
        items.append(
            Item("changed", what, (("before", words(before)), ("after", words(after))), "", odd)
        )
    items.sort(key=lambda item: (not item.odd, item.sign == "same"))
    changed = sum(item.sign == "changed" for item in items)
    looser = sum(bool(item.odd) for item in items)
    headline = f"{plural(changed, 'rule')} {'changes' if changed == 1 else 'change'}"
    headline += (
        f", {looser} of them {'lets' if looser == 1 else 'let'} more through" if looser else ""
    )
    return DifferenceView(headline, "the policy", tuple(items))


def _looser(name: str, before: object, after: object, loosening: str) -> str:
    if name == "profile":
        return "One person with two keys would be enough." if after == "solo" else ""
    if name == "approving" and before != Approving():
        return "Other people are asked then: compare the two, or what is no longer asked is let through."
    if name == "rules" and before is not None:
        return "Other rules are asked then: read them, or what they no longer ask is let through."
    if name in ("key_wait_s", "burst_cap") and after is None:
        return _LOOSER
    if loosening == "fewer" and isinstance(before, tuple) and isinstance(after, tuple):
        return "" if set(before) <= set(after) else _LOOSER
    if not isinstance(before, int) or not isinstance(after, int):
        return ""
    looser = (loosening == "up" and after > before) or (loosening == "down" and after < before)
    return _LOOSER if looser else ""


# --- upstream -----------------------------------------------------------------------------------------------------

_UPSTREAM_FIELDS = {
    "upload_url": "where uploads go",
    "index_url": "where they are read back",
    "username": "user name",
    "protocol": "protocol",
    "mode": "mode",
}


def _signer(now: SignerBody | None, new: SignerBody) -> DifferenceView:
    facts: tuple[tuple[str, str], ...] = (("signs by", new.scheme),)
    if now is not None:
        facts = (("key before", sha256_hex(now.public_key)), *facts)
    odd = "Whoever has this key can attest: compare its fingerprint with whoever keeps it."
    sign = "added" if now is None else "changed"
    title, key = "The key that signs attestations", sha256_hex(new.public_key)
    item = Item(sign, title, facts, key, odd)
    return DifferenceView("Another key signs attestations", f"signer {new.name}", (item,))


def _log(facts: RequestFacts, new: LogBody) -> DifferenceView:
    """The key, and of a recovery also what is kept and what is given up."""
    chain = chain_name(Kind.LOG, "")
    (change,) = changes_of(
        lambda _kind, _name: facts.before.get(chain),
        effects(Statement.from_bytes(facts.ballot.statement)),
    )
    members = [(name, value) for name, _before, value in change.members if name != "key" and value]
    item = Item("changed", "The log", tuple(members), new.key, " ".join(change.odd))
    title = "The log is recovered" if new.recovery else "Another key signs the log's checkpoints"
    return DifferenceView(title, f"log {new.origin}", (item,))


def upstream_view(now: UpstreamBody | None, new: UpstreamBody) -> DifferenceView:
    """A new registry, or what changes about one."""
    subject = f"upstream {new.name}"
    if now is None:
        facts = tuple((words, getattr(new, name)) for name, words in _UPSTREAM_FIELDS.items())
        item = Item(
            "added",
            f"Upstream {new.name}",
            (*facts, ("credential", "sealed at the press")),
            "",
            _plain_http(new),
        )
        return DifferenceView(f"A new upstream: {new.name}", subject, (item,))
    items = []
    for name, words in _UPSTREAM_FIELDS.items():
        before, after = getattr(now, name), getattr(new, name)
        moved = f"Releases would go to another address: {_host(before)} becomes {_host(after)}."
        if before == after:
            items.append(Item("same", words.capitalize(), (("stays", before),)))
        else:
            odd = moved if name == "upload_url" else _plain_http(new) if name == "index_url" else ""
            items.append(
                Item("changed", words.capitalize(), (("before", before), ("after", after)), "", odd)
            )
    if now.credential != new.credential:
        note = "Another credential was entered at the press; its value is never shown."
        items.append(Item("changed", "Credential", (("is replaced", note),)))
    items.sort(key=lambda item: (not item.odd, item.sign == "same"))
    changed = [item.title.lower() for item in items if item.sign == "changed"]
    headline = f"Upstream {new.name} changes: {listed(changed) or 'nothing'}"
    return DifferenceView(headline, subject, tuple(items))


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _plain_http(body: UpstreamBody) -> str:
    plain = [url for url in (body.upload_url, body.index_url) if url.startswith("http://")]
    return "Plain http: right for a registry on the gate's own machine only." if plain else ""


# --- freeze -------------------------------------------------------------------------------------------------------


_STOP_WORDS = {
    "person": "Revoked: the person {}",
    "publisher": "Revoked: the publisher {}",
    "delegation": "Revoked: the delegation {}",
    "standing": "Ended: the standing approval {}",
    "limited": "Limited: the publisher {}",
    "pass": "Revoked: the pass {}",
    "workload": "Revoked: the workload {}",
    "run": "Revoked: the run {}",
    "approval": "Revoked: the approval {}",
}


def narrowing_words(one: Narrowing) -> str:
    """One narrowing in a few words: "Frozen: acme-http", "Revoked: the publisher acme-ci", "Vetoed: request 0123…"."""
    if one.what == "veto" and is_open_target(one.target):
        return f"Vetoed: what was open of {one.target.partition(':')[2] or 'everything'}"
    if one.what == "veto":
        return f"Vetoed: request {one.target[:16]}"
    if one.what in _STOP_WORDS:
        target = one.target[:16] if len(one.target) == 64 else one.target
        return _STOP_WORDS[one.what].format(target)
    return f"Frozen: {one.target or 'everything'}"


def _freeze(body: FreezeBody, facts: RequestFacts, situation: Situation) -> DifferenceView:
    reason = (("reason", body.reason or "none given"),)
    if body.action == "set":
        what = body.project or "everything"
        return DifferenceView(
            f"Freeze {what}",
            "what is frozen",
            (
                Item("added", f"Nothing of {what} is published", reason),
                *(
                    (Item("removed", f"What is open of {what} is vetoed"),)
                    if body.deny_open
                    else ()
                ),
            ),
        )
    known = {one.id: one for one in (*facts.narrowings, *situation.narrowings)}
    items = []
    for wanted in body.narrowings:
        one = known.get(wanted)
        if one is None:
            items.append(Item("same", f"Freeze {wanted[:16]}", (("now", "not known here"),)))
            continue
        whose = (
            ("set by", situation.name(one.by) or "unknown"),
            ("because", one.reason or "no reason given"),
        )
        items.append(Item("removed", narrowing_words(one), whose))
    items.append(Item("changed", "Why it should end", reason))
    ended = [known[one] for one in body.narrowings if one in known]
    few, frozen = 0 < len(ended) <= _HEADLINE_PARTS_MAX, all(one.what == "freeze" for one in ended)
    if few and frozen:
        what = f"the freeze of {listed([one.target or 'everything' for one in ended])}"
    elif few:
        what = f"what was stopped: {listed([narrowing_words(one) for one in ended])}"
    else:
        what = plural(len(body.narrowings), "freeze" if frozen else "stop")
    return DifferenceView(
        f"End {what}", "what is frozen" if frozen else "what is stopped", tuple(items)
    )
