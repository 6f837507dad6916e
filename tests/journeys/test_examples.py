"""Every example publishes into an empty installation, and again without a change."""

from pathlib import Path

import pytest

import contacts
from core.database import Database
from core.errors import InvalidInput
from core.settings import Settings
from examples import OFFICE, OUTREACH, PORTAL, SHOP
from journeys import store
from studio.push import push

pytestmark = pytest.mark.usefixtures("email_provider")


def _files(folder: Path) -> set[str]:
    kinds = ("templates", "segments", "journeys")
    return {str(file) for kind in kinds for file in (folder / kind).rglob("*") if file.is_file()}


@pytest.mark.parametrize("folder", [PORTAL, SHOP, OFFICE], ids=lambda folder: str(folder.name))
async def test_an_example_can_be_pushed_and_pushed_again(database: Database, settings: Settings, folder: Path) -> None:
    files = _files(folder)
    async with database.begin() as connection:
        await contacts.attributes.register(connection, {"first_name": "text", "birthday": "date"})
        first = await push(connection, settings, folder)
    assert {one.state for one in first} == {"new"}
    kinds = [one.kind for one in first]
    assert kinds == sorted(kinds, key=["template", "segment", "journey"].index) or folder == PORTAL
    if folder == PORTAL:  # it names a journey, so it comes after the journeys
        assert first[-1].name == "left-a-draft"
    assert {one.file for one in first} == files
    async with database.begin() as connection:
        again = await push(connection, settings, folder)
        names = [row["name"] for row in await store.listing(connection)]
    assert {one.state for one in again} == {"unchanged"}
    assert names == sorted(file.stem for file in map(Path, files) if file.parent.name == "journeys")


async def test_journeys_by_channels_to_come_are_refused_with_a_word_for_each(
    database: Database, settings: Settings
) -> None:
    with pytest.raises(InvalidInput) as caught:
        async with database.begin() as connection:
            await push(connection, settings, OUTREACH)
    waiting = {
        (Path(one.file).stem, one.message.split(" ")[2]) for one in caught.value.problems if "channel" in one.message
    }
    assert waiting == {
        ("call-then-sms", "voice"),
        ("call-then-sms", "sms"),
        ("price-drop", "webpush"),
        ("home-page", "site"),
    }


async def test_a_push_with_problems_changes_nothing_and_tells_all_of_them(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    for folder in ("templates", "segments", "journeys"):
        (tmp_path / folder).mkdir()
    (tmp_path / "templates" / "a.mjml").write_text("no front matter")
    (tmp_path / "segments" / "good.yaml").write_text("segment: good\ncriteria: {contact.tags: x}\n")
    (tmp_path / "segments" / "bad.yaml").write_text("segment: bad\ncriteria: {tags: x}\n")
    (tmp_path / "journeys" / "j.yaml").write_text("journey: j\nsteps:\n  - send: email\n    template: nope\n")
    with pytest.raises(InvalidInput) as caught:
        async with database.begin() as connection:
            await push(connection, settings, tmp_path)
    files = [(Path(problem.file).name, problem.line) for problem in caught.value.problems]
    assert files == [("a.mjml", 1), ("bad.yaml", 2), ("j.yaml", 4)]
    async with database.begin() as connection:
        assert await store.listing(connection) == []


@pytest.mark.parametrize("reads", [True, False])
async def test_a_folder_is_judged_by_what_the_installation_can(
    database: Database, settings: Settings, tmp_path: Path, reads: bool
) -> None:
    (tmp_path / "journeys").mkdir()
    asking = "journey: j\nsteps:\n  - {ask: reply, within: 1d, answers: {yes: [{tag: a}]}}\n"
    (tmp_path / "journeys" / "j.yaml").write_text(asking)
    given = settings.model_copy(update={"inbound_address": "in.example.com" if reads else None})
    async with database.begin() as connection:
        if reads:
            [pushed] = await push(connection, given, tmp_path)
            assert pushed.name == "j"
            return
        with pytest.raises(InvalidInput, match="no mail comes in here"):
            await push(connection, given, tmp_path)


async def test_a_folder_without_anything_to_publish_is_refused(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    async with database.begin() as connection:
        with pytest.raises(InvalidInput, match="nothing to publish"):
            await push(connection, settings, tmp_path)
        with pytest.raises(InvalidInput, match="no such folder"):
            await push(connection, settings, tmp_path / "missing")


async def test_segments_may_name_each_other_in_any_order_of_files(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "a.yaml").write_text("segment: a\ncriteria: {contact.segments: b}\n")
    (tmp_path / "segments" / "b.yaml").write_text("segment: b\ncriteria: {contact.tags: x}\n")
    async with database.begin() as connection:
        assert [one.name for one in await push(connection, settings, tmp_path)] == ["b", "a"]
