"""Resource limits and the user id of a confined process (setrlimit(2), setuid(2))."""

from __future__ import annotations

import os
import resource

NOBODY = 65534  # user and group that own nothing; the kernel's own overflow id


def is_root() -> bool:
    """True when this process may change its user id."""
    return os.geteuid() == 0


def drop_root() -> bool:
    """Becomes NOBODY for good; False when not root. Must come first: root is not bound by RLIMIT_NPROC."""
    if not is_root():
        return False
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return True


def limit(*, memory_bytes: int, cpu_s: int) -> None:
    """Caps memory and processor time; no file may be written, opened anew or dumped, no process started.

    Files that are open stay usable. The kernel ends the process with SIGXCPU after `cpu_s` seconds; at the hard
    limit it would be SIGKILL, which does not say why, so that one is a second later.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (most, most))
