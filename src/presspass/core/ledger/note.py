"""Signed notes (C2SP signed-note v1.0.0) with plain Ed25519 signatures (type 0x01) and timestamped cosignatures of
witnesses (type 0x04, C2SP tlog-cosignature, "Ed25519 signed message").

Only one spelling of a note is read: base64 without stray bits, no control characters, key names without spaces or plus.
Nothing is believed before `verify`: signatures by unknown keys are passed over, a known key's signature that does not
verify refuses the whole note (signed-note, "Signatures").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

from presspass.core.errors import Code, Refusal
from presspass.core.limits import NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
#: `check(public_key, signature, message)`: whether a raw Ed25519 signature (64 bytes) verifies.
Check = Callable[[bytes, bytes, bytes], bool]
_DASH: Final = "\u2014"  # em dash, as the specification has it
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")  # all but the line feed
_KEY_ID_BYTES: Final = 4
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_TIME_BYTES: Final = 8
_TIME_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A key by which notes are signed. `name`: without spaces or plus; `type`: ED25519 or COSIGNATURE; `public_key`: 32
    bytes.
    """

    name: str
    type: int
    public_key: bytes

    @property
    def id(self) -> bytes:
        """Four bytes of SHA-256(name ‖ LF ‖ type ‖ key) (signed-note, "Signatures"; tlog-cosignature, "Format")."""
        signed = self.name.encode() + b"\n" + bytes([self.type]) + self.public_key
        return hashlib.sha256(signed).digest()[:_KEY_ID_BYTES]

    def to_text(self) -> str:
        """The key as it is written down: `<name>+<id, hex>+<base64 of type ‖ key>` (signed-note, "Verifier keys")."""
        encoded = base64.b64encode(bytes([self.type]) + self.public_key).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"

    @classmethod
    def from_text(cls, text: str) -> VerifierKey:
        """Reads `to_text`; refuses with `proof.invalid` what is no key of these two types, or has another id."""
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = strict_base64(encoded)
        if not _is_name(name) or len(material) != 1 + _KEY_BYTES:
            _refuse("This is no verifier key of a log or witness.")
        key = cls(name, material[0], material[1:])
        if key.type not in (ED25519, COSIGNATURE) or key.id.hex() != key_id:
            _refuse(
                "This verifier key has another id than its text says, or a type that is not known here."
            )
        return key


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. `blob`: what stands behind the key id."""

    name: str
    key_id: bytes
    blob: bytes

    def to_text(self) -> str:
        """The line, with its newline."""
        return f"{_DASH} {self.name} {base64.b64encode(self.key_id + self.blob).decode()}\n"

    @classmethod
    def from_text(cls, line: str) -> Signature:
        """Reads a line without its newline."""
        parts = line.split(" ")
        data = strict_base64(parts[2]) if len(parts) == 3 else b""
        if len(data) <= _KEY_ID_BYTES or parts[0] != _DASH or not _is_name(parts[1]):
            _refuse("A signature line of the note is malformed.")
        return cls(parts[1], data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Signed:
    """Who has signed. `time_s`: of a cosignature, Unix seconds; None of a plain signature."""

    key: VerifierKey
    time_s: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A note and the signatures under it, of whomever. `text` ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """Text, empty line, signature lines."""
        return (self.text + "\n" + "".join(one.to_text() for one in self.signatures)).encode()

    @classmethod
    def from_bytes(cls, data: bytes, bytes_max: int = NOTE_BYTES_MAX) -> Note:
        """Reads one; refuses with `proof.invalid` what is none."""
        if len(data) > bytes_max:
            _refuse(f"The note has more than {bytes_max} bytes.")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError:
            _refuse("The note is not UTF-8.")
        if _CONTROL.search(whole):
            _refuse("The note has control characters.")
        # The last empty line is the one that separates: the text may have some.
        text, empty, lines = whole.rpartition("\n\n")
        if not empty or not text or not lines.endswith("\n"):
            _refuse("This is no signed note.")
        split = lines[:-1].split("\n")
        if len(split) > NOTE_SIGNATURES_MAX:
            _refuse(f"The note has more than {NOTE_SIGNATURES_MAX} signatures.")
        return cls(text + "\n", tuple(map(Signature.from_text, split)))

    def verify(self, keys: Iterable[VerifierKey], check: Check) -> tuple[Signed, ...]:
        """Who of `keys` has signed, each once, in the order of the lines; possibly nobody. Refuses with `proof.invalid`
        where a signature that one of them should have made does not verify.
        """
        known = {(key.name, key.id): key for key in keys}
        found: dict[VerifierKey, Signed] = {}
        for one in self.signatures:
            key = known.get((one.name, one.key_id))
            if key is not None:
                signed = _verified(key, self.text, one.blob, check)
                found.setdefault(key, signed)
        return tuple(found.values())


def sign(text: str, key: VerifierKey, sign_raw: Callable[[bytes], bytes]) -> Signature:
    """A plain signature by `key`. `sign_raw` makes a raw Ed25519 signature of the bytes that it is given."""
    return Signature(key.name, key.id, sign_raw(text.encode()))


def cosign(
    text: str, key: VerifierKey, time_s: int, sign_raw: Callable[[bytes], bytes]
) -> Signature:
    """A witness's signature: it saw this checkpoint at `time_s` (Unix seconds) as the largest of its log."""
    signature = sign_raw(cosigned(text, time_s))
    return Signature(key.name, key.id, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def cosigned(text: str, time_s: int) -> bytes:
    """What a witness signs (tlog-cosignature, "Ed25519 signed message")."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _verified(key: VerifierKey, text: str, blob: bytes, check: Check) -> Signed:
    time_s, message = None, text.encode()
    if key.type == COSIGNATURE:
        time_s = int.from_bytes(blob[:_TIME_BYTES], "big")
        blob, message = blob[_TIME_BYTES:], cosigned(text, time_s)
        if time_s > _TIME_MAX:
            _refuse(f"The cosignature of {key.name} is of no time.")
    if len(blob) != _SIGNATURE_BYTES or not check(key.public_key, blob, message):
        _refuse(f"The signature of {key.name} does not verify.")
    return Signed(key, time_s)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def strict_base64(text: str) -> bytes:
    """The bytes of a text in its one spelling, b"" of every other: one with unused bits set would be a note that nobody
    has signed.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if base64.b64encode(data).decode() == text else b""


def _refuse(why: str) -> NoReturn:
    raise Refusal(Code.PROOF_INVALID, why)
