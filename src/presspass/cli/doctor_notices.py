"""Whether the press can tell people: an address for everybody beside the forge, and what did not arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from presspass.cli.checks import BAD, OK, WARN, Line
from presspass.cli.show import quoted
from presspass.core.roster import Details
from presspass.notify.chat import SCHEME
from presspass.services.config import Config

_LISTED_MAX: Final = 20


def notices(home: Path, config: Config) -> Iterator[Line]:
    """One line for each person who is not told, one for each notice that was given up."""
    from presspass.cli import press_room
    from presspass.cli.databases import ask_journal
    from presspass.store import journal_view

    roster = press_room.roster_of_home(home)
    hosts = {_host(url) for one in config.forges for url in (one.issuer, one.api_url)}
    sound = True
    opened = ask_journal(
        home, lambda c: [journal_view.person_details(c, one.details) for one in roster.people]
    )
    for person, details in zip(roster.people, opened, strict=True):
        for line in _person(person.id, details, config, hosts):
            sound = False
            yield line
    for one in config.digests:
        if roster.person(one.person) is None:
            sound = False
            fix = f"Correct the id in [[digest]] of {quoted(home / 'presspass.toml')}."
            yield Line(WARN, "notices", f"[[digest]] names {one.person}, whom nobody knows", fix)
    for lost in ask_journal(home, lambda c: journal_view.undelivered(c, _LISTED_MAX)):
        sound = False
        what = "was given up after" if lost.dead else "waits after"
        found = f"{lost.subject!r} to {lost.address} {what} {lost.attempts} attempts: {lost.error}"
        fix = "Correct the address in the roster, or the channel ([mail], [[chat]]); what it said is in the console."
        yield Line(BAD if lost.dead else WARN, "notices", found, fix)
    if sound:
        yield Line(OK, "notices", "everybody has an address, and nothing waits undelivered")


def _person(
    id: str, details: Details | None, config: Config, forge_hosts: set[str]
) -> Iterator[Line]:
    addresses = details.addresses if details else ()
    rooms = {SCHEME + one.name for one in config.chats}
    usable = [one for one in addresses if config.mail.host or not one.startswith("mailto:")]
    usable = [one for one in usable if one in rooms or not one.startswith(SCHEME)]
    fix = "Give them a mail address or a webhook of their own: presspass apply, docs/telling.md."
    if not addresses:
        yield Line(WARN, "notices", f"{id} has no address: nobody tells them anything", fix)
    elif not usable:
        found = f"{id} has addresses alone for which there is no channel: {', '.join(addresses)}"
        yield Line(WARN, "notices", found, "Set [mail] or [[chat]] in presspass.toml.")
    elif all(_host(one) in forge_hosts for one in usable):
        found = f"{id} is told through the forge alone: whoever has the forge can silence it"
        yield Line(WARN, "notices", found, fix)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
