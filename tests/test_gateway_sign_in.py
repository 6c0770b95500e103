"""Signing in at a real gateway: at a provider that lies, by a passkey, at a terminal; and what it is not for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa

from gateway_world import ORIGIN, HttpAnswer, World, basic, now_ms, until
from presspass.core.digests import sha256_hex
from presspass.core.limits import HISTORY_PAGE_MAX, SESSION_IDLE_S_MAX, SESSION_S_MAX
from presspass.core.roster import Roster, b64u, unb64u
from presspass.core.statement import FreezeBody, RosterBody
from presspass.drill.world.keys import SoftwarePasskey
from presspass.drill.world.loopback import Response
from presspass.services.config import Config, Dial, Listen, SignIn
from presspass.services.places import places
from presspass.store import gateway_tables as g
from presspass.store.database import Writer, open_engine
from sign_in_world import (
    CLIENT_ID,
    SECRET,
    Browser,
    HostileProvider,
    SignInWorld,
    at_their_time,
    basic_of,
)

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def provider() -> Iterator[HostileProvider]:
    with HostileProvider() as running:
        yield running


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, provider: HostileProvider
) -> Iterator[SignInWorld]:
    with SignInWorld(tmp_path_factory.mktemp("sign-in") / "home", provider) as running:
        # On a busy machine the first look at the provider may take too long, and the next is some time away.
        until(lambda: Browser(running).sign_in("otto").status == 303, "a first sign-in", 150)
        yield running


@pytest.fixture
def world(shared: SignInWorld) -> Iterator[SignInWorld]:
    """The shared gate, with an honest provider."""
    yield shared
    assert shared.provider is not None
    shared.provider.claims, shared.provider.header, shared.provider.token = {}, {}, None
    shared.provider.answer_to_code = None


@pytest.fixture(scope="module")
def cookies_of_ada(shared: SignInWorld) -> dict[str, str]:
    """Of one sign-in at the shared gate, for all tests that only look."""
    browser = Browser(shared)
    assert shared.provider is not None
    browser.sign_in("ada")
    shared.provider.claims = {}
    return browser.cookies


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SignInWorld]:
    """A gate of this test alone."""
    with HostileProvider() as provider, SignInWorld(tmp_path / "home", provider) as running:
        yield running


def change(world: World, text: str, *values: Any) -> None:
    """Writes into the gateway's database as time would: the gateway reads it anew at each request."""
    writer = Writer(open_engine(places(world.home, world.config, "gateway").gateway))
    named = {f"v{number}": value for number, value in enumerate(values)}
    for name in named:
        text = text.replace("?", f":{name}", 1)
    writer.run(lambda connection: connection.execute(sa.text(text), named))
    writer.close()


# --- at the provider ------------------------------------------------------------------------------------------------


def test_who_comes_back_with_a_good_token_is_signed_in_as_the_person_of_that_subject(
    world: SignInWorld,
) -> None:
    browser = Browser(world)
    answer = browser.sign_in("grace")
    assert answer.status == 303
    assert answer.headers["location"] == "/c"
    assert browser.who["person"] == "grace"
    assert browser.who["roles"] == ["approver", "requester"]
    assert browser.who["how"] == "oidc"
    flags = answer.headers["set-cookie"].split("\n")[0].lower()
    assert "httponly" in flags and "samesite=lax" in flags and "path=/" in flags


def test_the_provider_is_asked_with_pkce_and_the_clients_secret(world: SignInWorld) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    sent = browser.leave()
    assert sent["code_challenge_method"] == "S256"
    assert sent["redirect_uri"] == f"{ORIGIN}/sign-in/callback"
    assert sent["tenant"] == "1", "the provider's own query stays"
    provider.nonces["code-p"] = sent["nonce"]
    browser.arrive(code="code-p", state=sent["state"])
    form, headers = provider.asked[-1]
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert b64u(digest) == sent["code_challenge"]
    assert (
        basic_of(headers)
        == f"{CLIENT_ID}:{SECRET.replace('/', '%2F').replace('+', '%2B').replace(' ', '%20')}"
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"iss": "http://127.0.0.1:1/"},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another-client"]},
        {"aud": None},
        {"azp": "another-client"},
        {"nonce": "another-nonce"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"iat": timedelta(hours=-1), "exp": timedelta(hours=1)},
        {"iat": timedelta(hours=1), "exp": timedelta(hours=2)},
        {"nbf": timedelta(hours=1)},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_signs_nobody_in(
    world: SignInWorld, claims: dict[str, Any]
) -> None:
    browser = Browser(world)
    answer = browser.sign_in("ada", **at_their_time(claims))
    assert answer.code == "sign-in.token-invalid", answer.body
    assert browser.who == {}


def _none(token: str) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def _tampered(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(unb64u(body)) | {"sub": "subject-of-grace"}
    return f"{head}.{b64u(json.dumps(claims).encode())}.{signature}"


@pytest.mark.parametrize(
    "lie",
    [_none, _tampered, lambda token: token[:-8] + "AAAAAAAA", lambda _: "x", lambda _: "a.b.c"],
    ids=["alg-none", "tampered", "signature", "no-jwt", "no-parts"],
)
def test_a_forged_token_signs_nobody_in(world: SignInWorld, lie: Callable[[str], str]) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    sent = browser.leave()
    provider.nonces["code-f"] = sent["nonce"]
    provider.token = lie(provider.id_token(sent["nonce"], sub="subject-of-ada"))
    assert browser.arrive(code="code-f", state=sent["state"]).code == "sign-in.token-invalid"
    assert browser.who == {}


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256"},
        {"alg": "PS256"},
        {"jwk": {"kty": "oct", "k": "AA"}},
        {"jku": "http://127.0.0.1:9/keys"},
        {"kid": "unknown"},
        {"crit": ["exp"]},
    ],
    ids=str,
)
def test_a_token_that_names_its_own_way_of_checking_signs_nobody_in(
    world: SignInWorld, header: dict[str, Any]
) -> None:
    assert world.provider is not None
    browser, world.provider.header = Browser(world), header
    assert browser.sign_in("ada").code == "sign-in.token-invalid"
    assert browser.who == {}


def test_an_unknown_subject_is_refused_with_what_to_do_and_an_email_helps_nothing(
    world: SignInWorld,
) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    more = {"email": "ada@people.example", "email_verified": True, "name": "Ada"}
    answer = browser.sign_in("stranger", **more)
    assert answer.code == "sign-in.unknown-person"
    assert f"oidc:{provider.url}#subject-of-stranger" in answer.json["hint"]
    assert browser.who == {}


def test_a_subject_that_two_people_claim_is_nobody(own: SignInWorld) -> None:
    provider = own.provider
    assert provider is not None
    ids = (f"oidc:{provider.url}#subject-of-ada",)
    from dataclasses import replace

    own.journal.details["grace"] = replace(own.journal.details["grace"], forge_ids=ids)
    own.journal.set_roster(own.journal.people)
    own.journal.keep_details()
    assert Browser(own).sign_in("ada").code == "sign-in.unknown-person"


def test_an_invitation_that_nobody_approved_makes_nobody_known(world: SignInWorld) -> None:
    provider = world.provider
    assert provider is not None
    asked = {
        "person": "ada",
        "name": "Ada",
        "addresses": [],
        "groups": [],
        "forge_ids": [f"oidc:{provider.url}#subject-of-mallory"],
    }
    assert world.control("POST", "/links", asked).status == 201
    assert Browser(world).sign_in("mallory").code == "sign-in.unknown-person"


def test_an_answer_without_the_cookie_of_its_start_signs_nobody_in(world: SignInWorld) -> None:
    """Login CSRF: a thief's own code and state, sent to a victim's browser."""
    thief, victim, provider = Browser(world), Browser(world), world.provider
    assert provider is not None
    sent = thief.leave()
    provider.nonces["code-c"] = sent["nonce"]
    assert victim.arrive(code="code-c", state=sent["state"]).code == "sign-in.expired"
    victim.leave()
    assert victim.arrive(code="code-c", state=sent["state"]).code == "sign-in.expired"
    assert victim.who == {}


def test_a_wrong_state_ends_the_attempt_for_good(world: SignInWorld) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    sent = browser.leave()
    provider.nonces["code-s"] = sent["nonce"]
    assert browser.arrive(code="code-s", state="x" + sent["state"]).code == "sign-in.expired"
    assert browser.arrive(code="code-s", state=sent["state"]).code == "sign-in.expired"
    assert "code-s" in provider.nonces, "the code was never shown to the provider"


def test_an_answer_is_good_once(world: SignInWorld) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    sent = browser.leave()
    kept = dict(browser.cookies)
    provider.nonces["code-o"] = provider.nonces["code-o2"] = sent["nonce"]
    assert browser.arrive(code="code-o", state=sent["state"]).status == 303
    again = Browser(world)
    again.cookies = kept
    assert again.arrive(code="code-o2", state=sent["state"]).code == "sign-in.expired"


def test_an_attempt_is_over_after_ten_minutes(world: SignInWorld) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    sent = browser.leave()
    provider.nonces["code-t"] = sent["nonce"]
    change(world, "UPDATE sign_in_attempt SET expires_ms = ?", now_ms() - 1)
    assert browser.arrive(code="code-t", state=sent["state"]).code == "sign-in.expired"


def test_an_answer_of_another_issuer_is_refused_before_its_code_is_used(world: SignInWorld) -> None:
    """RFC 9207: mix-up of two providers."""
    browser, provider = Browser(world), world.provider
    assert provider is not None
    sent = browser.leave()
    provider.nonces["code-i"] = sent["nonce"]
    answer = browser.arrive(code="code-i", state=sent["state"], iss="https://other.example")
    assert answer.code == "sign-in.refused"
    assert "code-i" in provider.nonces


def test_a_code_that_the_provider_does_not_know_and_a_denial_are_refusals(
    world: SignInWorld,
) -> None:
    browser = Browser(world)
    sent = browser.leave()
    assert browser.arrive(code="never-given", state=sent["state"]).code == "sign-in.refused"
    sent = browser.leave()
    answer = browser.arrive(error="access_denied", state=sent["state"])
    assert answer.code == "sign-in.refused"
    assert answer.status == 403


@pytest.mark.parametrize(
    "answer",
    [
        Response(500, b"{}"),
        Response(200, b"x" * 400_000, "application/json"),
        Response(200, b"[]", "application/json"),
        Response(302, b"", headers=(("location", "http://127.0.0.1:9/"),)),
        Response(200, b'{"access_token": "only"}', "application/json"),
    ],
    ids=["broken", "too-large", "no-object", "redirect", "no-id-token"],
)
def test_a_provider_that_cannot_be_used_is_said_to_be_so(
    world: SignInWorld, answer: Response
) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    sent = browser.leave()
    provider.answer_to_code = answer
    found = browser.arrive(code="code-b", state=sent["state"])
    assert found.code == "sign-in.provider-failed"
    assert found.json["hint"]


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://other.example"},
        {"token_endpoint": "http://other.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": None},
    ],
    ids=str,
)
def test_a_provider_that_describes_itself_wrongly_is_not_used(
    tmp_path: Path, description: dict[str, Any]
) -> None:
    with HostileProvider() as provider, SignInWorld(tmp_path / "home", provider) as world:
        provider.describes = description
        browser = Browser(world)
        assert (
            browser.get("/sign-in/start", Accept="application/json").code
            == "sign-in.provider-failed"
        )
        provider.describes = {}
        first = browser.get("/sign-in/start", Accept="application/json").code
        assert first == "sign-in.provider-failed", "it is not asked again at once"


@pytest.mark.parametrize(
    "back_to",
    ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "evil"],
)
def test_nobody_is_sent_elsewhere_after_signing_in(world: SignInWorld, back_to: str) -> None:
    browser, provider = Browser(world), world.provider
    assert provider is not None
    answer = browser.get(f"/sign-in/start?{urlencode({'next': back_to})}")
    assert answer.headers["location"].startswith(provider.url)
    from urllib.parse import parse_qs, urlsplit

    sent = {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    provider.nonces["code-n"] = sent["nonce"]
    provider.claims = {"sub": "subject-of-ada"}
    assert browser.arrive(code="code-n", state=sent["state"]).headers["location"] == "/c"


def test_without_a_provider_the_gate_says_so_and_dials_nobody(tmp_path: Path) -> None:
    with SignInWorld(tmp_path / "home") as world:
        browser = Browser(world)
        assert browser.get("/sign-in/start", Accept="application/json").code == "sign-in.off"
        page = browser.get("/sign-in", Accept="text/html")
        assert page.status == 200
        assert b"/sign-in/start" not in page.body


def test_a_secret_file_that_others_may_read_keeps_the_gateway_from_starting(tmp_path: Path) -> None:
    with HostileProvider() as provider:
        world = SignInWorld(tmp_path / "home", provider)
        (world.home / "gateway" / "sign-in.secret").chmod(0o644)
        with pytest.raises(AssertionError, match="can be read by others"):
            world.gateway.start()
        assert world.gateway._reap() == 4


def test_behind_https_cookies_are_bound_to_this_very_host(tmp_path: Path) -> None:
    with HostileProvider() as provider:
        port = int(provider.url.rpartition(":")[2])
        config = Config(
            "https://gate.example",
            listen=Listen(port=0),
            dial=Dial((port,)),
            sign_in=SignIn(provider.url, CLIENT_ID, "openid"),
        )
        with World(tmp_path / "home", sealed=False, config=config) as world:
            answer = world.ask("GET", "/sign-in/start", None, Host="gate.example")
    assert answer.status == 303
    words = {one.strip().lower() for one in answer.headers["set-cookie"].split(";")}
    assert answer.headers["set-cookie"].startswith("__Host-presspass_leaving=")
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= words
    assert not [one for one in words if one.startswith("domain")]


def test_who_signed_in_and_what_was_allowed_is_on_record(world: SignInWorld) -> None:
    browser = Browser(world)
    browser.sign_in("grace")
    terminal_token(world, browser)
    make_key(browser, SoftwarePasskey.generate(511))
    for kind in ("signed-in", "terminal", "sign-in-key"):
        found = sa.select(g.EVENT).where(g.EVENT.c.kind == kind, g.EVENT.c.detail.like("grace %"))
        assert until(lambda query=found: world.rows(query), f"a row of {kind}")


# --- sessions -------------------------------------------------------------------------------------------------------


def test_each_sign_in_gives_a_new_secret_and_ends_the_session_before(world: SignInWorld) -> None:
    browser = Browser(world)
    browser.cookies["presspass_session"] = "pps_chosen-by-an-attacker"
    browser.sign_in("ada")
    first = browser.cookies["presspass_session"]
    browser.sign_in("grace")
    assert browser.cookies["presspass_session"] != first
    old = Browser(world)
    old.cookies["presspass_session"] = first
    assert old.who == {}
    assert browser.who["person"] == "grace"


def test_the_secret_of_a_session_is_kept_as_a_hash_only(world: SignInWorld) -> None:
    browser = Browser(world)
    browser.sign_in("ada")
    secret = browser.cookies["presspass_session"]
    hashes = [row.hash for row in world.rows(sa.select(g.SESSION.c.hash))]
    assert sha256_hex(secret.encode()) in hashes
    files = [path for path in (world.home / "gateway").rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_signing_out_ends_the_session_at_the_gate(world: SignInWorld) -> None:
    browser = Browser(world)
    browser.sign_in("ada")
    kept = dict(browser.cookies)
    assert browser.post("/api/v1/session/end", {}).status == 200
    assert "presspass_session" not in browser.cookies
    again = Browser(world)
    again.cookies = kept
    assert again.who == {}


def test_whoever_leaves_the_roster_is_signed_out_by_the_next_request(own: SignInWorld) -> None:
    browser = Browser(own)
    browser.sign_in("rita")
    assert browser.who["person"] == "rita"
    own.without("rita")
    assert browser.get("/api/v1/session").code == "session.missing"


def test_a_session_ends_after_an_hour_without_a_request_and_after_twelve_in_any_case(
    world: SignInWorld,
) -> None:
    browser = Browser(world)
    browser.sign_in("ada")
    digest = sha256_hex(browser.cookies["presspass_session"].encode())
    row = world.rows(sa.select(g.SESSION).where(g.SESSION.c.hash == digest))[0]
    assert row.expires_ms - row.created_ms == SESSION_S_MAX * 1000
    seen = now_ms() - SESSION_IDLE_S_MAX * 1000 + 60_000
    change(world, "UPDATE session SET seen_ms = ? WHERE hash = ?", seen, digest)
    assert browser.who, "just in time, and the hour begins anew"
    seen = world.rows(sa.select(g.SESSION.c.seen_ms).where(g.SESSION.c.hash == digest))[0].seen_ms
    assert now_ms() - seen < SESSION_IDLE_S_MAX * 1000 // 2
    change(world, "UPDATE session SET seen_ms = seen_ms - 3601000 WHERE hash = ?", digest)
    assert not browser.who
    browser.sign_in("ada")
    digest = sha256_hex(browser.cookies["presspass_session"].encode())
    change(world, "UPDATE session SET expires_ms = ? WHERE hash = ?", now_ms() - 1, digest)
    assert not browser.who


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "none"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Origin": "https://evil.example", "Authorization": basic("x")},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/session/end",
        "/api/v1/sign-in/begin",
        "/api/v1/sign-in",
        "/api/v1/sign-in/keys/begin",
        "/api/v1/sign-in/keys",
        "/api/v1/sign-in/keys/remove",
        "/api/v1/device",
        "/api/v1/people/links",
        "/api/v1/people/changes",
        "/api/v1/requests",
    ],
)
def test_another_sites_page_can_make_a_browser_do_nothing(
    world: SignInWorld, cookies_of_ada: dict[str, str], path: str, headers: dict[str, str]
) -> None:
    browser = Browser(world)
    browser.cookies = dict(cookies_of_ada)
    assert browser.post(path, {}, **headers).code == "session.cross-site"
    assert browser.who["person"] == "ada"


# --- what a session is not for ----------------------------------------------------------------------------------------


def test_a_session_of_an_admin_approves_vetoes_clears_and_enrols_nothing(own: SignInWorld) -> None:
    browser = Browser(own)
    browser.sign_in("ada")
    terminal = terminal_token(own, browser)
    link = browser.post(
        "/api/v1/people/links",
        {"person": "", "name": "Zoe", "addresses": [], "groups": [], "forge_ids": []},
    )
    assert link.status == 201
    asked = browser.post("/api/v1/people/changes", {"person": "rita", "groups": ["role:admin"]})
    digest = asked.json["digest"]
    statement = own.ask("GET", f"/api/v1/requests/{digest}").json["statement"].encode()
    signature = own.ada.approve(statement, origin=ORIGIN, rp_id="localhost").to_json()
    unsigned = {**signature, "signature": b64u(b"none")}
    roster = {**unsigned, "key": "ada"}
    for headers in ({}, {"Authorization": f"Bearer {terminal}"}):
        path = f"/api/v1/requests/{digest}/approvals"
        for body in (unsigned, roster, {"session": True}, {}):
            answer = browser.post(path, body, **headers)
            assert answer.status in (400, 403), (body, answer.body)
        freeze = own.journal.statement(FreezeBody("set", "", (), "mine"))
        text = freeze.to_bytes().decode()
        for approval in ({**unsigned, "statement": freeze.digest}, {}):
            answer = browser.post(
                "/api/v1/narrowings", {"statement": text, "approval": approval}, **headers
            )
            assert answer.status in (400, 403), answer.body
        key = {"link": "", "ssh_public_key": "ssh-ed25519 AAAA"}
        assert browser.post("/api/v1/enrolments", key, **headers).status == 400
    assert own.count(g.APPROVAL) == 0
    assert own.count(g.NARROWING) == 0
    assert own.count(g.ENROLMENT) == 0
    shown = own.ask("GET", f"/api/v1/requests/{digest}").json
    assert shown["tally"]["counted"] == []
    assert shown["state"] == "awaiting"


# --- roles ----------------------------------------------------------------------------------------------------------


def test_each_role_sees_and_asks_for_what_is_its_own(own: SignInWorld) -> None:
    files = {person: f"greet-1.{n}.tar.gz" for n, person in enumerate(("rita", "grace"))}
    from presspass.drill.packages import make_sdist

    for person, name in files.items():
        version = name.removeprefix("greet-").removesuffix(".tar.gz")
        path = make_sdist(own.home, "greet", version, {})
        assert own.upload(own.token(person=person), name, path.read_bytes()).status == 202
    sees, asks, people = {}, {}, {}
    for person in ("ada", "grace", "rita", "otto"):
        browser = Browser(own)
        browser.sign_in(person)
        shown = browser.get("/api/v1/overview").json
        sees[person] = sorted(one["requester"] for one in shown["releases"])
        page = browser.get("/c", Accept="text/html").body
        assert page.count(b'href="/r/') == len(sees[person])
        wanted = {"person": "otto", "groups": [f"asked-by-{person}"]}
        asks[person] = browser.post("/api/v1/people/changes", wanted).status
        people[person] = browser.get("/people", Accept="text/html").status
    everything = ["grace", "rita"]
    assert sees == {"ada": everything, "grace": everything, "otto": everything, "rita": ["rita"]}
    assert asks == {"ada": 201, "grace": 403, "rita": 403, "otto": 403}
    assert people == {"ada": 200, "grace": 403, "rita": 403, "otto": 200}


def test_history_is_for_who_may_see_what_everybody_did(own: SignInWorld) -> None:
    api, page = {}, {}
    for person in ("ada", "grace", "rita", "otto"):
        browser = Browser(own)
        browser.sign_in(person)
        api[person] = browser.get("/api/v1/history?kind=upstream").status
        page[person] = browser.get("/history", Accept="text/html").status
    assert api == page == {"ada": 200, "grace": 200, "rita": 403, "otto": 200}
    stranger = Browser(own)
    assert stranger.get("/api/v1/history").status == 401
    assert stranger.get("/history", Accept="text/html").status == 401


def test_history_is_read_page_by_page_and_refuses_what_nobody_knows(own: SignInWorld) -> None:
    for _ in range(HISTORY_PAGE_MAX):
        own.journal.set_roster(own.journal.people)
    browser = Browser(own)
    browser.sign_in("otto")
    first = browser.get("/api/v1/history").json
    second = browser.get(f"/api/v1/history?after={first['next']}").json
    assert len(first["acts"]) == HISTORY_PAGE_MAX and second["next"] is None
    digests = [one["digest"] for one in (*first["acts"], *second["acts"])]
    assert len(set(digests)) == len(digests) == HISTORY_PAGE_MAX + 2
    assert [one["kind"] for one in first["acts"][:3]] == ["genesis", "upstream", "roster"]
    body = browser.get("/history", Accept="text/html").body.decode()
    (older,) = re.findall(r'href="(/history\?further=[^"]+)"', body)
    again = browser.get(older, Accept="text/html").body.decode()
    shown = [re.findall(r'href="/q/([0-9a-f]{64})"', one) for one in (body, again)]
    assert shown[0] + shown[1] == digests[::-1][:100]
    for words, status in (("key=00112233", 404), ("policy=7", 404), ("since=x", 400)):
        answer = browser.get(f"/api/v1/history?{words}")
        assert (answer.status, answer.json["code"][:8]) == (status, "request.")
        assert browser.get(f"/history?{words}", Accept="text/html").status == status
    for after in ("x", "1.abc", "-1." + "a" * 64):
        assert browser.get(f"/api/v1/history?after={after}").code == "request.malformed"


def test_an_admins_change_is_a_request_that_others_approve(own: SignInWorld) -> None:
    browser = Browser(own)
    browser.sign_in("ada")
    asked = browser.post(
        "/api/v1/people/changes",
        {"person": "Grace", "addresses": ["mailto:new@people.example"], "groups": ["role:auditor"]},
    )
    assert asked.status == 201
    shown = own.ask("GET", f"/api/v1/requests/{asked.json['digest']}").json
    after = {one["id"]: one for one in json.loads(shown["statement"])["body"]["roster"]["people"]}
    assert after["grace"]["groups"] == ["role:auditor"]
    opened = shown["details"][after["grace"]["details"]]
    assert opened["addresses"] == ["mailto:new@people.example"]
    assert opened["forge_ids"] == list(own.journal.details["grace"].forge_ids)
    assert browser.post("/api/v1/people/changes", {"person": "grace"}).code == "request.malformed"
    assert browser.post("/api/v1/people/changes", {"person": "nobody", "groups": []}).status == 404
    text = (
        own.journal.statement(RosterBody(Roster(())), own.journal.roster_head).to_bytes().decode()
    )
    assert browser.post("/api/v1/requests", {"statement": text}).status == 201


def test_the_operators_view_link_goes_on_to_show_the_list_and_nothing_else(
    world: SignInWorld,
) -> None:
    address = world.control("POST", "/view-tokens").json["url"]
    browser = Browser(world)
    assert browser.get("/c", Accept="text/html").status == 401
    browser.get(address.removeprefix(ORIGIN), Accept="text/html")
    assert browser.get("/c", Accept="text/html").status == 200
    assert browser.who == {}
    assert browser.post("/api/v1/people/changes", {"person": "ada"}).code == "session.missing"


# --- sign-in passkeys -------------------------------------------------------------------------------------------------


def make_key(
    browser: Browser, passkey: SoftwarePasskey, link: str = "", **changes: Any
) -> HttpAnswer:
    begun = browser.post("/api/v1/sign-in/keys/begin", {"link": link})
    if begun.status != 200:
        return begun
    made = passkey.registration(begun.json["public_key"], changes.pop("origin", ORIGIN))
    value = {"id": begun.json["id"], "name": "laptop", "credential": made, "link": link, **changes}
    return browser.post("/api/v1/sign-in/keys", value)


def use_key(browser: Browser, passkey: SoftwarePasskey, **changes: Any) -> HttpAnswer:
    begun = browser.post("/api/v1/sign-in/begin", {}).json
    challenge = unb64u(begun["public_key"]["challenge"])
    return browser.post(
        "/api/v1/sign-in",
        {"id": begun["id"], "credential": assertion(passkey, challenge)} | changes,
    )


def assertion(passkey: SoftwarePasskey, challenge: bytes, origin: str = ORIGIN) -> dict[str, Any]:
    """An AuthenticationResponseJSON."""
    client_data, auth_data, signature = passkey._assert(challenge, origin, "localhost")
    response = {
        "clientDataJSON": b64u(client_data),
        "authenticatorData": b64u(auth_data),
        "signature": b64u(signature),
        "userHandle": None,
    }
    raw = b64u(passkey.credential_id)
    return {
        "id": raw, "rawId": raw, "type": "public-key", "response": response,
        "clientExtensionResults": {}, "authenticatorAttachment": "platform",
    }  # fmt: skip


def test_a_sign_in_passkey_made_while_signed_in_signs_in_again(world: SignInWorld) -> None:
    browser, passkey = Browser(world), SoftwarePasskey.generate(501)
    browser.sign_in("grace")
    assert make_key(browser, passkey).status == 201
    fresh = Browser(world)
    assert use_key(fresh, passkey).status == 201
    assert (fresh.who["person"], fresh.who["how"]) == ("grace", "passkey")
    removed = fresh.post("/api/v1/sign-in/keys/remove", {"credential": b64u(passkey.credential_id)})
    assert removed.status == 200
    assert use_key(Browser(world), passkey).code == "sign-in.key-invalid"


def test_an_operators_link_makes_one_sign_in_passkey_for_the_named_person(
    world: SignInWorld,
) -> None:
    made = world.control("POST", "/sign-in-links", {"person": "Rita"}).json
    link = made["url"].partition("#")[2]
    browser, passkey = Browser(world), SoftwarePasskey.generate(502)
    assert make_key(browser, passkey, link).status == 201
    assert use_key(browser, passkey).status == 201
    assert browser.who["person"] == "rita"
    again = make_key(Browser(world), SoftwarePasskey.generate(503), link)
    assert again.code == "sign-in.link-invalid"
    assert world.control("POST", "/sign-in-links", {"person": "nobody"}).status == 404


def test_a_roster_key_never_signs_in_and_never_becomes_a_sign_in_passkey(
    world: SignInWorld,
) -> None:
    browser = Browser(world)
    assert use_key(browser, world.ada).code == "sign-in.roster-key"
    browser.sign_in("ada")
    assert make_key(browser, world.ada).code == "sign-in.roster-key"
    other_id = SoftwarePasskey(world.ada.private_key, b"another credential id")
    assert make_key(browser, other_id).code == "sign-in.roster-key"


def test_a_sign_in_passkey_never_becomes_a_roster_key(world: SignInWorld) -> None:
    browser, passkey = Browser(world), SoftwarePasskey.generate(504)
    browser.sign_in("ada")
    assert make_key(browser, passkey).status == 201
    asked = {"person": "ada", "name": "Ada", "addresses": [], "groups": [], "forge_ids": []}
    link = world.control("POST", "/links", asked).json["url"].partition("#")[2]
    for key in (passkey, SoftwarePasskey(passkey.private_key, b"another credential id")):
        begun = world.ask("POST", "/api/v1/enrolments/begin", {"link": link}).json
        body = {"link": link, "credential": key.registration(begun["public_key"], ORIGIN)}
        answer = world.ask("POST", "/api/v1/enrolments", body | {"software": True})
        assert answer.code == "enrolment.invalid"
        assert "signs in here" in answer.json["detail"]


def test_a_passkey_that_enters_the_roster_by_another_way_signs_in_no_more(own: SignInWorld) -> None:
    browser, passkey = Browser(own), SoftwarePasskey.generate(505)
    browser.sign_in("ada")
    assert make_key(browser, passkey).status == 201
    own.journal.set_roster({**own.journal.people, "ada": [own.ada.key, passkey.key]})
    assert use_key(Browser(own), passkey).code == "sign-in.roster-key"


def test_a_challenge_is_good_once_and_for_its_own_purpose(world: SignInWorld) -> None:
    browser, passkey = Browser(world), SoftwarePasskey.generate(506)
    browser.sign_in("ada")
    assert make_key(browser, passkey).status == 201
    begun = browser.post("/api/v1/sign-in/begin", {}).json
    challenge = unb64u(begun["public_key"]["challenge"])
    value = {"id": begun["id"], "credential": assertion(passkey, challenge)}
    assert browser.post("/api/v1/sign-in", value).status == 201
    assert browser.post("/api/v1/sign-in", value).code == "sign-in.key-invalid"
    making = browser.post("/api/v1/sign-in/keys/begin", {"link": ""}).json
    signed = assertion(passkey, unb64u(making["public_key"]["challenge"]))
    answer = browser.post("/api/v1/sign-in", {"id": making["id"], "credential": signed})
    assert answer.code == "sign-in.key-invalid"
    begun = browser.post("/api/v1/sign-in/begin", {}).json
    change(world, "UPDATE sign_in_challenge SET expires_ms = ?", now_ms() - 1)
    value = {
        "id": begun["id"],
        "credential": assertion(passkey, unb64u(begun["public_key"]["challenge"])),
    }
    assert browser.post("/api/v1/sign-in", value).code == "sign-in.key-invalid"


def test_a_passkey_elsewhere_unverified_or_wrongly_signed_signs_nobody_in(
    world: SignInWorld,
) -> None:
    browser, passkey = Browser(world), SoftwarePasskey.generate(507)
    browser.sign_in("ada")
    assert make_key(browser, passkey, origin="https://evil.example").code == "sign-in.key-invalid"
    unverified = SoftwarePasskey(passkey.private_key, passkey.credential_id, flags=1)
    assert make_key(browser, unverified).code == "sign-in.key-invalid"
    assert make_key(browser, passkey).status == 201
    stranger = SoftwarePasskey(SoftwarePasskey.generate(508).private_key, passkey.credential_id)
    fresh = Browser(world)
    for wrong in (unverified, stranger, SoftwarePasskey.generate(509)):
        assert use_key(fresh, wrong).code == "sign-in.key-invalid"
    begun = fresh.post("/api/v1/sign-in/begin", {}).json
    elsewhere = assertion(passkey, unb64u(begun["public_key"]["challenge"]), "https://evil.example")
    answer = fresh.post("/api/v1/sign-in", {"id": begun["id"], "credential": elsewhere})
    assert answer.code == "sign-in.key-invalid"
    for broken in ({}, {"rawId": 7}, "x", None, {"rawId": "AA", "response": {}}):
        begun = fresh.post("/api/v1/sign-in/begin", {}).json
        answer = fresh.post("/api/v1/sign-in", {"id": begun["id"], "credential": broken})
        assert answer.code == "sign-in.key-invalid", broken
    assert fresh.who == {}


def test_an_old_session_or_a_terminals_makes_no_passkey(world: SignInWorld) -> None:
    browser = Browser(world)
    browser.sign_in("ada")
    token = terminal_token(world, browser)
    bearer = {"Authorization": f"Bearer {token}"}
    for path in ("/api/v1/sign-in/keys/begin", "/api/v1/sign-in/keys/remove"):
        answer = Browser(world).post(
            path, {"credential": "x"} if "remove" in path else {}, **bearer
        )
        assert answer.code == "session.role-missing"
    digest = sha256_hex(browser.cookies["presspass_session"].encode())
    change(world, "UPDATE session SET created_ms = created_ms - 901000 WHERE hash = ?", digest)
    assert make_key(browser, SoftwarePasskey.generate(510)).code == "session.not-fresh"


# --- terminals --------------------------------------------------------------------------------------------------------


def form(world: World, path: str, **values: str) -> HttpAnswer:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return world.ask("POST", path, urlencode(values).encode(), **kind)


def poll(world: World, asked: dict[str, Any], *, patient: bool = True) -> HttpAnswer:
    """One question for the token; `patient`: as if the interval had passed since the last one."""
    if patient:
        change(world, "UPDATE device_grant SET polled_ms = NULL")
    return form(world, "/token", grant_type=DEVICE, device_code=asked["device_code"])


def terminal_token(world: World, browser: Browser) -> str:
    asked = form(world, "/device_authorization", client_id="presspass on box").json
    allowed = browser.post("/api/v1/device", {"user_code": asked["user_code"], "allow": True})
    assert allowed.status == 200, allowed.body
    return str(poll(world, asked).json["access_token"])


def test_a_terminal_gets_the_session_of_whoever_allowed_it_once(world: SignInWorld) -> None:
    browser = Browser(world)
    browser.sign_in("grace")
    asked = form(world, "/device_authorization", client_id="presspass on box (ada)").json
    assert asked["verification_uri"] == f"{ORIGIN}/device"
    assert asked["verification_uri_complete"].endswith(asked["user_code"])
    assert poll(world, asked).json["error"] == "authorization_pending"
    page = browser.get(f"/device?user_code={asked['user_code'].lower()}", Accept="text/html").body
    assert b"presspass on box (ada)" in page and b"127.0.0.1" in page and b"Grace" in page
    browser.post("/api/v1/device", {"user_code": asked["user_code"], "allow": True})
    given = poll(world, asked).json
    assert given["token_type"] == "Bearer"
    assert given["expires_in"] == SESSION_S_MAX
    who = world.ask("GET", "/api/v1/session", None, Authorization=f"Bearer {given['access_token']}")
    assert (who.json["person"], who.json["place"]) == ("grace", "terminal")
    assert poll(world, asked).json["error"] == "invalid_grant"
    again = browser.post("/api/v1/device", {"user_code": asked["user_code"], "allow": True})
    assert again.code == "device.unknown-code"


def test_a_terminal_that_is_denied_or_too_late_or_too_fast_gets_nothing(world: SignInWorld) -> None:
    browser = Browser(world)
    browser.sign_in("ada")
    denied = form(world, "/device_authorization", client_id="x").json
    browser.post("/api/v1/device", {"user_code": denied["user_code"], "allow": False})
    assert poll(world, denied).json["error"] == "access_denied"
    hasty = form(world, "/device_authorization", client_id="x").json
    assert poll(world, hasty).json["error"] == "authorization_pending"
    # As if it had just asked: how long the last question was ago is the machine's doing.
    change(world, "UPDATE device_grant SET polled_ms = ?", now_ms() + 60_000)
    assert poll(world, hasty, patient=False).json["error"] == "slow_down"
    own = sa.select(g.DEVICE_GRANT.c.interval_s).where(g.DEVICE_GRANT.c.interval_s > 5)
    assert [row.interval_s for row in world.rows(own)] == [10]
    change(world, "UPDATE device_grant SET expires_ms = ?", now_ms() - 1)
    answer = browser.post("/api/v1/device", {"user_code": hasty["user_code"], "allow": True})
    assert answer.code == "device.unknown-code"
    assert poll(world, hasty).json["error"] == "expired_token"


def test_whoever_left_the_roster_after_allowing_a_terminal_gives_it_nothing(
    own: SignInWorld,
) -> None:
    browser = Browser(own)
    browser.sign_in("rita")
    asked = form(own, "/device_authorization", client_id="x").json
    browser.post("/api/v1/device", {"user_code": asked["user_code"], "allow": True})
    own.without("rita")
    assert poll(own, asked).json["error"] == "access_denied"


def test_nobody_allows_a_terminal_without_a_browsers_session(world: SignInWorld) -> None:
    asked = form(world, "/device_authorization", client_id="x").json
    wanted = {"user_code": asked["user_code"], "allow": True}
    assert Browser(world).post("/api/v1/device", wanted).code == "session.missing"
    browser = Browser(world)
    browser.sign_in("ada")
    token = terminal_token(world, browser)
    answer = Browser(world).post("/api/v1/device", wanted, Authorization=f"Bearer {token}")
    assert answer.code == "session.role-missing"
    page = Browser(world).get(f"/device?user_code={asked['user_code']}", Accept="text/html")
    assert page.status == 303
    assert page.headers["location"].startswith("/sign-in?next=%2Fdevice%3Fuser_code%3D")


@pytest.mark.parametrize(
    "values",
    [{}, {"client_id": ""}, {"client_id": "a\nb"}, {"client_id": "x" * 200}],
    ids=str,
)
def test_a_terminal_that_does_not_say_what_it_is_is_refused(
    world: SignInWorld, values: dict[str, str]
) -> None:
    answer = form(world, "/device_authorization", **values)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


def test_the_metadata_names_the_device_flow(world: SignInWorld) -> None:
    found = world.ask("GET", "/.well-known/oauth-authorization-server").json
    assert found["device_authorization_endpoint"] == f"{ORIGIN}/device_authorization"
    assert DEVICE in found["grant_types_supported"]
    assert form(world, "/token", grant_type="password").json["error"] == "unsupported_grant_type"
