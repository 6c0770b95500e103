"""One publication, from the claimed intent to the proof.

What a crash means at each step, and why it repeats nothing:
1. before the claim commits: nothing happened; another attempt starts from the signatures.
2. after the claim (intent, statement and signatures journalled, ledger entry durable): the lease runs out, somebody
   claims again with a higher fence and continues here.
3. before each file the registry is asked what it serves. A file that was stored although we never saw the answer is
   recognised by its digest and not sent again; other bytes under its name end the release as failed.
4. after a file was sent, the registry's own copy is downloaded and hashed before it is believed.
5. then the attestations are signed, which may take a token or a service elsewhere: no transaction waits for it. Where
   the log gets another key before the last transaction, that one is given up, and another attempt begins here.
6. the last transaction writes the published files, the ledger entry, every proof and the end of the intent together.
The first and the tenth attempt run the same code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from presspass import __version__
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal, invariant
from presspass.core.log import LogBody
from presspass.core.signer import ATTESTATION
from presspass.core.statement import (
    Kind,
    ReleaseBody,
    ReleaseFile,
    Statement,
    UpstreamBody,
)
from presspass.keystore.envelopes import Vault
from presspass.press import gatekeeper, journal
from presspass.press.custody import Spool
from presspass.press.journal import Lease
from presspass.press.log import Log
from presspass.press.publishers import Outgoing, Publisher, Served
from presspass.press.signing import Signers
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.database import Writer
from presspass.verify.attestation import statements
from presspass.verify.chain import Chain, needed_for
from presspass.verify.proof import Entry, Proof, Record, SignedStatement, attestable, check_standing

#: How long a registry may take to show a file it has accepted, in steps that grow.
_APPEAR_S_MAX = 30.0
_APPEAR_STEP_S = 0.02

Metadata = Callable[[str], Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a publication works with. `publisher` makes an adapter for an upstream; `zones` goes into every proof."""

    writer: Writer
    log: Log
    signers: Signers
    vault: Vault
    spool: Spool
    publisher: Callable[[UpstreamBody], Publisher]
    now_ms: Callable[[], int]
    lease_ms: int
    zones: str
    look_dropped: Callable[[], None] = lambda: None


def publish(
    tools: Tools, lease: Lease, statement: Statement, upstream: UpstreamBody, metadata: Metadata
) -> None:
    """Sends what the registry does not have, reads everything back, writes the proof. Raises Refusal or Fault."""
    body = statement.body_as(ReleaseBody)
    publisher = tools.publisher(upstream)
    try:
        for file in body.files:
            go_on = _go_on(tools, lease, statement)
            go_on()
            outgoing = Outgoing(
                file,
                tools.spool.path(file.sha256),
                body.project,
                body.version,
                metadata(file.name),
                go_on,
            )
            _publish_file(
                tools,
                publisher,
                upstream,
                outgoing,
                upstream_digest=body.upstream,
                again=lease.fence > 1,
            )
        _renew(
            tools, lease, lambda c: journal.decide(c, statement.digest, "published", tools.now_ms())
        )
        served = [_check_served(publisher, body.project, file) for file in body.files]
    finally:
        publisher.close()
    attested = _attest(tools, statement, {one.sha256: one.sha512 for one in served})
    tools.writer.run(lambda c: _complete(c, tools, lease, statement, upstream, attested))


def _go_on(tools: Tools, lease: Lease, statement: Statement) -> Callable[[], None]:
    """Asked before a file, right before its first byte, and while it goes out: raises what stops it (law 8)."""

    def ask() -> None:
        tools.look_dropped()
        _renew(tools, lease, lambda c: _still_wanted(c, statement, tools.now_ms()))

    return ask


def _still_wanted(connection: Connection, statement: Statement, now_ms: int) -> None:
    chain = journal.load_chain(connection)
    invariant(chain is not None, "nothing is claimed before genesis")
    if chain is not None:
        gatekeeper.check_still_wanted(connection, chain, statement, now_ms)


def _publish_file(
    tools: Tools,
    publisher: Publisher,
    upstream: UpstreamBody,
    outgoing: Outgoing,
    *,
    upstream_digest: str,
    again: bool,
) -> None:
    """Sends the file unless it is there. `again`: an earlier attempt may have stored it, whatever we heard of it."""
    project, file = outgoing.project, outgoing.file
    if _is_there(publisher, project, file) is not None:
        return
    tools.spool.take(file)
    secret = tools.vault.use(upstream_digest).decode()
    outgoing.go_on()
    try:
        publisher.send(outgoing, upstream.username, secret)
    except Refusal as refusal:
        # A registry that lists late takes no name twice: it refuses what it stored on an attempt whose answer was lost.
        if refusal.code is not Code.UPSTREAM_REFUSED or not (
            again and _appears(publisher, project, file) is not None
        ):
            raise


def _is_there(publisher: Publisher, project: str, file: ReleaseFile) -> Served | None:
    """This very file, if the registry has it; refuses with `upstream.conflict` when it has another of that name."""
    served = publisher.served(project, file.name, file.size)
    if served is not None and served.sha256 != file.sha256:
        raise Refusal(
            Code.UPSTREAM_CONFLICT,
            f"The upstream already serves other bytes as {file.name} ({served.sha256[:16]}…): "
            "somebody published past the gate.",
            "Treat it as an incident; release under a new version.",
        )
    return served


def _appears(publisher: Publisher, project: str, file: ReleaseFile) -> Served | None:
    """`_is_there`, asked again and again for as long as a registry may take to list what it has."""
    deadline, step = time.monotonic() + _APPEAR_S_MAX, _APPEAR_STEP_S
    while (there := _is_there(publisher, project, file)) is None and time.monotonic() < deadline:
        time.sleep(step)
        step = min(step * 2, 1.0)
    return there


def _check_served(publisher: Publisher, project: str, file: ReleaseFile) -> Served:
    try:
        there = _appears(publisher, project, file)
    except Refusal as refusal:
        if refusal.code is not Code.UPSTREAM_CONFLICT:
            raise
        raise Refusal(
            Code.UPSTREAM_MISMATCH,
            f"The upstream serves other bytes as {file.name} than were approved.",
            "Treat it as an incident: pull the version, then look at the registry.",
        ) from None
    if there is None:
        raise Fault(
            "upstream.not-listed",
            f"The upstream took {file.name} but does not list it yet.",
            retryable=True,
        )
    return there


def _renew(tools: Tools, lease: Lease, work: Callable[[Connection], object]) -> None:
    def renewed(connection: Connection) -> None:
        journal.renew(connection, lease, tools.now_ms(), tools.lease_ms)
        work(connection)

    tools.writer.run(renewed)


@dataclass(frozen=True, slots=True)
class _Attested:
    """What the proofs of one release have in common, beside its place in the ledger."""

    entry: Entry
    genesis: Statement
    chain: tuple[SignedStatement, ...]
    signed: SignedStatement
    envelopes: tuple[JsonObject, ...]
    later: tuple[SignedStatement, ...]
    log: LogBody


def _attest(tools: Tools, statement: Statement, sha512: Mapping[str, str]) -> _Attested:
    now_ms = tools.now_ms()
    with tools.writer.read() as connection:
        genesis, chain, later = _chain_when_claimed(connection, statement)
        log = tools.log.in_force(connection)
        approvals = view.approvals_under(connection, statement.digest)
        plans = view.plans_under(connection, statement.digest, approvals)
        signed = SignedStatement(statement, approvals, plans)
        admitted = [one.statement for one in chain]
        state = Chain.after(genesis, admitted)
        entry = _entry(connection, tools, statement, state, now_ms)
    counted = entry.circumstances(statement, asked=True)
    verdict = state.evaluate(statement, approvals, counted, plans)
    if verdict.reached:
        entry = replace(entry, standing="")  # people have signed this very release meanwhile
    passed = None
    if entry.standing:
        passed = check_standing(
            state,
            chain,
            statement,
            entry.standing,
            workload=entry.workload,
            at=entry.claimed_at,
        )
    about = attestable(state, signed, admitted, entry, verdict, passed)
    made = statements(about, sha512, __version__)
    envelopes = tools.signers.attest(state.signer(ATTESTATION, log), made)
    return _Attested(entry, genesis, chain, signed, envelopes, later, log)


def _entry(
    connection: Connection, tools: Tools, statement: Statement, state: Chain, now_ms: int
) -> Entry:
    body = statement.body_as(ReleaseBody)
    used = view.standing_use(connection, statement.digest)
    claimed_ms = connection.execute(
        t.INTENT.select()
        .with_only_columns(t.INTENT.c.claimed_ms)
        .where(t.INTENT.c.statement == statement.digest)
    ).scalar_one()
    around = view.around(connection, statement, now_ms)
    asked = [state.policies[one].approving for one in (statement.heads.policy, state.heads.policy)]
    return Entry(
        space=statement.space,
        statement=statement.digest,
        files=body.files,
        claimed_at=int(claimed_ms) // 1000,
        verified_at=now_ms // 1000,
        roster=state.heads.roster,
        policy=state.heads.policy,
        mode="prevented",
        zones=tools.zones,
        workload=around.workload,
        risk=around.risk if any(one.asks_risk for one in asked) else "",
        waited_s=around.waited_s if any(one.asks_time for one in asked) else 0,
        standing=used.standing if used else "",
    )


def _complete(
    connection: Connection,
    tools: Tools,
    lease: Lease,
    statement: Statement,
    upstream: UpstreamBody,
    attested: _Attested,
) -> None:
    if tools.log.in_force(connection) != attested.log:
        text = "The log has got another key meanwhile; the proof is made anew."
        raise Fault("log.key-changed", text, retryable=True)
    now_ms = tools.now_ms()
    body = statement.body_as(ReleaseBody)
    journal.finish(connection, lease, now_ms)
    for file in body.files:
        journal.keep_published(
            connection, upstream.name, statement, body.project, body.version, file, now_ms
        )
    _write_proofs(connection, tools, attested, now_ms)
    journal.decide(connection, statement.digest, "verified", now_ms)


def _write_proofs(connection: Connection, tools: Tools, attested: _Attested, now_ms: int) -> None:
    position = tools.log.append(connection, attested.entry.to_json())
    inclusion = tools.log.inclusion(connection, position)
    record = Record(inclusion.entry, inclusion.position, inclusion.proof, inclusion.checkpoint)
    for file in attested.entry.files:
        proof = Proof(
            file.name,
            attested.genesis,
            attested.chain,
            attested.signed,
            record,
            attested.envelopes,
            attested.later,
        )
        connection.execute(
            t.PROOF.insert().values(
                statement=attested.entry.statement,
                filename=file.name,
                sha256=file.sha256,
                proof=proof.to_bytes(),
                made_ms=now_ms,
            )
        )


def _chain_when_claimed(
    connection: Connection, release: Statement
) -> tuple[Statement, tuple[SignedStatement, ...], tuple[SignedStatement, ...]]:
    """Genesis, and what was admitted before the claim and since then, each in order with its signatures: every
    statement that moved the head of roster, policy, an upstream, a signer or the log, of publishers and delegations
    those alone by which this release was asked for, its standing approval, and whatever a bundle among them builds on.
    Of what came since the claim only what leads to the log in force now, if the log has moved on."""
    i = t.INTENT.c
    height = connection.execute(
        t.INTENT.select().with_only_columns(i.height).where(i.statement == release.digest)
    ).scalar_one()
    claimed = len(view.chained(connection, up_to=height))
    genesis, *admitted = view.chained(connection)
    moves = [number for number, one in enumerate(admitted, 2) if one.kind is Kind.LOG]
    admitted = admitted[: max(claimed, *moves, 1) - 1]
    chain = needed_for(admitted, _behind(connection, release))
    before = {one.digest for one in admitted[: claimed - 1]}
    signed = [SignedStatement(one, view.approvals_under(connection, one.digest)) for one in chain]
    return (
        genesis,
        tuple(one for one in signed if one.statement.digest in before),
        tuple(one for one in signed if one.statement.digest not in before),
    )


def _behind(connection: Connection, release: Statement) -> frozenset[str]:
    """The chains of publisher and delegation by which the release was asked for, and of the standing approval under
    which it passed.
    """
    asked = release.body_as(ReleaseBody).asked_by
    if asked is None:
        return frozenset()
    used = view.standing_use(connection, release.digest)
    wanted = (
        (asked.publisher, Kind.PUBLISHER),
        (asked.delegation, Kind.DELEGATION),
        (used.standing if used else "", Kind.STANDING),
    )
    found = (view.effect(connection, digest, kind) for digest, kind in wanted if digest)
    return frozenset(one.chain for one in found if one is not None)
