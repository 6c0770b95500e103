"""Hypothesis strategies for the values of core/: right statements of every kind, rosters, policies, signatures."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st

from presspass.core.approval import Signed
from presspass.core.approving import (
    HOLIDAY_AFTER_S_MIN,
    HOLIDAY_WINDOW_S,
    HOLIDAY_WINDOW_S_MIN,
    SEVERITIES,
    Approving,
)
from presspass.core.calendar import FreezeWindow, Holiday, leaves_open
from presspass.core.delegation import VERSION_KINDS, DelegationBody
from presspass.core.log import LogBody, LogRecovery
from presspass.core.plan import ORDERS, PlanBody
from presspass.core.policy import PROFILES, Policy
from presspass.core.publisher import IDENTITY_CLAIMS, WITH_REF, WITH_WORKFLOW, PublisherBody
from presspass.core.roster import KEY_KINDS, Key, Person, Roster
from presspass.core.signer import ATTESTATION, ED25519, SCHEMES, SIGNERS, SignerBody
from presspass.core.standing import FINDINGS, KINDS, LIFE_S_MAX, StandingBody
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    REVOCABLE,
    AskedBy,
    Body,
    BundleBody,
    FreezeBody,
    GenesisBody,
    Heads,
    Intent,
    Kind,
    Member,
    OriginBody,
    PolicyBody,
    ReleaseBody,
    ReleaseFile,
    RevocationBody,
    RosterBody,
    Statement,
    UpstreamBody,
    subject,
)

#: How hard a law is tried. No deadline: what is slow on a busy machine is not wrong.
law = settings(max_examples=40, deadline=None)

digests = (
    st.binary(min_size=32, max_size=32).map(bytes.hex).filter(lambda text: text != HEAD_AT_GENESIS)
)
nonces = st.binary(min_size=16, max_size=16).map(bytes.hex)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)
seconds = st.integers(0, 2**40)


@st.composite
def keys(draw: st.DrawFn, number: int) -> Key:
    """A key whose fingerprint follows from a number; nothing in core/ opens it."""
    blob = b"key %d" % number
    return Key(
        draw(st.sampled_from(KEY_KINDS)), blob, draw(st.binary(max_size=4)), draw(st.booleans())
    )


@st.composite
def rosters(draw: st.DrawFn, people_max: int = 4, keys_each_max: int = 3) -> Roster:
    """People p0, p1 …; every key belongs to one of them."""
    people = []
    for number in range(draw(st.integers(0, people_max))):
        count = draw(st.integers(0, keys_each_max))
        found = [draw(keys(100 * number + index)) for index in range(count)]
        found.sort(key=lambda key: key.id)
        groups = tuple(sorted(draw(st.sets(names, max_size=2))))
        people.append(Person(f"p{number}", draw(digests), groups, tuple(found)))
    return Roster(tuple(people))


weekdays = st.sampled_from(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
offsets = st.sampled_from(["UTC", "+01:00", "-05:30", "+14:00"])
moments = st.builds(
    "{} {:02}:{:02}".format, weekdays, st.integers(0, 23), st.sampled_from([0, 30, 59])
)
freeze_windows = (
    st.tuples(moments, moments, offsets)
    .filter(lambda one: one[0] != one[1])
    .map(lambda one: FreezeWindow("{} to {} {}".format(*one)))
)
holidays = st.builds(
    "2026-{:02}-{:02} to 2026-{:02}-{:02} {}".format,
    st.integers(1, 6), st.integers(1, 28), st.integers(7, 12), st.integers(1, 28), offsets,
).map(Holiday)  # fmt: skip


group_numbers = st.dictionaries(names, st.integers(1, 2), max_size=2)
risks = st.sampled_from(["", *SEVERITIES])


@st.composite
def approvings(draw: st.DrawFn) -> Approving:
    """What a policy can ask for beyond a number."""
    extra = draw(st.dictionaries(st.sampled_from(SEVERITIES), st.integers(1, 2), max_size=2))
    reserve = draw(st.sampled_from(["", "reserve"]))
    after_s = draw(st.none() | st.integers(HOLIDAY_AFTER_S_MIN, 86_400))
    window_s = st.integers(HOLIDAY_WINDOW_S_MIN, 86_400)
    return Approving(
        approvers=draw(st.sampled_from(["", "approvers"])),
        change_approvals=draw(st.sampled_from([0, 3])),
        groups=tuple(sorted(draw(group_numbers).items())),
        extra_by_finding=tuple(sorted(extra.items())),
        reserve=reserve,
        reserve_after_s=draw(st.integers(0, 86_400)) if reserve else 0,
        holiday_after_s=after_s,
        holiday_window_s=HOLIDAY_WINDOW_S if after_s is None else draw(window_s),
    )


policies = st.builds(
    Policy,
    freeze_windows=st.lists(freeze_windows, max_size=2).filter(leaves_open).map(tuple),
    holidays=st.lists(holidays, max_size=2).map(tuple),
    profile=st.sampled_from(PROFILES),
    approvals=st.integers(1, 3),
    approval_life_s=st.integers(1, 86_400),
    quiet_period_s=st.integers(0, 86_400),
    veto_window_s=st.integers(0, 86_400),
    software_keys=st.booleans(),
    key_wait_s=st.none() | st.integers(0, 86_400),
    rules=st.none() | digests,
    burst_cap=st.none() | st.integers(1, 10_000),
    synced_passkeys=st.booleans(),
    approving=st.just(Approving()) | approvings(),
)
files = st.builds(ReleaseFile, name=texts, sha256=digests, size=st.integers(0, 2**31))


asked_by = st.builds(AskedBy, digests, digests, st.just("") | digests, st.just("") | digests)


@st.composite
def release_bodies(draw: st.DrawFn) -> ReleaseBody:
    listed = draw(st.lists(files, min_size=1, max_size=3, unique_by=lambda file: file.name))
    return ReleaseBody(
        draw(names),
        draw(digests),
        draw(texts),
        draw(texts),
        tuple(sorted(listed, key=lambda file: file.name)),
        tuple(sorted(draw(st.sets(names, max_size=2)))),
        draw(st.just("") | names),
        draw(digests),
        draw(st.none() | asked_by),
    )


projects = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
refs = st.sampled_from(["refs/heads/main", "refs/tags/v*", "refs/tags/*-final", "refs/heads/r/*"])
events = st.sampled_from(["push", "release", "workflow_dispatch", "web"])


@st.composite
def publisher_bodies(draw: st.DrawFn, provider: str | None = None) -> PublisherBody:
    """A binding as its provider needs it."""
    provider = provider or draw(st.sampled_from(sorted(IDENTITY_CLAIMS)))
    workflow, ref = provider in WITH_WORKFLOW, provider in WITH_REF
    return PublisherBody(
        name=draw(names),
        upstream=draw(names),
        projects=tuple(sorted(draw(st.sets(projects, max_size=3)))),
        issuer=draw(names.map(lambda host: f"https://{host}")),
        provider=provider,
        ids=tuple((claim, draw(texts)) for claim in IDENTITY_CLAIMS[provider]),
        repository=draw(texts),
        repository_url=draw(st.just("") | texts),
        workflow=draw(texts) if workflow else "",
        workflow_sha256=draw(digests) if workflow else "",
        refs=tuple(sorted(draw(st.sets(refs, min_size=1)))) if ref else (),
        protected_refs_only=draw(st.booleans()),
        events=tuple(sorted(draw(st.sets(events, min_size=1)))) if workflow else (),
        environment=draw(st.just("") | texts),
        self_hosted=draw(st.booleans()),
        delegated_only=draw(st.booleans()),
    )


@st.composite
def delegation_bodies(draw: st.DrawFn) -> DelegationBody:
    begins = draw(seconds)
    return DelegationBody(
        name=draw(names),
        publisher=draw(names),
        person=draw(names),
        projects=tuple(sorted(draw(st.sets(projects, max_size=3)))),
        version_kinds=tuple(sorted(draw(st.sets(st.sampled_from(VERSION_KINDS))))),
        count=draw(st.integers(0, 100)),
        not_before=begins,
        not_after=begins + draw(st.integers(1, 2**30)),
    )


@st.composite
def standing_bodies(draw: st.DrawFn) -> StandingBody:
    """A standing approval, or one that is retired."""

    def some(values: st.SearchStrategy[str], low: int) -> tuple[str, ...]:
        return tuple(sorted(draw(st.sets(values, min_size=low, max_size=3))))

    projects = some(names, 0)
    return StandingBody(
        name=draw(names),
        upstream=draw(names),
        publishers=some(names, 1 if projects else 0),
        projects=projects,
        version_kinds=some(st.sampled_from(KINDS), 1 if projects else 0),
        worst_finding=draw(st.sampled_from(FINDINGS)),
        daily=draw(st.integers(1, 1000)),
        daily_per_project=draw(st.integers(1, 1000)),
        not_after=draw(st.integers(0, LIFE_S_MAX)),
        read_every=draw(st.integers(1, 100)),
        read_within_s=draw(st.integers(3600, 7 * 86_400)),
    )


upstream_bodies = st.builds(
    UpstreamBody,
    name=names,
    protocol=st.just("pypi"),
    upload_url=names.map(lambda host: f"https://{host}/legacy/"),
    index_url=names.map(lambda host: f"http://127.0.0.1:8460/{host}/simple/"),
    username=st.just("") | texts,
    mode=st.just("custody"),
    credential=digests,
)
set_freezes = st.builds(
    FreezeBody, st.just("set"), st.just("") | texts, st.just(()), st.just("") | texts
)
clearings = st.builds(
    FreezeBody,
    st.just("clear"),
    st.just(""),
    st.sets(names, min_size=1, max_size=3).map(lambda ids: tuple(sorted(ids))),
    st.just("") | texts,
)
genesis_bodies = st.builds(
    GenesisBody,
    st.just("https://gate.example"),
    st.just("gate.example"),
    rosters(),
    policies,
    digests,
    digests,
)
signer_bodies = st.builds(
    SignerBody.of_raw, st.sampled_from(SIGNERS), st.binary(min_size=32, max_size=32)
) | st.builds(
    SignerBody,
    st.sampled_from(SIGNERS),
    st.sampled_from([one for one in SCHEMES if one != ED25519]),
    st.binary(min_size=1, max_size=400),
)
#: Those that could be let in: a key that is none is refused.
usable_signers = st.builds(
    SignerBody.of_raw,
    st.just(ATTESTATION),
    st.binary(min_size=32, max_size=32).map(
        lambda seed: Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    ),
)
tree_sizes = st.integers(1, 2**53 - 1)
log_bodies = st.builds(
    LogBody,
    st.just("gate.example/log/2"),
    digests,
    st.none()
    | st.builds(LogRecovery, tree_sizes, digests, tree_sizes, st.just("") | digests, texts),
)
chained_bodies: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.ROSTER: st.builds(RosterBody, rosters()),
    Kind.POLICY: st.builds(PolicyBody, policies),
    Kind.UPSTREAM: upstream_bodies,
    Kind.PUBLISHER: publisher_bodies(),
    Kind.DELEGATION: delegation_bodies(),
    Kind.STANDING: standing_bodies(),
    Kind.SIGNER: usable_signers,
}
changes = st.lists(st.one_of(*chained_bodies.values()), min_size=1, max_size=5, unique_by=subject)
bundle_bodies = st.builds(
    BundleBody,
    changes.flatmap(
        lambda found: st.tuples(*(st.builds(Member, st.just(body), digests) for body in found))
    ),
)


@st.composite
def plan_bodies(draw: st.DrawFn) -> PlanBody:
    """Of a few releases, in any order."""
    releases = draw(st.lists(digests, min_size=1, max_size=6, unique=True))
    order = draw(st.sampled_from(ORDERS))
    return PlanBody(tuple(sorted(releases) if order == "any" else releases), order)


bodies: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.GENESIS: genesis_bodies,
    Kind.RELEASE: release_bodies(),
    Kind.ROSTER: st.builds(RosterBody, rosters(), st.booleans()),
    Kind.POLICY: st.builds(PolicyBody, policies),
    Kind.UPSTREAM: upstream_bodies,
    Kind.FREEZE: set_freezes | clearings,
    Kind.PUBLISHER: publisher_bodies(),
    Kind.DELEGATION: delegation_bodies(),
    Kind.STANDING: standing_bodies(),
    Kind.REVOCATION: st.builds(
        RevocationBody,
        st.sampled_from([what for what in REVOCABLE if what not in ("release", "file")]),
        names,
        st.just("") | texts,
    )
    | st.builds(RevocationBody, st.sampled_from(["release", "file"]), digests, st.just("") | texts),
    Kind.ORIGIN: st.builds(
        OriginBody, st.just("https://new.example"), st.just("new.example"), rosters()
    ),
    Kind.BUNDLE: bundle_bodies,
    Kind.PLAN: plan_bodies(),
    Kind.SIGNER: signer_bodies,
    Kind.LOG: log_bodies,
}
heads = st.builds(Heads, digests, digests, digests)


@st.composite
def statements(draw: st.DrawFn, kind: Kind | None = None) -> Statement:
    """A right statement of `kind`, or of any."""
    kind = kind or draw(st.sampled_from(Kind))
    body: Body = draw(bodies[kind])
    issued = draw(seconds)
    return Statement(
        genesis=HEAD_AT_GENESIS if kind is Kind.GENESIS else draw(digests),
        space=draw(names),
        intent=draw(st.sampled_from(Intent)),
        body=body,
        heads=draw(heads),
        previous=draw(digests) if kind in Statement.CHAINED else None,
        nonce=draw(nonces),
        issued_at=issued,
        expires_at=issued + draw(st.integers(1, 2**30)),
    )


def signed_by(key: Key) -> Signed:
    """A verified signature of this key, as only `verify` makes them."""
    return Signed("0" * 64, key.id, True, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
