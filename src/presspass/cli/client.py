"""The client of the gate: HTTP for everybody, and the control socket for those on the gate's own host.

An answer of the gate is hostile input like any other: limited in size, read as JSON, its errors turned into a Refusal
(its code, sentence and hint) or a Fault (nothing came back that could be understood). It follows no redirect.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self
from urllib.parse import quote, unquote, urlsplit

import httpx2

from presspass import __version__
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import CLIENT_ANSWER_BYTES_MAX, CLIENT_TIMEOUT_S

_CODES = {code.value: code for code in Code}
_USER_AGENT = f"presspass/{__version__}"


@dataclass(frozen=True, slots=True)
class PageUrl:
    """An address that people pass on: `kind` "r" (release) or "q" (request), its `id`, and the gate's `base`."""

    base: str
    kind: str
    id: str

    @property
    def url(self) -> str:
        """The address itself."""
        return f"{self.base}/{self.kind}/{quote(self.id, safe='')}"

    @property
    def api(self) -> str:
        """The path of its JSON."""
        return f"/api/v1/{'releases' if self.kind == 'r' else 'requests'}/{quote(self.id, safe='')}"


def parse_page_url(text: str) -> PageUrl:
    """Takes https://gate/r/<id> or https://gate/q/<digest> apart (a path before /r/ or /q/ belongs to the base)."""
    parts = urlsplit(text)
    head, _, page_id = parts.path.rstrip("/").rpartition("/")
    before, _, kind = head.rpartition("/")
    if (
        parts.scheme not in ("https", "http")
        or not parts.netloc
        or kind not in ("r", "q")
        or not page_id
    ):
        raise Refusal(
            Code.REQUEST_MALFORMED,
            f"{text!r} is not the address of a release or a request.",
            "It looks like https://GATE/r/… or https://GATE/q/…; uploads, `submit` and mails show it.",
        )
    return PageUrl(f"{parts.scheme}://{parts.netloc}{before}", kind, unquote(page_id))


class _Answer(dict[str, Any]):
    """A JSON object of the gate. A member that it should have and has not is the gate's failure, not ours."""

    def __missing__(self, name: str) -> NoReturn:
        raise Fault(
            "gate.bad-answer",
            f"The gate's answer lacks {name!r}. Is it a gate, and of this version?",
            retryable=False,
        )


class Gate:
    """One gate, or its control socket. Use as a context manager."""

    def __init__(self, base: str, *, socket: Path | None = None, token: str = "") -> None:
        self.base = base.rstrip("/")
        self._where = str(socket) if socket else self.base
        headers = {"User-Agent": _USER_AGENT, "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # A socket path never goes through a proxy; environment proxies count for real hosts only.
        transport = httpx2.HTTPTransport(uds=str(socket)) if socket else None
        self._http = httpx2.Client(
            base_url=self.base,
            headers=headers,
            timeout=CLIENT_TIMEOUT_S,
            transport=transport,
            trust_env=socket is None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get_json(self, path: str) -> JsonObject:
        """A JSON object, or Refusal / Fault."""
        return self._object("GET", path)

    def post_json(self, path: str, value: Mapping[str, Any] | bytes = b"") -> JsonObject:
        """Sends a JSON object (or bytes that are one already) and returns the JSON object of the answer."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self._object(
            "POST", path, content=data, headers={"Content-Type": "application/json"}
        )

    def post_form(
        self, path: str, form: Mapping[str, str], *, oauth_errors: bool = False
    ) -> JsonObject:
        """Sends OAuth parameters; the JSON object of the answer, with `oauth_errors` an error's too (RFC 6749 5.2)."""
        return self._object("POST", path, data=dict(form), oauth_errors=oauth_errors)

    def delete_json(self, path: str) -> JsonObject:
        """Deletes, and returns the JSON object of the answer ({} where there is none)."""
        return self._object("DELETE", path)

    def get_bytes(self, path: str, *, bytes_max: int, accept: str = "*/*") -> bytes:
        """A whole answer of at most `bytes_max` bytes."""
        with self._stream("GET", path, headers={"Accept": accept}) as response:
            return _limited(response, bytes_max)

    def download(self, path: str, target: BinaryIO, *, bytes_max: int) -> None:
        """Writes an answer of at most `bytes_max` bytes to `target`, piece by piece."""
        with self._stream("GET", path) as response:
            for piece in _pieces(response, bytes_max):
                target.write(piece)

    def upload(
        self, path: str, body: Iterable[bytes], *, headers: Mapping[str, str], password: str
    ) -> tuple[int, str]:
        """Posts a streamed body with Basic authentication; returns status and Location (absolute, or "")."""
        auth = httpx2.BasicAuth("__token__", password)
        with self._stream("POST", path, content=body, headers=dict(headers), auth=auth) as response:
            _limited(response, CLIENT_ANSWER_BYTES_MAX)
            location = response.headers.get("location", "")
            return response.status_code, str(response.url.join(location)) if location else ""

    def _object(self, method: str, path: str, **more: Any) -> JsonObject:
        with self._stream(method, path, **more) as response:
            data = _limited(response, CLIENT_ANSWER_BYTES_MAX)
        if not data and response.status_code == 204:
            return {}
        try:
            value = json.loads(data, object_hook=_Answer)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, _Answer):
            raise Fault(
                "gate.bad-answer",
                f"{self._where}{path} did not answer with a JSON object.",
                retryable=False,
            )
        return value

    @contextlib.contextmanager
    def _stream(
        self, method: str, path: str, *, oauth_errors: bool = False, **more: Any
    ) -> Iterator[httpx2.Response]:
        try:
            with self._http.stream(method, path, **more) as response:
                kind = response.headers.get("content-type", "").partition(";")[0]
                said = oauth_errors and response.status_code == 400 and kind == "application/json"
                if not said and not 200 <= response.status_code < 300:
                    _refuse(response, self._where)
                yield response
        except httpx2.TimeoutException:
            raise Fault(
                "gate.timeout",
                f"{self._where} did not answer in {CLIENT_TIMEOUT_S} seconds. Try again.",
                retryable=True,
            ) from None
        except httpx2.TransportError as error:
            raise Fault(
                "gate.unreachable", f"{self._unreachable()} ({error})", retryable=True
            ) from None
        except httpx2.InvalidURL as error:
            raise Refusal(
                Code.REQUEST_MALFORMED, f"{self._where}{path} is not an address: {error}."
            ) from None

    def _unreachable(self) -> str:
        return (
            f"{self._where} cannot be reached. Check that the gate runs (`presspass serve`; "
            "`presspass doctor` on its host says more) and that the address is right."
        )


def control(home: Path) -> Gate:
    """The control socket of the gateway of `home`, for operators on its host."""
    path = home / "gateway" / "control.sock"
    if not path.exists():
        raise Fault(
            "control.missing",
            f"{path} is not there: the gate of this home is not running. Start it with `presspass serve`.",
            retryable=True,
        )
    return Gate("http://control", socket=path)


def _pieces(response: httpx2.Response, bytes_max: int) -> Iterator[bytes]:
    received = 0
    for piece in response.iter_bytes():
        received += len(piece)
        if received > bytes_max:
            raise Refusal(
                Code.REQUEST_TOO_LARGE, f"{response.url} sent more than {bytes_max} bytes."
            )
        yield piece


def _limited(response: httpx2.Response, bytes_max: int) -> bytes:
    return b"".join(_pieces(response, bytes_max))


def _refuse(response: httpx2.Response, where: str) -> NoReturn:
    """Raises what an error answer says: RFC 9457 problem details, or OAuth's, where the gate sent them."""
    problem = _problem(_limited(response, CLIENT_ANSWER_BYTES_MAX))
    status = response.status_code
    title = str(problem.get("title") or response.reason_phrase or f"status {status}")
    hint = str(problem.get("hint") or "")
    # `detail` repeats the hint for clients that show nothing else.
    # OAuth's endpoints have a form of their own (RFC 6749 section 5.2).
    told = problem.get("detail") or problem.get("error_description") or title
    detail = str(told).removesuffix(hint).rstrip()
    code = _CODES.get(str(problem.get("code")))
    if code is not None and status < 500:
        raise Refusal(code, detail, hint)
    if 300 <= status < 400:
        raise Fault(
            "gate.redirect",
            f"{where} redirects to {response.headers.get('location', '?')}; use that address itself.",
            retryable=False,
        )
    if status == 404:
        raise Refusal(
            Code.REQUEST_NOT_FOUND, f"{where} knows nothing of it ({detail}).", "Check the address."
        )
    if status < 500:
        raise Refusal(Code.REQUEST_UNSUPPORTED, f"{where} refused: {detail} (status {status}).")
    raise Fault(
        "gate.failed",
        f"{where} failed: {detail} (status {status}). Try again later.",
        retryable=True,
    )


def _problem(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
