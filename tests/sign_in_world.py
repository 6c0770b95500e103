"""A gate where people sign in: a roster whose details are known, a provider that can lie, and a browser in few lines.

The certified provider is in `people_provider`; this one answers whatever a test tells it to.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import sqlalchemy as sa

from gateway_world import ORIGIN, HttpAnswer, JournalFixture, World
from presspass.core.digests import canonical
from presspass.core.policy import Policy
from presspass.core.roster import Details, Person, Roster
from presspass.drill.world.issuer import DISCOVERY_PATH, JWKS_PATH, Issuer
from presspass.drill.world.loopback import Request, Response
from presspass.services.config import Dial, SignIn, write_config
from presspass.store import journal_tables as j

CLIENT_ID, SECRET = "presspass-at-team", "s3cret of/this+client"
GROUPS = {
    "ada": ("role:admin",),
    "grace": (),
    "rita": ("role:requester",),
    "otto": ("role:auditor",),
}


class HostileProvider(Issuer):
    """The world's issuer with an authorization code flow. `claims` replace those of the next ID tokens, `token` the
    whole token, `describes` members of the description; `asked` keeps what came to the token endpoint.
    """

    def __init__(self) -> None:
        super().__init__(seed=3, clock=SimpleNamespace(wall=time.time, monotonic=time.monotonic))  # type: ignore[arg-type]  # the machine's clock, in the world's words
        self.nonces: dict[str, str] = {}
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.token: str | None = None
        self.describes: dict[str, Any] = {}
        self.keys: dict[str, Any] | None = None
        self.asked: list[tuple[dict[str, str], dict[str, str]]] = []
        self.answer_to_code: Response | None = None

    def answer(self, request: Request) -> Response:
        if request.path == DISCOVERY_PATH:
            found = {
                "issuer": self.url,
                "jwks_uri": self.url + JWKS_PATH,
                "authorization_endpoint": f"{self.url}/auth?tenant=1",
                "token_endpoint": f"{self.url}/token",
            }
            return _json(found | self.describes)
        if request.path == JWKS_PATH and self.keys is not None:
            return _json(self.keys)
        if request.path == "/token":
            return self._redeem(request)
        return super().answer(request)

    def _redeem(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode()))
        self.asked.append((form, request.headers))
        if self.answer_to_code is not None:
            return self.answer_to_code
        nonce = self.nonces.pop(form.get("code", ""), None)
        if nonce is None:
            return _json({"error": "invalid_grant"}, 400)
        token = self.token or self.id_token(nonce)
        return _json({"access_token": "unused", "token_type": "Bearer", "id_token": token})

    def id_token(self, nonce: str, **claims: Any) -> str:
        """An ID token as it should be, but for the lies of this provider and of `claims`."""
        honest = {"aud": CLIENT_ID, "sub": "subject-of-ada", "nonce": nonce}
        return self.mint(honest | self.claims | claims, header=self.header)


@dataclass
class PeopleJournal(JournalFixture):
    """A journal whose roster has details that open, and groups."""

    details: dict[str, Details] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def roster(self) -> Roster:
        people = [
            Person(
                person,
                self.details[person].commitment,
                self.groups.get(person, ()),
                tuple(sorted(keys, key=lambda key: key.id)),
            )
            for person, keys in sorted(self.people.items())
        ]
        return Roster(tuple(people))

    def keep_details(self) -> None:
        """What the press has admitted of people."""
        known = {one.commitment: canonical(one.to_json()) for one in self.details.values()}
        rows = [{"commitment": key, "details": data} for key, data in known.items()]
        self.write(
            sa.delete(j.PERSON_DETAILS), *(sa.insert(j.PERSON_DETAILS).values(r) for r in rows)
        )


class SignInWorld(World):
    """`with SignInWorld(home, provider) as world:`; ada (admin), grace (usual roles), rita, otto are in the roster."""

    def __init__(self, home: Path, provider: HostileProvider | None = None) -> None:
        super().__init__(home, sealed=False)
        if provider is not None:
            port = int(urlsplit(provider.url).port or 0)
            sign_in = SignIn(provider.url, CLIENT_ID, "openid")
            self.config = replace(self.config, dial=Dial((port,)), sign_in=sign_in)
            write_config(home, self.config)
            secret = home / "gateway" / "sign-in.secret"
            secret.touch(0o600)
            secret.write_text(SECRET + "\n")
        self.provider = provider
        self.journal.writer.close()
        self.journal = PeopleJournal(
            self.journal.place, Policy(approval_life_s=3600, software_keys=True)
        )
        issuer = provider.url if provider else "https://id.example"
        self.journal.details = {
            person: Details(
                person.capitalize(),
                (f"mailto:{person}@people.example",),
                (f"oidc:{issuer}#subject-of-{person}",),
                "6" * 32,
            )
            for person in GROUPS
        }
        self.journal.groups = dict(GROUPS)
        from presspass.drill.world.keys import SoftwarePasskey

        self.passkeys = {name: SoftwarePasskey.generate(n) for n, name in enumerate(GROUPS, 1)}
        self.ada, self.grace = self.passkeys["ada"], self.passkeys["grace"]
        self.journal.seal({name: [one.key] for name, one in self.passkeys.items()})
        self.journal.keep_details()

    def without(self, person: str) -> None:
        """Somebody leaves the roster."""
        left = {name: keys for name, keys in self.journal.people.items() if name != person}
        self.journal.set_roster(left)


class Browser:
    """Cookies and headers as a browser on the gate's own pages sends them."""

    def __init__(self, world: SignInWorld) -> None:
        self.world = world
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> HttpAnswer:
        return self._keep(self.world.ask("GET", path, None, Cookie=self._cookie(), **headers))

    def post(self, path: str, value: Mapping[str, Any], **headers: str) -> HttpAnswer:
        own = {"Content-Type": "application/json", "Origin": ORIGIN, **headers}
        return self._keep(self.world.ask("POST", path, dict(value), Cookie=self._cookie(), **own))

    def leave(self, back_to: str = "/c") -> dict[str, str]:
        """Begins a sign-in; what the browser would take along to the provider."""
        answer = self.get(f"/sign-in/start?next={back_to}")
        assert answer.status == 303, answer.body
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        return {name: values[0] for name, values in query.items()}

    def arrive(self, **query: str) -> HttpAnswer:
        """Comes back from the provider."""
        from urllib.parse import urlencode

        return self.get(f"/sign-in/callback?{urlencode(query)}", Accept="application/json")

    def sign_in(self, person: str = "ada", **claims: Any) -> HttpAnswer:
        """The whole way by an honest provider, as `person`."""
        provider = self.world.provider
        assert provider is not None
        sent = self.leave()
        provider.nonces["code-1"] = sent["nonce"]
        provider.claims = {"sub": f"subject-of-{person}", **claims}
        return self.arrive(code="code-1", state=sent["state"])

    @property
    def who(self) -> dict[str, Any]:
        """Who is signed in; {} for nobody."""
        answer = self.get("/api/v1/session")
        return dict(answer.json) if answer.status == 200 else {}

    def _cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def _keep(self, answer: HttpAnswer) -> HttpAnswer:
        for line in answer.headers.get("set-cookie", "").split("\n"):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0].strip('"')
            if name and value:
                self.cookies[name] = value
            elif name:
                self.cookies.pop(name, None)
        return answer


def at_their_time(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Claims whose times are given as a `timedelta` from now: a test may run long after it was collected."""
    now = int(time.time())
    return {
        name: now + int(value.total_seconds()) if isinstance(value, timedelta) else value
        for name, value in claims.items()
    }


def basic_of(headers: Mapping[str, str]) -> str:
    """user:password of a Basic header, as sent."""
    return base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()


def _json(value: object, status: int = 200) -> Response:
    return Response(status, json.dumps(value).encode(), "application/json")
