"""What a statement does to the chains: the one place that knows which heads it moves, and to which digests.

1. A chained statement moves the head of its own chain to its own digest; genesis begins roster and policy. The chain of
   the roster is made of rosters and of origins, each of which brings the whole roster of the keys enrolled there.
2. A bundle moves one head for each member: roster and policy to the bundle's digest, which is what `heads` of later
   statements name; every named chain to the member's digest, since many of them stand in one bundle and a release
   names the one upstream and the one publisher that it means.
3. A member's digest is SHA-256 over the bundle's digest and the member's chain, so that nobody can choose it, and
   whoever has the bundle can tell which member it is.
4. What only takes away: keys, groups or people out of the roster, projects from a publisher or delegation, and nothing
   else. A standing approval that is signed anew never does: it holds for the publishers in force now, so that fewer
   words may let more through than before. One person ends it at once by a revocation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from presspass.core.delegation import DelegationBody
from presspass.core.digests import sha256_hex
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Person, Roster
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    BundleBody,
    ChainedBody,
    GenesisBody,
    Kind,
    OriginBody,
    PolicyBody,
    RosterBody,
    Statement,
    subject,
)

_MEMBER_TAG = "presspass/bundle-member/v1"


@dataclass(frozen=True, slots=True)
class Effect:
    """One head that moves: `digest` becomes the head of the chain of `kind` and `name`, in place of `previous`.

    `statement`: digest of the statement as a whole; `name` is "" for roster and policy; `previous` is None in a draft
    that names none yet.
    """

    statement: str
    kind: Kind
    name: str
    digest: str
    previous: str | None
    body: ChainedBody

    @property
    def chain(self) -> str:
        """The chain's name: `roster`, `policy`, `upstream:<name>`, …"""
        return chain_name(self.kind, self.name)


def chain_name(kind: Kind, name: str) -> str:
    """How a chain is called in the journal and in a member's digest."""
    return f"{kind.value}:{name}" if name else kind.value


def member_digest(bundle: str, kind: Kind, name: str) -> str:
    """The digest by which one named member of a bundle is known; `bundle`: the bundle's own."""
    return sha256_hex(f"{_MEMBER_TAG}\n{bundle}\n{chain_name(kind, name)}".encode())


def effects(statement: Statement) -> tuple[Effect, ...]:
    """Every head that the statement moves, in its own order; () for kinds that move none."""
    body = statement.body
    if isinstance(body, GenesisBody):
        own = statement.digest
        beginning = (RosterBody(body.roster), PolicyBody(body.policy))
        return tuple(_effect(one, own, HEAD_AT_GENESIS) for one in beginning)
    if isinstance(body, BundleBody):
        bundle = statement.digest
        return tuple(_member(bundle, one.body, one.previous) for one in body.members)
    if isinstance(body, ChainedBody):
        return (_effect(body, statement.digest, statement.previous),)
    return ()


def _effect(body: ChainedBody, digest: str, previous: str | None) -> Effect:
    return Effect(digest, *subject(body), digest, previous, body)


def _member(bundle: str, body: ChainedBody, previous: str) -> Effect:
    kind, name = subject(body)
    digest = member_digest(bundle, kind, name) if name else bundle
    return Effect(bundle, kind, name, digest, previous, body)


def roster_after(statement: Statement) -> Roster | None:
    """The whole roster that comes into force with the statement; None where it leaves the roster as it is."""
    found = (one.body for one in effects(statement))
    return next((body.roster for body in found if isinstance(body, RosterBody | OriginBody)), None)


def only_takes_away(before: ChainedBody | None, after: ChainedBody) -> bool:
    """Whether nobody may do more after the change than before it, whatever else is in force."""
    match before, after:
        case RosterBody(), RosterBody():
            return all(_gains_nothing(before.roster, one) for one in after.roster.people)
        case PublisherBody(), PublisherBody():
            return set(after.projects) <= set(before.projects) and after == replace(
                before, projects=after.projects
            )
        case DelegationBody(), DelegationBody():
            return set(after.projects) <= set(before.projects) and after == replace(
                before, projects=after.projects
            )
        case _:
            return False


def _gains_nothing(before: Roster, person: Person) -> bool:
    """No key, no group (a role is one), and no other details: an id at the sign-in provider is one of those."""
    old = before.person(person.id)
    return (
        old is not None
        and set(person.keys) <= set(old.keys)
        and set(person.groups) <= set(old.groups)
        and person == replace(old, keys=person.keys, groups=person.groups)
    )
