"""The witness as a process: its folder, its key, its address. It reads nothing of any gate, and dials nobody."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from presspass.core.errors import Code, Refusal
from presspass.core.ledger import note
from presspass.core.ledger.note import VerifierKey
from presspass.keystore.envelopes import read_private, write_private
from presspass.witness.app import application
from presspass.witness.memory import Witness, open_memory

_KEY_BYTES: Final = 32
_DRAIN_S: Final = 5
_NAME, _MEMORY, _KEY = "witness.name", "witness.db", "witness.key"


@contextlib.contextmanager
def open_witness(
    home: Path, name: str, logs: Mapping[str, Sequence[VerifierKey]]
) -> Iterator[Witness]:
    """The witness in the folder `home`, made there the first time.

    Refuses with `config.invalid` one of another name, and a key without its memory or the other way round.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = [(home / one).exists() for one in (_NAME, _MEMORY, _KEY)]
    new = not any(there)
    if not new and (not all(there) or (home / _NAME).read_text().strip() != name):
        raise Refusal(
            Code.CONFIG_INVALID,
            f"The folder {home} does not hold the whole of a witness {name}.",
            "One that has lost its memory would cosign a fork: make another, with another folder and name.",
        )
    writer = open_memory(home / _MEMORY, new=new)
    try:
        if new:
            (home / _NAME).write_text(f"{name}\n")
            seed = Ed25519PrivateKey.generate().private_bytes_raw()
            write_private(home / _KEY, seed, exclusive=True)
        private = Ed25519PrivateKey.from_private_bytes(read_private(home / _KEY, _KEY_BYTES))
        public = private.public_key().public_bytes_raw()
        key = VerifierKey(name, note.COSIGNATURE, public)
        yield Witness(key, private.sign, logs, writer)
    finally:
        writer.close()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which end the process by the signal: this is no failure."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(witness: Witness, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answers until SIGINT or SIGTERM. `ready` is called when the first request would be answered."""
    config = uvicorn.Config(
        application(witness),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_S,
        lifespan="off",
    )

    async def run() -> None:
        server = _Server(config)

        def end() -> None:
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        ready()
        await task

    asyncio.run(run())
