"""What the gateway answers in plain HTTP where it gets its certificate by ACME: challenges, and the way to https.

It serves files of gateway/tls/challenges, named by their token (RFC 8555 section 8.3), and nothing else. An upload that
comes here has sent its token in the clear, and is told so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from presspass.core.errors import Code, Refusal
from presspass.gateway.http import Receive, Scope, Send, header, reply
from presspass.gateway.problems import Answer, plain_problem, refusal_answer

CHALLENGES: Final = "challenges"
_TOKEN: Final = re.compile(r"/\.well-known/acme-challenge/([A-Za-z0-9_-]{1,128})")
_READ: Final = frozenset({"GET", "HEAD"})
_ANSWER_BYTES_MAX: Final = 1024


class PlainDoor:
    """An ASGI application. `origins`: of the gate, by host name; the first one for any other name."""

    def __init__(self, folder: Path, origins: dict[str, str]) -> None:
        self._folder = folder / CHALLENGES
        self._origins = origins

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        found = _TOKEN.fullmatch(scope["path"])
        if found is not None and scope["method"] in _READ:
            await reply(send, self._challenge(found[1]))
        elif scope["method"] in _READ:
            await reply(send, self._to_https(scope))
        else:
            refusal = Refusal(
                Code.REQUEST_UNSUPPORTED,
                "This came without TLS, and with it whatever token it carried.",
                f"Use {self._origin(scope)}, and have that token revoked.",
            )
            await reply(send, refusal_answer(refusal, close=True, one_text=True))

    def _challenge(self, token: str) -> Answer:
        try:
            with (self._folder / token).open("rb") as file:
                return Answer(200, file.read(_ANSWER_BYTES_MAX), "application/octet-stream")
        except OSError:
            return plain_problem(404, Code.REQUEST_NOT_FOUND.value, "There is no such challenge.")

    def _to_https(self, scope: Scope) -> Answer:
        path = scope.get("raw_path") or b"/"
        query = b"?" + scope["query_string"] if scope.get("query_string") else b""
        target = self._origin(scope) + (path + query).decode("latin-1")
        return Answer(308, headers=(("location", target),))

    def _origin(self, scope: Scope) -> str:
        host = header(scope, b"host").partition(":")[0].lower()
        return self._origins.get(host) or next(iter(self._origins.values()))
