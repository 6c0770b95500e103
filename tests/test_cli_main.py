"""The command line as a whole: every command explains itself, costs nothing until it runs, and says what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from presspass.cli import exits, main
from presspass.cli.options import Duration, NamedPerson, PersonParam


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand by its full name."""
    context = click.Context(main.presspass)
    for name in main.COMMANDS:
        command = main.presspass.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", one) for sub, one in command.commands.items())


def presspass(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "presspass.cli.main", *arguments],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", [name for name, _command in commands()])
def test_help_says_what_it_does_how_it_ends_and_gives_an_example(name: str) -> None:
    command = dict(commands())[name]
    text = command.get_help(click.Context(command, info_name=f"presspass {name}"))
    assert len(str(command.help).splitlines()[0]) > 20
    if not isinstance(command, click.Group):
        assert "Exit codes: 0" in text
        assert f"presspass {name}" in text.split("Example:", 1)[1]
        assert all(
            parameter.help for parameter in command.params if isinstance(parameter, click.Option)
        )


def test_the_list_of_commands_says_the_same_as_the_commands() -> None:
    listed = {name: text for name, (_module, text) in main.COMMANDS.items()}
    assert listed == {name: command.short_help for name, command in commands() if " " not in name}


def test_help_loads_no_heavy_library() -> None:
    program = """
import sys
from presspass.cli.main import run
code = run(["--help"])
heavy = {"httpx2", "sqlalchemy", "cryptography", "rich", "starlette", "alembic", "rfc8785", "webauthn"}
print("\\nCODE", code, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    )
    assert done.stdout.endswith("CODE 0 []\n"), done.stdout


def test_no_command_loads_rich_before_it_prints_a_table() -> None:
    program = """
import sys, click
from presspass.cli import main
for name in main.COMMANDS:
    main.presspass.get_command(click.Context(main.presspass), name)
print("rich" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--version"], exits.DONE, "presspass"),
        (["nosuch"], exits.CANNOT_SAY, "No such command"),
        (["approve"], exits.CANNOT_SAY, "Missing argument"),
        (["approve", "https://gate.example/r/x"], exits.CANNOT_SAY, "--key"),
        (["approve", "nonsense", "--key", __file__], exits.REFUSED, "request.malformed"),
        (["status", "http://127.0.0.1:1/r/abc"], exits.FAULT, "presspass serve"),
        (["status", "--home", "/nonexistent"], exits.FAULT, "presspass serve"),
        (["serve", "--home", "/nonexistent"], exits.REFUSED, "home.missing"),
        (["verify", __file__, "--proof", "/nonexistent"], exits.CANNOT_SAY, "nothing can be said"),
        (["wait", "http://127.0.0.1:1/r/abc", "--timeout", "0s"], exits.FAULT, "cannot be reached"),
        (["init", "--url", "http://10.0.0.1", "--person", "Ada"], exits.REFUSED, "config.invalid"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code_and_says_what_to_do(
    arguments: list[str], code: int, words: str
) -> None:
    done = presspass(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_gets_the_refusal_as_json() -> None:
    done = presspass("status", "nonsense", "--format", "json")
    assert done.returncode == exits.REFUSED
    assert json.loads(done.stdout)["error"]["code"] == "request.malformed"


def test_a_fault_of_our_own_is_called_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main.presspass, "main", broken)
    assert main.run([]) == exits.BUG
    assert "fault of Presspass itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604_800)]
)
def test_durations_are_read_with_their_unit(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "1w", "-1s", "1.5h", "h", "１h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_a_person_is_a_name_and_addresses() -> None:
    read = PersonParam()
    assert read.convert("Ada", None, None) == NamedPerson("Ada", ())
    assert read.convert("Ada:mailto:a@b.example,https://hook.example/x", None, None) == NamedPerson(
        "Ada", ("mailto:a@b.example", "https://hook.example/x")
    )
    for wrong in ("", ":mailto:a@b", "Ada:ftp://x", "A\x1bda"):
        with pytest.raises(click.BadParameter):
            read.convert(wrong, None, None)


def test_the_module_of_the_command_line_is_what_the_package_installs(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("presspass")
    done = subprocess.run(
        [program, "--version"], text=True, capture_output=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("presspass, version")
