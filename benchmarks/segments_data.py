"""The rows of `benchmarks.segments`: made in DuckDB, with typed columns, and copied from there into PostgreSQL.

Contacts differ in city, age, tags and consents; events lie within the last 13 months, and some contacts do far more
than others. Both databases hold the same rows.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from benchmarks.harness import console
from core.schema.partitions import next_month

NAMES = {
    "page.viewed": 60.0,
    "product.viewed": 18.0,
    "cart.changed": 8.0,
    "order.paid": 5.0,
    "session.started": 3.5,
    "application.saved": 3.0,
    "application.submitted": 2.0,
    "letter.answered": 0.5,
}
"""Event names and how many of a hundred events are theirs."""

DAYS = 395
_CITIES = (("Moscow", 30), ("Kazan", 10), ("Omsk", 10), ("Perm", 10), ("Samara", 15), ("Tver", 5), ("Ufa", 20))


def make(path: Path, contacts: int, events: int, at: datetime) -> None:
    """Write all rows into a DuckDB file; its times are UTC."""
    at = at.astimezone(UTC).replace(tzinfo=None)
    with duckdb.connect(str(path)) as store:
        store.execute("select setseed(0.42)")
        store.execute(
            f"""
            create table contact as
            select i + 1 as id, cast(? as timestamp) - to_seconds(cast(random() * 94608000 as bigint)) as created_at,
                {_pick(_CITIES)} as city, cast(18 + floor(random() * 72) as integer) as age,
                case when random() < 0.02 then ['vip'] when random() < 0.1 then ['reader'] else [] end as tags,
                case when random() < 0.7 then 'ru' else 'en' end as language,
                random() < 0.6 as agreed, 'c' || (i + 1) || '@example' || ((i + 1) % 50) || '.com' as email
            from (select i, random() as draw from range(?) r(i))
            """,
            [at, contacts],
        )
        store.execute("create table name as select * from (values " + _values() + ") n(id, name)")
        store.execute(
            f"""
            create table event as
            select row_number() over (order by occurred_at) as id, * from (
                select cast(? as timestamp) - to_microseconds(cast(random() * {DAYS * 86_400_000_000} as bigint))
                    as occurred_at,
                    cast(1 + floor({contacts} * power(random(), 1.5)) as bigint) as contact_id,
                    {_pick(tuple((number, share) for number, share in enumerate(NAMES.values(), 1)))} as name_id,
                    '/catalog/' || cast(floor(random() * 1000) as integer) as path,
                    round(random() * 1000, 2) as amount
                from (select random() as draw from range(?))
            )
            """,
            [at, events],
        )
        store.execute('create table meta as select cast(? as timestamp) as "at"', [at])


def moment(path: Path) -> datetime:
    """The moment that rows of a file were made for."""
    with duckdb.connect(str(path), read_only=True) as store:
        at: datetime = _one(store, 'select "at" from meta')
        return at.replace(tzinfo=UTC)


def copy(path: Path, url: str, folder: Path) -> None:
    """Bring the rows of a DuckDB file into a migrated, empty PostgreSQL by COPY."""
    with duckdb.connect(str(path), read_only=True) as store, psycopg.connect(url, autocommit=True) as connection:
        _copy(
            store,
            connection,
            folder,
            "contact (id, created_at, language, tags, attributes)",
            "select id, created_at, language, '{' || array_to_string(tags, ',') || '}', "
            """'{"city": "' || city || '", "age": ' || age || '}' from contact order by id""",
        )
        _copy(
            store,
            connection,
            folder,
            "identity (kind, value, contact_id)",
            "select 'email', email, id from contact order by id",
        )
        _copy(
            store,
            connection,
            folder,
            "consent (contact_id, channel, purpose, granted)",
            "select id, 'email', 'marketing', agreed from contact order by id",
        )
        _copy(store, connection, folder, "event_name (id, name)", "select id, name from name")
        connection.execute("insert into attribute (name, type) values ('city', 'text'), ('age', 'number')")
        _events(store, connection, folder)
        connection.execute(
            "select setval('event_id_seq', (select max(id) from event)), "
            "setval(pg_get_serial_sequence('contact', 'id'), (select max(id) from contact)), "
            "setval(pg_get_serial_sequence('event_name', 'id'), (select max(id) from event_name))"
        )
        connection.execute("vacuum (analyze, parallel 2)")


def _events(store: duckdb.DuckDBPyConnection, connection: psycopg.Connection[Any], folder: Path) -> None:
    """Month by month, each into a table of its own that becomes a partition, with its indexes, when it is full."""
    month = _one(store, "select date_trunc('month', min(occurred_at)) from event")
    last = _one(store, "select max(occurred_at) from event")
    while month <= last:
        name, end = f"event_{month:%Y_%m}", next_month(month)
        connection.execute(f"drop table if exists {name}")
        connection.execute(f"create table {name} (like event including defaults including constraints)")
        _copy(
            store,
            connection,
            folder,
            f"{name} (id, occurred_at, received_at, contact_id, name_id, value, properties)",
            "select id, occurred_at, occurred_at, contact_id, name_id, amount, "
            """'{"path": "' || path || '", "value": ' || amount || ', "amount": ' || amount || '}' """
            f"from event where occurred_at >= '{month:%Y-%m-%d}' and occurred_at < '{end:%Y-%m-%d}' order by id",
        )
        connection.execute(
            f"alter table event attach partition {name} "
            f"for values from ('{month:%Y-%m-%d} 00:00:00+00') to ('{end:%Y-%m-%d} 00:00:00+00')"
        )
        month = end


def _copy(
    store: duckdb.DuckDBPyConnection, connection: psycopg.Connection[Any], folder: Path, into: str, query: str
) -> None:
    begun = time.monotonic()
    file = folder / "rows.csv"
    store.execute(f"copy ({query}) to '{file}' (format csv, header false)")
    with file.open("rb") as rows, connection.cursor().copy(f"copy {into} from stdin (format csv)") as sink:
        while block := rows.read(1 << 20):
            sink.write(block)
    console.log(f"{into.partition(' ')[0]}: {file.stat().st_size >> 20} MB in {time.monotonic() - begun:.1f} s")
    file.unlink()


def _one(store: duckdb.DuckDBPyConnection, query: str) -> Any:
    row = store.execute(query).fetchone()
    assert row is not None
    return row[0]


def _values() -> str:
    return ", ".join(f"({number}, '{name}')" for number, name in enumerate(NAMES, 1))


def _pick(choices: tuple[tuple[object, float], ...]) -> str:
    """An expression that chooses by share, from the column `draw`, a number between 0 and 1."""
    bound, total, cases = 0.0, sum(share for _, share in choices), []
    for one, share in choices:
        bound += share
        cases.append(f"when draw < {bound / total} then {one!r}")
    return f"case {' '.join(cases)} else {choices[-1][0]!r} end"
