"""`recover`: the offline recovery key asks for another roster, when too few people with keys are left."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from presspass.cli import press_room
from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.exits import CannotSayError
from presspass.cli.options import example, format_option, home_option, yes_option
from presspass.cli.show import emit_json, grouped, note, safe, say
from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.errors import Fault, Refusal
from presspass.core.limits import RECOVERY_WAIT_S
from presspass.core.roster import Person, Roster
from presspass.core.statement import RosterBody, Statement, signed_message

_LIFE_S = RECOVERY_WAIT_S + 4 * 86_400  # the wait, and time to act on it


@click.command(
    "recover",
    short_help="Use the offline recovery key.",
    epilog=example(
        "presspass recover --recovery-key key.txt --home /srv/presspass --drop-key 3f2a…"
    ),
)
@click.option(
    "--recovery-key",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    required=True,
    help="A file with the recovery key as `init` printed it ('-': standard input).",
)
@click.option(
    "--drop-key",
    "dropped",
    multiple=True,
    help="Take this key (fingerprint) out of the roster (repeatable).",
)
@home_option
@yes_option
@format_option
def recover_command(
    recovery_key: Path, dropped: tuple[str, ...], home: Path, yes: bool, as_json: bool
) -> None:
    """Ask for another roster with the offline recovery key: everybody enrolled now, less the keys of --drop-key, plus
    every key that was enrolled since (`presspass invite`, `presspass enrol`) and waits for approval.

    It works only after 72 hours. Everybody in the old roster is told at once, and one veto ends it.

    Exit codes: 0 asked for; 1 refused; 3 the press did not answer; 4 something cannot be read.
    """
    standing = standing_of_home(home)
    roster = _roster_after(home, frozenset(dropped))
    say("The roster after the recovery:")
    for person in roster.people:
        for key in person.keys:
            say(f"  {safe(person.id):16} {key.kind:17} {grouped(key.id)}")
    if not yes and not click.confirm("Ask for this roster with the recovery key?", err=True):
        raise click.Abort
    statement = standing.statement(
        RosterBody(roster, recovery=True), previous=standing.heads.roster, life_s=_LIFE_S
    )
    approval = _sign(recovery_key, statement.to_bytes())
    answer = press_room.order(
        home,
        {
            "do": "recover",
            "statement": statement.to_bytes().decode("utf-8"),
            "approval": approval.to_json(),
        },
    )
    page = _show_at_the_gate(home, statement)
    if as_json:
        emit_json({**answer, "url": page})
        return
    say(f"asked for: {statement.digest}")
    say(
        f"veto it at: {safe(page)}"
        if page
        else f"veto it with: presspass veto /q/{statement.digest} --drop DIR"
    )
    note(
        "It comes into force after 72 hours unless somebody vetoes it. Everybody is being told now."
    )


def _show_at_the_gate(home: Path, statement: Statement) -> str:
    """Its page, where people can see and veto it; "" while the gateway is not running (the press tells them anyway)."""
    try:
        return str(put_before_approvers(home, statement)["url"])
    except (Fault, Refusal) as error:
        note(f"The gate does not show it: {error.message}")
        return ""


def _roster_after(home: Path, dropped: frozenset[str]) -> Roster:
    now = press_room.roster_of_home(home)
    unknown = dropped - {key.id for person in now.people for key in person.keys}
    if unknown:
        raise CannotSayError(
            f"The roster has no key {', '.join(sorted(unknown))}.", "Give whole fingerprints."
        )
    people = {person.id: person for person in now.people}
    for one in press_room.enrolments(home):
        old = people.get(one.person, Person(one.person, one.details, one.groups, ()))
        keys = {key.id: key for key in (*old.keys, one.key)}
        people[one.person] = replace(old, keys=tuple(keys[id] for id in sorted(keys)))
    kept = [
        replace(person, keys=tuple(key for key in person.keys if key.id not in dropped))
        for person in people.values()
    ]
    return Roster(
        tuple(sorted((person for person in kept if person.keys), key=lambda person: person.id))
    )


def _sign(key_file: Path, statement: bytes) -> Approval:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from presspass.services import press

    text = (
        sys.stdin.read()
        if str(key_file) == "-"
        else key_file.read_text(encoding="utf-8", errors="replace")
    )
    private = press.recovery_signer(text)
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Approval(
        sha256_hex(statement),
        sha256_hex(public),
        "recovery",
        private.sign(signed_message(statement)),
    )
