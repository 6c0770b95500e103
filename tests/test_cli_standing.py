"""`presspass standing`: a real gate, registry, CI job and client, in which a routine release goes out unsigned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

import peers
from ci_rig import NO_CI, PROJECT, CiRig, until
from presspass.cli import exits
from presspass.core.digests import sha256_hex
from presspass.core.statement import ReleaseFile, set_bytes
from presspass.drill.peers import PypiServer, wait_until
from presspass.drill.world.runner import GithubJob

BOUNDS = (
    "--upstream", "private", "--publisher", "greet-ci", "--project", PROJECT, "--finding", "low",
    "--daily-per-project", 3, "--read-every", 100,
)  # fmt: skip


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path) -> Iterator[CiRig]:
    """A gate at which greet 1.0 was approved by both, from a bound job, and patches of it may go out unsigned."""
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("ci")
    with (
        PypiServer(folder / "registry", "__token__", "upstream-secret") as registry,
        CiRig(folder, registry) as ci,
    ):
        ci.rig.init("--quiet-period", "1s")
        ci.start()
        ci.bind()
        url = submit(ci, "1.0")
        until(ci, url, "awaiting")
        ci.rig.approve(url, "ada", "grace")
        until(ci, url, "verified")
        let_in(ci, "patches")
        yield ci


def run_of(ci: CiRig, version: str) -> GithubJob:
    """A run of its own, for the tag of this version."""
    number = str(int(sha256_hex(version.encode())[:6], 16))
    return replace(ci.job, run_id=number, ref=f"refs/tags/v{version}")


def submit(ci: CiRig, version: str, project: str = PROJECT) -> str:
    """A run of its own submits this version; the release's URL."""
    with ci.runner(run_of(ci, version)) as runner:
        more = {**NO_CI, **runner.environment(), "PRESSPASS_URL": ci.rig.origin}
        return ci.rig.run("submit", *ci.files(version, project), **more).strip()


def let_in(ci: CiRig, name: str, kind: str = "patch", *more: object) -> None:
    url = ci.rig.ask("standing", "ask", name, *BOUNDS, *more, "--kind", kind)["url"]
    ci.rig.approve(url, "ada", "grace")
    ci.rig.run("wait", url, "--timeout", "30s")


def why_not(ci: CiRig, url: str) -> str:
    """Why the release waits for people."""
    wait_until(lambda: ci.rig.ask("status", url).get("reason"), "the press says why", 30.0)
    found = ci.rig.ask("status", url)
    assert found["state"] == "awaiting", found
    return str(found["reason"])


def test_a_patch_goes_out_unsigned_and_verify_says_offline_under_what(
    ci: CiRig, tmp_path: Path
) -> None:
    assert ci.rig.ask("standing", "list")["patches"]["state"] == "in force"
    url = submit(ci, "1.0.1")
    until(ci, url, "verified")
    [wheel, _] = sorted(ci.files("1.0.1"), key=lambda one: one.suffix != ".whl")
    proof = tmp_path / "proof.json"
    address = f"{ci.rig.origin}/log/proof/{sha256_hex(wheel.read_bytes())}"
    proof.write_bytes(httpx2.get(address, trust_env=False).content)
    verify = (
        "verify", wheel, "--proof", proof, "--trust", ci.rig.home / "trust-root.json",
    )  # fmt: skip
    text = ci.rig.run(*verify)
    assert "VALID" in text and "passed under the standing approval patches" in text
    assert "patch; findings up to low; 3 a day of a package" in text
    found = json.loads(ci.rig.run(*verify, "--format", "json"))
    assert found["approved_by"] == [] and len(found["standing"]["approved_by"]) == 2
    assert found["standing"]["bounds"]["projects"] == [PROJECT]
    shown = ci.rig.ask("standing", "show", "patches")
    assert [(one["project"], one["version"]) for one in shown["uses"]] == [(PROJECT, "1.0.1")]
    assert shown["used_today"] == 1
    assert "1.0.1" in ci.rig.run("standing", "show", "patches")


def test_what_uv_uploads_goes_out_only_where_the_run_has_bound_it(ci: CiRig) -> None:
    peers.require_peer("uv")
    unbound = uv_publish(ci, "1.0.2", "presspass:localhost")
    assert "has not bound these files" in why_not(ci, unbound)
    listed = tuple(
        ReleaseFile(one.name, sha256_hex(one.read_bytes()), one.stat().st_size)
        for one in ci.files("1.0.3")
    )
    bound = f"presspass:localhost:sha256:{sha256_hex(set_bytes(listed))}"
    until(ci, uv_publish(ci, "1.0.3", bound), "verified")


def uv_publish(ci: CiRig, version: str, audience: str) -> str:
    """uv uploads with a pass of a token for this audience; the release's URL."""
    answer = ci.exchange(run_of(ci, version), audience)
    assert answer.status_code == 200, answer.text
    url = f"{ci.rig.origin}/pypi/private/legacy/"
    sent = peers.run_uv_publish(url, "__token__", answer.json()["token"], ci.files(version))
    assert sent.exit_code == 0, sent
    found: list[str] = []

    def is_listed() -> bool:
        releases = ci.rig.ask("status")["releases"]
        found[:] = [one["url"] for one in releases if one["version"] == version]
        return bool(found)

    wait_until(is_listed, f"{version} is listed", 30.0)
    return found[0]


def test_what_is_beyond_its_bounds_waits_and_says_why(ci: CiRig) -> None:
    assert "minor version" in why_not(ci, submit(ci, "1.1"))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (("--project", "another"), "publisher.wrong-project"),
        (("--publisher", "nobody"), "request.not-found"),
        (("--for", "91d"), "standing.unusable"),
        (("--read-within", "8d"), "statement.malformed"),
    ],
)
def test_what_could_never_be_used_is_refused_before_anybody_is_asked(
    ci: CiRig, changes: tuple[str, ...], code: str
) -> None:
    words = ("standing", "ask", "never", *BOUNDS, "--kind", "patch", *changes)
    said = ci.rig.run(*words, "--format", "json", code=exits.REFUSED)
    assert json.loads(said)["error"]["code"] == code


def test_one_person_ends_it_at_once(ci: CiRig) -> None:
    let_in(ci, "majors", "major")
    ci.rig.run(
        "standing", "end", "majors", "--reason", "looked odd", "--url", ci.rig.origin,
        *ci.rig.key("ada"), "--yes",
    )  # fmt: skip
    wait_until(
        lambda: ci.rig.ask("standing", "list")["majors"]["state"] == "ended", "it is ended", 30.0
    )
    assert "looked odd" in why_not(ci, submit(ci, "2.0"))
    [stop] = ci.rig.ask("standing", "show", "majors")["stops"]
    assert stop["reason"] == "looked odd" and stop["by"]


def test_what_is_chosen_is_read_on_its_page_and_the_pages_say_what_runs_and_would_have_run(
    ci: CiRig,
) -> None:
    let_in(ci, "all-read", "patch", "--read-every", 1)
    url = submit(ci, "1.0.7")
    until(ci, url, "verified")
    listed, standing = looked_at(ci)
    assert "To be read afterwards" in listed and f"/r/{url.rpartition('/')[2]}" in listed
    assert "What it would have let through of the past" in standing
    assert "there is none before it" in standing, "1.0 was the first"
    assert ci.rig.ask("status", url)["standing"]["to_be_read"] is True
    ci.rig.approve(url, "grace")
    wait_until(lambda: ci.rig.ask("status", url)["standing"]["read_by"], "it was read", 30.0)
    [use] = ci.rig.ask("standing", "show", "all-read")["uses"]
    assert use["read_by"] and "To be read afterwards" not in looked_at(ci)[0]


def looked_at(ci: CiRig) -> tuple[str, str]:
    """The list, and the page of standing approvals, as a browser with a view token gets them."""
    with httpx2.Client(trust_env=False, follow_redirects=True) as client:
        listed = client.get(ci.rig.ask("status", "--page")["url"])
        return listed.text, client.get(f"{ci.rig.origin}/standing").text
