"""`presspass`, as it is installed. A `verify` that finds a valid proof is answered here: it needs no command line
library, whose import alone takes as long as the check.

Only the plainest words are taken, and only a valid proof is answered, by the same check and in the same words. All else
goes through `cli.main`, which knows the grammar and checks again: what is wrong is said in one place.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

from presspass.core.errors import Refusal
from presspass.core.limits import PROOF_BYTES_MAX, STATEMENT_BYTES_MAX

PROOF_SUFFIX: Final = ".presspass.json"
_OPTIONS: Final = ("--format", "--proof", "--trust")


def main() -> None:
    """Runs the command line and exits with its code."""
    gc.disable()  # what is imported stays
    said = valid_verdict(sys.argv[1:])
    if said is None or not _tell(said):
        gc.enable()
        from presspass.cli.main import main as whole

        whole()
    gc.freeze()  # as in `cli.main`


def valid_verdict(words: Sequence[str]) -> str | None:
    """What `presspass verify FILE [--proof P] [--trust T] [--format F]` says of a valid proof; None for all else."""
    given = _plain(words)
    if given is None:
        return None
    file, trust = given["FILE"], given.get("--trust") or os.environ.get("PRESSPASS_TRUST")
    form = given.get("--format", "text")
    # What ends in .json may be its own proof (evidence).
    if not trust or form not in ("json", "text") or file.endswith(".json"):
        return None
    from presspass.cli.verdict import hash_of, verdict
    from presspass.verify.proof import Proof, check_proof, load_trust_root

    try:
        trust_root = load_trust_root(_read(trust, STATEMENT_BYTES_MAX))
        proof = Proof.from_bytes(
            _read(given.get("--proof") or file + PROOF_SUFFIX, PROOF_BYTES_MAX)
        )
        sha256, size = hash_of(file)
        name = file.rpartition("/")[2]
        valid = check_proof(proof, filename=name, sha256=sha256, size=size, trust_root=trust_root)
    except (Refusal, OSError, ValueError):
        return None
    return verdict(valid, as_json=form == "json")


def _plain(words: Sequence[str]) -> dict[str, str] | None:
    """FILE and each option of a `verify` with its value; None where there is anything else."""
    if words[:1] != ["verify"] or "PRESSPASS_WITNESS" in os.environ:
        return None
    found: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        name, value = (word, next(rest, "-")) if word in _OPTIONS else ("FILE", word)
        if name in found or not value or value.startswith("-"):
            return None
        found[name] = value
    return found if "FILE" in found else None


def _read(path: str, bytes_max: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(bytes_max + 1)


def _tell(said: str) -> bool:
    """Whether it could be written."""
    try:
        print(said, end="", flush=True)
    except (OSError, ValueError):
        return False
    return True
