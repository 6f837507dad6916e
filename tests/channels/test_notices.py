"""Letters to the staff: once each, without consent, and never mistaken for letters to the contact."""

from datetime import datetime

from sqlalchemy import text

from channels import Item, NoticeRequest, Verdict, prepare_notices
from channels.policy import Rules
from contacts import erasure
from core.schema.messages import MessageState as S
from tests.channels.world import World

SUBJECT, TEXT = (
    "New lead {{ contact.city }}\r\nBcc: x@y.example",
    "{{ contact.email }} {{ event.total | default('-') }}",
)


async def ready(world: World, count: int, consent: bool | None = False, **attributes: object) -> list[Item]:
    """Contacts on the notifying step of a journey's version."""
    [row] = await world.run(
        "insert into journey_version (journey_id, number, source, plan) select id, 2, '', jsonb_build_object('steps', "
        "jsonb_build_array(jsonb_build_object('id', 'tell', 'subject', cast(:subject as text), 'text', "
        "cast(:text as text)))) from journey returning id",
        subject=SUBJECT, text=TEXT,
    )  # fmt: skip
    world.version_id = row[0]
    return await world.enroll(count, consent, **attributes)


async def prepare(world: World, items: list[Item], at: datetime) -> list[Verdict]:
    request = NoticeRequest(world.version_id, 0, "email", "sales@corp.example", at, items)
    async with world.database.begin() as connection:
        return await prepare_notices(connection, request)


async def test_the_staff_is_written_to_once_whatever_the_contact_agreed_to(world: World, at: datetime) -> None:
    items = await ready(world, 2, city="Kazan")
    first = await prepare(world, items, at)
    assert await prepare(world, items, at) == first
    assert {(one.action, one.provider) for one in first} == {("deliver", "main")}
    done = await world.deliver(items, at, repeat=True)
    assert set(done.states.values()) == {"accepted"}
    assert await world.deliver(items, at, repeat=True) == done
    letters = sorted(world.recorder.letters, key=lambda letter: letter.text)
    assert [letter.recipient for letter in letters] == ["sales@corp.example"] * 2
    assert letters[0].subject == "New lead Kazan Bcc: x@y.example"
    assert [letter.text for letter in letters] == [f"c{n}@example.com -" for n in (1, 2)]
    assert all(letter.headers == {} and letter.html == "" for letter in letters)


async def test_rules_and_old_batches_change_neither_address_nor_fate(world: World, hour_ago: datetime) -> None:
    items = await ready(world, 1, city="Kazan")
    await prepare(world, items, hour_ago)
    await world.deliver(items, hour_ago, rules=Rules(quiet_from="00:00", quiet_to="23:59", cap=0))
    assert [letter.recipient for letter in world.recorder.letters] == ["sales@corp.example"]
    assert [(row.state, row.address) for row in await world.rows()] == [(S.ACCEPTED, "sales@corp.example")]


async def test_a_missing_value_is_a_reason_on_the_row(world: World, at: datetime) -> None:
    items = await ready(world, 1)
    await prepare(world, items, at)
    await world.deliver(items, at)
    assert [(row.state, row.reason) for row in await world.rows()] == [(S.SKIPPED, "missing_value: contact.city")]


async def test_they_count_for_no_cap(world: World, at: datetime) -> None:
    items = await ready(world, 1, consent=True, city="Kazan")
    await prepare(world, items, at)
    await world.deliver(items, at)
    (verdict,) = await world.prepare([Item(items[0].enrollment_id, 2)], at, Rules(cap=1))
    assert verdict.action == "deliver"


async def test_nothing_is_said_of_an_erased_contact(world: World, at: datetime) -> None:
    items = await ready(world, 2, city="Kazan")
    await prepare(world, items, at)
    async with world.database.begin() as connection:
        [row] = await connection.execute(text("select contact_id from enrollment order by id limit 1"))
        await erasure.erase(connection, row.contact_id)
    assert await prepare(world, [Item(items[0].enrollment_id, 2)], at) == []
    done = await world.deliver(items, at)
    assert [done.states[item.enrollment_id] for item in items] == ["skipped", "accepted"]
    assert [letter.text for letter in world.recorder.letters] == ["c2@example.com -"]


async def test_without_a_provider_the_journey_goes_on(world: World, at: datetime) -> None:
    """Who takes the last provider away does not hold up everybody who comes to a step that notifies."""
    items = await ready(world, 2, city="Kazan")
    await world.run("update provider set state = 'removed'")
    verdicts = await prepare(world, items, at)
    assert {(one.action, one.reason) for one in verdicts} == {("skip", "no_route")}
    await world.run("update provider set state = 'active'")
    assert await prepare(world, items, at) == verdicts
    assert [(row.state, row.reason) for row in await world.rows()] == [(S.SKIPPED, "no_route")] * 2
