"""What ends an identity at this gate, at once: signed revocations, and what automation may do (it only narrows).

Recorded and carried out in one transaction: the passes it ends are ended when the answer leaves. The press reads the
rows, latches them, and refuses what is under way. A stop is in force until the press's journal says that a quorum has
cleared it; the gateway itself never ends one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.gateway import passes
from presspass.gateway.gate import Gate
from presspass.store.gateway_tables import PASS, STOP
from presspass.store.journal_view import Narrowing

_REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Stop:
    """One of them. `what` is of `core.statement.REVOCABLE`, or "limited" (a publisher whose workload does not count);
    `source`: "signed", or the part of the gate that did it. `statement`, `approval`: as they came in, where signed.
    `nonce`: tells one cause from the same words later, once a quorum has cleared the first; "" where that is no matter.
    """

    what: str
    target: str
    reason: str
    source: str
    statement: bytes | None = None
    approval: bytes | None = None
    nonce: str = ""

    @property
    def id(self) -> str:
        """As the press latches it: the statement's digest, or for automation one for each cause."""
        if self.statement is not None:
            return sha256_hex(self.statement)
        words = ["stop", self.what, self.target, self.source, self.reason]
        return sha256_hex("\n".join([*words, *([self.nonce] if self.nonce else [])]).encode())


def record(connection: Connection, stop: Stop, now_ms: int) -> bool:
    """Records a stop and ends what it ends; says whether it is new."""
    row = sa.select(STOP.c.serial).where(STOP.c.id == stop.id)
    if connection.execute(row).first() is not None:
        return False
    values = {
        "id": stop.id,
        "what": stop.what,
        "target": stop.target,
        "reason": stop.reason[:_REASON_CHARS_MAX],
        "source": stop.source,
        "statement": stop.statement,
        "approval": stop.approval,
        "made_ms": now_ms,
    }
    connection.execute(sa.insert(STOP), values)
    ended = _passes_of(stop)
    if ended is not None:
        passes.end(connection, [ended], f"{stop.what} revoked", now_ms)
    return True


def record_unless_standing(
    connection: Connection, stop: Stop, now_ms: int, cleared: Collection[str]
) -> None:
    """As `record`, for a cause that comes again and again: one stop of its source stands at a time, whatever the words,
    and once a quorum has cleared that one (`cleared`: such ids), the next cause makes a new one.
    """
    s = STOP.c
    same = sa.and_(s.what == stop.what, s.target == stop.target, s.source == stop.source)
    earlier = connection.execute(sa.select(s.id).where(same)).scalars().all()
    if set(earlier) <= set(cleared):
        record(connection, replace(stop, nonce=str(len(earlier)) if earlier else ""), now_ms)


def end_passes(connection: Connection, latched: Collection[Narrowing], now_ms: int) -> None:
    """Ends the passes that the press's own narrowings end: those came to it by the drop box, not through this gate."""
    for one in latched:
        ended = _passes_of(Stop(one.what, one.target, one.reason, one.source))
        if ended is not None:
            passes.end(connection, [ended], f"{one.what} revoked", now_ms)


def _passes_of(stop: Stop) -> sa.ColumnElement[bool] | None:
    if stop.what == "pass":
        return PASS.c.hash == stop.target
    if stop.what == "publisher":
        return PASS.c.publisher == stop.target
    if stop.what == "person":
        return PASS.c.person == stop.target
    if stop.what == "run":
        return passes.of_run(stop.target)
    if stop.what == "workload":
        return passes.of_identity(stop.target)
    if stop.what == "delegation":
        return passes.of_delegation(stop.target)
    return None


def in_force(
    connection: Connection, wanted: Collection[tuple[str, str]], cleared: Collection[str]
) -> tuple[str, str, str] | None:
    """The first stop against one of `wanted` (what, target), if any: its id, what, and reason.

    `cleared`: ids that a quorum has ended.
    """
    s = STOP.c
    rows = connection.execute(
        sa.select(s.id, s.what, s.reason)
        .where(sa.tuple_(s.what, s.target).in_(list(wanted)))
        .order_by(s.serial)
    )
    return next(((id, what, why) for id, what, why in rows if id not in cleared), None)


@dataclass(frozen=True, slots=True)
class Standing:
    """A stop in force. `by`: a person's id, "" where nobody signed it or the press has not said yet; `latched`: the
    press has journalled it.
    """

    id: str
    what: str
    target: str
    by: str
    reason: str
    since_ms: int
    latched: bool


def standing(
    connection: Connection,
    narrowings: Iterable[Narrowing],
    cleared: Collection[str],
    whats: Collection[str] = (),
) -> list[Standing]:
    """Everything in force: what the press has latched (`narrowings`), and what was signed at this gate since.

    `cleared`: ids that a quorum has ended; `whats`: only stops of these kinds.
    """
    found = [
        Standing(one.id, one.what, one.target, one.by, one.reason, one.seen_ms, latched=True)
        for one in narrowings
        if not whats or one.what in whats
    ]
    known = {*cleared, *(one.id for one in found)}
    s = STOP.c
    query = sa.select(s.id, s.what, s.target, s.reason, s.made_ms).order_by(s.serial)
    rows = connection.execute(query.where(s.what.in_(list(whats))) if whats else query)
    found += [
        Standing(row.id, row.what, row.target, "", row.reason, row.made_ms, latched=False)
        for row in rows
        if row.id not in known
    ]
    return found


def require_none(
    connection: Connection, wanted: Collection[tuple[str, str]], cleared: Collection[str]
) -> None:
    """Refuses with `identity.revoked` while a stop stands against one of `wanted`."""
    found = in_force(connection, wanted, cleared)
    if found is not None:
        raise _revoked(*found)


def require_none_latched(
    latched: Collection[Narrowing], wanted: Collection[tuple[str, str]]
) -> None:
    """As `require_none`, for what the press has latched, whichever way it came to it."""
    for one in latched:
        if (one.what, one.target) in wanted:
            raise _revoked(one.id, one.what, one.reason)


def require_present(gate: Gate, connection: Connection, person: str) -> None:
    """Refuses with `identity.revoked` whoever has left: stopped here, or by what the press has latched elsewhere."""
    rules = gate.journal.rules
    require_none(connection, [("person", person)], rules.cleared)
    require_none_latched(rules.narrowings, [("person", person)])


def _revoked(id: str, what: str, reason: str) -> Refusal:
    return Refusal(
        Code.IDENTITY_REVOKED,
        f"The {what} was revoked: {reason or 'no reason given'}.",
        f"People can end a revocation by a quorum: presspass freeze --clear {id}",
    )
