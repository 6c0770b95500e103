"""Questions to the databases of a home on this host, read-only; what cannot be read is a fault with a next step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError

from presspass.core.errors import Fault
from presspass.services.config import read_config
from presspass.services.places import places
from presspass.store.address import Place
from presspass.store.database import Reader

T = TypeVar("T")


def ask_journal(home: Path, question: Callable[[Connection], T]) -> T:
    """Asks the press's journal on one consistent snapshot."""
    return _ask(places(home, read_config(home), "press").journal, question)


def ask_gateway(home: Path, question: Callable[[Connection], T]) -> T:
    """Asks the gateway's database on one consistent snapshot."""
    return _ask(places(home, read_config(home), "press").gateway, question)


def _ask(place: Place, question: Callable[[Connection], T]) -> T:
    reader = Reader(place)
    try:
        return reader.run(question)
    except DatabaseError as error:
        raise Fault(
            "store.unreadable",
            f"{place} cannot be read: {error.orig}. Run this as the user of the press; `presspass doctor` says more.",
            retryable=False,
        ) from None
    finally:
        reader.close()
