"""What a verified token's claims say of a workload: an adapter each for GitHub and GitLab, presets for the others.

A claim that a provider always sends and that is missing here is a refusal (`identity.claim-missing`): half an identity
is none. Claims are read by name and type, never guessed from `sub`, whose form its owner can choose at some issuers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from presspass.core.errors import Code, Refusal
from presspass.core.limits import URL_CHARS_MAX
from presspass.core.publisher import IDENTITY_CLAIMS
from presspass.core.workload import Workload

_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Provider:
    """How one provider's tokens are read. `life_s_max`: the longest life of a token that is accepted."""

    name: str
    life_s_max: int
    read: Callable[[Claims], Workload]


class Claims:
    """Verified claims, by name. A nested member is named with slashes: `kubernetes.io/namespace`."""

    def __init__(self, provider: str, values: Mapping[str, Any]) -> None:
        self.provider = provider
        self._values = values

    def text(self, name: str) -> str:
        """A claim that must be there, as text (some issuers send ids as numbers)."""
        found = self.optional(name)
        if not found:
            raise Refusal(
                Code.IDENTITY_CLAIM_MISSING,
                f"The token has no claim {name!r}, which every token of {self.provider} has.",
                "Check that the publisher names the right provider for this issuer.",
            )
        return found

    def optional(self, name: str) -> str:
        """A claim as text, or ""."""
        value = self._find(name)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value)
        return value if isinstance(value, str) and len(value) <= URL_CHARS_MAX else ""

    def true(self, name: str) -> bool:
        """Whether a claim says true, as a boolean or as the word (GitHub and GitLab send the word)."""
        return self.optional(name) == "true"

    def seconds(self, name: str) -> int:
        value = self._values.get(name)
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0

    def ids(self) -> tuple[tuple[str, str], ...]:
        """The immutable claims of this provider, each of which must be there."""
        return tuple((name, self.text(name)) for name in IDENTITY_CLAIMS[self.provider])

    def _find(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        for claim, value in self._values.items():
            if name.startswith(f"{claim}/") and isinstance(value, Mapping):
                for part in name.removeprefix(f"{claim}/").split("/"):
                    value = value.get(part) if isinstance(value, Mapping) else None
                return value
        return None

    def workload(self, **parts: Any) -> Workload:
        """A workload with these parts; those that the provider does not have stay "" (`ref_protected`: False)."""
        empty: dict[str, Any] = dict.fromkeys(
            ("repository", "workflow_path", "workflow_commit", "called_workflow", "ref", "event",
             "environment", "commit", "actor"), "",
        )  # fmt: skip
        return Workload(
            issuer=self.optional("iss"),
            provider=self.provider,
            ids=self.ids(),
            token_id=self.optional("jti"),
            issued_at=self.seconds("iat"),
            expires_at=self.seconds("exp"),
            **{"hosted": True, "ref_protected": False, **empty, **parts},
        )


def _github(claims: Claims) -> Workload:
    """GitHub Actions, also GitHub Enterprise Server: `workflow_ref` is OWNER/REPO/PATH@REF of the run's own workflow,
    `job_workflow_ref` the same of the file that holds the job."""
    repository, workflow_ref = claims.text("repository"), claims.text("workflow_ref")
    called = claims.text("job_workflow_ref")
    return claims.workload(
        repository=repository,
        workflow_path=_path_in(repository, workflow_ref),
        workflow_commit=claims.text("workflow_sha"),
        called_workflow="" if called == workflow_ref else called,
        ref=claims.text("ref"),
        ref_protected=claims.true("ref_protected"),
        event=claims.text("event_name"),
        environment=claims.optional("environment"),
        commit=claims.text("sha"),
        run=f"{claims.text('run_id')}.{claims.text('run_attempt')}",
        actor=f"github:{claims.text('actor_id')}",
        hosted=claims.optional("runner_environment") == "github-hosted",
    )


def _path_in(repository: str, workflow_ref: str) -> str:
    before, at, _ = workflow_ref.rpartition("@")
    owner_and_name = f"{repository}/"
    if not at or not before.lower().startswith(owner_and_name.lower()):
        raise Refusal(
            Code.PUBLISHER_WORKFLOW,
            f"The run's workflow {workflow_ref} lies in another repository than {repository}.",
            "Release by a workflow of the repository itself.",
        )
    return before[len(owner_and_name) :]


def _gitlab(claims: Claims) -> Workload:
    """GitLab CI, also self-managed: `ci_config_ref_uri` is HOST/PROJECT//PATH@REF of the pipeline's own file."""
    project, uri = claims.text("project_path"), claims.text("ci_config_ref_uri")
    place, slashes, rest = uri.partition("//")
    if not slashes or not place.lower().endswith(f"/{project}".lower()):
        raise Refusal(
            Code.PUBLISHER_WORKFLOW,
            f"The pipeline's file {uri} lies in another project than {project}.",
            "Release by a CI file of the project itself.",
        )
    return claims.workload(
        repository=project,
        workflow_path=rest.rpartition("@")[0],
        workflow_commit=claims.text("ci_config_sha"),
        ref=claims.text("ref_path"),
        ref_protected=claims.true("ref_protected"),
        event=claims.text("pipeline_source"),
        environment=claims.optional("environment"),
        commit=claims.text("sha"),
        run=f"{claims.text('pipeline_id')}.{claims.text('job_id')}",
        actor=f"gitlab:{claims.text('user_id')}",
        hosted=claims.optional("runner_environment") == "gitlab-hosted",
    )


def _buildkite(claims: Claims) -> Workload:
    tag, branch = claims.optional("build_tag"), claims.optional("build_branch")
    return claims.workload(
        repository=f"{claims.text('organization_slug')}/{claims.text('pipeline_slug')}",
        ref=f"refs/tags/{tag}" if tag else f"refs/heads/{branch}",
        commit=claims.text("build_commit"),
        run=f"{claims.text('build_number')}.{claims.text('job_id')}",
        hosted=claims.optional("runner_environment") == "buildkite-hosted",
    )


def _circleci(claims: Claims) -> Workload:
    prefix = "oidc.circleci.com/"
    if claims.optional(prefix + "ssh-rerun") != "false":
        raise Refusal(
            Code.PUBLISHER_EVENT,
            "The job was run again with a shell open into it.",
            "Start the pipeline anew, without SSH.",
        )
    return claims.workload(
        repository=claims.optional(prefix + "vcs-origin"),
        ref=claims.text(prefix + "vcs-ref"),
        run=claims.text("sub"),
    )


def _google(claims: Claims) -> Workload:
    if claims.optional("email") and not claims.true("email_verified"):
        raise Refusal(
            Code.IDENTITY_CLAIM_MISSING, "The service account's address is not verified.", ""
        )
    return claims.workload(repository=claims.optional("email"), run=claims.text("sub"))


def _kubernetes(claims: Claims) -> Workload:
    return claims.workload(
        repository=claims.text("sub"), run=claims.text("kubernetes.io/pod/uid"), hosted=False
    )


def _spiffe(claims: Claims) -> Workload:
    subject = claims.text("sub")
    return claims.workload(repository=subject, run=subject, hosted=False)


PROVIDERS: Final = {
    one.name: one
    for one in (
        Provider("github", 900, _github),
        Provider("gitlab", _HOUR_S, _gitlab),
        Provider("buildkite", 900, _buildkite),
        Provider("circleci", _HOUR_S, _circleci),
        Provider("google", _HOUR_S, _google),
        Provider("kubernetes", _HOUR_S, _kubernetes),
        Provider("spiffe", _HOUR_S, _spiffe),
    )
}


def read_workload(provider: str, claims: Mapping[str, Any]) -> Workload:
    """The workload that verified `claims` describe; refuses with `identity.claim-missing` or a `publisher.` code."""
    return PROVIDERS[provider].read(Claims(provider, claims))
