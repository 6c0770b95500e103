"""The press's own keys. The log key signs checkpoints (raw Ed25519); the first is made at genesis and named in it.

Attestations are signed by whatever signer people have put in force: the log key until then, after that a key in a file,
in a PKCS#11 token or in a cloud KMS, by its URI for securesystemslib. The press has only the URI of such a key, and
signs with it only if its public half is the one in force.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (  # type: ignore[attr-defined]  # public there, without __all__
    CryptoSigner,
    HSMSigner,
    Signer,
    SSlibKey,
)

from presspass.core.digests import JsonObject
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.signer import ECDSA_P256, ECDSA_P384, ED25519, RSA_PSS, SignerBody
from presspass.keystore.envelopes import read_private, write_private
from presspass.verify.attestation import PAYLOAD_TYPE, check_signer, encode, open_envelope

_SEED_BYTES = 32
_FILE: Final = "file2"
_TOKEN: Final = "hsm"
#: Kinds of URI that are taken: a key file, a PKCS#11 token, and the services. They need extras of securesystemslib.
URI_SCHEMES: Final = (_FILE, _TOKEN, "awskms", "gcpkms", "azurekms", "hv")
_PKCS11_VARIABLE: Final = "PYKCS11LIB"
#: Of python-pkcs11, which need not be installed.
_PIN_ERRORS: Final = frozenset({"PinIncorrect", "PinInvalid", "PinLenRange", "PinLocked"})


@dataclass(frozen=True, slots=True)
class PressKey:
    """The log key. `public`: 32 raw bytes."""

    private: Ed25519PrivateKey

    @classmethod
    def create(cls, path: Path) -> PressKey:
        """Makes the key file (mode 0600); FileExistsError when there is one already."""
        write_private(path, secrets.token_bytes(_SEED_BYTES), exclusive=True)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> PressKey:
        """Reads the key file; Fault when it is missing or open to others."""
        return cls(Ed25519PrivateKey.from_private_bytes(read_private(path, _SEED_BYTES)))

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign_raw(self, message: bytes) -> bytes:
        """A raw Ed25519 signature, 64 bytes."""
        return self.private.sign(message)

    def attest(self, statement: JsonObject) -> JsonObject:
        """An in-toto statement in a DSSE envelope."""
        return _envelope(statement, CryptoSigner(self.private))


@dataclass(frozen=True, slots=True)
class Token:
    """Where a key is that has no file here. `uri`: of URI_SCHEMES; `module`: path of the PKCS#11 library, "" for none;
    `pin`: of the token, "" where it asks for none.
    """

    uri: str
    module: str = ""
    pin: str = ""


@dataclass(frozen=True, slots=True)
class Signers:
    """What the press can sign attestations with: its log keys by public half (hex), and keys that are configured."""

    log_key: Callable[[str], PressKey | None]
    tokens: Sequence[Token] = ()
    _wrong_pins: set[str] = field(default_factory=set)

    def attest(
        self, signer: SignerBody, statements: Sequence[JsonObject]
    ) -> tuple[JsonObject, ...]:
        """In-toto statements in DSSE envelopes of the signer in force.

        Fault("signer.unavailable"), which goes away, where the token or service does not answer or is another key.
        """
        if (key := self.log_key(signer.raw.hex())) is not None:
            return tuple(key.attest(one) for one in statements)
        problems = []
        for token in self.tokens:
            try:
                return tuple(self._sign(token, signer, one) for one in statements)
            except Refusal as refusal:
                problems.append(refusal.message)
        why = " ".join(problems) or "No [[signer]] is configured."
        text = f"The key that signs attestations is not at hand. {why}"
        raise Fault("signer.unavailable", text, retryable=True)

    def require(self, signer: SignerBody) -> None:
        """Refuses with `signer.missing` what this press cannot sign with, by signing an empty statement."""
        try:
            self.attest(signer, [{}])
        except Fault as fault:
            hint = "Configure it on the press's host: a [[signer]] with the URI of this key."
            raise Refusal(Code.SIGNER_MISSING, fault.message, hint) from None

    def _sign(self, token: Token, signer: SignerBody, statement: JsonObject) -> JsonObject:
        """Refuses with `signer.unusable` where the token or service does not answer, or signs as another key. A PIN
        that was wrong is not tried again: tokens lock themselves after a few.
        """
        _check_uri(token)
        if token.uri in self._wrong_pins:
            raise _unusable(token, ValueError("its PIN was wrong; set it right and start again"))
        public = SSlibKey.from_crypto(load_der_public_key(signer.public_key), scheme=signer.scheme)
        try:
            using = Signer.from_priv_key_uri(token.uri, public, lambda _what: token.pin)
            made = _envelope(statement, using)
            open_envelope(made, signer)
        except Exception as error:  # each service has errors of its own, of any class
            if type(error).__name__ in _PIN_ERRORS:
                self._wrong_pins.add(token.uri)
            raise _unusable(token, error) from None
        return made


def _envelope(statement: JsonObject, signer: Signer) -> JsonObject:
    envelope = Envelope(encode(statement), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    made: JsonObject = envelope.to_dict()
    return made


def read_signer(name: str, token: Token) -> SignerBody:
    """The public half of a key in a file or PKCS#11 token; refuses with `signer.unusable` where it cannot be read."""
    _check_uri(token)
    kind, _, place = token.uri.partition(":")
    try:
        if kind == _FILE:
            key = load_pem_private_key(Path(place).read_bytes(), None).public_key()
        elif kind == _TOKEN:
            key = _of_token(token)
        else:
            raise ValueError("only the service knows its public half; give that in a file")
    except Exception as error:  # each library has errors of its own, of any class
        raise _unusable(token, error) from None
    return signer_of(name, key)


def signer_of(name: str, key: PublicKeyTypes) -> SignerBody:
    """The signer that this public key is, by the one scheme for its kind; refuses with `signer.unusable` any other."""
    spelt = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(key, rsa.RSAPublicKey):
        scheme = RSA_PSS
    elif isinstance(key, Ed25519PublicKey):
        scheme = ED25519
    elif isinstance(key, ec.EllipticCurvePublicKey):
        scheme = ECDSA_P384 if isinstance(key.curve, ec.SECP384R1) else ECDSA_P256
    else:
        scheme = type(key).__name__
    body = SignerBody(name, scheme, spelt)
    check_signer(body)
    return body


def _of_token(token: Token) -> PublicKeyTypes:
    parts = urlsplit(token.uri)
    label = parse_qs(parts.query).get("label", [None])[0]
    number = int(parts.path) if parts.path else None
    _uri, public = HSMSigner.import_(number, label, lambda _what: token.pin)
    return load_pem_public_key(public.keyval["public"].encode())


def _check_uri(token: Token) -> None:
    kind = token.uri.partition(":")[0]
    if kind not in URI_SCHEMES:
        raise Refusal(
            Code.SIGNER_UNUSABLE,
            f"{token.uri!r} is no URI of a key.",
            f"It begins with one of {', '.join(f'{one}:' for one in URI_SCHEMES)}.",
        )
    if kind == _TOKEN:
        os.environ[_PKCS11_VARIABLE] = token.module  # where securesystemslib looks for the library


def _unusable(token: Token, error: Exception) -> Refusal:
    hint = "Look at URI, module and PIN, and whether the token is plugged in."
    if isinstance(error, UnsupportedLibraryError):
        hint = f"Install what securesystemslib needs for {token.uri.partition(':')[0]}: keys."
    return Refusal(Code.SIGNER_UNUSABLE, f"The key {token.uri} cannot be used: {error}", hint)
