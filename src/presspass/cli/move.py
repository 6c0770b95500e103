"""`origin`: moving the gate to another address. Passkeys stay behind, so it is a ceremony: new keys, old signatures.

1. `prepare` names the new address in the configuration; the gate answers there, too, and people enrol keys there.
2. `change` asks for one statement: the address, and the roster of the keys enrolled there. It is signed at the old
   address by the old keys, like any other change.
3. `finish` makes the new address the configured one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from presspass.cli import press_room
from presspass.cli.asking import put_before_approvers, site_of_home, standing_of_home
from presspass.cli.choosing import check_no_lock
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, grouped, note, quoted, safe, say
from presspass.core.digests import parse_canonical
from presspass.core.errors import Code, Refusal
from presspass.core.limits import JSON_BODY_BYTES_MAX
from presspass.core.roster import Key, Person, Roster
from presspass.core.statement import OriginBody
from presspass.services.config import check_origin, parse_config, read_config, write_config

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

#: Kinds of key that work at one address only. SSH keys sign anywhere and come along.
_BOUND: Final = frozenset({"passkey", "software-passkey"})


@click.group("origin", short_help="Move the gate to another address.")
def origin_command() -> None:
    """Move the gate to another address. Passkeys are bound to the old one: everybody enrols anew, the old keys sign."""


@origin_command.command(
    "prepare",
    epilog=example("presspass origin prepare https://new.example --home /srv/presspass"),
)
@click.argument("url")
@home_option
@format_option
def prepare_command(url: str, home: Path, as_json: bool) -> None:
    """Name URL as the address to which this gate is about to move; with "" the plan is given up.

    Restart `presspass serve`: pages are then served there too, and its certificate must name both. Then
    `presspass invite NAME --next-origin` makes a link for each person, and `presspass origin change` asks for the move.

    Exit codes: 0 written; 1 no origin that passkeys can be bound to, or no such home.
    """
    config = read_config(home)
    changed = replace(config, next_origin=check_origin(url) if url else "")
    if url == config.origin:
        raise Refusal(Code.CONFIG_INVALID, f"This gate is at {url} already.")
    parse_config(changed.to_toml())
    write_config(home, changed)
    if as_json:
        emit_json({"origin": config.origin, "next_origin": changed.next_origin})
        return
    say(f"next_origin = {url or 'none'}")
    note("Restart `presspass serve`.")
    if url:
        note(f"Then, for each person: presspass invite NAME --next-origin --home {quoted(home)}")


@origin_command.command("change", epilog=example("presspass origin change --home /srv/presspass"))
@click.option(
    "--leave-behind",
    "left",
    multiple=True,
    help="A person who has no key that works there, by id or name (repeatable).",
)
@click.option(
    "--yes-lock", is_flag=True, help="Also where too few people are left to change anything."
)
@home_option
@format_option
def change_command(home: Path, left: tuple[str, ...], yes_lock: bool, as_json: bool) -> None:
    """Ask for the move to the prepared address, with the keys that were enrolled there, and SSH keys as they are.

    Everybody in the roster must have a key that works there, or be named in --leave-behind. The statement is signed at
    the present address by the present keys; until it is in force, nothing changes. Compare the fingerprints first.

    Exit codes: 0 asked for; 1 nothing prepared, or somebody has no key there; 4 the gate of this home is not running.
    """
    config = read_config(home)
    if not config.next_origin:
        raise Refusal(
            Code.REQUEST_UNSUPPORTED,
            "No address is prepared.",
            "Begin with: presspass origin prepare URL",
        )
    present = press_room.roster_of_home(home)
    names = press_room.names_in(home, present)
    roster = moved_roster(present, enrolled_at(home, config.next_origin), left, names)
    standing = standing_of_home(home)
    check_no_lock(roster, standing.policy, yes_lock=yes_lock)
    rp_id = urlsplit(config.next_origin).hostname or ""
    body = OriginBody(config.next_origin, rp_id, roster)
    answer = put_before_approvers(home, standing.statement(body, previous=standing.heads.roster))
    if as_json:
        emit_json(answer)
        return
    say(f"asked for the move to {config.next_origin}, with these keys:")
    for person in roster.people:
        for key in person.keys:
            say(f"  {safe(names.get(person.id, person.id)):20} {key.kind:17} {grouped(key.id)}")
    say(f"sign at {safe(answer['url'])}")
    note(f"Once it is in force: presspass origin finish --home {quoted(home)}")


@origin_command.command("finish", epilog=example("presspass origin finish --home /srv/presspass"))
@home_option
@format_option
def finish_command(home: Path, as_json: bool) -> None:
    """Make the address that is in force the configured one. Restart `presspass serve` afterwards.

    Until then the gate goes on serving both. Exit codes: 0 written, or nothing to do; 1 the move is not in force.
    """
    config, site = read_config(home), site_of_home(home)
    if site is None or site[0] not in (config.origin, config.next_origin):
        raise Refusal(
            Code.GENESIS_MISSING if site is None else Code.GENESIS_SEALED,
            "This home is not sealed yet." if site is None else f"In force is {site[0]}.",
            f'Set origin = "{site[0]}" in presspass.toml.' if site else "presspass init --seal",
        )
    if config.next_origin and site[0] == config.origin:
        raise Refusal(
            Code.QUORUM_MISSING,
            f"The move to {config.next_origin} is not in force.",
            "It comes into force when enough people have signed and the veto window is over.",
        )
    write_config(home, replace(config, origin=site[0], next_origin=""))
    if as_json:
        emit_json({"origin": site[0]})
        return
    say(f"origin = {site[0]}")
    note("Restart `presspass serve`; then the old name may go. Clients upload to the new one.")


def moved_roster(
    present: Roster, there: dict[str, list[Key]], left: tuple[str, ...], names: dict[str, str]
) -> Roster:
    """The roster at the new address: new keys in the place of bound ones, SSH keys as they are.

    Refuses with `genesis.incomplete` where somebody would have no key and is not in `left`.
    """
    people, missing = [], []
    for person in present.people:
        keys = {key.id: key for key in person.keys if key.kind not in _BOUND}
        keys |= {key.id: key for key in there.get(person.id, [])}
        if keys:
            ordered = tuple(keys[id] for id in sorted(keys))
            people.append(Person(person.id, person.details, person.groups, ordered))
        elif person.id not in left and names.get(person.id) not in left:
            missing.append(names.get(person.id, person.id))
    if missing:
        raise Refusal(
            Code.GENESIS_INCOMPLETE,
            f"No key at the new address yet: {', '.join(missing)}.",
            "presspass invite NAME --next-origin; or leave them out with --leave-behind NAME.",
        )
    return Roster(tuple(people))


def enrolled_at(home: Path, origin: str) -> dict[str, list[Key]]:
    """The keys that were enrolled by links for this origin, by person. The gateway's word: compare the fingerprints."""
    import sqlalchemy as sa

    from presspass.cli.databases import ask_gateway
    from presspass.store.gateway_tables import ENROLMENT, ENROLMENT_LINK

    def question(connection: Connection) -> dict[str, list[Key]]:
        joined = ENROLMENT.join(ENROLMENT_LINK, ENROLMENT.c.link == ENROLMENT_LINK.c.hash)
        query = sa.select(ENROLMENT.c.person, ENROLMENT.c.key_json).select_from(joined)
        found: dict[str, list[Key]] = {}
        for person, data in connection.execute(query.where(ENROLMENT_LINK.c.origin == origin)):
            value = parse_canonical(data, bytes_max=JSON_BODY_BYTES_MAX, what="key")
            found.setdefault(str(person), []).append(Key.from_json(value))
        return found

    return ask_gateway(home, question)
