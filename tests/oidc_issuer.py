"""A real, certified OpenID provider (oidc-provider on Node) as the issuer of workload tokens.

It starts in about a second. `presspass.drill.world.Issuer` is the quick, seeded one beside it; this one is the judge of
whether discovery, key sets and tokens are read as the world writes them.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, RSAKey

import peers
from certificates import Authority

SCRIPT = Path(__file__).with_name("workload_issuer.mjs")
REQUEST_TIMEOUT_S = 20
CLIENT = "ci-system"
AUDIENCE = "urn:audience:"


class OidcProvider(peers.Peer):
    """`with OidcProvider(folder) as issuer:` serves until the block ends; `issuer.url` is the `iss` of its tokens.

    With an `authority` it speaks https under `host`, else http. `alg` is RS256 or ES256.
    """

    def __init__(
        self,
        folder: Path,
        *,
        authority: Authority | None = None,
        alg: str = "RS256",
        host: str = "127.0.0.1",
    ) -> None:
        self._tls = authority.issue(host) if authority else None
        self._context = authority.context() if authority else None
        self._alg = alg
        self._keys = [new_key(alg)]
        self._secret = secrets.token_hex(16)
        self.port = peers.free_port()
        self.url = f"{'https' if authority else 'http'}://{host}:{self.port}"
        self._config = folder / "config.json"
        modules = peers.require_npm_peer("oidc-provider").parent.parent
        self._modules = str(modules)
        folder.mkdir(parents=True, exist_ok=True)
        node = peers.require_peer("node")
        super().__init__([node, SCRIPT, self._config], folder, self._listens)

    def start(self) -> None:
        """See Peer.start: with the keys as they are now."""
        config = {
            "issuer": self.url,
            "port": self.port,
            "modules": self._modules,
            "tls": self._tls
            and {"cert": self._tls.cert.read_text(), "key": self._tls.key.read_text()},
            "keys": self._keys,
            "alg": self._alg,
            "client": {"id": CLIENT, "secret": self._secret},
        }
        self._config.touch(mode=0o600)
        self._config.write_text(json.dumps(config))
        super().start()

    @property
    def kid(self) -> str:
        """The id of the key that signs now."""
        return str(self._keys[0]["kid"])

    def rotate(self, *, keep_old: bool = False, alg: str | None = None) -> None:
        """Another key signs, of another algorithm where `alg` is given. The old one leaves the key set, or stays in it.

        The provider is restarted for it, as many are.
        """
        self._alg = alg or self._alg
        self._keys = [new_key(self._alg), *(self._keys if keep_old else [])]
        self.stop()
        self.start()
        self.wait()

    def token(self, claims: Mapping[str, Any], audience: str) -> str:
        """A token about this job for this audience; it lives five minutes.

        `claims` may replace the provider's own (`sub`, `exp`, `jti`, …), and None removes one.
        """
        sent = base64.urlsafe_b64encode(json.dumps(dict(claims)).encode()).rstrip(b"=")
        form = {
            "grant_type": "client_credentials",
            "resource": AUDIENCE + urllib.parse.quote(audience, safe=""),
        }
        login = base64.b64encode(f"{CLIENT}:{self._secret}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url}/token",
            urllib.parse.urlencode(form).encode(),
            {"Authorization": f"Basic {login}", "workload-claims": sent.decode()},
        )
        return str(self._json(request)["access_token"])

    def get(self, path: str) -> dict[str, Any]:
        """What it serves there, such as the discovery document."""
        return self._json(urllib.request.Request(self.url + path))

    def _json(self, request: urllib.request.Request) -> dict[str, Any]:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self._context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=self._context))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(request, timeout=REQUEST_TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise AssertionError(f"{request.full_url}: {error}: {detail}") from error

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2):
                return True
        except OSError:
            return False


def new_key(alg: str) -> dict[str, Any]:
    """A private JWK for signing with RS256 (2048 bits) or ES256."""
    parameters = {"use": "sig", "alg": alg, "kid": secrets.token_hex(8)}
    key: RSAKey | ECKey
    if alg == "RS256":
        key = RSAKey.generate_key(2048, parameters)
    elif alg == "ES256":
        key = ECKey.generate_key("P-256", parameters)
    else:
        raise ValueError(f"a CI system signs with RS256 or ES256, not {alg}")
    return dict(key.as_dict(private=True))
