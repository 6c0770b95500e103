"""What stands before every public door: who really asked, by which address, and whether that door is behind it.

Forwarding headers are believed of `trusted_proxies` alone; of anybody else they are taken out, so that nothing behind
this can believe them by mistake. Where uploads have a host of their own, each host serves its own doors: pages, and
with them passkeys and the view cookie, are never served by the name that every build job talks to.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request

from presspass.core.errors import Code, Refusal
from presspass.core.limits import FORWARDED_HOPS_MAX
from presspass.gateway import console
from presspass.gateway.gate import Gate
from presspass.gateway.http import AsgiApp, Receive, Scope, Send, header, reply
from presspass.gateway.problems import refusal_answer, status_of

_PROTO, _HOST, _FOR = b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-for"
_FORWARDING: Final = frozenset(
    {_PROTO, _HOST, _FOR, b"forwarded", b"x-forwarded-port", b"x-real-ip"}
)
#: What people look at in a browser. All else is asked by tools, and served at both addresses but for uploads.
_PAGES: Final = ("/r/", "/q/", "/sign-in/")
_PAGE: Final = frozenset({"/", "/c", "/enrol", "/sign-in", "/device", "/people"})
#: Doors for package clients: uploads and the exchange of identities for passes.
_DOORS: Final = ("/pypi/", "/npm/", "/-/", "/_/oidc/", "/.well-known/pytp", "/token", "/revoke")


class Front:
    """An ASGI application before another one."""

    def __init__(self, gate: Gate, app: AsgiApp) -> None:
        self._gate = gate
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._resolve(scope)
            self._check(scope)
        except Refusal as refusal:
            self._gate.events.told(refusal, "front")
            await self._say(refusal, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _say(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        if not console.wants_page(Request(scope)):
            await reply(send, refusal_answer(refusal, close=True, one_text=True))
            return
        status, code = status_of(refusal), refusal.code.value
        page: Any = console.error_page(status, refusal.message, refusal.hint, code)
        await page(scope, receive, send)

    def _resolve(self, scope: Scope) -> None:
        """Puts in place of `client`, `scheme` and `host` what a trusted proxy says, and takes its headers out."""
        headers = scope["headers"]
        if not any(name in _FORWARDING for name, _value in headers):
            return
        if self._trusts(_address(scope)):
            client = self._client(header(scope, _FOR))
            if client:
                scope["client"] = (client, 0)
            scheme = header(scope, _PROTO).strip().lower()
            if scheme in ("http", "https"):
                scope["scheme"] = scheme
                scope["presspass.forwarded"] = True
            host = header(scope, _HOST).strip()
            if host:
                headers[:] = [(n, v) for n, v in headers if n != b"host"]
                headers.append((b"host", host.encode("latin-1")))
        headers[:] = [(name, value) for name, value in headers if name not in _FORWARDING]

    def _client(self, hops: str) -> str:
        """The last address that no trusted proxy wrote of itself: what stands before it anybody may have written."""
        for hop in reversed(hops.split(",")[-FORWARDED_HOPS_MAX:]):
            address = hop.strip()
            if not _is_address(address):
                return ""
            if not self._trusts(address):
                return address
        return ""

    def _trusts(self, address: str) -> bool:
        if not self._gate.trusted_proxies or not _is_address(address):
            return False
        found = ipaddress.ip_address(address)
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._gate.trusted_proxies)

    def _check(self, scope: Scope) -> None:
        path = scope["path"]
        is_door = path.startswith(_DOORS)
        if is_door and scope.get("presspass.forwarded") and scope["scheme"] == "http":
            raise Refusal(
                Code.REQUEST_UNSUPPORTED,
                "This came to the gate's proxy without TLS, and with it whatever token it carried.",
                f"Use {self._gate.upload_site}, and have that token revoked.",
            )
        uploads = self._gate.upload_origin
        if not uploads or uploads == (pages := self._gate.site[0]):
            return
        host = _host_name(header(scope, b"host"))
        is_page = path in _PAGE or path.startswith(_PAGES)
        consoles = {_host_of(one) for one in self._gate.console_origins}
        if host not in {*consoles, _host_of(uploads)}:
            raise _wrong_host("This gate does not answer to that name.", pages, uploads)
        if is_page and host not in consoles:
            raise _wrong_host("Pages are not served at this address.", pages, uploads)
        if is_door and host != _host_of(uploads):
            raise _wrong_host("Nothing is uploaded at this address.", pages, uploads)


def _wrong_host(message: str, pages: str, uploads: str) -> Refusal:
    hint = f"Pages are at {pages}/, uploads at {uploads}/pypi/UPSTREAM/legacy/."
    return Refusal(Code.REQUEST_WRONG_HOST, message, hint)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _host_of(origin: str) -> str:
    return urlsplit(origin).hostname or ""


def _host_name(value: str) -> str:
    """The host of a Host header, without its port, in lower case; "" where it is none (RFC 9110 section 7.2)."""
    try:
        return urlsplit(f"//{value}").hostname or ""
    except ValueError:
        return ""
