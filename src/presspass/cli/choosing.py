"""What people type, made into exactly one thing or a refusal that lists the choices; and the lock that nobody can open.

Pure but for words on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import click

from presspass.cli.show import grouped, safe
from presspass.core.errors import Code, Refusal
from presspass.core.limits import FINGERPRINT_PREFIX_CHARS_MIN
from presspass.core.policy import Policy
from presspass.core.quorum import Electorate
from presspass.core.roster import Roster
from presspass.core.statement import Kind


def compact(typed: str) -> str:
    """A fingerprint as typed or pasted, without its spaces, in lower case."""
    return "".join(typed.split()).lower()


def pick_key(typed: str, keys: Iterable[str]) -> str:
    """The fingerprint among `keys` that is meant: whole, or by a beginning that only one of them has."""
    wanted, known = compact(typed), sorted(set(keys))
    long_enough = len(wanted) >= FINGERPRINT_PREFIX_CHARS_MIN
    found = [one for one in known if one == wanted or (long_enough and one.startswith(wanted))]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(grouped(one[:16]) + " …" for one in known) or "none"
    why = "begins several keys" if found else "is no key here"
    hint = f"Give the fingerprint, or its first {FINGERPRINT_PREFIX_CHARS_MIN} digits or more."
    raise Refusal(Code.REQUEST_NOT_FOUND, f"{safe(typed)} {why}; there are: {listed}.", hint)


def pick_member(typed: str, roster: Roster, names: Mapping[str, str]) -> str:
    """The person's id or the fingerprint that is meant. `names`: by person id, as far as known."""
    if roster.person(typed) is not None:
        return typed
    called = [one.id for one in roster.people if names.get(one.id) == typed.strip()]
    if len(called) == 1:
        return called[0]
    if called:
        raise Refusal(
            Code.REQUEST_NOT_FOUND,
            f"Several people are called {safe(typed)}: {', '.join(called)}.",
            "Name the person by the id.",
        )
    try:
        return pick_key(typed, (key.id for key in roster.all_keys()))
    except Refusal as refusal:
        people = ", ".join(f"{safe(names.get(one.id, '?'))} ({one.id})" for one in roster.people)
        hint = f"People: {people or 'none'}. `presspass roster show` lists everything."
        raise Refusal(refusal.code, refusal.message, hint) from None


def check_no_lock(roster: Roster, policy: Policy, *, yes_lock: bool) -> None:
    """Refuses a roster under which nobody could ever change anything again, unless that is wanted; warns in red."""
    electorate = Electorate(Kind.ROSTER, roster, roster, policy, "")
    if electorate.reachable():
        return
    text = (
        f"AFTER THIS NOTHING CAN BE APPROVED ANY MORE: {electorate.needed()} must sign a change, and "
        f"{electorate.eligible()} could. Only the offline recovery key would help, after 72 hours."
    )
    click.secho(text, fg="red", bold=True, err=True)
    if not yes_lock:
        raise Refusal(
            Code.QUORUM_TOO_FEW_PEOPLE,
            f"Not asked for: {electorate.eligible()} of the {electorate.needed()} who must sign would be left.",
            "Enrol somebody first (presspass invite NAME); --yes-lock asks for it all the same.",
        )


def confirm(question: str, instead: str) -> bool:
    """Asks on stderr. Where nobody is there to answer, wrong usage that says what to give `instead`."""
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise click.UsageError(f"There is no terminal to ask at; give {instead}.") from None


def warn(text: str) -> None:
    """One line to stderr that must not be overlooked."""
    click.secho(text, fg="yellow", err=True)
