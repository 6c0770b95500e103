"""The package builders: right ones are right to real readers, and each wrong one is wrong in the way its name says."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

import packages
import peers


def broken_record_lines(wheel: Path) -> list[str]:
    """The members whose RECORD line is missing, or does not fit what a reader unpacks."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = {row[0]: row for row in csv.reader(io.StringIO(archive.read(record).decode()))}
        wrong = []
        for name in archive.namelist():
            digest = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest())
            right = f"sha256={digest.rstrip(b'=').decode()}"
            if name != record and rows.get(name, ["", ""])[1] != right:
                wrong.append(name)
    return wrong


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for build in (packages.make_wheel, packages.make_sdist):
        first = build(tmp_path / "a", "tiny", "1.0").read_bytes()
        assert build(tmp_path / "b", "tiny", "1.0").read_bytes() == first


def test_a_right_wheel_and_sdist_pass_twine_check(tmp_path: Path) -> None:
    extra = "Description-Content-Type: text/plain\n\nWords about it.\n"
    wheel = packages.make_wheel(tmp_path, "Tiny.Pkg", "1.0", metadata_extra=extra)
    sdist = packages.make_sdist(tmp_path, "Tiny.Pkg", "1.0", metadata_extra=extra)
    checked = peers.run_client([peers.require_peer("twine"), "check", "--strict", wheel, sdist])
    assert checked.exit_code == 0, checked.text
    assert broken_record_lines(wheel) == []


def test_an_inert_pth_wheel_is_well_formed(tmp_path: Path) -> None:
    wheel = packages.wheel_with_pth(tmp_path)
    assert broken_record_lines(wheel) == []
    assert "drillbit_init.pth" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize("name", sorted(packages.MALFORMED))
def test_every_malformed_archive_differs_from_the_right_one(name: str, tmp_path: Path) -> None:
    build = packages.MALFORMED[name]
    wrong = build(tmp_path / "wrong")
    make = packages.make_wheel if wrong.suffix == ".whl" else packages.make_sdist
    right = make(tmp_path / "right", packages.NAME, packages.VERSION)
    assert wrong.name == right.name
    assert wrong.read_bytes() != right.read_bytes()
    assert build(tmp_path / "again").read_bytes() == wrong.read_bytes()


def test_record_is_wrong_where_its_builder_says(tmp_path: Path) -> None:
    assert broken_record_lines(packages.wheel_with_wrong_record_hash(tmp_path)) == [
        "drillbit/__init__.py"
    ]
    assert broken_record_lines(packages.wheel_with_unrecorded_member(tmp_path)) == [
        "drillbit/extra.py"
    ]
    assert broken_record_lines(packages.wheel_with_path_traversal(tmp_path)) == []
    assert broken_record_lines(packages.wheel_with_symlink(tmp_path)) == []


def test_bombs_are_small_and_unpack_large(tmp_path: Path) -> None:
    wheel = packages.wheel_bomb(tmp_path, members=2)
    unpacked = sum(info.file_size for info in zipfile.ZipFile(wheel).infolist())
    assert unpacked > 2 * packages.BOMB_MEMBER_BYTES
    assert wheel.stat().st_size < unpacked / 500
    assert packages.sdist_bomb(tmp_path, members=2).stat().st_size < unpacked / 500


def test_the_local_header_contradicts_the_directory(tmp_path: Path) -> None:
    wheel = packages.wheel_with_contradicting_local_header(tmp_path)
    assert "drillbit/__init__.py" in zipfile.ZipFile(wheel).namelist()
    assert b"drillbit/__init__.sh" in wheel.read_bytes()


def test_sdists_carry_the_links_and_devices_their_names_say(tmp_path: Path) -> None:
    for build, wanted in (
        (packages.sdist_with_symlink, tarfile.SYMTYPE),
        (packages.sdist_with_hard_link, tarfile.LNKTYPE),
        (packages.sdist_with_device, tarfile.CHRTYPE),
    ):
        with tarfile.open(build(tmp_path)) as archive:
            assert [m.type for m in archive if not m.isreg()] == [wanted]
