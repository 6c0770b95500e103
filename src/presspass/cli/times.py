"""Times as every command shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_TIME_S_MAX: Final = 253_402_300_799  # the end of the year 9999: later ones no calendar shows


def when(time_s: int) -> str:
    """Unix seconds as "2026-11-24 17:02:11 UTC"."""
    return datetime.fromtimestamp(min(time_s, _TIME_S_MAX), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
