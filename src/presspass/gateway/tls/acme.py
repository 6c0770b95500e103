"""Getting and renewing the gate's certificate by ACME (RFC 8555), challenge http-01 (section 8.3).

Runs in a process of its own, because the gateway opens no connection. The two share gateway/tls alone: this process
writes the answer to a challenge there, which the gateway serves in plain HTTP, and the certificate, which it takes up.

Durable steps, and what a crash after each one means:

1. `account.key`: the next run registers the same key, and gets the same account.
2. Files in `challenges/`: they answer nothing any more; the next run removes them.
3. `acme.pem`, key and chain in one file, replaced in one step: what was served before, or the new pair, never half.

What comes back is judged like any other certificate and never replaces one that lasts longer.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from presspass import __version__
from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import (
    ACME_ORDER_S_MAX,
    ACME_RETRY_FIRST_S,
    ACME_RETRY_S_MAX,
    ACME_TIMEOUT_S,
    TLS_PEM_BYTES_MAX,
)
from presspass.gateway.tls.certificate import Pair, chain_gap, check, pair_of, read_pair
from presspass.gateway.tls.challenges import CHALLENGES
from presspass.gateway.tls.trial import write_private

if TYPE_CHECKING:
    from acme.client import ClientV2
    from acme.messages import OrderResource

PAIR_NAME: Final = "acme.pem"
_ACCOUNT_NAME: Final = "account.key"
_STATE_NAME: Final = "acme-state.json"
_RENEW_AFTER: Final = 2 / 3  # of a certificate's life


@dataclass(frozen=True, slots=True)
class Settings:
    """`directory`: of the ACME server. `contact`: a mail address, or "". `ca`: a file of certificates, or ""."""

    directory: str
    contact: str
    ca: str
    hosts: Sequence[str]


@dataclass(frozen=True, slots=True)
class State:
    """How often it has failed since it last worked, and when it was last tried (seconds since the epoch)."""

    failures: int = 0
    tried_at: float = 0.0

    def wait_s(self) -> float:
        """How long after the last try the next one may come: doubled by each failure, up to ACME_RETRY_S_MAX."""
        if not self.failures:
            return 0.0
        return float(min(ACME_RETRY_FIRST_S * 2 ** min(self.failures - 1, 30), ACME_RETRY_S_MAX))


class Renewer:
    """Keeps the certificate in `folder` fresh. One at a time: the process that runs it is the only writer there."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings

    def due_at(self) -> float:
        """When to try next, in seconds since the epoch; in the past where it is time. Survives a restart."""
        state = self._state()
        earliest = state.tried_at + state.wait_s()
        pair = self.present()
        if pair is None:
            return earliest
        life = (pair.ends - pair.begins).total_seconds()
        return max(earliest, pair.begins.timestamp() + life * _RENEW_AFTER)

    def present(self) -> Pair | None:
        """The pair that clients would accept now, or None."""
        path = self._folder / PAIR_NAME
        try:
            pair = read_pair(path, path)
            check(pair, self._settings.hosts, datetime.now(UTC))
        except Refusal:
            return None
        return pair

    def renew(self) -> Pair:
        """Gets a certificate and puts it in place. Raises Fault or Refusal; what was there is then as it was."""
        failures = self._state().failures
        # The try is on disk before the server hears of it: a crash in the middle must not become a hot loop.
        self._keep(State(failures + 1, datetime.now(UTC).timestamp()))
        pair = self._judged(self._obtain())
        write_private(self._folder / PAIR_NAME, pair.pem)
        self._keep(State(0, datetime.now(UTC).timestamp()))
        return pair

    def _judged(self, pair: Pair) -> Pair:
        check(pair, self._settings.hosts, datetime.now(UTC))
        gap = chain_gap(pair)
        if gap:
            raise Refusal(Code.TLS_BAD_CERTIFICATE, f"The ACME server sent a broken chain: {gap}.")
        present = self.present()
        if present is not None and pair.ends <= present.ends:
            raise Refusal(
                Code.TLS_NOT_VALID_NOW,
                f"The ACME server sent a certificate until {pair.ends:%Y-%m-%d}; the present one lasts as long.",
            )
        return pair

    def _obtain(self) -> Pair:
        from acme import errors, messages
        from josepy.errors import Error as JoseError
        from requests import RequestException

        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        try:
            chain = self._order(self._client(), key)
        except errors.ValidationError as error:
            raise _failed("; ".join(_reasons(error))) from None
        except messages.Error as error:
            raise _failed(f"{error.code or error.typ}: {error.detail}") from None
        except (errors.Error, JoseError, RequestException, KeyError, ValueError) as error:
            raise _failed(f"{type(error).__name__}: {error}") from None
        return pair_of(chain, key, "what the ACME server sent")

    def _client(self) -> ClientV2:
        from acme import client, errors, messages
        from josepy.jwa import ES256
        from josepy.jwk import JWKEC

        account_key = JWKEC(key=self._account_key())
        net = client.ClientNetwork(
            account_key,
            alg=ES256,
            user_agent=f"presspass/{__version__}",
            timeout=ACME_TIMEOUT_S,
            verify_ssl=self._trusted(),
        )
        net.session.trust_env = False  # a proxy of the environment has no business here
        directory = client.ClientV2.get_directory(self._settings.directory, net)
        found = client.ClientV2(directory, net)
        wanted = messages.NewRegistration.from_data(
            email=self._settings.contact or None, terms_of_service_agreed=True
        )
        try:
            found.new_account(wanted)
        except errors.ConflictError as known:
            net.account = messages.RegistrationResource(uri=known.location, body=wanted)
        return found

    def _trusted(self) -> Any:
        """Whose word counts for the ACME server's own certificate, as `requests` takes it: a path, or True."""
        system = ssl.get_default_verify_paths()
        return self._settings.ca or system.cafile or system.capath or True

    def _account_key(self) -> ec.EllipticCurvePrivateKey:
        path = self._folder / _ACCOUNT_NAME
        if not path.exists():
            new = ec.generate_private_key(ec.SECP256R1())
            text = new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_private(path, text)
        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Refusal(
                Code.TLS_BAD_KEY,
                f"{path} is not the key of an ACME account that this gate made.",
                "Move it away; the next try makes a new account.",
            )
        return key

    def _order(self, acme: ClientV2, key: bytes) -> bytes:
        """The chain in PEM form."""
        from acme import crypto_util

        order = acme.new_order(crypto_util.make_csr(key, list(self._settings.hosts)))
        # The library compares its deadlines with local time that has no zone.
        deadline = datetime.now() + timedelta(seconds=ACME_ORDER_S_MAX)
        with self._answering(acme, order):
            done = acme.poll_and_finalize(order, deadline)
        chain: bytes = done.fullchain_pem.encode()
        if len(chain) > TLS_PEM_BYTES_MAX:
            raise _failed(f"a chain of {len(chain)} bytes")
        return chain

    @contextlib.contextmanager
    def _answering(self, acme: ClientV2, order: OrderResource) -> Iterator[None]:
        """Writes what the gateway answers, tells the server to look, and takes the files away at the end."""
        folder = self._folder / CHALLENGES
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        try:
            for challenge in _http_challenges(order):
                response, validation = challenge.response_and_validation(acme.net.key)
                write_private(folder / challenge.chall.encode("token"), validation.encode())
                acme.answer_challenge(challenge, response)
            yield
        finally:
            for file in folder.iterdir():
                file.unlink()

    def _state(self) -> State:
        try:
            found = json.loads((self._folder / _STATE_NAME).read_text())
            return State(int(found["failures"]), float(found["tried_at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return State()

    def _keep(self, state: State) -> None:
        text = json.dumps({"failures": state.failures, "tried_at": state.tried_at})
        write_private(self._folder / _STATE_NAME, text.encode())


def _http_challenges(order: OrderResource) -> Iterator[Any]:
    """The http-01 challenge of each authorization that is still open."""
    from acme import challenges, messages

    for authorization in order.authorizations:
        if authorization.body.status == messages.STATUS_VALID:
            continue
        host = authorization.body.identifier.value
        offered = [
            one for one in authorization.body.challenges if isinstance(one.chall, challenges.HTTP01)
        ]
        if not offered:
            raise _failed(f"the server offers no http-01 challenge for {host}")
        yield offered[0]


def _reasons(error: Any) -> Iterator[str]:
    for authorization in error.failed_authzrs:
        for challenge in authorization.body.challenges:
            if challenge.error is not None:
                host = authorization.body.identifier.value
                yield f"{host}: {challenge.error.code}: {challenge.error.detail}"


def _failed(why: str) -> Fault:
    return Fault("tls.acme-failed", f"No certificate by ACME: {why}", retryable=True)
