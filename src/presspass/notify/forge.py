"""The forge at which a release began: a status at its commit, and an event by which the project goes on afterwards.

GitHub's and GitLab's REST APIs as they are documented: `POST /repos/{owner}/{repo}/statuses/{sha}` and `/dispatches`;
`POST /projects/{id}/statuses/{sha}` and `/trigger/pipeline`. What a forge is told decides nothing here, and what it
answers is not read beyond its status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx2

from presspass.notify import Message

#: What stands before the name of a forge in an address that notices go to.
SCHEME: Final = "forge:"
#: Subjects of notices to a forge; a status is followed by its state.
STATUS, FOLLOW_UP = "status", "follow-up"
#: The states that we tell are called as GitHub calls them; GitLab's word differs for one.
_GITLAB_STATES: Final = {"failure": "failed"}
_CONTEXT: Final = "presspass"
_TIMEOUT_S: Final = 10
_DESCRIPTION_CHARS_MAX: Final = 140
_ANSWER_BYTES_MAX: Final = 64 * 1024
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ALREADY: Final = "Cannot transition status"  # GitLab's answer to a status that is set already


@dataclass(frozen=True, slots=True)
class Call:
    """What a forge is told about one release. `project_id`: GitLab's id of the project, "" elsewhere."""

    repository: str
    project_id: str
    commit: str
    state: str
    description: str
    url: str
    release: str
    project: str
    version: str

    def to_text(self) -> str:
        """As the body of a notice."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Call:
        """Reads what `to_text` wrote; OSError for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise OSError(f"this is no message to a forge: {error}") from None


@dataclass(frozen=True, slots=True)
class Forge:
    """`issuer`: the workloads it is told about; `repositories`: these alone, or () for all of them; `follow_up`: event
    type of a repository_dispatch (GitHub), or the ref of the pipeline that is triggered (GitLab), "" for neither.
    """

    name: str
    provider: str
    issuer: str
    api_url: str
    token: str
    repositories: tuple[str, ...] = ()
    follow_up: str = ""
    trigger_token: str = ""

    @property
    def address(self) -> str:
        """What notices to it are addressed to."""
        return SCHEME + self.name

    def serves(self, issuer: str, repository: str) -> bool:
        """Whether releases of this workload are told here."""
        named = not self.repositories or repository in self.repositories
        return issuer == self.issuer and named

    def accepts(self, address: str) -> bool:
        """Its own address alone."""
        return address == self.address

    def deliver(self, message: Message, now_s: int) -> None:
        """Sends one; OSError unless the forge takes it."""
        call = Call.from_text(message.body)
        if not _SHA.fullmatch(call.commit):
            raise OSError("the workload's commit is not named by a whole id")
        make = self._follow_up if message.subject == FOLLOW_UP else self._status
        path, more = make(call)
        self._post(path, **more)

    def _status(self, call: Call) -> tuple[str, dict[str, Any]]:
        told = {"target_url": call.url, "description": call.description[:_DESCRIPTION_CHARS_MAX]}
        if self.provider == "gitlab":
            state = _GITLAB_STATES.get(call.state, call.state)
            path = f"{_project(call)}/statuses/{call.commit}"
            return path, {"json": {**told, "state": state, "name": _CONTEXT}}
        path = f"{_repository(call)}/statuses/{call.commit}"
        return path, {"json": {**told, "state": call.state, "context": _CONTEXT}}

    def _follow_up(self, call: Call) -> tuple[str, dict[str, Any]]:
        told = {
            "release": call.release, "url": call.url, "project": call.project, "version": call.version,
            "state": "published" if call.state == "success" else "rejected", "sha": call.commit,
        }  # fmt: skip
        if self.provider == "gitlab":
            # Not PRESSPASS_URL: to our own commands that is the gate's address.
            named = {"release_url" if name == "url" else name: text for name, text in told.items()}
            variables = {f"variables[PRESSPASS_{name.upper()}]": named[name] for name in named}
            form = {"token": self.trigger_token, "ref": self.follow_up, **variables}
            return f"{_project(call)}/trigger/pipeline", {"data": form}
        body = {"event_type": self.follow_up, "client_payload": told}
        return f"{_repository(call)}/dispatches", {"json": body}

    def _post(self, path: str, **more: Any) -> None:
        try:
            with httpx2.stream(
                "POST", self.api_url.rstrip("/") + path, headers=self._headers(), timeout=_TIMEOUT_S,
                trust_env=False, **more,
            ) as answer:  # fmt: skip
                if answer.is_success:
                    return
                said = b"".join(_some(answer))
                status = answer.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        if status == 400 and self.provider == "gitlab" and _ALREADY.encode() in said:
            return
        raise OSError(f"the forge answered {status}")

    def _headers(self) -> Mapping[str, str]:
        if self.provider == "gitlab":
            return {"PRIVATE-TOKEN": self.token}
        return {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }


def _repository(call: Call) -> str:
    owner, slash, name = call.repository.partition("/")
    if not slash or not owner or not name or "/" in name or {owner, name} & {".", ".."}:
        raise OSError("the workload's repository is not OWNER/NAME")
    return f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}"


def _project(call: Call) -> str:
    if not call.project_id.isascii() or not call.project_id.isdigit():
        raise OSError("the workload's project has no numeric id")
    return f"/projects/{call.project_id}"


def _some(answer: httpx2.Response) -> list[bytes]:
    """The beginning of an answer: no forge makes us read on and on."""
    found: list[bytes] = []
    size = 0
    for piece in answer.iter_bytes():
        found.append(piece)
        size += len(piece)
        if size > _ANSWER_BYTES_MAX:
            break
    return found
