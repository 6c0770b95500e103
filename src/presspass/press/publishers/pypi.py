"""PyPI's legacy upload protocol and the simple API (PEP 503, PEP 691), as the press speaks them to an upstream.

Redirects are refused: an upload that follows one would hand the credential to somebody else. The body's length and
bytes are known before the first is sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urljoin, urlsplit

import httpx2

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import (
    UPSTREAM_ANSWER_BYTES_MAX,
    UPSTREAM_ANSWER_S_MAX,
    UPSTREAM_TIMEOUT_S,
)
from presspass.formats.filenames import parse_filename
from presspass.formats.simple_index import html_links
from presspass.press.publishers import Outgoing, Served

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_CHUNK_BYTES = 1 << 18
_MESSAGE_CHARS = 300
_CREDENTIAL_HINT = (
    "If it is the credential: give a new one with `presspass upstream add`, then release again."
)
_ASK_AGAIN_S = (
    0.5  # how long an upload goes on before it is asked again whether anybody has stopped it
)

# The client logs each status line as it came; a registry that repeats the credential in it would put it into our log.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(slots=True)
class PyPIPublisher:
    """One upstream: `upload_url` takes the POST, `index_url` is the root of its simple index."""

    upload_url: str
    index_url: str
    client: httpx2.Client = field(default_factory=lambda: new_client())

    def served(self, project: str, filename: str, size_max: int) -> Served | None:
        """See `Publisher`. Stops reading once more than `size_max` bytes have come; then the size says so."""
        url = self._find(project, filename)
        if url is None:
            return None
        digests, size = (hashlib.sha256(), hashlib.sha512()), 0
        deadline_s = time.monotonic() + UPSTREAM_ANSWER_S_MAX
        with self._stream("GET", url) as response:
            if response.status_code in (404, 410):
                return None
            _check_answer(response, "read")
            for chunk in response.iter_raw(
                _CHUNK_BYTES
            ):  # as stored, whatever a Content-Encoding says of it
                for digest in digests:
                    digest.update(chunk)
                size += len(chunk)
                if size > size_max:
                    break
                _check_time(deadline_s)
        return Served(digests[0].hexdigest(), digests[1].hexdigest(), size)

    def send(self, outgoing: Outgoing, username: str, secret: str) -> None:
        """See `Publisher`. Any 2xx is success; 3xx and 4xx are final; 5xx and lost connections are retryable faults."""
        body = MultipartBody(upload_fields(outgoing), outgoing)
        headers = {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        auth = httpx2.BasicAuth(username, secret)
        with self._stream(
            "POST", self.upload_url, content=iter(body), headers=headers, auth=auth
        ) as response:
            _check_answer(response, "upload", _spellings(username, secret))

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()

    def _find(self, project: str, filename: str) -> str | None:
        page = urljoin(
            self.index_url if self.index_url.endswith("/") else self.index_url + "/", f"{project}/"
        )
        with self._stream("GET", page, headers={"Accept": _ACCEPT}) as response:
            if response.status_code in (404, 410):
                return None
            _check_answer(response, "index")
            data, deadline_s = b"", time.monotonic() + UPSTREAM_ANSWER_S_MAX
            for chunk in response.iter_raw(_CHUNK_BYTES):
                data += chunk
                _check_time(deadline_s)
                if len(data) > UPSTREAM_ANSWER_BYTES_MAX:
                    raise Fault(
                        "upstream.index-too-large",
                        "The upstream's index page is too large.",
                        retryable=True,
                    )
            kind = response.headers.get("content-type", "")
        links = _json_links(data) if "json" in kind else _html_links(data)
        return next((url for link in links if (url := _address(page, link, filename))), None)

    def _stream(self, method: str, url: str, **options: Any) -> _Stream:
        return _Stream(self.client, method, url, options)


def _check_time(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise Fault("upstream.slow", "The upstream's answer takes too long.", retryable=True)


class _Stream:
    """One request; turns the client's own errors into ours."""

    def __init__(
        self, client: httpx2.Client, method: str, url: str, options: dict[str, Any]
    ) -> None:
        self._context = client.stream(method, url, **options)
        self._host = urlsplit(url).netloc

    def __enter__(self) -> httpx2.Response:
        try:
            return self._context.__enter__()
        except (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            ValueError,
        ) as error:  # UnicodeError is a ValueError
            raise self._fault(error) from error

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        self._context.__exit__(kind, value, trace)
        if isinstance(value, httpx2.HTTPError | ValueError):
            raise self._fault(value) from value

    def _fault(self, error: Exception) -> Fault:
        why = type(error).__name__  # its text can repeat what was sent
        return Fault(
            "upstream.unreachable",
            f"The upstream {self._host} did not answer: {why}",
            retryable=True,
        )


def new_client() -> httpx2.Client:
    """A client that follows nothing, trusts no proxy variable, waits for a bounded time and unpacks nothing."""
    headers = {"Accept-Encoding": "identity"}
    return httpx2.Client(
        follow_redirects=False, trust_env=False, timeout=UPSTREAM_TIMEOUT_S, headers=headers
    )


def upload_fields(outgoing: Outgoing) -> list[tuple[str, str]]:
    """The form of the legacy API; metadata as it stands in the artifact."""
    parsed = parse_filename(outgoing.file.name)
    fields = [
        (":action", "file_upload"),
        ("protocol_version", "1"),
        ("name", outgoing.project),
        ("version", outgoing.version),
        ("filetype", "bdist_wheel" if parsed.kind == "wheel" else "sdist"),
        ("pyversion", _python_tag(outgoing.file.name) if parsed.kind == "wheel" else "source"),
        ("sha256_digest", outgoing.file.sha256),
    ]
    return fields + _metadata_fields(outgoing.metadata)


def _python_tag(filename: str) -> str:
    """The third part from the end of a wheel's name (binary distribution format, "File name convention")."""
    return filename.removesuffix(".whl").split("-")[-3]


def _metadata_fields(metadata: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    given = {
        "name",
        "version",
        "filetype",
        "pyversion",
        "sha256_digest",
        ":action",
        "protocol_version",
        "content",
    }
    fields = [
        (name, value)
        for name, values in sorted(metadata.items())
        if name not in given
        for value in values
    ]
    return fields if "metadata_version" in metadata else [("metadata_version", "2.1"), *fields]


class MultipartBody:
    """multipart/form-data (RFC 7578) of known length; the file is streamed from the press's copy."""

    def __init__(self, fields: Sequence[tuple[str, str]], outgoing: Outgoing) -> None:
        boundary = secrets.token_hex(24)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = "".join(_part(boundary, name, value) for name, value in fields)
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{outgoing.file.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head, self._tail = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        self._path, self._go_on = outgoing.path, outgoing.go_on
        self.length = len(self._head) + outgoing.file.size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        asked_s = time.monotonic()
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                if time.monotonic() - asked_s > _ASK_AGAIN_S:
                    self._go_on()
                    asked_s = time.monotonic()
                yield chunk
        self._go_on()
        yield self._tail


def _part(boundary: str, name: str, value: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


def _spellings(username: str, secret: str) -> tuple[str, ...]:
    """The ways in which a registry could repeat the credential it was sent, longest first."""
    basic = base64.b64encode(f"{username}:{secret}".encode()).decode()
    plain = base64.b64encode(secret.encode()).decode()
    quoted = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    found = quoted | {basic, basic.rstrip("="), plain, plain.rstrip("=")}
    return tuple(sorted((one for one in found if one), key=len, reverse=True))


def _check_answer(response: httpx2.Response, what: str, secrets_: Sequence[str] = ()) -> None:
    status = response.status_code
    if status < 300:
        return
    if status < 400:
        raise Refusal(
            Code.UPSTREAM_REDIRECT,
            f"The upstream answered the {what} with a redirect ({status}); the credential is not carried elsewhere.",
            "Correct the upstream's address; that takes an approved upstream statement.",
        )
    said = _plain(f"{status} {response.reason_phrase}: {_said(response)}", secrets_)
    if status >= 500 or status in (408, 425, 429):
        raise Fault(
            "upstream.failing", f"The upstream answered the {what} with {said}", retryable=True
        )
    raise Refusal(
        Code.UPSTREAM_REFUSED,
        f"The upstream refused the {what}: {said}",
        _CREDENTIAL_HINT if status in (401, 403) else "See the registry's own message.",
    )


def _said(response: httpx2.Response) -> str:
    """The beginning of the body; of an HTML page its title: the rest is not for people who read a reason."""
    try:
        text = next(response.iter_raw(4096), b"").decode("utf-8", "replace")
    except httpx2.HTTPError:
        return ""
    if "html" not in response.headers.get("content-type", "") and not text.lstrip().startswith("<"):
        return text
    title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
    return title.group(1) if title else ""


def _plain(text: str, secrets_: Sequence[str]) -> str:
    """What the registry said, bounded and on one line. It may repeat the credential; journal and notices must not."""
    for secret in secrets_:
        text = text.replace(secret, "[credential]")
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain[:_MESSAGE_CHARS].rstrip(": ")


def _address(page: str, link: str, filename: str) -> str | None:
    """Where `filename` lies, if the link leads to it; a link that is no address leads nowhere."""
    try:
        if unquote(urlsplit(link).path).rsplit("/", 1)[-1] == filename:
            url = urljoin(page, link.partition("#")[0])
            url.encode("ascii")
            downgraded = page.startswith("https:") and not url.startswith("https:")
            return url if url.startswith(("https://", "http://")) and not downgraded else None
    except ValueError:
        pass
    return None


def _json_links(data: bytes) -> list[str]:
    try:
        value = json.loads(data)
        return [str(file["url"]) for file in value["files"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Fault(
            "upstream.index-unreadable",
            "The upstream's index page is no PEP 691 document.",
            retryable=True,
        ) from None


def _html_links(data: bytes) -> list[str]:
    try:
        return html_links(data)
    except Refusal:
        raise Fault(
            "upstream.index-unreadable",
            "The upstream's index page is no HTML document.",
            retryable=True,
        ) from None
