"""`signer`: which key signs attestations. The press keeps using the one in force until people have approved another."""

from __future__ import annotations

from pathlib import Path

import click

from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.bindings import chain_of, waiting
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, grouped, note, safe, say, table
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.signer import ATTESTATION, SIGNERS, SignerBody
from presspass.core.statement import Kind


@click.group("signer", short_help="Which key signs attestations.")
def signer_command() -> None:
    """Which key signs attestations. Another one takes the approval of two people.

    Until there is one, the log key does, which was made with the installation and is named in its genesis.
    """


@signer_command.command(
    "add",
    epilog=example(
        "presspass signer add 'hsm:2?label=presspass' --home /srv/presspass",
        "presspass signer add awskms:KEY --public-key key.pem --home /srv/presspass",
    ),
)
@click.argument("uri")
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Its public half (PEM), for keys of a service; of a file or token it is read from there.",
)
@home_option
@format_option
def add_command(uri: str, public_key: Path | None, home: Path, as_json: bool) -> None:
    """Put the key URI before the approvers. It signs attestations as soon as they have let it in.

    Runs on the press's host. URI is that of a [[signer]] in presspass.toml. Keep the [[signer]] of the key before it
    until no release is under way any more: what was begun under a key is signed by it.

    Exit codes: 0 asked for; 1 refused; 4 the gate of this home is not running.
    """
    from presspass.services.press import configured_signer

    standing = standing_of_home(home)
    body = configured_signer(home, uri, public_key.read_bytes() if public_key else None)
    chain = chain_of(home)
    if chain.signer(ATTESTATION) == body:
        raise Refusal(Code.SIGNER_UNUSABLE, "This key is the one in force.", "Nothing is to do.")
    previous = chain.head(Kind.SIGNER, ATTESTATION)
    answer = put_before_approvers(home, standing.statement(body, previous=previous))
    if as_json:
        emit_json({**answer, "fingerprint": _fingerprint(body)})
        return
    say(safe(answer["url"]))
    note(f"{body.scheme} key {grouped(_fingerprint(body))}")
    note("Approvers are shown this fingerprint; give it to them by another way.")


@signer_command.command("list", epilog=example("presspass signer list --home /srv/presspass"))
@home_option
@format_option
def list_command(home: Path, as_json: bool) -> None:
    """Show the keys in force, and those that wait for signatures.

    Exit codes: 0 shown; 1 not sealed yet; 4 the journal cannot be read.
    """
    chain = chain_of(home)
    found = {name: chain.signer(name) for name in SIGNERS}
    if as_json:
        emit_json(
            {
                name: {"scheme": one.scheme, "fingerprint": _fingerprint(one)}
                for name, one in found.items()
            }
        )
        return
    rows = [
        (name, one.scheme, _fingerprint(one), "approved" if name in chain.signers else "log key")
        for name, one in found.items()
    ]
    table(("signs", "scheme", "fingerprint", "since"), rows)
    for name, digest in waiting(home, Kind.SIGNER):
        note(f"waits for signatures: {safe(name)}, request {digest}")


def _fingerprint(body: SignerBody) -> str:
    return sha256_hex(body.public_key)
