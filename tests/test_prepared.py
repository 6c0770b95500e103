"""Prepared statements: the same answers, errors and transactions as by way of SQLAlchemy, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from presspass.core.errors import Fault
from presspass.store.database import Prepared, Writer, open_engine
from presspass.store.postgresql import TURN_TABLE

TABLE = sa.Table(
    "prepared",
    sa.MetaData(),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("content", sa.LargeBinary),
)
PUT = Prepared(sa.insert(TABLE).values(name=sa.bindparam("name"), size=sa.bindparam("size")))
FILL = Prepared(
    sa.update(TABLE)
    .where(TABLE.c.name == sa.bindparam("which"))
    .values(content=sa.bindparam("new"))
)
SELECT = sa.select(TABLE.c.size, TABLE.c.name, TABLE.c.content).where(
    TABLE.c.size >= sa.bindparam("low"), TABLE.c.size < sa.bindparam("high")
)
FIND = Prepared(SELECT.order_by(TABLE.c.size))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = open_engine(tmp_path / "prepared.db")
    else:
        dsn = request.getfixturevalue("postgresql").dsn
        url = dsn.replace("postgresql://", "postgresql+psycopg://", 1)
        made = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with made.connect() as connection:
            for statement in TURN_TABLE:
                connection.exec_driver_sql(statement)
    TABLE.drop(made, checkfirst=True)
    TABLE.create(made)
    yield made
    made.dispose()


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    made = Writer(engine)
    yield made
    made.close()


def names(writer: Writer) -> list[str]:
    return [row[1] for row in writer.run(lambda c: FIND.rows(c, low=0, high=2**40))]


def test_rows_are_the_ones_that_sqlalchemy_reads(writer: Writer) -> None:
    for number, name in enumerate(["a", "b'; drop table prepared; --", "ü%s :name ?"]):
        writer.run(lambda c, name=name, number=number: PUT.run(c, name=name, size=number * 2**33))
    writer.run(lambda c: FILL.run(c, which="a", new=b"\0\xff"))
    bounds = {"high": 2**40, "low": 0}  # by name, whatever their order
    plain = writer.run(lambda c: c.execute(SELECT.order_by(TABLE.c.size), bounds).all())
    assert writer.run(lambda c: FIND.rows(c, **bounds)) == [tuple(row) for row in plain]
    assert len(plain) == 3
    assert writer.run(lambda c: FIND.rows(c, low=1, high=2)) == []


def test_what_a_refused_job_has_written_is_undone_and_the_others_stay(writer: Writer) -> None:
    def refused(connection: Connection) -> None:
        PUT.run(connection, name="refused", size=1)
        raise KeyError("no")

    jobs = [
        writer.submit(lambda c: PUT.run(c, name="before", size=0)),
        writer.submit(refused),
        writer.submit(lambda c: PUT.run(c, name="after", size=2)),
    ]
    for job in (jobs[0], jobs[2]):
        job.result()
    with pytest.raises(KeyError):
        jobs[1].result()
    assert names(writer) == ["before", "after"]


def test_errors_are_sqlalchemys_and_end_only_their_own_job(writer: Writer) -> None:
    writer.run(lambda c: PUT.run(c, name="once", size=1))
    with pytest.raises(IntegrityError) as caught:
        writer.run(lambda c: PUT.run(c, name="once", size=2))
    assert "once" not in str(caught.value.params)  # values do not travel with errors
    missing = Prepared(sa.select(sa.table("not_there", sa.column("x")).c.x))
    with pytest.raises(
        (Fault, DBAPIError), match="not_there"
    ):  # a Fault where SQLite calls it operational
        writer.run(missing.rows)
    assert names(writer) == ["once"]


def test_a_value_that_is_not_given_is_an_error_and_not_a_null(writer: Writer) -> None:
    with pytest.raises((KeyError, DBAPIError)):
        writer.run(lambda c: PUT.run(c, name="half"))
    assert names(writer) == []
