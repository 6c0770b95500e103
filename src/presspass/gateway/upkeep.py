"""What happens to sets without anybody asking: the quiet period ends, time runs out, the press decides.

Looked at every LOOK_S seconds, cheaply: an idle gate does a few indexed reads and writes nothing. Each look is
idempotent, so it does not matter where a killed process left off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code
from presspass.core.lifecycle import TRANSITIONS, State
from presspass.core.statement import Statement
from presspass.gateway import leaving, sets, stops
from presspass.gateway.gate import Gate
from presspass.gateway.journal import Rules
from presspass.store import journal_view
from presspass.store.address import Place
from presspass.store.database import ChangeSignal, exists
from presspass.store.gateway_tables import RELEASE, REQUEST, SEEN_TOKEN
from presspass.store.journal_view import Decision

LOOK_S: Final = 0.05
_EXPIRY_LOOK_MS: Final = 1000
#: The press has the word on expiry; the gateway says it by itself only when the press has not, so long after.
_EXPIRY_GRACE_S: Final = 30
_DECIDED: Final = {
    "approved": State.APPROVED,
    "publishing": State.PUBLISHING,
    "published": State.PUBLISHED,
    "verified": State.VERIFIED,
    "rejected": State.REJECTED,
    "expired": State.EXPIRED,
    "failed": State.FAILED,
    "stale": State.STAGED,
}
_MIRRORED: Final = (State.AWAITING, State.APPROVED, State.PUBLISHING, State.PUBLISHED)


class Upkeep:
    """Call `look` from one thread only."""

    def __init__(self, gate: Gate, journal: Place) -> None:
        self._gate = gate
        self._signal = ChangeSignal(
            journal
        )  # its own: another reader must not take the change away from it
        self._journal = journal
        self._expires: dict[str, int] = {}
        self._rules: Rules | None = None
        self._followed: tuple[str, frozenset[str]] = ("", frozenset())
        self._expiry_look_ms = 0
        self._enforced: set[str] = set()

    def look(self) -> None:
        """One look at everything."""
        gate = self._gate
        gate.journal.refresh()
        if exists(self._journal) and self._signal.changed():
            self.mirror()
            self._end_revoked()
        self._follow_leaving()
        self._close_quiet()
        now = gate.clock()
        if now - self._expiry_look_ms >= _EXPIRY_LOOK_MS:
            self._expiry_look_ms = now
            self._expire(now)
            self._forget_tokens(now)
            gate.events.settle()

    def _follow_leaving(self) -> None:
        """What the press has latched about people is carried out here too, and the roster without them asked for anew
        when its head has moved."""
        rules = self._gate.journal.rules
        if rules is self._rules or rules.chain is None:
            return
        gone = frozenset(one.id for one in rules.narrowings if one.what == "person")
        now_known = (rules.chain.heads.roster, gone)
        if gone and now_known != self._followed:
            leaving.follow(self._gate)
        self._rules, self._followed = rules, now_known

    def _forget_tokens(self, now_ms: int) -> None:
        """Claims of identity tokens, once these have expired."""
        with self._gate.writer.read() as connection:
            due = sa.select(SEEN_TOKEN.c.key).where(SEEN_TOKEN.c.until_ms <= now_ms).limit(1)
            if connection.execute(due).first() is None:
                return
        over = sa.delete(SEEN_TOKEN).where(SEEN_TOKEN.c.until_ms <= now_ms)
        self._gate.writer.run(lambda connection: connection.execute(over))

    def _end_revoked(self) -> None:
        """Passes that a narrowing ends which the press has latched and this gate has not seen yet."""
        gate = self._gate
        new = [one for one in gate.journal.rules.narrowings if one.id not in self._enforced]
        if new:
            gate.writer.run(lambda c: stops.end_passes(c, new, gate.clock()))
            self._enforced.update(one.id for one in new)

    def close(self) -> None:
        """Closes what it reads with."""
        self._signal.close()

    def mirror(self) -> None:
        """Brings the press's decisions into the states of releases."""
        with self._gate.writer.read() as connection:
            live = list(_decidable(connection))
        if not live:
            return
        statements = [statement for _, _, statement in live]
        decided = self._gate.journal.read(lambda c: journal_view.decisions(c, statements))
        moves = [
            (release, state, decided[statement])
            for release, state, statement in live
            if statement in decided and _leads_on(state, decided[statement])
        ]
        if moves:
            self._gate.writer.run(lambda connection: self._apply(connection, moves))

    def _apply(self, connection: Connection, moves: list[tuple[str, State, Decision]]) -> None:
        now = self._gate.clock()
        for release, state, decision in moves:
            target = _DECIDED[decision.state]
            more: dict[str, object] = {"code": decision.code, "reason": decision.message}
            if target is State.STAGED:
                more |= {"statement": None, "code": decision.code or Code.RELEASE_STALE.value}
            path = list(way(state, target))
            for step in path[:-1]:  # the press may have gone several steps between two looks
                sets.advance(connection, release, state, step, now)
                state = step
            sets.advance(connection, release, state, target, now, **more)

    def _close_quiet(self) -> None:
        gate = self._gate
        quiet_s = gate.journal.rules.policy.quiet_period_s
        with gate.writer.read() as connection:
            due = sets.quiet_is_due(connection, quiet_s, gate.clock())
        if due:
            gate.writer.run(lambda connection: sets.close_quiet(connection, quiet_s, gate.clock()))

    def _expire(self, now_ms: int) -> None:
        with self._gate.writer.read() as connection:
            over = [one for one in _asked(connection) if self._is_over(*one, now_ms)]
        if over:
            self._gate.writer.run(lambda connection: _expire_all(connection, over, now_ms))

    def _is_over(self, release: str, request: str, now_ms: int) -> bool:
        expires = self._expires.get(request)
        if expires is None:
            with self._gate.writer.read() as connection:
                query = sa.select(REQUEST.c.statement).where(REQUEST.c.digest == request)
                data = connection.execute(query).scalar_one()
            expires = self._expires[request] = Statement.from_bytes(data).expires_at
        return now_ms >= (expires + _EXPIRY_GRACE_S) * 1000


def way(old: State, new: State) -> Iterator[State]:
    """The steps from `old` to `new` by the table of transitions, the shortest way; nothing when there is none."""
    paths: list[tuple[State, ...]] = [(old,)]
    seen = {old}
    for path in paths:
        if path[-1] is new:
            yield from path[1:]
            return
        for step in sorted(TRANSITIONS[path[-1]] - seen):
            seen.add(step)
            paths.append((*path, step))


def _expire_all(connection: Connection, over: list[tuple[str, str]], now_ms: int) -> None:
    more = {"code": Code.RELEASE_EXPIRED.value, "reason": "Nobody decided in time."}
    for release, _ in over:
        sets.advance(connection, release, State.AWAITING, State.EXPIRED, now_ms, **more)


def _leads_on(state: State, decision: Decision) -> bool:
    target = _DECIDED.get(decision.state)
    return target is not None and target is not state and bool(list(way(state, target)))


def _decidable(connection: Connection) -> Iterator[tuple[str, State, str]]:
    """(release, state, digest of its statement) of every set that the press may decide about."""
    query = sa.select(RELEASE.c.id, RELEASE.c.state, RELEASE.c.statement).where(
        RELEASE.c.live == 1,
        RELEASE.c.statement.is_not(None),
        RELEASE.c.state.in_([state.value for state in _MIRRORED]),
    )
    for row in connection.execute(query):
        yield row.id, State(row.state), row.statement


def _asked(connection: Connection) -> list[tuple[str, str]]:
    query = sa.select(RELEASE.c.id, RELEASE.c.statement).where(
        RELEASE.c.state == State.AWAITING.value, RELEASE.c.statement.is_not(None)
    )
    return [(row.id, row.statement) for row in connection.execute(query)]
