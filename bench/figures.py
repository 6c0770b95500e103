"""The figures that an issue names: what each is called, its unit, what it is compared with, and when it is good enough.

A row of `results.json` is `{name, value, unit, peer, peer_value, ratio, goal, met}`. `goal` is a comparison over the
row's own numbers, so that a reader can check `met`. Opens nothing and measures nothing.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

from rich.table import Table
from rich.text import Text

FULL_MB: Final = 500
CROWD_FILES: Final = 200
GATEWAYS: Final = 8
LEDGER_ENTRIES: Final = 1_000_000
RULE_PACKAGES: Final = 10_000
_DIGITS: Final = 4
_NUMERIC: Final = frozenset({"value", "its value", "ratio"})
_GOAL: Final = re.compile(r"(value|ratio) (<=|>=) (?:(peer_value) \+ )?([0-9.]+)")
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {"<=": operator.le, ">=": operator.ge}

Number: TypeAlias = float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `ratio` is value / peer_value."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: Number
    ratio: Number
    goal: str
    met: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure before it is measured. `peer`: what `peer_value` is of, "" when there is nothing beside it."""

    name: str
    unit: str
    goal: str
    peer: str = ""

    def row(self, value: float, peer_value: Number = None) -> Row:
        """The row for what was measured, rounded first: `met` is true of the numbers that are written."""
        value, beside = _rounded(value), None if peer_value is None else _rounded(peer_value)
        ratio = None if not beside else _rounded(value / beside)
        met = holds(self.goal, {"value": value, "peer_value": beside, "ratio": ratio})
        return Row(self.name, value, self.unit, self.peer, beside, ratio, self.goal, met)


def holds(goal: str, numbers: Mapping[str, Number]) -> bool:
    """Whether `goal` is true of a row's numbers: `ratio >= 1.5`, `value <= 16` or `value <= peer_value + 2.5`.

    ValueError for any other text, and when a number that the goal speaks of is missing.
    """
    match = _GOAL.fullmatch(goal)
    if match is None:
        raise ValueError(f"not a goal: {goal!r}")
    left, sign, beside, limit = match.groups()
    wanted = [numbers[name] for name in (left, *([beside] if beside else []))]
    if any(number is None for number in wanted):
        raise ValueError(f"{goal!r} speaks of a number that was not measured")
    found, *base = (number for number in wanted if number is not None)
    return _COMPARE[sign](found, sum(base) + float(limit))


def figures(
    large_mb: int = FULL_MB,
    crowd_files: int = CROWD_FILES,
    gateways: int = GATEWAYS,
    ledger_entries: int = LEDGER_ENTRIES,
    rule_packages: int = RULE_PACKAGES,
) -> dict[str, Figure]:
    """Every figure by the key under which it is measured, in the order of the table.

    `crowd_files` is part of what is compared: pypiserver looks through its whole folder with each upload, so it is the
    slower the more files a round has.
    """
    large = f"upload of a {large_mb} MB wheel"
    small = "upload of a 20 kB wheel, durable and authenticated"
    return {
        "large-peer": Figure(f"{large}, against pypiserver", "MB/s", "ratio >= 1.5", "pypiserver"),
        "large-floor": Figure(
            f"{large}, against a plain copy",
            "MB/s",
            "ratio >= 0.6",
            "read, sha256, write a copy, fsync",
        ),
        "large-memory": Figure(f"{large}, growth of the gateway's memory", "MB", "value <= 16"),
        "small-p50": Figure(
            f"{small}, p50",
            "ms",
            "value <= peer_value + 2.5",
            "one file fsync plus one full commit",
        ),
        "small-cpu": Figure(f"{small}, CPU of the gateway", "ms", "value <= 2.5"),
        "small-crowd": Figure(
            f"{small}, 16 at a time",
            "uploads/s",
            "ratio >= 3",
            f"pypiserver, {crowd_files} files into a fresh folder",
        ),
        "release": Figure(
            "from approval to live upstream, above the upstream's own upload time",
            "ms",
            "value <= 500",
        ),
        "exchange": Figure(
            "identity tokens verified and exchanged for passes, cached keys",
            "exchanges/CPU s",
            "value >= 1500",
        ),
        "pass-check": Figure("check of a pass with an upload, CPU", "ms", "value <= 0.2"),
        "revocation": Figure(
            "a signed revocation, until it is in force at the gate, p99, embedded",
            "s",
            "value <= 0.2",
        ),
        "revocation-gateways": Figure(
            f"a signed revocation, until {gateways} gateways on PostgreSQL refuse, p99",
            "s",
            "value <= 1",
        ),
        "decision": Figure(
            f"a decision of the rules, {rule_packages:,} packages with rules of their own, p99, CPU",
            "ms",
            "value <= 5",
            "the engine with all rules in one set",
        ),
        "ledger-batch": Figure(
            "entries appended to the ledger, 1,000 at a time", "entries/s", "value >= 50000"
        ),
        "ledger-single": Figure(
            "an entry appended to the ledger, durable, one by one",
            "appends/s",
            "ratio >= 0.6",
            "bare commits of a row",
        ),
        "ledger-group": Figure(
            "an entry appended to the ledger, durable, 16 at once",
            "appends/s",
            "ratio >= 3",
            "bare commits of a row",
        ),
        "ledger-proof": Figure(
            f"inclusion proof in a ledger of {ledger_entries:,} entries", "ms", "value <= 1"
        ),
        "ledger-size": Figure(
            f"a ledger of {ledger_entries:,} entries, on disk", "MB", "value <= 200"
        ),
        "ledger-audit": Figure(
            f"audit of a ledger of {ledger_entries:,} entries, CPU", "s", "value <= 600"
        ),
        "drop": Figure(
            "a stop in the drop box, until the press has latched it, p99", "s", "value <= 1"
        ),
        "verify-cpu": Figure(
            "presspass verify, CPU beyond the start of the interpreter",
            "ms",
            "value <= 30",
            "to load Ed25519 and P-256 of cryptography, alone",
        ),
        "verify-rate": Figure(
            "proofs checked by the library in one process, under one trust root",
            "proofs/CPU s",
            "ratio >= 0.4",
            "the six signatures of each, by cryptography alone",
        ),
        "verify-all": Figure(
            "proofs checked by the library, a process a core", "proofs/s", "value >= 2000"
        ),
        "help": Figure("presspass --help, CPU", "ms", "value <= 150"),
        "ready": Figure("presspass serve, time until ready", "s", "value <= 3"),
        "memory-start": Figure("all processes together, PSS after start", "MB", "value <= 400"),
        "memory-release": Figure(
            "all processes together, PSS after one release", "MB", "value <= 400"
        ),
    }


def to_json(rows: Iterable[Row]) -> str:
    """The text of `results.json`."""
    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def table(rows: Iterable[Row], spread: Mapping[str, tuple[float, float]]) -> Table:
    """The rows for people. `spread`: lowest and highest round of a figure, by its name."""
    shown = Table(title="Presspass, measured (median over rounds, lowest to highest)")
    for heading in ("figure", "value", "unit", "beside", "its value", "ratio", "goal", "met"):
        shown.add_column(heading, justify="right" if heading in _NUMERIC else "left")
    for row in rows:
        low, high = spread.get(row.name, (row.value, row.value))
        value = _shown(row.value)
        if low != high:
            value += f"\n({_shown(low)} to {_shown(high)})"
        met = Text("yes", style="green") if row.met else Text("NO", style="bold red")
        beside = (row.peer or "-", _shown(row.peer_value), _shown(row.ratio))
        shown.add_row(row.name, value, row.unit, *beside, row.goal, met)
    return shown


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


def _shown(number: Number) -> str:
    return "-" if number is None else f"{_rounded(number):g}"
