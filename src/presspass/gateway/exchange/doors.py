"""The doors themselves: PyPI's (`/_/oidc/…`, PEP 807), npm's, and the OAuth ones (RFC 8693, 7009, 8414).

A stranger hears 404 whatever is wrong; whoever shows a good token of a bound workload hears what does not fit and what
to do. Every refusal is an event, by its code; the press enters those into the ledger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote

from sqlalchemy.engine import Connection
from starlette.requests import Request as HttpRequest
from starlette.routing import BaseRoute

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import FILES_PER_RELEASE_MAX, PASS_S, WORKFLOW_OBJECTS_JSON_BYTES_MAX
from presspass.core.statement import ReleaseFile
from presspass.core.strict import Members
from presspass.gateway import passes, sets, tokens
from presspass.gateway.api import route
from presspass.gateway.exchange.minting import Asked, Minted, Minting
from presspass.gateway.gate import Gate
from presspass.gateway.http import json_answer, read_json
from presspass.gateway.oauth import (
    NO_CACHE,
    Form,
    OAuthError,
    error_answer,
    token_answer,
    with_form,
)
from presspass.gateway.problems import Answer, reason_phrase, refusal_answer
from presspass.store.gateway_tables import PASS

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_TOKEN_TYPES: Final = (
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
)
_ACCESS: Final = "urn:ietf:params:oauth:token-type:access_token"
_SCOPE = re.compile(r"publish:([A-Za-z0-9][A-Za-z0-9._-]{0,127})?:(\S{1,214})")
_STRANGERS: Final = frozenset({Code.IDENTITY_ISSUER_UNKNOWN, Code.PUBLISHER_NONE})
#: PyPI's words for its clients, which print them; our own code stands beside each.
_PYPI_CODES: Final = {
    Code.IDENTITY_REPLAYED: "invalid-reuse-token",
    Code.IDENTITY_MALFORMED: "invalid-payload",
}
Grant = Callable[[Form], Answer]


class Doors:
    """The handlers. `grants`: further grant types of `/token`, such as the device flow's."""

    def __init__(
        self, gate: Gate, minting: Minting, grants: Mapping[str, Grant] | None = None
    ) -> None:
        self._gate = gate
        self._minting = minting
        self._grants = {EXCHANGE: self._exchange, **(grants or {})}

    def routes(self) -> list[BaseRoute]:
        """Every address of the exchange."""
        npm = "/-/npm/v1/oidc/token/exchange/package/{name:path}"
        return [
            route("/_/oidc/audience", "GET", self.audience),
            route("/_/oidc/mint-token", "POST", self.mint),
            route("/_/oidc/burn-token", "POST", self.burn),
            route("/.well-known/pytp", "GET", self.discovery),
            route("/_/oidc/workflow", "POST", self.show, bytes_max=WORKFLOW_OBJECTS_JSON_BYTES_MAX),
            route(npm, "POST", self.npm),
            route("/token", "POST", self.token),
            route("/revoke", "POST", self.revoke),
            route("/.well-known/oauth-authorization-server", "GET", self.metadata),
        ]

    # PyPI's

    def audience(self, _request: HttpRequest, _body: bytes) -> Answer:
        """GET /_/oidc/audience"""
        return json_answer({"audience": self._minting.audience})

    def discovery(self, request: HttpRequest, _body: bytes) -> Answer:
        """GET /.well-known/pytp?discover=<path> (PEP 807, draft): a pass is for one set, so the token is single-use."""
        if not request.query_params.get("discover"):
            raise Refusal(Code.REQUEST_MALFORMED, "The query names no path to discover.")
        site = self._site()
        return json_answer(
            {
                "audience-endpoint": f"{site}/_/oidc/audience",
                "default-features": ["single-use-token"],
                "features": ["single-use-token"],
                "token-mint-endpoint": f"{site}/_/oidc/mint-token",
            }
        )

    def mint(self, _request: HttpRequest, body: bytes) -> Answer:
        """POST /_/oidc/mint-token {"token": JWT}"""
        text = ""
        try:
            value = read_json(body)
            text = value["token"] if isinstance(value.get("token"), str) else ""
            minted = self._mint(text, Asked())
        except Refusal as refusal:
            return self._pypi_no(refusal, text)
        value = {"success": True, "token": minted.secret, "expires": minted.expires_at}
        return json_answer(value, headers=NO_CACHE)

    def _pypi_no(self, refusal: Refusal, text: str) -> Answer:
        if refusal.code in _STRANGERS:
            return refusal_answer(refusal)
        code = _PYPI_CODES.get(refusal.code) or (
            "invalid-publisher" if refusal.code.value.startswith("publisher.") else "invalid-token"
        )
        whole = f"{refusal.message} {refusal.hint}".rstrip()
        value = {
            "code": refusal.code.value,
            "errors": [{"code": code, "description": f"{whole} [{refusal.code.value}]"}],
            "message": "Token request failed",
        }
        return json_answer(value, 422, reason=reason_phrase(whole), headers=NO_CACHE)

    def burn(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /_/oidc/burn-token {"token": pass}: ends the pass, not the release. Its set is complete then."""
        secret = _secret(request, body)
        self._end(secret, "burned")
        return json_answer({"success": True}, headers=NO_CACHE)

    def show(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /_/oidc/workflow, `Authorization: Bearer JWT`: the git path of the run's workflow, canonical JSON."""
        text = _bearer(request)
        try:
            self._minting.show(text, body)
        except Refusal as refusal:
            self._refused(refusal, text)
            raise
        return json_answer({"success": True}, 201)

    # npm's

    def npm(self, request: HttpRequest, _body: bytes) -> Answer:
        """POST /-/npm/v1/oidc/token/exchange/package/<name>, `Authorization: Bearer JWT`"""
        name = unquote(request.path_params["name"])
        minted = self._mint(_bearer(request), Asked(project=name))
        now = self._gate.clock() // 1000
        value = {
            "token": minted.secret,
            "token_type": "oidc",
            "created": _iso(now),
            "expires": _iso(minted.expires_at),
        }
        return json_answer(value, 201, headers=NO_CACHE)

    # OAuth's

    def token(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /token, form-encoded: RFC 8693, and the grants that others bring."""
        return with_form(request, body, self._granted)

    def _granted(self, form: Form) -> Answer:
        grant = self._grants.get(form.get("grant_type", ""))
        if grant is None:
            raise OAuthError("unsupported_grant_type", "There is no such grant here.")
        return grant(form)

    def _exchange(self, form: Form) -> Answer:
        if form.get("subject_token_type") not in _TOKEN_TYPES:
            raise OAuthError("invalid_request", "The subject token is no JWT, by its type.")
        if form.get("requested_token_type", _ACCESS) != _ACCESS:
            raise OAuthError("invalid_request", "Only an access token can be had.")
        text = form.get("subject_token", "")
        try:
            minted = self._mint(text, _asked(form))
        except Refusal as refusal:
            if refusal.code in _STRANGERS:
                return refusal_answer(refusal)
            error = "invalid_target" if refusal.code is Code.PUBLISHER_PROJECT else "invalid_grant"
            whole = f"{refusal.message} {refusal.hint}".rstrip()
            return error_answer(error, whole, refusal.code.value)
        return token_answer(
            {
                "access_token": minted.secret,
                "expires_in": PASS_S,
                "issued_token_type": _ACCESS,
                "project": minted.project,
                "publisher": minted.publisher,
                "stage_only": minted.stage_only,
                "token_type": "Bearer",
                "upload_url": f"{self._site()}/pypi/{quote(minted.upstream)}/legacy/",
                "upstream": minted.upstream,
                "version": minted.version,
            }
        )

    def revoke(self, request: HttpRequest, body: bytes) -> Answer:
        """POST /revoke (RFC 7009): ends a pass; one that is not known, or has ended, is ended (section 2.2)."""
        return with_form(request, body, self._revoked)

    def _revoked(self, form: Form) -> Answer:
        if not form.get("token"):
            raise OAuthError("invalid_request", "No token is named.")
        self._end(form["token"], "revoked by its holder")
        return token_answer({})

    def metadata(self, _request: HttpRequest, _body: bytes) -> Answer:
        """GET /.well-known/oauth-authorization-server (RFC 8414 section 2)"""
        site = self._site()
        return json_answer(
            {
                "grant_types_supported": sorted(self._grants),
                "issuer": site,
                "response_types_supported": ["none"],
                "revocation_endpoint": f"{site}/revoke",
                "revocation_endpoint_auth_methods_supported": ["none"],
                "token_endpoint": f"{site}/token",
                "token_endpoint_auth_methods_supported": ["none"],
                **self._more_metadata(site),
            }
        )

    def _more_metadata(self, site: str) -> JsonObject:
        device = "urn:ietf:params:oauth:grant-type:device_code"
        if device not in self._grants:
            return {}
        return {"device_authorization_endpoint": f"{site}/device_authorization"}

    # behind all of them

    def _site(self) -> str:
        return self._minting.site

    def _mint(self, text: str, asked: Asked) -> Minted:
        try:
            return self._minting.mint(text, asked)
        except Refusal as refusal:
            self._minting.settle(text, refusal)
            self._refused(refusal, text)
            raise

    def _refused(self, refusal: Refusal, text: str) -> None:
        known = refusal.code not in _STRANGERS and self._minting.knows(text, refusal)
        self._gate.events.refused(refusal, "exchange", tokens.secret_hash(text) if known else "")

    def _end(self, secret: str, why: str) -> None:
        """Ends a pass. The set that it has opened is complete: nobody else can add to it."""
        pass_hash, now = tokens.secret_hash(secret), self._gate.clock()

        def work(connection: Connection) -> None:
            for release in passes.end(connection, [PASS.c.hash == pass_hash], why, now):
                sets.close_if_open(connection, release, now)

        self._gate.writer.run(work)


def _asked(form: Form) -> Asked:
    """`scope`: publish:<upstream>:<project>, the upstream "" for any; `authorization_details` (RFC 9396): the files
    that the workload binds.
    """
    project = upstream = ""
    if form.get("scope"):
        match = _SCOPE.fullmatch(form["scope"])
        if match is None:
            raise OAuthError("invalid_scope", "A scope is publish:<upstream>:<project>.")
        upstream, project = match.group(1) or "", tokens.normal_project(match.group(2))
    return Asked(project, upstream, _files(form), acting=bool(form.get("actor_token")))


def _files(form: Form) -> tuple[ReleaseFile, ...]:
    text = form.get("authorization_details", "")
    if not text:
        return ()
    try:
        value = json.loads(text)
        members = Members(
            value[0] if isinstance(value, list) and len(value) == 1 else value, "detail"
        )
        members.choice("type", ("package_release",))
        files = members.items("files", ReleaseFile.from_json, count_max=FILES_PER_RELEASE_MAX)
        members.done()
    except (ValueError, RecursionError, Refusal) as error:
        raise OAuthError(
            "invalid_authorization_details", f"The details cannot be read: {error}"
        ) from None
    if len({one.name for one in files}) != len(files) or not files:
        raise OAuthError("invalid_authorization_details", "No file, or a file twice.")
    return files


def _secret(request: HttpRequest, body: bytes) -> str:
    if body:
        found = read_json(body).get("token")
        if isinstance(found, str):
            return found
    return tokens.from_authorization(request.headers.get("authorization", ""))


def _bearer(request: HttpRequest) -> str:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refusal(
            Code.IDENTITY_MALFORMED,
            "The exchange needs an identity token.",
            "Send it as `Authorization: Bearer TOKEN`.",
        )
    return text.strip()


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
