"""Landlock: which files, TCP ports and processes this process may still reach (kernel: userspace-api/landlock).

Unprivileged and one-way. It leaves `stat` and, for root, `chmod` open; seccomp and another user id cover those.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from presspass.confine import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_REMOVE_AND_MAKE = 0b1_1111_1111 << 4  # REMOVE_DIR … MAKE_SYM
_MAKE_DEVICES = 1 << 6 | 1 << 11  # MAKE_CHAR, MAKE_BLOCK: handled, and never given
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _REFER | (_REMOVE_AND_MAKE & ~_MAKE_DEVICES)
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1
_RULE_PATH, _RULE_PORT = 1, 2
_ASK_VERSION = 1


@dataclass(frozen=True, slots=True)
class Rights:
    """What is left after `restrict`. `write` includes reading; ports None: any."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    connect: tuple[int, ...] | None = ()
    bind: tuple[int, ...] | None = ()
    signal_outside: bool = False


def abi() -> int:
    """The kernel's Landlock version; 0 when it has none or it is switched off."""
    try:
        return kernel.call("landlock_create_ruleset", None, 0, _ASK_VERSION)
    except OSError:
        return 0


def restrict(rights: Rights) -> bool:
    """Applies `rights` to this thread and all it will start. False when the kernel has no Landlock."""
    version = abi()
    if version == 0:
        return False
    files = _handled_files(version)
    ports = (_CONNECT_TCP if rights.connect is not None else 0) | (
        _BIND_TCP if rights.bind is not None else 0
    )
    scope = _SCOPE_ABSTRACT_SOCKETS | (0 if rights.signal_outside else _SCOPE_SIGNALS)
    # struct landlock_ruleset_attr grew at its end: the kernel refuses a longer one than it knows.
    attributes = struct.pack("=QQQ", files, ports, scope)[
        : 8 if version < 4 else 16 if version < 6 else 24
    ]
    ruleset = kernel.call("landlock_create_ruleset", _buffer(attributes), len(attributes), 0)
    try:
        for path, wanted in _path_rules(rights):
            _allow_path(ruleset, path, wanted & files)
        for port, wanted in _port_rules(rights) if version >= 4 else ():
            _add_rule(ruleset, _RULE_PORT, struct.pack("=QQ", wanted, port))
        kernel.no_new_privileges()
        kernel.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _handled_files(version: int) -> int:
    """Every file right that this ABI knows, so that what is not given is refused."""
    rights = _EXECUTE | _WRITE_FILE | _READ | _REMOVE_AND_MAKE
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        rights |= right if version >= since else 0
    return rights


def _path_rules(rights: Rights) -> Iterator[tuple[str, int]]:
    for paths, wanted in (
        (rights.read, _READ),
        (rights.write, _WRITE),
        (rights.execute, _READ | _EXECUTE),
    ):
        for path in paths:
            yield path, wanted


def _port_rules(rights: Rights) -> Iterator[tuple[int, int]]:
    for ports, wanted in ((rights.connect, _CONNECT_TCP), (rights.bind, _BIND_TCP)):
        for port in ports or ():
            yield port, wanted


def _allow_path(ruleset: int, path: str, wanted: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            wanted &= _FILE_RIGHTS
        _add_rule(ruleset, _RULE_PATH, struct.pack("=Qi", wanted, fd))
    finally:
        os.close(fd)


def _add_rule(ruleset: int, kind: int, rule: bytes) -> None:
    kernel.call("landlock_add_rule", ruleset, kind, _buffer(rule), 0)


def _buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data))
