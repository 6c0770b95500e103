"""Which installation stands behind a gate's address: remembered at the first signature, compared at every later one.

`$XDG_CONFIG_HOME/presspass/known-gates.json` (0600): the gate's origin to the SHA-256 of its genesis. As with SSH's
known hosts the first time is believed, unless --trust names a genesis that came another way; that one counts, and
replaces what is remembered.
"""

from __future__ import annotations

from pathlib import Path

from presspass.cli.own_files import ByGate, origin_of
from presspass.cli.show import grouped, note, safe, say
from presspass.core.digests import is_sha256
from presspass.core.errors import Code, Refusal
from presspass.core.limits import STATEMENT_BYTES_MAX

_KNOWN = ByGate(
    name="known-gates",
    values="digests",
    is_value=is_sha256,
    remedy="Repair it, or remove it and compare fingerprints anew.",
)


def check_installation(base: str, genesis: str, trust: Path | None) -> None:
    """Refuses (`statement.foreign-genesis`) unless `genesis` is that of the gate at `base`; shows it the first time."""
    if trust is not None:
        return _check_pinned(genesis, trust)
    origin = origin_of(base)
    known = _KNOWN.read().get(origin)
    if known is None:
        say(f"  this machine has not signed for {safe(origin)} before. Its installation (genesis):")
        say(f"    {grouped(genesis)}")
        say("  compare it with what you were given (sha256sum trust-root.json); it is remembered.")
    elif known != genesis:
        raise Refusal(
            Code.STATEMENT_FOREIGN,
            f"{origin} shows another installation than the one remembered for it: {genesis[:16]}…, not {known[:16]}….",
            "Do not sign. If the gate was really set up anew, get its trust-root.json from a person you trust and give "
            f"it with --trust: it then takes the place of what is remembered in {_KNOWN.path}.",
        )
    return None


def remember_installation(base: str, genesis: str) -> None:
    """Remembers what was signed for. Where that cannot be written, says so and goes on: next time is a first time."""
    origin = origin_of(base)
    try:
        known = _KNOWN.read()
        if known.get(origin) != genesis:
            _KNOWN.write({**known, origin: genesis})
    except OSError as error:
        note(f"the gate's installation could not be remembered in {_KNOWN.path}: {error.strerror}")


def _check_pinned(genesis: str, trust: Path) -> None:
    from presspass.verify.proof import load_trust_root

    with trust.open("rb") as file:
        pinned = load_trust_root(file.read(STATEMENT_BYTES_MAX + 1))
    if pinned != genesis:
        raise Refusal(
            Code.STATEMENT_FOREIGN,
            f"The request belongs to installation {genesis[:16]}…; {trust} is {pinned[:16]}….",
            "Do not sign; tell the operators of the gate.",
        )
