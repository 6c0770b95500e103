"""Passes: the just-in-time right of a workload to fill one set (law 4). Kept as hashes only.

1. A pass is for one version of one package by one run, for minutes. What the exchange could not know is bound at the
   first use, in the transaction that places the file.
2. It opens one set and fills that one alone; no other pass fills it.
3. The same file again is the same answer. Any other use after the set has closed, or the pass has ended, is refused.
4. Ending a pass does not end the release; burning it says that the set is complete.

`ppp_` + 43 characters (256 random bits, base64url) + 6 characters (CRC-32, base 36), so that secret scanners know it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import canonical
from presspass.core.errors import Code, Refusal
from presspass.core.limits import PASS_S
from presspass.gateway import tokens
from presspass.gateway.tokens import Right
from presspass.store.database import Prepared
from presspass.store.gateway_tables import PASS, WORKLOAD_TOKEN

PREFIX: Final = "ppp_"
_NEW_PASS: Final = "Exchange a new identity token for a new pass; run the job again."
_COLUMNS = (
    *(PASS.c.hash, PASS.c.workload, PASS.c.publisher, PASS.c.upstream, PASS.c.project, PASS.c.version),
    *(PASS.c.person, PASS.c.release, PASS.c.files, PASS.c.expires_ms, PASS.c.ended_ms, PASS.c.ended_why),
)  # fmt: skip
_PASS = Prepared(sa.select(*_COLUMNS).where(PASS.c.hash == sa.bindparam("hash")))
_BIND = Prepared(
    sa.update(PASS)
    .where(PASS.c.hash == sa.bindparam("the_hash"))
    .values(
        project=sa.bindparam("the_project"),
        version=sa.bindparam("the_version"),
        release=sa.bindparam("the_release"),
    )
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pass is to be for. `project`, `version`: "" until the first use; `files`: name to SHA-256, or None."""

    upstream: str
    publisher: str
    project: str
    version: str
    person: str
    files: Mapping[str, str] | None = None


def issue(connection: Connection, wish: Wish, workload: str, now_ms: int) -> tuple[str, int]:
    """A fresh pass and when it ends (ms); only its hash is kept. `workload`: hash of the identity token."""
    secret = tokens.checked_secret(PREFIX)
    files = None if wish.files is None else canonical(dict(wish.files))
    row = {
        "hash": tokens.secret_hash(secret),
        "workload": workload,
        "publisher": wish.publisher,
        "upstream": wish.upstream,
        "project": wish.project,
        "version": wish.version,
        "person": wish.person,
        "files": files,
        "created_ms": now_ms,
        "expires_ms": now_ms + PASS_S * 1000,
    }
    connection.execute(sa.insert(PASS), row)
    return secret, now_ms + PASS_S * 1000


def right_by_hash(connection: Connection, pass_hash: str, now_ms: int) -> Right:
    """The right that comes with a pass. Refuses with `pass.invalid`, `pass.ended` or `pass.expired`."""
    rows = _PASS.rows(connection, hash=pass_hash)
    if not rows:
        raise Refusal(Code.PASS_INVALID, "This pass is not known here.", _NEW_PASS)
    _, workload, publisher, upstream, project, version, person, *rest = rows[0]
    release, files, expires, ended, why = rest
    if ended is not None:
        raise Refusal(Code.PASS_ENDED, f"This pass has ended: {why or 'it was burned'}.", _NEW_PASS)
    if now_ms >= expires:
        raise Refusal(Code.PASS_EXPIRED, "This pass has expired.", _NEW_PASS)
    return Right(
        pass_hash,
        upstream,
        project,
        person,
        version=version,
        publisher=publisher,
        workload=workload,
        release=release or "",
        files=None if files is None else json.loads(files),
    )


def bind(connection: Connection, right: Right, project: str, version: str, release: str) -> None:
    """Binds a pass to what it is first used for, in the transaction that places the file. Does nothing later on."""
    if not right.release:
        _BIND.run(
            connection,
            the_hash=right.hash,
            the_project=project,
            the_version=version,
            the_release=release,
        )


def end(
    connection: Connection, where: Sequence[sa.ColumnElement[bool]], why: str, now_ms: int
) -> list[str]:
    """Ends every pass that fits all of `where` and lives; the releases that they had opened."""
    living = (*where, PASS.c.ended_ms.is_(None))
    opened = connection.execute(sa.select(PASS.c.release).where(*living)).scalars().all()
    connection.execute(sa.update(PASS).where(*living).values(ended_ms=now_ms, ended_why=why[:64]))
    return [release for release in opened if release]


def of_run(run: str) -> sa.ColumnElement[bool]:
    """The passes of one run of a workload."""
    return PASS.c.workload.in_(sa.select(WORKLOAD_TOKEN.c.hash).where(WORKLOAD_TOKEN.c.run == run))


def of_identity(identity: str) -> sa.ColumnElement[bool]:
    """The passes of one workload, whatever its runs."""
    return PASS.c.workload.in_(
        sa.select(WORKLOAD_TOKEN.c.hash).where(WORKLOAD_TOKEN.c.identity == identity)
    )


def of_delegation(name: str) -> sa.ColumnElement[bool]:
    """The passes that were given under the delegation of this name."""
    return PASS.c.workload.in_(
        sa.select(WORKLOAD_TOKEN.c.hash).where(WORKLOAD_TOKEN.c.delegation_name == name)
    )
