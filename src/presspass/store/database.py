"""One writer per database, and the one door to it, whichever kind of database it is.

A `Place` is where a database is: the path of a SQLite file, or a schema of a PostgreSQL server (`store.postgresql`).
In every writing process one thread at a time takes the work that is waiting, does it in one transaction and commits
once: group commit. A caller gets its answer after the commit is durable, never before. No read of a transaction turns
into a write half-way: SQLite's file has one writing process, and it begins with `BEGIN IMMEDIATE`, synced at commit
(`synchronous=FULL`); on PostgreSQL, where many processes of a kind may write to a schema, each transaction begins by
taking the schema's turn. Other processes open the same place read-only.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.sql.compiler import SQLCompiler

from presspass.core.errors import Fault, PresspassError, invariant
from presspass.core.limits import READ_S_MAX
from presspass.store import postgresql
from presspass.store.address import Place, Server

T = TypeVar("T")
Work = Callable[[Connection], T]

GROUP_MAX = 128
_READ_RETRIES = 40
_READ_RETRY_S = 0.05
_BUSY_TIMEOUT_MS = 5_000
_READ_S_MAX: float = READ_S_MAX
_READ_STEPS = 100_000  # virtual machine steps between two looks at the time: some milliseconds


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Work[T]
    future: Future[T]


def open_engine(place: Place) -> Engine:
    """An engine for the database that this process writes: a SQLite file (created if missing; WAL, every commit
    synced), or a schema of a PostgreSQL server."""
    return postgresql.open_engine(place) if isinstance(place, Server) else _open_file(place)


def exists(place: Place) -> bool:
    """Whether there may be something to read: a schema is there before any process starts, a file may not be yet."""
    return isinstance(place, Server) or place.exists()


def name_of(place: Place) -> str:
    """What to call it in a message."""
    return str(place) if isinstance(place, Server) else place.name


def _open_file(path: Path) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), isolation_level="AUTOCOMMIT"
    )

    @event.listens_for(engine, "connect")
    def configure(raw: Any, _record: object) -> None:
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",  # else savepoints spill into a file, where a confined process may not write
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
        ):
            raw.execute(f"PRAGMA {pragma}")

    return engine


class Writer:
    """The only writer of one database in this process. `commit` can be replaced by tests that make a commit fail.

    Work is done in the order in which it came. Whoever waits for it, while nobody else writes, does it in its own
    thread: to wake another one takes a third of a commit. All else is done by a thread of the writer.
    `before_commit`: what is done once for all work of a transaction, at its end; what it raises undoes the whole of it.
    """

    def __init__(self, engine: Engine, commit: Callable[[Connection], None] | None = None) -> None:
        self.engine = engine
        self._commit = commit or _commit
        self.before_commit: Callable[[Connection], None] | None = None
        self._begin = (
            "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else postgresql.BEGIN_WRITE
        )
        self._jobs: deque[_Job[Any]] = deque()
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False: the last one
        self._turn = threading.Lock()
        self._connection: Connection | None = None  # of whoever has the turn
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T]) -> Future[T]:
        """Queues `work`; the future answers after the commit, or raises what `work` raised (then nothing of it stays).

        `Fault("store.write-failed")` means that the commit itself failed: whether it persisted must be read back.
        """
        job = self._queue(work)
        self._calls.put(True)
        return job.future

    def run(self, work: Work[T]) -> T:
        """`submit` and wait."""
        if not self._turn.acquire(blocking=False):
            return self.submit(work).result()
        try:
            job = self._queue(work)
            while not job.future.done():
                self._serve()
        finally:
            self._turn.release()
        return job.future.result()

    def _queue(self, work: Work[T]) -> _Job[T]:
        invariant(not self._closed, "nobody writes after close")
        job = _Job(work, Future())
        self._jobs.append(job)
        return job

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading what has been committed. Fault("store.unreachable") when there is none to be had."""
        with _connect(self.engine) as connection:
            yield connection

    def close(self) -> None:
        """Finishes the queued work, then closes the database."""
        if not self._closed:
            self._closed = True
            self._calls.put(False)
            self._thread.join()
            self.engine.dispose()

    def _run(self) -> None:
        while self._calls.get():
            with self._turn:
                self._serve_on()
        with self._turn:
            while self._jobs:
                self._serve_on()
            if self._connection is not None:
                self._connection.close()

    def _serve_on(self) -> None:
        """`_serve`, for the thread on which everybody else relies: whoever asked has been told what was raised."""
        with contextlib.suppress(BaseException):
            self._serve()

    def _serve(self) -> None:
        """Does what waits. Whatever happens, those whose work was taken hear of it; what is no Exception, such as an
        interrupt of the caller whose thread this is, is raised as well.
        """
        group: list[_Job[Any]] = []
        try:
            self._gather(group)
            if group:
                self._write(self._begun(), group)
        except BaseException as error:
            _tell(group, error)
            if not isinstance(error, Exception):
                raise

    def _begun(self) -> Connection:
        """A transaction begun, on a new connection where there was none or the server has gone meanwhile."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                if not postgresql.is_lost(connection):
                    _driver(connection, self._begin)
                    self._connection = connection
                    return connection
                _discard(connection)
            except DBAPIError:
                lost = postgresql.is_lost(connection)
                _discard(connection)
                if not lost:
                    raise
        connection = _connect(self.engine)
        try:
            _driver(connection, self._begin)
        except DBAPIError:
            _discard(connection)
            raise
        self._connection = connection
        return connection

    def _gather(self, group: list[_Job[Any]]) -> None:
        while self._jobs and len(group) < GROUP_MAX:
            job = self._jobs.popleft()
            # From here on a caller that goes away cannot cancel: what is begun is finished and answered.
            if job.future.set_running_or_notify_cancel():
                group.append(job)

    def _write(self, connection: Connection, group: list[_Job[Any]]) -> None:
        done: list[tuple[_Job[Any], Any]] = []
        try:
            for job in group:  # it grows by what came meanwhile
                self._work_one(connection, job, done)
                if job is group[-1]:
                    self._gather(group)
            if self.before_commit is not None:
                self.before_commit(connection)
            self._commit(connection)
        except BaseException:
            with contextlib.suppress(SQLAlchemyError):
                _driver(connection, "ROLLBACK")
            raise
        for job, value in done:
            job.future.set_result(value)

    def _work_one(
        self, connection: Connection, job: _Job[Any], done: list[tuple[_Job[Any], Any]]
    ) -> None:
        _driver(connection, "SAVEPOINT job")
        try:
            value = job.work(connection)
            _driver(connection, "RELEASE SAVEPOINT job")
        except Exception as error:  # the caller's own error: it goes back to the caller, and only its work is undone
            self._undo_one(connection, error)
            job.future.set_exception(
                _fault(error) if isinstance(error, OperationalError) else error
            )
            return
        done.append((job, value))

    @staticmethod
    def _undo_one(connection: Connection, error: Exception) -> None:
        try:
            _driver(connection, "ROLLBACK TO SAVEPOINT job")
        except SQLAlchemyError:
            raise error from None  # the database has undone the whole transaction by itself, as on a full disk


def _tell(group: list[_Job[Any]], error: BaseException) -> None:
    fault = error if isinstance(error, PresspassError) else _fault(error)
    for job in group:
        if not job.future.done():
            job.future.set_exception(fault)


def _discard(connection: Connection) -> None:
    with contextlib.suppress(SQLAlchemyError):
        connection.invalidate()
        connection.close()


_ODD_SCHEMA = """SELECT 1 FROM sqlite_schema WHERE type NOT IN ('table', 'index')
 OR sql LIKE 'CREATE VIRTUAL%' OR sql LIKE '%AS (%' OR sql LIKE '%AS(%' OR sql LIKE '%GENERATED%' LIMIT 1"""


class Reader:
    """Another process's database, read-only. Retries while its owner is just opening, recovering or closing it.

    Its owner may be in other hands: whatever the database holds, an answer or a Fault comes in bounded time. Column
    types are not to be relied on either (SQLite keeps any value in any column).
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._deadlines = threading.local()
        self._is_file = not isinstance(place, Server)
        if isinstance(place, Server):
            self._begin = postgresql.BEGIN_READ
            self._engine = postgresql.open_engine(place, reading=True)
        else:
            self._begin = "BEGIN"
            self._engine = _open_file_to_read(place)
            event.listen(self._engine, "connect", self._configure)

    def run(self, work: Work[T]) -> T:
        """`work` on one consistent snapshot. Fault("store.unreadable") after 2 s of trying or 10 s of reading."""
        deadline = self._deadlines.value = time.monotonic() + _READ_S_MAX
        for attempt in range(_READ_RETRIES):
            try:
                with self._engine.connect() as connection:
                    _driver(connection, self._begin)
                    try:
                        self._check_schema(connection)
                        return work(connection)
                    finally:
                        self._end(connection)
            except DBAPIError as error:
                hopeless = not isinstance(error, OperationalError) or time.monotonic() > deadline
                if hopeless or attempt == _READ_RETRIES - 1:
                    raise Fault(
                        "store.unreadable",
                        f"{name_of(self.place)} cannot be read: {error.orig}",
                        retryable=True,
                    ) from error
                time.sleep(_READ_RETRY_S)
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._engine.dispose()

    @staticmethod
    def _end(connection: Connection) -> None:
        """What is not over with the connection itself; an error on the way here says more than a second one."""
        if not postgresql.is_lost(connection):
            _driver(connection, "ROLLBACK")

    def _check_schema(self, connection: Connection) -> None:
        """Plain tables only: a view or a computed column in place of one can compute for ever in a single step, which
        no deadline ends. On PostgreSQL the server's own deadline ends every statement, and no process makes tables."""
        if self._is_file and connection.exec_driver_sql(_ODD_SCHEMA).first() is not None:
            raise Fault(
                "store.unreadable",
                f"{name_of(self.place)} has more than plain tables in it.",
                retryable=True,
            )

    def _configure(self, raw: sqlite3.Connection, _record: object) -> None:
        raw.execute("PRAGMA trusted_schema=OFF")
        raw.set_progress_handler(self._overdue, _READ_STEPS)

    def _overdue(self) -> bool:
        return time.monotonic() > getattr(self._deadlines, "value", float("inf"))


def _open_file_to_read(path: Path) -> Engine:
    url = sa.URL.create(
        "sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"}
    )
    return sa.create_engine(url, isolation_level="AUTOCOMMIT")


class ChangeSignal:
    """Tells whether a database was committed to since the last look: by any process but, in a file, this connection.

    `changed` asks the database itself, so that what was committed before the question is never missed: some
    microseconds in SQLite, one round trip to a server. `wait` sleeps in between. Used by one thread at a time.
    """

    def __init__(self, place: Place) -> None:
        self._source = (
            postgresql.CommitCount(place) if isinstance(place, Server) else _DataVersion(place)
        )
        self._seen = -1

    def changed(self) -> bool:
        """True on the first call, after a commit, and when the database cannot be asked just now."""
        try:
            version = self._source.read()
        except (DBAPIError, sqlite3.Error, Fault):
            self.close()
            return True
        changed, self._seen = version != self._seen, version
        return changed

    def wait(self, pause_s: float, idle_s: float, stop: threading.Event) -> None:
        """Sleeps until it is worth looking again, or `stop` is set: `pause_s` where nobody tells of commits (SQLite),
        else until one is told of, `idle_s` at most."""
        self._source.wait(pause_s, idle_s, stop)

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when a commit is told of; None where nobody tells."""
        return self._source.fileno()

    def close(self) -> None:
        """Closes the connection; the next question opens another."""
        self._source.close()
        self._seen = -1


class _DataVersion:
    """SQLite's data_version. It is asked many times a second and with every upload, so it speaks to the driver itself:
    six times as fast."""

    def __init__(self, path: Path) -> None:
        self._engine = _open_file_to_read(path)
        self._connection: Connection | None = None
        self._driver: sqlite3.Connection | None = None

    def read(self) -> int:
        driver = self._driver or self._connect()
        return int(driver.execute("PRAGMA data_version").fetchone()[0])

    def wait(self, pause_s: float, _idle_s: float, stop: threading.Event) -> None:
        stop.wait(pause_s)

    def fileno(self) -> None:
        return None

    def _connect(self) -> sqlite3.Connection:
        self._connection = self._engine.connect()
        driver: sqlite3.Connection = self._connection.connection.driver_connection  # type: ignore[assignment]  # SQLite's: see above
        self._driver = driver
        return driver

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = self._driver = None


class Lookup:
    """A connection that is kept for small questions, and opened anew when the server was gone. One thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def run(self, work: Work[T]) -> T:
        """`work` outside any transaction. Fault("store.unreachable") when there is no connection to be had."""
        if self._connection is not None:
            try:
                return work(self._connection)
            except DBAPIError:
                if not postgresql.is_lost(self._connection):
                    raise
                self.close()
        self._connection = _connect(self._engine)
        return work(self._connection)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None


class Prepared:
    """A statement that is compiled once and then handed to the driver: for those few that run with every upload, or
    with every entry of the ledger.

    Its values and columns are text, whole numbers and bytes: nothing that would have to be converted.
    """

    def __init__(self, statement: sa.Select[Any] | sa.Insert | sa.Update) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None]] = {}

    def rows(self, connection: Connection, **values: object) -> list[tuple[Any, ...]]:
        """All rows, their columns in the statement's order."""
        found: list[tuple[Any, ...]] = self._execute(connection, values).fetchall()
        return found

    def run(self, connection: Connection, **values: object) -> int:
        """Executes a statement that gives no rows; how many it has made or changed."""
        return int(self._execute(connection, values).rowcount)

    def _execute(self, connection: Connection, values: dict[str, object]) -> Any:
        text, names = self._compiled.get(connection.dialect.name) or self._compile(connection)
        given = values if names is None else tuple([values[name] for name in names])
        return _driver(connection, text, given)

    def _compile(self, connection: Connection) -> tuple[str, tuple[str, ...] | None]:
        compiled = self._statement.compile(dialect=connection.dialect)
        invariant(isinstance(compiled, SQLCompiler), "a query or a change of rows")
        names = tuple(compiled.positiontup or ()) if compiled.positional else None
        found = self._compiled[connection.dialect.name] = (compiled.string, names)
        return found


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except OperationalError as error:
        raise Fault(
            "store.unreachable", f"The database cannot be reached: {error.orig}", retryable=True
        ) from None


def _driver(connection: Connection, statement: str, values: Any = ()) -> Any:
    """Executes on the driver's own connection, in the transaction under way; its errors come as SQLAlchemy's do."""
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.loaded_dbapi.Error
    try:
        return driver.execute(statement, values)
    except errors as error:
        raise DBAPIError.instance(
            statement, None, error, errors, dialect=connection.dialect
        ) from error


def _commit(connection: Connection) -> None:
    result = _driver(connection, "COMMIT")
    if connection.dialect.name == "postgresql":
        postgresql.check_committed(result)


def _fault(error: BaseException) -> Fault:
    cause = getattr(error, "orig", None)
    if postgresql.says_busy(cause):
        return Fault("store.busy", "The database is held by another writer.", retryable=True)
    full = "disk is full" in str(error) or postgresql.says_full(cause)
    code = "store.full" if full else "store.write-failed"
    return Fault(code, f"The database could not be written: {error}", retryable=full)
