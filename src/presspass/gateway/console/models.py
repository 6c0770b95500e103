"""What the console is given: plain frozen values, and the one protocol by which it asks for them.

Nothing here reads a database or checks a signature. Whoever fills these values (the gateway) says what it knows;
what it does not know is None or empty, and the pages then say so in words.
Times are whole milliseconds since the epoch (`…_ms`). Digests and key fingerprints are 64 hex digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from presspass.core.lifecycle import State
from presspass.core.quorum import Electorate, Tally
from presspass.core.statement import ChainedBody, Intent, ReleaseFile, UpstreamBody
from presspass.store.journal_view import Decision, Narrowing


@dataclass(frozen=True, slots=True)
class Situation:
    """What every page tells beside its own matter.

    `software_keys`: the policy in force lets keys count that verify nobody. `zones_separated`: each process runs as
    its own user of the operating system. `names`: people's names by their pseudonymous ids, as far as known.
    """

    sealed: bool
    narrowings: tuple[Narrowing, ...] = ()
    software_keys: bool = False
    zones_separated: bool = True
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, person: str) -> str:
        """How to call this person: by name where it is known, else by the id."""
        return self.names.get(person, person)


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """One signature that the gateway has received and verified. `note`: the reason that came along, itself unsigned."""

    key: str
    intent: Intent
    received_ms: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ballot:
    """A statement put before people. `statement`: canonical bytes with intent "approve"; the veto's follow from it."""

    statement: bytes
    electorate: Electorate
    tally: Tally
    signatures: tuple[SignatureFacts, ...] = ()
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """One set of files. `report`: the inspector's bytes (hostile); `upstream_body`: None while it is not in force."""

    id: str
    upstream: str
    project: str
    version: str
    requester: str
    state: State
    opened_ms: int
    files: tuple[ReleaseFile, ...]
    code: str = ""
    reason: str = ""
    upstream_body: UpstreamBody | None = None
    report: bytes | None = None
    ballot: Ballot | None = None
    proofs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """A statement of another kind than release.

    `state` is the press's: "" (not seen), seen, admitted, rejected, expired.
    `before`: what it is compared with, by the name of the chain (`core.effects`): what is in force of everything that
    it changes; for what was admitted, what was in force before it. Where nothing is said of the roster or policy, the
    electorate's is meant. `narrowings`: those that it would end, also where they have ended.
    """

    digest: str
    ballot: Ballot
    state: str = ""
    code: str = ""
    message: str = ""
    before: Mapping[str, ChainedBody] = field(default_factory=dict)
    narrowings: tuple[Narrowing, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseLine:
    """One release in the list. `worst`: highest severity of its findings, "" while there is no report."""

    id: str
    upstream: str
    project: str
    version: str
    requester: str
    state: State
    opened_ms: int
    code: str = ""
    worst: str = ""
    needed: int = 0
    counted: int = 0


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One other statement in the list. `title`: what it does; `settled`: admitted, rejected, expired or stale."""

    digest: str
    kind: str
    title: str
    created_ms: int
    state: str = ""
    settled: bool = False
    needed: int = 0
    counted: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything the list page shows, newest first."""

    releases: tuple[ReleaseLine, ...] = ()
    requests: tuple[RequestLine, ...] = ()


class Deps(Protocol):
    """What the console needs of the gateway. Calls may block: they run in worker threads, several at a time."""

    @property
    def origin(self) -> str:
        """The exact origin of the console, e.g. "https://gate.example"."""
        ...

    def situation(self) -> Situation:
        """What holds now, for the banners."""
        ...

    def release(self, release_id: str) -> ReleaseFacts | None:
        """The release with this capability, or None."""
        ...

    def request(self, digest: str) -> RequestFacts | None:
        """The request for signatures with this digest; None when there is none or when it is a release's."""
        ...

    def overview(self) -> Overview:
        """What waits, what runs, what went out. Only asked for by holders of a view token."""
        ...

    def view_token_until(self, token: str) -> int | None:
        """Until when (ms) this view token lets its holder look; None when it is unknown or over."""
        ...
