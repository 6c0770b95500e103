"""`token`: upload tokens, made on the gate's host. A token opens the gate, never a registry."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import click

from presspass.cli.client import control
from presspass.cli.options import Duration, example, format_option, home_option
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.digests import is_sha256
from presspass.core.limits import UPLOAD_TOKEN_S_MAX


@click.group("token", short_help="Upload tokens.")
def token_command() -> None:
    """Upload tokens: each is good for one project at one upstream, for a limited time."""


@token_command.command(
    "create",
    epilog=example(
        "presspass token create --project greet --upstream private --person Ada --life 1h"
    ),
)
@click.option("--project", required=True, help="The project that may be uploaded.")
@click.option("--upstream", required=True, help="The upstream it is meant for.")
@click.option(
    "--person", default="", help="Whose it is (name or id): this person's approval will not count."
)
@click.option(
    "--life", type=Duration(), default="1h", show_default=True, help="How long it is good for."
)
@home_option
@format_option
def create_command(
    project: str, upstream: str, person: str, life: int, home: Path, as_json: bool
) -> None:
    """Make an upload token and print it, once: only its hash is kept.

    Without --person nobody is known to be behind the upload, and one more person must approve.

    Exit codes: 0 made; 1 refused; 4 the gate of this home is not running.
    """
    if not 0 < life <= UPLOAD_TOKEN_S_MAX:
        raise click.UsageError(
            f"--life is at least 1s and at most {UPLOAD_TOKEN_S_MAX // 86_400}d."
        )
    with control(home) as gate:
        asked = {"project": project, "upstream": upstream, "person": person, "life_s": life}
        answer = gate.post_json("/tokens", asked)
    if as_json:
        emit_json(answer)
        return
    say(str(answer["token"]))
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(int(answer["expires_at"])))
    whose = (
        f"{safe(person)}'s, whose approval does not count" if person else "nobody's in particular"
    )
    note(f"Good for {safe(project)} at {safe(upstream)} until {until}; {whose}.")
    note("It is shown only this once.")
    note(
        "Use it as the password of twine or uv (user __token__), or as PRESSPASS_TOKEN for `presspass submit`."
    )


@token_command.command("revoke", epilog=example("presspass token revoke < token.txt"))
@click.option(
    "--hash",
    "token_hash",
    default="",
    help="The token's SHA-256, where the token itself is not at hand.",
)
@home_option
def revoke_command(token_hash: str, home: Path) -> None:
    """Revoke an upload token, read from standard input (it never belongs on a command line).

    Exit codes: 0 revoked; 1 unknown; 4 the gate of this home is not running.
    """
    if not token_hash:
        token = sys.stdin.readline().strip()
        token_hash = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
    if not is_sha256(token_hash):
        raise click.UsageError("--hash takes the 64 hex digits of the token's SHA-256.")
    with control(home) as gate:
        gate.delete_json(f"/tokens/{token_hash}")
    say("revoked")
