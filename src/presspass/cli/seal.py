"""`init --seal`: people compare fingerprints at the press's host, and genesis is sealed there."""

from __future__ import annotations

from pathlib import Path

import click

from presspass.cli import press_room
from presspass.cli.genesis import genesis_statement, read_identity
from presspass.cli.press_room import Enrolled
from presspass.cli.show import emit_json, grouped, note, safe, say
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.statement import Statement
from presspass.services.config import read_config

TRUST_ROOT_NAME = "trust-root.json"


def seal_genesis(home: Path, confirmed: frozenset[str], all_compared: bool, as_json: bool) -> None:
    """Shows every enrolled key, has each fingerprint confirmed, and gives genesis to the press."""
    config, identity = read_config(home), read_identity(home)
    enrolled = press_room.enrolments(home)
    _check_enough(enrolled, config.genesis)
    kept = _compare(enrolled, {one.replace(" ", "").lower() for one in confirmed}, all_compared)
    roster = press_room.roster_of(kept)
    _check_enough(kept, config.genesis)
    statement = genesis_statement(config, identity, roster)
    details = press_room.known_details(home, {person.details for person in roster.people})
    order = {
        "do": "seal",
        "statement": statement.to_bytes().decode("utf-8"),
        "details": [one.to_json() for one in details],
    }
    answer = press_room.order(home, order)
    _keep_trust_root(home, statement)
    if as_json:
        emit_json(
            {
                "genesis": answer["genesis"],
                "trust_root": str(home / TRUST_ROOT_NAME),
                "keys": [k.key.id for k in kept],
            }
        )
        return
    say(f"sealed: genesis {answer['genesis']}", bold=True)
    say(f"trust root for your users: {home / TRUST_ROOT_NAME}")
    note("Next: presspass upstream add NAME --upload-url … --index-url …")


def _check_enough(enrolled: list[Enrolled], policy: Policy) -> None:
    """Says early, in words, what the press checks again: team two people, solo one person with two keys."""
    counting = [one for one in enrolled if policy.software_keys or not one.key.is_software]
    people = {one.person for one in counting}
    left_out = len(enrolled) - len(counting)
    remark = f" {left_out} software keys do not count without --software-keys." if left_out else ""
    if policy.profile == "solo" and (len(people) != 1 or len(counting) < 2):
        missing = f"`solo` is one person with two keys; {len(people)} people with {len(counting)} keys have enrolled."
    elif policy.profile == "team" and len(people) < 2:
        missing = f"`team` needs at least two people with a key each; {len(people)} have one."
    else:
        return
    raise Refusal(
        Code.GENESIS_INCOMPLETE,
        missing + remark,
        "Start `presspass serve` and enrol; `presspass invite NAME` makes a new link.",
    )


def _compare(enrolled: list[Enrolled], confirmed: set[str], all_compared: bool) -> list[Enrolled]:
    """The keys that somebody has confirmed, one by one; refuses when one is not."""
    unknown = confirmed - {one.key.id for one in enrolled}
    if unknown:
        raise Refusal(
            Code.GENESIS_INCOMPLETE,
            f"No enrolled key has the fingerprint {', '.join(sorted(map(safe, unknown)))}.",
            "Compare again, digit by digit: somebody else's key may have been enrolled.",
        )
    note(
        "Let each person read the fingerprint of the own key aloud, and compare it with the line here."
    )
    for one in enrolled:
        note(f"\n{safe(one.name) or '(no name)'} ({one.person}), {one.key.kind}")
        note(f"  {grouped(one.key.id)}")
        agreed = all_compared or one.key.id in confirmed
        if not agreed and not confirmed:
            agreed = click.confirm("Is it the same?", default=False, err=True)
        if not agreed:
            raise Refusal(
                Code.GENESIS_INCOMPLETE,
                f"The key {one.key.id[:16]}… of {safe(one.name) or one.person} was not confirmed; nothing is sealed.",
                "If it is not that person's key, the link was taken: make a new home and hand out the links better.",
            )
    return enrolled


def _keep_trust_root(home: Path, genesis: Statement) -> None:
    """The genesis statement's canonical bytes, for users to pin. Public."""
    (home / TRUST_ROOT_NAME).write_bytes(genesis.to_bytes())
