"""What forges are told about releases that a workload asked for: a status at its commit, and an event at the end.

A row is made at the press's first sight of a release. What follows from its decision is journalled as notices, which
are sent and tried again as all others (`press.outbox`). A later state takes the place of an earlier one that was
not delivered yet: a forge never hears "pending" after "success".
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.publisher import PublisherBody
from presspass.core.statement import ReleaseBody, Statement
from presspass.notify.forge import FOLLOW_UP, STATUS, Call, Forge
from presspass.press.journal import insert_new
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.database import Writer
from presspass.store.journal_view import SeenWorkload

_PER_LOOK: Final = 100
_NOBODY: Final = "nobody"
#: State of a decision to the state that a forge is told. One that is asked for anew ("stale") says nothing more.
_STATES: Final = {
    "verified": "success",
    "rejected": "failure",
    "expired": "failure",
    "failed": "failure",
    "stale": _NOBODY,
}
_DONE: Final = ("success", "failure", _NOBODY)


@dataclass(frozen=True, slots=True)
class _Due:
    """A release whose forge is to be told `state`, since the press's decision is `decided`."""

    statement: str
    token: str
    release: str
    project: str
    version: str
    decided: str
    message: str
    state: str


@dataclass(frozen=True, slots=True)
class Forges:
    """`forges`: those that are configured, in their order; `origin`: of the release's page."""

    writer: Writer
    forges: Sequence[Forge]
    origin: str

    def note(self, connection: Connection, statement: Statement) -> None:
        """At first sight of a release, in that transaction. What is not noted here is never told: a forge that is
        configured later hears nothing of the past.
        """
        body = statement.body
        if self.forges and isinstance(body, ReleaseBody) and body.asked_by is not None:
            insert_new(
                connection,
                t.FORGE_REPORT,
                statement=statement.digest,
                token=body.asked_by.token,
                release=body.release,
                project=body.project,
                version=body.version,
                told="",
            )

    def look(self, now_ms: int) -> int:
        """Journals what is to be told now; how many releases have moved on."""
        if not self.forges:
            return 0
        with self.writer.read() as connection:
            due = _due(connection)
        for one in due:
            self.writer.run(functools.partial(self._tell, due=one, now_ms=now_ms))
        return len(due)

    def _tell(self, connection: Connection, due: _Due, now_ms: int) -> None:
        seen = view.workload(connection, due.token)
        forge, project_id = self._forge(connection, seen)
        state = due.state
        if forge is None or seen is None:
            state = _NOBODY
        elif state != _NOBODY:
            call = Call(
                repository=seen.repository,
                project_id=project_id,
                commit=seen.commit_id,
                state=state,
                description=_description(due),
                url=f"{self.origin}/r/{due.release}",
                release=due.release,
                project=due.project,
                version=due.version,
            )
            _supersede(connection, due.statement, forge.address, now_ms)
            _enqueue(connection, due.statement, forge.address, f"{STATUS} {state}", call, now_ms)
            if state in _DONE and forge.follow_up:
                _enqueue(connection, due.statement, forge.address, FOLLOW_UP, call, now_ms)
        r = t.FORGE_REPORT
        connection.execute(r.update().where(r.c.statement == due.statement).values(told=state))

    def _forge(self, connection: Connection, seen: SeenWorkload | None) -> tuple[Forge | None, str]:
        """The forge of a verified workload, and GitLab's id of its project."""
        if seen is None or seen.state != "verified":
            return None, ""
        statement = view.statement(connection, seen.publisher_statement)
        body = statement.body if statement else None
        if not isinstance(body, PublisherBody):
            return None, ""
        found = next((one for one in self.forges if one.serves(body.issuer, seen.repository)), None)
        return found, dict(body.ids).get("project_id", "")


def _due(connection: Connection) -> list[_Due]:
    """Rows whose forge should have been told another state than it was; those whose workload is not judged yet wait."""
    r, d, w = t.FORGE_REPORT.c, t.DECISION.c, t.WORKLOAD.c
    columns = (r.statement, r.token, r.release, r.project, r.version, r.told, d.state, d.message)
    rows = connection.execute(
        sa.select(*columns, w.state.label("judged"))
        .join(t.DECISION, d.statement == r.statement)
        .join(t.WORKLOAD, w.token == r.token, isouter=True)
        .where(r.told.not_in(_DONE))
        .order_by(d.updated_ms)
        .limit(_PER_LOOK)
    )
    found = []
    for statement, token, release, project, version, told, decided, message, judged in rows:
        state = _STATES.get(decided, "pending")
        if state != told and (judged in ("verified", "refused") or state in _DONE):
            found.append(_Due(statement, token, release, project, version, decided, message, state))
    return found


def _description(due: _Due) -> str:
    what = f"{due.project} {due.version}"
    if due.state == "pending":
        return f"{what} waits for signatures"
    if due.state == "success":
        return f"{what} is published"
    return f"{what}: {due.decided}. {due.message}"


def _supersede(connection: Connection, about: str, address: str, now_ms: int) -> None:
    n = t.NOTICE.c
    older = (n.about == about, n.address == address, n.sent_ms.is_(None))
    connection.execute(
        t.NOTICE.update()
        .where(*older, n.subject.startswith(STATUS))
        .values(sent_ms=now_ms, error="superseded")
    )


def _enqueue(
    connection: Connection, about: str, address: str, subject: str, call: Call, now_ms: int
) -> None:
    insert_new(
        connection,
        t.NOTICE,
        id=sha256_hex(f"{about}\n{address}\n{subject}".encode()),
        address=address,
        subject=subject,
        body=call.to_text(),
        about=about,
        next_ms=now_ms,
    )
