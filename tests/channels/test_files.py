"""Files, pictures and invitations that go with letters."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import icalendar
import pytest

from channels import files, story, templates
from channels.files import invitation
from core.errors import InvalidInput
from core.ids import message_id
from tests.channels.world import World

LETTER = """---
template: visit
subject: Visit
attach: [{files}]
invite: {{summary: "Visit of {{{{ contact.first_name }}}}", start: "{{{{ contact.at }}}}", location: Moscow}}
---
<p>Hi</p><img src="cid:logo.png" alt="">
"""
NAMES = '"price list.pdf", {picture: logo.png}'
CONTENTS = {"price list.pdf": b"%PDF", "logo.png": b"png"}


async def _publish(world: World, names: str = NAMES, contents: dict[str, bytes] | None = None) -> None:
    async with world.database.begin() as connection:
        for name in ("first_name", "at"):
            await connection.exec_driver_sql(
                "insert into attribute (name, type) values (%s, 'text') on conflict do nothing", (name,)
            )
        given = CONTENTS if contents is None else contents
        await templates.publish(connection, LETTER.format(files=names), "visit.html", given)


async def test_they_leave_with_every_letter(world: World, at: datetime) -> None:
    await _publish(world)
    items = await world.enroll(1, first_name="Аня", at="2026-12-01T10:00+03:00")
    await world.prepare(items, at, template="visit")
    await world.deliver(items, at)
    [letter] = world.recorder.letters
    assert [(one.name, one.content_type, one.content_id) for one in letter.attachments] == [
        ("price list.pdf", "application/pdf", None),
        ("logo.png", "image/png", "logo.png"),
        ("invite.ics", "text/calendar; method=REQUEST; charset=utf-8", None),
    ]
    assert letter.attachments[0].content == b"%PDF"
    calendar = icalendar.Calendar.from_ical(letter.attachments[2].content)
    [event] = calendar.walk("VEVENT")
    assert (str(event["SUMMARY"]), event.decoded("DTSTART")) == ("Visit of Аня", datetime(2026, 12, 1, 7, tzinfo=UTC))


async def test_they_are_listed_with_what_the_message_said(world: World, at: datetime) -> None:
    await _publish(world)
    items = await world.enroll(1, first_name="Аня", at="2026-12-01T10:00+03:00")
    await world.prepare(items, at, template="visit")
    await world.deliver(items, at)
    async with world.database.begin() as connection:
        told = await story.show(connection, world.settings, message_id(items[0].enrollment_id, 1))
    [letter] = world.recorder.letters
    listed = [tuple(one.values()) for one in told["content"]["attachments"]]
    assert listed == [
        (one.name, one.content_type, len(one.content), one.content_id is not None) for one in letter.attachments
    ]
    assert [one[3] for one in listed] == [False, True, False]


async def test_a_time_that_is_none_skips_the_letter(world: World, at: datetime) -> None:
    await _publish(world)
    items = await world.enroll(1, first_name="Аня", at="soon")
    await world.prepare(items, at, template="visit")
    await world.deliver(items, at)
    [row] = await world.rows()
    assert row.reason.startswith("cannot_render: the invitation's start is no time")


@pytest.mark.parametrize(
    ("names", "contents", "words"),
    [
        ('"../secret.key"', {}, "this is no file"),
        ('".env"', {}, "this is no file"),
        ("{picture: a b.png}", {}, "behind cid:"),
        ("price.pdf", {}, "there is no file price.pdf"),
        ("a.pdf", {"a.pdf": b"x" * (files.BYTES_LIMIT + 1)}, "at most"),
        (", ".join(f"{n}.txt" for n in range(21)), {}, "more than 20"),
    ],
)
async def test_files_that_cannot_go_are_refused(
    world: World, names: str, contents: dict[str, bytes], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        await _publish(world, names, contents)


def test_an_invitation_is_one_event_and_hides_no_lines() -> None:
    said = {"summary": "a\nDTSTART:19700101", "start": "2026-12-01T10:00", "organizer": "Boss <boss@a.example>"}
    made = [invitation(UUID(int=1), said, "x@y", "anna@b.example", datetime.now(UTC)) for _ in range(2)]
    [event], [again] = ([*icalendar.Calendar.from_ical(one.content).walk("VEVENT")] for one in made)
    assert event["UID"] == again["UID"]
    assert (event.decoded("DTSTART"), event.decoded("DTEND") - event.decoded("DTSTART")) == (
        datetime(2026, 12, 1, 10, tzinfo=UTC),
        timedelta(hours=1),
    )
    assert str(event["ORGANIZER"]) == "mailto:boss@a.example"
    with pytest.raises(InvalidInput, match="before it begins"):
        invitation(UUID(int=1), said | {"end": "2026-12-01T09:00"}, "x@y", "z@w", datetime.now(UTC))
