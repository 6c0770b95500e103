"""Checking proofs, measured: CPU of `presspass verify` beyond the start of the interpreter, and proofs a second of the
library, beside what the signatures alone take.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from presspass.core.approval import Approval
from presspass.core.errors import Refusal
from presspass.core.ledger.note import Note
from presspass.core.signer import ATTESTATION
from presspass.verify.attestation import (
    PAYLOAD_TYPE,
    open_envelope,
    pre_authentication_encoding,
)
from presspass.verify.chain import Chain
from presspass.verify.many import check_all
from presspass.verify.proof import Proof
from presspass.verify.verifier import Verifier
from rawhttp import Wheel

#: What any program loads that checks such signatures with the library that does it here.
_FLOOR: Final = (
    "from cryptography.hazmat.primitives import hashes\n"
    "from cryptography.hazmat.primitives.asymmetric import ec\n"
    "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey\n"
    "Ed25519PublicKey.from_public_bytes(bytes(32))"
)
T = TypeVar("T")
Check: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Proved:
    """A published file with its proof."""

    wheel: Wheel
    proof: bytes

    def lay_out(self, folder: Path) -> Path:
        """File and proof, as whoever downloads them has them; the file's path."""
        folder.mkdir(exist_ok=True)
        file = folder / self.wheel.filename
        content = self.wheel.content
        file.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        file.with_name(f"{file.name}.presspass.json").write_bytes(self.proof)
        return file


def command_ms(file: Path, trust_root: Path) -> tuple[float, float]:
    """CPU milliseconds of `presspass verify`, and of loading the signatures' library, each beyond an interpreter that
    does nothing.
    """
    program = Path(sys.executable).with_name("presspass")
    nothing = _cpu_ms(sys.executable, "-c", "pass")
    verify = _cpu_ms(program, "verify", file, "--trust", trust_root)
    return verify - nothing, _cpu_ms(sys.executable, "-c", _FLOOR) - nothing


def _cpu_ms(*words: object) -> float:
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{words[1]} ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def rates(proved: list[Proved], trust_root: bytes, checks: int) -> tuple[float, float]:
    """Proofs that one verifier checks in a second of CPU, in turn, and how many the signatures alone would allow. It
    keeps nothing of one proof but its chain, so that proofs which come again cost what others cost.
    """
    verifier = Verifier(trust_root)

    def check(one: Proved) -> None:
        wheel = one.wheel
        verifier.check(one.proof, filename=wheel.filename, sha256=wheel.sha256, size=wheel.size)

    def check_signatures(own: list[Check]) -> None:
        for one in own:
            one()

    bare = [_signatures(Proof.from_bytes(one.proof)) for one in proved]
    return _rate(check, proved, checks), _rate(check_signatures, bare, checks)


def all_rate(proved: list[Proved], trust_root: bytes, count: int) -> float:
    """Proofs that `check_all` answers in a second of wall clock, with the start of its processes."""
    proofs = (proved[number % len(proved)].proof for number in range(count))
    begin = time.monotonic()
    for said in check_all(trust_root, proofs):
        if isinstance(said, Refusal):
            raise RuntimeError(said.message)
    return count / (time.monotonic() - begin)


def _rate(work: Callable[[T], None], things: list[T], count: int) -> float:
    for one in things:
        work(one)
    begin = time.process_time()
    for number in range(count):
        work(things[number % len(things)])
    return count / (time.process_time() - begin)


def _signatures(proof: Proof) -> list[Check]:
    """What is left of a check when all is known but whether the signatures of release, checkpoint and attestations
    verify.
    """
    chain = Chain.after(proof.genesis, [one.statement for one in proof.chain])
    found = [_ecdsa(chain.enrolled(one.key)[0].public_key, one) for one in proof.release.approvals]
    note = Note.from_bytes(proof.record.checkpoint)
    found.append(_ed25519(chain.log.public_key, note.signatures[0].blob, note.text.encode()))
    signer = chain.signer(ATTESTATION)
    for envelope in proof.attestations:
        payload = open_envelope(envelope, signer)
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        message = pre_authentication_encoding(PAYLOAD_TYPE, payload)
        found.append(_ed25519(signer.raw, signature, message))
    return found


def _ecdsa(der: bytes, approval: Approval) -> Check:
    key, algorithm = load_der_public_key(der), ec.ECDSA(hashes.SHA256())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RuntimeError("the people of the bench sign with P-256")
    message = approval.authenticator_data + hashlib.sha256(approval.client_data).digest()
    return lambda: key.verify(approval.signature, message, algorithm)


def _ed25519(public_key: bytes, signature: bytes, message: bytes) -> Check:
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return lambda: key.verify(signature, message)
