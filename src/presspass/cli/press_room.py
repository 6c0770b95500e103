"""Acting as the press on its own host: orders to the press, and what the two databases say about people and keys.

An order is a file in press/inbox, which only the press's user can write; where no press runs, the press's own code does
the order here. There is one path, and it is `services.press`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from presspass.cli.databases import ask_gateway, ask_journal
from presspass.cli.exits import TimedOutError
from presspass.core.digests import JsonObject, parse_canonical
from presspass.core.effects import roster_after
from presspass.core.errors import Fault
from presspass.core.limits import INBOX_WAIT_S_MAX, JSON_BODY_BYTES_MAX
from presspass.core.roster import Details, Key, Person, Roster
from presspass.core.statement import Statement
from presspass.store import journal_view
from presspass.store.gateway_tables import ENROLMENT, PERSON_DETAILS
from presspass.store.journal_view import Decision

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One key as enrolled at the gateway, believed by nobody yet. `name` is "" where the details are gone."""

    person: str
    details: str
    groups: tuple[str, ...]
    key: Key
    name: str


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that nobody has let in yet. `state`: the press's word on the request that asked for it."""

    enrolled: Enrolled
    state: str


def order(home: Path, what: JsonObject) -> JsonObject:
    """Gives the press an order and returns its answer; TimedOutError when it does not answer."""
    from presspass.services import press, zones

    try:
        with zones.acting_as_owner_of(home / "press" / "inbox"):
            return press.ask(home, what, INBOX_WAIT_S_MAX)
    except Fault as fault:
        if fault.code == "press.silent":
            raise TimedOutError(
                f"The press did not answer in {INBOX_WAIT_S_MAX} seconds. Is it hung? See its lines."
            ) from None
        raise
    except OSError as error:
        raise Fault(
            "press.inbox",
            f"{home}/press/inbox cannot be used: {error.strerror}. Run this as the press's user.",
            retryable=False,
        ) from None


def credential_commitment(secret: str, salt: str) -> str:
    """What an upstream statement says of its credential."""
    from presspass.services import press

    return press.credential_commitment(secret, salt)


def roster_of_home(home: Path) -> Roster:
    """The roster in force, from the press's journal."""
    return ask_journal(home, journal_view.roster)


def enrolments(home: Path) -> list[Enrolled]:
    """Every key that was enrolled by a link, oldest first, from the gateway's database: to be compared by people."""
    return ask_gateway(home, _enrolments)


def new_keys(home: Path) -> list[NewKey]:
    """Keys that were enrolled after genesis, stood in no roster ever, and whose request nobody has ended.

    What the quorum took out, or refused to let in, is not among them: it does not come back by a recovery.
    """
    from presspass.gateway import requests

    asked = ask_gateway(home, requests.bringing_keys)

    def question(connection: Connection) -> tuple[set[str], dict[str, Decision], set[str]]:
        digests = sorted({one.digest for some in asked.values() for one in some})
        stood = {key for one in journal_view.chained(connection) for key in _keys_in(one)}
        stops = journal_view.narrowings(connection)
        vetoed = {one.target for one in stops if one.what == "veto"}
        return stood, journal_view.decisions(connection, digests), vetoed

    stood, decisions, vetoed = ask_journal(home, question)
    found = []
    for one in enrolments(home):
        bringing = asked.get(one.key.id, [])
        states = [decisions[r.digest].state if r.digest in decisions else "" for r in bringing]
        stopped = any({r.digest, r.veto_digest} & vetoed for r in bringing)
        if bringing and one.key.id not in stood and not stopped and "rejected" not in states:
            found.append(NewKey(one, states[-1] or "not seen by the press"))
    return found


def _keys_in(statement: Statement) -> list[str]:
    roster = roster_after(statement)
    return [] if roster is None else [key.id for key in roster.all_keys()]


def names_in(home: Path, *rosters: Roster) -> dict[str, str]:
    """Names by person id, as far as this host still knows them; the last roster's where several know the person."""
    people = [person for roster in rosters for person in roster.people]
    known = known_details(home, {person.details for person in people})
    names = {one.commitment: one.name for one in known}
    return {one.id: names[one.details] for one in people if one.details in names}


def known_details(home: Path, commitments: set[str]) -> list[Details]:
    """The opened details behind these commitments, each checked against its commitment."""
    found = ask_gateway(home, _details)
    return [details for commitment, details in sorted(found.items()) if commitment in commitments]


def roster_of(found: list[Enrolled]) -> Roster:
    """The roster of these keys: one person per id, in the order that a roster has."""
    people: dict[str, Person] = {}
    for one in found:
        old = people.get(one.person, Person(one.person, one.details, one.groups, ()))
        keys = {key.id: key for key in (*old.keys, one.key)}
        people[one.person] = Person(
            old.id, old.details, old.groups, tuple(keys[id] for id in sorted(keys))
        )
    return Roster(tuple(people[id] for id in sorted(people)))


def _enrolments(connection: Connection) -> list[Enrolled]:
    names = {commitment: details.name for commitment, details in _details(connection).items()}
    rows = connection.execute(
        sa.select(ENROLMENT).order_by(ENROLMENT.c.enrolled_ms, ENROLMENT.c.key)
    )
    return [
        Enrolled(
            row.person,
            row.details,
            tuple(json.loads(row.groups)),
            Key.from_json(parse_canonical(row.key_json, bytes_max=JSON_BODY_BYTES_MAX, what="key")),
            names.get(row.details, ""),
        )
        for row in rows
    ]


def _details(connection: Connection) -> dict[str, Details]:
    rows = connection.execute(sa.select(PERSON_DETAILS.c.commitment, PERSON_DETAILS.c.details))
    read = (
        Details.from_json(parse_canonical(data, bytes_max=JSON_BODY_BYTES_MAX, what="details"))
        for _c, data in rows
    )
    return {details.commitment: details for details in read}
