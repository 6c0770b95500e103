"""The TLS context that the gateway's port serves, and taking a renewed certificate into it while it serves.

OpenSSL reads certificates from paths only. So what has been judged is handed over in an anonymous file
(memfd_create(2)): judged and served are the same bytes, whatever happens to the files meanwhile, and no second copy of
the key is on disk.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from presspass.core.errors import Code, Refusal
from presspass.core.limits import TLS_WARN_S
from presspass.gateway import events
from presspass.gateway.tls.certificate import Pair, check, read_pair

_DAY_S = 86_400


class ServingTls:
    """`context` is given to the listener once; `look` puts newer certificates into it. For one thread, the loop's."""

    def __init__(self, certificate: Path, key: Path, hosts: Iterable[str]) -> None:
        self._files = (certificate, key)
        self._hosts = tuple(hosts)
        self._seen: object = None
        self._ends: datetime | None = None
        self._told_at = 0.0
        self.context = new_context()

    def load(self) -> Pair:
        """Reads, judges and serves what is there now. Refuses with a `tls.…` code; what was served before stays."""
        self._seen = self._marks()
        pair = read_pair(*self._files)
        check(pair, self._hosts, datetime.now(UTC))
        into_context(self.context, pair)
        self._ends = pair.ends
        return pair

    def look(self) -> None:
        """Takes changed files in. What cannot be served is told and left, until the files change again."""
        self._tell_end()
        if self._marks() == self._seen:
            return
        try:
            pair = self.load()
        except Refusal as refusal:
            events.log(
                "tls-certificate", taken=False, code=refusal.code.value, detail=refusal.message
            )
        else:
            events.log("tls-certificate", taken=True, ends=pair.ends.isoformat())

    def _marks(self) -> tuple[tuple[int, int, int, int] | None, ...]:
        """What changes when a file is replaced or written: device, inode, size, time."""
        return tuple(_mark(path) for path in self._files)

    def _tell_end(self) -> None:
        """Once a day, when the certificate that is served is about to end or has ended."""
        now = datetime.now(UTC)
        if self._ends is None or (self._ends - now).total_seconds() > TLS_WARN_S:
            return
        if now.timestamp() - self._told_at >= _DAY_S:
            self._told_at = now.timestamp()
            events.log("tls-certificate", ends=self._ends.isoformat(), detail="Renew it.")


def new_context() -> ssl.SSLContext:
    """TLS 1.2 and up with Python's own choice of ciphers; HTTP/1.1 alone, since HTTP/2 has no reason phrase."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def into_context(context: ssl.SSLContext, pair: Pair) -> None:
    """Serves `pair` from the next connection on; refuses with `tls.bad-certificate` what OpenSSL will not have."""
    try:
        _load(new_context(), pair)  # first into one that nobody uses: a failure may leave halves
        _load(context, pair)
    except ssl.SSLError as error:
        raise Refusal(
            Code.TLS_BAD_CERTIFICATE,
            f"The certificate cannot be served: {error.reason or error}.",
            "Get a certificate with a current signature algorithm and key.",
        ) from None


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, pair.pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _mark(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
