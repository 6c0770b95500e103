"""`verify`: a file against its proof and the pinned trust root. Offline: no network, no home, no database."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from presspass.cli.exits import CannotSayError
from presspass.cli.options import (
    EVIDENCE_SUFFIX,
    example,
    format_option,
    need_trust,
    revocation_options,
    trust_option,
    witness_option,
)
from presspass.cli.show import safe
from presspass.cli.start import PROOF_SUFFIX
from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    EVIDENCE_BYTES_MAX,
    PROOF_BYTES_MAX,
    STATEMENT_BYTES_MAX,
)

if TYPE_CHECKING:
    from presspass.core.ledger.revocations import RevocationHead
    from presspass.verify.log_chain import LogChain
    from presspass.verify.proof import Valid


@click.command(
    "verify",
    short_help="Check a file against its proof, offline.",
    epilog=example(
        "presspass verify greet-1.0.tar.gz --proof greet-1.0.tar.gz.presspass.json --trust trust-root.json",
        "presspass verify stolen-key.evidence.json --trust trust-root.json",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--proof",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"The proof (default: FILE{PROOF_SUFFIX}).",
)
@trust_option
@witness_option("proof")
@revocation_options
@format_option
def verify_command(
    file: Path, proof: Path | None, trust: Path | None, witnesses: tuple[str, ...], revocations: Path | None,
    max_age: int | None, log_keys: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Say whether people approved exactly the bytes of FILE, and whether the press published them.

    Everything is checked here, from the raw signatures on; nothing is looked up. Take the trust root from a place that
    you trust on its own, once, and keep it: a proof that brings its own trust root proves nothing. So none that lies
    beside FILE is ever taken by itself.

    A proof says what was published, and not what was revoked since: the gate's revocation head does
    (`curl -o revocations https://GATE/log/revocations`). With --max-age, one that is younger must be there.

    A FILE called ….evidence.json is an evidence bundle (`presspass history --evidence`), which is its own proof.

    Exit codes: 0 valid; 1 not valid or revoked, with the reason; 2 cannot be said (proof, trust root, a cosignature or
    a young revocation head is missing).
    """
    trust = need_trust(trust, "where FILE came from")
    if proof is None and file.name.endswith(EVIDENCE_SUFFIX):
        if (revocations, max_age, log_keys) != (None, None, None):
            raise click.UsageError("Revocation heads are about published files, not evidence.")
        _verify_evidence(file, trust, witnesses, as_json=as_json)
        return
    proof_file = proof or file.with_name(file.name + PROOF_SUFFIX)
    proof_data = _read(proof_file, PROOF_BYTES_MAX, "proof", "--proof")
    trust_data = _read(trust, STATEMENT_BYTES_MAX, "trust root", "--trust")
    from presspass.cli.verdict import hash_of, verdict
    from presspass.core.ledger.note import VerifierKey
    from presspass.verify.proof import Proof, check_proof, load_trust_root

    sha256, size = hash_of(file)
    with _at_fault(trust):
        trust_root = load_trust_root(trust_data)
    with _at_fault(proof_file):
        read = Proof.from_bytes(proof_data)
    keys = [VerifierKey.from_text(one) for one in witnesses]
    valid = check_proof(
        read,
        filename=file.name,
        sha256=sha256,
        size=size,
        trust_root=trust_root,
        witnesses=keys,
    )
    require_witnesses([key.name for key in keys], valid)
    head = check_revocations(read_head(revocations), valid, max_age, read_log_keys(log_keys))
    click.echo(verdict(valid, head, as_json=as_json), nl=False)


def _verify_evidence(file: Path, trust: Path, witnesses: tuple[str, ...], *, as_json: bool) -> None:
    from presspass.cli.evidence import verify_evidence
    from presspass.verify.proof import load_trust_root

    data = _read(file, EVIDENCE_BYTES_MAX, "evidence", "FILE")
    trust_data = _read(trust, STATEMENT_BYTES_MAX, "trust root", "--trust")
    with _at_fault(trust):
        trust_root = load_trust_root(trust_data)
    verify_evidence(data, trust_root, witnesses, as_json=as_json)


def read_head(path: Path | None) -> bytes | None:
    """The revocation head that was named, as it is; None where none was, or none is there."""
    if path is None:
        return None
    from presspass.core.ledger.revocations import HEAD_BYTES_MAX

    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES_MAX + 1)
    except FileNotFoundError:
        return b""


def read_log_keys(path: Path | None) -> LogChain | None:
    """What leads to the log key in force, as it was named; None where nothing was. CannotSayError for no such file."""
    if path is None:
        return None
    from presspass.verify.log_chain import LogChain

    data = _read(path, PROOF_BYTES_MAX, "file of the log's keys", "--log-keys")
    try:
        return LogChain.from_bytes(data)
    except Refusal as refusal:
        raise CannotSayError(
            f"{path}: {refusal.message}", "Get it from the gate: https://GATE/log/keys"
        ) from None


def check_revocations(
    data: bytes | None, valid: Valid, max_age_s: int | None, log_chain: LogChain | None
) -> RevocationHead | None:
    """The head in which the file was looked for and not found; None where none was asked for."""
    if data is None and max_age_s is None:
        return None
    from presspass.verify.revocations import check_not_revoked, no_head, open_head

    try:
        if not data:
            raise no_head(valid)
        head = open_head(data, valid, log_chain)
        check_not_revoked(head, valid, max_age_s=max_age_s, now_s=int(time.time()))
    except Refusal as refusal:
        if refusal.code is Code.PROOF_REVOCATION_UNKNOWN:
            raise CannotSayError(refusal.message, refusal.hint) from None
        raise
    return head


def require_witnesses(named: list[str], valid: Valid) -> None:
    missing = [name for name in named if name not in dict(valid.witnesses)]
    if missing:
        raise CannotSayError(
            f"The proof's checkpoint has no cosignature of {safe(missing[0])}.",
            "Get the proof again from the gate, which renews it once the witness has signed.",
        )


@contextlib.contextmanager
def _at_fault(path: Path) -> Iterator[None]:
    """Names the file that cannot be read as what it should be."""
    try:
        yield
    except Refusal as refusal:
        raise Refusal(refusal.code, f"{path}: {refusal.message}", refusal.hint) from None


def _read(path: Path, bytes_max: int, what: str, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise CannotSayError(
            f"There is no {what} at {path}, so nothing can be said.", f"Name it with {option}."
        ) from None
    if len(data) > bytes_max:
        raise Refusal(Code.PROOF_INVALID, f"The {what} is larger than {bytes_max} bytes.")
    return data
