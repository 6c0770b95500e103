"""A private certification authority for trials: made, used for one certificate, and its key forgotten at once.

Whoever trusts it (`SSL_CERT_FILE`) trusts one certificate, whose key is the gateway's: nobody, not even who takes this
machine over, can issue another in its name, and name constraints (RFC 5280 section 4.2.1.10) keep it to these hosts.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from presspass.core.limits import TLS_TRIAL_S

CA_NAME: Final = "ca.pem"
_AUTHORITY: Final = "Presspass private CA, for trials only"
_CLOCKS_APART: Final = timedelta(minutes=5)
_LOOPBACK: Final = ("127.0.0.1", "::1")


def make_trial(folder: Path, hosts: Sequence[str]) -> Path:
    """Writes ca.pem, certificate.pem and key.pem into `folder`, replacing older ones; returns the path of ca.pem.

    The key is written before the certificate: a crash in between leaves a pair that is refused, not a wrong one.
    """
    now = datetime.now(UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _authority(ca_key, hosts, now)
    certificate = _certificate(key, hosts, ca, ca_key, now)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / "key.pem", private)
    write_private(folder / "certificate.pem", certificate.public_bytes(Encoding.PEM))
    write_private(folder / CA_NAME, ca.public_bytes(Encoding.PEM))
    return folder / CA_NAME


def write_private(path: Path, data: bytes) -> None:
    """Replaces `path` durably and whole, for its owner alone (0600)."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _authority(
    key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], now: datetime
) -> x509.Certificate:
    networks = [x509.IPAddress(ipaddress.ip_network(address)) for address in _LOOPBACK]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _AUTHORITY)])
    public = key.public_key()
    return (
        _begun(subject, subject, public, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.NameConstraints([*map(x509.DNSName, hosts), *networks], None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    if "localhost" in hosts:
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _LOOPBACK]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    public = key.public_key()
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _begun(subject, ca.subject, public, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _begun(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
    ends = now + timedelta(seconds=TLS_TRIAL_S)
    return builder.not_valid_before(now - _CLOCKS_APART).not_valid_after(ends)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
