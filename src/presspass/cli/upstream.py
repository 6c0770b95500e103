"""`upstream`: a registry and its credential. Entered once, on the press's host, and never readable again."""

from __future__ import annotations

import re
import secrets
import sys
from dataclasses import replace
from pathlib import Path

import click

from presspass.cli import press_room
from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.choosing import warn
from presspass.cli.client import control
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, note, safe, say, table
from presspass.core.errors import Code, Refusal
from presspass.core.statement import Kind, UpstreamBody

#: What the upload door takes in its address.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@click.group("upstream", short_help="Registries that the press publishes to.")
def upstream_command() -> None:
    """Registries that the press publishes to. Adding or changing one takes the approval of two people."""


@upstream_command.command(
    "add",
    epilog=example(
        "presspass upstream add private --upload-url https://index.example/legacy/ \\",
        "    --index-url https://index.example/simple/ --username __token__",
    ),
)
@click.argument("name")
@click.option(
    "--upload-url", required=True, help="Where files are uploaded (the legacy upload address)."
)
@click.option(
    "--index-url",
    required=True,
    help="The simple index, where the press reads back what is served.",
)
@click.option(
    "--username", default="__token__", show_default=True, help="The user name for the upload."
)
@click.option(
    "--secret-stdin",
    is_flag=True,
    help="Read password or token from the first line of standard input.",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read it from this file.",
)
@home_option
@format_option
def add_command(
    name: str, upload_url: str, index_url: str, username: str, secret_stdin: bool, secret_file: Path | None,
    home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Add the registry NAME, or give it other addresses or another credential.

    Runs on the press's host. Asks for the password or token, hands it to the press, which seals it to this very
    statement, and puts the statement before the approvers. Nothing is sent to the registry before they have approved.

    Exit codes: 0 asked for; 1 refused; 3 the press did not answer; 4 the gate of this home is not running.
    """
    standing = standing_of_home(home)
    draft = _checked(
        UpstreamBody(name, "pypi", upload_url, index_url, username, "custody", "0" * 64)
    )
    with control(home):
        pass  # whoever enters a secret should not hear only afterwards that no gate is running
    secret, salt = read_secret(secret_stdin, secret_file), secrets.token_hex(16)
    body = replace(draft, credential=press_room.credential_commitment(secret, salt))
    statement = standing.statement(body, previous=_previous(home, name) or standing.genesis)
    press_room.order(
        home,
        {
            "do": "credential",
            "statement": statement.to_bytes().decode("utf-8"),
            "secret": secret,
            "salt": salt,
        },
    )
    answer = put_before_approvers(home, statement)
    if as_json:
        emit_json(answer)
        return
    say(safe(answer["url"]))
    note(
        f"The credential is sealed at the press. {name} is in use when people have approved it there."
    )


def _checked(body: UpstreamBody) -> UpstreamBody:
    """Says before anything is asked or sealed what would be refused later."""
    if not _NAME.fullmatch(body.name):
        raise click.UsageError(
            f"{body.name!r} cannot be a registry's name: letters, digits and . _ - only, a letter or digit first. It "
            "becomes part of the upload address, /pypi/NAME/legacy/."
        )
    if any(url.startswith("http://") for url in (body.upload_url, body.index_url)):
        warn("plain http: right for a registry on this very machine only")
    return UpstreamBody.from_json(body.to_json())


@upstream_command.command("list", epilog=example("presspass upstream list --home /srv/presspass"))
@home_option
@format_option
def list_command(home: Path, as_json: bool) -> None:
    """List the registries in force, from the press's journal, and those that wait for signatures. Credentials are not
    shown: nobody can read them.

    Exit codes: 0 shown; 1 not sealed yet; 4 the journal cannot be read.
    """
    found = _upstreams(home)
    if as_json:
        emit_json(
            {
                name: {**body.to_json(), "statement": digest}
                for name, (digest, body) in found.items()
            }
        )
        return
    if not found:
        say("no upstreams in force; `presspass upstream add` asks for one")
    else:
        rows = [
            (n, b.protocol, b.mode, b.username, b.upload_url, b.index_url)
            for n, (_d, b) in sorted(found.items())
        ]
        table(("name", "protocol", "mode", "user", "upload", "index"), rows)
    for name, digest in _waiting(home):
        note(
            f"waits for signatures: {safe(name)}, request {digest} (`presspass status` has its address)"
        )


def _upstreams(home: Path) -> dict[str, tuple[str, UpstreamBody]]:
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    standing_of_home(home)  # refuses before genesis
    return ask_journal(home, journal_view.upstreams)


def _waiting(home: Path) -> list[tuple[str, str]]:
    """Name and digest of every request for an upstream that nobody has decided yet."""
    from presspass.cli.databases import ask_gateway, ask_journal
    from presspass.gateway import requests
    from presspass.store import journal_view

    asked = ask_gateway(home, lambda c: requests.of_kind(c, Kind.UPSTREAM))
    decided = ask_journal(home, lambda c: journal_view.decisions(c, [one.digest for one in asked]))
    waiting = [
        one
        for one in asked
        if one.digest not in decided or decided[one.digest].state in ("seen", "approved")
    ]
    return [(one.statement.body_as(UpstreamBody).name, one.digest) for one in waiting]


def _previous(home: Path, name: str) -> str | None:
    present = _upstreams(home).get(name)
    return None if present is None else present[0]


def read_secret(secret_stdin: bool, secret_file: Path | None) -> str:
    """From a prompt, standard input or a file; never from the command line, which other users can see."""
    if secret_stdin and secret_file is not None:
        raise click.UsageError("Give one of --secret-stdin or --secret-file.")
    if secret_stdin:
        secret = sys.stdin.readline()
    elif secret_file is not None:
        secret = secret_file.read_text(encoding="utf-8")
    elif not sys.stdin.isatty():
        raise click.UsageError(
            "There is no terminal to ask at; give the password or token with --secret-stdin or --secret-file."
        )
    else:
        secret = click.prompt("Password or token", hide_input=True, err=True)
    if not secret.strip():
        raise Refusal(Code.REQUEST_MALFORMED, "The credential is empty.")
    return secret.strip()
