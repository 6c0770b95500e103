"""The JSON API: releases, requests, signatures, enrolment. No sign-in: an id is a capability, an act needs a signature.

A handler is a plain function `(request, body) -> Answer` that may block: it runs in a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from presspass import __version__
from presspass.core.approval import Approval
from presspass.core.digests import JsonObject
from presspass.core.effects import roster_after
from presspass.core.errors import Code, Refusal
from presspass.core.findings import InputFile, parse_report
from presspass.core.lifecycle import State
from presspass.core.limits import JSON_BODY_BYTES_MAX
from presspass.core.quorum import Tally
from presspass.core.statement import Kind, ReleaseBody, ReleaseFile, Statement
from presspass.gateway import (
    approvals,
    asking,
    enrolment,
    identities,
    people,
    plans,
    requests,
    rights,
    sets,
    tokens,
)
from presspass.gateway.console import revoking, situation_of, view_token
from presspass.gateway.console.models import PlanFacts, ReleaseFacts
from presspass.gateway.console.text import told
from presspass.gateway.facts import Facts, received_for
from presspass.gateway.gate import Gate
from presspass.gateway.http import Receive, Scope, Send, json_answer, read_body, read_json, reply
from presspass.gateway.problems import HEALTHY_PHRASE, Answer
from presspass.gateway.requests import Request
from presspass.store import journal_view
from presspass.store.gateway_tables import RULES
from presspass.store.journal_view import Decision
from presspass.verify.chain import veto_of

Handler: TypeAlias = Callable[[HttpRequest, bytes], Answer]
_FILE_PIECE_BYTES = 1 << 20
_NO_RELEASE = "There is no release at this address."


class Reply:
    """An `Answer` in the form in which Starlette's routes want to get it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, self._answer)


def route(path: str, method: str, handler: Handler, bytes_max: int = JSON_BODY_BYTES_MAX) -> Route:
    """A route whose handler gets the whole body, of at most `bytes_max` bytes, and runs in a worker thread."""

    async def endpoint(request: HttpRequest) -> Any:
        body = await read_body(request.receive, bytes_max)
        return Reply(await run_in_threadpool(handler, request, body))

    return Route(path, endpoint, methods=[method])


def kept_rules(gate: Gate, digest: str) -> bytes | None:
    """The rule document with this digest, asked for or signed; None where there is none."""
    query = sa.select(RULES.c.document).where(RULES.c.digest == digest)
    with gate.writer.read() as connection:
        asked: bytes | None = connection.execute(query).scalar()
    if asked is not None or not gate.journal.rules.sealed:
        return asked
    return gate.journal.read(lambda c: journal_view.rules(c, digest))


class Api:
    """The handlers over one gate."""

    def __init__(self, gate: Gate, facts: Facts) -> None:
        self._gate = gate
        self._facts = facts

    def routes(self) -> list[Route]:
        """Every address of the API."""
        release, request = "/api/v1/releases/{id}", "/api/v1/requests/{digest}"
        return [
            route("/healthz", "GET", self.health),
            route(release, "GET", self.release),
            route(release + "/close", "POST", self.close),
            route(release + "/withdraw", "POST", self.withdraw),
            route(release + "/review", "GET", self.review),
            route(release + "/workflow", "GET", self.workflow),
            route(release + "/proofs/{name}", "GET", self.proof),
            Route(release + "/files/{name}", self.file, methods=["GET"]),
            Route(release + "/baseline/{name}", self.baseline, methods=["GET"]),
            route("/api/v1/rules/{digest}", "GET", self.rules),
            route("/api/v1/trust", "GET", self.trust),
            route(request, "GET", self.request),
            route(request + "/approvals", "POST", self.approve),
            route("/api/v1/plans", "POST", self.plan),
            route("/api/v1/narrowings", "POST", self.narrow),
            route("/api/v1/identities", "GET", self.identities),
            route("/api/v1/enrolments/begin", "POST", self.begin_enrolment),
            route("/api/v1/enrolments", "POST", self.enrol),
        ]

    def health(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /healthz. `seen` shows the asker what a proxy made of the request; `doctor` looks at it."""
        rules = self._gate.journal.rules
        seen: JsonObject = {
            "scheme": request.url.scheme,
            "host": request.headers.get("host", ""),
            "client": request.client.host if request.client else "",
        }
        health: JsonObject = {
            "ok": True,
            "sealed": rules.sealed,
            "genesis": rules.genesis_digest,
            "version": __version__,
            "seen": seen,
        }
        return json_answer(health, reason=HEALTHY_PHRASE)

    def release(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/releases/<id>"""
        return json_answer(self.release_json(request.path_params["id"]))

    def close(self, request: HttpRequest, _body: bytes) -> Answer:
        """POST /api/v1/releases/<id>/close"""
        return self._by_requester(request, sets.close_set)

    def withdraw(self, request: HttpRequest, _body: bytes) -> Answer:
        """POST /api/v1/releases/<id>/withdraw"""
        return self._by_requester(request, sets.withdraw)

    def _by_requester(
        self, request: HttpRequest, change: Callable[[Connection, str, tokens.Right, int], State]
    ) -> Answer:
        token = tokens.from_authorization(request.headers.get("authorization", ""))
        release = request.path_params["id"]

        def work(connection: Connection) -> None:
            now = self._gate.clock()
            change(connection, release, rights.check_right(connection, token, now), now)

        self._gate.writer.run(work)
        return json_answer(self.release_json(release))

    def review(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/releases/<id>/review: the report, canonical JSON."""
        facts = self._facts.release(request.path_params["id"])
        if facts is None or facts.report is None:
            raise Refusal(Code.REQUEST_NOT_FOUND, "There is no report at this address.")
        return Answer(200, facts.report, headers=(("content-disposition", "attachment"),))

    def workflow(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/releases/<id>/workflow: what ran, and what people had bound."""
        facts = self._facts.release(request.path_params["id"])
        if facts is None or facts.asker is None or facts.asker.workflow is None:
            raise Refusal(
                Code.REQUEST_NOT_FOUND,
                "There is no workflow at this address.",
                "Only a workload whose issuer names one has a workflow.",
            )
        return json_answer(asking.workflow_json(facts.asker.workflow))

    def proof(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/releases/<id>/proofs/<filename>"""
        facts = self._facts.release(request.path_params["id"])
        name = request.path_params["name"]
        if facts is None or facts.ballot is None or name not in facts.proofs:
            raise Refusal(Code.REQUEST_NOT_FOUND, "There is no proof at this address.")
        digest = Statement.from_bytes(facts.ballot.statement).digest
        data = self._gate.journal.read(lambda c: journal_view.proof(c, digest, name))
        return Answer(200, data or b"", headers=(("content-disposition", "attachment"),))

    async def file(self, request: HttpRequest) -> Any:
        """GET /api/v1/releases/<id>/files/<name>: the bytes, as an attachment no browser will interpret."""
        facts = await run_in_threadpool(self._facts.release, request.path_params["id"])
        return await self._file(facts.files if facts else (), request.path_params["name"])

    async def baseline(self, request: HttpRequest) -> Any:
        """GET /api/v1/releases/<id>/baseline/<name>: a file of the release that this one was compared with."""
        facts = await run_in_threadpool(self._facts.release, request.path_params["id"])
        report = facts.report if facts else None
        files = (await run_in_threadpool(parse_report, report)).baseline if report else ()
        return await self._file(files, request.path_params["name"])

    async def _file(self, files: Iterable[ReleaseFile | InputFile], name: str) -> Any:
        found = next((one for one in files if one.name == name), None)
        if found is None:
            raise Refusal(Code.REQUEST_NOT_FOUND, "There is no file at this address.")
        return FileReply(await run_in_threadpool(self._gate.blobs.open, found.sha256), found.size)

    def rules(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/rules/<digest>: the rule document that a policy names, for who is to sign it."""
        data = kept_rules(self._gate, request.path_params["digest"])
        if data is None:
            raise Refusal(Code.REQUEST_NOT_FOUND, "There are no rules with this digest.")
        return Answer(200, data)

    def trust(self, _request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/trust: genesis and the heads, for those who make a statement elsewhere (a freeze)."""
        chain = self._gate.journal.now().trust()
        return json_answer(
            {"genesis": chain.genesis.to_bytes().decode(), "heads": chain.heads.to_json()}
        )

    def request(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/requests/<digest>"""
        return json_answer(self.request_json(request.path_params["digest"]))

    def approve(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/requests/<digest>/approvals"""
        digest, note = request.path_params["digest"], request.query_params.get("note", "")
        try:
            stored = approvals.accept(self._gate, digest, body, note)
        except Refusal as refusal:
            self._gate.events.refused(refusal, "signature", approvals.enrolled(self._gate, body))
            raise
        role = self._role(stored, Approval.from_bytes(body))
        return json_answer({**self.request_json(digest), "role": role}, 202)

    def _role(self, request: Request, approval: Approval) -> str:
        """What a signature that was taken is: "veto", "requester" (proves who asked) or "approver"."""
        if approval.statement == request.veto_digest:
            return "veto"
        chain = self._gate.journal.rules.trust()
        electorate = chain.electorate(request.statement, chain.policy)
        return "requester" if electorate.is_requester(approval.key) else "approver"

    def plan(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/plans: puts releases together. Who knows their ids may look at them, and that is enough."""
        digest = plans.submit(self._gate, plans.Wanted.of(read_json(body)))
        return json_answer(self.request_json(digest), 201)

    def narrow(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/narrowings"""
        value = read_json(body)
        text, approval = value.get("statement"), value.get("approval")
        if not isinstance(text, str) or not isinstance(approval, dict):
            raise Refusal(
                Code.REQUEST_MALFORMED, "A narrowing has a 'statement' (text) and an 'approval'."
            )
        return json_answer({"statement": approvals.narrow(self._gate, text, approval)}, 202)

    def identities(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/identities: what can be revoked, and what is; for who is signed in or holds a view token."""
        viewer = situation_of(self._facts, request).viewer
        token = view_token(request, self._facts.origin)
        if viewer is None and self._facts.view_token_until(token) is None:
            raise Refusal(
                Code.TOKEN_INVALID,
                "What can be revoked is shown to who is signed in or holds a view token.",
                "Ask whoever runs the gate for a view link; send its token as `Authorization: Bearer TOKEN`.",
            )
        found = self._facts.identities()
        if found is None:
            self._gate.journal.rules.trust()  # refuses: there is nobody yet
            return json_answer({})
        return json_answer(identities.identities_json(revoking.for_viewer(found, viewer)))

    def begin_enrolment(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/enrolments/begin"""
        return json_answer(enrolment.begin(self._gate, read_json(body)))

    def enrol(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/enrolments"""
        enrolled = enrolment.finish(self._gate, read_json(body))
        rules = self._gate.journal.now()
        counts = rules.policy.counts(enrolled.key) if rules.sealed else None
        return json_answer({**enrolled.to_json(), "counts": counts}, 201)

    # the shapes

    def release_json(self, release_id: str) -> JsonObject:
        """One release as the API shows it."""
        facts = self._facts.release(release_id)
        if facts is None:
            raise Refusal(
                Code.REQUEST_NOT_FOUND, _NO_RELEASE, "Check that the address was copied whole."
            )
        ballot = facts.ballot
        statement = Statement.from_bytes(ballot.statement) if ballot else None
        with self._gate.writer.read() as connection:
            request = requests.find(connection, statement.digest) if statement else None
            received = received_for(connection, request) if request else []
        return {
            "id": facts.id,
            "url": self._gate.release_url(facts.id),
            "upstream": facts.upstream,
            "project": facts.project,
            "version": facts.version,
            "state": facts.state.value,
            "code": facts.code,
            "reason": facts.reason,
            "standing": _standing_json(facts),
            "hint": _hint(facts),
            "requester": facts.requester,
            "asked_by": asking.asker_json(facts.asker, facts.requester),
            "note": facts.note,
            "opened_at": facts.opened_ms // 1000,
            "files": [one.to_json() for one in facts.files],
            "request": statement.digest if statement else None,
            "statement": ballot.statement.decode() if ballot else None,
            "review": _review_digest(statement),
            "tally": tally_json(ballot.tally) if ballot else None,
            "approvals": [one.approval.to_json() for one in received],
            "press": press_json(ballot.decision if ballot else None),
            "proofs": list(facts.proofs),
        }

    def request_json(self, digest: str) -> JsonObject:
        """One request of any kind as the API shows it."""
        with self._gate.writer.read() as connection:
            request = requests.find(connection, digest) or self._holding(connection, digest)
            if request is None:
                raise Refusal(Code.REQUEST_NOT_FOUND, "There is no request with this digest.")
            received = received_for(connection, request)
            opened = self._opened(connection, request.statement)
            decision = self._facts.decision(request.digest)
            code, message = self._facts.word_on(connection, request, decision)
            count = self._facts.count(connection, self._gate.journal.now(), request)
        facts = self._facts.request(digest) if request.kind == Kind.PLAN.value else None
        planned = {"releases": self._planned(facts.plan)} if facts and facts.plan else {}
        return {
            **planned,
            "digest": request.digest,
            "veto_digest": request.veto_digest,
            "kind": request.kind,
            "state": decision.state if decision else State.AWAITING.value,
            "statement": request.statement.to_bytes().decode(),
            "veto_statement": veto_of(request.statement).to_bytes().decode(),
            "tally": tally_json(count) if count else None,
            "approvals": [one.approval.to_json() for one in received],
            "code": code,
            "message": message,
            "url": self._url(request),
            "details": opened,
            "roster_now": self._gate.journal.rules.roster.to_json()
            if roster_after(request.statement) is not None
            else None,
        }

    def _planned(self, plan: PlanFacts) -> list[JsonObject]:
        """The releases of a plan, as far as the gate has them."""
        return [
            {
                "id": one.release,
                "url": self._gate.release_url(one.release),
                "request": one.digest,
                "project": one.project,
                "version": one.version,
                "state": one.state.value,
                "code": one.code,
                "reason": one.reason,
                "needed": one.needed,
                "counted": one.counted,
            }
            for one in plan.releases
        ]

    def _holding(self, connection: Connection, digest: str) -> Request | None:
        """The bundle of which a member has this digest: a release names its upstream by it."""
        chain = self._gate.journal.rules.chain
        holding = chain.holding(digest) if chain else None
        return requests.find(connection, holding) if holding else None

    def _url(self, request: Request) -> str:
        if request.release is not None:
            return self._gate.release_url(request.release)
        return self._gate.request_url(request.digest)

    def _opened(self, connection: Connection, statement: Statement) -> JsonObject:
        """The details of the people whom a statement's roster adds or changes: what approvers must be able to read."""
        roster = roster_after(statement)
        if roster is None:
            return {}
        found = {}
        for person in (*roster.people, *self._gate.journal.rules.roster.people):
            details = people.open_details(self._gate, connection, person.details)
            if details is not None:
                found[person.details] = details.to_json()
        return found


def _review_digest(statement: Statement | None) -> str | None:
    body = statement.body if statement else None
    return body.review if isinstance(body, ReleaseBody) else None


def _standing_json(facts: ReleaseFacts) -> JsonObject | None:
    """How it passed under a standing approval, and whether it waits to be read."""
    use = facts.use
    if use is None:
        return None
    return {
        "name": use.name,
        "read_by": use.read_by,
        "read_until": use.due_ms // 1000 if use.due_ms is not None else None,
        "to_be_read": facts.to_be_read,
    }


def tally_json(count: Tally) -> JsonObject:
    """A count: `counted` and `excluded` name keys and people by their ids."""
    return {
        "needed": count.needed,
        "counted": list(count.counted),
        "missing": count.missing,
        "requester_signed": count.requester_signed,
        "frozen": count.frozen,
        "excluded": [{"key": key, "code": code.value} for key, code in count.excluded],
    }


def press_json(decision: Decision | None) -> JsonObject | None:
    """What the press thinks; null while it has not seen the request."""
    if decision is None:
        return None
    return {"state": decision.state, "code": decision.code, "message": told(decision.message)}


class FileReply:
    """A stored file, read by position in pieces: constant memory, and no seek is shared."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(self._size).encode()),
            (b"content-disposition", b"attachment"),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            position = 0
            while position < self._size:
                piece = await run_in_threadpool(os.pread, self._fd, _FILE_PIECE_BYTES, position)
                if not piece:
                    break
                position += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self._fd)


_HINTS = {
    State.OPEN: "Upload the other files, then close the set: `presspass submit`.",
    State.AWAITING: "Somebody else must look at it and approve it on its page.",
    State.REJECTED: "These bytes stay rejected; correct them and upload again.",
    State.EXPIRED: "Upload the files again to ask again.",
    State.FAILED: "Upload the files again once the cause is gone.",
}


def _hint(facts: ReleaseFacts) -> str:
    if facts.code == Code.FROZEN.value:
        return "Find out why. People end a freeze: `presspass freeze --clear ID` on the gate's host asks them."
    if facts.code == Code.FREEZE_WINDOW.value:
        return "It goes out by itself then."
    if facts.state in (State.PUBLISHING, State.PUBLISHED) and facts.code:
        return "The press tries again by itself."
    if facts.state is State.AWAITING and facts.code:
        return ""
    if facts.state is State.AWAITING and facts.ballot and facts.ballot.tally.reached:
        return "Enough people have signed; the press takes it up."
    return _HINTS.get(facts.state, "")
