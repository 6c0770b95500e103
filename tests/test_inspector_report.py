"""The report as a document: canonical, bounded, and refused where it is not of its form."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from presspass.core import limits
from presspass.core.digests import sha256_hex
from presspass.core.errors import Code, Refusal
from presspass.core.findings import (
    ArtifactReport,
    Change,
    ChangeKind,
    FileEntry,
    InputFile,
    Report,
    Severity,
    bounded,
    finding,
    in_order,
    parse_report,
    report_digest,
)

ZERO = "0" * 64
ENTRY = FileEntry("demo/a\u202e\n.py", 3, ZERO, ("executable", "native"))
REPORT = Report(
    engine="engine/1",
    project="demo",
    version="1.1",
    candidate=(InputFile("demo-1.1.tar.gz", ZERO, 10),),
    baseline_version="1.0",
    baseline=(InputFile("demo-1.0.tar.gz", ZERO, 9),),
    artifacts=(
        ArtifactReport(
            name="demo-1.1.tar.gz",
            sha256=ZERO,
            kind="sdist",
            project="demo",
            version="1.1",
            requires_python=">=3",
            requires_dist=("b",),
            entries=(ENTRY,),
            compared_with="demo-1.0.tar.gz",
            changes=(
                Change(ENTRY.path, ChangeKind.ADDED, None, ENTRY, ("+\x1b[31m\ttext",), True),
            ),
        ),
    ),
    findings=(finding("a.b", Severity.HIGH, "p\0", "A sentence.", "evidence"),),
)


def test_a_report_reads_back_as_it_was_written() -> None:
    assert parse_report(REPORT.to_bytes()) == REPORT
    first = replace(REPORT, baseline_version=None, baseline=())
    assert parse_report(first.to_bytes()) == first


def test_the_digest_is_that_of_the_canonical_form_however_it_is_spelled() -> None:
    spelled = json.dumps(REPORT.to_json(), indent=2, ensure_ascii=True).encode()
    assert spelled != REPORT.to_bytes()
    assert (
        report_digest(spelled) == report_digest(REPORT.to_bytes()) == sha256_hex(REPORT.to_bytes())
    )


def test_one_changed_fact_changes_the_digest() -> None:
    other = replace(REPORT, findings=())
    assert report_digest(other.to_bytes()) != report_digest(REPORT.to_bytes())


def _without(name: str) -> dict[str, Any]:
    value = REPORT.to_json()
    del value[name]
    return value


BROKEN = {
    "not JSON": b"{",
    "not an object": b"[]",
    "not UTF-8": b'{"a": "\xff"}',
    "lone surrogate": rb'{"a": "\ud800"}',
    "number too large": b'{"a": 1e400}',
    "nested too deep": b"[" * 100_000,
    "member missing": json.dumps(_without("findings")).encode(),
    "member unknown": json.dumps({**REPORT.to_json(), "more": 1}).encode(),
    "wrong type": json.dumps({**REPORT.to_json(), "artifacts": {}}).encode(),
    "unknown severity": REPORT.to_bytes().replace(b'"high"', b'"none"'),
    "digest that is none": REPORT.to_bytes().replace(ZERO.encode(), b"0"),
    "negative size": REPORT.to_bytes().replace(b'"size":3', b'"size":-3'),
    "endless path": REPORT.to_bytes().replace(b"demo/a", b"x" * 5000),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_report_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_report(data)
    assert caught.value.code is Code.STATEMENT_MALFORMED


def test_a_report_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REPORT_BYTES_MAX", 100)
    with pytest.raises(Refusal) as caught:
        report_digest(REPORT.to_bytes())
    assert caught.value.code is Code.INSPECTION_TOO_LARGE


def test_findings_come_worst_first_and_once() -> None:
    low = finding("z.low", Severity.LOW, "a", "m")
    high = finding("a.high", Severity.HIGH, "z", "m")
    assert in_order([low, high, low]) == (high, low)


def test_a_flood_of_findings_is_counted_and_hides_no_other_rule() -> None:
    flood = [finding("x.flood", Severity.HIGH, f"{n:05}", "m") for n in range(5000)]
    other = finding("y.other", Severity.LOW, "p", "m")
    result = in_order([*flood, other])
    assert len(result) == limits.FINDINGS_PER_RULE_MAX + 2
    assert other in result
    assert any(one.message.startswith("4900 more") for one in result)


def test_hostile_text_is_bounded_and_valid() -> None:
    assert bounded("\ud800" * 3, 100) == "\\ud800" * 3
    assert bounded("x" * 12, 10) == "x" * 10 + "… [2 more characters]"
