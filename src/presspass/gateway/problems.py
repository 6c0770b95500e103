"""How the gateway says no over HTTP: the one table from refusal codes to statuses, and the bodies and reason phrases.

Statuses follow what clients do with them (measured): 401 is hidden by some, 409 means "skip" to twine, 429 and 5xx make
clients send the whole upload again. So a refusal is 400, 403, 404, 410 or 413; a 5xx is only ever our own failure.
A full disk is 413 with Retry-After (RFC 9110 section 15.5.14 has it for a temporary lack): a 507 would be honest too,
but twine answers any 5xx with four more copies of the same upload, at once, into the full disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal

#: Of `GET /healthz`: whoever asks can see whether reason phrases get through.
HEALTHY_PHRASE: Final = "Presspass is well"
PROBLEM_TYPE: Final = "application/problem+json"
_REASON_CHARS_MAX = 400
_RETRY_AFTER_S = 300
_AWAY: Final = frozenset({"store.busy", "store.unreachable", "store.unreadable"})
_AWAY_RETRY_S = 5

_BAD, _DENIED, _MISSING, _GONE, _LARGE = 400, 403, 404, 410, 413
#: Codes that are not listed are 403: a reason that this table does not know is never a "yes" nor a "try again".
STATUS: Final[dict[Code, int]] = {
    Code.APPROVAL_INVALID: _BAD,
    Code.APPROVAL_WRONG_STATEMENT: _BAD,
    Code.ARTIFACT_BAD_NAME: _BAD,
    Code.ARTIFACT_DIGEST_MISMATCH: _BAD,
    Code.ARTIFACT_MISSING: _MISSING,
    Code.ARTIFACT_UNREADABLE: _BAD,
    Code.ARTIFACT_WRONG_METADATA: _BAD,
    Code.DEVICE_UNKNOWN: _MISSING,
    Code.ENROLMENT_INVALID: _BAD,
    Code.PROOF_INVALID: _BAD,
    Code.PROOF_WRONG_FILE: _BAD,
    Code.REQUEST_MALFORMED: _BAD,
    Code.REQUEST_NOT_FOUND: _MISSING,
    Code.REQUEST_TOO_LARGE: _LARGE,
    Code.REQUEST_UNSUPPORTED: _GONE,
    Code.IDENTITY_ISSUER_UNKNOWN: _MISSING,
    Code.IDENTITY_MALFORMED: _BAD,
    Code.PUBLISHER_NONE: _MISSING,
    Code.REQUEST_WRONG_HOST: _MISSING,
    Code.RELEASE_OTHER_BYTES: _BAD,
    Code.SIGN_IN_EXPIRED: _BAD,
    Code.SIGN_IN_KEY_INVALID: _BAD,
    Code.SIGN_IN_LINK_INVALID: _BAD,
    Code.SIGN_IN_OFF: _MISSING,
    Code.SIGN_IN_TOKEN: _BAD,
    Code.STATEMENT_FOREIGN: _BAD,
    Code.STATEMENT_MALFORMED: _BAD,
    Code.STATEMENT_OLD_HEAD: _BAD,
    Code.STATEMENT_REPLAYED: _BAD,
    Code.STORAGE_FULL: _LARGE,
    Code.UPSTREAM_MISSING: _MISSING,
}
_PHRASES: Final = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    410: "Gone",
    422: "Unprocessable Content",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class MissingToken(Refusal):
    """Nobody said who uploads. With `MissingSession` the one refusal that is 401: it asks for credentials (RFC 9110
    section 15.5.2).
    """


class MissingSession(Refusal):
    """Nobody is signed in where somebody has to be: `session.missing`."""

    def __init__(self) -> None:
        super().__init__(
            Code.SESSION_MISSING,
            "Nobody is signed in, or the session has ended.",
            "Sign in again: on the page /sign-in, at a terminal with `presspass login`.",
        )


_CHALLENGES: Final[dict[type[Refusal], str]] = {
    MissingToken: 'Basic realm="Presspass", charset="UTF-8"',
    MissingSession: 'Bearer realm="Presspass"',
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `reason`: one line of latin-1 ("" for the standard one); `close`: end the connection."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=())
    close: bool = False


def unavailable(error: Exception, *, close: bool = False) -> Answer | None:
    """The answer where the database cannot be asked just now, and nothing was changed: 503, for the client to send
    again. None for every other error."""
    if not isinstance(error, Fault) or error.code not in _AWAY:
        return None
    message = "The gate cannot reach its database just now; nothing was changed."
    again = (("retry-after", str(_AWAY_RETRY_S)),)
    body = problem(503, error.code, message, "Try again in some seconds.")
    return Answer(503, body, PROBLEM_TYPE, reason_phrase(message), again, close)


def as_refusal(error: Exception) -> Refusal | None:
    """The refusal that `error` is, or that it comes to for a client; None for what only the operator can understand."""
    if isinstance(error, Fault) and error.code == "store.full":
        return Refusal(
            Code.STORAGE_FULL,
            "The disk of the gate is full; nothing was changed.",
            "Tell its operator.",
        )
    return error if isinstance(error, Refusal) else None


def status_of(refusal: Refusal) -> int:
    """The status for a refusal at any of the gateway's front ends."""
    return 401 if type(refusal) in _CHALLENGES else STATUS.get(refusal.code, _DENIED)


def refusal_answer(refusal: Refusal, *, close: bool = False, one_text: bool = False) -> Answer:
    """A refusal in all the forms that clients show: reason phrase (twine, hatch, flit) and problem body (uv).

    `one_text`: `detail` holds the hint as well, because uv shows `title` and `detail` and nothing else.
    """
    status = status_of(refusal)
    headers: tuple[tuple[str, str], ...] = ()
    if status == 401:
        headers = (("www-authenticate", _CHALLENGES[type(refusal)]),)
    if refusal.code is Code.STORAGE_FULL:
        headers = (("retry-after", str(_RETRY_AFTER_S)),)
    whole = f"{refusal.message} {refusal.hint}".rstrip()
    shown = (whole, "") if one_text else (refusal.message, refusal.hint)
    body = problem(status, refusal.code.value, *shown)
    reason = reason_phrase(whole)
    return Answer(status, body, PROBLEM_TYPE, reason, headers, close)


def plain_problem(
    status: int, code: str, message: str, hint: str = "", *, close: bool = False
) -> Answer:
    """An answer for what has no refusal: no such page, wrong method, our own failure."""
    body = problem(status, code, message, hint)
    return Answer(status, body, PROBLEM_TYPE, reason_phrase(message), close=close)


def problem(status: int, code: str, message: str, hint: str) -> bytes:
    """RFC 9457, with two members of our own. `title` is the same for each code."""
    title = code.replace(".", ": ").replace("-", " ").capitalize()
    value: JsonObject = {
        "title": title,
        "status": status,
        "detail": message,
        "code": code,
        "hint": hint,
    }
    return json.dumps(value).encode()


def reason_phrase(text: str) -> str:
    """`text` as a reason phrase (RFC 9112 section 4): one line of ISO-8859-1, bounded."""
    line = " ".join(text.split())
    clean = "".join(char if char.isprintable() else "?" for char in line)
    return clean.encode("latin-1", "replace").decode("latin-1")[:_REASON_CHARS_MAX]


def standard_phrase(status: int) -> str:
    """The phrase of the HTTP standard."""
    return _PHRASES.get(status, "")
