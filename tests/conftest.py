"""Fixtures for everything: the real peers, each on its own loopback port, and the one rule for what is missing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import backends
import peers
from presspass.drill.peers import PypiServer
from presspass.drill.world.forge import Forge, find_git

#: Test files whose tests run on SQLite and on PostgreSQL; True: on PostgreSQL in `make test` too, else with
#: `make test-long` only.
BOTH = {
    "test_exchange": False,
    "test_gateway_approvals": True,
    "test_gateway_enrolment": False,
    "test_gateway_facts": False,
    "test_gateway_log": True,
    "test_gateway_review": True,
    "test_gateway_rules": True,
    "test_gateway_upkeep": True,
    "test_gateway_sign_in": False,
    "test_gateway_uploads": True,
    "test_history": True,
    "test_leaving": False,
    "test_log_key": True,
    "test_log_recovery": True,
    "test_origin_change": False,
    "test_press": True,
    "test_press_crash": False,
    "test_press_doors": True,
    "test_press_erasure": True,
    "test_press_laws": False,
    "test_press_new_keys": False,
    "test_press_revocations": True,
    "test_press_upstream": False,
    "test_press_workloads": False,
    "test_provider_events": False,
    "test_scim": False,
}

# A busy machine is no failure: what takes long is measured in `make bench`, not here.
settings.register_profile("presspass", deadline=None)
settings.load_profile("presspass")

os.environ.setdefault(
    "PRESSPASS_PEERS", str(Path(__file__).resolve().parent.parent / ".venv-peers")
)


@pytest.fixture(scope="session", autouse=True)
def _config_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Which gates were signed for before is the business of each test (`own_config`), and never that of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for settings of this test alone."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def pypiserver(tmp_path: Path) -> Iterator[PypiServer]:
    """A fresh pypiserver into which anybody may upload."""
    peers.require_peer("pypi-server")
    with PypiServer(tmp_path / "pypiserver") as server:
        yield server


@pytest.fixture
def pypiserver_with_token(tmp_path: Path) -> Iterator[PypiServer]:
    """A fresh pypiserver where an upload needs user and password (its attributes)."""
    peers.require_peer("pypi-server")
    with PypiServer(tmp_path / "pypiserver-token", "__token__", "upstream-token") as server:
        yield server


@pytest.fixture(scope="session")
def devpi_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.DevpiProcess]:
    """devpi-server, starting in the background; use `devpi`."""
    process = peers.DevpiProcess(tmp_path_factory.mktemp("devpi"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def devpi(devpi_process: peers.DevpiProcess) -> peers.Devpi:
    """A devpi index, shared by all tests: use a project name of your own."""
    return devpi_process.ready_index()


@pytest.fixture(scope="session", autouse=True)
def _start_slow_peers_early(request: pytest.FixtureRequest) -> None:
    """devpi needs many seconds to start: let it do so while other tests run, if any test of this run uses it."""
    wanted = any("devpi" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if wanted and peers.peers_folder().joinpath("bin", "devpi-server").exists():
        request.getfixturevalue("devpi_process")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[peers.Postgresql]:
    """A PostgreSQL server of this run. `dsn` reaches its maintenance database as superuser."""
    peers.require_postgresql()
    # Not below pytest's own folder: that one is closed to the user postgres.
    place = tempfile.TemporaryDirectory(prefix="presspass-postgresql-")
    with place as folder, peers.Postgresql(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgresql: peers.Postgresql) -> backends.Databases:
    """Prepared databases on the PostgreSQL server of this run."""
    return backends.Databases(postgresql)


#: Files that take longest, which begin first: two of them at the end would leave a core idle for minutes.
LONGEST_FIRST = (
    "test_kill",
    "test_cli_flow",
    "test_bench",
    "test_demo",
    "test_cli_log",
    "test_people_browser",
    "test_docs",
    "test_acme",
    "test_tls",
    "test_console_browser",
    "test_postgresql_way",
    "test_press_crash",
    "test_origin_change",
    "test_verify_proof",
    "test_leaving",
    "test_cli_apply",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files are dealt out whole, in this order (`make test` runs two processes)."""
    place = {name: index for index, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def pytest_configure(config: pytest.Config) -> None:
    """A marker of this file's own."""
    line = "sqlite_only: about what only a SQLite file can hold; not run on PostgreSQL (see BOTH)"
    config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Files in BOTH run on both kinds of database."""
    if metafunc.definition.get_closest_marker("sqlite_only"):
        return
    if (name := metafunc.module.__name__) in BOTH:
        marks = () if BOTH[name] else pytest.mark.long
        kinds = ["sqlite", pytest.param("postgresql", marks=marks)]
        metafunc.parametrize("backend", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kind of database that homes made by this test have (see `backends`)."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        yield kind
        return
    backends.current = request.getfixturevalue("databases")
    yield kind
    backends.current.drop_all()
    backends.current = None


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The path of a Chromium that can be driven."""
    return peers.require_program(
        "chromium", "chromium-browser", "google-chrome", package="chromium"
    )


@pytest.fixture(scope="session")
def ssh_keygen() -> Path:
    """The path of ssh-keygen."""
    return peers.require_program("ssh-keygen", package="openssh-client")


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    """A forge without repositories, served by the real git."""
    if find_git() is None:
        peers.missing("git with git-http-backend is not installed; 'make system' installs git")
    with Forge(tmp_path / "forge") as server:
        yield server


@pytest.fixture(scope="session")
def node() -> Path:
    """The path of Node, from the peers' environment."""
    return peers.require_peer("node")


@pytest.fixture(scope="session")
def npm() -> Callable[..., peers.Answer]:
    """Runs npm with these arguments: npm("publish", ..., timeout_s=60)."""
    program, interpreter = peers.require_peer("npm"), peers.require_peer("node")

    def run(*arguments: str, timeout_s: float = 120.0, **extra: str) -> peers.Answer:
        path = f"{interpreter.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return peers.run_client([interpreter, program, *arguments], timeout_s, PATH=path, **extra)

    return run
