"""Brings a database to the newest schema. Alembic, slow to load, is imported only when there is something to do.

A SQLite file is its process's own, which brings it up at its start. A schema on PostgreSQL is brought up by its owner
(`store.provision`), a role that no process runs as; a process only looks whether that was done.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from presspass.core.errors import Fault
from presspass.store import postgresql

DatabaseName = Literal["gateway", "journal"]
#: The newest revision of each database; a test compares it with the scripts.
NEWEST: Final[dict[DatabaseName, str]] = {"gateway": "0007", "journal": "0014"}
_FOLDER = Path(__file__).parent / "migrations"


def current_revision(engine: Engine) -> str | None:
    """The revision that the database says it has; None when it is empty."""
    with engine.connect() as connection:
        return _revision(connection)


def bring_up(engine: Engine, name: DatabaseName) -> None:
    """What a process does at its start: `upgrade` for a file; on PostgreSQL Fault("store.older-schema") when the owner
    has to be asked, or "store.newer-schema"."""
    if engine.dialect.name == "sqlite":
        upgrade(engine, name)
        return
    revision = current_revision(engine)
    _refuse_newer(revision, name)
    if revision != NEWEST[name]:
        raise Fault(
            "store.older-schema",
            f"The {name} database has schema {revision or 'none'}; this version of Presspass needs {NEWEST[name]}. "
            "Run `presspass database prepare` as its administrator.",
            retryable=False,
        )


def upgrade(engine: Engine, name: DatabaseName) -> None:
    """Runs the missing migrations. Fault("store.newer-schema") when the database is ahead of this program."""
    with engine.connect() as connection:
        revision = _revision(connection)
        _refuse_newer(revision, name)
        if revision == NEWEST[name]:
            return
        # One transaction of our own around everything: the driver would commit each CREATE TABLE by itself, and a
        # process that is killed half-way would leave a database that no later start can bring up.
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN"
        )
        try:
            upgrade_on(connection, name)
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


def upgrade_on(connection: Connection, name: DatabaseName) -> None:
    """Runs the missing migrations in the transaction under way."""
    _refuse_newer(_revision(connection), name)
    _run(name, connection=connection)
    if connection.dialect.name == "postgresql":
        for statement in postgresql.TURN_TABLE:
            connection.exec_driver_sql(statement)


def script(name: DatabaseName) -> str:
    """The SQL that makes every table of an empty PostgreSQL schema, for an administrator to read and run."""
    out = io.StringIO()
    _run(name, dialect_name="postgresql", as_sql=True, output_buffer=out)
    return out.getvalue() + "".join(f"{statement};\n" for statement in postgresql.TURN_TABLE)


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    query = "SELECT version_num FROM alembic_version"
    revision: str | None = connection.exec_driver_sql(query).scalar()
    return revision


def _refuse_newer(revision: str | None, name: DatabaseName) -> None:
    if revision is not None and revision > NEWEST[name]:
        raise Fault(
            "store.newer-schema",
            f"The {name} database has schema {revision}; this version of Presspass knows {NEWEST[name]}.",
            retryable=False,
        )


def _run(name: DatabaseName, **context: Any) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_FOLDER / name))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    with EnvironmentContext(
        config,
        scripts,
        fn=lambda revision, _context: scripts._upgrade_revs("head", revision),
        as_sql=bool(context.get("as_sql")),
    ) as environment:
        environment.configure(target_metadata=None, transactional_ddl=False, **context)
        environment.run_migrations()
