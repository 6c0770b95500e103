"""Statements: every privileged act, written down before it is done.

1. A statement is canonical JSON (RFC 8785) of exactly the members below; its digest is the SHA-256 of those bytes.
2. It belongs to one installation (`genesis`), one space, one kind, and says what signing it means (`intent`).
3. It names the heads (roster, policy, revocation) under which it was written; heads only go up.
4. It has a nonce and an expiry, so that no two requests share a digest and none lives for ever.
5. Kinds that form a chain name their predecessor (`previous`); the chain of each subject starts at genesis.
6. Unknown members are refused: what is not understood must not be signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Final, TypeVar

from presspass.core.delegation import DelegationBody
from presspass.core.digests import JsonObject, canonical, parse_canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    CLOCK_SKEW_S_MAX,
    FILE_BYTES_MAX,
    FILENAME_CHARS_MAX,
    FILES_PER_RELEASE_MAX,
    MEMBERS_PER_BUNDLE_MAX,
    STATEMENT_BYTES_MAX,
    URL_CHARS_MAX,
)
from presspass.core.log import LogBody, log_origin
from presspass.core.plan import PlanBody
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Roster
from presspass.core.signer import SignerBody
from presspass.core.standing import StandingBody
from presspass.core.strict import Members

FORMAT: Final = "presspass/statement/v1"
APPROVAL_TAG: Final = b"presspass/approval/v1\n"
HEAD_AT_GENESIS: Final = "0" * 64


class Kind(StrEnum):
    """The kinds in use. Later kinds join here, none changes its meaning."""

    GENESIS = "genesis"
    RELEASE = "release"
    ROSTER = "roster"
    POLICY = "policy"
    UPSTREAM = "upstream"
    FREEZE = "freeze"
    PUBLISHER = "publisher"
    DELEGATION = "delegation"
    STANDING = "standing"
    REVOCATION = "revocation"
    ORIGIN = "origin"
    SIGNER = "signer"
    LOG = "log"
    BUNDLE = "bundle"
    PLAN = "plan"


class Intent(StrEnum):
    """What a signature under the statement means."""

    APPROVE = "approve"
    VETO = "veto"


@dataclass(frozen=True, slots=True)
class Heads:
    """Digests of the newest statement of each chain when the statement was written (genesis' own: 64 zeros)."""

    roster: str
    policy: str
    revocation: str

    def to_json(self) -> JsonObject:
        return {"policy": self.policy, "revocation": self.revocation, "roster": self.roster}

    @classmethod
    def from_json(cls, value: object) -> Heads:
        members = Members(value, "heads")
        heads = cls(
            members.sha256("roster"), members.sha256("policy"), members.sha256("revocation")
        )
        members.done()
        return heads


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file of a release: its name, SHA-256 (hex) and size in bytes."""

    name: str
    sha256: str
    size: int

    def to_json(self) -> JsonObject:
        return {"name": self.name, "sha256": self.sha256, "size": self.size}

    @classmethod
    def from_json(cls, value: object) -> ReleaseFile:
        members = Members(value, "file")
        found = cls(
            name=members.text("name", chars_max=FILENAME_CHARS_MAX),
            sha256=members.sha256("sha256"),
            size=members.integer("size", high=FILE_BYTES_MAX),
        )
        members.done()
        return found


def set_bytes(files: tuple[ReleaseFile, ...]) -> bytes:
    """What the digest of a set is taken of, by which a workload binds its files: canonical JSON, in order of names."""
    ordered = sorted(files, key=lambda one: one.name)
    return canonical({"files": [one.to_json() for one in ordered], "format": "presspass/set/v1"})


@dataclass(frozen=True, slots=True)
class AskedBy:
    """The workload that asked for a release.

    `publisher`: digest of the publisher's statement; `token`: SHA-256 of the raw identity token; `workflow`: SHA-256 of
    the workflow file that ran, "" where its provider names none. Approving a release whose workflow is another than the
    bound one binds it. `delegation`: digest of the delegation's statement under which a bot asked, or "".
    """

    publisher: str
    token: str
    workflow: str
    delegation: str

    def to_json(self) -> JsonObject:
        return {
            "delegation": self.delegation,
            "publisher": self.publisher,
            "token": self.token,
            "workflow": self.workflow,
        }

    @classmethod
    def from_json(cls, value: object) -> AskedBy:
        members = Members(value, "workload of the release")
        found = cls(
            publisher=members.sha256("publisher"),
            token=members.sha256("token"),
            workflow=members.sha256_or_empty("workflow"),
            delegation=members.sha256_or_empty("delegation"),
        )
        members.done()
        return found


@dataclass(frozen=True, slots=True)
class ReleaseBody:
    """Publish exactly these files of this version to this upstream.

    `upstream`: digest of the upstream's statement; `release`: the gate's id of the set; `requester`: a person's id, or
    "" where the person behind the run is not resolved; `review`: digest of the report the approver is shown.
    `asked_by`: the workload that asked; None (and then no member at all) where a person uploaded.
    """

    release: str
    upstream: str
    project: str
    version: str
    files: tuple[ReleaseFile, ...]
    dist_tags: tuple[str, ...]
    requester: str
    review: str
    asked_by: AskedBy | None = None

    def to_json(self) -> JsonObject:
        asked_by = {} if self.asked_by is None else {"asked_by": self.asked_by.to_json()}
        return {
            **asked_by,
            "dist_tags": list(self.dist_tags),
            "files": [file.to_json() for file in self.files],
            "project": self.project,
            "release": self.release,
            "requester": self.requester,
            "review": self.review,
            "upstream": self.upstream,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, value: object) -> ReleaseBody:
        members = Members(value, "release")
        body = cls(
            release=members.name("release"),
            upstream=members.sha256("upstream"),
            project=members.text("project"),
            version=members.text("version"),
            files=members.items("files", ReleaseFile.from_json, count_max=FILES_PER_RELEASE_MAX),
            dist_tags=members.names("dist_tags", count_max=16),
            requester=members.name("requester", empty=True),
            review=members.sha256("review"),
            asked_by=members.optional("asked_by", AskedBy.from_json),
        )
        members.done()
        names = [file.name for file in body.files]
        if not names or names != sorted(set(names)):
            members.refuse("has no files, or has them unsorted or with repeats")
        return body


_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "[::1]")


def is_sound_address(url: str) -> bool:
    """https anywhere; http only to this machine, since a credential goes along."""
    if url.startswith("https://"):
        return bool(url.removeprefix("https://").split("/")[0])
    host = url.removeprefix("http://").split("/")[0] if url.startswith("http://") else ""
    name, _, port = host.rpartition(":")
    return (name if port.isdigit() else host) in _THIS_MACHINE


@dataclass(frozen=True, slots=True)
class UpstreamBody:
    """A registry: where to upload, where to read back. `credential`: SHA-256 commitment to the sealed credential."""

    name: str
    protocol: str
    upload_url: str
    index_url: str
    username: str
    mode: str
    credential: str

    def to_json(self) -> JsonObject:
        return {
            "credential": self.credential,
            "index_url": self.index_url,
            "mode": self.mode,
            "name": self.name,
            "protocol": self.protocol,
            "upload_url": self.upload_url,
            "username": self.username,
        }

    @classmethod
    def from_json(cls, value: object) -> UpstreamBody:
        members = Members(value, "upstream")
        body = cls(
            name=members.name("name"),
            protocol=members.choice("protocol", ("pypi",)),
            upload_url=members.text("upload_url", chars_max=URL_CHARS_MAX),
            index_url=members.text("index_url", chars_max=URL_CHARS_MAX),
            username=members.text("username", empty=True),
            mode=members.choice("mode", ("custody",)),
            credential=members.sha256("credential"),
        )
        members.done()
        for url in (body.upload_url, body.index_url):
            if not is_sound_address(url):
                members.refuse(f"has an address that is not https, nor http on this machine: {url}")
            if "@" in url.split("/")[2]:
                members.refuse(
                    "has an address with a user or password in it; statements are public"
                )
        return body


@dataclass(frozen=True, slots=True)
class RosterBody:
    """The whole roster after the change, and in `recovery` whether the offline recovery key asks for it."""

    roster: Roster
    recovery: bool = False

    def to_json(self) -> JsonObject:
        return {"recovery": self.recovery, "roster": self.roster.to_json()}

    @classmethod
    def from_json(cls, value: object) -> RosterBody:
        members = Members(value, "roster statement")
        body = cls(Roster.from_json(members.take("roster")), members.boolean("recovery"))
        members.done()
        return body


@dataclass(frozen=True, slots=True)
class PolicyBody:
    """The whole policy after the change."""

    policy: Policy

    def to_json(self) -> JsonObject:
        return {"policy": self.policy.to_json()}

    @classmethod
    def from_json(cls, value: object) -> PolicyBody:
        members = Members(value, "policy statement")
        body = cls(Policy.from_json(members.take("policy")))
        members.done()
        return body


@dataclass(frozen=True, slots=True)
class FreezeBody:
    """`action` set: publish nothing of `project` ("" for all). `action` clear: end the named narrowings.

    `deny_open`: veto everything of it that is asked for, too; only with `set`, and no member at all where it is false.
    """

    action: str
    project: str
    narrowings: tuple[str, ...]
    reason: str
    deny_open: bool = False

    def to_json(self) -> JsonObject:
        return {
            **({"deny_open": True} if self.deny_open else {}),
            "action": self.action,
            "narrowings": list(self.narrowings),
            "project": self.project,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, value: object) -> FreezeBody:
        members = Members(value, "freeze")
        body = cls(
            action=members.choice("action", ("set", "clear")),
            project=members.text("project", empty=True),
            narrowings=members.names("narrowings", count_max=1000),
            reason=members.text("reason", chars_max=1000, empty=True),
            deny_open=members.has("deny_open") and members.boolean("deny_open"),
        )
        members.done()
        if (body.action == "clear") != bool(body.narrowings):
            members.refuse("must name narrowings when it clears, and only then")
        if body.action == "clear" and body.deny_open:
            members.refuse("both clears and denies")
        return body


#: What a revocation can end, and what its target is: a person's id, the name of a publisher, delegation or standing
#: approval, the hash of a pass, the key of a workload or of one run (`core.workload`), an approval
#: (`core.approval.approval_id`), the digest of a release's statement, the SHA-256 of a file under whatever name.
REVOCABLE: Final = (
    "person",
    "publisher",
    "delegation",
    "standing",
    "pass",
    "workload",
    "run",
    "approval",
    "release",
    "file",
)
#: Those of them that are named by a SHA-256 alone: a typing error must not look like a revocation.
_BY_SHA256: Final = ("release", "file")


def revoked_in(members: Members) -> tuple[str, str]:
    """What is revoked, and its target, from the members `what` and `target`; refuses with `statement.malformed`."""
    what = members.choice("what", REVOCABLE)
    return what, members.sha256("target") if what in _BY_SHA256 else members.name("target")


@dataclass(frozen=True, slots=True)
class RevocationBody:
    """End what somebody or something may do, now. `what` is of REVOCABLE; one authorised person signs."""

    what: str
    target: str
    reason: str

    def to_json(self) -> JsonObject:
        return {"reason": self.reason, "target": self.target, "what": self.what}

    @classmethod
    def from_json(cls, value: object) -> RevocationBody:
        members = Members(value, "revocation")
        what, target = revoked_in(members)
        body = cls(what, target, members.text("reason", chars_max=1000, empty=True))
        members.done()
        return body


@dataclass(frozen=True, slots=True)
class OriginBody:
    """Another address, and the whole roster of the keys enrolled there: one step, since passkeys stay behind.

    `origin`, `rp_id` as in genesis. It is the next element of the roster's chain.
    """

    origin: str
    rp_id: str
    roster: Roster

    def to_json(self) -> JsonObject:
        return {"origin": self.origin, "roster": self.roster.to_json(), "rp_id": self.rp_id}

    @classmethod
    def from_json(cls, value: object) -> OriginBody:
        members = Members(value, "origin statement")
        body = cls(
            origin=members.text("origin", chars_max=URL_CHARS_MAX),
            rp_id=members.text("rp_id", chars_max=253),
            roster=Roster.from_json(members.take("roster")),
        )
        members.done()
        return body


@dataclass(frozen=True, slots=True)
class GenesisBody:
    """The beginning of one installation, and the trust root that users pin.

    `origin`: exact origin of the console, e.g. "https://gate.example"; `rp_id`: its host. `log_key`: the Ed25519 key
    (raw, hex) that signs checkpoints, and attestations until there is a signer for them; `recovery_key`: the Ed25519
    key (raw, hex) whose seed was printed.
    """

    origin: str
    rp_id: str
    roster: Roster
    policy: Policy
    log_key: str
    recovery_key: str

    @property
    def log(self) -> LogBody:
        """The log as it begins: its name in checkpoints and the key that signs them."""
        return LogBody(log_origin(self.origin), self.log_key)

    def to_json(self) -> JsonObject:
        return {
            "log_key": self.log_key,
            "origin": self.origin,
            "policy": self.policy.to_json(),
            "recovery_key": self.recovery_key,
            "roster": self.roster.to_json(),
            "rp_id": self.rp_id,
        }

    @classmethod
    def from_json(cls, value: object) -> GenesisBody:
        members = Members(value, "genesis")
        body = cls(
            origin=members.text("origin", chars_max=URL_CHARS_MAX),
            rp_id=members.text("rp_id", chars_max=253),
            roster=Roster.from_json(members.take("roster")),
            policy=Policy.from_json(members.take("policy")),
            log_key=members.sha256("log_key"),
            recovery_key=members.sha256("recovery_key"),
        )
        members.done()
        return body


#: What may stand in a bundle. A move to another origin does not: it replaces every key, and stands alone. Nor does what
#: concerns the log: it must not wait for, nor be hidden among, other changes.
MemberBody = (
    RosterBody
    | PolicyBody
    | UpstreamBody
    | PublisherBody
    | DelegationBody
    | StandingBody
    | SignerBody
)
_MEMBERS: Final[dict[Kind, type[Any]]] = {
    Kind.ROSTER: RosterBody,
    Kind.POLICY: PolicyBody,
    Kind.UPSTREAM: UpstreamBody,
    Kind.PUBLISHER: PublisherBody,
    Kind.DELEGATION: DelegationBody,
    Kind.STANDING: StandingBody,
    Kind.SIGNER: SignerBody,
}
#: What a chain is made of: the kinds that name a predecessor.
ChainedBody = MemberBody | OriginBody | LogBody
_CHAINED: Final[dict[Kind, type[Any]]] = {
    **_MEMBERS,
    Kind.ORIGIN: OriginBody,
    Kind.LOG: LogBody,
}


def subject(body: ChainedBody) -> tuple[Kind, str]:
    """Which chain a body belongs to: the chain's kind, and the name for those that have one chain for each name.

    A chain is called by the kind that it is made of; an origin is an element of the roster's.
    """
    if isinstance(body, OriginBody):
        return Kind.ROSTER, ""
    if isinstance(body, LogBody):
        return Kind.LOG, ""
    kind = next(kind for kind, known in _MEMBERS.items() if type(body) is known)
    return kind, "" if isinstance(body, RosterBody | PolicyBody) else body.name


@dataclass(frozen=True, slots=True)
class Member:
    """One change of a bundle: what a statement of its own would say, and the head of its chain when it was written."""

    body: MemberBody
    previous: str

    def to_json(self) -> JsonObject:
        return {
            "body": self.body.to_json(),
            "kind": subject(self.body)[0].value,
            "previous": self.previous,
        }

    @classmethod
    def from_json(cls, value: object) -> Member:
        members = Members(value, "bundle's member")
        kind = Kind(members.choice("kind", tuple(_MEMBERS)))
        member = cls(_MEMBERS[kind].from_json(members.take("body")), members.sha256("previous"))
        members.done()
        return member


@dataclass(frozen=True, slots=True)
class BundleBody:
    """Several changes that people sign at once: all of them come into force together, or none does.

    No two are of one chain, so that their order says nothing. The recovery key asks for a roster alone, never in here.
    """

    members: tuple[Member, ...]

    def to_json(self) -> JsonObject:
        return {"members": [member.to_json() for member in self.members]}

    @classmethod
    def from_json(cls, value: object) -> BundleBody:
        members = Members(value, "bundle")
        body = cls(
            members.items("members", Member.from_json, count_max=MEMBERS_PER_BUNDLE_MAX),
        )
        members.done()
        if not body.members:
            members.refuse("is empty")
        if len({subject(member.body) for member in body.members}) != len(body.members):
            members.refuse("changes the same thing twice")
        if any(isinstance(one.body, RosterBody) and one.body.recovery for one in body.members):
            members.refuse("holds a recovery, which stands in a statement of its own")
        return body


Body = GenesisBody | ReleaseBody | PlanBody | ChainedBody | FreezeBody | RevocationBody | BundleBody
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. Times are whole Unix seconds; `nonce` is 32 hex digits."""

    genesis: str
    space: str
    intent: Intent
    body: Body
    heads: Heads
    previous: str | None
    nonce: str
    issued_at: int
    expires_at: int
    #: The canonical bytes and their digest, once they were asked for: a bundle of hundreds takes 10 ms to write, and
    #: the press asks several times a second. A statement never changes, and `replace` makes another one without them.
    _bytes: bytes = field(default=b"", init=False, repr=False, compare=False)
    _digest: str = field(default="", init=False, repr=False, compare=False)

    _BODIES: ClassVar[dict[Kind, type[Any]]] = {
        Kind.GENESIS: GenesisBody,
        Kind.RELEASE: ReleaseBody,
        Kind.FREEZE: FreezeBody,
        Kind.REVOCATION: RevocationBody,
        Kind.BUNDLE: BundleBody,
        Kind.PLAN: PlanBody,
        **_CHAINED,
    }
    #: Kinds that name their predecessor; and those that move heads, which a bundle does by its members.
    CHAINED: ClassVar[frozenset[Kind]] = frozenset(_CHAINED)
    MOVING: ClassVar[frozenset[Kind]] = CHAINED | {Kind.BUNDLE}

    @property
    def kind(self) -> Kind:
        return next(kind for kind, body in self._BODIES.items() if type(self.body) is body)

    def to_bytes(self) -> bytes:
        """The canonical bytes: what is hashed, stored, sent and signed."""
        if not self._bytes:
            object.__setattr__(self, "_bytes", canonical(self._to_json()))
        return self._bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hex."""
        if not self._digest:
            object.__setattr__(self, "_digest", sha256_hex(self.to_bytes()))
        return self._digest

    def _to_json(self) -> JsonObject:
        return {
            "body": self.body.to_json(),
            "expires_at": self.expires_at,
            "format": FORMAT,
            "genesis": self.genesis,
            "heads": self.heads.to_json(),
            "intent": self.intent.value,
            "issued_at": self.issued_at,
            "kind": self.kind.value,
            "nonce": self.nonce,
            "previous": self.previous,
            "space": self.space,
        }

    def with_intent(self, intent: Intent) -> Statement:
        """The twin that says the opposite of the same thing: one signs the one or the other, never both at once."""
        return replace(self, intent=intent)

    def body_as(self, kind: type[B]) -> B:
        """The body, known to be of class `kind`; refuses with `statement.malformed` otherwise."""
        if not isinstance(self.body, kind):
            raise Refusal(
                Code.STATEMENT_MALFORMED,
                f"A {self.kind.value} statement stands where another belongs.",
            )
        return self.body

    def check_alive(self, now_s: int) -> None:
        """Refuses a statement that has expired, or that claims to come from the future."""
        if now_s >= self.expires_at:
            raise Refusal(
                Code.STATEMENT_EXPIRED,
                "The request has expired.",
                "Ask for it again; approvals are not carried over.",
            )
        if self.issued_at > now_s + CLOCK_SKEW_S_MAX:
            raise Refusal(
                Code.CLOCK_UNTRUSTED, "The request was issued in the future.", "Check the clocks."
            )

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """Reads canonical bytes; anything else is refused with `statement.malformed`."""
        value = parse_canonical(data, bytes_max=STATEMENT_BYTES_MAX, what="statement")
        members = Members(value, "statement")
        members.choice("format", (FORMAT,))
        kind = Kind(members.choice("kind", tuple(Kind)))
        statement = cls(
            genesis=members.sha256("genesis"),
            space=members.name("space"),
            intent=Intent(members.choice("intent", tuple(Intent))),
            body=cls._BODIES[kind].from_json(members.take("body")),
            heads=Heads.from_json(members.take("heads")),
            previous=members.sha256_or_none("previous"),
            nonce=members.name("nonce"),
            issued_at=members.integer("issued_at"),
            expires_at=members.integer("expires_at"),
        )
        members.done()
        statement._check_shape(members)
        object.__setattr__(statement, "_bytes", data)  # it is these bytes that were signed
        return statement

    def _check_shape(self, members: Members) -> None:
        if len(self.nonce) != 32 or any(char not in "0123456789abcdef" for char in self.nonce):
            members.refuse("has a nonce other than 32 hex digits")
        if self.expires_at <= self.issued_at:
            members.refuse("expires before it is issued")
        if (self.kind in self.CHAINED) != (self.previous is not None):
            members.refuse("names a predecessor where none belongs, or lacks one")
        if (self.kind is Kind.GENESIS) != (self.genesis == HEAD_AT_GENESIS):
            members.refuse("belongs to no installation")


def signed_message(statement: bytes) -> bytes:
    """What a person signs: the tag, so that no other use of the key can be taken for it, then the statement itself."""
    return APPROVAL_TAG + statement


def challenge(statement: bytes) -> bytes:
    """The WebAuthn challenge of a statement's canonical bytes: 32 bytes, SHA-256 of `signed_message`."""
    return bytes.fromhex(sha256_hex(signed_message(statement)))
