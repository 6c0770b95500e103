"""`recover`: the offline recovery key asks for another roster, when too few people with keys are left."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from presspass.cli import press_room
from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.choosing import check_no_lock, confirm, pick_key
from presspass.cli.databases import ask_journal
from presspass.cli.exits import CannotSayError
from presspass.cli.options import example, format_option, home_option, yes_option
from presspass.cli.press_room import NewKey
from presspass.cli.show import emit_json, grouped, note, safe, say
from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import RECOVERY_WAIT_S
from presspass.core.roster import Person, Roster
from presspass.core.statement import GenesisBody, RosterBody, Statement, signed_message
from presspass.store import journal_view

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
    help="Leave this key out (fingerprint, or its first 8 digits or more; repeatable).",
)
@click.option(
    "--keep-new",
    "kept",
    multiple=True,
    help="Take in this key, which was enrolled since and nobody has let in (repeatable).",
)
@click.option(
    "--yes-lock", is_flag=True, help="Also where too few people are left to change anything."
)
@home_option
@yes_option
@format_option
def recover_command(
    recovery_key: Path, dropped: tuple[str, ...], kept: tuple[str, ...], yes_lock: bool, home: Path,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Ask for another roster with the offline recovery key: the one in force, less the keys of --drop-key, plus those
    of the new keys that you take in.

    New keys are those enrolled since (`presspass invite`, `presspass enrol`) that nobody has let in or refused; each
    is shown and asked about, and with --yes only those of --keep-new are taken. Let the owners read them to you. Keys
    that were taken out of the roster, or vetoed, do not come back.

    It works only after 72 hours. Everybody in the old roster is told at once, and one veto ends it.

    Exit codes: 0 asked for; 1 refused; 3 the press did not answer; 4 something cannot be read.
    """
    standing = standing_of_home(home)
    signer = _read_signer(recovery_key, home)
    roster = _roster_after(home, dropped, kept, ask=not yes)
    _show(home, roster)
    check_no_lock(roster, standing.policy, yes_lock=yes_lock)
    if not yes and not confirm("Ask for this roster with the recovery key?", "--yes"):
        raise click.Abort
    statement = standing.statement(
        RosterBody(roster, recovery=True), previous=standing.heads.roster, life_s=_LIFE_S
    )
    approval = _sign(signer, statement.to_bytes())
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


def _show(home: Path, roster: Roster) -> None:
    names = press_room.names_in(home, roster)
    new = {one.enrolled.person: one.enrolled.name for one in press_room.new_keys(home)}
    say("The roster after the recovery:")
    for person in roster.people:
        name = names.get(person.id) or new.get(person.id, "")
        for key in person.keys:
            say(f"  {safe(name):12} {safe(person.id):16} {key.kind:17} {grouped(key.id)}")


def _roster_after(
    home: Path, dropped: tuple[str, ...], kept: tuple[str, ...], *, ask: bool
) -> Roster:
    """The roster in force without the dropped keys, with the new ones that somebody has chosen by name or by a yes."""
    now, new = press_room.roster_of_home(home), press_room.new_keys(home)
    offered = [one.enrolled.key.id for one in new]
    drop = {pick_key(one, [key.id for key in now.all_keys()] + offered) for one in dropped}
    keep = {pick_key(one, offered) for one in kept}
    if both := drop & keep:
        raise click.UsageError(f"Key {min(both)[:16]}… is to be kept and to be dropped.")
    people = {person.id: person for person in now.people}
    for one in (one for one in new if _is_taken(one, drop, keep, ask=ask)):
        person, key = one.enrolled.person, one.enrolled.key
        old = people.get(person, Person(person, one.enrolled.details, one.enrolled.groups, ()))
        keys = {known.id: known for known in (*old.keys, key)}
        people[person] = replace(old, keys=tuple(keys[id] for id in sorted(keys)))
    left = [
        replace(person, keys=tuple(key for key in person.keys if key.id not in drop))
        for _, person in sorted(people.items())
    ]
    return Roster(tuple(person for person in left if person.keys))


def _is_taken(one: NewKey, drop: set[str], keep: set[str], *, ask: bool) -> bool:
    """By default no new key is: it is the gateway's word alone whose it is."""
    enrolled = one.enrolled
    note(
        f"New key of {safe(enrolled.name) or '(no name)'} ({safe(enrolled.person)}), {enrolled.key.kind}, "
        f"request {one.state}:\n  {grouped(enrolled.key.id)}"
    )
    if enrolled.key.id in drop | keep or not ask or not sys.stdin.isatty():
        taken = enrolled.key.id in keep
    else:
        taken = confirm("Has its owner read it to you, and shall it be taken in?", "--keep-new")
    note("  taken in" if taken else "  left out (--keep-new takes it in)")
    return taken


def _read_signer(key_file: Path, home: Path) -> Ed25519PrivateKey:
    """The recovery key, looked at before anything is asked: it must be the one that genesis names."""
    from presspass.services import press

    try:
        text = (
            sys.stdin.read()
            if str(key_file) == "-"
            else key_file.read_text(encoding="utf-8", errors="replace")
        )
    except OSError as error:
        raise CannotSayError(
            f"{key_file} cannot be read: {error.strerror}.", "Name the file with --recovery-key."
        ) from None
    private = press.recovery_signer(text)
    genesis = ask_journal(home, journal_view.genesis)
    wanted = genesis.body_as(GenesisBody).recovery_key if genesis else ""
    if private.public_key().public_bytes_raw().hex() != wanted:
        raise Refusal(
            Code.APPROVAL_KEY_UNKNOWN,
            "This is not the recovery key of this installation.",
            "Use the one that `presspass init` printed when this home was made.",
        )
    return private


def _sign(private: Ed25519PrivateKey, statement: bytes) -> Approval:
    public = private.public_key().public_bytes_raw()
    signature = private.sign(signed_message(statement))
    return Approval(sha256_hex(statement), sha256_hex(public), "recovery", signature)
