"""RECORD, a wheel's list of its files and their hashes ("Recording installed projects", "Binary distribution format").

Installers copy what the archive holds, whatever RECORD says; a RECORD that tells another story than the archive is
how a file gets in unseen.
"""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from presspass.core.findings import Finding, Severity, finding
from presspass.core.limits import ARCHIVE_MEMBERS_MAX
from presspass.formats.archive import Member

# "RECORD.jws and RECORD.p7s … cannot contain hashes of themselves": nor can RECORD.
_NOT_HASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True, slots=True)
class RecordLine:
    """One line: `hash` as "sha256=…" or "", `size` as its digits or ""."""

    path: str
    hash: str
    size: str


def parse_record(data: bytes, path: str) -> tuple[tuple[RecordLine, ...], tuple[Finding, ...]]:
    """Reads the CSV. Lines of another shape are a finding and left out."""
    lines: list[RecordLine] = []
    try:
        rows = csv.reader(data.decode("utf-8").splitlines(), strict=True)
        for row in rows:
            if len(row) != 3:
                raise ValueError("a line without three fields")
            if len(lines) >= ARCHIVE_MEMBERS_MAX:
                raise ValueError(f"more than {ARCHIVE_MEMBERS_MAX} lines")
            lines.append(RecordLine(*row))
    except (ValueError, csv.Error) as error:
        message = "RECORD cannot be read to its end."
        return tuple(lines), (
            finding("record.unreadable", Severity.CRITICAL, path, message, str(error)),
        )
    return tuple(lines), ()


def compare_record(
    lines: Iterable[RecordLine], members: Iterable[Member], dist_info: str
) -> Iterator[Finding]:
    """Differences between RECORD and what the archive holds; `dist_info` is the folder that RECORD is in."""
    listed: dict[str, RecordLine] = {}
    for line in lines:
        if line.path in listed:
            message = "RECORD lists the file twice."
            yield finding("record.duplicate", Severity.HIGH, line.path, message)
        listed[line.path] = line
    exempt = {f"{dist_info}/{name}" for name in _NOT_HASHED}
    for member in members:
        line_of_it = listed.pop(member.path, None)
        if member.path in exempt:
            continue
        if line_of_it is None:
            message = "The file is in the wheel and RECORD does not list it."
            yield finding("record.missing", Severity.HIGH, member.path, message)
        else:
            yield from _compare_line(line_of_it, member)
    for path in sorted(listed.keys() - exempt):
        message = "RECORD lists the file and it is not in the wheel."
        yield finding("record.extra", Severity.MEDIUM, path, message)


def _compare_line(line: RecordLine, member: Member) -> Iterator[Finding]:
    algorithm, _, encoded = line.hash.partition("=")
    if algorithm != "sha256":
        message = "RECORD has no SHA-256 for the file, so its content was not compared."
        yield finding("record.no-hash", Severity.MEDIUM, member.path, message, line.hash)
    elif _unpadded_hex(encoded) != member.sha256:
        message = "The file does not have the hash that RECORD gives."
        yield finding("record.hash-mismatch", Severity.CRITICAL, member.path, message, line.hash)
    if line.size and line.size != str(member.size):
        message = "The file does not have the size that RECORD gives."
        evidence = f"RECORD {line.size}, file {member.size}"
        yield finding("record.size-mismatch", Severity.HIGH, member.path, message, evidence)


def _unpadded_hex(encoded: str) -> str:
    """Hex of urlsafe base64 without padding; "" when it is not that."""
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return ""
    return raw.hex()
