"""PostgreSQL: roles that can do what they must and no more; writers that follow each other; losses that are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from backends import Databases
from presspass.core.errors import Code, Fault, Refusal
from presspass.store import database, gateway_tables, journal_tables, migrate, postgresql, provision
from presspass.store.address import Roles, Schema, Server, check_url, tcp_port
from presspass.store.claims import Claims
from presspass.store.database import ChangeSignal, Lookup, Reader, Writer, open_engine

G, T = gateway_tables, journal_tables
ROLES = Roles()


@pytest.fixture
def name(databases: Databases) -> Iterator[str]:
    """A prepared database."""
    yield databases.fresh()
    databases.drop_all()


@pytest.fixture
def as_role(databases: Databases, name: str) -> Callable[[str], psycopg.Connection]:
    """Opens a connection as a role."""

    def connect(role: str) -> psycopg.Connection:
        url = databases.url(name).replace("//", f"//{role}@")
        return psycopg.connect(url, autocommit=True)

    return connect


def server(databases: Databases, name: str, schema: Schema, role: str = "") -> Server:
    return Server(databases.url(name), role or ROLES.writer(schema), schema)


@pytest.fixture
def journal(databases: Databases, name: str) -> Server:
    return server(databases, name, "journal")


def insert(key: str, value: str = "x") -> Callable[[Connection], object]:
    return lambda c: c.execute(T.FACT.insert().values(name=key, value=value))


def names(place: Server) -> set[str]:
    reader = Reader(place)
    found = reader.run(lambda c: set(c.execute(sa.select(T.FACT.c.name)).scalars()))
    reader.close()
    return found


# --- who may do what --------------------------------------------------------------------------------------------------

FORBIDDEN = {
    "gateway": (
        "INSERT INTO journal.fact VALUES ('genesis', 'forged')",
        "UPDATE journal.decision SET state = 'approved'",
        "DELETE FROM journal.narrowing",
        "TRUNCATE journal.narrowing",
        "SELECT * FROM journal.notice",
        "LOCK TABLE journal.writer_turn IN EXCLUSIVE MODE",
        "SELECT * FROM journal.writer_turn FOR UPDATE",
        "UPDATE gateway.alembic_version SET version_num = '9999'",
        "CREATE TABLE gateway.more (x int)",
        "CREATE TABLE public.more (x int)",
        "CREATE VIEW gateway.lies AS SELECT 1",
        "CREATE SCHEMA more",
        "ALTER TABLE gateway.event ADD COLUMN more int",
        "DROP TABLE gateway.event",
        "SET ROLE presspass_owner",
        "SET ROLE presspass_press",
        "SELECT * FROM pg_authid",
        "ALTER ROLE presspass_press PASSWORD 'known'",
    ),
    "press": (
        "INSERT INTO gateway.event (at_ms, kind) VALUES (1, 'forged')",
        "UPDATE gateway.release SET state = 'approved'",
        "DELETE FROM gateway.approval",
        "SELECT nextval('gateway.event_id_seq')",
        "LOCK TABLE gateway.writer_turn IN EXCLUSIVE MODE",
        "UPDATE journal.alembic_version SET version_num = '9999'",
        "CREATE TABLE journal.more (x int)",
        "DROP TABLE journal.fact",
        "SET ROLE presspass_owner",
        "SET ROLE presspass_gateway",
    ),
}


@pytest.mark.parametrize(
    ("process", "statement"), [(p, s) for p, all_ in FORBIDDEN.items() for s in all_]
)
def test_a_role_cannot_do_what_is_not_its_own(
    databases: Databases, process: str, statement: str
) -> None:
    url = databases.url("prepared").replace("//", f"//presspass_{process}@")
    with (
        psycopg.connect(url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("BEGIN")
        connection.execute(statement)


def test_a_role_writes_every_table_of_its_own_and_reads_the_others(
    as_role: Callable[[str], psycopg.Connection],
) -> None:
    for process, own, other, metadata, others in (
        ("gateway", "gateway", "journal", G.METADATA, T.METADATA),
        ("press", "journal", "gateway", T.METADATA, G.METADATA),
    ):
        with as_role(f"presspass_{process}") as connection:
            for table in metadata.tables:
                connection.execute(f"DELETE FROM {own}.{table}")
            for table in others.tables:
                if table not in provision.HIDDEN[other]:  # type: ignore[index]  # one of the two
                    connection.execute(f"SELECT count(*) FROM {other}.{table}")


STRAY = {
    "GRANT INSERT ON journal.fact TO presspass_gateway": "may write to journal.fact",
    "GRANT SELECT ON journal.notice TO presspass_gateway": "may read journal.notice",
    "GRANT CREATE ON SCHEMA gateway TO presspass_gateway": "may make tables in gateway",
    "GRANT UPDATE ON gateway.alembic_version TO presspass_gateway": "may write to gateway.alembic",
    "REVOKE SELECT ON journal.head FROM presspass_gateway": "may not read journal.head",
    "REVOKE INSERT, UPDATE, DELETE ON gateway.event FROM presspass_gateway": "may not write to",
    "GRANT DELETE ON journal.fact TO PUBLIC": "may write to journal.fact",
}


@pytest.mark.parametrize("stray", STRAY)
def test_a_stray_grant_is_found_and_taken_back(databases: Databases, name: str, stray: str) -> None:
    place = server(databases, name, "gateway")
    assert provision.faults(place, ROLES)[1] == []
    databases.admin(stray, database=name)
    (found,) = provision.faults(place, ROLES)[1]
    assert STRAY[stray] in found
    provision.prepare(databases.url(name, admin=True), ROLES, {})
    assert provision.faults(place, ROLES)[1] == []


def test_a_powerful_role_is_found(databases: Databases, name: str) -> None:
    databases.admin("CREATE ROLE mighty SUPERUSER LOGIN")
    try:
        _, found = provision.faults(server(databases, name, "gateway", "mighty"), ROLES)
        assert any("superuser" in one for one in found)
    finally:
        databases.admin("DROP ROLE mighty")


def test_a_role_that_is_anothers_member_is_found(databases: Databases, name: str) -> None:
    databases.admin("GRANT presspass_press TO presspass_gateway")
    try:
        _, found = provision.faults(server(databases, name, "gateway"), ROLES)
        assert "presspass_gateway is a member of presspass_press" in found
    finally:
        databases.admin("REVOKE presspass_press FROM presspass_gateway")


def privileges(databases: Databases, name: str) -> list[tuple[object, ...]]:
    """Every right in the two schemas."""
    query = """SELECT n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner), c.relacl::text, n.nspacl::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('gateway', 'journal') AND c.relkind IN ('r', 'S') ORDER BY 1, 2"""
    return [
        tuple(sorted(str(one).strip("{}").split(",")) for one in row)
        for row in databases.admin(query, database=name)
    ]


def test_the_printed_sql_makes_the_same(databases: Databases, name: str) -> None:
    other = databases.empty()
    url = databases.url(other, admin=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(provision.script(other, ROLES))
    assert privileges(databases, other) == privileges(databases, name)
    assert len(privileges(databases, name)) > 20
    for schema, metadata in (("gateway", G.METADATA), ("journal", T.METADATA)):
        place = Server(databases.url(other), ROLES.writer(schema), schema)  # type: ignore[arg-type]  # one of the two
        engine = open_engine(place)
        migrate.bring_up(engine, place.schema)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"include_name": _is_shared})
            assert compare_metadata(context, metadata) == []
        engine.dispose()
        assert provision.faults(place, ROLES)[1] == []


def _is_shared(name: str | None, kind: str, _parents: object) -> bool:
    return (kind, name) != ("table", postgresql.WRITER_TURN)


def test_an_administrator_who_is_no_superuser_can_prepare(databases: Databases) -> None:
    name = databases.empty()
    try:
        databases.admin("CREATE ROLE dba LOGIN CREATEROLE", f"ALTER DATABASE {name} OWNER TO dba")
        roles = Roles("o_owner", "o_gateway", "o_press")
        url = databases.url(name).replace("//", "//dba@")
        provision.prepare(url, roles, {})
        provision.prepare(url, roles, {})
        place = Server(databases.url(name), roles.gateway, "gateway")
        assert provision.faults(place, roles)[1] == []
    finally:
        databases.drop_all()
        databases.admin(*(f"DROP ROLE IF EXISTS {one}" for one in ("o_gateway", "o_press")))
        databases.admin("DROP ROLE IF EXISTS o_owner", "DROP ROLE IF EXISTS dba")


def test_who_may_not_prepare_is_told_what_to_do(databases: Databases) -> None:
    name = databases.empty()
    url = databases.url(name).replace("//", f"//{ROLES.gateway}@")
    with pytest.raises(Refusal, match="could not be prepared") as refusal:
        provision.prepare(url, Roles("a", "b", "c"), {})
    assert refusal.value.code is Code.DATABASE_UNUSABLE
    assert "presspass database sql" in refusal.value.hint
    databases.drop_all()


@pytest.mark.parametrize(
    "options",
    [
        "ENCODING 'SQL_ASCII' LOCALE 'C'",
        "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en'",
    ],
)
def test_a_database_that_is_not_fit_is_refused(databases: Databases, options: str) -> None:
    databases.admin(f"CREATE DATABASE odd TEMPLATE template0 {options}")
    try:
        with pytest.raises(Refusal, match="not fit"):
            provision.prepare(databases.url("odd", admin=True), ROLES, {})
    finally:
        databases.admin("DROP DATABASE odd WITH (FORCE)")


def test_new_passwords_never_lock_another_installation_out(databases: Databases, name: str) -> None:
    """Its roles are the server's, and this database is not the only one that they work in."""
    databases.fresh()
    with pytest.raises(Refusal, match="another database"):
        provision.prepare(databases.url(name, admin=True), ROLES, {ROLES.press: "new"})
    databases.admin("INSERT INTO journal.fact VALUES ('genesis', 'x')", database=name)
    with pytest.raises(Refusal, match="is sealed"):
        provision.prepare(databases.url(name, admin=True), ROLES, {ROLES.press: "new"})


@pytest.mark.parametrize(
    "url",
    [
        "mysql://host/db",
        "postgresql://host",
        "postgresql://host/",
        "postgresql://a,b/db",
        "postgresql://user@host/db",
        "postgresql://user:secret@host/db",
        "postgresql://host/db?password=secret",
        "postgresql://host/db?passfile=x",
        "postgresql://host/db?options=-csearch_path=x",
        "postgresql://host/db?port=1",
        "postgresql://host:port/db",
        "postgresql://host/db#x",
        "postgresql://[::1/db",
        "host/db",
    ],
)
def test_a_url_that_cannot_be_meant_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check_url(url)
    assert refusal.value.code is Code.CONFIG_INVALID
    assert "secret" not in str(refusal.value)


def test_the_port_that_is_dialled_is_known() -> None:
    assert tcp_port("postgresql://db.example/presspass") == 5432
    assert tcp_port("postgresql://db.example:6000/presspass?sslmode=verify-full") == 6000
    assert tcp_port("postgresql:///presspass?host=/var/run/postgresql") is None
    assert tcp_port("postgresql:///presspass") is None


def test_a_process_does_not_start_on_an_older_schema(databases: Databases, journal: Server) -> None:
    name = journal.url.rpartition("/")[2]
    engine = open_engine(journal)
    migrate.bring_up(engine, "journal")
    for revision, code in (("0000", "store.older-schema"), ("9999", "store.newer-schema")):
        databases.admin(
            f"UPDATE journal.alembic_version SET version_num = '{revision}'", database=name
        )
        with pytest.raises(Fault) as fault:
            migrate.bring_up(engine, "journal")
        assert fault.value.code == code
    engine.dispose()


# --- many writers -----------------------------------------------------------------------------------------------------


def test_writers_of_several_processes_follow_each_other(journal: Server) -> None:
    """Reads in a transaction cannot be overtaken: no count is lost, though nobody locks a row."""
    writers = [Writer(open_engine(journal)) for _ in range(4)]
    writers[0].run(insert("count", "0"))

    def count(connection: Connection) -> None:
        where = T.FACT.c.name == "count"
        value = connection.execute(sa.select(T.FACT.c.value).where(where)).scalar_one()
        connection.execute(T.FACT.update().where(where).values(value=str(int(value) + 1)))

    futures = [writer.submit(count) for _ in range(50) for writer in writers]
    for future in futures:
        future.result(30)
    query = sa.select(T.FACT.c.value).where(T.FACT.c.name == "count")
    assert writers[1].run(lambda c: c.execute(query).scalar_one()) == "200"
    for writer in writers:
        writer.close()


def test_rows_are_numbered_in_the_order_of_commits(databases: Databases, name: str) -> None:
    """The press reads stops by their row ids: one that is committed later must not have a smaller id."""
    place = server(databases, name, "gateway")
    writers = [Writer(open_engine(place)) for _ in range(4)]
    seen: list[int] = []
    ended = threading.Event()

    def follow() -> None:
        reader = Reader(server(databases, name, "gateway", ROLES.press))
        while True:
            last = ended.is_set()
            query = sa.select(G.EVENT.c.id).where(G.EVENT.c.id > max(seen, default=0))
            seen.extend(
                reader.run(lambda c, q=query: c.execute(q.order_by(G.EVENT.c.id)).scalars().all())
            )
            if last:
                break
        reader.close()

    follower = threading.Thread(target=follow)
    follower.start()

    def write(connection: Connection) -> None:
        connection.execute(G.EVENT.insert().values(at_ms=1, kind="x"))
        time.sleep(0.001)

    futures = [writer.submit(write) for _ in range(100) for writer in writers]
    for future in futures:
        future.result(30)
    ended.set()
    follower.join()
    assert len(seen) == 400
    for writer in writers:
        writer.close()


def test_a_writer_that_hangs_in_its_turn_is_ended_and_the_others_go_on(
    journal: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(postgresql._WRITING, "idle_in_transaction_session_timeout", "1s")
        hanging = Writer(open_engine(journal))
    other = Writer(open_engine(journal))
    busy, go = threading.Event(), threading.Event()

    def hang(connection: Connection) -> None:
        insert("half")(connection)
        busy.set()
        go.wait(60)

    future = hanging.submit(hang)
    assert busy.wait(20)
    other.run(insert("after"))
    go.set()
    assert isinstance(future.exception(10), Fault)
    hanging.run(insert("again"))
    assert names(journal) == {"after", "again"}
    hanging.close()
    other.close()


def test_waiting_for_a_turn_has_an_end(journal: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgresql._WRITING, "lock_timeout", "200ms")
    slow, other = Writer(open_engine(journal)), Writer(open_engine(journal))
    busy, go = threading.Event(), threading.Event()
    running = slow.submit(lambda c: (busy.set(), go.wait(20)))
    busy.wait(10)
    with pytest.raises(Fault) as fault:
        other.run(insert("late"))
    assert (fault.value.code, fault.value.retryable) == ("store.busy", True)
    go.set()
    running.result(10)
    other.run(insert("later"))
    assert names(journal) == {"later"}
    slow.close()
    other.close()


def test_a_claim_is_one_processs_until_it_ends_or_dies(
    journal: Server, databases: Databases
) -> None:
    first, second = Claims(journal), Claims(journal)
    with first.take("a") as ours:
        assert ours
        with second.take("a") as theirs:
            assert not theirs
        with second.take("b") as theirs:
            assert theirs
    with second.take("a") as theirs:
        assert theirs
        databases.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )
        with first.take("a") as ours:
            assert ours
    first.close()
    second.close()


# --- what is lost, and what is told of it -----------------------------------------------------------------------------


def end_sessions(databases: Databases, role: str = ROLES.press) -> None:
    """As a restart of the server does."""
    query = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{role}'"
    databases.admin(query)


def test_a_lost_connection_fails_what_was_under_way_and_nothing_after(
    databases: Databases, journal: Server
) -> None:
    writer = Writer(open_engine(journal))
    writer.run(insert("before"))
    end_sessions(databases)
    writer.run(insert("while nothing was under way"))

    def lose(connection: Connection) -> None:
        insert("half")(connection)
        end_sessions(databases)
        insert("other half")(connection)

    with pytest.raises(Fault):
        writer.run(lose)
    writer.run(insert("after"))
    with writer.read() as connection:
        assert len(connection.execute(sa.select(T.FACT)).all()) == 3
    assert names(journal) == {"before", "while nothing was under way", "after"}
    writer.close()


@pytest.mark.parametrize("persisted", [True, False])
def test_a_commit_that_nobody_answered_is_a_fault_and_can_be_read_back(
    databases: Databases, journal: Server, persisted: bool
) -> None:
    """The connection goes just before or just after the server has committed."""
    calm = threading.Event()

    def commit(connection: Connection) -> None:
        if calm.is_set():
            connection.exec_driver_sql("COMMIT")
            return
        if persisted:
            connection.exec_driver_sql("COMMIT")
        end_sessions(databases)
        connection.exec_driver_sql("SELECT 1")

    writer = Writer(open_engine(journal), commit)
    with pytest.raises(Fault) as fault:
        writer.run(insert("a"))
    assert fault.value.code == "store.write-failed"
    calm.set()
    assert names(journal) == ({"a"} if persisted else set())
    writer.run(insert("b"))
    assert "b" in names(journal)
    writer.close()


def test_a_commit_of_what_had_failed_is_no_commit(journal: Server) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then, and no error of its own."""
    writer = Writer(open_engine(journal))

    def swallow(connection: Connection) -> None:
        insert("a")(connection)
        try:
            connection.exec_driver_sql("SELECT 1/0")
        except sa.exc.DBAPIError:
            return

    with pytest.raises(sa.exc.DBAPIError):
        writer.run(swallow)
    writer.run(insert("b"))
    assert names(journal) == {"b"}
    writer.close()


def test_a_server_without_room_is_a_fault_that_can_pass(journal: Server) -> None:
    writer = Writer(open_engine(journal))
    full = "DO $$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END$$"
    with pytest.raises(Fault) as fault:
        writer.run(lambda c: c.exec_driver_sql(full))
    assert (fault.value.code, fault.value.retryable) == ("store.full", True)
    writer.close()


def test_a_server_that_is_not_there_is_told_and_asked_again(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_READ_RETRIES", 2)
    place = Server("postgresql://127.0.0.1:1/nothing", ROLES.press, "journal")
    writer, reader, signal = Writer(open_engine(place)), Reader(place), ChangeSignal(place)
    for _ in range(2):
        with pytest.raises(Fault) as fault:
            writer.run(insert("a"))
        assert (fault.value.code, fault.value.retryable) == ("store.unreachable", True)
    with pytest.raises(Fault) as fault:
        reader.run(lambda c: None)
    assert fault.value.code == "store.unreadable"
    assert signal.changed()
    assert signal.changed()
    for one in (writer, reader, signal):
        one.close()


def test_a_kept_connection_is_opened_anew(databases: Databases, journal: Server) -> None:
    engine = open_engine(journal)
    lookup = Lookup(engine)

    def ask(connection: Connection) -> object:
        return connection.exec_driver_sql("SELECT 7").scalar_one()

    assert lookup.run(ask) == 7
    end_sessions(databases)
    assert lookup.run(ask) == 7
    lookup.close()
    engine.dispose()


def test_the_owner_of_what_is_read_cannot_hold_the_reader_up(
    databases: Databases, name: str, as_role: Callable[[str], psycopg.Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A gateway in other hands locks its tables, and the press still gets an answer or a Fault."""
    monkeypatch.setitem(postgresql._READING, "lock_timeout", "200ms")
    monkeypatch.setattr(database, "_READ_RETRIES", 3)
    reader = Reader(server(databases, name, "gateway", ROLES.press))
    with as_role(ROLES.gateway) as hostile:
        hostile.execute("BEGIN")
        hostile.execute("LOCK TABLE gateway.request IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Fault) as fault:  # while the lock is held
            reader.run(lambda c: c.execute(sa.select(G.REQUEST)).all())
        assert fault.value.code == "store.unreadable"
    assert reader.run(lambda c: c.execute(sa.select(G.REQUEST)).all()) == []
    reader.close()


def test_a_question_without_end_is_cut_off(
    journal: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgresql._READING, "statement_timeout", "200ms")
    monkeypatch.setattr(database, "_READ_S_MAX", 0.2)
    reader = Reader(journal)
    with pytest.raises(Fault):
        reader.run(lambda c: c.exec_driver_sql("SELECT pg_sleep(60)"))
    assert reader.run(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
    reader.close()


# --- hearing of commits -----------------------------------------------------------------------------------------------


SURELY_S = 60.0  # nobody looks again by itself for so long


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits looks again after SURELY_S: what wakes it sooner is that it was told."""
    monkeypatch.setattr(postgresql, "FALL_BACK_S", SURELY_S)


def waited(signal: ChangeSignal, idle_s: float = SURELY_S) -> float:
    began = time.monotonic()
    signal.wait(0.05, idle_s, threading.Event())
    return time.monotonic() - began


@pytest.mark.usefixtures("patient")
def test_a_commit_wakes_who_waits_in_another_process(databases: Databases, journal: Server) -> None:
    gateway = Server(journal.url, ROLES.gateway, "journal")
    writer, signal = Writer(open_engine(journal)), ChangeSignal(gateway)
    assert signal.changed()
    assert not signal.changed()
    timer = threading.Timer(0.2, lambda: writer.run(insert("a")))
    timer.start()
    assert waited(signal) < SURELY_S
    assert signal.changed()
    assert not signal.changed()
    assert waited(signal, 1.0) >= 1.0  # nothing is left over that would wake it again
    timer.join()
    writer.close()
    signal.close()


def test_a_notification_that_is_lost_costs_a_second(databases: Databases, journal: Server) -> None:
    signal = ChangeSignal(journal)
    signal.changed()
    name = journal.url.rpartition("/")[2]
    databases.admin("UPDATE journal.writer_turn SET number = number + 1", database=name)
    assert waited(signal) < SURELY_S
    assert signal.changed()
    signal.close()


@pytest.mark.usefixtures("patient")
def test_a_signal_hears_again_after_the_server_was_gone(
    databases: Databases, journal: Server
) -> None:
    writer, signal = Writer(open_engine(journal)), ChangeSignal(journal)
    assert signal.changed()
    end_sessions(databases)
    assert waited(signal) < SURELY_S
    assert not signal.changed()  # it has asked anew: nothing was committed meanwhile
    writer.close()
    writer = Writer(open_engine(journal))
    timer = threading.Timer(0.2, lambda: writer.run(insert("a")))
    timer.start()
    assert waited(signal) < SURELY_S
    assert signal.changed()
    timer.join()
    writer.close()
    signal.close()


def test_a_password_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "database.password").mkdir()
    place = Server("postgresql://127.0.0.1:1/x", "a", "journal", tmp_path / "database.password")
    with pytest.raises(Fault, match="cannot be read"):
        open_engine(place)
