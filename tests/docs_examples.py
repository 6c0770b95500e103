"""The examples of docs/reference/statement.md: statements made by the code itself, and parts of a real proof.

The proof lies in docs/reference/example with its file and trust root, as a gate wrote them (by the walk-through of
docs/first-gate.md). It must verify for ever. `python tests/docs_examples.py` writes the examples into the page anew.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from presspass.core.digests import sha256_hex
from presspass.core.plan import PlanBody
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.roster import Details, Person, Roster
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    Body,
    BundleBody,
    FreezeBody,
    GenesisBody,
    Heads,
    Intent,
    Member,
    OriginBody,
    PolicyBody,
    ReleaseBody,
    ReleaseFile,
    RosterBody,
    Statement,
    UpstreamBody,
)
from presspass.drill.world.keys import SoftwarePasskey

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "statement.md"
EXAMPLE = PAGE.parent / "example"
FILE = EXAMPLE / "demo-1.0.tar.gz"
BLOCK = re.compile(r"<!-- example: ([\w.]+) -->\n\n```(?:json|text)\n(.*?)```\n", re.DOTALL)

ORIGIN, RP_ID = "https://gate.example", "gate.example"
ISSUED_AT, LIFE_S = 1_795_000_000, 7 * 86_400
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def passkey(number: int) -> SoftwarePasskey:
    """Ana is 1, Ben is 2, Ben's second key is 3; 4 and 5 are theirs at another address."""
    return SoftwarePasskey.generate(number)


def person(name: str, *numbers: int) -> Person:
    details = Details(
        name, (f"mailto:{name.lower()}@team.example",), (), sha256_hex(name.encode())[:32]
    )
    keys = sorted((passkey(number).key for number in numbers), key=lambda key: key.id)
    keys = [replace(key, kind="passkey") for key in keys]
    return Person(f"p-{name.lower()}", details.commitment, ("approvers",), tuple(keys))


ROSTER = Roster((person("Ana", 1), person("Ben", 2)))


PUBLISHER = PublisherBody(
    name="demo-ci",
    upstream="main",
    projects=("demo",),
    issuer="https://issuer.example",
    provider="github",
    ids=(("repository_id", "1001"), ("repository_owner_id", "501")),
    repository="team/demo",
    repository_url="https://forge.example/team/demo.git",
    workflow=".github/workflows/release.yml",
    workflow_sha256=sha256_hex(b"workflow"),
    refs=("refs/tags/v*",),
    protected_refs_only=True,
    events=("push",),
    environment="release",
    self_hosted=False,
)


def genesis() -> Statement:
    body = GenesisBody(
        ORIGIN,
        RP_ID,
        ROSTER,
        Policy(),
        LOG_KEY.public_key().public_bytes_raw().hex(),
        sha256_hex(b"recovery"),
    )
    heads = Heads(HEAD_AT_GENESIS, HEAD_AT_GENESIS, HEAD_AT_GENESIS)
    expires_at = ISSUED_AT + LIFE_S
    return Statement(
        HEAD_AT_GENESIS, "main", Intent.APPROVE, body, heads, None, "0" * 32, ISSUED_AT, expires_at
    )


def after_genesis(number: int, body: Body, *, chained: bool = False) -> Statement:
    root = genesis().digest
    return Statement(
        genesis=root,
        space="main",
        intent=Intent.APPROVE,
        body=body,
        heads=Heads(root, root, root),
        previous=root if chained else None,
        nonce=f"{number:032x}",
        issued_at=ISSUED_AT,
        expires_at=ISSUED_AT + LIFE_S,
    )


def statements() -> dict[str, Statement]:
    """One statement of each kind."""
    upstream = UpstreamBody(
        "main",
        "pypi",
        "https://registry.example/legacy/",
        "https://registry.example/simple/",
        "__token__",
        "custody",
        sha256_hex(b"commitment to the credential"),
    )
    added = after_genesis(1, upstream, chained=True)
    root, quicker = genesis().digest, PolicyBody(replace(Policy(), quiet_period_s=60))
    file = ReleaseFile("demo-1.0.tar.gz", sha256_hex(b"demo 1.0"), 1234)
    release = ReleaseBody(
        "k5zq2n7m4c6r3t8x", added.digest, "demo", "1.0", (file,), (), "p-ana", sha256_hex(b"report")
    )
    return {
        "genesis": genesis(),
        "upstream": added,
        "release": after_genesis(2, release),
        "roster": after_genesis(
            3, RosterBody(Roster((person("Ana", 1), person("Ben", 2, 3)))), chained=True
        ),
        "policy": after_genesis(4, PolicyBody(replace(Policy(), approvals=2)), chained=True),
        "freeze": after_genesis(5, FreezeBody("set", "demo", (), "token leaked")),
        "origin": after_genesis(
            6,
            OriginBody(
                "https://new.example", "new.example", Roster((person("Ana", 4), person("Ben", 5)))
            ),
            chained=True,
        ),
        "bundle": after_genesis(7, BundleBody((Member(PUBLISHER, root), Member(quicker, root)))),
        "plan": after_genesis(8, PlanBody(("ab" * 32, "cd" * 32), "held")),
    }


def examples() -> dict[str, Any]:
    """Name in the page to the value that stands there: a JSON value, or a text."""
    found: dict[str, Any] = {name: json.loads(one.to_bytes()) for name, one in statements().items()}
    for name in ("roster", "policy", "freeze", "origin", "bundle", "plan"):
        found[f"{name}.body"] = found.pop(name)["body"]
    proof = json.loads((EXAMPLE / f"{FILE.name}.presspass.json").read_bytes())
    found["approval"] = proof["release"]["approvals"][0]
    found["entry"] = json.loads(proof["record"]["entry"])
    found["checkpoint"] = proof["record"]["checkpoint"]
    found["envelope"] = proof["attestations"][0]
    found["summary"] = json.loads(base64.b64decode(proof["attestations"][0]["payload"]))
    return found


def rendered(value: Any) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    )


def written(page: str) -> str:
    """The page with every example made anew."""
    values = examples()

    def block(match: re.Match[str]) -> str:
        kind = "text" if isinstance(values[match[1]], str) else "json"
        return f"<!-- example: {match[1]} -->\n\n```{kind}\n{rendered(values[match[1]])}```\n"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
