"""A real, certified OpenID provider (oidc-provider on Node) where people sign in, and a gate that uses it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import peers
from cli_rig import Rig
from oidc_issuer import new_key
from presspass.services.config import SignIn, read_config, write_config

SCRIPT = Path(__file__).with_name("oidc_provider.mjs")
CLIENT_ID = "presspass"


class PeopleProvider(peers.Peer):
    """`with PeopleProvider(folder, callback) as provider:` serves until the block ends.

    It is at localhost, as the gate is: a browser takes both for one site, and still sends cookies by host alone.
    """

    def __init__(self, folder: Path, callback: str, **claims: Any) -> None:
        self.port = peers.free_port()
        self.url = f"http://localhost:{self.port}"
        self.secret = secrets.token_urlsafe(24)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "issuer": self.url,
            "port": self.port,
            "modules": str(peers.require_npm_peer("oidc-provider").parent.parent),
            "clients": [
                {
                    "client_id": CLIENT_ID,
                    "client_secret": self.secret,
                    "grant_types": ["authorization_code"],
                    "response_types": ["code"],
                    "redirect_uris": [callback],
                    "id_token_signed_response_alg": "ES256",
                }
            ],
            "jwks": {"keys": [new_key("ES256")]},
            "claims": claims,
        }
        path = folder / "config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        super().__init__(
            [peers.require_peer("node"), SCRIPT, path], folder, lambda: peers.answers_http(self.url)
        )


def use_provider(rig: Rig, provider: PeopleProvider) -> None:
    """Configures the rig's home for this provider; before the gate starts."""
    from dataclasses import replace

    config = read_config(rig.home)
    dial = replace(config.dial, ports=(provider.port,))
    sign_in = SignIn(provider.url, CLIENT_ID, "openid")
    write_config(rig.home, replace(config, sign_in=sign_in, dial=dial))
    path = rig.home / "gateway" / "sign-in.secret"
    path.touch(mode=0o600)
    path.write_text(provider.secret)
