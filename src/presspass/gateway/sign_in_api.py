"""Sign-in, sessions, terminals and what admins ask for, over HTTP: pages and JSON.

A request that changes something comes from this very origin (Sec-Fetch-Site, else Origin) with a JSON body, or with a
terminal's token in its Authorization header, which no browser adds by itself. No route here takes a session for an
approval: signing in never approves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy.engine import Connection
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import JWT_BYTES_MAX, SESSION_S_MAX, SIGN_IN_ATTEMPT_S
from presspass.core.strict import Members
from presspass.gateway import history, people, provider_events, requests, roster_changes, tokens
from presspass.gateway.api import route
from presspass.gateway.console import views
from presspass.gateway.console.models import Overview, Situation
from presspass.gateway.facts import Facts
from presspass.gateway.gate import Gate
from presspass.gateway.http import json_answer, read_json
from presspass.gateway.identity import device, passkeys, sessions, signin
from presspass.gateway.identity.oidc_client import Provider
from presspass.gateway.identity.roles import SEE_EVERYTHING, Role, require_role, roles_of
from presspass.gateway.oauth import Form, OAuthError, with_form
from presspass.gateway.problems import Answer, as_refusal, plain_problem
from presspass.verify.history import Words

_JSON = "application/json"
#: RFC 8935 section 2.4. Whatever else is wrong with a signature: anybody may have sent it.
_PUSH_ERRORS: Final = {
    Code.IDENTITY_AUDIENCE: "invalid_audience",
    Code.IDENTITY_CLAIM_MISSING: "invalid_request",
    Code.IDENTITY_EXPIRED: "invalid_request",
    Code.IDENTITY_ISSUER_UNKNOWN: "invalid_issuer",
    Code.IDENTITY_MALFORMED: "invalid_request",
}
#: What may be over in a while: new keys not read yet, the gate's own clock, a full disk. Such an event is sent again
#: after a 503; a 400 would be the end of it (RFC 8935 section 2.3).
_PUSH_AGAIN: Final = frozenset(
    {
        Code.IDENTITY_KEY_UNKNOWN,
        Code.IDENTITY_NOT_YET_VALID,
        Code.IDENTITY_UNAVAILABLE,
        Code.STORAGE_FULL,
    }
)


class SignIn:
    """The handlers. `provider` is None where presspass.toml names none: then passkeys alone sign in."""

    def __init__(self, gate: Gate, facts: Facts, provider: Provider | None) -> None:
        self._gate = gate
        self._facts = facts
        self._provider = provider

    def routes(self) -> list[Route]:
        """Every address of sign-in."""
        pages: list[tuple[str, Callable[[HttpRequest], Response]]] = [
            ("/sign-in", self.sign_in_page),
            ("/sign-in/start", self.start),
            ("/sign-in/callback", self.callback),
            ("/sign-in/keys", self.keys_page),
            ("/device", self.device_page),
            ("/people", self.people_page),
        ]
        return [
            *(Route(path, page, methods=["GET"]) for path, page in pages),
            route("/api/v1/session", "GET", self.session),
            route("/api/v1/session/end", "POST", self.end),
            route("/api/v1/sign-in/begin", "POST", self.begin_passkey),
            route("/api/v1/sign-in", "POST", self.passkey),
            route("/api/v1/sign-in/keys/begin", "POST", self.begin_key),
            route("/api/v1/sign-in/keys", "POST", self.make_key),
            route("/api/v1/sign-in/keys/remove", "POST", self.remove_key),
            route("/api/v1/device", "POST", self.decide_device),
            route("/api/v1/overview", "GET", self.overview),
            route("/api/v1/history", "GET", self.history),
            route("/api/v1/people/links", "POST", self.make_link),
            route("/api/v1/people/changes", "POST", self.change_person),
            route("/api/v1/requests", "POST", self.ask),
            route("/device_authorization", "POST", self.authorize_device),
            route("/backchannel-logout", "POST", self.provider_logout),
            route("/security-events", "POST", self.security_event, JWT_BYTES_MAX),
        ]

    # --- who asks

    def _secret(self, request: HttpRequest) -> str:
        return self._bearer(request) or request.cookies.get(self._cookie(views.SESSION_COOKIE), "")

    def _bearer(self, request: HttpRequest) -> str:
        # Only this scheme: Basic credentials for this host a browser adds by itself, also for another site's page.
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        return rest.strip() if scheme.lower() == "bearer" else ""

    def _session(self, request: HttpRequest) -> sessions.Session:
        return sessions.require(self._gate, self._secret(request))

    def _acting(self, request: HttpRequest) -> sessions.Session:
        """The session of a request that changes something."""
        self._require_own_page(request)
        return self._session(request)

    def _require_own_page(self, request: HttpRequest) -> None:
        """Refuses with `session.cross-site` what another site's page could make a browser send."""
        if self._bearer(request):
            return
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        own = site == "same-origin" if site is not None else origin == self._gate.site[0]
        if not own or not request.headers.get("content-type", "").startswith(_JSON):
            raise Refusal(
                Code.SESSION_CROSS_SITE,
                "This request did not come from a page of this gate.",
                f"Open the page at {self._gate.site[0]} and act there.",
            )

    def _cookie(self, name: str) -> str:
        return views.cookie_name(self._gate.site[0], name)

    # --- signing in at the provider

    def sign_in_page(self, request: HttpRequest) -> Response:
        """GET /sign-in[?next=path]"""
        situation = self._situation(request)
        back_to = signin.local_path(request.query_params.get("next", "/c"))
        return views.render(
            "sign_in.html",
            situation,
            origin=self._facts.origin,
            provider=self._provider.name if self._provider else "",
            start=f"/sign-in/start?next={quote(back_to, safe='')}",
            back_to=back_to,
        )

    def start(self, request: HttpRequest) -> Response:
        """GET /sign-in/start?next=path: on to the sign-in provider."""
        back_to = request.query_params.get("next", "/c")
        address, secret = signin.leave(self._gate, self._require_provider(), back_to)
        answer = RedirectResponse(address, 303, views.PAGE_HEADERS)
        self._set_cookie(answer, views.LEAVING_COOKIE, secret, SIGN_IN_ATTEMPT_S)
        return answer

    def callback(self, request: HttpRequest) -> Response:
        """GET /sign-in/callback?code&state: back from it, with the cookie of `start`."""
        secret = request.cookies.get(self._cookie(views.LEAVING_COOKIE), "")
        before = request.cookies.get(self._cookie(views.SESSION_COOKIE), "")
        query = dict(request.query_params)
        arrived = signin.arrive(self._gate, self._require_provider(), secret, query, before)
        answer = RedirectResponse(arrived.back_to, 303, views.PAGE_HEADERS)
        self._set_cookie(answer, views.SESSION_COOKIE, arrived.secret, SESSION_S_MAX)
        self._set_cookie(answer, views.LEAVING_COOKIE, "", 0)
        return answer

    def _require_provider(self) -> Provider:
        if self._provider is None:
            raise Refusal(
                Code.SIGN_IN_OFF,
                "This gate has no sign-in provider.",
                "Sign in with a sign-in passkey, or ask the operator to set [sign_in] in presspass.toml.",
            )
        return self._provider

    def _set_cookie(self, answer: Response, name: str, value: str, life_s: int) -> None:
        # Lax: the way back from the provider is a navigation that another site begins.
        answer.set_cookie(
            self._cookie(name),
            value,
            max_age=life_s,
            path="/",
            httponly=True,
            samesite="lax",
            secure=self._gate.site[0].startswith("https:"),
        )

    # --- sign-in passkeys

    def begin_passkey(self, request: HttpRequest, _body: bytes) -> Answer:
        """POST /api/v1/sign-in/begin"""
        self._require_own_page(request)
        return json_answer(passkeys.begin_signing_in(self._gate))

    def passkey(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/sign-in {id, credential}: a session, in a cookie."""
        self._require_own_page(request)
        before = request.cookies.get(self._cookie(views.SESSION_COOKIE), "")
        person, secret = passkeys.sign_in(self._gate, read_json(body), before)
        carrier = Response()
        self._set_cookie(carrier, views.SESSION_COOKIE, secret, SESSION_S_MAX)
        cookie = ("set-cookie", carrier.headers["set-cookie"])
        return json_answer({"person": person}, 201, headers=(cookie,))

    def begin_key(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/sign-in/keys/begin {link?}"""
        self._require_own_page(request)
        members = Members(read_json(body), "request")
        link = members.text("link", empty=True) if members.has("link") else ""
        members.done()
        return json_answer(passkeys.begin_making(self._gate, self._maybe(request), link))

    def make_key(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/sign-in/keys {id, name, credential, link?}"""
        self._require_own_page(request)
        made = passkeys.finish_making(self._gate, self._maybe(request), read_json(body))
        return json_answer(made, 201)

    def remove_key(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/sign-in/keys/remove {credential}"""
        session = self._acting(request)
        sessions.require_browser(session)
        members = Members(read_json(body), "request")
        credential = members.text("credential", chars_max=1400)
        members.done()
        self._gate.writer.run(lambda c: passkeys.remove_key(c, session.person, credential))
        return json_answer({"removed": credential})

    def _maybe(self, request: HttpRequest) -> sessions.Session | None:
        return sessions.find(self._gate, self._secret(request))

    def keys_page(self, request: HttpRequest) -> Response:
        """GET /sign-in/keys: the own ones; with a link's secret in the fragment, where one is made."""
        situation = self._situation(request)
        own: list[passkeys.SignInKey] = []
        if situation.viewer is not None:
            with self._gate.writer.read() as connection:
                own = passkeys.keys_of(connection, situation.viewer.person)
        return views.render("sign_in_keys.html", situation, origin=self._facts.origin, keys=own)

    # --- sessions

    def session(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/session: who is signed in."""
        found = self._session(request)
        with self._gate.writer.read() as connection:
            known = people.known_people(self._gate, connection).get(found.person)
        return json_answer(
            {
                "person": found.person,
                "name": known.name if known else "",
                "how": found.how,
                "place": found.place,
                "roles": sorted(found.roles),
                "expires_at": found.expires_ms // 1000,
            }
        )

    def end(self, request: HttpRequest, _body: bytes) -> Answer:
        """POST /api/v1/session/end: signs out."""
        self._require_own_page(request)
        ended = tokens.secret_hash(self._secret(request))
        self._gate.writer.run(lambda c: sessions.end(c, ended, self._gate.clock()))
        carrier = Response()
        self._set_cookie(carrier, views.SESSION_COOKIE, "", 0)
        return json_answer(
            {"ended": True}, headers=(("set-cookie", carrier.headers["set-cookie"]),)
        )

    def provider_logout(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /backchannel-logout: the provider tells of a logout (OpenID Connect Back-Channel Logout 1.0)."""
        return with_form(request, body, self._logged_out)

    def _logged_out(self, form: Form) -> Answer:
        try:
            provider_events.end_by_logout(
                self._gate, self._require_provider(), form.get("logout_token", "")
            )
        except Refusal as refusal:
            self._gate.events.told(refusal, "logout")
            raise OAuthError("invalid_request", refusal.message) from None
        return json_answer({})

    def security_event(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /security-events: the provider tells of an account (RFC 8935 section 2)."""
        provider = self._require_provider()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if kind != f"application/{provider_events.SECURITY_EVENT_TYPE}":
                raise Refusal(Code.IDENTITY_MALFORMED, f"It came as {kind[:64]!r}.")
            provider_events.take_security_events(self._gate, provider, body.decode("latin-1"))
        except (Fault, Refusal) as error:
            refusal = as_refusal(error)
            if refusal is None:
                raise
            self._gate.events.told(refusal, "security-event")
            return _push_error(refusal)
        return Answer(202)

    # --- terminals (RFC 8628)

    def authorize_device(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /device_authorization"""
        address = request.client.host if request.client else ""
        return with_form(request, body, lambda form: device.authorize(self._gate, form, address))

    def device_page(self, request: HttpRequest) -> Response:
        """GET /device[?user_code=…]: who is signed in sees who asks, and decides."""
        situation, code = self._situation(request), request.query_params.get("user_code", "")
        if situation.viewer is None:
            back_to = f"/device?user_code={quote(code, safe='')}" if code else "/device"
            return RedirectResponse(
                f"/sign-in?next={quote(back_to, safe='')}", 303, views.PAGE_HEADERS
            )
        found, unknown = None, ""
        if code:
            try:
                found = device.waiting(self._gate, code)
            except Refusal as refusal:
                unknown = f"{refusal.message} {refusal.hint}"
        return views.render("device.html", situation, asking=found, code=code, unknown=unknown)

    def decide_device(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/device {user_code, allow}"""
        session = self._acting(request)
        sessions.require_browser(session)
        members = Members(read_json(body), "request")
        code, allow = members.text("user_code"), members.boolean("allow")
        members.done()
        device.decide(self._gate, session, code, allow=allow)
        return json_answer({"allowed": allow})

    # --- what roles are for

    def overview(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/overview: releases and requests, as far as the roles reach."""
        session = self._session(request)
        shown = self._facts.overview()
        if not session.roles & SEE_EVERYTHING:
            own = tuple(one for one in shown.releases if one.requester == session.person)
            shown = Overview(own, ())
        return json_answer(_overview_json(self._gate, shown))

    def history(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /api/v1/history?key=…&policy=…&after=…: what the press has carried out, for who may see everything."""
        require_role(self._session(request).roles, *sorted(SEE_EVERYTHING))
        words = Words.of(request.query_params.multi_items())
        after = request.query_params.get("after", "")
        return json_answer(history.answer(self._gate, words, after, self._facts.names()))

    def make_link(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/people/links: an admin's enrolment link; as on the control socket."""
        require_role(self._acting(request).roles, Role.ADMIN)
        secret, expires_ms = people.invite(self._gate, read_json(body))
        url = f"{self._gate.site[0]}/enrol#{secret}"
        return json_answer({"url": url, "expires_at": expires_ms // 1000}, 201)

    def change_person(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/people/changes: an admin asks for another name, addresses, ids or groups of somebody."""
        require_role(self._acting(request).roles, Role.ADMIN)
        digest = roster_changes.ask(self._gate, read_json(body))
        return json_answer({"digest": digest, "url": self._gate.request_url(digest)}, 201)

    def ask(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /api/v1/requests {statement}: an admin puts a statement before people; as on the control socket."""
        require_role(self._acting(request).roles, Role.ADMIN)
        value = read_json(body)
        if not isinstance(value.get("statement"), str):
            raise Refusal(Code.REQUEST_MALFORMED, "A request has a 'statement', its text.")
        digest = requests.submit(self._gate, value["statement"])
        return json_answer({"digest": digest, "url": self._gate.request_url(digest)}, 201)

    def people_page(self, request: HttpRequest) -> Response:
        """GET /people: who is in the roster, for admins and auditors; admins ask for changes here."""
        situation = self._situation(request)
        if situation.viewer is None:
            return RedirectResponse("/sign-in?next=/people", 303, views.PAGE_HEADERS)
        if not situation.viewer.sees_people:
            hint = "It takes a group role:admin or role:auditor in the roster."
            return views.error_page(
                403, "This page is for admins and auditors.", hint, Code.ROLE_MISSING, situation
            )
        with self._gate.writer.read() as connection:
            rows = self._people(connection)
        return views.render("people.html", situation, people=rows)

    def _people(self, connection: Connection) -> list[JsonObject]:
        roster, found = self._gate.journal.rules.roster, []
        for person in roster.people:
            details = people.open_details(self._gate, connection, person.details)
            found.append(
                {
                    "id": person.id,
                    "name": details.name if details else person.id,
                    "addresses": details.addresses if details else (),
                    "ids": details.forge_ids if details else (),
                    "groups": person.groups,
                    "roles": sorted(roles_of(roster, person.id)),
                    "keys": [(one.kind, one.id) for one in person.keys],
                    "sign_in_keys": len(passkeys.keys_of(connection, person.id)),
                }
            )
        return sorted(found, key=lambda one: str(one["name"]).casefold())

    def _situation(self, request: HttpRequest) -> Situation:
        return views.situation_of(self._facts, request)


def _push_error(refusal: Refusal) -> Answer:
    """RFC 8935 section 2.3."""
    if refusal.code in _PUSH_AGAIN:
        return plain_problem(503, refusal.code.value, refusal.message)
    error = _PUSH_ERRORS.get(refusal.code, "authentication_failed")
    value = {"err": error, "description": refusal.message, "code": refusal.code.value}
    return json_answer(value, 400, headers=(("content-language", "en"),))


def _overview_json(gate: Gate, shown: Overview) -> JsonObject:
    releases: list[Any] = [
        {
            "id": one.id,
            "url": gate.release_url(one.id),
            "project": one.project,
            "version": one.version,
            "upstream": one.upstream,
            "state": one.state.value,
            "code": one.code,
            "requester": one.requester,
            "opened_at": one.opened_ms // 1000,
        }
        for one in shown.releases
    ]
    asked: list[Any] = [
        {
            "digest": one.digest,
            "url": gate.request_url(one.digest),
            "kind": one.kind,
            "title": one.title,
            "state": one.state or "awaiting",
            "message": one.message,
        }
        for one in shown.requests
    ]
    return {"releases": releases, "requests": asked}
