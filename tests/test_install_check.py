"""`presspass install-check`: every hash that a lock file pins has a proof of that package and version, or its line is
named. The files are those that uv, pip and npm really write.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import packages
import peers
from cli_rig import Rig, running
from presspass.cli import exits
from presspass.cli.main import run
from presspass.core.digests import sha256_hex
from presspass.core.ledger import revocations
from presspass.core.ledger.revocations import RevocationHead
from presspass.core.statement import ReleaseBody, ReleaseFile
from presspass.drill.peers import PypiServer, wait_until
from presspass.verify.proof import SignedStatement
from proof_world import Paper


@dataclass
class Shop(Paper):
    """An installation on paper that publishes real files. `folder`: for proofs."""

    bytes_of: dict[str, bytes] = field(default_factory=dict)

    def sha512(self, signed: SignedStatement) -> dict[str, str]:
        files = signed.statement.body_as(ReleaseBody).files
        return {one.sha256: hashlib.sha512(self.bytes_of[one.sha256]).hexdigest() for one in files}

    def publish(
        self, folder: Path, paths: Sequence[Path], project: str, version: str, *names: str
    ) -> None:
        """Writes the proofs of these files, approved by `names`."""
        if not self.chain.upstreams:
            self.add_upstream()
        files = []
        for path in sorted(paths):
            data = path.read_bytes()
            files.append(ReleaseFile(path.name, sha256_hex(data), len(data)))
            self.bytes_of[files[-1].sha256] = data
        body = self.release(files).body_as(ReleaseBody)
        statement = self.statement(replace(body, project=project, version=version))
        proof = self.proof(statement, self.approve(statement, *(names or ("ana", "ben"))))
        folder.mkdir(exist_ok=True)
        for one in files:
            mine = replace(proof, filename=one.name)
            (folder / f"{one.name}.presspass.json").write_bytes(mine.to_bytes())


@dataclass
class Place:
    """A shop, a folder for its proofs, and its trust root."""

    folder: Path
    shop: Shop = field(default_factory=Shop)

    @property
    def proofs(self) -> Path:
        return self.folder / "proofs"

    def wheel(self, version: str = "1.0", project: str = "greet") -> Path:
        return packages.make_wheel(self.folder / "files", project, version)

    def check(self, *words: object) -> int:
        trust = self.folder / "trust-root.json"
        trust.write_bytes(self.shop.genesis.to_bytes())
        self.proofs.mkdir(exist_ok=True)
        more = ("--proofs", self.proofs, "--trust", trust)
        return run(["install-check", *map(str, (*words, *more))])

    def pin(self, *paths: Path, name: str = "greet==1.0", file: str = "requirements.txt") -> Path:
        hashes = "".join(f" --hash=sha256:{sha256_hex(one.read_bytes())}" for one in sorted(paths))
        found = self.folder / file
        with found.open("a") as out:
            out.write(f"{name}{hashes}\n")
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("PRESSPASS_TRUST", raising=False)
    (tmp_path / "files").mkdir()
    return Place(tmp_path)


Capture = pytest.CaptureFixture[str]


def test_a_file_whose_every_hash_has_a_proof_is_valid(place: Place, capsys: Capture) -> None:
    wheel, sdist = place.wheel(), packages.make_sdist(place.folder / "files", "greet", "1.0")
    place.shop.publish(place.proofs, [wheel, sdist], "greet", "1.0")
    file = place.pin(wheel, sdist)
    assert place.check(file) == exits.DONE
    assert capsys.readouterr().out == "VALID  1 of 1 pins have proofs that hold\n"
    assert place.check(file, "--format", "json") == exits.DONE
    told = json.loads(capsys.readouterr().out)
    assert told == {"valid": True, "verdict": "valid", "lines": 1, "left_out": 0, "failures": []}


def test_each_line_that_fails_is_named_with_its_hash_and_reason(
    place: Place, capsys: Capture
) -> None:
    good, other = place.wheel(), place.wheel("1.1")
    place.shop.publish(place.proofs, [good], "greet", "1.0")
    file = place.pin(good)
    place.pin(good, other, name="greet==1.0")
    place.pin(name="bare==1.0")
    digits = sha256_hex(other.read_bytes())
    assert place.check(file) == exits.REFUSED
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"{file}:2: greet 1.0 sha256:{digits[:16]}…: no proof",
        f"{file}:3: bare: it has no hash",
        "NOT VALID  1 of 3 pins have proofs that hold",
    ]
    assert place.check(file, "--format", "json") == exits.REFUSED
    told = json.loads(capsys.readouterr().out)["failures"]
    assert [(one["line"], one["hash"], one["code"]) for one in told] == [
        (2, f"sha256:{digits}", "no-proof"),
        (3, "", "unpinned"),
    ]


def test_bytes_that_were_approved_as_something_else_are_no_answer(
    place: Place, capsys: Capture
) -> None:
    old, other = place.wheel("0.9"), place.wheel("1.0", "other")
    place.shop.publish(place.proofs, [old], "greet", "0.9")
    place.shop.publish(place.proofs, [other], "other", "1.0")
    file = place.pin(old)
    place.pin(other)
    place.pin(old, name="greet")
    place.pin(other, name="Other==1.0.0")
    assert place.check(file) == exits.REFUSED
    out = capsys.readouterr().out
    assert "its proof is of greet 0.9" in out and "its proof is of other 1.0" in out
    assert f"{file}:3" not in out and f"{file}:4" not in out


def test_a_proof_that_does_not_hold_is_none_and_says_why(place: Place, capsys: Capture) -> None:
    wheel = place.wheel()
    place.shop.publish(place.proofs, [wheel], "greet", "1.0", "ana")
    (place.proofs / "junk.presspass.json").write_text("{}")
    (place.proofs / "folder.presspass.json").mkdir()
    assert place.check(place.pin(wheel)) == exits.REFUSED
    told = capsys.readouterr()
    assert "0 of 1 needed approvals count" in told.out
    assert "junk.presspass.json is no proof" in told.err
    assert "folder.presspass.json cannot be read" in told.err


def test_proofs_of_another_installation_do_not_count(place: Place) -> None:
    wheel = place.wheel()
    Shop().publish(place.proofs, [wheel], "greet", "1.0")
    assert place.check(place.pin(wheel)) == exits.REFUSED
    place.shop.publish(place.proofs, [wheel], "greet", "1.0")
    assert place.check(place.folder / "requirements.txt") == exits.DONE


def test_a_link_to_a_folder_fails_where_its_name_is_asked_for(
    place: Place, capsys: Capture
) -> None:
    listed = {
        "": {},
        "vendor/greet": {"version": "1.0.0"},
        "node_modules/greet": {"resolved": "vendor/greet", "link": True},
    }
    file = place.folder / "package-lock.json"
    file.write_text(json.dumps({"lockfileVersion": 3, "packages": listed}))
    assert place.check(file, "--only", "greet") == exits.REFUSED
    assert "greet: it is linked to a folder" in capsys.readouterr().out
    assert place.check(file) == exits.CANNOT_SAY


def test_only_leaves_out_packages_of_others_and_never_a_line_without_a_name(
    place: Place, capsys: Capture
) -> None:
    wheel = place.wheel()
    place.shop.publish(place.proofs, [wheel], "greet", "1.0")
    file = place.pin(wheel)
    place.pin(place.wheel("2.0", "foreign"), name="foreign==2.0")
    assert place.check(file) == exits.REFUSED
    capsys.readouterr()
    for pattern in ("greet", "Gre*", "gree?"):
        assert place.check(file, "--only", pattern) == exits.DONE
        told = "VALID  1 of 1 pins have proofs that hold; 1 left out\n"
        assert capsys.readouterr().out == told
    assert place.check(file, "--only", "gret") == exits.CANNOT_SAY
    place.pin(name="./unnamed.whl")
    assert place.check(file, "--only", "greet") == exits.REFUSED


def test_includes_are_read_from_the_same_folder_once_and_from_nowhere_else(
    place: Place, capsys: Capture
) -> None:
    wheel = place.wheel()
    place.shop.publish(place.proofs, [wheel], "greet", "1.0")
    place.pin(wheel, file="base.txt")
    place.pin(name="-r requirements.txt", file="base.txt")
    file = place.pin(name="-r base.txt")
    assert place.check(file) == exits.DONE
    place.pin(name="bare==1.0", file="base.txt")
    assert place.check(file) == exits.REFUSED
    assert "base.txt:3: bare: it has no hash" in capsys.readouterr().out
    for elsewhere in ("../base.txt", "sub/base.txt", "https://files.example/base.txt", "/x.txt"):
        other = place.folder / "other.txt"
        other.write_text(f"-r {elsewhere}\n")
        assert place.check(other) == exits.REFUSED
        assert "other.txt:1: this line: it includes a file" in capsys.readouterr().out
    file.write_text("-r missing.txt\n")
    assert place.check(file) == exits.CANNOT_SAY


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("requirements.txt", b""), ("requirements.txt", b"# nothing\n--pre\n"), ("requirements.txt", b"\xff"),
        ("package-lock.json", b"{}"), ("uv.lock", b"version = 9"), ("pylock.toml", b"x"),
    ],
)  # fmt: skip
def test_of_a_file_that_pins_nothing_or_cannot_be_read_nothing_is_said(
    place: Place, capsys: Capture, name: str, content: bytes
) -> None:
    file = place.folder / name
    file.write_bytes(content)
    assert place.check(file) == exits.CANNOT_SAY
    told = capsys.readouterr()
    assert "VALID" not in told.out and "error:" in told.err


def test_what_is_needed_and_missing_is_asked_for(place: Place, tmp_path: Path) -> None:
    file = place.pin(place.wheel())
    trust = tmp_path / "none.json"
    for words in (
        [], [str(file)], [str(file), "--proofs", str(tmp_path)],
        [str(file), "--proofs", str(tmp_path), "--url", "https://gate.example", "--trust", str(trust)],
        [str(file), "--proofs", str(tmp_path), "--trust", str(trust)],
        [str(file), "--proofs", str(tmp_path), "--trust", str(file)],
        [str(tmp_path / "none.txt"), "--proofs", str(tmp_path), "--trust", str(trust)],
    ):  # fmt: skip
        assert run(["install-check", *words]) == exits.CANNOT_SAY, words


def test_what_was_revoked_since_fails_and_without_a_young_head_nothing_is_said(
    place: Place, capsys: Capture
) -> None:
    wheel, now = place.wheel(), int(time.time())
    place.shop.publish(place.proofs, [wheel], "greet", "1.0")
    file, head = place.pin(wheel), place.folder / "revocations"
    key, origin = place.shop.log_key, place.shop.chain.log.origin

    def sign(*files: str, time_s: int = now) -> None:
        found = RevocationHead(origin, 5, time_s, tuple(sorted(files)))
        head.write_bytes(revocations.sign(found, key.public_key().public_bytes_raw(), key.sign))

    asked = (file, "--revocations", head, "--max-age", "15m")
    assert place.check(*asked) == exits.CANNOT_SAY
    assert place.check(file, "--max-age", "15m") == exits.CANNOT_SAY
    assert "CANNOT SAY  0 of 1 pins" in capsys.readouterr().out
    sign("0" * 64)
    assert place.check(*asked) == exits.DONE
    sign("0" * 64, time_s=now - 3600)
    assert place.check(*asked) == exits.CANNOT_SAY
    assert place.check(file, "--revocations", head) == exits.DONE
    sign(sha256_hex(wheel.read_bytes()), time_s=now - 3600)
    assert place.check(*asked) == exits.REFUSED
    assert place.check(file, "--revocations", head) == exits.REFUSED
    assert "has been revoked since" in capsys.readouterr().out


def test_a_cosignature_that_was_asked_for_must_be_there(place: Place, capsys: Capture) -> None:
    wheel = place.wheel()
    place.shop.publish(place.proofs, [wheel], "greet", "1.0")
    witness = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    assert place.check(place.pin(wheel), "--witness", witness) == exits.CANNOT_SAY
    assert "lacks a cosignature" in capsys.readouterr().out


def test_a_lock_file_that_the_real_npm_writes_is_held_to_the_proof_of_its_tarball(
    place: Place, capsys: Capture, npm: Callable[..., peers.Answer]
) -> None:
    source, app = place.folder / "source", place.folder / "app"
    for folder, told in (
        (source, {"name": "@acme/greet", "version": "1.2.3"}),
        (app, {"name": "app", "version": "0.0.0"}),
    ):
        folder.mkdir()
        (folder / "package.json").write_text(json.dumps(told))
    (source / "index.js").write_text("module.exports = 1;\n")
    quiet = ("--offline", "--no-audit", "--no-fund", "--cache", str(place.folder / "cache"))
    packed = npm("pack", str(source), "--pack-destination", str(app), *quiet)
    assert packed.exit_code == 0, packed.text
    [tarball] = app.glob("*.tgz")
    made = npm("install", str(tarball), "--package-lock-only", "--prefix", str(app), *quiet)
    assert made.exit_code == 0, made.text
    lock = app / "package-lock.json"
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    assert f"sha512-{digest}" in lock.read_text()
    assert place.check(lock) == exits.REFUSED
    assert "@acme/greet 1.2.3 sha512:" in capsys.readouterr().out
    place.shop.publish(place.proofs, [tarball], "@acme/greet", "1.2.3")
    assert place.check(lock) == exits.DONE
    shrunk = app / "npm-shrinkwrap.json"
    shutil.copy(lock, shrunk)
    assert place.check(lock, shrunk, "--only", "@acme/*") == exits.DONE
    words = [
        str(lock),
        "--url",
        "http://localhost:1",
        "--trust",
        str(place.folder / "trust-root.json"),
    ]
    assert run(["install-check", *words]) == exits.CANNOT_SAY
    assert "SHA-512" in capsys.readouterr().err


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PypiServer]:
    peers.require_peer("pypi-server")
    folder = tmp_path_factory.mktemp("registry")
    with PypiServer(folder / "registry", "__token__", "upstream-secret") as running_one:
        yield running_one


@pytest.fixture(scope="module")
def gate(
    tmp_path_factory: pytest.TempPathFactory, ssh_keygen: Path, registry: PypiServer
) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("gate")) as rig:
        rig.seal()
        rig.add_upstream(registry.upload_url, registry.simple_url, str(registry.password))
        yield rig


def release(gate: Rig, folder: Path, version: str) -> list[Path]:
    """Publishes a wheel and an sdist of greet through the gate."""
    folder.mkdir()
    paths = [
        packages.make_wheel(folder, "greet", version),
        packages.make_sdist(folder, "greet", version),
    ]
    url = gate.submit(gate.token("greet"), *paths)
    wait_until(lambda: gate.ask("status", url)["state"] == "awaiting", f"{url} awaits")
    gate.approve(url, "ada", "grace")
    gate.run("wait", url, "--timeout", "60s")
    return paths


def test_a_hashed_file_that_uv_writes_is_checked_against_the_gate_and_a_past_gate_file_fails(
    gate: Rig, registry: PypiServer, tmp_path: Path
) -> None:
    paths = release(gate, tmp_path / "1.0", "1.0")
    wanted, locked = tmp_path / "requirements.in", tmp_path / "requirements.txt"
    wanted.write_text("greet==1.0\n")
    compile_ = [
        peers.require_peer("uv"), "pip", "compile", "--no-config", "--generate-hashes", "--emit-index-url",
        "--default-index", registry.simple_url, "--cache-dir", tmp_path / "cache", wanted, "-o", locked,
    ]  # fmt: skip
    made = peers.run_client(compile_)
    assert made.exit_code == 0, made.text
    assert all(sha256_hex(path.read_bytes()) in locked.read_text() for path in paths)
    trust = ("--trust", gate.home / "trust-root.json")
    told = gate.ask("install-check", locked, "--url", gate.origin, *trust)
    assert (told["valid"], told["lines"]) == (True, 1)
    # the other files that uv writes
    pylock = tmp_path / "pylock.toml"
    made = peers.run_client([*compile_[:-1], pylock, "--format", "pylock.toml"])
    assert made.exit_code == 0, made.text
    (tmp_path / "app").mkdir()
    project = tmp_path / "app" / "pyproject.toml"
    project.write_text(
        '[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["greet==1.0"]\n'
    )
    lock = [*compile_[:1], "lock", "--no-config", "--default-index", registry.simple_url]
    lock += ["--cache-dir", tmp_path / "cache", "--project", project.parent]
    made = peers.run_client(lock)
    assert made.exit_code == 0, made.text
    both = (pylock, project.parent / "uv.lock")
    told = gate.ask("install-check", *both, "--url", gate.origin, *trust)
    assert (told["valid"], told["lines"]) == (True, 2)
    # with a young head, and then revoked
    words = ("--reason", "broken", "--url", gate.origin, *gate.key("ada"), "--yes")
    head = tmp_path / "revocations"
    asked = (*trust, "--revocations", head, "--max-age", "15m")
    head.write_bytes(newest(gate))
    digits = sha256_hex(paths[0].read_bytes())
    gate.run("revoke", "file", paths[0], *words)
    wait_until(lambda: digits.encode() in newest(gate), "the head lists the file")
    head.write_bytes(newest(gate))
    said = gate.run("install-check", locked, "--url", gate.origin, *asked, code=exits.REFUSED)
    assert "has been revoked since" in said
    # what somebody has put into the registry past the gate
    registry.packages.joinpath("greet-1.1.tar.gz").write_bytes(
        packages.make_sdist(tmp_path, "greet", "1.1").read_bytes()
    )
    wanted.write_text("greet==1.1\n")
    made = peers.run_client([*compile_, "--upgrade"])
    assert made.exit_code == 0, made.text
    said = gate.run("install-check", locked, "--url", gate.origin, *trust, code=exits.REFUSED)
    assert "greet 1.1" in said and "no proof" in said


def newest(gate: Rig) -> bytes:
    """The gate's revocation head."""
    import httpx2

    return httpx2.get(f"{gate.origin}/log/revocations").content


def test_a_pin_that_pip_itself_hashes_is_checked_against_a_folder_and_pip_installs_by_it(
    gate: Rig, registry: PypiServer, tmp_path: Path
) -> None:
    [wheel, sdist] = release(gate, tmp_path / "2.0", "2.0")
    pip = [peers.require_peer("python"), "-m", "pip", "--disable-pip-version-check"]
    hashed = peers.run_client([*pip, "hash", wheel])
    assert hashed.exit_code == 0, hashed.text
    [written] = [line for line in hashed.stdout.splitlines() if line.startswith("--hash=")]
    locked = tmp_path / "requirements.txt"
    locked.write_text(f"greet==2.0 {written}\n")
    proofs = tmp_path / "proofs"
    proofs.mkdir()
    import httpx2

    digits = sha256_hex(wheel.read_bytes())
    proof = httpx2.get(f"{gate.origin}/log/proof/{digits}").content
    (proofs / f"{wheel.name}.presspass.json").write_bytes(proof)
    words = ("--proofs", proofs, "--trust", gate.home / "trust-root.json")
    assert gate.ask("install-check", locked, *words)["valid"] is True
    target = tmp_path / "installed"
    done = peers.run_client(
        [*pip, "install", "--require-hashes", "--no-deps", "--index-url", registry.simple_url]
        + ["--target", target, "-r", locked]
    )
    assert done.exit_code == 0, done.text
    assert (target / "greet").is_dir()
    with locked.open("a") as out:
        out.write(f"greet==2.0 --hash=sha256:{sha256_hex(sdist.read_bytes())}\n")
    said = gate.run("install-check", locked, *words, code=exits.REFUSED)
    assert f"{locked}:2: greet 2.0 sha256:" in said


def test_a_gate_that_is_not_there_leaves_nothing_to_say(place: Place, capsys: Capture) -> None:
    file = place.pin(place.wheel())
    trust = place.folder / "trust-root.json"
    trust.write_bytes(place.shop.genesis.to_bytes())
    words = [str(file), "--url", "http://localhost:1", "--trust", str(trust)]
    assert run(["install-check", *words]) == exits.CANNOT_SAY
    assert "cannot be reached" in capsys.readouterr().err
