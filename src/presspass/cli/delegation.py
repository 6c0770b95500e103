"""`delegation`: what a bot or agent may ask for on somebody's behalf. It only asks; people approve as ever."""

from __future__ import annotations

import time
from pathlib import Path

import click

from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.bindings import chain_of, publisher_in, waiting
from presspass.cli.choosing import pick_member
from presspass.cli.options import Duration, example, format_option, home_option
from presspass.cli.publisher import normal_project
from presspass.cli.show import emit_json, note, safe, say, table
from presspass.core.delegation import VERSION_KINDS, DelegationBody
from presspass.core.errors import Code, Refusal
from presspass.core.roster import Roster
from presspass.core.statement import Kind


@click.group("delegation", short_help="What a bot may ask for, for whom.")
def delegation_command() -> None:
    """What a bot or agent may ask for on somebody's behalf. Adding or changing one takes the approval of two people."""


@delegation_command.command(
    "add",
    epilog=example(
        "presspass delegation add patches --publisher greet-bot --person Ada --project greet \\",
        "    --kind patch --count 5 --for 30d",
    ),
)
@click.argument("name")
@click.option("--publisher", required=True, help="The bot's own binding.")
@click.option(
    "--person", required=True, help="Who answers for it (name or id), and approves none of it."
)
@click.option("--project", "projects", multiple=True, required=True, help="A package (repeatable).")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    required=True,
    type=click.Choice(VERSION_KINDS),
    help="A kind of version (repeatable).",
)
@click.option(
    "--count", required=True, type=click.IntRange(1, 10_000), help="How many releases in all."
)
@click.option("--for", "life", type=Duration(), required=True, help="How long, from now on.")
@home_option
@format_option
def add_command(
    name: str, publisher: str, person: str, projects: tuple[str, ...], kinds: tuple[str, ...], count: int,
    life: int, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Put the delegation NAME before the approvers: what a bot may ask for, how often, how long, and for whom.

    Every part is a limit. The bot cannot hand it on. Adding NAME again replaces it when people have approved that.

    Exit codes: 0 asked for; 1 refused; 4 the gate of this home is not running.
    """
    chain = chain_of(home)
    _, bot = publisher_in(chain, publisher)
    wanted = tuple(sorted({normal_project(one) for one in projects}))
    beyond = sorted(set(wanted) - set(bot.projects))
    if beyond:
        raise Refusal(
            Code.DELEGATION_PROJECT,
            f"{safe(publisher)} is not bound to {', '.join(beyond)}.",
            "A delegation covers only what its bot is bound to: presspass publisher bind.",
        )
    if not bot.delegated_only:
        note(f"{safe(publisher)} asks without a delegation too; bind it with --bot to limit it.")
    now = int(time.time())
    body = DelegationBody(
        name=name,
        publisher=publisher,
        person=_person(home, chain.roster, person),
        projects=wanted,
        version_kinds=tuple(sorted(set(kinds))),
        count=count,
        not_before=now,
        not_after=now + life,
    )
    body = DelegationBody.from_json(body.to_json())
    standing, present = standing_of_home(home), chain.delegations.get(name)
    statement = standing.statement(body, previous=present[0] if present else standing.genesis)
    answer = put_before_approvers(home, statement)
    emit_json(answer) if as_json else say(safe(answer["url"]))


@delegation_command.command(
    "list", epilog=example("presspass delegation list --home /srv/presspass")
)
@home_option
@format_option
def list_command(home: Path, as_json: bool) -> None:
    """List the delegations in force, and those that wait for signatures. `presspass revoke delegation NAME` ends one.

    Exit codes: 0 shown; 1 not sealed yet; 4 the journal cannot be read.
    """
    found = {
        name: {**body.to_json(), "statement": digest}
        for name, (digest, body) in sorted(chain_of(home).delegations.items())
    }
    if as_json:
        emit_json(found)
        return
    if not found:
        say("no delegations in force; `presspass delegation add` asks for one")
    else:
        rows = [
            (name, one["publisher"], one["person"], ", ".join(one["projects"]),
             ", ".join(one["version_kinds"]), one["count"],
             time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(one["not_after"])))
            for name, one in found.items()
        ]  # fmt: skip
        table(("name", "bot", "person", "projects", "kinds", "count", "until"), rows)
    for name, digest in waiting(home, Kind.DELEGATION):
        note(f"waits for signatures: {safe(name)}, request {digest}")


def _person(home: Path, roster: Roster, typed: str) -> str:
    """The id of a person of the roster, by name or id."""
    from presspass.cli import press_room

    found = pick_member(typed, roster, press_room.names_in(home, roster))
    if roster.person(found) is None:
        raise Refusal(Code.REQUEST_NOT_FOUND, f"{safe(typed)} is a key, not a person.")
    return found
