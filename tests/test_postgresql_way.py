"""The whole way on PostgreSQL: real `init` and `serve`, a real registry, an unchanged client; several gateways."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

import backends
import packages
import peers
from cli_rig import Rig
from gateway_world import PROJECT, GatewayProcess, World, until
from press_rig import TOKEN
from press_rig import Rig as PressRig
from presspass.cli import exits
from presspass.core.digests import sha256_hex
from presspass.core.policy import Policy
from presspass.drill.peers import PypiServer, wait_until
from presspass.drill.world.registry import Registry
from presspass.press.press import Press
from presspass.services.config import parse_config, write_config
from presspass.services.layout import make_folders
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store import ledger_check, migrate
from presspass.store.address import Roles

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "way"
ROLES = Roles("way_owner", "way_gateway", "way_press")


# --- init, serve, publish ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(databases: backends.Databases) -> Iterator[str]:
    """An empty database, made as docs/postgresql.md says, in which the two roles need their passwords."""
    page = (ROOT / "docs" / "postgresql.md").read_text()
    (statement,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    databases.admin(statement)
    databases.server.require_passwords("presspass", ROLES.gateway, ROLES.press)
    yield "presspass"
    databases.admin("DROP DATABASE presspass WITH (FORCE)")
    databases.admin(
        *(f"DROP ROLE IF EXISTS {role}" for role in (ROLES.gateway, ROLES.press, ROLES.owner))
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PypiServer]:
    peers.require_peer("pypi-server")
    with PypiServer(tmp_path_factory.mktemp("registry"), "__token__", "upstream-secret") as server:
        yield server


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory, databases: backends.Databases, database: str,
    registry: PypiServer, ssh_keygen: Path,
) -> Iterator[Rig]:  # fmt: skip
    """A sealed gate on PostgreSQL with the registry as its upstream."""
    rig = Rig(tmp_path_factory.mktemp("gate"))
    rig.init(
        "--database", databases.url(database), "--database-admin", databases.url(database, admin=True),
        "--database-roles", PREFIX,
    )  # fmt: skip
    rig.start()
    try:
        rig.seal()
        rig.add_upstream(registry.upload_url, registry.simple_url, str(registry.password))
        yield rig
    finally:
        rig.stop()


def files(folder: Path, project: str) -> list[Path]:
    folder.mkdir()
    return [
        packages.make_wheel(folder, project, "1.0"),
        packages.make_sdist(folder, project, "1.0"),
    ]


def publish(gate: Rig, registry: PypiServer, project: str, paths: list[Path]) -> str:
    """The release's URL, once what twine uploaded has been signed and is in the registry."""
    answer = peers.run_twine(
        f"{gate.origin}/pypi/private/legacy/", "__token__", gate.token(project), paths
    )
    assert answer.exit_code == 0, answer.text
    (release,) = [one for one in gate.ask("status")["releases"] if one["project"] == project]
    url = f"{gate.origin}/r/{release['id']}"
    wait_until(
        lambda: gate.ask("status", url)["state"] in ("open", "staged", "awaiting"), url, 30.0
    )
    gate.run(
        "submit",
        *paths,
        "--url",
        f"{gate.origin}/pypi/private/",
        PRESSPASS_TOKEN=gate.token(project),
    )
    wait_until(lambda: gate.ask("status", url)["state"] == "awaiting", f"{url} awaits", 30.0)
    gate.approve(url, "ada", "grace")
    gate.run("wait", url, "--timeout", "60s")
    held = registry.files()
    for path in paths:
        assert held[path.name] == sha256_hex(path.read_bytes())
    return url


def test_a_release_goes_from_twine_to_the_registry_with_everything_on_postgresql(
    gate: Rig, registry: PypiServer, tmp_path: Path
) -> None:
    paths = files(tmp_path / "one", "greet")
    publish(gate, registry, "greet", paths)
    assert not list(gate.home.rglob("*.db"))


def test_passwords_stand_in_a_file_of_each_process_and_nowhere_else(gate: Rig) -> None:
    text = (gate.home / "presspass.toml").read_text()
    config = parse_config(text)
    assert config.database.roles == ROLES
    for name in ("gateway", "press"):
        file = gate.home / name / "keys" / "database.password"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        password = file.read_text().strip()
        assert len(password) > 40
        assert password not in text + gate.log()
        for pid in gate.children().values():
            assert password not in Path(f"/proc/{pid}/cmdline").read_text()
            assert password not in Path(f"/proc/{pid}/environ").read_text()


def test_both_processes_killed_are_started_again_and_nothing_is_lost(
    gate: Rig, registry: PypiServer, tmp_path: Path
) -> None:
    paths = files(tmp_path / "two", "killed")
    for name, pid in gate.children().items():
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda n=name, p=pid: gate.children()[n] != p, f"{name} is back", 30.0)
    wait_until(lambda: _answers(gate), "the gate answers", 30.0)
    publish(gate, registry, "killed", paths)


def _answers(gate: Rig) -> bool:
    try:
        return bool(gate.ask("status")["sealed"])
    except AssertionError:
        return False


def test_every_session_ended_by_the_server_costs_no_restart(
    gate: Rig, registry: PypiServer, databases: backends.Databases, tmp_path: Path
) -> None:
    before = gate.children()["gateway"]
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(usename, 'way_')"
    )
    databases.admin(query)
    wait_until(lambda: _answers(gate), "the gate answers", 30.0)
    publish(gate, registry, "again", files(tmp_path / "three", "again"))
    assert gate.children()["gateway"] == before


def test_the_doctor_looks_at_connection_schema_and_rights(
    gate: Rig, databases: backends.Databases, database: str
) -> None:
    def lines() -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        # This server of the tests does not sync, and doctor says so.
        for one in gate.ask("doctor", code=exits.REFUSED):
            found.setdefault(one["what"], []).append((one["grade"], one["found"]))
        return found

    for name, newest in zip(("gateway", "press"), migrate.NEWEST.values(), strict=True):
        found = lines()[f"{name}'s database"]
        assert ("ok", f"schema {newest} as way_{name}, with its rights and no more") in found
        assert any("fsync is off" in text for _, text in found)
    databases.admin("GRANT UPDATE ON journal.decision TO way_gateway", database=database)
    assert ("bad", "way_gateway may write to journal.decision") in lines()["gateway's database"]
    gate.run("database", "prepare", "--admin", databases.url(database, admin=True))
    assert ("bad", "way_gateway may write to journal.decision") not in lines()["gateway's database"]


def test_a_backup_is_refused_with_advice(gate: Rig, tmp_path: Path) -> None:
    gate.run("backup", "--to", tmp_path / "x.tar", code=exits.REFUSED)
    assert not (tmp_path / "x.tar").exists()


def test_a_second_home_does_not_take_the_database_over(
    gate: Rig, databases: backends.Databases, database: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other")
    people = ("--person", "Eve", "--person", "Mallory", "--url", other.origin)
    url, admin = databases.url(database), databases.url(database, admin=True)
    where = ("--database", url, "--database-roles", PREFIX)
    other.run("init", *people, *where, "--database-admin", admin, code=exits.REFUSED)
    passwords = [
        option
        for name in ("gateway", "press")
        for option in (f"--{name}-password", gate.home / name / "keys" / "database.password")
    ]
    other.run("init", *people, *where, *passwords, code=exits.REFUSED)
    assert not other.home.exists()
    assert _answers(gate)


def test_the_sql_for_an_administrator_is_printed(databases: backends.Databases, gate: Rig) -> None:
    said = gate.run("database", "sql", "--url", "postgresql://db.example/presspass")
    assert "CREATE SCHEMA IF NOT EXISTS journal" in said
    assert 'GRANT SELECT ON ALL TABLES IN SCHEMA journal TO "presspass_gateway"' in said
    gate.run("database", "sql", "--url", "postgresql://u:p@db.example/x", code=exits.REFUSED)


_TRY = """
import json, socket, sys
from pathlib import Path
from presspass.services import isolation
home, url, process = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
import psycopg
if process == "gateway":
    isolation.confine_gateway(home, (), (), url)
else:
    isolation.confine_press(home, url)
def attempt(act):
    try:
        act()
        return "done"
    except PermissionError:
        return "denied"
    except OSError as error:
        return f"failed: {error.strerror}"
    except psycopg.OperationalError as error:
        return f"failed: {error}"
def ask():
    role = url.replace("//", "//way_" + process + "@")
    password = (home / process / "keys" / "database.password").read_text().strip()
    with psycopg.connect(role, password=password) as connection:
        connection.execute("SELECT 1")
def elsewhere():
    with socket.socket() as s:
        s.connect(("127.0.0.1", int(sys.argv[4])))
def listen():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
acts = {
    "ask the database": ask,
    "connect elsewhere": elsewhere,
    "listen": listen,
    "read the gateway's password": lambda: (home / "gateway/keys/database.password").read_bytes(),
    "read the press's password": lambda: (home / "press/keys/database.password").read_bytes(),
    "read the log key": lambda: (home / "press/keys/log.key").read_bytes(),
}
print(json.dumps({name: attempt(act) for name, act in acts.items()}))
"""
_ALLOWED = {
    "gateway": {"ask the database", "read the gateway's password"},
    "press": {
        "ask the database", "connect elsewhere", "read the press's password", "read the log key",
    },
}  # fmt: skip


@pytest.mark.parametrize("process", ["gateway", "press"])
def test_a_taken_over_process_reaches_its_database_as_itself_only(
    gate: Rig, databases: backends.Databases, database: str, process: str, registry: PypiServer
) -> None:
    from presspass import confine

    if missing := [one for one in confine.missing() if not one.startswith("own-user")]:
        peers.missing(f"this kernel lacks a mechanism: {missing}")
    elsewhere = registry.upload_url.split(":")[2].split("/")[0]
    command = [
        sys.executable,
        "-c",
        _TRY,
        str(gate.home),
        databases.url(database),
        process,
        elsewhere,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    outcome = json.loads(done.stdout)
    allowed = {name for name, result in outcome.items() if result == "done"}
    assert allowed == _ALLOWED[process], outcome
    assert {result for name, result in outcome.items() if name not in allowed} == {"denied"}


def test_the_driver_is_loaded_where_postgresql_is_configured_and_nowhere_else() -> None:
    program = (
        "import sys, presspass.services.gateway, presspass.services.press, presspass.cli.doctor\n"
        "assert 'sqlalchemy' in sys.modules and 'psycopg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- several gateways -------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(tmp_path: Path, databases: backends.Databases) -> Iterator[list[World]]:
    """Two gateways with homes of their own on one database, and one journal."""
    backends.current = databases
    try:
        first = World(tmp_path / "one")
    finally:
        backends.current = None
    second = another(first, tmp_path / "two")
    with first, second:
        yield [first, second]
    databases.drop_all()


def another(world: World, home: Path) -> World:
    """The world as it is at another gateway: a home of its own, and the same blobs."""
    made = World.__new__(World)
    make_folders(home)
    (home / "gateway" / "blobs").rmdir()
    (home / "gateway" / "blobs").symlink_to(world.home / "gateway" / "blobs")
    write_config(home, world.config)
    made.__dict__.update(world.__dict__, home=home, gateway=GatewayProcess(home))
    return made


def wheel(folder: Path, version: str) -> tuple[str, bytes]:
    folder.mkdir(exist_ok=True)
    path = packages.make_wheel(folder, PROJECT, version)
    return path.name, path.read_bytes()


def test_a_token_and_a_set_are_the_same_at_every_gateway(
    nodes: list[World], tmp_path: Path
) -> None:
    one, two = nodes
    token = one.token()
    name, data = wheel(tmp_path / "w", "1.0")
    first, second = (node.upload(token, name, data) for node in nodes)
    assert first.status == second.status == 202
    assert first.json["id"] == second.json["id"]
    sdist = packages.make_sdist(tmp_path / "w", PROJECT, "1.0")
    third = two.upload(token, sdist.name, sdist.read_bytes())
    assert third.json["id"] == first.json["id"]
    other = two.upload(token, name, wheel(tmp_path / "v", "1.1")[1] + b"x")
    assert other.code == "release.other-bytes"


def test_the_first_file_sent_to_two_gateways_at_once_opens_one_set(
    nodes: list[World], tmp_path: Path
) -> None:
    token = nodes[0].token()
    for number in range(10):
        name, data = wheel(tmp_path / "w", f"2.{number}")
        with ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(node.upload, token, name, data) for node in nodes * 2]
            answers = [one.result() for one in sent]
        assert [answer.status for answer in answers] == [202] * 4
        assert len({answer.json["id"] for answer in answers}) == 1
    assert nodes[0].count(g.RELEASE) == 10


def test_a_token_revoked_at_one_gateway_is_dead_at_the_others(
    nodes: list[World], tmp_path: Path
) -> None:
    one, two = nodes
    token = one.token()
    name, data = wheel(tmp_path / "w", "1.0")
    assert two.upload(token, name, data).status == 202
    assert one.control("DELETE", f"/tokens/{sha256_hex(token.encode())}").status == 200
    answer = two.upload(token, *wheel(tmp_path / "w", "1.1"))
    assert (answer.status, answer.code) == (403, "token.invalid")


def test_a_key_taken_out_of_the_roster_signs_at_no_gateway_from_then_on(
    nodes: list[World], tmp_path: Path
) -> None:
    one, two = nodes
    request = _awaiting(one, tmp_path)
    one.journal.set_roster({"ada": [one.ada.key]})
    statement = one.rows(sa.select(g.REQUEST.c.statement))[0].statement
    approval = one.grace.approve(statement, origin="http://localhost:8460", rp_id="localhost")
    for node in nodes:
        answer = node.ask("POST", f"/api/v1/requests/{request}/approvals", approval.to_bytes())
        assert answer.code == "approval.key-removed", answer.body
    assert two.count(g.APPROVAL) == 0


def _awaiting(node: World, folder: Path) -> str:
    """The digest of a request for signatures, and not more than one of it, though two gateways look for work."""
    token = node.token()
    release = node.upload(token, *wheel(folder / "a", "3.0")).json["id"]
    path = f"/api/v1/releases/{release}/close"
    answer = node.ask("POST", path, b"", Authorization=f"Bearer {token}")
    assert answer.status == 200, answer.body
    node.until(release, "awaiting")
    assert node.count(g.REVIEW) == node.count(g.REQUEST) == 1
    return str(node.rows(sa.select(g.REQUEST.c.digest))[0].digest)


def test_a_server_that_goes_away_is_told_as_503_and_comes_back(
    nodes: list[World], databases: backends.Databases, tmp_path: Path
) -> None:
    one = nodes[0]
    token = one.token()
    name = one.config.database.url.rpartition("/")[2]
    kick = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
    databases.admin(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", kick)
    answer = one.upload(token, *wheel(tmp_path / "w", "1.0"))
    assert (answer.status, answer.code) == (503, "store.unreachable"), answer.body
    assert int(answer.headers["retry-after"]) > 0
    databases.admin(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    until(lambda: one.upload(token, *wheel(tmp_path / "w", "1.0")).status == 202, "it is back")


@pytest.mark.parametrize(
    "path", ["/r/%00", "/q/a%00b", "/api/v1/releases/%00", "/api/v1/requests/%0a"]
)
def test_a_path_that_the_server_could_not_even_be_asked_about_is_not_found(
    tmp_path: Path, databases: backends.Databases, path: str
) -> None:
    backends.current = databases
    try:
        world = World(tmp_path / "home")
    finally:
        backends.current = None
    with world:
        assert world.ask("GET", path).status == 404
        assert '"internal"' not in world.gateway.log()
    databases.drop_all()


@pytest.mark.long
def test_a_revocation_is_effective_at_eight_gateways_within_a_second(
    tmp_path: Path, databases: backends.Databases
) -> None:
    backends.current = databases
    try:
        first = World(tmp_path / "n0")
    finally:
        backends.current = None
    nodes = [first, *(another(first, tmp_path / f"n{number}") for number in range(1, 8))]
    for node in nodes:
        node.gateway.start()
    try:
        took = []
        for number in range(15):
            token = first.token()
            name, data = wheel(tmp_path / "w", f"1.{number}")
            assert all(node.upload(token, name, data).status == 202 for node in nodes)
            began = time.monotonic()
            assert (
                nodes[number % 8].control("DELETE", f"/tokens/{sha256_hex(token.encode())}").status
                == 200
            )
            answers = [node.upload(token, *wheel(tmp_path / "w", f"2.{number}")) for node in nodes]
            assert [answer.code for answer in answers] == ["token.invalid"] * 8
            took.append(time.monotonic() - began)
        assert max(took) < 1.0, took
    finally:
        for node in nodes:
            node.gateway.stop()
        first.journal.writer.close()
        databases.drop_all()


# --- several presses --------------------------------------------------------------------------------------------------


def test_two_presses_on_one_journal_publish_each_release_once_and_keep_one_ledger(
    tmp_path: Path, databases: backends.Databases
) -> None:
    backends.current = databases
    try:
        with Registry(seed=7, token=TOKEN) as registry:
            policy = Policy(veto_window_s=0, software_keys=True)
            rig = PressRig(tmp_path / "home", registry, policy, lease_ms=10_000).build()
            rig.seal()
            with rig.press() as one, rig.press() as two:
                rig.upstream(one)
                statements = []
                for number in range(6):
                    name = f"demo{number}"
                    paths = files(tmp_path / name, name)
                    statement = rig.stage(one, paths, name, "1.0")
                    rig.sign(statement, "ben")
                    statements.append(statement.digest)

                def work(press: Press) -> None:
                    deadline = time.monotonic() + 60
                    while time.monotonic() < deadline and not _all_out(rig, statements):
                        press.tick()

                with ThreadPoolExecutor(2) as pool:
                    for done in [pool.submit(work, press) for press in (one, two)]:
                        done.result()
                assert _all_out(rig, statements)
            sent = [upload.filename for upload in registry.uploads]
            assert len(sent) == len(set(sent)) == 12
            size = rig.journal(ledger_check.check)
            entries = sa.select(sa.func.count()).select_from(t.LEDGER_ENTRY)
            assert rig.journal(lambda c: c.execute(entries).scalar_one()) == size
            attempts = sa.select(t.INTENT.c.attempts)
            assert rig.journal(lambda c: list(c.execute(attempts).scalars())) == [1] * 6
            rig.rows.close()
    finally:
        backends.current = None
        databases.drop_all()


def _all_out(rig: PressRig, statements: list[str]) -> bool:
    found = rig.journal(lambda c: view.decisions(c, statements))
    return [one.state for one in found.values()] == ["verified"] * len(statements)
