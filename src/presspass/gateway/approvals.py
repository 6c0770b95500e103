"""Signatures as they come in: looked at once, so that people hear at once what is wrong, and stored as they are.

These checks are courtesy. The press takes the stored bytes and does them all again.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.approval import Approval
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import State
from presspass.core.limits import APPROVALS_PER_STATEMENT_MAX, VETO_NOTE_CHARS_MAX
from presspass.core.roster import Key
from presspass.core.statement import FreezeBody, Intent, RevocationBody, Statement
from presspass.gateway import leaving, requests, stops
from presspass.gateway.gate import Gate
from presspass.gateway.journal import Rules
from presspass.gateway.requests import Request
from presspass.gateway.stops import Stop
from presspass.store.gateway_tables import APPROVAL, NARROWING, RELEASE
from presspass.verify.approvals import verify_approval
from presspass.verify.chain import veto_of

#: A release takes signatures until the press has begun to send it; after that only if it is to be read afterwards.
_SIGNABLE = frozenset({State.AWAITING.value, State.APPROVED.value})


def accept(gate: Gate, digest: str, body: bytes, note: str = "") -> Request:
    """Checks one signature under the request `digest` and stores it; durable when this returns.

    `note`: what the signer says beside it, unsigned and cut to its limit; only for people to read.
    Refuses with the code that the signature fails by. A signature that is already stored is accepted again.
    """
    approval = Approval.from_bytes(body)
    with gate.writer.read() as connection:
        request = requests.find(connection, digest)
    if request is None:
        raise Refusal(Code.REQUEST_NOT_FOUND, "There is no request with this digest.")
    rules = gate.journal.now()
    signed = _signed_statement(request, approval)
    to_be_read = signed.intent is Intent.APPROVE and gate.journal.is_to_be_read(digest)
    if not to_be_read:
        request.statement.check_alive(gate.clock() // 1000)
    _check(rules, signed, approval, narrowing=signed.intent is Intent.VETO)
    owner = rules.roster.owner(approval.key)

    def work(connection: Connection) -> None:
        # A veto is taken from whoever has a key: it can only stop something.
        if owner is not None and signed.intent is Intent.APPROVE:
            stops.require_present(gate, connection, owner.id)
        said = note[:VETO_NOTE_CHARS_MAX]
        _store(connection, request, approval, said, gate.clock(), to_be_read=to_be_read)

    gate.writer.run(work)
    return request


def enrolled(gate: Gate, body: bytes) -> str:
    """The id of the key that a signature names, if the roster has or had it; "" of a stranger's."""
    chain = gate.journal.rules.chain
    try:
        key = Approval.from_bytes(body).key
    except Refusal:
        return ""
    rosters = chain.rosters.values() if chain is not None else ()
    return key if any(roster.key(key) for roster in rosters) else ""


def narrow(gate: Gate, statement_text: str, approval_json: JsonObject) -> str:
    """Takes a freeze or a revocation that one person has signed; the digest of its statement. What it ends at the gate
    is ended when this returns; the press latches it when it sees it.
    """
    statement = Statement.from_bytes(statement_text.encode("utf-8"))
    approval = Approval.from_json(approval_json)
    body = statement.body
    revocation = body if isinstance(body, RevocationBody) else None
    sets_freeze = isinstance(body, FreezeBody) and body.action == "set"
    if not (revocation or sets_freeze) or statement.intent is not Intent.APPROVE:
        raise Refusal(
            Code.NARROWING_CANNOT_CLEAR,
            "Only a freeze or a revocation takes one signature; ending one takes the quorum.",
            "Put it before the approvers as a request instead.",
        )
    rules = gate.journal.now()
    rules.trust().check_belongs(statement)
    statement.check_alive(gate.clock() // 1000)
    _check(rules, statement, approval, narrowing=True)
    now_ms = gate.clock()
    if revocation is not None:
        stop = Stop(
            revocation.what,
            revocation.target,
            revocation.reason,
            "signed",
            statement.to_bytes(),
            approval.to_bytes(),
        )
        if stop.what == "person":
            gate.writer.run(lambda connection: leaving.signed(gate, connection, stop))
        else:
            gate.writer.run(lambda connection: stops.record(connection, stop, now_ms))
        return statement.digest
    row = {
        "statement": statement.to_bytes(),
        "approval": approval.to_bytes(),
        "received_ms": now_ms,
    }
    gate.writer.run(lambda connection: _store_narrowing(connection, row))
    return statement.digest


def _signed_statement(request: Request, approval: Approval) -> Statement:
    """The twin that was signed: the statement, or its veto."""
    if approval.statement == request.digest:
        return request.statement
    if approval.statement == request.veto_digest:
        return veto_of(request.statement)
    raise Refusal(
        Code.APPROVAL_WRONG_STATEMENT,
        "The signature is for another statement than this request.",
        "Open the page of this request and sign there.",
    )


def _check(rules: Rules, statement: Statement, approval: Approval, *, narrowing: bool) -> None:
    chain = rules.trust()
    key = _key(rules, approval)
    if key.is_software and not narrowing and not chain.policy.software_keys:
        raise Refusal(
            Code.APPROVAL_SOFTWARE_KEY,
            "This is a software key; it does not prove that a person was there, so the policy does not count it.",
            "Sign with a passkey or a security key.",
        )
    if narrowing:
        chain.verify_at_one(statement.to_bytes(), approval, key)
        return
    origin, rp_id = chain.sites.get(statement.heads.roster, chain.site)
    verify_approval(statement.to_bytes(), approval, key, origin=origin, rp_id=rp_id)


def _key(rules: Rules, approval: Approval) -> Key:
    """The key in the roster in force."""
    chain = rules.trust()
    if approval.form == "recovery":
        raise Refusal(
            Code.REQUEST_UNSUPPORTED,
            "The recovery key does not sign here.",
            "Use `presspass recover` on the press's host.",
        )
    key = chain.roster.key(approval.key)
    if key is not None:
        return key
    if any(roster.key(approval.key) for roster in chain.rosters.values()):
        raise Refusal(
            Code.APPROVAL_KEY_REMOVED,
            "This key was removed from the roster.",
            "Sign with a key that is enrolled now.",
        )
    message = f"Key {approval.key[:16]} is not enrolled here."
    raise Refusal(Code.APPROVAL_KEY_UNKNOWN, message, "Enrol it first.")


def _store(
    connection: Connection,
    request: Request,
    approval: Approval,
    note: str,
    now_ms: int,
    *,
    to_be_read: bool,
) -> None:
    query = sa.select(APPROVAL.c.statement, APPROVAL.c.key).where(
        APPROVAL.c.request == request.digest
    )
    stored = [(row.statement, row.key) for row in connection.execute(query)]
    if (approval.statement, approval.key) in stored:
        return
    if not to_be_read:
        _check_signable(connection, request)
    # Counted for each intent by itself: a veto is never crowded out by approvals.
    if (
        sum(statement == approval.statement for statement, _ in stored)
        >= APPROVALS_PER_STATEMENT_MAX
    ):
        raise Refusal(Code.REQUEST_TOO_LARGE, "The request has as many signatures as it may have.")
    row = {
        "request": request.digest,
        "statement": approval.statement,
        "key": approval.key,
        "approval": approval.to_bytes(),
        "note": note,
        "received_ms": now_ms,
    }
    connection.execute(sa.insert(APPROVAL), row)


def _check_signable(connection: Connection, request: Request) -> None:
    if request.release is None:
        return
    query = sa.select(RELEASE.c.state, RELEASE.c.statement).where(RELEASE.c.id == request.release)
    row = connection.execute(query).one()
    if row.statement != request.digest:
        raise Refusal(
            Code.RELEASE_STALE,
            "The release was inspected again since; this request is no longer the one to sign.",
            "Load the page again.",
        )
    if row.state not in _SIGNABLE:
        raise Refusal(
            Code.RELEASE_WRONG_STATE, f"The release is {row.state}; it takes no more signatures."
        )


def _store_narrowing(connection: Connection, row: dict[str, object]) -> None:
    known = sa.select(NARROWING.c.id).where(
        NARROWING.c.statement == row["statement"], NARROWING.c.approval == row["approval"]
    )
    if connection.execute(known).first() is None:
        connection.execute(sa.insert(NARROWING), row)
