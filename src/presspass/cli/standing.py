"""`standing`: releases that people approve in advance, within bounds; what has passed under each; and its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from presspass.cli.asking import put_before_approvers, standing_of_home
from presspass.cli.bindings import chain_of, publisher_in, waiting
from presspass.cli.choosing import warn
from presspass.cli.options import (
    Duration,
    drop_option,
    example,
    format_option,
    home_option,
    signing_options,
    yes_option,
)
from presspass.cli.publisher import normal_project
from presspass.cli.revoke import revoke_command
from presspass.cli.show import emit_json, note, safe, say, table
from presspass.cli.times import when
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal
from presspass.core.standing import (
    DAILY_MAX,
    DAY_MS,
    FINDINGS,
    KINDS,
    LIFE_S_MAX,
    READ_EVERY_MAX,
    StandingBody,
    bounds,
    check_life,
)
from presspass.core.statement import Kind

if TYPE_CHECKING:
    from presspass.store.journal_view import StandingUse
    from presspass.verify.chain import Chain

_SHOWN_MAX: Final = 50


@click.group("standing", short_help="Releases approved in advance, within bounds.")
def standing_command() -> None:
    """Releases that people approve in advance, within bounds. Asking for one takes the approval of two people, as any
    change does; ending one takes one person, at once.
    """


@standing_command.command(
    "ask",
    epilog=example(
        "presspass standing ask patches --upstream main --publisher greet-ci --project greet \\",
        "    --kind patch --finding low --daily 3 --for 30d",
    ),
)
@click.argument("name")
@click.option("--upstream", required=True, help="Where they go.")
@click.option(
    "--publisher", "publishers", multiple=True, required=True, help="Who may ask (repeatable)."
)
@click.option("--project", "projects", multiple=True, required=True, help="A package (repeatable).")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    required=True,
    type=click.Choice(KINDS),
    help="A kind of version (repeatable); all that holds of a version must be named: 1.1rc1 is minor and pre.",
)
@click.option(
    "--finding",
    default="info",
    show_default=True,
    type=click.Choice(FINDINGS),
    help="The worst finding of the inspection that is let through.",
)
@click.option(
    "--daily", default=10, show_default=True, type=click.IntRange(1, DAILY_MAX),
    help="Releases in 24 hours, of all packages.",
)  # fmt: skip
@click.option(
    "--daily-per-project", default=1, show_default=True, type=click.IntRange(1, DAILY_MAX),
    help="Releases in 24 hours, of one package.",
)  # fmt: skip
@click.option(
    "--for", "life", type=Duration(), default="30d", show_default=True,
    help="How long, from now on; 90 days at most.",
)  # fmt: skip
@click.option(
    "--read-every", default=10, show_default=True, type=click.IntRange(1, READ_EVERY_MAX),
    help="One of so many is to be read afterwards.",
)  # fmt: skip
@click.option(
    "--read-within", type=Duration(), default="2d", show_default=True,
    help="How long people have to read it; 7 days at most.",
)  # fmt: skip
@home_option
@format_option
def ask_command(
    name: str, upstream: str, publishers: tuple[str, ...], projects: tuple[str, ...], kinds: tuple[str, ...],
    finding: str, daily: int, daily_per_project: int, life: int, read_every: int, read_within: int, home: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Put the standing approval NAME before the approvers: what may go out later without a signature of its own.

    Every part is a limit, and a release that passes one is signed by people as ever. Never passes: a first release, a
    version that is not higher than all before it, files that the CI run has not bound itself, a workflow that is not
    the bound one. Asking for NAME again replaces it when people have approved that.

    Exit codes: 0 asked for; 1 refused; 4 the gate of this home is not running.
    """
    chain = chain_of(home)
    wanted = tuple(sorted({normal_project(one) for one in projects}))
    _check_known(chain, upstream, publishers, wanted)
    now = int(time.time())
    body = StandingBody(
        name=name,
        upstream=upstream,
        publishers=tuple(sorted(set(publishers))),
        projects=wanted,
        version_kinds=tuple(sorted(set(kinds))),
        worst_finding=finding,
        daily=daily,
        daily_per_project=daily_per_project,
        not_after=now + life,
        read_every=read_every,
        read_within_s=read_within,
    )
    body = StandingBody.from_json(body.to_json())
    check_life(body, now)
    if life > LIFE_S_MAX // 2:
        warn(
            f"It holds for {life // 86_400} days; what nobody has looked at for so long has changed."
        )
    standing, present = standing_of_home(home), chain.standings.get(name)
    statement = standing.statement(body, previous=present[0] if present else standing.genesis)
    answer = put_before_approvers(home, statement)
    emit_json(answer) if as_json else say(safe(answer["url"]))


def _check_known(
    chain: Chain, upstream: str, publishers: tuple[str, ...], projects: tuple[str, ...]
) -> None:
    """What no release could ever pass under is refused before anybody is asked."""
    if upstream not in chain.upstreams:
        raise Refusal(
            Code.UPSTREAM_MISSING,
            f"There is no upstream {safe(upstream)} in force.",
            "Ask for it first: presspass upstream add.",
        )
    covered: set[str] = set()
    for name in publishers:
        body = publisher_in(chain, name)[1]
        covered |= set(body.projects) if body.upstream == upstream else set()
    beyond = sorted(set(projects) - covered)
    if beyond:
        raise Refusal(
            Code.PUBLISHER_PROJECT,
            f"None of these publishers is bound to {', '.join(beyond)} at {safe(upstream)}.",
            "A standing approval covers only what its publishers are bound to: presspass publisher bind.",
        )


@standing_command.command("list", epilog=example("presspass standing list --home /srv/presspass"))
@home_option
@format_option
def list_command(home: Path, as_json: bool) -> None:
    """List the standing approvals, what has passed under each, and those that wait for signatures.

    Exit codes: 0 shown; 1 not sealed yet; 4 the journal cannot be read.
    """
    found = {
        name: _facts(home, name, *one) for name, one in sorted(chain_of(home).standings.items())
    }
    if as_json:
        emit_json(found)
        return
    if not found:
        say("no standing approvals; `presspass standing ask` asks for one")
    else:
        rows = [
            (name, one["state"], ", ".join(one["projects"]), ", ".join(one["version_kinds"]),
             f"{one['used_today']} of {one['daily']}", one["used"], when(one["not_after"]))
            for name, one in found.items()
        ]  # fmt: skip
        table(("name", "state", "projects", "kinds", "today", "in all", "until"), rows)
    for name, digest in waiting(home, Kind.STANDING):
        note(f"waits for signatures: {safe(name)}, request {digest}")


@standing_command.command(
    "show", epilog=example("presspass standing show patches --home /srv/presspass")
)
@click.argument("name")
@home_option
@format_option
def show_command(name: str, home: Path, as_json: bool) -> None:
    """Show the bounds of the standing approval NAME, and what has passed under it, the newest first.

    Exit codes: 0 shown; 1 there is none; 4 the journal cannot be read.
    """
    digest, body = _standing_in(chain_of(home), name)
    uses = _uses(home, name)
    value = {**_facts(home, name, digest, body), "uses": [_use_json(one) for one in uses]}
    if as_json:
        emit_json(value)
        return
    say(f"{safe(name)}: {value['state']}, until {when(body.not_after)}")
    for label, text in bounds(body):
        say(f"  {label}: {safe(text)}")
    say(f"Passed under it: {len(uses) or 'none'}, {value['used_today']} in the last 24 hours")
    if uses:
        rows = [
            (one.project, one.version, when(one.at_ms // 1000), _reading(one))
            for one in uses[:_SHOWN_MAX]
        ]
        table(("project", "version", "let through", "to be read"), rows)
    if len(uses) > _SHOWN_MAX:
        note(f"and {len(uses) - _SHOWN_MAX} more: --format json")
    for one in value["stops"]:
        say(f"Ended: {safe(one['reason']) or 'no reason given'} ({safe(one['source'])})")
        note(f"`presspass freeze --clear {one['id']}` asks the approvers to end that.")


@standing_command.command(
    "end",
    epilog=example(
        "presspass standing end patches --reason 'odd release' --url https://gate.example --key ~/.ssh/id",
    ),
)
@click.argument("name")
@click.option("--reason", default="", help="Why; covered by the signature.")
@click.option("--url", help="The gate, https://GATE.")
@drop_option
@signing_options
@yes_option
@home_option
@format_option
@click.pass_context
def end_command(
    context: click.Context, name: str, reason: str, url: str | None, drop: Path | None, key: Path | None,
    software_passkey: Path | None, yes: bool, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """End the standing approval NAME, at once and until a quorum clears it. One person's signature is enough.

    It is the same as `presspass revoke standing NAME`. What waits in the veto window does not go out by it.

    Exit codes: 0 handed in; 1 refused; 4 the gate cannot be reached (then use --drop).
    """
    context.invoke(
        revoke_command, what="standing", target=name, reason=reason, url=url, drop=drop, listing=False,
        key=key, software_passkey=software_passkey, yes=yes, home=home, as_json=as_json,
    )  # fmt: skip


def _standing_in(chain: Chain, name: str) -> tuple[str, StandingBody]:
    found = chain.standings.get(name)
    if found is None:
        known = ", ".join(sorted(chain.standings)) or "none"
        raise Refusal(
            Code.REQUEST_NOT_FOUND,
            f"There is no standing approval {safe(name)} in force.",
            f"There is: {known}.",
        )
    return found


def _facts(home: Path, name: str, digest: str, body: StandingBody) -> JsonObject:
    stops, now_s = _stops(home, name), time.time()
    uses = _uses(home, name)
    today = [one for one in uses if one.at_ms >= now_s * 1000 - DAY_MS]
    state = "in force"
    if stops:
        state = "ended"
    elif not body.projects:
        state = "retired"
    elif now_s >= body.not_after:
        state = "over"
    return {
        **body.to_json(),
        "statement": digest,
        "state": state,
        "stops": stops,
        "used": len(uses),
        "used_today": len(today),
    }


def _stops(home: Path, name: str) -> list[Mapping[str, str]]:
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    return [
        {"id": one.id, "reason": one.reason, "by": one.by, "source": one.source}
        for one in ask_journal(home, journal_view.narrowings)
        if (one.what, one.target) == ("standing", name)
    ]


def _uses(home: Path, name: str) -> list[StandingUse]:
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    return ask_journal(home, lambda c: journal_view.standing_uses(c, name))


def _use_json(use: StandingUse) -> JsonObject:
    return {
        "project": use.project,
        "version": use.version,
        "release": use.statement,
        "at": use.at_ms // 1000,
        "to_read_until": use.due_ms // 1000 if use.due_ms is not None else None,
        "read_at": use.read_ms // 1000 if use.read_ms is not None else None,
        "read_by": use.read_by,
    }


def _reading(use: StandingUse) -> str:
    if use.due_ms is None:
        return ""
    return f"read by {safe(use.read_by)}" if use.read_ms else f"until {when(use.due_ms // 1000)}"
