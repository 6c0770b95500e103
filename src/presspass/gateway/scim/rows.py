"""Users and groups of the identity provider as rows: read, written and counted, in the caller's transaction."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from scim2_models import InvalidValueException, Meta, TooManyException, UniquenessException
from sqlalchemy.engine import Connection

from presspass.core.limits import (
    SCIM_GROUPS_MAX,
    SCIM_MEMBERS_MAX,
    SCIM_TEXT_CHARS_MAX,
    SCIM_USERS_MAX,
)
from presspass.gateway.scim.schemas import (
    NOTE,
    ROOT,
    Account,
    Group,
    GroupMember,
    GroupMembership,
    Standing,
)
from presspass.store.gateway_tables import SCIM_GROUP, SCIM_MEMBER, SCIM_USER

U, G, M = SCIM_USER.c, SCIM_GROUP.c, SCIM_MEMBER.c


@dataclass(frozen=True, slots=True)
class Known:
    """A user's row, as far as it says who is meant and whether they are there."""

    id: str
    user_name: str
    external_id: str | None
    active: bool | None


@dataclass(frozen=True, slots=True)
class Held:
    """What the gate holds about the person behind a user: the id, and that of the stop, "" where there is none."""

    person: str = ""
    stop: str = ""


def compared(user_name: str) -> str:
    """A user name as it is compared: providers change its case at will."""
    return user_name.casefold()


def known(row: sa.Row[Any]) -> Known:
    """A row of SCIM_USER as a value."""
    active = None if row.active is None else bool(row.active)
    return Known(row.id, row.user_name, row.external_id, active)


def find_user(connection: Connection, id: str) -> sa.Row[Any] | None:
    """The row with this id."""
    return connection.execute(sa.select(SCIM_USER).where(U.id == id)).first()


def find_group(connection: Connection, id: str) -> sa.Row[Any] | None:
    """The row with this id."""
    return connection.execute(sa.select(SCIM_GROUP).where(G.id == id)).first()


def users(
    connection: Connection,
    rows: Iterable[sa.Row[Any]],
    origin: str,
    held: Mapping[str, Held],
) -> list[Any]:
    """The resources of these rows. `held`: by the user's id, what the gate holds about whom."""
    rows = list(rows)
    groups: dict[str, list[GroupMembership]] = {}
    found = connection.execute(
        sa.select(M.user_id, G.id, G.display_name)
        .join(SCIM_GROUP, G.id == M.group_id)
        .where(M.user_id.in_([row.id for row in rows]))
        .order_by(G.id)
    )
    for user, group, name in found:
        groups.setdefault(user, []).append(GroupMembership(value=group, display=name))
    made = []
    for row in rows:
        account = Account(
            id=row.id,
            user_name=row.user_name,
            external_id=row.external_id,
            display_name=row.display_name,
            active=None if row.active is None else bool(row.active),
            groups=groups.get(row.id),
            meta=_meta("User", f"{origin}{ROOT}/Users/{row.id}", row),
        )
        about = held.get(row.id, Held())
        if about.person:
            stopped = bool(about.stop)
            account[Standing] = Standing(
                person=about.person,
                stopped=stopped,
                stop=about.stop or None,
                note=NOTE if stopped else None,
            )
        made.append(account)
    return made


def groups(connection: Connection, rows: Iterable[sa.Row[Any]], origin: str) -> list[Group]:
    """The resources of these rows, with their members."""
    rows = list(rows)
    members: dict[str, list[GroupMember]] = {}
    found = connection.execute(
        sa.select(M.group_id, M.user_id)
        .where(M.group_id.in_([row.id for row in rows]))
        .order_by(M.user_id)
    )
    for group, user in found:
        ref: Any = f"{origin}{ROOT}/Users/{user}"
        members.setdefault(group, []).append(GroupMember(value=user, ref=ref, type="User"))
    return [
        Group(
            id=row.id,
            external_id=row.external_id,
            display_name=row.display_name,
            members=members.get(row.id),
            meta=_meta("Group", f"{origin}{ROOT}/Groups/{row.id}", row),
        )
        for row in rows
    ]


def add_user(connection: Connection, account: Any, now_ms: int) -> str:
    """A new row; its id. Refuses a name that is there (409 uniqueness), and more than there may be."""
    _require_room(connection, SCIM_USER, SCIM_USERS_MAX)
    id = secrets.token_hex(16)
    _require_free(connection, account.user_name, id)
    row = {"id": id, "created_ms": now_ms, **_user_values(account, now_ms)}
    connection.execute(sa.insert(SCIM_USER), row)
    return id


def change_user(connection: Connection, id: str, account: Any, now_ms: int) -> None:
    """Writes what is there now over what was."""
    _require_free(connection, account.user_name, id)
    change = sa.update(SCIM_USER).where(U.id == id)
    connection.execute(change.values(**_user_values(account, now_ms)))


def remove_user(connection: Connection, id: str) -> None:
    """Takes a user out, of the groups too."""
    connection.execute(sa.delete(SCIM_MEMBER).where(M.user_id == id))
    connection.execute(sa.delete(SCIM_USER).where(U.id == id))


def add_group(connection: Connection, group: Group, now_ms: int) -> str:
    """A new row with its members; its id."""
    _require_room(connection, SCIM_GROUP, SCIM_GROUPS_MAX)
    id = secrets.token_hex(16)
    row = {"id": id, "created_ms": now_ms, **_group_values(group, now_ms)}
    connection.execute(sa.insert(SCIM_GROUP), row)
    _set_members(connection, id, _members_of(connection, group))
    return id


def change_group(connection: Connection, id: str, group: Group, now_ms: int) -> None:
    """Writes what is there now over what was, members too."""
    change = sa.update(SCIM_GROUP).where(G.id == id)
    connection.execute(change.values(**_group_values(group, now_ms)))
    _set_members(connection, id, _members_of(connection, group))


def remove_group(connection: Connection, id: str) -> None:
    """Takes a group out."""
    connection.execute(sa.delete(SCIM_MEMBER).where(M.group_id == id))
    connection.execute(sa.delete(SCIM_GROUP).where(G.id == id))


def members_of_named(connection: Connection, name: str) -> frozenset[str]:
    """Ids of the users in any group of this display name."""
    if not name:
        return frozenset()
    rows = connection.execute(
        sa.select(M.user_id, G.display_name).join(SCIM_GROUP, G.id == M.group_id)
    )
    return frozenset(user for user, called in rows if compared(called) == compared(name))


def _user_values(account: Any, now_ms: int) -> dict[str, object]:
    return {
        "user_key": compared(account.user_name),
        "user_name": account.user_name,
        "external_id": _fits(account.external_id),
        "display_name": account.display_name,
        "active": None if account.active is None else int(account.active),
        "updated_ms": now_ms,
    }


def _group_values(group: Group, now_ms: int) -> dict[str, object]:
    return {
        "external_id": _fits(group.external_id),
        "display_name": group.display_name,
        "updated_ms": now_ms,
    }


def _fits(text: str | None) -> str | None:
    if text is not None and len(text) > SCIM_TEXT_CHARS_MAX:
        raise InvalidValueException(
            detail=f"externalId has more than {SCIM_TEXT_CHARS_MAX} characters"
        )
    return text


def _members_of(connection: Connection, group: Group) -> frozenset[str]:
    wanted = set()
    for member in group.members or []:
        if member.type not in (None, "User") or not member.value:
            raise InvalidValueException(detail="A member is a user, by its id in 'value'")
        wanted.add(member.value)
    if len(wanted) > SCIM_MEMBERS_MAX:
        raise TooManyException(detail=f"A group has at most {SCIM_MEMBERS_MAX} members")
    there = set(connection.execute(sa.select(U.id).where(U.id.in_(wanted))).scalars())
    if wanted - there:
        raise InvalidValueException(detail=f"There is no user {min(wanted - there)[:64]!r}")
    return frozenset(wanted)


def _set_members(connection: Connection, group: str, wanted: frozenset[str]) -> None:
    before = set(connection.execute(sa.select(M.user_id).where(M.group_id == group)).scalars())
    gone = before - wanted
    if gone:
        connection.execute(
            sa.delete(SCIM_MEMBER).where(M.group_id == group, M.user_id.in_(sorted(gone)))
        )
    new = [{"group_id": group, "user_id": user} for user in sorted(wanted - before)]
    if new:
        connection.execute(sa.insert(SCIM_MEMBER), new)


def _require_free(connection: Connection, user_name: str, id: str) -> None:
    taken = sa.select(U.id).where(U.user_key == compared(user_name), U.id != id)
    if connection.execute(taken).first() is not None:
        raise UniquenessException(detail="A user of this userName is there already")


def _require_room(connection: Connection, table: sa.Table, count_max: int) -> None:
    count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    if count >= count_max:
        raise TooManyException(detail=f"This gate keeps at most {count_max} of these")


def _meta(kind: str, location: str, row: sa.Row[Any]) -> Meta:
    return Meta(
        resource_type=kind,
        created=_time(row.created_ms),
        last_modified=_time(row.updated_ms),
        location=location,
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
