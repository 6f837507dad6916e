"""The commands of segments, run as a user runs them."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from typer.testing import CliRunner

from core.clock import now
from core.database import Database
from core.schema.contacts import contact, identity
from segments import cli, growth, store, tracking


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
    assert answer(database, tmp_path, "export", "vip", "--columns", "id", "--to", str(target))["contacts"] == 3
    with target.open(newline="") as written:
        assert list(csv.reader(written)) == [["id"], ["1"], ["2"], ["3"]]
    assert answer(database, tmp_path, "show", "vip")["words"] == "has the tag vip"


async def test_every_command_answers_in_json(database: Database, tmp_path: Path) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(contact), [{"id": number, "tags": ["vip"]} for number in range(1, 4)])
        mails = [{"kind": "email", "value": f"c{n}@example.com", "contact_id": n} for n in range(1, 4)]
        await connection.execute(insert(identity), mails)
        await store.publish(connection, "segment: vip\ncriteria: {contact.tags: vip}\n")
        await store.publish(connection, "segment: vip\ncriteria: {contact.tags: gold}\n")
        await store.publish(connection, "segment: chosen\nlist: []\n")
        await growth.count_next(connection)
    preview, ids = tmp_path / "vip.yaml", tmp_path / "ids.csv"
    preview.write_text("segment: vip\ncriteria: {contact.tags: vip}\n")
    ids.write_text("id\n1\n77\n")
    day = {"day": str(now().date()), "members": 0, "entered": None, "gone": None}
    added = {"segment": "chosen", "rows": 2, "found": 1, "added": 0, "rejected": 1, "rejects": f"{ids}.rejects.csv"}
    members = [{"id": 1, "email": "c1@example.com"}, {"id": 2, "email": "c2@example.com"}]
    tour: list[tuple[list[str], Any]] = [
        (["list"], lambda found: [one["name"] for one in found] == ["chosen", "vip"]),
        (["show", "vip"], lambda found: found["words"] == "has the tag gold"),
        (["versions", "vip"], lambda found: [one["version"] for one in found] == [2, 1]),
        (["versions", "vip", "--diff", "1", "2"], lambda found: "+criteria: {contact.tags: gold}" in found["diff"]),
        (["growth", "vip"], lambda found: found == [day]),
        (["publish", str(preview)], lambda found: found == [{"segment": "vip", "changed": True}]),
        (["preview", str(preview)], lambda found: found["contacts"] == 3),
        (["count", "vip", "--exactly"], lambda found: found == {"segment": "vip", "contacts": 3}),
        (["add", "chosen", "1", "email:c2@example.com"], lambda found: found == {"segment": "chosen", "added": 2}),
        (["upload", "chosen", str(ids)], lambda found: found == added),
        (["members", "chosen", "--after", "1"], lambda found: [one["id"] for one in found] == [2]),
        (["export", "chosen", "--columns", "id,email"], lambda found: found == members),
        (["remove", "chosen", "1"], lambda found: found == {"segment": "chosen", "removed": 1}),
        (["overlap", "vip", "chosen"], lambda found: found["both"] == 1),
        (["sql", "all"], lambda found: found["parameters"] == {} and "ORDER BY contact.id" in found["sql"]),
        (["delete", "chosen"], lambda found: found == {"segment": "chosen", "deleted": True}),
    ]
    for command, holds in tour:
        found = answer(database, tmp_path, *command)
        assert holds(found), (command, found)
    assert {one.name for one in cli.app.registered_commands if one.name} | {
        one.callback.__name__ for one in cli.app.registered_commands if one.callback and not one.name
    } == {command[0] for command, _ in tour}


async def test_a_name_that_does_not_exist_empties_no_file(database: Database, tmp_path: Path) -> None:
    target = tmp_path / "mine.csv"
    target.write_text("precious")
    done = kaskad(database, tmp_path, "export", "nobody", "--to", str(target))
    assert (done.returncode, target.read_text()) == (1, "precious")
    assert "there is no segment nobody" in done.stderr


def test_a_number_that_no_contact_can_have_is_refused_in_words(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["members", "vip", "--after", "99999999999999999999"])
    assert done.exit_code == 2
    assert "--after" in done.output


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
