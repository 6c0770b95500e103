"""Where the content of a run's workflow comes from: shown by the workload, kept from before, or fetched.

It is fetched from the repository that people have bound. Whoever brings it, git objects prove it (`verify.workflow`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.publisher import PublisherBody
from presspass.core.workload import Workload
from presspass.gateway.forge.cache import PathCache
from presspass.verify.workflow import WorkflowPath, prove

#: (repository's address, commit, path) to the objects; raises as `gateway.forge` does.
Fetch = Callable[[str, str, str], WorkflowPath]


@dataclass(frozen=True, slots=True)
class GitWorkflows:
    """Safe to use from any thread, if `fetch` is."""

    cache: PathCache
    fetch: Fetch

    def prove(self, body: PublisherBody, workload: Workload) -> tuple[bytes, bytes]:
        """(git path as canonical JSON, content). Refuses with an `identity.workflow-…` code."""
        commit, path = workload.workflow_commit, workload.workflow_path
        found = self.cache.get(commit, path)
        if found is None:
            found = self._fetched(body, commit, path)
        return found.to_bytes(), prove(commit, path, found.objects)

    def show(self, workload: Workload, data: bytes) -> None:
        """Keeps a git path that a workload shows, if it proves the workflow of its run."""
        commit, path = workload.workflow_commit, workload.workflow_path
        shown = WorkflowPath.from_bytes(data)
        prove(commit, path, shown.objects)
        self.cache.put(WorkflowPath(commit, path, shown.objects))

    def _fetched(self, body: PublisherBody, commit: str, path: str) -> WorkflowPath:
        if not body.repository_url:
            raise Refusal(
                Code.WORKFLOW_MISSING,
                "Nobody has shown what stands in the workflow that runs.",
                "Run `presspass identity show-workflow` in the job first; `presspass submit` does it itself.",
            )
        try:
            return self.fetch(body.repository_url, commit, path)
        except Fault as fault:
            raise Refusal(
                Code.WORKFLOW_UNAVAILABLE,
                f"What stands in the workflow cannot be read: {fault.message}",
                "Try again, or show it from the job: presspass identity show-workflow.",
            ) from None
