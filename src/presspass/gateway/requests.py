"""Statements that people are asked to sign: making them under the present heads, and putting them before people.

A request is the statement itself, stored as its canonical bytes. Making one gives nobody a right; only signatures do,
and only the press counts them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.effects import effects, roster_after
from presspass.core.errors import Code, Refusal
from presspass.core.publisher import PublisherBody
from presspass.core.statement import Body, Intent, Kind, RosterBody, Statement
from presspass.gateway.gate import Gate
from presspass.gateway.workflow_files import keep_workflow
from presspass.store.gateway_tables import REQUEST
from presspass.verify.chain import veto_of

#: Kinds that are never put before people from outside: a release comes out of a set, a plan out of releases, genesis
#: out of `init --seal`.
_MADE_ELSEWHERE = frozenset({Kind.GENESIS, Kind.RELEASE, Kind.PLAN, Kind.REVOCATION})


@dataclass(frozen=True, slots=True)
class Request:
    """One stored request. `digest` is the statement's with intent approve, `veto_digest` its twin's."""

    digest: str
    veto_digest: str
    kind: str
    release: str | None
    statement: Statement
    created_ms: int


def make_statement(gate: Gate, body: Body) -> Statement:
    """A statement of `body` under the heads of now, with a fresh nonce, alive for as long as the policy says."""
    rules = gate.journal.rules
    chain = rules.trust()
    now = gate.clock() // 1000
    draft = Statement(
        genesis=rules.genesis_digest,
        space=chain.genesis.space,
        intent=Intent.APPROVE,
        body=body,
        heads=chain.heads,
        previous=None,
        nonce=secrets.token_hex(16),
        issued_at=now,
        expires_at=now + chain.policy.approval_life_s,
    )
    return replace(draft, previous=chain.head_of(draft))


def put(connection: Connection, statement: Statement, release: str | None, now_ms: int) -> str:
    """Stores a request in the caller's transaction; its digest. The same statement twice is one request."""
    digest = statement.digest
    if find(connection, digest) is None:
        row = {
            "digest": digest,
            "veto_digest": veto_of(statement).digest,
            "kind": statement.kind.value,
            "release": release,
            "statement": statement.to_bytes(),
            "created_ms": now_ms,
        }
        connection.execute(sa.insert(REQUEST), row)
    return digest


def find(connection: Connection, digest: str) -> Request | None:
    """The request whose statement has this digest."""
    row = connection.execute(sa.select(REQUEST).where(REQUEST.c.digest == digest)).first()
    return None if row is None else read(row)


def read(row: sa.Row[Any]) -> Request:
    """A row of REQUEST as a value."""
    return Request(
        row.digest,
        row.veto_digest,
        row.kind,
        row.release,
        Statement.from_bytes(row.statement),
        row.created_ms,
    )


def of_kind(connection: Connection, kind: Kind) -> list[Request]:
    """Every request of one kind, oldest first."""
    query = sa.select(REQUEST).where(REQUEST.c.kind == kind.value).order_by(REQUEST.c.created_ms)
    return [read(row) for row in connection.execute(query).all()]


def bringing_keys(connection: Connection) -> dict[str, list[Request]]:
    """The requests for a roster, recoveries left out, in which each key stands, by its fingerprint."""
    found: dict[str, list[Request]] = {}
    asked = [*of_kind(connection, Kind.ROSTER), *of_kind(connection, Kind.BUNDLE)]
    for request in sorted(asked, key=lambda one: one.created_ms):
        body, roster = request.statement.body, roster_after(request.statement)
        if roster is not None and not (isinstance(body, RosterBody) and body.recovery):
            for key in roster.all_keys():
                found.setdefault(key.id, []).append(request)
    return found


def submit(gate: Gate, text: str, workflow: str | None = None) -> str:
    """Puts a statement that was made on the gate's host before people; its digest.

    `workflow`: the content that a publisher's statement binds, kept for the page that people sign it on.
    """
    statement = Statement.from_bytes(text.encode("utf-8"))
    if statement.kind in _MADE_ELSEWHERE or statement.intent is not Intent.APPROVE:
        raise Refusal(
            Code.REQUEST_UNSUPPORTED,
            f"A {statement.kind.value} statement is not asked for in this way.",
        )
    gate.journal.now().trust().check_belongs(statement)
    now_ms = gate.clock()
    statement.check_alive(now_ms // 1000)
    content = None if workflow is None else _bound_content(statement, workflow)

    def work(connection: Connection) -> str:
        if content is not None:
            keep_workflow(connection, sha256_hex(content), content, now_ms)
        return put(connection, statement, None, now_ms)

    return gate.writer.run(work)


def _bound_content(statement: Statement, workflow: str) -> bytes:
    """The workflow as bytes; refuses any other than one that the statement binds."""
    content = workflow.encode("utf-8", "surrogatepass")
    bodies = [one.body for one in effects(statement)]
    bound = {body.workflow_sha256 for body in bodies if isinstance(body, PublisherBody)}
    if sha256_hex(content) not in bound:
        raise Refusal(
            Code.REQUEST_MALFORMED,
            "The workflow that was sent along is not the one that the statement binds.",
        )
    return content
