"""The token by which an identity provider speaks SCIM to this gate: the operator's to make, kept as a hash.

It has a prefix of its own, for secret scanners. Making a new one ends the one before at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.gateway import tokens
from presspass.store.database import Prepared
from presspass.store.gateway_tables import SCIM_TOKEN

PREFIX: Final = "ppi_"
_TOKEN = Prepared(
    sa.select(SCIM_TOKEN.c.required_group, SCIM_TOKEN.c.ended_ms).where(
        SCIM_TOKEN.c.hash == sa.bindparam("hash")
    )
)


@dataclass(frozen=True, slots=True)
class Door:
    """What holds for the provider with this token. `required_group`: "" for none."""

    required_group: str


def rotate(connection: Connection, required_group: str | None, now_ms: int) -> tuple[str, str]:
    """A new token, and the group that is required; the tokens before it end. None for the group keeps what is set."""
    s = SCIM_TOKEN.c
    living = s.ended_ms.is_(None)
    last = connection.execute(sa.select(s.required_group).where(living)).scalar()
    group = (last or "") if required_group is None else required_group
    close(connection, now_ms)
    secret = tokens.checked_secret(PREFIX)
    row = {
        "hash": tokens.secret_hash(secret),
        "required_group": group,
        "created_ms": now_ms,
    }
    connection.execute(sa.insert(SCIM_TOKEN), row)
    return secret, group


def close(connection: Connection, now_ms: int) -> bool:
    """Ends every token: nobody is provisioned any more. Whether there was one."""
    living = sa.update(SCIM_TOKEN).where(SCIM_TOKEN.c.ended_ms.is_(None))
    return connection.execute(living.values(ended_ms=now_ms)).rowcount > 0


def find(connection: Connection, secret: str) -> Door | None:
    """What holds for whoever has this secret; None where it opens nothing."""
    if not tokens.is_checked(secret, PREFIX):
        return None
    rows = _TOKEN.rows(connection, hash=tokens.secret_hash(secret))
    if not rows or rows[0][1] is not None:
        return None
    return Door(rows[0][0])
