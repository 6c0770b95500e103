"""What the list of releases holds where there are more than it can, over a real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from presspass.core.digests import sha256_hex
from presspass.core.findings import Finding, Report, Severity
from presspass.gateway.listing import Severities, listed
from presspass.store.gateway_tables import METADATA, RELEASE, REVIEW

CALM = Report("test", "acme", "1", (), None, (), (), ())
ODD = replace(CALM, findings=(Finding("rule.x", Severity.HIGH, "a.py", "Odd."),))


@pytest.fixture
def connection() -> Iterator[Connection]:
    """An empty database of a gateway."""
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.connect() as made:
        yield made
    engine.dispose()


def put(connection: Connection, name: str, state: str, at_ms: int, report: Report | None) -> None:
    """A release, and its report."""
    digest = None
    if report is not None:
        data = report.to_bytes()
        digest = sha256_hex(data)
        if connection.execute(sa.select(REVIEW).where(REVIEW.c.digest == digest)).first() is None:
            row = {"digest": digest, "report": data, "made_ms": 0}
            connection.execute(sa.insert(REVIEW), row)
    settled = state in ("verified", "rejected")
    row = {
        "id": name, "upstream": "main", "project": name, "version": "1", "requester": "",
        "token_hash": "", "state": state, "live": None if settled else 1, "opened_ms": at_ms,
        "touched_ms": at_ms, "review": digest, "updated_ms": at_ms,
    }  # fmt: skip
    connection.execute(sa.insert(RELEASE), row)


def names(connection: Connection, most: int) -> tuple[list[str], int]:
    rows, left_out = listed(connection, Severities(), most)
    return [row.id for row in rows], left_out


def test_what_waits_is_not_pushed_out_by_what_is_newer_and_does_not_wait(
    connection: Connection,
) -> None:
    put(connection, "waits", "awaiting", 1, CALM)
    put(connection, "runs", "staged", 2, None)
    for n in range(9):
        put(connection, f"done{n}", "verified", 10 + n, CALM)
    assert names(connection, 3) == (["done8", "runs", "waits"], 0)
    assert len(names(connection, 100)[0]) == 11


def test_of_more_than_fits_the_highest_findings_stay_and_then_the_oldest(
    connection: Connection,
) -> None:
    for n in range(6):
        put(connection, f"calm{n}", "awaiting", n, CALM)
    put(connection, "odd", "awaiting", 99, ODD)
    put(connection, "done", "verified", 100, ODD)
    assert names(connection, 3) == (["odd", "calm1", "calm0"], 4)


def test_a_report_is_read_once(connection: Connection) -> None:
    put(connection, "odd", "awaiting", 1, ODD)
    review = connection.execute(sa.select(RELEASE.c.review)).scalar_one()
    known = Severities()
    assert known.of(connection, [review, None]) == {review: "high", None: ""}
    connection.execute(sa.delete(REVIEW))
    assert known.of(connection, [review]) == {review: "high", None: ""}
    assert Severities().of(connection, [review]) == {review: "", None: ""}
