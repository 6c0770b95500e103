"""What approvers are told by the press itself, to the addresses in the roster, whatever the gateway shows them.

A notice is journalled in the transaction of what it is about, once per person and event, and sent until it is
delivered or has been tried for a day. Nothing waits for delivery but the veto window, which is there for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.changes import Opened, all_lines, changes_of
from presspass.core.digests import sha256_hex
from presspass.core.effects import effects
from presspass.core.roster import Roster
from presspass.core.statement import FreezeBody, ReleaseBody, Statement
from presspass.notify import Channel, Message
from presspass.press.journal import insert_new
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.database import Writer
from presspass.verify.chain import Chain

_HOW_TO_STOP = "To stop it: veto on that page, or `presspass veto`."
_LOG = logging.getLogger("presspass.press")
_ATTEMPTS_MAX = 20
_BACK_OFF_MS_MAX = 3_600_000


def tell(
    connection: Connection, roster: Roster, about: str, subject: str, body: str, now_ms: int
) -> int:
    """Journals one notice for every address of everybody in the roster; returns how many were new."""
    told = 0
    for person in roster.people:
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
            )
    return told


def tell_everybody(
    connection: Connection,
    about: str,
    subject: str,
    body: str,
    now_ms: int,
    also: Roster | None = None,
) -> int:
    """`tell` for the roster in force, and for those who were in the one before."""
    told = tell(connection, view.roster(connection), about, subject, body, now_ms)
    return told + (tell(connection, also, about, subject, body, now_ms) if also else 0)


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


def release_text(origin: str, upstream: str, body: ReleaseBody) -> str:
    """What is about to be published, computed from the statement: names, sizes and digests."""
    lines = [f"{body.project} {body.version} to {upstream}", ""]
    lines += [f"  {file.name}  {file.size} bytes\n  sha256 {file.sha256}" for file in body.files]
    lines += [
        "",
        f"Look: {origin}/r/{body.release}",
        "To stop it: veto on that page, or `presspass veto`.",
    ]
    return "\n".join(lines)


def deliver_due(
    writer: Writer,
    channels: Sequence[Channel],
    now_ms: int,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Sends what is due, each outside any transaction, until `stop`; returns how many were delivered."""
    n = t.NOTICE.c
    with writer.read() as connection:
        due = connection.execute(
            sa.select(t.NOTICE)
            .where(n.sent_ms.is_(None), n.next_ms <= now_ms, n.attempts < _ATTEMPTS_MAX)
            .order_by(n.next_ms)
            .limit(50)
        ).all()
    return sum(_deliver_one(writer, channels, row, now_ms) for row in due if not stop())


def _deliver_one(
    writer: Writer, channels: Sequence[Channel], row: sa.Row[tuple[object, ...]], now_ms: int
) -> bool:
    message = Message(row.id, row.address, row.subject, row.body)
    channel = next((one for one in channels if one.accepts(message.address)), None)
    error = "no channel is configured for this address"
    if channel is not None:
        try:
            channel.deliver(message, now_ms // 1000)
            error = ""
        except Exception as failure:  # an address can make the mail library raise nearly anything; the others are told
            error = f"{type(failure).__name__}: {failure}".encode(
                "ascii", "backslashreplace"
            ).decode()[:500]
            _LOG.warning("a notice was not delivered: %s", error)
    attempts = row.attempts + 1
    values: dict[str, object] = {"attempts": attempts, "error": error}
    if error:
        values["next_ms"] = now_ms + min(1000 * 2**attempts, _BACK_OFF_MS_MAX)
    else:
        values["sent_ms"] = now_ms
    writer.run(
        lambda c: c.execute(t.NOTICE.update().where(t.NOTICE.c.id == row.id).values(**values))
    )
    return not error
