"""One file of a set, opened: its bytes are checked against the digest that was asked for before anything reads them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from presspass.core.errors import Code, Refusal
from presspass.core.findings import FileEntry, Finding, InputFile
from presspass.core.limits import READ_CHUNK_BYTES
from presspass.formats.archive import Member, Source
from presspass.formats.distribution import Distribution
from presspass.formats.filenames import parse_filename
from presspass.formats.sdist import read_sdist
from presspass.formats.wheel import read_wheel

_NATIVE_SUFFIXES = (
    ".so",
    ".pyd",
    ".dll",
    ".dylib",
    ".exe",
    ".a",
    ".o",
    ".obj",
    ".lib",
    ".wasm",
    ".node",
)
_NATIVE_HEADS = (
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\0asm",
    b"!<arch>\n",
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A read file. `entries` by comparable path: the parts of a path that carry the version are replaced by `*`."""

    file: InputFile
    distribution: Distribution
    entries: dict[str, FileEntry]

    @property
    def kind(self) -> str:
        """ "wheel" or "sdist"."""
        return self.distribution.name.kind

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the reading of the archive, its metadata and its RECORD found."""
        return self.distribution.findings

    def contents(self, keys: list[str], bytes_max: int) -> dict[str, bytes]:
        """Content by comparable path, of those entries that have at most `bytes_max` bytes."""
        paths = {self.entries[key].path: key for key in keys if key in self.entries}
        found = self.distribution.archive.read(paths, bytes_max)
        return {paths[path]: content for path, content in found.items()}


def open_artifact(file: InputFile, fd: int) -> Artifact:
    """Reads the file behind `fd`. Raises Refusal: `artifact.digest-mismatch`, `artifact.bad-filename`."""
    name = parse_filename(file.name)
    _check_digest(file, fd)
    source = Source(lambda offset, count: os.pread(fd, count, offset), file.size)
    distribution = read_wheel(source, name) if name.kind == "wheel" else read_sdist(source, name)
    entries = {
        _comparable(member.path, distribution): _entry(member)
        for member in distribution.archive.members
    }
    return Artifact(file, distribution, entries)


def _check_digest(file: InputFile, fd: int) -> None:
    digest, size = hashlib.sha256(), 0
    while chunk := os.pread(fd, READ_CHUNK_BYTES, size):
        digest.update(chunk)
        size += len(chunk)
    if (digest.hexdigest(), size) != (file.sha256, file.size):
        raise Refusal(
            Code.ARTIFACT_DIGEST_MISMATCH,
            f"The bytes of {file.name} are not the ones whose inspection was asked for.",
        )


def _comparable(path: str, distribution: Distribution) -> str:
    """`foo-1.0.dist-info/X` and `foo-1.1.dist-info/X` are one file of two versions; so are the sdists' top folders."""
    top, slash, rest = path.partition("/")
    root = distribution.root
    if not slash or not root:
        return path
    if top == root:
        return f"*.dist-info/{rest}" if distribution.name.kind == "wheel" else f"*/{rest}"
    if top == root.removesuffix(".dist-info") + ".data":
        return f"*.data/{rest}"
    return path


def _entry(member: Member) -> FileEntry:
    flags = (("executable", member.executable), ("native", _is_native(member)))
    return FileEntry(
        member.path, member.size, member.sha256, tuple(name for name, holds in flags if holds)
    )


def _is_native(member: Member) -> bool:
    path = member.path.lower()
    windows = member.head.startswith(b"MZ") and b"\0" in member.head
    return (
        path.endswith(_NATIVE_SUFFIXES)
        or ".so." in path
        or windows
        or member.head.startswith(_NATIVE_HEADS)
    )
