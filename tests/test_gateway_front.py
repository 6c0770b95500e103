"""Two addresses on one listener, and forwarding headers: whom they are believed of, and what they change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import pytest

import packages
from gateway_world import PROJECT, HttpAnswer, World, basic, form
from presspass.gateway.front import Front
from presspass.gateway.gate import Gate
from presspass.services.config import Config, Listen

CONSOLE, UPLOADS = "gate.example", "upload.example"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    listen = Listen(port=0, trusted_proxies=("127.0.0.1",))
    config = Config(f"https://{CONSOLE}", listen=listen, upload_url=f"https://{UPLOADS}")
    with World(tmp_path_factory.mktemp("front") / "home", config=config) as world:
        yield world


def upload(world: World, path: Path, **headers: str) -> HttpAnswer:
    content_type, body = form(path.name, path.read_bytes())
    more = {"Content-Type": content_type, "Authorization": basic(world.token()), **headers}
    return world.ask("POST", "/pypi/private/legacy/", body, **more)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return packages.make_wheel(tmp_path, PROJECT, "1.0")


# two addresses


def test_each_host_serves_its_own_doors(world: World, wheel: Path) -> None:
    page = world.ask("GET", "/enrol", Host=CONSOLE, Accept="text/html")
    assert page.status == 200 and b"<html" in page.body
    staged = upload(world, wheel, Host=UPLOADS)
    assert staged.status == 202, staged.body
    assert staged.json["url"].startswith(f"https://{CONSOLE}/r/")
    for host in (CONSOLE, UPLOADS, f"{UPLOADS.upper()}:443"):
        assert world.ask("GET", f"/api/v1/releases/{staged.json['id']}", Host=host).status == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/r/abc", "/q/abc", "/enrol", "/c?token=x", "/sign-in", "/sign-in/keys", "/people"],
)
def test_a_page_on_the_upload_host_is_told_where_pages_are(world: World, path: str) -> None:
    answer = world.ask("GET", path, Host=UPLOADS)
    assert (answer.status, answer.code) == (404, "request.wrong-host")
    assert f"Pages are at https://{CONSOLE}/" in answer.reason
    assert f"Pages are at https://{CONSOLE}/" in answer.json["detail"]


def test_a_browser_on_the_upload_host_gets_a_page_that_says_so(world: World) -> None:
    answer = world.ask("GET", "/r/abc", Host=UPLOADS, Accept="text/html")
    assert answer.status == 404 and f"https://{CONSOLE}/".encode() in answer.body
    assert answer.headers["content-type"].startswith("text/html")


def test_an_upload_on_the_console_host_is_told_where_uploads_go(world: World, wheel: Path) -> None:
    answer = upload(world, wheel, Host=CONSOLE)
    assert (answer.status, answer.code) == (404, "request.wrong-host")
    assert f"uploads at https://{UPLOADS}/pypi/UPSTREAM/legacy/" in answer.reason


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "other.example", f"{CONSOLE}.other.example", "[", ""]
)
@pytest.mark.parametrize("path", ["/enrol", "/pypi/private/legacy/", "/api/v1/status"])
def test_a_name_that_is_not_the_gates_is_not_answered(world: World, host: str, path: str) -> None:
    answer = world.ask("GET", path, Host=host)
    assert (answer.status, answer.code) == (404, "request.wrong-host")


# forwarding headers


def test_a_trusted_proxy_may_name_the_host(world: World) -> None:
    answer = world.ask("GET", "/enrol", Host="127.0.0.1", **{"X-Forwarded-Host": CONSOLE})
    assert answer.status == 200


def test_an_upload_that_reached_the_proxy_without_tls_is_refused_and_says_why(
    world: World, wheel: Path
) -> None:
    answer = upload(world, wheel, Host=UPLOADS, **{"X-Forwarded-Proto": "http"})
    assert (answer.status, answer.code) == (410, "request.unsupported")
    assert "have that token revoked" in answer.reason
    assert upload(world, wheel, Host=UPLOADS, **{"X-Forwarded-Proto": "https"}).status == 202


@dataclass
class Told:
    """Stands where the application stands: keeps what it is given."""

    scopes: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, _receive: Any, _send: Any) -> None:
        self.scopes.append(scope)


class OpenGate:
    """As much of a gate as the front looks at where there is one address."""

    upload_origin = ""
    upload_site = "https://gate.example"

    def __init__(self, *proxies: str) -> None:
        self.trusted_proxies = tuple(map(ip_network, proxies))


def behind_front(peer: str, headers: dict[str, str], *proxies: str) -> dict[str, Any]:
    """The scope that arrives behind the front."""
    told = Told()
    front = Front(cast(Gate, OpenGate(*proxies)), told)
    scope = {
        "type": "http",
        "path": "/enrol",
        "scheme": "http",
        "client": (peer, 5),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(front(scope, cast(Any, None), cast(Any, None)))
    return told.scopes[0]


FORWARDED = {
    "Host": "inside",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "gate.example",
    "Forwarded": "for=203.0.113.9",
}


@pytest.mark.parametrize("proxies", [(), ("10.0.0.0/8",)])
def test_a_stranger_says_nothing_by_forwarding_headers(proxies: tuple[str, ...]) -> None:
    scope = behind_front("192.0.2.1", FORWARDED, *proxies)
    assert scope["client"] == ("192.0.2.1", 5) and scope["scheme"] == "http"
    assert scope["headers"] == [(b"host", b"inside")]


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_a_trusted_proxy_says_who_asked_and_how(peer: str) -> None:
    scope = behind_front(peer, FORWARDED, "10.0.0.0/8")
    assert scope["client"] == ("203.0.113.9", 0) and scope["scheme"] == "https"
    assert scope["headers"] == [(b"host", b"gate.example")]


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ("198.51.100.7, 203.0.113.9", "203.0.113.9"),  # the first is what the client wrote
        ("203.0.113.9, 10.9.9.9", "203.0.113.9"),  # two proxies of ours
        ("10.9.9.9", "10.0.0.1"),
        ("203.0.113.9, nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        (", ".join(["198.51.100.7"] * 50 + ["203.0.113.9"]), "203.0.113.9"),
    ],
)
def test_the_client_is_the_last_address_that_is_not_a_proxy_of_ours(hops: str, client: str) -> None:
    scope = behind_front("10.0.0.1", {"X-Forwarded-For": hops}, "10.0.0.0/8")
    assert scope["client"][0] == client


def test_a_scheme_that_is_none_changes_nothing() -> None:
    scope = behind_front("10.0.0.1", {"X-Forwarded-Proto": "javascript"}, "10.0.0.0/8")
    assert scope["scheme"] == "http"
