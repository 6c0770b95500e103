"""A publisher: which workload may ask for which packages, as people signed it; and whether a workload is that one.

1. Every part of the binding must match; a part that is missing in the claims is a refusal, never a wildcard.
2. Ids are compared, names are not: a repository deleted and made again under its old name has another id.
3. A ref pattern's `*` stands for any text without `/`, so that `refs/tags/v*` does not let `refs/tags/v1/evil` in.
4. Events by which strangers' code runs with the repository's rights cannot be allowed at all.
5. The workflow's content is bound too (SHA-256 of the file at its commit): who edits it has another workflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    PROJECTS_PER_PUBLISHER_MAX,
    REF_CHARS_MAX,
    REFS_PER_PUBLISHER_MAX,
    URL_CHARS_MAX,
)
from presspass.core.strict import Members
from presspass.core.workload import PROVIDERS, Workload

_PROJECT = re.compile(r"(?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_REF = re.compile(r"refs/(?:heads|tags)/[^\s*~^:?\[\\]*(?:\*[^\s*~^:?\[\\]*)?")

#: Which immutable claims name the workload, by provider; all of them stand in the binding.
IDENTITY_CLAIMS: Final[dict[str, tuple[str, ...]]] = {
    "github": ("repository_id", "repository_owner_id"),
    "gitlab": ("namespace_id", "project_id"),
    "buildkite": ("organization_id", "pipeline_id"),
    "circleci": (
        "oidc.circleci.com/org-id",
        "oidc.circleci.com/pipeline-definition-id",
        "oidc.circleci.com/project-id",
    ),
    "google": ("sub",),
    "kubernetes": ("kubernetes.io/namespace", "kubernetes.io/serviceaccount/uid"),
    "spiffe": ("sub",),
}
#: Providers whose tokens say which workflow file runs, by which event.
WITH_WORKFLOW: Final = frozenset({"github", "gitlab"})
WITH_REF: Final = frozenset({"github", "gitlab", "buildkite", "circleci"})

#: Events that run strangers' code, or run with another event's content; with what to do instead.
REFUSED_EVENTS: Final = {
    "pull_request_target": "It runs with the repository's rights on a stranger's change; release from a tag instead.",
    "pull_request": "A change that nobody has merged yet must not publish; release from a tag instead.",
    "workflow_run": "It inherits nothing from the run that caused it, not even its ref; release by one workflow.",
    "issue_comment": "Anybody can write a comment; release from a tag instead.",
    "merge_request_event": "A change that nobody has merged yet must not publish; release from a tag instead.",
    "external_pull_request_event": "A change that nobody has merged yet must not publish; release from a tag instead.",
}


@dataclass(frozen=True, slots=True)
class PublisherBody:
    """One binding. The statement of this body forms a chain by `name`.

    `upstream`: name of the registry; `projects`: exact names in normal form (none: retired); `ids`: every claim of
    IDENTITY_CLAIMS with its exact value; `repository`: its name, for people; `repository_url`: where its git objects
    can be read, "" where the workload shows them itself; `workflow` and `workflow_sha256`: path and content ("" where
    the provider names none); `environment`: exact, "" for runs without one; `delegated_only`: a bot's or agent's, which
    may ask for nothing but what a delegation in force names.
    """

    name: str
    upstream: str
    projects: tuple[str, ...]
    issuer: str
    provider: str
    ids: tuple[tuple[str, str], ...]
    repository: str
    repository_url: str
    workflow: str
    workflow_sha256: str
    refs: tuple[str, ...]
    protected_refs_only: bool
    events: tuple[str, ...]
    environment: str
    self_hosted: bool
    delegated_only: bool = False

    def to_json(self) -> JsonObject:
        return {
            "delegated_only": self.delegated_only,
            "environment": self.environment,
            "events": list(self.events),
            "ids": [list(pair) for pair in self.ids],
            "issuer": self.issuer,
            "name": self.name,
            "projects": list(self.projects),
            "protected_refs_only": self.protected_refs_only,
            "provider": self.provider,
            "refs": list(self.refs),
            "repository": self.repository,
            "repository_url": self.repository_url,
            "self_hosted": self.self_hosted,
            "upstream": self.upstream,
            "workflow": self.workflow,
            "workflow_sha256": self.workflow_sha256,
        }

    @classmethod
    def from_json(cls, value: object) -> PublisherBody:
        members = Members(value, "publisher")
        provider = members.choice("provider", PROVIDERS)
        body = cls(
            name=members.name("name"),
            upstream=members.name("upstream"),
            projects=members.items(
                "projects", _matching(members, _PROJECT, 214), count_max=PROJECTS_PER_PUBLISHER_MAX
            ),
            issuer=members.text("issuer", chars_max=URL_CHARS_MAX),
            provider=provider,
            ids=members.items("ids", _pair(members), count_max=8),
            repository=members.text("repository", chars_max=URL_CHARS_MAX, empty=True),
            repository_url=members.text("repository_url", chars_max=URL_CHARS_MAX, empty=True),
            workflow=members.text("workflow", chars_max=REF_CHARS_MAX, empty=True),
            workflow_sha256=members.name("workflow_sha256", empty=True),
            refs=members.items(
                "refs", _matching(members, _REF, REF_CHARS_MAX), count_max=REFS_PER_PUBLISHER_MAX
            ),
            protected_refs_only=members.boolean("protected_refs_only"),
            events=members.names("events", count_max=16),
            environment=members.text("environment", empty=True),
            self_hosted=members.boolean("self_hosted"),
            delegated_only=members.boolean("delegated_only"),
        )
        members.done()
        body._check(members)
        return body

    def _check(self, members: Members) -> None:
        for what, found in (("projects", self.projects), ("refs", self.refs)):
            if list(found) != sorted(set(found)):
                members.refuse(f"has {what} unsorted or with repeats")
        if tuple(name for name, _ in self.ids) != IDENTITY_CLAIMS[self.provider]:
            wanted = ", ".join(IDENTITY_CLAIMS[self.provider])
            members.refuse(f"must bind exactly these claims, in this order: {wanted}")
        with_workflow = self.provider in WITH_WORKFLOW
        bound = (bool(self.workflow), bool(self.workflow_sha256), bool(self.events))
        if bound != (with_workflow,) * 3:
            how = "must" if with_workflow else "cannot"
            members.refuse(f"{how} name a workflow, its SHA-256 and its events for {self.provider}")
        if self.workflow_sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.workflow_sha256):
            members.refuse("has a workflow_sha256 other than 64 lower-case hex digits")
        if bool(self.refs) != (self.provider in WITH_REF):
            members.refuse(f"has refs where {self.provider} has none, or lacks them")
        for event in self.events:
            if event in REFUSED_EVENTS:
                members.refuse(f"allows the event {event}. {REFUSED_EVENTS[event]}")


def _matching(members: Members, shape: re.Pattern[str], chars_max: int) -> Callable[[object], str]:
    def read(item: object) -> str:
        if not isinstance(item, str) or len(item) > chars_max or not shape.fullmatch(item):
            members.refuse(f"has {item!r:.100} where a name or pattern of another form belongs")
        return item

    return read


def _pair(members: Members) -> Callable[[object], tuple[str, str]]:
    def read(item: object) -> tuple[str, str]:
        if not isinstance(item, list) or len(item) != 2:
            members.refuse("has an id that is no pair of claim and value")
        pair = Members({"claim": item[0], "value": item[1]}, "publisher's id")
        return pair.text("claim"), pair.text("value", chars_max=URL_CHARS_MAX)

    return read


def is_same_workload(body: PublisherBody, workload: Workload) -> bool:
    """Whether the workload is of the bound repository (or service), by its ids."""
    return (body.issuer, body.provider, body.ids) == (
        workload.issuer,
        workload.provider,
        workload.ids,
    )


def had_this_name(body: PublisherBody, workload: Workload) -> bool:
    """Whether it bears the bound repository's name under other ids: deleted and made again, or moved."""
    return (
        body.issuer == workload.issuer
        and bool(body.repository)
        and body.repository.lower() == workload.repository.lower()
        and body.ids != workload.ids
    )


def check_run(body: PublisherBody, workload: Workload) -> None:
    """Rules 1 to 4 for one run of the bound workload; the first mismatch is the refusal.

    The content of its workflow is not looked at here: that is proved by git objects and compared by the caller.
    """
    if not is_same_workload(body, workload):
        raise Refusal(
            Code.PUBLISHER_REPOSITORY,
            f"{workload.repository or 'The workload'} is not the repository that people bound, by its ids: "
            f"{_ids(workload.ids)} instead of {_ids(body.ids)}.",
            "A repository that was deleted and made again, or moved, must be bound anew.",
        )
    if workload.event in REFUSED_EVENTS:
        raise Refusal(
            Code.PUBLISHER_EVENT,
            f"A run by the event {workload.event} never publishes.",
            REFUSED_EVENTS[workload.event],
        )
    if workload.called_workflow:
        raise Refusal(
            Code.PUBLISHER_REUSABLE,
            f"The job runs in a reusable workflow, {workload.called_workflow}, not in {body.workflow} itself.",
            "Put the job that publishes into the bound workflow; a called file is not what people saw.",
        )
    if workload.workflow_path != body.workflow:
        raise Refusal(
            Code.PUBLISHER_WORKFLOW,
            f"The run is of the workflow {workload.workflow_path or 'that no claim names'}, not of {body.workflow}.",
            "Release by the bound workflow, or bind this one.",
        )
    if workload.event not in body.events and body.events:
        raise Refusal(
            Code.PUBLISHER_EVENT,
            f"The run was started by {workload.event or 'an event that no claim names'}, not by {_or(body.events)}.",
            "Start it in one of these ways, or bind the event.",
        )
    if body.refs and not any(match_ref(one, workload.ref) is not None for one in body.refs):
        raise Refusal(
            Code.PUBLISHER_REF,
            f"The run is on {workload.ref or 'a ref that no claim names'}, not on {_or(body.refs)}.",
            "Release from an allowed ref. In a pattern, * does not cross a slash.",
        )
    if body.protected_refs_only and not workload.ref_protected:
        raise Refusal(
            Code.PUBLISHER_REF_UNPROTECTED,
            f"{workload.ref} is not protected at the forge.",
            "Protect the branch, or the tags by a ruleset, so that not everybody who may push may release.",
        )
    if workload.environment != body.environment:
        raise Refusal(
            Code.PUBLISHER_ENVIRONMENT,
            f"The job runs in {_environment(workload.environment)}, not in {_environment(body.environment)}.",
            "Set the job's environment to the bound one.",
        )
    if not workload.hosted and not body.self_hosted:
        raise Refusal(
            Code.PUBLISHER_RUNNER,
            "The job runs on a self-hosted runner, where earlier jobs may have left something behind.",
            "Use a hosted runner, or bind the publisher with self_hosted.",
        )


def match_ref(pattern: str, ref: str) -> str | None:
    """What `*` of the pattern stands for in `ref` ("" without a `*`); None when it does not match."""
    before, star, after = pattern.partition("*")
    if not star:
        return "" if ref == pattern else None
    if not ref.startswith(before) or not ref.endswith(after) or len(ref) < len(before + after):
        return None
    middle = ref[len(before) : len(ref) - len(after)]
    return middle if middle and "/" not in middle else None


def version_of_ref(body: PublisherBody, ref: str) -> str:
    """The version that a tag names: what `*` stands for in its pattern, in normal form (PEP 440); "" when none."""
    from packaging.version import InvalidVersion, Version  # no proof that is checked needs it

    if not ref.startswith("refs/tags/"):
        return ""
    for pattern in body.refs:
        found = match_ref(pattern, ref)
        if found:
            try:
                return str(Version(found))
            except InvalidVersion:
                continue
    return ""


def _ids(ids: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in ids)


def _or(names: tuple[str, ...]) -> str:
    return " or ".join(names)


def _environment(name: str) -> str:
    return f"the environment {name!r}" if name else "no environment"
