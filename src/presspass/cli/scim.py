"""`scim`: the token by which an identity provider says who has left."""

from __future__ import annotations

from pathlib import Path

import click

from presspass.cli.client import control
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.digests import JsonObject


@click.group("scim", short_help="Let an identity provider say who has left.")
def scim_command() -> None:
    """Let an identity provider say who has left, by SCIM 2.0. It can end what people have, and give nothing."""


@scim_command.command(
    "token",
    epilog=example(
        "presspass scim token --home /srv/presspass",
        "presspass scim token --required-group 'Package maintainers'",
    ),
)
@click.option(
    "--required-group",
    help="Whoever is taken out of the provider's group of this name leaves; '' for none. Kept over later tokens.",
)
@home_option
@format_option
def token_command(required_group: str | None, home: Path, as_json: bool) -> None:
    """Make a token for the identity provider; the one before ends at once.

    Prints the address and the token, this once.

    Exit codes: 0 made; 1 refused; 4 the gate of this home is not running.
    """
    asked: JsonObject = {} if required_group is None else {"required_group": required_group}
    with control(home) as gate:
        answer = gate.post_json("/scim-tokens", asked)
    if as_json:
        emit_json(answer)
        return
    say(f"address  {safe(answer['url'])}")
    say(f"token    {safe(answer['token'])}")
    if answer["required_group"]:
        say(f"required {safe(answer['required_group'])}")
    note(
        "Enter both at the identity provider. The token is shown this once; make a new one to rotate it."
    )


@scim_command.command("off", epilog=example("presspass scim off --home /srv/presspass"))
@home_option
@format_option
def off_command(home: Path, as_json: bool) -> None:
    """End every token: no identity provider speaks to this gate by SCIM any more. Stops that it made stay.

    Exit codes: 0 ended, or there was none; 4 the gate of this home is not running.
    """
    with control(home) as gate:
        answer = gate.delete_json("/scim-tokens")
    if as_json:
        emit_json(answer)
        return
    say("ended" if answer["ended"] else "there was none")
