"""PostgreSQL as the home of a database: a schema for each kind of process, whose turn decides the order of writes.

1. A schema takes the place of a file: `gateway` belongs to the gateways, `journal` to the presses. Roles and grants
   (`store.provision`) say who writes; a connection sees its own schema only.
2. Many processes of a kind may write to one schema. Each transaction first takes the schema's turn, the one row of
   WRITER_TURN, and gives it back by committing. So writers follow each other as the threads of one process do, what a
   transaction reads cannot change under it, and row ids grow in the order of commits, which readers rely on. Only who
   may write to a schema can hold its turn.
3. The turn is numbered. The number tells whether anything was committed (`CommitCount`), and goes out with the commit
   as a notification, so that whoever waits is woken. A notification that is lost costs a second: then the number is
   looked at again.

psycopg is imported when the first engine is made: without a PostgreSQL URL it need not be there.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from presspass.core.errors import Fault, invariant
from presspass.core.limits import (
    DATABASE_CONNECT_S_MAX,
    DATABASE_IDLE_TRANSACTION_S_MAX,
    DATABASE_PASSWORD_BYTES_MAX,
    DATABASE_SILENT_S_MAX,
    DATABASE_TURN_S_MAX,
    READ_S_MAX,
)
from presspass.store.address import Server, check_url

#: The turn to write, one row in each schema. `number`: how often it was taken; it only grows.
WRITER_TURN: Final = "writer_turn"
TURN_TABLE: Final = (
    f"CREATE TABLE IF NOT EXISTS {WRITER_TURN} "
    "(one boolean PRIMARY KEY DEFAULT true CHECK (one), number bigint NOT NULL)",
    f"INSERT INTO {WRITER_TURN} (number) VALUES (0) ON CONFLICT DO NOTHING",
)
BEGIN_WRITE: Final = (
    f"BEGIN; WITH turn AS (UPDATE {WRITER_TURN} SET number = number + 1 RETURNING number) "
    "SELECT pg_notify('presspass_' || current_schema(), number::text) FROM turn"
)
BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
#: How often the number of commits is looked at when no notification comes.
FALL_BACK_S: Final = 1.0
_COUNT = f"SELECT number FROM {WRITER_TURN}"
_DISK_FULL = "53100"
_LOCK_NOT_AVAILABLE = "55P03"


def open_engine(server: Server, *, reading: bool = False) -> Engine:
    """An engine for this schema, every statement its own transaction until one is begun. Connects at first use."""
    settings = {"search_path": server.schema, **(_READING if reading else _WRITING)}
    return make_engine(server.url, settings, server.role, _password(server.password_file))


def make_engine(
    url: str, settings: dict[str, str], role: str | None = None, password: str | None = None
) -> Engine:
    """An engine whose connections have these server settings; a Fault when the driver is not installed.

    `role`: instead of the user in `url`, or of libpq's default (PGUSER, the name of the OS user).
    """
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    arguments: dict[str, Any] = {
        "options": options,
        "application_name": "presspass",
        "client_encoding": "utf8",
        "connect_timeout": DATABASE_CONNECT_S_MAX,
        # A server that has gone without a word must not hold anybody up for longer than this.
        "keepalives_idle": DATABASE_SILENT_S_MAX // 2,
        "tcp_user_timeout": DATABASE_SILENT_S_MAX * 1000,
    }
    if password is not None:
        arguments["password"] = password
    check_url(url, with_user=role is None)
    made = sa.make_url(url).set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(
            made if role is None else made.set(username=role),
            isolation_level="AUTOCOMMIT",
            connect_args=arguments,
            pool_pre_ping=True,
        )
    except ModuleNotFoundError as error:
        raise Fault(
            "store.no-driver",
            f"PostgreSQL is configured, and its driver is not installed ({error.name}): "
            "pip install 'presspass[gate,postgres]'.",
            retryable=False,
        ) from None


_COMMON: Final = {
    "default_transaction_isolation": "read\\ committed",
    "idle_in_transaction_session_timeout": f"{DATABASE_IDLE_TRANSACTION_S_MAX}s",
    "jit": "off",
    "timezone": "UTC",
}
_WRITING: Final = {
    **_COMMON,
    "synchronous_commit": "on",  # an answer comes after the commit is durable, whatever the server's default is
    "lock_timeout": f"{DATABASE_TURN_S_MAX}s",
}
#: The owner of what is read may be in other hands, and lock its tables: an answer or an error comes in bounded time.
_READING: Final = {
    **_COMMON,
    "default_transaction_read_only": "on",
    "statement_timeout": f"{READ_S_MAX}s",
    "lock_timeout": "2s",
}


def _password(file: Path | None) -> str | None:
    """The one line of the file; None when there is none."""
    if file is None:
        return None
    try:
        with file.open("rb") as content:
            return content.read(DATABASE_PASSWORD_BYTES_MAX).decode("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(
            "store.no-password", f"{file.name} cannot be read: {error}.", retryable=False
        ) from None


def is_lost(connection: Connection) -> bool:
    """Whether the server, or the way to it, has gone: nothing more can be asked by this connection."""
    return connection.invalidated or bool(
        getattr(connection.connection.driver_connection, "closed", False)
    )


def says_full(error: BaseException | None) -> bool:
    """Whether the server has no room left (SQLSTATE 53100)."""
    return getattr(error, "sqlstate", None) == _DISK_FULL


def says_busy(error: BaseException | None) -> bool:
    """Whether the turn did not come in time (SQLSTATE 55P03); nothing was written then."""
    return getattr(error, "sqlstate", None) == _LOCK_NOT_AVAILABLE


def check_committed(result: Any) -> None:
    """PostgreSQL answers COMMIT of a transaction that has failed with ROLLBACK, and no error."""
    invariant(result.statusmessage == "COMMIT", "what is committed has not failed")


class CommitCount:
    """How many times the schema was written to, asked of the server; and sleeping until it grows.

    Used by one thread at a time.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._engine = open_engine(server, reading=True)
        self._connection: Connection | None = None
        self._driver: Any = None

    def read(self) -> int:
        """The number of the last commit; Fault("store.unreachable") when it cannot be asked."""
        try:
            driver = self._driver or self._connect()
            return int(driver.execute(_COUNT).fetchone()[0])
        except (SQLAlchemyError, _driver_error()) as error:
            self.close()
            raise Fault(
                "store.unreachable", f"The database cannot be reached: {error}", retryable=True
            ) from None

    def wait(self, _pause_s: float, idle_s: float, stop: threading.Event) -> None:
        """Returns when a commit was notified, after `idle_s` or FALL_BACK_S, or soon after `stop` was set."""
        deadline = time.monotonic() + min(idle_s, FALL_BACK_S)
        with contextlib.suppress(SQLAlchemyError, _driver_error()):
            self._driver = self._driver or self._connect()
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            if self._driver is None or self._driver.closed:
                stop.wait(left)
            elif select.select([self._driver.fileno()], [], [], min(left, _STOP_S))[0]:
                with contextlib.suppress(Fault):
                    self.read()  # takes in what woke us, which would wake us for ever
                return

    def fileno(self) -> int | None:
        """What can be selected on while waiting; None while there is no connection."""
        return None if self._driver is None or self._driver.closed else int(self._driver.fileno())

    def close(self) -> None:
        """Closes the connection; the next question opens another."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.invalidate()  # it listens: nobody else is to have it
                self._connection.close()
            self._connection = self._driver = None

    def _connect(self) -> Any:
        self._connection = self._engine.connect()
        driver: Any = self._connection.connection.driver_connection
        driver.execute(f"LISTEN presspass_{self._server.schema}")
        self._driver = driver
        return driver


def _driver_error() -> type[Exception]:
    import psycopg

    return psycopg.Error


_STOP_S = 0.1
