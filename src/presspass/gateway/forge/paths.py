"""From a commit to a workflow, object by object, each checked before the next is asked for."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
import stat
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from starlette.concurrency import run_in_threadpool

from presspass.core import limits
from presspass.core.errors import Code, Fault, Refusal
from presspass.formats import git_objects
from presspass.formats.git_objects import GitKind
from presspass.gateway.forge.cache import PathCache
from presspass.gateway.forge.remote import Remote, check_repository_url
from presspass.verify.workflow import WorkflowPath, check_object, entry_at, path_parts, prove

_TOKEN = re.compile(r"(?:(bearer|basic) +)?([\x21-\x7e]+)", re.IGNORECASE)
#: The large forges take any user name beside a token; this one is GitHub's own.
_TOKEN_USER = "x-access-token"


class WorkflowPaths:
    """Fetches and keeps workflow paths; for one event loop. `context`: whom to trust for TLS, by default as httpx2
    and so the press does.

    `fetches_max`: how many fetches are under way at once at one server; others wait, and their time counts. A server
    that is slow holds up nobody else's.
    """

    def __init__(
        self,
        cache: PathCache,
        *,
        context: ssl.SSLContext | None = None,
        timeout_s: float = limits.FORGE_FETCH_S_MAX,
        fetches_max: int = limits.FORGE_FETCHES_MAX,
    ) -> None:
        self._cache = cache
        self._context = context or httpx2.create_ssl_context(trust_env=False)
        self._timeout_s = timeout_s
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(fetches_max)
        )

    async def fetch(
        self, repository_url: str, commit: str, path: str, *, token_file: Path | None = None
    ) -> WorkflowPath:
        """The objects from `commit` to the file `path`, proved; from the cache, or else from the repository.

        `repository_url` must be that of a publisher statement which a quorum signed, never one that a claim names.
        `token_file`: see `authorization`. Refuses with `identity.workflow-missing`, `-not-a-file`, `-too-large`,
        `-unproven` (see `verify.workflow.prove`), `identity.workflow-unavailable` and, for the token file,
        `config.invalid`. Raises retryable faults `forge.unreachable` and `forge.slow`.

        From a worker thread: `anyio.from_thread.run(paths.fetch, repository_url, commit, path)`.
        """
        parts = path_parts(path)
        turn = self._turns[urlsplit(check_repository_url(repository_url)).netloc]
        if not git_objects.is_object_id(commit):
            raise Refusal(Code.WORKFLOW_UNPROVEN, "The token names no commit by its whole id.")
        kept = await run_in_threadpool(self._cache.get, commit, path)
        if kept is not None:
            return kept
        header = authorization(token_file) if token_file else ""
        try:
            async with asyncio.timeout(self._timeout_s), turn, self._client() as client:
                remote = Remote(client, repository_url, header)
                objects = await _walk(remote, commit, path, parts)
        except TimeoutError:
            raise Fault(
                "forge.slow",
                f"The git server did not give the workflow out within {self._timeout_s:g} s.",
                retryable=True,
            ) from None
        found = WorkflowPath(commit, path, objects)
        await run_in_threadpool(prove, commit, path, objects)
        await run_in_threadpool(self._cache.put, found)
        return found

    def _client(self) -> httpx2.AsyncClient:
        """A client that follows nothing, trusts no proxy variable, and waits no longer than the fetch may take."""
        return httpx2.AsyncClient(
            verify=self._context,
            follow_redirects=False,
            trust_env=False,
            timeout=self._timeout_s,
        )


async def _walk(
    remote: Remote, commit: str, path: str, parts: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    """The objects of the path. What a server sends beside the one that was asked for is used if it is needed."""
    await remote.discover()
    known: dict[str, bytes] = {}
    objects: list[bytes] = []
    wanted = commit
    for number in range(len(parts) + 2):
        if wanted not in known:
            known |= await remote.fetch(wanted, commit=number == 0)
        if wanted not in known:
            why = f"The git server sends everything but the object {wanted[:12]}."
            raise Refusal(Code.WORKFLOW_UNAVAILABLE, why)
        objects.append(known[wanted])
        if sum(map(len, objects)) > limits.WORKFLOW_OBJECTS_BYTES_MAX:
            why = "The folders on the path of the workflow are too large."
            raise Refusal(Code.WORKFLOW_TOO_LARGE, why)
        # In a thread: a folder of some megabytes takes a while to read, and the event loop serves others.
        wanted = await run_in_threadpool(_next, known[wanted], wanted, number, path, parts)
    return tuple(objects)


def _next(raw: bytes, object_id: str, number: int, path: str, parts: tuple[bytes, ...]) -> str:
    """The id to which the object with this number on the path leads; "" after the file."""
    id_bytes = git_objects.id_bytes_of(object_id)
    if number == 0:
        return git_objects.commit_tree(check_object(raw, object_id, GitKind.COMMIT), id_bytes)
    if number > len(parts):
        check_object(raw, object_id, GitKind.BLOB)
        return ""
    entries = git_objects.parse_tree(check_object(raw, object_id, GitKind.TREE), id_bytes)
    return entry_at(entries, parts[number - 1], path, last=number == len(parts)).object_id


def authorization(token_file: Path) -> str:
    """The header that shows the token in this file: `TOKEN` (as the password of Basic, which the large forges take),
    `basic USER:PASSWORD` or `bearer TOKEN`.

    Refuses with `config.invalid` a file that others can read, that is a link, or that holds something else.
    """
    try:
        fd = os.open(token_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _bad_token(token_file, f"cannot be opened: {error.strerror}") from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise _bad_token(token_file, "is not a file that only its owner can read (mode 0600)")
        data = os.read(fd, limits.FORGE_TOKEN_BYTES_MAX + 1)
    finally:
        os.close(fd)
    match = _TOKEN.fullmatch(data.decode("ascii", "replace").strip())
    if match is None or len(data) > limits.FORGE_TOKEN_BYTES_MAX:
        raise _bad_token(token_file, "holds no token")
    kind, value = (match[1] or "").lower(), match[2]
    if kind == "bearer":
        return f"Bearer {value}"
    user_and_password = value if kind == "basic" else f"{_TOKEN_USER}:{value}"
    return f"Basic {base64.b64encode(user_and_password.encode()).decode()}"


def _bad_token(token_file: Path, why: str) -> Refusal:
    return Refusal(
        Code.CONFIG_INVALID,
        f"The file {str(token_file)!r} with the token to read a repository {why}.",
        "Write TOKEN, `basic USER:PASSWORD` or `bearer TOKEN` into a file of mode 0600.",
    )
