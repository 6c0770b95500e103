"""Secrets that open the gateway's own doors: upload tokens, view tokens, enrolment links. Kept as hashes only.

An upload token is for one project at one upstream, expires, and opens the gate's door, never the registry's.
Its last six characters are a checksum, so that a mistyped or cut token is told from a wrong one, and so that secret
scanners can recognise it: `ppu_` + 43 characters (256 random bits, base64url) + 6 characters (CRC-32, base 36).
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.gateway.problems import MissingToken
from presspass.store.database import Prepared
from presspass.store.gateway_tables import UPLOAD_TOKEN, VIEW_TOKEN

PREFIX: Final = "ppu_"
_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}[0-9a-z]{6}")
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_CHECK_CHARS = 6
_NEW_TOKEN = "Ask the operator of the gate for a new one."
_TOKEN = Prepared(
    sa.select(
        UPLOAD_TOKEN.c.upstream,
        UPLOAD_TOKEN.c.project,
        UPLOAD_TOKEN.c.person,
        UPLOAD_TOKEN.c.expires_ms,
        UPLOAD_TOKEN.c.revoked_ms,
    ).where(UPLOAD_TOKEN.c.hash == sa.bindparam("hash"))
)


@dataclass(frozen=True, slots=True)
class Right:
    """What an upload token or a pass lets its holder do. `hash`: its SHA-256; `person`: who is behind it, or "".

    The others are a pass's: `workload`: hash of the identity token, `publisher`: name of the binding, `release`: the
    set it has opened, `files`: name to SHA-256 where the workload has bound them. `project` and `version` are "" while
    a pass is not bound to one.
    """

    hash: str
    upstream: str
    project: str
    person: str
    version: str = ""
    publisher: str = ""
    workload: str = ""
    release: str = ""
    files: Mapping[str, str] | None = None

    @property
    def word(self) -> str:
        return "pass" if self.workload else "upload token"


def new_upload_token() -> str:
    """A fresh token; the caller stores `sha256_hex` of it and shows it once."""
    return checked_secret(PREFIX)


def checked_secret(prefix: str) -> str:
    """256 random bits under a prefix, with a checksum at the end."""
    body = secrets.token_urlsafe(32)
    return prefix + body + _check(body)


def is_checked(secret: str, prefix: str) -> bool:
    """Whether a secret has the form that `checked_secret` gives, its checksum included."""
    body = secret.removeprefix(prefix)
    shape = _SHAPE.fullmatch(body) is not None
    return (
        secret.startswith(prefix) and shape and _check(body[:-_CHECK_CHARS]) == body[-_CHECK_CHARS:]
    )


def new_secret() -> str:
    """A link or view token: 256 random bits, base64url."""
    return secrets.token_urlsafe(32)


def secret_hash(secret: str) -> str:
    """The only form in which a secret is stored."""
    return sha256_hex(secret.encode())


def from_authorization(value: str) -> str:
    """The token in an Authorization header: the password of Basic (any user name), or Bearer."""
    scheme, _, rest = value.partition(" ")
    if not value:
        raise MissingToken(
            Code.TOKEN_INVALID,
            "An upload needs an upload token.",
            "Use it as the password, user name __token__.",
        )
    if scheme.lower() == "bearer":
        return rest.strip()
    try:
        decoded = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        decoded = ""
    if scheme.lower() != "basic" or ":" not in decoded:
        raise Refusal(
            Code.TOKEN_INVALID, "The Authorization header is neither Basic nor Bearer.", _NEW_TOKEN
        )
    return decoded.partition(":")[2]


def check_right(connection: Connection, token: str, now_ms: int) -> Right:
    """The right that comes with `token`. Refuses with `token.invalid` or `token.expired`."""
    if not is_checked(token, PREFIX):
        raise Refusal(
            Code.TOKEN_INVALID,
            "This is not an upload token of this gate, or it is mistyped.",
            _NEW_TOKEN,
        )
    return right_by_hash(connection, secret_hash(token), now_ms)


def right_by_hash(connection: Connection, token_hash: str, now_ms: int) -> Right:
    """As `check_right`, by the stored hash."""
    rows = _TOKEN.rows(connection, hash=token_hash)
    if not rows:
        raise Refusal(Code.TOKEN_INVALID, "This upload token is not known here.", _NEW_TOKEN)
    upstream, project, person, expires_ms, revoked_ms = rows[0]
    if revoked_ms is not None:
        raise Refusal(Code.TOKEN_INVALID, "This upload token was revoked.", _NEW_TOKEN)
    if now_ms >= expires_ms:
        raise Refusal(Code.TOKEN_EXPIRED, "This upload token has expired.", _NEW_TOKEN)
    return Right(token_hash, upstream, project, person)


def view_token_until(connection: Connection, token: str, now_ms: int) -> int | None:
    """Until when (ms) a view token lets its holder look; None when it is unknown or over."""
    expires: int | None = connection.execute(
        sa.select(VIEW_TOKEN.c.expires_ms).where(VIEW_TOKEN.c.hash == secret_hash(token))
    ).scalar()
    return expires if expires is not None and expires > now_ms else None


def _check(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def normal_project(name: str) -> str:
    """A project name in normal form (PEP 503): what file names are compared with."""
    return re.sub(r"[-_.]+", "-", name).lower()
