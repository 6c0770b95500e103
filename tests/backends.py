"""Which kind of database the homes of a test have: the same tests run on SQLite files and on PostgreSQL.

A test file that is in BOTH (conftest) runs once on each. Whatever makes a home asks `section()` for its `[database]`:
empty on SQLite, and on PostgreSQL a database of its own, copied from one that the product itself has prepared.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import peers
from presspass.services.config import Database, read_config, write_config
from presspass.store import provision
from presspass.store.address import Roles

_TEMPLATE = "prepared"


@dataclass
class Databases:
    """Prepared databases on one server. `roles` are the product's default names."""

    server: peers.Postgresql
    roles: Roles = field(default_factory=Roles)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admin(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        provision.prepare(self.url(_TEMPLATE, admin=True), self.roles, {})

    def url(self, name: str, *, admin: bool = False) -> str:
        """The URL of a database, for a configuration or for its administrator."""
        return self.server.url(name, self.server.USER if admin else "")

    def admin(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Runs statements as superuser; the rows of the last one."""
        return self.server.admin(*statements, database=database)

    def empty(self) -> str:
        """The name of a new database that nobody has prepared."""
        return self._make("template0 ENCODING 'UTF8' LOCALE 'C'")

    def fresh(self) -> str:
        """The name of a new, prepared database."""
        return self._make(_TEMPLATE)

    def section(self) -> Database:
        """The configuration of a new, prepared database."""
        return Database(self.url(self.fresh()))

    def drop_all(self) -> None:
        """Ends whoever is still connected to what was made here, and removes it."""
        while self._made:
            self.admin(f"DROP DATABASE {self._made.pop()} WITH (FORCE)")

    def _make(self, template: str) -> str:
        name = f"test_{next(self._numbers)}"
        self.admin(f"CREATE DATABASE {name} TEMPLATE {template}")
        self._made.append(name)
        return name

    def copy(self, home: Path) -> None:
        """Gives a home that was copied a copy of the database of the first one, to which nobody is connected."""
        config = read_config(home)
        old = config.database.url.rpartition("/")[2]
        section = Database(self.url(self._make(old)))
        write_config(home, replace(config, database=section))


#: Set by the fixture `backend` for the tests that run on PostgreSQL.
current: Databases | None = None


def section() -> Database:
    """The `[database]` of the home that a test makes now."""
    return Database() if current is None else current.section()


def copied(home: Path) -> None:
    """Tells that the files of a home were copied; its database is too, then."""
    if current is not None:
        current.copy(home)
