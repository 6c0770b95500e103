"""Where everything is measured: Presspass as it is once installed, a sealed gate, and the servers beside it.

The package is copied and compiled to byte code first, as an installer does; a work tree is often run without.
"""

from __future__ import annotations

import compileall
import contextlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

import presspass
import procfs
import rawhttp
from presspass.drill.demo.gate import UPSTREAM, Gate
from presspass.drill.demo.tell import Teller
from presspass.drill.peers import PypiServer
from rawhttp import Door

REQUESTER, APPROVER = PEOPLE = ("Ana", "Ben")
UPSTREAM_SECRET: Final = (
    "the-credential-of-the-bench"  # of a registry that lives as long as the run
)
_STEADY_S: Final = 0.3
_STEADY_BYTES: Final = 256 * 1024
_SETTLE_S_MAX: Final = 20.0


def install(folder: Path) -> None:
    """Copies the package into `folder`, compiles it, and makes every process started from here use that copy."""
    source = Path(presspass.__file__).parent
    target = folder / "presspass"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    if not compileall.compile_dir(target, quiet=1):
        raise RuntimeError("the package does not compile")
    os.environ["PYTHONPATH"] = str(folder)


@dataclass(slots=True)
class House:
    """A sealed gate whose upstream is a real pypiserver. `folder`: on the disk that is measured."""

    folder: Path
    gate: Gate
    upstream: PypiServer

    @property
    def supervisor(self) -> int:
        """Process id of `presspass serve`."""
        if self.gate.server is None:
            raise RuntimeError("the gate is not running")
        return self.gate.server.pid

    @property
    def gateway(self) -> int:
        """Process id of the gateway."""
        return next(
            pid
            for pid in procfs.family(self.supervisor)
            if "presspass.services.gateway" in procfs.command(pid)
        )

    def door(self, project: str) -> Door:
        """Where a file of `project` goes, with a fresh upload token."""
        path = f"/pypi/{UPSTREAM}/legacy/"
        return Door(self.gate.port, path, self.gate.token(project, REQUESTER))

    def shared_out_bytes(self) -> int:
        """PSS of all processes together, once it has stopped moving."""
        deadline, before = time.monotonic() + _SETTLE_S_MAX, (0, 0)
        while time.monotonic() < deadline:
            time.sleep(_STEADY_S)
            pids = list(procfs.family(self.supervisor))
            now = len(pids), sum(map(procfs.shared_out_bytes, pids))
            if now[0] == before[0] and abs(now[1] - before[1]) < _STEADY_BYTES:
                return now[1]
            before = now
        raise RuntimeError("the gate's memory does not come to rest")

    def serve_again(self) -> float:
        """Stops the gate and starts it again; seconds until it said that it was ready."""
        self.gate.stop()
        begin = time.perf_counter()
        self.gate.serve()
        return time.perf_counter() - begin

    def withdraw(self, door: Door, answers: list[dict[str, Any]]) -> None:
        """Takes these sets back, so that no quiet period closes them while something else is measured."""
        for release in dict.fromkeys(str(answer["id"]) for answer in answers):
            path = f"/api/v1/releases/{release}/withdraw"
            bearer = {"Authorization": f"Bearer {door.password}"}
            status, body = rawhttp.ask(self.gate.port, "POST", path, b"", **bearer)
            if status != 200:
                raise RuntimeError(f"a withdrawal was answered with {status}: {body[:300]!r}")

    def forget_blobs(self) -> None:
        """Removes the bytes of withdrawn sets from the disk."""
        for blob in (self.gate.home / "gateway" / "blobs").rglob("*"):
            if blob.is_file():
                blob.unlink()


@contextlib.contextmanager
def house(folder: Path) -> Iterator[House]:
    """Makes one in `folder`, two people, one approval, no veto window; ends everything afterwards."""
    with PypiServer(folder / "upstream", password=UPSTREAM_SECRET) as upstream:
        gate = Gate(folder, Teller(Console(file=io.StringIO())), tls=False)
        try:
            gate.begin(list(PEOPLE), approvals=1)
            urls = upstream.upload_url, upstream.simple_url
            gate.add_upstream(*urls, UPSTREAM_SECRET, signers=list(PEOPLE))
            yield House(folder, gate, upstream)
        finally:
            gate.stop()
