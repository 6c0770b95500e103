"""Signing at a terminal: an SSH key through ssh-keygen, or a software passkey from a file.

The statement's own bytes are signed, never a digest that somebody else computed. The private key stays with ssh-keygen
(or its agent, or the security key); this process never reads it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click

from presspass.core.approval import Approval
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.statement import signed_message
from presspass.formats import sshsig


class Signer(Protocol):
    """Signs a statement for one person."""

    def sign(self, statement: bytes) -> Approval:
        """The approval of the canonical statement bytes."""
        ...


@dataclass(frozen=True, slots=True)
class SshSigner:
    """`path`: a private key, or a public key whose private half the agent or a security key holds."""

    path: Path

    def sign(self, statement: bytes) -> Approval:
        """Runs `ssh-keygen -Y sign`; it asks for the passphrase, the touch or the PIN itself, on the terminal."""
        namespace = sshsig.NAMESPACE.decode("ascii")
        command = [_ssh_keygen(), "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path)]
        done = subprocess.run(
            command, input=signed_message(statement), stdout=subprocess.PIPE, check=False
        )
        if done.returncode != 0:
            raise Fault(
                "sign.ssh-failed",
                f"ssh-keygen did not sign with {self.path} (exit code {done.returncode}); its own lines say why.",
                retryable=True,
            )
        signature = sshsig.unarmor(done.stdout.decode("ascii", "replace"))
        public_key = sshsig.parse_signature(signature).public_key
        return Approval(sha256_hex(statement), sha256_hex(public_key), "sshsig", signature)


@dataclass(frozen=True, slots=True)
class SoftwareSigner:
    """A passkey in a file, for trials and tests. It answers for `origin` as a browser there would."""

    path: Path
    origin: str
    rp_id: str

    def sign(self, statement: bytes) -> Approval:
        """Signs at once: nobody is asked, which is why such a key never counts as user-verified."""
        from presspass.drill.world.keys import SoftwarePasskey

        try:
            passkey = SoftwarePasskey.load(self.path)
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(
                Code.APPROVAL_INVALID, f"{self.path} holds no software passkey: {error}."
            ) from None
        return passkey.approve(statement, origin=self.origin, rp_id=self.rp_id)


def make_signer(key: Path | None, software_passkey: Path | None, gate_base: str) -> Signer:
    """The signer that the options name; exactly one of the two must be given."""
    from urllib.parse import urlsplit

    if (key is None) == (software_passkey is None):
        raise click.UsageError("Give one of --key (SSH) or --software-passkey.")
    if software_passkey is None:
        return SshSigner(Path(str(key)))
    parts = urlsplit(gate_base)
    return SoftwareSigner(
        software_passkey, f"{parts.scheme}://{parts.netloc}", parts.hostname or ""
    )


def _ssh_keygen() -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise Fault(
            "sign.no-ssh", "ssh-keygen is not installed (package openssh-client).", retryable=False
        )
    return program
