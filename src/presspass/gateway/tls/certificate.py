"""A certificate with its key, read from PEM files and judged before it is served.

What clients would find wrong only by failing is refused here, with the reason: other key, other name, out of its time.
Names are compared as RFC 9525 section 6.3 says: DNS names of the subject alternative name alone, a `*` stands for the
whole leftmost label and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from presspass.core.errors import Code, Refusal
from presspass.core.limits import TLS_PEM_BYTES_MAX

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_RSA_BITS_MIN: Final = 2048
_OTHERS: Final = 0o007  # permission bits of everybody


@dataclass(frozen=True, slots=True)
class Pair:
    """`chain`: the server's certificate first. `pem`: chain and key in one text, as OpenSSL reads them. UTC times."""

    chain: tuple[x509.Certificate, ...]
    pem: bytes
    names: tuple[str, ...]

    @property
    def begins(self) -> datetime:
        return self.chain[0].not_valid_before_utc

    @property
    def ends(self) -> datetime:
        return self.chain[0].not_valid_after_utc


def read_pair(certificate: Path, key: Path) -> Pair:
    """Reads both files; refuses with `tls.bad-certificate` or `tls.bad-key`."""
    chain_pem = _read(certificate, Code.TLS_BAD_CERTIFICATE)
    key_pem = _read(key, Code.TLS_BAD_KEY)
    if key.stat().st_mode & _OTHERS:
        raise Refusal(Code.TLS_BAD_KEY, f"The key {key} is open to everybody.", f"chmod 600 {key}")
    return pair_of(chain_pem, key_pem, str(certificate), str(key))


def pair_of(
    chain_pem: bytes, key_pem: bytes, certificate: str = "certificate", key: str = "key"
) -> Pair:
    """A pair of PEM texts; `certificate` and `key` say in a refusal where they come from."""
    chain = _chain(chain_pem, certificate)
    private = _private_key(key_pem, key)
    if _spki(chain[0].public_key()) != _spki(private.public_key()):
        raise Refusal(
            Code.TLS_BAD_KEY,
            f"The key in {key} is not the key of the certificate in {certificate}.",
            "Put the certificate of this key first in its file; its chain follows.",
        )
    text = b"".join(one.public_bytes(Encoding.PEM) for one in chain)
    key_text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(chain, text + key_text, _names(chain[0]))


def check(pair: Pair, hosts: Iterable[str], now: datetime) -> None:
    """Refuses with `tls.not-valid-now` or `tls.wrong-name`: no client would accept it for these hosts at this time."""
    if not pair.begins <= now < pair.ends:
        what = "ended" if now >= pair.ends else "begins"
        when = pair.ends if now >= pair.ends else pair.begins
        raise Refusal(
            Code.TLS_NOT_VALID_NOW,
            f"The certificate {what} at {when:%Y-%m-%d %H:%M:%S} UTC; the clock says {now:%Y-%m-%d %H:%M:%S}.",
            "Renew it, or set the clock if that is wrong.",
        )
    missing = [host for host in hosts if not covers(pair.names, host)]
    if missing:
        raise Refusal(
            Code.TLS_WRONG_NAME,
            f"The certificate is for {', '.join(pair.names) or 'no DNS name'}, not for {', '.join(missing)}.",
            "Get one that names the hosts of origin and upload_url.",
        )


def covers(names: Iterable[str], host: str) -> bool:
    """Whether one of the certificate's DNS names stands for `host` (lower case, without a trailing dot)."""
    parent = host.partition(".")[2]
    return any(name.lower() in (host, f"*.{parent}" if parent else host) for name in names)


def chain_gap(pair: Pair) -> str:
    """ "" where each certificate of the chain was issued by the next one; else what does not follow on what."""
    for issued, issuer in zip(pair.chain, pair.chain[1:], strict=False):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return f"{issued.subject.rfc4514_string()} was not issued by {issuer.subject.rfc4514_string()}"
    return ""


def _read(path: Path, code: Code) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(TLS_PEM_BYTES_MAX + 1)
    except OSError as error:
        raise Refusal(
            code,
            f"{path} cannot be read: {error.strerror}.",
            "Check [tls] in presspass.toml, and that the gateway's user may read the file.",
        ) from None
    if len(data) > TLS_PEM_BYTES_MAX:
        raise Refusal(code, f"{path} is larger than {TLS_PEM_BYTES_MAX} bytes.")
    return data


def _chain(pem: bytes, where: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise Refusal(
            Code.TLS_BAD_CERTIFICATE,
            f"{where} holds no certificates in PEM form.",
            "It must have the server's certificate first, then its chain.",
        ) from None


def _private_key(pem: bytes, where: str) -> PrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise Refusal(
            Code.TLS_BAD_KEY,
            f"The key in {where} is encrypted.",
            "The gateway must start without asking: keep it unencrypted, mode 0600.",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Refusal(Code.TLS_BAD_KEY, f"{where} holds no private key in PEM form.") from None
    weak = isinstance(key, rsa.RSAPrivateKey) and key.key_size < _RSA_BITS_MIN
    if weak or not isinstance(key, PrivateKey):
        raise Refusal(
            Code.TLS_BAD_KEY,
            f"The key in {where} is of a kind that clients refuse.",
            f"Use ECDSA P-256, or RSA of {_RSA_BITS_MIN} bits or more.",
        )
    return key


def _spki(public: object) -> bytes:
    encoded: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]  # every public key has it
    return encoded


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(found.value.get_values_for_type(x509.DNSName))
