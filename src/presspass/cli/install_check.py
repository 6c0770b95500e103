"""`install-check`: whether people approved every file that lock files pin, before anything is installed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from presspass.cli.exits import CANNOT_SAY, DONE, REFUSED, CannotSayError
from presspass.cli.installed import require_gate
from presspass.cli.options import (
    example,
    format_option,
    need_trust,
    revocation_options,
    trust_option,
    witness_option,
)
from presspass.cli.show import emit_json, progress, safe, say
from presspass.cli.verify import read_head, read_log_keys
from presspass.core.errors import Refusal
from presspass.core.limits import STATEMENT_BYTES_MAX

if TYPE_CHECKING:
    from presspass.cli.pinned import Failure, Line, Source, Trust

_WORDS = {DONE: "VALID", REFUSED: "NOT VALID", CANNOT_SAY: "CANNOT SAY"}


@click.command(
    "install-check",
    short_help="Check what lock files pin, before it is installed.",
    epilog=example(
        "presspass install-check requirements.txt --url https://gate.example --trust trust-root.json --only 'acme-*'",
        "presspass install-check package-lock.json --proofs proofs --trust trust-root.json "
        "--revocations revocations --max-age 24h",
    ),
)
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
)
@click.option(
    "--proofs",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Take the proofs from this folder: its files *.presspass.json.",
)
@click.option("--url", help="Take the proofs from this gate, https://GATE.")
@trust_option
@click.option(
    "--only",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only packages of this name, which may have * and ?: those that come through your gate. Repeatable.",
)
@witness_option("proofs")
@revocation_options
@format_option
def install_check_command(
    files: tuple[Path, ...], proofs: Path | None, url: str | None, trust: Path | None, names: tuple[str, ...],
    witnesses: tuple[str, ...], revocations: Path | None, max_age: int | None, log_keys: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Say whether every hash that these FILEs pin has a valid proof, of the package and version on its line.

    FILE is a requirement file of pip or uv with --hash (one that it includes is read if it is in the same folder),
    uv.lock, pylock.toml, package-lock.json or npm-shrinkwrap.json. A line without a hash fails: whoever serves the
    package could send anything.

    Packages of others do not come through your gate, and have no proof: name your own with --only.

    Exit codes: 0 all are valid; 1 a line is not, with the reason; 2 cannot be said (a file, the trust root, a
    cosignature, a young revocation head or the gate is missing).
    """
    if (proofs is None) == (url is None):
        raise click.UsageError("Give one of --proofs or --url.")
    trust = need_trust(trust, "where the packages come from")
    from presspass.cli.pinned import failures, only, read_lines

    every = read_lines(files)
    lines = only(every, names)
    if not lines:
        meant = "--only names nothing that they pin" if names and every else "they pin nothing"
        raise CannotSayError(f"There is nothing to check in these files: {meant}.")
    judged_by = _trust(trust, witnesses, revocations, max_age, log_keys)
    with _source(proofs, url, judged_by) as source, progress("pins", len(lines)) as done:
        found: list[Failure] = []
        for line in lines:
            found += failures(line, source, judged_by)
            done(1)
    return _tell(lines, len(every) - len(lines), found, as_json=as_json)


def _trust(
    trust: Path,
    witnesses: Sequence[str],
    revocations: Path | None,
    max_age: int | None,
    log_keys: Path | None,
) -> Trust:
    from presspass.cli.pinned import Trust
    from presspass.core.ledger.note import VerifierKey
    from presspass.verify.proof import load_trust_root

    try:
        with trust.open("rb") as file:
            trust_root = file.read(STATEMENT_BYTES_MAX + 1)
        load_trust_root(trust_root)
        keys = tuple(map(VerifierKey.from_text, witnesses))
    except OSError as error:
        raise CannotSayError(f"The trust root {trust} cannot be read: {error.strerror}.") from None
    except Refusal as refusal:
        raise CannotSayError(refusal.message, "Name the trust root that you pinned.") from None
    head, log_chain = read_head(revocations), read_log_keys(log_keys)
    return Trust(trust_root, keys, head, max_age, int(time.time()), log_chain)


@contextmanager
def _source(proofs: Path | None, url: str | None, trust: Trust) -> Iterator[Source]:
    from presspass.cli.pinned import PROOFS, Folder, OfGate

    if proofs is None:
        require_gate("install-check --url")
        from presspass.cli.client import Gate
        from presspass.verify.verifier import Verifier

        with Gate(str(url).rstrip("/").removesuffix("/log")) as gate:
            yield OfGate(gate, Verifier(trust.trust_root, trust.witnesses))
        return
    folder, paths = Folder(), sorted(proofs.glob(PROOFS))
    with progress("proofs", len(paths)) as done:
        for _ in folder.add(paths, trust):
            done(1)
    yield folder


def _tell(lines: Sequence[Line], left_out: int, found: Sequence[Failure], *, as_json: bool) -> int:
    code = DONE
    if found:
        code = CANNOT_SAY if all(one.unknown for one in found) else REFUSED
    wrong = len({id(one.line) for one in found})
    if as_json:
        emit_json(
            {
                "valid": code == DONE,
                "verdict": _WORDS[code].lower(),
                "lines": len(lines),
                "left_out": left_out,
                "failures": [one.to_json() for one in found],
            }
        )
        return code
    for one in found:
        about = " ".join(part for part in (safe(one.name), _short(one.hash)) if part)
        say(f"{safe(one.line.file)}:{one.line.found.line}: {about or 'this line'}: {safe(one.why)}")
    rest = f"; {left_out} left out" if left_out else ""
    say(f"{_WORDS[code]}  {len(lines) - wrong} of {len(lines)} pins have proofs that hold{rest}")
    return code


def _short(written: str) -> str:
    algorithm, _, digits = written.partition(":")
    return f"{algorithm}:{digits[:16]}…" if digits else ""
