"""A forge on loopback: repositories that the real git makes and the real `git http-backend` serves.

Only the HTTP server in front is the world's own: it hands each request to git's CGI program, protocol and all. The
same seed and the same calls give the same commit ids, byte for byte; nobody's git configuration has a say.
"""

from __future__ import annotations

import base64
import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from presspass.drill.world.clock import START_S
from presspass.drill.world.loopback import LoopbackServer, Request, Response

GIT_S_MAX = 60
_REFUSED = Response(
    401, b"who asks?\n", headers=(("WWW-Authenticate", 'Basic realm="world", charset="UTF-8"'),)
)


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link to `target`."""

    target: str


@dataclass(frozen=True, slots=True)
class Submodule:
    """Another repository at this commit."""

    commit: str


@dataclass(frozen=True, slots=True)
class Executable:
    """A file with the executable bit."""

    content: bytes


#: What a path of a commit becomes; None takes it away.
Content: TypeAlias = str | bytes | Executable | Symlink | Submodule | None


def find_git() -> Path | None:
    """The path of git, if it is installed together with its HTTP server."""
    program = shutil.which("git")
    if program is None or not (_exec_path(program) / "git-http-backend").exists():
        return None
    return Path(program)


def git_env() -> dict[str, str]:
    """An environment in which git sees no configuration but the repository's own, and in which the world commits."""
    who = {"NAME": "world", "EMAIL": "world@world.invalid", "DATE": f"{int(START_S)} +0000"}
    return {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in who.items()
    } | {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


class ForgeRepository:
    """A bare repository of the forge. `folder`: where it lies; `url`: where it is served from."""

    def __init__(
        self, forge: Forge, owner: str, name: str, folder: Path, object_format: str
    ) -> None:
        self._forge = forge
        self._counter = itertools.count()
        self.owner = owner
        self.name = name
        self.folder = folder
        self.git(
            "init",
            "--quiet",
            "--bare",
            "--initial-branch=main",
            f"--object-format={object_format}",
            ".",
        )
        self.serve_filters(True)

    @property
    def url(self) -> str:
        """The address to clone from."""
        return f"{self._forge.url}/{self.owner}/{self.name}.git"

    def serve_filters(self, allowed: bool) -> None:
        """Whether the server filters objects for who asks (partial clone), as the large forges do."""
        self.git("config", "uploadpack.allowFilter", str(allowed).lower())

    def commit(
        self,
        files: Mapping[str | bytes, Content],
        *,
        branch: str = "main",
        message: str = "a change of the world",
    ) -> str:
        """Commits these changes to `branch`, which is made if it is not there; returns the commit's id.

        A path that is not named stays as it was on that branch.
        """
        when = int(START_S) + next(self._counter)
        who = f"world <world-{self._forge.seed}@world.invalid> {when} +0000"
        ref = f"refs/heads/{branch}"
        tip = self.git("for-each-ref", "--format=%(objectname)", ref).decode().strip()
        lines = [b"commit %s\nmark :1\ncommitter %s\n" % (ref.encode(), who.encode())]
        lines.append(_data(message.encode()))
        if tip:
            lines.append(b"from %s\n" % tip.encode())
        lines += [_change(path, content) for path, content in sorted(_as_bytes(files).items())]
        lines.append(b"\nget-mark :1\ndone\n")
        stream = b"".join(lines)
        return self.git("fast-import", "--quiet", "--done", stdin=stream).decode().strip()

    def tag(self, name: str, commit: str, *, force: bool = False) -> None:
        """Puts a lightweight tag on a commit; with `force` an existing one moves."""
        self.git("tag", *(["--force"] if force else []), name, commit)

    def clone(self, folder: Path, *options: str) -> None:
        """Clones over HTTP, as a runner does."""
        run_git(["clone", "--quiet", *options, self.url, str(folder)], folder.parent)

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Runs git in this repository and returns what it prints; raises CalledProcessError if it fails."""
        return run_git(arguments, self.folder, stdin)


class Forge(LoopbackServer):
    """`with Forge(folder) as forge: repository = forge.repository("acme", "demo")`. Needs git: see `find_git`.

    `require(token)`: from then on reading takes this token, as a private repository does. `requests` and `answered`:
    what was asked, and how many bytes each answer had. `redirects`: path of a repository to where it went.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.requests: list[Request] = []
        self.answered: list[int] = []
        self.redirects: dict[str, str] = {}
        self._folder = folder
        self._token = ""

    def repository(self, owner: str, name: str, *, object_format: str = "sha1") -> ForgeRepository:
        """A new repository; `object_format`: "sha1" or "sha256"."""
        folder = self._folder / owner / f"{name}.git"
        folder.mkdir(parents=True)
        return ForgeRepository(self, owner, name, folder, object_format)

    def require(self, token: str) -> None:
        """Whoever reads must show this token: as Bearer, or as the password of Basic; "" opens the forge again."""
        self._token = token

    def answer(self, request: Request) -> Response:
        """See LoopbackServer.answer: the answer is that of `git http-backend`."""
        self.requests.append(request)
        if self._token and not _shows(request.headers.get("authorization", ""), self._token):
            return _REFUSED
        repository, slash, rest = request.path.partition("/info/refs")
        if slash and repository in self.redirects:
            location = f"{self.redirects[repository]}/info/refs{rest}?{request.query}"
            return Response(301, headers=(("Location", location),))
        program = _exec_path("git") / "git-http-backend"
        done = subprocess.run(
            [program],
            env=git_env() | _cgi(request, self._folder),
            input=request.body,
            capture_output=True,
            timeout=GIT_S_MAX,
            check=False,
        )
        response = _from_cgi(done.stdout)
        self.answered.append(len(response.body))
        return response


def run_git(arguments: list[str] | tuple[str, ...], folder: Path, stdin: bytes = b"") -> bytes:
    """Runs git in `folder`, free of anybody's configuration; raises CalledProcessError if it fails.

    What git complains about goes to standard error.
    """
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=git_env(),
        input=stdin,
        stdout=subprocess.PIPE,
        timeout=GIT_S_MAX,
        check=True,
    )
    return done.stdout


@functools.cache
def _exec_path(program: str) -> Path:
    found = subprocess.run([program, "--exec-path"], env=git_env(), capture_output=True, check=True)
    return Path(found.stdout.decode().strip())


def _as_bytes(files: Mapping[str | bytes, Content]) -> dict[bytes, Content]:
    return {os.fsencode(path): content for path, content in files.items()}


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _change(path: bytes, content: Content) -> bytes:
    """One line of git-fast-import(1) for a path, which is quoted so that every byte is possible in it."""
    name = b'"%s"' % b"".join(b"\\%03o" % byte for byte in path)
    match content:
        case None:
            return b"D %s\n" % name
        case Submodule(commit):
            return b"M 160000 %s %s\n" % (commit.encode(), name)
        case Symlink(target):
            return b"M 120000 inline %s\n%s" % (name, _data(target.encode()))
        case Executable(body):
            return b"M 100755 inline %s\n%s" % (name, _data(body))
        case str():
            return b"M 100644 inline %s\n%s" % (name, _data(content.encode()))
        case bytes():
            return b"M 100644 inline %s\n%s" % (name, _data(content))


def _shows(authorization: str, token: str) -> bool:
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "basic":
        value = base64.b64decode(value).decode().partition(":")[2]
    return value == token


def _cgi(request: Request, root: Path) -> dict[str, str]:
    """The variables of RFC 3875 that git-http-backend(1) reads."""
    return {
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(request.body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
    }


def _from_cgi(output: bytes) -> Response:
    head, _, body = output.partition(b"\r\n\r\n")
    headers = [line.partition(": ")[::2] for line in head.decode("latin-1").splitlines()]
    given = {name.lower(): value for name, value in headers}
    status = int(given.pop("status", "200").split(" ")[0])
    kind = given.pop("content-type", "text/plain")
    return Response(status, body, kind, headers=tuple(given.items()))
