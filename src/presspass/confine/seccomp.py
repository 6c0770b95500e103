"""seccomp: which system calls this process may still make (seccomp(2); filters in classic BPF).

A filter looks at the processor first: on another one the same number is another call. Refused calls fail with
EPERM, so that a refused library says so. clone3 fails with ENOSYS: its flags are behind a pointer that a filter
cannot read, and the C library then falls back to clone.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable, Sequence

from presspass.confine import kernel

_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = (
    0x20,
    0x15,
    0x35,
    0x45,
    0x06,
)  # BPF_LD|W|ABS, BPF_JMP|…|K, BPF_RET|K
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = (
    0,
    4,
    16,
)  # struct seccomp_data; little-endian: low half first
_X32_BIT = 0x40000000
_PROT_EXEC, _AF_UNIX, _AF_INET, _AF_INET6 = 4, 1, 2, 10
_NOT_STREAM = 0b1110  # of a socket's type: SOCK_STREAM alone has none of these bits
_TYPES_INTO_TERMINALS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: <asm-generic/ioctls.h>

# All that an inspection needs once its files are open: read them, write to its pipe, manage memory, end.
_INSPECTION = (
    "brk",
    "clock_gettime",
    "close",
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "madvise",
    "mremap",
    "munmap",
    "pread64",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sigaltstack",
    "write",
)
# No process of ours needs these: other processes' memory, kernel modules, mounts, namespaces, clocks, io_uring.
_DANGEROUS = (
    "acct",
    "add_key",
    "bpf",
    "chroot",
    "clock_settime",
    "delete_module",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "modify_ldt",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "umount2",
    "unshare",
    "userfaultfd",
)
_Program = list[bytes]


def available() -> bool:
    """True when the kernel takes filters and this processor's system call numbers are known."""
    try:
        kernel.call("seccomp", _GET_ACTION_AVAILABLE, 0, _buffer(struct.pack("=L", _KILL_PROCESS)))
    except OSError:
        return False
    return True


def allow_inspection_only() -> bool:
    """Leaves this process what an inspection needs and nothing else. False when there is no seccomp."""
    program = [*_returning("clone3", _ERRNO | errno.ENOSYS)]
    for name in ("mmap", "mprotect"):  # memory yes, but never new machine code
        program += _by_argument(name, 2, _ANY_BIT, (_PROT_EXEC,), _refused(), _ALLOW)
    program += _each(_INSPECTION, _ALLOW)
    return _install(program, otherwise=_refused())


def deny_dangerous(
    *, internet: bool, execute: bool, new_sockets: bool = True, local_sockets: bool = True
) -> bool:
    """Takes calls away that none of our processes needs; without `internet` all sockets but Unix ones.

    Without `new_sockets` none is opened or connected any more. Pairs of stream sockets remain, which lead nowhere
    else; a datagram one could still be pointed at any address. Without `local_sockets` the new ones are of the internet
    alone: no Unix socket of anybody is reached. False when there is no seccomp.
    """
    program = _each(_DANGEROUS, _refused())
    program += _by_argument("ioctl", 1, _EQUAL, _TYPES_INTO_TERMINALS, _refused(), _ALLOW)
    if not new_sockets:
        program += _each(("connect", "socket"), _refused())
        program += _by_argument("socketpair", 1, _ANY_BIT, (_NOT_STREAM,), _refused(), _ALLOW)
    elif internet and not local_sockets:
        families = (_AF_INET, _AF_INET6)
        program += _by_argument("socket", 0, _EQUAL, families, _ALLOW, _refused())
        program += _by_argument("socketpair", 1, _ANY_BIT, (_NOT_STREAM,), _refused(), _ALLOW)
    elif not internet:
        program += _by_argument("socket", 0, _EQUAL, (_AF_UNIX,), _ALLOW, _refused())
    if not execute:
        program += _each(("execve", "execveat"), _refused())
    return _install(program, otherwise=_ALLOW)


def _refused() -> int:
    return _ERRNO | errno.EPERM


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter; jumps count the instructions to pass over."""
    return struct.pack("=HBBL", code, if_true, if_false, value)


def _each(names: Iterable[str], action: int) -> _Program:
    return [step for name in names for step in _returning(name, action)]


def _returning(name: str, action: int) -> _Program:
    number = kernel.number(name)
    return [] if number is None else [_step(_EQUAL, number, 0, 1), _step(_RETURN, action)]


def _by_argument(
    name: str, argument: int, test: int, values: Sequence[int], if_true: int, if_false: int
) -> _Program:
    """Ends in `if_true` when the argument (its low 32 bits) passes `test` for one of `values`, else in `if_false`."""
    number = kernel.number(name)
    if number is None:
        return []
    steps = [_step(_LOAD, _AT_ARGUMENTS + 8 * argument)]
    for value in values:
        steps += [_step(test, value, 0, 1), _step(_RETURN, if_true)]
    steps.append(_step(_RETURN, if_false))
    return [_step(_EQUAL, number, 0, len(steps)), *steps]


def _install(program: _Program, *, otherwise: int) -> bool:
    if not available():
        return False
    machine = kernel.architecture() or ""
    steps = [
        _step(_LOAD, _AT_ARCHITECTURE),
        _step(_EQUAL, kernel.ARCHITECTURES[machine], 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _AT_NUMBER),
    ]
    if machine == "x86_64":  # the x32 spelling of each call shares the processor's code
        steps += [_step(_AT_LEAST, _X32_BIT, 0, 1), _step(_RETURN, _KILL_PROCESS)]
    steps += [*program, _step(_RETURN, otherwise)]
    code = _buffer(b"".join(steps))
    header = struct.pack("@HP", len(steps), ctypes.addressof(code))  # struct sock_fprog
    kernel.no_new_privileges()
    kernel.call("seccomp", _SET_MODE_FILTER, 0, _buffer(header))
    return True


def _buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data))
