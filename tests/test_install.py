"""What `pip install presspass[verify]` brings is enough to verify, without a network and without the rest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import peers
from presspass.cli import exits
from presspass.cli.installed import GATE
from presspass.cli.main import ALONE, COMMANDS

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "reference" / "example"
FILE = EXAMPLE / "demo-1.0.tar.gz"
TRUST = EXAMPLE / "trust-root.json"
TIMEOUT_S = 120
ONLY_LOOPBACK = "import socket; print([name for _, name in socket.if_nameindex()])"

CLEAN = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INDEX": "1",
}

Answer = subprocess.CompletedProcess[str]


def run(*words: object, cwd: Path = ROOT) -> Answer:
    """A program that finds nothing of the environment in which the tests run, nor a configuration of pip."""
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=CLEAN,
        text=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def succeed(*words: object) -> str:
    done = run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# the environment


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found


def applies(one: Requirement, extras: set[str]) -> bool:
    """Whether the requirement counts on this machine, with these extras."""
    named = ({**default_environment(), "extra": extra} for extra in extras | {""})
    return one.marker is None or any(one.marker.evaluate(values) for values in named)


def brought_by(requirements: list[Requirement]) -> set[str]:
    """Names, in normal form, of every distribution to which these come; all are installed where the tests run."""
    found: dict[str, set[str]] = {}
    while requirements:
        one = requirements.pop()
        name = canonicalize_name(one.name)
        if name in found and one.extras <= found[name]:
            continue
        extras = found.setdefault(name, set())
        extras |= one.extras
        further = map(Requirement, metadata.requires(name) or ())
        requirements += [each for each in further if applies(each, extras)]
    return set(found)


def copy_distribution(name: str, target: Path) -> None:
    """The files of a distribution as they are installed here, without its programs."""
    distribution = metadata.distribution(name)
    for one in distribution.files or ():
        if ".." not in one.parts and "__pycache__" not in one.parts:
            place = target.joinpath(*one.parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(distribution.locate_file(one)), place)


@dataclass(frozen=True)
class Installed:
    """An environment of its own. `brought`: names of what the extra `verify` comes to."""

    folder: Path
    brought: set[str]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def presspass(self) -> Path:
        return self.folder / "bin" / "presspass"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A new environment with what the extra comes to, into which pip, without an index, installs the built wheel."""
    place = tmp_path_factory.mktemp("install")
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place)
    (wheel,) = place.glob("presspass-*.whl")
    succeed(sys.executable, "-m", "venv", place / "venv")
    (packages,) = (place / "venv").glob("lib/python3*/site-packages")
    (made_of,) = metadata.distributions(name="presspass", path=[str(wheel)])
    wanted = [Requirement(line) for line in made_of.requires or ()]
    brought = brought_by([one for one in wanted if applies(one, {"verify"})])
    for name in brought:
        copy_distribution(name, packages)
    found = Installed(place / "venv", brought)
    succeed(found.python, "-m", "pip", "install", f"{wheel}[verify]")
    succeed(found.python, "-m", "pip", "check")
    return found


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """The words before a command by which it runs without any network."""
    unshare = peers.require_program("unshare", package="util-linux")
    tried = [[str(unshare), "--net", *more] for more in ([], ["--map-root-user"])]
    for words in tried:
        if run(*words, sys.executable, "-c", ONLY_LOOPBACK).stdout == "['lo']\n":
            return words
    return peers.missing("this machine makes no network namespaces")


# what it can do


def test_the_environment_has_what_verify_needs_and_nothing_else(installed: Installed) -> None:
    listed = json.loads(succeed(installed.python, "-m", "pip", "list", "--format", "json"))
    names = {canonicalize_name(one["name"]) for one in listed}
    assert names - {"pip", "setuptools"} == installed.brought | {"presspass"}
    assert installed.brought < {canonicalize_name(name) for name in names_in_lock()}
    assert len(installed.brought) <= 6


def names_in_lock() -> list[str]:
    text = (ROOT / "locks" / "runtime.txt").read_text()
    return re.findall(r"^([\w.-]+)(?:\[.*\])?==", text, re.MULTILINE)


def test_a_proof_is_checked_there_without_a_network(
    installed: Installed, alone: list[str], tmp_path: Path
) -> None:
    def verify(file: Path, *more: object) -> Answer:
        return run(*alone, installed.presspass, "verify", file, "--trust", TRUST, *more)

    good = verify(FILE)
    assert (good.returncode, good.stderr) == (exits.DONE, "")
    assert good.stdout.startswith("VALID  demo-1.0.tar.gz\n")
    assert json.loads(verify(FILE, "--format", "json").stdout)["valid"] is True
    changed = tmp_path / FILE.name
    data = bytearray(FILE.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    wrong = verify(changed, "--proof", f"{FILE}.presspass.json")
    assert wrong.returncode == exits.REFUSED
    assert "[proof.wrong-file]" in wrong.stderr
    unproved = verify(changed)
    assert unproved.returncode == exits.CANNOT_SAY
    assert "nothing can be said" in unproved.stderr
    for done in (good, wrong, unproved):
        assert "Traceback" not in done.stderr


def test_a_lock_file_is_checked_there_without_a_network(
    installed: Installed, alone: list[str], tmp_path: Path
) -> None:
    def check(sha256: str, *more: object) -> Answer:
        lock = tmp_path / "requirements.txt"
        lock.write_text(f"demo==1.0 --hash=sha256:{sha256}\n")
        words = ("install-check", lock, "--trust", TRUST)
        return run(*alone, installed.presspass, *words, *(more or ("--proofs", EXAMPLE)))

    good = hashlib.sha256(FILE.read_bytes()).hexdigest()
    done = check(good)
    assert (done.returncode, done.stderr) == (exits.DONE, "")
    assert done.stdout.startswith("VALID  1 of 1 ")
    assert check("0" * 64).returncode == exits.REFUSED
    asked = check(good, "--url", "https://gate.example")
    assert asked.returncode == exits.CANNOT_SAY
    assert "`presspass install-check --url` needs packages" in asked.stderr
    assert "[install.incomplete]" in asked.stderr


def test_the_library_is_imported_there(installed: Installed) -> None:
    program = "from presspass.verify import evidence, ledger, proof; print(proof.__file__)"
    assert succeed(installed.python, "-c", program).startswith(str(installed.folder))


def test_every_command_is_listed_there_and_the_version_told(installed: Installed) -> None:
    listed = succeed(installed.presspass, "--help")
    assert all(text in listed for _module, text in COMMANDS.values())
    assert succeed(installed.presspass, "--version").startswith("presspass, version")
    assert "trust root" in succeed(installed.presspass, "verify", "--help")


def test_each_other_command_says_what_to_install(installed: Installed, tmp_path: Path) -> None:
    for name in sorted(set(COMMANDS) - ALONE):
        done = run(installed.presspass, name, "--home", "here", cwd=tmp_path)
        assert done.returncode == exits.CANNOT_SAY, name
        assert done.stdout == ""
        first, second = done.stderr.splitlines()
        assert first == (
            f"error: `presspass {name}` needs packages that are not installed here, as alembic. [install.incomplete]"
        )
        assert second == "  Install them: pip install 'presspass[gate]'."
    told = run(installed.presspass, "status", "--format", "json")
    assert json.loads(told.stdout)["error"]["code"] == "install.incomplete"
    assert list(tmp_path.iterdir()) == []


# what the project says of it


def distributions(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_the_extra_verify_names_what_is_brought_anyway() -> None:
    found = project()["project"]
    assert found["optional-dependencies"]["verify"] == found["dependencies"]


def test_what_a_command_looks_for_is_what_the_extra_gate_brings() -> None:
    """One that has no wheel everywhere, and so a marker, may be missing."""
    wanted = map(Requirement, project()["project"]["optional-dependencies"]["gate"])
    needed = {canonicalize_name(one.name) for one in wanted if one.marker is None}
    owners = metadata.packages_distributions()
    assert {canonicalize_name(owner) for one in GATE for owner in owners[one]} == needed


def test_the_import_contract_of_verify_forbids_all_that_the_extra_gate_brings() -> None:
    settings = project()
    (contract,) = (
        one
        for one in settings["tool"]["importlinter"]["contracts"]
        if one["id"] == "verify-needs-little"
    )
    owners = metadata.packages_distributions()
    forbidden = {
        canonicalize_name(name) for one in contract["forbidden_modules"] for name in owners[one]
    }
    assert forbidden == distributions(settings["project"]["optional-dependencies"]["gate"])
