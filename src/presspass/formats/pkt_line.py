"""Packet lines, the frames of git's protocols (gitprotocol-common(5), gitprotocol-v2(5)), read from hostile bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from presspass.core.errors import Code, Refusal

_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
_LENGTH_BYTES = 4
_PACKET_BYTES_MAX = 65_520  # "the maximum length of a pkt-line", its own length included


class Mark(Enum):
    """A packet without content: what is written as 0000, 0001 and 0002."""

    FLUSH = b"0000"
    DELIMITER = b"0001"
    RESPONSE_END = b"0002"


def packet(text: str) -> bytes:
    """A line of a request, its line feed included; for short lines of our own."""
    data = text.encode() + b"\n"
    return b"%04x" % (len(data) + _LENGTH_BYTES) + data


def packets(data: bytes) -> Iterator[bytes | Mark]:
    """The packets that `data` consists of; refuses with `identity.workflow-unavailable` what is none."""
    at = 0
    while at < len(data):
        digits = data[at : at + _LENGTH_BYTES]
        if not _LENGTH.fullmatch(digits):
            raise _invalid("a packet has no length")
        length = int(digits, 16)
        if length < _LENGTH_BYTES:
            if length == 3:
                raise _invalid("a packet has a length that means nothing")
            yield Mark(digits)
            at += _LENGTH_BYTES
            continue
        if length > _PACKET_BYTES_MAX or at + length > len(data):
            raise _invalid("a packet is longer than it may be, or cut off")
        yield data[at + _LENGTH_BYTES : at + length]
        at += length


def _invalid(why: str) -> Refusal:
    return Refusal(Code.WORKFLOW_UNAVAILABLE, f"The git server's answer cannot be read: {why}.")
