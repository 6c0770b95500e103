"""What genesis is made of before it is sealed: the press's public keys, the links, and the statement itself."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from presspass.cli.options import NamedPerson
from presspass.core.errors import Code, Refusal
from presspass.core.limits import JSON_BODY_BYTES_MAX
from presspass.core.roster import Roster
from presspass.core.statement import HEAD_AT_GENESIS, GenesisBody, Heads, Intent, Statement
from presspass.core.strict import Members
from presspass.services.config import Config

_IDENTITY: Final = "press/identity.json"
_LIFE_S: Final = 100 * 365 * 86_400  # genesis is sealed once; only what follows it expires


@dataclass(frozen=True, slots=True)
class Identity:
    """The press's public keys (raw Ed25519, hex) that genesis names."""

    log_key: str
    recovery_key: str


def keep_identity(home: Path, log_key: str, recovery_key: str) -> None:
    """Keeps the public keys for the seal. Nothing in it is secret."""
    path = home / _IDENTITY
    with path.open("x", encoding="utf-8") as file:
        json.dump({"log_key": log_key, "recovery_key": recovery_key}, file)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o600)


def read_identity(home: Path) -> Identity:
    """What `keep_identity` wrote; refuses with `home.missing` where there is none."""
    try:
        with (home / _IDENTITY).open("rb") as file:
            members = Members(json.loads(file.read(JSON_BODY_BYTES_MAX)), "press's identity")
    except (FileNotFoundError, ValueError):
        raise Refusal(
            Code.HOME_MISSING,
            f"{home} lacks a usable {_IDENTITY}.",
            "Make the home with `presspass init`.",
        ) from None
    identity = Identity(members.sha256("log_key"), members.sha256("recovery_key"))
    members.done()
    return identity


def genesis_statement(config: Config, identity: Identity, roster: Roster) -> Statement:
    """The statement that begins the installation; its digest is the trust root that users pin."""
    now = int(time.time())
    body = GenesisBody(
        origin=config.origin,
        rp_id=config.rp_id,
        roster=roster,
        policy=config.genesis,
        log_key=identity.log_key,
        recovery_key=identity.recovery_key,
    )
    statement = Statement(
        genesis=HEAD_AT_GENESIS,
        space=config.space,
        intent=Intent.APPROVE,
        body=body,
        heads=Heads(HEAD_AT_GENESIS, HEAD_AT_GENESIS, HEAD_AT_GENESIS),
        previous=None,
        nonce=secrets.token_hex(16),
        issued_at=now,
        expires_at=now + _LIFE_S,
    )
    return Statement.from_bytes(statement.to_bytes())


def make_links(home: Path, config: Config, people: Sequence[NamedPerson]) -> list[dict[str, Any]]:
    """Makes the gateway's database and one enrolment link for each of `people`; only while no gateway runs.

    Uses the gateway's own code, so that these links are the same as those of `presspass invite`.
    """
    from presspass.gateway import people as gateway_people
    from presspass.services import gateway

    with gateway.composed(gateway.Options(home), config) as gate:
        links = []
        for person in people:
            asked = {
                "person": "",
                "name": person.name,
                "addresses": list(person.addresses),
                "groups": [],
                "forge_ids": list(person.forge_ids),
            }
            secret, expires_ms = gateway_people.invite(gate, asked)
            url = f"{config.origin}/enrol#{secret}"
            links.append({"name": person.name, "url": url, "expires_at": expires_ms // 1000})
    return links
