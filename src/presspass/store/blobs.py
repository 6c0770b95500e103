"""Files by their content: written once, durable before anybody hears of them, never changed.

The order of writes, and what a crash after each step means:

1. the bytes go into a file of their own in the temporary folder; what a crash leaves there, `Blobs` removes at start;
2. fsync of that file: its content is durable, still under a name that nobody knows;
3. link to `sha256/ab/<digest>`: a name in there never stands for incomplete bytes;
4. fsync of the folder: the name is durable, and only now does the caller hear that the blob is kept.

Large files take these steps one by one, here; small ones that arrive together take them together (`keeper`).
Only the gateway process writes here; others open blobs for reading.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Fault, PresspassError, Refusal, invariant
from presspass.core.limits import MIB

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REREAD_BYTES = 1 * MIB
_MODE = 0o640  # the press reads blobs; where zones are separated, as a member of the group
#: Written pages are handed to the disk in steps of this size while the rest arrives, so that the last fsync is short.
_WRITEBACK_BYTES = 16 * MIB


class Blobs:
    """The folder of blobs. Digests are 64 lower-case hex digits."""

    def __init__(self, folder: Path, tmp: Path) -> None:
        """Makes both folders when they are missing and removes what a killed process left in `tmp`."""
        self._folder = folder / "sha256"
        self._tmp = tmp
        tmp.mkdir(parents=True, exist_ok=True)
        self._make_shelves()
        for leftover in tmp.iterdir():
            leftover.unlink()

    def spool(self) -> Spool:
        """A new, empty file on its way in."""
        return Spool(self._folder, self._tmp)

    def add(self, pieces: Sequence[bytes], sha256: str) -> None:
        """Keeps `pieces` (their digest is `sha256`); returns when they are durable."""
        with contextlib.closing(self.spool()) as spool:
            spool.write(pieces)
            spool.keep(sha256)

    def open(self, sha256: str) -> int:
        """A read-only file descriptor, the caller's to close; refuses with `artifact.missing`."""
        try:
            return os.open(self._path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Refusal(
                Code.ARTIFACT_MISSING, f"There is no file with SHA-256 {sha256} here."
            ) from None

    def size(self, sha256: str) -> int:
        """In bytes; refuses with `artifact.missing`."""
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            raise Refusal(
                Code.ARTIFACT_MISSING, f"There is no file with SHA-256 {sha256} here."
            ) from None

    def exists(self, sha256: str) -> bool:
        """Whether the blob is here."""
        return self._path(sha256).exists()

    def _path(self, sha256: str) -> Path:
        return shelf(self._folder, sha256) / sha256

    def _make_shelves(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [
            name for number in range(256) if not (self._folder / (name := f"{number:02x}")).exists()
        ]
        for name in missing:
            (self._folder / name).mkdir(exist_ok=True)
        if missing:
            sync_folder(self._folder)


class Spool:
    """One file on its way in, in the temporary folder. Close it in any case; closing forgets what was not kept."""

    def __init__(self, folder: Path, tmp: Path) -> None:
        self._folder = folder
        self._path = tmp / secrets.token_hex(16)
        self._handed_over = 0
        self.size = 0
        with _as_refusal():
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            self.fd = os.open(self._path, flags, _MODE)

    def write(self, pieces: Sequence[bytes]) -> None:
        """Appends. Refuses with `storage.full`; then nothing of the file stays after `close`."""
        with _as_refusal():
            written = os.writev(self.fd, pieces)
            total = sum(map(len, pieces))
            if written < total:
                _write_all(self.fd, memoryview(b"".join(pieces))[written:])
            self.size += total
            if self.size - self._handed_over >= _WRITEBACK_BYTES:
                self._hand_over()

    def read_again(self) -> Iterator[bytes]:
        """What was written so far, from its beginning."""
        position = 0
        while block := os.pread(self.fd, _REREAD_BYTES, position):
            position += len(block)
            yield block

    def keep(self, sha256: str) -> None:
        """Gives the file its name for ever; returns when bytes and name are durable (steps 2 to 4)."""
        with _as_refusal():
            os.fsync(self.fd)
            sync_folder(self.link(sha256))

    def link(self, sha256: str) -> Path:
        """Step 3 alone, once the bytes are durable; the folder to sync before the name counts."""
        invariant(is_sha256(sha256), "a blob is named by its SHA-256")
        folder = shelf(self._folder, sha256)
        # The same bytes may have come before, or come twice at once: the name that stands is as good as ours,
        # but its owner may not have synced the folder yet.
        with _as_refusal(), contextlib.suppress(FileExistsError):
            os.link(self._path, folder / sha256)
        return folder

    def close(self) -> None:
        """Removes the temporary name and closes the file. What was kept stays kept."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self.fd)

    def _hand_over(self) -> None:
        """Starts write-back of what has come so far, without waiting (posix_fadvise: POSIX.1-2017)."""
        os.posix_fadvise(self.fd, self._handed_over, self.size, os.POSIX_FADV_DONTNEED)
        self._handed_over = self.size


def shelf(folder: Path, sha256: str) -> Path:
    """The folder that holds this digest."""
    return folder / sha256[:2]


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def open_folder(folder: Path) -> int:
    """A descriptor by which a folder can be synced."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def sync_folder(folder: Path) -> None:
    """Returns when the names in `folder` are durable."""
    fd = open_folder(folder)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def explained(error: OSError) -> PresspassError:
    """A full disk is a normal "no"; any other failure of the disk is a fault."""
    if error.errno in _FULL:
        return Refusal(
            Code.STORAGE_FULL,
            "The disk of the gate is full; nothing of this file was kept.",
            "Tell the operator of the gate, then upload again.",
        )
    return Fault("store.blob-failed", f"A file could not be written: {error}", retryable=False)


@contextlib.contextmanager
def _as_refusal() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explained(error) from error
