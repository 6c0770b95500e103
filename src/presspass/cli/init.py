"""`init`: makes a home on the press's host; `init --seal` is in `cli.seal`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from presspass.cli.database import database_section, keep_passwords, make_ready
from presspass.cli.options import (
    Duration,
    NamedPerson,
    PersonParam,
    example,
    format_option,
    home_option,
)
from presspass.cli.people import show_links
from presspass.cli.show import emit_json, note, quoted, say
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import RECOVERY_WAIT_S
from presspass.core.policy import PROFILES, Policy
from presspass.services.config import (
    CONFIG_NAME,
    DEFAULT_PORT,
    Config,
    Listen,
    Tls,
    check_origin,
    parse_config,
    write_config,
)
from presspass.services.layout import make_folders

#: Solo is one person with two keys: each needs a link of its own.
_LINKS_PER_PERSON: Final = {"solo": 2, "team": 1, "high-assurance": 1, "many-packages": 1}
_PEOPLE_MIN: Final = {"solo": 1, "team": 2, "high-assurance": 2, "many-packages": 2}


@click.command(
    "init",
    short_help="Make a home, and seal its genesis.",
    epilog=example(
        "presspass init --url https://gate.example --home /srv/presspass \\",
        '    --person "Ada:mailto:ada@company.example" --person "Grace:mailto:grace@company.example"',
        "presspass serve --home /srv/presspass        # people enrol by their links",
        "presspass init --seal --home /srv/presspass",
    ),
)
@click.option(
    "--url",
    help="The exact origin of the gate, as browsers will see it. Another one later takes new keys.",
)
@click.option(
    "--person",
    "people",
    multiple=True,
    type=PersonParam(),
    help="NAME or NAME:ADDRESS[,ADDRESS] (mailto:… or https://…, for notices); repeatable.",
)
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="team",
    show_default=True,
    help="team: two people or more. solo: one person with two keys, and said so everywhere.",
)
@click.option(
    "--approvals",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many must approve a release, beside the person who asks for it.",
)
@click.option(
    "--veto-window",
    type=Duration(),
    default="2m",
    show_default=True,
    help="How long the press waits after telling everybody, before it publishes.",
)
@click.option(
    "--key-wait",
    type=Duration(),
    default="1d",
    show_default=True,
    help="How long a new key waits from when the press first sees the request for it; never less than the veto window.",
)
@click.option(
    "--quiet-period",
    type=Duration(),
    default="5m",
    show_default=True,
    help="After this time without an upload a set of files closes by itself.",
)
@click.option(
    "--software-keys",
    is_flag=True,
    help="Let keys count that verify nobody (plain SSH keys, software passkeys). For trials.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the gateway listens.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"The port it listens on (default: that of an http --url, else {DEFAULT_PORT}).",
)
@click.option(
    "--database",
    "database_url",
    default="",
    metavar="URL",
    help="Keep the databases on PostgreSQL: postgresql://HOST[:PORT]/DATABASE, without user and password. "
    "(Default: SQLite files in the home.)",
)
@click.option(
    "--database-admin",
    default="",
    metavar="URL",
    help="With --database: prepare it as this administrator (postgresql://USER@HOST/DATABASE; the password by "
    "PGPASSWORD or ~/.pgpass), with new roles and passwords.",
)
@click.option(
    "--database-roles",
    default="presspass",
    show_default=True,
    metavar="PREFIX",
    help="With --database: the roles are PREFIX_owner, PREFIX_gateway and PREFIX_press.",
)
@click.option(
    "--gateway-password",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --database: a file with the password of the gateway's role, where somebody else has prepared it.",
)
@click.option(
    "--press-password",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --database: a file with the password of the press's role.",
)
@click.option(
    "--upload-url",
    default="",
    help="Where packages are uploaded, if not at --url: an origin with another host name.",
)
@click.option(
    "--trial-tls",
    is_flag=True,
    help="Speak TLS with a certificate made now by a private CA. For trials.",
)
@click.option("--seal", is_flag=True, help="Compare fingerprints and seal genesis.")
@click.option(
    "--confirm",
    "confirmed",
    multiple=True,
    metavar="FINGERPRINT",
    help="With --seal: this fingerprint has been compared (repeatable).",
)
@click.option(
    "--yes-all-fingerprints-compared",
    "all_compared",
    is_flag=True,
    help="With --seal: all of them have been; for scripts.",
)
@home_option
@format_option
def init_command(
    url: str | None, people: tuple[NamedPerson, ...], profile: str, approvals: int, veto_window: int, key_wait: int,
    quiet_period: int, software_keys: bool, host: str, port: int | None, database_url: str, database_admin: str,
    database_roles: str, gateway_password: Path | None, press_password: Path | None, upload_url: str, trial_tls: bool,
    seal: bool, confirmed: tuple[str, ...], all_compared: bool, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Make the home of a new installation, on the press's host.

    Prints one link per --person, good for 15 minutes and one key, and the offline recovery key, once. Start
    `presspass serve`, let people enrol, then run `presspass init --seal`: it shows every key's fingerprint, to be read
    aloud by its owner, and seals who may sign, the rules, and the origin. The press publishes nothing before that.

    In solo, the one person gets two links, for two keys.

    With --database, the schemas, roles and grants must be there: made by --database-admin, or by an administrator from
    the SQL of `presspass database sql`.

    Exit codes: 0 done; 1 refused; 3 the press did not answer; 4 something cannot be written.
    """
    if seal:
        from presspass.cli.seal import seal_genesis

        seal_genesis(home, frozenset(confirmed), all_compared, as_json)
        return
    if url is None or not people:
        raise click.UsageError("Give --url and at least one --person, or --seal.")
    policy = Policy(
        profile=profile,
        approvals=approvals,
        quiet_period_s=quiet_period,
        veto_window_s=veto_window,
        software_keys=software_keys,
        key_wait_s=key_wait,
    )
    if policy.new_key_wait_s >= policy.approval_life_s:
        raise click.UsageError("With this --key-wait every request for a key would expire first.")
    origin = check_origin(url)
    listen = Listen(host, _port_of(origin, trial_tls) if port is None else port)
    database = database_section(database_url, database_roles)
    config = Config(
        origin,
        listen=listen,
        genesis=Policy.from_json(policy.to_json()),
        database=database,
        upload_url=upload_url,
        tls=Tls("private-ca" if trial_tls else "off"),
    )
    parse_config(config.to_toml())  # what does not fit together is refused before anything is made
    _check_people(people, profile, approvals)
    _check_place(home)
    passwords = make_ready(database, database_admin, gateway_password, press_password)
    _make(home, config, people, passwords, as_json)


def _port_of(origin: str, own_tls: bool) -> int:
    """Where we speak ourselves what browsers ask for, its port is ours; https otherwise belongs to a proxy."""
    parts = urlsplit(origin)
    return parts.port if (parts.scheme == "http" or own_tls) and parts.port else DEFAULT_PORT


def _check_people(people: tuple[NamedPerson, ...], profile: str, approvals: int) -> None:
    if len({person.name for person in people}) != len(people):
        raise click.UsageError("Two people have the same name; tell them apart.")
    if len(people) < _PEOPLE_MIN[profile] or (profile == "solo" and len(people) > 1):
        needs = "exactly one --person" if profile == "solo" else "at least two --person"
        raise Refusal(
            Code.GENESIS_INCOMPLETE,
            f"`{profile}` needs {needs}.",
            "One person alone can use --profile solo, which is stated as what it is.",
        )
    most = _LINKS_PER_PERSON["solo"] if profile == "solo" else len(people) - 1
    if approvals > most:
        who = "two keys" if profile == "solo" else f"{len(people)} people and one of them asking"
        raise Refusal(
            Code.GENESIS_INCOMPLETE,
            f"--approvals {approvals} can never be reached: with {who}, at most {most} can approve.",
            f"Name more people, or give --approvals {most}.",
        )


def _make(
    home: Path,
    config: Config,
    people: tuple[NamedPerson, ...],
    passwords: dict[str, str],
    as_json: bool,
) -> None:
    """Builds the home beside its place and renames it: a crash leaves no half a home."""
    work = home.absolute().with_name(f".{home.absolute().name}.making")
    shutil.rmtree(work, ignore_errors=True)
    try:
        recovery_key, links = _fill(work, config, people, passwords)
        work.rename(home)
    except OSError as error:
        raise Fault(
            "init.failed",
            f"{home} cannot be made: {error.strerror}. Its parent folder must be there for this user to write to, "
            "and it must be a folder of its own, no mount point; or name another place with --home.",
            retryable=False,
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _tell(home, config, links, recovery_key, as_json)


def _check_place(home: Path) -> None:
    """Nothing, or an empty folder: anything else is kept as it is."""
    if not home.exists() or (home.is_dir() and not any(home.iterdir())):
        return
    if (home / CONFIG_NAME).exists():
        what = "is a home already"
        hint = "Go on with `presspass serve` and `presspass init --seal`, or name another folder."
    else:
        what = "exists and is no empty folder"
        hint = "Name a new or an empty folder with --home."
    raise Refusal(Code.HOME_EXISTS, f"{home} {what}.", hint)


def _fill(
    home: Path, config: Config, people: tuple[NamedPerson, ...], passwords: dict[str, str]
) -> tuple[str, list[dict[str, Any]]]:
    """The parts of the home; returns the recovery key's text, and a link for each key that is to be enrolled."""
    from presspass.cli.genesis import keep_identity, make_links
    from presspass.gateway.tls.trial import make_trial
    from presspass.services import press

    make_folders(home)
    write_config(home, config)
    keep_passwords(home, passwords)
    if config.tls.mode == "private-ca":
        make_trial(home / "gateway" / "tls", config.hosts)
    identity = press.initialise(home)
    keep_identity(home, identity.log_key, identity.recovery_public)
    wanted = [person for person in people for _ in range(_LINKS_PER_PERSON[config.genesis.profile])]
    return identity.recovery_key, make_links(home, config, wanted)


def _tell(
    home: Path, config: Config, links: list[dict[str, Any]], recovery_key: str, as_json: bool
) -> None:
    if as_json:
        emit_json(
            {
                "home": str(home),
                "origin": config.origin,
                "links": links,
                "recovery_key": recovery_key,
            }
        )
        return
    say(f"made {home} for {config.origin}")
    say()
    show_links(links, as_json=False)
    say()
    say("OFFLINE RECOVERY KEY, shown only now and stored nowhere:", bold=True)
    say(f"  {recovery_key}")
    say(
        "Print it and lock it away. When keys are lost, `presspass recover` asks with it for another roster:"
    )
    say(
        f"it works after {RECOVERY_WAIT_S // 3600} hours, everybody is told at once, and one veto ends it."
    )
    say()
    at = quoted(home)
    if config.tls.mode == "private-ca":
        ca = quoted(home / "gateway" / "tls" / "ca.pem")
        note(f"TLS for trials only: clients must trust {ca} (SSL_CERT_FILE={ca}); see docs/tls.md")
    note(f"Next: presspass serve --home {at}; people enrol; then presspass init --seal --home {at}")
