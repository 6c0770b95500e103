"""The witness over HTTP: `POST /add-checkpoint`, and at `GET /` who it is and what it has seen."""

from __future__ import annotations

import json
import logging
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from presspass.core.ledger.witness import PATH, SIZE_TYPE, NotCosignedError
from presspass.core.limits import WITNESS_REQUEST_BYTES_MAX
from presspass.witness.memory import Witness

_LOG = logging.getLogger("presspass.witness")
_PLAIN: Final = "text/plain; charset=utf-8"
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def application(witness: Witness) -> Starlette:
    """Serves one witness."""

    async def add_checkpoint(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > WITNESS_REQUEST_BYTES_MAX:
                return _answer(413, "The request is too large.\n")
        try:
            lines = await run_in_threadpool(witness.add_checkpoint, body)
        except NotCosignedError as no:
            _LOG.warning("not cosigned: %d %s", no.status, no)
            if no.size is not None:
                return _answer(no.status, f"{no.size}\n", SIZE_TYPE)
            return _answer(no.status, f"{no}\n")
        return _answer(200, lines.decode())

    async def about(_request: Request) -> Response:
        latest = await run_in_threadpool(witness.latest)
        value = {"key": witness.key.to_text(), "logs": latest}
        return _answer(200, json.dumps(value) + "\n", "application/json")

    async def gone(_request: Request, _error: Exception) -> Response:
        return _answer(400, "The request broke off.\n")

    routes = [Route(PATH, add_checkpoint, methods=["POST"]), Route("/", about, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers={ClientDisconnect: gone})


def _answer(status: int, text: str, kind: str = _PLAIN) -> Response:
    # Not as `media_type`: the specification's own types have no charset.
    return Response(text, status, headers={**_HEADERS, "content-type": kind})
