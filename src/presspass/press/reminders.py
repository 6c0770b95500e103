"""Requests that nobody decides: people are told once before one expires, and a group once nobody has decided in time.

Both count from the press's own first sight. That a gateway hides a request only keeps it from being granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.engine import Connection

from presspass.core.limits import REMINDER_S_MAX
from presspass.core.policy import Policy
from presspass.core.roster import Person, Roster
from presspass.core.statement import ReleaseBody, Statement
from presspass.press import notices
from presspass.press.asks import Ask
from presspass.press.books import Books
from presspass.press.clock import Clock
from presspass.press.journal import insert_new
from presspass.store import journal_tables as t
from presspass.store import journal_view as view

_EXPIRES: Final = "expires"
_ESCALATED: Final = "escalated"


@dataclass(slots=True)
class Reminders:
    """Remembers what was told, so that a turn in which nothing is due costs no write."""

    books: Books
    clock: Clock
    _told: set[tuple[str, str]] = field(default_factory=set)

    def look(self, found: Sequence[Ask], now_ms: int) -> None:
        """Tells what is due of these requests; each thing once, also over a restart."""
        if not found:
            return
        with self.books.writer.read() as connection:
            decisions = view.decisions(connection, [ask.digest for ask in found])
            policy = view.policy(connection)
        for ask in found:
            decision = decisions.get(ask.digest)
            if decision is not None and decision.state == "seen":
                for what in self._due(ask.statement, decision, policy, now_ms):
                    self._tell(ask.statement, what, policy, now_ms)

    def _due(
        self, statement: Statement, decision: view.Decision, policy: Policy, now_ms: int
    ) -> list[str]:
        left_s = statement.expires_at - now_ms // 1000
        life_s = statement.expires_at - decision.first_seen_ms // 1000
        waited_ms = self.clock.elapsed_ms(decision.first_seen_ms, now_ms)
        after_s = policy.escalate_after_s
        due = {
            _EXPIRES: 0 < left_s <= min(REMINDER_S_MAX, life_s // 4),
            _ESCALATED: after_s is not None and waited_ms >= after_s * 1000 and left_s > 0,
        }
        return [what for what in due if due[what] and (statement.digest, what) not in self._told]

    def _tell(self, statement: Statement, what: str, policy: Policy, now_ms: int) -> None:
        def work(connection: Connection) -> None:
            row = {"statement": statement.digest, "what": what, "at_ms": now_ms}
            if not insert_new(connection, t.REMINDED, **row):
                return
            place = _place(self.books.chain(connection).site[0], statement)
            people: Sequence[Person] = view.roster(connection).people
            if what == _ESCALATED:
                people = _group(view.roster(connection), policy.escalate_to)
                subject = f"Nobody has decided: {_title(statement)}"
                text = f"It waits for {_time(policy.escalate_after_s or 0)}."
            else:
                subject = f"Expires soon: {_title(statement)}"
                text = f"It expires in {_time(statement.expires_at - now_ms // 1000)}, undecided."
            body = f"{text}\nLook: {place}"
            notices.tell(connection, people, statement.digest, subject, body, now_ms)

        self.books.writer.run(work)
        self._told.add((statement.digest, what))


def _group(roster: Roster, name: str) -> Sequence[Person]:
    """The people of a group; everybody where it is not named or has nobody in it."""
    return [one for one in roster.people if name in one.groups] or roster.people


def _title(statement: Statement) -> str:
    body = statement.body
    if isinstance(body, ReleaseBody):
        return f"{body.project} {body.version}"
    return f"a change of {statement.kind.value}"


def _place(origin: str, statement: Statement) -> str:
    body = statement.body
    if isinstance(body, ReleaseBody):
        return f"{origin}/r/{body.release}"
    return f"{origin}/q/{statement.digest}"


def _time(seconds: int) -> str:
    """In whole hours, or minutes below two of them."""
    hours, minutes = seconds // 3600, max(seconds // 60, 1)
    return f"{hours} hours" if hours >= 2 else f"{minutes} minute{'' if minutes == 1 else 's'}"
