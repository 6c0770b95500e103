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
import ipaddress
import json
import logging
import os
import secrets
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio.from_thread
import uvicorn

from presspass.confine.worker import Worker, inspector_command
from presspass.core.errors import Code, PresspassError, Refusal
from presspass.core.limits import (
    CONNECTIONS_MAX,
    FILE_BYTES_MAX,
    GATEWAY_DRAIN_S_MAX,
    TLS_LOOK_S,
    UPLOAD_THREADS_MAX,
)
from presspass.gateway import events
from presspass.gateway.app import Routed, public_app
from presspass.gateway.control import Control
from presspass.gateway.events import Events
from presspass.gateway.exchange.doors import Doors
from presspass.gateway.exchange.minting import Minting
from presspass.gateway.exchange.workflows import GitWorkflows
from presspass.gateway.facts import Facts
from presspass.gateway.forge.cache import PathCache
from presspass.gateway.forge.paths import WorkflowPaths
from presspass.gateway.gate import Gate, wall_clock_ms
from presspass.gateway.http import AsgiApp, Connection
from presspass.gateway.identity import device
from presspass.gateway.identity.oidc_client import Provider, ProviderSettings
from presspass.gateway.journal import Journal
from presspass.gateway.pypi.legacy import LegacyUpload
from presspass.gateway.review import Reviews
from presspass.gateway.tls.challenges import PlainDoor
from presspass.gateway.tls.serving import ServingTls
from presspass.gateway.upkeep import LOOK_S, Upkeep
from presspass.services.config import Config, read_config
from presspass.services.isolation import confine_gateway
from presspass.services.places import Places, places
from presspass.store import migrate
from presspass.store.blobs import Blobs
from presspass.store.claims import Claims
from presspass.store.database import ChangeSignal, Writer, open_engine
from presspass.verify.workflow import WorkflowPath

_KEEP_ALIVE_S = 30
_BACKLOG = 1024
_AFTER_BUG_S = 1.0
_IDLE_LOOK_S = 0.25  # where commits are told of: only the passing of time is still to be looked for
_DRAIN_MARGIN_S = 5
_KEYS_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the home. `port` and `file_bytes_max` stand in for the configured ones."""

    home: Path
    supervisor: int | None = None
    port: int | None = None
    file_bytes_max: int = FILE_BYTES_MAX
    zones: str = "not separated"


@dataclass(frozen=True, slots=True)
class _Listening:
    """The listeners, opened before the kernel closes the rest. `tls`: of the public one, None for plain HTTP.

    `plain`: where the challenges of ACME are answered, if it is used.
    """

    public: socket.socket
    control: socket.socket
    tls: ServingTls | None
    plain: socket.socket | None = None


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
    events_here = Events(writer, wall_clock_ms)
    pool = ThreadPoolExecutor(UPLOAD_THREADS_MAX, thread_name_prefix="upload")
    try:
        yield Gate(
            origin=config.origin,
            rp_id=config.rp_id,
            space=config.space,
            writer=writer,
            journal=journal,
            blobs=Blobs(folder / "blobs", _incoming(folder, config)),
            events=events_here,
            pool=pool,
            file_bytes_max=options.file_bytes_max,
            zones_separated=options.zones == "separated",
            upload_origin=config.upload_url,
            next_origin=config.next_origin,
            trusted_proxies=tuple(map(ipaddress.ip_network, config.listen.trusted_proxies)),
        )
    finally:
        pool.shutdown()
        events_here.settle(ending=True)
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
    """The background threads: upkeep; reviews, which may wait minutes for one inspection; and issuers' keys."""

    def __init__(self, gate: Gate, found: Places) -> None:
        self._stop = threading.Event()
        self._gate = gate
        self._inspector = Worker(inspector_command())
        self._upkeep = Upkeep(gate, found.journal)
        # What the press commits moves releases on; what a gateway commits, this one or another, makes sets due.
        # A publisher that is bound has an issuer whose keys are wanted.
        own, journal = found.gateway, found.journal
        self._signals = (ChangeSignal(journal), ChangeSignal(own), ChangeSignal(journal))
        self._claims = Claims(own)
        reviews = Reviews(gate, self._inspector, self._claims.take)
        steps = (
            (self._upkeep.look, "upkeep"),
            (reviews.step, "review"),
            (self._keep_keys, "keys"),
        )
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

    def _keep_keys(self) -> None:
        """Issuers' keys on their own schedule: of every issuer that people have bound, before its first token comes."""
        gate = self._gate
        for _, body in gate.journal.rules.publishers.values():
            gate.key_sets.watch(body.issuer)
        gate.key_sets.refresh_due()
        self._stop.wait(_KEYS_S)

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
    tls = _tls(options.home, config)
    plain = None
    if config.tls.mode == "acme":
        (options.home / "gateway" / "tls").mkdir(mode=0o700, exist_ok=True)
        plain = _listen(config.listen.host, config.tls.acme_port)
    with writer_lock(options.home):
        control = _listen_control(control_path)
        try:
            sign_in = sign_in_settings(options.home, config)
            dials = {*config.dial.ports, *(provider_ports(config) if sign_in else ())}
            files = () if tls is None else config.tls_files(options.home)
            ports, database = tuple(sorted(dials)), config.database.url
            for line in confine_gateway(options.home, ports, files, database):
                print(f"gateway: not confined: {line}", file=sys.stderr)
            _serve_both(options, config, sign_in, _Listening(public, control, tls, plain))
        finally:
            control_path.unlink(missing_ok=True)
    return 0


def sign_in_settings(home: Path, config: Config) -> ProviderSettings | None:
    """Where people sign in, as configured; refuses with `config.invalid` a secret that others may read."""
    settings = config.sign_in
    if not settings.client_id:
        return None
    path, secret = home / "gateway" / "sign-in.secret", ""
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise Refusal(Code.CONFIG_INVALID, f"{path} can be read by others.", "chmod 600 it.")
        secret = path.read_text(encoding="utf-8").strip()
    back = f"{config.origin}/sign-in/callback"
    return ProviderSettings(settings.issuer, settings.client_id, secret, settings.scopes, back)


def provider_ports(config: Config) -> tuple[int, ...]:
    """TCP ports that the way to the provider takes: the issuer's, that of https, and name service."""
    parts = urlsplit(config.sign_in.issuer)
    return (parts.port or (443 if parts.scheme == "https" else 80), 443, 53)


def _tls(home: Path, config: Config) -> ServingTls | None:
    """What the public port serves TLS with; None where a proxy does. Refuses what no client would accept."""
    if config.tls.mode == "off":
        return None
    tls = ServingTls(*config.tls_files(home), config.hosts_in_use)
    try:
        pair = tls.load()
    except Refusal as refusal:
        if config.tls.mode == "private-ca":
            hint = f"Make it anew: presspass tls trial --home {home}"
            raise Refusal(refusal.code, refusal.message, hint) from None
        if config.tls.mode != "acme":
            raise
        # The certifier may be getting it right now; until then nobody gets past the handshake.
        events.log("tls-certificate", taken=False, code=refusal.code.value, detail=refusal.message)
        return tls
    if config.tls.mode == "private-ca":
        print(
            f"gateway: TLS by a private CA, for trials only: {_private_ca(home)}", file=sys.stderr
        )
    events.log("tls-certificate", taken=True, ends=pair.ends.isoformat())
    return tls


def _private_ca(home: Path) -> str:
    return f"clients must trust {home / 'gateway' / 'tls' / 'ca.pem'} (SSL_CERT_FILE)"


def _serve_both(
    options: Options, config: Config, sign_in: ProviderSettings | None, listening: _Listening
) -> None:
    with composed(options, config) as gate:
        housekeeping = _Housekeeping(gate, places(options.home, config, "gateway"))
        housekeeping.start()
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(gate, options, sign_in, listening))
        finally:
            housekeeping.stop()


async def _serve(
    gate: Gate, options: Options, sign_in: ProviderSettings | None, listening: _Listening
) -> None:
    facts, upload = Facts(gate), LegacyUpload(gate)
    terminals = {device.GRANT_TYPE: lambda form: device.device_grant(gate, form)}
    doors = Doors(gate, Minting(gate, workflows_of(options.home)), terminals)
    provider = Provider(sign_in, gate.key_sets) if sign_in else None
    servers: list[_Server] = []

    def drain() -> None:
        for server in servers:
            server.should_exit = True

    context = None if listening.tls is None else listening.tls.context
    servers.append(_server(public_app(gate, facts, upload, doors, provider), context))
    servers.append(_server(Routed(Control(gate, facts, drain).routes(), gate)))
    listeners = [listening.public, listening.control]
    if listening.plain is not None:
        servers.append(_server(_plain_door(options.home, gate)))
        listeners.append(listening.plain)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain)
    if options.supervisor is not None:
        loop.add_reader(
            options.supervisor, drain
        )  # readable only at its end: the supervisor writes nothing
    port = listening.public.getsockname()[1]
    looking = [] if listening.tls is None else [loop.create_task(_keep_looking(listening.tls))]
    serving = [
        loop.create_task(server.serve(sockets=[listener]))
        for server, listener in zip(servers, listeners, strict=True)
    ]
    try:
        while not all(server.started for server in servers) and not any(
            task.done() for task in serving
        ):
            await asyncio.sleep(0.005)
        print(json.dumps({"ready": True, "port": port}), flush=True)
        await asyncio.gather(*serving)
    finally:
        for task in looking:
            task.cancel()
        if options.supervisor is not None:
            loop.remove_reader(options.supervisor)
        upload.close()


def workflows_of(home: Path) -> GitWorkflows:
    """Where workflows come from: for handlers in worker threads of the event loop that is running."""
    cache = PathCache(home / "gateway" / "workflows")
    paths = WorkflowPaths(cache)

    def fetch(repository_url: str, commit: str, path: str) -> WorkflowPath:
        return anyio.from_thread.run(paths.fetch, repository_url, commit, path)

    return GitWorkflows(cache, fetch)


def _plain_door(home: Path, gate: Gate) -> PlainDoor:
    origins = dict.fromkeys((gate.site[0], gate.upload_site, *sorted(gate.console_origins)))
    return PlainDoor(
        home / "gateway" / "tls", {urlsplit(url).hostname or "": url for url in origins}
    )


async def _keep_looking(tls: ServingTls) -> None:
    """A renewed certificate is served without a restart."""
    while True:
        await asyncio.sleep(TLS_LOOK_S)
        try:
            tls.look()
        except (
            Exception
        ) as error:  # the certificate that is served stays; the next look tries again
            events.internal(error, "tls")


def _server(app: AsgiApp, context: ssl.SSLContext | None = None) -> _Server:
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
            ssl_context_factory=None if context is None else lambda _config, _default: context,
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
        if isinstance(error, Refusal) and error.hint:
            print(f"gateway: {error.hint}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
