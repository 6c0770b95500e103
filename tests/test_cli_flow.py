"""The commands against the real gate and a real registry: from an empty folder to a proof that verifies offline."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import packages
import peers
from cli_rig import Rig, running
from presspass.cli import exits
from presspass.cli.show import grouped
from presspass.core.digests import sha256_hex
from presspass.core.statement import RosterBody, Statement
from presspass.drill.peers import PypiServer, wait_until


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PypiServer]:
    """A real registry that wants a password; shared, so each test has a project of its own."""
    peers.require_peer("pypi-server")
    with PypiServer(tmp_path_factory.mktemp("registry"), "__token__", "upstream-secret") as server:
        yield server


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path, registry: PypiServer
) -> Iterator[Rig]:
    """A sealed gate with the registry as its upstream `private`; shared in the same way."""
    with running(tmp_path_factory.mktemp("gate")) as rig:
        rig.seal()
        rig.add_upstream(registry.upload_url, registry.simple_url, str(registry.password))
        yield rig


@pytest.fixture
def own_gate(tmp_path: Path) -> Iterator[Rig]:
    """A gate of the test's own, started and not sealed."""
    (tmp_path / "own").mkdir()
    with running(tmp_path / "own") as rig:
        yield rig


def files(folder: Path, project: str, version: str) -> list[Path]:
    folder.mkdir()
    module = {f"{project}/__init__.py": f"VERSION = {version!r}\n".encode()}
    return [
        packages.make_wheel(folder, project, version, files=module),
        packages.make_sdist(folder, project, version),
    ]


def submitted(gate: Rig, folder: Path, project: str) -> str:
    """The URL of a release of `project` 1.0 that Ada asks for and that awaits signatures."""
    url = gate.submit(gate.token(project), *files(folder / project, project, "1.0"))
    wait_for_state(gate, url, "awaiting")
    return url


def published(registry: PypiServer, project: str) -> dict[str, str]:
    return {name: sha256 for name, sha256 in registry.files().items() if name.startswith(project)}


def test_two_releases_go_out_each_approved_at_a_terminal_and_each_with_a_proof(
    gate: Rig, registry: PypiServer, tmp_path: Path
) -> None:
    token = gate.token("greet")
    for version in ("1.0", "1.1"):
        paths = files(tmp_path / version, "greet", version)
        url = gate.submit(token, *paths)
        wait_for_state(gate, url, "awaiting")
        gate.approve(url, "ada", "grace")
        gate.run("wait", url, "--timeout", "60s")
        held = published(registry, "greet")
        for path in paths:
            assert held[path.name] == sha256_hex(path.read_bytes())
            verify(gate, url, path)


def test_a_release_that_is_revoked_by_its_name_is_refused_by_whoever_asks_for_the_head(
    gate: Rig, tmp_path: Path
) -> None:
    token = gate.token("taken")
    paths = files(tmp_path / "taken", "taken", "1.0")
    url = gate.submit(token, *paths)
    wait_for_state(gate, url, "awaiting")
    gate.approve(url, "ada", "grace")
    gate.run("wait", url, "--timeout", "60s")
    verify(gate, url, paths[0])
    head, trust = tmp_path / "revocations", ("--trust", gate.home / "trust-root.json")
    asked = ("verify", paths[0], *trust, "--revocations", head, "--max-age", "15m")
    size = gate.ask("verify", paths[0], *trust)["log"]["size"]
    wait_until(lambda: int(newest_head(gate, head)[1]) >= size, "a head of the proof's tree")
    assert gate.ask(*asked)["revocations"]["checked"] is True
    words = ("--reason", "broken runner", "--url", gate.origin, *gate.key("ada"), "--yes")
    said = gate.run("revoke", "release", "Taken==1.0", *words)
    assert "revoked the release" in said
    digests = {sha256_hex(path.read_bytes()) for path in paths}
    wait_until(lambda: digests <= set(newest_head(gate, head)), "the head lists the release")
    assert gate.run(*asked[:-2], code=exits.REFUSED) == ""
    found = gate.ask("revoke", "--list")["revocations"]
    [stop] = [one for one in found if one["what"] == "release"]
    clearing = gate.ask("freeze", "--clear", stop["id"])["url"]
    gate.approve(clearing, "ada", "grace")
    gate.run("wait", clearing, "--timeout", "30s")
    wait_until(lambda: not digests & set(newest_head(gate, head)), "the head lists it no more")
    other = files(tmp_path / "other", "other", "1.0")[0]
    gate.run("revoke", "file", other, *words)
    targets = [one["target"] for one in gate.ask("revoke", "--list")["revocations"]]
    assert sha256_hex(other.read_bytes()) in targets


def newest_head(gate: Rig, head: Path) -> list[str]:
    """Gets it, and says what lines it has."""
    import httpx2

    head.write_bytes(httpx2.get(f"{gate.origin}/log/revocations").content)
    return head.read_text().split("\n")


def wait_for_state(gate: Rig, url: str, state: str) -> None:
    wait_until(lambda: gate.ask("status", url)["state"] == state, f"{url} is {state}", 30.0)


def verify(gate: Rig, url: str, path: Path) -> None:
    import httpx2

    release = gate.ask("status", url)
    proof = httpx2.get(f"{gate.origin}/api/v1/releases/{release['id']}/proofs/{path.name}").content
    path.with_name(path.name + ".presspass.json").write_bytes(proof)
    trust = gate.home / "trust-root.json"
    verdict = gate.ask("verify", path, "--trust", trust)
    assert verdict["valid"] is True
    tampered = path.with_name("t" + path.name)
    tampered.write_bytes(path.read_bytes() + b"x")
    gate.run(
        "verify",
        tampered,
        "--proof",
        f"{path}.presspass.json",
        "--trust",
        trust,
        code=exits.REFUSED,
    )


def test_the_requester_alone_publishes_nothing(
    gate: Rig, registry: PypiServer, tmp_path: Path
) -> None:
    url = submitted(gate, tmp_path, "alone")
    said = gate.run("approve", url, *gate.key("ada"), "--yes")
    assert "your signature proves that and approves nothing; 1 more must approve" in said
    gate.run("wait", url, "--timeout", "1s", code=exits.TIMED_OUT)
    tally = gate.ask("status", url)["tally"]
    assert (tally["counted"], tally["missing"]) == ([], 1)
    assert published(registry, "alone") == {}


def test_a_veto_ends_a_release_and_waiting_for_it_says_so(gate: Rig, tmp_path: Path) -> None:
    url = submitted(gate, tmp_path, "vetoed")
    gate.run("veto", url, *gate.key("grace"), "--reason", "not ours", "--yes")
    gate.run("wait", url, "--timeout", "30s", code=exits.REFUSED)
    shown = gate.ask("status", url)
    assert (shown["code"], shown["reason"]) == (
        "narrowing.vetoed",
        "Grace vetoed it: “not ours”.",
    )
    [veto, *_] = [one["id"] for one in gate.ask("status")["narrowings"] if one["what"] == "veto"]
    gate.run("freeze", "--clear", veto, code=exits.REFUSED)
    gate.run("approve", url, *gate.key("grace"), "--yes", code=exits.REFUSED)


@pytest.mark.parametrize("way", ["gate", "drop"])
def test_a_freeze_stops_an_approved_release_until_two_people_clear_it(
    gate: Rig, registry: PypiServer, tmp_path: Path, way: str
) -> None:
    project = f"frozen{way}"
    where = (
        ("--drop", gate.home / "drop")
        if way == "drop"
        else ("--url", gate.origin, *gate.key("grace"))
    )
    gate.run("freeze", "--project", project, *where, "--reason", "look first", "--yes")
    wait_until(
        lambda: project in [one["target"] for one in gate.ask("status")["narrowings"]],
        "the press has latched it",
    )
    url = submitted(gate, tmp_path, project)
    gate.approve(url, "ada", "grace")
    gate.run("wait", url, "--timeout", "1s", code=exits.TIMED_OUT)
    assert published(registry, project) == {}
    [narrowing] = [one for one in gate.ask("status")["narrowings"] if one["what"] == "freeze"]
    assert (narrowing["target"], narrowing["reason"]) == (project, "look first")
    gate.run("freeze", "--clear", "0" * 12, code=exits.REFUSED)
    wait_until(
        lambda: (
            (shown := gate.ask("status", url))["code"] == "narrowing.frozen"
            and "look first" in shown["reason"]
        ),
        "the release says why it waits",
    )
    request = gate.ask("freeze", "--clear", narrowing["id"][:8])["url"]
    gate.approve(request, "ada", "grace")
    gate.run("wait", request, "--timeout", "30s")
    gate.run("wait", url, "--timeout", "60s")
    assert len(published(registry, project)) == 2


def test_a_person_enrolled_later_counts_only_after_the_others_have_approved(gate: Rig) -> None:
    link = gate.ask("invite", "Edsger")["links"][0]["url"]
    answer = gate.ask("enrol", link, "--software-passkey", gate.folder / "edsger.json")
    url = f"{gate.origin}/q/{answer['request']}"
    assert answer["key"] in [key["key"] for key in gate.ask("status")["enrolments"]]
    shown = gate.run("approve", url, *gate.key("ada"), "--yes")
    assert "Edsger" in shown
    assert answer["key"][:4] in shown
    gate.approve(url, "grace")
    gate.run("wait", url, "--timeout", "30s")
    assert gate.ask("status")["enrolments"] == []
    gate.run("enrol", link, "--software-passkey", gate.folder / "other.json", code=exits.REFUSED)


def test_the_credential_of_an_upstream_is_nowhere_in_the_home_to_be_read(
    gate: Rig, registry: PypiServer
) -> None:
    secret = str(registry.password)
    for path in gate.home.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in gate.run("upstream", "list") + gate.log()


def test_genesis_is_sealed_once(gate: Rig) -> None:
    gate.run("init", "--seal", "--yes-all-fingerprints-compared", code=exits.REFUSED)


def test_a_revoked_token_uploads_nothing(gate: Rig, tmp_path: Path) -> None:
    token = gate.token("revoked")
    gate.run("token", "revoke", given=token + "\n")
    gate.submit(token, *files(tmp_path / "1.0", "revoked", "1.0"), code=exits.REFUSED)


def test_doctor_finds_nothing_bad_in_a_running_gate(gate: Rig) -> None:
    lines = {line["what"]: line for line in gate.ask("doctor", "--upstreams")}
    assert [line for line in lines.values() if line["grade"] == "bad"] == []
    for name in ("supervisor", "press", "gateway", "genesis", "upstream private"):
        assert lines[name]["grade"] == "ok", lines[name]


def test_the_real_children_end_when_the_supervisor_is_killed(own_gate: Rig) -> None:
    children = own_gate.children()
    assert set(children) == {"gateway", "press"}
    own_gate.stop(signal.SIGKILL)
    for name, pid in children.items():
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"the {name} has ended", 20.0)


def test_a_killed_child_comes_back_and_a_drain_ends_the_press_last(own_gate: Rig) -> None:
    gate = own_gate
    for name in ("gateway", "press"):
        os.kill(gate.children()[name], signal.SIGKILL)
        wait_until(
            lambda name=name: gate.log().count(f"{name} started") == 2, f"the {name} is back", 20.0
        )
    wait_until(lambda: both_run(gate), "both run again", 60.0)
    assert gate.stop(signal.SIGINT) == exits.DONE
    ended = [line.split()[1] for line in gate.log().splitlines() if "ended (exit code 0)" in line]
    assert ended == ["gateway", "press"]


def both_run(gate: Rig) -> bool:
    """By the locks that the processes hold, and by the gateway's answer."""
    found = {line["what"]: line["grade"] for line in gate.ask("doctor")}
    return found["press"] == found["gateway"] == "ok"


def test_a_second_serve_on_the_same_home_is_refused(own_gate: Rig) -> None:
    own_gate.run("serve", code=exits.REFUSED)


def test_a_restored_home_publishes_nothing_that_was_approved_before_not_even_after_the_freeze(
    own_gate: Rig, registry: PypiServer, tmp_path: Path
) -> None:
    gate = own_gate
    gate.seal()
    gate.add_upstream(registry.upload_url, registry.simple_url, str(registry.password))
    url = submitted(gate, tmp_path, "restored")
    gate.run("backup", "--to", tmp_path / "b.tar", "--with-keys", "--with-blobs")
    gate.approve(url, "ada", "grace")
    gate.run("wait", url, "--timeout", "60s")
    held = published(registry, "restored")
    gate.stop()
    gate.run("restore", tmp_path / "b.tar", "--home", tmp_path / "new")
    gate.home.rename(tmp_path / "old")
    (tmp_path / "new").rename(gate.home)
    gate.start()
    [frozen] = gate.ask("status")["narrowings"]
    assert (frozen["what"], frozen["target"]) == ("freeze", "")
    request = gate.ask("freeze", "--clear", "restored-")["url"]
    gate.approve(request, "ada", "grace")
    gate.run("wait", request, "--timeout", "30s")
    assert gate.ask("status")["narrowings"] == []
    try_to_approve(gate, url)
    assert gate.ask("status", url)["state"] not in ("published", "verified")
    assert published(registry, "restored") == held


def try_to_approve(gate: Rig, url: str) -> None:
    """An approval of what was asked before the backup: whatever the gate says to it, nothing may come of it."""
    command = ("approve", url, *gate.key("grace"), "--yes")
    for code in (exits.DONE, exits.REFUSED):
        try:
            gate.run(*command, code=code)
        except AssertionError:
            continue
        break
    wait_until(
        lambda: gate.ask("status", url)["state"] != "awaiting", "the old request has ended", 20.0
    )


def test_the_recovery_key_asks_for_another_roster_and_no_other_key_can(
    tmp_path: Path, ssh_keygen: Path
) -> None:
    (tmp_path / "own").mkdir()
    with running(tmp_path / "own") as gate:
        gate.seal()
        lost = sha256_of_public_key(gate.grace)
        locking = ("recover", "--drop-key", lost, "--yes", "--recovery-key", "-")
        gate.run(*locking, given=gate.recovery_key, code=exits.REFUSED)
        recover = (*locking, "--keep-new", enrolled(gate, "Edsger")["key"])
        wrong = "presspass-recovery-" + "A" * 43
        gate.run(*recover, given=wrong, code=exits.REFUSED)
        asked = gate.ask(*recover, given=gate.recovery_key)
        page = asked["url"]
        assert page.endswith(f"/q/{asked['statement']}")
        assert gate.ask("status", page)["state"] == "seen"
        gate.run("veto", page, *gate.key("grace"), "--yes")
        gate.run("wait", page, "--timeout", "30s", code=exits.REFUSED)


def test_a_key_is_replaced_and_a_person_taken_out_only_with_the_approval_of_others(
    tmp_path: Path, ssh_keygen: Path
) -> None:
    (tmp_path / "own").mkdir()
    with running(tmp_path / "own") as gate:
        gate.seal()
        before = {row["kind"]: row for row in gate.ask("roster", "show")["people"]}
        old = before["software-passkey"]
        link = gate.ask("invite", old["name"])["links"][0]["url"]
        new, replaced = gate.folder / "new.json", grouped(old["key"])[:14]
        replacing = ("enrol", link, "--software-passkey", new, "--replace", replaced)
        request = f"{gate.origin}/q/{gate.ask(*replacing)['request']}"
        shown = gate.run("approve", request, *gate.key("grace"), "--yes")
        assert f"- software-passkey  {old['key'][:4]}" in shown
        assert sum(line.strip().startswith(("+ ", "- ")) for line in shown.splitlines()) == 2
        gate.run("wait", request, "--timeout", "1s", code=exits.TIMED_OUT)
        gate.approve(request, "ada")
        gate.run("wait", request, "--timeout", "30s")
        keys = {row["key"] for row in gate.ask("roster", "show")["people"]}
        assert old["key"] not in keys
        assert len(keys) == 2
        gate.run("roster", "remove", "nobody", code=exits.REFUSED)
        gate.run("roster", "remove", "Grace", code=exits.REFUSED)  # nobody could change anything
        asked = gate.ask("roster", "remove", "Grace", "--yes-lock")
        gate.run("approve", asked["url"], *gate.key("grace"), "--yes")
        gate.run("wait", asked["url"], "--timeout", "1s", code=exits.TIMED_OUT)


def enrolled(gate: Rig, name: str) -> dict[str, str]:
    """What the gate answered to a new key of this person."""
    link = gate.ask("invite", name)["links"][0]["url"]
    file = gate.folder / f"{name}-{len(list(gate.folder.iterdir()))}.json"
    answer: dict[str, str] = gate.ask("enrol", link, "--software-passkey", file)
    return answer


def test_a_recovery_brings_back_nothing_that_was_taken_out_or_refused_and_new_keys_only_by_name(
    tmp_path: Path, ssh_keygen: Path
) -> None:
    (tmp_path / "own").mkdir()
    with running(tmp_path / "own") as gate:
        gate.seal()
        removed, vetoed = enrolled(gate, "Removed"), enrolled(gate, "Vetoed")
        admit(gate, f"{gate.origin}/q/{removed['request']}")
        gate.run("veto", f"{gate.origin}/q/{vetoed['request']}", *gate.key("grace"), "--yes")
        admit(gate, gate.ask("roster", "remove", grouped(removed["key"])[:19])["url"])
        first, second = enrolled(gate, "First"), enrolled(gate, "Second")
        wait_until(
            lambda: (
                [one["key"] for one in gate.ask("status")["enrolments"]]
                == [first["key"], second["key"]]
            ),
            "only what waits is shown as waiting",
            20.0,
        )
        recover = ("recover", "--yes", "--recovery-key", "-")
        for gone in (removed, vetoed):
            keep = ("--keep-new", gone["key"])
            gate.run(*recover, *keep, given=gate.recovery_key, code=exits.REFUSED)
        assert keys_asked_for(gate, *recover) == keys_in_force(gate)
        keep = ("--keep-new", second["key"][:12])
        assert keys_asked_for(gate, *recover, *keep) == keys_in_force(gate) | {second["key"]}


def admit(gate: Rig, url: str) -> None:
    gate.approve(url, "ada", "grace")
    gate.run("wait", url, "--timeout", "30s")


def keys_in_force(gate: Rig) -> set[str]:
    return {row["key"] for row in gate.ask("roster", "show")["people"]}


def keys_asked_for(gate: Rig, *command: str) -> set[str]:
    """The keys of the roster that a recovery asks for."""
    asked = gate.ask(*command, given=gate.recovery_key)
    statement = gate.ask("status", asked["url"])["statement"]
    body = Statement.from_bytes(statement.encode()).body_as(RosterBody)
    return {key.id for key in body.roster.all_keys()}


def test_a_requester_takes_a_release_back_and_its_page_says_so(gate: Rig, tmp_path: Path) -> None:
    token = gate.token("withdrawn")
    url = gate.submit(token, *files(tmp_path / "withdrawn", "withdrawn", "1.0"))
    gate.run("withdraw", url, PRESSPASS_TOKEN=gate.token("other"), code=exits.REFUSED)
    assert gate.ask("withdraw", url, PRESSPASS_TOKEN=token)["state"] == "withdrawn"
    gate.run("wait", url, code=exits.OVERTAKEN)
    assert url not in [one["url"] for one in gate.ask("status")["releases"]]


def test_a_token_is_for_somebody_in_the_roster_and_for_a_project(gate: Rig) -> None:
    make = ("token", "create", "--upstream", "private")
    gate.run(*make, "--project", "no such/name", code=exits.REFUSED)
    gate.run(*make, "--project", "a", "--person", "Nobody", code=exits.REFUSED)
    gate.run(*make, "--project", "a", "--life", "400d", code=exits.CANNOT_SAY)
    gate.run("invite", "Later")
    gate.run(*make, "--project", "a", "--person", "Later", code=exits.REFUSED)


def sha256_of_public_key(path: Path) -> str:
    from presspass.formats import sshsig

    return sha256_hex(sshsig.parse_public_key_line(path.with_suffix(".pub").read_text()))
