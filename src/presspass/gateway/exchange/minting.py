"""From an identity token to a pass: the one way, whatever the door.

1. The token is parsed, its issuer found among those that people have bound, its signature verified, its claims read.
2. A publisher is found by ids, the run checked against it, the workflow's content proved by git objects.
3. In one transaction: nothing stands against anybody involved, the token is claimed (each once), token and pass are
   written. The answer leaves after the commit; a crash before it leaves nothing, after it a pass that nobody holds.

A token that comes a second time ends the run it belongs to: one of the two who hold it has stolen it.
A changed workflow ends the publisher's passes; from an allowed and protected ref the run may still stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from presspass.core.audience import audience, audiences
from presspass.core.delegation import DelegationBody, check_window
from presspass.core.digests import canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.publisher import (
    PublisherBody,
    check_run,
    had_this_name,
    is_same_workload,
    version_of_ref,
)
from presspass.core.statement import ReleaseFile, set_bytes
from presspass.core.workload import Workload
from presspass.formats.jwt import Jwt, parse_jwt
from presspass.gateway import early, events, passes, people, stops
from presspass.gateway.gate import Gate
from presspass.gateway.stops import Stop
from presspass.gateway.workflow_files import keep_workflow
from presspass.store.gateway_tables import PASS, SEEN_TOKEN, WORKLOAD_TOKEN
from presspass.verify.chain import Chain
from presspass.verify.workload import bound_set, replay_key, replay_until_s, verify_workload

_DELEGATION_REFUSALS_MAX = 3
_HOUR_MS = 3_600_000
#: Refusals of tokens of which nothing is proved.
_UNPROVEN = frozenset(
    {
        *(
            Code.GENESIS_MISSING,
            Code.IDENTITY_ALGORITHM,
            Code.IDENTITY_INVALID,
            Code.IDENTITY_MALFORMED,
        ),
        *(Code.IDENTITY_ISSUER_UNKNOWN, Code.IDENTITY_KEY_UNKNOWN, Code.IDENTITY_UNAVAILABLE),
    }
)


class Workflows(Protocol):
    """Where the git objects of a workflow come from: the repository that people have bound, or the workload itself."""

    def prove(self, body: PublisherBody, workload: Workload) -> tuple[bytes, bytes]:
        """(git path as canonical JSON, content of the file); refuses with an `identity.workflow-…` code."""
        ...

    def show(self, workload: Workload, data: bytes) -> None:
        """Keeps a git path that the workload shows, if it proves the workflow of its run."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a door was asked for beside the token. `project`, `upstream`: "" where the protocol does not say;
    `files`: what the workload binds its pass to; `acting`: whether another actor's token came along.
    """

    project: str = ""
    upstream: str = ""
    files: tuple[ReleaseFile, ...] = ()
    acting: bool = False


@dataclass(frozen=True, slots=True)
class Minted:
    """A fresh pass, shown this once. `expires_at`: Unix seconds; `stage_only`: people must look at the workflow too."""

    secret: str
    expires_at: int
    publisher: str
    upstream: str
    project: str
    version: str
    stage_only: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found out before the transaction."""

    token: Jwt
    workload: Workload
    body: PublisherBody
    statement: str
    workflow: str
    path: bytes | None
    content: bytes | None
    delegation: tuple[str, DelegationBody] | None
    person: str
    changed: bool
    set_digest: str


@dataclass(slots=True)
class Minting:
    """Safe to use from any thread."""

    gate: Gate
    workflows: Workflows
    _forge_ids: tuple[str, Mapping[str, str]] = ("", {})
    _delegation_refusals: dict[str, list[int]] = field(default_factory=dict)

    @property
    def site(self) -> str:
        """The address that clients upload to."""
        return self._urls()[0]

    @property
    def audience(self) -> str:
        """What a client should ask its issuer for."""
        return audience(self._urls()[0])

    def mint(self, text: str, asked: Asked) -> Minted:
        """A pass for the workload that the token proves; a refusal with its own code for everything else."""
        return self.begin(text, asked).result()

    def begin(self, text: str, asked: Asked) -> Future[Minted]:
        """As `mint`; the future answers after the commit."""
        token = parse_jwt(text)
        found = self._find(token, asked)
        rules = self.gate.journal.rules
        stops.require_none_latched(rules.narrowings, _concerned(found))
        return self.gate.writer.submit(lambda c: self._issue(c, found, asked, rules.cleared))

    def show(self, text: str, path: bytes) -> None:
        """Takes the git path of its workflow from a workload, before it asks for a pass. The token is not used up."""
        token = parse_jwt(text)
        chain = self.gate.journal.now().trust()
        bound = [entry for entry in chain.publishers.values() if entry[1].issuer == token.issuer]
        if not bound:
            raise _stranger()
        workload = self._verify(token, bound)
        _choose(bound, workload, Asked())
        self.workflows.show(workload, path)

    def knows(self, text: str, refusal: Refusal) -> bool:
        """Whether a token that was refused is of a workload that is bound here. Nobody is known by a token whose
        signature was not read, or does not verify."""
        if refusal.code in _UNPROVEN:
            return False
        token, chain = parse_jwt(text), self.gate.journal.rules.trust()
        bound = [entry for entry in chain.publishers.values() if entry[1].issuer == token.issuer]
        return _is_known(token, bound)

    def settle(self, text: str, refusal: Refusal) -> None:
        """What follows from a refusal after its transaction: a replayed token ends its run."""
        try:
            token = parse_jwt(text)
        except Refusal:
            return
        if refusal.code is Code.IDENTITY_REPLAYED:
            self._end_replayed(token)

    def _urls(self) -> tuple[str, ...]:
        return (self.gate.upload_site, self.gate.site[0])

    # before the transaction

    def _find(self, token: Jwt, asked: Asked) -> _Found:
        chain = self.gate.journal.now().trust()
        bound = [entry for entry in chain.publishers.values() if entry[1].issuer == token.issuer]
        if not bound:
            raise _stranger()
        workload = self._verify(token, bound)
        statement, body = _choose(bound, workload, asked)
        set_digest = bound_set(token)
        if asked.files and set_digest != sha256_hex(set_bytes(asked.files)):
            raise Refusal(
                Code.IDENTITY_AUDIENCE,
                "The token is not bound to these files.",
                f"Ask for a token with the audience {self.audience}:sha256:<digest of the set>.",
            )
        delegation = self._delegation(chain, body, token, asked)
        bound_workflow = self.gate.journal.bound_workflow(statement, body)
        path, content = self._workflow(body, workload, bound_workflow)
        workflow = "" if content is None else sha256_hex(content)
        changed = workflow != bound_workflow
        if changed:
            self._check_changed(chain, body, workload)
        person = delegation[1].person if delegation else self._person(chain, workload)
        early.require_exchange(
            self.gate, body.name, body.upstream, (asked.project,) if asked.project else body.projects,
            resolved=bool(person), unchanged=not changed,
        )  # fmt: skip
        return _Found(
            token, workload, body, statement, workflow, path, content,
            delegation, person, changed, set_digest,
        )  # fmt: skip

    def _verify(self, token: Jwt, bound: list[tuple[str, PublisherBody]]) -> Workload:
        """The workload that the token proves. What is wrong with its claims is told to bound workloads alone."""
        body = bound[0][1]
        try:
            return self._verified(token, body)
        except Refusal as refusal:
            about_claims = (
                refusal.code is Code.IDENTITY_CLAIM_MISSING
                or refusal.code.value.startswith("publisher.")
            )
            if about_claims and not _is_known(token, bound):
                raise _stranger() from None
            raise

    def _verified(self, token: Jwt, body: PublisherBody) -> Workload:
        wanted, now_s = audiences(*self._urls()), self.gate.clock() / 1000
        return self.gate.key_sets.verified(
            body.issuer,
            lambda keys: verify_workload(
                token, keys, issuer=body.issuer, provider=body.provider,
                audiences=wanted, now_s=now_s,
            ),
        )  # fmt: skip

    def _workflow(
        self, body: PublisherBody, workload: Workload, bound_workflow: str
    ) -> tuple[bytes | None, bytes | None]:
        try:
            check_run(body, workload)
            return self.workflows.prove(body, workload) if body.workflow else (None, None)
        except Refusal as refusal:
            if refusal.code in (Code.PUBLISHER_REF, Code.PUBLISHER_REF_UNPROTECTED):
                self._look_at_stray(body, workload, bound_workflow)
            raise

    def _look_at_stray(self, body: PublisherBody, workload: Workload, bound_workflow: str) -> None:
        """A run from a ref that may not publish: with another workflow than the bound one it is an alarm (S05)."""
        try:
            _, content = self.workflows.prove(body, workload)
            same = sha256_hex(content) == bound_workflow
        except Refusal:
            same = False
        if not same:
            self._limit(body, f"a run on {workload.ref} had another workflow than the bound one")

    def _check_changed(self, chain: Chain, body: PublisherBody, workload: Workload) -> None:
        """The run is on an allowed ref, and its workflow is another one: what it may still do."""
        if chain.policy.profile == "high-assurance":
            reason = f"its workflow changed at {workload.workflow_commit[:12]}"
            self._stop(Stop("publisher", body.name, reason, "exchange"))
            raise Refusal(
                Code.PUBLISHER_WORKFLOW_CHANGED,
                f"The workflow {body.workflow} is another than the bound one; the publisher is frozen.",
                "A quorum must bind the new content: presspass publisher bind.",
            )
        if not workload.ref_protected:
            self._limit(body, f"the workflow on the unprotected {workload.ref} is another one")
            raise Refusal(
                Code.PUBLISHER_WORKFLOW_CHANGED,
                f"The workflow {body.workflow} is another than the bound one, and {workload.ref} is not protected.",
                "Protect the ref at the forge, or bind the new content: presspass publisher bind.",
            )

    def _limit(self, body: PublisherBody, reason: str) -> None:
        self._stop(Stop("limited", body.name, reason, "exchange"))

    def _stop(self, stop: Stop) -> None:
        now, cleared = self.gate.clock(), self.gate.journal.cleared()
        self.gate.writer.run(
            lambda connection: stops.record_unless_standing(connection, stop, now, cleared)
        )

    def _delegation(
        self, chain: Chain, body: PublisherBody, token: Jwt, asked: Asked
    ) -> tuple[str, DelegationBody] | None:
        try:
            return self._delegated(chain, body, token, asked)
        except Refusal as refusal:
            if refusal.code.value.startswith("delegation."):
                self._count_refusal(body)
            raise

    def _delegated(
        self, chain: Chain, body: PublisherBody, token: Jwt, asked: Asked
    ) -> tuple[str, DelegationBody] | None:
        if asked.acting or "act" in token.claims or "may_act" in token.claims:
            raise Refusal(
                Code.DELEGATION_NESTED,
                "The token carries another actor; a delegation cannot be handed on.",
                "The bot that people named asks by itself, with its own token alone.",
            )
        if not body.delegated_only:
            return None
        mine = [entry for entry in chain.delegations.values() if entry[1].publisher == body.name]
        if not mine:
            raise Refusal(
                Code.DELEGATION_NONE,
                f"{body.name} acts for people only, and nobody has delegated anything to it.",
                "Ask for a delegation (an approved `delegation` statement).",
            )
        now_s = self.gate.clock() / 1000
        covering = [one for one in mine if not asked.project or asked.project in one[1].projects]
        if not covering:
            raise Refusal(
                Code.DELEGATION_PROJECT,
                f"No delegation of {body.name} covers {asked.project}.",
                "Ask for one that does, or let a person release it.",
            )
        for entry in covering:
            try:
                check_window(entry[1], now_s)
            except Refusal:
                continue
            return entry
        check_window(covering[0][1], now_s)
        return None

    def _count_refusal(self, body: PublisherBody) -> None:
        """Three refusals within an hour end the bot: it is trying what nobody gave it (S13)."""
        now = self.gate.clock()
        recent = [at for at in self._delegation_refusals.get(body.name, []) if at > now - _HOUR_MS]
        self._delegation_refusals[body.name] = recent = [*recent, now][-_DELEGATION_REFUSALS_MAX:]
        if len(recent) == _DELEGATION_REFUSALS_MAX:
            reason = f"asked {_DELEGATION_REFUSALS_MAX} times for what nobody delegated to it"
            self._stop(Stop("publisher", body.name, reason, "exchange"))

    def _person(self, chain: Chain, workload: Workload) -> str:
        """The person of the roster behind the run, by forge id; "" when nobody knows."""
        if not workload.actor:
            return ""
        if self._forge_ids[0] != chain.heads.roster:
            with self.gate.writer.read() as connection:
                self._forge_ids = (chain.heads.roster, people.by_forge_id(self.gate, connection))
        return self._forge_ids[1].get(workload.actor, "")

    # in the transaction

    def _issue(
        self, connection: Connection, found: _Found, asked: Asked, cleared: frozenset[str]
    ) -> Minted:
        now, body, workload = self.gate.clock(), found.body, found.workload
        stops.require_none(connection, _concerned(found), cleared)
        self._claim(connection, found, now)
        if found.changed:
            passes.end(connection, [PASS.c.publisher == body.name], "the workflow changed", now)
        if found.content is not None:
            keep_workflow(connection, found.workflow, found.content, now)
        token_hash = self._keep_token(connection, found, now)
        project = asked.project or (body.projects[0] if len(body.projects) == 1 else "")
        wish = passes.Wish(
            upstream=body.upstream,
            publisher=body.name,
            project=project,
            version=version_of_ref(body, workload.ref),
            person=found.person,
            files={one.name: one.sha256 for one in asked.files} if asked.files else None,
        )
        secret, expires_ms = passes.issue(connection, wish, token_hash, now)
        events.note(connection, "exchange", f"{token_hash[:16]}: {body.name}", now)
        return Minted(
            secret, expires_ms // 1000, body.name, body.upstream, project, wish.version, found.changed
        )  # fmt: skip

    def _claim(self, connection: Connection, found: _Found, now_ms: int) -> None:
        row = {
            "key": replay_key(found.token),
            "run": found.workload.run_key,
            "until_ms": replay_until_s(found.token) * 1000,
        }
        try:
            connection.execute(sa.insert(SEEN_TOKEN), row)
        except IntegrityError:
            raise Refusal(
                Code.IDENTITY_REPLAYED,
                "This identity token was exchanged before. Each is good for one pass.",
                "The run it belongs to is stopped, since one of two holders has stolen it. Start a new run.",
            ) from None

    def _keep_token(self, connection: Connection, found: _Found, now_ms: int) -> str:
        digest, workload = sha256_hex(found.token.text.encode()), found.workload
        described = {
            "act": _act(found),
            "actor": workload.actor,
            "commit": workload.commit,
            "environment": workload.environment,
            "event": workload.event,
            "ids": [list(pair) for pair in workload.ids],
            "issuer": workload.issuer,
            "provider": workload.provider,
            "ref": workload.ref,
            "ref_protected": workload.ref_protected,
            "repository": workload.repository,
            "run": workload.run,
            "workflow": workload.workflow_path,
            "workflow_commit": workload.workflow_commit,
        }
        row = {
            "hash": digest,
            "token": found.token.text.encode(),
            "publisher": found.body.name,
            "publisher_statement": found.statement,
            "delegation": found.delegation[0] if found.delegation else "",
            "delegation_name": found.delegation[1].name if found.delegation else "",
            "identity": workload.key,
            "run": workload.run_key,
            "workflow": found.workflow,
            "workflow_path": found.path,
            "stage_only": int(found.changed),
            "set_digest": found.set_digest,
            "described": canonical(described),
            "received_ms": now_ms,
        }
        connection.execute(sa.insert(WORKLOAD_TOKEN), row)
        return digest

    def _end_replayed(self, token: Jwt) -> None:
        """Ends the run that a replayed token belongs to, as the first exchange knew it."""
        now, cleared = self.gate.clock(), self.gate.journal.cleared()

        def work(connection: Connection) -> None:
            query = sa.select(SEEN_TOKEN.c.run).where(SEEN_TOKEN.c.key == replay_key(token))
            run = connection.execute(query).scalar()
            if run:
                reason = "its identity token was shown a second time"
                stop = Stop("run", run, reason, "exchange")
                stops.record_unless_standing(connection, stop, now, cleared)

        self.gate.writer.run(work)


def _concerned(found: _Found) -> list[tuple[str, str]]:
    """Everybody and everything involved, as revocations name them."""
    return [
        ("publisher", found.body.name),
        ("workload", found.workload.key),
        ("run", found.workload.run_key),
        *([("person", found.person)] if found.person else []),
        *([("delegation", found.delegation[1].name)] if found.delegation else []),
    ]


def _choose(
    bound: list[tuple[str, PublisherBody]], workload: Workload, asked: Asked
) -> tuple[str, PublisherBody]:
    """The binding that this run fits; else the refusal of the one that comes nearest."""
    same = [entry for entry in bound if is_same_workload(entry[1], workload)]
    if not same:
        for _, body in bound:
            if had_this_name(body, workload):
                check_run(body, workload)
        raise _stranger()
    fits = [
        entry
        for entry in same
        if (not asked.project or asked.project in entry[1].projects)
        and asked.upstream in ("", entry[1].upstream)
    ]
    if not fits:
        raise Refusal(
            Code.PUBLISHER_PROJECT,
            f"{workload.repository} may not ask for {asked.project or asked.upstream}.",
            "Bind the package to its publisher: presspass publisher bind.",
        )
    for entry in fits:
        try:
            check_run(entry[1], workload)
        except Refusal:
            continue
        return entry
    return next((one for one in fits if one[1].workflow == workload.workflow_path), fits[0])


def _is_known(token: Jwt, bound: list[tuple[str, PublisherBody]]) -> bool:
    """Whether a token whose claims are not whole is of a bound workload, by any of its ids or by its name."""
    values = {str(value) for value in token.claims.values() if isinstance(value, str | int)}
    return any(
        body.repository in values or any(value in values for _, value in body.ids)
        for _, body in bound
    )


def _stranger() -> Refusal:
    """What somebody hears who has nothing to do with this gate: nothing."""
    return Refusal(
        Code.PUBLISHER_NONE,
        "Nobody has bound this workload to anything here.",
        "If it should be: people bind it with `presspass publisher bind`.",
    )


def _act(found: _Found) -> Mapping[str, object]:
    """Who acts for whom (RFC 8693 section 4.1): the person who delegated, and the bot; {} without a delegation."""
    if found.delegation is None:
        return {}
    return {"act": {"sub": found.body.name}, "sub": found.delegation[1].person}
