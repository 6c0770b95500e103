"""Asking for another roster without a new key: somebody's name, addresses, ids at forges and providers, or groups.

What changes is put before people like anything else; the details lie beside the request, to be read by those who sign.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import GROUPS_PER_PERSON_MAX, URL_CHARS_MAX
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import RosterBody
from presspass.core.strict import Members
from presspass.gateway import people, requests
from presspass.gateway.gate import Gate

_LISTS = ("addresses", "forge_ids", "groups")


def ask(gate: Gate, value: JsonObject) -> str:
    """Asks for `{person, name?, addresses?, forge_ids?, groups?}`: what is there takes the place of what was; the
    request's digest. `person` is a name or an id. Refuses where nothing would change.
    """
    members = Members(value, "change")
    who = members.text("person")
    name = members.text("name") if members.has("name") else None
    lists = {one: _texts(members, one) for one in _LISTS if members.has(one)}
    members.done()
    rules = gate.journal.now()
    rules.trust()

    def work(connection: Connection) -> str:
        person = _in_roster(rules.roster, people.person_id(gate, connection, who))
        known = people.open_details(gate, connection, person.details)
        details = _changed(known, name, lists)
        changed = replace(
            person,
            details=details.commitment if details else person.details,
            groups=tuple(sorted(set(lists.get("groups", person.groups)))),
        )
        if changed == person:
            raise Refusal(Code.REQUEST_MALFORMED, "Nothing would change.", "Say what should.")
        if details:
            people.keep_details(connection, details)
        others = [one for one in rules.roster.people if one.id != person.id]
        roster = Roster(tuple(sorted([*others, changed], key=lambda one: one.id)))
        statement = requests.make_statement(gate, RosterBody(roster))
        return requests.put(connection, statement, None, gate.clock())

    return gate.writer.run(work)


def _in_roster(roster: Roster, person: str) -> Person:
    found = roster.person(person)
    if found is None:
        raise Refusal(
            Code.REQUEST_NOT_FOUND,
            "This person is not in the roster yet.",
            "First comes a key: `presspass invite`.",
        )
    return found


def _changed(
    known: Details | None, name: str | None, lists: dict[str, tuple[str, ...]]
) -> Details | None:
    """The details after the change; None where they stay as they are."""
    if name is None and not {"addresses", "forge_ids"} & set(lists):
        return None
    if known is None:
        if name is None:
            raise Refusal(
                Code.REQUEST_MALFORMED,
                "The details of this person were erased.",
                "Name them whole.",
            )
        known = Details(name, (), (), "")
    wanted = replace(
        known,
        name=known.name if name is None else name,
        addresses=lists.get("addresses", known.addresses),
        forge_ids=lists.get("forge_ids", known.forge_ids),
    )
    return None if wanted == known else replace(wanted, salt=secrets.token_hex(16))


def _texts(members: Members, name: str) -> tuple[str, ...]:
    def text(item: object) -> str:
        one = Members({"item": item}, f"{name} of the change")
        return one.name("item") if name == "groups" else one.text("item", chars_max=URL_CHARS_MAX)

    return members.items(name, text, count_max=GROUPS_PER_PERSON_MAX if name == "groups" else 16)
