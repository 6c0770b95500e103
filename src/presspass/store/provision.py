"""The roles, schemas and grants on PostgreSQL, and the look whether they are as they should be.

| role | owns | writes | reads |
|---|---|---|---|
| owner (cannot log in) | both schemas and all tables | nothing: nobody runs as it | |
| gateway | nothing | `gateway` | `journal`, but for HIDDEN |
| press | nothing | `journal` | `gateway` |

An administrator (a superuser, or the owner of the database who may create roles) prepares it, by `prepare` or by the
statements of `script`. Both are idempotent: what was granted beyond this table is taken back. It opens the database
that it is given, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from presspass.core.errors import Code, Fault, Refusal
from presspass.store import migrate, postgresql
from presspass.store.address import Roles, Schema, Server

SCHEMAS: Final[tuple[Schema, ...]] = ("gateway", "journal")
#: Tables that the other side may not even read: messages to people, with their addresses.
HIDDEN: Final[dict[Schema, tuple[str, ...]]] = {"gateway": (), "journal": ("notice",)}
#: Written by the owner alone.
_OWNERS: Final = ("alembic_version",)
_SEALED: Final = "SELECT count(*) FROM journal.fact WHERE name = 'genesis'"
_ELSEWHERE: Final = """
SELECT count(*) FROM pg_shdepend d, pg_roles r, pg_database this
WHERE r.rolname = {role} AND this.datname = current_database()
  AND d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
  AND CASE WHEN d.dbid = 0 THEN d.classid = 'pg_database'::regclass AND d.objid <> this.oid
           ELSE d.dbid <> this.oid END"""
#: Whether texts are sorted as their bytes are, asked by trying: a database can have its order from several libraries.
_SORTS_AS_C: Final = """
SELECT array_agg(x ORDER BY x COLLATE "default") = array_agg(x ORDER BY x COLLATE "C")
FROM unnest(ARRAY['B', 'a', 'Z', '_', '-', '1', 'é', 'aB', 'a-b', 'ab']) AS x"""
_VERSION_MIN: Final = 13


def prepare(admin: str, roles: Roles, passwords: dict[str, str]) -> None:
    """Makes or completes everything in one transaction. `passwords`: role to its new password; others keep theirs.

    Refuses with `database.unusable` where a role that is to get a password has one that is in use, the database is not
    fit, or the administrator may not do it.
    """
    engine = postgresql.make_engine(admin, {"client_min_messages": "warning"})
    try:
        with engine.connect() as connection:
            _check_fit(connection)
            connection.exec_driver_sql("BEGIN")
            try:
                _prepare(connection, roles, passwords)
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        raise Refusal(
            Code.DATABASE_UNUSABLE,
            f"The database could not be prepared: {_first_line(error)}",
            "Name an administrator with --admin, or hand the SQL of `presspass database sql` to one.",
        ) from None
    finally:
        engine.dispose()


def script(database: str, roles: Roles) -> str:
    """The same as SQL for an empty database, to be read and run by an administrator with psql."""
    lines = [
        "-- Run by an administrator in the database itself, with psql -v ON_ERROR_STOP=1.",
        "BEGIN;",
    ]
    lines += [f"{one};" for one in _roles(roles)]
    lines += [f"{one};" for one in _database(database, roles)]
    for schema in SCHEMAS:
        lines += [f"{one};" for one in _schema(schema, roles)]
        lines += [f"{one};" for one in _as_owner(schema, roles)]
        lines += [migrate.script(schema), "RESET ROLE;", "RESET search_path;"]
        lines += [f"{one};" for one in _grants(schema, roles)]
        lines += [f"{one};" for one in _withhold(schema, roles, [*_OWNERS, *HIDDEN[schema]])]
    lines += ["COMMIT;", "-- Then give both roles a password: \\password " + roles.gateway]
    return "\n".join(lines) + "\n"


def _prepare(connection: Connection, roles: Roles, passwords: dict[str, str]) -> None:
    def run(statements: Iterator[str]) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    _refuse_taken(connection, passwords)
    run(_roles(roles))
    for role, password in passwords.items():
        _set_password(connection, role, password)
    database = connection.exec_driver_sql("SELECT current_database()").scalar_one()
    run(_database(database, roles))
    for schema in SCHEMAS:
        run(_schema(schema, roles))
        run(_as_owner(schema, roles))
        migrate.upgrade_on(connection, schema)
        run(iter(["RESET ROLE", "RESET search_path"]))
        run(_grants(schema, roles))
        run(_withhold(schema, roles, [*_OWNERS, *HIDDEN[schema]]))


def _refuse_taken(connection: Connection, passwords: dict[str, str]) -> None:
    """A new password would lock out whoever works with the old one: a sealed installation in this database, or one in
    another database of the server, since roles are the whole server's."""
    if not passwords:
        return
    begun = connection.exec_driver_sql(
        "SELECT to_regclass('journal.fact') IS NOT NULL"
    ).scalar_one()
    if begun and connection.exec_driver_sql(_SEALED).scalar_one():
        raise Refusal(
            Code.DATABASE_UNUSABLE,
            "This database has the journal of an installation that is sealed.",
            "Name an empty database; another node of that installation gets a copy of its home.",
        )
    for role in passwords:
        if connection.exec_driver_sql(_ELSEWHERE.format(role=_text(role))).scalar_one():
            raise Refusal(
                Code.DATABASE_UNUSABLE,
                f"The role {role} is used in another database of this server.",
                "Choose others (--database-roles PREFIX), or give its password in a file, and no administrator.",
            )


def _set_password(connection: Connection, role: str, password: str) -> None:
    """As a SCRAM verifier made here: the password itself is not sent, and stands in no log of the server's."""
    driver = connection.connection.driver_connection
    verifier = driver.pgconn.encrypt_password(  # type: ignore[union-attr]  # psycopg's
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    connection.exec_driver_sql(f"ALTER ROLE {_name(role)} PASSWORD {_text(verifier)}")


# --- the statements ---------------------------------------------------------------------------------------------------


def _roles(roles: Roles) -> Iterator[str]:
    """Roles are the whole server's: one that is there keeps what else it is."""
    for role, login in ((roles.owner, "NOLOGIN"), (roles.gateway, "LOGIN"), (roles.press, "LOGIN")):
        yield (
            f"DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {_text(role)}) THEN "
            f"CREATE ROLE {_name(role)} {login} NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT; END IF; END$$"
        )
    # Only a superuser may act for the owner without being its member.
    yield (
        "DO $$BEGIN IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN "
        f"EXECUTE {_text('GRANT ' + _name(roles.owner) + ' TO ')} || quote_ident(current_user); END IF; END$$"
    )


def _database(database: str, roles: Roles) -> Iterator[str]:
    yield f"REVOKE ALL ON DATABASE {_name(database)} FROM PUBLIC"
    yield f"GRANT CONNECT ON DATABASE {_name(database)} TO {_name(roles.gateway)}, {_name(roles.press)}"
    yield "REVOKE ALL ON SCHEMA public FROM PUBLIC"


def _schema(schema: Schema, roles: Roles) -> Iterator[str]:
    yield f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {_name(roles.owner)}"


def _as_owner(schema: Schema, roles: Roles) -> Iterator[str]:
    yield f"SET LOCAL search_path = {schema}"
    yield f"SET LOCAL ROLE {_name(roles.owner)}"


def _grants(schema: Schema, roles: Roles) -> Iterator[str]:
    writer, reader = _name(roles.writer(schema)), _name(roles.reader(schema))
    for kind in ("TABLES", "SEQUENCES"):
        yield f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM PUBLIC, {writer}, {reader}"
    yield f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {writer}, {reader}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {writer}, {reader}"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {writer}"
    yield f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {writer}"
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}"


def _withhold(schema: Schema, roles: Roles, tables: list[str]) -> Iterator[str]:
    for table in tables:
        if table in _OWNERS:
            writer = _name(roles.writer(schema))
            yield f"REVOKE INSERT, UPDATE, DELETE ON {schema}.{_name(table)} FROM {writer}"
        else:
            yield f"REVOKE ALL ON {schema}.{_name(table)} FROM {_name(roles.reader(schema))}"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# --- the look ---------------------------------------------------------------------------------------------------------


def _check_fit(connection: Connection) -> None:
    for wrong in unfit(connection):
        raise Refusal(
            Code.DATABASE_UNUSABLE,
            f"The database is not fit for Presspass: {wrong}.",
            "CREATE DATABASE presspass TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';",
        )


def unfit(connection: Connection) -> Iterator[str]:
    """What cannot be put right by granting: version, encoding, and the order of texts, which must be that of bytes
    because what is signed is sorted."""
    version = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
    if int(version) < _VERSION_MIN * 10_000:
        yield f"the server is older than PostgreSQL {_VERSION_MIN}"
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        yield f"its encoding is {encoding}, not UTF8"
    elif not connection.exec_driver_sql(_SORTS_AS_C).scalar_one():
        yield "it does not sort texts as the locale C does"


def faults(server: Server, roles: Roles) -> tuple[list[str], list[str]]:
    """What is wrong with the server and the database, and what with the role's rights there, one sentence each.

    Raises Fault("store.unreadable") when it cannot be asked.
    """
    engine = postgresql.open_engine(server, reading=True)
    try:
        with engine.connect() as connection:
            rights = list(_wrong_rights(connection, server, roles))
            return [*unfit(connection), *_not_durable(connection)], rights
    except (DBAPIError, OperationalError) as error:
        raise Fault(
            "store.unreadable",
            f"The database cannot be reached as {server.role}: {_first_line(error)}",
            retryable=True,
        ) from None
    finally:
        engine.dispose()


def _not_durable(connection: Connection) -> Iterator[str]:
    """What is answered has been committed; that is worth nothing on a server that does not sync."""
    for setting in ("fsync", "full_page_writes"):
        if connection.exec_driver_sql(f"SHOW {setting}").scalar_one() != "on":
            yield f"{setting} is off: a crash of the server's machine loses what was answered"


def _wrong_rights(connection: Connection, server: Server, roles: Roles) -> Iterator[str]:
    role = server.role
    high = connection.exec_driver_sql(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    ).scalar_one()
    if high:
        yield f"{role} is a superuser, or may make roles or databases"
    for other in (roles.owner, roles.gateway, roles.press):
        if other != role and _says(connection, f"pg_has_role({_text(other)}, 'MEMBER')", other):
            yield f"{role} is a member of {other}"
    for schema in SCHEMAS:
        yield from _wrong_in_schema(connection, schema, roles, role)


def _wrong_in_schema(
    connection: Connection, schema: Schema, roles: Roles, role: str
) -> Iterator[str]:
    if _says(connection, f"has_schema_privilege({_text(schema)}, 'CREATE')"):
        yield f"{role} may make tables in {schema}"
    tables = connection.exec_driver_sql(
        f"SELECT tablename FROM pg_tables WHERE schemaname = {_text(schema)} ORDER BY 1"
    ).scalars()
    for table in tables.all():
        place = _text(f"{schema}.{_name(table)}")
        writes = _says(
            connection, f"has_table_privilege({place}, 'INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER')"
        )
        reads = _says(connection, f"has_table_privilege({place}, 'SELECT')")
        is_writer = role == roles.writer(schema)
        if writes and (not is_writer or table in _OWNERS):
            yield f"{role} may write to {schema}.{table}"
        if reads and not is_writer and table in HIDDEN[schema]:
            yield f"{role} may read {schema}.{table}"
        if not reads and (is_writer or table not in HIDDEN[schema]):
            yield f"{role} may not read {schema}.{table}"
        if not writes and is_writer and table not in _OWNERS:
            yield f"{role} may not write to {schema}.{table}"


def _says(connection: Connection, question: str, needs_role: str = "") -> bool:
    if needs_role:
        there = f"EXISTS (SELECT FROM pg_roles WHERE rolname = {_text(needs_role)})"
        question = f"CASE WHEN {there} THEN {question} ELSE false END"
    return bool(connection.exec_driver_sql(f"SELECT {question}").scalar_one())


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
