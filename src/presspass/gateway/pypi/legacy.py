"""The door for uploads: `POST /pypi/<upstream>/legacy/`, one file a request, straight from the ASGI messages.

Order, and why: who asks (before a byte of the body is read), which file (before its bytes are read), the bytes, their
digests, a durable blob, and last one transaction that says where the file belongs. The answer leaves after the commit.
A crash before the commit leaves at most a blob that no row names: the client got no answer and sends again.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import State
from presspass.core.limits import FORM_TEXT_BYTES_MAX
from presspass.formats.filenames import ArtifactName, parse_filename
from presspass.formats.upload_form import FileStart, FormReader, UploadForm
from presspass.gateway import early, events, rights, sets, tokens
from presspass.gateway.gate import Gate
from presspass.gateway.http import ClientGoneError, Receive, Scope, Send, header, json_answer, reply
from presspass.gateway.problems import (
    Answer,
    as_refusal,
    plain_problem,
    reason_phrase,
    refusal_answer,
    unavailable,
)
from presspass.gateway.pypi.intake import Intake
from presspass.gateway.tokens import Right
from presspass.store.database import Lookup
from presspass.store.keeper import Keeper

PATH = re.compile(r"/pypi/([A-Za-z0-9][A-Za-z0-9._-]{0,127})/legacy/?")
_REMEMBERED_S: Final = 1.0
_REMEMBERED_MAX: Final = 1000


class LegacyUpload:
    """An ASGI application for the paths that `PATH` matches."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._rights = _Rights(gate)
        self._keeper = Keeper(gate.blobs)

    def close(self) -> None:
        """Finishes what is being kept and gives the reading connection back."""
        self._keeper.close()
        self._rights.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        upload = _Upload(self._gate, self._rights, self._keeper, scope, receive)
        try:
            answer = await upload.run()
        except ClientGoneError:
            return
        except (
            Exception
        ) as error:  # the door answers, whatever broke behind it; what broke is in the log
            answer = self._no(error, upload)
        await reply(send, answer)

    def _no(self, error: Exception, upload: _Upload) -> Answer:
        refusal = as_refusal(error)
        away = unavailable(error, close=not upload.read_whole)
        if away is not None:
            return away
        if refusal is None:
            number = events.internal(error, "upload")
            return plain_problem(500, "internal", f"internal error {number}", close=True)
        self._gate.events.refused(refusal, "upload", upload.who)
        return refusal_answer(refusal, close=not upload.read_whole, one_text=True)


class _Rights:
    """Who may send, asked before a body is read. Used on the event loop's thread only.

    A yes is remembered for a second: one client sends many files. Nothing rests on it but the reading of a body, since
    the transaction that gives a file its place asks again.
    """

    def __init__(self, gate: Gate) -> None:
        self._clock = gate.clock
        self._reads = Lookup(gate.writer.engine)
        self._known: dict[str, tuple[float, Right]] = {}

    def of(self, token: str) -> Right:
        """The right that comes with `token`, or a refusal."""
        token_hash, now = tokens.secret_hash(token), time.monotonic()
        until, known = self._known.get(token_hash, (now, None))
        if known is not None and now < until:
            return known
        right = self._reads.run(lambda c: rights.check_right(c, token, self._clock()))
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
        self._known[token_hash] = (now + _REMEMBERED_S, right)
        return right

    def known(self, token: str) -> str:
        """The hash of what was a right here once; "" of anything else."""
        token_hash = tokens.secret_hash(token)
        return token_hash if self._reads.run(lambda c: rights.is_known(c, token_hash)) else ""

    def close(self) -> None:
        self._reads.close()


class _Upload:
    """One request."""

    def __init__(
        self, gate: Gate, rights: _Rights, keeper: Keeper, scope: Scope, receive: Receive
    ) -> None:
        self._gate = gate
        self._rights = rights
        self._keeper = keeper
        self._scope = scope
        self._receive = receive
        self._name: ArtifactName | None = None
        self._intake: Intake | None = None
        self.who = ""
        self.read_whole = False

    async def run(self) -> Answer:
        if self._scope["method"] != "POST":
            return plain_problem(
                405, Code.REQUEST_UNSUPPORTED.value, "Files come here by POST.", close=True
            )
        right = self._check_right()
        form = FormReader(header(self._scope, b"content-type"), self._gate.file_bytes_max)
        self._check_length()
        try:
            done = await self._read(form, right)
            return await self._store(done, right)
        finally:
            if self._intake is not None:
                await self._intake.close()

    def _check_right(self) -> Right:
        match = PATH.fullmatch(self._scope["path"])
        upstream = match.group(1) if match else ""
        token = tokens.from_authorization(header(self._scope, b"authorization"))
        try:
            right = self._rights.of(token)
        except Refusal:
            self.who = self._rights.known(token)
            raise
        self.who = right.hash
        rights.require_upstream(right, upstream)
        if (
            upstream not in self._gate.journal.rules.upstreams
            and upstream not in self._gate.journal.now().upstreams
        ):
            raise Refusal(
                Code.UPSTREAM_MISSING,
                f"There is no upstream {upstream!r} at this gate, or its statement is not approved yet.",
                "Check the repository URL.",
            )
        return right

    def _check_length(self) -> None:
        length = header(self._scope, b"content-length")
        if length.isdigit() and int(length) > self._gate.file_bytes_max + FORM_TEXT_BYTES_MAX:
            raise Refusal(
                Code.REQUEST_TOO_LARGE,
                f"The upload has {length} bytes; a file may have {self._gate.file_bytes_max}.",
                "Ask the operator of the gate if it must be larger.",
            )

    async def _read(self, form: FormReader, right: Right) -> UploadForm:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            more = message.get("more_body", False)
            self.read_whole = not more
            for event in form.feed(message.get("body", b"")):
                if isinstance(event, FileStart):
                    self._begin(event, right)
                elif self._intake is not None and self._intake.add(event):
                    await self._intake.flush()
        return form.finish()

    def _begin(self, start: FileStart, right: Right) -> None:
        self._name = parse_filename(start.filename)
        rights.require_project(
            right, self._name.project, self._name.version, self._gate.projects_of(right)
        )
        early.require_stage(self._gate, right, self._name.project, self._name.version)
        self._intake = Intake(self._gate.blobs, self._keeper, self._gate.pool, start.digests)

    async def _store(self, form: UploadForm, right: Right) -> Answer:
        name, intake = self._name, self._intake
        if name is None or intake is None or form.size == 0:
            raise Refusal(
                Code.REQUEST_MALFORMED, "The file is empty.", "Build it again, then upload it."
            )

        def place(sha256: str) -> Future[tuple[sets.Placed, sets.Offer]]:
            offer = sets.Offer(
                right, name.project, name.version, form.filename, sha256, form.size, form.comment
            )
            return self._gate.writer.submit(
                lambda connection: (self._place(connection, offer), offer)
            )

        placed, offer = await intake.finish(form.digests, place)
        return self._answer(placed, offer)

    def _place(self, connection: Connection, offer: sets.Offer) -> sets.Placed:
        """In the writer's transaction."""
        gate, right, now = self._gate, offer.right, self._gate.clock()
        gate.journal.refresh()
        right = rights.again(connection, right, now)
        name = parse_filename(offer.filename)
        rights.require_project(right, name.project, name.version, gate.projects_of(right))
        rights.require_file(right, offer.filename, offer.sha256)
        if right.workload and gate.journal.rules.chain is not None:
            versions = gate.journal.versions(right.upstream, name.project)
            bound = replace(right, project=name.project)
            rights.require_delegation(
                connection, bound, gate.journal.rules.chain, name.version, versions
            )
        offer = replace(offer, right=right, project=name.project)
        published = gate.journal.published(right.upstream, offer.project, offer.version)
        return sets.place(connection, offer, published, gate.release_url(""), now)

    def _answer(self, placed: sets.Placed, offer: sets.Offer) -> Answer:
        url = self._gate.release_url(placed.release) if placed.release else ""
        out = placed.state in (State.PUBLISHED, State.VERIFIED)
        said = "Published" if out else "Staged, awaiting approval"
        message = f"{said}: {url}" if url else f"{said}."
        value = {
            "id": placed.release,
            "url": url,
            "state": placed.state.value,
            "file": {"name": offer.filename, "sha256": offer.sha256, "size": offer.size},
            "message": message,
        }
        headers = (("location", url),) if url else ()
        status = 200 if out else 202
        return json_answer(value, status, reason=reason_phrase(message), headers=headers)
