"""What every part of the gateway is given: one frozen value, made once by the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from presspass.core.limits import FILE_BYTES_MAX
from presspass.gateway.events import Events
from presspass.gateway.journal import Journal
from presspass.gateway.tokens import Right
from presspass.issuers import KeySets
from presspass.store.blobs import Blobs
from presspass.store.database import Writer


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Gate:
    """`origin`, `rp_id`, `space`: as configured; once sealed, genesis says origin and rp_id (`site`).

    `pool`: threads for the disk work of uploads. `clock`: milliseconds since the epoch. `upload_origin`: where packages
    are uploaded, "" where that is the origin. `trusted_proxies`: whose X-Forwarded-* headers are believed.
    `next_origin`: where keys may be enrolled for a move that is not in force yet, "" for nowhere.
    """

    origin: str
    rp_id: str
    space: str
    writer: Writer
    journal: Journal
    blobs: Blobs
    events: Events
    pool: Executor
    clock: Callable[[], int] = field(default=wall_clock_ms)
    file_bytes_max: int = FILE_BYTES_MAX
    zones_separated: bool = False
    key_sets: KeySets = field(default_factory=KeySets)
    upload_origin: str = ""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    next_origin: str = ""

    @property
    def site(self) -> tuple[str, str]:
        """The origin that passkeys are bound to, and its RP id."""
        chain = self.journal.rules.chain
        return (self.origin, self.rp_id) if chain is None else chain.site

    @property
    def console_origins(self) -> frozenset[str]:
        """Where pages are served: the origin in force, and on a move the one before and the one to come."""
        return frozenset({self.site[0], self.origin, self.next_origin} - {""})

    @property
    def upload_site(self) -> str:
        """The origin that clients upload to."""
        return self.upload_origin or self.site[0]

    def projects_of(self, right: Right) -> tuple[str, ...]:
        """The projects that a right may be for: a pass's publisher says it, as it stands now."""
        chain = self.journal.rules.chain
        found = chain.publishers.get(right.publisher) if chain and right.publisher else None
        return (right.project,) if not right.publisher else found[1].projects if found else ()

    def release_url(self, release: str) -> str:
        """The page of a release."""
        return f"{self.site[0]}/r/{release}"

    def request_url(self, digest: str) -> str:
        """The page of another statement."""
        return f"{self.site[0]}/q/{digest}"
