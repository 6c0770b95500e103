"""Brings a database to the newest schema. Alembic, slow to load, is imported only when there is something to do."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from presspass.core.errors import Fault

DatabaseName = Literal["gateway", "journal"]
#: The newest revision of each database; a test compares it with the scripts.
NEWEST: Final[dict[DatabaseName, str]] = {"gateway": "0004", "journal": "0002"}
_FOLDER = Path(__file__).parent / "migrations"


def current_revision(engine: Engine) -> str | None:
    """The revision that the database says it has; None when it is empty."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.exec_driver_sql(
            "SELECT version_num FROM alembic_version"
        ).scalar()
        return revision


def upgrade(engine: Engine, name: DatabaseName) -> None:
    """Runs the missing migrations. Fault("store.newer-schema") when the database is ahead of this program."""
    revision = current_revision(engine)
    if revision == NEWEST[name]:
        return
    if revision is not None and revision > NEWEST[name]:
        raise Fault(
            "store.newer-schema",
            f"The {name} database has schema {revision}; this version of Presspass knows {NEWEST[name]}.",
            retryable=False,
        )
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_FOLDER / name))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    with (
        EnvironmentContext(
            config, script, fn=lambda rev, _context: script._upgrade_revs("head", rev)
        ) as environment,
        engine.connect() as connection,
    ):
        # One transaction of our own around everything: the driver would commit each CREATE TABLE by itself, and a
        # process that is killed half-way would leave a database that no later start can bring up.
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN"
        )
        try:
            environment.configure(
                connection=connection, target_metadata=None, transactional_ddl=False
            )
            environment.run_migrations()
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
