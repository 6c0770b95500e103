"""Measures Presspass beside its peers and beside the machine itself, all in one run: `make bench`.

`make bench ARGS=--quick` takes a tenth of the large wheel and fewer rounds, and leaves the committed results alone.
Only loopback is used. Needs a disk with about five times the large wheel free.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from rich.console import Console

import scenarios
from figures import Row, table, to_json
from house import House, house, install
from machine import describe, file_system
from presspass.drill.peers import PeerMissingError, postgresql_program
from scenarios import FULL, QUICK, Samples, Sizes

ROOT: Final = Path(__file__).resolve().parent.parent
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_BUSY_LOAD: Final = 1.0
_STEPS: Final[dict[str, Callable[[House, Sizes, Samples], None]]] = {
    "start": scenarios.start,
    "releases": scenarios.releases,
    "large wheel": scenarios.large,
    "small wheels, one by one": scenarios.small,
    "small wheels, 16 at a time": scenarios.crowd,
    "identities": scenarios.identities,
    "several gateways": scenarios.several_gateways,
    "rules": scenarios.rules,
    "ledger": scenarios.the_ledger,
    "drop box": scenarios.dropped,
    "proofs": scenarios.some_proofs,
}


def measure(folder: Path, sizes: Sizes, tell: Callable[[str], None]) -> Samples:
    """Does everything once, in `folder`, which must be empty and on a real disk."""
    samples = Samples()
    install(folder / "installed")
    tell("presspass --help")
    scenarios.command_line(sizes, samples)
    tell("preparing a sealed gate")
    with house(folder) as made:
        for name, step in _STEPS.items():
            tell(name)
            step(made, sizes, samples)
    return samples


def rows_of(samples: Samples, sizes: Sizes) -> list[Row]:
    """The median of each figure, in the order of the table."""
    rows = []
    for key, figure in sizes.figures.items():
        beside = samples.beside.get(key)
        peer_value = statistics.median(beside) if beside else None
        rows.append(figure.row(statistics.median(samples.values[key]), peer_value))
    return rows


def main() -> int:
    """Prints the table and writes the results; exit code 0 whether goals are met or not: this is no test."""
    options = _options()
    sizes = QUICK if options.quick else FULL
    if options.large_mb:
        sizes = replace(sizes, large_mb=options.large_mb)
    options.folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False)
    if file_system(options.folder) in _IN_MEMORY:
        console.print("error: the folder is in memory; fsync costs nothing there. Use --folder.")
        return 2
    try:
        postgresql_program("initdb")
    except PeerMissingError as error:
        console.print(f"error: {error}")
        return 2
    machine = describe(options.folder)
    if machine["load_average"][0] > _BUSY_LOAD:
        console.print(f"the machine is busy (load {machine['load_average'][0]}): trust ratios only")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        samples = measure(Path(folder), sizes, lambda text: console.print(f"  {text}"))
    machine["seconds"] = round(time.monotonic() - begin)
    rows = rows_of(samples, sizes)
    names = {key: figure.name for key, figure in sizes.figures.items()}
    spread = {names[key]: (min(found), max(found)) for key, found in samples.values.items()}
    Console(width=max(Console().width, 150)).print(table(rows, spread))
    _write(options.out or default_out(quick=options.quick), rows, machine, sizes, samples)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="50 MB, fewer rounds, about a minute")
    parser.add_argument("--large-mb", type=int, help="size of the large wheel, in MB")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--out", type=Path, help="where the results go")
    return parser.parse_args()


def default_out(*, quick: bool) -> Path:
    """Where results go: only a full run writes the ones that are committed."""
    return ROOT / ("build/bench/results.json" if quick else "bench/results.json")


def _write(
    out: Path, rows: list[Row], machine: dict[str, object], sizes: Sizes, samples: Samples
) -> None:
    rounds = {
        key: {"value": _rounded(found), "peer_value": _rounded(samples.beside.get(key, []))}
        for key, found in samples.values.items()
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(to_json(rows))
    about = {"machine": machine, "sizes": asdict(sizes), "rounds": rounds}
    out.with_name("machine.json").write_text(json.dumps(about, indent=2) + "\n")


def _rounded(numbers: list[float]) -> list[float]:
    return [float(f"{number:.4g}") for number in numbers]


if __name__ == "__main__":
    os.environ.setdefault("PRESSPASS_PEERS", str(ROOT / ".venv-peers"))
    sys.exit(main())
