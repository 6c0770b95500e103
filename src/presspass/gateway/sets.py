"""Which set a file belongs to: the rules of arriving, closing and withdrawing.

1. Of each version at each upstream at most one set is alive; the first file opens it.
2. The same file again is the same answer, whatever the state: nothing is changed by sending twice.
3. A name in a living set keeps its bytes; other bytes under it are refused, so what an approver looks at never changes.
4. Only an open set takes files, and only from the person who opened it (that person cannot approve it), or by the
   very pass that opened it. A closed set never opens again. A pass that has opened a set fills no other.
5. What was rejected stays rejected, by its bytes. Other bytes of a version that never went out may open a new set.
6. A version that went out takes nothing more.

`decide` is these rules; the rest reads and writes the rows around it, in one transaction each.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import SETTLED, State, may_move
from presspass.core.limits import FILES_PER_RELEASE_MAX
from presspass.gateway import passes
from presspass.gateway.tokens import Right
from presspass.store.database import Prepared
from presspass.store.gateway_tables import RELEASE, RELEASE_FILE

_WENT_OUT: Final = frozenset({State.PUBLISHED, State.VERIFIED, State.REVOKED})
_NEW_VERSION: Final = "Release it under a new version."


@dataclass(frozen=True, slots=True)
class Offer:
    """A file that has arrived whole: what it is, and by whose right. `note`: what was said with it, for people."""

    right: Right
    project: str
    version: str
    filename: str
    sha256: str
    size: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class FileSet:
    """One set as the rules see it. `files`: name to SHA-256; `live`: not settled."""

    id: str
    state: State
    live: bool
    person: str
    right: str
    workload: str
    code: str
    reason: str
    files: dict[str, str] = field(default_factory=dict)

    @property
    def went_out(self) -> bool:
        return self.state in _WENT_OUT


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a file stands now. `known`: it had come before."""

    release: str
    state: State
    known: bool


class Elsewhere(Enum):
    """Where a file belongs, when not into a set that is there."""

    NEW = "a new set"
    PUBLISHED = "published before this database was made"


def decide(
    sets: Sequence[FileSet], published: Mapping[str, str], offer: Offer, page: str
) -> FileSet | Elsewhere:
    """The set that `offer` belongs to; or a refusal.

    `sets`: all of this version, newest first; `published`: what the press has sent of it (name to SHA-256); `page`:
    address of release pages, "…/r/".
    """
    living = next((one for one in sets if one.live), None)
    return (
        _of_finished(sets, published, offer, page)
        if living is None
        else _of_living(living, offer, page)
    )


def _of_living(living: FileSet, offer: Offer, page: str) -> FileSet:
    known = living.files.get(offer.filename)
    see = f"See {page}{living.id}"
    if known == offer.sha256:
        return living
    if known is not None:
        raise Refusal(
            Code.RELEASE_OTHER_BYTES,
            f"{offer.filename} was uploaded before with other bytes, and these stay.",
            f"{see}; withdraw that release first (presspass withdraw {page}{living.id}), or use a new version.",
        )
    if living.state is not State.OPEN:
        raise Refusal(
            Code.RELEASE_SET_CLOSED,
            f"The files of {offer.project} {offer.version} are complete; the set is closed and stays so.",
            f"{_NEW_VERSION} {see}",
        )
    if living.workload or offer.right.workload:
        if living.right != offer.right.hash:
            raise Refusal(
                Code.RELEASE_SET_CLOSED,
                f"Another run is uploading {offer.project} {offer.version}; a set is filled by one pass alone.",
                see,
            )
    elif living.person != offer.right.person:
        raise Refusal(
            Code.RELEASE_SET_CLOSED,
            f"Somebody else is uploading {offer.project} {offer.version}; a set has one requester.",
            see,
        )
    if len(living.files) >= FILES_PER_RELEASE_MAX:
        raise Refusal(
            Code.REQUEST_TOO_LARGE, f"A release has at most {FILES_PER_RELEASE_MAX} files.", see
        )
    return living


def _of_finished(
    sets: Sequence[FileSet], published: Mapping[str, str], offer: Offer, page: str
) -> FileSet | Elsewhere:
    """Rules 5 and 6: nothing of this version is alive."""
    gone = next((one for one in sets if one.went_out), None)
    sent = {**(gone.files if gone else {}), **published}
    known = sent.get(offer.filename)
    # A release that failed half-way may have left some of its files at the registry: it may be completed, not changed.
    unfinished = bool(sets) and sets[0].state is State.FAILED
    revoked = gone is not None and gone.state is State.REVOKED
    if sent and (revoked or (known != offer.sha256 and not (unfinished and known is None))):
        raise Refusal(
            Code.RELEASE_ALREADY_PUBLISHED,
            f"{offer.project} {offer.version} {'was revoked' if revoked else 'is published'}; "
            "it takes no other files.",
            _NEW_VERSION + (f" See {page}{gone.id}" if gone else ""),
        )
    if sent and not unfinished:
        known_here = gone is not None and gone.files.get(offer.filename) == offer.sha256
        return gone if gone and known_here else Elsewhere.PUBLISHED
    for one in sets:
        if one.state is State.REJECTED and one.files.get(offer.filename) == offer.sha256:
            raise Refusal(
                Code.RELEASE_REJECTED,
                f"These very bytes of {offer.filename} were rejected: {one.reason or one.code}",
                f"See {page}{one.id}",
            )
    return Elsewhere.NEW


_SETS = Prepared(
    sa.select(
        RELEASE.c.id,
        RELEASE.c.state,
        RELEASE.c.live,
        RELEASE.c.requester,
        RELEASE.c.token_hash,
        RELEASE.c.workload,
        RELEASE.c.code,
        RELEASE.c.reason,
        RELEASE_FILE.c.filename,
        RELEASE_FILE.c.sha256,
    )
    .select_from(RELEASE.outerjoin(RELEASE_FILE, RELEASE_FILE.c.release == RELEASE.c.id))
    .where(
        RELEASE.c.upstream == sa.bindparam("upstream"),
        RELEASE.c.project == sa.bindparam("project"),
        RELEASE.c.version == sa.bindparam("version"),
    )
    .order_by(RELEASE.c.opened_ms.desc(), RELEASE.c.id)
)
_OPENED = (
    *("id", "upstream", "project", "version", "requester", "token_hash", "state", "live"),
    *("workload", "note", "code", "reason", "opened_ms", "touched_ms", "updated_ms"),
)
_ADDED = ("release", "filename", "sha256", "size", "uploaded_ms")
_OPEN = Prepared(sa.insert(RELEASE).values({name: sa.bindparam(name) for name in _OPENED}))
_ADD = Prepared(sa.insert(RELEASE_FILE).values({name: sa.bindparam(name) for name in _ADDED}))
_TOUCH = Prepared(
    sa.update(RELEASE)
    .where(RELEASE.c.id == sa.bindparam("the_id"))
    .values(touched_ms=sa.bindparam("now"), updated_ms=sa.bindparam("now"))
)


def sets_of(connection: Connection, upstream: str, project: str, version: str) -> list[FileSet]:
    """Every set of this version, newest first."""
    rows = _SETS.rows(connection, upstream=upstream, project=project, version=version)
    return _grouped(rows)


def _grouped(rows: Iterable[tuple[Any, ...]]) -> list[FileSet]:
    found: dict[str, FileSet] = {}
    for release, state, live, requester, right, workload, code, reason, filename, sha256 in rows:
        one = found.get(release)
        if one is None:
            one = FileSet(
                release, State(state), live == 1, requester, right, workload, code, reason
            )
            found[release] = one
        if filename is not None:
            one.files[filename] = sha256
    return list(found.values())


def place(
    connection: Connection, offer: Offer, published: Mapping[str, str], page: str, now_ms: int
) -> Placed:
    """Puts the file where it belongs, in the writer's transaction. Its blob must be durable already."""
    right = offer.right
    sets = sets_of(connection, right.upstream, offer.project, offer.version)
    target = decide(sets, published, offer, page)
    if target is Elsewhere.PUBLISHED:
        return Placed("", State.VERIFIED, known=True)
    if isinstance(target, FileSet) and offer.filename in target.files:
        return Placed(target.id, target.state, known=True)
    if right.release and (target is Elsewhere.NEW or target.id != right.release):
        raise Refusal(
            Code.PASS_SPENT,
            f"This pass has opened a set of its own; it opens no other one for {offer.project} {offer.version}.",
            f"See {page}{right.release}",
        )
    if isinstance(target, FileSet):
        release = target.id
        _TOUCH.run(connection, the_id=release, now=now_ms)
        if offer.note:
            _say(connection, release, offer.note)
    else:
        release = _open_set(connection, offer, now_ms)
        if right.workload:
            passes.bind(connection, right, offer.project, offer.version, release)
    _ADD.run(
        connection,
        release=release,
        filename=offer.filename,
        sha256=offer.sha256,
        size=offer.size,
        uploaded_ms=now_ms,
    )
    return Placed(release, State.OPEN, known=False)


def _open_set(connection: Connection, offer: Offer, now_ms: int) -> str:
    release = new_release_id()
    right = offer.right
    _OPEN.run(
        connection,
        id=release,
        upstream=right.upstream,
        project=offer.project,
        version=offer.version,
        requester=right.person,
        token_hash=right.hash,
        state=State.OPEN.value,
        live=1,
        workload=right.workload,
        note=offer.note,
        code="",
        reason="",
        opened_ms=now_ms,
        touched_ms=now_ms,
        updated_ms=now_ms,
    )
    return release


def _say(connection: Connection, release: str, note: str) -> None:
    """The first note of a set stays: what people have read does not change under them."""
    silent = sa.and_(RELEASE.c.id == release, RELEASE.c.note == "")
    connection.execute(sa.update(RELEASE).where(silent).values(note=note))


def new_release_id() -> str:
    """160 random bits in base32: knowing it is what opens the release's page."""
    return base64.b32encode(secrets.token_bytes(20)).decode("ascii").lower()


def advance(
    connection: Connection, release: str, old: State, new: State, now_ms: int, **more: object
) -> bool:
    """Moves a release from `old` to `new` if it still is `old`; says whether it did. `more`: further columns.

    This is the only place that changes a state; a settled set stops being the living one of its version.
    """
    if not may_move(old, new):
        raise Refusal(
            Code.RELEASE_WRONG_STATE, f"A release that is {old.value} cannot become {new.value}."
        )
    values = {"state": new.value, "updated_ms": now_ms, **more}
    if new in SETTLED:
        values["live"] = None
    done = connection.execute(
        sa.update(RELEASE)
        .where(RELEASE.c.id == release, RELEASE.c.state == old.value)
        .values(**values)
    )
    return done.rowcount == 1


def close_quiet(connection: Connection, quiet_s: int, now_ms: int) -> list[str]:
    """Closes every open set into which nothing has come for `quiet_s` seconds; their ids."""
    due = connection.execute(
        sa.select(RELEASE.c.id).where(
            RELEASE.c.state == State.OPEN.value, RELEASE.c.touched_ms <= now_ms - quiet_s * 1000
        )
    ).scalars()
    return [
        one
        for one in due.all()
        if advance(connection, one, State.OPEN, State.STAGED, now_ms, closed_ms=now_ms)
    ]


def quiet_is_due(connection: Connection, quiet_s: int, now_ms: int) -> bool:
    """Whether `close_quiet` would close anything: a read, so that an idle gate writes nothing."""
    query = sa.select(RELEASE.c.id).where(
        RELEASE.c.state == State.OPEN.value, RELEASE.c.touched_ms <= now_ms - quiet_s * 1000
    )
    return connection.execute(query.limit(1)).first() is not None


def close_set(connection: Connection, release: str, right: Right, now_ms: int) -> State:
    """`POST …/close`: the requester says that the set is complete. Closing a closed set changes nothing."""
    state = _owned(connection, release, right)
    if state is State.OPEN:
        advance(connection, release, State.OPEN, State.STAGED, now_ms, closed_ms=now_ms)
        return State.STAGED
    return state


def close_if_open(connection: Connection, release: str, now_ms: int) -> None:
    """Closes the set of a pass that has ended: nobody else could add to it."""
    state = connection.execute(sa.select(RELEASE.c.state).where(RELEASE.c.id == release)).scalar()
    if state == State.OPEN.value:
        advance(connection, release, State.OPEN, State.STAGED, now_ms, closed_ms=now_ms)


def withdraw(connection: Connection, release: str, right: Right, now_ms: int) -> State:
    """`POST …/withdraw`: the requester takes the set back, unless it has begun to go out."""
    state = _owned(connection, release, right)
    if state is not State.WITHDRAWN:
        advance(
            connection,
            release,
            state,
            State.WITHDRAWN,
            now_ms,
            reason="Withdrawn by the requester.",
        )
    return State.WITHDRAWN


def _owned(connection: Connection, release: str, right: Right) -> State:
    row = connection.execute(sa.select(RELEASE).where(RELEASE.c.id == release)).first()
    if row is None:
        raise Refusal(Code.REQUEST_NOT_FOUND, "There is no release with this id.")
    theirs = (row.upstream, row.project, row.requester)
    by_pass = bool(row.workload or right.workload)
    if theirs != (right.upstream, right.project, right.person) or (
        by_pass and row.token_hash != right.hash
    ):
        raise Refusal(
            Code.TOKEN_WRONG_PROJECT,
            "This upload token is not the requester's of this release.",
            "Use the token that the files were uploaded with.",
        )
    return State(row.state)
