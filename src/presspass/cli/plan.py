"""`plan`: put releases that wait together, so that each approver signs once."""

from __future__ import annotations

import click

from presspass.cli.client import Gate, PageUrl, parse_page_url
from presspass.cli.options import example, format_option
from presspass.cli.sessions import gate_origin, signed_in
from presspass.cli.show import emit_json, note, safe, say
from presspass.core.errors import Code, Refusal
from presspass.core.lifecycle import State
from presspass.core.plan import ORDERS


@click.group("plan", short_help="Put releases together: one signature for many.")
def plan_command() -> None:
    """Many releases, one ceremony. Putting together gives no right: people sign, and each release counts by itself."""


@plan_command.command(
    "submit",
    epilog=example(
        "presspass plan submit https://gate.example/r/4x… https://gate.example/r/9k…",
        "presspass plan submit $URLS --order held",
        "presspass plan submit --all-open https://gate.example",
    ),
)
@click.argument("urls", nargs=-1, required=True)
@click.option(
    "--all-open",
    is_flag=True,
    help="Every release that waits for signatures at the gate URL, as who is signed in at this terminal.",
)
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    default="any",
    show_default=True,
    help="given: as they are named, dependencies first. held: and one that fails holds back those after it.",
)
@format_option
def submit_command(urls: tuple[str, ...], all_open: bool, order: str, as_json: bool) -> None:
    """Make a plan of the releases at URLS, which must wait for signatures, and print its address.

    In CI: with the addresses that `presspass submit` has printed. The same releases in the same order are one plan.

    Exit codes: 0 made, or it was there; 1 refused; 4 the gate cannot be reached.
    """
    base, releases = _waiting(urls) if all_open else _named(urls)
    with Gate(base) as gate:
        answer = gate.post_json("/api/v1/plans", {"releases": releases, "order": order})
    if as_json:
        emit_json(answer)
        return
    note(f"a plan of {len(answer['releases'])} releases")
    say(safe(answer["url"]))


def _named(urls: tuple[str, ...]) -> tuple[str, list[str]]:
    pages: list[PageUrl] = [parse_page_url(url) for url in urls]
    if len({page.base for page in pages}) != 1 or any(page.kind != "r" for page in pages):
        raise click.UsageError("Name releases of one gate: https://GATE/r/….")
    return pages[0].base, [page.id for page in pages]


def _waiting(urls: tuple[str, ...]) -> tuple[str, list[str]]:
    if len(urls) != 1:
        raise click.UsageError("With --all-open, name the gate alone: https://GATE.")
    origin = gate_origin(urls[0])
    with signed_in(origin) as gate:
        found = gate.get_json("/api/v1/overview")["releases"]
    waiting = [str(one["id"]) for one in reversed(found) if one["state"] == State.AWAITING.value]
    if not waiting:
        raise Refusal(Code.RELEASE_WRONG_STATE, "No release waits for signatures.")
    return origin, waiting
