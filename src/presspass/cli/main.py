"""`presspass`: the entry point. Names every command, loads the one that is used, turns failures into exit codes."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import click

from presspass import __version__
from presspass.cli.exits import (
    BUG,
    CANNOT_SAY,
    DONE,
    FAULT,
    INTERRUPTED,
    REFUSED,
    TIMED_OUT,
    CannotSayError,
    EndedError,
    TimedOutError,
)
from presspass.cli.installed import require_gate
from presspass.cli.show import safe
from presspass.core.errors import Fault, PresspassError, Refusal

#: name: (module below presspass.cli, the sentence shown in the list). A test compares it with the commands themselves.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("init", "Make a home, and seal its genesis."),
    "serve": ("serve", "Run the gate: gateway and press."),
    "upstream": ("upstream", "Registries that the press publishes to."),
    "publisher": ("publisher", "Which workload may ask for which packages."),
    "delegation": ("delegation", "What a bot may ask for, for whom."),
    "standing": ("standing", "Releases approved in advance, within bounds."),
    "signer": ("signer", "Which key signs attestations."),
    "log": ("log", "Which key signs the ledger; recovery of a ledger."),
    "identity": ("identity", "What a CI job's identity says."),
    "token": ("tokens", "Upload tokens."),
    "invite": ("people", "Make an enrolment link for a person."),
    "enrol": ("people", "Enrol a key of yours by a link."),
    "people": ("people", "Who people are: addresses, ids, groups, sign-in."),
    "scim": ("scim", "Let an identity provider say who has left."),
    "login": ("login", "Sign this terminal in, by a browser."),
    "logout": ("login", "End this terminal's session."),
    "whoami": ("login", "Show who this terminal is signed in as."),
    "roster": ("roster", "Who may sign; take a person or key out."),
    "apply": ("apply", "Ask for everything that a file wants, at once."),
    "policy": ("policy", "Rules in Cedar: check, test, explain, replay them."),
    "export": ("apply", "Write what is in force to such a file."),
    "submit": ("submit", "Upload files and close the set."),
    "withdraw": ("submit", "Take a release back before it goes out."),
    "status": ("status", "Show where a release stands, or all of them."),
    "wait": ("status", "Wait until a release is published or ended."),
    "history": ("history", "Show what was done: by a key, a workflow, under a policy."),
    "approve": ("approve", "Look at a release or request, and sign it."),
    "plan": ("plan", "Put releases together: one signature for many."),
    "veto": ("approve", "End a release or request by one signature."),
    "freeze": ("freeze", "Stop publishing, of one project or of all."),
    "revoke": ("revoke", "End what somebody or something may do."),
    "verify": ("verify", "Check a file against its proof, offline."),
    "install-check": ("install_check", "Check what lock files pin, before it is installed."),
    "witness": ("witness", "Cosign the ledgers of gates, elsewhere than they run."),
    "audit": ("audit", "Follow a gate's ledger and check all of it."),
    "database": ("database", "Prepare a PostgreSQL database, or print the SQL for it."),
    "origin": ("move", "Move the gate to another address."),
    "tls": ("certificates", "The certificate of the gate's port."),
    "doctor": ("doctor", "Check a home and this machine, with fixes."),
    "backup": ("backup", "Write a consistent copy of a home to a file."),
    "restore": ("backup", "Make a home from a backup; it starts frozen."),
    "recover": ("recover", "Use the offline recovery key."),
    "demo": ("demonstrate", "See the gate at work, in five scenes."),
}

#: Run with what `pip install presspass` brings (ADR 0030); every other command needs the extra `gate` as well.
ALONE: Final = frozenset({"install-check", "verify"})


class LazyGroup(click.Group):
    """Knows its commands by name and imports one only when it runs: `presspass --help` must cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in ALONE:
            require_gate(cmd_name)
        module = importlib.import_module(f"presspass.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 refused, rejected or invalid; 2 wrong usage, or it cannot be said; "
    "3 timed out waiting; 4 something could not be reached or written.",
)
@click.version_option(__version__, prog_name="presspass")
def presspass() -> None:
    """The gate in front of package registries: nothing goes out that people have not seen and signed.

    \b
    A first gate on this machine:
      presspass init --url http://localhost:8460 --profile solo --person "Ada"
      presspass serve
      (enrol keys by the printed links, then in another terminal:)
      presspass init --seal
      presspass upstream add private --upload-url URL --index-url URL
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    gc.freeze()  # the process ends: to look once more for garbage in all that was imported takes 10 ms
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command; every failure becomes one of the documented exit codes and words on stderr."""
    try:
        answer = presspass.main(args=list(arguments), prog_name="presspass", standalone_mode=False)
        return answer if isinstance(answer, int) else DONE
    except click.ClickException as error:
        error.show()
        return CANNOT_SAY if isinstance(error, click.UsageError) else FAULT
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped; nothing more was done.", err=True)
        return INTERRUPTED
    except PresspassError as error:
        return _explain(error, as_json=_wants_json(arguments))
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; the interpreter would complain once more at exit
        return FAULT
    except Exception:
        traceback.print_exc()
        click.echo(
            "This is a fault of Presspass itself. Please report it with the lines above.", err=True
        )
        return BUG


def _wants_json(arguments: Sequence[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(one == "--format=json" or (one, two) == ("--format", "json") for one, two in pairs)


def _explain(error: PresspassError, *, as_json: bool) -> int:
    exit_code, said = _describe(error)
    if exit_code == BUG:
        raise error
    if as_json:
        click.echo(json.dumps({"error": said}, sort_keys=True))
    code = f" [{said['code']}]" if said["code"] else ""
    click.echo(f"error: {safe(said['message'])}{code}", err=True)
    if said["hint"]:
        click.echo(f"  {safe(said['hint'])}", err=True)
    return exit_code


def _describe(error: PresspassError) -> tuple[int, dict[str, Any]]:
    match error:
        case Refusal():
            code = error.exit_code if isinstance(error, EndedError) else REFUSED
            return code, {"code": error.code.value, "message": error.message, "hint": error.hint}
        case Fault():
            return FAULT, {"code": error.code, "message": error.message, "hint": ""}
        case CannotSayError():
            return CANNOT_SAY, {"code": error.code, "message": error.message, "hint": error.hint}
        case TimedOutError():
            return TIMED_OUT, {"code": "", "message": str(error), "hint": ""}
        case _:
            return BUG, {"code": "", "message": str(error), "hint": ""}


if __name__ == "__main__":
    main()
