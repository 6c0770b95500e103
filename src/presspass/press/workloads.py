"""Workloads, verified by the press itself: raw tokens from the gateway's database, keys that it fetched itself.

1. A token is judged as of the press's own first sight of it, journalled before anything is asked of the network: one
   that is shown to the press after its end proves nothing, however the gateway explains it.
2. Signature, audience, life, binding and the git path of the workflow are checked anew; the gateway's words count for
   nothing (law 1). A token whose issuer cannot be reached waits; nothing is decided meanwhile.
3. Each token counts for one set, for ever; that is claimed in the transaction that claims the publication.

One thread of its own does this, because an issuer may be slow; the loop only reads what it has journalled.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.audience import audiences
from presspass.core.delegation import DelegationBody, check_use, check_window
from presspass.core.digests import is_sha256, sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import JWT_BYTES_MAX, WORKFLOW_OBJECTS_JSON_BYTES_MAX
from presspass.core.publisher import PublisherBody, check_run, version_of_ref
from presspass.core.statement import AskedBy, ReleaseBody, Statement, set_bytes
from presspass.core.workload import Workload
from presspass.formats.jwt import parse_jwt
from presspass.issuers import KeySets
from presspass.press import bounds, journal
from presspass.press.clock import Clock
from presspass.press.log import Log
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.database import Reader, Writer
from presspass.verify.chain import Chain
from presspass.verify.workflow import WorkflowPath, prove
from presspass.verify.workload import bound_set, replay_key, verify_workload

_LOG = logging.getLogger("presspass.press")
_PER_LOOK = 100
_MARK = "workloads-read"
_MINUTE_MS = 60_000
_SET_ASIDE_MS = _MINUTE_MS
#: Refusals after which the same token may still be verified: its issuer does not answer just now.
_WAITING = frozenset({Code.IDENTITY_UNAVAILABLE, Code.IDENTITY_KEY_UNKNOWN})


@dataclass(frozen=True, slots=True)
class _Shown:
    """A row of the gateway's, its types checked and nothing else."""

    serial: int
    hash: str
    token: str
    publisher: str
    delegation: str
    path: bytes | None


@dataclass(slots=True)
class Workloads:
    """Looks and journals. `urls`: the addresses of this gate that tokens may be made for, as configured."""

    writer: Writer
    log: Log
    clock: Clock
    gateway: Callable[[], Reader | None]
    key_sets: KeySets
    urls: tuple[str, ...]
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[str, _Shown] = field(default_factory=dict)
    _set_aside_until_ms: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        """First sight of new tokens, then a verdict on each that has none."""
        if self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()

    def _look(self) -> None:
        for shown in self._new():
            now_ms = self.clock.raw_ms()
            self.writer.run(functools.partial(_first_sight, shown=shown, now_ms=now_ms))
            self._waiting[shown.hash] = shown
        for shown in list(self._waiting.values()):
            try:
                if self._judge(shown):
                    del self._waiting[shown.hash]
            except Exception:  # a fault of ours over one token must not keep the others waiting
                del self._waiting[shown.hash]
                self._set_aside_until_ms[shown.hash] = self.clock.raw_ms() + _SET_ASIDE_MS
                _LOG.exception("the token %s is set aside for a while", shown.hash[:16])

    def _new(self) -> list[_Shown]:
        reader = self.gateway()
        if reader is None:
            return []
        with self.writer.read() as connection:
            mark = int(view.fact(connection, _MARK) or 0)
            undecided = _undecided(connection) - set(self._waiting) - self._set_aside()
        try:
            return reader.run(lambda c: _read(c, mark, undecided))
        except Fault as fault:
            _LOG.warning("the gateway's database cannot be read just now: %s", fault.message)
            return []

    def _set_aside(self) -> set[str]:
        now_ms = self.clock.raw_ms()
        left = {one: until for one, until in self._set_aside_until_ms.items() if until > now_ms}
        self._set_aside_until_ms = left
        return set(left)

    def _judge(self, shown: _Shown) -> bool:
        """Journals the verdict on one token; False while its issuer does not answer."""
        with self.writer.read() as connection:
            seen = view.workload(connection, shown.hash)
            chain = journal.load_chain(connection)
        if chain is None or seen is None or seen.state != "seen":
            return True
        try:
            verdict = self._verify(chain, shown, seen.first_seen_ms / 1000)
        except Refusal as refusal:
            if refusal.code in _WAITING and self._may_wait(seen.first_seen_ms):
                return False
            verdict = {"state": "refused", "code": refusal.code.value, "message": refusal.message}
        now_ms = self.clock.raw_ms()
        self.writer.run(lambda c: self._keep(c, shown, verdict, now_ms))
        return True

    def _may_wait(self, first_seen_ms: int) -> bool:
        return self.clock.raw_ms() - first_seen_ms < 60 * _MINUTE_MS

    def _verify(self, chain: Chain, shown: _Shown, now_s: float) -> dict[str, object]:
        token = parse_jwt(shown.token)
        digest, body = _publisher(chain, shown.publisher)
        if body.issuer != token.issuer:
            raise Refusal(Code.IDENTITY_ISSUER_UNKNOWN, f"The token is of {token.issuer[:200]}.")
        wanted = audiences(chain.site[0], *self.urls)
        workload = self.key_sets.verified(
            body.issuer,
            lambda keys: verify_workload(
                token, keys, issuer=body.issuer, provider=body.provider,
                audiences=wanted, now_s=now_s,
            ),
        )  # fmt: skip
        check_run(body, workload)
        delegation = _delegation(chain, body, shown.delegation, now_s)
        workflow = ""
        if body.workflow:
            workflow = sha256_hex(_content(shown.path, workload))
        person = delegation.person if delegation else self._person(chain, workload)
        return {
            "state": "verified",
            "publisher": body.name,
            "publisher_statement": digest,
            "delegation": shown.delegation if delegation else "",
            "identity": workload.key,
            "run": workload.run_key,
            "workflow": workflow,
            "person": person,
            "set_digest": bound_set(token),
            "version": version_of_ref(body, workload.ref),
            "repository": workload.repository,
            "commit_id": workload.commit,
            "ref": workload.ref,
            "replay_key": replay_key(token),
        }

    def _person(self, chain: Chain, workload: Workload) -> str:
        with self.writer.read() as connection:
            found = {
                person.id
                for person in chain.roster.people
                if (details := view.person_details(connection, person.details)) is not None
                and workload.actor in details.forge_ids
            }
        return found.pop() if len(found) == 1 else ""

    def _keep(
        self, connection: Connection, shown: _Shown, verdict: dict[str, object], now_ms: int
    ) -> None:
        w = t.WORKLOAD.c
        key = verdict.get("replay_key")
        if key and connection.execute(sa.select(w.token).where(w.replay_key == key)).first():
            verdict = {
                "state": "refused",
                "code": Code.IDENTITY_REPLAYED.value,
                "message": "Another token with this id was seen before.",
            }
        connection.execute(t.WORKLOAD.update().where(w.token == shown.hash).values(**verdict))
        # What is verified, an issuer has signed; of anything else the gateway can show as much as it likes.
        proved = verdict["state"] == "verified"
        if not proved and not bounds.within(connection, self.log, "workload", now_ms):
            return
        entry: dict[str, object] = {"kind": "workload", "token": shown.hash}
        named = ("state", "code", "publisher_statement", "delegation", "run", "workflow", "person")
        entry |= {name: verdict[name] for name in named if verdict.get(name)}
        journal.log_entry(connection, self.log, now_ms, entry)


def check_asked_by(connection: Connection, chain: Chain, statement: Statement) -> None:
    """Refuses a release whose workload proves nothing, or not this. Whether it counts as one of the two identities is
    another question (`journal_view.circumstances`).
    """
    body = statement.body_as(ReleaseBody)
    asked = body.asked_by
    if asked is None:
        return
    seen = view.workload(connection, asked.token)
    if seen is None or seen.state == "seen":
        raise Refusal(
            Code.IDENTITY_UNAVAILABLE,
            "The press has not verified the workload's token yet.",
            "It does so as soon as the issuer's keys can be had.",
        )
    if seen.state != "verified":
        raise Refusal(Code(seen.code), f"The workload's token is refused: {seen.message}")
    publisher = _check_binding(connection, chain, body, asked, seen)
    if seen.release not in (None, body.release):
        raise Refusal(
            Code.IDENTITY_REPLAYED,
            "The workload's token was used for another release.",
            "Each run asks with a token of its own.",
        )
    if seen.set_digest and seen.set_digest != sha256_hex(set_bytes(body.files)):
        raise Refusal(
            Code.ARTIFACT_DIGEST_MISMATCH,
            "These are not the files that the workload bound its token to.",
            "Run the release again.",
        )
    if seen.version not in ("", body.version):
        raise Refusal(
            Code.PASS_WRONG_VERSION, f"The run was for {seen.version}, not for {body.version}."
        )
    if view.workflow_changed(connection, asked) and chain.policy.profile == "high-assurance":
        raise Refusal(
            Code.PUBLISHER_WORKFLOW_CHANGED,
            "The workflow is another than the bound one.",
            "A quorum must bind the new content first.",
        )
    if asked.delegation:
        _check_delegation(connection, chain, body, asked, publisher)


def claim(connection: Connection, statement: Statement, now_ms: int) -> None:
    """In the transaction that claims the publication: the token counts for this set alone, and where its workflow is
    another than the bound one, the approval has bound it."""
    body = statement.body_as(ReleaseBody)
    if body.asked_by is None:
        return
    changed = view.workflow_changed(connection, body.asked_by)
    counted = view.circumstances(connection, body).workload
    connection.execute(
        t.WORKLOAD.update()
        .where(t.WORKLOAD.c.token == body.asked_by.token)
        .values(release=body.release, counted=int(counted))
    )
    if changed:
        journal.insert_new(
            connection,
            t.REBOUND,
            release=statement.digest,
            publisher_statement=body.asked_by.publisher,
            workflow=body.asked_by.workflow,
            at_ms=now_ms,
        )


def _check_binding(
    connection: Connection,
    chain: Chain,
    body: ReleaseBody,
    asked: AskedBy,
    seen: view.SeenWorkload,
) -> PublisherBody:
    digest, publisher = _publisher(chain, seen.publisher)
    upstream = next((n for n, (d, _) in chain.upstreams.items() if d == body.upstream), "")
    if digest != asked.publisher or seen.publisher_statement != digest:
        raise Refusal(
            Code.RELEASE_STALE,
            "The publisher was bound anew since this was asked for.",
            "Run the release again.",
        )
    if body.project not in publisher.projects or upstream != publisher.upstream:
        raise Refusal(
            Code.PUBLISHER_PROJECT,
            f"{publisher.name} may not ask for {body.project} at {upstream}.",
        )
    told = (seen.workflow, seen.delegation)
    if told != (asked.workflow, asked.delegation) or (
        seen.person and seen.person != body.requester
    ):
        raise Refusal(
            Code.IDENTITY_INVALID,
            "The statement says something else of the workload than its token does.",
            "Run the release again; the gateway may not be what it should be.",
        )
    _check_not_revoked(connection, chain, body, seen)
    return publisher


def _check_not_revoked(
    connection: Connection, chain: Chain, body: ReleaseBody, seen: view.SeenWorkload
) -> None:
    delegation = next((n for n, (d, _) in chain.delegations.items() if d == seen.delegation), "")
    mine = {
        ("publisher", seen.publisher),
        ("workload", seen.identity),
        ("run", seen.run),
        ("person", body.requester),
        ("delegation", delegation),
    }
    for one in view.narrowings(connection):
        if one.target and (one.what, one.target) in mine:
            raise Refusal(
                Code.IDENTITY_REVOKED,
                f"The {one.what} behind this release was revoked: {one.reason or 'no reason given'}.",
                f"A quorum can clear it: presspass freeze --clear {one.id}",
            )


def _check_delegation(
    connection: Connection,
    chain: Chain,
    body: ReleaseBody,
    asked: AskedBy,
    publisher: PublisherBody,
) -> None:
    named = [one for digest, one in chain.delegations.values() if digest == asked.delegation]
    if not named or named[0].publisher != publisher.name:
        raise Refusal(Code.DELEGATION_NONE, "The delegation of this release is not in force.")
    used = view.delegation_used(connection, asked.delegation, body.release)
    published = view.published_versions(connection, publisher.upstream, body.project)
    check_use(named[0], body.project, body.version, published, used)


def _publisher(chain: Chain, name: str) -> tuple[str, PublisherBody]:
    found = chain.publishers.get(name)
    if found is None:
        raise Refusal(Code.PUBLISHER_NONE, f"There is no publisher {name!r:.100} in force.")
    return found


def _delegation(
    chain: Chain, body: PublisherBody, digest: str, now_s: float
) -> DelegationBody | None:
    if not body.delegated_only:
        return None
    found = next((one for known, one in chain.delegations.values() if known == digest), None)
    if found is None or found.publisher != body.name:
        raise Refusal(Code.DELEGATION_NONE, f"{body.name} asks without a delegation in force.")
    check_window(found, now_s)
    return found


def _content(path: bytes | None, workload: Workload) -> bytes:
    if path is None:
        raise Refusal(
            Code.WORKFLOW_UNPROVEN, "Nobody has shown what stands in the workflow that ran."
        )
    objects = WorkflowPath.from_bytes(path).objects
    return prove(workload.workflow_commit, workload.workflow_path, objects)


def _first_sight(connection: Connection, shown: _Shown, now_ms: int) -> None:
    journal.insert_new(connection, t.WORKLOAD, token=shown.hash, state="seen", first_seen_ms=now_ms)
    mark = int(view.fact(connection, _MARK) or 0)
    if shown.serial > mark:
        journal.set_fact(connection, _MARK, str(shown.serial))


def _undecided(connection: Connection) -> set[str]:
    w = t.WORKLOAD.c
    return set(
        connection.execute(sa.select(w.token).where(w.state == "seen").limit(_PER_LOOK)).scalars()
    )


def _read(connection: Connection, mark: int, undecided: set[str]) -> list[_Shown]:
    """New rows, and those whose verdict a press that ended was still waiting for."""
    w = g.WORKLOAD_TOKEN.c
    fits = sa.and_(
        sa.func.length(w.token) <= JWT_BYTES_MAX,
        sa.func.coalesce(sa.func.length(w.workflow_path), 0) <= WORKFLOW_OBJECTS_JSON_BYTES_MAX,
    )
    columns = (w.serial, w.hash, w.token, w.publisher, w.delegation, w.workflow_path)
    wanted = sa.or_(w.serial > mark, w.hash.in_(sorted(undecided)))
    rows = connection.execute(
        sa.select(*columns).where(wanted, fits).order_by(w.serial).limit(_PER_LOOK)
    )
    found = []
    for serial, digest, token, publisher, delegation, path in rows:
        sound = (
            isinstance(serial, int)
            and isinstance(token, bytes)
            and is_sha256(digest)
            and sha256_hex(token) == digest
            and isinstance(publisher, str)
            and (delegation == "" or is_sha256(delegation))
            and isinstance(path, bytes | None)
        )
        if sound:
            text = token.decode("ascii", "replace")
            found.append(_Shown(serial, digest, text, publisher, delegation, path))
        else:
            _LOG.warning("passed over a workload's token that is not what its row says")
    return found
