"""Keeping in groups: each file is durable before its sender hears of it, and one file's trouble is its own."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import peers
from presspass.core.errors import Code, Fault, Refusal
from presspass.store import keeper as keeper_module
from presspass.store.blobs import Blobs, shelf
from presspass.store.keeper import GROUP_MAX, Keeper

WAIT_S = 20


class Room:
    """Blobs, a keeper, and a way to make files wait so that they become one group."""

    def __init__(self, folder: Path) -> None:
        self.tmp = folder / "tmp"
        self.names = folder / "blobs" / "sha256"
        self.blobs = Blobs(folder / "blobs", self.tmp)
        self.keeper = Keeper(self.blobs)

    def submit(self, data: bytes) -> Future[str]:
        return self.keeper.submit([data[:3], data[3:]], lambda: sha256(data))

    def together(self, *files: bytes | Callable[[], str]) -> list[Future[str]]:
        """These files as one group: the keeper is held up at an earlier one until all of them wait."""
        held, go = threading.Event(), threading.Event()

        def hold() -> str:
            held.set()
            assert go.wait(WAIT_S)
            return sha256(b"first")

        first = self.keeper.submit([b"first"], hold)
        assert held.wait(WAIT_S)
        waiting = [
            self.submit(one) if isinstance(one, bytes) else self.keeper.submit([b"x"], one)
            for one in files
        ]
        go.set()
        first.result(WAIT_S)
        return waiting

    def content(self, sha256: str) -> bytes:
        fd = self.blobs.open(sha256)
        try:
            return os.pread(fd, 1 << 22, 0)
        finally:
            os.close(fd)

    def leftovers(self) -> list[Path]:
        return list(self.tmp.iterdir())

    def close(self) -> None:
        self.keeper.close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["a fast disk", "a slow disk"])
def either_room(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Room]:
    """One group after the other, or file by file in many threads."""
    limit = 1000.0 if request.param == "a fast disk" else -1.0
    monkeypatch.setattr(keeper_module, "_SLOW_SYNC_S", limit)
    monkeypatch.setattr(keeper_module, "_SLOW_FOR_S", 1000.0)
    made = Room(tmp_path)
    made.submit(b"what the disk is like").result(WAIT_S)
    yield made
    made.close()


def test_a_file_alone_is_kept_and_read_back(room: Room) -> None:
    assert room.submit(b"alone").result(WAIT_S) == sha256(b"alone")
    assert room.content(sha256(b"alone")) == b"alone"
    assert room.leftovers() == []


def test_a_group_is_kept_and_leaves_nothing_behind(either_room: Room) -> None:
    files = [os.urandom(20_000) for _ in range(GROUP_MAX + 3)]
    kept = [one.result(WAIT_S) for one in either_room.together(*files)]
    assert kept == [sha256(data) for data in files]
    assert [either_room.content(one) for one in kept] == files
    assert either_room.leftovers() == []


def test_nobody_hears_of_a_file_before_bytes_and_name_are_durable(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls are watched, not replaced."""
    seen: list[tuple[str, str]] = []

    def watch(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def watched(first: Any, *rest: Any) -> Any:
            is_file = isinstance(first, int)
            place = os.readlink(f"/proc/self/fd/{first}") if is_file else str(rest[0])
            seen.append((name, place))
            return real(first, *rest)

        monkeypatch.setattr(os, name, watched)

    monkeypatch.setattr(keeper_module, "_SLOW_SYNC_S", 1000.0)
    files = [b"one", b"two", b"three"]
    held = room.together()
    assert held == []
    for name in ("fsync", "link"):
        watch(name)
    done = room.together(*files)
    for data, one in zip(files, done, strict=True):
        one.add_done_callback(lambda _one, data=data: seen.append(("told", sha256(data))))
    for one in done:
        one.result(WAIT_S)
    # The file that held the others up comes first (sync, link, sync), and nobody waits for it here.
    of_group = seen[3:]
    names = {sha256(data) for data in files}
    assert [kind for kind, _ in of_group[:6]] == ["fsync"] * 3 + ["link"] * 3
    synced = {place for kind, place in of_group[6:] if kind == "fsync"}
    assert synced == {str(shelf(room.names, name)) for name in names}
    last_sync = max(index for index, (kind, _) in enumerate(of_group) if kind == "fsync")
    assert all(index > last_sync for index, (kind, _) in enumerate(of_group) if kind == "told")


def test_the_same_bytes_twice_in_a_group_are_one_blob(either_room: Room) -> None:
    first, second = either_room.together(b"same", b"same")
    assert first.result(WAIT_S) == second.result(WAIT_S) == sha256(b"same")
    assert either_room.content(sha256(b"same")) == b"same"
    assert either_room.leftovers() == []


def test_a_refused_file_does_not_hold_up_its_group(either_room: Room) -> None:
    def refuse() -> str:
        raise Refusal(Code.ARTIFACT_DIGEST_MISMATCH, "other bytes")

    good, bad, also_good = either_room.together(b"good", refuse, b"also good")
    with pytest.raises(Refusal, match="other bytes"):
        bad.result(WAIT_S)
    assert good.result(WAIT_S) == sha256(b"good")
    assert also_good.result(WAIT_S) == sha256(b"also good")
    assert either_room.leftovers() == []


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, Refusal), (errno.EIO, Fault)])
@pytest.mark.parametrize("what", ["bytes", "name"])
def test_a_sync_that_fails_fails_its_own_file_only(
    either_room: Room,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[Exception],
    what: str,
) -> None:
    """A file system may find out at the sync that it has no room, or that the disk is broken."""
    bad, good = b"bad" * 100, b"good" * 100
    assert sha256(bad)[:2] != sha256(good)[:2]
    real = os.fsync

    def fails(fd: int) -> bool:
        if what == "name":
            return os.readlink(f"/proc/self/fd/{fd}") == str(shelf(either_room.names, sha256(bad)))
        return os.pread(fd, 3, 0) == b"bad" if os.fstat(fd).st_size == len(bad) else False

    def sync(fd: int) -> None:
        if fails(fd):
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    first, second = either_room.together(bad, good)
    with pytest.raises(kind):
        first.result(WAIT_S)
    assert second.result(WAIT_S) == sha256(good)
    assert either_room.blobs.exists(sha256(bad)) is (what == "name")  # nobody was told of it
    assert either_room.leftovers() == []


def test_a_name_that_is_no_digest_is_a_bug_that_ends_nothing_else(room: Room) -> None:
    bad, good = room.together(lambda: "../../etc/passwd", b"good")
    with pytest.raises(Exception, match="named by its SHA-256"):
        bad.result(WAIT_S)
    assert good.result(WAIT_S) == sha256(b"good")
    assert room.leftovers() == []


def test_who_gives_up_while_waiting_leaves_no_file(room: Room) -> None:
    cancelled = b"nobody waits for this"
    held, go = threading.Event(), threading.Event()

    def hold() -> str:
        held.set()
        assert go.wait(WAIT_S)
        return sha256(b"first")

    room.keeper.submit([b"first"], hold)
    assert held.wait(WAIT_S)
    waiting, after = room.submit(cancelled), room.submit(b"after")
    assert waiting.cancel()
    go.set()
    assert after.result(WAIT_S) == sha256(b"after")
    assert not room.blobs.exists(sha256(cancelled))


def test_closing_keeps_what_was_submitted(tmp_path: Path) -> None:
    room = Room(tmp_path)
    waiting = [room.submit(bytes([number]) * 1000) for number in range(50)]
    room.close()
    assert all(one.done() for one in waiting)
    assert all(room.blobs.exists(one.result(0)) for one in waiting)


def test_a_file_that_does_not_fit_on_the_disk_is_refused_and_the_others_are_kept(
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0:
        peers.missing("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        peers.missing("this machine does not let us mount a small disk")
    room = Room(disk)
    try:
        large, small = room.together(os.urandom(3 << 20), b"small")
        with pytest.raises(Refusal) as caught:
            large.result(WAIT_S)
        assert caught.value.code is Code.STORAGE_FULL
        assert small.result(WAIT_S) == sha256(b"small")
        assert room.leftovers() == []
    finally:
        room.close()
        subprocess.run(["umount", str(disk)], check=True)
