"""`init --seal`: people compare fingerprints at the press's host, and genesis is sealed there."""

from __future__ import annotations

from pathlib import Path

from presspass.cli import press_room
from presspass.cli.choosing import compact, confirm, warn
from presspass.cli.databases import ask_journal
from presspass.cli.genesis import genesis_statement, read_identity
from presspass.cli.press_room import Enrolled
from presspass.cli.show import emit_json, grouped, note, quoted, safe, say
from presspass.core.errors import Code, Refusal
from presspass.core.policy import Policy
from presspass.core.statement import Statement
from presspass.services.config import Config, read_config
from presspass.store import journal_view

TRUST_ROOT_NAME = "trust-root.json"


def seal_genesis(home: Path, confirmed: frozenset[str], all_compared: bool, as_json: bool) -> None:
    """Shows the rules and every enrolled key, has each fingerprint confirmed, and gives genesis to the press.

    A key that is not confirmed is left out; refuses when too few are left.
    """
    config, identity = read_config(home), read_identity(home)
    _check_unsealed(home)
    enrolled = press_room.enrolments(home)
    _check_enough(enrolled, config.genesis)
    _show_rules(config)
    kept = _compare(enrolled, config.genesis, {compact(one) for one in confirmed}, all_compared)
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
    at = quoted(home)
    note(f"Next: presspass upstream add NAME --upload-url … --index-url … --home {at}")


def _check_unsealed(home: Path) -> None:
    genesis = ask_journal(home, journal_view.genesis)
    if genesis is not None:
        raise Refusal(
            Code.GENESIS_SEALED,
            f"This home is sealed already (genesis {genesis.digest[:16]}…).",
            "Later people and keys come in by `presspass invite`; the others approve them.",
        )


def _show_rules(config: Config) -> None:
    rules = config.genesis
    who = "keys of the one person" if rules.profile == "solo" else "people beside the one who asks"
    note(f"What is sealed: origin {config.origin}, space {config.space}")
    note(f"  profile {rules.profile}; approvals of a release: {rules.approvals} ({who})")
    note(f"  a veto window of {rules.veto_window_s} s; requests live {rules.approval_life_s} s")
    counting = "COUNT: whoever has the file can sign" if rules.software_keys else "do not count"
    note(f"  software keys {counting}")


def _check_enough(enrolled: list[Enrolled], policy: Policy) -> None:
    """Says early, in words, what the press checks again: team two people, solo one person with two keys."""
    counting = [one for one in enrolled if policy.counts(one.key)]
    people = {one.person for one in counting}
    left_out = len(enrolled) - len(counting)
    remark = f" {left_out} software keys do not count without --software-keys." if left_out else ""
    if policy.profile == "solo" and (len(people) != 1 or len(counting) < 2):
        missing = f"`solo` is one person with two keys; {len(people)} people with {len(counting)} keys have enrolled."
    elif policy.profile == "team" and len(people) < max(2, policy.approvals):
        least = max(2, policy.approvals)
        missing = (
            f"`team` needs at least {least} people with a key that counts; {len(people)} have one."
        )
    else:
        return
    raise Refusal(
        Code.GENESIS_INCOMPLETE,
        missing + remark,
        "Start `presspass serve` and enrol; `presspass invite NAME` makes a new link.",
    )


def _compare(
    enrolled: list[Enrolled], policy: Policy, confirmed: set[str], all_compared: bool
) -> list[Enrolled]:
    """The keys that somebody has confirmed, one by one."""
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
    kept = []
    for one in enrolled:
        note(f"\n{safe(one.name) or '(no name)'} ({one.person}), {one.key.kind}")
        if one.key.is_software and not policy.software_keys:
            warn("  a software key: it may veto, and never counts as an approval here")
        note(f"  {grouped(one.key.id)}")
        agreed = all_compared or one.key.id in confirmed
        if not agreed and not confirmed:
            instead = "--confirm FINGERPRINT for each key, or --yes-all-fingerprints-compared"
            agreed = confirm("Is it the same?", instead)
        if agreed:
            kept.append(one)
        else:
            warn("  not confirmed: left out. If it is not that person's key, the link was taken")
    return kept


def _keep_trust_root(home: Path, genesis: Statement) -> None:
    """The genesis statement's canonical bytes, for users to pin. Public."""
    (home / TRUST_ROOT_NAME).write_bytes(genesis.to_bytes())
