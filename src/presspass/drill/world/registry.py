"""A PyPI-style registry in memory: legacy upload, simple index (HTML and JSON), downloads, and faults on request.

What it does like PyPI: one POST a file with HTTP Basic; every digest in the form is checked; an identical re-upload
is 200; other bytes under a taken name are 400 "File already exists"; errors are told in the reason phrase. What it
holds survives `stop` and `start`. Every upload that arrives is in `uploads`, so that a test can count them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from enum import StrEnum

from presspass.drill.world.clock import WorldClock
from presspass.drill.world.loopback import LoopbackServer, Request, Response

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "text/html; charset=utf-8"
DIGESTS: dict[str, Callable[[bytes], str]] = {
    "md5_digest": lambda body: hashlib.md5(body, usedforsecurity=False).hexdigest(),
    "sha256_digest": lambda body: hashlib.sha256(body).hexdigest(),
    "blake2_256_digest": lambda body: hashlib.blake2b(body, digest_size=32).hexdigest(),
}


class Door(StrEnum):
    """The three things a client can ask for; a fault is set for one or more of them."""

    UPLOAD = "upload"
    INDEX = "index"
    DOWNLOAD = "download"


ALL_DOORS = (Door.UPLOAD, Door.INDEX, Door.DOWNLOAD)


class Outcome(StrEnum):
    """What an upload did to the store, whatever the client was told."""

    STORED = "stored"
    IDENTICAL = "identical"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload that arrived. `status` is what the client was told, 0 if it was told nothing."""

    number: int
    filename: str
    project: str
    version: str
    sha256: str
    size_bytes: int
    user: str
    outcome: Outcome
    status: int
    fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that arrived, of any kind, and whether it carried a credential."""

    method: str
    path: str
    with_credential: bool


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file the registry holds."""

    filename: str
    project: str
    version: str
    body: bytes
    sha256: str
    uploaded_s: float


@dataclass(slots=True)
class _Fault:
    kind: str
    doors: tuple[Door, ...]
    times: int | None  # None: until healed
    value: str = ""


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Registry(LoopbackServer):
    """`with Registry(seed=7, token="...") as registry:` serves until the block ends.

    `user` and `token` are what an upload must carry; by default a token is made from the seed.
    """

    def __init__(
        self,
        seed: int = 0,
        token: str | None = None,
        user: str = "__token__",
        clock: WorldClock | None = None,
    ) -> None:
        super().__init__()
        self.user = user
        self.token = token or "world-" + _seeded(seed, "token")[:40]
        self._seed = seed
        self._clock = clock or WorldClock()
        self._lock = threading.RLock()
        self._files: dict[str, StoredFile] = {}
        self._uploads: list[Upload] = []
        self._seen: list[Seen] = []
        self._faults: list[_Fault] = []
        self._healed = threading.Condition(self._lock)

    # --- what a test reads ----------------------------------------------------------------------------------------

    @property
    def upload_url(self) -> str:
        """Where twine and uv publish to."""
        return f"{self.url}/legacy/"

    @property
    def simple_url(self) -> str:
        """The index for pip and uv."""
        return f"{self.url}/simple/"

    @property
    def uploads(self) -> list[Upload]:
        """Every upload that arrived so far, in order."""
        with self._lock:
            return list(self._uploads)

    def accepted(self, filename: str) -> int:
        """How many uploads of this file reached the store, identical repetitions included."""
        return sum(u.filename == filename and u.outcome != Outcome.REFUSED for u in self.uploads)

    @property
    def requests(self) -> list[Seen]:
        """Every request that arrived so far, in order."""
        with self._lock:
            return list(self._seen)

    def files(self) -> dict[str, str]:
        """What it holds: file name to sha256 (hex)."""
        with self._lock:
            return {name: stored.sha256 for name, stored in sorted(self._files.items())}

    # --- what a test does to it -----------------------------------------------------------------------------------

    def rotate_token(self, token: str) -> None:
        """From now on only this token counts."""
        with self._lock:
            self.token = token

    def error_before_store(self, status: int = 503, times: int | None = 1) -> None:
        """Uploads are answered with this error and nothing is stored."""
        self._add(_Fault("error_before_store", (Door.UPLOAD,), times, str(status)))

    def error_after_store(self, status: int = 503, times: int | None = 1) -> None:
        """Uploads are stored, and then answered with this error."""
        self._add(_Fault("error_after_store", (Door.UPLOAD,), times, str(status)))

    def drop_connection_before_answer(self, times: int | None = 1) -> None:
        """Uploads are stored, and then the connection is closed without an answer."""
        self._add(_Fault("drop", (Door.UPLOAD,), times))

    def serve_other_bytes(self, doors: Iterable[Door] = (Door.INDEX, Door.DOWNLOAD)) -> None:
        """One byte of each file differs: in the digests of the index, in the downloads, or in both alike."""
        self._add(_Fault("other_bytes", tuple(doors), None))

    def redirect(self, to: str, doors: Iterable[Door] = (Door.UPLOAD,)) -> None:
        """Answers 307 to the same path below the address `to`."""
        self._add(_Fault("redirect", tuple(doors), None, to.rstrip("/")))

    def refuse_auth(self) -> None:
        """Uploads are refused as if the token did not exist."""
        self._add(_Fault("refuse_auth", (Door.UPLOAD,), None))

    def slow(self, seconds: float, doors: Iterable[Door] = ALL_DOORS) -> None:
        """Waits this long, in real time, before it does anything."""
        self._add(_Fault("slow", tuple(doors), None, str(seconds)))

    def stall(self, doors: Iterable[Door] = (Door.UPLOAD,)) -> None:
        """Reads the request and then says nothing until `heal` or `stop`; stores nothing, closes then."""
        self._add(_Fault("stall", tuple(doors), None))

    def heal(self) -> None:
        """Takes all faults away."""
        with self._healed:
            self._faults.clear()
            self._healed.notify_all()

    def stop(self) -> None:
        """As LoopbackServer.stop; lets stalled requests go first."""
        self._stopping.set()
        with self._healed:
            self._healed.notify_all()
        super().stop()

    # --- how it answers -------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response | None:
        """See LoopbackServer.answer."""
        credential = "authorization" in request.headers
        with self._lock:
            self._seen.append(Seen(request.method, request.path, credential))
        door = _door(request)
        if door is None:
            return Response(404, b"not found\n")
        if slow := self._take("slow", door):
            self._stopping.wait(float(slow.value))
        if self._take("stall", door):
            self._hold()
            return None
        if to := self._take("redirect", door):
            if door is Door.UPLOAD:
                self._log_refused(request, 307)
            return Response(307, headers=(("Location", to.value + request.path),))
        if door is Door.UPLOAD:
            return self._upload(request)
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"method not allowed\n")
        return self._index(request) if door is Door.INDEX else self._download(request)

    def _upload(self, request: Request) -> Response | None:
        with self._lock:
            try:
                user = self._authenticate(request.headers.get("authorization", ""))
                if fault := self._take("error_before_store", Door.UPLOAD):
                    raise _Refused(int(fault.value), "Something went wrong before storing")
                fields, body, filename = parse_form(request)
                outcome = self._store(fields, filename, body)
            except _Refused as refused:
                self._log_refused(request, refused.status)
                text = f"{refused.status} {refused.reason}\n".encode()
                return Response(refused.status, text, reason=refused.reason)
            answer: Response | None = Response(200, b"")
            if fault := self._take("error_after_store", Door.UPLOAD):
                answer = Response(int(fault.value), b"something went wrong after storing\n")
            if self._take("drop", Door.UPLOAD):
                answer = None
            status = 0 if answer is None else answer.status
            self._log(fields, filename, body, user, outcome, status)
            return answer

    def _authenticate(self, header: str) -> str:
        user, password = basic_credentials(header)
        right = (user, password) == (self.user, self.token)
        if self._take("refuse_auth", Door.UPLOAD) or not right:
            raise _Refused(403, "Invalid or non-existent authentication information.")
        return user

    def _store(self, fields: Mapping[str, str], filename: str, body: bytes) -> Outcome:
        project = normalized(fields.get("name", ""))
        check_form(fields, filename, body)
        digest = hashlib.sha256(body).hexdigest()
        held = self._files.get(filename)
        if held is not None:
            if held.sha256 == digest:
                return Outcome.IDENTICAL
            raise _Refused(400, f"File already exists ({filename}).")
        now_s = self._clock.wall()
        self._files[filename] = StoredFile(
            filename, project, fields["version"], body, digest, now_s
        )
        return Outcome.STORED

    def _index(self, request: Request) -> Response:
        wants_json = JSON_TYPE in request.headers.get("accept", "") + request.query
        name = request.path.removeprefix("/simple/")
        if name and (not name.endswith("/") or normalized(name.rstrip("/")) != name.rstrip("/")):
            location = f"/simple/{normalized(name.rstrip('/'))}/"
            return Response(301, headers=(("Location", location),))
        with self._lock:
            files = sorted(self._files.values(), key=lambda stored: stored.filename)
            other = self._take("other_bytes", Door.INDEX) is not None
        if not name:
            return _root_page(sorted({stored.project for stored in files}), wants_json)
        of_project = [stored for stored in files if stored.project == name.rstrip("/")]
        if not of_project:
            return Response(404, b"no such project\n")
        digests = {f.filename: self._served(f, other)[0] for f in of_project}
        return _project_page(name.rstrip("/"), of_project, digests, wants_json)

    def _download(self, request: Request) -> Response:
        with self._lock:
            stored = self._files.get(request.path.rsplit("/", 1)[-1])
            other = self._take("other_bytes", Door.DOWNLOAD) is not None
        if stored is None:
            return Response(404, b"no such file\n")
        return Response(200, self._served(stored, other)[1], "application/octet-stream")

    def _served(self, stored: StoredFile, other: bool) -> tuple[str, bytes]:
        """The digest and bytes a client gets: right ones, or with one byte changed at a place the seed chooses."""
        if not other or not stored.body:
            return stored.sha256, stored.body
        place = int(_seeded(self._seed, stored.filename), 16) % len(stored.body)
        body = bytearray(stored.body)
        body[place] ^= 0x01
        return hashlib.sha256(body).hexdigest(), bytes(body)

    # --- faults and log -------------------------------------------------------------------------------------------

    def _add(self, fault: _Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def _take(self, kind: str, door: Door) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.kind == kind and door in fault.doors and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def _hold(self) -> None:
        with self._healed:
            self._healed.wait_for(
                lambda: self._stopping.is_set() or not any(f.kind == "stall" for f in self._faults)
            )

    def _log_refused(self, request: Request, status: int) -> None:
        try:
            fields, body, filename = parse_form(request)
        except _Refused:
            fields, body, filename = {}, b"", ""
        user = basic_credentials(request.headers.get("authorization", ""))[0]
        self._log(fields, filename, body, user, Outcome.REFUSED, status)

    def _log(
        self,
        fields: Mapping[str, str],
        filename: str,
        body: bytes,
        user: str,
        outcome: Outcome,
        status: int,
    ) -> None:
        with self._lock:
            self._uploads.append(
                Upload(
                    number=len(self._uploads),
                    filename=filename,
                    project=normalized(fields.get("name", "")),
                    version=fields.get("version", ""),
                    sha256=hashlib.sha256(body).hexdigest(),
                    size_bytes=len(body),
                    user=user,
                    outcome=outcome,
                    status=status,
                    fields=dict(fields),
                )
            )


def normalized(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def basic_credentials(header: str) -> tuple[str, str]:
    """User and password of an Authorization header (RFC 7617), two empty strings if there are none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def parse_form(request: Request) -> tuple[dict[str, str], bytes, str]:
    """The text fields of an upload form, the content, and its file name (RFC 7578). Raises a 400."""
    kind = Message()
    kind["Content-Type"] = request.headers.get("content-type", "")
    boundary = kind.get_boundary()
    if kind.get_content_type() != "multipart/form-data" or not boundary:
        raise _Refused(400, "The body is not multipart/form-data.")
    fields: dict[str, str] = {}
    content: tuple[bytes, str] | None = None
    for part in (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        described = Message()
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, _, value = line.partition(":")
            described[name] = value.strip()
        field_name = str(described.get_param("name", "", "content-disposition"))
        if field_name == "content":
            content = (body, described.get_filename() or "")
        else:
            fields.setdefault(field_name, body.decode("utf-8", "replace"))
    if content is None:
        raise _Refused(400, "The form has no content.")
    return fields, *content


def check_form(fields: Mapping[str, str], filename: str, body: bytes) -> None:
    """What PyPI checks before it stores. Raises the answer it gives."""
    if fields.get(":action") != "file_upload":
        raise _Refused(410, "This action is not offered.")
    if fields.get("protocol_version") != "1":
        raise _Refused(400, "Unknown protocol version.")
    if not fields.get("name") or not fields.get("version"):
        raise _Refused(400, "Name and version are required.")
    if re.fullmatch(r"[A-Za-z0-9._!+-]+", filename) is None:
        raise _Refused(400, "The file name is not valid.")
    named = normalized(re.split(r"-(?=\d)", filename)[0])
    if named != normalized(fields["name"]):
        raise _Refused(400, "The file name does not start with the name of the project.")
    given = [name for name in DIGESTS if fields.get(name)]
    if not given:
        raise _Refused(400, "At least one digest is required.")
    for name in given:
        if DIGESTS[name](body) != fields[name].lower():
            raise _Refused(400, f"The digest supplied does not match the file ({name}).")


def _door(request: Request) -> Door | None:
    if request.method == "POST" and request.path in ("/legacy/", "/legacy"):
        return Door.UPLOAD
    if request.path.startswith("/simple/"):
        return Door.INDEX
    if request.path.startswith("/files/"):
        return Door.DOWNLOAD
    return None


def _root_page(projects: list[str], wants_json: bool) -> Response:
    if wants_json:
        listed = [{"name": project} for project in projects]
        return _json_page({"meta": {"api-version": "1.0"}, "projects": listed})
    links = "".join(f'<a href="/simple/{project}/">{project}</a><br>\n' for project in projects)
    return Response(
        200, f"<!DOCTYPE html>\n<title>Simple index</title>\n{links}".encode(), HTML_TYPE
    )


def _project_page(
    project: str, files: list[StoredFile], digests: Mapping[str, str], wants_json: bool
) -> Response:
    """PEP 691 JSON (version 1.1 with sizes and times, PEP 700) or PEP 503 HTML."""
    if not wants_json:
        links = "".join(
            f'<a href="{_path(f)}#sha256={digests[f.filename]}">{html.escape(f.filename)}</a><br>\n'
            for f in files
        )
        page = f"<!DOCTYPE html>\n<title>Links for {project}</title>\n{links}"
        return Response(200, page.encode(), HTML_TYPE)
    listed = [
        {
            "filename": f.filename,
            "url": _path(f),
            "hashes": {"sha256": digests[f.filename]},
            "size": len(f.body),
            "upload-time": datetime.fromtimestamp(f.uploaded_s, UTC).strftime(
                "%Y-%m-%dT%H:%M:%S.%fZ"
            ),
        }
        for f in files
    ]
    versions = sorted({f.version for f in files})
    meta = {"api-version": "1.1"}
    return _json_page({"meta": meta, "name": project, "versions": versions, "files": listed})


def _json_page(page: dict[str, object]) -> Response:
    return Response(200, json.dumps(page, sort_keys=True).encode(), JSON_TYPE)


def _path(stored: StoredFile) -> str:
    return f"/files/{stored.sha256[:2]}/{stored.sha256[2:]}/{stored.filename}"


def _seeded(seed: int, what: str) -> str:
    return hashlib.sha256(f"presspass/drill/world/{seed}/{what}".encode()).hexdigest()
