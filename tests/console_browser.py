"""A real Chromium with a virtual authenticator, and the set of pages that layout tests and screenshots go through."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

import console_world as w
from presspass.core.lifecycle import State
from presspass.core.policy import Policy
from presspass.core.roster import Roster
from presspass.core.statement import FreezeBody, Intent, PolicyBody, RosterBody
from presspass.drill.world.keys import SoftwarePasskey
from presspass.gateway.console import Situation

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Of what is waited for in a page; what is awaited comes at once, or late on a busy machine.
expect.set_options(timeout=60_000)


@contextmanager
def browser(program: Path) -> Iterator[Browser]:
    """Chromium, headless."""
    with sync_playwright() as playwright:
        driven = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield driven
        finally:
            driven.close()


def complaints_of(page: Page) -> list[str]:
    """A list that fills with every error and warning of the page: broken policies, exceptions, failed loads."""
    found: list[str] = []

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.append(f"{message.type}: {message.text}")

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # that one is a page left before it had loaded
            found.append(f"failed: {request.url} {request.failure}")

    page.on("pageerror", lambda error: found.append(f"exception: {error}"))
    page.on("requestfailed", failed)
    page.on("console", console)
    return found


class Authenticator:
    """A virtual authenticator in one page's browser context (CDP WebAuthn)."""

    def __init__(self, context: BrowserContext, page: Page, *, verifies_user: bool = True) -> None:
        self._session: CDPSession = context.new_cdp_session(page)
        self._session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verifies_user,
            "automaticPresenceSimulation": True,
        }
        answer = self._session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        self.id = answer["authenticatorId"]

    def hold(self, passkey: SoftwarePasskey, rp_id: str = "localhost") -> None:
        """Puts a key into the authenticator."""
        private = passkey.private_key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        credential = {
            "credentialId": base64.b64encode(passkey.credential_id).decode(),
            "isResidentCredential": False,
            "rpId": rp_id,
            "privateKey": base64.b64encode(private).decode(),
            "signCount": 0,
        }
        wanted = {"authenticatorId": self.id, "credential": credential}
        self._session.send("WebAuthn.addCredential", wanted)


def screens(folder: Path) -> tuple[w.World, dict[str, str]]:
    """A world with one page of every sort, and their addresses by name."""
    world = w.World(list_of=w.overview())
    paths = {"locked": "/c", "enrol": "/enrol#secret", "list": f"/c?token={w.VIEW_TOKEN}"}
    paths |= {"lost": "/r/nothing"} | _releases(world, folder) | _requests(world)
    freeze = w.narrowing("freeze", "acme-data", "Key of the build machine leaked")
    veto = w.narrowing("veto", "ab" * 32, "Unexpected start-up file")
    revoked = w.narrowing("publisher", "old-ci", "Its runner was taken over")
    world.known = w.identities()
    world.done = w.done()
    world.named, world.held = w.packages(), w.in_force()
    paths["revoke"] = "/revoke"  # after the list: it has brought the cookie
    paths["history"] = "/history"
    paths |= {room: f"/{room}" for room in ("packages", "publishers", "upstreams")}
    paths["package"] = "/packages?upstream=main-index&project=acme-http"
    paths["policy-in-force"] = "/policy"
    paths["activity"] = "/activity"
    paths["history-asked"] = "/history?person=alice&policy=7"
    world.now = Situation(
        True, (freeze, revoked, veto), software_keys=True, zones_separated=False, names=w.NAMES
    )
    return world, paths


def _releases(world: w.World, folder: Path) -> dict[str, str]:
    old = w.build(folder / "old", "2.4.0", w.OLD_CODE, w.OLD_CODE, "idna>=3")
    odd_wheel = {
        **w.NEW_CODE,
        "acme_http_init.pth": w.PTH,
        "acme_http/_speed.so": "\x7fELF inert\n",
    }
    odd = w.build(folder / "odd", "2.4.1", odd_wheel, w.NEW_CODE, "idna>=3 easy-day-js")
    calm = w.build(folder / "calm", "2.4.1", w.NEW_CODE, w.NEW_CODE, "idna>=3")
    hostile_wheel = {**w.NEW_CODE, w.HOSTILE_NAME: w.HOSTILE_CODE}
    hostile = w.build(folder / "hostile", "2.4.1", hostile_wheel, w.NEW_CODE, "idna>=3")

    def made(name: str, files: list[Path], baseline: list[Path]) -> w.ReleaseFacts:
        return w.release(w.as_files(files), w.report_on("2.4.1", files, baseline), release_id=name)

    first_report = w.report_on("2.4.0", old, [])
    first = w.release(w.as_files(old), first_report, release_id="first", version="2.4.0")
    note = "Nobody knows what the .pth file is for."
    vetoed = w.signed_by(made("vetoed", odd, old), "bob", Intent.VETO, note)
    went = w.signed_by(made("verified", calm, old), "carol")
    proofs = tuple(f"{file.name}.presspass.json" for file in went.files)
    facts = [
        made("odd", odd, old),
        made("calm", calm, old),
        made("hostile", hostile, old),
        first,
        replace(
            vetoed, state=State.REJECTED, code="narrowing.vetoed", reason="Bob Lindqvist vetoed it."
        ),
        replace(went, state=State.VERIFIED, proofs=proofs),
        w.release(w.as_files(calm), None, release_id="open"),
        replace(made("workload", calm, old), asker=w.asker()),
        replace(made("workflow", odd, old), asker=w.asker(w.CHANGED_WORKFLOW)),
        replace(made("bot", calm, old), asker=w.bot(), note=w.SAID),
    ]
    world.releases = {one.id: one for one in facts}
    return {one.id: f"/r/{one.id}" for one in facts}


def _requests(world: w.World) -> dict[str, str]:
    now = w.team("alice", "bob", "carol")
    second = replace(SoftwarePasskey.generate(7).key, kind="passkey", backed_up=True)
    bob = w.person("bob", w.passkey_of("bob"), second)
    after = Roster((now.people[0], bob, w.person("dave")))
    moved = replace(w.REGISTRY, upload_url="https://index-example.invalid/legacy/")
    frozen = w.narrowing("freeze", "acme-data", "")
    end = FreezeBody("clear", "", (frozen.id,), "Key replaced, builds checked")
    looser = PolicyBody(Policy(veto_window_s=0, software_keys=True))
    return {
        "roster": "/q/" + world.add(RosterBody(after), now),
        "policy": "/q/" + world.add(looser, now, state="seen"),
        "upstream": "/q/" + world.add(moved, now, upstream_now=w.REGISTRY),
        "unfreeze": "/q/" + world.add(end, now),
    }
