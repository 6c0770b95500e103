"""Single git objects from a server, over smart HTTP (gitprotocol-http(5)) and protocol version 2 (gitprotocol-v2(5)).

Read as little as possible: version 2 lets a client want any object by its id, so the commit, each tree and the blob are
asked for one by one, with a filter that keeps away what they lead to. The server is believed nothing: an object is
known by its hash alone (formats/git_pack.py computes it).
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import httpx2
from starlette.concurrency import run_in_threadpool

from presspass import __version__
from presspass.core import limits
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.statement import is_sound_address
from presspass.core.text import safe
from presspass.formats.git_objects import SHA256_BYTES
from presspass.formats.git_pack import read_pack
from presspass.formats.pkt_line import Mark, packet, packets

_SERVICE = "service=git-upload-pack"
_ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
_REQUEST = "application/x-git-upload-pack-request"
_RESULT = "application/x-git-upload-pack-result"
_WORDS_CHARS_MAX = 200
_OWN_ADDRESS = "Name the repository's own address in the publisher statement."
_HAND_OVER = "Let the workload hand the git objects over (`presspass submit` does)."
#: `git/` first: some servers take anything else for a browser. Nothing unpacks an answer on the way to the limits.
_HEADERS = {
    "User-Agent": f"git/presspass-{__version__}",
    "Accept-Encoding": "identity",
    "Git-Protocol": "version=2",
}
#: From the least that a server may send to the most: a tree and a commit by itself; no blobs; a whole snapshot.
_FILTERS = ("tree:0", "blob:none", "")


def check_repository_url(url: str) -> str:
    """`url` without a slash at its end; refuses with `identity.workflow-unavailable` what is not a plain https address,
    or plain http to this machine.
    """
    try:
        parts = urlsplit(url)
        plain = parts.port != 0 and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        plain = False
    printable = url.isascii() and url.isprintable() and not set(url) & set(' \\"<>^`{|}?#')
    if not (plain and printable and is_sound_address(url) and len(url) <= limits.URL_CHARS_MAX):
        raise Refusal(
            Code.WORKFLOW_UNAVAILABLE,
            f"{safe(url[: limits.REASON_CHARS_MAX])!r} is no address from which git objects are fetched.",
            "A repository's address is https://HOST/PATH, without user, query and fragment.",
        )
    return url.rstrip("/")


class Remote:
    """One conversation with one repository. `authorization`: value of the header of that name, "" for none.

    All methods raise a `Fault` (`forge.unreachable`, retryable) when the server cannot be reached or fails, and a
    `Refusal` with `identity.workflow-unavailable` for any other answer than objects.
    """

    def __init__(self, client: httpx2.AsyncClient, url: str, authorization: str = "") -> None:
        self._client = client
        self._url = check_repository_url(url)
        self._host = urlsplit(self._url).netloc
        self._headers = _HEADERS | ({"Authorization": authorization} if authorization else {})
        self._bytes_left = limits.FORGE_ANSWERS_BYTES_MAX
        self._object_format = ""
        self._filters: tuple[str, ...] = ()

    async def discover(self) -> None:
        """Asks what the server can do; must come first."""
        answer = await self._first_answer()
        lines = [one for one in packets(answer) if isinstance(one, bytes)]
        words = [line.decode("utf-8", "replace").rstrip("\n") for line in lines]
        if words[:1] == [f"# {_SERVICE}"]:  # servers may leave it out in version 2
            words = words[1:]
        if words[:1] != ["version 2"]:
            raise self._unavailable("does not speak version 2 of git's protocol")
        able = {name: value for name, _, value in (word.partition("=") for word in words[1:])}
        features = able.get("fetch", "").split()
        if "shallow" not in features:
            raise self._unavailable("does not say that it can send one commit without its history")
        self._object_format = able.get("object-format", "")
        self._filters = _FILTERS if "filter" in features else _FILTERS[-1:]

    async def fetch(self, object_id: str, *, commit: bool) -> dict[str, bytes]:
        """Id to raw object: the one with this id, if the server has it, and whatever else it sends with it."""
        id_bytes = len(object_id) // 2
        wanted = "sha256" if id_bytes == SHA256_BYTES else "sha1"
        if (self._object_format or "sha1") != wanted:
            raise self._unavailable(f"has a repository whose ids are not {wanted}")
        while True:
            try:
                answer = await self._answer(self._request(object_id, commit))
                return await run_in_threadpool(self._objects, answer, id_bytes)
            except _Declined:
                if len(self._filters) < 2:
                    raise
                self._filters = self._filters[1:]  # the server may not know this filter

    def _request(self, object_id: str, commit: bool) -> bytes:
        """The command `fetch`; without `have` and with `done`, the answer is the pack alone."""
        capabilities = ["command=fetch"]
        if self._object_format:
            capabilities.append(f"object-format={self._object_format}")
        arguments = ["no-progress", "ofs-delta", f"want {object_id}"]
        if commit:
            arguments.append("deepen 1")
        if self._filters[0]:
            arguments.append(f"filter {self._filters[0]}")
        head = b"".join(map(packet, capabilities))
        body = b"".join(map(packet, [*arguments, "done"]))
        return head + Mark.DELIMITER.value + body + Mark.FLUSH.value

    def _objects(self, answer: bytes, id_bytes: int) -> dict[str, bytes]:
        """What is in the pack in an answer: sections, of which "packfile" holds it in side-band packets."""
        pack, section, ended = bytearray(), b"", False
        for one in packets(answer):
            if one is Mark.FLUSH:
                ended = True
            elif one is Mark.DELIMITER:
                section = b""
            elif isinstance(one, Mark):
                continue
            elif one.startswith(b"ERR "):
                raise _Declined(self._host, one[4:])
            elif not section:
                section = one.rstrip(b"\n")
            elif section == b"packfile":
                if one[:1] == b"\x03":
                    raise _Declined(self._host, one[1:])
                pack += one[1:] if one[:1] == b"\x01" else b""
        if not ended:
            raise self._unavailable("cut its answer off")
        return read_pack(bytes(pack), id_bytes)

    async def _first_answer(self) -> bytes:
        """What the server can do. One redirect within the same origin is followed (GitLab adds ".git" so)."""
        for _ in range(2):
            address = f"{self._url}/info/refs?{_SERVICE}"
            moved, answer = await self._exchange(
                "GET", address, _ADVERTISEMENT, None, limits.FORGE_ADVERTISEMENT_BYTES_MAX
            )
            if not moved:
                return answer
            self._url = self._redirected(address, moved)
        raise self._unavailable("redirects more than once", _OWN_ADDRESS)

    async def _answer(self, request: bytes) -> bytes:
        moved, answer = await self._exchange(
            "POST",
            f"{self._url}/git-upload-pack",
            _RESULT,
            request,
            limits.FORGE_ANSWERS_BYTES_MAX,
        )
        if moved:
            raise self._unavailable("answers with a redirect")
        return answer

    def _redirected(self, address: str, location: str) -> str:
        try:
            found = urlsplit(urljoin(address, location))
        except ValueError:
            found = urlsplit("")
        known = urlsplit(address)
        same = (found.scheme, found.netloc) == (known.scheme, known.netloc)
        path = found.path.removesuffix("/info/refs")
        if not same or path == found.path or found.query != known.query:
            raise self._unavailable("redirects to another place", _OWN_ADDRESS)
        return check_repository_url(f"{found.scheme}://{found.netloc}{path}")

    async def _exchange(
        self, method: str, url: str, kind: str, body: bytes | None, bytes_max: int
    ) -> tuple[str, bytes]:
        """Where a redirect points to ("" if it is none), and the body of the answer."""
        headers = self._headers | {"Accept": kind}
        if body is not None:
            headers["Content-Type"] = _REQUEST
        try:
            async with self._client.stream(method, url, content=body, headers=headers) as response:
                if response.is_redirect:
                    return response.headers.get("location") or "/", b""
                self._check(response, kind)
                return "", await self._read(response, bytes_max)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            why = type(error).__name__  # its text can repeat what was sent
            raise Fault(
                "forge.unreachable",
                f"The git server {self._host} did not answer: {why}",
                retryable=True,
            ) from error

    def _check(self, response: httpx2.Response, kind: str) -> None:
        status = response.status_code
        if status == 429 or status >= 500:
            raise Fault(
                "forge.unreachable",
                f"The git server {self._host} answers {status}.",
                retryable=True,
            )
        if status in (401, 403, 404):
            hint = "Check the repository's address and, if it is private, the token to read it."
            raise self._unavailable(f"gives nothing out ({status})", hint)
        found = response.headers.get("content-type", "")
        if status != 200 or found != kind or "content-encoding" in response.headers:
            raise self._unavailable(f"does not answer as git does ({status}, {safe(found)[:80]!r})")

    async def _read(self, response: httpx2.Response, bytes_max: int) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_raw():
            data += chunk
            self._bytes_left -= len(chunk)
            if self._bytes_left < 0 or len(data) > bytes_max:
                raise self._unavailable(f"sends more than {bytes_max} bytes", _HAND_OVER)
        return bytes(data)

    def _unavailable(self, why: str, hint: str = "") -> Refusal:
        return Refusal(Code.WORKFLOW_UNAVAILABLE, f"The git server {self._host} {why}.", hint)


class _Declined(Refusal):
    """The server says no in the protocol's own words; another filter may help."""

    def __init__(self, host: str, words: bytes) -> None:
        said = safe(words.decode("utf-8", "replace").strip())[:_WORDS_CHARS_MAX]
        super().__init__(
            Code.WORKFLOW_UNAVAILABLE,
            f"The git server {host} refuses: {said!r}",
            "Check that the repository still has the commit that the token names.",
        )
