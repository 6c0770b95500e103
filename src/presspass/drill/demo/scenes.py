"""The five scenes. Each does the thing with real programs and checks that it happened; none only says so."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import presspass
from presspass.core.approval import Approval
from presspass.core.digests import JsonObject
from presspass.core.roster import Roster
from presspass.core.statement import RosterBody, Statement
from presspass.drill.demo.gate import UPSTREAM, Gate
from presspass.drill.demo.tell import DemoFailedError, Teller
from presspass.drill.packages import INERT_PTH, make_wheel, wheel_with_pth
from presspass.drill.peers import (
    Answer,
    PypiServer,
    run_build,
    run_pip_install,
    run_twine,
    run_uv_publish,
)
from presspass.drill.world.forge import Forge, ForgeRepository
from presspass.drill.world.issuer import Issuer
from presspass.drill.world.runner import GithubJob, Runner
from presspass.store import journal_view as view

VICTIM = "acme-widgets"
PROJECT = "presspass"
STOLEN, ROTATED = "registry-token-stolen-from-ci", "registry-token-that-only-the-press-has"
PEOPLE = ["Ana", "Ben", "Cleo", "Dan"]
REPOSITORY, ANA_ID = "acme/presspass", "7001"
WORKFLOW = ".github/workflows/release.yml"
_HONEST = b"on: {push: {tags: ['v*']}}\njobs: {publish: {environment: release, permissions: {id-token: write}}}\n"
_OFFLINE = (
    "import sys; from presspass.confine import self_confine; "
    "self_confine(read=['/'], write=['/dev/null'], execute=['/'], network=False); "
    "from presspass.cli.main import main; sys.argv[0] = 'presspass'; main()"
)


@dataclass(slots=True)
class Stage:
    """What the scenes share. `published`: release page and files of the version that went out last.

    `issuer` and `forge` stand in for those of a CI system; the forge's git is real. Each release is a run of its own.
    """

    folder: Path
    out: Path
    tell: Teller
    gate: Gate
    registry: PypiServer
    issuer: Issuer
    forge: Forge
    repository: ForgeRepository
    commit: str = ""
    runs: int = 0
    published: list[Path] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)

    def job(self, version: str, **changes: Any) -> GithubJob:
        """A run of the bound workflow on the tag of this version, started by Ana."""
        self.runs += 1
        job = GithubJob(
            repository=REPOSITORY, workflow_sha=self.commit, sha=self.commit, ref=f"refs/tags/v{version}",
            actor="ana", actor_id=ANA_ID, run_id=str(9000 + self.runs),
        )  # fmt: skip
        return replace(job, **changes)

    def publish(self, files: list[Path], version: str, **changes: Any) -> Answer:
        """`uv publish` as a step of that run: no token, no secret, nothing configured but the address."""
        with Runner(self.job(version, **changes), self.issuer.token) as runner:
            return run_uv_publish(
                self.gate.upload_url, "", "", files, trusted=runner.environment(), ca=self.gate.ca
            )

    def fresh(self, name: str) -> Path:
        """A new folder."""
        folder = self.folder / name
        folder.mkdir()
        return folder


def before(folder: Path, tell: Teller) -> None:
    """(i) A token stolen from CI is all it takes."""
    tell.scene("i", "Before: one stolen token is enough")
    with PypiServer(folder / "before", "__token__", STOLEN) as registry:
        poisoned = wheel_with_pth(_made(folder / "poison"), VICTIM, "1.0.1")
        tell.step(f"twine upload {poisoned.name}   (with a token copied out of a CI job)")
        answer = run_twine(registry.upload_url, "__token__", STOLEN, [poisoned])
        tell.expect(
            answer.exit_code == 0, "the poisoned upload was expected to succeed", answer.text
        )
        target = folder / "victim"
        installed = run_pip_install(registry.simple_url, VICTIM, target)
        tell.expect(installed.exit_code == 0, "pip was expected to install it", installed.text)
        started = [path.name for path in target.glob("*.pth")]
        tell.expect(bool(started), "the start-up file was expected to be installed")
        tell.bad(
            f"published, and pip install {VICTIM} puts {started[0]} where Python runs it at every start (inert here)"
        )


def refused(stage: Stage) -> None:
    """(ii) The same attempt, with the gate in front."""
    tell = stage.tell
    tell.scene("ii", "The same attempt at the gate")
    poisoned = wheel_with_pth(stage.fresh("poison2"), VICTIM, "1.0.2")
    direct = run_twine(stage.registry.upload_url, "__token__", STOLEN, [poisoned])
    tell.expect(direct.exit_code != 0, "the registry was expected to refuse the stolen token")
    tell.refusal(
        "the stolen registry token, straight at the registry",
        "it was rotated; the new one exists only sealed inside the press",
    )
    answer = run_twine(stage.gate.upload_url, "__token__", STOLEN, [poisoned], ca=stage.gate.ca)
    tell.expect(answer.exit_code != 0, "the gate was expected to refuse the token")
    tell.refusal("the same token at the gate", _reason(answer))
    stranger = stage.publish([poisoned], "1.0.2", repository_id="6666", repository_owner_id="66")
    tell.expect(stranger.exit_code != 0, "a repository made again must be refused", stranger.text)
    tell.refusal("a CI run of a repository made again under the old name", _reason(stranger))
    branch = stage.publish([poisoned], "1.0.2", event_name="pull_request", ref="refs/pull/7/merge")
    tell.expect(branch.exit_code != 0, "a pull request must be refused", branch.text)
    tell.refusal("code in a pull request's CI run, which has an identity too", _reason(branch))
    _replayed_identity(stage, poisoned)
    answer = stage.publish([poisoned], "1.0.2")
    tell.expect(answer.exit_code == 0, "a run of the bound workflow stages the file", answer.text)
    page = stage.gate.page_of(VICTIM, "1.0.2")
    found = stage.gate.until(
        page, lambda r: r["state"] == "awaiting", "the release waits for signatures"
    )
    tell.expect(not stage.registry.files(), "nothing may be public yet")
    tell.held(
        "what even the right workflow brings, when somebody has got into it: it waits",
        f"{found['tally']['needed']} people other than Ana, who started it, must approve it, and see the .pth first. "
        "Nothing is public.",
    )
    stage.gate.veto(page, "Ben")


def _replayed_identity(stage: Stage, poisoned: Path) -> None:
    """An identity token copied out of a run, after the run has used it."""
    token = stage.issuer.token(stage.job("1.0.2").claims(), "presspass:localhost")
    mint = "/_/oidc/mint-token"
    first = stage.gate.post(mint, json.dumps({"token": token}).encode())
    stage.tell.expect(first.status_code == 200, "the run exchanges its token", first.text)
    second = stage.gate.post(mint, json.dumps({"token": token}).encode())
    stage.tell.expect(
        second.json()["code"] == "identity.replayed", "the copy must be refused", second.text
    )
    stage.tell.refusal(
        "an identity token copied out of a run", second.json()["errors"][0]["description"]
    )
    late = run_twine(
        stage.gate.upload_url, "__token__", first.json()["token"], [poisoned], ca=stage.gate.ca
    )
    stage.tell.expect(late.exit_code != 0, "the run's pass must have ended", late.text)
    stage.tell.refusal("the pass that this run had got, after the copy was seen", _reason(late))


def bind(stage: Stage) -> None:
    """Which workflow of which repository may ask: by ids, by content, signed by two people."""
    stage.commit = stage.repository.commit({WORKFLOW: _HONEST})
    checkout = stage.folder / "checkout"
    stage.repository.clone(checkout)
    words = ["--upstream", UPSTREAM, "--project", PROJECT, "--project", VICTIM]
    words += ["--provider", "github", "--issuer", stage.issuer.url]
    words += ["--id", "repository_id=1001", "--id", "repository_owner_id=501"]
    words += ["--repository", REPOSITORY, "--repository-url", stage.repository.url]
    words += ["--workflow", WORKFLOW, "--checkout", str(checkout), "--environment", "release"]
    stage.gate.bind("presspass-ci", words, ["Ben", "Cleo"])


def release(stage: Stage) -> None:
    """(iii) An honest release, a suspicious one, and the fixed one."""
    tell, gate = stage.tell, stage.gate
    tell.scene("iii", "A real release: this project's own files")
    files = _built(stage)
    version = presspass.__version__
    tell.step(
        f"uv publish {'  '.join(file.name for file in files)}   (a CI run; no token anywhere)"
    )
    answer = stage.publish(files, version)
    tell.expect(answer.exit_code == 0, "uv was expected to stage the files", answer.text)
    page = gate.page_of(PROJECT, version)
    _publish(stage, page, files)
    _check_installs(stage, version)

    next_version = _bump(version, 1)
    wheel = _successor(
        stage.fresh("suspicious"), files, next_version, {"presspass_boot.pth": INERT_PTH}
    )
    tell.step(f"uv publish {wheel.name}   (one file more than anybody asked for)")
    answer = stage.publish([wheel], next_version)
    tell.expect(answer.exit_code == 0, "uv was expected to stage the file", answer.text)
    page = gate.page_of(PROJECT, next_version)
    gate.until(page, lambda r: r["state"] == "awaiting", "the release waits for signatures")
    _show_odd(stage, page)
    gate.veto(page, "Cleo")
    found = gate.until(page, lambda r: r["state"] == "rejected", "the veto ends the release")
    tell.good(
        f"vetoed by one person: {found['state']} ({found['code']}); nothing of {next_version} went out"
    )

    fixed = _successor(stage.fresh("fixed"), files, next_version, {})
    tell.step(f"presspass submit {fixed.name}   (the run binds its identity to exactly this file)")
    with Runner(stage.job(next_version), stage.issuer.token) as runner:
        page = str(gate.submit([fixed], runner.environment())["url"])
    _publish(stage, page, [fixed])
    _check_installs(stage, next_version)
    stage.pages["fixed"] = page


def attacks(stage: Stage) -> None:
    """(iv) Attacks on the gate itself."""
    stage.tell.scene("iv", "Attacks on the gate itself")
    uploads = stage.registry.files()
    _swapped_wheel(stage)
    _replayed_approval(stage)
    _edited_database(stage)
    _removed_key(stage)
    stage.tell.expect(stage.registry.files() == uploads, "no attack may reach the registry")


def proofs(stage: Stage) -> None:
    """(v) The proof, offline."""
    tell = stage.tell
    tell.scene("v", "The proof, offline")
    shutil.copy(stage.gate.home / "trust-root.json", stage.out / "trust-root.json")
    for file in stage.published:
        shutil.copy(file, stage.out / file.name)
    file = stage.out / stage.published[-1].name
    proof = stage.out / f"{file.name}.presspass.json"
    answer = _verify(stage, file, proof)
    tell.expect(answer.exit_code == 0, "the proof was expected to verify", answer.text)
    tell.good(f"presspass verify {file.name}   (no network: the kernel refuses it every socket)")
    tell.quote(answer.stdout)
    changed = stage.folder / file.name
    changed.write_bytes(_flipped(file.read_bytes()))
    answer = _verify(stage, changed, proof)
    tell.expect(answer.exit_code == 1, "a changed file must not verify", answer.text)
    tell.refusal("one byte of the file flipped", _reason(answer))
    changed_proof = stage.folder / "flipped.json"
    changed_proof.write_bytes(_flipped(proof.read_bytes()))
    answer = _verify(stage, file, changed_proof)
    tell.expect(answer.exit_code == 1, "a changed proof must not verify", answer.text)
    tell.refusal("one byte of the proof flipped", _reason(answer))


# -- parts of scene iii


def _publish(stage: Stage, page: str, files: list[Path]) -> None:
    tell, gate = stage.tell, stage.gate
    found = gate.until(page, lambda r: r["state"] == "awaiting", "the release waits for signatures")
    before_count = len(stage.registry.files())
    tell.step(
        f"Ben and Cleo look and sign exactly these bytes ({found['tally']['needed']} needed; who asked never counts)"
    )
    gate.sign(page, "Ben", "Cleo")
    found = gate.until(
        page, lambda r: r["state"] == "verified", "the press publishes and reads back"
    )
    served = stage.registry.files()
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        tell.expect(
            served.get(file.name) == digest, f"the registry must serve the approved {file.name}"
        )
        proof = gate.get(f"/api/v1/releases/{found['id']}/proofs/{file.name}")
        tell.expect(proof.status_code == 200, "there must be a proof", proof.text)
        (stage.out / f"{file.name}.presspass.json").write_bytes(proof.content)
    tell.uploads += len(served) - before_count
    stage.published += files
    tell.good(
        f"published by the press, read back, proved: {', '.join(file.name for file in files)}"
    )


def _check_installs(stage: Stage, version: str) -> None:
    target = stage.folder / f"installed-{version}"
    answer = run_pip_install(stage.registry.simple_url, f"{PROJECT}=={version}", target)
    stage.tell.expect(answer.exit_code == 0, "pip was expected to install the release", answer.text)
    stage.tell.good(f"pip install {PROJECT}=={version}")


def _show_odd(stage: Stage, page: str) -> None:
    review = stage.gate.get(f"/api/v1/releases/{page.rsplit('/', 1)[-1]}/review").json()
    odd = [one for one in review["findings"] if one["severity"] in ("high", "critical")]
    stage.tell.expect(
        any("presspass_boot.pth" in one["path"] for one in odd),
        "the .pth must be shown",
        json.dumps(odd),
    )
    stage.tell.step("the approvers see, on top:")
    for one in odd[:4]:
        stage.tell.quote(f"{one['severity'].upper():8} {one['path']}: {one['message']}")


def _built(stage: Stage) -> list[Path]:
    source = Path(presspass.__file__).resolve().parents[2]
    if not (source / "pyproject.toml").exists():
        raise DemoFailedError(
            "The demo publishes this project's own source; run it from a checkout with `make demo`."
        )
    out = stage.fresh("dist")
    answer = run_build(source, out)
    stage.tell.expect(
        answer.exit_code == 0, "the project was expected to build", answer.text[-2000:]
    )
    return sorted(out.iterdir())


def _successor(folder: Path, files: list[Path], version: str, added: dict[str, bytes]) -> Path:
    """The next release's wheel: the same modules under another version, and what was `added`."""
    wheel = next(file for file in files if file.suffix == ".whl")
    with zipfile.ZipFile(wheel) as archive:
        content = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }
        metadata = next(
            archive.read(name)
            for name in archive.namelist()
            if name.endswith(".dist-info/METADATA")
        )
    lines = [
        line
        for line in metadata.decode().split("\n\n")[0].splitlines()
        if line.startswith("Requires-")
    ]
    init = content["presspass/__init__.py"].decode()
    content["presspass/__init__.py"] = re.sub(
        r'__version__ = ".*"', f'__version__ = "{version}"', init
    ).encode()
    return make_wheel(folder, PROJECT, version, {**content, **added}, "\n".join(lines) + "\n")


# -- parts of scene iv


def _swapped_wheel(stage: Stage) -> None:
    page, wheel = _small_release(stage, 3)
    stage.gate.sign(page, "Ben")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    blob = stage.gate.home / "gateway" / "blobs" / "sha256" / digest[:2] / digest
    other = make_wheel(
        stage.fresh("other"),
        PROJECT,
        _bump(presspass.__version__, 3),
        {"presspass/x.py": "# other bytes\n"},
    )
    blob.chmod(0o600)
    body = _request(stage, page)
    approval = stage.gate.passkey("Cleo").approve(
        body.to_bytes(), origin=stage.gate.origin, rp_id="localhost"
    )
    blob.write_bytes(other.read_bytes())
    stage.gate.post(f"/api/v1/requests/{body.digest}/approvals", approval.to_bytes())
    stage.tell.touches += 1
    found = stage.gate.until(
        page, lambda r: r["state"] == "rejected", "the press refuses the swapped wheel"
    )
    _expect_code(stage, found, "artifact.digest-mismatch")
    stage.tell.refusal(
        "wheel swapped in the gateway's storage after it was approved",
        f"{found['code']}: {found['reason']}",
    )


def _replayed_approval(stage: Stage) -> None:
    page, _ = _small_release(stage, 4)
    old = stage.gate.release(stage.pages["fixed"])
    target = _request(stage, page)
    approval = Approval.from_json(old["approvals"][0])
    forged = replace(approval, statement=target.digest)
    answer = stage.gate.post(f"/api/v1/requests/{target.digest}/approvals", forged.to_bytes())
    stage.tell.expect(
        answer.json()["code"] == "approval.wrong-statement",
        "the gate must refuse the replay",
        answer.text,
    )
    stage.tell.refusal(
        "an old approval replayed for another release",
        f"{answer.json()['code']}: {answer.json()['detail']}",
    )
    stage.pages["waiting"] = page


def _edited_database(stage: Stage) -> None:
    page = stage.pages["waiting"]
    digest = _request(stage, page).digest
    with sqlite3.connect(stage.gate.home / "gateway" / "gateway.db", timeout=10) as database:
        database.execute(
            "UPDATE release SET state = 'approved' WHERE id = ?", (page.rsplit("/", 1)[-1],)
        )
    database.close()
    found = stage.gate.until(
        page, lambda r: r["press"] is not None, "the press has looked at the request"
    )
    stage.tell.expect(
        found["press"]["state"] == "seen",
        "the press must not believe the row",
        json.dumps(found),
    )
    decision = stage.gate.journal(lambda c: view.decisions(c, [digest]))[digest]
    stage.tell.refusal(
        "the gateway's database edited by hand to say “approved”",
        f"the press counts signatures, not rows: {decision.code}: {decision.message}",
    )


def _removed_key(stage: Stage) -> None:
    page, _ = _small_release(stage, 5)
    target = _request(stage, page)
    head = stage.gate.journal(lambda c: view.head(c, "roster"))
    roster = stage.gate.journal(view.roster)
    dan = _person_of(roster, stage.gate.passkey("Dan").key.id)
    without = Roster(tuple(person for person in roster.people if person.id != dan))
    request = stage.gate.propose(RosterBody(without), head)
    stage.gate.sign(request, "Ben", "Cleo")
    stage.gate.must("wait", request, "--timeout", "20s")
    approval = stage.gate.passkey("Dan").approve(
        target.to_bytes(), origin=stage.gate.origin, rp_id="localhost"
    )
    answer = stage.gate.post(f"/api/v1/requests/{target.digest}/approvals", approval.to_bytes())
    stage.tell.expect(answer.status_code >= 400, "the gate must refuse a removed key", answer.text)
    _put_by_hand(stage, target, approval)
    stage.gate.sign(page, "Ben")
    found = stage.gate.until(
        page,
        lambda r: (
            bool(r["press"])
            and "approval.key-removed" in r["press"]["message"] + r["press"]["code"]
        ),
        "the press counts",
    )
    stage.tell.expect(
        found["state"] == "awaiting",
        "one of two signatures is not enough",
        json.dumps(found["press"]),
    )
    stage.tell.refusal(
        "a removed approver's key, under the roster in which it still stood",
        f"{answer.json()['code']}; the press: {found['press']['message']}",
    )


def _put_by_hand(stage: Stage, target: Statement, approval: Approval) -> None:
    """The row as whoever owns the gateway's database could write it."""
    with sqlite3.connect(stage.gate.home / "gateway" / "gateway.db", timeout=10) as database:
        database.execute(
            "INSERT INTO approval (request, statement, key, approval, note, received_ms) VALUES (?, ?, ?, ?, '', ?)",
            (
                target.digest,
                approval.statement,
                approval.key,
                approval.to_bytes(),
                time.time_ns() // 1_000_000,
            ),
        )
    database.close()


def _small_release(stage: Stage, number: int) -> tuple[str, Path]:
    version = _bump(presspass.__version__, number)
    wheel = make_wheel(
        stage.fresh(f"small-{number}"), PROJECT, version, {"presspass/x.py": f"# {version}\n"}
    )
    answer = stage.publish([wheel], version)
    stage.tell.expect(answer.exit_code == 0, "uv was expected to stage the file", answer.text)
    page = stage.gate.page_of(PROJECT, version)
    stage.gate.until(page, lambda r: r["state"] == "awaiting", "the release waits for signatures")
    return page, wheel


def _request(stage: Stage, page: str) -> Statement:
    return Statement.from_bytes(stage.gate.release(page)["statement"].encode())


def _expect_code(stage: Stage, found: JsonObject, code: str) -> None:
    stage.tell.expect(found["code"] == code, f"expected {code}", json.dumps(found)[:800])


def _person_of(roster: Roster, key: str) -> str:
    owner = roster.owner(key)
    if owner is None:
        raise DemoFailedError("the key is not in the roster")
    return owner.id


# -- small helpers


def _verify(stage: Stage, file: Path, proof: Path) -> Answer:
    words = [
        "verify",
        str(file),
        "--proof",
        str(proof),
        "--trust",
        str(stage.out / "trust-root.json"),
    ]
    command = [sys.executable, "-P", "-c", _OFFLINE, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def _bump(version: str, by: int) -> str:
    major, minor, _ = version.split(".")
    return f"{major}.{minor}.{by}"


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _reason(answer: Answer) -> str:
    """What a client printed at the end: from its last line that names an error on."""
    told = re.search(
        r'"description": "(.*?)"\}', answer.text
    )  # uv shows the whole answer of an exchange
    if told:
        return told.group(1)
    lines = [line.strip() for line in answer.text.splitlines() if line.strip()]
    starts = [
        number
        for number, line in enumerate(lines)
        if "Error" in line or line.startswith(("error", "not valid"))
    ]
    return " ".join(lines[starts[-1] :] if starts else lines[-1:])
