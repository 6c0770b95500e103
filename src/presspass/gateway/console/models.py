"""What the console is given: plain frozen values, and the one protocol by which it asks for them.

Nothing here reads a database or checks a signature. Whoever fills these values (the gateway) says what it knows;
what it does not know is None or empty, and the pages then say so in words.
Times are whole milliseconds since the epoch (`…_ms`). Digests and key fingerprints are 64 hex digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from presspass.core.delegation import DelegationBody
from presspass.core.errors import Refusal
from presspass.core.findings import Severity
from presspass.core.lifecycle import State
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.quorum import Electorate, Tally
from presspass.core.risk import Waiting
from presspass.core.standing import StandingBody
from presspass.core.statement import ChainedBody, Intent, ReleaseFile, UpstreamBody
from presspass.store.journal_view import Decision, Narrowing, StandingUse
from presspass.verify.history import Words


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, where somebody is signed in. `how`: oidc or passkey; `roles`: their names, in order."""

    person: str
    name: str
    how: str
    roles: tuple[str, ...]
    until_ms: int
    sees_everything: bool
    may_ask: bool

    @property
    def sees_people(self) -> bool:
        """Whether names, addresses and ids of everybody are for this one to read."""
        return self.may_ask or "auditor" in self.roles


@dataclass(frozen=True, slots=True)
class Situation:
    """What every page tells beside its own matter.

    `software_keys`: the policy in force lets keys count that verify nobody. `zones_separated`: each process runs as
    its own user of the operating system. `names`: people's names by their pseudonymous ids, as far as known. `viewer`:
    who is signed in in the browser that asks; None where nobody is.
    """

    sealed: bool
    narrowings: tuple[Narrowing, ...] = ()
    software_keys: bool = False
    zones_separated: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    viewer: Viewer | None = None

    def name(self, person: str) -> str:
        """How to call this person: by name where it is known, else by the id."""
        return self.names.get(person, person)


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """One signature that the gateway has received and verified. `note`: the reason that came along, itself unsigned;
    `revoked`: a stop stands against this very signature.
    """

    key: str
    intent: Intent
    received_ms: int
    note: str = ""
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Ballot:
    """A statement put before people. `statement`: canonical bytes with intent "approve"; the veto's follow from it."""

    statement: bytes
    electorate: Electorate
    tally: Tally
    signatures: tuple[SignatureFacts, ...] = ()
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class WorkflowFacts:
    """The workflow file of the run that asked. SHA-256 of what `ran`, of what was `bound` before this release, and of
    what people `named` when they bound the publisher; `contents`: bytes (hostile) by SHA-256, as far as they are kept.
    `rebound`: approving this release has bound what ran.
    """

    path: str
    ran: str
    bound: str
    named: str
    contents: Mapping[str, bytes] = field(default_factory=dict)
    rebound: bool = False

    @property
    def changed(self) -> bool:
        """Whether what ran is another than what people had bound."""
        return self.ran != self.bound


@dataclass(frozen=True, slots=True)
class ActFacts:
    """A bot that asks on a person's behalf. `used`: releases under the delegation before this one."""

    bot: str
    person: str
    delegation: str
    used: int
    count: int
    not_after_ms: int
    version_kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AskerFacts:
    """The workload that asked for a release, as its token says (`ids`, names, run), and what the press made of it.

    `press`: verified, waiting or refused, with `code` and `message`; `against`: why it does not count as one of the two
    identities (`store.journal_view.reservations`), None while there is no request; `actor`: the forge's id of whoever
    started the run; `stopped`: stops in force against it: (what, reason).
    """

    publisher: str
    publisher_statement: str
    token: str
    identity: str
    run_key: str
    issuer: str = ""
    provider: str = ""
    repository: str = ""
    ids: tuple[tuple[str, str], ...] = ()
    ref: str = ""
    ref_protected: bool | None = None
    event: str = ""
    environment: str = ""
    run: str = ""
    commit: str = ""
    actor: str = ""
    press: str = "waiting"
    code: str = ""
    message: str = ""
    against: tuple[str, ...] | None = None
    workflow: WorkflowFacts | None = None
    act: ActFacts | None = None
    stopped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """One set of files. `report`: the inspector's bytes (hostile); `upstream_body`: None while it is not in force;
    `asker`: the workload that asked, None where a person uploaded; `note`: what was said with the files (hostile);
    `use`: how it passed under a standing approval, None where it did not; `to_be_read`: afterwards, and nobody has.
    """

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
    asker: AskerFacts | None = None
    note: str = ""
    use: StandingUse | None = None
    to_be_read: bool = False


@dataclass(frozen=True, slots=True)
class Gist:
    """What a report comes to. `review`: its digest; `alike`: equal where the same changes, name and version of the
    package aside, "" where nothing can be said; `odd`: messages of findings at medium or above, a few of them.
    """

    review: str
    worst: Severity | None
    odd: tuple[str, ...]
    summary: str
    baseline: str
    alike: str
    version_kind: str


@dataclass(frozen=True, slots=True)
class PlannedFacts:
    """One release of a plan, and how it stands by the signatures under itself and under plans. `reached`: enough."""

    release: str
    digest: str
    project: str
    version: str
    upstream: str
    requester: str
    state: State
    needed: int
    counted: int
    reached: bool
    gist: Gist
    workflow_changed: bool = False
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a plan names. `releases`: those that the gateway has; `missing`: how many it has not; `samples`: reports
    (hostile) of the releases whose difference is shown, by the id of the release.
    """

    releases: tuple[PlannedFacts, ...]
    order: str
    missing: int = 0
    samples: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """A statement of another kind than release.

    `state` is the press's: "" (not seen), seen, admitted, rejected, expired.
    `before`: what it is compared with, by the name of the chain (`core.effects`): what is in force of everything that
    it changes; for what was admitted, what was in force before it. Where nothing is said of the roster or policy, the
    electorate's is meant. `narrowings`: those that it would end, also where they have ended. `plan`: of a plan alone.
    """

    digest: str
    ballot: Ballot
    state: str = ""
    code: str = ""
    message: str = ""
    before: Mapping[str, ChainedBody] = field(default_factory=dict)
    narrowings: tuple[Narrowing, ...] = ()
    plan: PlanFacts | None = None


@dataclass(frozen=True, slots=True)
class ReleaseLine:
    """One release in the list. `worst`: highest severity of its findings, "" while there is no report. `first`,
    `unusual`: nothing of the package was published before, what is unusual about the version; of what waits alone.
    """

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
    first: bool = False
    unusual: tuple[str, ...] = ()

    @property
    def waiting(self) -> Waiting:
        """What counts for its place in the list."""
        highest = Severity(self.worst) if self.worst else None
        return Waiting(highest, bool(self.unusual), self.first, since_ms=self.opened_ms)


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
    """Everything the list page shows, newest first. `left_out`: how many more wait, none with a higher finding."""

    releases: tuple[ReleaseLine, ...] = ()
    requests: tuple[RequestLine, ...] = ()
    to_read: tuple[UseLine, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class UseLine:
    """A release that passed under the standing approval `standing`. `release`: the id of its page, "" where it is not
    known; times in milliseconds; `due_ms`: until when it is to be read, None where it was not chosen; `read_by`: an id.
    """

    release: str
    standing: str
    project: str
    version: str
    at_ms: int
    due_ms: int | None
    read_ms: int | None
    read_by: str


@dataclass(frozen=True, slots=True)
class PastLine:
    """A release of the past, held against the bounds of a standing approval. `why`: what is beyond, "" for nothing."""

    release: str
    project: str
    version: str
    at_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class StandingFacts:
    """A standing approval. `state`: in force, over, retired or ended (then with its `stop`); `today`, `in_all`: how
    many have passed under it in 24 hours, and ever; `uses`: the newest of them; `past`: what it would have let through.
    """

    name: str
    body: StandingBody
    state: str
    stop: Narrowing | None
    today: int
    in_all: int
    uses: tuple[UseLine, ...] = ()
    past: tuple[PastLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Revocable:
    """Something that one person can revoke. `what` and `target` as a statement has them; `facts`: (name, value) pairs;
    `stopped`: it is revoked already.
    """

    what: str
    target: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class StopLine:
    """Something that is stopped: a freeze, a revocation, a limited publisher. `title` says of what; `by`: a person's
    id; `latched`: the press has journalled it.
    """

    id: str
    what: str
    target: str
    title: str
    by: str
    reason: str
    since_ms: int
    latched: bool = True


@dataclass(frozen=True, slots=True)
class SignerFacts:
    """A key of the roster that can sign a revocation. `credential`: WebAuthn's, "" for keys that sign at a terminal."""

    person: str
    key: str
    kind: str
    credential: str


@dataclass(frozen=True, slots=True)
class Identities:
    """Everything that can be revoked and everything that is; and what a statement that does so has to name.

    `rows`: by kind, in the order of `core.statement.REVOCABLE`; `left_out`: how many more of a kind there are.
    """

    genesis: str
    space: str
    heads: Mapping[str, str]
    now_s: int
    life_s: int
    rows: Mapping[str, tuple[Revocable, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    stops: tuple[StopLine, ...] = ()
    signers: tuple[SignerFacts, ...] = ()
    projects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ActLine:
    """One act of the press. `release`: the id of its page, "" for what is no release; `outcome` as in
    `verify.history.outcome`; `policies`: numbers of those that counted; `signers`: person, key and kind of each
    signature; `positions`: of its entries in the ledger.
    """

    at_ms: int
    kind: str
    title: str
    outcome: str
    digest: str
    release: str
    upstream: str
    publisher: str
    workflow: str
    workflow_sha256: str
    policies: tuple[int, ...]
    signers: tuple[tuple[str, str, str], ...]
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class History:
    """A page of an answer, newest first. `further`: where the next one begins, "" for none; `refusal`: why there is no
    answer, None where there is one.
    """

    acts: tuple[ActLine, ...] = ()
    further: str = ""
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class PackageLine:
    """One package that this gate knows. `mode`: how its upstream is published to, "" while that is not in force;
    `publishers`: names of those that may ask for it; `sets`: how many there were, all states; `last`: the newest that
    went out, else the newest, None where there was none.
    """

    upstream: str
    project: str
    mode: str
    publishers: tuple[str, ...] = ()
    sets: int = 0
    last: ReleaseLine | None = None


@dataclass(frozen=True, slots=True)
class Packages:
    """A page of packages by name. `further`: the name after which the next page begins, "" for none."""

    lines: tuple[PackageLine, ...] = ()
    further: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """Releases of one day (UTC), which begins at `start_ms`: how many were asked for, went out, and ended otherwise."""

    start_ms: int
    asked: int = 0
    published: int = 0
    ended: int = 0


@dataclass(frozen=True, slots=True)
class Activity:
    """What went on in the last days, oldest day first. `waits_ms`: of each release, from the press's first sight until
    enough people had signed; `people`: (id, signatures under what was carried out), most first; `refusals`: (code,
    releases that ended with it), most first; `partial`: there were more releases than are counted.
    """

    days: tuple[Day, ...]
    waits_ms: tuple[int, ...] = ()
    people: tuple[tuple[str, int], ...] = ()
    refusals: tuple[tuple[str, int], ...] = ()
    partial: bool = False


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """A policy that is or was in force. `digest`: of the statement that brought it, as its page is called; `number`:
    genesis' is 1.
    """

    number: int
    digest: str
    since_ms: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class InForce:
    """What people have put in force: (digest of its statement, what it holds) by name; policies oldest first."""

    upstreams: tuple[tuple[str, UpstreamBody], ...] = ()
    publishers: tuple[tuple[str, PublisherBody], ...] = ()
    delegations: tuple[tuple[str, DelegationBody], ...] = ()
    policies: tuple[PolicyStep, ...] = ()


class Deps(Protocol):
    """What the console needs of the gateway. Calls may block: they run in worker threads, several at a time."""

    @property
    def origin(self) -> str:
        """The exact origin of the console, e.g. "https://gate.example"."""
        ...

    @property
    def next_origin(self) -> str:
        """Where keys may be enrolled for a move of the gate; "" for nowhere."""
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

    def standings(self) -> tuple[StandingFacts, ...]:
        """Every standing approval, by name."""
        ...

    def overview(self) -> Overview:
        """What waits, what runs, what went out. Only asked for by holders of a view token."""
        ...

    def viewer(self, secret: str) -> Viewer | None:
        """Who is signed in by this session secret, now; None for nobody."""
        ...

    def packages(self, begins: str, after: str) -> Packages:
        """Packages whose name begins like this, by name, beyond `after`."""
        ...

    def versions(self, upstream: str, project: str) -> tuple[ReleaseLine, ...]:
        """The sets of a package, the newest first, as many as a page holds."""
        ...

    def in_force(self) -> InForce | None:
        """What people have put in force; None before genesis."""
        ...

    def activity(self) -> Activity:
        """What went on in the last days. Only asked for by those who may see everything."""
        ...

    def identities(self) -> Identities | None:
        """What can be revoked; None before genesis. Only asked for by those who may see the overview."""
        ...

    def history(self, words: Words, further: str) -> History:
        """What the press has carried out, by these words, from `further` on; for those who may see everything."""
        ...

    def view_token_until(self, token: str) -> int | None:
        """Until when (ms) this view token lets its holder look; None when it is unknown or over."""
        ...
