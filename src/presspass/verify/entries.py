"""Entries of the ledger, read strictly: of each kind that a press writes exactly its members.

The kinds and members are those of docs/reference/ledger-entries.md. A kind that is not among them is told apart from
a malformed entry: it may be newer than this program. Texts that name what others chose (a door, a target) may be any.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from presspass.core.digests import JsonObject, parse_canonical
from presspass.core.ledger.tiles import ENTRY_BYTES_MAX
from presspass.core.limits import FILES_PER_RELEASE_MAX, PEOPLE_PER_ROSTER_MAX
from presspass.core.statement import ReleaseFile
from presspass.core.strict import Members
from presspass.verify.proof import Entry

_WHAT: Final = "ledger entry"
_DIGITS: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Line:
    """What an entry says. `at`: Unix seconds; `statement`: its digest, "" where the kind names none; `what`: of
    asked, admitted and narrowing; `target`: of a narrowing; `id`: of a narrowing, made or cleared; `known`: whether
    this program knows the kind (if not, nothing but kind and space was read).
    """

    kind: str
    at: int = 0
    statement: str = ""
    files: tuple[ReleaseFile, ...] = ()
    what: str = ""
    target: str = ""
    id: str = ""
    known: bool = True


def read_entry(data: bytes, space: str) -> Line:
    """Reads one; refuses with `statement.malformed` (or `proof.invalid`) what no press of this `space` writes."""
    members = Members(parse_canonical(data, bytes_max=ENTRY_BYTES_MAX, what=_WHAT), _WHAT)
    kind = members.name("kind")
    members.choice("space", (space,))
    if kind == "verified":
        entry = Entry.from_bytes(data)
        return Line(kind, entry.verified_at, entry.statement, entry.files)
    read = _READERS.get(kind)
    if read is None:
        return Line(kind, known=False)
    line = Line(kind, members.integer("at"), **read(members))
    members.done()
    return line


def _statement(members: Members) -> JsonObject:
    return {"statement": members.sha256("statement")}


def _admitted(members: Members) -> JsonObject:
    _people(members)
    return {"what": members.name("what"), **_statement(members)}


def _approved(members: Members) -> JsonObject:
    members.sha256_or_empty("review")
    _people(members)
    if members.has("standing"):
        members.sha256("standing")
        members.boolean("chosen")
        members.text("chance")
    return _statement(members)


def _intent(members: Members) -> JsonObject:
    files = members.items("files", ReleaseFile.from_json, count_max=FILES_PER_RELEASE_MAX)
    return {"files": files, **_statement(members)}


def _ended(members: Members) -> JsonObject:
    members.name("code")
    return _statement(members)


def _narrowing(members: Members) -> JsonObject:
    what = members.name("what")
    _texts(members, "by", "source")
    target, id = _any_text(members, "target"), _any_text(members, "id")
    return {"what": what, "target": target, "id": id}


def _cleared(members: Members) -> JsonObject:
    return {"id": _any_text(members, "id"), **_statement(members)}


def _asked(members: Members) -> JsonObject:
    return {"what": members.name("what"), **_statement(members)}


def _signed(members: Members) -> JsonObject:
    members.name("by", empty=True)
    members.name("key")
    return _statement(members)


def _read_afterwards(members: Members) -> JsonObject:
    _people(members)
    return _statement(members)


def _workload(members: Members) -> JsonObject:
    members.sha256("token")
    named = ("state", "code", "publisher_statement", "delegation", "run", "workflow", "person")
    _texts(members, *filter(members.has, named))
    return {}


def _exchange(members: Members) -> JsonObject:
    members.sha256("token")
    return {}


def _refused_at_gateway(members: Members) -> JsonObject:
    members.name("door")
    members.name("code")
    about = members.text("about", empty=True)
    if about and not _DIGITS.fullmatch(about):
        members.refuse("has no 16 hex digits in 'about'")
    return {}


def _left_out(members: Members) -> JsonObject:
    members.name("why")
    members.integer("count", low=1)
    return {}


_READERS: Final[dict[str, Callable[[Members], JsonObject]]] = {
    "genesis": _statement,
    "recovery-asked": _statement,
    "credential": _statement,
    "asked": _asked,
    "signed": _signed,
    "admitted": _admitted,
    "approved": _approved,
    "intent": _intent,
    "read-afterwards": _read_afterwards,
    **dict.fromkeys(("rejected", "expired", "stale", "failed", "refused", "not-yet"), _ended),
    "narrowing": _narrowing,
    "cleared": _cleared,
    "workload": _workload,
    "exchange": _exchange,
    "refused-at-gateway": _refused_at_gateway,
    "left-out": _left_out,
}
KINDS: Final = frozenset({*_READERS, "verified"})


def _people(members: Members) -> None:
    def read(item: object) -> str:
        return Members({"id": item}, "list of people").name("id")

    members.items("by", read, count_max=PEOPLE_PER_ROSTER_MAX)


def _texts(members: Members, *names: str) -> None:
    for name in names:
        _any_text(members, name)


def _any_text(members: Members, name: str) -> str:
    value = members.take(name)
    if not isinstance(value, str):
        members.refuse(f"has no text in {name!r}")
    return value
