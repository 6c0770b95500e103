"""`history`: what was done, asked for after the fact: by a key, a person, a workflow, under a policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain as chained
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from presspass.cli.acts import acts_text, show_act
from presspass.cli.options import EVIDENCE_SUFFIX, example, home_option
from presspass.cli.sessions import gate_origin, signed_in
from presspass.cli.show import note
from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Refusal

if TYPE_CHECKING:
    from presspass.verify.history import Teller, Words

F = TypeVar("F", bound=Callable[..., Any])
_HINT: Final = "Enrol keys, then `presspass init --seal`."


def _question_options(function: F) -> F:
    """What is asked: each option narrows it. Their names are those of `verify.history.Words`."""
    options = (
        click.option(
            "--key",
            default="",
            metavar="FINGERPRINT",
            help="What this key signed; its beginning is enough.",
        ),
        click.option(
            "--person",
            default="",
            metavar="NAME|ID",
            help="What any key signed that this person ever had.",
        ),
        click.option(
            "--workflow",
            default="",
            metavar="REPO[/PATH][@SHA256]",
            help="What this workflow asked for; with its content, or by its content alone.",
        ),
        click.option(
            "--publisher",
            default="",
            metavar="NAME",
            help="What this publisher asked for, however bound.",
        ),
        click.option(
            "--policy",
            default="",
            metavar="N|DIGEST",
            help="What was decided under this policy; genesis brings policy 1.",
        ),
        click.option("--project", default="", metavar="NAME", help="Releases of this project."),
        click.option("--upstream", default="", metavar="NAME", help="Releases to this registry."),
        click.option(
            "--kind",
            "kinds",
            multiple=True,
            metavar="KIND",
            help="Acts of this kind: release, roster, … Repeatable.",
        ),
        click.option(
            "--since",
            default="",
            metavar="TIME",
            help="Not before: 2026-11-24, 2026-11-24T17:30 (UTC).",
        ),
        click.option("--until", default="", metavar="TIME", help="Before this time."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(
    "history",
    short_help="Show what was done: by a key, a workflow, under a policy.",
    epilog=example(
        "presspass history --key 1f0c2b7e --format jsonl",
        "presspass history --workflow acme/greet/.github/workflows/release.yml --since 2026-11-01",
        "presspass history --gate https://gate.example --policy 7",
    ),
)
@_question_options
@click.option("--gate", "origin", help="Ask this gate, as who is signed in at this terminal.")
@home_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "jsonl"]),
    default="text",
    show_default=True,
    help="json: one document. jsonl: one act a line, for as many as there are.",
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar=f"FILE{EVIDENCE_SUFFIX}",
    help="Write the answer as a bundle that the press's key signs, for others to check offline.",
)
def history_command(
    origin: str | None, home: Path, form: str, evidence: Path | None, **typed: Any
) -> None:
    """List what the press carried out, oldest first, with who signed it and where it stands in the ledger.

    Every option narrows the question; without one it is about everything. On the press's host it is answered from the
    journal of --home; with --gate, from anywhere, by the gate, after `presspass login`.

    With --evidence, on the press's host, the answer is signed and written to a file, which `presspass verify` checks
    with the trust root alone.

    Exit codes: 0 told, also where nothing answers; 1 nobody knows such a key, person, policy, publisher or workflow, or
    it may mean several; 4 journal or gate cannot be reached.
    """
    from presspass.verify.history import Words

    words = Words(**typed)
    if evidence is not None:
        _write_evidence(home, words, evidence, elsewhere=origin is not None)
        return
    found = _of_home(home, words) if origin is None else _of_gate(gate_origin(origin), words)
    _WRITERS[form](found)


#: Acts as JSON, and people's names by id as far as they are known, a page at a time.
Pages = Iterator[tuple[list[JsonObject], dict[str, str]]]


def _write_evidence(home: Path, words: Words, file: Path, *, elsewhere: bool) -> None:
    from presspass.cli.evidence_writing import write_evidence

    if elsewhere:
        raise click.UsageError(
            "--evidence is made on the press's host, whose key signs it; --gate is for looking."
        )
    if not file.name.endswith(EVIDENCE_SUFFIX):
        raise click.UsageError(
            f"Name the evidence …{EVIDENCE_SUFFIX}, by which `presspass verify` knows it."
        )
    teller, names = _teller(home)
    write_evidence(home, words.question(teller.chain, names), file)


def _teller(home: Path) -> tuple[Teller, dict[str, str]]:
    """Who tells acts, by the chains as they are now; and names by person id."""
    from presspass.cli.databases import ask_journal
    from presspass.cli.press_room import names_in
    from presspass.store import journal_view
    from presspass.verify.history import Teller

    admitted = ask_journal(home, journal_view.chained)
    if not admitted:
        raise Refusal(Code.GENESIS_MISSING, "This home is not sealed yet.", _HINT)
    teller = Teller.of(admitted)
    return teller, names_in(home, *teller.chain.rosters.values())


def _of_home(home: Path, words: Words) -> Pages:
    from presspass.cli.databases import ask_journal
    from presspass.store import history

    teller, names = _teller(home)
    question = words.question(teller.chain, names)
    for page in history.every(lambda reading: ask_journal(home, reading), question):
        if page[-1].after >= len(teller.in_force):  # decided since the chains were read
            teller, _names = _teller(home)
        yield [teller.to_json(act) for act in page], names


def _of_gate(origin: str, words: Words) -> Pages:
    from urllib.parse import urlencode

    mark = ""
    with signed_in(origin) as gate:
        while True:
            asked = urlencode([*words.pairs(), *([("after", mark)] if mark else [])])
            answer = gate.get_json(f"/api/v1/history?{asked}")
            yield list(answer["acts"]), dict(answer["names"])
            mark = str(answer["next"] or "")
            if not mark:
                return


def _write_lines(found: Pages) -> None:
    for act in _acts(found):
        click.echo(json.dumps(act, sort_keys=True))


def _write_document(found: Pages) -> None:
    """Written as it is read: an answer may be larger than memory."""
    click.echo('{"acts": [', nl=False)
    for number, act in enumerate(_acts(found)):
        click.echo(("," if number else "") + "\n" + json.dumps(act, sort_keys=True), nl=False)
    click.echo("\n]}")


def _acts(found: Pages) -> Iterator[JsonObject]:
    return chained.from_iterable(acts for acts, _names in found)


def _write_text(found: Pages) -> None:
    count = 0
    for acts, names in found:
        for act in acts:
            show_act(act, names)
        count += len(acts)
    note(acts_text(count) if count else "Nothing answers this question.")


_WRITERS: Final = {"text": _write_text, "json": _write_document, "jsonl": _write_lines}
