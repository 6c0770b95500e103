"""`roster`: who may sign, and taking a person or a key out. Every change is a statement that the others approve."""

from __future__ import annotations

from pathlib import Path

import click

from presspass.cli import press_room
from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.choosing import check_no_lock, pick_member
from presspass.cli.options import example, format_option, home_option
from presspass.cli.people import show_people
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.digests import JsonObject
from presspass.core.roster import Person, Roster
from presspass.core.statement import RosterBody


@click.group("roster", short_help="Who may sign; take a person or key out.")
def roster_command() -> None:
    """Who may sign. People come in by `presspass invite`; every change takes the approval of two people."""


@roster_command.command("show", epilog=example("presspass roster show --home /srv/presspass"))
@home_option
@format_option
def show_command(home: Path, as_json: bool) -> None:
    """Show everybody in the roster in force, with the names that this host still knows.

    Exit codes: 0 shown; 1 no such home; 4 the journal cannot be read.
    """
    roster = press_room.roster_of_home(home)
    names = press_room.names_in(home, roster)
    rows: list[JsonObject] = [
        {
            "name": names.get(person.id, ""),
            "person": person.id,
            "kind": key.kind,
            "key": key.id,
        }
        for person in roster.people
        for key in person.keys
    ]
    if as_json:
        emit_json({"people": rows})
    elif rows:
        show_people(rows)
    else:
        say("nobody is enrolled yet; `presspass init --seal` begins the roster")


@roster_command.command(
    "remove", epilog=example("presspass roster remove Ben --home /srv/presspass")
)
@click.argument("who", nargs=-1, required=True)
@click.option(
    "--yes-lock", is_flag=True, help="Also where too few people are left to change anything."
)
@home_option
@format_option
def remove_command(who: tuple[str, ...], yes_lock: bool, home: Path, as_json: bool) -> None:
    """Ask the approvers to take WHO out: a person (name or id; all keys), or one key (fingerprint, or its first 8
    digits or more).

    It counts from the moment the press has seen enough approvals; what the removed key signed before, and was not
    published yet, stops counting at once.

    Exit codes: 0 asked for; 1 refused; 4 the gate of this home is not running.
    """
    standing = standing_of_home(home)
    now = press_room.roster_of_home(home)
    names = press_room.names_in(home, now)
    roster = _without(now, frozenset(pick_member(one, now, names) for one in who))
    check_no_lock(roster, standing.policy, yes_lock=yes_lock)
    statement = standing.statement(RosterBody(roster), previous=standing.heads.roster)
    asked = put_before_approvers(home, statement)
    if as_json:
        emit_json(asked)
        return
    say(safe(str(asked["url"])))
    note("It counts when the others have approved it there. In a hurry, freeze: presspass freeze.")


def _without(roster: Roster, who: frozenset[str]) -> Roster:
    kept = [
        Person(
            person.id,
            person.details,
            person.groups,
            tuple(k for k in person.keys if k.id not in who),
        )
        for person in roster.people
        if person.id not in who
    ]
    return Roster(tuple(person for person in kept if person.keys))
