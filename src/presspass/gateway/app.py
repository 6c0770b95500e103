"""The two ASGI applications of the gateway: the public one, and the one on the control socket.

Uploads are recognised first and go straight to their door; everything else is routed. Whatever breaks behind a route
becomes one bare answer with a number, and the number is in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Router

from presspass.core.errors import Code, Refusal
from presspass.gateway import console, events
from presspass.gateway.api import Api
from presspass.gateway.exchange.doors import Doors
from presspass.gateway.facts import Facts
from presspass.gateway.front import Front
from presspass.gateway.gate import Gate
from presspass.gateway.http import AsgiApp, ClientGoneError, Message, Receive, Scope, Send, reply
from presspass.gateway.identity.oidc_client import Provider
from presspass.gateway.log_files import LogFiles
from presspass.gateway.problems import (
    Answer,
    as_refusal,
    plain_problem,
    refusal_answer,
    standard_phrase,
    unavailable,
)
from presspass.gateway.pypi.legacy import PATH, LegacyUpload
from presspass.gateway.scim.doors import Scim
from presspass.gateway.sign_in_api import SignIn


def public_app(
    gate: Gate,
    facts: Facts,
    upload: LegacyUpload,
    doors: Doors | None = None,
    provider: Provider | None = None,
) -> AsgiApp:
    """What is served on TCP. `provider`: where people sign in, if anywhere."""
    exchange = doors.routes() if doors else []
    people = SignIn(gate, facts, provider)
    scim = Scim(gate, provider.settings.issuer if provider else "")
    served = (Api(gate, facts), LogFiles(gate), people, scim)
    routes = [*(one for door in served for one in door.routes()), *exchange]
    routes += console.routes(facts)
    rest = Routed(routes, gate)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        door = upload if PATH.fullmatch(scope["path"]) else rest
        await door(scope, receive, send)

    return Front(gate, app)


def _check_path(scope: Scope) -> None:
    """Nothing of ours is named with a control character, and PostgreSQL does not even take the question."""
    if not str(scope.get("path", "")).isprintable():
        raise HTTPException(404)


class Routed:
    """Routes behind one guard."""

    def __init__(self, routes: Sequence[BaseRoute], gate: Gate) -> None:
        self._router = Router(routes, redirect_slashes=False)
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        scope["app"] = (
            self  # with it, Starlette raises for a wrong path or method instead of answering itself
        )
        try:
            _check_path(scope)
            await self._router(scope, receive, noting)
        except ClientGoneError:
            return
        except Exception as error:  # the guard: nothing that breaks reaches a client as it is
            answer = self._answer(error, scope)
            if started:
                raise
            await self._say(answer, error, scope, receive, send)

    def _answer(self, error: Exception, scope: Scope) -> Answer:
        refusal = as_refusal(error)
        if refusal is not None:
            self._gate.events.told(refusal, "api")
            return refusal_answer(refusal, close=refusal.code is Code.REQUEST_TOO_LARGE)
        if isinstance(error, HTTPException):
            code = Code.REQUEST_NOT_FOUND if error.status_code == 404 else Code.REQUEST_UNSUPPORTED
            if scope["method"] == "POST" and not scope["path"].startswith("/api/"):
                hint = (
                    f"An upload address looks like {self._gate.upload_site}/pypi/UPSTREAM/legacy/."
                )
                message = f"Nothing can be uploaded to this address. {hint}"
                return plain_problem(error.status_code, code.value, message)
            message = (
                "There is nothing at this address."
                if error.status_code == 404
                else "This cannot be asked here."
            )
            return plain_problem(error.status_code, code.value, message)
        away = unavailable(error)
        if away is not None:
            return away
        number = events.internal(error, str(scope.get("path", ""))[:100])
        return plain_problem(500, "internal", f"internal error {number}", close=True)

    async def _say(
        self, answer: Answer, error: Exception, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = Request(scope)
        if not console.wants_page(request):
            await reply(send, answer)
            return
        detail, hint, code = answer.reason or standard_phrase(answer.status), "", ""
        if isinstance(error, Refusal):
            detail, hint, code = error.message, error.hint, error.code.value
        page: Any = console.error_page(answer.status, detail, hint, code)
        await page(scope, receive, send)
