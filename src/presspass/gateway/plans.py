"""Plans as they are put together, and what their page shows of each release.

Anybody who knows releases that wait may put them together: it gives no right, only signatures do, and the press counts
them for each release by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import State
from presspass.core.limits import PLANS_PER_RELEASE_MAX, RELEASES_PER_PLAN_MAX
from presspass.core.plan import ORDERS, PlanBody
from presspass.core.publisher import PublisherBody
from presspass.core.statement import Kind, ReleaseBody, Statement
from presspass.gateway import requests
from presspass.gateway.console import plans as shown
from presspass.gateway.console.models import Gist
from presspass.gateway.gate import Gate
from presspass.gateway.journal import Rules
from presspass.gateway.requests import Request
from presspass.store.gateway_tables import PLAN_MEMBER, RELEASE, REQUEST, REVIEW

_GISTS_KEPT = 4096
arrange = shown.arrange


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be put together: ids of releases, in their order."""

    releases: tuple[str, ...]
    order: str

    @classmethod
    def of(cls, value: JsonObject) -> Wanted:
        """Refuses with `request.malformed` or `request.too-large`."""
        releases, order = value.get("releases"), value.get("order", "any")
        right = isinstance(releases, list) and all(isinstance(one, str) for one in releases)
        if not right or not releases or order not in ORDERS:
            raise Refusal(
                Code.REQUEST_MALFORMED,
                f"A plan has 'releases' (their ids) and an 'order': {', '.join(ORDERS)}.",
            )
        named = tuple(dict.fromkeys(releases))
        if len(named) > RELEASES_PER_PLAN_MAX:
            raise Refusal(
                Code.REQUEST_TOO_LARGE,
                f"{len(named)} releases are named; a plan has {RELEASES_PER_PLAN_MAX} at most.",
                "Make several plans.",
            )
        return cls(named, order)


def submit(gate: Gate, wanted: Wanted) -> str:
    """Puts releases together; the digest of the plan. The same releases in the same order are one plan while it lives.

    Refuses what does not wait for signatures, and more than the limits.
    """
    with gate.writer.read() as connection:
        digests = _digests(connection, wanted)
    body = PlanBody(tuple(sorted(digests) if wanted.order == "any" else digests), wanted.order)
    statement = requests.make_statement(gate, body)

    def work(connection: Connection) -> str:
        now_ms = gate.clock()
        alive = [one for one in _naming(connection, body.releases) if _lives(one, now_ms)]
        same = next((one.digest for one in alive if one.statement.body == body), None)
        if same is not None:
            return same
        _check_room(body, alive)
        digest = requests.put(connection, statement, None, now_ms)
        rows = [
            {"plan": digest, "position": position, "request": release}
            for position, release in enumerate(body.releases)
        ]
        connection.execute(sa.insert(PLAN_MEMBER), rows)
        return digest

    return gate.writer.run(work)


def _digests(connection: Connection, wanted: Wanted) -> list[str]:
    """Of the statements of what is meant, in order."""
    r = RELEASE.c
    columns = sa.select(r.id, r.project, r.version, r.state, r.statement)
    found = {row.id: row for row in connection.execute(columns.where(r.id.in_(wanted.releases)))}
    for release in wanted.releases:
        row = found.get(release)
        if row is None:
            raise Refusal(
                Code.REQUEST_NOT_FOUND,
                f"There is no release {release[:16]}.",
                "Check that each address was copied whole.",
            )
        if row.state != State.AWAITING.value or row.statement is None:
            raise Refusal(
                Code.RELEASE_WRONG_STATE,
                f"{row.project} {row.version} is {row.state}; a plan takes what waits for signatures.",
                "Leave it out, or wait until it has been inspected (`presspass status URL`).",
            )
    return [found[release].statement for release in wanted.releases]


def _naming(connection: Connection, releases: Sequence[str]) -> list[Request]:
    """The plans that name any of these requests."""
    m = PLAN_MEMBER.c
    plans = sa.select(m.plan).where(m.request.in_(releases))
    rows = connection.execute(sa.select(REQUEST).where(REQUEST.c.digest.in_(plans))).all()
    return [requests.read(row) for row in rows]


def _lives(plan: Request, now_ms: int) -> bool:
    return plan.statement.expires_at * 1000 > now_ms


def _check_room(body: PlanBody, alive: Sequence[Request]) -> None:
    for release in body.releases:
        named = [one for one in alive if release in one.statement.body_as(PlanBody).releases]
        if len(named) >= PLANS_PER_RELEASE_MAX:
            raise Refusal(
                Code.REQUEST_TOO_LARGE,
                f"A release stands in {PLANS_PER_RELEASE_MAX} plans already.",
                f"Sign one of them ({named[-1].digest[:16]}…), or wait until they have expired.",
            )


def signed_plans(connection: Connection, release: str, now_s: int) -> list[Statement]:
    """The plans with signatures that name the request of a release and have not expired, as the press reads them."""
    m, r = PLAN_MEMBER.c, REQUEST.c
    rows = connection.execute(
        sa.select(r.statement)
        .join(PLAN_MEMBER, m.plan == r.digest)
        .where(m.request == release)
        .order_by(r.created_ms.desc(), r.digest)
        .limit(PLANS_PER_RELEASE_MAX)
    ).scalars()
    found = [_read(data) for data in rows]
    return [plan for plan in found if plan.issued_at <= now_s + 60 and now_s < plan.expires_at]


@lru_cache(maxsize=64)
def _read(data: bytes) -> Statement:
    return Statement.from_bytes(data)


def rows_of(connection: Connection, plan: PlanBody) -> list[sa.Row[tuple[object, ...]]]:
    """The releases of a plan that the gateway has, in the plan's order, each with its statement."""
    columns = sa.select(
        RELEASE, REQUEST.c.statement.label("text"), REQUEST.c.digest.label("digest")
    )
    joined = columns.join(REQUEST, REQUEST.c.release == RELEASE.c.id)
    rows = connection.execute(joined.where(REQUEST.c.digest.in_(plan.releases))).all()
    places = {digest: place for place, digest in enumerate(plan.releases)}
    return sorted(rows, key=lambda row: places[row.digest])


class Gists:
    """What reports come to, by their digest: a report never changes."""

    def __init__(self) -> None:
        self._kept: dict[str, Gist] = {}

    def of(self, connection: Connection, body: ReleaseBody) -> Gist:
        """Of the report that a release names."""
        found = self._kept.get(body.review)
        if found is None:
            query = sa.select(REVIEW.c.report).where(REVIEW.c.digest == body.review)
            found = shown.gist(
                body.review, connection.execute(query).scalar(), body.project, body.version
            )
            while len(self._kept) >= _GISTS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[body.review] = found
        return found


def workflow_changed(gate: Gate, rules: Rules, body: ReleaseBody) -> bool:
    """Whether the workflow that asked is another than people have bound."""
    asked, chain = body.asked_by, rules.chain
    if asked is None or chain is None:
        return False
    bound = chain.once_in_force(Kind.PUBLISHER, asked.publisher)
    if not isinstance(bound, PublisherBody):
        return True
    return gate.journal.bound_workflow(asked.publisher, bound) != asked.workflow
