"""`audit`: follows a gate's ledger from where it was left, and says whether everything in it is as it should be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from presspass.cli.client import Gate
from presspass.cli.exits import CANNOT_SAY, DONE, REFUSED, CannotSayError
from presspass.cli.options import (
    Duration,
    example,
    format_option,
    need_trust,
    trust_option,
    witness_option,
)
from presspass.cli.show import emit_json, note, progress, safe, say
from presspass.core.errors import Fault, Refusal
from presspass.core.limits import STATEMENT_BYTES_MAX
from presspass.core.statement import GenesisBody, Statement

if TYPE_CHECKING:
    from presspass.cli.audit_state import State
    from presspass.cli.auditing import Outcome, Wanted

T = TypeVar("T")


@click.command(
    "audit",
    short_help="Follow a gate's ledger and check all of it.",
    epilog=example(
        "presspass audit https://gate.example --trust trust-root.json",
        "presspass audit https://gate.example --trust trust-root.json --registry https://registry.example/simple/ "
        "--watch 10m",
    ),
)
@click.argument("url")
@trust_option
@click.option(
    "--registry",
    "registries",
    multiple=True,
    metavar="URL",
    help="Compare with what this registry lists: the address of its index, as pip takes it. Repeatable.",
)
@witness_option("checkpoint")
@click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What is remembered for the next time (default: a file for each installation in your configuration folder).",
)
@click.option(
    "--watch",
    type=Duration(),
    metavar="SECONDS",
    help="Look again every so often (90s, 10m), until something is wrong; tell what has changed.",
)
@format_option
def audit_command(
    url: str,
    trust: Path | None,
    registries: tuple[str, ...],
    witnesses: tuple[str, ...],
    state_file: Path | None,
    watch: int | None,
    as_json: bool,
) -> int:
    """Read the ledger of the gate at URL, or of a copy of it, and check every entry since the last time.

    That it only grows, that the installation you trust has signed it, that every release in it was approved before it
    was sent; and with --registry, that the registry has no file which the ledger does not explain. Only URL and the
    registries you name are asked.

    Exit codes: 0 all is as it should be; 1 something is wrong, with the reason; 2 cannot be said (nothing to trust,
    something not reachable, no cosignature, entries newer than this program).
    """
    state, wanted = _state(trust, state_file), _wanted(registries, witnesses)
    with Gate(url.rstrip("/").removesuffix("/log")) as gate:
        if watch is None:
            return _tell(_round(gate, state, wanted), state, as_json=as_json)
        return _watch(gate, state, wanted, watch, as_json=as_json)


def _state(trust: Path | None, state_file: Path | None) -> State:
    from presspass.cli.audit_state import State

    trust = need_trust(trust, "the gate")
    try:
        with trust.open("rb") as file:
            genesis = Statement.from_bytes(file.read(STATEMENT_BYTES_MAX + 1))
        genesis.body_as(GenesisBody)
    except OSError as error:
        raise CannotSayError(f"The trust root {trust} cannot be read: {error.strerror}.") from None
    except Refusal as refusal:
        raise CannotSayError(f"{trust} is no trust root: {refusal.message}") from None
    return _said(lambda: State.read(state_file, genesis))


def _wanted(registries: tuple[str, ...], witnesses: tuple[str, ...]) -> Wanted:
    from presspass.cli.auditing import Wanted
    from presspass.core.ledger.note import VerifierKey

    try:
        return Wanted(registries, tuple(map(VerifierKey.from_text, witnesses)))
    except Refusal as refusal:
        raise CannotSayError(refusal.message, "Take it as its witness prints it.") from None


def _said(work: Callable[[], T]) -> T:
    """The world's failures keep an auditor from saying anything; they are no verdict."""
    try:
        return work()
    except Fault as fault:
        raise CannotSayError(fault.message) from None


def _round(gate: Gate, state: State, wanted: Wanted) -> Outcome:
    from presspass.cli.auditing import TwoCheckpointsError, audit

    try:
        return _said(lambda: audit(gate, state, wanted, progress))
    except TwoCheckpointsError as refusal:
        for number, one in enumerate(refusal.notes):
            say("the log signed this:" if number == 0 else "and this:")
            for line in one.decode("utf-8", "replace").splitlines():
                say(f"  {safe(line)}")
        raise


def _watch(gate: Gate, state: State, wanted: Wanted, seconds: int, *, as_json: bool) -> int:
    told, trouble = "", ""
    while True:
        try:
            outcome = _round(gate, state, wanted)
        except CannotSayError as error:
            if error.message != trouble:
                note(f"{_now()} cannot say: {safe(error.message)}")
            trouble = error.message
        else:
            code, trouble = _exit_code(outcome), ""
            if code != DONE:
                return _tell(outcome, state, as_json=as_json)
            line = (
                json.dumps(_verdict(outcome, state), sort_keys=True) if as_json else _line(outcome)
            )
            if line != told:
                click.echo(line if as_json else f"{_now()} {line}")
            told = line
        _pause(seconds)


def _pause(seconds: int) -> None:
    time.sleep(max(1, seconds))


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _line(outcome: Outcome) -> str:
    account = outcome.account
    rest = f"; {len(outcome.notes)} remarks" if outcome.notes else ""
    return f"ok: {account.size} entries, {len(account.verified)} releases{rest}"


def _exit_code(outcome: Outcome) -> int:
    if outcome.is_unknown:
        return CANNOT_SAY
    return REFUSED if outcome.findings else DONE


def _tell(outcome: Outcome, state: State, *, as_json: bool) -> int:
    if as_json:
        emit_json(_verdict(outcome, state))
    else:
        _show(outcome, state)
    return _exit_code(outcome)


def _verdict(outcome: Outcome, state: State) -> dict[str, Any]:
    from presspass.verify.ledger import root_text

    checkpoint, account = outcome.seen.checkpoint, outcome.account
    return {
        "entries": dict(account.kinds),
        "files": sum(map(len, account.files.values())),
        "findings": [one.to_json() for one in outcome.findings],
        "findings_untold": account.untold,
        "genesis": state.genesis.digest,
        "log": {
            "before": outcome.before,
            "origin": checkpoint.origin,
            "root": root_text(checkpoint),
            "size": checkpoint.size,
        },
        "notes": list(outcome.notes),
        "releases": len(account.verified),
        "valid": _exit_code(outcome) == DONE,
        "verdict": _WORDS[_exit_code(outcome)].lower(),
        "witnesses": [{"at": at, "name": name} for name, at in outcome.seen.witnesses],
    }


_WORDS = {DONE: "OK", REFUSED: "WRONG", CANNOT_SAY: "CANNOT SAY"}


def _show(outcome: Outcome, state: State) -> None:
    from presspass.verify.ledger import root_text

    checkpoint, account = outcome.seen.checkpoint, outcome.account
    say(f"{_WORDS[_exit_code(outcome)]}  {safe(checkpoint.origin)}, {checkpoint.size} entries")
    say(f"  new          {checkpoint.size - outcome.before}, since {outcome.before}")
    say(f"  root         {root_text(checkpoint)}")
    names = [safe(name) for name, _at in outcome.seen.witnesses]
    say(f"  witnesses    {', '.join(names) or 'none was asked for'}")
    kinds = (f"{kind} {count}" for kind, count in sorted(account.kinds.items()))
    say(f"  entries      {', '.join(map(safe, kinds))}")
    files = sum(map(len, account.files.values()))
    say(f"  releases     {len(account.verified)}, with {files} files")
    say(f"  genesis      {state.genesis.digest[:16]}…")
    say(f"  state        {safe(state.path)}")
    for remark in outcome.notes:
        say(f"  note: {safe(remark)}")
    for one in outcome.findings:
        place = "" if one.position is None else f"entry {one.position}: "
        say(f"  wrong: {place}{safe(one.message)} [{one.code}]")
    if account.untold:
        say(f"  wrong: {account.untold} more")
    if outcome.is_unknown:
        say(
            "Get a newer Presspass, and audit again with a new --state: these entries were not read."
        )
