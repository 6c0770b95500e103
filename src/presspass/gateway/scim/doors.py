"""SCIM over HTTP: the routes, who may ask, and errors in SCIM's own form (RFC 7644 section 3.12).

Every change is one transaction: the row, and what follows from it. A request that is refused has changed nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from pydantic import ValidationError
from scim2_models import (
    ConflictException,
    Context,
    Error,
    InvalidFilterException,
    InvalidSyntaxException,
    ListResponse,
    MutabilityException,
    NotFoundException,
    NotImplementedException,
    PatchOp,
    ResponseParameters,
    SCIMException,
    SearchRequest,
    TooManyException,
)
from scim2_models.path import CompareOperator, Comparison
from sqlalchemy.engine import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.routing import Route

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    SCIM_BODY_BYTES_MAX,
    SCIM_FILTER_CHARS_MAX,
    SCIM_FILTER_TERMS_MAX,
    SCIM_OPERATIONS_MAX,
    SCIM_PAGE_MAX,
)
from presspass.gateway.api import Reply
from presspass.gateway.gate import Gate
from presspass.gateway.http import read_body, read_json
from presspass.gateway.problems import Answer, status_of
from presspass.gateway.scim import keys, rows
from presspass.gateway.scim.keys import Door
from presspass.gateway.scim.persons import Persons
from presspass.gateway.scim.schemas import POLICY, ROOT, Account, Group, provider
from presspass.store.gateway_tables import SCIM_GROUP, SCIM_USER

_TYPE: Final = "application/scim+json"
_JOINS: Final = re.compile(r"\b(?:and|or|not)\b", re.IGNORECASE)
_GONE: Final = "deleted by the identity provider (SCIM)"
_INACTIVE: Final = "deactivated by the identity provider (SCIM)"
_OUT_OF_GROUP: Final = "out of the required group of the identity provider (SCIM)"
_TRIES: Final = 5
_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request of the provider. `id`: of the resource in its path, "" where there is none."""

    door: Door
    id: str
    query: Mapping[str, str]
    body: bytes

    def json(self) -> JsonObject:
        """The body; refuses with `invalidSyntax`."""
        try:
            return read_json(self.body)
        except Refusal as refusal:
            raise InvalidSyntaxException(detail=refusal.message) from None

    @property
    def shown(self) -> ResponseParameters[Any]:
        """Which attributes are wanted in the answer."""
        names = ("attributes", "excludedAttributes")
        wanted = {name: self.query[name] for name in names if name in self.query}
        return ResponseParameters[Account].model_validate(wanted, scim_policy=POLICY)


_Handler: TypeAlias = Callable[[_Asked], Answer]


class Scim:
    """The handlers. `issuer`: of the sign-in provider, "" where there is none."""

    def __init__(self, gate: Gate, issuer: str) -> None:
        self._gate = gate
        self._persons = Persons(gate, issuer)

    def routes(self) -> list[Route]:
        """Every address under ROOT, those that nothing is at, too."""
        served: list[tuple[str, dict[str, _Handler]]] = [
            ("/ServiceProviderConfig", {"GET": self.config}),
            ("/ResourceTypes", {"GET": self.resource_types}),
            ("/ResourceTypes/{id}", {"GET": self.resource_types}),
            ("/Schemas", {"GET": self.schemas}),
            ("/Schemas/{id}", {"GET": self.schemas}),
            ("/Users", {"GET": self.users, "POST": self.add_user}),
            ("/Users/.search", {"POST": self.users}),
            (
                "/Users/{id}",
                {
                    "GET": self.user,
                    "PUT": self.replace_user,
                    "PATCH": self.patch_user,
                    "DELETE": self.remove_user,
                },
            ),
            ("/Groups", {"GET": self.groups, "POST": self.add_group}),
            ("/Groups/.search", {"POST": self.groups}),
            (
                "/Groups/{id}",
                {
                    "GET": self.group,
                    "PUT": self.replace_group,
                    "PATCH": self.patch_group,
                    "DELETE": self.remove_group,
                },
            ),
            ("/.search", {"POST": self.everything}),
            ("/Bulk", {"POST": self.unsupported}),
            ("/Me", {"GET": self.unsupported}),
        ]
        found = [self._route(path, handlers) for path, handlers in served]
        return [*found, self._route("", {}), self._route("/{rest:path}", {})]

    def _route(self, path: str, handlers: dict[str, _Handler]) -> Route:
        async def endpoint(request: HttpRequest) -> Any:
            try:
                door = await run_in_threadpool(self._door, request)
                if not handlers:
                    raise NotFoundException(detail="There is nothing at this address")
                handler = handlers.get(request.method)
                if handler is None:
                    return Reply(error(405, detail="This cannot be asked here"))
                body = await read_body(request.receive, SCIM_BODY_BYTES_MAX)
                id = str(request.path_params.get("id", ""))
                asked = _Asked(door, id, dict(request.query_params), body)
                return Reply(await run_in_threadpool(_answered, handler, asked))
            except Refusal as refusal:
                self._gate.events.told(refusal, "scim")
                return Reply(refused(refusal))
            except SCIMException as exception:
                return Reply(of_exception(exception))

        return Route(ROOT + path, endpoint, methods=_METHODS)

    def _door(self, request: HttpRequest) -> Door:
        """Who asks, before anything of what is asked is read; refuses with `scim.token-invalid`."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        with self._gate.writer.read() as connection:
            found = keys.find(connection, secret.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise Refusal(
                Code.SCIM_TOKEN,
                "This takes the bearer token of the identity provider, and this is none that holds.",
                "The operator makes one: presspass scim token.",
            )
        self._gate.journal.refresh()
        return found

    @property
    def _origin(self) -> str:
        return self._gate.site[0]

    # --- what is served

    def config(self, asked: _Asked) -> Answer:
        """GET /ServiceProviderConfig"""
        found = provider(self._origin).config
        assert found is not None  # the description above has one
        return _one(found, asked, Context.RESOURCE_QUERY_RESPONSE)

    def resource_types(self, asked: _Asked) -> Answer:
        """GET /ResourceTypes[/name]"""
        return _discovered(provider(self._origin).resource_types, asked)

    def schemas(self, asked: _Asked) -> Answer:
        """GET /Schemas[/urn]"""
        return _discovered(provider(self._origin).schemas, asked)

    def unsupported(self, _asked: _Asked) -> Answer:
        """Bulk operations and /Me: 501."""
        raise NotImplementedException(detail="This gate does not do this")

    # --- users

    def users(self, asked: _Asked) -> Answer:
        """GET /Users, POST /Users/.search"""
        request = _search(SearchRequest[Account], asked)
        with self._gate.writer.read() as connection:
            found = self._user_models(connection, _where(request, SCIM_USER))
        return _page(ListResponse[Account], found, request)

    def user(self, asked: _Asked) -> Answer:
        """GET /Users/{id}"""
        with self._gate.writer.read() as connection:
            return self._show_user(connection, asked, Context.RESOURCE_QUERY_RESPONSE)

    def add_user(self, asked: _Asked) -> Answer:
        """POST /Users"""
        account = Account.model_validate(
            asked.json(), scim_ctx=Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY
        )

        def work(connection: Connection) -> Answer:
            id = rows.add_user(connection, account, self._gate.clock())
            self._follow(connection, id, [])
            made = _Asked(asked.door, id, asked.query, b"")
            return self._show_user(connection, made, Context.RESOURCE_CREATION_RESPONSE, 201)

        return self._gate.writer.run(work)

    def replace_user(self, asked: _Asked) -> Answer:
        """PUT /Users/{id}"""
        account = Account.model_validate(
            asked.json(), scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST, scim_policy=POLICY
        )

        def change(before: Any) -> Any:
            account.replace(before)
            return account

        return self._change_user(asked, change, Context.RESOURCE_REPLACEMENT_RESPONSE)

    def patch_user(self, asked: _Asked) -> Answer:
        """PATCH /Users/{id}"""
        patch = _patch(PatchOp[Account], asked)

        def change(account: Any) -> Any:
            patch.patch(account, POLICY)
            return account

        return self._change_user(asked, change, Context.RESOURCE_PATCH_RESPONSE)

    def _change_user(self, asked: _Asked, change: Callable[[Any], Any], context: Context) -> Answer:
        def prepare(connection: Connection) -> tuple[sa.Row[Any], Any]:
            row = _there(rows.find_user(connection, asked.id))
            return row, self._user_models(connection, SCIM_USER.c.id == asked.id)[0]

        def write(row: sa.Row[Any], account: Any, connection: Connection) -> Answer | None:
            if _there(rows.find_user(connection, asked.id)) != row:
                return None
            rows.change_user(connection, asked.id, account, self._later(row))
            self._follow(connection, asked.id, [rows.known(row)])
            return self._show_user(connection, asked, context)

        return self._change(prepare, change, write)

    def _change(
        self,
        prepare: Callable[[Connection], tuple[sa.Row[Any], Any]],
        change: Callable[[Any], Any],
        write: Callable[[sa.Row[Any], Any, Connection], Answer | None],
    ) -> Answer:
        """Works out what a resource becomes before the writer's turn, which others wait for; anew where it has changed
        meanwhile.
        """
        for _ in range(_TRIES):
            with self._gate.writer.read() as connection:
                row, before = prepare(connection)
            after = change(before)
            answer = self._gate.writer.run(partial(write, row, after))
            if answer is not None:
                return answer
        raise ConflictException(detail="Somebody else is changing this at the same time; try again")

    def _later(self, row: sa.Row[Any]) -> int:
        """The time of a change; never that of the one before, so that each is seen."""
        return max(self._gate.clock(), int(row.updated_ms) + 1)

    def remove_user(self, asked: _Asked) -> Answer:
        """DELETE /Users/{id}"""

        def work(connection: Connection) -> Answer:
            before = rows.known(_there(rows.find_user(connection, asked.id)))
            rows.remove_user(connection, asked.id)
            self._persons.leave(connection, [before], _GONE)
            return Answer(204, content_type=_TYPE)

        return self._gate.writer.run(work)

    def _follow(self, connection: Connection, id: str, before: list[rows.Known]) -> None:
        """Who is inactive now has left: whom the row means now, and whom it meant before."""
        after = rows.known(_there(rows.find_user(connection, id)))
        if after.active is False:
            self._persons.leave(connection, [*before, after], _INACTIVE)

    def _show_user(
        self, connection: Connection, asked: _Asked, context: Context, status: int = 200
    ) -> Answer:
        found = self._user_models(connection, SCIM_USER.c.id == asked.id)
        return _one(_there(found[0] if found else None), asked, context, status)

    def _user_models(self, connection: Connection, where: sa.ColumnElement[bool]) -> list[Any]:
        query = sa.select(SCIM_USER).where(where)
        found = connection.execute(query.order_by(SCIM_USER.c.created_ms, SCIM_USER.c.id)).all()
        held = self._persons.held(connection, map(rows.known, found))
        return rows.users(connection, found, self._origin, held)

    # --- groups

    def groups(self, asked: _Asked) -> Answer:
        """GET /Groups, POST /Groups/.search"""
        request = _search(SearchRequest[Group], asked)
        with self._gate.writer.read() as connection:
            found = self._group_models(connection, _where(request, SCIM_GROUP))
        return _page(ListResponse[Group], found, request)

    def group(self, asked: _Asked) -> Answer:
        """GET /Groups/{id}"""
        with self._gate.writer.read() as connection:
            return self._show_group(connection, asked, Context.RESOURCE_QUERY_RESPONSE)

    def add_group(self, asked: _Asked) -> Answer:
        """POST /Groups"""
        group = Group.model_validate(
            asked.json(), scim_ctx=Context.RESOURCE_CREATION_REQUEST, scim_policy=POLICY
        )

        def work(connection: Connection) -> Answer:
            id = rows.add_group(connection, group, self._gate.clock())
            made = _Asked(asked.door, id, asked.query, b"")
            return self._show_group(connection, made, Context.RESOURCE_CREATION_RESPONSE, 201)

        return self._gate.writer.run(work)

    def replace_group(self, asked: _Asked) -> Answer:
        """PUT /Groups/{id}"""
        group = Group.model_validate(
            asked.json(), scim_ctx=Context.RESOURCE_REPLACEMENT_REQUEST, scim_policy=POLICY
        )

        def change(before: Group) -> Group:
            group.replace(before)
            return group

        return self._change_group(asked, change, Context.RESOURCE_REPLACEMENT_RESPONSE)

    def patch_group(self, asked: _Asked) -> Answer:
        """PATCH /Groups/{id}"""
        patch = _patch(PatchOp[Group], asked)

        def change(group: Group) -> Group:
            patch.patch(group, POLICY)
            return group

        return self._change_group(asked, change, Context.RESOURCE_PATCH_RESPONSE)

    def _change_group(
        self, asked: _Asked, change: Callable[[Group], Group], context: Context
    ) -> Answer:
        def prepare(connection: Connection) -> tuple[sa.Row[Any], Group]:
            row = _there(rows.find_group(connection, asked.id))
            return row, self._group_models(connection, SCIM_GROUP.c.id == asked.id)[0]

        def write(row: sa.Row[Any], group: Group, connection: Connection) -> Answer | None:
            if _there(rows.find_group(connection, asked.id)) != row:
                return None
            required = _is_required(asked, row.display_name)
            if required and not _is_required(asked, group.display_name or ""):
                raise _required()
            before = rows.members_of_named(connection, asked.door.required_group)
            rows.change_group(connection, asked.id, group, self._later(row))
            self._leave_group(connection, asked, before)
            return self._show_group(connection, asked, context)

        return self._change(prepare, change, write)

    def remove_group(self, asked: _Asked) -> Answer:
        """DELETE /Groups/{id}"""

        def work(connection: Connection) -> Answer:
            row = _there(rows.find_group(connection, asked.id))
            if _is_required(asked, row.display_name):
                raise _required()
            rows.remove_group(connection, asked.id)
            return Answer(204, content_type=_TYPE)

        return self._gate.writer.run(work)

    def _leave_group(self, connection: Connection, asked: _Asked, before: frozenset[str]) -> None:
        """Whoever was in the required group and is in it no more has left."""
        lost = before - rows.members_of_named(connection, asked.door.required_group)
        found = [rows.find_user(connection, id) for id in sorted(lost)]
        self._persons.leave(connection, [rows.known(one) for one in found if one], _OUT_OF_GROUP)

    def _show_group(
        self, connection: Connection, asked: _Asked, context: Context, status: int = 200
    ) -> Answer:
        found = self._group_models(connection, SCIM_GROUP.c.id == asked.id)
        return _one(_there(found[0] if found else None), asked, context, status)

    def _group_models(self, connection: Connection, where: sa.ColumnElement[bool]) -> list[Group]:
        query = sa.select(SCIM_GROUP).where(where)
        found = connection.execute(query.order_by(SCIM_GROUP.c.created_ms, SCIM_GROUP.c.id)).all()
        return rows.groups(connection, found, self._origin)

    # --- both

    def everything(self, asked: _Asked) -> Answer:
        """POST /.search: users and groups."""
        request = _search(SearchRequest[Account | Group], asked)
        with self._gate.writer.read() as connection:
            found = self._user_models(connection, sa.true())
            found += self._group_models(connection, sa.true())
        return _page(ListResponse[Account | Group], found, request)


def _answered(handler: _Handler, asked: _Asked) -> Answer:
    try:
        return handler(asked)
    except ValidationError as invalid:
        first = Error.from_validation_errors(invalid)[0]
        return _error_answer(first)


def _there(found: Any) -> Any:
    if found is None:
        raise NotFoundException(detail="There is no resource of this id")
    return found


def _is_required(asked: _Asked, name: str) -> bool:
    wanted = asked.door.required_group
    return bool(wanted) and rows.compared(name) == rows.compared(wanted)


def _required() -> MutabilityException:
    return MutabilityException(
        detail="This group is required of everybody here: without it all would leave at once. Take single members out, "
        "or have the operator require none first: presspass scim token --required-group ''"
    )


# --- reading requests


def _search(kind: Any, asked: _Asked) -> Any:
    value: dict[str, Any] = asked.json() if asked.body else dict(asked.query)
    text = value.get("filter")
    if isinstance(text, str):
        terms = len(_JOINS.findall(text)) + 1
        if len(text) > SCIM_FILTER_CHARS_MAX or terms > SCIM_FILTER_TERMS_MAX:
            raise InvalidFilterException(
                detail=f"A filter has at most {SCIM_FILTER_CHARS_MAX} characters and "
                f"{SCIM_FILTER_TERMS_MAX} terms here"
            )
    return kind.model_validate(value, scim_ctx=Context.SEARCH_REQUEST, scim_policy=POLICY)


def _patch(kind: Any, asked: _Asked) -> Any:
    value = asked.json()
    operations = next((value[name] for name in value if name.lower() == "operations"), None)
    if isinstance(operations, list) and len(operations) > SCIM_OPERATIONS_MAX:
        raise TooManyException(detail=f"A PATCH has at most {SCIM_OPERATIONS_MAX} operations here")
    return kind.model_validate(value, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY)


def _where(request: Any, table: sa.Table) -> sa.ColumnElement[bool]:
    """What the database can choose by itself: one comparison by a name that has an index. The filter does the rest."""
    node: object = request.filter.ast if request.filter is not None else None
    if not isinstance(node, Comparison) or node.op is not CompareOperator.eq:
        return sa.true()
    name = node.attr_path.attr.lower() if node.attr_path.sub_attr is None else ""
    if name == "id":
        return sa.and_(table.c.id == str(node.value))
    if name == "username" and table is SCIM_USER:
        return sa.and_(SCIM_USER.c.user_key == rows.compared(str(node.value)))
    return sa.true()


# --- answers


def _page(kind: Any, found: list[Any], request: Any) -> Answer:
    if request.filter is not None:
        found = [one for one in found if request.filter.match(one)]
    found = request.sort(found)
    start = request.start_index or 1
    count = min(SCIM_PAGE_MAX, SCIM_PAGE_MAX if request.count is None else request.count)
    shown = found[start - 1 : start - 1 + count]
    answer = kind(
        total_results=len(found), start_index=start, items_per_page=len(shown), resources=shown
    )
    value = answer.model_dump(
        scim_ctx=Context.SEARCH_RESPONSE, response_parameters=request, scim_policy=POLICY
    )
    return _json(200, value)


def _discovered(found: Iterable[Any], asked: _Asked) -> Answer:
    """A list of what describes the service, or one of it; filters are refused there (RFC 7644 section 4)."""
    if asked.id:
        one = next((one for one in found if str(one.id) == asked.id), None)
        return _one(_there(one), asked, Context.RESOURCE_QUERY_RESPONSE)
    if "filter" in asked.query:
        return error(403, detail="What describes the service is not filtered")
    shown = [one.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE) for one in found]
    value = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": len(shown),
        "startIndex": 1,
        "itemsPerPage": len(shown),
        "Resources": shown,
    }
    return _json(200, value)


def _one(found: Any, asked: _Asked, context: Context, status: int = 200) -> Answer:
    value = found.model_dump(scim_ctx=context, response_parameters=asked.shown, scim_policy=POLICY)
    location = value.get("meta", {}).get("location")
    headers = (("location", str(location)),) if location else ()
    return _json(status, value, headers)


def _json(
    status: int, value: Mapping[str, Any], headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    return Answer(status, json.dumps(value).encode(), _TYPE, headers=headers)


def error(status: int, *, detail: str, scim_type: str | None = None) -> Answer:
    """An error in SCIM's form."""
    return _error_answer(Error(status=status, scim_type=scim_type, detail=detail))


def of_exception(exception: SCIMException) -> Answer:
    """What the library or we refuse."""
    return _error_answer(exception.to_error())


def refused(refusal: Refusal) -> Answer:
    """A refusal of the gate's own; its code stands at the end of the detail."""
    status = 401 if refusal.code is Code.SCIM_TOKEN else status_of(refusal)
    detail = f"{refusal.message} {refusal.hint} [{refusal.code.value}]"
    answer = error(status, detail=detail)
    challenge = (("www-authenticate", 'Bearer realm="Presspass"'),) if status == 401 else ()
    return Answer(status, answer.body, _TYPE, headers=challenge, close=status in (401, 413))


def _error_answer(found: Error) -> Answer:
    return _json(found.status or 400, found.model_dump())
