"""What approvers are told by the press itself, to the addresses in the roster, whatever the gateway shows them.

A notice is journalled in the transaction of what it is about, once per person and event; `press.outbox` sends it.
Nothing waits for delivery but the veto window, which is there for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from presspass.core.changes import Opened, all_lines, changes_of
from presspass.core.digests import sha256_hex
from presspass.core.effects import effects
from presspass.core.roster import Person, Roster
from presspass.core.statement import FreezeBody, ReleaseBody, Statement
from presspass.press.journal import insert_new
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.verify.chain import Chain
from presspass.verify.shortage import packages_of, short_of_approvers

_HOW_TO_STOP = "To stop it: veto on that page, or `presspass veto`."
_LISTED_MAX = 50


def tell(
    connection: Connection,
    people: Iterable[Person],
    about: str,
    subject: str,
    body: str,
    now_ms: int,
    urgent: bool = True,
) -> int:
    """Journals one notice for every address of these people; returns how many were new. `urgent`: waits for no digest
    and no limit.
    """
    told = 0
    for person in people:
        details = view.person_details(connection, person.details)
        for address in details.addresses if details else ():
            told += insert_new(
                connection,
                t.NOTICE,
                id=sha256_hex(f"{about}\n{address}\n{subject}".encode()),
                address=address,
                subject=subject,
                body=body,
                about=about,
                next_ms=now_ms,
                person=person.id,
                urgent=int(urgent),
                made_ms=now_ms,
            )
    return told


def tell_everybody(
    connection: Connection,
    about: str,
    subject: str,
    body: str,
    now_ms: int,
    also: Roster | None = None,
    urgent: bool = True,
) -> int:
    """`tell` for the roster in force, and for those who were in the one before."""
    people = (*view.roster(connection).people, *(also.people if also else ()))
    return tell(connection, people, about, subject, body, now_ms, urgent)


def left_text(connection: Connection) -> str:
    """What follows from a person's leaving, by the press's own count: packages that too few people are left for."""
    chain = Chain.of(view.chained(connection))
    if chain is None:
        return ""
    lines = [
        "\n\nTheir approvals count for nothing from now on; what they asked for and is not out is over.",
        f"The others take the keys out of the roster: {chain.body.origin}/c",
    ]
    packages = packages_of(chain, view.published_projects(connection))
    short = short_of_approvers(chain, view.suspended(connection), packages)
    if short:
        first = short[0]
        lines.append(
            f"FROZEN, since {first.needed} must approve and {first.eligible} could; the number is not lowered:"
        )
        lines += [
            f"  {one.package.project} at {one.package.upstream}" for one in short[:_LISTED_MAX]
        ]
        if len(short) > _LISTED_MAX:
            lines.append(f"  and {len(short) - _LISTED_MAX} more")
    return "\n".join(lines)


def change_text(chain: Chain, statement: Statement, opened: Opened = lambda _: None) -> str:
    """What is about to change, computed from the statement and the state in force, not from anybody's page."""
    wait = "after the veto window"
    if chain.new_keys(statement):
        wait = f"after the veto window, and not before {chain.policy.new_key_wait_s} s from when it was first seen"
    lines = [
        f"{statement.kind.value}: approved by enough people; it comes into force {wait}.",
        "",
        *_changes(chain, statement, opened),
        "",
        f"Look: {chain.site[0]}/q/{statement.digest}",
        _HOW_TO_STOP,
    ]
    return "\n".join(lines)


def admitted_text(
    before: Chain, origin: str, statement: Statement, opened: Opened = lambda _: None
) -> str:
    """What has come into force. `before`: the state that it replaces; `origin`: where the gate is now."""
    lines = [
        f"A change of {statement.kind.value} is in force.",
        "",
        *_changes(before, statement, opened),
        "",
        f"Look: {origin}/q/{statement.digest}",
    ]
    return "\n".join(lines)


def _changes(chain: Chain, statement: Statement, opened: Opened) -> list[str]:
    body = statement.body
    if isinstance(body, FreezeBody):
        return [f"  ends: {id}" for id in body.narrowings]
    lines = all_lines(changes_of(chain.in_force, effects(statement), chain.site[0], opened))
    return lines or ["  nothing that is not in force already"]


def release_text(
    origin: str, upstream: str, body: ReleaseBody, standing: str = "", read_until: int | None = None
) -> str:
    """What is about to be published, computed from the statement: names, sizes and digests. `standing`: name of the
    standing approval under which it passes, "" where people have signed it; `read_until`: Unix seconds until which
    it is to be read afterwards, None where it was not chosen.
    """
    lines = [f"{body.project} {body.version} to {upstream}"]
    if standing:
        lines.append(f"Nobody has signed it: it passes under the standing approval {standing}.")
    if read_until is not None:
        at = datetime.fromtimestamp(read_until, UTC).strftime("%Y-%m-%d %H:%M UTC")
        lines.append(
            f"It was chosen to be read afterwards: somebody signs it on its page until {at}."
        )
    lines.append("")
    lines += [f"  {file.name}  {file.size} bytes\n  sha256 {file.sha256}" for file in body.files]
    lines += [
        "",
        f"Look: {origin}/r/{body.release}",
        "To stop it: veto on that page, or `presspass veto`.",
    ]
    return "\n".join(lines)
