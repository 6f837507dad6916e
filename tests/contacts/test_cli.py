"""The commands, run as a user runs them, against a real database."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import text

from contacts import optin
from core.clock import now
from core.database import Database


def kaskad(database: Database, tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"KASKAD_DATABASE": database.url, "KASKAD_DATA": str(tmp_path / "data"), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-m", "studio.cli", *arguments],
        env=own | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(database: Database, tmp_path: Path, *arguments: str) -> Any:
    done = kaskad(database, tmp_path, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_from_the_file_to_erasure(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email,code,agreed\nAnna@X.com,007,yes\nbad,1,no\n")
    options = ("--type", "code:text", "--consent-column", "agreed", "--consent", "email:marketing")
    report = answer(database, tmp_path, "contacts", "import", str(path), *options)
    assert (report["created"], report["rejected"]) == (1, 1)
    assert "imported before" in kaskad(database, tmp_path, "contacts", "import", str(path), *options).stdout
    shown = answer(database, tmp_path, "contacts", "show", "email:anna@x.com")
    assert shown["attributes"] == {"code": "007"}
    assert shown["consent_history"][0]["source"] == "import"
    assert kaskad(database, tmp_path, "suppression", "add", "email", "ANNA@x.com").returncode == 0
    assert answer(database, tmp_path, "suppression", "list")[0]["address"] == "anna@x.com"
    assert kaskad(database, tmp_path, "contacts", "erase", "email:anna@x.com", "--yes").returncode == 0
    assert answer(database, tmp_path, "contacts", "list") == []


async def test_an_import_asks_those_who_agreed_and_grants_nothing(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email,agreed\nanna@x.com,yes\nboris@x.com,no\nvera@x.com,\n")
    consent = ("--consent-column", "agreed", "--consent", "email:marketing", "--confirm")
    report = answer(database, tmp_path, "contacts", "import", str(path), *consent)
    assert (report["created"], report["rejected"]) == (3, 0)
    async with database.begin() as connection:
        asked = await connection.execute(
            text("select r.address, r.channel, r.purpose, r.source, r.evidence, r.told_at from consent_request r")
        )
        [request] = asked.all()
        said = await connection.execute(
            text(
                "select i.value, k.granted from consent k join identity i on i.contact_id = k.contact_id and "
                "i.kind = 'email'"
            )
        )
        assert [tuple(row) for row in said] == [("boris@x.com", False)]  # who refused needs no letter
        assert tuple(request)[:4] == ("anna@x.com", "email", "marketing", "import")
        assert (request.evidence["line"], request.told_at) == (2, None)
        assert await optin.tell(connection, now()) == 1  # her letter's event
    shown = answer(database, tmp_path, "contacts", "show", "email:anna@x.com")
    assert [record["granted"] for record in shown["consent_history"]] == []


async def test_a_terminal_sees_how_far_an_import_is(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\n" + "".join(f"{n}@x.com\n" for n in range(45_000)) + "bad\n")
    done = kaskad(database, tmp_path, "contacts", "import", str(path), FORCE_COLOR="1", COLUMNS="120")
    assert done.returncode == 0, done.stderr
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stderr)
    assert "importing" in drawn
    shown = [int(rows) for rows in re.findall(r"(\d+)/45001", drawn)]
    assert shown == sorted(shown) and shown[-1] == 45_001 and shown[0] < 45_001
    assert "1 rejected" in drawn
    assert "importing" not in kaskad(database, tmp_path, "contacts", "import", str(path), "--again").stderr
    quiet = kaskad(database, tmp_path, "contacts", "import", str(path), "--again", "--json", FORCE_COLOR="1")
    assert quiet.stderr == ""


async def test_errors_are_said_in_words(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("city\nОмск\n")
    done = kaskad(database, tmp_path, "contacts", "import", str(path))
    assert done.returncode == 1
    assert "no column identifies the contacts" in done.stderr
    assert "Traceback" not in done.stderr
