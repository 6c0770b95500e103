"""The routes of the console: asks for facts, makes the page, sets the headers. Reads only; nothing here decides.

Every answer carries a content policy that allows own scripts and own styles from own addresses and nothing inline.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from presspass.core.standing import bounds
from presspass.gateway.console import activity, differences, pages, plans, revoking, rulebook, text
from presspass.gateway.console.models import Deps, Situation
from presspass.verify.history import Words

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_COMMON_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(), "
    "publickey-credentials-create=(self), publickey-credentials-get=(self)",
}
PAGE_HEADERS: Final = {**_COMMON_HEADERS, "Cache-Control": "no-store"}
_ASSET_HEADERS: Final = {
    **_COMMON_HEADERS,
    "Cache-Control": "public, max-age=31536000, immutable",
}
_ASSET_TYPES: Final = {
    "console.css": "text/css",
    "approve.js": "text/javascript",
    "enrol.js": "text/javascript",
    "identity.js": "text/javascript",
    "session.js": "text/javascript",
    "live.js": "text/javascript",
    "revoke.js": "text/javascript",
    "signing.js": "text/javascript",
    "mark.svg": "image/svg+xml",
}
VIEW_COOKIE: Final = "presspass_view"
SESSION_COOKIE: Final = "presspass_session"
LEAVING_COOKIE: Final = "presspass_leaving"
_NOT_SEALED = "This gate is not sealed yet: nothing is in force."
_ROOMS: Final = (
    ("/c", "Releases"),
    ("/packages", "Packages"),
    ("/standing", "Standing"),
    ("/publishers", "Publishers"),
    ("/upstreams", "Upstreams"),
    ("/policy", "Policy"),
    ("/activity", "Activity"),
    ("/history", "History"),
)
_NOT_FOUND = (
    "There is nothing at this address. Links to requests are long: check that it was copied whole."
)


# --- rendering ----------------------------------------------------------------------------------------------------


@cache
def _assets() -> dict[str, tuple[bytes, str]]:
    """Served name (with the digest of the content, so that it may be cached for ever) to bytes and media type."""
    folder = files("presspass.gateway.console").joinpath("static")
    found = {}
    for name, media_type in _ASSET_TYPES.items():
        data = folder.joinpath(name).read_bytes()
        found[f"{hashlib.sha256(data).hexdigest()[:16]}.{name}"] = (data, media_type)
    return found


def _asset(name: str) -> str:
    return next(f"/assets/{served}" for served in _assets() if served.partition(".")[2] == name)


def _asked(**words: str | int) -> str:
    """The address of a question after the fact."""
    return f"/history?{urlencode(words)}"


def _all_seen(situation: Situation | None) -> bool:
    """Whether who looks is signed in and may see what everybody did: then pages link to it."""
    viewer = situation.viewer if situation else None
    return viewer is not None and viewer.sees_everything


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("presspass.gateway.console"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shows: tuple[Callable[..., Any], ...] = (
        *(text.visible, text.visible_code, text.visible_lines, text.exact, text.told),
        *(text.size, text.when, text.day, text.iso),
    )
    for show in shows:
        environment.filters[show.__name__] = show
    environment.filters |= {"groups": text.groups, "short": text.short, "plural": text.plural}
    environment.globals |= {
        "all_seen": _all_seen,
        "asked": _asked,
        "asset": _asset,
        "bounds": bounds,
        "narrowing_words": differences.narrowing_words,
        "is_unusual": pages.is_unusual,
        "rooms": _ROOMS,
    }
    return environment


def render(
    template: str, situation: Situation | None, status: int = 200, **context: Any
) -> Response:
    """A page. `situation` fills the banners; None where it is not known."""
    body = _templates().get_template(template).render(situation=situation, **context)
    return Response(body, status, PAGE_HEADERS, "text/html")


def wants_page(request: Request) -> bool:
    """True for a browser that navigates: it should get a page instead of problem+json."""
    return "text/html" in request.headers.get("accept", "")


def error_page(
    status: int, detail: str, hint: str = "", code: str = "", situation: Situation | None = None
) -> Response:
    """The page for browsers when an answer is a no or a failure. `detail`: one sentence; `hint`: what to do next."""
    title = HTTPStatus(status).phrase
    return render(
        "error.html",
        situation,
        status,
        title=title,
        number=status,
        detail=detail,
        hint=hint,
        code=code,
    )


def cookie_name(origin: str, name: str) -> str:
    """`__Host-` binds the cookie to this very host; browsers take it over https only."""
    return f"__Host-{name}" if origin.startswith("https:") else name


def view_token(request: Request, origin: str) -> str:
    """The view token that comes with a request, as a bearer's or in the cookie; "" for none."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return secret.strip()
    return request.cookies.get(cookie_name(origin, VIEW_COOKIE), "")


def situation_of(deps: Deps, request: Request) -> Situation:
    """What holds now, and who looks."""
    secret = request.cookies.get(cookie_name(deps.origin, SESSION_COOKIE), "")
    return replace(deps.situation(), viewer=deps.viewer(secret) if secret else None)


# --- pages --------------------------------------------------------------------------------------------------------


class Console:
    """The pages over one gateway. Handlers are plain functions: Starlette runs them in worker threads."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def release(self, request: Request) -> Response:
        """GET /r/{id}"""
        situation = situation_of(self._deps, request)
        facts = self._deps.release(request.path_params["id"])
        if facts is None:
            return error_page(404, _NOT_FOUND, situation=situation)
        page = pages.release_page(facts, situation)
        url = f"{self._deps.origin}/r/{facts.id}"
        return render("release.html", situation, page=page, origin=self._deps.origin, url=url)

    def request(self, request: Request) -> Response:
        """GET /q/{digest}"""
        situation = situation_of(self._deps, request)
        facts = self._deps.request(request.path_params["digest"])
        if facts is None:
            return error_page(404, _NOT_FOUND, situation=situation)
        url = f"{self._deps.origin}/q/{facts.digest}"
        if facts.plan is not None:
            plan = plans.plan_page(facts, facts.plan, situation)
            return render("plan.html", situation, page=plan, origin=self._deps.origin, url=url)
        page = pages.request_page(facts, situation)
        return render("request.html", situation, page=page, origin=self._deps.origin, url=url)

    def enrol(self, request: Request) -> Response:
        """GET /enrol: the secret of the link is in the fragment and never reaches this process with the page.

        Before a move of the gate it is served at the new address too, and passkeys are bound to where it is served.
        """
        coming = self._deps.next_origin
        moving = bool(coming) and request.url.hostname == urlsplit(coming).hostname
        origin = coming if moving else self._deps.origin
        return render("enrol.html", situation_of(self._deps, request), origin=origin)

    def list(self, request: Request) -> Response:
        """GET /c, for who is signed in or holds a view token; with ?token=… it first turns the token into a cookie that
        no script and no other site can use.
        """
        token = request.query_params.get("token")
        if token is not None:
            return self._admit(token)
        situation = situation_of(self._deps, request)
        viewer = situation.viewer
        if not self._may_look(request, situation):
            return self._no_view(situation)
        own = viewer.person if viewer and not viewer.sees_everything else None
        page = pages.list_page(self._deps.overview(), own)
        return render("list.html", situation, page=page)

    def revoke(self, request: Request) -> Response:
        """GET /revoke: what one person can end at once, and what has been ended."""
        situation = situation_of(self._deps, request)
        if not self._may_look(request, situation):
            return self._no_view(situation)
        found = self._deps.identities()
        if found is not None:
            found = revoking.for_viewer(found, situation.viewer)
        page = None if found is None else revoking.revoke_page(found, situation)
        url = f"{self._deps.origin}/revoke"
        return render("revoke.html", situation, page=page, origin=self._deps.origin, url=url)

    def standing(self, request: Request) -> Response:
        """GET /standing: what runs under each standing approval, for who may see everything."""
        situation = situation_of(self._deps, request)
        if (refused := self._refuse_all(request, situation)) is not None:
            return refused
        page = pages.StandingPage(self._deps.standings(), self._deps.overview().to_read)
        return render("standing.html", situation, page=page)

    def history(self, request: Request) -> Response:
        """GET /history?key=…&policy=…: what the press has carried out, for who may see everything."""
        situation = situation_of(self._deps, request)
        if (refused := self._refuse_all(request, situation)) is not None:
            return refused
        words = Words.of(request.query_params.multi_items())
        found = self._deps.history(words, request.query_params.get("further", ""))
        page = pages.history_page(found, words, situation)
        return render("history.html", situation, page.status, page=page)

    def packages(self, request: Request) -> Response:
        """GET /packages?name=…: what may be published, by name; with ?upstream=…&project=…, one package's sets."""
        situation = situation_of(self._deps, request)
        if (refused := self._refuse_all(request, situation)) is not None:
            return refused
        asked = request.query_params
        upstream, project = asked.get("upstream", ""), asked.get("project", "")
        if project:
            lines = self._deps.versions(upstream, project)
            return render(
                "package.html", situation, lines=lines, upstream=upstream, project=project
            )
        name = asked.get("name", "").strip()
        found = self._deps.packages(name, asked.get("further", ""))
        further = urlencode({"name": name, "further": found.further}) if found.further else ""
        return render("packages.html", situation, lines=found.lines, name=name, further=further)

    def in_force(self, request: Request) -> Response:
        """GET /upstreams, /publishers and /policy: what people have put in force."""
        situation = situation_of(self._deps, request)
        if (refused := self._refuse_all(request, situation)) is not None:
            return refused
        found = self._deps.in_force()
        if found is None:
            return error_page(404, _NOT_SEALED, situation=situation)
        room = request.url.path.strip("/")
        if room == "policy":
            return render("policy.html", situation, page=rulebook.policies(found))
        return render("cards.html", situation, page=rulebook.cards(room, found, situation))

    def activity(self, request: Request) -> Response:
        """GET /activity: releases, waits, signatures and refusals of the last days, drawn."""
        situation = situation_of(self._deps, request)
        if (refused := self._refuse_all(request, situation)) is not None:
            return refused
        page = activity.activity_page(self._deps.activity(), situation)
        return render("activity.html", situation, page=page)

    def _refuse_all(self, request: Request, situation: Situation) -> Response | None:
        """The answer for who may not see everything; None for who may."""
        if not self._may_look(request, situation):
            return self._no_view(situation)
        if situation.viewer is not None and not situation.viewer.sees_everything:
            hint = f"Your own releases are on {self._deps.origin}/c."
            return error_page(
                403, "Your roles do not let you see what others did.", hint, situation=situation
            )
        return None

    def _may_look(self, request: Request, situation: Situation) -> bool:
        """Whether more than single releases is for this one to see: somebody signed in, or with a view token."""
        token = view_token(request, self._deps.origin)
        return situation.viewer is not None or self._deps.view_token_until(token) is not None

    def _admit(self, token: str) -> Response:
        until_ms = self._deps.view_token_until(token)
        if until_ms is None:
            return self._no_view(self._deps.situation())
        answer = RedirectResponse("/c", 303, PAGE_HEADERS)
        answer.set_cookie(
            cookie_name(self._deps.origin, VIEW_COOKIE),
            token,
            max_age=max(1, until_ms // 1000 - int(time.time())),
            httponly=True,
            samesite="strict",
            secure=self._deps.origin.startswith("https:"),
        )
        return answer

    def _no_view(self, situation: Situation) -> Response:
        # A browser sent here by another site withholds a strict cookie on the first load: hence the link, not a loop.
        return render("no_view.html", situation, 401)


def _serve_asset(request: Request) -> Response:
    found = _assets().get(request.path_params["name"])
    if found is None:
        return error_page(404, _NOT_FOUND)
    data, media_type = found
    return Response(data, 200, _ASSET_HEADERS, media_type)


def _favicon(request: Request) -> Response:
    data, media_type = _assets()[_asset("mark.svg").removeprefix("/assets/")]
    return Response(
        data, 200, _ASSET_HEADERS | {"Cache-Control": "public, max-age=86400"}, media_type
    )


def _front(request: Request) -> Response:
    return RedirectResponse("/c", 303, PAGE_HEADERS)


def routes(deps: Deps) -> list[Route]:
    """Every address of the console."""
    console = Console(deps)
    table: list[tuple[str, Callable[[Request], Response]]] = [
        ("/", _front),
        ("/r/{id}", console.release),
        ("/q/{digest}", console.request),
        ("/enrol", console.enrol),
        ("/c", console.list),
        ("/revoke", console.revoke),
        ("/history", console.history),
        ("/activity", console.activity),
        ("/packages", console.packages),
        ("/publishers", console.in_force),
        ("/upstreams", console.in_force),
        ("/policy", console.in_force),
        ("/standing", console.standing),
        ("/assets/{name}", _serve_asset),
        ("/favicon.ico", _favicon),
    ]
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in table]
