"""What the gateway knows of the press: its journal, read-only, with the rules in force kept at hand.

The gateway's use of these rules is courtesy: it tells people early what the press would refuse later. The press
believes nothing of it and checks everything again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.engine import Connection

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.policy import Policy
from presspass.core.publisher import PublisherBody
from presspass.core.quorum import ORDINARY, Circumstances
from presspass.core.roster import Roster
from presspass.core.statement import Statement, UpstreamBody
from presspass.rules.document import RuleDocument
from presspass.rules.ruleset import RuleSet
from presspass.store import journal_view
from presspass.store.address import Place
from presspass.store.database import ChangeSignal, Reader, exists
from presspass.store.journal_view import Narrowing
from presspass.verify.chain import Chain

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force at one moment; `chain` is None before genesis is sealed."""

    chain: Chain | None = None
    genesis_digest: str = ""
    narrowings: tuple[Narrowing, ...] = ()
    cleared: frozenset[str] = frozenset()
    rebound: Mapping[str, str] = field(default_factory=dict)

    @property
    def sealed(self) -> bool:
        return self.chain is not None

    @property
    def roster(self) -> Roster:
        return _NOBODY if self.chain is None else self.chain.roster

    @property
    def policy(self) -> Policy:
        return _DEFAULT if self.chain is None else self.chain.policy

    @property
    def upstreams(self) -> dict[str, tuple[str, UpstreamBody]]:
        """Name to (digest of its statement, body)."""
        return {} if self.chain is None else self.chain.upstreams

    @property
    def publishers(self) -> dict[str, tuple[str, PublisherBody]]:
        """Name to (digest of its statement, body)."""
        return {} if self.chain is None else self.chain.publishers

    def trust(self) -> Chain:
        """The chain; refuses with `genesis.missing` before there is one."""
        if self.chain is None:
            raise Refusal(
                Code.GENESIS_MISSING,
                "This gate is not sealed yet: nobody can approve anything.",
                "Enrol the people, then seal it on the press's host with `presspass init --seal`.",
            )
        return self.chain


_NOBODY = Roster(())
_DEFAULT = Policy()


class Journal:
    """The press's journal. Every method may be called from any thread."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._reader = Reader(place)
        self._signal = ChangeSignal(place)
        self._lock = threading.Lock()
        self._rules = Rules()
        self._versions: dict[tuple[str, str], frozenset[str]] = {}
        self._rule_set: RuleSet | None = None
        self.refresh()

    @property
    def rules(self) -> Rules:
        """The rules as of the last `refresh`; no I/O."""
        return self._rules

    def refresh(self) -> bool:
        """Reads the rules again if the press has committed since; says whether it had.

        Before genesis the press may just be making its tables, and there are no rules to miss; afterwards
        Fault("store.unreadable") when it cannot be asked.
        """
        with self._lock:
            if not exists(self._place) or not self._signal.changed():
                return False
            try:
                # A new dict, not a cleared one: who still fills the old one fills it with what is now old.
                self._rules, self._versions = self._reader.run(_read_rules), {}
            except Fault:
                self._signal.close()  # ask again next time
                if (
                    self._rules.sealed
                ):  # who cannot hear what was revoked goes on with nothing (law 8)
                    raise
            return True

    def now(self) -> Rules:
        """`refresh`, then the rules."""
        self.refresh()
        return self._rules

    def read(self, work: Callable[[Connection], T]) -> T:
        """`work` on one consistent snapshot of the journal. Fault("store.unreadable") when it cannot be read."""
        return self._reader.run(work)

    def cleared(self) -> frozenset[str]:
        """Ids of the narrowings that a quorum has ended, as of the last `refresh`."""
        return self._rules.cleared

    def bound_workflow(self, statement: str, body: PublisherBody) -> str:
        """SHA-256 of the workflow that counts for a publisher: its statement's, or what a release bound since."""
        return self._rules.rebound.get(statement, body.workflow_sha256)

    def circumstances(self, statement: Statement) -> Circumstances:
        """What counts beside signatures under a statement, as the press's journal says it now."""
        suspended = any(one.what == "person" for one in self._rules.narrowings)
        policies = self._rules.chain.policies.values() if self._rules.chain else ()
        asked = any(one.approving.asks_risk or one.approving.asks_time for one in policies)
        if not suspended and not asked and getattr(statement.body, "asked_by", None) is None:
            return ORDINARY
        now_ms = int(time.time() * 1000)
        return self.read(lambda c: journal_view.around(c, statement, now_ms))

    def is_to_be_read(self, statement: str) -> bool:
        """Whether this release went out under a standing approval, was chosen to be read, and nobody has."""
        rules = self._rules
        if rules.chain is None or not rules.chain.standings:
            return False
        waiting = self.read(journal_view.to_be_read)
        return any(one.statement == statement for one in waiting)

    def published(self, upstream: str, project: str, version: str) -> dict[str, str]:
        """Names and SHA-256 of what the press has published of this version, as of the last `refresh` or later.

        Most versions are new: that a version is not among a project's is known without asking the journal each time.
        """
        if not self._rules.sealed:
            return {}
        if version not in self.versions(upstream, project):
            return {}
        return self.read(lambda c: journal_view.published_files(c, upstream, project, version))

    def versions(self, upstream: str, project: str) -> frozenset[str]:
        """Every version of a project that the press has published, as of the last `refresh` or later."""
        versions, key = self._versions, (upstream, project)
        if key not in versions:
            versions[key] = self.read(
                lambda c: journal_view.published_versions(c, upstream, project)
            )
        return versions[key]

    def rule_set(self) -> RuleSet | None:
        """What the policy in force asks beyond the quorum; None where it asks nothing."""
        digest = self._rules.policy.rules
        known = self._rule_set
        if digest is None or (known is not None and known.document.digest == digest):
            return known if digest else None
        data = self.read(lambda c: journal_view.rules(c, digest))
        if data is None:
            raise Refusal(Code.POLICY_RULES_MISSING, "The rules in force are not here.")
        self._rule_set = RuleSet.of(RuleDocument.from_bytes(data))
        return self._rule_set

    def close(self) -> None:
        """Closes the database."""
        self._signal.close()
        self._reader.close()


def _read_rules(connection: Connection) -> Rules:
    chain = Chain.of(journal_view.chained(connection))
    if chain is None:
        return Rules()
    return Rules(
        chain,
        chain.genesis.digest,
        tuple(journal_view.narrowings(connection)),
        journal_view.cleared(connection),
        journal_view.rebound_workflows(connection),
    )
