"""An approval as it travels: which statement, which key, and the raw assertion that anyone can verify again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from presspass.core.digests import JsonObject, canonical, parse_canonical, sha256_hex
from presspass.core.limits import APPROVAL_BYTES_MAX
from presspass.core.roster import b64u, unb64u
from presspass.core.strict import Members

#: `webauthn`: an assertion (WebAuthn Level 3 section 6.3.3); `sshsig`: an SSH signature (OpenSSH PROTOCOL.sshsig);
#: `recovery`: a raw Ed25519 signature by the offline recovery key, under roster statements of that name only.
SIGNATURE_FORMS: Final = ("webauthn", "sshsig", "recovery")
_TEXT_MAX = APPROVAL_BYTES_MAX


def approval_id(statement: str, key: str) -> str:
    """What a revocation names one approval by: SHA-256 of statement and key, hex."""
    return sha256_hex(f"{statement}\n{key}".encode())


@dataclass(frozen=True, slots=True)
class Approval:
    """One signature under one statement, unverified. Only `webauthn` fills its two members.

    `statement`: digest of the statement that was signed (its intent says approve or veto); `key`: fingerprint.
    """

    statement: str
    key: str
    form: str
    signature: bytes
    authenticator_data: bytes = b""
    client_data: bytes = b""

    def to_json(self) -> JsonObject:
        return {
            "authenticator_data": b64u(self.authenticator_data),
            "client_data": b64u(self.client_data),
            "form": self.form,
            "key": self.key,
            "signature": b64u(self.signature),
            "statement": self.statement,
        }

    def to_bytes(self) -> bytes:
        """Canonical bytes, as stored and sent."""
        return canonical(self.to_json())

    @classmethod
    def from_json(cls, value: object) -> Approval:
        members = Members(value, "approval")

        def blob(name: str) -> bytes:
            return unb64u(members.text(name, chars_max=_TEXT_MAX, empty=True), name)

        approval = cls(
            statement=members.sha256("statement"),
            key=members.sha256("key"),
            form=members.choice("form", SIGNATURE_FORMS),
            signature=blob("signature"),
            authenticator_data=blob("authenticator_data"),
            client_data=blob("client_data"),
        )
        members.done()
        return approval

    @classmethod
    def from_bytes(cls, data: bytes) -> Approval:
        """Reads canonical bytes; refuses anything else with `statement.malformed`."""
        return cls.from_json(parse_canonical(data, bytes_max=APPROVAL_BYTES_MAX, what="approval"))


@dataclass(frozen=True, slots=True)
class Signed:
    """An approval whose signature was verified over the statement's own bytes; only `verify` makes these.

    `synced`: the passkey was copied to other devices or a cloud, when it was enrolled or when it signed (WebAuthn
    Level 3 section 6.1.3, the flag BS).
    """

    statement: str
    key: str
    user_verified: bool
    sign_count: int
    synced: bool = False
