"""`apply` and `export`: everything that a file wants, asked for in one statement; and the file of what is in force."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from presspass.cli import press_room
from presspass.cli.asking import Standing, put_before_approvers, standing_of_home
from presspass.cli.choosing import check_no_lock, confirm
from presspass.cli.client import control
from presspass.cli.declared import Wanted, WantedPerson, read_wanted, refuse_file
from presspass.cli.exits import CANNOT_SAY
from presspass.cli.options import example, format_option, home_option, yes_option
from presspass.cli.planning import InForce, Plan, exported, plan
from presspass.cli.show import emit_json, note, safe, say
from presspass.cli.upstream import read_secret
from presspass.core.changes import Change, change_lines, changes_of
from presspass.core.digests import JsonObject
from presspass.core.effects import effects
from presspass.core.limits import APPLY_FILE_BYTES_MAX, STATEMENT_BYTES_MAX
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Details, Roster
from presspass.core.statement import (
    BundleBody,
    Kind,
    Member,
    MemberBody,
    PolicyBody,
    RosterBody,
    Statement,
    UpstreamBody,
    subject,
)
from presspass.verify.chain import Chain

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from presspass.rules.document import RuleDocument


@click.command(
    "apply",
    short_help="Ask for everything that a file wants, at once.",
    epilog=example(
        "presspass export > presspass.yaml",
        "presspass apply presspass.yaml --dry-run",
        "presspass apply presspass.yaml",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--dry-run", is_flag=True, help="Show the difference and ask for nothing; 2 where there is one."
)
@click.option(
    "--secret-file",
    "secret_files",
    multiple=True,
    metavar="NAME=FILE",
    help="The password or token of the upstream NAME is in FILE (repeatable); else it is asked for.",
)
@click.option(
    "--yes-lock", is_flag=True, help="Also where too few people are left to change anything."
)
@yes_option
@home_option
@format_option
def apply_command(
    file: Path, dry_run: bool, secret_files: tuple[str, ...], yes_lock: bool, yes: bool,
    home: Path, as_json: bool,
) -> int | None:  # fmt: skip
    """Compare FILE with what is in force, show the difference, and put all of it before the approvers as one
    statement: one signature of each is for everything, and all of it comes into force together.

    Runs on the press's host. FILE has people, groups, tiers, upstreams, publishers and delegations. A section that is
    missing stays as it is; one that is there is whole: who is not named leaves, a publisher that is not named is
    retired. Keys are never in it: who has none gets an enrolment link. A new upstream's password or token is asked for.

    Exit codes: 0 asked for, or nothing to do; 1 refused (also a FILE that cannot be read, with the line); 2 with
    --dry-run, where there is a difference; 3 the press did not answer; 4 the gate of this home is not running.
    """
    now = in_force(home)
    wanted, document = _with_rules(read_wanted(_text(file), file.name), now, file.parent)
    planned = plan(wanted, now, lambda: secrets.token_hex(16))
    if document is not None:
        _check_rules(document, now.chain, planned.bodies)
    if planned.nothing:
        _tell_nothing(as_json)
        return None
    draft = _statement(now, planned.bodies)  # its digest changes when credentials are entered
    if not as_json:
        _show(planned, now, draft)
    if dry_run:
        if as_json:
            emit_json({"changes": _changes_json(now, draft), "invited": _names(planned.invited)})
        return CANNOT_SAY
    asked = _asked_already(home, draft)
    if asked:
        note("All of this was asked for before, and waits for signatures:")
    else:
        _check_no_lock(now.chain, planned.bodies, yes_lock=yes_lock)
        if not yes and not confirm("Ask the approvers for all of this?", "--yes"):
            raise click.Abort
        asked = _ask(home, now, planned, _secret_files(secret_files, planned), document)
    links = _invite(home, planned.invited)
    if as_json:
        emit_json({**asked, "changes": _changes_json(now, draft), "links": links})
        return None
    if asked:
        say(safe(str(asked["url"])))
        note("One signature of each approver there is for all of it; it comes into force together.")
    for link in links:
        say(f"{safe(link['name'])}:  {safe(link['url'])}")
    if links:
        note("Each link works once, for 15 minutes. Who has enrolled comes in by the next `apply`.")
    return None


@click.command(
    "export",
    short_help="Write what is in force to such a file.",
    epilog=example("presspass export --home /srv/presspass > presspass.yaml"),
)
@home_option
def export_command(home: Path) -> None:
    """Write people, groups, tiers, upstreams, publishers and delegations as they are in force, in the form that
    `presspass apply` takes. No key, no credential and nothing retired stands in it; names and addresses of people do.

    Exit codes: 0 written; 1 not sealed yet; 4 the journal cannot be read.
    """
    click.echo(exported(in_force(home)), nl=False)


def in_force(home: Path) -> InForce:
    """What the press's journal says, with the names that this host knows."""
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    standing_of_home(home)  # refuses before genesis

    def question(connection: Connection) -> tuple[Chain, dict[str, Details]]:
        genesis, *admitted = journal_view.chained(connection)
        chain = Chain.after(genesis, admitted)
        people = chain.roster.people
        found = (journal_view.person_details(connection, one.details) for one in people)
        return chain, {one.commitment: one for one in found if one is not None}

    chain, details = ask_journal(home, question)
    waiting = tuple(one.enrolled for one in press_room.new_keys(home))
    wanted = {one.details for one in chain.roster.people} | {one.details for one in waiting}
    known = {one.commitment: one for one in press_room.known_details(home, wanted)}
    return InForce(chain, {**details, **known}, waiting)


def _with_rules(wanted: Wanted, now: InForce, folder: Path) -> tuple[Wanted, RuleDocument | None]:
    """The file with the digest of its rules in place of their path, and the rules; None for those in force, or none."""
    from presspass.cli.rule_files import read_rules

    named = (wanted.rules or {}).get("rules")
    if wanted.rules is None or named is None:
        return wanted, None
    digest, document = str(named), None
    if digest != now.chain.policy.rules:
        document = read_rules(folder / str(named))
        digest = document.digest
    return replace(wanted, rules={**wanted.rules, "rules": digest}), document


def _check_rules(document: RuleDocument, chain: Chain, bodies: Sequence[MemberBody]) -> None:
    """As the press will check them, before anybody is asked."""
    from presspass.rules.lockout import approvers_of, check_not_locked, groups_of
    from presspass.rules.ruleset import RuleSet

    rules = RuleSet.of(document)
    rules.check()
    roster, policy = _after(chain, bodies)
    check_not_locked(rules, approvers_of(roster, policy), groups_of(roster))


def _after(chain: Chain, bodies: Sequence[MemberBody]) -> tuple[Roster, Policy]:
    """Roster and policy when all of this is in force."""
    rosters = [body.roster for body in bodies if isinstance(body, RosterBody)]
    policies = [body.policy for body in bodies if isinstance(body, PolicyBody)]
    return (*rosters, chain.roster)[0], (*policies, chain.policy)[0]


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        data = opened.read(APPLY_FILE_BYTES_MAX + 1)
    if len(data) > APPLY_FILE_BYTES_MAX:
        raise refuse_file(f"{file.name} has more than {APPLY_FILE_BYTES_MAX} bytes.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise refuse_file(f"{file.name} is not UTF-8 text.") from None


def _statement(now: InForce, bodies: Sequence[MemberBody]) -> Statement:
    chain = now.chain
    standing = Standing(chain.genesis.digest, chain.genesis.space, chain.heads, chain.policy)
    members = tuple(Member(body, chain.head(*subject(body))) for body in bodies)
    statement = standing.statement(BundleBody(members))
    if len(statement.to_bytes()) > STATEMENT_BYTES_MAX:
        raise refuse_file(
            f"All of this together has more than {STATEMENT_BYTES_MAX} bytes, which is more than one statement holds.",
            "Apply a part of the file first, say half of the new publishers.",
        )
    return statement


# --- asking -------------------------------------------------------------------------------------------------------


def _asked_already(home: Path, draft: Statement) -> JsonObject:
    """The request that asks for just this and still waits for signatures: {"digest", "url"}; {} where there is none."""
    from presspass.cli.databases import ask_gateway
    from presspass.gateway import requests

    wanted = _without_credentials(draft)
    if not wanted:
        return {}
    with control(home) as gate:
        waiting = [one for one in gate.get_json("/status")["requests"] if one["kind"] == "bundle"]
    for one in waiting:
        digest = str(one["digest"])
        asked = ask_gateway(home, partial(requests.find, digest=digest))
        if asked is not None and _without_credentials(asked.statement) == wanted:
            return {"digest": digest, "url": one["url"]}
    return {}


def _without_credentials(statement: Statement) -> frozenset[Member]:
    """What a bundle asks for, whatever credential was entered for it."""
    members = statement.body_as(BundleBody).members
    return frozenset(
        replace(one, body=replace(one.body, credential=""))
        if isinstance(one.body, UpstreamBody)
        else one
        for one in members
    )


def _check_no_lock(chain: Chain, bodies: Sequence[MemberBody], *, yes_lock: bool) -> None:
    roster, policy = _after(chain, bodies)
    if (roster, policy) != (chain.roster, chain.policy):
        check_no_lock(roster, policy, yes_lock=yes_lock)


def _secret_files(given: Sequence[str], planned: Plan) -> dict[str, Path]:
    found = {}
    for one in given:
        name, _, path = one.partition("=")
        if name not in planned.secrets or not Path(path).is_file():
            raise click.UsageError(
                f"--secret-file {one}: give NAME=FILE for an upstream that is new or changes: "
                f"{', '.join(planned.secrets) or 'there is none'}."
            )
        found[name] = Path(path)
    if len(planned.secrets) > len(found) and not sys.stdin.isatty():
        missing = ", ".join(name for name in planned.secrets if name not in found)
        raise click.UsageError(
            f"There is no terminal to ask at; give --secret-file NAME=FILE for: {missing}."
        )
    return found


def _ask(
    home: Path,
    now: InForce,
    planned: Plan,
    secret_files: Mapping[str, Path],
    document: RuleDocument | None,
) -> JsonObject:
    """Seals credentials, has the gate keep details and rules, puts the bundle before people; {"digest", "url"}."""
    if not planned.bodies:
        return {}
    with control(
        home
    ) as gate:  # whoever enters a secret should not hear only afterwards that no gate is running
        if planned.details:
            gate.post_json("/details", {"details": [one.to_json() for one in planned.details]})
        if document is not None:
            gate.post_json("/rules", document.to_bytes())
    entered: dict[str, tuple[str, str]] = {}
    bodies: list[MemberBody] = []
    for body in planned.bodies:
        if isinstance(body, UpstreamBody):
            note(f"upstream {safe(body.name)} ({safe(body.upload_url)})")
            secret, salt = read_secret(False, secret_files.get(body.name)), secrets.token_hex(16)
            entered[body.name] = (secret, salt)
            commitment = press_room.credential_commitment(secret, salt)
            bodies.append(replace(body, credential=commitment))
        else:
            bodies.append(body)
    statement = _statement(now, bodies)
    text = statement.to_bytes().decode("utf-8")
    for secret, salt in entered.values():
        order = {"do": "credential", "statement": text, "secret": secret, "salt": salt}
        press_room.order(home, order)
    return put_before_approvers(home, statement)


def _invite(home: Path, people: Sequence[WantedPerson]) -> list[dict[str, Any]]:
    """A link for everybody who has no key yet."""
    links: list[dict[str, Any]] = []
    if not people:
        return links
    with control(home) as gate:
        for one in people:
            asked = {
                "person": one.id,
                "name": one.name,
                "addresses": list(one.addresses),
                "groups": list(one.groups),
                "forge_ids": list(one.forge_ids),
            }
            links.append({"name": one.name, **gate.post_json("/links", asked)})
    return links


# --- showing ------------------------------------------------------------------------------------------------------

_GLYPHS = {"added": "+", "removed": "-", "changed": "~"}
_COLOURS = {"added": "green", "removed": "red", "changed": "yellow"}


def _tell_nothing(as_json: bool) -> None:
    if as_json:
        emit_json({"changes": [], "links": []})
    else:
        say("Nothing to do: what the file wants is in force.")


def _names(people: Sequence[WantedPerson]) -> list[str]:
    return [one.name for one in people]


def _show(planned: Plan, now: InForce, draft: Statement) -> None:
    """The difference: what is odd first, publishers that are bound alike together."""
    from presspass.gateway.console.bindings import publisher_items

    moves = effects(draft)
    pairs = []
    for one in moves:
        old = now.chain.in_force(one.kind, one.name)
        if isinstance(one.body, PublisherBody):
            pairs.append((old if isinstance(old, PublisherBody) else None, one.body))
    names = _people_names(planned, now)
    others = [one for one in moves if one.kind is not Kind.PUBLISHER]
    details = _all_details(planned, now)
    for change in changes_of(now.chain.in_force, others, opened=details.get):
        colour = _COLOURS.get(change.sign)
        first, *rest = change_lines(_with_names(change, names))
        say(safe(first), fg=colour)
        for line in rest:
            say(safe(line))
    for item in publisher_items(pairs):
        say(f"  {_GLYPHS[item.sign]} {safe(item.title)}", fg=_COLOURS[item.sign])
        if item.odd:
            say(f"      LOOK TWICE: {safe(item.odd)}", fg="yellow", bold=True)
        for name, value in item.facts:
            say(f"      {safe(name)}: {safe(value)}")
        for name, value in item.each:
            say(f"      {safe(name)}: {safe(value)}")
    for person in planned.invited:
        say(f"  + {safe(person.name)} has no key yet and gets an enrolment link", fg="green")


def _people_names(planned: Plan, now: InForce) -> dict[str, str]:
    """Names by id, of everybody before and after."""
    details = _all_details(planned, now)
    rosters = [now.chain.roster]
    rosters += [body.roster for body in planned.bodies if isinstance(body, RosterBody)]
    people = (person for roster in rosters for person in roster.people)
    return {one.id: details[one.details].name for one in people if one.details in details}


def _all_details(planned: Plan, now: InForce) -> dict[str, Details]:
    return {**now.details, **{one.commitment: one for one in planned.details}}


def _with_names(change: Change, names: Mapping[str, str]) -> Change:
    """A change of people with their names."""
    members = tuple(
        (name, names.get(before, before), names.get(after, after))
        if name == "person"
        else (name, before, after)
        for name, before, after in change.members
    )
    called = f"{change.name} {names.get(change.name, '')}".rstrip()
    return replace(change, name=called, members=members)


def _changes_json(now: InForce, draft: Statement) -> list[JsonObject]:
    return [
        {
            "sign": one.sign,
            "what": one.what,
            "name": one.name,
            "members": [list(member) for member in one.members],
            "odd": list(one.odd),
        }
        for one in changes_of(now.chain.in_force, effects(draft))
    ]
