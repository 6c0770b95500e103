"""Plans at the whole gate: uploaded by real clients, put together, signed by one touch in Chromium, published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

import packages
import peers
from cli_rig import Rig, running
from console_browser import Authenticator, browser, complaints_of
from presspass.cli import exits
from presspass.drill.peers import PypiServer, wait_until
from presspass.drill.world.keys import SoftwarePasskey

pytestmark = pytest.mark.usefixtures("chromium")


@pytest.fixture(scope="module")
def driven(chromium: Path) -> Iterator[Browser]:
    """Chromium, running."""
    with browser(chromium) as found:
        yield found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PypiServer]:
    peers.require_peer("pypi-server")
    with PypiServer(tmp_path_factory.mktemp("registry"), "__token__", "upstream-secret") as server:
        yield server


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path, registry: PypiServer
) -> Iterator[Rig]:
    """A sealed gate with the registry as its upstream `private`; each test has projects of its own."""
    with running(tmp_path_factory.mktemp("gate")) as rig:
        rig.seal()
        rig.add_upstream(registry.upload_url, registry.simple_url, str(registry.password))
        yield rig


def uploaded(gate: Rig, folder: Path, project: str, person: str, client: str) -> tuple[str, Path]:
    """A release that a real client has uploaded and that waits for signatures: its address and its file."""
    folder.mkdir(exist_ok=True)
    module = {f"{project}/__init__.py": b"VERSION = '1.0'\n"}
    wheel = packages.make_wheel(folder, project, "1.0", files=module)
    token = gate.token(project, person)
    run = {"twine": peers.run_twine, "uv": peers.run_uv_publish}[client]
    run(f"{gate.origin}/pypi/private/legacy/", "__token__", token, [wheel])
    url = gate.submit(token, wheel)
    return url, wheel


def wait_for_state(gate: Rig, url: str, state: str) -> None:
    wait_until(
        lambda: gate.ask("status", url)["state"] == state, f"{url} is {state}: {gate.log()}", 60.0
    )


def planned(gate: Rig, *urls: str, order: str = "any") -> str:
    """The address of a plan of these."""
    for url in urls:
        wait_for_state(gate, url, "awaiting")
    return gate.run("plan", "submit", *urls, "--order", order).strip()


@contextmanager
def opened(driven: Browser, url: str, passkey: SoftwarePasskey) -> Iterator[Page]:
    """A page at phone width with a virtual authenticator that holds the passkey; complaints fail the test."""
    context = driven.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints = complaints_of(page)
    try:
        Authenticator(page.context, page).hold(passkey)
        page.goto(url)
        yield page
        assert complaints == []
    finally:
        context.close()


def verified_in_a_plan(gate: Rig, url: str, wheel: Path, of: int) -> None:
    proof = wheel.with_name(f"{wheel.name}.presspass.json")
    release = url.rpartition("/")[2]
    answer = httpx2.get(f"{gate.origin}/api/v1/releases/{release}/proofs/{wheel.name}")
    proof.write_bytes(answer.content)
    said = gate.run("verify", wheel, "--proof", proof, "--trust", gate.home / "trust-root.json")
    assert f"approved in a plan of {of} releases" in said


def test_S16_twelve_packages_in_one_release_plan_are_one_approval(
    gate: Rig, driven: Browser, registry: PypiServer, tmp_path: Path
) -> None:
    found = [
        uploaded(gate, tmp_path / f"mono{at}", f"mono{at}", "Grace", "uv" if at % 2 else "twine")
        for at in range(12)
    ]
    urls = [url for url, _ in found]
    plan = planned(gate, *urls, order="held")
    assert planned(gate, *urls, order="held") == plan  # the same releases in the same order
    said = gate.run("approve", plan, *gate.key("grace"), "--yes")  # proves that she asked
    assert "12 releases at once, each decided by itself; order: held" in said
    assert "approved; 0 of 12 releases have what they need" in said
    with opened(driven, plan, SoftwarePasskey.load(gate.ada)) as page:
        expect(page.get_by_role("heading", name="A plan of 12 releases")).to_be_visible()
        expect(page.locator("[data-member]")).to_have_count(12)
        page.get_by_role("button", name="Approve all").click()
        expect(page.locator("#outcome")).to_contain_text("has signed to approve")
    for url, wheel in found:
        gate.run("wait", url, "--timeout", "90s")
        verified_in_a_plan(gate, url, wheel, 12)
    assert sum(name.startswith("mono") for name in registry.files()) == 12
    wait_for_state(gate, plan, "verified")


def test_on_the_page_of_a_plan_one_is_vetoed_on_its_own_page_and_all_by_one_touch(
    gate: Rig, driven: Browser, registry: PypiServer, tmp_path: Path
) -> None:
    found = [uploaded(gate, tmp_path / f"trio{at}", f"trio{at}", "Grace", "uv") for at in range(3)]
    urls = [url for url, _ in found]
    plan = planned(gate, *urls)
    gate.run("veto", urls[0], *gate.key("grace"), "--yes")
    wait_for_state(gate, urls[0], "rejected")
    gate.run("plan", "submit", *urls, code=exits.REFUSED)  # one of them waits no more
    with opened(driven, plan, SoftwarePasskey.load(gate.ada)) as page:
        member = page.locator(f'[data-member="{urls[0].rpartition("/")[2]}"]')
        expect(member).to_contain_text("rejected")
        page.get_by_label("Reason for a veto").fill("not on a Friday")
        page.get_by_role("button", name="Veto all").click()
        expect(page.locator("#outcome")).to_contain_text("has signed to veto")
    for url in urls[1:]:
        wait_for_state(gate, url, "rejected")
    wait_for_state(gate, plan, "rejected")
    gate.run("approve", plan, *gate.key("ada"), "--yes", code=exits.REFUSED)
    assert not any(name.startswith("trio") for name in registry.files())
