"""`revoke`: end what a workload, run, person, bot, pass, publisher, delegation, standing approval or approval may
do, or take back a release or file; one signature.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from presspass.cli.asking import standing_of_gate, standing_of_home
from presspass.cli.bindings import chain_of
from presspass.cli.choosing import compact, confirm, pick_member
from presspass.cli.client import Gate
from presspass.cli.drop import drop_signed, drop_unsigned_revocation
from presspass.cli.options import (
    drop_option,
    example,
    format_option,
    home_option,
    signing_options,
    yes_option,
)
from presspass.cli.show import emit_json, note, safe, say, table
from presspass.cli.sign import make_signer
from presspass.cli.verdict import hash_of
from presspass.core.approval import approval_id
from presspass.core.digests import JsonObject, canonical, is_sha256, sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.statement import REVOCABLE, RevocationBody
from presspass.core.workload import workload_key

#: As in `services.config`, which is not loaded for the sake of one name.
CONFIG_NAME: Final = "presspass.toml"
#: What people call things, beside their own names.
_ALIASES: Final = {"bot": "publisher"}
_PASS_PREFIX: Final = "ppp_"
#: Narrowings of identities that only automation makes.
_AUTOMATIC: Final = ("limited",)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was typed, and the home that says what it may mean. `at_home`: whether there is one here at all."""

    typed: str
    home: Path
    at_home: bool


@click.command(
    "revoke",
    short_help="End what somebody or something may do.",
    epilog=example(
        "presspass revoke publisher greet-ci --reason 'runner broken into' --url https://gate.example --key ~/.ssh/id",
        "presspass revoke pass - --reason 'printed in a log' --url https://gate.example --key ~/.ssh/id < pass.txt",
        "presspass revoke person Ada --reason left --drop /mnt/presspass-drop --home /srv/presspass",
        "presspass revoke release greet==1.0 --reason 'broken runner' --url https://gate.example --key ~/.ssh/id",
        "presspass revoke --list --home /srv/presspass",
    ),
)
@click.argument("what", required=False, type=click.Choice((*REVOCABLE, *_ALIASES)))
@click.argument("target", required=False)
@click.option("--reason", default="", help="Why; covered by the signature.")
@click.option("--url", help="The gate, https://GATE.")
@drop_option
@click.option("--list", "listing", is_flag=True, help="Show what is revoked, on the gate's host.")
@signing_options
@yes_option
@home_option
@format_option
def revoke_command(
    what: str | None, target: str | None, reason: str, url: str | None, drop: Path | None, listing: bool,
    key: Path | None, software_passkey: Path | None, yes: bool, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """End what TARGET may do, at once and until a quorum clears it. One enrolled person's signature is enough.

    \b
    WHAT         TARGET
    workload     its key, or the name of a publisher that binds it (on the gate's host)
    run          its key, as `presspass publisher show` lists it
    person       an id, or a name (on the gate's host)
    publisher    its name; `bot` says the same of a bot's
    delegation   its name
    standing     the name of a standing approval
    pass         its hash, the pass itself, or - to read it from standard input
    approval     REQUEST:KEY, the digest of the request and the fingerprint of the key
    release      the digest of its statement, or NAME==VERSION (on the gate's host)
    file         its SHA-256, or the file itself; whatever it is called elsewhere

    A release or file that is revoked is not sent. What was sent stays at the registry: the gate's revocation head lists
    it from now on, and `presspass verify --revocations` refuses it.

    When this returns, the gate has ended the passes that it ends and gives no new ones; the press takes it up at its
    next look and stops what is under way. With --drop it does not pass the gateway, and needs no signature.

    `presspass freeze --clear ID` asks the approvers to end a revocation; the ids stand in `presspass revoke --list`.

    Exit codes: 0 handed in; 1 refused; 4 the gate cannot be reached (then use --drop).
    """
    if listing:
        _list(home, as_json)
        return
    if what is None or target is None:
        raise click.UsageError("Give WHAT and TARGET, or --list.")
    if (url is None) == (drop is None):
        raise click.UsageError("Give one of --url or --drop.")
    kind = _ALIASES.get(what, what)
    body = RevocationBody(kind, _target(kind, target, home), reason)
    body = RevocationBody.from_json(body.to_json())
    question = f"Revoke the {what} {safe(body.target)}, until a quorum clears it?"
    if not yes and not confirm(question, "--yes"):
        raise click.Abort
    answer = (
        _drop(drop, body, key, software_passkey, home)
        if drop is not None
        else _send(str(url), body, key, software_passkey)
    )
    if as_json:
        emit_json(answer)
        return
    where = f"the press will read {answer['dropped']}" if drop else "in force at the gate"
    say(f"revoked the {what} {safe(body.target)}; {where}")


def _send(
    url: str, body: RevocationBody, key: Path | None, software_passkey: Path | None
) -> JsonObject:
    with Gate(url) as gate:
        statement = standing_of_gate(gate).statement(body).to_bytes()
        approval = make_signer(key, software_passkey, gate.base).sign(statement)
        value = {"statement": statement.decode("utf-8"), "approval": approval.to_json()}
        answer = gate.post_json("/api/v1/narrowings", canonical(value))
    return {**answer, "what": body.what, "target": body.target}


def _drop(
    drop: Path, body: RevocationBody, key: Path | None, software_passkey: Path | None, home: Path
) -> JsonObject:
    if key is None and software_passkey is None:
        path = drop_unsigned_revocation(drop, body)
    else:
        from presspass.services.config import read_config

        statement = standing_of_home(home).statement(body).to_bytes()
        approval = make_signer(key, software_passkey, read_config(home).origin).sign(statement)
        path = drop_signed(drop, statement, approval)
    return {"dropped": str(path), "what": body.what, "target": body.target}


# what is meant


def _target(kind: str, typed: str, home: Path) -> str:
    wanted = _Wanted(typed.strip(), home, (home / CONFIG_NAME).exists())
    return _TARGETS[kind](wanted)


def _pass(wanted: _Wanted) -> str:
    text = sys.stdin.readline().strip() if wanted.typed == "-" else wanted.typed
    if text.startswith(_PASS_PREFIX):
        return sha256_hex(text.encode("utf-8", "surrogateescape"))
    return _hash(text, "the pass itself, its hash, or - for standard input")


def _run(wanted: _Wanted) -> str:
    return _hash(wanted.typed, "the key of a run, as `presspass publisher show` lists it")


def _workload(wanted: _Wanted) -> str:
    if is_sha256(compact(wanted.typed)) or not wanted.at_home:
        return _hash(wanted.typed, "its key; its publisher's name is understood on the gate's host")
    found = chain_of(wanted.home).publishers.get(wanted.typed)
    if found is None:
        raise _unknown("publisher", wanted, chain_of(wanted.home).publishers)
    return workload_key(found[1].issuer, found[1].provider, found[1].ids)


def _approval(wanted: _Wanted) -> str:
    statement, colon, key = wanted.typed.partition(":")
    if colon and is_sha256(statement) and is_sha256(key):
        return approval_id(statement, key)
    return _hash(wanted.typed, "REQUEST:KEY, two times 64 hex digits")


def _person(wanted: _Wanted) -> str:
    if not wanted.at_home:
        return wanted.typed
    from presspass.cli import press_room

    roster = chain_of(wanted.home).roster
    found = pick_member(wanted.typed, roster, press_room.names_in(wanted.home, roster))
    owner = roster.person(found) or roster.owner(found)
    return owner.id if owner else found


def _publisher(wanted: _Wanted) -> str:
    known = chain_of(wanted.home).publishers if wanted.at_home else {wanted.typed: None}
    if wanted.typed not in known:
        raise _unknown("publisher", wanted, known)
    return wanted.typed


def _delegation(wanted: _Wanted) -> str:
    known = chain_of(wanted.home).delegations if wanted.at_home else {wanted.typed: None}
    if wanted.typed not in known:
        raise _unknown("delegation", wanted, known)
    return wanted.typed


def _standing(wanted: _Wanted) -> str:
    known = chain_of(wanted.home).standings if wanted.at_home else {wanted.typed: None}
    if wanted.typed not in known:
        raise _unknown("standing approval", wanted, known)
    return wanted.typed


def _release(wanted: _Wanted) -> str:
    if is_sha256(compact(wanted.typed)) or not wanted.at_home:
        return _hash(
            wanted.typed,
            "the digest of its statement; NAME==VERSION is understood on the gate's host",
        )
    found = _releases(wanted)
    if not found:
        raise Refusal(
            Code.REQUEST_NOT_FOUND,
            f"No release {safe(wanted.typed)} was published or waits here.",
            "Write NAME==VERSION, or the digest of the release's statement.",
        )
    if len(found) > 1:
        raise Refusal(
            Code.REQUEST_MALFORMED,
            f"There are {len(found)} releases {safe(wanted.typed)}.",
            f"Name one by its statement: {', '.join(found)}",
        )
    return found[0]


def _releases(wanted: _Wanted) -> list[str]:
    """Statements of what was published under this name and version, or else of what is under way."""
    import sqlalchemy as sa
    from packaging.utils import canonicalize_name

    from presspass.cli.databases import ask_gateway, ask_journal
    from presspass.store import journal_view
    from presspass.store.gateway_tables import RELEASE

    name, _, version = (part.strip() for part in wanted.typed.partition("=="))
    project, r = canonicalize_name(name), RELEASE.c
    sent = ask_journal(wanted.home, lambda c: journal_view.statements_of(c, project, version))
    under_way = sa.select(r.statement).where(
        r.project == project, r.version == version, r.live == 1, r.statement.is_not(None)
    )
    return sent or ask_gateway(wanted.home, lambda c: list(c.execute(under_way).scalars()))


def _file(wanted: _Wanted) -> str:
    path = Path(wanted.typed)
    if not is_sha256(compact(wanted.typed)) and path.is_file():
        return hash_of(path)[0]
    return _hash(wanted.typed, "the SHA-256 of a file, 64 hex digits, or a file that is here")


_TARGETS: Final[dict[str, Callable[[_Wanted], str]]] = {
    "approval": _approval,
    "delegation": _delegation,
    "file": _file,
    "pass": _pass,
    "person": _person,
    "publisher": _publisher,
    "release": _release,
    "run": _run,
    "standing": _standing,
    "workload": _workload,
}


def _hash(text: str, wanted: str) -> str:
    found = compact(text)
    if not is_sha256(found):
        # What was typed may be a secret with a typing error: it is not repeated.
        raise Refusal(
            Code.REQUEST_MALFORMED, "This names nothing that can be revoked.", f"Give {wanted}."
        )
    return found


def _unknown(kind: str, wanted: _Wanted, known: object) -> Refusal:
    names = ", ".join(sorted(map(str, known))) if isinstance(known, dict) and known else "none"
    return Refusal(
        Code.REQUEST_NOT_FOUND,
        f"There is no {kind} {safe(wanted.typed)} in force.",
        f"There is: {names}.",
    )


# what is revoked


def _list(home: Path, as_json: bool) -> None:
    rows = _in_force(home)
    if as_json:
        emit_json({"revocations": rows})
        return
    say(f"Revocations: {len(rows) or 'none'}")
    if rows:
        columns = ("what", "target", "reason", "source", "id")
        table(columns, [[one[column] for column in columns] for one in rows])
        note("`presspass freeze --clear ID` asks the approvers to end one.")


def _in_force(home: Path) -> list[JsonObject]:
    """By the press's journal, and what the gateway has taken and the press has not looked at yet."""
    import sqlalchemy as sa

    from presspass.cli.databases import ask_gateway, ask_journal
    from presspass.store import journal_view
    from presspass.store.gateway_tables import STOP

    chain_of(home)
    kinds = (*REVOCABLE, *_AUTOMATIC)
    latched = [one for one in ask_journal(home, journal_view.narrowings) if one.what in kinds]
    cleared = ask_journal(home, journal_view.cleared)
    known = cleared | {one.id for one in latched}
    rows = [
        {"id": one.id, "what": one.what, "target": one.target, "reason": one.reason,
         "source": one.source, "latched": True}
        for one in latched
    ]  # fmt: skip
    s = STOP.c
    query = sa.select(s.id, s.what, s.target, s.reason, s.source).order_by(s.serial)
    rows += [
        {
            "id": id,
            "what": what,
            "target": target,
            "reason": reason,
            "source": source,
            "latched": False,
        }
        for id, what, target, reason, source in ask_gateway(home, lambda c: c.execute(query).all())
        if id not in known
    ]
    return rows
