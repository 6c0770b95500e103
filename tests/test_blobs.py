"""Blobs: what is kept is durable and whole, keeping twice is keeping once, and nothing half-written stays."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import peers
from presspass.core.errors import BrokenInvariantError, Code, Refusal
from presspass.store.blobs import Blobs, shelf

DATA = b"the bytes of a file"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs", tmp_path / "tmp")


def read(blobs: Blobs, sha256: str) -> bytes:
    fd = blobs.open(sha256)
    try:
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


def test_what_is_kept_is_read_back(blobs: Blobs) -> None:
    blobs.add([DATA[:5], DATA[5:]], SHA256)
    assert read(blobs, SHA256) == DATA
    assert blobs.size(SHA256) == len(DATA)
    assert blobs.exists(SHA256)


def test_keeping_twice_is_keeping_once(blobs: Blobs, tmp_path: Path) -> None:
    blobs.add([DATA], SHA256)
    inode = (shelf(tmp_path / "blobs" / "sha256", SHA256) / SHA256).stat().st_ino
    blobs.add([DATA], SHA256)
    assert (shelf(tmp_path / "blobs" / "sha256", SHA256) / SHA256).stat().st_ino == inode
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_same_bytes_at_once_from_many_threads_are_one_blob(
    blobs: Blobs, tmp_path: Path
) -> None:
    failures: list[BaseException] = []

    def add() -> None:
        try:
            blobs.add([DATA], SHA256)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert read(blobs, SHA256) == DATA
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


def test_a_spool_that_is_closed_without_keeping_leaves_nothing(
    blobs: Blobs, tmp_path: Path
) -> None:
    with contextlib.closing(blobs.spool()) as spool:
        spool.write([DATA])
        assert b"".join(spool.read_again()) == DATA
    assert not blobs.exists(SHA256)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_killed_process_left_is_removed_at_the_next_start(
    blobs: Blobs, tmp_path: Path
) -> None:
    blobs.add([DATA], SHA256)
    blobs.spool().write([b"half a fi"])
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    again = Blobs(tmp_path / "blobs", tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert read(again, SHA256) == DATA


def test_a_missing_blob_is_refused_by_its_code(blobs: Blobs) -> None:
    for ask in (blobs.open, blobs.size):
        with pytest.raises(Refusal) as caught:
            ask(SHA256)
        assert caught.value.code is Code.ARTIFACT_MISSING


@pytest.mark.parametrize("name", ["../../etc/passwd", "", SHA256.upper(), SHA256[:63]])
def test_only_a_sha256_can_name_a_blob(blobs: Blobs, name: str) -> None:
    with contextlib.closing(blobs.spool()) as spool, pytest.raises(BrokenInvariantError):
        spool.keep(name)


def test_the_name_appears_only_after_the_bytes_are_synced(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls are watched, not replaced: bytes, fsync of the file, link, fsync of the folder."""
    seen: list[tuple[str, str]] = []

    def watch(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def watched(first: Any, *rest: Any) -> Any:
            seen.append(
                (name, os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else "")
            )
            return real(first, *rest)

        monkeypatch.setattr(os, name, watched)

    for name in ("writev", "fsync", "link"):
        watch(name)
    blobs.add([DATA], SHA256)
    assert [name for name, _ in seen] == ["writev", "fsync", "link", "fsync"]
    assert seen[0][1] == seen[1][1]
    assert seen[3][1] == str(shelf(tmp_path / "blobs" / "sha256", SHA256))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        peers.missing("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        peers.missing("this machine does not let us mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_refused_and_leaves_nothing(tiny_disk: Path) -> None:
    blobs = Blobs(tiny_disk / "blobs", tiny_disk / "tmp")
    blobs.add([DATA], SHA256)
    with pytest.raises(Refusal) as caught, contextlib.closing(blobs.spool()) as spool:
        for _ in range(64):
            spool.write([bytes(64 * 1024)])
    assert caught.value.code is Code.STORAGE_FULL
    assert list((tiny_disk / "tmp").iterdir()) == []
    assert read(blobs, SHA256) == DATA
    more = b"room again"
    blobs.add([more], hashlib.sha256(more).hexdigest())
