"""From what is in force and what a file wants to the changes that lead there, and back. Pure but for salts.

What a person's keys are is never in the file: who has none yet is invited; whose key was enrolled and waits comes in
with the bundle, under the fingerprint that approvers compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from presspass.cli.declared import (
    FORMAT,
    Wanted,
    WantedDelegation,
    WantedPerson,
    refuse_file,
    written_delegation,
    written_policy,
    written_publishers,
    written_upstreams,
)
from presspass.cli.press_room import Enrolled
from presspass.cli.yaml_file import dump, nearest
from presspass.core.delegation import DelegationBody
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import MEMBERS_PER_BUNDLE_MAX
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import (
    Kind,
    MemberBody,
    PolicyBody,
    RosterBody,
    UpstreamBody,
    subject,
)
from presspass.verify.chain import Chain


@dataclass(frozen=True, slots=True)
class InForce:
    """What holds now. `details`: by commitment, as far as this host knows them; `waiting`: keys nobody has let in."""

    chain: Chain
    details: Mapping[str, Details] = field(default_factory=dict)
    waiting: tuple[Enrolled, ...] = ()

    def name(self, person: Person) -> str:
        """The person's name, "" where it is not known here."""
        known = self.details.get(person.details)
        return known.name if known else ""

    def publishers(self) -> list[PublisherBody]:
        """Those that are not retired."""
        return [body for _digest, body in self.chain.publishers.values() if body.projects]

    def delegations(self) -> list[DelegationBody]:
        """Those that are not ended."""
        return [body for _digest, body in self.chain.delegations.values() if body.projects]


@dataclass(frozen=True, slots=True)
class Plan:
    """What leads to the file. `bodies`: the members of the bundle; `details`: what the gate has to keep for its roster;
    `invited`: who has no key yet; `secrets`: names of the upstreams whose credential must be entered.
    """

    bodies: tuple[MemberBody, ...] = ()
    details: tuple[Details, ...] = ()
    invited: tuple[WantedPerson, ...] = ()

    @property
    def nothing(self) -> bool:
        return not self.bodies and not self.invited

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(body.name for body in self.bodies if isinstance(body, UpstreamBody))


def plan(wanted: Wanted, now: InForce, new_salt: Callable[[], str]) -> Plan:
    """The changes from `now` to `wanted`; refuses what cannot be done, with the line."""
    roster, details, invited = _roster(wanted, now, new_salt)
    bodies: list[MemberBody] = []
    if roster != now.chain.roster:
        bodies.append(RosterBody(roster))
    if wanted.rules is not None:
        policy = replace(now.chain.policy, **wanted.rules)  # type: ignore[arg-type]  # read as the policy's own
        if policy != now.chain.policy:
            bodies.append(PolicyBody(policy))
    bodies += _upstreams(wanted, now)
    bodies += _publishers(wanted, now)
    bodies += _delegations(wanted, now, roster, details)
    if len(bodies) > MEMBERS_PER_BUNDLE_MAX:
        raise refuse_file(
            f"{len(bodies)} changes are more than one bundle holds ({MEMBERS_PER_BUNDLE_MAX}).",
            "Apply a part of the file first, say half of the new publishers.",
        )
    kept = [one for one in details.values() if one.commitment not in now.details]
    return Plan(tuple(bodies), tuple(kept), invited)


# --- people -------------------------------------------------------------------------------------------------------


def _roster(
    wanted: Wanted, now: InForce, new_salt: Callable[[], str]
) -> tuple[Roster, dict[str, Details], tuple[WantedPerson, ...]]:
    """The roster that is wanted, everybody's details by id as far as known, and who has no key."""
    known = {
        one.id: now.details[one.details]
        for one in now.chain.roster.people
        if one.details in now.details
    }
    if wanted.people is None:
        return now.chain.roster, known, ()
    people: dict[str, Person] = {}
    details: dict[str, Details] = {}
    invited: list[WantedPerson] = []
    seen: dict[tuple[str, str], int] = {}
    for one in wanted.people:
        _refuse_same(one, seen)
        old = _person_now(one, now)
        if old is None:
            invited.append(one)
            continue
        if old.id in people:
            one.at.refuse(f"{one.name or one.id} is the person {old.id}, who stands there already.")
        new = _details(one, now.details.get(old.details), new_salt)
        if new is not None:
            details[old.id] = new
        commitment = new.commitment if new else old.details
        people[old.id] = replace(old, details=commitment, groups=one.groups)
    return Roster(tuple(people[id] for id in sorted(people))), details, tuple(invited)


def _refuse_same(one: WantedPerson, seen: dict[tuple[str, str], int]) -> None:
    mark = (one.name, one.id)
    if mark in seen:
        one.at.refuse(
            f"{one.name or one.id} stands there twice; see line {seen[mark]}.",
            "Two people of one name are told apart by their ids (`id:`).",
        )
    seen[mark] = one.at.line


def _person_now(one: WantedPerson, now: InForce) -> Person | None:
    """The person in the roster, or as enrolled and waiting; None for who has no key at all."""
    roster = now.chain.roster
    if one.id:
        found = roster.person(one.id)
        if found is None and not one.name:
            one.at.refuse(f"There is nobody with the id {one.id} in the roster.")
        people = [found] if found else []
    else:
        people = [person for person in roster.people if now.name(person) == one.name]
    if len(people) > 1:
        ids = ", ".join(person.id for person in people)
        one.at.refuse(f"Several people are called {one.name!r}.", f"Say which by `id`: {ids}.")
    waiting = [key for key in now.waiting if _is_meant(one, people, key)]
    for key in waiting:
        person = people[0] if people else Person(key.person, key.details, key.groups, ())
        keys = {each.id: each for each in (*person.keys, key.key)}
        people = [replace(person, keys=tuple(keys[id] for id in sorted(keys)))]
    return people[0] if people else None


def _is_meant(one: WantedPerson, people: Sequence[Person], key: Enrolled) -> bool:
    if people:
        return False  # another key of somebody who is in already is asked for by itself
    return key.person == one.id if one.id else key.name == one.name


def _details(
    one: WantedPerson, known: Details | None, new_salt: Callable[[], str]
) -> Details | None:
    """What the roster shall commit to; None where nothing is known and nothing is said."""
    if known is None and not one.name:
        return None
    same = known is not None and (
        (one.name or known.name, one.addresses, one.forge_ids)
        == (known.name, known.addresses, known.forge_ids)
    )
    if same:
        return known
    name = one.name or (known.name if known else "")
    return Details(name, one.addresses, one.forge_ids, new_salt())


# --- the rest -----------------------------------------------------------------------------------------------------


def _upstreams(wanted: Wanted, now: InForce) -> list[MemberBody]:
    if wanted.upstreams is None:
        return []
    names = {one.body.name for one in wanted.upstreams}
    for name in sorted(set(now.chain.upstreams) - names):
        raise Refusal(
            Code.REQUEST_UNSUPPORTED,
            f"The upstream {name!r} is in force and not in the file; an upstream cannot be taken away.",
            "Leave it in the file; without a publisher or token for it nothing goes there.",
        )
    found: list[MemberBody] = []
    for one in wanted.upstreams:
        old = now.chain.upstreams.get(one.body.name)
        if old is None or replace(old[1], credential=one.body.credential) != one.body:
            found.append(one.body)
    return found


def _publishers(wanted: Wanted, now: InForce) -> list[MemberBody]:
    if wanted.publishers is None:
        return []
    upstreams = set(now.chain.upstreams) | {one.body.name for one in wanted.upstreams or ()}
    found: list[MemberBody] = []
    for one in wanted.publishers:
        if now.chain.in_force(Kind.PUBLISHER, one.body.name) == one.body:
            continue
        if one.body.upstream not in upstreams:
            what = f"The publisher {one.body.name!r} names an upstream {one.body.upstream!r} that there is not."
            one.at.refuse(what, nearest(one.body.upstream, upstreams))
        found.append(one.body)
    names = {one.body.name for one in wanted.publishers}
    retired = [replace(body, projects=()) for body in now.publishers() if body.name not in names]
    return _in_order([*found, *retired])


def _delegations(
    wanted: Wanted, now: InForce, roster: Roster, details: Mapping[str, Details]
) -> list[MemberBody]:
    if wanted.delegations is None:
        return []
    publishers = {body.name for body in now.publishers()}
    if wanted.publishers is not None:
        publishers = {one.body.name for one in wanted.publishers}
    found: list[MemberBody] = []
    for one in wanted.delegations:
        old = now.chain.in_force(Kind.DELEGATION, one.body.name)
        if one.body == old:
            continue
        body = replace(one.body, person=_responsible(one, roster, details))
        if body == old:
            continue
        if body.publisher not in publishers:
            what = f"The delegation {body.name!r} names a publisher that there is not."
            one.at.refuse(what, nearest(body.publisher, publishers))
        found.append(body)
    names = {one.body.name for one in wanted.delegations}
    ended = [replace(body, projects=()) for body in now.delegations() if body.name not in names]
    return _in_order([*found, *ended])


def _responsible(one: WantedDelegation, roster: Roster, details: Mapping[str, Details]) -> str:
    """The id of the person whom a delegation names."""
    wanted = one.body.person
    if roster.person(wanted) is not None:
        return wanted
    named = {id: known.name for id, known in details.items() if roster.person(id)}
    found = [id for id, name in named.items() if name == wanted]
    if len(found) != 1:
        why = "Several people are" if found else "Nobody in the roster is"
        one.at.refuse(f"{why} called {wanted!r}.", nearest(wanted, named.values()))
    return found[0]


def _in_order(bodies: Sequence[MemberBody]) -> list[MemberBody]:
    return sorted(bodies, key=lambda body: subject(body)[1])


# --- the way back -------------------------------------------------------------------------------------------------

_HEAD = """\
# What is in force at this gate. `presspass apply` asks people for what differs from it.
# A section that is left out stays as it is; one that is there is whole.
"""


def exported(now: InForce) -> str:
    """The file that says what is in force."""
    people = [_written_person(one, now) for one in now.chain.roster.people]
    people.sort(key=lambda one: (one.get("name", ""), one.get("id", "")))
    defaults, publishers = written_publishers(now.publishers())
    groups = sorted({group for one in now.chain.roster.people for group in one.groups})
    whole: JsonObject = {
        "presspass": FORMAT,
        "groups": groups,
        "people": people,
        "tiers": written_policy(now.chain.policy),
        "upstreams": written_upstreams([body for _digest, body in now.chain.upstreams.values()]),
        "defaults": {"publishers": defaults},
        "publishers": publishers,
        "delegations": [
            written_delegation(body, _called(body.person, now))
            for body in sorted(now.delegations(), key=lambda body: body.name)
        ],
    }
    if not defaults:
        del whole["defaults"]
    return _HEAD + dump(whole)


def _written_person(person: Person, now: InForce) -> JsonObject:
    """By name; the id stands there where the name is not known or not the only one."""
    known = now.details.get(person.details)
    called = _called(person.id, now)
    found: JsonObject = {} if known is None else {"name": known.name}
    if called == person.id:
        found["id"] = person.id
    if known is not None and known.addresses:
        found["addresses"] = list(known.addresses)
    if known is not None and known.forge_ids:
        found["forge_ids"] = list(known.forge_ids)
    if person.groups:
        found["groups"] = list(person.groups)
    return found


def _called(id: str, now: InForce) -> str:
    """The name of a person where no other in the roster has it, and it is nobody's id; else the id."""
    roster = now.chain.roster
    person = roster.person(id)
    name = now.name(person) if person else ""
    others = [one.id for one in roster.people if name in (now.name(one), one.id)]
    return name if name and others == [id] else id
