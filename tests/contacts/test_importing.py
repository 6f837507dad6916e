"""Importing files: whole or not at all, again from where it stopped, whoever dies."""

import asyncio
import csv
import signal
import struct
import sys
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from sqlalchemy import text

from contacts import Item, get, upsert
from contacts.columns import Options
from contacts.erasure import erase
from contacts.identifying import conflicts
from contacts.importing import Report, import_file
from contacts.profiles import find
from core.database import Database
from core.errors import InvalidInput
from core.settings import Settings

CONSENT = Options(
    types={"age": "number"},
    consent_column="consent",
    consents=(("email", "marketing"),),
    evidence_column="proof",
)


def table(path: Path, *rows: list[Any], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


async def counts(database: Database) -> dict[str, int]:
    tables = ("contact", "identity", "consent", "consent_record")
    async with database.begin() as connection:
        return {t: (await connection.execute(text(f"select count(*) from {t}"))).scalar_one() for t in tables}


async def shown(database: Database, reference: str) -> Any:
    async with database.begin() as connection:
        return await get(connection, await find(connection, reference))


def rejected(report: Report) -> list[list[str]]:
    assert report.rejects_file is not None
    with Path(report.rejects_file).open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("chunk", [1, 3, 1000])
async def test_rows_become_contacts_whatever_the_chunk(database: Database, tmp_path: Path, chunk: int) -> None:
    async with database.begin() as connection:
        old = Item(identities={"email": "old@x.com"}, attributes={"city": "Омск", "kept": 1})
        await upsert(connection, [old, Item(identities={"email": "alone@x.com"})])
    path = table(
        tmp_path / "people.csv",
        ["Почта", "external_id", "Город", "age", "tags", "consent", "proof"],
        ["Anna@X.com", "1", 'Москва "А"', "31", "a;b", "да", "form"],
        ["old@x.com", "2", "Казань", "", "", "no", ""],
        ["bad", "3", "Уфа", "5", "", "", ""],
        ["", "", "", "", "", "", ""],
        ["anna@x.com", "", "", "32", "c", "нет", "called"],
        ["c@x.com", "4", "=cmd()", "old", "", "", ""],
        ["d@x.com", "5", "a\\b\nc", "40,5", "", "", ""],
        ["alone@x.com", "1", "", "", "", "", ""],
        ["e@x.com", "6"],
        ["", "", "nobody", "", "", "", ""],
    )
    report = await import_file(database, path, CONSENT, chunk=chunk)
    assert (report.rows, report.accepted, report.created, report.updated) == (10, 4, 2, 1)
    assert (report.duplicates, report.rejected) == (1, 5)
    anna = await shown(database, "email:anna@x.com")
    assert anna.attributes == {"city": 'Москва "А"', "age": 32}
    assert anna.tags == ["a", "b", "c"]
    assert [one["granted"] for one in anna.consents] == [False]
    assert (await shown(database, "external_id:2")).attributes == {"city": "Казань", "kept": 1}
    assert (await shown(database, "external_id:5")).attributes == {"city": "a\\b\nc", "age": 40.5}
    rows = rejected(report)
    assert rows[0][:4] == ["line", "column", "reason", "Почта"]
    assert [(row[0], row[1]) for row in rows[1:]] == [
        ("4", "Почта"),
        ("7", "age"),
        ("10", "Почта"),
        ("11", ""),
        ("12", "Почта"),
    ]
    assert rows[2][5] == "'=cmd()"
    async with database.begin() as connection:
        evidence = await connection.execute(text("select evidence->>'text' from consent_record order by id"))
        assert "called" in evidence.scalars().all()


async def test_a_mended_rejects_file_imports(database: Database, tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.csv", ["email", "note", "age"], ["a@x.com", "+7", "x"], ["b@x.com", "", "1"], ["c@x.com", "", "2"]
    )
    report = await import_file(database, path, Options(types={"age": "number"}))
    rows = rejected(report)
    rows[1][5] = "3"
    again = await import_file(database, table(tmp_path / "mended.csv", *rows), Options(types={"note": "text"}))
    assert again.accepted == 1
    assert (await shown(database, "email:a@x.com")).attributes == {"note": "+7", "age": 3}


async def test_a_finished_file_is_left_alone_unless_asked(database: Database, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["email", "age"], ["a@x.com", "1"])
    first = await import_file(database, path)
    second = await import_file(database, path)
    third = await import_file(database, path, again=True)
    assert (first.state, second.state, third.state) == ("finished", "already", "finished")
    assert (first.created, third.created, third.updated) == (1, 0, 1)


async def test_a_dry_run_counts_the_same_and_writes_nothing(database: Database, tmp_path: Path) -> None:
    rows = [[f"{n % 70}@x.com", n] for n in range(100)]
    path = table(tmp_path / "a.csv", ["email", "n"], *rows, ["bad", 1])
    dry = await import_file(database, path, dry_run=True, chunk=30)
    assert (await counts(database))["contact"] == 0
    async with database.begin() as connection:
        assert (await connection.execute(text("select count(*) from attribute"))).scalar_one() == 0
    real = await import_file(database, path, chunk=30)
    for report in (dry, real):
        assert (report.accepted, report.created, report.duplicates, report.rejected) == (100, 70, 30, 1)


async def test_workbooks(database: Database, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["email", "external_id", "born", "seen", "score", "vip"])
    sheet.append(["a@x.com", 17, date(1995, 2, 1), datetime(2026, 1, 2, 3, 4), 2.5, True])  # noqa: DTZ001
    sheet.append(["b@x.com", "007", None, None, None, None])
    book.save(tmp_path / "people.xlsx")
    report = await import_file(database, tmp_path / "people.xlsx")
    assert report.created == 2
    anna = await shown(database, "external_id:17")
    assert anna.attributes == {"born": "1995-02-01", "seen": "2026-01-02T03:04:00Z", "score": 2.5, "vip": True}
    assert (await shown(database, "external_id:007")).attributes == {}


async def test_encodings_and_delimiters(database: Database, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["Почта", "Имя"], ["a@x.com", "Анна, Б"], delimiter=";", encoding="cp1251")
    with pytest.raises(InvalidInput, match="cp1251"):
        await import_file(database, path)
    await import_file(database, path, Options(encoding="cp1251"))
    await import_file(database, table(tmp_path / "b.csv", ["email", "name"], ["b@x.com", "B"], encoding="utf-8-sig"))
    assert (await shown(database, "email:a@x.com")).attributes == {"first_name": "Анна, Б"}
    assert (await shown(database, "email:b@x.com")).attributes == {"full_name": "B"}


@pytest.mark.parametrize("encoding", ["hex", "rot13", "undefined", "cp1251\0", "\udc80", "nothing"])
async def test_what_is_no_encoding_of_texts(database: Database, tmp_path: Path, encoding: str) -> None:
    path = table(tmp_path / "a.csv", ["email"], ["a@x.com"])
    with pytest.raises(InvalidInput, match="no encoding"):
        await import_file(database, path, Options(encoding=encoding))


@pytest.mark.parametrize("encoding", ["idna", "punycode"])
async def test_encodings_that_fit_no_file_are_refused_in_words(
    database: Database, tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "a.csv").write_bytes("почта\na..b@x.com\n".encode())
    with pytest.raises(InvalidInput, match=f"not {encoding}"):
        await import_file(database, tmp_path / "a.csv", Options(encoding=encoding))


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "\0"])
async def test_what_cannot_part_columns(database: Database, tmp_path: Path, delimiter: str) -> None:
    path = table(tmp_path / "a.csv", ["email"], ["a@x.com"])
    with pytest.raises(InvalidInput, match="cannot part columns"):
        await import_file(database, path, Options(delimiter=delimiter))


async def test_a_workbook_is_measured_by_what_it_unpacks_to(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "people.xlsx"
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["email"])
    book.save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/picture", bytes(300_000))
    settings = Settings(workbook_bytes_limit=200_000)
    with pytest.raises(InvalidInput, match="more than 200,000 bytes"):
        await import_file(database, path, settings=settings)
    content = path.read_bytes()
    assert content.count(struct.pack("<I", 300_000)) == 2
    path.write_bytes(content.replace(struct.pack("<I", 300_000), struct.pack("<I", 10)))
    with pytest.raises(InvalidInput, match="more than 200,000 bytes"):
        await import_file(database, path, settings=settings)


async def test_a_rejects_file_of_somebody_elses_is_moved_aside(database: Database, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["email"], ["a@x.com"], ["bad"])
    kept = tmp_path / "a.csv.rejects.csv"
    kept.write_text("mended by hand")
    dry = await import_file(database, path, dry_run=True)
    assert dry.rejects_file == str(tmp_path / "a.csv.dry-run.rejects.csv")
    assert kept.read_text() == "mended by hand"
    first = await import_file(database, path)
    assert [row[0] for row in rejected(first)] == ["line", "3"]
    second = await import_file(database, path, again=True)
    assert [row[0] for row in rejected(second)] == ["line", "3"]
    aside = [tmp_path / f"a.csv.rejects.csv.{number}" for number in (1, 2)]
    assert [one.read_text().splitlines()[0] for one in aside] == ["mended by hand", "line,column,reason,email"]
    clean = table(tmp_path / "clean.csv", ["email"], ["a@x.com"])
    (tmp_path / "clean.csv.rejects.csv").write_text("mended by hand")
    assert (await import_file(database, clean)).rejects_file is None
    assert (tmp_path / "clean.csv.rejects.csv").read_text() == "mended by hand"


async def test_rejects_that_cannot_be_written_are_said_before_anything_is_imported(
    database: Database, tmp_path: Path
) -> None:
    path = table(tmp_path / "a.csv", ["email"], ["a@x.com"], ["bad"])
    (tmp_path / "a.csv.rejects.csv").mkdir()
    with pytest.raises(InvalidInput, match="no file"):
        await import_file(database, path)
    with pytest.raises(InvalidInput, match="cannot be written"):
        await import_file(database, path, rejects=tmp_path / "nowhere" / "rejects.csv")
    assert (await counts(database))["contact"] == 0


async def test_a_chunk_that_is_done_again_writes_its_rejects_once(database: Database, tmp_path: Path) -> None:
    """Entering a journey comes after the rejects, and here it fails as in a deadlock, once."""
    async with database.begin() as connection:
        await connection.execute(text("insert into journey (name, title, state) values ('welcome', 'W', 'active')"))
        for statement in (
            "create sequence tries",
            "create function fail_once() returns trigger language plpgsql as $$ begin "
            "if nextval('tries') = 1 then raise exception 'again' using errcode = '40P01'; end if; return null; end $$",
            "create trigger fail_once after insert on event for each statement execute function fail_once()",
        ):
            await connection.execute(text(statement))
    path = table(tmp_path / "a.csv", ["email"], ["a@x.com"], ["bad"])
    report = await import_file(database, path, Options(enter="welcome"))
    async with database.begin() as connection:
        assert (await connection.execute(text("select nextval('tries')"))).scalar_one() == 3
    assert [row[0] for row in rejected(report)] == ["line", "3"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "no header"),
        ("twice.csv", b"email,Email\n", "named twice"),
        ("bytes.csv", b"email\na@x.com\n\xff\n", "not utf-8"),
        ("quote.csv", b'email,n\na@x.com,"' + b"x" * 200_000, "cannot be read"),
        ("broken.xlsx", b"PK nothing", "cannot be read"),
        ("nothing.csv", None, "no such file"),
    ],
)
async def test_files_that_cannot_be_read_change_nothing(
    database: Database, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        await import_file(database, tmp_path / name)
    assert (await counts(database))["contact"] == 0


async def test_a_contact_may_not_grow_beyond_its_limits(database: Database, tmp_path: Path) -> None:
    async with database.begin() as connection:
        await upsert(connection, [Item(identities={"email": "a@x.com"}, attributes={"a": 1, "b": 2})])
    path = table(tmp_path / "a.csv", ["email", "c", "external_id"], ["a@x.com", "3", "new"], ["b@x.com", "3", ""])
    report = await import_file(database, path, settings=Settings(contact_attributes_limit=2))
    assert (report.created, report.updated, report.rejected) == (1, 0, 1)
    assert (await counts(database))["identity"] == 2


@pytest.mark.parametrize("chunk", [1, 100])
async def test_two_external_ids_that_share_an_address_are_two_contacts(
    database: Database, tmp_path: Path, chunk: int
) -> None:
    header = ["external_id", "email", "first_name"]
    path = table(
        tmp_path / "a.csv",
        header,
        ["u-1", "family@x.com", "Anna"],
        ["u-2", "family@x.com", "Boris"],
        ["u-3", "c@x.com", "Clara"],
        ["u-2", "c@x.com", ""],
        ["u-1", "family@x.com", "Anna M."],
    )
    report = await import_file(database, path, chunk=chunk)
    assert (report.accepted, report.created, report.rejected) == (5, 3, 0)
    for name, email, first_name in (
        ("u-1", "family@x.com", "Anna M."),
        ("u-2", None, "Boris"),
        ("u-3", "c@x.com", "Clara"),
    ):
        found = await shown(database, f"external_id:{name}")
        emails = [one["value"] for one in found.identities if one["kind"] == "email"]
        assert (emails, found.attributes) == ([email] if email else [], {"first_name": first_name})
    async with database.begin() as connection:
        noted = await conflicts(connection)
    assert sorted(one["value"] for one in noted) == ["c@x.com", "family@x.com"]
    assert {one["source"] for one in noted} == {"import"}


async def test_imports_beside_each_other_make_each_contact_once(database: Database, tmp_path: Path) -> None:
    rows = [[f"{n}@x.com", f"crm-{n}"] for n in range(600)]
    paths = [table(tmp_path / f"{k}.csv", ["email", "external_id"], *rows[k:], *rows[:k]) for k in range(0, 600, 150)]
    reports = await asyncio.gather(*(import_file(database, path, chunk=50) for path in paths))
    assert sum(report.created for report in reports) == 600
    assert all(report.accepted == 600 for report in reports)
    assert await counts(database) == {"contact": 600, "identity": 1200, "consent": 0, "consent_record": 0}


_SCRIPT = """
import asyncio, sys
from pathlib import Path
from contacts.columns import Options
from contacts.erasure import erase
from contacts.importing import import_file
from core.database import Database
options = Options(consent_column="consent", consents=(("email", "marketing"),))
asyncio.run(import_file(Database(sys.argv[1]), Path(sys.argv[2]), options, chunk=200))
"""


async def test_a_killed_import_goes_on_where_it_stopped(database: Database, tmp_path: Path) -> None:
    """20,000 rows, a tenth of them repeated and some bad; killed twice on the way."""
    rows: list[list[Any]] = [[f"{n % 18_000}@x.com", n, "yes" if n % 2 else "no"] for n in range(20_000)]
    for n in range(50, 20_000, 1000):
        rows[n][0] = "bad"
    path = table(tmp_path / "people.csv", ["email", "n", "consent"], *rows)
    position = 0
    for _ in range(2):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", _SCRIPT, database.url, str(path))
        before = position
        while position < before + 2000:
            assert child.returncode is None, "it finished before it could be killed"
            async with database.begin() as connection:
                found = await connection.execute(text("select position from contact_import"))
                position = found.scalar() or 0
        child.send_signal(signal.SIGKILL)
        await child.wait()
    options = Options(consent_column="consent", consents=(("email", "marketing"),))
    report = await import_file(database, path, options, chunk=200)
    assert report.resumed_at >= position > 0
    assert (report.rows, report.accepted, report.rejected) == (20_000, 19_980, 20)
    emails = {row[0] for row in rows} - {"bad"}
    assert report.created == len(emails)
    assert report.duplicates == 19_980 - len(emails)
    assert await counts(database) == {
        "contact": len(emails),
        "identity": len(emails),
        "consent": len(emails),
        "consent_record": 19_980,
    }
    assert [row[0] for row in rejected(report)] == ["line", *(str(n + 2) for n in range(50, 20_000, 1000))]


async def test_an_erased_anonymous_id_does_not_become_usable_again(database: Database, tmp_path: Path) -> None:
    async with database.begin() as connection:
        [made] = await upsert(connection, [Item(identities={"anonymous_id": "device-1"})])
        assert made.contact_id is not None
        await erase(connection, made.contact_id)
    path = table(tmp_path / "people.csv", ["email", "anonymous_id"], ["a@x.com", "device-1"], ["b@x.com", "device-2"])
    report = await import_file(database, path)
    assert (report.accepted, report.rejected) == (1, 1)
    assert rejected(report)[1][2] == "the anonymous id belonged to a contact who was erased"
    assert await counts(database) == {"contact": 1, "identity": 2, "consent": 0, "consent_record": 0}
