"""What stands in the workflow that a token names: proved by git objects, whoever hands them over.

The rules, in words:
1. A workload's token names the commit of its workflow (GitHub `workflow_sha` and `job_workflow_sha`, GitLab
   `ci_config_sha`) and the path. Both come from the verified token, never from the objects.
2. The objects are exactly the commit, its root tree, the tree of each folder on the path, and the file, in this order.
   Each hashes to the id that the one before it names. So nobody who hands them over can change a byte.
3. Each step is a folder and the last is a regular file (executable or not). A symbolic link would make the content that
   of another file, a submodule that of another repository: both are refused.
4. The file is UTF-8 text without NUL, for people must be able to read what they bind.
5. In SHA-1 repositories the commit's bytes and the names in the trees are UTF-8 too. The published collision attacks
   (SHAttered 2017, "SHA-1 is a Shambles" 2020) need two or more 64-byte blocks that are free in nearly every bit, and
   text leaves them no room. This makes the known attacks miss; it is no proof against better ones: see
   docs/not-protected.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from presspass.core import limits
from presspass.core.digests import canonical, parse_canonical
from presspass.core.errors import Code, Refusal
from presspass.core.strict import Members
from presspass.core.text import safe
from presspass.formats import git_objects
from presspass.formats.git_objects import EntryKind, GitKind, TreeEntry

TYPE: Final = "presspass/workflow-path/v1"
_OBJECTS_MAX: Final = limits.WORKFLOW_PATH_PARTS_MAX + 2  # the root tree stands for no part
_FETCH_AGAIN: Final = "Hand over the objects of exactly this commit and path."


@dataclass(frozen=True, slots=True)
class WorkflowPath:
    """The objects from a commit to a file in it, not yet proved. `commit`: lower-case hex; `path`: with "/".

    `objects`: raw git objects, header included: the commit, the trees from the root down, the blob.
    """

    commit: str
    path: str
    objects: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON, the objects in base64."""
        objects = [base64.b64encode(raw).decode() for raw in self.objects]
        return canonical(
            {"type": TYPE, "commit": self.commit, "path": self.path, "objects": objects}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> WorkflowPath:
        """Reads what `to_bytes` wrote. Refuses with `identity.workflow-too-large` and `identity.workflow-unproven`;
        proves nothing: see `prove`.
        """
        if len(data) > limits.WORKFLOW_OBJECTS_JSON_BYTES_MAX:
            raise _too_large("The objects of the workflow", limits.WORKFLOW_OBJECTS_JSON_BYTES_MAX)
        try:
            value = parse_canonical(data, bytes_max=len(data), what="workflow path")
            members = Members(value, "workflow path")
            members.choice("type", (TYPE,))
            found = cls(
                members.text("commit"),
                members.text("path", chars_max=limits.WORKFLOW_PATH_CHARS_MAX),
                members.items("objects", _base64, count_max=_OBJECTS_MAX),
            )
            members.done()
        except Refusal as refusal:
            raise Refusal(Code.WORKFLOW_UNPROVEN, refusal.message, _FETCH_AGAIN) from None
        return found


def prove(commit: str, path: str, objects: Sequence[bytes]) -> bytes:
    """The content of the file `path` in the commit with this id, shown by `objects` (see `WorkflowPath.objects`).

    `commit` and `path` must be those of the verified token. Refuses with `identity.workflow-missing` (the commit has no
    such file), `identity.workflow-not-a-file`, `identity.workflow-too-large`, and with `identity.workflow-unproven` for
    everything else, a single changed bit included.
    """
    parts = path_parts(path)
    if not git_objects.is_object_id(commit):
        raise _unproven("The commit is not named by 40 or 64 lower-case hex digits.")
    if sum(len(raw) for raw in objects) > limits.WORKFLOW_OBJECTS_BYTES_MAX:
        raise _too_large("The objects of the workflow", limits.WORKFLOW_OBJECTS_BYTES_MAX)
    walk = _Walk(commit, objects)
    tree = walk.commit()
    for number, part in enumerate(parts, 1):
        entry = entry_at(walk.tree(tree), part, path, last=number == len(parts))
        tree = entry.object_id
    return walk.file(tree)


def path_parts(path: str) -> tuple[bytes, ...]:
    """The names on a path, as git has them; refuses with `identity.workflow-missing` a path that git cannot have."""
    parts = path.split("/")
    if (
        len(path) > limits.WORKFLOW_PATH_CHARS_MAX
        or len(parts) > limits.WORKFLOW_PATH_PARTS_MAX
        or any(part in ("", ".", "..", ".git") for part in parts)
        or "\0" in path
        or any(0xD800 <= ord(char) <= 0xDFFF for char in path)
    ):
        shown = safe(path[: limits.REASON_CHARS_MAX])
        raise Refusal(Code.WORKFLOW_MISSING, f"No file in git can have the path {shown!r}.")
    return tuple(part.encode() for part in parts)


def entry_at(entries: Sequence[TreeEntry], name: bytes, path: str, *, last: bool) -> TreeEntry:
    """The entry of one step on `path`: a regular file if it is the `last`, else a folder.

    Refuses with `identity.workflow-missing` and `identity.workflow-not-a-file`.
    """
    entry = next((one for one in entries if one.name == name), None)
    if entry is None:
        raise Refusal(
            Code.WORKFLOW_MISSING,
            f"The commit has no file {safe(path)!r}.",
            "Check the workflow's path in the publisher statement.",
        )
    if entry.kind is not (EntryKind.FILE if last else EntryKind.TREE):
        step = safe(name.decode("utf-8", "replace"))
        raise Refusal(
            Code.WORKFLOW_NOT_A_FILE,
            f"On the path {safe(path)!r}, {step!r} is a {entry.kind.value}.",
            "A workflow is a regular file, in folders of its own repository.",
        )
    return entry


def check_object(raw: bytes, expected_id: str, kind: GitKind) -> bytes:
    """The body of `raw`, which is an object of this kind with this id; else refuses with `identity.workflow-unproven`.

    For blobs also `identity.workflow-too-large`.
    """
    id_bytes = git_objects.id_bytes_of(expected_id)
    if git_objects.object_id(raw, id_bytes) != expected_id:
        raise _unproven(f"A {kind.value} was handed over that does not hash to its id.")
    found, body = git_objects.split_object(raw)
    if found is not kind:
        raise _unproven(f"A {found.value} was handed over where a {kind.value} belongs.")
    if kind is GitKind.BLOB and len(body) > limits.WORKFLOW_BYTES_MAX:
        raise _too_large("The workflow", limits.WORKFLOW_BYTES_MAX)
    return body


class _Walk:
    """Takes the objects one after the other, each checked against the id that led to it."""

    def __init__(self, commit: str, objects: Sequence[bytes]) -> None:
        self._commit = commit
        self._left = list(reversed(objects))
        self._id_bytes = git_objects.id_bytes_of(commit)
        self._sha1 = self._id_bytes == git_objects.SHA1_BYTES

    def commit(self) -> str:
        body = self._take(self._commit, GitKind.COMMIT)
        if self._sha1 and not _is_text(body):
            raise _unproven("The commit of a SHA-1 repository is not UTF-8 text.")
        return git_objects.commit_tree(body, self._id_bytes)

    def tree(self, tree_id: str) -> tuple[TreeEntry, ...]:
        entries = git_objects.parse_tree(self._take(tree_id, GitKind.TREE), self._id_bytes)
        if self._sha1 and not all(_is_text(entry.name) for entry in entries):
            raise _unproven("A folder on the path has a name in it that is not UTF-8 text.")
        return entries

    def file(self, blob_id: str) -> bytes:
        body = self._take(blob_id, GitKind.BLOB)
        if self._left:
            raise _unproven("More objects were handed over than the path has.")
        if not _is_text(body):
            raise _unproven("The workflow is not UTF-8 text.")
        return body

    def _take(self, expected_id: str, kind: GitKind) -> bytes:
        if not self._left:
            raise _unproven(f"The {kind.value} {expected_id[:12]} was not handed over.")
        return check_object(self._left.pop(), expected_id, kind)


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _base64(item: object) -> bytes:
    try:
        if isinstance(item, str):
            data = base64.b64decode(item, validate=True)
            if base64.b64encode(data).decode() == item:  # one spelling only
                return data
    except (binascii.Error, ValueError):
        pass
    raise _unproven("An object of the workflow path is not base64.")


def _unproven(why: str) -> Refusal:
    return Refusal(Code.WORKFLOW_UNPROVEN, why, _FETCH_AGAIN)


def _too_large(what: str, bytes_max: int) -> Refusal:
    return Refusal(Code.WORKFLOW_TOO_LARGE, f"{what} has more bytes than the limit of {bytes_max}.")
