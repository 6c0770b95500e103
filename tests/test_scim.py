"""SCIM 2.0 at a real gateway: what the standard's own tester says, and that it narrows and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import CheckResult, Status, check_server

from gateway_world import HttpAnswer
from presspass.core.limits import (
    SCIM_BODY_BYTES_MAX,
    SCIM_FILTER_CHARS_MAX,
    SCIM_FILTER_TERMS_MAX,
    SCIM_MEMBERS_MAX,
    SCIM_OPERATIONS_MAX,
    SCIM_PAGE_MAX,
    SCIM_TEXT_CHARS_MAX,
)
from presspass.store import gateway_tables as g
from presspass.store import journal_tables as j
from sign_in_world import Browser, HostileProvider, SignInWorld

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
STANDING = "urn:presspass:scim:schemas:1.0:Standing"


class Idp:
    """The identity provider's side: a token, and requests."""

    def __init__(self, world: SignInWorld, **asked: str) -> None:
        self.world = world
        answer = world.control("POST", "/scim-tokens", dict(asked))
        assert answer.status == 201, answer.body
        self.token = answer.json["token"]

    def ask(
        self, method: str, path: str, value: dict[str, Any] | bytes | None = None
    ) -> HttpAnswer:
        headers = {"Content-Type": "application/scim+json", "Authorization": f"Bearer {self.token}"}
        return self.world.ask(method, f"/scim/v2{path}", value, **headers)

    def add(self, user_name: str, **more: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/Users", {"schemas": [USER], "userName": user_name, **more})
        assert answer.status == 201, answer.body
        return dict(answer.json)

    def patch(self, path: str, *operations: dict[str, Any]) -> HttpAnswer:
        return self.ask("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})

    def group(self, name: str, *users: str) -> dict[str, Any]:
        members = [{"value": one} for one in users]
        value = {"schemas": [GROUP], "displayName": name, "members": members}
        answer = self.ask("POST", "/Groups", value)
        assert answer.status == 201, answer.body
        return dict(answer.json)


@pytest.fixture(scope="module")
def provider() -> Iterator[HostileProvider]:
    with HostileProvider() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, provider: HostileProvider) -> Iterator[SignInWorld]:
    provider.claims = {}
    with SignInWorld(tmp_path / "home", provider) as running:
        yield running


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, provider: HostileProvider
) -> Iterator[SignInWorld]:
    """A gate for what changes nobody."""
    with SignInWorld(tmp_path_factory.mktemp("scim") / "home", provider) as running:
        yield running


def stops(world: SignInWorld) -> list[tuple[str, str, str]]:
    rows = world.rows(sa.select(g.STOP.c.what, g.STOP.c.target, g.STOP.c.source))
    return [tuple(row) for row in rows]


# --- the standard -----------------------------------------------------------------------------------------------------


def test_every_check_of_the_scim_tester_passes(shared: SignInWorld) -> None:
    idp = Idp(shared)
    headers = {"Authorization": f"Bearer {idp.token}"}
    with httpx2.Client(base_url=f"{shared.url}/scim/v2", headers=headers, timeout=30) as client:
        results = check_server(SyncSCIMClient(client))
    wrong = [
        f"{one.title} {one.resource_type}: {one.status.name} {one.reason}"
        for one in results
        if one.status is not Status.SUCCESS and not writes_the_standing(one)
    ]
    assert wrong == []
    assert sum(one.status is Status.SUCCESS for one in results) > 40
    assert sum(map(writes_the_standing, results)) == 2
    assert stops(shared) == []


def writes_the_standing(result: CheckResult) -> bool:
    """The one exception, in check_add_attribute and check_replace_attribute: the tester writes each attribute that is
    not read-only, and takes an extension for one attribute. Every attribute of ours is read-only, so what it sends is
    an empty object, and it wants that back for somebody of whom the gate has nothing to say. RFC 7644 section 3.5.2
    has a read-only attribute left as it is; RFC 7643 section 2.5 has no value for what is not there.
    """
    titles = ("check_add_attribute", "check_replace_attribute")
    about = isinstance(result.data, dict) and result.data.get("urn") == STANDING
    return about and result.title in titles and result.status is Status.ERROR


# --- it narrows -------------------------------------------------------------------------------------------------------


def test_making_replacing_and_activating_users_gives_nobody_anything(world: SignInWorld) -> None:
    idp = Idp(world)
    tables = (g.SESSION, g.ENROLMENT, g.ENROLMENT_LINK, g.SIGN_IN_LINK, g.REQUEST, g.STOP, g.PASS)
    before = [world.count(table) for table in tables]
    user = idp.add("grace@corp.example", externalId="subject-of-grace", active=True)
    stranger = idp.add("nobody@corp.example", externalId="subject-of-nobody", active=True)
    idp.group("role:admin", user["id"], stranger["id"])
    value = {"schemas": [USER], "userName": "root", "active": True, "roles": [{"value": "admin"}]}
    assert idp.ask("PUT", f"/Users/{stranger['id']}", value).status == 200
    assert [world.count(table) for table in tables] == before
    assert Browser(world).sign_in("nobody").code == "sign-in.unknown-person"
    assert user[STANDING] == {"person": "grace", "stopped": False}
    assert STANDING not in stranger


LEAVE: dict[str, Any] = {
    "a patch by path": ("PATCH", [{"op": "replace", "path": "active", "value": False}]),
    "a patch without path": ("PATCH", [{"op": "Replace", "value": {"active": False}}]),
    "a patch in words": ("PATCH", [{"op": "Replace", "path": "active", "value": "False"}]),
    "a replacement": ("PUT", {"schemas": [USER], "userName": "grace", "active": False}),
    "a deletion": ("DELETE", None),
}


@pytest.mark.parametrize("how", LEAVE)
def test_whom_the_provider_deactivates_has_left_when_the_answer_comes(
    world: SignInWorld, how: str
) -> None:
    idp, browser = Idp(world), Browser(world)
    browser.sign_in("grace")
    token = world.token(person="grace")
    user = idp.add("grace", externalId="subject-of-grace", active=True)
    method, value = LEAVE[how]
    path = f"/Users/{user['id']}"
    answer = idp.patch(path, *value) if method == "PATCH" else idp.ask(method, path, value)
    assert answer.status == (204 if method == "DELETE" else 200), answer.body
    assert stops(world) == [("person", "grace", "scim")]
    assert browser.who == {}
    assert world.upload(token, "greet-1.0-py3-none-any.whl", b"x").code == "token.invalid"
    assert world.count(g.REQUEST) == 1, "the others are asked for the roster without"


def test_who_is_made_inactive_has_left_too(world: SignInWorld) -> None:
    idp = Idp(world)
    user = idp.add("grace", externalId="subject-of-grace", active=False)
    assert stops(world) == [("person", "grace", "scim")]
    assert user[STANDING]["stopped"] is True


def test_reactivation_restores_nothing_and_the_answer_says_so(world: SignInWorld) -> None:
    idp = Idp(world)
    user = idp.add("grace", externalId="subject-of-grace", active=False)
    answer = idp.patch(f"/Users/{user['id']}", {"op": "replace", "path": "active", "value": True})
    assert answer.json["active"] is True
    standing = answer.json[STANDING]
    (stop,) = world.rows(sa.select(g.STOP.c.id))
    assert (standing["person"], standing["stopped"], standing["stop"]) == ("grace", True, stop.id)
    assert "restores nothing" in standing["note"]
    assert Browser(world).sign_in("grace").code == "identity.revoked"
    assert idp.ask("DELETE", f"/Users/{user['id']}").status == 204
    again = idp.add("grace", externalId="subject-of-grace", active=True)
    assert again[STANDING]["stop"] == stop.id
    assert stops(world) == [("person", "grace", "scim")]
    # A quorum clears it, and then it is over here as well.
    row = {"id": stop.id, "what": "person", "target": "grace", "by": "", "reason": ""}
    row |= {"source": "scim", "seen_ms": 1, "cleared_by": "8" * 64}
    world.journal.write(sa.insert(j.NARROWING).values(row))
    assert idp.ask("GET", f"/Users/{again['id']}").json[STANDING]["stopped"] is False
    assert Browser(world).sign_in("grace").status == 303


def test_what_the_gate_says_of_a_person_cannot_be_written(world: SignInWorld) -> None:
    idp = Idp(world)
    user = idp.add("grace", externalId="subject-of-grace", active=False)
    path = f"/Users/{user['id']}"
    lie: dict[str, Any] = {"stopped": False, "stop": "", "person": "ada"}
    value: dict[str, Any] = {
        "schemas": [USER, STANDING],
        "userName": "x",
        "externalId": "subject-of-grace",
    }
    value |= {"active": True, STANDING: lie}
    assert idp.ask("PUT", path, value).json[STANDING]["stopped"] is True
    answer = idp.patch(path, {"op": "replace", "path": f"{STANDING}:stopped", "value": False})
    assert (answer.status, answer.json["scimType"]) == (400, "mutability")
    assert idp.ask("GET", path).json[STANDING]["stopped"] is True


def test_losing_the_required_group_is_leaving_and_another_group_is_nothing(
    world: SignInWorld,
) -> None:
    idp = Idp(world, required_group="Maintainers")
    grace = idp.add("grace", externalId="subject-of-grace", active=True)
    rita = idp.add("rita", externalId="subject-of-rita", active=True)
    required = idp.group("maintainers", grace["id"], rita["id"])
    other = idp.group("Lunch", grace["id"], rita["id"])
    assert idp.patch(f"/Groups/{other['id']}", {"op": "remove", "path": "members"}).status == 200
    assert stops(world) == []
    gone = {"op": "remove", "path": f'members[value eq "{grace["id"]}"]'}
    assert idp.patch(f"/Groups/{required['id']}", gone).status == 200
    assert stops(world) == [("person", "grace", "scim")]
    value = {"schemas": [GROUP], "displayName": "Maintainers", "members": []}
    assert idp.ask("PUT", f"/Groups/{required['id']}", value).status == 200
    assert stops(world)[1:] == [("person", "rita", "scim")]


def test_the_required_group_is_neither_deleted_nor_renamed(world: SignInWorld) -> None:
    idp = Idp(world, required_group="Maintainers")
    grace = idp.add("grace", externalId="subject-of-grace", active=True)
    path = f"/Groups/{idp.group('Maintainers', grace['id'])['id']}"
    answers = [
        idp.ask("DELETE", path),
        idp.patch(path, {"op": "replace", "path": "displayName", "value": "Others"}),
        idp.ask("PUT", path, {"schemas": [GROUP], "displayName": "Others"}),
    ]
    for answer in answers:
        assert (answer.status, answer.json["scimType"]) == (400, "mutability")
    assert stops(world) == []
    assert len(idp.ask("GET", path).json["members"]) == 1


@pytest.mark.parametrize("attribute", ["userName", "externalId"])
def test_a_person_is_meant_by_an_explicit_id_too_in_any_case(
    world: SignInWorld, attribute: str
) -> None:
    ids = [*world.journal.details["otto"].forge_ids, "scim:Otto@Corp.Example"]
    change = {"person": "otto", "forge_ids": ids}
    asked = world.control("POST", "/people/changes", change)
    assert asked.status == 201
    from dataclasses import replace

    from presspass.core.statement import RosterBody, Statement

    request = world.ask("GET", f"/api/v1/requests/{asked.json['digest']}").json
    wanted = Statement.from_bytes(request["statement"].encode()).body_as(RosterBody).roster
    idp = Idp(world)
    names = {"userName": "otto.other"} | {attribute: "OTTO@corp.example"}
    idp.add(names.pop("userName"), **names, active=False)
    assert stops(world) == [], "what nobody has approved yet means nobody"
    details = world.journal.details["otto"]
    world.journal.details["otto"] = replace(details, forge_ids=tuple(ids))
    world.journal.set_roster(world.journal.people)
    world.journal.keep_details()
    assert wanted.person("otto") is not None
    (row,) = world.rows(sa.select(g.SCIM_USER))
    answer = idp.patch(f"/Users/{row.id}", {"op": "replace", "path": "active", "value": False})
    assert answer.json[STANDING]["person"] == "otto"
    assert stops(world) == [("person", "otto", "scim")]


def test_a_user_that_is_renamed_and_deactivated_at_once_still_means_the_person(
    world: SignInWorld,
) -> None:
    idp = Idp(world)
    user = idp.add("grace", externalId="subject-of-grace", active=True)
    value = {"schemas": [USER], "userName": "x", "externalId": "somebody-else", "active": False}
    assert idp.ask("PUT", f"/Users/{user['id']}", value).status == 200
    assert stops(world) == [("person", "grace", "scim")]


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_without_the_token_nothing_is_said_and_nothing_read(world: SignInWorld) -> None:
    wrong = ["", "Bearer ppi_x", f"Basic {Idp(world).token}", "Bearer " + world.token()]
    for path in ("/Users", "/ServiceProviderConfig", "/nowhere"):
        for given in wrong:
            answer = world.ask("GET", f"/scim/v2{path}", None, Authorization=given)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "scim.token-invalid" in answer.json["detail"]


def test_a_new_token_ends_the_one_before_and_keeps_the_required_group(world: SignInWorld) -> None:
    first = Idp(world, required_group="Maintainers")
    second = Idp(world)
    assert first.ask("GET", "/Users").status == 401
    assert second.ask("GET", "/Users").status == 200
    stored = world.rows(sa.select(g.SCIM_TOKEN.c.hash, g.SCIM_TOKEN.c.required_group))
    assert [row.required_group for row in stored] == ["Maintainers"] * 2
    assert not any(second.token in row.hash for row in stored)
    assert world.control("DELETE", "/scim-tokens").json == {"ended": True}
    assert second.ask("GET", "/Users").status == 401
    assert world.control("DELETE", "/scim-tokens").json == {"ended": False}


# --- looking ----------------------------------------------------------------------------------------------------------


def test_filters_and_pages_find_what_providers_look_for(shared: SignInWorld) -> None:
    idp = Idp(shared)
    made = [idp.add(f"page-{n}", externalId=f"ext-{n}")["id"] for n in range(3)]
    group = idp.group("Pages", *made)

    def found(query: str, kind: str = "Users") -> list[str]:
        answer = idp.ask("GET", f"/{kind}?{query}")
        assert answer.status == 200, answer.body
        return [one["id"] for one in answer.json.get("Resources", [])]

    assert found("filter=userName%20eq%20%22PAGE-1%22") == [made[1]]
    assert found("filter=externalId%20eq%20%22ext-2%22") == [made[2]]
    assert found(f"filter=id%20eq%20%22{made[0]}%22") == [made[0]]
    assert found("filter=userName%20eq%20%22nobody%22") == []
    assert found("filter=displayName%20eq%20%22pages%22", "Groups") == [group["id"]]
    pages = idp.ask("GET", "/Users?filter=userName%20sw%20%22page-%22&startIndex=2&count=1").json
    assert (pages["totalResults"], pages["itemsPerPage"], pages["startIndex"]) == (3, 1, 2)
    assert [one["id"] for one in pages["Resources"]] == [made[1]]
    none = idp.ask("GET", "/Users?count=0").json
    assert none["totalResults"] >= 3 and not none.get("Resources")
    without = idp.ask("GET", f"/Groups/{group['id']}?excludedAttributes=members").json
    assert "members" not in without and without["displayName"] == "Pages"


def test_no_answer_has_more_than_a_page(world: SignInWorld) -> None:
    idp = Idp(world)
    for n in range(SCIM_PAGE_MAX + 1):
        idp.add(f"user-{n}")
    answer = idp.ask("GET", "/Users?count=1000").json
    assert answer["totalResults"] == SCIM_PAGE_MAX + 1
    assert len(answer["Resources"]) == answer["itemsPerPage"] == SCIM_PAGE_MAX


@pytest.mark.sqlite_only
def test_attributes_that_have_no_effect_are_kept_nowhere(world: SignInWorld) -> None:
    idp = Idp(world)
    idp.add("x", name={"familyName": "Hopper"}, emails=[{"value": "x@corp.example"}], title="Sir")
    data = (world.home / "gateway" / "gateway.db").read_bytes()
    data += (world.home / "gateway" / "gateway.db-wal").read_bytes()
    assert b"Hopper" not in data and b"x@corp.example" not in data


# --- what is refused --------------------------------------------------------------------------------------------------

HOSTILE: list[tuple[dict[str, Any], set[str]]] = [
    ({"op": "replace", "path": "active[", "value": False}, {"invalidPath"}),
    ({"op": "replace", "path": "id", "value": "x"}, {"mutability"}),
    ({"op": "replace", "path": "meta.location", "value": "https://x.example"}, {"mutability"}),
    ({"op": "replace", "path": "groups", "value": [{"value": "x"}]}, {"mutability"}),
    ({"op": "remove", "path": "userName"}, {"mutability", "invalidValue"}),
    ({"op": "remove"}, {"noTarget"}),
    ({"op": "drop", "path": "active"}, {"invalidValue", "invalidSyntax"}),
    ({"op": "replace", "path": "active", "value": "perhaps"}, {"invalidValue"}),
    (
        {"op": "replace", "path": "userName", "value": "x" * (SCIM_TEXT_CHARS_MAX + 1)},
        {"invalidValue"},
    ),
    ({"op": "replace", "path": "userName", "value": {"a": "b"}}, {"invalidValue"}),
    ({"op": "add", "path": "__class__.x", "value": "y"}, {"invalidPath"}),
    ({"op": "replace", "path": 7, "value": "y"}, {"invalidPath", "invalidSyntax", "invalidValue"}),
    ({"op": "replace", "path": "active", "value": None}, set()),
    ({"op": "replace", "path": "favouriteColour", "value": "red"}, set()),
]


@pytest.mark.parametrize(("operation", "kinds"), HOSTILE)
def test_a_patch_that_cannot_be_is_refused_whole(
    shared: SignInWorld, operation: dict[str, Any], kinds: set[str]
) -> None:
    idp = Idp(shared)
    user = idp.add(f"patched-{HOSTILE.index((operation, kinds))}", externalId="e", active=True)
    path = f"/Users/{user['id']}"
    named = {"op": "replace", "path": "displayName", "value": "changed"}
    answer = idp.patch(path, named, operation)
    now = idp.ask("GET", path).json
    if kinds:
        assert answer.status == 400, answer.body
        assert answer.json["scimType"] in kinds
        assert now == user
    else:
        assert answer.status == 200, answer.body
        assert now["displayName"] == "changed"
    assert stops(shared) == []


def test_what_is_too_much_is_refused_by_its_limit(shared: SignInWorld) -> None:
    idp = Idp(shared)
    user = idp.add("limits")
    path = f"/Users/{user['id']}"
    many = [{"op": "replace", "path": "displayName", "value": "x"}] * (SCIM_OPERATIONS_MAX + 1)
    answer = idp.patch(path, *many)
    assert (answer.status, answer.json["scimType"]) == (400, "tooMany")
    assert idp.patch(path, *many[1:]).status == 200
    large = idp.ask("POST", "/Users", b" " * (SCIM_BODY_BYTES_MAX + 1))
    assert large.status == 413 and "request.too-large" in large.json["detail"]
    terms = "%20or%20".join(['userName%20eq%20"x"'] * (SCIM_FILTER_TERMS_MAX + 1))
    long = 'userName%20eq%20"' + "x" * SCIM_FILTER_CHARS_MAX + '"'
    for text in (terms, long, "userName%20eq", "(((", "unknown%20eq%20%22x%22"):
        refused = idp.ask("GET", f"/Users?filter={text}".replace('"', "%22"))
        assert (refused.status, refused.json["scimType"]) == (400, "invalidFilter"), text
    deep = b'{"a":' * 50_000
    assert idp.ask("POST", "/Users", deep).json["scimType"] == "invalidSyntax"


def test_changes_that_come_at_once_lose_none_of_each_other(world: SignInWorld) -> None:
    idp = Idp(world)
    users = [idp.add(f"at-once-{n}")["id"] for n in range(16)]
    path = f"/Groups/{idp.group('At once')['id']}"

    def join(user: str) -> int:
        add = {"op": "add", "path": "members", "value": [{"value": user}]}
        while (answer := idp.patch(path, add)).status == 409:
            assert "try again" in answer.json["detail"]
        return answer.status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(join, users)) == {200}
    assert {one["value"] for one in idp.ask("GET", path).json["members"]} == set(users)


def test_a_group_has_no_more_members_than_a_roster_people(world: SignInWorld) -> None:
    idp = Idp(world)
    user = idp.add("one")
    members = [{"value": user["id"]}, *({"value": f"u-{n}"} for n in range(SCIM_MEMBERS_MAX))]
    value = {"schemas": [GROUP], "displayName": "Large", "members": members}
    answer = idp.ask("POST", "/Groups", value)
    assert (answer.status, answer.json["scimType"]) == (400, "tooMany")


def test_what_is_there_twice_or_nowhere_is_said_in_scims_words(shared: SignInWorld) -> None:
    idp = Idp(shared)
    idp.add("Twice")
    again = idp.ask("POST", "/Users", {"schemas": [USER], "userName": "tWICE"})
    assert (again.status, again.json["scimType"]) == (409, "uniqueness")
    unnamed = idp.ask("POST", "/Users", {"schemas": [USER]})
    assert unnamed.status == 400
    member = {"schemas": [GROUP], "displayName": "G", "members": [{"value": "nobody"}]}
    assert idp.ask("POST", "/Groups", member).json["scimType"] == "invalidValue"
    nested = idp.group("Inner")
    member["members"] = [{"value": nested["id"], "type": "Group"}]
    assert idp.ask("POST", "/Groups", member).json["scimType"] == "invalidValue"
    for method, path, status in (
        ("GET", "/Users" + "/nobody", 404),
        ("DELETE", "/Groups/nobody", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/Users", 405),
        ("POST", "/Bulk", 501),
        ("GET", "/Me", 501),
    ):
        answer = idp.ask(method, path)
        assert answer.status == status, (method, path, answer.body)
        assert answer.json["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert answer.json["status"] == str(status)


def test_the_command_makes_a_token_and_ends_it(world: SignInWorld) -> None:
    from presspass.cli.main import run

    home = ["--home", str(world.home)]
    assert run(["scim", "token", "--required-group", "M", *home]) == 0
    assert run(["scim", "off", *home]) == 0
    (row,) = world.rows(sa.select(g.SCIM_TOKEN))
    assert row.required_group == "M" and row.ended_ms is not None
