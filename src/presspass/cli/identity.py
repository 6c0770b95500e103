"""`identity`: in a CI job, what its identity says, and showing the gate the workflow that runs. Never the token."""

from __future__ import annotations

import os

import click

from presspass.cli.ci_identity import CiIdentity, find_identity
from presspass.cli.client import Gate
from presspass.cli.exchange import show_workflow, workload_of
from presspass.cli.options import example, format_option
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.audience import audience
from presspass.core.errors import Code, Refusal
from presspass.core.publisher import IDENTITY_CLAIMS
from presspass.formats.jwt import parse_jwt

_url_option = click.option(
    "--url", envvar="PRESSPASS_URL", show_envvar=True, required=True, help="The gate, https://GATE."
)


@click.group("identity", short_help="What a CI job's identity says.")
def identity_command() -> None:
    """What the identity of the CI job says in which this runs. The token itself is never shown."""


@identity_command.command(
    "show", epilog=example("presspass identity show --url https://gate.example")
)
@_url_option
@format_option
def show_command(url: str, as_json: bool) -> None:
    """Print the claims of this job's identity token, and the ids by which its publisher is bound.

    Run it once in the job that is to release, before it is bound. The claims are as the job got them; nothing is
    verified here.

    Exit codes: 0 shown; 1 the job has no identity; 4 its system gives none just now.
    """
    token = parse_jwt(_identity().ask(audience(_base(url))))
    claims = {name: value for name, value in sorted(token.claims.items()) if name != "jti"}
    found = _ids(claims)
    if as_json:
        emit_json({"claims": claims, "ids": found})
        return
    for name, value in claims.items():
        say(f"{safe(name)}: {safe(value)}")
    for provider, ids in found.items():
        words = " ".join(f"--id {safe(claim)}={safe(value)}" for claim, value in ids.items())
        note(f"as {provider}: {words}")


@identity_command.command(
    "show-workflow", epilog=example("presspass identity show-workflow --url https://gate.example")
)
@_url_option
@format_option
def show_workflow_command(url: str, as_json: bool) -> None:
    """Show the gate what stands in the workflow that runs, from the job's checkout.

    Needed only before `uv publish` and other clients of their own, where the gate cannot read the repository itself;
    `presspass submit` does it where it has to. Nothing is uploaded.

    Exit codes: 0 shown; 1 refused; 4 the gate cannot be reached.
    """
    identity, base = _identity(), _base(url)
    token = identity.ask(audience(base))
    workload = workload_of(token)
    if workload is None:
        raise Refusal(
            Code.WORKFLOW_MISSING,
            "The tokens of this system name no workflow; there is none to show.",
        )
    with Gate(base) as gate:
        show_workflow(gate, identity, token, workload)
    if as_json:
        emit_json({"workflow": workload.workflow_path, "commit": workload.workflow_commit})
        return
    say(f"shown: {safe(workload.workflow_path)} at {safe(workload.workflow_commit)}")


def _identity() -> CiIdentity:
    found = find_identity(os.environ)
    if found is None:
        raise Refusal(
            Code.IDENTITY_INVALID,
            "This does not run in a CI job whose identity is known here.",
            "Hand its token over in PRESSPASS_ID_TOKEN or PRESSPASS_ID_TOKEN_FILE.",
        )
    return found


def _base(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise click.UsageError(f"{url!r} is no address of a gate; it looks like https://GATE.")
    return url.partition("/pypi/")[0].rstrip("/")


def _ids(claims: dict[str, object]) -> dict[str, dict[str, str]]:
    """For each provider whose tokens have all of the claims by which a publisher is bound: these claims."""
    found = {}
    for provider, names in IDENTITY_CLAIMS.items():
        if names != ("sub",) and all(isinstance(claims.get(name), str | int) for name in names):
            found[provider] = {name: str(claims[name]) for name in names}
    return found
