"""The issuers and the runner of the tests are what a CI system is to its clients, judged by others' libraries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError
from joserfc.jwk import KeySet

import peers
from certificates import Authority
from oidc_issuer import OidcProvider
from presspass.drill.world import GithubJob, Issuer, Runner, WorldClock

JOB = GithubJob()
NAMES_OF_THE_PROVIDER = {"iss", "aud", "iat", "nbf", "exp", "jti"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("issuer")) as issuer:
        yield issuer


def key_set(provider: OidcProvider) -> KeySet:
    """The keys, found the way a relying party finds them."""
    discovery = provider.get("/.well-known/openid-configuration")
    assert discovery["issuer"] == provider.url
    path = str(discovery["jwks_uri"]).removeprefix(provider.url)
    return KeySet.import_key_set(provider.get(path))


def read(token: str, keys: KeySet, alg: str = "RS256") -> jwt.Token:
    return jwt.decode(token, keys, algorithms=[alg])


def test_the_provider_signs_the_claims_of_a_github_job(provider: OidcProvider) -> None:
    token = read(provider.token(JOB.claims(), "pypi"), key_set(provider))
    assert token.header == {"alg": "RS256", "typ": "JWT", "kid": provider.kid}
    assert JOB.claims().items() <= token.claims.items()
    assert set(token.claims) == set(JOB.claims()) | NAMES_OF_THE_PROVIDER
    assert (token.claims["iss"], token.claims["aud"]) == (provider.url, "pypi")
    assert token.claims["iat"] == pytest.approx(time.time(), abs=30)
    assert token.claims["exp"] - token.claims["iat"] == 300


@pytest.mark.parametrize("audience", ["npm:127.0.0.1", "presspass:gate.example", "pypi", "a b/c"])
def test_an_audience_is_signed_as_it_was_asked_for(provider: OidcProvider, audience: str) -> None:
    assert read(provider.token({}, audience), key_set(provider)).claims["aud"] == audience


def test_every_token_has_an_id_of_its_own(provider: OidcProvider) -> None:
    keys = key_set(provider)
    ids = {read(provider.token({}, "pypi"), keys).claims["jti"] for _ in range(3)}
    assert len(ids) == 3


def test_claims_replace_and_remove_what_the_provider_says(provider: OidcProvider) -> None:
    changed = {"exp": 1, "jti": None, "sub": "repo:x", "repository": None}
    claims = read(provider.token(JOB.claims() | changed, "pypi"), key_set(provider)).claims
    assert (claims["exp"], claims["sub"]) == (1, "repo:x")
    assert not {"jti", "repository"} & set(claims)


def test_a_rotation_ends_the_old_key_or_keeps_it_beside_the_new(tmp_path: Path) -> None:
    with OidcProvider(tmp_path / "issuer") as provider:
        first, old = provider.token({}, "pypi"), provider.kid
        provider.rotate(keep_old=True)
        assert provider.kid != old
        read(first, key_set(provider))
        second = provider.token({}, "pypi")
        assert read(second, key_set(provider)).header["kid"] == provider.kid
        provider.rotate()
        for token in (first, second):
            with pytest.raises((BadSignatureError, InvalidKeyIdError, ValueError)):
                read(token, key_set(provider))
        read(provider.token({}, "pypi"), key_set(provider))


def test_the_provider_signs_with_es256_over_https(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with OidcProvider(
        tmp_path / "issuer", authority=authority, alg="ES256", host="localhost"
    ) as provider:
        assert provider.url.startswith("https://localhost:")
        token = read(provider.token(JOB.claims(), "pypi"), key_set(provider), "ES256")
        assert token.header["alg"] == "ES256"
        assert token.claims["iss"] == provider.url
        provider.rotate(alg="RS256")
        read(provider.token({}, "pypi"), key_set(provider))
        assert not peers.answers_http(provider.url), "only those who trust the authority reach it"


# --- the runner -------------------------------------------------------------------------------------------------------


def ask_as_a_job(runner: Runner, audience: str, **changes: str) -> peers.Answer:
    """The library that publishing clients use (`id`, which pdm brings), run as a program."""
    environment = runner.environment() | changes
    return peers.run_client([peers.require_peer("python"), "-m", "id", audience], **environment)


def test_a_client_in_a_job_gets_a_token_of_the_real_issuer(provider: OidcProvider) -> None:
    with Runner(JOB, provider.token) as runner:
        answer = ask_as_a_job(runner, "npm:gate.example")
        assert answer.exit_code == 0, answer.text
        assert runner.audiences == ["npm:gate.example"]
    claims = read(answer.stdout.strip(), key_set(provider)).claims
    assert claims["aud"] == "npm:gate.example"
    assert claims["repository_id"] == JOB.repository_id


def test_a_client_in_a_job_gets_a_token_of_the_seeded_issuer() -> None:
    with Issuer(7, WorldClock(time.time())) as issuer, Runner(JOB, issuer.token) as runner:
        answer = ask_as_a_job(runner, "pypi")
        assert answer.exit_code == 0, answer.text
        keys = KeySet.import_key_set(issuer.jwks())
        claims = read(answer.stdout.strip(), keys).claims
    assert (claims["aud"], claims["iss"]) == ("pypi", issuer.url)
    assert set(claims) == set(JOB.claims()) | NAMES_OF_THE_PROVIDER


def test_another_process_of_the_machine_gets_no_token(provider: OidcProvider) -> None:
    with Runner(JOB, provider.token) as runner:
        answer = ask_as_a_job(runner, "pypi", ACTIONS_ID_TOKEN_REQUEST_TOKEN="a-guess")
        assert answer.exit_code != 0
        assert "401" in answer.text
        assert runner.audiences == []


def test_a_job_outside_an_environment_names_its_ref_in_the_subject() -> None:
    inside = JOB.claims()
    outside = GithubJob(environment=None, ref="refs/heads/main").claims()
    assert inside["sub"] == "repo:acme-501/greet-1001:environment:release"
    assert outside["sub"] == "repo:acme-501/greet-1001:ref:refs/heads/main"
    assert "environment" not in outside
    assert (inside["ref_type"], outside["ref_type"]) == ("tag", "branch")
