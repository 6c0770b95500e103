"""`freeze`: stop publishing at once by one signature, or by a file in the drop box; start again only by the quorum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from presspass.cli.asking import put_before_approvers, standing_of_gate, standing_of_home
from presspass.cli.choosing import compact, confirm
from presspass.cli.client import Gate
from presspass.cli.databases import ask_journal
from presspass.cli.drop import drop_signed, drop_unsigned_freeze
from presspass.cli.options import (
    drop_option,
    example,
    format_option,
    home_option,
    signing_options,
    yes_option,
)
from presspass.cli.show import emit_json, note, safe, say
from presspass.cli.sign import make_signer
from presspass.core.digests import canonical
from presspass.core.errors import Code, Refusal
from presspass.core.statement import FreezeBody

if TYPE_CHECKING:
    from presspass.store.journal_view import Narrowing


@click.command(
    "freeze",
    short_help="Stop publishing, of one project or of all.",
    epilog=example(
        "presspass freeze --reason 'token leaked' --url https://gate.example --key ~/.ssh/id_ed25519",
        "presspass freeze --project greet --drop /mnt/presspass-drop",
        "presspass freeze --deny-all --drop /mnt/presspass-drop",
        "presspass freeze --clear 3f2a81c0 --home /srv/presspass",
    ),
)
@click.option("--project", default="", help="Only this project (default: everything).")
@click.option("--reason", default="", help="Why; covered by the signature.")
@click.option("--url", help="The gate, https://GATE.")
@drop_option
@click.option(
    "--deny-all", is_flag=True, help="Veto everything that is open, too; no quorum gives that back."
)
@click.option(
    "--clear",
    multiple=True,
    help="End this freeze (its id, or a beginning that no other has; repeatable): asks the approvers.",
)
@signing_options
@yes_option
@home_option
@format_option
def freeze_command(
    project: str, reason: str, url: str | None, drop: Path | None, deny_all: bool, clear: tuple[str, ...],
    key: Path | None, software_passkey: Path | None, yes: bool, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Publish nothing any more, of --project or at all, until a quorum clears it.

    One enrolled person's signature is enough and works at once. With --drop the freeze does not pass the gateway;
    there it needs no signature at all, since whoever may write to the drop box may stop things.

    --deny-all vetoes in the same act whatever is open of it: releases that wait or are approved, and without --project
    also changes of people, keys and rules. What was denied must be asked for anew.

    --clear, on the gate's host, makes the opposite request; it needs the full number of approvals. The ids stand in
    `presspass status`; that of a restored press begins with `restored-`. A veto is final.

    Exit codes: 0 handed in; 1 refused; 4 the gate cannot be reached (then use --drop).
    """
    if clear and deny_all:
        raise click.UsageError("--deny-all stops, --clear starts again: one of them.")
    if clear:
        _clear(home, clear, reason, as_json)
        return
    if (url is None) == (drop is None):
        raise click.UsageError("Give one of --url or --drop.")
    what = f"everything of {project}" if project else "EVERYTHING"
    denied = " Veto whatever of it is open, for good?" if deny_all else ""
    question = f"Stop publishing {what}, until a quorum clears it?{denied}"
    if not yes and not confirm(question, "--yes"):
        raise click.Abort
    body = FreezeBody("set", _normal(project), (), reason, deny_all)
    if drop is not None:
        path = _drop(drop, body, key, software_passkey, home)
        emit_json({"dropped": str(path)}) if as_json else say(
            f"dropped; the press will read {path}"
        )
        return
    with Gate(str(url)) as gate:
        statement = standing_of_gate(gate).statement(body).to_bytes()
        approval = make_signer(key, software_passkey, gate.base).sign(statement)
        value = {"statement": statement.decode("utf-8"), "approval": approval.to_json()}
        answer = gate.post_json("/api/v1/narrowings", canonical(value))
    emit_json(answer) if as_json else say("frozen; the press latches it at its next look")


def _drop(
    drop: Path, body: FreezeBody, key: Path | None, software_passkey: Path | None, home: Path
) -> Path:
    if key is None and software_passkey is None:
        return drop_unsigned_freeze(drop, body)
    from presspass.services.config import read_config

    statement = standing_of_home(home).statement(body).to_bytes()
    approval = make_signer(key, software_passkey, read_config(home).origin).sign(statement)
    return drop_signed(drop, statement, approval)


def _clear(home: Path, typed: tuple[str, ...], reason: str, as_json: bool) -> None:
    from presspass.store import journal_view

    standing = standing_of_home(home)
    in_force = ask_journal(home, journal_view.narrowings)
    ids = {_freeze_meant(one, in_force) for one in typed}
    body = FreezeBody("clear", "", tuple(sorted(ids)), reason)
    answer = put_before_approvers(home, standing.statement(body))
    if as_json:
        emit_json(answer)
        return
    say(safe(answer["url"]))
    note("The freeze ends when enough people have approved this.")


def _freeze_meant(typed: str, in_force: Sequence[Narrowing]) -> str:
    """The id of the one freeze in force that is meant; refuses at once what the press would refuse after everybody had
    signed."""
    wanted = compact(typed)
    freezes = [one for one in in_force if one.what != "veto" and not one.is_ledger_behind]
    exact = [one.id for one in freezes if one.id == wanted]
    found = exact or [one.id for one in freezes if wanted and one.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    behind = [one for one in in_force if one.is_ledger_behind]
    vetoes = [one for one in in_force if one.what == "veto"]
    if not found and any(wanted and one.id.startswith(wanted) for one in vetoes):
        why = f"{safe(typed)} is a veto, and a veto is final."
    elif not found and any(wanted and one.id.startswith(wanted) for one in behind):
        raise Refusal(
            Code.NARROWING_CANNOT_CLEAR,
            "Others have seen another ledger than this one; only its recovery ends that.",
            "presspass log recover",
        )
    else:
        why = f"{safe(typed)} {'begins several freezes' if found else 'is no freeze in force'}."
    listed = "; ".join(f"{one.id} ({safe(one.target) or 'everything'})" for one in freezes)
    raise Refusal(
        Code.NARROWING_CANNOT_CLEAR, why, f"In force: {listed}." if listed else "Nothing is frozen."
    )


def _normal(project: str) -> str:
    """A project's name in normal form (PEP 503): that is what releases carry."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(project) if project else ""
