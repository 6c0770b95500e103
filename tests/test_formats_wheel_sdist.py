"""Wheels and sdists: metadata, WHEEL, entry points and RECORD against what the archive really holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector_files import (
    VERSION,
    Entry,
    compress,
    metadata,
    raw_tar,
    raw_zip,
    record_line,
    sdist,
    source,
    tar_member,
    wheel,
)
from presspass.formats.distribution import Distribution
from presspass.formats.filenames import parse_filename
from presspass.formats.metadata import CoreMetadata, EntryPoint, parse_entry_points, parse_metadata
from presspass.formats.record import parse_record
from presspass.formats.sdist import read_sdist
from presspass.formats.wheel import read_wheel

INFO = f"demo_pkg-{VERSION}.dist-info"
WHEEL = parse_filename("demo_pkg-1.0-py3-none-any.whl")
SDIST = parse_filename("demo_pkg-1.0.tar.gz")
CODE = {"demo_pkg/x.py": "x = 1\n"}


def read(data: bytes) -> Distribution:
    return read_wheel(source(data), WHEEL)


def rules(found: Distribution) -> set[str]:
    return {one.rule for one in found.findings}


def _record_with(change: tuple[str, str]) -> bytes:
    """The sound wheel with one text of its RECORD replaced."""
    sound = read(wheel(CODE)).archive.read([f"{INFO}/RECORD"], 10_000)[f"{INFO}/RECORD"].decode()
    assert change[0] in sound
    return wheel(CODE, record=sound.replace(*change))


def test_a_sound_wheel_has_no_findings() -> None:
    found = read(wheel(CODE, meta=metadata(requires=("B >= 1", "a_b[x]; python_version<'4'"))))
    assert found.findings == ()
    assert found.root == INFO
    assert found.metadata == CoreMetadata(
        metadata_version="2.4",
        project="demo-pkg",
        version="1.0",
        requires_dist=('a-b[x]; python_version < "4"', "b>=1"),
        fields=(
            ("description", ("A description.\n",)),
            ("metadata_version", ("2.4",)),
            ("name", ("demo-pkg",)),
            ("requires_dist", ("B >= 1", "a_b[x]; python_version<'4'")),
            ("version", ("1.0",)),
        ),
    )


def test_a_sound_sdist_has_no_findings() -> None:
    found = read_sdist(source(sdist({"demo_pkg/__init__.py": ""})), SDIST)
    assert found.findings == ()
    assert (found.root, found.metadata.project, found.metadata.version) == (
        "demo_pkg-1.0",
        "demo-pkg",
        "1.0",
    )


LINE = record_line("demo_pkg/x.py", b"x = 1\n")
HASH = LINE.split(",")[1]
WRONG_WHEELS = {
    "file not in RECORD": (_record_with((LINE, "")), {"record.missing"}),
    "file only in RECORD": (
        wheel(CODE, extra_record=record_line("gone.py", b"")),
        {"record.extra"},
    ),
    "wrong hash": (_record_with((HASH, "sha256=AAAA")), {"record.hash-mismatch"}),
    "hash that is no base64": (_record_with((HASH, "sha256=!")), {"record.hash-mismatch"}),
    "wrong size": (_record_with((",6\n", ",7\n")), {"record.size-mismatch"}),
    "weak hash": (_record_with((HASH, "md5=AAAA")), {"record.no-hash"}),
    "listed twice": (wheel(CODE, extra_record=LINE), {"record.duplicate"}),
    "damaged RECORD": (wheel(CODE, extra_record='"open\n'), {"record.unreadable"}),
    "no dist-info": (raw_zip(Entry(b"demo_pkg/__init__.py", b"")), {"wheel.dist-info"}),
    "foreign dist-info": (wheel(version="2.0"), {"wheel.dist-info"}),
    "other tags": (wheel(tag="py3-none-win32"), {"wheel.tags"}),
    "two names": (
        wheel(meta=metadata(more="Name: other\n")),
        {"metadata.ambiguous", "metadata.no-name"},
    ),
    "no version": (
        wheel(meta="Metadata-Version: 2.1\nName: demo-pkg\n"),
        {"metadata.no-version"},
    ),
    "bad requirement": (
        wheel(meta=metadata(requires=("b >= ",))),
        {"metadata.bad-requirement"},
    ),
    "bad entry point": (
        wheel({f"{INFO}/entry_points.txt": "[a]\nnothing\n"}),
        {"metadata.bad-entry-point"},
    ),
}


@pytest.mark.parametrize(("data", "expected"), WRONG_WHEELS.values(), ids=WRONG_WHEELS)
def test_each_fault_is_found(data: bytes, expected: set[str]) -> None:
    found = rules(read(data))
    unexplained = found - expected - _record_of_the_fault(expected)
    assert expected <= found and not unexplained


def _record_of_the_fault(expected: set[str]) -> set[str]:
    """A foreign or absent .dist-info takes the files in it out of reach, a cut RECORD all lines after the cut."""
    if "record.unreadable" in expected:
        return {"record.missing"}
    return (
        {"metadata.missing", "record.absent", "wheel.version", "wheel.tags"}
        if "wheel.dist-info" in expected
        else set()
    )


def test_a_wheel_without_record_or_metadata_says_so() -> None:
    found = read(
        raw_zip(Entry(f"{INFO}/WHEEL".encode(), b"Wheel-Version: 1.0\nTag: py3-none-any\n"))
    )
    assert rules(found) == {"metadata.missing", "record.absent"}


def test_a_wheel_file_of_a_future_version_is_found() -> None:
    assert "wheel.version" in rules(
        read(raw_zip(Entry(f"{INFO}/WHEEL".encode(), b"Wheel-Version: 2.0\n")))
    )


@pytest.mark.parametrize("name", ["Demo.Pkg-1.0.0", "demo_pkg-v1.0"])
def test_other_spellings_of_the_top_folder_are_the_same_project(name: str) -> None:
    data = compress(raw_tar(tar_member(f"{name}/PKG-INFO", metadata().encode())))
    assert rules(read_sdist(source(data), SDIST)) == set()


@pytest.mark.parametrize("name", ["demo_pkg-1.1", "other-1.0", "demo_pkg", "demo_pkg-one"])
def test_another_top_folder_is_found(name: str) -> None:
    data = compress(raw_tar(tar_member(f"{name}/PKG-INFO", metadata().encode())))
    assert rules(read_sdist(source(data), SDIST)) == {"sdist.top-folder"}


def test_files_beside_the_top_folder_are_found() -> None:
    data = compress(
        raw_tar(
            tar_member("demo_pkg-1.0/PKG-INFO", metadata().encode()), tar_member("setup.py", b"")
        )
    )
    assert rules(read_sdist(source(data), SDIST)) == {"sdist.top-folder"}


def test_entry_points_are_read() -> None:
    text = "# comment\n[console_scripts]\nrun = demo_pkg:main\n\n[ other.group ]\nx=y\n"
    points, findings = parse_entry_points(text.encode(), "e")
    assert findings == ()
    assert points == (
        EntryPoint("console_scripts", "run", "demo_pkg:main"),
        EntryPoint("other.group", "x", "y"),
    )


@given(st.binary(max_size=500))
def test_no_bytes_make_the_parsers_raise(data: bytes) -> None:
    parse_metadata(data, "m")
    parse_metadata(b"Metadata-Version: 2.4\nName: a\nVersion: 1\nRequires-Dist: " + data, "m")
    parse_entry_points(b"[a]\n" + data, "e")
    parse_record(data, "r")
    read_wheel(source(data), WHEEL)
    read_sdist(source(data), SDIST)


@given(st.text(max_size=300))
def test_no_text_makes_the_metadata_parser_raise(text: str) -> None:
    parse_metadata(("Name: " + text + "\nDescription: " + text).encode("utf-8", "replace"), "m")
