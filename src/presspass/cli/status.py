"""`status` and `wait`: what the gate says about a release or a request. The gate's word; `verify` checks proofs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from presspass.cli.client import Gate, PageUrl, control, parse_page_url
from presspass.cli.exits import (
    DONE,
    EXPIRED,
    FAILED,
    INTERRUPTED,
    OVERTAKEN,
    REFUSED,
    EndedError,
    TimedOutError,
)
from presspass.cli.options import Duration, example, format_option, home_option
from presspass.cli.sessions import gate_origin, signed_in
from presspass.cli.show import emit_json, note, quoted, safe, safe_lines, say, table
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault
from presspass.core.lifecycle import SETTLED, State

_UNDELIVERED_MAX: Final = 20
_POLL_FIRST_S, _POLL_MAX_S = 0.2, 3.0
#: States in which a release or request will not change by itself any more.
_ENDED: Final = frozenset({"stale", *(state.value for state in SETTLED)})
_DONE: Final = frozenset({State.VERIFIED.value, "admitted"})
_EXIT_CODES: Final = {
    State.EXPIRED.value: EXPIRED,
    State.FAILED.value: FAILED,
    State.WITHDRAWN.value: OVERTAKEN,
    "stale": OVERTAKEN,
}


@click.command(
    "status",
    short_help="Show where a release stands, or all of them.",
    epilog=example(
        "presspass status https://gate.example/r/4x…", "presspass status --home /srv/presspass"
    ),
)
@click.argument("url", required=False)
@click.option(
    "--page",
    is_flag=True,
    help="Print an address where a browser may look at the list (never sign).",
)
@click.option(
    "--gate", "origin", help="List what this gate shows to who is signed in at this terminal."
)
@home_option
@format_option
def status_command(
    url: str | None, page: bool, origin: str | None, home: Path, as_json: bool
) -> None:
    """Show one release or request by its URL, or, on the gate's host, everything that is open and every narrowing.
    With --gate, from anywhere, what you may see there after `presspass login`.

    Exit codes: 0 shown; 1 unknown; 4 the gate cannot be reached.
    """
    if origin is not None:
        _overview_of_gate(gate_origin(origin), as_json)
        return
    if url is None:
        _overview(home, page, as_json)
        return
    place = parse_page_url(url)
    with Gate(place.base) as gate:
        answer = gate.get_json(place.api)
    emit_json(answer) if as_json else _show_one(answer)


@click.command(
    "wait",
    short_help="Wait until a release is published or ended.",
    epilog=example(
        "presspass wait https://gate.example/r/4x… --timeout 2h",
        "presspass wait k5zq2n7m4c6r3t8x… --url https://gate.example",
    ),
)
@click.argument("release")
@click.option(
    "--url",
    default="",
    envvar="PRESSPASS_URL",
    show_envvar=True,
    help="The gate, where RELEASE is an id alone.",
)
@click.option(
    "--timeout", type=Duration(), default="1h", show_default=True, help="Give up after this time."
)
@format_option
def wait_command(release: str, url: str, timeout: int, as_json: bool) -> int:
    """Wait until RELEASE, an address or an id, is published and read back, or has ended otherwise.

    The id is a read-only handle: it opens the release's page and nothing else, and is good long after the pass that
    uploaded it is over. A gate that restarts meanwhile is waited for.

    For a request (/q/…): until it is admitted or has ended.

    Exit codes: 0 verified (or admitted), nothing less; 1 rejected or revoked; 3 timed out; 4 the gate cannot be
    reached; 5 expired, nobody decided in time; 6 failed; 7 withdrawn, or overtaken by a newer request.
    """
    return wait_for(page_of(release, url), timeout, as_json=as_json)


def page_of(text: str, url: str) -> PageUrl:
    """The page of a release by its address, or by its id at the gate `url` (any address below it)."""
    if "://" in text:
        return parse_page_url(text)
    if not url.startswith(("https://", "http://")):
        raise click.UsageError("An id alone needs the gate's address: --url or PRESSPASS_URL.")
    return PageUrl(url.partition("/pypi/")[0].rstrip("/"), "r", text)


def wait_for(page: PageUrl, timeout_s: int, *, as_json: bool) -> int:
    """Polls to the end, each change told on stderr; an exit code. TimedOutError after `timeout_s`; Refusal when it
    ended badly. Ctrl-C ends the waiting alone, and says so.
    """
    try:
        answer = _wait(page, timeout_s)
    except KeyboardInterrupt:
        note(f"\nIt goes on at the gate: presspass wait {quoted(page.url)}")
        return INTERRUPTED
    if answer["state"] not in _DONE:
        raise _ended(answer)
    emit_json(answer) if as_json else say(safe(answer["url"]))
    return DONE


def _wait(page: PageUrl, timeout_s: int) -> JsonObject:
    deadline = time.monotonic() + timeout_s
    seen, pause = "", _POLL_FIRST_S
    with Gate(page.base) as gate:
        while True:
            answer = _ask(gate, page, deadline)
            line = _progress_line(answer)
            if line != seen:
                note(line)
                seen, pause = line, _POLL_FIRST_S
            if answer["state"] in _ENDED | _DONE:
                return answer
            if time.monotonic() >= deadline:
                raise TimedOutError(
                    f"Still {answer['state']} after {timeout_s} seconds; it goes on without us."
                )
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.3, _POLL_MAX_S)


def _ask(gate: Gate, page: PageUrl, deadline: float) -> JsonObject:
    """The answer; while time is left, a gate that restarts just now is waited for."""
    while True:
        try:
            return gate.get_json(page.api)
        except Fault as fault:
            if not fault.retryable or time.monotonic() >= deadline:
                raise
            time.sleep(min(_POLL_MAX_S, max(0.0, deadline - time.monotonic())))


def _ended(answer: JsonObject) -> EndedError:
    try:
        code = Code(answer.get("code") or "")
    except ValueError:
        code = Code.RELEASE_WRONG_STATE
    reason = answer.get("reason") or answer.get("message") or "No reason was given."
    ended = EndedError(code, f"It ended {answer['state']}: {reason}", str(answer.get("hint") or ""))
    ended.exit_code = _EXIT_CODES.get(str(answer["state"]), REFUSED)
    return ended


def _progress_line(answer: JsonObject) -> str:
    press = answer.get("press") or {}
    said = answer.get("reason") or answer.get("message") or press.get("message") or ""
    return safe(f"{answer['state']}{': ' if said else ''}{said}")


def _overview_of_gate(origin: str, as_json: bool) -> None:
    with signed_in(origin) as gate:
        answer = gate.get_json("/api/v1/overview")
    if as_json:
        emit_json(answer)
        return
    for one in answer["releases"]:
        say(f"{safe(one['state']):<11} {safe(one['project'])} {safe(one['version'])}")
        say(f"            {safe(one['url'])}")
    for one in answer["requests"]:
        say(f"{safe(one['state']):<11} {safe(one['kind'])}: {safe(one['title'])}")
        say(f"            {safe(one['url'])}")
    if not answer["releases"] and not answer["requests"]:
        note("nothing that you may see")


def _overview(home: Path, page: bool, as_json: bool) -> None:
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    with control(home) as gate:
        if page:
            answer = gate.post_json("/view-tokens", {})
            emit_json(answer) if as_json else say(safe(answer["url"]))
            return
        overview = gate.get_json("/status")
    overview["narrowings"] = [
        {
            "id": one.id,
            "what": one.what,
            "target": one.target,
            "reason": one.reason,
            "source": one.source,
        }
        for one in ask_journal(home, journal_view.narrowings)
    ]
    overview["undelivered"] = [
        {"address": one.address, "subject": one.subject, "error": one.error, "dead": one.dead}
        for one in ask_journal(home, lambda c: journal_view.undelivered(c, _UNDELIVERED_MAX))
    ]
    emit_json(overview) if as_json else _show_overview(overview)


def _show_overview(overview: JsonObject) -> None:
    if not overview.get("sealed"):
        say(
            "Genesis is not sealed: nothing can be published yet. Enrol keys, then `presspass init --seal`."
        )
    _section(
        "Releases", ("project", "version", "state", "reason", "url"), overview.get("releases", [])
    )
    _section("Requests", ("title", "state", "message", "url"), overview.get("requests", []))
    _section("Enrolments", ("name", "person", "kind", "key"), overview.get("enrolments", []))
    frozen = overview.get("frozen_packages", [])
    if frozen:
        _section(
            "Frozen for want of approvers", ("project", "upstream", "needed", "eligible"), frozen
        )
    freezes = [one for one in overview["narrowings"] if one["what"] != "veto"]
    shown = [{**one, "target": one["target"] or "everything"} for one in freezes]
    _section("Freezes", ("target", "reason", "id"), shown)
    if overview["undelivered"]:
        late = [
            {**one, "dead": "given up" if one["dead"] else ""} for one in overview["undelivered"]
        ]
        _section("Notices not delivered", ("subject", "address", "dead", "error"), late)
    vetoes = len(overview["narrowings"]) - len(freezes)
    say(f"Vetoes: {vetoes or 'none'}{', each of them final' if vetoes else ''}")


def _section(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    say(f"{title}: {len(rows) or 'none'}")
    if rows:
        table(columns, [[row.get(column) or "" for column in columns] for row in rows])


def _show_one(answer: JsonObject) -> None:
    if "project" in answer:
        what = f"{safe(answer['project'])} {safe(answer['version'])}"
        say(f"{what} for {safe(answer['upstream'])}: {safe(answer['state'])}")
    else:
        say(f"{safe(answer['kind'])}: {safe(answer['state'])}")
    for name in ("code", "reason", "message", "hint", "url"):
        if answer.get(name) and answer[name] != Code.QUORUM_MISSING.value:
            say(f"  {name}: {' / '.join(safe_lines(str(answer[name])))}")
    _show_tally(answer.get("tally") or {})
    if answer.get("files"):
        table(
            ("file", "size", "sha256"),
            [(one["name"], one["size"], one["sha256"]) for one in answer["files"]],
        )


def _show_tally(tally: JsonObject) -> None:
    if tally:
        counted, needed = tally.get("counted"), tally.get("needed")
        given = len(counted) if isinstance(counted, list) else 0
        missing = max(0, needed - given) if isinstance(needed, int) else 0
        more = f"{missing} more needed" if missing else "enough"
        asked = "; the one who asked has signed that" if tally.get("requester_signed") else ""
        say(f"  approvals: {given} given, {more}{asked}")
    if tally.get("frozen"):
        say(
            "  FROZEN: not even everybody together could approve it; see `presspass doctor`",
            fg="red",
        )
    for one in tally.get("excluded", []):
        say(f"  does not count: key {safe(one.get('key', ''))[:16]} ({safe(one.get('code', ''))})")
