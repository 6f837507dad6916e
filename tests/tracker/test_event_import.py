"""Importing past events: what is read, what is refused, and that nothing is there twice."""

import asyncio
import csv
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from contacts import erasure, resolve
from core import eventlog
from core.clock import now
from core.database import Database
from core.errors import Conflict, InvalidInput
from core.settings import Settings
from tracker.event_files import Options
from tracker.importing import Progress, import_events

LAST_YEAR = (now() - timedelta(days=400)).replace(microsecond=0)


def line(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"e-{number}",
        "event": "order.paid",
        "contact": {"external_id": f"u-{number % 7}"},
        "at": (LAST_YEAR + timedelta(minutes=number)).isoformat(),
        "properties": {"value": number},
    } | more


def jsonl(path: Path, lines: list[Any]) -> Path:
    path.write_bytes(b"".join((one if isinstance(one, bytes) else msgspec.json.encode(one)) + b"\n" for one in lines))
    return path


def rejected(path: str | None) -> list[dict[str, str]]:
    assert path is not None
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


async def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with database.begin() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def test_lines_become_events_at_their_own_time(database: Database, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "past.jsonl", [line(n) for n in range(50)])
    told: list[Progress] = []
    report = await import_events(database, file, chunk=20, progress=told.append)
    assert (report.state, report.rows, report.accepted, report.rejected) == ("finished", 50, 50, 0)
    assert told == [Progress(20, 50, 0), Progress(40, 50, 0), Progress(50, 50, 0)]
    found = await rows(database, "select occurred_at, value from event order by id")
    assert found == [(LAST_YEAR + timedelta(minutes=n), float(n)) for n in range(50)]
    assert await rows(database, "select count(*) from contact") == [(7,)]
    assert await rows(database, "select first_id, last_id from log_history") == [(1, 50)]
    assert (await import_events(database, file)).state == "already"
    again = await import_events(database, file, again=True)
    assert (again.accepted, again.duplicates) == (0, 50)


async def test_bad_lines_are_told_with_the_reason(database: Database, tmp_path: Path) -> None:
    async with database.begin() as connection:
        (gone,) = await resolve(connection, [("anonymous_id", "gone")])
        await erasure.erase(connection, gone)
    lines = [
        line(0),
        b"{nothing",
        line(2, event="Order Paid"),
        line(3, at="2001-01-01T00:00:00Z"),
        b"",
        line(5, contact={"anonymous_id": "gone"}),
        b"[" + msgspec.json.encode(line(6)) + b"]",
        line(0),
    ]
    report = await import_events(database, jsonl(tmp_path / "past.jsonl", lines))
    assert (report.rows, report.accepted, report.duplicates, report.rejected) == (8, 1, 1, 5)
    found = rejected(report.rejects_file)
    assert [(row["line"], row["field"]) for row in found] == [
        ("2", ""), ("3", "event"), ("4", "at"), ("6", ""), ("7", "")
    ]  # fmt: skip
    assert "erased" in found[3]["reason"]
    assert msgspec.json.decode(found[1]["text"])["id"] == "e-2"


async def test_a_dry_run_and_another_file_leave_an_older_rejects_file_alone(database: Database, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "past.jsonl", [line(0), b"{nothing"])
    kept = tmp_path / "past.jsonl.rejects.csv"
    kept.write_text("mended by hand")
    dry = await import_events(database, file, dry_run=True)
    assert [row["line"] for row in rejected(dry.rejects_file)] == ["2"]
    assert kept.read_text() == "mended by hand"
    done = await import_events(database, file)
    assert done.rejects_file == str(kept) and [row["line"] for row in rejected(done.rejects_file)] == ["2"]
    assert (tmp_path / "past.jsonl.rejects.csv.1").read_text() == "mended by hand"


async def test_a_table_of_orders(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(
        "Почта;when;value;paid;code;note\n"
        f"Anna@X.com;{LAST_YEAR:%Y-%m-%d %H:%M:%S};12.5;yes;0017;first\n"
        f"anna@x.com;{LAST_YEAR:%Y-%m-%d};x;no;1;\n"
    )
    options = Options(
        event="order.paid",
        mapping={"Почта": "email", "when": "at", "note": "-"},
        types={"paid": "boolean"},
        zone="Europe/Moscow",
    )
    report = await import_events(database, file, options)
    assert (report.accepted, report.rejected) == (1, 1)
    ((at, value, properties),) = await rows(database, "select occurred_at, value, properties from event")
    assert at == LAST_YEAR.replace(tzinfo=UTC) - timedelta(hours=3)
    assert (value, properties) == (12.5, {"value": 12.5, "paid": True, "code": "0017"})


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ("email,at", Options(), "which event"),
        ("event,at", Options(), "whose events"),
        ("event,email", Options(mapping={"mail": "email"}), "no column 'mail'"),
        ("event,email", Options(types={"a": "money"}), "no type 'money'"),
        ("event,email", Options(zone="Mars"), "no time zone"),
    ],
)
async def test_columns_that_make_no_sense(
    database: Database, tmp_path: Path, header: str, options: Options, said: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(header + "\n")
    with pytest.raises(InvalidInput, match=said):
        await import_events(database, file, options)


async def test_a_dry_run_writes_nothing(database: Database, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "past.jsonl", [line(0), b"x"])
    report = await import_events(database, file, dry_run=True)
    assert (report.state, report.accepted, report.rejected) == ("checked", 1, 1)
    assert await rows(database, "select count(*) from event") == [(0,)]
    assert (await import_events(database, file)).accepted == 1


async def test_history_and_the_present_are_told_apart(database: Database, tmp_path: Path) -> None:
    async def stretches() -> list[tuple[int, int]]:
        position, found = 0, []
        async with database.begin() as connection:
            last = (await connection.execute(text("select max(id) from event"))).scalar_one()
            while position < last:
                begin, position = await eventlog.next_stretch(connection, position, last)
                if begin < position:
                    found.append((begin + 1, position))
        return found

    async def happen() -> None:
        async with database.begin() as connection:
            (contact,) = await resolve(connection, [("email", "a@x.com")])
            await eventlog.record(connection, "page.viewed", contact, now())

    await happen()
    await import_events(database, jsonl(tmp_path / "1.jsonl", [line(n) for n in range(30)]), chunk=10)
    await happen()
    await happen()
    await import_events(database, jsonl(tmp_path / "2.jsonl", [line(n) for n in range(30, 60)]), chunk=10)
    assert await stretches() == [(1, 1), (32, 33)]
    assert await rows(database, "select first_id, last_id from log_history order by 1") == [(2, 31), (34, 63)]
    live = jsonl(tmp_path / "3.jsonl", [line(n) for n in range(60, 65)])
    await import_events(database, live, Options(live=True))
    assert await stretches() == [(1, 1), (32, 33), (64, 68)]


async def test_two_imports_of_one_file_at_once(database: Database, tmp_path: Path) -> None:
    lines = [{name: value for name, value in line(n).items() if name != "id"} for n in range(500)]
    file = jsonl(tmp_path / "past.jsonl", lines)
    done = await asyncio.gather(*(import_events(database, file, chunk=50) for _ in range(2)), return_exceptions=True)
    assert any(not isinstance(one, BaseException) for one in done) or all(isinstance(one, Conflict) for one in done)
    await import_events(database, file, chunk=50)
    assert await rows(database, "select count(*) from event") == [(500,)]


async def test_a_killed_import_goes_on_where_it_stopped(database: Database, tmp_path: Path) -> None:
    lines = [{name: value for name, value in line(n).items() if name != "id"} for n in range(20_000)]
    lines[150] = b"broken"  # type: ignore[call-overload]
    file = jsonl(tmp_path / "past.jsonl", lines)
    program = (
        "import asyncio, sys; from pathlib import Path; from core.database import Database; "
        "from tracker.importing import import_events; "
        "asyncio.run(import_events(Database(sys.argv[1]), Path(sys.argv[2]), chunk=100))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, database.url, str(file))
    while not (await rows(database, "select 1 from event_import where position > 1000")):
        assert process.returncode is None
        await asyncio.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    report = await import_events(database, file)
    assert 1000 < report.resumed_at < 20_000
    assert (report.accepted, report.rejected) == (19_999, 1)
    assert await rows(database, "select count(*), count(distinct value) from event") == [(19_999, 19_999)]
    assert [row["line"] for row in rejected(report.rejects_file)] == ["151"]


async def test_names_beyond_the_limit(database: Database, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "past.jsonl", [line(0), line(1, event="a.b"), line(2, event="c.d")])
    report = await import_events(database, file, settings=Settings(event_names_limit=2, data=tmp_path))
    assert (report.accepted, report.rejected) == (2, 1)
    assert datetime.now(UTC) > LAST_YEAR


async def test_phone_numbers_are_read_as_in_the_installations_region(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    file = jsonl(tmp_path / "calls.jsonl", [line(1, contact={"phone": "030 1234567"})])
    await import_events(database, file, settings=settings.model_copy(update={"phone_region": "DE"}))
    assert await rows(database, "select value from identity") == [("+49301234567",)]
