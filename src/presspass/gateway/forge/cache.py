"""What was fetched, kept by commit and path: a commit's content never changes, so an entry never grows old.

In memory and, with a folder, on disk; both bounded, the longest unused goes first. What is read back from the disk is
proved again, so a damaged or foreign file is no entry. It may be lost at any time: it is fetched again then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
from collections import OrderedDict
from pathlib import Path

from presspass.core import limits
from presspass.core.errors import Refusal
from presspass.verify.workflow import WorkflowPath, prove

_PART, _WHOLE = ".part", ".json"


class PathCache:
    """Safe to use from any thread. `folder`: made if it is not there; None keeps everything in memory alone."""

    def __init__(
        self,
        folder: Path | None,
        *,
        memory_bytes_max: int = limits.FORGE_CACHE_MEMORY_BYTES_MAX,
        disk_bytes_max: int = limits.FORGE_CACHE_DISK_BYTES_MAX,
    ) -> None:
        self._folder = folder
        self._memory_bytes_max = memory_bytes_max
        self._disk_bytes_max = disk_bytes_max
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, WorkflowPath] = OrderedDict()
        self._memory_bytes = 0
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob(f"*{_PART}"):  # of a process that was killed
                left.unlink(missing_ok=True)

    def get(self, commit: str, path: str) -> WorkflowPath | None:
        """What is kept for this commit and path, proved."""
        key = _key(commit, path)
        with self._lock:
            found = self._memory.get(key)
            if found is not None:
                self._memory.move_to_end(key)
                return found
        found = self._read(key, commit, path)
        if found is not None:
            self._remember(key, found)
        return found

    def put(self, found: WorkflowPath) -> None:
        """Keeps what the caller has proved. That the disk is full or closed loses only the entry."""
        key = _key(found.commit, found.path)
        self._remember(key, found)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._write(self._folder, key, found.to_bytes())

    def _remember(self, key: str, found: WorkflowPath) -> None:
        with self._lock:
            known = self._memory.pop(key, None)
            self._memory[key] = found
            self._memory_bytes += _size(found) - (_size(known) if known else 0)
            while self._memory_bytes > self._memory_bytes_max:
                _, old = self._memory.popitem(last=False)
                self._memory_bytes -= _size(old)

    def _read(self, key: str, commit: str, path: str) -> WorkflowPath | None:
        if self._folder is None:
            return None
        file = self._folder / f"{key}{_WHOLE}"
        try:
            with file.open("rb") as opened:
                data = opened.read(limits.WORKFLOW_OBJECTS_JSON_BYTES_MAX + 1)
            found = WorkflowPath.from_bytes(data)
            prove(commit, path, found.objects)
            os.utime(file)
        except OSError:
            return None
        except Refusal:
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        return WorkflowPath(commit, path, found.objects)

    def _write(self, folder: Path, key: str, data: bytes) -> None:
        part = folder / f"{secrets.token_hex(8)}{_PART}"
        try:
            part.write_bytes(data)
            part.replace(folder / f"{key}{_WHOLE}")
        finally:
            part.unlink(missing_ok=True)
        with self._lock:
            self._make_room(folder)

    def _make_room(self, folder: Path) -> None:
        files = []
        for file in folder.glob(f"*{_WHOLE}"):
            with contextlib.suppress(FileNotFoundError):
                about = file.stat()
                files.append((about.st_mtime_ns, about.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self._disk_bytes_max:
                break
            file.unlink(missing_ok=True)
            total -= size


def _key(commit: str, path: str) -> str:
    return hashlib.sha256(f"{commit}\0{path}".encode()).hexdigest()


def _size(found: WorkflowPath) -> int:
    return sum(len(raw) for raw in found.objects) + len(found.path)
