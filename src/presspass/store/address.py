"""Where a database is, as a value: a file, or a schema of a PostgreSQL server as one role. Opens nothing.

The URL is libpq's (PostgreSQL documentation, section "Connection URIs") for one host, and holds neither user nor
password: who asks is the role, and its password stands in a file of its process alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from presspass.core.errors import Code, Refusal

Schema = Literal["gateway", "journal"]
_PORT: Final = 5432
_SCHEMES: Final = ("postgresql", "postgres")
_ELSEWHERE: Final = frozenset({"user", "password", "passfile", "options", "dbname", "port"})


@dataclass(frozen=True, slots=True)
class Server:
    """A schema of a PostgreSQL database, as one role.

    `url`: postgresql://[host[:port]]/database[?libpq options], without user and password. `password_file`: holds the
    role's password; when it is not there, none is sent (the server knows the role otherwise).
    """

    url: str
    role: str
    schema: Schema
    password_file: Path | None = None

    def __str__(self) -> str:
        return f"schema {self.schema}"


Place = Path | Server


@dataclass(frozen=True, slots=True)
class Roles:
    """The names of the three roles. Nobody runs as the owner."""

    owner: str = "presspass_owner"
    gateway: str = "presspass_gateway"
    press: str = "presspass_press"

    def writer(self, schema: Schema) -> str:
        """Whose schema it is."""
        return self.gateway if schema == "gateway" else self.press

    def reader(self, schema: Schema) -> str:
        """Who else reads it."""
        return self.press if schema == "gateway" else self.gateway


def check_url(text: str, *, with_user: bool = False) -> SplitResult:
    """The URL's parts; refuses with `config.invalid`. `with_user`: an administrator's, who may be named in it."""
    try:
        parts = urlsplit(text)
        one_host = parts.port is None or parts.hostname is not None
    except ValueError:
        parts, one_host = urlsplit(""), False
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    usable = (
        parts.scheme in _SCHEMES and one_host and "," not in f"{parts.netloc}{options.get('host')}"
    )
    if not usable or not database_of(parts) or parts.fragment:
        raise Refusal(
            Code.CONFIG_INVALID,
            "The database URL is not postgresql://HOST[:PORT]/DATABASE.",
            "For a socket on this host: postgresql:///DATABASE?host=/var/run/postgresql.",
        )
    if parts.password is not None or (parts.username is not None and not with_user):
        raise Refusal(
            Code.CONFIG_INVALID,
            "The database URL holds a user or a password, which do not belong there.",
            "Roles stand in [database], passwords in files of their own (docs/postgresql.md).",
        )
    if wrong := _ELSEWHERE & set(options):
        raise Refusal(
            Code.CONFIG_INVALID,
            f"The database URL has the option {min(wrong)}, which is not taken from there.",
            "Leave it out.",
        )
    return parts


def database_of(parts: SplitResult) -> str:
    """The name of the database; "" when the path is no name."""
    name = parts.path.removeprefix("/")
    return "" if "/" in name or "%" in name else name


def tcp_port(url: str) -> int | None:
    """The TCP port that a process dials for this URL; None for a Unix socket."""
    parts = check_url(url, with_user=True)
    host = parts.hostname or dict(parse_qsl(parts.query)).get("host", "")
    return None if not host or host.startswith("/") else parts.port or _PORT
