"""PyPI's legacy upload form, read as it arrives: hostile bytes in, the file's bytes and a small frozen value out.

Rules (multipart/form-data, RFC 7578; field names as PyPI's legacy API has them):

1. Exactly one part `content` with a file name. A second one, or a file under another name, is refused; a detached
   `gpg_signature` is read past, since old clients send one and nothing here uses it.
2. Fields may come in any order, before and after the file, and may repeat. Only `:action`, `protocol_version`, the
   three digests and `comment` are looked at. Two different values for one of them are a contradiction and refused.
3. Metadata in the form is ignored: it is the client's claim, and differs between clients. Attestations too.
4. Everything is limited: parts, headers of a part, bytes of a field, bytes of everything that is not the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from presspass.core.errors import Code, Refusal
from presspass.core.limits import (
    ASKER_NOTE_CHARS_MAX,
    FILE_BYTES_MAX,
    FORM_FIELD_BYTES_MAX,
    FORM_PART_HEADER_BYTES_MAX,
    FORM_PART_HEADERS_MAX,
    FORM_PARTS_MAX,
    FORM_TEXT_BYTES_MAX,
)

#: Form field and hex digits of each digest a client may send.
DIGESTS: Final = {"sha256_digest": 64, "blake2_256_digest": 64, "md5_digest": 32}
_COMMENT: Final = "comment"
_KEPT: Final = frozenset({":action", "protocol_version", _COMMENT, *DIGESTS})
_BOUNDARY = re.compile(r"[ -~]{1,200}")
_HEX = re.compile(r"[0-9a-f]+")
_AGAIN: Final = "Upload again with a current twine or uv."


@dataclass(frozen=True, slots=True)
class FileStart:
    """The file's part begins; `digests` are those that the form has named so far (field name to hex digits)."""

    filename: str
    digests: dict[str, str]


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A whole form. `digests`: field name to lower-case hex, every one that the client sent; `comment`: what whoever
    uploads has to say, unproved, for people to read.
    """

    filename: str
    digests: dict[str, str]
    size: int
    comment: str = ""


Event: TypeAlias = FileStart | bytes


class FormReader:
    """Reads one form piece by piece. Each method refuses with `request.malformed`, `.too-large` or `.unsupported`."""

    def __init__(self, content_type: str, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self.size = 0
        self._file_bytes_max = file_bytes_max
        self._received = 0
        self._fields: dict[str, str] = {}
        self._filename: str | None = None
        self._name, self._in_file = "", False
        self._text, self._field_bytes = bytearray(), 0
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
            raise _malformed("The upload is not a form (multipart/form-data with a boundary)")
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=FORM_PART_HEADER_BYTES_MAX,
            max_header_count=FORM_PART_HEADERS_MAX,
            max_segment_count=FORM_PARTS_MAX,
        )

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """What `chunk` adds: the start of the file, then its bytes in order. Consume it before the next call."""
        if not chunk:
            return
        self._received += len(chunk)
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    yield from self._begin(event)
                elif event is None:
                    self._end()
                elif self._in_file:
                    yield self._file_bytes(event)
                else:
                    self._field(event)
        except MultipartError as error:
            raise _broken(error) from None
        if self._received - self.size > FORM_TEXT_BYTES_MAX:
            raise _too_large(f"The form has more than {FORM_TEXT_BYTES_MAX} bytes beside its file")

    def finish(self) -> UploadForm:
        """The whole form, once its last byte has been fed."""
        try:
            self._parser.close()
        except MultipartError:
            raise _malformed("The upload ends before its form is complete") from None
        self._check_action()
        if self._filename is None:
            raise _malformed("The form has no file in the field 'content'")
        return UploadForm(
            self._filename, self._digests(), self.size, self._fields.get(_COMMENT, "")
        )

    def _begin(self, segment: MultipartSegment) -> Iterator[Event]:
        self._name, filename = segment.name or "", segment.filename
        self._text.clear()
        self._field_bytes = 0
        self._in_file = self._name == "content"
        if not self._in_file and filename is not None and self._name != "gpg_signature":
            raise _malformed("The form has a file in a field other than 'content'")
        if not self._in_file:
            return
        if self._filename is not None:
            raise _malformed("The form has a second file; one upload carries one file")
        if not filename:
            raise _malformed("The field 'content' has no file name")
        self._filename = filename
        # An unsupported action is refused before its content is read: it may be a documentation archive of any size.
        self._check_action(complete=False)
        yield FileStart(filename, self._digests())

    def _file_bytes(self, data: bytes) -> bytes:
        self.size += len(data)
        if self.size > self._file_bytes_max:
            raise _too_large(f"The file is larger than {self._file_bytes_max} bytes")
        return data

    def _field(self, data: bytes) -> None:
        self._field_bytes += len(data)
        if self._field_bytes > FORM_FIELD_BYTES_MAX:
            raise _too_large(f"A field of the form is larger than {FORM_FIELD_BYTES_MAX} bytes")
        if self._name in _KEPT:
            self._text += data

    def _end(self) -> None:
        if self._in_file or self._name not in _KEPT:
            return
        value = self._text.decode("utf-8", "replace").strip()
        if not value:  # pdm sends an empty field for what it does not have
            return
        if self._name in DIGESTS:
            value = _hex(self._name, value)
        if self._name == _COMMENT and len(value) > ASKER_NOTE_CHARS_MAX:
            raise _too_large(
                f"The comment has {len(value)} characters; it may have {ASKER_NOTE_CHARS_MAX}"
            )
        if self._fields.setdefault(self._name, value) != value:
            raise _malformed(f"The form names two different values for {self._name!r}")

    def _check_action(self, *, complete: bool = True) -> None:
        action = self._fields.get(":action", "" if complete else "file_upload")
        version = self._fields.get("protocol_version", "1")
        if action != "file_upload" or version != "1":
            raise Refusal(
                Code.REQUEST_UNSUPPORTED,
                f"This gate takes uploads of files (':action' file_upload, version 1), not {action[:40]!r}.",
                "Upload wheels and sdists with twine or uv.",
            )

    def _digests(self) -> dict[str, str]:
        return {name: self._fields[name] for name in DIGESTS if name in self._fields}


def _hex(name: str, value: str) -> str:
    lower = value.lower()
    if len(lower) != DIGESTS[name] or not _HEX.fullmatch(lower):
        raise _malformed(f"The field {name!r} does not hold {DIGESTS[name]} hex digits")
    return lower


def _broken(error: MultipartError) -> Refusal:
    if isinstance(error, ParserLimitReached):
        return _too_large(f"The form exceeds a limit: {error}")
    return _malformed(f"The form cannot be read: {error}")


def _malformed(why: str) -> Refusal:
    return Refusal(Code.REQUEST_MALFORMED, f"{why}.", _AGAIN)


def _too_large(why: str) -> Refusal:
    return Refusal(
        Code.REQUEST_TOO_LARGE, f"{why}.", "Ask the operator of the gate if it must be larger."
    )
