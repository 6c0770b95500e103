"""Git objects (commit, tree, blob), read strictly from the bytes that git hashes.

Sources: Git's documentation: "Git Internals - Git Objects" (header and id), technical/hash-function-transition
(SHA-256 repositories), git-mktree(1), and git-fsck(1), "FSCK MESSAGES" (what a tree and a commit must look like). A raw
object is `TYPE SP SIZE NUL BODY`; its id is the SHA-1 or SHA-256 of all of that. Nothing here says whether an id is the
right one: `verify.workflow` does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from presspass.core.errors import Code, Refusal

_HEADER = re.compile(rb"(commit|tree|blob) (0|[1-9][0-9]{0,9})\0")
_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0/]+)\0")
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SHA1_BYTES, SHA256_BYTES = 20, 32
_FORBIDDEN_NAMES = frozenset((b".", b"..", b".git"))  # git-fsck: hasDot, hasDotdot, hasDotgit


class GitKind(StrEnum):
    """The type of an object. Tags are not read: a token names a commit."""

    COMMIT = "commit"
    TREE = "tree"
    BLOB = "blob"


class EntryKind(StrEnum):
    """What an entry of a tree is, by its mode. 100664 is a regular file in trees of old versions of git."""

    FILE = "regular file"
    SYMLINK = "symbolic link"
    SUBMODULE = "submodule"
    TREE = "folder"


_MODES = {
    b"100644": EntryKind.FILE,
    b"100755": EntryKind.FILE,
    b"100664": EntryKind.FILE,
    b"120000": EntryKind.SYMLINK,
    b"160000": EntryKind.SUBMODULE,
    b"40000": EntryKind.TREE,
}


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a tree. `name`: bytes, as git has it; `object_id`: lower-case hex."""

    name: bytes
    kind: EntryKind
    object_id: str


def is_object_id(text: object) -> bool:
    """True for 40 (SHA-1) or 64 (SHA-256) lower-case hex digits."""
    return isinstance(text, str) and _OBJECT_ID.fullmatch(text) is not None


def id_bytes_of(object_id: str) -> int:
    """How many bytes an id of this repository has: 20 with SHA-1, 32 with SHA-256."""
    return len(object_id) // 2


def raw_object(kind: GitKind, body: bytes) -> bytes:
    """The bytes that git hashes for this object."""
    return b"%s %d\0" % (kind.value.encode(), len(body)) + body


def object_id(raw: bytes, id_bytes: int) -> str:
    """The id of a raw object in a repository whose ids have `id_bytes` bytes, lower-case hex."""
    if id_bytes == SHA256_BYTES:
        return hashlib.sha256(raw).hexdigest()
    # Git's choice, not ours; verify/workflow.py says what is done about it.
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()


def split_object(raw: bytes) -> tuple[GitKind, bytes]:
    """Type and body of a raw object; refuses with `identity.workflow-unproven` unless the header fits exactly."""
    header = _HEADER.match(raw)
    if header is None:
        raise _invalid("it does not begin as a commit, tree or blob")
    body = raw[header.end() :]
    if len(body) != int(header[2]):
        raise _invalid("its header announces another length than it has")
    return GitKind(header[1].decode()), body


def commit_tree(body: bytes, id_bytes: int) -> str:
    """The id of a commit's root tree; refuses with `identity.workflow-unproven` what git-fsck would call no commit."""
    head, blank, _message = body.partition(b"\n\n")
    lines = head.split(b"\n")
    found = [line.partition(b" ") for line in lines]
    parents = 1
    while parents < len(found) and found[parents][0] == b"parent":
        parents += 1
    names = [name for name, _, _ in found]
    ids = [value for _, _, value in found[:parents]]
    hex_id = re.compile(rb"[0-9a-f]{%d}" % (2 * id_bytes))
    if (
        not (blank or body.endswith(b"\n"))
        or b"\0" in head
        or names[0] != b"tree"
        or names[parents : parents + 2] != [b"author", b"committer"]
        or {b"tree", b"parent", b"author", b"committer"} & set(names[parents + 2 :])
        or not all(hex_id.fullmatch(value) for value in ids)
    ):
        raise _invalid("it is no well-formed commit")
    return ids[0].decode()


def parse_tree(body: bytes, id_bytes: int) -> tuple[TreeEntry, ...]:
    """The entries of a tree; refuses with `identity.workflow-unproven` other modes, forbidden or repeated names, an
    order other than git's, and bytes that belong to no entry.
    """
    entries: list[TreeEntry] = []
    names: set[bytes] = set()
    at, last = 0, b""
    while at < len(body):
        match = _ENTRY.match(body, at)
        end = match.end() + id_bytes if match else 0
        kind = _MODES.get(match[1]) if match else None
        if match is None or kind is None or end > len(body):
            raise _invalid("a tree has an entry that cannot be read")
        name = match[2]
        # Git sorts a folder as if its name ended in "/" (base_name_compare), so "a" can stand twice without neighbours.
        order = name + (b"/" if kind is EntryKind.TREE else b"\0")
        if name in names or name in _FORBIDDEN_NAMES or order <= last:
            raise _invalid("a tree has its entries repeated, misnamed or out of order")
        names.add(name)
        entries.append(TreeEntry(name, kind, body[match.end() : end].hex()))
        at, last = end, order
    return tuple(entries)


def _invalid(why: str) -> Refusal:
    return Refusal(Code.WORKFLOW_UNPROVEN, f"A git object cannot be read: {why}.")
