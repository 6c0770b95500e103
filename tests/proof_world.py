"""An installation on paper: genesis, statements, signatures, a log and proofs, made without the press and its
database.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from presspass.core.approval import Approval
from presspass.core.digests import JsonObject, canonical, sha256_hex
from presspass.core.errors import Refusal
from presspass.core.ledger import merkle
from presspass.core.ledger.checkpoint import Checkpoint, sign
from presspass.core.policy import Policy
from presspass.core.quorum import Circumstances
from presspass.core.roster import Person, Roster
from presspass.core.signer import ATTESTATION
from presspass.core.statement import (
    HEAD_AT_GENESIS,
    Body,
    GenesisBody,
    Heads,
    Intent,
    ReleaseBody,
    ReleaseFile,
    RosterBody,
    Statement,
    UpstreamBody,
    signed_message,
)
from presspass.drill.world.keys import SoftwarePasskey
from presspass.verify.attestation import (
    PAYLOAD_TYPE,
    key_id,
    pre_authentication_encoding,
    statements,
)
from presspass.verify.chain import Chain
from presspass.verify.proof import (
    Entry,
    Proof,
    Record,
    SignedStatement,
    attestable,
)

ORIGIN, RP_ID = "https://gate.example", "gate.example"
NOW = 1_800_000_000
FILE = ReleaseFile("demo-1.0-py3-none-any.whl", sha256_hex(b"the wheel"), 9)


@dataclass
class Paper:
    """`names`: people with one virtual key each. `admit` moves the chain, `proof` publishes on paper."""

    names: Sequence[str] = ("ana", "ben", "cleo")
    policy: Policy = field(default_factory=lambda: Policy(software_keys=True))
    log_key: Ed25519PrivateKey = field(
        default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    )
    recovery_key: Ed25519PrivateKey = field(
        default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    )

    def __post_init__(self) -> None:
        self.keys = {
            name: SoftwarePasskey.generate(number) for number, name in enumerate(self.names, 1)
        }
        body = GenesisBody(
            ORIGIN,
            RP_ID,
            self.roster(),
            self.policy,
            raw_hex(self.log_key),
            raw_hex(self.recovery_key),
        )
        zero = Heads(HEAD_AT_GENESIS, HEAD_AT_GENESIS, HEAD_AT_GENESIS)
        self.genesis = Statement(
            HEAD_AT_GENESIS,
            "main",
            Intent.APPROVE,
            body,
            zero,
            None,
            secrets.token_hex(16),
            NOW,
            NOW + 600,
        )
        self.chain = Chain.begin(self.genesis)
        self.links: list[SignedStatement] = []

    def roster(self, without: Sequence[str] = ()) -> Roster:
        people = (
            Person(f"p-{name}", sha256_hex(name.encode()), (), (key.key,))
            for name, key in sorted(self.keys.items())
            if name not in without
        )
        return Roster(tuple(people))

    def statement(self, body: Body, **changes: Any) -> Statement:
        statement = Statement(
            self.genesis.digest,
            "main",
            Intent.APPROVE,
            body,
            self.chain.heads,
            None,
            secrets.token_hex(16),
            NOW,
            NOW + 600,
        )
        return replace(statement, **{"previous": self.chain.head_of(statement), **changes})

    def approve(self, statement: Statement, *names: str) -> tuple[Approval, ...]:
        return tuple(
            self.keys[name].approve(statement.to_bytes(), origin=ORIGIN, rp_id=RP_ID)
            for name in names
        )

    def recover(self, statement: Statement) -> Approval:
        signature = self.recovery_key.sign(signed_message(statement.to_bytes()))
        key = sha256_hex(bytes.fromhex(raw_hex(self.recovery_key)))
        return Approval(statement.digest, key, "recovery", signature)

    def admit(self, body: Body, *names: str, **changes: Any) -> Statement:
        statement = self.statement(body, **changes)
        approvals = self.approve(statement, *names)
        self.chain.admit(statement, approvals)
        self.links.append(SignedStatement(statement, approvals))
        return statement

    def change_roster(self, *names: str, without: Sequence[str] = ()) -> Statement:
        return self.admit(RosterBody(self.roster(without)), *names)

    def add_upstream(self, name: str = "main") -> Statement:
        url = "https://registry.example"
        body = UpstreamBody(
            name, "pypi", f"{url}/legacy/", f"{url}/simple/", "__token__", "custody", "ab" * 32
        )
        return self.admit(body, "ana", "ben")

    def release(
        self, files: Sequence[ReleaseFile] = (FILE,), requester: str = "p-ana", **changes: Any
    ) -> Statement:
        upstream = self.chain.upstreams["main"][0]
        body = ReleaseBody(
            secrets.token_hex(8),
            upstream,
            "demo",
            "1.0",
            tuple(files),
            (),
            requester,
            sha256_hex(b"report"),
        )
        return self.statement(body, **changes)

    def proof(
        self,
        statement: Statement,
        approvals: tuple[Approval, ...],
        claimed_at: int = NOW + 10,
        **changes: Any,
    ) -> Proof:
        """What a press would have written, had it published this; nothing is checked here."""
        body = statement.body_as(ReleaseBody)
        entry = Entry(
            statement.space,
            statement.digest,
            body.files,
            claimed_at,
            claimed_at + 2,
            self.chain.heads.roster,
            self.chain.heads.policy,
            "prevented",
            "not separated",
        )
        signed = SignedStatement(statement, approvals)
        proof = Proof(
            body.files[0].name,
            self.genesis,
            tuple(self.links),
            signed,
            self.record(entry),
            self.attest(signed, entry),
        )
        return replace(proof, **changes)

    def record(self, entry: Entry, before: int = 4) -> Record:
        nodes: dict[tuple[int, int], bytes] = {}
        written = [b"other %d" % number for number in range(before)]
        written.append(entry_bytes(entry))
        edge: list[bytes] = []
        for size, data in enumerate(written):
            for level, index, value in merkle.append(size, edge, merkle.leaf_hash(data)):
                nodes[level, index] = value
        total = len(written)
        root = merkle.root(total, lambda lv, ix: nodes[lv, ix])
        proof = merkle.inclusion_proof(before, total, lambda lv, ix: nodes[lv, ix])
        note = sign(
            Checkpoint(self.chain.log.origin, total, root),
            bytes.fromhex(raw_hex(self.log_key)),
            self.log_key.sign,
        )
        return Record(entry_bytes(entry), before, tuple(proof), note)

    def attest(self, signed: SignedStatement, entry: Entry) -> tuple[dict[str, Any], ...]:
        """What the press attests of it, in envelopes of the log key; nothing where it would not even count."""
        admitted = [link.statement for link in self.links]
        try:
            verdict = self.chain.evaluate(
                signed.statement, signed.approvals, counted(entry), signed.plans
            )
            about = attestable(self.chain, signed, admitted, entry, verdict)
        except (Refusal, StopIteration):
            return ()
        return tuple(self.envelope(one) for one in statements(about, self.sha512(signed), "0.0"))

    def attest_claimed(self, proof: Proof, claimed: tuple[SignedStatement, ...]) -> Any:
        """As `attest`, of a release that was claimed after `claimed` alone; the log has got another key since."""
        now, log = self.chain, self.chain.log
        admitted = [link.statement for link in claimed]
        then = Chain.after(self.genesis, admitted)
        entry = Entry.from_bytes(proof.record.entry)
        verdict = then.evaluate(proof.release.statement, proof.release.approvals, counted(entry))
        about = attestable(then, proof.release, admitted, entry, verdict)
        assert then.signer(ATTESTATION, log) == now.signer(ATTESTATION)
        made = statements(about, self.sha512(proof.release), "0.0")
        return tuple(self.envelope(one) for one in made)

    def sha512(self, signed: SignedStatement) -> dict[str, str]:
        files = signed.statement.body_as(ReleaseBody).files
        return {one.sha256: hashlib.sha512(one.sha256.encode()).hexdigest() for one in files}

    def envelope(self, statement: JsonObject, **changes: Any) -> dict[str, Any]:
        """A DSSE envelope of the log key."""
        payload = canonical({**statement, **changes})
        signature = self.log_key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
        signer = self.chain.signer(ATTESTATION)
        sig = base64.b64encode(signature).decode()
        return {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key_id(signer), "sig": sig}],
        }


def counted(entry: Entry) -> Circumstances:
    return Circumstances(workload=entry.workload)


def entry_bytes(entry: Entry) -> bytes:
    """The entry as it stands in the ledger."""
    return canonical(entry.to_json())


def raw_hex(key: Ed25519PrivateKey) -> str:
    """The public key, raw, hex."""
    return key.public_key().public_bytes_raw().hex()
