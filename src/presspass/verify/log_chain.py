"""What shows how the log came by its name and key: genesis, and the signed statements that lead to the last about it.

A gate serves it beside the checkpoint, since a checkpoint alone does not say why its key is the right one. Proofs carry
the same statements in their chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from presspass.core.digests import canonical, parse_canonical
from presspass.core.errors import Code, Refusal
from presspass.core.limits import PROOF_BYTES_MAX
from presspass.core.statement import Kind, Statement
from presspass.core.strict import Members
from presspass.verify.chain import Chain, needed_for
from presspass.verify.proof import CHAIN_MAX, SignedStatement

FORMAT: Final = "presspass/log-chain/v1"
_WHAT: Final = "chain of the log"


def leading_to_log(admitted: Sequence[Statement]) -> list[Statement]:
    """Those of these statements (in order, after genesis) that lead to the log in force; [] where that is genesis'."""
    last = max((n for n, one in enumerate(admitted, 1) if one.kind is Kind.LOG), default=0)
    return needed_for(admitted[:last], ())


@dataclass(frozen=True, slots=True)
class LogChain:
    """As it was served; nothing in it is believed yet. `chain` as `leading_to_log` gives it."""

    genesis: Statement
    chain: tuple[SignedStatement, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical bytes of the file."""
        return canonical(
            {
                "chain": [signed.to_json() for signed in self.chain],
                "format": FORMAT,
                "genesis": self.genesis.to_bytes().decode(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> LogChain:
        """Reads canonical bytes; anything else is refused."""
        members = Members(parse_canonical(data, bytes_max=PROOF_BYTES_MAX, what=_WHAT), _WHAT)
        members.choice("format", (FORMAT,))
        genesis = members.take("genesis")
        if not isinstance(genesis, str):
            members.refuse("has no genesis text")
        found = cls(
            Statement.from_bytes(genesis.encode("utf-8", "surrogatepass")),
            members.items("chain", SignedStatement.from_json, count_max=CHAIN_MAX),
        )
        members.done()
        return found

    def check(self, trust_root: str) -> Chain:
        """The chains that it comes to, every statement admitted by a quorum; refuses where one was not, or where it
        begins with another genesis than the pinned one (`trust_root`: its digest, hex).
        """
        if self.genesis.digest != trust_root:
            raise Refusal(
                Code.PROOF_INVALID,
                "The log's chain comes from another installation than the one you trust.",
                "Compare the trust root with the one you pinned.",
            )
        chain = Chain.begin(self.genesis)
        for signed in self.chain:
            chain.admit(signed.statement, signed.approvals)
        return chain
