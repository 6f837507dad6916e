"""The commands of segments, run as a user runs them."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from core.database import Database
from core.schema.contacts import contact
from segments import store, tracking


def kaskad(database: Database, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "studio.cli", "segment", *arguments],
        env={"KASKAD_DATABASE": database.url, "KASKAD_DATA": str(folder / "data"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(database: Database, folder: Path, *arguments: str) -> Any:
    done = kaskad(database, folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_from_a_file_to_an_export(database: Database, tmp_path: Path) -> None:
    async with database.begin() as connection:
        rows = [{"id": number, "tags": ["vip"] if number < 4 else []} for number in range(1, 6)]
        await connection.execute(insert(contact), rows)
    file = tmp_path / "vip.yaml"
    file.write_text("segment: vip\ncriteria: {contact.tags: vip}\n")
    assert answer(database, tmp_path, "preview", str(file))["contacts"] == 3
    assert answer(database, tmp_path, "publish", str(file)) == [{"segment": "vip", "changed": True}]
    assert answer(database, tmp_path, "count", "vip") == {"segment": "vip", "contacts": 3}
    assert answer(database, tmp_path, "overlap", "vip", "all")["both"] == 3
    assert "in both" in kaskad(database, tmp_path, "overlap", "vip", "all").stdout
    assert "SELECT contact.id" in answer(database, tmp_path, "sql", "vip")["sql"]
    assert [one["id"] for one in answer(database, tmp_path, "members", "vip")] == [1, 2, 3]
    target = tmp_path / "vip.csv"
    assert answer(database, tmp_path, "export", "vip", "--columns", "id", "--to", str(target))["lines"] == 3
    with target.open(newline="") as written:
        assert list(csv.reader(written)) == [["id"], ["1"], ["2"], ["3"]]
    assert answer(database, tmp_path, "show", "vip")["words"] == "has the tag vip"


async def test_a_wrong_file_is_named_with_its_line_and_the_mend(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("segment: wrong\ncriteria:\n  contact.tagz: vip\n  event: {nam: order.paid}\n")
    done = kaskad(database, tmp_path, "preview", str(file))
    assert done.returncode == 1
    assert "wrong.yaml:4:" in done.stderr
    assert "did you mean name?" in done.stderr


async def test_what_dies_before_its_commit_leaves_neither_a_member_nor_an_event(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(contact), [{"id": 1}])
        await store.publish(connection, "segment: vip\ncriteria: {contact.tags: vip}\n")
        await tracking.listen(connection, {"vip"})
    async with database.begin() as connection:
        assert await tracking.sweep(connection)
    async with database.begin() as connection:
        await connection.execute(text("update contact set tags = '{vip}'"))

    class Killed(Exception):
        pass

    with pytest.raises(Killed):
        async with database.begin() as connection:
            assert await tracking.look_on(connection) == 1
            raise Killed
    both = text(
        "select (select count(*) from segment_presence), (select members from segment), "
        "(select count(*) from event e join event_name n on n.id = e.name_id where n.name = 'segment.entered')"
    )
    async with database.begin() as connection:
        assert tuple((await connection.execute(both)).one()) == (0, 0, 0)
    for _ in range(2):
        async with database.begin() as connection:
            await tracking.look_on(connection)
    async with database.begin() as connection:
        assert tuple((await connection.execute(both)).one()) == (1, 1, 1)
