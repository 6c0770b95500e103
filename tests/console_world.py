"""Hand-made facts for the console's pages, over real packages and real reports, and a small server that shows them.

The server is a stand-in for the gateway's API only: it holds facts in memory and checks signatures with the product's
own verifier. Tests of the whole way use the real gateway instead.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from presspass.core.approval import Approval, Signed
from presspass.core.delegation import DelegationBody
from presspass.core.errors import Refusal
from presspass.core.lifecycle import State
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.quorum import Electorate, count
from presspass.core.roster import Details, Key, Person, Roster, b64u
from presspass.core.statement import (
    Body,
    FreezeBody,
    Heads,
    Intent,
    ReleaseBody,
    ReleaseFile,
    Statement,
    UpstreamBody,
)
from presspass.drill.packages import make_sdist, make_wheel
from presspass.drill.world.keys import SoftwarePasskey
from presspass.gateway.console import (
    ActFacts,
    Activity,
    ActLine,
    AskerFacts,
    Ballot,
    Day,
    History,
    Identities,
    InForce,
    Overview,
    PackageLine,
    Packages,
    PolicyStep,
    ReleaseFacts,
    ReleaseLine,
    RequestFacts,
    RequestLine,
    Revocable,
    SignatureFacts,
    SignerFacts,
    Situation,
    StopLine,
    Viewer,
    WorkflowFacts,
    error_page,
    routes,
    wants_page,
)
from presspass.inspector.engine import inspect
from presspass.store.journal_view import Narrowing
from presspass.verify.approvals import verify_approval
from presspass.verify.history import Words

NOW_S = 1_795_500_000
VIEW_TOKEN = "view-token-of-this-test"  # opens a list of made-up releases on loopback
GENESIS = hashlib.sha256(b"genesis").hexdigest()
HEADS = Heads(GENESIS, GENESIS, GENESIS)
REGISTRY = UpstreamBody(
    name="main-index",
    protocol="pypi",
    upload_url="https://index.example/legacy/",
    index_url="https://index.example/simple/",
    username="__token__",
    mode="custody",
    credential=hashlib.sha256(b"sealed").hexdigest(),
)
NAMES = {
    "alice": "Alice Osei",
    "bob": "Bob Lindqvist",
    "carol": "Carol Tanaka",
    "dave": "Dave Ivers",
}
PASSKEYS = {name: SoftwarePasskey.generate(seed) for seed, name in enumerate(NAMES)}

OLD_CODE = {
    "acme_http/__init__.py": '__version__ = "2.4.0"\n',
    "acme_http/client.py": "".join(f"def call_{n}(url):\n    return url\n\n\n" for n in range(12)),
    "acme_http/retry.py": "def retry(times=3):\n    return times\n",
    "acme_http/legacy.py": "OLD = True\n",
}
NEW_CODE = {
    "acme_http/__init__.py": '__version__ = "2.4.1"\n',
    "acme_http/client.py": OLD_CODE["acme_http/client.py"].replace(
        "def call_5(url):\n    return url",
        "def call_5(url, timeout=30):\n    return (url, timeout)",
    ),
    "acme_http/retry.py": "def retry(times=5):\n    return times\n",
    "acme_http/backoff.py": "def backoff(n):\n    return 2**n\n",
}
PTH = "import sys; sys.presspass_drill = 'inert'\n"
HOSTILE_NAME = "acme_http/\u202egpj.<script>alert(1)<\\script>\u200b.py"
HOSTILE_CODE = (
    "x = \"</td></table><script>document.title='owned'</script>\"\n"
    "# \u202e }\u2066if admin\u2069 \u2066 begin admins only\n"
    '<img src=x onerror="document.title=1">\x07\u200b\ufe0f\n'
)


# --- packages and reports -----------------------------------------------------------------------------------------


def build(
    folder: Path, version: str, wheel: Mapping[str, str], sdist: Mapping[str, str], needs: str
) -> list[Path]:
    """An sdist and a wheel of acme-http; `sdist` lies below src/."""
    folder.mkdir(parents=True)
    extra = "".join(f"Requires-Dist: {one}\n" for one in needs.split())
    below_src = {f"src/{path}": body for path, body in sdist.items()}
    return [
        make_sdist(folder, "acme-http", version, below_src, extra),
        make_wheel(folder, "acme-http", version, dict(wheel), extra),
    ]


def as_files(paths: Sequence[Path]) -> tuple[ReleaseFile, ...]:
    """Names, digests and sizes, in order of name."""
    bodies = {path.name: path.read_bytes() for path in paths}
    return tuple(
        ReleaseFile(name, hashlib.sha256(body).hexdigest(), len(body))
        for name, body in sorted(bodies.items())
    )


def report_on(version: str, candidate: Sequence[Path], baseline: Sequence[Path]) -> bytes:
    """What the inspector says about these files, in canonical bytes."""
    listed = [[file.to_json() for file in as_files(paths)] for paths in (candidate, baseline)]
    request = {
        "project": "acme-http",
        "version": version,
        "candidate": listed[0],
        "baseline": {"version": "2.4.0", "files": listed[1]} if baseline else None,
    }
    ordered = [
        *sorted(candidate, key=lambda path: path.name),
        *sorted(baseline, key=lambda path: path.name),
    ]
    descriptors = [os.open(path, os.O_RDONLY) for path in ordered]
    try:
        return inspect(request, descriptors).to_bytes()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


# --- people and statements ----------------------------------------------------------------------------------------


def person(name: str, *keys: Key) -> Person:
    """A person of the test's roster; without `keys` with the software passkey of that name."""
    details = Details(NAMES[name], (), (), hashlib.sha256(name.encode()).hexdigest()[:32])
    held = keys or (PASSKEYS[name].key,)
    return Person(name, details.commitment, (), tuple(sorted(held, key=lambda key: key.id)))


def passkey_of(name: str) -> Key:
    """The virtual key of `name` as an authenticator in the browser would have enrolled it."""
    return replace(PASSKEYS[name].key, kind="passkey")


def team(*names: str) -> Roster:
    """A roster in which everybody has one passkey."""
    return Roster(tuple(person(name, passkey_of(name)) for name in sorted(names)))


def statement(body: Body, *, previous: str | None = None, nonce: int = 1) -> Statement:
    """A statement of the test's installation."""
    return Statement(
        genesis=GENESIS,
        space="main",
        intent=Intent.APPROVE,
        body=body,
        heads=HEADS,
        previous=previous,
        nonce=f"{nonce:032x}",
        issued_at=NOW_S,
        expires_at=NOW_S + 7 * 86_400,
    )


def ballot(
    made: Statement, roster: Roster, requester: str = "", policy: Policy | None = None
) -> Ballot:
    """`made`, put before `roster`, with no signature yet."""
    electorate = Electorate(made.kind, roster, roster, policy or Policy(), requester)
    return Ballot(made.to_bytes(), electorate, count(electorate, ()))


def release(
    files: Sequence[ReleaseFile],
    report: bytes | None,
    *,
    release_id: str = "r7kq2m",
    version: str = "2.4.1",
    nonce: int = 1,
) -> ReleaseFacts:
    """A release of acme-http that Alice asked for and that waits for somebody else; open when there is no report."""
    facts = ReleaseFacts(
        id=release_id,
        upstream="main-index",
        project="acme-http",
        version=version,
        requester="alice",
        state=State.OPEN,
        opened_ms=NOW_S * 1000,
        files=tuple(files),
        upstream_body=REGISTRY,
    )
    if report is None:
        return facts
    body = ReleaseBody(
        release=release_id,
        upstream=hashlib.sha256(b"upstream").hexdigest(),
        project="acme-http",
        version=version,
        files=tuple(files),
        dist_tags=(),
        requester="alice",
        review=hashlib.sha256(report).hexdigest(),
    )
    asked = ballot(statement(body, nonce=nonce), team("alice", "bob", "carol"), "alice")
    return replace(facts, state=State.AWAITING, report=report, ballot=asked)


def signed_by(
    facts: ReleaseFacts, name: str, intent: Intent = Intent.APPROVE, note: str = ""
) -> ReleaseFacts:
    """`facts` with one more verified signature."""
    assert facts.ballot is not None
    return replace(facts, ballot=with_signature(facts.ballot, PASSKEYS[name].key.id, intent, note))


def with_signature(asked: Ballot, key: str, intent: Intent, note: str = "") -> Ballot:
    """`asked` with one more signature, counted again."""
    one = SignatureFacts(key, intent, (NOW_S + 300) * 1000, note)
    signatures = (*asked.signatures, one)
    approving = [Signed("", s.key, True, 0) for s in signatures if s.intent is Intent.APPROVE]
    return replace(asked, signatures=signatures, tally=count(asked.electorate, approving))


# --- the stand-in gateway -----------------------------------------------------------------------------------------


@dataclass
class World:
    """Facts in memory behind the real pages.

    `accepted`: approvals whose signature verified; `refused`: the codes of the others; `lies`: members that the API's
    answer about a release has instead of the true ones.
    """

    origin: str = "http://localhost:1"
    next_origin: str = ""
    now: Situation = field(default_factory=lambda: Situation(sealed=True, names=NAMES))
    releases: dict[str, ReleaseFacts] = field(default_factory=dict)
    requests: dict[str, RequestFacts] = field(default_factory=dict)
    list_of: Overview = field(default_factory=Overview)
    lies: dict[str, object] = field(default_factory=dict)
    viewers: dict[str, Viewer] = field(default_factory=dict)
    known: Identities | None = None
    done: History = field(default_factory=History)
    named: Packages = field(default_factory=Packages)
    held: InForce | None = None
    went_on: Activity = field(default_factory=lambda: activity())
    words: list[Words] = field(default_factory=list)
    accepted: list[Approval] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def situation(self) -> Situation:
        return self.now

    def release(self, release_id: str) -> ReleaseFacts | None:
        return self.releases.get(release_id)

    def request(self, digest: str) -> RequestFacts | None:
        return self.requests.get(digest)

    def overview(self) -> Overview:
        return self.list_of

    def viewer(self, secret: str) -> Viewer | None:
        return self.viewers.get(secret)

    def packages(self, begins: str, after: str) -> Packages:
        lines = (one for one in self.named.lines if one.project.startswith(begins))
        return replace(self.named, lines=tuple(lines), further="" if after else self.named.further)

    def versions(self, upstream: str, project: str) -> tuple[ReleaseLine, ...]:
        lines = self.list_of.releases
        return tuple(one for one in lines if (one.upstream, one.project) == (upstream, project))

    def in_force(self) -> InForce | None:
        return self.held

    def activity(self) -> Activity:
        return self.went_on

    def identities(self) -> Identities | None:
        return self.known

    def history(self, words: Words, further: str) -> History:
        self.words.append(words)
        return replace(self.done, further="") if further else self.done

    def view_token_until(self, token: str) -> int | None:
        return 4_102_444_800_000 if token == VIEW_TOKEN else None

    def add(
        self,
        body: Body,
        roster: Roster,
        *,
        state: str = "",
        upstream_now: UpstreamBody | None = None,
    ) -> str:
        """Puts a statement other than a release before `roster`; returns its digest."""
        made = statement(body, previous=None if isinstance(body, FreezeBody) else GENESIS)
        before = {f"upstream:{upstream_now.name}": upstream_now} if upstream_now else {}
        self.requests[made.digest] = RequestFacts(
            made.digest, ballot(made, roster), state, before=before
        )
        return made.digest

    # the API, as far as pages use it

    def ballot_of(self, digest: str) -> tuple[str, Ballot]:
        """The release id ("" for another request) and the ballot of this digest."""
        for facts in self.releases.values():
            if facts.ballot and Statement.from_bytes(facts.ballot.statement).digest == digest:
                return facts.id, facts.ballot
        return "", self.requests[digest].ballot

    def show_release(self, request: Request) -> Response:
        facts = self.releases[request.path_params["id"]]
        asked = facts.ballot
        answer: dict[str, object] = {
            "id": facts.id,
            "state": facts.state,
            "reason": facts.reason,
            "request": None,
        }
        if asked is not None:
            answer |= _ballot_json(asked)
            answer["request"] = Statement.from_bytes(asked.statement).digest
        return JSONResponse(answer | self.lies)

    def show_request(self, request: Request) -> Response:
        facts = self.requests[request.path_params["digest"]]
        answer = {"digest": facts.digest, "state": facts.state, "message": facts.message}
        return JSONResponse(answer | _ballot_json(facts.ballot))

    async def approve(self, request: Request) -> Response:
        body, note = await request.body(), request.query_params.get("note", "")
        try:
            return self._approve(request.path_params["digest"], Approval.from_bytes(body), note)
        except Refusal as refusal:
            self.refused.append(refusal.code.value)
            detail = f"{refusal.message} {refusal.hint}".strip()
            return JSONResponse({"detail": detail, "code": refusal.code.value}, 400)

    def _approve(self, digest: str, approval: Approval, note: str) -> Response:
        release_id, asked = self.ballot_of(digest)
        made = Statement.from_bytes(asked.statement)
        veto = made.with_intent(Intent.VETO)
        signed = veto if approval.statement == veto.digest else made
        key = asked.electorate.roster_now.key(approval.key)
        assert key is not None
        verify_approval(signed.to_bytes(), approval, key, origin=self.origin, rp_id="localhost")
        self.accepted.append(approval)
        voted = with_signature(asked, approval.key, signed.intent, note)
        vetoed = signed.intent is Intent.VETO
        if release_id:
            state = State.REJECTED if vetoed else State.APPROVED
            facts = self.releases[release_id]
            self.releases[release_id] = replace(facts, ballot=voted, state=state)
        else:
            so_far = "admitted" if voted.tally.reached else "seen"
            state_now = "rejected" if vetoed else so_far
            self.requests[digest] = replace(self.requests[digest], ballot=voted, state=state_now)
        return JSONResponse({"ok": True})


def _ballot_json(asked: Ballot) -> dict[str, object]:
    made = Statement.from_bytes(asked.statement)
    digests = {
        Intent.APPROVE: made.digest,
        Intent.VETO: made.with_intent(Intent.VETO).digest,
    }
    return {
        "tally": {"needed": asked.tally.needed, "counted": list(asked.tally.counted)},
        "approvals": [
            {"key": one.key, "statement": digests[one.intent]} for one in asked.signatures
        ],
    }


def application(world: World) -> Starlette:
    """The real pages, and the stand-in API."""

    def not_found(request: Request, error: Exception) -> Response:
        if wants_page(request):
            return error_page(404, "There is nothing at this address.", situation=world.now)
        return JSONResponse({"detail": "nothing here"}, 404)

    api = [
        Route("/api/v1/releases/{id}", world.show_release),
        Route("/api/v1/requests/{digest}", world.show_request),
        Route("/api/v1/requests/{digest}/approvals", world.approve, methods=["POST"]),
    ]
    return Starlette(routes=[*routes(world), *api], exception_handlers={404: not_found})


@contextmanager
def serving(world: World) -> Iterator[World]:
    """Serves `world` on a loopback port of the system's choice; its origin is then a localhost one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        world.origin = f"http://localhost:{listening.getsockname()[1]}"
        config = uvicorn.Config(application(world), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield world
        finally:
            server.should_exit = True
            thread.join()


# --- workloads ----------------------------------------------------------------------------------------------------

WORKFLOW = b"""name: release
on:
  push:
    tags: ['v*']
permissions: {}
jobs:
  publish:
    runs-on: ubuntu-24.04
    environment: release
    permissions:
      id-token: write
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683
      - run: python -m build
      - run: twine upload dist/*
"""
CHANGED_WORKFLOW = WORKFLOW.replace(
    b"      - run: python -m build\n",
    b"      - run: ./tools/prepare.sh  # \xe2\x80\xae }\xe2\x81\xa6 only docs\n      - run: python -m build\n",
)
SAID = (
    "Patch release: bumps idna, no API changes. CI is green and the change was reviewed.\n"
    "<b>Safe to approve</b> \u202e.elbatsurtnu\u202c See https://gate.example.invalid/approve"
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def asker(ran: bytes = WORKFLOW, **changes: object) -> AskerFacts:
    """The workload acme-ci, whose bound workflow is WORKFLOW, verified by the press."""
    workflow = WorkflowFacts(
        path=".github/workflows/release.yml",
        ran=sha256(ran),
        bound=sha256(WORKFLOW),
        named=sha256(WORKFLOW),
        contents={sha256(WORKFLOW): WORKFLOW, sha256(ran): ran},
    )
    facts = AskerFacts(
        publisher="acme-ci",
        publisher_statement=sha256(b"publisher"),
        token=sha256(b"token"),
        identity=sha256(b"identity"),
        run_key=sha256(b"run"),
        issuer="https://issuer.example",
        provider="github",
        repository="acme/http",
        ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
        ref="refs/tags/v2.4.1",
        ref_protected=True,
        event="push",
        environment="release",
        run="9001/1",
        commit="4f2d" * 10,
        actor="github:42",
        press="verified",
        against=() if ran == WORKFLOW else ("workflow",),
        workflow=workflow,
    )
    return replace(facts, **changes)  # type: ignore[arg-type]  # a test's own changes


def bot(**changes: object) -> AskerFacts:
    """A bot that asks on Alice's behalf."""
    act = ActFacts("renovator", "alice", "patches", 2, 5, (NOW_S + 86_400 * 12) * 1000, ("patch",))
    return asker(publisher="renovator", act=act, **changes)


def activity() -> Activity:
    """A month with quiet days, a busy one, and names that people have chosen badly."""
    asked = [
        3,
        0,
        2,
        4,
        1,
        0,
        0,
        2,
        5,
        3,
        2,
        1,
        0,
        0,
        4,
        3,
        2,
        24,
        2,
        0,
        0,
        3,
        1,
        2,
        3,
        2,
        0,
        0,
        2,
        1,
    ]
    last = NOW_S // 86_400
    days = [
        Day((last - 29 + number) * 86_400_000, count, count * 2 // 3, count - count * 2 // 3)
        for number, count in enumerate(asked)
    ]
    waits = tuple(minutes * 60_000 for minutes in (3, 4, 8, 9, 25, 40, 70, 200, 900, 3000))
    refusals = (("narrowing.vetoed", 9), ("release.expired", 4), ("release.stale", 1))
    return Activity(tuple(days), waits, (("alice", 21), ("bob", 13), ("", 1)), refusals)


def identities() -> Identities:
    """A bit of everything that can be revoked, and two things that are."""
    run, secret = sha256(b"run"), sha256(b"pass")
    rows = {
        "person": tuple(
            Revocable("person", name, NAMES[name], (("id", name), ("keys", "1"))) for name in NAMES
        ),
        "publisher": (
            Revocable(
                "publisher", "acme-ci", "acme-ci",
                (("repository", "acme/http"), ("may ask for", "acme-http, acme-core"), ("at", "main-index"),
                 ("passes alive", "1")),
            ),
            Revocable("publisher", "old-ci", "old-ci", (("repository", "acme/old"),), stopped=True),
        ),
        "delegation": (
            Revocable(
                "delegation", "patches", "patches",
                (("bot", "renovator"), ("on behalf of", "Alice Osei"), ("used", "2 of 5")),
            ),
        ),
        "pass": (
            Revocable("pass", secret, f"Pass {secret[:4]} {secret[4:8]}", (("publisher", "acme-ci"),)),
        ),
        "workload": (
            Revocable("workload", sha256(b"identity"), "acme/http", (("ids", "repository_id 1001"),)),
        ),
        "run": (
            Revocable(
                "run", run, "Run 9001/1 of acme/http",
                (("publisher", "acme-ci"), ("ref", "refs/tags/v2.4.1")),
            ),
        ),
        "approval": (),
    }  # fmt: skip
    stops = (
        StopLine("ab" * 32, "publisher", "old-ci", "old-ci", "", "", NOW_S * 1000, latched=False),
        StopLine(
            "cd" * 32, "freeze", "acme-data", "acme-data", "carol", "Key leaked", NOW_S * 1000
        ),
    )
    signers = tuple(
        SignerFacts(NAMES[name], key.id, "passkey", b64u(key.credential_id))
        for name, key in ((name, passkey_of(name)) for name in NAMES)
    )
    return Identities(
        genesis=GENESIS,
        space="main",
        heads=HEADS.to_json(),
        now_s=NOW_S,
        life_s=3600,
        rows=rows,
        stops=stops,
        signers=signers,
        projects=("acme-core", "acme-http"),
    )


def done() -> History:
    """Acts of several kinds: by a workload under two policies, by a person, a failure, a change, a hostile name."""
    signed = tuple((name, passkey_of(name).id, "passkey") for name in ("alice", "bob"))
    first = ActLine(
        at_ms=NOW_S * 1000,
        kind="release",
        title="acme-http 2.4.1",
        outcome="verified",
        digest=sha256(b"first"),
        release="verified",
        upstream="main-index",
        publisher="acme-ci",
        workflow="acme/http/.github/workflows/release.yml",
        workflow_sha256=sha256(WORKFLOW),
        policies=(6, 7),
        signers=signed,
        positions=(706, 709, 710, 711),
    )
    plain = replace(first, publisher="", workflow="", workflow_sha256="", policies=(6,))
    change = replace(
        plain, kind="policy", release="", upstream="", title="policy", positions=(705,)
    )
    recovery = replace(
        change, kind="roster", title="roster", signers=(("", sha256(b"r"), "recovery"),)
    )
    return History(
        (
            first,
            replace(change, outcome="admitted", digest=sha256(b"change")),
            replace(plain, title="acme-core \u202e0.9.0", outcome="failed", digest=sha256(b"odd")),
            replace(plain, title="acme-cli 1.2.0", outcome="publishing", digest=sha256(b"cli")),
            replace(recovery, outcome="admitted", digest=sha256(b"recovery")),
        ),
        further=f"{NOW_S}000.{sha256(b'recovery')}",
    )


# --- a list with a bit of everything ------------------------------------------------------------------------------


def narrowing(what: str, target: str, reason: str) -> Narrowing:
    """A latched narrowing by Carol."""
    name = hashlib.sha256(target.encode()).hexdigest()
    return Narrowing(name, what, target, "carol", reason, "gateway", NOW_S * 1000)


def overview() -> Overview:
    """Releases and requests in many states."""
    rows = (
        ("acme-http", "2.4.1", State.AWAITING, "high", ""),
        ("acme-core", "0.9.0", State.AWAITING, "info", ""),
        ("acme-cli", "1.2.0", State.STAGED, "", ""),
        ("acme-http", "2.4.0", State.VERIFIED, "low", ""),
        ("acme-http", "2.3.9", State.REJECTED, "high", "narrowing.vetoed"),
        ("acme-data", "3.0.0rc1", State.EXPIRED, "medium", "release.expired"),
    )
    lines = tuple(
        ReleaseLine(
            id=f"list{n}",
            upstream="main-index",
            project=project,
            version=version,
            requester="alice" if n % 2 == 0 else "",
            state=state,
            opened_ms=(NOW_S - 3600 * n) * 1000,
            code=code,
            worst=worst,
            needed=1 if n % 2 == 0 else 2,
        )
        for n, (project, version, state, worst, code) in enumerate(rows)
    )
    day_before = (NOW_S - 90_000) * 1000
    requests = (
        RequestLine(GENESIS, "roster", "Dave Ivers joins", NOW_S * 1000, "seen", False, 2, 1),
        RequestLine(GENESIS, "policy", "veto window", day_before, "admitted", True, 2, 2),
    )
    return Overview(lines, requests)


def packages() -> Packages:
    """Packages with a hostile name, without a release, at an upstream that is gone."""
    lines = overview().releases
    return Packages(
        (
            PackageLine(
                "main-index", "acme-http", "custody", ("acme-ci", "renovator"), 3, lines[3]
            ),
            PackageLine("main-index", "acme-new", "custody", ("acme-ci",)),
            PackageLine("gone", "acme-\u202egpj", "", (), 1, lines[5]),
        ),
        "acme-zlib",
    )


def in_force() -> InForce:
    """Two registries, a workflow, one that its statement says something odd about, a bot, and three policies."""
    bound = PublisherBody(
        name="acme-ci",
        upstream="main-index",
        projects=("acme-core", "acme-http"),
        issuer="https://issuer.example",
        provider="github",
        ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
        repository="acme/http",
        repository_url="https://forge.example/acme/http",
        workflow=".github/workflows/release.yml",
        workflow_sha256=sha256(WORKFLOW),
        refs=("refs/tags/v*",),
        protected_refs_only=True,
        events=("push",),
        environment="release",
        self_hosted=False,
        delegated_only=False,
    )
    bot = DelegationBody(
        name="patches",
        publisher="acme-ci",
        person="alice",
        projects=("acme-http",),
        version_kinds=("patch",),
        count=5,
        not_before=NOW_S,
        not_after=NOW_S + 30 * 86_400,
    )
    plain = replace(REGISTRY, name="trial", upload_url="http://127.0.0.1:1/legacy/")
    first, second = Policy(), Policy(approvals=2, veto_window_s=600)
    return InForce(
        upstreams=((sha256(b"up"), REGISTRY), (sha256(b"trial"), plain)),
        publishers=(
            (sha256(b"bound"), bound),
            (
                sha256(b"open"),
                replace(bound, name="open-ci", protected_refs_only=False, environment=""),
            ),
        ),
        delegations=((sha256(b"bot"), bot),),
        policies=(
            PolicyStep(1, GENESIS, (NOW_S - 90_000) * 1000, first),
            PolicyStep(2, sha256(b"second"), (NOW_S - 80_000) * 1000, second),
            PolicyStep(3, sha256(b"third"), NOW_S * 1000, replace(second, veto_window_s=60)),
        ),
    )
