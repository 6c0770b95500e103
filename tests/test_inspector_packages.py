"""The shared packages, each wrong in one way: the inspector names the fault of each, and none in the sound ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inspector_runs import inspect_sets
from presspass.core import limits
from presspass.drill import packages
from presspass.formats.filenames import parse_filename

WRONG: dict[Callable[[Path], Path], str] = {
    packages.wheel_with_pth: "startup.new-file",
    packages.wheel_with_duplicate_member: "archive.duplicate-member",
    packages.wheel_with_prefix_bytes: "archive.prefix-bytes",
    packages.wheel_with_trailing_bytes: "archive.trailing-bytes",
    packages.wheel_with_two_archives: "archive.prefix-bytes",
    packages.wheel_with_wrong_record_hash: "record.hash-mismatch",
    packages.wheel_with_unrecorded_member: "record.missing",
    packages.wheel_with_missing_member: "record.extra",
    packages.wheel_without_record: "record.absent",
    packages.wheel_with_path_traversal: "archive.path-escape",
    packages.wheel_with_absolute_path: "archive.path-escape",
    packages.wheel_with_symlink: "archive.link",
    packages.wheel_with_foreign_name: "identity.name-mismatch",
    packages.wheel_with_foreign_version: "identity.version-mismatch",
    packages.wheel_with_contradicting_local_header: "archive.header-mismatch",
    packages.wheel_bomb: "archive.bomb",
    packages.wheel_truncated: "archive.unreadable",
    packages.sdist_with_path_traversal: "archive.path-escape",
    packages.sdist_with_duplicate_member: "archive.duplicate-member",
    packages.sdist_with_symlink: "archive.link",
    packages.sdist_with_hard_link: "archive.link",
    packages.sdist_with_device: "archive.special-file",
    packages.sdist_with_second_top_folder: "sdist.top-folder",
    packages.sdist_with_foreign_name: "identity.name-mismatch",
    packages.sdist_with_foreign_version: "identity.version-mismatch",
    packages.sdist_with_trailing_bytes: "archive.trailing-bytes",
    packages.sdist_bomb: "archive.bomb",
    packages.sdist_truncated: "archive.unreadable",
}


def found(path: Path) -> list[str]:
    name = parse_filename(path.name)
    report = inspect_sets({path.name: path.read_bytes()}, None, version=name.version)
    # The shared packages have a project name of their own; which project was asked for is not what is tested here.
    return [
        one.rule
        for one in report.findings
        if one.rule not in ("release.first", "release.foreign-file")
    ]


@pytest.mark.parametrize(("make", "rule"), WRONG.items(), ids=[make.__name__ for make in WRONG])
def test_the_fault_is_found(
    make: Callable[[Path], Path], rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNPACKED_ALLOWANCE_BYTES", 1 * limits.MIB)
    assert rule in found(make(tmp_path))


def test_every_shared_package_is_tried() -> None:
    offered = {
        name
        for name in dir(packages)
        if name.startswith(("wheel_", "sdist_")) and callable(getattr(packages, name))
    }
    builders = {name for name in offered if not name.endswith(("_members", "_filename"))}
    assert builders == {make.__name__ for make in WRONG}


@pytest.mark.parametrize("make", [packages.make_wheel, packages.make_sdist], ids=["wheel", "sdist"])
def test_the_sound_packages_have_no_fault(
    make: Callable[[Path, str, str], Path], tmp_path: Path
) -> None:
    assert found(make(tmp_path, "demo", "1.0")) == []
