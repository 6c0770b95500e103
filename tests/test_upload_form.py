"""The upload form: what arrives is what was sent, however it is cut up; all else is refused with a code."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_world import form
from presspass.core import limits
from presspass.core.errors import Code, Refusal
from presspass.formats.upload_form import FileStart, FormReader, UploadForm

NAME = "greet-1.0-py3-none-any.whl"
DATA = bytes(range(256)) * 300


def read(
    content_type: str, body: bytes, cuts: tuple[int, ...] = (), bytes_max: int = 1 << 20
) -> tuple[UploadForm, bytes]:
    """The form and the file's bytes, the body fed in pieces that end at `cuts`."""
    reader = FormReader(content_type, bytes_max)
    found = bytearray()
    ends = sorted({*(cut % (len(body) + 1) for cut in cuts), len(body)})
    start = 0
    for end in ends:
        for event in reader.feed(body[start:end]):
            if not isinstance(event, FileStart):
                found += event
        start = end
    return reader.finish(), bytes(found)


def refused(content_type: str, body: bytes, **more: int) -> Code:
    with pytest.raises(Refusal) as caught:
        read(content_type, body, **more)
    return caught.value.code


@given(st.binary(max_size=3000), st.lists(st.integers(0, 10_000), max_size=30))
def test_the_same_form_is_read_however_it_is_cut_up(data: bytes, cuts: list[int]) -> None:
    content_type, body = form(NAME, data)
    whole = read(content_type, body)
    assert whole == read(content_type, body, tuple(cuts))
    assert whole == (
        UploadForm(NAME, {"sha256_digest": hashlib.sha256(data).hexdigest()}, len(data)),
        data,
    )


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_read_or_refused_and_never_anything_else(body: bytes) -> None:
    prefix = b'--b\r\nContent-Disposition: form-data; name="content"; filename="x"\r\n\r\n'
    for data in (body, prefix + body, prefix + body + b"\r\n--b--\r\n"):
        try:
            read("multipart/form-data; boundary=b", data)
        except Refusal as refusal:
            assert refusal.code in {
                Code.REQUEST_MALFORMED,
                Code.REQUEST_TOO_LARGE,
                Code.REQUEST_UNSUPPORTED,
            }


@given(st.integers(0, 77_000))
def test_a_truncated_form_is_never_whole(length: int) -> None:
    content_type, body = form(NAME, DATA)
    kept = min(length, body.rindex(b"--") - 1)  # short of the final delimiter
    assert refused(content_type, body[:kept]) is Code.REQUEST_MALFORMED


def test_fields_after_the_file_count_like_fields_before_it() -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    content_type, body = form(
        NAME, DATA, fields=[], after=[("sha256_digest", digest), (":action", "file_upload")]
    )
    found, _ = read(content_type, body)
    assert found.digests == {"sha256_digest": digest}


def test_digests_named_before_the_file_are_known_when_it_starts() -> None:
    md5 = hashlib.md5(DATA).hexdigest()
    content_type, body = form(
        NAME, DATA, fields=[(":action", "file_upload"), ("md5_digest", md5.upper())]
    )
    events = list(FormReader(content_type).feed(body))
    assert events[0] == FileStart(NAME, {"md5_digest": md5})


def test_metadata_and_attestations_are_read_past() -> None:
    fields = [
        (":action", "file_upload"),
        ("name", "somebody-else"),
        ("version", "9"),
        ("classifiers", "a"),
        ("classifiers", "b"),
    ]
    content_type, body = form(
        NAME, DATA, fields=fields, after=[("attestations", "[" + "1," * 50_000 + "1]")]
    )
    assert read(content_type, body)[0] == UploadForm(NAME, {}, len(DATA))


def test_empty_fields_count_as_absent() -> None:
    fields = [(":action", "file_upload"), ("md5_digest", ""), ("sha256_digest", "")]
    content_type, body = form(NAME, DATA, fields=fields)
    assert read(content_type, body)[0].digests == {}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"fields": [(":action", "submit")]}, Code.REQUEST_UNSUPPORTED),
        ({"fields": [], "after": [(":action", "doc_upload")]}, Code.REQUEST_UNSUPPORTED),
        ({"fields": [], "after": []}, Code.REQUEST_UNSUPPORTED),
        (
            {"fields": [(":action", "file_upload"), ("protocol_version", "2")]},
            Code.REQUEST_UNSUPPORTED,
        ),
        (
            {"fields": [(":action", "file_upload"), ("sha256_digest", "0" * 63)]},
            Code.REQUEST_MALFORMED,
        ),
        (
            {"fields": [(":action", "file_upload"), ("md5_digest", "x" * 32)]},
            Code.REQUEST_MALFORMED,
        ),
        (
            {
                "fields": [
                    ("sha256_digest", "0" * 64),
                    ("sha256_digest", "1" * 64),
                    (":action", "file_upload"),
                ]
            },
            Code.REQUEST_MALFORMED,
        ),
        ({"content": "file"}, Code.REQUEST_MALFORMED),
    ],
)
def test_a_form_that_is_wrong_in_one_way_is_refused_for_it(
    more: dict[str, Any], code: Code
) -> None:
    content_type, body = form(NAME, DATA, **more)
    assert refused(content_type, body) is code


def test_a_second_file_is_refused() -> None:
    content_type, body = form(NAME, DATA)
    second = form(NAME, b"other bytes", fields=[])[1]
    assert (
        refused(content_type, body.removesuffix(b"--\r\n") + b"\r\n" + second.split(b"\r\n", 1)[1])
        is Code.REQUEST_MALFORMED
    )


def test_a_detached_signature_beside_the_file_is_read_past() -> None:
    content_type, body = form(NAME, DATA)
    part = (
        b'--a-boundary-of-the-tests\r\nContent-Disposition: form-data; name="gpg_signature"; filename="x.asc"'
        b"\r\n\r\n-----BEGIN\r\n"
    )
    assert read(content_type, part + body)[0].filename == NAME


@pytest.mark.parametrize("name", ["", "content"])
def test_a_form_without_a_file_is_refused(name: str) -> None:
    boundary = "--b\r\n"
    text = f'{boundary}Content-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n'
    if name:
        text += f'{boundary}Content-Disposition: form-data; name="content"\r\n\r\nbytes\r\n'
    assert (
        refused("multipart/form-data; boundary=b", f"{text}--b--\r\n".encode())
        is Code.REQUEST_MALFORMED
    )


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300],
)
def test_what_is_not_a_form_is_refused(content_type: str) -> None:
    assert refused(content_type, b"") is Code.REQUEST_MALFORMED


def test_the_limits_hold_one_by_one() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n'
    field = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
    for body in (
        part * (limits.FORM_PARTS_MAX + 1),
        field + b"v" * (limits.FORM_FIELD_BYTES_MAX + 1),
        (field + b"v" * limits.FORM_FIELD_BYTES_MAX + b"\r\n") * 5,
        b"preamble" * (limits.FORM_TEXT_BYTES_MAX // 8 + 1),
        b"--b\r\nX-Long: " + b"v" * (limits.FORM_PART_HEADER_BYTES_MAX + 1),
        b"--b\r\n" + b"X-Many: v\r\n" * (limits.FORM_PART_HEADERS_MAX + 1),
    ):
        assert refused("multipart/form-data; boundary=b", body) is Code.REQUEST_TOO_LARGE
    content_type, body = form(NAME, DATA)
    assert refused(content_type, body, bytes_max=len(DATA) - 1) is Code.REQUEST_TOO_LARGE
    read(content_type, body, bytes_max=len(DATA))
