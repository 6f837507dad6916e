"""How fast a file of contacts is imported, and how much memory that takes.

`python -m benchmarks.load_contacts [--rows N]` writes a CSV with 8 columns, starts an embedded PostgreSQL of its own
with the settings it has in production, and imports the file through the same function as the command line.
`peak_mb` is the most memory that the importing process had, which is this one; PostgreSQL's is not in it.
"""

import argparse
import asyncio
import csv
import json
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from contacts.columns import Options
from contacts.importing import Report, import_file
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.scratch import scratch_server

HEADER = ["email", "external_id", "first_name", "last_name", "city", "age", "time_zone", "consent"]
_FIRST = ["Анна", "Борис", "Вера", "Глеб", "Дарья", "Егор", "Жанна", "Захар", "Ирина", "Кирилл"]
_LAST = ["Иванова", "Петров", "Сидорова", "Кузнецов", "Смирнова", "Попов", "Лебедева", "Козлов", "Новикова", "Морозов"]
_CITIES = [
    "Москва",
    "Санкт-Петербург",
    "Новосибирск",
    "Екатеринбург",
    "Казань",
    "Нижний Новгород",
    "Самара",
    "Омск",
    "Уфа",
    "Пермь",
]
_ZONES = ["Europe/Moscow", "Asia/Yekaterinburg", "Asia/Novosibirsk", "Europe/Samara", "Asia/Omsk"]


def write_file(path: Path, rows: int) -> None:
    """A CSV of contacts, the same for the same number of rows."""
    pick = random.Random(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(_row(pick, number) for number in range(rows))


def _row(pick: random.Random, number: int) -> list[object]:
    zone, consent = pick.choice(_ZONES), pick.choice(("yes", "yes", "no"))
    names = [pick.choice(_FIRST), pick.choice(_LAST), pick.choice(_CITIES)]
    email = f"{pick.getrandbits(40):x}.{number}@example{pick.randrange(100)}.com"
    return [email, f"crm-{number}", *names, pick.randrange(18, 90), zone, consent]


async def measure(rows: int, url: str, folder: Path) -> tuple[Report, float]:
    """Import a fresh file into an empty database; gives the report and the seconds it took."""
    path = folder / "contacts.csv"
    await asyncio.to_thread(write_file, path, rows)
    settings = Settings(data=folder)
    database = Database(url, pool=2)
    await migrate(database, settings)
    options = Options(consent_column="consent", consents=(("email", "marketing"),))
    started = time.monotonic()
    report = await import_file(database, path, options, settings=settings)
    seconds = time.monotonic() - started
    async with database.begin() as connection:
        for table in ("contact", "identity", "consent", "consent_record"):
            size, count = (
                await connection.execute(text(f"select pg_total_relation_size('{table}'), count(*) from {table}"))
            ).one()
            print(f"{table:15} {count:9,} rows {size / count:6.0f} bytes a row with its indexes")
    await database.close()
    return report, seconds


async def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    folder = Path(tempfile.mkdtemp(prefix="kaskad-load-"))
    try:
        async with scratch_server({}) as server:
            report, seconds = await measure(rows, server.url, folder)
    finally:
        shutil.rmtree(folder)
    assert report.accepted == report.created == rows, report
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "seconds": round(seconds, 2),
        "peak_mb": round(peak, 1),
        "rows": rows,
        "contacts_per_s": round(rows / seconds),
    }
    print(json.dumps({"benchmark": "load_contacts", "figures": figures}))


if __name__ == "__main__":
    asyncio.run(main())
