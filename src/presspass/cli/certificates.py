"""`tls`: the certificate of the gate's port, as far as the gate makes it itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, quoted, say
from presspass.services.config import Tls, parse_config, read_config, write_config


@click.group("tls", short_help="The certificate of the gate's port.")
def tls_command() -> None:
    """The certificate of the gate's port. Yours is named in `[tls]` of presspass.toml; see docs/tls.md."""


@tls_command.command("trial", epilog=example("presspass tls trial --home /srv/presspass"))
@home_option
@format_option
def trial_command(home: Path, as_json: bool) -> None:
    """Make a private CA and one certificate of it, for the host names of this gate, and set `mode = "private-ca"`.

    For trials: every client must be told to trust the CA. Its key is thrown away at once, so the same command makes
    everything anew, before the certificate ends after 90 days. A gate that runs takes the new one up by itself if it
    spoke TLS in this mode before.

    Exit codes: 0 made; 1 an address is not https, or no such home; 4 it cannot be written.
    """
    from presspass.gateway.tls.trial import make_trial
    from presspass.services.zones import acting_as_owner_of

    old = read_config(home)
    config = replace(old, tls=Tls("private-ca"))
    parse_config(config.to_toml())
    gateway = home / "gateway"
    with acting_as_owner_of(gateway):
        (gateway / "tls").mkdir(mode=0o700, exist_ok=True)
        ca = make_trial(gateway / "tls", config.hosts)
    if config != old:
        write_config(home, config)
    if as_json:
        emit_json({"ca": str(ca), "hosts": list(config.hosts)})
    else:
        say(f"made a certificate for {', '.join(config.hosts)}, for trials only")
        say(f"clients must trust {quoted(ca)}: SSL_CERT_FILE, REQUESTS_CA_BUNDLE for twine")
