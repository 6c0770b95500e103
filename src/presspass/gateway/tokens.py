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
_SHAPE = re.compile(r"ppu_[A-Za-z0-9_-]{43}[0-9a-z]{6}")
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
    """What an upload token lets its holder do. `hash`: the token's SHA-256; `person`: whose it is, "" for a machine."""

    hash: str
    upstream: str
    project: str
    person: str


def new_upload_token() -> str:
    """A fresh token; the caller stores `sha256_hex` of it and shows it once."""
    body = secrets.token_urlsafe(32)
    return PREFIX + body + checksum(body)


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
    if (
        not _SHAPE.fullmatch(token)
        or checksum(token[len(PREFIX) : -_CHECK_CHARS]) != token[-_CHECK_CHARS:]
    ):
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


def require_upstream(right: Right, upstream: str) -> None:
    """Refuses with `token.wrong-project` when the token is for another upstream."""
    if right.upstream != upstream:
        raise Refusal(
            Code.TOKEN_WRONG_PROJECT,
            f"This upload token is for {right.project} at {right.upstream}, not for anything at {upstream}.",
            "Check the repository URL, or ask for a token of this upstream.",
        )


def require_project(right: Right, project: str) -> None:
    """Refuses with `token.wrong-project` when the file is of another project."""
    if right.project != project:
        raise Refusal(
            Code.TOKEN_WRONG_PROJECT,
            f"This upload token is for {right.project}, and the file is of {project}.",
            "Check the token, or ask for one of this project.",
        )


def view_token_until(connection: Connection, token: str, now_ms: int) -> int | None:
    """Until when (ms) a view token lets its holder look; None when it is unknown or over."""
    expires: int | None = connection.execute(
        sa.select(VIEW_TOKEN.c.expires_ms).where(VIEW_TOKEN.c.hash == secret_hash(token))
    ).scalar()
    return expires if expires is not None and expires > now_ms else None


def checksum(body: str) -> str:
    """Six characters by which a mistyped or cut secret is told from a wrong one (CRC-32, base 36)."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def normal_project(name: str) -> str:
    """A project name in normal form (PEP 503): what file names are compared with."""
    return re.sub(r"[-_.]+", "-", name).lower()
