"""A STAND-IN for an ACME server (RFC 8555), on a loopback port, over TLS: no CA, nobody need trust it, for tests alone.

It follows the protocol as a server must: single-use nonces, JWS verified with the account's own key over the exact URL,
orders, authorizations, http-01 validated by really fetching the token, a CSR that is checked, a chain of two
certificates. It shares no code with the client library it is asked by. `faults` makes it behave badly.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import secrets
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from presspass.gateway.tls.trial import make_trial

Json = dict[str, Any]


class ProblemError(Exception):
    """An error answer (RFC 8555 section 6.7)."""

    def __init__(self, kind: str, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {
            "type": f"urn:ietf:params:acme:error:{kind}",
            "detail": detail,
            "status": status,
        }


@dataclass
class Order:
    """One order with its single authorizations, by host."""

    account: str
    hosts: list[str]
    status: str = "pending"
    tokens: dict[str, str] = field(default_factory=dict)
    valid: dict[str, str] = field(default_factory=dict)
    errors: dict[str, Json] = field(default_factory=dict)
    chain: str = ""


class AcmeStandIn:
    """Use as a context manager. `validation_port`: where it looks for http-01 (a public server: 80).

    `faults`: "bad-nonce" (the first one), "refuse" (every new order), "no-http-01", "other-name", "broken-chain",
    "dies" (the connection ends at finalize). `life`: of what it issues.
    """

    def __init__(self, folder: Path, validation_port: int) -> None:
        folder.mkdir()
        self.ca = make_trial(folder, ["localhost"])
        self.validation_port = validation_port
        self.faults: set[str] = set()
        self.life = timedelta(days=90)
        self.accounts: dict[str, Json] = {}
        self.orders: list[Order] = []
        self.issued: list[x509.Certificate] = []
        self.requests: list[str] = []
        self.fetched: list[str] = []
        self._nonces: set[str] = set()
        self._lock = threading.RLock()
        self.root, self._issuer, self._issuer_key = _authorities()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def directory(self) -> str:
        return f"{self.url}/directory"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def nonce(self) -> str:
        """A fresh one, good once."""
        with self._lock:
            nonce = secrets.token_urlsafe(16)
            self._nonces.add(nonce)
            return nonce

    def list(self) -> Json:
        """The directory (section 7.1.1)."""
        names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
        return {name: f"{self.url}/{name}" for name in names}

    def post(self, path: str, body: bytes) -> tuple[int, Json | str, dict[str, str]]:
        """(status, JSON or the PEM chain, headers) of an authenticated request."""
        with self._lock:
            self.requests.append(path)
            payload, account, jwk = self._opened(f"{self.url}{path}", body)
            parts = path.strip("/").split("/")
            if parts == ["newAccount"]:
                return self._new_account(payload, jwk)
            if parts == ["newOrder"]:
                return self._new_order(account, payload)
            order = self._order(account, parts[1])
            match parts:
                case ["order", number]:
                    return 200, self._order_json(number), {}
                case ["authz", number, host]:
                    return 200, self._authorization(number, host), {}
                case ["challenge", number, host]:
                    return self._validate(number, host)
                case ["finalize", number]:
                    return self._finalize(order, number, payload)
                case ["certificate", _number] if order.chain:
                    return 200, order.chain, {}
            raise ProblemError("malformed", "no such resource", 404)

    # authentication: section 6

    def _opened(self, url: str, body: bytes) -> tuple[Json, str, Json]:
        jws = json.loads(body)
        header = json.loads(unb64(jws["protected"]))
        if header.get("url") != url:
            raise ProblemError("unauthorized", "the url of the JWS is another", 403)
        if header["nonce"] not in self._nonces or "bad-nonce" in self.faults:
            self.faults.discard("bad-nonce")
            raise ProblemError("badNonce", "that nonce is not good (any more)")
        self._nonces.discard(header["nonce"])
        if ("jwk" in header) == ("kid" in header) or header.get("alg") != "ES256":
            raise ProblemError("malformed", "either jwk or kid, and ES256")
        account = str(header.get("kid", ""))
        if "kid" in header and account not in self.accounts:
            raise ProblemError("accountDoesNotExist", "no such account")
        jwk: Json = header["jwk"] if "jwk" in header else self.accounts[account]
        signed = f"{jws['protected']}.{jws['payload']}".encode()
        _verify(jwk, unb64(jws["signature"]), signed)
        text = unb64(jws["payload"])
        return (json.loads(text) if text else {}), account, jwk

    def _new_account(self, payload: Json, jwk: Json) -> tuple[int, Json, dict[str, str]]:
        known = [url for url, key in self.accounts.items() if key == jwk]
        if not known:
            if not payload.get("termsOfServiceAgreed"):
                raise ProblemError("userActionRequired", "agree to the terms", 403)
            known = [f"{self.url}/account/{len(self.accounts)}"]
            self.accounts[known[0]] = jwk
            return 201, {"status": "valid"}, {"Location": known[0]}
        return 200, {"status": "valid"}, {"Location": known[0]}

    # orders: section 7.4

    def _new_order(self, account: str, payload: Json) -> tuple[int, Json, dict[str, str]]:
        if "refuse" in self.faults:
            raise ProblemError("rateLimited", "too many certificates for this name", 429)
        hosts = [one["value"] for one in payload["identifiers"] if one["type"] == "dns"]
        order = Order(account, hosts)
        order.tokens = {host: secrets.token_urlsafe(24) for host in hosts}
        self.orders.append(order)
        number = str(len(self.orders) - 1)
        return 201, self._order_json(number), {"Location": f"{self.url}/order/{number}"}

    def _order(self, account: str, number: str) -> Order:
        order = self.orders[int(number)]
        if order.account != account:
            raise ProblemError("unauthorized", "somebody else's order", 403)
        return order

    def _order_json(self, number: str) -> Json:
        order = self.orders[int(number)]
        found: Json = {
            "status": order.status,
            "identifiers": [{"type": "dns", "value": host} for host in order.hosts],
            "authorizations": [f"{self.url}/authz/{number}/{host}" for host in order.hosts],
            "finalize": f"{self.url}/finalize/{number}",
        }
        if order.chain:
            found["certificate"] = f"{self.url}/certificate/{number}"
        return found

    def _authorization(self, number: str, host: str) -> Json:
        order = self.orders[int(number)]
        return {
            "status": order.valid.get(host, "pending"),
            "identifier": {"type": "dns", "value": host},
            "challenges": [self._challenge(number, host)],
        }

    def _challenge(self, number: str, host: str) -> Json:
        order = self.orders[int(number)]
        kind = "dns-01" if "no-http-01" in self.faults else "http-01"
        found: Json = {
            "type": kind,
            "url": f"{self.url}/challenge/{number}/{host}",
            "token": order.tokens[host],
            "status": order.valid.get(host, "pending"),
        }
        if host in order.errors:
            found["error"] = order.errors[host]
        return found

    def _validate(self, number: str, host: str) -> tuple[int, Json, dict[str, str]]:
        """Section 8.3: fetches the token in plain HTTP and compares it with the key authorization."""
        order = self.orders[int(number)]
        token = order.tokens[host]
        expected = f"{token}.{_thumbprint(self.accounts[order.account])}".encode()
        got = self._fetch(host, f"/.well-known/acme-challenge/{token}")
        order.valid[host] = "valid" if got == expected else "invalid"
        if got != expected:
            order.status = "invalid"
            order.errors[host] = ProblemError("incorrectResponse", f"got {got[:80]!r}", 403).body
        elif all(order.valid.get(one) == "valid" for one in order.hosts):
            order.status = "ready"
        up = f'<{self.url}/authz/{number}/{host}>;rel="up"'
        return 200, self._challenge(number, host), {"Link": up}

    def _fetch(self, host: str, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.validation_port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            body = answer.read(1024)
            self.fetched.append(path)
            return body if answer.status == 200 else f"status {answer.status}".encode()
        except OSError as error:
            return f"no connection: {error}".encode()
        finally:
            connection.close()

    def _finalize(
        self, order: Order, number: str, payload: Json
    ) -> tuple[int, Json, dict[str, str]]:
        if order.status != "ready":
            raise ProblemError("orderNotReady", f"the order is {order.status}", 403)
        if "dies" in self.faults:
            raise ConnectionAbortedError
        csr = x509.load_der_x509_csr(unb64(payload["csr"]))
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if not csr.is_signature_valid or sorted(names.get_values_for_type(x509.DNSName)) != sorted(
            order.hosts
        ):
            raise ProblemError("badCSR", "the CSR does not name what was ordered")
        hosts = ["other.example"] if "other-name" in self.faults else order.hosts
        certificate = self._issue(csr, hosts)
        self.issued.append(certificate)
        above = self.root if "broken-chain" in self.faults else self._issuer
        order.chain = "".join(
            one.public_bytes(Encoding.PEM).decode() for one in (certificate, above)
        )
        order.status = "valid"
        return 200, self._order_json(number), {"Location": f"{self.url}/order/{number}"}

    def _issue(self, csr: x509.CertificateSigningRequest, hosts: list[str]) -> x509.Certificate:
        now = datetime.now(UTC)
        begins = now - timedelta(minutes=1)
        return (
            x509.CertificateBuilder(self._issuer.subject, x509.Name([]), csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + self.life)
            .add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, hosts))), True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuer_key.public_key()),
                False,
            )
            .sign(self._issuer_key, hashes.SHA256())
        )


def _authorities() -> tuple[x509.Certificate, x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A root and an intermediate CA below it, with the intermediate's key."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        for text in ("Stand-in root", "Stand-in intermediate")
    ]
    root = _authority(names[0], names[0], root_key, root_key)
    return root, _authority(names[1], names[0], key, root_key), key


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    public = key.public_key()
    above = issuer_key.public_key()
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), False)
        .sign(issuer_key, hashes.SHA256())
    )


def _verify(jwk: Json, signature: bytes, signed: bytes) -> None:
    """ES256 (RFC 7518 section 3.4)."""
    x, y = (int.from_bytes(unb64(jwk[name]), "big") for name in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ProblemError("unauthorized", "the signature does not verify", 403) from None


def _thumbprint(jwk: Json) -> str:
    """RFC 7638 section 3."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashes.Hash(hashes.SHA256())
    digest.update(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())
    return base64.urlsafe_b64encode(digest.finalize()).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _handler(server: AcmeStandIn) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/directory":
                self._answer(200, server.list(), {})
            elif self.path == "/newNonce":
                self._answer(204, "", {})
            else:
                self._answer(405, ProblemError("malformed", "POST-as-GET", 405).body, {})

        def do_HEAD(self) -> None:
            self._answer(200, "", {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                self._answer(*server.post(self.path, body))
            except ProblemError as problem:
                self._answer(problem.status, problem.body, {}, "application/problem+json")
            except ConnectionAbortedError:
                self.close_connection = True

        def _answer(
            self,
            status: int,
            value: Json | str,
            headers: dict[str, str],
            kind: str = "application/json",
        ) -> None:
            is_chain = isinstance(value, str)
            data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header(
                "Content-Type", "application/pem-certificate-chain" if is_chain else kind
            )
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Replay-Nonce", server.nonce())
            for name, content in headers.items():
                self.send_header(name, content)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_words: object) -> None:
            """Nobody reads it."""

    return Handler
