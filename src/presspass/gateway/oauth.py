"""How OAuth is spoken here: form-encoded, each parameter once, and errors by OAuth's own names (RFC 6749)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request as HttpRequest

from presspass.core.digests import JsonObject
from presspass.gateway.http import json_answer
from presspass.gateway.problems import Answer, reason_phrase

Form = Mapping[str, str]
#: Beside `no-store`, which every answer of the gateway has (section 5.1).
NO_CACHE: Final = (("pragma", "no-cache"),)
_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS_MAX: Final = 32


class OAuthError(Exception):
    """An error of section 5.2, of RFC 8628 section 3.5, or of RFC 8693 section 2.2.2."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


def with_form(request: HttpRequest, body: bytes, work: Callable[[Form], Answer]) -> Answer:
    """What `work` answers to the request's parameters, or the error that it or reading them raises."""
    try:
        return work(_read(request, body))
    except OAuthError as error:
        return error_answer(error.error, error.message)


def error_answer(error: str, message: str, code: str = "") -> Answer:
    """An error as an answer. `code`: ours, where there is one."""
    value = {"error": error, "error_description": message, **({"code": code} if code else {})}
    return json_answer(value, 400, reason=reason_phrase(message), headers=NO_CACHE)


def token_answer(value: JsonObject) -> Answer:
    """An answer that holds, or ends, a secret."""
    return json_answer(value, headers=NO_CACHE)


def _read(request: HttpRequest, body: bytes) -> Form:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise OAuthError("invalid_request", f"The request is form-encoded: send {_FORM}.")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        raise OAuthError("invalid_request", "The parameters cannot be read.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "A parameter is there twice.")  # section 3.2
    return form
