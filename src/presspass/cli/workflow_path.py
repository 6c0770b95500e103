"""The git objects of a workflow, read from the checkout in which a command runs, to hand them over with the token.

The system's own git reads them, so that packs, alternates and both object formats are no business of ours. Nothing is
fetched, no replacement object is followed, and what git says is proved before it is sent.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from presspass.core import limits
from presspass.core.errors import Code, Refusal
from presspass.core.text import safe
from presspass.formats import git_objects
from presspass.formats.git_objects import GitKind, raw_object
from presspass.verify.workflow import WorkflowPath, check_object, entry_at, path_parts, prove

_ENVIRONMENT = {
    "GIT_NO_REPLACE_OBJECTS": "1",  # refs/replace would put other content under the same id
    # A partial clone would ask its server; the gate can do that itself. Older versions of git know only the second.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


def read_workflow_path(checkout: Path, commit: str, path: str) -> WorkflowPath:
    """The objects from `commit` to the file `path` in the repository of `checkout`, proved.

    `commit` and `path` are those that the workload's token names; the files in the checkout themselves do not matter.
    Refuses with `identity.workflow-unavailable` where git or the commit is not there (then the gate has to fetch), and
    as `verify.workflow.prove` does. A shallow clone of that commit is enough.
    """
    parts = path_parts(path)
    if not git_objects.is_object_id(commit):
        raise Refusal(Code.WORKFLOW_UNPROVEN, "The token names no commit by its whole id.")
    id_bytes = git_objects.id_bytes_of(commit)
    objects = [_read(checkout, commit, GitKind.COMMIT)]
    next_id = git_objects.commit_tree(check_object(objects[0], commit, GitKind.COMMIT), id_bytes)
    for number, part in enumerate(parts, 1):
        raw = _read(checkout, next_id, GitKind.TREE)
        entries = git_objects.parse_tree(check_object(raw, next_id, GitKind.TREE), id_bytes)
        objects.append(raw)
        next_id = entry_at(entries, part, path, last=number == len(parts)).object_id
    objects.append(_read(checkout, next_id, GitKind.BLOB))
    prove(commit, path, objects)
    return WorkflowPath(commit, path, tuple(objects))


def _read(checkout: Path, object_id: str, kind: GitKind) -> bytes:
    """A raw object; its size is asked for first, so that nothing over the limit is read."""
    said = _git(checkout, "--batch-check=%(objecttype) %(objectsize)", object_id).split()
    if said[:1] != [kind.value.encode()] or len(said) != 2:
        shown = safe(str(checkout))
        raise Refusal(
            Code.WORKFLOW_UNAVAILABLE,
            f"The repository of {shown!r} does not have the {kind.value} {object_id[:12]} of the workflow.",
            "Check out the commit that the token names; or let the gate fetch it, which needs nothing from here.",
        )
    if int(said[1]) > limits.WORKFLOW_OBJECTS_BYTES_MAX:
        raise Refusal(
            Code.WORKFLOW_TOO_LARGE,
            f"The {kind.value} {object_id[:12]} on the workflow's path has more bytes than the limit of "
            f"{limits.WORKFLOW_OBJECTS_BYTES_MAX}.",
        )
    answer = _git(checkout, "--batch=", object_id)  # an empty line, the content, an empty line
    return raw_object(kind, answer[1:-1])


def _git(checkout: Path, option: str, object_id: str) -> bytes:
    command = ["git", "-C", str(checkout), "cat-file", option]
    try:
        done = subprocess.run(
            command,
            env=os.environ | _ENVIRONMENT,
            input=f"{object_id}\n".encode(),
            capture_output=True,
            timeout=limits.LOCAL_GIT_S_MAX,
            check=False,
        )
    except FileNotFoundError:
        raise _unavailable("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise _unavailable(f"git did not answer within {limits.LOCAL_GIT_S_MAX} s") from None
    if done.returncode:
        said = safe(done.stderr.decode("utf-8", "replace").strip())
        raise _unavailable(f"git says: {said[: limits.REASON_CHARS_MAX]}")
    return done.stdout


def _unavailable(why: str) -> Refusal:
    return Refusal(
        Code.WORKFLOW_UNAVAILABLE,
        f"The workflow cannot be read from the checkout: {why}.",
        "Run this in a git checkout of the workflow's commit; or let the gate fetch it.",
    )
