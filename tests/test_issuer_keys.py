"""Tokens of a certified provider before the gate's own key sets: rotation, an issuer that is down, slow or wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from certificates import Authority
from oidc_issuer import OidcProvider
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import (
    KEY_SET_AGE_S_MAX,
    KEY_SET_COOL_DOWN_S,
    KEY_SET_FETCH_S_MAX,
    KEY_SET_REFRESH_S,
)
from presspass.core.workload import Workload
from presspass.drill.world import GithubJob
from presspass.drill.world.loopback import LoopbackServer, Request, Response
from presspass.formats.jwks import KeySet
from presspass.formats.jwt import parse_jwt
from presspass.issuers import KeySets
from presspass.issuers.fetching import fetch_key_set
from presspass.verify.workload import verify_workload

AUDIENCE = "presspass:gate.example"
JOB = GithubJob()


@dataclass
class Store:
    """A store of key sets with a clock that a test moves, and a count of the fetches behind it."""

    now_s: float = 1000.0
    fetched: list[str] = field(default_factory=list)
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        self.sets = KeySets(self._fetch, clock=lambda: self.now_s)

    def _fetch(self, issuer: str) -> bytes:
        self.fetched.append(issuer)
        time.sleep(self.delay_s)
        return fetch_key_set(issuer)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path / "issuer") as issuer:
        yield issuer


def token_of(provider: OidcProvider, **claims: object) -> str:
    return provider.token(JOB.claims() | claims, AUDIENCE)


def verified(text: str, keys: KeySet, issuer: str) -> Workload:
    return verify_workload(
        parse_jwt(text),
        keys,
        issuer=issuer,
        provider="github",
        audiences={AUDIENCE},
        now_s=time.time(),
    )


def refusal_of(act: Callable[[], object]) -> Code:
    with pytest.raises(Refusal) as refused:
        act()
    return refused.value.code


# --- a provider as it should be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
def test_a_token_of_the_provider_proves_its_workload(
    tmp_path: Path, store: Store, alg: str
) -> None:
    with OidcProvider(tmp_path / "issuer", alg=alg) as provider:
        workload = verified(token_of(provider), store.sets.keys(provider.url), provider.url)
    assert workload.ids == (("repository_id", "1001"), ("repository_owner_id", "501"))
    assert workload.workflow_path == ".github/workflows/release.yml"
    assert (workload.ref, workload.event, workload.actor) == (JOB.ref, "push", "github:7001")
    assert (workload.hosted, workload.called_workflow) == (True, "")


def test_the_time_limits_and_the_audience_hold_for_a_certified_token(
    provider: OidcProvider, store: Store, tmp_path: Path
) -> None:
    keys, now = store.sets.keys(provider.url), int(time.time())
    for claims, code in (
        ({"exp": now - 60, "iat": now - 300, "nbf": None}, Code.IDENTITY_EXPIRED),
        ({"iat": now + 120, "nbf": now + 120, "exp": now + 300}, Code.IDENTITY_NOT_YET_VALID),
        ({"exp": now + 7200}, Code.IDENTITY_LIFE),
        ({"exp": None}, Code.IDENTITY_CLAIM_MISSING),
        ({"aud": [AUDIENCE, "another"]}, Code.IDENTITY_AUDIENCE),
        ({"repository_id": None}, Code.IDENTITY_CLAIM_MISSING),
    ):
        text = token_of(provider, **claims)
        assert refusal_of(lambda text=text: verified(text, keys, provider.url)) is code, claims
    with OidcProvider(tmp_path / "other") as other:  # same claims, other keys
        forged = token_of(other, iss=provider.url)
    assert refusal_of(lambda: verified(forged, keys, provider.url)) is Code.IDENTITY_KEY_UNKNOWN


def test_over_https_the_issuer_must_be_certified_by_somebody_we_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    authority = Authority(tmp_path / "authority")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with OidcProvider(tmp_path / "issuer", authority=authority, host="localhost") as provider:
        with pytest.raises(Fault) as fault:
            fetch_key_set(provider.url)
        assert fault.value.retryable
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
        keys = store.sets.keys(provider.url)
        assert verified(token_of(provider), keys, provider.url).issuer == provider.url


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_a_new_key_is_found_once_the_cool_down_is_over_and_the_old_one_ends_with_its_set(
    provider: OidcProvider, store: Store
) -> None:
    keys, old = store.sets.keys(provider.url), token_of(provider)
    provider.rotate()
    new = token_of(provider)
    assert refusal_of(lambda: verified(new, keys, provider.url)) is Code.IDENTITY_KEY_UNKNOWN
    assert store.sets.keys(provider.url, unknown_to=keys) is keys, "asked a moment ago"
    store.now_s += KEY_SET_COOL_DOWN_S
    newer = store.sets.keys(provider.url, unknown_to=keys)
    verified(new, newer, provider.url)
    assert refusal_of(lambda: verified(old, newer, provider.url)) is Code.IDENTITY_KEY_UNKNOWN
    assert len(store.fetched) == 2


def test_only_an_unknown_key_causes_a_second_look_and_newer_keys_are_tried_once(
    provider: OidcProvider, store: Store
) -> None:
    def prove(text: str) -> Workload:
        return store.sets.verified(provider.url, lambda keys: verified(text, keys, provider.url))

    assert prove(token_of(provider)).issuer == provider.url
    store.now_s += KEY_SET_COOL_DOWN_S
    late = token_of(provider, iat=1_000_000_000, exp=1_000_000_300)
    assert refusal_of(lambda: prove(late)) is Code.IDENTITY_EXPIRED
    assert len(store.fetched) == 1
    provider.rotate()
    assert prove(token_of(provider)).issuer == provider.url
    assert len(store.fetched) == 2


def test_a_rotation_with_an_overlap_refuses_nobody(provider: OidcProvider, store: Store) -> None:
    keys, old = store.sets.keys(provider.url), token_of(provider)
    provider.rotate(keep_old=True)
    store.now_s += KEY_SET_COOL_DOWN_S
    newer = store.sets.keys(provider.url, unknown_to=keys)
    assert len(newer.key_ids) == 2
    for text in (old, token_of(provider)):
        verified(text, newer, provider.url)


def test_the_schedule_renews_a_set_before_anybody_needs_it(
    provider: OidcProvider, store: Store
) -> None:
    store.sets.watch(provider.url)
    store.sets.refresh_due()
    provider.rotate()
    store.sets.refresh_due()
    assert len(store.fetched) == 1, "not due yet"
    store.now_s += KEY_SET_REFRESH_S
    store.sets.refresh_due()
    verified(token_of(provider), store.sets.keys(provider.url), provider.url)
    assert len(store.fetched) == 2


def test_a_flood_of_unknown_keys_makes_one_request(provider: OidcProvider, store: Store) -> None:
    keys = store.sets.keys(provider.url)
    store.now_s += KEY_SET_COOL_DOWN_S
    store.delay_s = 0.2
    with ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(store.sets.keys, provider.url, keys) for _ in range(200)]
        found = [one.result(timeout=30) for one in asked]
    newer = store.sets.keys(provider.url)
    assert newer is not keys
    assert all(one is newer for one in found), "who came while it was fetched waited for it"
    assert len(store.fetched) == 2


# --- an issuer that fails ---------------------------------------------------------------------------------------------


def test_the_last_good_set_serves_while_the_issuer_is_down_but_not_for_ever(
    provider: OidcProvider, store: Store
) -> None:
    text, keys = token_of(provider), store.sets.keys(provider.url)
    provider.stop()
    store.now_s += KEY_SET_REFRESH_S
    store.sets.refresh_due()
    assert len(store.fetched) == 2
    assert store.sets.keys(provider.url) is keys
    verified(text, keys, provider.url)
    store.now_s += KEY_SET_AGE_S_MAX
    assert refusal_of(lambda: store.sets.keys(provider.url)) is Code.IDENTITY_UNAVAILABLE
    provider.start()
    provider.wait()
    store.now_s += KEY_SET_COOL_DOWN_S
    verified(token_of(provider), store.sets.keys(provider.url), provider.url)


def test_an_issuer_that_never_answered_is_a_refusal_that_says_so(
    provider: OidcProvider, store: Store
) -> None:
    provider.stop()
    with pytest.raises(Refusal) as refused:
        store.sets.keys(provider.url)
    assert refused.value.code is Code.IDENTITY_UNAVAILABLE
    assert "cannot be reached" in refused.value.message
    assert "try again" in refused.value.hint


def test_a_provider_under_another_name_is_not_the_issuer(provider: OidcProvider) -> None:
    """Its discovery document names the address it was made for, and that is not this one."""
    with pytest.raises(Fault) as fault:
        fetch_key_set(provider.url.replace("127.0.0.1", "localhost"))
    assert "another issuer's" in fault.value.message


class WrongIssuer(LoopbackServer):
    """What no certified provider does: serves `keys` as its set, or moves its set elsewhere."""

    def __init__(self, keys: object, key_set_url: str = "") -> None:
        super().__init__()
        self.keys = keys
        self._key_set_url = key_set_url

    def answer(self, request: Request) -> Response:
        """See LoopbackServer.answer."""
        if request.path == "/keys":
            return Response(200, json.dumps(self.keys).encode(), "application/json")
        document = {"issuer": self.url, "jwks_uri": self._key_set_url or f"{self.url}/keys"}
        return Response(200, json.dumps(document).encode(), "application/json")


@pytest.mark.parametrize("keys", [{"keys": []}, {}, [], {"keys": [{"kty": "oct", "k": "AAAA"}]}])
def test_an_empty_or_useless_set_never_ends_a_good_one(
    provider: OidcProvider, store: Store, keys: object
) -> None:
    with WrongIssuer(provider.get("/jwks")) as issuer:
        good = store.sets.keys(issuer.url)
        issuer.keys = keys
        store.now_s += KEY_SET_REFRESH_S
        store.sets.refresh_due()
        assert len(store.fetched) == 2
        assert store.sets.keys(issuer.url) is good
        text = token_of(provider, iss=issuer.url)
        assert verified(text, good, issuer.url).issuer == issuer.url


def test_a_set_that_lies_at_another_machine_without_tls_is_not_fetched() -> None:
    with (
        WrongIssuer({}, key_set_url="http://keys.example/keys") as issuer,
        pytest.raises(Fault) as fault,
    ):
        fetch_key_set(issuer.url)
    assert fault.value.code == "issuer.document"


def test_an_issuer_that_answers_drop_by_drop_is_given_up_in_time() -> None:
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n")
            while not stop.wait(0.2):
                try:
                    client.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        try:
            with pytest.raises(Fault) as fault:  # to its end it would take a quarter of an hour
                fetch_key_set(f"http://127.0.0.1:{server.getsockname()[1]}")
        finally:
            stop.set()
            thread.join()
    assert fault.value.retryable
    assert f"longer than {KEY_SET_FETCH_S_MAX} s" in fault.value.message
