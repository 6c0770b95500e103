"""The identity of the CI job in which a command runs: found by the variables that each system sets.

| system | who signs the token | the audience |
|---|---|---|
| GitHub Actions | asked for over HTTP | chosen here: the files are bound to it |
| CircleCI | asked for by `circleci run oidc get` | chosen here |
| Buildkite | asked for by `buildkite-agent oidc request-token` | chosen here |
| GitLab CI | `id_tokens:` puts it into PRESSPASS_ID_TOKEN | written in the pipeline, before there are files |
| anything else | PRESSPASS_ID_TOKEN or PRESSPASS_ID_TOKEN_FILE | whatever was asked for |
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import CLIENT_TIMEOUT_S, JWT_BYTES_MAX
from presspass.core.text import safe

VARIABLE: Final = "PRESSPASS_ID_TOKEN"
FILE_VARIABLE: Final = "PRESSPASS_ID_TOKEN_FILE"
#: What Buildkite adds to a token only when it is asked: the ids by which a publisher is bound.
_BUILDKITE_CLAIMS: Final = ("organization_id", "pipeline_id")
_ANSWER_BYTES_MAX: Final = 2 * JWT_BYTES_MAX


@dataclass(frozen=True, slots=True)
class CiIdentity:
    """`ask`: audience to token, raises Refusal or Fault; `chooses`: whether the audience can be chosen here and now;
    `checkout`: where the job has checked the repository out.
    """

    system: str
    ask: Callable[[str], str]
    chooses: bool
    checkout: Path


def find_identity(environment: Mapping[str, str]) -> CiIdentity | None:
    """The identity that this environment offers; None where it offers none.

    Refuses with `identity.invalid` where a system is known and the job was not given what it takes.
    """
    if environment.get(VARIABLE) or environment.get(FILE_VARIABLE):
        return _given(environment)
    if environment.get("GITHUB_ACTIONS") == "true":
        return _github(environment)
    if environment.get("CIRCLECI") == "true":
        return _program("CircleCI", _circleci, environment.get("CIRCLE_WORKING_DIRECTORY", "."))
    if environment.get("BUILDKITE") == "true":
        place = environment.get("BUILDKITE_BUILD_CHECKOUT_PATH", ".")
        return _program("Buildkite", _buildkite, place)
    if environment.get("GITLAB_CI") == "true":
        raise Refusal(
            Code.IDENTITY_INVALID,
            "This job of GitLab CI was given no identity token.",
            f"Add `id_tokens: {{{VARIABLE}: {{aud: presspass:HOST}}}}` to the job; HOST is the gate's.",
        )
    return None


def _given(environment: Mapping[str, str]) -> CiIdentity:
    def ask(_audience: str) -> str:
        if environment.get(VARIABLE):
            return _one_line(environment[VARIABLE], VARIABLE)
        path = Path(environment[FILE_VARIABLE])
        try:
            with path.open(encoding="ascii", errors="replace") as file:
                return _one_line(file.read(_ANSWER_BYTES_MAX), str(path))
        except OSError as error:
            raise Fault(
                "identity.unreadable", f"{path} cannot be read: {error.strerror}.", retryable=False
            ) from None

    gitlab = environment.get("GITLAB_CI") == "true"
    place = environment.get("CI_PROJECT_DIR" if gitlab else "GITHUB_WORKSPACE", ".")
    name = "GitLab CI" if gitlab else f"{VARIABLE if environment.get(VARIABLE) else FILE_VARIABLE}"
    return CiIdentity(name, ask, chooses=False, checkout=Path(place))


def _github(environment: Mapping[str, str]) -> CiIdentity:
    url = environment.get("ACTIONS_ID_TOKEN_REQUEST_URL", "")
    secret = environment.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    if not url or not secret:
        raise Refusal(
            Code.IDENTITY_INVALID,
            "This job of GitHub Actions may not ask for an identity token.",
            "Add `permissions: {contents: read, id-token: write}` to the job.",
        )

    def ask(audience: str) -> str:
        try:
            answer = httpx2.get(
                httpx2.URL(url).copy_merge_params({"audience": audience}),
                headers={"Authorization": f"Bearer {secret}", "Accept": "application/json"},
                timeout=CLIENT_TIMEOUT_S,
            )
            value = answer.json() if answer.is_success else {}
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise _no_token("GitHub Actions", str(error)) from None
        token = value.get("value") if isinstance(value, dict) else None
        if not isinstance(token, str):
            raise _no_token("GitHub Actions", f"it answered {answer.status_code}")
        return _one_line(token, "GitHub Actions")

    place = Path(environment.get("GITHUB_WORKSPACE", "."))
    return CiIdentity("GitHub Actions", ask, chooses=True, checkout=place)


def _program(system: str, command: Callable[[str], list[str]], checkout: str) -> CiIdentity:
    def ask(audience: str) -> str:
        words = command(audience)
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _no_token(system, f"{words[0]}: {error}") from None
        if done.returncode != 0:
            raise _no_token(system, f"{words[0]}: {safe(done.stderr.strip())[:300]}")
        return _one_line(done.stdout, words[0])

    return CiIdentity(system, ask, chooses=True, checkout=Path(checkout).expanduser())


def _circleci(audience: str) -> list[str]:
    return ["circleci", "run", "oidc", "get", "--claims", json.dumps({"aud": audience})]


def _buildkite(audience: str) -> list[str]:
    claims = [word for claim in _BUILDKITE_CLAIMS for word in ("--claim", claim)]
    return ["buildkite-agent", "oidc", "request-token", "--audience", audience, *claims]


def _one_line(text: str, source: str) -> str:
    token = text.strip()
    if not token or len(token) > JWT_BYTES_MAX or any(char.isspace() for char in token):
        raise Refusal(
            Code.IDENTITY_MALFORMED, f"{safe(source)} holds no identity token.", "It is one word."
        )
    return token


def _no_token(system: str, why: str) -> Fault:
    return Fault(
        "identity.no-token",
        f"{system} gave no identity token ({safe(why)}). Try again.",
        retryable=True,
    )
