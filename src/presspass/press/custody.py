"""The press's own copy of the bytes: what is hashed here is what is inspected and sent, whatever becomes of others."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Fault, Refusal, invariant
from presspass.core.statement import ReleaseFile

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Spool:
    """A folder of files named by their SHA-256. `source` opens the gateway's copy of a digest for reading."""

    folder: Path
    source: Callable[[str], int]

    def take(self, file: ReleaseFile) -> Path:
        """Copies the file here, hashing the very bytes that are kept; refuses with `artifact.digest-mismatch` or
        `-missing`.

        A copy that is here already is hashed again: it is used only if it still is what its name says.
        """
        target = self.path(file.sha256)
        if target.exists() and _hash(target) == (file.sha256, file.size):
            return target
        temporary = self.folder / f".{file.sha256[:16]}.{secrets.token_hex(4)}"
        try:
            digest, size = self._copy(file, temporary)
            if (digest, size) != (file.sha256, file.size):
                raise Refusal(
                    Code.ARTIFACT_DIGEST_MISMATCH,
                    f"{file.name} has changed since it was approved: "
                    f"its bytes hash to {digest[:16]}…, not {file.sha256[:16]}….",
                    "Somebody has touched the gateway's files. Look before you release again.",
                )
            temporary.replace(target)
        except OSError as error:
            raise Fault(
                "press.spool",
                f"The press cannot keep {file.name}: {error.strerror}",
                retryable=True,
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def open_all(self, files: tuple[ReleaseFile, ...], stack: ExitStack) -> list[int]:
        """File descriptors of the press's copies, closed with `stack`."""
        opened: list[BinaryIO] = [stack.enter_context(self.take(file).open("rb")) for file in files]
        return [one.fileno() for one in opened]

    def keep_only(self, needed: Set[str]) -> None:
        """Forgets every other copy: it can be taken from the gateway again."""
        for path in self.folder.iterdir():
            if is_sha256(path.name) and path.name not in needed:
                path.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the copy of this digest lies."""
        invariant(is_sha256(sha256), "a spooled file is named by its digest")
        return self.folder / sha256

    def _copy(self, file: ReleaseFile, target: Path) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        try:
            descriptor = self.source(file.sha256)
        except FileNotFoundError:
            raise Refusal(
                Code.ARTIFACT_MISSING,
                f"The gateway no longer has {file.name}.",
                "Upload the release again.",
            ) from None
        with (
            os.fdopen(descriptor, "rb", buffering=0) as reader,
            target.open("xb", buffering=0) as writer,
        ):
            while size <= file.size and (chunk := reader.read(_CHUNK_BYTES)):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
        return digest.hexdigest(), size


def _hash(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.seek(0, os.SEEK_END)
