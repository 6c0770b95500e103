"""What zip and tar readers have in common: a source of bytes, members, names that lie, a budget for unpacking.

Nothing is ever written to disk under a member's name. A strange archive gives findings; only what cannot be read
at all ends the reading, with an `archive.unreadable` finding among the others.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from presspass.core import limits
from presspass.core.findings import Finding, Severity, finding

HEAD_BYTES = 16
_DRIVE = re.compile(r"[A-Za-z]:")
# Directional overrides and isolates make a name look other than it is (Unicode TR 36, section 3.1); so do line breaks.
_DECEPTIVE = re.compile(r"[\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes that can be read at any place: `read_at(offset, count)` gives up to `count` bytes; `size` in bytes."""

    read_at: Callable[[int, int], bytes]
    size: int

    def exactly(self, offset: int, count: int) -> bytes:
        """`count` bytes at `offset`; raises Unreadable when the file does not have them."""
        data = b"" if offset < 0 or count < 0 else self.read_at(offset, count)
        if len(data) != count:
            raise Unreadable("The file ends inside a structure that it announces.")
        return data


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive: unpacked `size`, digest, Unix execute bit, its first HEAD_BYTES bytes."""

    path: str
    size: int
    sha256: str
    executable: bool
    head: bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """A read archive. `read(paths, bytes_max)`: content of those members that have at most `bytes_max` bytes."""

    members: tuple[Member, ...]
    findings: tuple[Finding, ...]
    read: Callable[[Collection[str], int], dict[str, bytes]]


class Unreadable(Exception):
    """The archive cannot be read on; the message says why. Readers turn it into a finding."""

    def __init__(self, message: str, rule: str = "archive.unreadable") -> None:
        super().__init__(message)
        self.finding = finding(rule, Severity.CRITICAL, "", message)


class Budget:
    """How much an archive may unpack to: in total, and for each byte of its own size."""

    def __init__(self, archive_bytes: int) -> None:
        by_ratio = limits.UNPACKED_RATIO_MAX * archive_bytes
        allowed = max(limits.UNPACKED_ALLOWANCE_BYTES, by_ratio)
        self._left = min(limits.UNPACKED_BYTES_MAX, allowed)

    def take(self, count: int) -> None:
        """Accounts for `count` unpacked bytes; raises Unreadable when they are too many."""
        self._left -= count
        if self._left < 0:
            raise Unreadable(
                "The archive unpacks to far more than its size warrants; the rest was not read.",
                "archive.bomb",
            )


def member_of(path: str, executable: bool, chunks: Iterable[bytes]) -> Member:
    """Hashes `chunks` as the content of `path`."""
    digest, size, head = hashlib.sha256(), 0, b""
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if len(head) < HEAD_BYTES:
            head = (head + chunk)[:HEAD_BYTES]
    return Member(path, size, digest.hexdigest(), executable, head)


def name_findings(path: str) -> Iterator[Finding]:
    """Names that leave the tree, or that different programs unpack to different places."""
    parts = path.rstrip("/").split("/")
    if ".." in parts or path.startswith("/") or _DRIVE.match(path):
        yield finding(
            "archive.path-escape",
            Severity.CRITICAL,
            path,
            "The member's name leads out of the folder that it is unpacked into.",
        )
    if "\\" in path:
        yield finding(
            "archive.backslash",
            Severity.HIGH,
            path,
            "The member's name has a backslash, which some systems take for a separator.",
        )
    if _CONTROL.search(path) or _DECEPTIVE.search(path):
        yield finding(
            "archive.deceptive-name",
            Severity.HIGH,
            path,
            "The member's name has control or direction characters, so it is not what it looks like.",
            ascii(path),
        )
    if "." in parts or "" in parts:
        yield finding(
            "archive.unclean-name",
            Severity.MEDIUM,
            path,
            "The member's name has an empty or '.' part, so two names lead to one file.",
        )


def collision_findings(paths: Iterable[str]) -> Iterator[Finding]:
    """Names that are equal, or become equal where case or Unicode form do not count, or are file and folder at once.

    `paths` as they stand in the archive, folders with a slash at the end.
    """
    exact: set[str] = set()
    folded: dict[str, str] = {}
    for path in paths:
        if path in exact and not path.endswith("/"):
            yield finding(
                "archive.duplicate-member",
                Severity.CRITICAL,
                path,
                "Two members have this name; programs differ in which of them they install.",
            )
        exact.add(path)
        plain = path.rstrip("/")
        other = folded.setdefault(_folded(plain), plain)
        if other != plain:
            yield finding(
                "archive.colliding-names",
                Severity.HIGH,
                path,
                "The member's name equals another where case or Unicode form do not count.",
                other,
            )
    yield from _file_and_folder(exact)


def _file_and_folder(paths: set[str]) -> Iterator[Finding]:
    folders: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    for path in sorted(paths & folders):
        yield finding(
            "archive.file-and-folder",
            Severity.HIGH,
            path,
            "The name is a file and a folder at once.",
        )


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())
