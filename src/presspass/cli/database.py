"""`database`: schemas, roles and grants on PostgreSQL, made or printed; and what `init` needs of them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from presspass.cli.options import example, home_option
from presspass.cli.show import say
from presspass.core.errors import Code, Refusal
from presspass.core.limits import DATABASE_PASSWORD_BYTES_MAX
from presspass.services.config import CONFIG_NAME, Database, read_config
from presspass.services.places import PASSWORD_FILES
from presspass.store.address import check_url, database_of

_PASSWORD_BYTES = 32


@click.group("database", short_help="Prepare a PostgreSQL database, or print the SQL for it.")
def database_command() -> None:
    """The databases of a home on a PostgreSQL server: one schema that only the gateway writes, one that only the press
    writes, and an owner that no process runs as.
    """


@database_command.command(
    "prepare",
    short_help="Make or complete schemas, tables and grants.",
    epilog=example(
        "presspass database prepare --admin postgresql://postgres@db.example/presspass --home /srv/presspass"
    ),
)
@click.option(
    "--admin",
    required=True,
    metavar="URL",
    help="postgresql://USER@HOST/DATABASE of an administrator; the password by PGPASSWORD or ~/.pgpass.",
)
@home_option
def prepare_command(admin: str, home: Path) -> None:
    """Bring the database of a home to the newest schema and put its grants right, as its administrator. Run it after
    an upgrade of Presspass, with all nodes stopped. Running it again changes nothing. Passwords stay as they are.

    Exit codes: 0 done; 1 refused (no PostgreSQL home, the database is not fit, rights are missing).
    """
    from presspass.store import provision

    database = _configured(home)
    _check_same_database(database, admin)
    provision.prepare(admin, database.roles, {})
    say(f"prepared {database.url}: schemas gateway and journal, with their grants")


@database_command.command(
    "sql",
    short_help="Print the SQL that prepares an empty database.",
    epilog=example(
        "presspass database sql --url postgresql://db.example/presspass > presspass.sql",
        "psql -v ON_ERROR_STOP=1 -d presspass -f presspass.sql      # by an administrator",
    ),
)
@click.option("--url", required=True, help="postgresql://HOST[:PORT]/DATABASE.")
@click.option(
    "--roles",
    "prefix",
    default="presspass",
    show_default=True,
    metavar="PREFIX",
    help="The roles are PREFIX_owner, PREFIX_gateway and PREFIX_press.",
)
def sql_command(url: str, prefix: str) -> None:
    """Print what an administrator runs in an empty database instead of `init --database-admin`: roles, schemas, tables
    and grants, in one transaction. Connects nowhere.

    Exit codes: 0 printed; 1 refused (the URL or the prefix cannot be used).
    """
    from presspass.store import provision

    database = database_section(url, prefix)
    say(provision.script(database_of(check_url(url)), database.roles).rstrip("\n"))


def database_section(url: str, prefix: str) -> Database:
    """The `[database]` that was asked for; refuses with `config.invalid` what the file could not hold."""
    if not url:
        return Database()
    check_url(url)
    if not prefix.isidentifier() or not prefix.isascii():
        raise Refusal(
            Code.CONFIG_INVALID,
            f"{prefix!r} cannot begin the name of a role.",
            "Use letters, digits and underscores.",
        )
    return Database(url, f"{prefix}_owner", f"{prefix}_gateway", f"{prefix}_press")


def make_ready(
    database: Database, admin: str, gateway_file: Path | None, press_file: Path | None
) -> dict[str, str]:
    """Prepares the database where an administrator is named; the password of each process ("gateway", "press")."""
    if not database.url:
        if admin or gateway_file or press_file:
            raise click.UsageError("--database-admin and passwords go with --database.")
        return {}
    if not admin:
        files = {"gateway": gateway_file, "press": press_file}
        return {name: _read_password(file) for name, file in files.items() if file is not None}
    if gateway_file or press_file:
        raise click.UsageError("--database-admin makes new passwords; leave the files out.")
    from presspass.store import provision

    _check_same_database(database, admin)
    made = {name: secrets.token_urlsafe(_PASSWORD_BYTES) for name in PASSWORD_FILES}
    roles = database.roles
    provision.prepare(admin, roles, {roles.gateway: made["gateway"], roles.press: made["press"]})
    return made


def keep_passwords(home: Path, passwords: dict[str, str]) -> None:
    """Each in the folder of its process, mode 0600."""
    for name, password in passwords.items():
        path = home / PASSWORD_FILES[name]
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(password + "\n")
            file.flush()
            os.fsync(file.fileno())


def _read_password(file: Path) -> str:
    with file.open("rb") as content:
        data = content.read(DATABASE_PASSWORD_BYTES_MAX + 1)
    password = data.decode("utf-8", "replace").strip()
    if not password or not password.isprintable() or len(data) > DATABASE_PASSWORD_BYTES_MAX:
        raise Refusal(
            Code.CONFIG_INVALID, f"{file.name} holds no password.", "One line of text, no more."
        )
    return password


def _configured(home: Path) -> Database:
    database = read_config(home).database
    if not database.url:
        raise Refusal(
            Code.CONFIG_INVALID,
            f"{home} keeps its databases in files: [database] of {CONFIG_NAME} names no URL.",
            "Nothing has to be prepared.",
        )
    return database


def _check_same_database(database: Database, admin: str) -> None:
    """The administrator may come another way (a socket), but not to a database of another name."""
    named, wanted = (
        database_of(check_url(admin, with_user=True)),
        database_of(check_url(database.url)),
    )
    if named != wanted:
        raise Refusal(
            Code.CONFIG_INVALID,
            f"The administrator's URL names the database {named!r}, and the home's is {wanted!r}.",
            "Name the same database.",
        )
