"""The press: it looks for what it is asked, checks everything itself, and is the only one that acts.

One loop. Each turn, in this order, because stopping wins over starting:
1. narrowings: the drop box, vetoes and freezes from the gateway; latched at once, whatever the clock says;
2. time: while the clock cannot be trusted, nothing else happens;
3. orders from the press's own host (genesis, credentials, recovery);
4. statements: first sight journalled, signatures counted, chains moved, releases approved;
5. publications that are due, each in a thread of its own under a lease, and reminders of what nobody decides;
6. what passed under standing approvals and is to be read afterwards;
7. notices, and cosignatures of witnesses, each in a thread of its own.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field

from presspass.core.errors import Refusal
from presspass.press import journal
from presspass.press.after_reviews import AfterReviews
from presspass.press.aside import Aside
from presspass.press.books import Books
from presspass.press.clock import Clock
from presspass.press.decisions import Decisions
from presspass.press.desk import Desk
from presspass.press.doors import Doors
from presspass.press.forges import Forges
from presspass.press.heads import Heads
from presspass.press.narrowings import Narrowings
from presspass.press.outbox import Outbox
from presspass.press.pending import Pending
from presspass.press.publication import Tools
from presspass.press.publications import Publications
from presspass.press.reminders import Reminders
from presspass.press.witnesses import Witnesses
from presspass.press.workloads import Workloads
from presspass.store import journal_view as view

_LOG = logging.getLogger("presspass.press")


@dataclass(slots=True)
class Press:
    """One press process. `tick` does one turn; its parts are handed in by `services.press`."""

    books: Books
    clock: Clock
    narrowings: Narrowings
    desk: Desk
    pending: Pending
    decisions: Decisions
    publications: Publications
    workloads: Workloads
    doors: Doors
    heads: Heads
    after_reviews: AfterReviews
    forges: Forges
    witnesses: Witnesses
    outbox: Outbox
    reminders: Reminders
    _jumps_kept: tuple[tuple[int, int], ...] | None = None
    _notices: Aside = field(init=False)
    _cosigning: Aside = field(init=False)

    def __post_init__(self) -> None:
        self._notices = Aside("notices", self._tell)
        self._cosigning = Aside("witnesses", lambda _now_ms: self.witnesses.look())

    def tick(self) -> None:
        """One turn. Raises Fault only when the journal cannot be written: then the process ends and starts anew."""
        self.narrowings.look_dropped()
        self.narrowings.look_gateway()
        found = self.pending.look()
        try:
            now_ms = self.clock.now_ms()
        except Refusal as refusal:
            _LOG.error("%s", refusal.message)
            return
        finally:
            self._keep_jumps()
        self.publications.renew_leases(now_ms)
        if self.desk.log_keys.is_next_there:
            self.desk.log_keys.settle(self.books.read(self.books.log.in_force).key)
        self.desk.serve(now_ms)
        chain = self.books.read(journal.load_chain)
        if chain is not None:
            self.decisions.recover(now_ms)
            for ask in found:
                self.decisions.consider(ask, now_ms)
            self.publications.turn(found, now_ms)
            self.reminders.look(found, now_ms)
            self.after_reviews.look(now_ms)
            self._notices.begin(now_ms)
            if self.witnesses.witnesses:
                self._cosigning.begin(now_ms)

    @property
    def busy(self) -> bool:
        """Whether a publication is under way: then its end is looked for at every turn."""
        return self.publications.busy

    @property
    def tools(self) -> Tools:
        """What publications work with."""
        return self.publications.tools

    def close(self) -> None:
        """Lets publications under way finish, then ends."""
        for aside in (self._notices, self._cosigning):
            aside.closing.set()
        self.publications.close()
        for aside in (self._notices, self._cosigning):
            aside.close()

    def _keep_jumps(self) -> None:
        """The clock's jumps outlive the process: no delay is shortened by one, nor by a restart after it."""
        if self._jumps_kept is None:
            stored = json.loads(self.books.read(view.fact, view.CLOCK_JUMPS) or "[]")
            self._jumps_kept = tuple((int(at_ms), int(skipped_ms)) for at_ms, skipped_ms in stored)
            self.clock.jumps = self._jumps_kept + self.clock.jumps
        if self.clock.jumps != self._jumps_kept:
            jumps = self.clock.jumps
            self.books.writer.run(
                lambda c: journal.set_fact(c, view.CLOCK_JUMPS, json.dumps(jumps))
            )
            self._jumps_kept = jumps

    def _tell(self, now_ms: int) -> int:
        self.forges.look(now_ms)
        ending = self._notices.closing.is_set
        return self.outbox.deliver_due(now_ms, ending)
