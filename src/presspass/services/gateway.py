"""The gateway as a process: composes it, serves the public address and the control socket, keeps house, drains.

`python -m presspass.services.gateway --home DIR [--fd-supervisor N] [--port N]` prints one line of JSON,
`{"ready": true, "port": N}`, when both listeners are up. It ends on SIGTERM, on SIGINT, when the supervisor's end of
the pipe closes, and when the control socket is asked to drain: no new connection, what has begun ends, then the
threads, then the database.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from presspass.confine.worker import Worker, inspector_command
from presspass.core.errors import Code, PresspassError, Refusal
from presspass.core.limits import (
    CONNECTIONS_MAX,
    FILE_BYTES_MAX,
    GATEWAY_DRAIN_S_MAX,
    UPLOAD_THREADS_MAX,
)
from presspass.gateway import events
from presspass.gateway.app import Routed, public_app
from presspass.gateway.control import Control
from presspass.gateway.events import Events
from presspass.gateway.facts import Facts
from presspass.gateway.gate import Gate, wall_clock_ms
from presspass.gateway.http import AsgiApp, Connection
from presspass.gateway.journal import Journal
from presspass.gateway.pypi.legacy import LegacyUpload
from presspass.gateway.review import Reviews
from presspass.gateway.upkeep import LOOK_S, Upkeep
from presspass.services.config import Config, read_config
from presspass.services.isolation import confine_gateway
from presspass.services.places import Places, places
from presspass.store import migrate
from presspass.store.blobs import Blobs
from presspass.store.claims import Claims
from presspass.store.database import ChangeSignal, Writer, open_engine

_KEEP_ALIVE_S = 30
_BACKLOG = 1024
_AFTER_BUG_S = 1.0
_IDLE_LOOK_S = 0.25  # where commits are told of: only the passing of time is still to be looked for
_DRAIN_MARGIN_S = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the home. `port` and `file_bytes_max` stand in for the configured ones."""

    home: Path
    supervisor: int | None = None
    port: int | None = None
    file_bytes_max: int = FILE_BYTES_MAX
    zones: str = "not separated"


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: two of them share this process, and it is drained as one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def writer_lock(home: Path) -> Iterator[None]:
    """Holds gateway/writer.lock; refuses with `home.in-use` while another gateway has it."""
    with (home / "gateway" / "writer.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(
                Code.HOME_IN_USE, f"Another gateway is running on {home}.", "Stop it first."
            ) from None
        yield


@contextlib.contextmanager
def composed(options: Options, config: Config) -> Iterator[Gate]:
    """A gate put together for a home, closed at the end. The caller holds `writer_lock`."""
    folder = options.home / "gateway"
    found = places(options.home, config, "gateway")
    engine = open_engine(found.gateway)
    migrate.bring_up(engine, "gateway")
    writer = Writer(engine)
    journal = Journal(found.journal)
    pool = ThreadPoolExecutor(UPLOAD_THREADS_MAX, thread_name_prefix="upload")
    try:
        yield Gate(
            origin=config.origin,
            rp_id=config.rp_id,
            space=config.space,
            writer=writer,
            journal=journal,
            blobs=Blobs(folder / "blobs", _incoming(folder, config)),
            events=Events(writer, wall_clock_ms),
            pool=pool,
            file_bytes_max=options.file_bytes_max,
            zones_separated=options.zones == "separated",
        )
    finally:
        pool.shutdown()
        writer.close()
        journal.close()


def _incoming(folder: Path, config: Config) -> Path:
    """Where files on their way in are kept. Gateways that share a database share the file system of blobs, and a file
    is linked to its name there: so each has a folder of its own in it, which it empties when it starts."""
    if not config.database.url:
        return folder / "tmp"
    name = folder / "node"
    if not name.exists() or not name.read_text():
        name.write_text(secrets.token_hex(8))
    return folder / "blobs" / "incoming" / name.read_text()


class _Housekeeping:
    """The two background threads: upkeep, and reviews, which may wait minutes for one inspection."""

    def __init__(self, gate: Gate, found: Places) -> None:
        self._stop = threading.Event()
        self._inspector = Worker(inspector_command())
        self._upkeep = Upkeep(gate, found.journal)
        # What the press commits moves releases on; what a gateway commits, this one or another, makes sets due.
        self._signals = (ChangeSignal(found.journal), ChangeSignal(found.gateway))
        self._claims = Claims(found.gateway)
        reviews = Reviews(gate, self._inspector, self._claims.take)
        steps = ((self._upkeep.look, "upkeep"), (reviews.step, "review"))
        self._threads = [
            threading.Thread(target=self._repeat, args=(step, name, signal), name=name)
            for (step, name), signal in zip(steps, self._signals, strict=True)
        ]

    def start(self) -> None:
        self._inspector.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._inspector.close()
        self._upkeep.close()
        self._claims.close()
        for one in self._signals:
            one.close()

    def _repeat(self, step: Callable[[], object], name: str, signal: ChangeSignal) -> None:
        while not self._stop.is_set():
            signal.wait(LOOK_S, _IDLE_LOOK_S, self._stop)
            try:
                step()
            except Exception as error:  # the work at hand ends, its rows are as they were; the next look tries again
                events.internal(error, name)
                self._stop.wait(_AFTER_BUG_S)


def run(options: Options) -> int:
    """Serves until it is told to end. Returns the exit code."""
    config = read_config(options.home)
    public = _listen(
        config.listen.host, config.listen.port if options.port is None else options.port
    )
    control_path = options.home / "gateway" / "control.sock"
    with writer_lock(options.home):
        control = _listen_control(control_path)
        try:
            for line in confine_gateway(options.home, config.database.url):
                print(f"gateway: not confined: {line}", file=sys.stderr)
            _serve_both(options, config, public, control)
        finally:
            control_path.unlink(missing_ok=True)
    return 0


def _serve_both(
    options: Options, config: Config, public: socket.socket, control: socket.socket
) -> None:
    with composed(options, config) as gate:
        housekeeping = _Housekeeping(gate, places(options.home, config, "gateway"))
        housekeeping.start()
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(gate, options, public, control))
        finally:
            housekeeping.stop()


async def _serve(
    gate: Gate, options: Options, public: socket.socket, control: socket.socket
) -> None:
    facts, upload = Facts(gate), LegacyUpload(gate)
    servers: list[_Server] = []

    def drain() -> None:
        for server in servers:
            server.should_exit = True

    servers.append(_server(public_app(gate, facts, upload)))
    servers.append(_server(Routed(Control(gate, facts, drain).routes(), gate)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain)
    if options.supervisor is not None:
        loop.add_reader(
            options.supervisor, drain
        )  # readable only at its end: the supervisor writes nothing
    port = public.getsockname()[1]
    serving = [
        loop.create_task(server.serve(sockets=[listener]))
        for server, listener in zip(servers, (public, control), strict=True)
    ]
    try:
        while not all(server.started for server in servers) and not any(
            task.done() for task in serving
        ):
            await asyncio.sleep(0.005)
        print(json.dumps({"ready": True, "port": port}), flush=True)
        await asyncio.gather(*serving)
    finally:
        if options.supervisor is not None:
            loop.remove_reader(options.supervisor)
        upload.close()


def _server(app: AsgiApp) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=GATEWAY_DRAIN_S_MAX - _DRAIN_MARGIN_S,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _listen_control(path: Path) -> socket.socket:
    """The control socket, for its owner alone. The lock is held: a socket file that is there is a dead one's."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # it is optional where no wheel of it exists
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def main() -> int:
    """The command line; exit code 4 when the gateway cannot start."""
    parser = argparse.ArgumentParser(prog="presspass gateway")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--fd-supervisor", type=int)
    parser.add_argument(
        "--port", type=int, help="instead of the configured one; 0 lets the system choose"
    )
    parser.add_argument("--file-bytes-max", type=int, default=FILE_BYTES_MAX)
    parser.add_argument("--zones", default="not separated", choices=("separated", "not separated"))
    given = parser.parse_args()
    logging.getLogger("uvicorn.error").setLevel(
        logging.CRITICAL
    )  # what clients do wrong is answered, not logged
    try:
        return run(
            Options(given.home, given.fd_supervisor, given.port, given.file_bytes_max, given.zones)
        )
    except (PresspassError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
