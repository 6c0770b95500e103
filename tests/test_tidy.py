"""House rules as tests: what may not stand in the tree, how long a function may grow, what the locks must say."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_LINES_MAX = 90
FILE_BYTES_MAX = 2 * 1024 * 1024

# Joined from parts, so that this file does not break its own rule.
REGISTRY_HOSTS = [
    r"\b" + r"\.".join(parts) + r"\b"
    for parts in (
        ("pypi", "org"),
        ("pypi", "python", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "(?:org|com)"),
        ("yarnpkg", "com"),
        ("debian", "(?:org|net)"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("proxy", "golang", "org"),
    )
]
MACHINE_PATHS = [r"(?<![\w}.])/(?:" + "|".join(("work", "root", "home", "Users")) + r")/\w"]
LEFT_FOR_LATER = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
IGNORED_FOLDERS = {
    *(
        ".git",
        ".venv",
        ".venv-peers",
        ".venv-interop",
        ".demo",
        "build",
        "dist",
        "__pycache__",
        "node_modules",
    ),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache"),
}

CORE_MAY_IMPORT = {
    # values, text, numbers and digests; nothing that reads a clock, a file or the network
    *(
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "enum",
    ),
    *("functools", "hashlib", "hmac", "itertools", "json", "math", "operator", "re", "string"),
    *("struct", "textwrap", "types", "typing", "unicodedata", "urllib"),
    *("packaging", "presspass", "rfc8785"),
}


def tree() -> Iterator[Path]:
    """Every file of the project that could be committed."""
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.name in IGNORED_FOLDERS or path.suffix == ".egg-info" or path.is_symlink():
                continue
            if path.is_dir():
                pending.append(path)
            else:
                yield path


def texts() -> Iterator[tuple[str, str]]:
    """Path (relative) and text of every file that is text."""
    for path in tree():
        body = path.read_bytes()
        if b"\0" not in body:
            yield str(path.relative_to(ROOT)), body.decode("utf-8", "replace")


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def functions() -> Iterator[tuple[int, str]]:
    """Length in lines and place of every function; a migration is a list of columns, however long."""
    for path, module in modules("src"):
        if "/migrations/" in path:
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                yield length, f"{path}:{node.lineno} {node.name}"


def test_no_host_name_of_a_registry_stands_in_the_tree() -> None:
    assert lines_matching(re.compile("|".join(REGISTRY_HOSTS), re.IGNORECASE)) == []


def test_no_path_of_somebodys_machine_stands_in_the_tree() -> None:
    assert lines_matching(re.compile("|".join(MACHINE_PATHS))) == []


def test_these_rules_find_what_they_look_for() -> None:
    host, path = "files." + "python" + "hosted.org", "in /" + "root/x"
    assert any(re.search(pattern, host) for pattern in REGISTRY_HOSTS)
    assert any(re.search(pattern, path) for pattern in MACHINE_PATHS)


def test_what_is_left_for_later_names_an_issue() -> None:
    found = [line for line in lines_matching(LEFT_FOR_LATER) if not re.search(r"#\d+", line)]
    assert found == []


def test_a_silenced_check_says_why() -> None:
    silenced = re.compile(r"#\s*(?:type:\s*ignore|noqa)(?P<rest>.*)$")
    bare = re.compile(r"^(?:\[[\w, -]+\]|:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?\s*(?:#\s*)?$")
    found = [
        f"{path}:{number}"
        for path, text in texts()
        if path.endswith((".py", ".pyi"))
        for number, line in enumerate(text.splitlines(), 1)
        if (match := silenced.search(line)) and bare.match(match["rest"])
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    assert [path for path, module in modules("src", "tests") if not ast.get_docstring(module)] == []


def test_no_function_outgrows_a_sitting(capsys: pytest.CaptureFixture[str]) -> None:
    lengths = sorted(functions())
    assert [place for length, place in lengths if length > FUNCTION_LINES_MAX] == []
    median, p90 = (lengths[int(len(lengths) * share)][0] for share in (0.5, 0.9))
    with capsys.disabled():
        longest = f"longest {lengths[-1][0]} ({lengths[-1][1]})"
        print(f"\nfunctions: {len(lengths)}, median {median}, p90 {p90} lines, {longest}")


def test_core_imports_only_what_cannot_act() -> None:
    found = []
    for path, module in modules("src/presspass/core"):
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            found += [f"{path}: {n}" for n in names if n.split(".")[0] not in CORE_MAY_IMPORT]
    assert found == []


def test_core_reads_no_clock() -> None:
    clocks = {"now", "today", "utcnow"}
    found = [
        f"{path}:{node.lineno}"
        for path, module in modules("src/presspass/core")
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr in clocks
    ]
    assert found == []


def test_no_file_is_too_large_to_read() -> None:
    assert [str(path) for path in tree() if path.stat().st_size > FILE_BYTES_MAX] == []


# --- the locks --------------------------------------------------------------------------------------------------------


def wanted(name: str) -> dict[str, Requirement]:
    """The requirements of locks/NAME.in, those it takes in from others included."""
    found: dict[str, Requirement] = {}
    for line in (ROOT / "locks" / f"{name}.in").read_text().splitlines():
        if line.startswith("-r "):
            found |= wanted(line.removeprefix("-r ").removesuffix(".in"))
        elif line and not line.startswith(("#", "-")):
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Name to version and number of hashes, of locks/NAME.txt."""
    text = (ROOT / "locks" / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    found = {}
    for line in lines:
        match = re.match(r"(?P<name>[\w.-]+)(\[[\w, -]+\])?==(?P<version>\S+)", line)
        assert match is not None, f"not an exact pin: {line}"
        found[canonicalize_name(match["name"])] = (match["version"], line.count("--hash=sha256:"))
    return found


LOCKS = ("runtime", "dev", "peers")


@pytest.mark.parametrize("name", LOCKS)
def test_every_lock_pins_everything_it_wants_with_hashes(name: str) -> None:
    pinned = pins(name)
    assert set(wanted(name)) - set(pinned) == set()
    assert [pin for pin, (_, hashes) in pinned.items() if hashes == 0] == []


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_names_a_place_to_fetch_from(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    fetch = re.compile(r"://|^\s*--(?!hash=)|^-|@ |\bfile:", re.MULTILINE)
    found = [line for line in text.splitlines() if fetch.search(line.replace("--hash=", ""))]
    assert found == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_lock_names_the_extras_it_wants(name: str) -> None:
    """Else pip before 23.3 takes what it finds for `package[extra]`, and refuses it for want of a hash."""
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    for wish in wanted(name).values():
        if wish.extras:
            assert f"\n{wish.name}[{', '.join(sorted(wish.extras))}]==" in f"\n{text}", wish


def npm_lock() -> dict[str, dict[str, Any]]:
    """Folder to entry, of every package in locks/npm/package-lock.json; the project itself is the folder ""."""
    lock = json.loads((ROOT / "locks" / "npm" / "package-lock.json").read_text())
    assert lock["lockfileVersion"] == 3
    return dict(lock["packages"])


def test_the_npm_lock_pins_everything_it_wants_with_an_integrity() -> None:
    project = json.loads((ROOT / "locks" / "npm" / "package.json").read_text())
    wanted = project["dependencies"] | project["optionalDependencies"]
    packages = npm_lock()
    root = packages.pop("")
    assert root["dependencies"] | root["optionalDependencies"] == wanted
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    # What a package carries inside itself is under that package's integrity.
    loose = [name for name, entry in packages.items() if not entry.get("inBundle")]
    assert len(loose) > len(wanted)
    sha512 = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
    assert [n for n in loose if not sha512.fullmatch(packages[n].get("integrity", ""))] == []
    bundles = [name for name in loose if any(n.startswith(f"{name}/") for n in packages)]
    assert [n for n in packages if n not in loose and not n.startswith(tuple(bundles))] == []


def test_the_npm_lock_names_no_place_to_fetch_from() -> None:
    """Only a package's request for funding may name an address: npm fetches nothing from there."""
    packages = npm_lock()
    assert [
        name for name, entry in packages.items() if "resolved" in entry or "link" in entry
    ] == []
    rest = [{k: v for k, v in entry.items() if k != "funding"} for entry in packages.values()]
    fetch = re.compile(r"://|\bfile:|\bgit\+|\bgithub:|\bnpm:")
    assert [entry for entry in rest if fetch.search(json.dumps(entry))] == []
    settings = (ROOT / "locks" / "npm" / ".npmrc").read_text().splitlines()
    assert "omit-lockfile-registry-resolved=true" in settings
    assert "ignore-scripts=true" in settings


def test_the_dev_lock_tests_the_versions_that_the_runtime_lock_ships() -> None:
    dev = pins("dev")
    assert {name: pin for name, pin in pins("runtime").items() if dev.get(name) != pin} == {}


def test_the_project_and_the_runtime_lock_want_the_same_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["gate"]]
    named = {canonicalize_name(Requirement(line).name) for line in lines}
    assert named == set(wanted("runtime"))
    pinned = pins("runtime")
    for line in lines:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)][0]), line


def test_the_version_stands_in_one_place_and_its_copy_agrees() -> None:
    import presspass

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert presspass.__version__ == project["version"]
