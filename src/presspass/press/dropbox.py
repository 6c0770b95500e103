"""The drop box: narrowings that reach the press without the gateway (law 8).

A folder that people who may stop a release can write to. Each file ends in `.json` and says one of
`{"freeze": {"project": "", "reason": "…"}}` (with `"deny_open": true` it vetoes what is open too),
`{"veto": {"statement": "<digest>", "reason": "…"}}`,
`{"revoke": {"what": "pass", "target": "<hash>", "reason": "…"}}`, or carries a signed narrowing
`{"statement": "<text>", "approval": {…}}`. Signed or not, it is latched: stopping must be easier than
starting. Files stay where they are: a press restored from an old backup reads them again.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.errors import Refusal
from presspass.core.limits import JSON_BODY_BYTES_MAX
from presspass.core.statement import (
    FreezeBody,
    Intent,
    RevocationBody,
    Statement,
    revoked_in,
)
from presspass.core.strict import Members

_LOG = logging.getLogger("presspass.press")
_FILES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Dropped:
    """One narrowing as found. `what`: freeze, veto, or of REVOCABLE; `target`: project ("" for all), statement digest,
    or what is revoked. `denies`: a freeze that vetoes everything open of its target, too.
    """

    id: str
    what: str
    target: str
    reason: str
    statement: Statement | None = None
    approval: Approval | None = None
    denies: bool = False


@dataclass(slots=True)
class DropBox:
    """Looks into the folder; each file's content is read once per run of the press."""

    folder: Path
    _seen: set[tuple[str, int, int]] = field(default_factory=set)

    def look(self) -> list[Dropped]:
        """Narrowings in files that are new or have changed since the last look; unreadable ones are logged."""
        found = []
        for path in sorted(self.folder.glob("*.json"))[:_FILES_MAX] if self.folder.is_dir() else ():
            try:
                # Not blocking: whoever may write here must not be able to hold the press up with a pipe.
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    status = os.fstat(descriptor)
                    mark = (path.name, status.st_mtime_ns, status.st_size)
                    if mark in self._seen or not stat.S_ISREG(status.st_mode):
                        continue
                    data = _read(descriptor)
                finally:
                    os.close(descriptor)
                found.append(read_dropped(data, f"{mark[0]}\n{mark[1]}\n"))
                self._seen.add(mark)
            except Refusal as refusal:
                self._seen.add(mark)
                _LOG.error(
                    "the drop box has a file that says nothing (%s): %s", path.name, refusal.message
                )
            except OSError as error:
                _LOG.warning(
                    "the drop box has a file that cannot be read (%s): %s",
                    path.name,
                    error.strerror,
                )
        return found


def _read(descriptor: int) -> bytes:
    data = b""
    while len(data) <= JSON_BODY_BYTES_MAX and (
        chunk := os.read(descriptor, JSON_BODY_BYTES_MAX + 1)
    ):
        data += chunk
    return data


def _reason(members: Members, value: object) -> str:
    """Why, if it is said: a stop without a reason is a stop."""
    said = isinstance(value, dict) and "reason" in value
    return members.text("reason", chars_max=1000, empty=True) if said else ""


def read_dropped(data: bytes, place: str = "") -> Dropped:
    """One file's content; refuses with `statement.malformed`.

    A signed narrowing is known by its statement, whichever way it comes. One that nobody signed has no nonce: it is
    known by its content and its `place`, so that the same words in a later file stop publishing again.
    """
    try:
        value = json.loads(data) if len(data) <= JSON_BODY_BYTES_MAX else None
    except (ValueError, RecursionError):
        value = None
    id = sha256_hex(place.encode("utf-8", "surrogateescape") + data)
    if isinstance(value, dict) and "statement" in value:
        return _signed(Members(value, "dropped narrowing"))
    members = Members(value, "dropped narrowing")
    if isinstance(value, dict) and "veto" in value:
        inner = Members(members.take("veto"), "veto")
        dropped = Dropped(id, "veto", inner.sha256("statement"), _reason(inner, value["veto"]))
    elif isinstance(value, dict) and "revoke" in value:
        inner = Members(members.take("revoke"), "revocation")
        what, target = revoked_in(inner)
        dropped = Dropped(id, what, target, _reason(inner, value["revoke"]))
    else:
        told = members.take("freeze")
        inner = Members(told, "freeze")
        project = (
            inner.text("project", empty=True)
            if isinstance(told, dict) and "project" in told
            else ""
        )
        denies = inner.has("deny_open") and inner.boolean("deny_open")
        reason = _reason(inner, told)
        dropped = Dropped(id, "freeze", project.strip(), reason, denies=denies)
    inner.done()
    members.done()
    return dropped


def set_freeze(statement: Statement, body: FreezeBody, approval: Approval) -> Dropped:
    """A freeze that somebody has signed, whichever way it came."""
    return Dropped(
        statement.digest, "freeze", body.project, body.reason, statement, approval, body.deny_open
    )


def _signed(members: Members) -> Dropped:
    text = members.take("statement")
    statement = Statement.from_bytes(
        text.encode("utf-8", "replace") if isinstance(text, str) else b""
    )
    approval = Approval.from_json(members.take("approval"))
    members.done()
    body, digest = statement.body, statement.digest
    if isinstance(body, FreezeBody) and body.action == "set":
        return set_freeze(statement, body, approval)
    if isinstance(body, RevocationBody) and statement.intent is Intent.APPROVE:
        return Dropped(digest, body.what, body.target, body.reason, statement, approval)
    if statement.intent is not Intent.VETO:
        members.refuse("neither vetoes nor freezes nor revokes")
    approve = statement.with_intent(Intent.APPROVE)
    return Dropped(
        statement.digest, "veto", approve.digest, "vetoed by the drop box", statement, approval
    )
