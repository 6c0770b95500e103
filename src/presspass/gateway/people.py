"""People as the gateway knows them: ids, names and addresses behind commitments, and the links by which they enrol.

A roster carries ids and commitments only. Names are looked up here: in what invitations said, and in what the press
has admitted.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject, canonical, parse_canonical
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    ENROLMENT_LINK_S,
    GROUPS_PER_PERSON_MAX,
    JSON_BODY_BYTES_MAX,
    URL_CHARS_MAX,
)
from presspass.core.roster import Details
from presspass.core.strict import Members
from presspass.gateway import tokens
from presspass.gateway.gate import Gate
from presspass.store import journal_view
from presspass.store.gateway_tables import ENROLMENT_LINK, PERSON_DETAILS

_ASK_AGAIN = "Ask the operator of the gate for a new link."


@dataclass(frozen=True, slots=True)
class Invitee:
    """Whom a link is for. `details`: commitment to name and addresses; `origin`: of a move, "" for the one in force."""

    link_hash: str
    person: str
    details: str
    groups: tuple[str, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class _Invitation:
    person: str
    details: Details
    groups: tuple[str, ...]
    at_next: bool


def invite(gate: Gate, value: JsonObject) -> tuple[str, int]:
    """Makes a link for the person that `value` describes; (its secret, until when in ms).

    `value`: `{person, name, addresses, groups, forge_ids, at_next?}`. Where `person` is "", the name finds somebody who
    is known, or else a new id is made. What the invitation leaves empty stays as it is known.
    """
    wanted = _read_invitation(value)
    if wanted.at_next and not gate.next_origin:
        raise Refusal(
            Code.REQUEST_UNSUPPORTED,
            "This gate is not about to move.",
            "Name the new address first: presspass origin prepare URL; then restart `presspass serve`.",
        )
    secret, now = tokens.new_secret(), gate.clock()
    expires = now + ENROLMENT_LINK_S * 1000
    gate.journal.refresh()

    def work(connection: Connection) -> None:
        known = known_people(gate, connection)
        person = (
            wanted.person or _id_by_name(known, wanted.details.name) or f"p-{secrets.token_hex(6)}"
        )
        details = _merged(known.get(person), wanted.details)
        keep_details(connection, details)
        groups = wanted.groups or _groups_of(gate, connection, person)
        row = {
            "hash": tokens.secret_hash(secret),
            "person": person,
            "details": details.commitment,
            "groups": json.dumps(sorted(set(groups))),
            "created_ms": now,
            "expires_ms": expires,
            "origin": gate.next_origin if wanted.at_next else "",
        }
        connection.execute(sa.insert(ENROLMENT_LINK), row)

    gate.writer.run(work)
    return secret, expires


def invitee(connection: Connection, secret: str, now_ms: int) -> Invitee:
    """Whom this link is for; refuses with `enrolment.invalid`, `.used` or `.expired`."""
    link_hash = tokens.secret_hash(secret)
    row = connection.execute(
        sa.select(ENROLMENT_LINK).where(ENROLMENT_LINK.c.hash == link_hash)
    ).first()
    if row is None:
        raise Refusal(Code.ENROLMENT_INVALID, "This enrolment link is not known here.", _ASK_AGAIN)
    if row.used_ms is not None:
        raise Refusal(
            Code.ENROLMENT_USED, "This enrolment link was used; it is good for one key.", _ASK_AGAIN
        )
    if now_ms >= row.expires_ms:
        raise Refusal(Code.ENROLMENT_EXPIRED, "This enrolment link has expired.", _ASK_AGAIN)
    return Invitee(link_hash, row.person, row.details, tuple(json.loads(row.groups)), row.origin)


def known_people(gate: Gate, connection: Connection) -> dict[str, Details]:
    """Everybody this gate has heard of, by id, with the newest details that can be opened."""
    pairs = [(person.id, person.details) for person in gate.journal.rules.roster.people]
    links = sa.select(ENROLMENT_LINK.c.person, ENROLMENT_LINK.c.details)
    pairs += [
        (row.person, row.details)
        for row in connection.execute(links.order_by(ENROLMENT_LINK.c.created_ms))
    ]
    found = {}
    for person, commitment in pairs:
        details = open_details(gate, connection, commitment)
        if details is not None:
            found[person] = details
    return found


def by_forge_id(gate: Gate, connection: Connection) -> dict[str, str]:
    """Who in the roster stands behind which id of a forge; an id that two people claim is nobody's."""
    claimed = claimed_ids(gate, connection)
    return {one: min(persons) for one, persons in claimed.items() if len(persons) == 1}


def claimed_ids(gate: Gate, connection: Connection) -> dict[str, frozenset[str]]:
    """Who in the roster in force claims which id, at a forge, at the sign-in provider or by SCIM. Only details to which
    that roster commits count; what an invitation says, and nobody has approved, does not.
    """
    found: dict[str, set[str]] = {}
    for person in gate.journal.rules.roster.people:
        details = open_details(gate, connection, person.details)
        if details is not None and details.commitment == person.details:
            for one in details.forge_ids:
                found.setdefault(one, set()).add(person.id)
    return {one: frozenset(persons) for one, persons in found.items()}


def open_details(gate: Gate, connection: Connection, commitment: str) -> Details | None:
    """Name and addresses behind a commitment, from here or from the press; None when they were erased."""
    query = sa.select(PERSON_DETAILS.c.details).where(PERSON_DETAILS.c.commitment == commitment)
    data = connection.execute(query).scalar()
    if data is not None:
        return Details.from_json(
            parse_canonical(data, bytes_max=JSON_BODY_BYTES_MAX, what="person's details")
        )
    if not gate.journal.rules.sealed:
        return None
    return gate.journal.read(lambda journal: journal_view.person_details(journal, commitment))


def person_id(gate: Gate, connection: Connection, text: str) -> str:
    """The id of the person that `text` names by id or name ("" stays ""); refuses with `request.not-found`."""
    known = known_people(gate, connection)
    by_id = text in known or gate.journal.rules.roster.person(text) is not None
    found = text if by_id or not text else _id_by_name(known, text)
    if text and not found:
        raise Refusal(
            Code.REQUEST_NOT_FOUND, f"Nobody here is called {text!r}.", "Invite the person first."
        )
    return found


def _read_invitation(value: JsonObject) -> _Invitation:
    members = Members(value, "invitation")

    def text(item: object) -> str:
        return Members({"item": item}, "invitation").text("item", chars_max=URL_CHARS_MAX)

    def name(item: object) -> str:
        return Members({"item": item}, "invitation").name("item")

    person = members.name("person", empty=True)
    details = Details(
        name=members.text("name"),
        addresses=members.items("addresses", text, count_max=16),
        forge_ids=members.items("forge_ids", text, count_max=16),
        salt=secrets.token_hex(16),
    )
    groups = members.items("groups", name, count_max=GROUPS_PER_PERSON_MAX)
    at_next = members.boolean("at_next") if members.has("at_next") else False
    members.done()
    return _Invitation(person, details, groups, at_next)


def _id_by_name(known: dict[str, Details], name: str) -> str:
    found = [person for person, details in known.items() if details.name == name]
    if len(found) > 1:
        raise Refusal(
            Code.REQUEST_MALFORMED,
            f"Several people are called {name!r}.",
            "Name the person by the id.",
        )
    return found[0] if found else ""


def _merged(known: Details | None, wanted: Details) -> Details:
    """What is known of the person, unless the invitation says otherwise: the commitment stays the same then."""
    if known is None:
        return wanted
    addresses, forge_ids = wanted.addresses or known.addresses, wanted.forge_ids or known.forge_ids
    if (wanted.name, addresses, forge_ids) == (known.name, known.addresses, known.forge_ids):
        return known
    return replace(wanted, addresses=addresses, forge_ids=forge_ids)


def _groups_of(gate: Gate, connection: Connection, person: str) -> tuple[str, ...]:
    enrolled = gate.journal.rules.roster.person(person)
    if enrolled is not None:
        return enrolled.groups
    query = sa.select(ENROLMENT_LINK.c.groups).where(ENROLMENT_LINK.c.person == person)
    last = connection.execute(query.order_by(ENROLMENT_LINK.c.created_ms.desc()).limit(1)).scalar()
    return tuple(json.loads(last)) if last else ()


def keep_details(connection: Connection, details: Details) -> None:
    """Keeps what a commitment opens to, once."""
    known = sa.select(PERSON_DETAILS.c.commitment).where(
        PERSON_DETAILS.c.commitment == details.commitment
    )
    if connection.execute(known).first() is None:
        row = {"commitment": details.commitment, "details": canonical(details.to_json())}
        connection.execute(sa.insert(PERSON_DETAILS), row)
