"""A workload (a CI run, a service) as one value, whatever its issuer calls its parts.

`formats.ci_claims` makes one out of verified claims; `core.publisher` says whether it may ask for a release. Ids
decide, names are for people: a name can be registered again by somebody else, an id cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from presspass.core.digests import sha256_hex

#: Providers whose claims are understood: two with an adapter of their own, the others as presets of a generic one.
PROVIDERS: Final = (
    "github",
    "gitlab",
    "buildkite",
    "circleci",
    "google",
    "kubernetes",
    "spiffe",
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Who runs, where, and why. A part that the provider does not have is "".

    `ids`: immutable claims by name, sorted; `repository`: its name, shown and never matched; `workflow_path` and
    `workflow_commit`: the file that defines the run, and the commit it was read at; `called_workflow`: a reusable
    workflow that holds the job, where it is another file; `ref`: as git spells it, "refs/…"; `commit`: what is built;
    `run`: one attempt of one run; `actor`: the person behind it as "<provider>:<id>"; `token_id`: the `jti`, or "".
    """

    issuer: str
    provider: str
    ids: tuple[tuple[str, str], ...]
    repository: str
    workflow_path: str
    workflow_commit: str
    called_workflow: str
    ref: str
    ref_protected: bool
    event: str
    environment: str
    commit: str
    run: str
    actor: str
    hosted: bool
    token_id: str
    issued_at: int
    expires_at: int

    @property
    def key(self) -> str:
        """What a revocation names the workload by, whatever it is called: SHA-256 of issuer and ids, hex."""
        return workload_key(self.issuer, self.provider, self.ids)

    @property
    def run_key(self) -> str:
        """As `key`, for one run of it."""
        return sha256_hex(f"{self.key}\n{self.run}".encode())


def workload_key(issuer: str, provider: str, ids: tuple[tuple[str, str], ...]) -> str:
    """`Workload.key` of whatever has this issuer and these ids, such as a publisher's binding."""
    lines = [issuer, provider, *(f"{name}={value}" for name, value in ids)]
    return sha256_hex("\n".join(lines).encode())
