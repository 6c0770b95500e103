"""The documentation says what is: its commands exist, its walk-through runs, its tables are those of the code."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

import docs_examples
import packages
import peers
from presspass.cli.exits import DONE
from presspass.cli.main import presspass, run
from presspass.core import limits
from presspass.core.approval import Approval
from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import SETTLED, TRANSITIONS
from presspass.core.statement import Statement
from presspass.drill.peers import PypiServer, free_port
from presspass.gateway.problems import STATUS
from presspass.services.config import Config

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
)
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WALK_S_MAX = 180
_HELP = {"--help", "-h"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, kind: str) -> list[str]:
    return [body for found, body in CODE_BLOCK.findall(page.read_text()) if found == kind]


def blocks_under(page: Path, heading: str, kind: str) -> list[str]:
    """Blocks of this kind between this heading and the next one of its level."""
    text = page.read_text().partition(f"\n{heading}\n")[2]
    text = text.partition(f"\n{heading.split()[0]} ")[0]
    return [body for found, body in CODE_BLOCK.findall(text) if found == kind]


def rows(page: Path, heading: str) -> list[list[str]]:
    """Cells of the first table after `heading` (its own header left out)."""
    text = page.read_text().partition(f"{heading}\n")[2]
    table = list(_from_table(iter(text.splitlines())))
    assert len(table) > 2, f"{name(page)} has no table under {heading!r}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def _from_table(lines: Iterator[str]) -> Iterator[str]:
    started = False
    for line in lines:
        if line.startswith("|"):
            started = True
            yield line
        elif started:
            return


def codes_in(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# commands


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Place and words of every `presspass …` command in a block marked sh."""
    for page in PAGES:
        for body in blocks(page, "sh"):
            for line in body.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^|[(\s])(presspass\s.*)", line)
                if found and not line.startswith(("printf", "until grep", "#")):
                    yield name(page), words_of(found[1])


def words_of(command: str) -> list[str]:
    command = command.split(" > ")[0].split(" | ")[0]
    if command.count("(") < command.count(")"):
        command = command.rpartition(")")[0]
    return shlex.split(command)


def option_names(command: click.Command) -> set[str]:
    found = {
        one for parameter in command.params for one in (*parameter.opts, *parameter.secondary_opts)
    }
    return found | _HELP


def check_command(words: list[str]) -> None:
    """The command (and subcommand) exists and takes every option that is used."""
    command: click.Command = presspass
    rest = words[1:]
    while isinstance(command, click.Group):
        assert rest, f"{' '.join(words)} names no command"
        sub = command.get_command(click.Context(command), rest[0])
        assert sub is not None, f"there is no command {rest[0]!r}: {' '.join(words)}"
        command, rest = sub, rest[1:]
    used = {word.partition("=")[0] for word in rest if word.startswith("--") and word != "--"}
    unknown = used - option_names(command)
    assert not unknown, f"{' '.join(words)} has unknown options {unknown}"


def test_every_command_in_the_documentation_exists_with_its_options() -> None:
    found = list(command_lines())
    assert len(found) > 25, "the documentation shows commands, and this test sees them"
    for place, words in found:
        try:
            check_command(words)
        except AssertionError as error:
            raise AssertionError(f"{place}: {error}") from None


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    for wrong in ("presspass publish x", "presspass init --colour red", "presspass token make"):
        with pytest.raises(AssertionError):
            check_command(wrong.split())


def test_options_named_in_the_text_belong_to_some_command() -> None:
    known = set(_HELP)
    pending: list[click.Command] = [presspass]
    while pending:
        command = pending.pop()
        known |= option_names(command)
        if isinstance(command, click.Group):
            context = click.Context(command)
            subs = [command.get_command(context, one) for one in command.list_commands(context)]
            pending += [sub for sub in subs if sub is not None]
    of_clients = {
        "--skip-existing",
        "--attestations",
        "--verbose",
        "--repository",
        "--no-build",
        "--comment",
        "--hash",
        "--require-hashes",
        "--locked",
    }
    for page in DOCS.rglob("*.md"):
        prose = CODE_BLOCK.sub("", page.read_text())
        for code in codes_in(prose):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
                assert option in known | of_clients, (
                    f"{name(page)} names {option}, which nothing takes"
                )


# the walk-through


def walk_through(port: int, registry: PypiServer) -> str:
    """The sh blocks of the first gate as one script, with this test's ports and password."""
    script = "\n".join(blocks(DOCS / "first-gate.md", "sh"))
    replaced = {
        "http://localhost:8461/simple/": registry.simple_url,
        "http://localhost:8461/": registry.upload_url,
        "registry-password": str(registry.password),
        "8460": str(port),
    }
    for old, new in replaced.items():
        assert old in script
        script = script.replace(old, new)
    return "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + script


def walk_environment(folder: Path) -> dict[str, str]:
    """The commands of this project and of the peers, and a `curl` where the machine has none."""
    programs = folder / "programs"
    programs.mkdir()
    shim = programs / "curl"
    fetch = "import sys, urllib.request; urllib.request.urlretrieve(sys.argv[4], sys.argv[3])"
    for program, words in {
        "presspass": "-m presspass.cli.main",
        "curl": f"-c {shlex.quote(fetch)}",
    }.items():
        script = programs / program
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        script.chmod(0o755)
    found = subprocess.run(
        ["sh", "-c", "command -v curl"], capture_output=True, text=True, check=False
    )
    if found.returncode == 0:
        shim.unlink()
    path = os.pathsep.join([str(programs), str(peers.peers_folder() / "bin"), os.environ["PATH"]])
    return peers.clean_env(folder, PATH=path, PYTHONPATH=str(ROOT / "src"))


def test_the_first_gate_runs_as_it_is_written(
    pypiserver_with_token: PypiServer, tmp_path: Path
) -> None:
    peers.require_peer("twine")
    folder = tmp_path / "first"
    (folder / "dist").mkdir(parents=True)
    packages.make_wheel(folder / "dist", "demo", "1.0")
    packages.make_sdist(folder / "dist", "demo", "1.0")
    script = walk_through(free_port(), pypiserver_with_token)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=walk_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WALK_S_MAX,
        check=False,
    )
    log = folder / "serve.log"
    assert done.returncode == 0, (
        f"{done.stdout}\n{done.stderr}\n{log.read_text() if log.exists() else ''}"
    )
    assert done.stdout.count("VALID") == 2
    assert sorted(pypiserver_with_token.files()) == ["demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"]
    assert (folder / "gate" / "trust-root.json").exists()


def test_the_trust_root_is_explained_by_commands_that_say_what_is_written(tmp_path: Path) -> None:
    page = DOCS / "trust-root.md"
    folder = shutil.copytree(docs_examples.EXAMPLE, tmp_path / "example")
    _picture, fingerprint, verdict = blocks(page, "text")
    environment = walk_environment(tmp_path)
    for command, said in zip(blocks(page, "sh"), (fingerprint, verdict), strict=True):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WALK_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(said)


# tables


def test_every_refusal_is_documented_and_none_is_invented() -> None:
    text = (DOCS / "reference" / "refusals.md").read_text()
    listed = re.findall(r"^\| `([a-z.-]+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(code.value for code in Code)


def test_every_code_named_anywhere_in_the_documentation_exists() -> None:
    groups = {code.value.partition(".")[0] for code in Code}
    settings = {codes_in(row[0])[0] for row in rows(DOCS / "operating.md", "## Settings")}
    known = {code.value for code in Code} | settings
    for page in DOCS.rglob("*.md"):
        for text in codes_in(CODE_BLOCK.sub("", page.read_text())):
            group, dot, rest = text.partition(".")
            if dot and group in groups and re.fullmatch(r"[a-z-]+", rest) and "/" not in text:
                assert text in known or rest in ("db", "json", "uri"), f"{name(page)}: {text}"


def test_statuses_are_those_of_the_gateway() -> None:
    documented = {
        row[0]: set(codes_in(row[1]))
        for row in rows(DOCS / "reference" / "http-api.md", "## Errors")
    }
    for status in {str(one) for one in STATUS.values()}:
        expected = {code.value for code, one in STATUS.items() if str(one) == status}
        assert documented[status] == expected, status


def test_routes_are_those_that_are_served() -> None:
    source = "".join(
        (ROOT / "src/presspass/gateway" / part).read_text()
        for part in ("api.py", "control.py", "log_files.py", "sign_in_api.py", "exchange/doors.py")
    )
    release, request = "/api/v1/releases/{id}", "/api/v1/requests/{digest}"
    source = source.replace('release + "', f'"{release}').replace('request + "', f'"{request}')
    source = source.replace("{rest:path}", "…")
    served = set(re.findall(r'oute\(\s*"(/[^"]*)"', source)) | {release, request}
    page = DOCS / "reference" / "http-api.md"
    text = " ".join(
        row[0] for part in ("## Public routes", "## Control socket") for row in rows(page, part)
    )
    documented = {re.sub(r"<(\w+)>", r"{\1}", one) for one in codes_in(text)}
    assert served <= documented, served - documented
    pages = {"/", "/r/{id}", "/q/{digest}", "/enrol", "/c", "/history", "/pypi/{upstream}/legacy/"}
    pages |= {"/standing", "/sign-in", "/sign-in/start", "/sign-in/callback"}
    pages |= {"/sign-in/keys", "/device", "/people", "/scim/v2/…"}
    pages |= {"/-/npm/v1/oidc/token/exchange/package/{name}"}  # it takes a slash in the name
    assert documented - served == pages


def test_settings_are_those_of_the_configuration() -> None:
    value = tomllib.loads(Config("https://gate.example").to_toml())
    flat = {
        f"{section}.{member}" if isinstance(found, dict) else section: one
        for section, found in value.items()
        for member, one in (found.items() if isinstance(found, dict) else [("", found)])
    }
    documented = {codes_in(row[0])[0]: row[1] for row in rows(DOCS / "operating.md", "## Settings")}
    assert set(documented) == set(flat)
    for member, default in flat.items():
        if member != "origin":
            assert tomllib.loads(f"x = {documented[member].strip('`')}")["x"] == default, member


def shown(limit: str) -> str:
    value = getattr(limits, limit)
    for unit, factor in (("GiB", limits.GIB), ("MiB", limits.MIB), ("KiB", limits.KIB)):
        if "BYTES" in limit and value % factor == 0:
            return f"{value // factor} {unit}"
    return str(value)


def test_limits_are_those_of_the_code() -> None:
    documented = {codes_in(row[0])[0]: row[1] for row in rows(DOCS / "operating.md", "## Limits")}
    assert documented == {limit: shown(limit) for limit in documented}


def test_states_are_those_of_the_lifecycle() -> None:
    documented: dict[str, set[str]] = {}
    for row in rows(DOCS / "flow.md", "## States"):
        for state in codes_in(row[0]):
            documented[state] = set(codes_in(row[1]))
    assert documented == {
        old.value: {new.value for new in news} for old, news in TRANSITIONS.items()
    }
    assert {state.value for state in SETTLED if not TRANSITIONS[state]} <= set(documented)


def test_members_of_a_statement_are_those_that_are_read() -> None:
    documented = {
        one
        for row in rows(DOCS / "reference" / "statement.md", "## Statement")
        for one in codes_in(row[0])
    }
    assert documented == set(docs_examples.examples()["release"])


# examples


def test_the_examples_are_what_the_code_makes() -> None:
    page = docs_examples.PAGE.read_text()
    assert docs_examples.written(page) == page, "run python tests/docs_examples.py"
    assert {found for found, _ in docs_examples.BLOCK.findall(page)} == set(
        docs_examples.examples()
    )


def test_the_example_statements_read_back() -> None:
    for kind, statement in docs_examples.statements().items():
        assert Statement.from_bytes(statement.to_bytes()) == statement
        assert statement.kind.value == kind


def test_the_example_proof_verifies_and_with_one_byte_changed_it_does_not(tmp_path: Path) -> None:
    file, trust = docs_examples.FILE, docs_examples.EXAMPLE / "trust-root.json"
    assert run(["verify", str(file), "--trust", str(trust)]) == DONE
    other = tmp_path / file.name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    other.write_bytes(bytes(data))
    assert (
        run(["verify", str(other), "--proof", f"{file}.presspass.json", "--trust", str(trust)]) == 1
    )


def test_the_example_approval_is_strictly_read() -> None:
    value = docs_examples.examples()["approval"]
    assert Approval.from_json(value).to_json() == value
    with pytest.raises(Refusal):
        Approval.from_json({**value, "more": 1})


# links and references


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", CODE_BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE_BLOCK.sub("", page.read_text())):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / unquote(place)).resolve() if place else page
        assert path.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(path), (
            f"{name(page)} links to {target}: no such heading"
        )


def test_every_page_is_reached_from_the_readme() -> None:
    pending, seen = [ROOT / "README.md"], set()
    while pending:
        page = pending.pop()
        seen.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text()):
            path = (page.parent / unquote(target)).resolve()
            path = path / "README.md" if path.is_dir() else path
            if path.suffix == ".md" and path.exists() and path not in seen:
                pending.append(path)
    assert set(DOCS.rglob("*.md")) <= seen


@pytest.mark.parametrize("page", [DOCS / "threat-model.md", DOCS / "privileges.md"], ids=name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    found = re.findall(r"`(tests/test_\w+\.py)::(test_\w+)`", text)
    assert len(found) == text.count("`tests/") > 5
    for file, test in found:
        tree = ast.parse((ROOT / file).read_text())
        names = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert test in names, f"{name(page)} names {file}::{test}"


def test_every_row_of_the_threat_model_names_a_test() -> None:
    table = rows(DOCS / "threat-model.md", "# Threat model")
    assert len(table) > 15
    assert [row[0] for row in table if "`tests/" not in row[-1]] == []


def test_contracts_named_in_the_documentation_exist() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    known = {one["id"] for one in contracts}
    cells = [
        row[1]
        for row in rows(DOCS / "privileges.md", "## Enforced by")
        if "import contracts `" in row[1]
    ]
    named = {one for cell in cells for one in codes_in(cell.partition("(`make")[0])}
    assert named and named <= known, named - known


def test_every_decision_has_its_parts_and_is_listed() -> None:
    pages = sorted(path for path in (DOCS / "adr").glob("*.md") if path.name != "README.md")
    listed = (DOCS / "adr" / "README.md").read_text()
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04d}-") and text.startswith(f"# {number:04d}: ")
        parts = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert parts == ["Status", "Context", "Decision", "Consequences"], page.name
        assert page.name in listed


def test_the_example_of_the_library_checks_the_example_proof(tmp_path: Path) -> None:
    one_file, many_proofs = blocks(DOCS / "trust-root.md", "python")
    for one in docs_examples.EXAMPLE.iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())

    def said(source: str = one_file) -> str:
        words = [sys.executable, "-P", "-c", source]
        done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, check=True)
        return done.stdout

    assert said().startswith("demo-1.0.tar.gz was approved by p-")
    assert "demo-1.0.tar.gz.presspass.json: valid for demo-1.0.tar.gz with" in said(many_proofs)
    (tmp_path / "demo-1.0.tar.gz").write_bytes(b"another file")
    assert said().startswith("not valid: ") and "[proof.wrong-file]" in said()


def test_the_webhook_example_verifies_what_the_press_sends() -> None:
    from presspass.notify.webhook import signature

    source = next(body for body in blocks(DOCS / "operating.md", "python"))
    space: dict[str, object] = {}
    exec(compile(source, "operating.md", "exec"), space)  # the page's own example
    import base64
    import time

    secret, body, now = b"k" * 32, b'{"type":"presspass"}', int(time.time())
    headers = {
        "webhook-id": "a1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature(secret, "a1", now, body),
    }
    shared = "whsec_" + base64.b64encode(secret).decode()
    verify = space["verify"]
    assert callable(verify)
    assert verify(shared, headers, body) is True
    assert verify(shared, headers, body + b" ") is False
    assert verify(shared, {**headers, "webhook-timestamp": str(now - 1000)}, body) is False
