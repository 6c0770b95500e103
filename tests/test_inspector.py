"""The inspection of a set: what changes, what it finds, and that the same bytes give the same report."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector_files import metadata, record_line, sdist, wheel
from inspector_runs import inspect_sets, request_for
from presspass.core import limits
from presspass.core.errors import Code, Refusal
from presspass.core.findings import Change, ChangeKind, Report, Severity, parse_report
from presspass.formats.textdiff import as_lines, unified
from presspass.inspector.engine import inspect

OLD, NEW = "1.0", "1.1"
Files = dict[str, str | bytes]


def one_wheel(version: str, data: bytes) -> dict[str, bytes]:
    return {f"demo_pkg-{version}-py3-none-any.whl": data}


def compared(old: Files, new: Files) -> Report:
    """The report on a wheel 1.1 with files `new`, after a wheel 1.0 with files `old`."""
    return inspect_sets(
        one_wheel(NEW, wheel(new, version=NEW)),
        one_wheel(OLD, wheel(old, version=OLD)),
        version=NEW,
    )


def rules(report: Report) -> list[tuple[str, Severity, str]]:
    return [(one.rule, one.severity, one.path) for one in report.findings]


def changes(report: Report) -> dict[str, Change]:
    return {one.path: one for one in report.artifacts[0].changes}


def test_a_new_version_of_the_same_files_changes_metadata_and_record_only() -> None:
    report = compared({}, {})
    assert report.findings == ()
    assert {path: one.kind for path, one in changes(report).items()} == {
        "demo_pkg-1.1.dist-info/METADATA": ChangeKind.CHANGED,
        "demo_pkg-1.1.dist-info/RECORD": ChangeKind.CHANGED,
    }
    diff = changes(report)["demo_pkg-1.1.dist-info/METADATA"].diff
    assert diff is not None and {"-Version: 1.0", "+Version: 1.1"} <= set(diff)


def test_an_sdist_of_a_new_version_changes_only_what_changed() -> None:
    report = inspect_sets(
        {"demo_pkg-1.1.tar.gz": sdist({"a.py": "1\n", "new.py": "2\n"}, version=NEW)},
        {"demo_pkg-1.0.tar.gz": sdist({"a.py": "1\n", "old.py": "3\n"}, version=OLD)},
        version=NEW,
    )
    assert {path: one.kind for path, one in changes(report).items()} == {
        "demo_pkg-1.1/PKG-INFO": ChangeKind.CHANGED,
        "demo_pkg-1.1/new.py": ChangeKind.ADDED,
        "demo_pkg-1.0/old.py": ChangeKind.REMOVED,
    }


def test_text_is_shown_as_a_difference_and_binary_is_not() -> None:
    old = {"demo_pkg/a.py": "x = 1\ny = 2\n", "demo_pkg/b.bin": b"\0\1"}
    new = {"demo_pkg/a.py": "x = 1\ny = 3\n", "demo_pkg/b.bin": b"\0\2", "demo_pkg/c.py": "new\n"}
    found = changes(compared(old, new))
    assert found["demo_pkg/a.py"].diff == ("@@ -1,2 +1,2 @@", " x = 1", "-y = 2", "+y = 3")
    assert found["demo_pkg/b.bin"].diff is None
    assert found["demo_pkg/c.py"].diff == ("@@ -0,0 +1,1 @@", "+new")
    assert not any(one.diff_cut for one in found.values())


def test_a_first_release_says_so_and_still_names_start_up_files() -> None:
    report = inspect_sets(
        one_wheel(NEW, wheel({"demo.pth": "import x\n"}, version=NEW)), None, version=NEW
    )
    assert rules(report) == [
        ("startup.new-file", Severity.HIGH, "demo.pth"),
        ("release.first", Severity.INFO, ""),
    ]
    assert report.worst is Severity.HIGH


ENTRY = "demo_pkg-{}.dist-info/entry_points.txt"
FOUND = {
    "new .pth": ({}, {"demo.pth": "import os\n"}, ("startup.new-file", Severity.HIGH, "demo.pth")),
    "new .start": ({}, {"demo.start": "demo\n"}, ("startup.new-file", Severity.HIGH, "demo.start")),
    "new sitecustomize": (
        {},
        {"sitecustomize.py": ""},
        ("startup.new-file", Severity.HIGH, "sitecustomize.py"),
    ),
    ".pth by way of .data": (
        {},
        {"demo_pkg-1.1.data/purelib/demo.PTH": ""},
        ("startup.new-file", Severity.HIGH, "demo_pkg-1.1.data/purelib/demo.PTH"),
    ),
    ".pth inside the package": (
        {},
        {"demo_pkg/weights.pth": ""},
        ("startup.new-file", Severity.MEDIUM, "demo_pkg/weights.pth"),
    ),
    "changed .pth": (
        {"d.pth": "a\n"},
        {"d.pth": "b\n"},
        ("startup.changed-file", Severity.HIGH, "d.pth"),
    ),
    "new package": ({}, {"other/__init__.py": ""}, ("toplevel.new-name", Severity.MEDIUM, "other")),
    "new module": ({}, {"other.py": ""}, ("toplevel.new-name", Severity.MEDIUM, "other")),
    "new package by way of .data": (
        {},
        {"demo_pkg-1.1.data/platlib/other/x.py": ""},
        ("toplevel.new-name", Severity.MEDIUM, "other"),
    ),
    "native by suffix": (
        {},
        {"demo_pkg/x.so": ""},
        ("native.new-file", Severity.MEDIUM, "demo_pkg/x.so"),
    ),
    "native by content": (
        {"demo_pkg/x.py": ""},
        {"demo_pkg/x.py": b"\x7fELF\2\1\1"},
        ("native.new-file", Severity.MEDIUM, "demo_pkg/x.py"),
    ),
    "new entry point": (
        {},
        {ENTRY.format(NEW): "[console_scripts]\npip = demo_pkg:x\n"},
        ("entry-points.new", Severity.MEDIUM, ENTRY.format(NEW)),
    ),
    "changed entry point": (
        {ENTRY.format(OLD): "[a]\nx = y\n"},
        {ENTRY.format(NEW): "[a]\nx = z\n"},
        ("entry-points.changed", Severity.MEDIUM, ENTRY.format(NEW)),
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), FOUND.values(), ids=FOUND)
def test_each_suspicious_change_is_found(
    old: Files, new: Files, expected: tuple[str, Severity, str]
) -> None:
    assert expected in rules(compared(old, new))
    assert not [one for one in rules(compared(new_as_old(new), new)) if one[0] == expected[0]]


def new_as_old(new: Files) -> Files:
    """The same files under the old version: then nothing is new about them."""
    return {path.replace(NEW, OLD): data for path, data in new.items()}


REQUIREMENTS = {
    "added": ((), ("b>=1",), ("requires.added", Severity.MEDIUM)),
    "changed": (("b>=1",), ("b>=2",), ("requires.changed", Severity.LOW)),
    "removed": (("b>=1",), (), ("requires.removed", Severity.INFO)),
    "by address": (
        ("b",),
        ("b @ https://host.invalid/b.whl",),
        ("requires.direct-url", Severity.HIGH),
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), REQUIREMENTS.values(), ids=REQUIREMENTS)
def test_each_change_of_requirements_is_found(
    old: tuple[str, ...], new: tuple[str, ...], expected: tuple[str, Severity]
) -> None:
    report = inspect_sets(
        one_wheel(NEW, wheel(version=NEW, meta=metadata(version=NEW, requires=new))),
        one_wheel(OLD, wheel(version=OLD, meta=metadata(version=OLD, requires=old))),
        version=NEW,
    )
    assert expected in [one[:2] for one in rules(report)]


def test_another_spelling_of_a_requirement_is_no_change() -> None:
    report = inspect_sets(
        one_wheel(NEW, wheel(version=NEW, meta=metadata(version=NEW, requires=("B_c >= 1",)))),
        one_wheel(OLD, wheel(version=OLD, meta=metadata(version=OLD, requires=("b-c>=1",)))),
        version=NEW,
    )
    assert report.findings == ()


@pytest.mark.parametrize(
    ("meta", "rule"),
    [
        (metadata(name="other", version=NEW), "identity.name-mismatch"),
        (metadata(version="9.9"), "identity.version-mismatch"),
    ],
)
def test_metadata_that_contradicts_the_file_name_is_critical(meta: str, rule: str) -> None:
    report = inspect_sets(one_wheel(NEW, wheel(version=NEW, meta=meta)), None, version=NEW)
    assert (rule, Severity.CRITICAL, "") in rules(report)


def test_a_file_of_another_release_is_critical() -> None:
    report = inspect_sets(one_wheel(NEW, wheel(version=NEW)), None, version="1.2")
    assert report.worst is Severity.CRITICAL and "release.foreign-file" in [
        one.rule for one in report.findings
    ]


def _set_of(wheel_meta: str, sdist_meta: str) -> Report:
    files = {
        **one_wheel(NEW, wheel(version=NEW, meta=wheel_meta)),
        "demo_pkg-1.1.tar.gz": sdist(version=NEW, meta=sdist_meta),
    }
    return inspect_sets(files, None, version=NEW)


def test_wheel_and_sdist_that_agree_have_no_finding_beyond_being_first() -> None:
    plain = metadata(version=NEW, requires=("b",))
    assert [one.rule for one in _set_of(plain, plain).findings] == ["release.first"]


def test_wheel_and_sdist_with_other_requirements_are_found() -> None:
    report = _set_of(
        metadata(version=NEW, requires=("b", "evil")), metadata(version=NEW, requires=("b",))
    )
    assert ("consistency.requires-dist", Severity.MEDIUM) in [one[:2] for one in rules(report)]


def test_requirements_that_the_sdist_calls_dynamic_may_differ() -> None:
    dynamic = metadata(version=NEW, more="Dynamic: Requires-Dist\n")
    assert [
        one.rule for one in _set_of(metadata(version=NEW, requires=("b",)), dynamic).findings
    ] == ["release.first"]


def test_a_wheel_is_compared_with_the_one_of_the_same_tags() -> None:
    tags = ("cp311-cp311-win_amd64", "cp311-cp311-linux_x86_64", "py3-none-any")

    def files(version: str) -> dict[str, bytes]:
        return {
            f"demo_pkg-{version}-{tag}.whl": wheel({"demo_pkg/t.py": tag}, version=version, tag=tag)
            for tag in tags
        }

    report = inspect_sets(files(NEW), files(OLD), version=NEW)
    assert report.findings == ()
    assert [one.compared_with for one in report.artifacts] == [
        one.name.replace(NEW, OLD) for one in report.artifacts
    ]


def test_a_kind_of_file_without_a_counterpart_is_said_on_both_sides() -> None:
    report = inspect_sets(
        one_wheel(NEW, wheel(version=NEW)), {"demo_pkg-1.0.tar.gz": sdist()}, version=NEW
    )
    assert [one.rule for one in report.findings] == [
        "release.no-counterpart",
        "release.kind-left-out",
    ]


def test_other_bytes_than_asked_for_end_the_inspection() -> None:
    request, contents = request_for(one_wheel(NEW, wheel(version=NEW)), None, NEW)
    request["candidate"][0]["sha256"] = "0" * 64
    with pytest.raises(Refusal) as caught:
        _inspect(request, contents)
    assert caught.value.code is Code.ARTIFACT_DIGEST_MISMATCH


def _inspect(request: dict[str, object], contents: Sequence[bytes]) -> Report:
    fds = [os.memfd_create("test") for _ in contents]
    try:
        for fd, content in zip(fds, contents, strict=True):
            os.write(fd, content)
        return inspect(request, fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_the_order_of_the_request_does_not_change_the_report() -> None:
    files = {**one_wheel(NEW, wheel(version=NEW)), "demo_pkg-1.1.tar.gz": sdist(version=NEW)}
    backwards = dict(reversed(files.items()))
    assert (
        inspect_sets(files, None, version=NEW).to_bytes()
        == inspect_sets(backwards, None, version=NEW).to_bytes()
    )


def test_every_input_is_a_digest_in_the_report() -> None:
    new, old = wheel(version=NEW), wheel(version=OLD)
    text = inspect_sets(one_wheel(NEW, new), one_wheel(OLD, old), version=NEW)
    assert [one.size for one in (*text.candidate, *text.baseline)] == [len(new), len(old)]


def test_hidden_bulk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMBER_TEXT_BYTES_MAX", 2000)
    report = compared({}, {"demo_pkg/bulk.py": "x = 1\n" * 1000, "demo_pkg/small.py": "y\n"})
    found = changes(report)
    assert (found["demo_pkg/bulk.py"].diff, found["demo_pkg/bulk.py"].diff_cut) == (None, True)
    assert found["demo_pkg/small.py"].diff is not None
    assert ("difference.cut", Severity.LOW, "demo_pkg/bulk.py") in rules(report)


def test_long_lines_and_many_lines_are_cut_and_say_so() -> None:
    lines, cut = unified([], ["x" * 10_000] * 2000)
    assert cut and len(lines) == limits.DIFF_LINES_MAX
    assert lines[1].endswith("[9501 more characters]")


def test_lines_that_all_look_alike_do_not_cost_without_bound() -> None:
    old = [str(n % 7) for n in range(3999)]
    new = [str(n % 5) for n in range(3999)]
    lines, cut = unified(old, new)
    assert cut and lines[1].startswith("-")


def _apply(old: list[str], diff: Sequence[str]) -> list[str]:
    """What a reader who applies the hunks to `old` gets."""
    result, position = [], 0
    for line in diff:
        if line.startswith("@@"):
            start, count = (int(part) for part in line.split()[1][1:].split(","))
            start = start - 1 if count else start
            result += old[position:start]
            position = start
        elif line.startswith("+"):
            result.append(line[1:])
        else:
            assert old[position] == line[1:]
            position += 1
            result += [line[1:]] if line.startswith(" ") else []
    return result + old[position:]


LINES = st.lists(st.sampled_from(["a", "b", "c", "", "d"]), max_size=30)


@given(old=LINES, new=LINES)
def test_a_difference_applied_to_the_old_text_gives_the_new_one(
    old: list[str], new: list[str]
) -> None:
    diff, cut = unified(old, new)
    assert not cut and _apply(old, diff) == new


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfe", "é".encode("utf-16")])
def test_what_is_not_text_has_no_lines(content: bytes) -> None:
    assert as_lines(content) is None


@settings(max_examples=60)
@given(
    edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=5),
    first=st.booleans(),
)
def test_any_bytes_give_one_report_that_reads_back(
    edits: list[tuple[int, int]], first: bool
) -> None:
    data = bytearray(wheel({"demo_pkg/x.py": "x\n"}, version=NEW))
    for at, value in edits:
        data[at % len(data)] = value
    baseline = None if first else one_wheel(OLD, wheel({"demo_pkg/x.py": "y\n"}, version=OLD))
    report = inspect_sets(one_wheel(NEW, bytes(data)), baseline, version=NEW)
    assert parse_report(report.to_bytes()) == report
    assert (
        inspect_sets(one_wheel(NEW, bytes(data)), baseline, version=NEW).to_bytes()
        == report.to_bytes()
    )


def test_the_record_of_a_smuggled_file_is_missed_loudly() -> None:
    data = wheel(
        {"demo_pkg/x.py": "x\n"}, version=NEW, record=record_line("demo_pkg/__init__.py", b"")
    )
    report = inspect_sets(one_wheel(NEW, data), None, version=NEW)
    assert ("record.missing", Severity.HIGH, "demo_pkg/x.py") in rules(report)
