"""`doctor`: looks at a home and this machine and says, line by line, what is wrong and what to do. Changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click

from presspass.cli import doctor_addresses, doctor_ledger, doctor_notices
from presspass.cli.checks import BAD, OK, WARN, Line
from presspass.cli.exits import REFUSED
from presspass.cli.options import example, format_option, home_option
from presspass.cli.show import emit_json, quoted, safe, say, size_text
from presspass.core.errors import Fault, PresspassError, Refusal
from presspass.core.limits import CLOCK_DRIFT_S_MAX, DISK_FREE_BYTES_MIN
from presspass.core.policy import Policy
from presspass.core.quorum import Circumstances, Electorate
from presspass.core.statement import Kind
from presspass.services.config import Config, read_config
from presspass.services.layout import FOLDERS

#: Without these in press/keys the press does not start.
KEY_FILES: Final = ("kek", "log.key", "webhook.key")
_UPSTREAM_TIMEOUT_S = 10
_COLOUR: Final = {OK: "green", WARN: "yellow", BAD: "red"}
_WALL_BACK_S_MAX = 60.0


@click.command(
    "doctor",
    short_help="Check a home and this machine, with fixes.",
    epilog=example(
        "presspass doctor --home /srv/presspass",
        "presspass doctor --home /srv/presspass --upstreams",
    ),
)
@home_option
@click.option(
    "--upstreams",
    is_flag=True,
    help="Also ask each upstream's index whether it answers (goes over the network).",
)
@click.option(
    "--webhook-secret",
    is_flag=True,
    help="Print the secret that webhook receivers check signatures with, and nothing else.",
)
@format_option
def doctor_command(home: Path, upstreams: bool, webhook_secret: bool, as_json: bool) -> int:
    """Check a home and this machine: configuration, folders and their modes, databases, locks, clock, disk space, the
    drop box, whether gateway and press answer, and what isolation can be had; the gate's names, certificate and RP id,
    and, by asking it at its own addresses, reachability and the proxy in front; people, whether they can be told,
    stops, the ledger and its witnesses. Each finding comes with its fix.

    Exit codes: 0 nothing is bad (there may be warnings); 1 something is bad.
    """
    if webhook_secret:
        return _show_webhook_secret(home)
    lines = list(examine(home, upstreams))
    if as_json:
        emit_json(
            [
                {"grade": one.grade, "what": one.what, "found": one.found, "fix": one.fix}
                for one in lines
            ]
        )
    else:
        for one in lines:
            say(
                f"{one.grade:4}  {one.what}: {safe(one.found)}",
                fg=_COLOUR[one.grade] if one.grade != OK else None,
            )
            if one.fix:
                say(f"      fix: {safe(one.fix)}")
    return REFUSED if any(one.grade == BAD for one in lines) else 0


def _show_webhook_secret(home: Path) -> int:
    from presspass.services import press

    say(press.webhook_secret(home))
    return 0


def examine(home: Path, upstreams: bool) -> Iterator[Line]:
    """Every check in order; those that need a usable configuration only with one."""
    try:
        config = read_config(home)
    except Refusal as refusal:
        yield Line(BAD, "configuration", refusal.message, refusal.hint)
        return
    yield Line(
        OK,
        "configuration",
        f"origin {config.origin}, passkeys for {config.rp_id}, space {config.space}",
    )
    begun = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    for check in (
        doctor_addresses.origin,
        doctor_addresses.rp_id,
        doctor_addresses.names,
        doctor_addresses.certificate,
        _folders,
        _keys,
        _databases,
        _clock,
        _disk,
        _drop,
        _processes,
        doctor_addresses.reachability,
        _isolation,
        _genesis,
    ):
        yield from check(home, config)
    if upstreams:
        yield from _upstreams(home)
    yield from _steps(*begun)


def _steps(wall: float, steady: float) -> Iterator[Line]:
    """Whether the wall clock was set while we looked: the press waits while the two disagree."""
    step = (time.time() - wall) - (time.clock_gettime(time.CLOCK_BOOTTIME) - steady)
    if abs(step) > CLOCK_DRIFT_S_MAX:
        fix = "Let one time service (NTP) set it, by slewing; look for a second one."
        yield Line(BAD, "clock", f"was set by {step:+.1f} s while this ran", fix)


def _folders(home: Path, config: Config) -> Iterator[Line]:
    allowed = 0o750 if config.zones.separate else 0o700
    wrong = False
    for name in ("", *FOLDERS):
        path = home / name
        if not path.is_dir():
            wrong = True
            yield Line(BAD, f"folder {name or '.'}", "is missing", f"mkdir -m 700 {quoted(path)}")
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        closed = name.startswith(("press/keys", "press/inbox", "press/spool"))
        limit = 0o700 if closed else allowed
        # The drop box may be open to those who shall be able to stop things.
        if name != "drop" and mode & 0o777 & ~limit:
            wrong = True
            yield Line(
                BAD,
                f"folder {name or '.'}",
                f"is open to others (mode {mode:04o})",
                f"chmod {limit:o} {quoted(path)}",
            )
    if not wrong:
        yield Line(OK, "folders", "all there and closed to others")


def _keys(home: Path, _config: Config) -> Iterator[Line]:
    folder = home / "press" / "keys"
    try:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    except OSError:
        files = []
    missing = [name for name in KEY_FILES if folder / name not in files]
    if missing:
        yield Line(
            BAD,
            "keys",
            f"{folder} lacks {', '.join(missing)} (or this user may not see them): the press cannot work",
            f"Copy the old press/keys folder to {quoted(folder)} (folders 0700, files 0600).",
        )
    open_ones = [path for path in files if path.stat().st_mode & 0o077]
    for path in open_ones:
        yield Line(BAD, "keys", f"{path.name} is readable by others", f"chmod 600 {quoted(path)}")
    if files and not open_ones and not missing:
        yield Line(OK, "keys", f"{len(files)} files, all private")


def _databases(home: Path, config: Config) -> Iterator[Line]:
    yield from _schemas(home, config) if config.database.url else _files(home)


def _schemas(home: Path, config: Config) -> Iterator[Line]:
    """What each process would find on the server: a connection, the newest schema, its rights and no more."""
    from presspass.services.places import places
    from presspass.store import migrate, provision
    from presspass.store.address import Server
    from presspass.store.database import open_engine

    prepare = f"presspass database prepare --admin URL --home {quoted(home)}"
    names: tuple[Literal["gateway", "press"], ...] = ("gateway", "press")
    for name in names:
        what = f"{name}'s database"
        found = places(home, config, name)
        own = found.gateway if name == "gateway" else found.journal
        if not isinstance(own, Server):
            continue
        yield from _password(what, own.password_file)
        try:
            unfit, rights = provision.faults(own, config.database.roles)
            engine = open_engine(own)
            try:
                migrate.bring_up(engine, own.schema)
            finally:
                engine.dispose()
        except Fault as fault:
            fix = prepare if "schema" in fault.code else "Start the server; see docs/postgresql.md."
            yield Line(BAD, what, fault.message, fix)
            continue
        for one in unfit:
            yield Line(BAD, what, one, "Ask the server's administrator; see docs/postgresql.md.")
        for one in rights:
            yield Line(BAD, what, one, prepare)
        if not rights:
            words = (
                f"schema {migrate.NEWEST[own.schema]} as {own.role}, with its rights and no more"
            )
            yield Line(OK, what, words)


def _password(what: str, file: Path | None) -> Iterator[Line]:
    if file is not None and file.exists() and file.stat().st_mode & 0o077:
        yield Line(BAD, what, f"{file.name} is open to others", f"chmod 600 {quoted(file)}")


def _files(home: Path) -> Iterator[Line]:
    from presspass.store.migrate import NEWEST

    places = {
        "gateway": home / "gateway" / "gateway.db",
        "journal": home / "press" / "journal" / "journal.db",
    }
    for name, newest in NEWEST.items():
        what = f"{name} database"
        try:
            sound, revision = _look_into(places[name])
        except sqlite3.Error as error:
            fix = "Restore it from a backup, or run `presspass serve` once."
            yield Line(BAD, what, f"cannot be read: {error}", fix)
            continue
        if sound != "ok":
            yield Line(BAD, what, f"is damaged: {sound}", "Stop the gate and restore a backup.")
        elif revision < newest:
            found = f"schema {revision or 'none'}, newest {newest}"
            yield Line(WARN, what, found, "The next start brings it up to date.")
        elif revision > newest:
            found = f"schema {revision} is newer than this program ({newest})"
            yield Line(BAD, what, found, "Install the newer Presspass.")
        else:
            yield Line(OK, what, f"sound, schema {newest}")


def _look_into(path: Path) -> tuple[str, str]:
    """(what SQLite's quick check says, revision of the schema or "")."""
    with contextlib.closing(
        sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    ) as connection:
        sound = connection.execute("PRAGMA quick_check(1)").fetchone()
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(sound[0]) if sound else "no answer", str(revision[0]) if revision else ""


def _clock(home: Path, _config: Config) -> Iterator[Line]:
    newest = max(
        (path.stat().st_mtime for path in (home / "press" / "journal").glob("journal.db*")),
        default=0.0,
    )
    behind = newest - time.time()
    if behind > _WALL_BACK_S_MAX:
        yield Line(
            BAD,
            "clock",
            f"is {behind:.0f} s behind what the journal has seen",
            "Set the time; enable a time service (NTP).",
        )
    else:
        yield Line(OK, "clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _disk(home: Path, _config: Config) -> Iterator[Line]:
    free = shutil.disk_usage(home).free
    text = f"{size_text(free)} free"
    if free < DISK_FREE_BYTES_MIN:
        yield Line(
            WARN, "disk", text, f"Uploads need room; keep {size_text(DISK_FREE_BYTES_MIN)} free."
        )
    else:
        yield Line(OK, "disk", text)


def _drop(home: Path, _config: Config) -> Iterator[Line]:
    drop = home / "drop"
    if not os.access(drop, os.W_OK | os.X_OK):
        yield Line(
            WARN,
            "drop box",
            "this user cannot write to it",
            f"Let those who may stop releases write to {drop}.",
        )
    else:
        yield Line(OK, "drop box", f"writable, {len(list(drop.glob('*.json')))} narrowings in it")


def _processes(home: Path, _config: Config) -> Iterator[Line]:
    for name, lock in (
        ("supervisor", home / "serve.lock"),
        ("press", home / "press" / "writer.lock"),
    ):
        running = _locked(lock)
        fix = "" if running else f"presspass serve --home {quoted(home)}"
        yield Line(OK if running else WARN, name, "running" if running else "not running", fix)
    from presspass.cli.client import control

    try:
        with control(home) as gate:
            status = gate.get_json("/status")
        yield Line(OK, "gateway", f"answers, {len(status.get('releases', []))} releases")
    except PresspassError as error:
        yield Line(
            WARN,
            "gateway",
            f"does not answer: {getattr(error, 'message', error)}",
            f"presspass serve --home {quoted(home)}",
        )


def _locked(path: Path) -> bool:
    """Whether another process holds the lock. Opens read-only: looking must not create it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _isolation(_home: Path, config: Config) -> Iterator[Line]:
    from presspass import confine

    for one in confine.available():
        yield Line(
            OK if one.present else WARN,
            f"isolation {one.name}",
            one.reason,
            "" if one.present else "A newer kernel, or root.",
        )
    if config.zones.separate:
        yield Line(OK, "zones", "separated: each process is a user of its own")
    else:
        from presspass.services.zones import unseparated_zones

        fix = "Start as root with separate = true in [zones]."
        yield Line(WARN, "zones", f"not separated: {unseparated_zones()}", fix)


def _genesis(home: Path, config: Config) -> Iterator[Line]:
    from presspass.cli.asking import standing_of_home

    try:
        standing = standing_of_home(home)
    except Refusal as refusal:
        yield Line(WARN, "genesis", refusal.message, refusal.hint)
    except PresspassError as error:
        yield Line(
            BAD, "genesis", f"{getattr(error, 'message', error)}", "See the databases above."
        )
    else:
        yield Line(OK, "genesis", f"sealed: {standing.genesis}")
        yield from _reach(home, standing.policy)
        yield from _narrowings(home)
        yield from doctor_notices.notices(home, config)
        yield from doctor_ledger.ledger(home, config)


def _reach(home: Path, policy: Policy) -> Iterator[Line]:
    """Whether those who are enrolled could still change anything, and let a release out."""
    from presspass.cli import press_room
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view
    from presspass.verify.chain import Chain
    from presspass.verify.shortage import packages_of, short_of_approvers

    roster = press_room.roster_of_home(home)
    suspended = ask_journal(home, journal_view.suspended)
    around = Circumstances(suspended=suspended)
    change = Electorate(Kind.ROSTER, roster, roster, policy, "", around)
    could, needed = change.eligible(), change.needed()
    whom = "keys" if change.solo else "people with keys that count"
    if not change.reachable():
        yield Line(
            BAD,
            "people",
            f"{could} {whom}, and {needed} must sign: nothing can be approved any more",
            "presspass recover, with the offline recovery key; it takes 72 hours.",
        )
    elif could == needed:
        yield Line(
            WARN,
            "people",
            f"{could} {whom}, and {needed} must sign: one lost key stops everything",
            f"presspass invite NAME --home {quoted(home)}",
        )
    else:
        yield Line(OK, "people", f"{could} {whom}, {needed} must sign a change")
    chain = ask_journal(home, lambda c: Chain.of(journal_view.chained(c)))
    published = ask_journal(home, journal_view.published_projects)
    for short in (
        short_of_approvers(chain, suspended, packages_of(chain, published)) if chain else ()
    ):
        yield Line(
            BAD,
            "frozen",
            f"{short.package.project} at {short.package.upstream}: {short.needed} must approve and "
            f"{short.eligible} could; the number is not lowered",
            f"presspass invite NAME --home {quoted(home)}, or a quorum clears a stop",
        )


def _narrowings(home: Path) -> Iterator[Line]:
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    for one in ask_journal(home, journal_view.narrowings):
        if one.what != "veto":
            found = f"{one.target or 'everything'}: {one.reason}"
            fix = f"presspass freeze --clear {one.id} --home {quoted(home)}"
            yield Line(WARN, "frozen", found, fix)


def _upstreams(home: Path) -> Iterator[Line]:
    """Asks each index as anybody would: no credential is sent."""
    import httpx2

    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    for name, (_digest, body) in sorted(ask_journal(home, journal_view.upstreams).items()):
        try:
            answer = httpx2.get(body.index_url, timeout=_UPSTREAM_TIMEOUT_S, follow_redirects=False)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            yield Line(
                BAD,
                f"upstream {name}",
                f"{body.index_url}: {error}",
                "Check the address, the network and the proxy.",
            )
            continue
        yield from doctor_addresses.clock_of(f"upstream {name}", answer.headers.get("date", ""))
        grade = OK if answer.status_code < 400 else WARN
        yield Line(grade, f"upstream {name}", f"{body.index_url} answers {answer.status_code}")
