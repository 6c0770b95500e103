"""Issuers' key sets: fetched on a schedule of their own, kept while an issuer is down, never empty.

1. Only issuers that a signed statement or the configuration names are ever dialled; a token's own `iss` causes nothing.
2. A good set stays until a better one comes, a day at most. What is down, slow, too large or empty changes nothing.
3. An unknown key id causes one look, and then none for a while, however many tokens ask: all of them wait for that one.

The gateway and the press each have a store of their own; neither takes a key from the other (law 1).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from presspass.core.errors import Code, Fault, Refusal
from presspass.core.limits import (
    KEY_SET_AGE_S_MAX,
    KEY_SET_COOL_DOWN_S,
    KEY_SET_REFRESH_S,
)
from presspass.formats.jwks import KeySet, parse_key_set
from presspass.issuers.fetching import fetch_key_set

_LOG = logging.getLogger("presspass.issuers")
Fetch = Callable[[str], bytes]
T = TypeVar("T")
_FIRST_PAUSE_S = 5.0


@dataclass(slots=True)
class _Known:
    """One issuer. `fetched_s`: when the set in use came; `tried_s`: the last attempt that a token caused, and
    `scheduled_s`: the last one by the schedule, whatever came of them.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    keys: KeySet | None = None
    fetched_s: float = float("-inf")
    tried_s: float = float("-inf")
    scheduled_s: float = float("-inf")
    trouble: str = ""


class KeySets:
    """The key sets of some issuers. Every method may be called from any thread; `clock` is monotonic seconds.

    `pinned`: key set documents by issuer that come from the configuration and are never fetched.
    """

    def __init__(
        self,
        fetch: Fetch = fetch_key_set,
        *,
        pinned: Mapping[str, bytes] | None = None,
        cool_down_s: float = KEY_SET_COOL_DOWN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._pinned = {issuer: parse_key_set(data) for issuer, data in (pinned or {}).items()}
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def keys(self, issuer: str, unknown_to: KeySet | None = None) -> KeySet:
        """The key set of an issuer that the caller has found in a signed statement.

        `unknown_to`: the set in which a token's key was not found: a newer one is looked for, if it is time. Refuses
        with `identity.keys-unavailable` while there is no usable set at all.
        """
        if issuer in self._pinned:
            return self._pinned[issuer]
        known = self._of(issuer)
        if known.keys is None or known.keys is unknown_to or self._is_old(known):
            self._look(issuer, known, unknown_to)
        if known.keys is None or self._clock() - known.fetched_s > KEY_SET_AGE_S_MAX:
            raise Refusal(
                Code.IDENTITY_UNAVAILABLE,
                f"The keys of {issuer} cannot be had: {known.trouble or 'the issuer does not answer'}.",
                "Nothing is wrong with the token; try again when the issuer answers.",
            )
        return known.keys

    def verified(self, issuer: str, check: Callable[[KeySet], T]) -> T:
        """What `check` makes of the issuer's keys; where it refuses with `identity.key-unknown`, of newer ones, if
        there are any. Refuses as `check` and `keys` do.
        """
        keys = self.keys(issuer)
        try:
            return check(keys)
        except Refusal as refusal:
            if refusal.code is not Code.IDENTITY_KEY_UNKNOWN:
                raise
            newer = self.keys(issuer, unknown_to=keys)
            if newer is keys:
                raise
        return check(newer)

    def refresh_due(self) -> None:
        """Fetches what is older than the schedule says: for a thread of housekeeping."""
        with self._lock:
            everybody = list(self._known.items())
        for issuer, known in everybody:
            if self._clock() - known.fetched_s >= KEY_SET_REFRESH_S:
                self._look(issuer, known, known.keys, scheduled=True)

    def watch(self, issuer: str) -> None:
        """Makes an issuer known, so that the schedule fetches its keys before the first token comes."""
        if issuer not in self._pinned:
            self._of(issuer)

    def _of(self, issuer: str) -> _Known:
        with self._lock:
            return self._known.setdefault(issuer, _Known())

    def _is_old(self, known: _Known) -> bool:
        return self._clock() - known.fetched_s > KEY_SET_AGE_S_MAX

    def _look(
        self, issuer: str, known: _Known, outdated: KeySet | None, *, scheduled: bool = False
    ) -> None:
        """One attempt at a time; who waited for it takes what came of it."""
        asked_s = self._clock()
        with known.lock:
            newer = known.keys is not None and known.keys is not outdated
            if newer and not self._is_old(known):
                return
            # Each cause has a pause of its own: a look by the schedule must not make the first token of a new key
            # wait. Without any set nothing can be exchanged at all: the next look comes sooner then.
            pause_s = self._cool_down_s if known.keys else min(self._cool_down_s, _FIRST_PAUSE_S)
            last_s = known.scheduled_s if scheduled else known.tried_s
            if last_s >= asked_s or self._clock() - last_s < pause_s:
                return
            try:
                keys = parse_key_set(self._fetch(issuer))
            except (Refusal, Fault) as error:
                known.trouble = error.message
                _LOG.warning("the keys of %s were not renewed: %s", issuer, error.message)
            else:
                if known.keys is not None and keys.key_ids != known.keys.key_ids:
                    _LOG.warning("%s has other keys now: %s", issuer, ", ".join(keys.key_ids))
                known.keys, known.trouble, known.fetched_s = keys, "", self._clock()
            finally:
                if scheduled:
                    known.scheduled_s = self._clock()
                else:
                    known.tried_s = self._clock()
