"""An installation as a folder of files: out, back, and what differs."""

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

import contacts
from core.database import Database
from core.errors import InvalidInput
from core.schema.segments import segment
from core.settings import Settings
from examples import PORTAL
from journeys import cli
from studio.pull import differences, pull
from studio.push import push

pytestmark = pytest.mark.usefixtures("email_provider")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of an example."""
    return Path(shutil.copytree(PORTAL, tmp_path / "mine"))


async def test_what_is_pulled_is_what_was_pushed(
    database: Database, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    await _pushed(database, settings, folder)
    fresh = tmp_path / "fresh"
    async with database.begin() as connection:
        done = await pull(connection, fresh)
        assert {one.state for one in done} == {"new"}
        assert {one.kind for one in done} == {"template", "segment", "journey"}
        again = await pull(connection, fresh)
        assert {one.state for one in again} == {"unchanged"}
        assert [one.file for one in again] == [one.file for one in done]
        assert {one.state for one in await differences(connection, fresh)} == {"same"}
        assert {one.state for one in await push(connection, settings, fresh)} == {"unchanged"}
        assert {one.state for one in await pull(connection, folder)} == {"unchanged"}, "it finds files of other names"


async def _pushed(database: Database, settings: Settings, folder: Path) -> None:
    async with database.begin() as connection:
        await contacts.attributes.register(connection, {"first_name": "text"})
        await push(connection, settings, folder)


async def test_differences_are_those_of_meaning(database: Database, settings: Settings, folder: Path) -> None:
    await _pushed(database, settings, folder)
    file = next((folder / "journeys").glob("*.yaml"))
    source = file.read_text()
    async with database.begin() as connection:
        file.write_text("# another comment\n" + source)
        assert {one.state for one in await differences(connection, folder)} == {"same"}
        file.write_text(source.replace("steps:", "steps:\n  - {wait: 17m, id: brand-new}", 1))
        (changed,) = [one for one in await differences(connection, folder) if one.state != "same"]
        assert (changed.kind, changed.state) == ("journey", "changed")
        assert "+step brand-new:" in changed.lines
        assert "+  seconds: 1020.0" in changed.lines
        name = changed.name
        file.unlink()
        (absent,) = [one for one in await differences(connection, folder) if one.state != "same"]
        assert (absent.name, absent.state) == (name, "absent")
        (folder / "segments" / "zz.yaml").write_text("segment: zz\ncriteria: {contact.tags: x}\n")
        assert [one.name for one in await differences(connection, folder) if one.state == "new"] == ["zz"]
        (folder / "segments" / "zz.yaml").write_text("segment: zz\ncriteria: {contact.tags: {gt: x}}\n")
        with pytest.raises(InvalidInput, match=r"zz\.yaml:2:27"):
            await differences(connection, folder)


async def test_names_make_no_paths(database: Database, tmp_path: Path) -> None:
    source = "segment: ../../etc/passwd\nlist: []\n"
    async with database.begin() as connection:
        await connection.execute(insert(segment).values(name="../../etc/passwd", title="", source=source))
        (done,) = await pull(connection, tmp_path / "deep" / "er")
    assert Path(done.file) == tmp_path / "deep" / "er" / "segments" / "..%2F..%2Fetc%2Fpasswd.yaml"


async def test_two_files_of_one_thing_are_refused(database: Database, settings: Settings, folder: Path) -> None:
    await _pushed(database, settings, folder)
    file = next((folder / "journeys").glob("*.yaml"))
    (folder / "journeys" / "zzz.yaml").write_text(file.read_text())
    async with database.begin() as connection:
        with pytest.raises(InvalidInput, match=r"stands in .*, too"):
            await pull(connection, folder)


def test_two_journeys_compared(tmp_path: Path) -> None:
    one, other, bad = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"
    one.write_text("journey: x\nsteps:\n  - {wait: 60m, id: pause}\n  - end\n")
    other.write_text("# the same\njourney: x\nsteps: [{id: pause, wait: 1h}, {end: completed}]\n")
    bad.write_text("journey: x\nsteps: [edn]\n")
    runner = CliRunner()
    same = runner.invoke(cli.app, ["diff", str(one), str(other)])
    assert (same.exit_code, same.stdout) == (0, "same\n")
    other.write_text(other.read_text().replace("1h", "2h"))
    differs = runner.invoke(cli.app, ["diff", str(one), str(other), "--json"])
    assert differs.exit_code == 1
    told = json.loads(differs.stdout)
    assert told["same"] is False
    assert {"-  seconds: 3600.0", "+  seconds: 7200.0"} <= set(told["diff"])
    assert runner.invoke(cli.app, ["diff", str(one), str(bad)]).exit_code == 2
