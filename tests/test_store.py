"""One writer per database: durable answers, nobody's error is another's loss; readers that nothing can hold up;
schemas.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

import peers
from presspass.core.digests import sha256_hex
from presspass.core.errors import BrokenInvariantError, Code, Fault, Refusal
from presspass.core.ledger import merkle, tiles
from presspass.core.log import LogBody
from presspass.core.policy import Policy
from presspass.core.roster import Details
from presspass.core.statement import (
    FreezeBody,
    PolicyBody,
    ReleaseBody,
    ReleaseFile,
    RosterBody,
    Statement,
    UpstreamBody,
)
from presspass.press import asks, journal, log, notices
from presspass.press.outbox import Outbox
from presspass.store import database, ledger_check, ledger_view, migrate
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as t
from presspass.store import journal_view as view
from presspass.store.address import Place, Server
from presspass.store.database import ChangeSignal, Reader, Writer, open_engine
from presspass.store.postgresql import WRITER_TURN
from presspass.verify.chain import veto_of
from proof_world import NOW, Paper

LOG = LogBody("gate.example/log", "00" * 32)

METADATA: dict[migrate.DatabaseName, sa.MetaData] = {"gateway": g.METADATA, "journal": t.METADATA}
NAMES: tuple[migrate.DatabaseName, ...] = ("gateway", "journal")


def insert(name: str, value: str = "x") -> Callable[[Connection], object]:
    return lambda connection: connection.execute(t.FACT.insert().values(name=name, value=value))


def facts(where: Engine | Place) -> dict[str, str]:
    engine = where if isinstance(where, Engine) else open_engine(where)
    with engine.connect() as connection:
        found = {str(name): str(value) for name, value in connection.execute(sa.select(t.FACT))}
    if engine is not where:
        engine.dispose()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal in a file."""
    file = tmp_path / "a folder with ? # % in it" / "journal.db"
    file.parent.mkdir()
    engine = open_engine(file)
    migrate.upgrade(engine, "journal")
    engine.dispose()
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A journal, in a file and in a schema that only the press's role writes."""
    if request.param == "sqlite":
        yield request.getfixturevalue("path")
        return
    databases = request.getfixturevalue("databases")
    yield Server(databases.url(databases.fresh()), databases.roles.press, "journal")
    databases.drop_all()


@pytest.fixture
def writer(place: Place) -> Iterator[Writer]:
    writer = Writer(open_engine(place))
    yield writer
    writer.close()


def held(writer: Writer) -> tuple[threading.Event, Future[object]]:
    """Keeps the writer busy until the event is set, so that what is queued meanwhile becomes one group."""
    go, busy = threading.Event(), threading.Event()

    def wait(connection: Connection) -> None:
        busy.set()
        go.wait(10)

    future = writer.submit(wait)
    busy.wait(10)
    return go, future


# --- the writer -------------------------------------------------------------------------------------------------------


def test_an_answer_comes_after_the_commit(writer: Writer, place: Place) -> None:
    assert writer.run(lambda c: 7) == 7
    writer.run(insert("a"))
    assert facts(place) == {"a": "x"}


def test_what_waits_together_is_committed_together(place: Place) -> None:
    commits: list[int] = []

    def commit(connection: Connection) -> None:
        commits.append(1)
        connection.exec_driver_sql("COMMIT")

    writer = Writer(open_engine(place), commit)
    go, _ = held(writer)
    futures = [writer.submit(insert(f"n{number}")) for number in range(50)]
    go.set()
    for future in futures:
        future.result(10)
    writer.close()
    assert len(commits) <= 3
    assert len(facts(place)) == 50


def test_the_error_of_one_undoes_nothing_of_the_others(writer: Writer, place: Place) -> None:
    go, _ = held(writer)

    def half(connection: Connection) -> None:
        insert("half")(connection)
        raise OwnError("no")

    futures = [
        writer.submit(insert("first")),
        writer.submit(half),
        writer.submit(insert("first")),  # breaks the key
        writer.submit(lambda c: c.exec_driver_sql("SELECT nonsense FROM nowhere")),
        writer.submit(insert("last")),
    ]
    go.set()
    assert [type(future.exception(10)) for future in futures] == [
        type(None),
        OwnError,
        IntegrityError,
        # SQLite does not tell a wrong question from a world that fails; PostgreSQL does.
        Fault if isinstance(place, Path) else ProgrammingError,
        type(None),
    ]
    assert facts(place) == {"first": "x", "last": "x"}


class OwnError(Exception):
    """An error of a caller's own kind."""


@pytest.mark.parametrize(
    "error", [OSError("disk"), RuntimeError("bug"), Fault("x", "y", retryable=False)]
)
def test_a_commit_that_fails_fails_for_everybody_in_it_and_for_nobody_after(
    place: Place, error: Exception
) -> None:
    broken = threading.Event()
    broken.set()

    def commit(connection: Connection) -> None:
        if broken.is_set():
            raise error
        connection.exec_driver_sql("COMMIT")

    writer = Writer(open_engine(place), commit)
    futures = [writer.submit(insert(name)) for name in ("a", "b")]
    for future in futures:
        with pytest.raises(Fault):
            future.result(10)
    broken.clear()
    writer.run(insert("c"))
    writer.close()
    assert facts(place) == {"c": "x"}


def test_a_full_disk_is_a_fault_that_can_pass(path: Path) -> None:
    writer = Writer(open_engine(path))
    writer.run(insert("before"))
    with writer.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    writer.run(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}"))
    with pytest.raises(Fault) as fault:
        writer.run(insert("large", "x" * 1_000_000))
    assert (fault.value.code, fault.value.retryable) == ("store.full", True)
    writer.run(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000"))
    writer.run(insert("large", "x" * 1_000_000))
    writer.close()
    assert set(facts(path)) == {"before", "large"}


def test_a_caller_that_goes_away_does_not_take_the_writer_with_it(
    writer: Writer, place: Place
) -> None:
    """As a cancelled request does: before its turn the work is dropped, in its turn it is done."""
    go, running = held(writer)
    waiting = writer.submit(insert("waiting"))
    assert waiting.cancel()
    assert not running.cancel()
    go.set()
    writer.run(insert("after"))
    assert running.exception(10) is None
    assert facts(place) == {"after": "x"}


def test_work_is_done_in_the_order_in_which_it_came(writer: Writer) -> None:
    """Also that of a caller who finds nobody writing and does it in its own thread."""
    for number in range(200):
        queued = writer.submit(insert(f"n{number}"))
        names = writer.run(lambda c: set(c.execute(sa.select(t.FACT.c.name)).scalars()))
        assert f"n{number}" in names
        queued.result(10)


def test_an_interrupt_of_the_caller_who_writes_leaves_nothing_and_hurts_no_later_work(
    writer: Writer, place: Place
) -> None:
    def interrupted(connection: Connection) -> None:
        insert("half")(connection)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.run(interrupted)
    writer.run(insert("after"))
    assert facts(place) == {"after": "x"}


class Interrupted(BaseException):
    """As KeyboardInterrupt and SystemExit are: no Exception."""


def test_an_interrupt_of_one_caller_is_told_to_everybody_whose_work_it_has_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(open_engine(place))
    writer.run(insert("before"))
    for where in ("_begun", "_commit"):
        monkeypatch.setattr(writer, where, interrupt)
        with writer._turn:  # so that both are done in the caller's thread
            other = writer.submit(insert(f"other {where}"))
        with pytest.raises((Interrupted, Fault)):
            writer.run(insert(f"own {where}"))
        assert isinstance(other.exception(10), Fault)
        monkeypatch.undo()
        writer.run(insert(f"after {where}"))
    writer.close()
    assert set(facts(place)) == {"before", "after _begun", "after _commit"}


def interrupt(*_arguments: object) -> NoReturn:
    raise Interrupted


def test_work_that_would_end_its_thread_does_not_end_the_writers(
    writer: Writer, place: Place
) -> None:
    assert isinstance(writer.submit(interrupt).exception(10), Fault)
    writer.submit(insert("after")).result(10)
    assert facts(place) == {"after": "x"}


def test_a_group_of_which_everybody_went_away_commits_nothing(writer: Writer) -> None:
    go, _ = held(writer)
    gone = [writer.submit(insert(f"{number}")) for number in range(3)]
    assert all(future.cancel() for future in gone)
    go.set()
    assert writer.run(lambda c: c.execute(sa.select(t.FACT)).all()) == []


def test_closing_finishes_what_is_queued_and_takes_nothing_more(place: Place) -> None:
    writer = Writer(open_engine(place))
    go, _ = held(writer)
    futures = [writer.submit(insert(f"n{number}")) for number in range(300)]
    closer = threading.Thread(target=writer.close)
    closer.start()
    go.set()
    closer.join(10)
    assert all(future.done() and future.exception() is None for future in futures)
    assert len(facts(place)) == 300
    with pytest.raises(BrokenInvariantError):
        writer.submit(insert("late"))


def test_every_commit_is_synced(path: Path) -> None:
    engine = open_engine(path)
    with engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    engine.dispose()
    assert settings == ["wal", 2, 1]


# --- readers ----------------------------------------------------------------------------------------------------------


def test_a_reader_sees_one_snapshot_and_never_half_a_group(writer: Writer, place: Place) -> None:
    reader = Reader(place)
    writer.run(insert("a"))

    def twice(connection: Connection) -> tuple[int, int]:
        count = sa.select(sa.func.count()).select_from(t.FACT)
        before = connection.execute(count).scalar_one()
        writer.run(insert("b"))
        return before, connection.execute(count).scalar_one()

    assert reader.run(twice) == (1, 1)
    assert reader.run(lambda c: len(c.execute(sa.select(t.FACT)).all())) == 2
    reader.close()


def test_a_reader_cannot_write(place: Place) -> None:
    reader = Reader(place)
    with pytest.raises(Fault) as fault:
        reader.run(insert("a"))
    assert fault.value.code == "store.unreadable"
    reader.close()


def test_the_readers_own_error_is_its_own(place: Place) -> None:
    reader = Reader(place)
    with pytest.raises(OwnError):
        reader.run(lambda c: (_ for _ in ()).throw(OwnError("mine")))
    reader.close()


def test_a_database_that_is_none_is_a_fault_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_READ_RETRY_S", 20.0)  # a single retry would be seen
    file = tmp_path / "journal.db"
    file.write_bytes(b"this is no database " * 100)
    reader, signal = Reader(file), ChangeSignal(file)
    began = time.monotonic()
    with pytest.raises(Fault) as fault:
        reader.run(lambda c: c.execute(sa.select(t.FACT)).all())
    assert fault.value.code == "store.unreadable"
    assert time.monotonic() - began < 20
    assert signal.changed()
    reader.close()
    signal.close()


def test_a_question_without_end_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_READ_S_MAX", 0.2)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    reader = Reader(path)
    with pytest.raises(Fault):
        reader.run(lambda c: c.exec_driver_sql(endless).scalar())
    assert reader.run(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1
    reader.close()


def test_a_missing_database_is_waited_for_and_then_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_READ_RETRIES", 3)
    reader = Reader(tmp_path / "nothing.db")
    with pytest.raises(Fault, match="cannot be read"):
        reader.run(lambda c: None)
    reader.close()


def test_a_change_is_signalled_once(writer: Writer, place: Place) -> None:
    signal = ChangeSignal(place)
    assert signal.changed()
    assert not signal.changed()
    writer.run(insert("a"))
    assert signal.changed()
    assert not signal.changed()
    signal.close()
    assert signal.changed()
    signal.close()


def test_a_signal_of_a_database_that_is_not_there_says_look(tmp_path: Path) -> None:
    signal = ChangeSignal(tmp_path / "nothing.db")
    assert signal.changed()
    assert signal.changed()


# --- schemas ----------------------------------------------------------------------------------------------------------


def _is_shared(name: str | None, kind: str, _parents: object) -> bool:
    """PostgreSQL has one more table, for the order of writers; it is no part of what the stores say."""
    return (kind, name) != ("table", WRITER_TURN)


def differences(engine: Engine, name: migrate.DatabaseName) -> list[object]:
    with engine.connect() as connection:
        found: list[object] = compare_metadata(
            MigrationContext.configure(connection, opts={"include_name": _is_shared}),
            METADATA[name],
        )
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_migrations_make_the_tables_that_the_code_has(
    tmp_path: Path, name: migrate.DatabaseName
) -> None:
    engine = open_engine(tmp_path / "x.db")
    migrate.upgrade(engine, name)
    assert differences(engine, name) == []
    assert migrate.current_revision(engine) == migrate.NEWEST[name]
    migrate.upgrade(engine, name)
    engine.dispose()


@pytest.mark.parametrize("name", NAMES)
def test_the_newest_revision_is_the_head_of_the_scripts(name: migrate.DatabaseName) -> None:
    script = ScriptDirectory(str(migrate._FOLDER / name))
    assert script.get_heads() == [migrate.NEWEST[name]]


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "x.db")
    migrate.upgrade(engine, "journal")
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Fault) as fault:
        migrate.upgrade(engine, "journal")
    assert fault.value.code == "store.newer-schema"
    engine.dispose()


def test_a_migration_cut_short_leaves_nothing(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "x.db")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE statement (x)")  # in the way of the last table
    with pytest.raises(OperationalError):
        migrate.upgrade(engine, "journal")
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["statement"]
    engine.dispose()


# --- the same statements on both databases ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgresql_databases(postgresql: peers.Postgresql) -> dict[str, str]:
    admin = sa.create_engine(sqlalchemy_url(postgresql.dsn), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for name in NAMES:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return {name: sqlalchemy_url(postgresql.dsn).rsplit("/", 1)[0] + f"/{name}" for name in NAMES}


def sqlalchemy_url(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)


Engines = dict[migrate.DatabaseName, Engine]


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engines]:
    """Both databases with their schemas, on SQLite and on PostgreSQL."""
    found: Engines = {}
    for name in NAMES:
        if request.param == "sqlite":
            found[name] = open_engine(tmp_path / f"{name}.db")
        else:
            url = request.getfixturevalue("postgresql_databases")[name]
            found[name] = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        migrate.upgrade(found[name], name)
    yield found
    for engine in found.values():
        engine.dispose()


def test_the_schemas_are_the_same_on_both(engines: Engines) -> None:
    for name, engine in engines.items():
        assert differences(engine, name) == []


def test_a_group_with_an_error_in_it_commits_the_rest_on_both(engines: Engines) -> None:
    writer = Writer(engines["journal"])
    writer.run(lambda c: c.execute(t.FACT.delete()))
    go, _ = held(writer)
    futures = [writer.submit(insert(name)) for name in ("a", "a", "b")]
    go.set()
    assert [type(future.exception(10)) for future in futures] == [
        type(None),
        IntegrityError,
        type(None),
    ]
    assert set(facts(engines["journal"])) == {"a", "b"}
    writer.run(lambda c: c.execute(t.FACT.delete()))
    writer.close()


def test_the_journals_statements_run_on_both(engines: Engines) -> None:
    paper, details = Paper(), [Details("Ana", ("mailto:a@b.invalid",), (), "00")]
    writer = Writer(engines["journal"])
    run = writer.run
    run(lambda c: journal.admit_genesis(c, paper.genesis, details, 1))
    with pytest.raises(Refusal):
        run(lambda c: journal.admit_genesis(c, paper.genesis, details, 2))
    upstream = UpstreamBody(
        "main", "pypi", "https://r.example/", "https://r.example/simple/", "u", "custody", "ab" * 32
    )
    changes = [
        paper.admit(upstream, "ana", "ben"),
        paper.admit(PolicyBody(Policy(approvals=2, software_keys=True)), "ana", "ben"),
        paper.change_roster("ana", "ben", without=("cleo",)),
    ]
    for link, statement in zip(paper.links, changes, strict=True):
        run(lambda c, link=link: journal.admit(c, link.statement, link.approvals, 3))
        assert run(lambda c, one=statement: view.statement(c, one.digest)) == statement
    chain = run(journal.load_chain)
    assert chain is not None
    assert chain.heads == paper.chain.heads == run(view.heads)
    assert run(view.upstreams) == chain.upstreams
    assert run(view.roster) == chain.roster
    assert run(view.policy) == chain.policy
    assert run(journal.height) == 4
    stale = paper.statement(RosterBody(paper.roster()), previous=paper.genesis.digest)
    with pytest.raises(Refusal):
        run(lambda c: journal.admit(c, stale, (), 3))

    release = paper.release()
    body = release.body_as(ReleaseBody)
    run(lambda c: journal.first_sight(c, release, body.release, 4))
    run(lambda c: journal.first_sight(c, release, body.release, 5))
    assert run(lambda c: journal.decide(c, release.digest, "approved", 6))
    assert not run(lambda c: journal.decide(c, release.digest, "approved", 7))
    run(lambda c: journal.note(c, release.digest, 8, "narrowing.frozen", "wait"))
    decision = run(lambda c: view.decisions(c, [release.digest]))[release.digest]
    assert (decision.state, decision.first_seen_ms, decision.reached_ms, decision.code) == (
        "approved",
        4,
        6,
        "narrowing.frozen",
    )
    lease = run(lambda c: journal.claim(c, release, "one", 10, 100))
    assert lease is not None
    run(lambda c: journal.keep_statement(c, release, paper.approve(release, "ben"), 10))
    assert run(lambda c: journal.claim(c, release, "two", 50, 100)) is None
    taken = run(lambda c: journal.claim(c, release, "two", 111, 100))
    assert taken is not None
    assert taken.fence == lease.fence + 1
    with pytest.raises(Fault):
        run(lambda c: journal.renew(c, lease, 112, 100))
    other = paper.release()
    assert run(lambda c: journal.project_busy(c, body, other.digest))
    run(lambda c: journal.keep_published(c, "main", release, "demo", "1.0", body.files[0], 113))
    run(lambda c: journal.finish(c, taken, 114))
    with pytest.raises(Refusal):
        run(lambda c: journal.claim(c, release, "two", 500, 100))
    assert not run(lambda c: journal.project_busy(c, body, other.digest))
    last = run(lambda c: view.last_release(c, "main", "demo"))
    assert last == view.PublishedRelease("1.0", release.digest, body.files)
    assert run(lambda c: view.published_files(c, "main", "demo", "1.0")) == {
        body.files[0].name: body.files[0].sha256
    }
    (approval,) = run(lambda c: view.approvals_under(c, release.digest))
    assert (approval.key, approval.statement) == (paper.keys["ben"].key.id, release.digest)
    writer.close()


def test_narrowings_ledger_and_notices_run_on_both(engines: Engines) -> None:
    paper = Paper()
    writer = Writer(engines["journal"])
    run = writer.run
    run(lambda c: [c.execute(table.delete()) for table in reversed(t.METADATA.sorted_tables)])
    release = paper.statement(FreezeBody("clear", "", ("a",), ""))
    ledger = log.Log(LOG, lambda _key, _message: b"s" * 64)
    narrowing = {"target": "", "by": "", "reason": "r" * 2000, "source": "drop box", "now_ms": 1}
    assert run(lambda c: journal.latch(c, id="a", what="freeze", **narrowing))
    assert not run(lambda c: journal.latch(c, id="a", what="freeze", **narrowing))
    veto = {**narrowing, "target": release.digest}
    assert run(lambda c: journal.latch(c, id="b", what="veto", **veto))
    assert [one.id for one in run(view.narrowings)] == ["a", "b"]
    assert run(lambda c: journal.vetoed(c, release))
    blocked = run(lambda c: journal.blocking(c, release))
    assert blocked is not None
    run(lambda c: journal.first_sight(c, release, "", 1))
    run(lambda c: journal.reject_stopped(c, ledger, release.digest, 2, Code.VETOED, "no"))
    assert run(lambda c: view.decisions(c, [release.digest]))[release.digest].state == "rejected"
    run(lambda c: journal.clear(c, ["a"], release.digest))
    with pytest.raises(Refusal):
        run(lambda c: journal.clear(c, ["b"], release.digest))
    run(lambda c: journal.raise_clock_floor(c, 5))
    run(lambda c: journal.raise_clock_floor(c, 3))
    assert run(lambda c: view.fact(c, journal.CLOCK_FLOOR)) == "5"

    writer.before_commit = ledger.grow
    for number in range(9):
        assert run(lambda c, n=number: ledger.append(c, {"kind": "x", "n": n})) == number
    assert run(ledger_check.check) == 9
    found = run(lambda c: ledger.inclusion(c, 4))
    root = run(lambda c: merkle.root(9, ledger_view.node_reader(c)))
    assert merkle.verify_inclusion(merkle.leaf_hash(found.entry), 4, 9, found.proof, root)

    ana = Details("Ana", ("mailto:a@b.invalid",), (), "00")
    run(lambda c: journal.keep_details(c, [ana], {ana.commitment}))
    assert run(lambda c: view.person_details(c, ana.commitment)) == ana
    people = tuple(type(one)(one.id, ana.commitment, (), one.keys) for one in paper.roster().people)
    roster = type(paper.roster())(people)
    assert run(lambda c: notices.tell(c, roster.people, "about", "subject", "body", 1)) == 1
    assert run(lambda c: notices.tell(c, roster.people, "about", "subject", "body", 1)) == 0
    assert Outbox(writer, []).deliver_due(2) == 0
    run(lambda c: [c.execute(table.delete()) for table in reversed(t.METADATA.sorted_tables)])
    writer.close()


def fresh_log(engines: Engines) -> tuple[Writer, log.Log]:
    writer = Writer(engines["journal"])
    writer.run(
        lambda c: [c.execute(table.delete()) for table in reversed(t.METADATA.sorted_tables)]
    )
    ledger = log.Log(LOG, lambda _key, _message: b"s" * 64)
    writer.before_commit = ledger.grow
    return writer, ledger


def test_a_damaged_ledger_is_noticed(engines: Engines) -> None:
    writer, ledger = fresh_log(engines)
    run = writer.run
    run(lambda c: ledger.extend(c, [b"%d" % n for n in range(300)]))
    e, tile, head = t.LEDGER_ENTRY, t.LEDGER_TILE, t.LEDGER_HEAD
    above = run(lambda c: ledger_view.hashes(c, 1, 0))
    note = run(ledger_view.head).note
    for damage in (
        e.update().where(e.c.position == 1).values(entry=b"{}"),
        e.delete().where(e.c.position == 2),
        e.delete().where(e.c.position == 299),
        e.insert().values(position=300, entry=b"300"),
        tile.update().values(hashes=above[:-1] + b"!"),
        tile.update().values(hashes=b""),
        tile.update().values(hashes=above + above),
        tile.update().values(hashes=bytes(32)),
        tile.delete().where(tile.c.level == 1),
        head.update().values(edge=bytes(32)),
        head.update().values(size=299),
        head.update().values(note=b""),
        head.update().values(note=note.replace(b"\n300\n", b"\n301\n")),
        head.delete(),
    ):

        def broken(connection: Connection, damage: sa.Executable = damage) -> None:
            connection.execute(damage)
            ledger_check.check(connection)

        with pytest.raises(Fault) as fault:
            run(broken)
        assert fault.value.code == "ledger.damaged"
    assert run(ledger_check.check) == 300
    writer.close()


def test_a_ledger_serves_the_tiles_of_every_size_that_it_has_had(engines: Engines) -> None:
    """However it has grown: entry by entry, or many at once over the ends of tiles."""
    writer, ledger = fresh_log(engines)
    run = writer.run
    entries: list[bytes] = []
    for count in (1, 1, 200, 54, 1, 254, 1, 600):
        added = [b"entry %d" % n for n in range(len(entries), len(entries) + count)]
        before = len(entries)
        assert run(lambda c, added=added: ledger.extend(c, added)) == before
        entries += added
        for tile in tiles.grown(0, len(entries)):
            data = run(lambda c, tile=tile: ledger_view.served(c, tile))
            assert data is not None
            if tile.level == tiles.ENTRIES:
                first = tile.index * tiles.WIDTH
                assert tiles.entries_of(data, tile.width) == entries[first : first + tile.width]
            else:
                assert len(data) == tile.width * tiles.HASH_BYTES
        after = tiles.Tile(0, len(entries) // tiles.WIDTH, len(entries) % tiles.WIDTH + 1)
        assert run(lambda c, tile=after: ledger_view.served(c, tile)) is None
        assert run(ledger_check.check) == len(entries)
    writer.close()


def test_a_transaction_signs_once_for_all_its_entries_and_not_for_those_that_were_undone(
    engines: Engines,
) -> None:
    signed: list[bytes] = []
    writer, _ledger = fresh_log(engines)

    def sign_raw(_key: str, text: bytes) -> bytes:
        signed.append(text)
        return b"s" * 64

    ledger = log.Log(LOG, sign_raw)
    writer.before_commit = ledger.grow
    go = threading.Event()
    first = writer.submit(lambda _connection: go.wait(10))

    def failing(connection: Connection) -> None:
        ledger.append(connection, {"n": "undone"})
        raise Refusal(Code.VETOED, "no")

    works = [lambda c, n=n: ledger.append(c, {"n": n}) for n in range(20)]
    jobs = [writer.submit(work) for work in works[:10]]
    undone = writer.submit(failing)
    jobs += [writer.submit(work) for work in works[10:]]
    go.set()
    assert first.result(10)
    assert [job.result(10) for job in jobs] == list(range(20))
    with pytest.raises(Refusal):
        undone.result(10)
    assert len(signed) <= 2, "the first transaction has none, the second all of them"
    assert writer.run(ledger_check.check) == 20
    writer.close()


def test_two_writers_cannot_fork_the_ledger(engines: Engines) -> None:
    """The head is moved on from what was read: SQLite has one writer and PostgreSQL a turn, and this besides."""
    writer, ledger = fresh_log(engines)
    writer.run(lambda c: ledger.append(c, {"n": 1}))

    def overtaken(connection: Connection) -> None:
        before = ledger_view.head(connection)
        ledger.append(connection, {"n": 2})
        ledger.grow(connection)
        log._move_head(connection, before, before)

    with pytest.raises(Fault) as fault:
        writer.run(overtaken)
    assert fault.value.code == "ledger.moved" and fault.value.retryable
    assert writer.run(ledger_check.check) == 1
    writer.close()


def test_a_writer_that_has_lost_its_turn_extends_nothing(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from a head that was moved meanwhile, as where two presses write and a turn does not hold."""
    writer, ledger = fresh_log(engines)
    writer.run(lambda c: ledger.append(c, {"n": 1}))
    stale = writer.run(ledger_view.head)
    writer.run(lambda c: ledger.append(c, {"n": 2}))
    newest = writer.run(ledger_view.head)
    with monkeypatch.context() as patch:
        patch.setattr(ledger_view, "head", lambda connection: stale)
        for _ in range(2):  # however often it tries
            with pytest.raises(Fault) as fault:
                writer.run(lambda c: ledger.append(c, {"n": 3}))
            assert fault.value.code == "ledger.moved"
    assert writer.run(ledger_view.head) == newest and writer.run(ledger_check.check) == 2
    writer.run(lambda c: ledger.append(c, {"n": 3}))
    assert writer.run(ledger_check.check) == 3, "with its turn it goes on"
    writer.close()


def test_an_entry_that_fits_no_bundle_is_refused_before_anything_is_written(
    engines: Engines,
) -> None:
    writer, ledger = fresh_log(engines)
    writer.run(lambda c: ledger.extend(c, [b"x" * tiles.ENTRY_BYTES_MAX]))
    with pytest.raises(BrokenInvariantError):
        writer.run(lambda c: ledger.extend(c, [b"fits", b"x" * (tiles.ENTRY_BYTES_MAX + 1)]))
    assert writer.run(ledger_check.check) == 1
    bundle = writer.run(lambda c: ledger_view.served(c, tiles.Tile(tiles.ENTRIES, 0, 1)))
    assert bundle is not None and tiles.entries_of(bundle, 1) == [b"x" * tiles.ENTRY_BYTES_MAX]
    writer.close()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_a_ledger_of_the_first_versions_is_kept_in_tiles(tmp_path: Path, size: int) -> None:
    engine = open_engine(tmp_path / "journal.db")
    migrate.upgrade(engine, "journal")
    writer = Writer(engine)
    ledger = log.Log(LOG, lambda _key, _message: b"s" * 64)
    writer.before_commit = ledger.grow
    if size:
        writer.run(lambda c: ledger.extend(c, [b"%d" % n for n in range(size)]))
    as_it_was = writer.run(ledger_view.head)

    def back(connection: Connection) -> None:
        """As revision 0002 had it: a row for each node, and one for each checkpoint."""
        run = connection.exec_driver_sql
        run(
            "CREATE TABLE ledger_node (level INTEGER, position BIGINT, hash BLOB, PRIMARY KEY (level, position))"
        )
        run("CREATE TABLE checkpoint (size BIGINT PRIMARY KEY, note BLOB)")
        edge: list[bytes] = []
        for n in range(size):
            for node in merkle.append(n, edge, merkle.leaf_hash(b"%d" % n)):
                run("INSERT INTO ledger_node VALUES (?, ?, ?)", node)
            note = as_it_was.note if n + 1 == size else b"an older one"
            run("INSERT INTO checkpoint VALUES (?, ?)", (n + 1, note))
        run("CREATE TABLE old (position BIGINT NOT NULL PRIMARY KEY, entry BLOB NOT NULL)")
        run("INSERT INTO old SELECT position, entry FROM ledger_entry")
        run("DROP TABLE ledger_entry")
        run("ALTER TABLE old RENAME TO ledger_entry")
        run("DROP TABLE ledger_tile")
        run("DROP TABLE ledger_head")
        run("DROP TABLE ledger_witness")
        run("DROP TABLE ledger_once")
        run("DROP TABLE revocation_head")
        run("DROP TABLE rules")
        run("DROP TABLE standing_use")
        run("DROP TABLE ruling")
        run("DROP TABLE reminded")
        run("DROP INDEX notice_by_due")
        run("DROP INDEX notice_by_address")
        for column in ("person", "urgent", "made_ms"):
            run(f"ALTER TABLE notice DROP COLUMN {column}")
        run("DROP TABLE release_seen")
        run("DROP TABLE inspected")
        run("DROP TABLE plan_release")
        run("DROP INDEX ix_proof_sha256")
        run("ALTER TABLE proof DROP COLUMN cosignatures")
        run("DROP TABLE ledger_mention")
        run("DROP TABLE statement_facet")
        run("UPDATE alembic_version SET version_num = '0002'")

    writer.before_commit = None
    writer.run(back)
    writer.before_commit = ledger.grow
    migrate.upgrade(engine, "journal")
    assert writer.run(ledger_check.check) == size
    assert writer.run(ledger_view.head) == as_it_was
    levels = sa.select(t.LEDGER_TILE.c.level)
    assert 0 not in writer.run(lambda c: set(c.execute(levels).scalars()))
    writer.run(lambda c: ledger.append(c, {"n": "the next"}))
    assert writer.run(ledger_check.check) == size + 1
    writer.close()


def test_what_the_press_asks_of_a_gateway_runs_on_both(engines: Engines) -> None:
    paper = Paper()
    paper.add_upstream()
    release = paper.release([ReleaseFile("demo-1.0.tar.gz", sha256_hex(b"x"), 1)])
    freeze = paper.statement(FreezeBody("set", "demo", (), "stop"))
    writer = Writer(engines["gateway"])
    row = {
        "digest": release.digest,
        "veto_digest": veto_of(release).digest,
        "kind": "release",
        "release": None,
        "statement": release.to_bytes(),
        "created_ms": NOW,
    }
    writer.run(lambda c: c.execute(g.REQUEST.insert().values(**row)))
    ballots = [*paper.approve(release, "ana", "ben"), *paper.approve(veto_of(release), "cleo")]
    for ballot in ballots:
        values = {
            "request": release.digest,
            "statement": ballot.statement,
            "key": ballot.key,
            "approval": ballot.to_bytes(),
            "received_ms": 1,
        }
        writer.run(lambda c, values=values: c.execute(g.APPROVAL.insert().values(**values)))
    (signed,) = paper.approve(freeze, "ben")
    freezing = {"statement": freeze.to_bytes(), "approval": signed.to_bytes(), "received_ms": 1}
    writer.run(lambda c: c.execute(g.NARROWING.insert().values(**freezing)))
    assert writer.run(lambda c: asks.list_asks(c, NOW)) == {release.digest: NOW}
    assert writer.run(lambda c: asks.list_asks(c, NOW + 1)) == {}
    (ask,) = writer.run(lambda c: asks.read_asks(c, [release.digest]))
    assert ask.statement == release
    assert len(ask.approvals) == 2
    assert writer.run(lambda c: asks.signed_among(c, [release.digest])) == {release.digest}
    stops = writer.run(lambda c: asks.read_stops(c, asks.Marks()))
    assert [one.statement for one in stops.freezes] == [freeze]
    assert [one.statement for one in stops.vetoes] == [veto_of(release)]
    later = writer.run(lambda c: asks.read_stops(c, stops.marks))
    assert (later.freezes, later.vetoes) == ((), ())
    writer.close()


def test_a_statement_in_a_journal_column_is_what_was_put_there(engines: Engines) -> None:
    """Bytes come back as bytes on both databases: digests depend on it."""
    paper = Paper()
    writer = Writer(engines["journal"])
    writer.run(
        lambda c: [c.execute(table.delete()) for table in reversed(t.METADATA.sorted_tables)]
    )
    writer.run(lambda c: journal.admit_genesis(c, paper.genesis, [], 1))
    data = writer.run(lambda c: c.execute(sa.select(t.STATEMENT.c.statement)).scalar_one())
    assert isinstance(data, bytes)
    assert Statement.from_bytes(data).digest == paper.genesis.digest
    writer.run(
        lambda c: [c.execute(table.delete()) for table in reversed(t.METADATA.sorted_tables)]
    )
    writer.close()


def test_sqlite_keeps_a_database_in_one_file_readable_by_the_standard_tool(
    path: Path, writer: Writer
) -> None:
    writer.run(insert("a"))
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


@pytest.mark.parametrize(
    "trick",
    [
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE w (a, b GENERATED ALWAYS AS (a + 1))",
        "CREATE TABLE x (a, b AS (a + 1) STORED)",
        "CREATE TRIGGER y AFTER INSERT ON plain BEGIN SELECT 1; END",
    ],
)
def test_a_reader_asks_nothing_of_a_database_that_can_compute(tmp_path: Path, trick: str) -> None:
    path = tmp_path / "odd.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE plain (a)")
    connection.close()
    reader = database.Reader(path)
    assert reader.run(lambda c: c.exec_driver_sql("SELECT count(*) FROM plain").scalar()) == 0
    with sqlite3.connect(path) as connection:
        connection.execute(trick)
    connection.close()
    with pytest.raises(Fault, match="plain tables"):
        reader.run(lambda c: c.exec_driver_sql("SELECT 1").scalar())
    reader.close()
