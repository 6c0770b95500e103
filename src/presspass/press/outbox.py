"""Notices on their way: what is due goes out, in few messages, and is tried again until it is delivered or hopeless.

1. What is urgent waits for nothing. Of what is not, a person can have a digest: everything since the last one, at
   whole multiples of its interval.
2. More than a few that are due for one address at once are one message that counts them, urgent ones too; an address
   that has just had several messages gets what is not urgent at the end of the window, in one message.
3. A notice that was tried for a day is dead: it stays, and `doctor` and `status` say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from presspass.core.digests import sha256_hex
from presspass.core.limits import (
    NOTICE_ATTEMPTS_MAX,
    NOTICE_PAUSE_S_MAX,
    NOTICE_ROUNDS_MAX,
    NOTICE_WINDOW_S,
    NOTICES_APART_MAX,
    NOTICES_LISTED_MAX,
)
from presspass.notify import Channel, Message
from presspass.notify.forge import SCHEME
from presspass.store import journal_tables as t
from presspass.store.database import Writer

_LOG = logging.getLogger("presspass.press")
_PER_LOOK = 1000
_Row = sa.Row[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Outbox:
    """`channels`: the ways out, in their order; `digests`: seconds between digests, by a person's id."""

    writer: Writer
    channels: Sequence[Channel]
    digests: Mapping[str, int] = field(default_factory=dict)

    def deliver_due(self, now_ms: int, stop: Callable[[], bool] = lambda: False) -> int:
        """Sends what is due, each outside any transaction, until `stop`; returns how many notices were delivered."""
        by_address: dict[str, list[_Row]] = {}
        for row in self._due(now_ms):
            by_address.setdefault(row.address, []).append(row)
        sent = 0
        for address, rows in by_address.items():
            for message, part in self._messages(address, rows, now_ms):
                if stop():
                    return sent
                sent += len(part) if self._deliver(message, part, now_ms) else 0
        return sent

    def _due(self, now_ms: int) -> Sequence[_Row]:
        n = t.NOTICE.c
        query = (
            sa.select(t.NOTICE)
            .where(n.sent_ms.is_(None), n.next_ms <= now_ms, n.attempts < NOTICE_ATTEMPTS_MAX)
            .order_by(n.urgent.desc(), n.next_ms, n.id)
            .limit(_PER_LOOK)
        )
        with self.writer.read() as connection:
            return connection.execute(query).all()

    def _messages(
        self, address: str, rows: list[_Row], now_ms: int
    ) -> list[tuple[Message, list[_Row]]]:
        """What goes to this address now; what can wait is put off."""
        if address.startswith(SCHEME):  # not for people: each says one thing to a program
            return [(_one(row), [row]) for row in rows]
        until = {row.id: self._put_off(row, now_ms) for row in rows}
        waiting = [row for row in rows if until[row.id] > now_ms]
        now = [row for row in rows if until[row.id] <= now_ms]
        if any(not row.urgent and not row.attempts for row in now):
            full = self._window_end(address, now_ms)
            late = [row for row in now if full > now_ms and not row.urgent and not row.attempts]
            waiting += late
            until.update((row.id, full) for row in late)
            now = [row for row in now if row not in late]
        self._postpone(waiting, until)
        together = len(now) > NOTICES_APART_MAX or (
            len(now) > 1 and any(not row.urgent and row.person in self.digests for row in now)
        )
        if not together:
            return [(_one(row), [row]) for row in now]
        return [(merged(address, now), now)]

    def _put_off(self, row: _Row, now_ms: int) -> int:
        """When the digest goes out that this notice is for; 0 where it is for none."""
        every_ms = self.digests.get(row.person, 0) * 1000
        if row.urgent or not every_ms:
            return 0
        return int((row.made_ms // every_ms + 1) * every_ms)

    def _window_end(self, address: str, now_ms: int) -> int:
        """The end of the window in which this address has had its messages; 0 where it may have another one."""
        n = t.NOTICE.c
        since = now_ms - NOTICE_WINDOW_S * 1000
        query = sa.select(n.sent_ms).distinct().where(n.address == address, n.sent_ms > since)
        with self.writer.read() as connection:
            rounds = sorted(connection.execute(query).scalars())
        return rounds[0] + NOTICE_WINDOW_S * 1000 if len(rounds) >= NOTICE_ROUNDS_MAX else 0

    def _postpone(self, rows: Iterable[_Row], until: Mapping[str, int]) -> None:
        by_time: dict[int, list[str]] = {}
        for row in rows:
            by_time.setdefault(until[row.id], []).append(row.id)
        for next_ms, ids in by_time.items():
            self._write(ids, {"next_ms": next_ms})

    def _write(self, ids: Sequence[str], values: Mapping[str, object]) -> None:
        n = t.NOTICE
        self.writer.run(lambda c: c.execute(n.update().where(n.c.id.in_(ids)).values(**values)))

    def _deliver(self, message: Message, rows: Sequence[_Row], now_ms: int) -> bool:
        error = self._send(message, now_ms)
        attempts = max(row.attempts for row in rows) + 1
        values: dict[str, object] = {"attempts": attempts, "error": error}
        if error:
            pause_ms = 1000 * min(2 ** min(attempts, 20), NOTICE_PAUSE_S_MAX)
            values["next_ms"] = now_ms + pause_ms
        else:
            values["sent_ms"] = now_ms
        self._write([row.id for row in rows], values)
        return not error

    def _send(self, message: Message, now_ms: int) -> str:
        """Why it was not delivered, "" where it was."""
        channel = next((one for one in self.channels if one.accepts(message.address)), None)
        if channel is None:
            return "no channel is configured for this address"
        try:
            channel.deliver(message, now_ms // 1000)
        except Exception as failure:  # an address can make the mail library raise nearly anything; the others are told
            text = f"{type(failure).__name__}: {failure}"
            error = text.encode("ascii", "backslashreplace").decode()[:500]
            _LOG.warning("a notice was not delivered: %s", error)
            return error
        return ""


def _one(row: _Row) -> Message:
    return Message(row.id, row.address, row.subject, row.body)


def merged(address: str, rows: Sequence[_Row]) -> Message:
    """Several notices as one message: a line for each subject with its count, then as many texts as one message takes.
    Its id is that of its notices, so that a receiver can drop a repeat.
    """
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.subject] = counts.get(row.subject, 0) + 1
    head = [f"  {count} x {subject}" for subject, count in counts.items()][:NOTICES_LISTED_MAX]
    if len(counts) > NOTICES_LISTED_MAX:
        head.append(f"  and {len(counts) - NOTICES_LISTED_MAX} other subjects")
    texts = [f"-- {row.subject}\n\n{row.body}" for row in rows[:NOTICES_LISTED_MAX]]
    if len(rows) > NOTICES_LISTED_MAX:
        texts.append(f"-- and {len(rows) - NOTICES_LISTED_MAX} more: the console shows them all.")
    id = sha256_hex("\n".join(sorted(row.id for row in rows)).encode())
    urgent = sum(row.urgent for row in rows)
    subject = f"{len(rows)} notices" + (f", {urgent} of them urgent" if urgent else "")
    return Message(id, address, subject, "\n".join([*head, "", "\n\n".join(texts)]))
