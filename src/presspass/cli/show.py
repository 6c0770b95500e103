"""What reaches the terminal. Text from releases is hostile: nothing in it may move the cursor, colour or hide anything.

Everything that did not come from this program goes through `safe` (one line) or `safe_lines`. Rich is imported only
when a table or a progress bar goes to a real terminal.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from presspass.cli.installed import has
from presspass.core.text import safe as safe  # for every command


def safe_lines(text: str) -> list[str]:
    """`text` as lines, each one safe."""
    return [safe(line) for line in text.split("\n")]


def say(text: str = "", **style: Any) -> None:
    """One line of ours to stdout, or to stderr where stdout is for JSON. What is not ours must be `safe` already."""
    if style:
        click.secho(text, err=json_is_wanted(), **style)
    else:
        click.echo(text, err=json_is_wanted())


def json_is_wanted() -> bool:
    """Whether the command that runs was given --format json: then stdout carries that one document and nothing else."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("as_json"))


def note(text: str) -> None:
    """One line to stderr: progress and remarks that a script does not read."""
    click.echo(text, err=True)


def emit_json(value: Any) -> None:
    """`value` as one JSON document on stdout, ASCII only, so that nothing in it acts on a terminal."""
    click.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True))


def is_terminal() -> bool:
    """Whether stdout is a terminal that a person looks at."""
    return sys.stdout.isatty()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows with a heading; every cell is made safe here. Aligned plain text unless stdout is a terminal."""
    cells = [[safe(cell) for cell in row] for row in rows]
    if is_terminal():
        _rich_table(columns, cells)
        return
    widths = [max(len(str(c)) for c in column) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(padded).rstrip())


def _rich_table(columns: Sequence[str], cells: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in cells:
        shown.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console(stderr=json_is_wanted()).print(shown)


def show_lines(lines: Sequence[str], lines_max: int, indent: str) -> int:
    """Lines of a difference, hostile, at most `lines_max`, coloured by their sign; how many of them were shown."""
    for line in lines[:lines_max]:
        say(f"{indent}{safe(line)}", fg={"+": "green", "-": "red"}.get(line[:1]))
    return min(len(lines), lines_max)


def quoted(path: object) -> str:
    """A path or argument as a shell takes it whole, for commands that people copy."""
    return shlex.quote(str(path))


def grouped(fingerprint: str) -> str:
    """A fingerprint in groups of four, for reading aloud."""
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def size_text(size: int) -> str:
    """A size in bytes for people: 1,234 B, 1.2 MB."""
    if size < 100_000:
        return f"{size:,} B"
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.2f} GB"


def progress(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere or without rich; what it gives is told how much more of `total`
    is done.
    """
    shown = sys.stderr.isatty() and has("rich")
    return _Bar(title, total) if shown else nullcontext(lambda _count: None)


class _Bar(AbstractContextManager[Callable[[int], None]]):
    def __init__(self, title: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda count: self._bar.advance(self._task, count)

    def __exit__(self, *_exception: Any) -> None:
        self._bar.stop()
