"""A person leaves: one way for everything that somebody had, whoever says so (operator, signature, SCIM, provider).

1. The stop is recorded first, and what it ends is ended in the same transaction: sessions, terminals that wait, sign-in
   passkeys, links, upload tokens, passes. Every process of the gate looks these up anew at each request.
2. What the person has lent to others ends too: delegations, each by a stop of its own, and approvals under whatever is
   unfinished, each by a stop of its own. The press latches them all; clearing the person's stop clears none of them.
3. What the person asked for, or a bot in the person's name, and has not begun to go out, is withdrawn.
4. Taking the keys out of the roster is a widening of everybody else's weight, so people sign it: the request is made
   here and put before them. Until then the person counts for nothing, and the number of approvers stays.
5. It narrows only and can be repeated: the second time changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.approval import approval_id
from presspass.core.errors import Code
from presspass.core.lifecycle import State, may_move
from presspass.core.quorum import Electorate
from presspass.core.roster import Roster
from presspass.core.statement import Kind, RosterBody, Statement
from presspass.gateway import passes, requests, sets, stops
from presspass.gateway.gate import Gate
from presspass.gateway.identity import passkeys, sessions
from presspass.gateway.stops import Stop
from presspass.store import journal_view
from presspass.store.gateway_tables import (
    APPROVAL,
    ENROLMENT_LINK,
    PASS,
    RELEASE,
    REQUEST,
    SIGN_IN_CHALLENGE,
    SIGN_IN_LINK,
    STOP,
    UPLOAD_TOKEN,
    WORKLOAD_TOKEN,
)

#: States of the press's decision from which nothing follows any more.
_OVER = frozenset({"verified", "failed", "admitted", "rejected", "expired", "stale"})


@dataclass(frozen=True, slots=True)
class Left:
    """What ended, by how many or by name. `stop`: the id that a quorum can clear; `new`: whether it was made now;
    `releases`: ids; `request`: the roster without the keys, put before people; None where there is nothing to ask, or
    where too few would be left to change anything.
    """

    person: str
    stop: str
    new: bool
    sessions: int = 0
    sign_in_keys: int = 0
    links: int = 0
    upload_tokens: int = 0
    passes: int = 0
    delegations: tuple[str, ...] = ()
    approvals: int = 0
    releases: tuple[str, ...] = ()
    request: str | None = None

    @property
    def changed(self) -> bool:
        """Whether anything ended by it."""
        empty = Left(self.person, self.stop, new=False, request=self.request)
        return self != empty


def leave(gate: Gate, person: str, reason: str, source: str) -> Left:
    """Ends everything of `person` (an id). `source`: the part of the gate that was told so. Durable at return."""
    gate.journal.refresh()
    return gate.writer.run(lambda connection: leave_in(gate, connection, person, reason, source))


def leave_in(gate: Gate, connection: Connection, person: str, reason: str, source: str) -> Left:
    """As `leave`, in the caller's transaction."""
    standing = standing_stops(gate, connection).get(person)
    stop = Stop("person", person, reason, source, nonce=secrets.token_hex(8))
    return carry_out(gate, connection, stop, standing)


def carry_out(gate: Gate, connection: Connection, stop: Stop, standing: str | None = None) -> Left:
    """Records a person's stop, unless one is `standing` already (its id), and ends what it ends."""
    now, person = gate.clock(), stop.target
    live = sa.select(sa.func.count()).where(
        PASS.c.person == person, PASS.c.ended_ms.is_(None), PASS.c.expires_ms > now
    )
    passes_ended = int(connection.execute(live).scalar_one())
    new = False
    if standing is None:
        new = stops.record(connection, stop, now)
        standing = stop.id
    passes.end(connection, [PASS.c.person == person], "person revoked", now)
    return Left(
        person=person,
        stop=standing,
        new=new,
        sessions=sessions.end_sessions(connection, person, now),
        sign_in_keys=_sign_in_keys(connection, person),
        links=_links(connection, person, now),
        upload_tokens=_upload_tokens(connection, person, now),
        passes=passes_ended,
        delegations=_delegations(gate, connection, person, standing, now),
        approvals=_approvals(gate, connection, person, standing, now),
        releases=_releases(gate, connection, person, now),
        request=ask_for_roster(gate, connection),
    )


def follow(gate: Gate) -> None:
    """Carries out what the press has latched without us: a stop that came by the drop box."""

    def work(connection: Connection) -> None:
        for one in gate.journal.rules.narrowings:
            if one.what == "person":
                carry_out(gate, connection, Stop("person", one.target, one.reason, "press"), one.id)

    gate.writer.run(work)


def stopped(gate: Gate, connection: Connection) -> frozenset[str]:
    """Ids of everybody whose stop is in force."""
    return frozenset(standing_stops(gate, connection))


def ask_for_roster(gate: Gate, connection: Connection) -> str | None:
    """Asks for the roster without everybody who is stopped; the request's digest. One that waits is not made again."""
    rules, now = gate.journal.rules, gate.clock()
    if rules.chain is None:
        return None
    wanted = _without(rules.roster, stopped(gate, connection))
    if wanted == rules.roster:
        return None
    if not Electorate(Kind.ROSTER, wanted, wanted, rules.policy, "").reachable():
        return None  # nobody could change anything under it: first somebody new is enrolled
    head = rules.chain.heads.roster
    for request in requests.of_kind(connection, Kind.ROSTER):
        statement, body = request.statement, request.statement.body
        same = isinstance(body, RosterBody) and not body.recovery and body.roster == wanted
        if same and statement.previous == head and statement.expires_at * 1000 > now:
            return request.digest
    return requests.put(connection, requests.make_statement(gate, RosterBody(wanted)), None, now)


# --- the parts


def standing_stops(gate: Gate, connection: Connection) -> dict[str, str]:
    """The id of the stop in force, by person: ours, or what the press has latched from elsewhere."""
    rules = gate.journal.rules
    found = {one.target: one.id for one in rules.narrowings if one.what == "person"}
    rows = connection.execute(
        sa.select(STOP.c.target, STOP.c.id).where(STOP.c.what == "person").order_by(STOP.c.serial)
    )
    for person, id in rows:
        if id not in rules.cleared:
            found.setdefault(person, id)
    return found


def _without(roster: Roster, gone: Iterable[str]) -> Roster:
    left = frozenset(gone)
    return Roster(tuple(one for one in roster.people if one.id not in left))


def _sign_in_keys(connection: Connection, person: str) -> int:
    connection.execute(sa.delete(SIGN_IN_CHALLENGE).where(SIGN_IN_CHALLENGE.c.person == person))
    return passkeys.remove_keys(connection, person)


def _links(connection: Connection, person: str, now_ms: int) -> int:
    count = 0
    for table in (ENROLMENT_LINK, SIGN_IN_LINK):
        open_ones = sa.update(table).where(
            table.c.person == person, table.c.used_ms.is_(None), table.c.expires_ms > now_ms
        )
        count += int(connection.execute(open_ones.values(used_ms=now_ms)).rowcount)
    return count


def _upload_tokens(connection: Connection, person: str, now_ms: int) -> int:
    u = UPLOAD_TOKEN.c
    live = sa.update(UPLOAD_TOKEN).where(
        u.person == person, u.revoked_ms.is_(None), u.expires_ms > now_ms
    )
    return int(connection.execute(live.values(revoked_ms=now_ms)).rowcount)


def _delegations(
    gate: Gate, connection: Connection, person: str, because: str, now_ms: int
) -> tuple[str, ...]:
    """A stop for each delegation in this person's name; those that it ended now."""
    ended = []
    for name in _lent(gate, person):
        if stops.in_force(connection, [("delegation", name)], gate.journal.cleared()) is None:
            stop = Stop("delegation", name, "who delegated has left", "leaving", nonce=because)
            if stops.record(connection, stop, now_ms):
                ended.append(name)
    return tuple(ended)


def _lent(gate: Gate, person: str) -> list[str]:
    chain = gate.journal.rules.chain
    if chain is None:
        return []
    return sorted(name for name, (_, body) in chain.delegations.items() if body.person == person)


def _approvals(gate: Gate, connection: Connection, person: str, because: str, now_ms: int) -> int:
    """A stop for each signature of this person that approves something unfinished; how many are new."""
    count = 0
    for statement, key in _open_signatures(gate, connection, person):
        target = approval_id(statement, key)
        stop = Stop("approval", target, "who signed has left", "leaving", nonce=because)
        count += stops.record(connection, stop, now_ms)
    return count


def _open_signatures(gate: Gate, connection: Connection, person: str) -> list[tuple[str, str]]:
    """(statement, key) of the person's approvals under what the press may still act upon."""
    chain = gate.journal.rules.chain
    if chain is None:
        return []
    known = [found for roster in chain.rosters.values() if (found := roster.person(person))]
    keys = sorted({key.id for one in known for key in one.keys})
    a, r, s = APPROVAL.c, REQUEST.c, RELEASE.c
    rows = connection.execute(
        sa.select(a.statement, a.key, r.release, r.statement.label("text"))
        .join(REQUEST, sa.and_(r.digest == a.request, r.digest == a.statement))
        .join(RELEASE, s.id == r.release, isouter=True)
        .where(a.key.in_(keys), sa.or_(r.release.is_(None), s.live == 1))
        .order_by(a.id)
    ).all()
    decided = gate.journal.read(
        lambda c: journal_view.decisions(c, sorted({row.statement for row in rows}))
    )
    now_s = gate.clock() // 1000
    return [
        (row.statement, row.key)
        for row in rows
        if Statement.from_bytes(row.text).expires_at > now_s
        and (row.statement not in decided or decided[row.statement].state not in _OVER)
    ]


def _releases(gate: Gate, connection: Connection, person: str, now_ms: int) -> tuple[str, ...]:
    """Withdraws what the person, or a bot by the person's delegation, asked for and has not begun to go out."""
    lent = sa.select(WORKLOAD_TOKEN.c.hash).where(
        WORKLOAD_TOKEN.c.delegation_name.in_(_lent(gate, person))
    )
    rows = connection.execute(
        sa.select(RELEASE.c.id, RELEASE.c.state)
        .where(RELEASE.c.live == 1)
        .where(sa.or_(RELEASE.c.requester == person, RELEASE.c.workload.in_(lent)))
        .order_by(RELEASE.c.id)
    ).all()
    more = {
        "code": Code.RELEASE_REQUESTER_GONE.value,
        "reason": "Whoever asked for it, or lent the right to ask, has left.",
    }
    return tuple(
        release
        for release, state in rows
        if may_move(State(state), State.WITHDRAWN)
        and sets.advance(connection, release, State(state), State.WITHDRAWN, now_ms, **more)
    )


def signed(gate: Gate, connection: Connection, stop: Stop) -> Left:
    """A revocation of a person that somebody has signed: recorded under its own id, whatever stands already."""
    new = stops.record(connection, stop, gate.clock())
    return replace(carry_out(gate, connection, stop, stop.id), new=new)
