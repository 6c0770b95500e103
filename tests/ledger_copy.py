"""A ledger of a test's own making, laid out as the files that a gate serves, in a folder that any web server can serve.

It is signed as a press would sign it, whatever stands in it: so a test says what a dishonest one would do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from presspass.core.digests import canonical, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.ledger import checkpoint, merkle, tiles
from presspass.core.ledger.tiles import ENTRIES, HASH_BYTES, HEIGHT, WIDTH
from presspass.core.statement import ReleaseFile, Statement
from presspass.verify.proof import Entry
from proof_world import NOW, Paper, raw_hex

HASH = "ab" * 32


class Ledger:
    """`entries` can be changed at will; `lay_out` signs what they are then, and writes every file of the log."""

    def __init__(self, folder: Path, entries: Sequence[bytes] = (), paper: Paper | None = None):
        self.paper = paper or Paper()
        self.folder = folder
        self.entries = list(entries)
        self.trust = folder / "trust-root.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.trust.write_bytes(self.genesis.to_bytes())
        if not entries:
            self.add("genesis", statement=self.genesis.digest)

    @property
    def genesis(self) -> Statement:
        return self.paper.genesis

    @property
    def origin(self) -> str:
        return self.paper.chain.log.origin

    def add(self, kind: str, **members: Any) -> None:
        """One entry, as `press.journal.log_entry` makes them."""
        whole = {"kind": kind, "space": "main", "at": NOW + len(self.entries), **members}
        self.entries.append(canonical(whole))

    def publish(self, *names: str, data: bytes = b"the wheel", steps: str = "aiv") -> str:
        """A release of these files: (a)pproved, (i)ntent, (v)erified."""
        statement = sha256_hex(b"".join(self.entries[-1:]))
        files = tuple(ReleaseFile(name, sha256_hex(data), len(data)) for name in names)
        for step in steps:
            if step == "a":
                self.add("approved", statement=statement, by=["p-ben"], review=HASH)
            elif step == "i":
                listed = [file.to_json() for file in files]
                self.add("intent", statement=statement, files=listed)
            else:
                self.verify(statement, files)
        return statement

    def verify(self, statement: str, files: tuple[ReleaseFile, ...]) -> None:
        """The entry of a publication."""
        times = (NOW + len(self.entries), NOW + len(self.entries))
        zones = ("prevented", "not separated")
        entry = Entry("main", statement, files, *times, HASH, HASH, *zones)
        self.entries.append(canonical(entry.to_json()))

    def refuse(self, count: int) -> None:
        """Entries of which there may be many."""
        for _ in range(count):
            self.add("refused-at-gateway", door="upload", code="token.invalid", about="")

    def files(self, key: Ed25519PrivateKey | None = None) -> dict[str, bytes]:
        """Path to content of every file that a log of this size serves."""
        key, edge, levels = key or self.paper.log_key, list[bytes](), dict[int, list[bytes]]()
        for size, entry in enumerate(self.entries):
            for level, _, value in merkle.append(size, edge, merkle.leaf_hash(entry)):
                levels.setdefault(level, []).append(value)
        size = len(self.entries)
        signed = checkpoint.Checkpoint(self.origin, size, merkle.edge_root(edge))
        found = {"checkpoint": checkpoint.sign(signed, bytes.fromhex(raw_hex(key)), key.sign)}
        for tile in tiles.grown(0, size):
            start, end = tile.index * WIDTH, tile.index * WIDTH + tile.width
            if tile.level == ENTRIES:
                found[tile.path] = tiles.bundle(self.entries[start:end])
            else:
                found[tile.path] = b"".join(levels[tile.level * HEIGHT][start:end])
                assert len(found[tile.path]) == tile.width * HASH_BYTES
        return found

    def lay_out(self, **changed: Any) -> None:
        """Writes the log; partial tiles of earlier sizes stay, as they do in a real one."""
        for path, data in self.files(**changed).items():
            self.put(path, data)

    def put(self, path: str, data: bytes) -> None:
        """One file of the log."""
        file = self.folder / "log" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def get(self, path: str) -> bytes:
        """As it lies there now."""
        return (self.folder / "log" / path).read_bytes()

    def forget(self, path: str) -> None:
        (self.folder / "log" / path).unlink()


class Shelf:
    """In place of a gate's client: the files of a log in memory. `asked`: the paths that were read."""

    base = "https://gate.example"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def get_bytes(self, path: str, *, bytes_max: int, accept: str = "") -> bytes:
        name = path.removeprefix("/log/")
        self.asked.append(name)
        if name not in self.files:
            raise Refusal(Code.REQUEST_NOT_FOUND, "Nothing.")
        return self.files[name]


class _Silent(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a web server that knows nothing but this folder."""
    server = _Server(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        with contextlib.suppress(OSError):
            server.shutdown()
        server.server_close()
        thread.join()
