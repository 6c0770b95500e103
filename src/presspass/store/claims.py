"""Who works on what, where several processes share a schema: one at a time, for as long as the process lives.

An advisory lock of the server (PostgreSQL documentation, section "Advisory Locks") on a connection of its own: it ends
with the claim, or with the process that had it, whichever comes first. It keeps work from being done twice; nothing
that must not happen twice may rest on it alone. A SQLite file has one writing process, and every claim is granted.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from presspass.core.errors import Fault
from presspass.store import postgresql
from presspass.store.address import Place, Server


class Claims:
    """Claims in the schema of `place`. Safe to use from several threads: each claim has a connection of its own."""

    def __init__(self, place: Place) -> None:
        self._schema = place.schema if isinstance(place, Server) else ""
        self._engine: Engine | None = (
            postgresql.open_engine(place) if isinstance(place, Server) else None
        )

    @contextlib.contextmanager
    def take(self, name: str) -> Iterator[bool]:
        """Whether `name` is ours until the context ends. Fault("store.unreachable") when it cannot be asked."""
        if self._engine is None:
            yield True
            return
        key = _key(f"{self._schema}\n{name}")
        try:
            connection = self._engine.connect()
            granted = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({key})").scalar_one()
        except DBAPIError as error:
            raise Fault(
                "store.unreachable", f"The database cannot be reached: {error.orig}", retryable=True
            ) from None
        try:
            yield bool(granted)
        finally:
            with contextlib.suppress(SQLAlchemyError):
                if granted:
                    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({key})")
            connection.close()

    def close(self) -> None:
        """Ends every claim that is left."""
        if self._engine is not None:
            self._engine.dispose()


def _key(name: str) -> int:
    """64 bits, signed, as the server takes them."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
