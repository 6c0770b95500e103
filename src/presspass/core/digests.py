"""Digests and the canonical form (RFC 8785) that everything signed is written in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from presspass.core.errors import Code, Refusal

JsonObject = dict[str, Any]

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
#: RFC 8785 section 3.2.2.3: beyond this, JSON numbers stop being exact.
INTEGER_MAX: Final = 2**53 - 1


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def is_sha256(text: object) -> bool:
    """True for exactly 64 lower-case hex digits; no other spelling of a digest is accepted anywhere."""
    return isinstance(text, str) and _SHA256_HEX.fullmatch(text) is not None


def canonical(value: Mapping[str, Any]) -> bytes:
    """`value` in the JSON Canonicalization Scheme (RFC 8785), UTF-8 bytes."""
    plain = _plain(value)
    if plain is not None:
        return plain
    import rfc8785  # not loaded where only plain values are read and written, as in most proofs

    return rfc8785.dumps(dict(value))


def is_canonical_of(data: bytes, value: Mapping[str, Any]) -> bool:
    """Whether `data` is the canonical form of `value`, which has no numbers in it: what is written alike then is alike,
    and need not be read again.
    """
    return _plain_text(value) == data or canonical(value) == data


def parse_canonical(data: bytes, *, bytes_max: int, what: str) -> JsonObject:
    """Reads canonical JSON and nothing else.

    A second spelling of the same value would have a second digest, so bytes that are not already canonical
    (duplicate members, spaces, other number forms: RFC 8785 section 3.2) are refused with `statement.malformed`.
    """
    if len(data) > bytes_max:
        raise Refusal(
            Code.STATEMENT_MALFORMED, f"The {what} has {len(data)} bytes; the limit is {bytes_max}."
        )
    try:
        value = _read_plain(data.decode("utf-8"))
        if isinstance(value, dict) and _plain_text(value) == data:
            return value
    except (ValueError, RecursionError):
        pass  # what is wrong, if anything is, is told by the exact reader
    return _parse_any(data, what)


def _parse_any(data: bytes, what: str) -> JsonObject:
    import rfc8785

    try:
        value = json.loads(data.decode("utf-8"))
        again = canonical(value) if isinstance(value, dict) else b""
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise Refusal(
            Code.STATEMENT_MALFORMED, f"The {what} is not canonical JSON: {error}."
        ) from None
    if again != data:
        raise Refusal(Code.STATEMENT_MALFORMED, f"The {what} is not in canonical form (RFC 8785).")
    result: JsonObject = value
    return result


# Of whole numbers and of characters below U+10000 the standard library itself writes the canonical form: the same
# escapes (RFC 8785 section 3.2.2.2), no spaces, and names in the order of code points, which is UTF-16's for these
# (section 3.2.3). Its writer is twenty times as fast; whatever else there is goes to the exact one.


def _plain(value: Mapping[str, Any]) -> bytes | None:
    """The canonical form of a plain value; None where the value is not plain, or is no JSON."""
    try:
        data = _plain_text(value)
        same = data is not None and _read_plain(data.decode()) == value
    except (TypeError, ValueError, RecursionError):
        return None
    return data if same else None


def _plain_text(value: Mapping[str, Any]) -> bytes | None:
    text = _write_plain(value)
    # UTF-16 writes characters from U+10000 on as two units. To look for them one by one would take five times as long.
    if not text.isascii() and len(text.encode("utf-16-le")) != 2 * len(text):
        return None
    return text.encode()


def _exact_integer(text: str) -> int:
    number = int(text)
    if abs(number) > INTEGER_MAX:
        raise ValueError
    return number


def _not_plain(text: str) -> NoReturn:
    raise ValueError(text)


_read_plain = json.JSONDecoder(
    parse_int=_exact_integer, parse_float=_not_plain, parse_constant=_not_plain
).decode
_write_plain = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":")
).encode
