"""The control socket: what operators on the gate's own host may ask of the gateway. Never served on TCP.

Whoever can open the socket (mode 0600) is the operator. Nothing here approves, publishes or reads a credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    PEOPLE_PER_ROSTER_MAX,
    RULES_BYTES_MAX,
    SCIM_TEXT_CHARS_MAX,
    UPLOAD_TOKEN_S_MAX,
    VETO_NOTE_CHARS_MAX,
    VIEW_TOKEN_S,
)
from presspass.core.roster import Details
from presspass.core.strict import Members
from presspass.gateway import enrolment, leaving, people, requests, roster_changes, stops, tokens
from presspass.gateway.api import route
from presspass.gateway.facts import Facts
from presspass.gateway.gate import Gate
from presspass.gateway.http import json_answer, read_json
from presspass.gateway.identity import passkeys
from presspass.gateway.problems import Answer
from presspass.gateway.scim import keys
from presspass.gateway.scim.schemas import ROOT
from presspass.gateway.shortage import frozen_packages
from presspass.rules.document import RuleDocument
from presspass.rules.ruleset import RuleSet
from presspass.store.gateway_tables import ENROLMENT, RELEASE, RULES, UPLOAD_TOKEN, VIEW_TOKEN

_ROWS_MAX = 500
_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")  # in normal form


class Control:
    """The handlers. `drain` ends the process in good order."""

    def __init__(self, gate: Gate, facts: Facts, drain: Callable[[], None]) -> None:
        self._gate = gate
        self._facts = facts
        self._drain = drain

    def routes(self) -> list[Route]:
        """Every address on the socket."""
        return [
            route("/tokens", "POST", self.make_token),
            route("/tokens/{hash}", "DELETE", self.revoke_token),
            route("/links", "POST", self.make_link),
            route("/details", "POST", self.keep_details),
            route("/rules", "POST", self.keep_rules, RULES_BYTES_MAX),
            route("/view-tokens", "POST", self.make_view_token),
            route("/requests", "POST", self.make_request),
            route("/sign-in-links", "POST", self.make_sign_in_link),
            route("/people/changes", "POST", self.change_person),
            route("/people/remove", "POST", self.remove_person),
            route("/scim-tokens", "POST", self.make_scim_token),
            route("/scim-tokens", "DELETE", self.end_scim_tokens),
            route("/status", "GET", self.status),
            route("/drain", "POST", self.drain),
        ]

    def make_token(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /tokens {upstream, project, person, life_s}: an upload token, shown this once."""
        members = Members(read_json(body), "request")
        upstream = members.name("upstream")
        project = tokens.normal_project(members.text("project"))
        person = members.text("person", empty=True)
        life_s = members.integer("life_s", low=1, high=UPLOAD_TOKEN_S_MAX)
        members.done()
        rules = self._gate.journal.now()
        rules.trust()
        if upstream not in rules.upstreams:
            known = ", ".join(sorted(rules.upstreams))
            raise Refusal(
                Code.UPSTREAM_MISSING,
                f"There is no upstream {upstream!r} in force at this gate.",
                f"There is: {known}." if known else "Ask for it first: `presspass upstream add`.",
            )
        if not _PROJECT.fullmatch(project):
            raise Refusal(
                Code.REQUEST_MALFORMED,
                f"{project!r} is no project's name.",
                "Letters, digits and . _ - only, as in the names of its files.",
            )
        token, now = tokens.new_upload_token(), self._gate.clock()

        def work(connection: Connection) -> None:
            row = {
                "hash": tokens.secret_hash(token),
                "upstream": upstream,
                "project": project,
                "person": self._person_in_roster(connection, person),
                "created_ms": now,
                "expires_ms": now + life_s * 1000,
            }
            connection.execute(sa.insert(UPLOAD_TOKEN), row)

        self._gate.writer.run(work)
        return json_answer({"token": token, "expires_at": now // 1000 + life_s}, 201)

    def _person_in_roster(self, connection: Connection, text: str) -> str:
        """Whose token it is; a person without a key would stand behind nothing."""
        person, roster = (
            people.person_id(self._gate, connection, text),
            self._gate.journal.rules.roster,
        )
        if person and roster.person(person) is None:
            known = people.known_people(self._gate, connection)
            names = sorted(known[one.id].name for one in roster.people if one.id in known)
            raise Refusal(
                Code.REQUEST_NOT_FOUND,
                f"{text!r} has no key in the roster yet.",
                f"In the roster are: {', '.join(names)}.",
            )
        stops.require_present(self._gate, connection, person)
        return person

    def revoke_token(self, request: HttpRequest, _body: bytes) -> Answer:
        """DELETE /tokens/<hash>"""
        token_hash, now = request.path_params["hash"], self._gate.clock()

        def work(connection: Connection) -> bool:
            change = sa.update(UPLOAD_TOKEN).where(
                UPLOAD_TOKEN.c.hash == token_hash, UPLOAD_TOKEN.c.revoked_ms.is_(None)
            )
            done = connection.execute(change.values(revoked_ms=now)).rowcount
            known = sa.select(UPLOAD_TOKEN.c.hash).where(UPLOAD_TOKEN.c.hash == token_hash)
            return bool(done) or connection.execute(known).first() is not None

        if not self._gate.writer.run(work):
            raise Refusal(Code.REQUEST_NOT_FOUND, "There is no upload token with this hash.")
        return json_answer({"revoked": token_hash})

    def make_link(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /links {person, name, addresses, groups, forge_ids, at_next?}: an enrolment link, its secret in the
        fragment; with `at_next` at the address to which the gate is about to move."""
        asked = read_json(body)
        secret, expires_ms = people.invite(self._gate, asked)
        origin = self._gate.next_origin if asked.get("at_next") else self._gate.site[0]
        url = f"{origin}/enrol#{secret}"
        return json_answer({"url": url, "expires_at": expires_ms // 1000}, 201)

    def keep_details(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /details {details: [{name, addresses, forge_ids, salt}]}: kept for the roster that will name them."""
        members = Members(read_json(body), "request")
        found = members.items("details", Details.from_json, count_max=PEOPLE_PER_ROSTER_MAX)
        members.done()

        def work(connection: Connection) -> None:
            for one in found:
                people.keep_details(connection, one)

        self._gate.writer.run(work)
        return json_answer({"commitments": [one.commitment for one in found]}, 201)

    def keep_rules(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /rules: a rule document (its canonical bytes), kept for the policy that will name its digest."""
        document = RuleDocument.from_bytes(body)
        RuleSet.of(document).check()
        row = {"digest": document.digest, "document": body, "received_ms": self._gate.clock()}

        def work(connection: Connection) -> None:
            known = sa.select(RULES.c.digest).where(RULES.c.digest == document.digest)
            if connection.execute(known).first() is None:
                connection.execute(sa.insert(RULES), row)

        self._gate.writer.run(work)
        return json_answer({"digest": document.digest}, 201)

    def make_view_token(self, _request: HttpRequest, _body: bytes) -> Answer:
        """POST /view-tokens: an address that lets its holder look at the list, never sign."""
        token, now = tokens.new_secret(), self._gate.clock()
        expires = now + VIEW_TOKEN_S * 1000
        row = {"hash": tokens.secret_hash(token), "created_ms": now, "expires_ms": expires}
        self._gate.writer.run(lambda connection: connection.execute(sa.insert(VIEW_TOKEN), row))
        url = f"{self._gate.site[0]}/c?token={token}"
        return json_answer({"url": url, "expires_at": expires // 1000}, 201)

    def make_request(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /requests: a statement (its canonical text, or {"statement": text}) is put before the approvers.

        Beside a publisher's statement, `workflow`: the content of the file that it binds.
        """
        text, workflow = body.decode("utf-8", "replace"), None
        value = read_json(body)
        if isinstance(value.get("statement"), str):
            text = value["statement"]
            workflow = value.get("workflow")
        if not isinstance(workflow, str | None):
            raise Refusal(Code.REQUEST_MALFORMED, "The workflow is not text.")
        digest = requests.submit(self._gate, text, workflow)
        return json_answer({"digest": digest, "url": self._gate.request_url(digest)}, 201)

    def make_sign_in_link(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /sign-in-links {person}: an address where that person makes a sign-in passkey."""
        members = Members(read_json(body), "request")
        who = members.text("person")
        members.done()
        secret, person, expires_ms = passkeys.make_link(self._gate, who)
        url = f"{self._gate.site[0]}/sign-in/keys#{secret}"
        return json_answer({"url": url, "person": person, "expires_at": expires_ms // 1000}, 201)

    def change_person(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /people/changes {person, name?, addresses?, forge_ids?, groups?}: a roster to be approved."""
        digest = roster_changes.ask(self._gate, read_json(body))
        return json_answer({"digest": digest, "url": self._gate.request_url(digest)}, 201)

    def remove_person(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /people/remove {person, reason}: ends everything of that person at once; asks for the roster without."""
        members = Members(read_json(body), "request")
        who = members.text("person")
        reason = members.text("reason", chars_max=VETO_NOTE_CHARS_MAX, empty=True)
        members.done()
        gate = self._gate
        gate.journal.now().trust()
        with gate.writer.read() as connection:
            person = people.person_id(gate, connection, who)
        left = leaving.leave(gate, person, reason or "removed by the operator", "operator")
        with gate.writer.read() as connection:
            frozen = frozen_packages(gate, connection)
        return json_answer({**left_json(gate, left), "frozen_packages": frozen})

    def make_scim_token(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /scim-tokens {required_group?}: the identity provider's token, shown this once; the one before ends."""
        members = Members(read_json(body), "request")
        group = None
        if members.has("required_group"):
            group = members.text("required_group", chars_max=SCIM_TEXT_CHARS_MAX, empty=True)
        members.done()
        gate = self._gate
        token, group = gate.writer.run(lambda c: keys.rotate(c, group, gate.clock()))
        url = f"{gate.site[0]}{ROOT}"
        return json_answer({"token": token, "url": url, "required_group": group}, 201)

    def end_scim_tokens(self, _request: HttpRequest, _body: bytes) -> Answer:
        """DELETE /scim-tokens: no identity provider speaks SCIM here any more."""
        ended = self._gate.writer.run(lambda c: keys.close(c, self._gate.clock()))
        return json_answer({"ended": ended})

    def status(self, _request: HttpRequest, _body: bytes) -> Answer:
        """GET /status: everything that is open, and the keys that wait."""
        sealed, asked = self._gate.journal.now().sealed, self._requests()
        with self._gate.writer.read() as connection:
            return json_answer(
                {
                    "sealed": sealed,
                    "releases": self._releases(connection),
                    "requests": asked,
                    "enrolments": self._enrolments(connection),
                    "frozen_packages": frozen_packages(self._gate, connection),
                }
            )

    def drain(self, _request: HttpRequest, _body: bytes) -> Answer:
        """POST /drain: no new work; the process ends when what it has begun is done."""
        self._drain()
        return json_answer({"draining": True}, 202)

    def _releases(self, connection: Connection) -> list[JsonObject]:
        query = sa.select(RELEASE).where(RELEASE.c.live == 1)
        rows = connection.execute(query.order_by(RELEASE.c.opened_ms.desc()).limit(_ROWS_MAX)).all()
        words = {row.id: self._facts.word_on_release(connection, row) for row in rows}
        return [
            {
                "id": row.id,
                "project": row.project,
                "version": row.version,
                "upstream": row.upstream,
                "state": row.state,
                "code": words[row.id][0],
                "reason": words[row.id][1],
                "opened_at": row.opened_ms // 1000,
                "url": self._gate.release_url(row.id),
            }
            for row in rows
        ]

    def _requests(self) -> list[JsonObject]:
        return [
            {
                "digest": one.digest,
                "kind": one.kind,
                "title": one.title,
                "state": one.state or "awaiting",
                "message": one.message,
                "url": self._gate.request_url(one.digest),
            }
            for one in self._facts.open_requests()
        ]

    def _enrolments(self, connection: Connection) -> list[JsonObject]:
        """Keys that are not in the roster: before genesis all of them, afterwards those whose request is open."""
        rules, found = self._gate.journal.rules, []
        bringing = requests.bringing_keys(connection) if rules.sealed else {}
        for row in connection.execute(
            sa.select(ENROLMENT).order_by(ENROLMENT.c.enrolled_ms).limit(_ROWS_MAX)
        ):
            waits = any(self._facts.is_open(connection, one) for one in bringing.get(row.key, ()))
            if not rules.sealed or (waits and rules.roster.key(row.key) is None):
                details = people.open_details(self._gate, connection, row.details)
                name = details.name if details else ""
                kind = enrolment.read_key(row.key_json).kind
                found.append({"person": row.person, "name": name, "kind": kind, "key": row.key})
        return found


def left_json(gate: Gate, left: leaving.Left) -> JsonObject:
    """What ended, and where the others sign to take the keys out."""
    names = ("sessions", "sign_in_keys", "links", "upload_tokens", "passes", "approvals")
    return {
        "person": left.person,
        "stop": left.stop,
        "new": left.new,
        **{name: getattr(left, name) for name in names},
        "delegations": list(left.delegations),
        "releases": [gate.release_url(one) for one in left.releases],
        "request": left.request,
        "url": gate.request_url(left.request) if left.request else "",
    }
