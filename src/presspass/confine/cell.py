"""The cell: what a forked child does to itself before it opens hostile bytes. There is no way back out."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

from presspass.confine import kernel, landlock, rlimits, seccomp
from presspass.core import limits


def enter(parent: int, keep: Collection[int], null: int) -> None:
    """Gives up everything but the descriptors in `keep`. `null`: an open /dev/null that replaces 0, 1 and 2.

    Order matters: the user first (root ignores RLIMIT_NPROC), what opens files before RLIMIT_NOFILE is 0, the
    filter last, since it refuses the calls that set up the rest. Raises OSError; the caller must end then.
    """
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    _close_all_but({0, 1, 2, *keep})
    rlimits.drop_root()
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above took effect
        os._exit(1)
    kernel.not_dumpable()
    landlock.restrict(landlock.Rights())
    rlimits.limit(
        memory_bytes=limits.INSPECTION_MEMORY_BYTES_MAX, cpu_s=limits.INSPECTION_CPU_S_MAX
    )
    seccomp.allow_inspection_only()


def _close_all_but(keep: set[int]) -> None:
    position = 0
    for fd in [*sorted(keep), os.sysconf("SC_OPEN_MAX")]:
        if position < fd:  # closerange(0, 0) asks the kernel for 0..-1, which is every descriptor
            os.closerange(position, fd)
        position = fd + 1
