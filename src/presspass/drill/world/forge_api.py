"""A stand-in for the REST API of a forge, as far as the press calls it: it takes what GitHub and GitLab document, or
says why not. It keeps what it was told and does nothing else; no forge runs here.

GitHub: docs.github.com, REST API, "Create a commit status" and "Create a repository dispatch event" (2022-11-28).
GitLab: docs.gitlab.com, "Set commit pipeline status" and "Trigger a pipeline with a token" (API v4).
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from presspass.drill.world.loopback import LoopbackServer, Request, Response

_GITHUB = re.compile(r"/repos/([\w.-]+/[\w.-]+)/(statuses/([0-9a-f]{40})|dispatches)")
_GITLAB = re.compile(r"/api/v4/projects/([0-9]+)/(statuses/([0-9a-f]{40})|trigger/pipeline)")
_DESCRIPTION_MAX = 140
_PAYLOAD_MAX = 10


@dataclass
class Told:
    """What the forge was told, in order. `statuses`: (repository or project, commit, body)."""

    statuses: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


class ForgeApi(LoopbackServer):
    """`with ForgeApi("token") as api:`; `api.failing` answers that many calls with 503 first."""

    def __init__(self, token: str, trigger_token: str = "") -> None:
        super().__init__()
        self.told = Told()
        self.failing = 0
        self.asked = 0
        self._token = token
        self._trigger_token = trigger_token
        self._lock = threading.Lock()

    def states(self) -> list[str]:
        """The states of all statuses, in order."""
        with self._lock:
            return [str(body["state"]) for _, _, body in self.told.statuses]

    def answer(self, request: Request) -> Response:
        """See LoopbackServer.answer."""
        with self._lock:
            self.asked += 1
            if self.failing > 0:
                self.failing -= 1
                return Response(503, b"try again later\n")
            for shape, take in ((_GITHUB, self._github), (_GITLAB, self._gitlab)):
                match = shape.fullmatch(request.path)
                if match is not None and request.method == "POST":
                    return take(request, match)
        return Response(404, b"not found\n")

    def _github(self, request: Request, match: re.Match[str]) -> Response:
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return Response(401, b"bad credentials\n")
        if request.headers.get("accept") != "application/vnd.github+json":
            return Response(415, b"which media type?\n")
        body = json.loads(request.body)
        if match[2] == "dispatches":
            if (
                set(body) != {"event_type", "client_payload"}
                or len(body["client_payload"]) > _PAYLOAD_MAX
            ):
                return Response(422, b"not what is documented\n")
            self.told.events.append((match[1], body))
            return Response(204)
        sound = set(body) == {"state", "target_url", "description", "context"} and (
            body["state"] in ("error", "failure", "pending", "success")
            and len(body["description"]) <= _DESCRIPTION_MAX
        )
        if not sound:
            return Response(422, b"not what is documented\n")
        self.told.statuses.append((match[1], match[3], body))
        return Response(201, b"{}", "application/json")

    def _gitlab(self, request: Request, match: re.Match[str]) -> Response:
        if match[2] == "trigger/pipeline":
            form = dict(parse_qsl(request.body.decode()))
            if form.get("token") != self._trigger_token or not form.get("ref"):
                return Response(404, b"not found\n")
            self.told.events.append((match[1], form))
            return Response(201, b"{}", "application/json")
        if request.headers.get("private-token") != self._token:
            return Response(401, b"unauthorized\n")
        body = json.loads(request.body)
        if body.get("state") not in (
            "pending",
            "running",
            "success",
            "failed",
            "canceled",
            "skipped",
        ):
            return Response(400, b"state does not have a valid value\n")
        last = [
            one["state"] for id, sha, one in self.told.statuses if (id, sha) == (match[1], match[3])
        ]
        if last[-1:] == [body["state"]] == ["pending"]:
            return Response(400, b"Cannot transition status via :enqueue from :pending\n")
        self.told.statuses.append((match[1], match[3], body))
        return Response(201, b"{}", "application/json")
