"""What the sign-in provider tells by itself: a logout ends sessions by it; a refused account is a person who leaves."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway_world import PROJECT, HttpAnswer, until
from presspass.core.errors import Refusal
from presspass.core.limits import SECURITY_EVENT_AGE_S_MAX
from presspass.drill.packages import make_wheel
from presspass.formats.jwt import Jwt
from presspass.gateway.provider_events import read_security_events
from presspass.store import gateway_tables as g
from sign_in_world import CLIENT_ID, Browser, HostileProvider, SignInWorld, at_their_time

RISC = "https://schemas.openid.net/secevent/risc/event-type/"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
DISABLED = RISC + "account-disabled"
SET = "application/secevent+jwt"
NOW = int(time.time())
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def provider() -> Iterator[HostileProvider]:
    with HostileProvider() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, provider: HostileProvider) -> Iterator[SignInWorld]:
    provider.claims = {}
    with SignInWorld(tmp_path / "home", provider) as started:
        yield started


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, provider: HostileProvider
) -> Iterator[SignInWorld]:
    """One gate for whatever changes nothing."""
    with SignInWorld(tmp_path_factory.mktemp("shared") / "home", provider) as started:
        yield started


# --- a security event -------------------------------------------------------------------------------------------------


def iss_sub(world: SignInWorld, person: str = "grace") -> dict[str, str]:
    assert world.provider is not None
    return {"format": "iss_sub", "iss": world.provider.url, "sub": f"subject-of-{person}"}


def event(world: SignInWorld, kind: str = DISABLED, **claims: Any) -> str:
    """A security event about grace as RFC 8417 and RFC 9493 have it; `claims` replace its own (None removes one),
    `header` is of its header.
    """
    assert world.provider is not None
    header = claims.pop("header", {"typ": "secevent+jwt"})
    honest = {
        "aud": CLIENT_ID, "exp": None, "nbf": None, "sub_id": iss_sub(world),
        "events": {kind: {"reason": "bulk-account"}},
    }  # fmt: skip
    return world.provider.mint(honest | claims, header=header)


def push(world: SignInWorld, text: str, kind: str = SET) -> HttpAnswer:
    return world.ask("POST", "/security-events", text.encode(), **{"Content-Type": kind})


@pytest.mark.parametrize("kind", ["account-disabled", "account-purged"])
def test_an_account_that_the_provider_refuses_is_a_person_who_leaves_before_the_answer(
    world: SignInWorld, tmp_path: Path, kind: str
) -> None:
    browser, other = Browser(world), Browser(world)
    browser.sign_in("grace")
    other.sign_in("ada")
    token, wheel = world.token(person="grace"), make_wheel(tmp_path, PROJECT, "1.0")
    release = world.upload(token, wheel.name, wheel.read_bytes()).json["id"]

    answer = push(world, event(world, RISC + kind))

    assert (answer.status, answer.body) == (202, b"")
    assert browser.who == {} and other.who["person"] == "ada"
    assert browser.sign_in("grace").code == "identity.revoked"
    assert world.upload(token, wheel.name, wheel.read_bytes()).code == "token.invalid"
    assert world.release(release)["code"] == "release.requester-gone"
    (stop,) = world.rows(sa.select(g.STOP))
    assert (stop.what, stop.target, stop.source) == ("person", "grace", "provider")
    assert stop.reason.endswith("at the sign-in provider")
    until(lambda: kind in str(world.rows(sa.select(g.EVENT))), "the record of it")


def test_an_event_names_its_subject_in_each_way_that_is_spoken(world: SignInWorld) -> None:
    risc = iss_sub(world) | {"subject_type": "iss-sub"}
    del risc["format"]
    email = {"format": "email", "email": "grace@people.example"}
    for number, claims in enumerate(
        [
            {"sub_id": None, "sub": "subject-of-grace"},
            {"sub_id": None, "events": {DISABLED: {"subject": iss_sub(world)}}},
            {"sub_id": None, "events": {DISABLED: {"subject": risc}}},
            {"sub": "subject-of-grace", "events": {DISABLED: {"subject": iss_sub(world)}}},
            {"sub_id": {"format": "aliases", "identifiers": [email, iss_sub(world)]}},
            {"sub_id": {"format": "complex", "user": iss_sub(world), "device": email}},
        ]
    ):
        assert push(world, event(world, **claims)).status == 202
        assert world.count(g.STOP) == 1, "the second time changes nothing"
        assert world.count(g.SEEN_TOKEN) == number + 1


@pytest.mark.parametrize(
    "kind",
    [CAEP + "session-revoked", RISC + "sessions-revoked", RISC + "credential-compromise"],
)  # fmt: skip
def test_a_credential_that_is_no_longer_trusted_ends_the_sessions_that_came_by_it(
    world: SignInWorld, kind: str
) -> None:
    browser, other = Browser(world), Browser(world)
    browser.sign_in("grace")
    other.sign_in("ada")
    assert push(world, event(world, kind)).status == 202
    assert browser.who == {} and other.who["person"] == "ada"
    assert world.count(g.STOP) == 0
    assert browser.sign_in("grace").status == 303


@pytest.mark.parametrize(
    "claims",
    [
        {"events": {RISC + "account-enabled": {}}},
        {"events": {"https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "x"}}},
        {"sub_id": {"format": "email", "email": "grace@people.example"}},
        {"sub_id": {"format": "iss_sub", "iss": "https://other.example", "sub": "subject-of-grace"}},
        {"sub_id": {"format": "opaque", "id": "subject-of-grace"}},
    ],
    ids=["enabled", "verification", "email", "another-issuer", "opaque"],
)  # fmt: skip
def test_an_event_about_nobody_here_is_taken_and_changes_nothing(
    shared: SignInWorld, claims: dict[str, Any]
) -> None:
    browser = Browser(shared)
    browser.sign_in("grace")
    assert push(shared, event(shared, **claims)).status == 202
    assert browser.who["person"] == "grace" and shared.count(g.STOP) == 0


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"aud": "another-client"}, "invalid_audience"),
        ({"aud": [CLIENT_ID, "another-client"]}, "invalid_audience"),
        ({"iss": "https://other.example"}, "invalid_issuer"),
        ({"header": {"typ": "secevent+jwt", "alg": "HS256"}}, "authentication_failed"),
        ({"header": {"typ": "secevent+jwt", "jku": "http://127.0.0.1:9/"}}, "authentication_failed"),
        ({"header": {"typ": "JWT"}}, "invalid_request"),
        ({"header": {"typ": "logout+jwt"}}, "invalid_request"),
        ({"header": {"typ": 7}}, "invalid_request"),
        ({"header": {}}, "invalid_request"),
        ({"jti": None}, "invalid_request"),
        ({"iat": None}, "invalid_request"),
        ({"jti": "\ud800"}, "invalid_request"),
        ({"iat": NOW - SECURITY_EVENT_AGE_S_MAX - 3600}, "invalid_request"),
        ({"exp": NOW - 3600}, "invalid_request"),
        ({"exp": "tomorrow"}, "invalid_request"),
        ({"events": None}, "invalid_request"),
        ({"events": {}}, "invalid_request"),
        ({"events": {DISABLED: "yes"}}, "invalid_request"),
        ({"sub_id": None}, "invalid_request"),
        ({"sub_id": "grace"}, "invalid_request"),
        ({"sub_id": {"format": "iss_sub", "sub": "subject-of-grace"}}, "invalid_request"),
        ({"sub_id": {"iss": "https://other.example", "sub": "subject-of-grace"}}, "invalid_request"),
        ({"sub_id": {"format": ["iss_sub"]}}, "invalid_request"),
        ({"sub_id": {"format": "aliases"}}, "invalid_request"),
        ({"sub_id": {"format": "complex", "user": {"format": "complex"}}}, "invalid_request"),
        ({"sub": "subject-of-ada"}, "invalid_request"),
        ({"sub": 7}, "invalid_request"),
    ],
    ids=lambda value: re.sub(r"\d{9,}", "then", str(value)),  # the same in each process of a run
)  # fmt: skip
def test_an_event_that_is_not_one_is_refused_by_the_names_of_rfc_8935_and_ends_nothing(
    shared: SignInWorld, claims: dict[str, Any], error: str
) -> None:
    answer = push(shared, event(shared, **claims))
    assert (answer.status, answer.json["err"]) == (400, error), answer.body
    assert answer.json["description"] and answer.headers["content-language"] == "en"
    assert shared.count(g.STOP) == 0


def test_other_tokens_and_other_bodies_are_no_events(world: SignInWorld) -> None:
    assert world.provider is not None
    good = event(world)
    head, claims, signature = good.split(".")
    forged = f"{head}.{claims}.{signature[:-8]}AAAAAAAA"
    assert push(world, forged).json["err"] == "authentication_failed"
    assert push(world, good, "application/jwt").json["err"] == "invalid_request"
    assert push(world, "").json["err"] == "invalid_request"
    assert push(world, "x" * 20_000).code == "request.too-large"
    assert push(world, world.provider.id_token("n", sub="subject-of-grace")).status == 400
    assert world.ask("GET", "/security-events").status == 405
    assert logout(world, good).status == 400, "and an event is no logout token"
    browser = Browser(world)
    sent = browser.leave()
    world.provider.nonces["code-e"], world.provider.token = sent["nonce"], good
    assert browser.arrive(code="code-e", state=sent["state"]).code == "sign-in.token-invalid"
    world.provider.token = None
    assert world.count(g.STOP) == 0
    assert push(world, good).status == 202 and world.count(g.STOP) == 1


def test_an_event_sent_again_is_answered_again_and_stops_nobody_whom_a_quorum_let_back(
    world: SignInWorld,
) -> None:
    text = event(world)
    assert push(world, text).status == 202
    stop = world.rows(sa.select(g.STOP))[0].id
    world.journal.latch(stop, "grace", cleared_by="8" * 64)
    assert push(world, text).status == 202
    assert Browser(world).sign_in("grace").status == 303
    assert push(world, event(world)).status == 202, "a new event is another matter"
    assert Browser(world).sign_in("grace").code == "identity.revoked"


def test_everybody_who_claims_the_subject_leaves(world: SignInWorld) -> None:
    journal, grace = world.journal, "grace"
    both = (*journal.details["rita"].forge_ids, *journal.details[grace].forge_ids)
    journal.details["rita"] = replace(journal.details["rita"], forge_ids=both)
    journal.set_roster(journal.people)
    journal.keep_details()
    assert push(world, event(world)).status == 202
    assert {one.target for one in world.rows(sa.select(g.STOP))} == {"grace", "rita"}


def test_a_terminal_that_was_let_in_and_has_not_come_yet_is_ended_too(world: SignInWorld) -> None:
    """By an event about the credential, and by a logout: what was let in by it is not worth more than a session."""
    for tell in (
        lambda: push(world, event(world, CAEP + "session-revoked")),
        lambda: logout(world, logout_token(world)),
    ):
        browser = Browser(world)
        browser.sign_in("grace")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        asked = world.ask("POST", "/device_authorization", b"client_id=laptop", **form).json
        assert (
            browser.post("/api/v1/device", {"user_code": asked["user_code"], "allow": True}).status
            == 200
        )
        assert tell().status in (200, 202)
        grant = urlencode(
            {"grant_type": DEVICE, "device_code": asked["device_code"], "client_id": "laptop"}
        )
        answer = world.ask("POST", "/token", grant.encode(), **form)
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant"), answer.body


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": timedelta(hours=1)},
        {"nbf": timedelta(hours=1)},
        {"header": {"typ": "secevent+jwt", "kid": "new"}},
    ],
    ids=["iat", "nbf", "kid"],
)
def test_what_may_be_the_gates_own_fault_is_to_be_sent_again(
    shared: SignInWorld, claims: dict[str, Any]
) -> None:
    """Its clock is slow, or it has not read the provider's new keys yet: a 400 would be the end of the event."""
    answer = push(shared, event(shared, **at_their_time(claims)))
    assert answer.status == 503 and answer.code in (
        "identity.not-yet-valid",
        "identity.key-unknown",
    )
    assert shared.count(g.STOP) == 0


def test_keys_that_cannot_be_had_are_no_reason_to_drop_an_event(tmp_path: Path) -> None:
    with HostileProvider() as away:
        away.keys = {"keys": []}
        with SignInWorld(tmp_path / "home", away) as world:
            answer = push(world, event(world))
            assert (answer.status, answer.code) == (503, "identity.keys-unavailable")


def test_without_a_provider_there_are_no_events(tmp_path: Path) -> None:
    with SignInWorld(tmp_path / "home", None) as world:
        assert push(world, "x.y.z").code == "sign-in.off"


TEXT = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["iss_sub", "complex", "https://i"]
)
NAMES = TEXT | st.sampled_from(["format", "iss", "sub", "user"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(
    claims=st.fixed_dictionaries(
        {},
        optional={
            "jti": JSON | st.just("j"),
            "iat": JSON | st.just(1000),
            "exp": JSON,
            "sub": JSON,
            "sub_id": JSON,
            "events": JSON | st.dictionaries(st.sampled_from([DISABLED, "https://e.example"]), JSON, max_size=2),
        },
    )
)  # fmt: skip
def test_whatever_the_provider_signs_is_read_or_refused_and_never_about_another_issuers_subject(
    claims: dict[str, Any],
) -> None:
    try:
        found = read_security_events(
            Jwt("a.b.c", "secevent+jwt", "RS256", "", claims), "https://i", 1000
        )
    except Refusal as refusal:
        assert refusal.code.value.startswith("identity.")
    else:
        assert set(found.subjects) <= {DISABLED}
        assert found.until_s >= 1000


# --- a logout ---------------------------------------------------------------------------------------------------------

EVENT = "http://schemas.openid.net/event/backchannel-logout"


def logout(world: SignInWorld, text: str) -> HttpAnswer:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"logout_token": text}).encode()
    return world.ask("POST", "/backchannel-logout", body, **kind)


def logout_token(world: SignInWorld, **claims: Any) -> str:
    """As the provider makes it, for grace; `claims` replace its own (None removes one)."""
    assert world.provider is not None
    now = int(time.time())
    honest = {
        "iss": world.provider.url, "aud": CLIENT_ID, "iat": now, "exp": now + 120, "jti": f"j-{time.monotonic_ns()}",
        "sub": "subject-of-grace", "events": {EVENT: {}},
    }  # fmt: skip
    return world.provider.mint(honest | claims)


@pytest.mark.parametrize("named", [{}, {"sub": None, "sid": "s-1"}, {"sid": "another"}])
def test_a_logout_at_the_provider_ends_the_sessions_by_it_and_nothing_else(
    world: SignInWorld, tmp_path: Path, named: dict[str, Any]
) -> None:
    browser, second, other = Browser(world), Browser(world), Browser(world)
    browser.sign_in("grace", sid="s-1")
    second.sign_in("grace", sid="s-2")
    other.sign_in("ada", sid="s-3")
    token = world.token(person="grace")
    assert logout(world, logout_token(world, **named)).status == 200
    assert browser.who == {} and second.who == {}
    assert other.who["person"] == "ada"
    wheel = make_wheel(tmp_path, PROJECT, "1.0")
    assert world.upload(token, wheel.name, wheel.read_bytes()).status == 202
    assert world.count(g.STOP) == 0
    assert browser.sign_in("grace").status == 303


@pytest.mark.parametrize(
    "claims",
    [
        {"events": None},
        {"events": {EVENT: "yes"}},
        {"events": {"https://other.example/event": {}}},
        {"nonce": "n"},
        {"jti": None},
        {"sub": None},
        {"sub": 7},
        {"aud": "another-client"},
        {"iss": "https://other.example"},
        {"iat": 1, "exp": 100},
        {"exp": None},
    ],
)
def test_a_logout_token_that_is_not_one_ends_nothing(
    shared: SignInWorld, claims: dict[str, Any]
) -> None:
    browser = Browser(shared)
    browser.sign_in("grace")
    answer = logout(shared, logout_token(shared, **claims))
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert browser.who["person"] == "grace"


def test_a_logout_token_is_taken_once_and_an_id_token_is_none(world: SignInWorld) -> None:
    assert world.provider is not None
    browser, text = Browser(world), logout_token(world)
    assert logout(world, text).status == 200
    browser.sign_in("grace")
    assert logout(world, text).status == 400
    assert logout(world, world.provider.id_token("n", sub="subject-of-grace")).status == 400
    assert logout(world, "").status == 400
    assert logout(world, logout_token(world, sub="nobody-here")).status == 200
    assert browser.who["person"] == "grace"
