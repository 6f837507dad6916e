"""What steps do on the database: each once, however often its activity runs."""

from datetime import UTC, datetime, timedelta

import pytest

from contacts import erasure
from core.clock import now
from core.errors import InvalidInput
from segments import store as segments
from tests.engine.steps_world import World

SCORE = "journey: hot\nsteps:\n  - {id: score, score: {points: 5, patience: -1.5}}\n"


async def test_a_score_is_added_once_for_each_visit(world: World) -> None:
    for name in ("points", "patience"):
        await world.attribute(name, "number")
    version = await world.publish(SCORE)
    anna, boris = await world.contact(points=10), await world.contact(points="many")
    one, two, again = await world.enroll(version, anna, boris, anna)
    for _ in range(2):
        acted = await world.act(version, "score", [(one, 1), (two, 1), (again, 4)])
        assert [row[2] for row in acted.went] == [1, 1, 1]
    assert await world.attributes_of(anna) == {"points": 20, "patience": -3}
    assert await world.attributes_of(boris) == {"points": 5, "patience": -1.5}
    await world.act(version, "score", [(one, 2)])
    assert (await world.attributes_of(anna))["points"] == 25


async def test_tags_and_consents_are_written(world: World) -> None:
    source = "journey: t\nsteps:\n  - {id: tag, tag: [lead, hot]}\n  - {id: off, tag: {remove: lead}}\n"
    version = await world.publish(source + "  - {id: consent, consent: {email: false, sms: {news: true}}}\n")
    contact = await world.contact()
    (one,) = await world.enroll(version, contact)
    for step in ("tag", "off", "consent"):
        await world.act(version, step, [(one, 1)])
    assert (await world.run("select tags from contact"))[0].tags == ["hot"]
    rows = await world.run("select channel, purpose, granted from consent order by 1")
    assert [tuple(row) for row in rows] == [("email", "marketing", False), ("sms", "news", True)]
    assert (await world.run("select source from consent_record limit 1"))[0].source == "journey"


async def test_addresses_are_suppressed_and_lifted_by_reason(world: World) -> None:
    source = "journey: s\nsteps:\n  - {id: stop, suppress: [email, sms]}\n"
    source += "  - {id: allow, suppress: [email, sms], lift: true}\n"
    version = await world.publish(source)
    anna, boris, gone = await world.contact(), await world.contact(), await world.contact()
    await world.run("insert into identity (contact_id, kind, value) values (:c, 'phone', '+79161234567')", c=boris)
    await world.run("insert into suppression (channel, address, reason) values ('email', 'c2@example.com', 'bounced')")
    members = await world.enroll(version, anna, boris, gone)
    async with world.database.begin() as connection:
        await erasure.erase(connection, gone)
    for _ in range(2):
        acted = await world.act(version, "stop", [(one, 1) for one in members])
        assert [row[2:] for row in acted.went] == [[1, "next"]] * 3
    rows = await world.run("select channel, address, reason, note from suppression order by 1, 2")
    assert [tuple(row) for row in rows] == [
        ("email", "c1@example.com", "manual", "journey s, step stop"),
        ("email", "c2@example.com", "bounced", None),
        ("sms", "+79161234567", "manual", "journey s, step stop"),
    ]
    await world.act(version, "allow", [(one, 2) for one in members])
    rows = await world.run("select channel, address, reason from suppression")
    assert [tuple(row) for row in rows] == [("email", "c2@example.com", "bounced")]


async def test_contacts_are_put_on_lists_and_taken_off(world: World) -> None:
    async with world.database.begin() as connection:
        for source in ("segment: vip\nlist: []\n", "segment: trial\nlist: []\n"):
            await segments.publish(connection, source)
    version = await world.publish("journey: l\nsteps:\n  - {id: it, segment: {add: vip, remove: trial}}\n")
    anna, boris, gone = await world.contact(), await world.contact(), await world.contact()
    async with world.database.begin() as connection:
        await segments.add_members(connection, "trial", [anna])
    members = await world.enroll(version, anna, boris, gone)
    await world.run("delete from contact where id = :id", id=gone)
    for _ in range(2):
        acted = await world.act(version, "it", [(one, 1) for one in members])
        assert [row[2:] for row in acted.went] == [[1, "next"]] * 3
    on = await world.run("select s.name, m.contact_id from segment_member m join segment s on s.id = m.segment_id")
    assert sorted((row.name, row.contact_id) for row in on) == [("vip", anna), ("vip", boris)]


async def test_only_lists_that_exist_can_be_named(world: World) -> None:
    async with world.database.begin() as connection:
        await segments.publish(connection, "segment: vip\nlist: []\n")
        await segments.publish(connection, "segment: tagged\ncriteria: {contact.tags: x}\n")
    steps = "  - segment: {add: [vpi, tagged], remove: nowhere}\n"
    with pytest.raises(InvalidInput) as caught:
        await world.publish(f"journey: l\nsteps:\n{steps}")
    assert [str(one) for one in caught.value.problems] == [
        "line:3:21: there is no segment vpi (did you mean vip?)",
        "line:3:26: the members of tagged follow from its criteria (name a segment that is a list)",
        "line:3:35: there is no segment nowhere (publish it first)",
    ]
    for wrong in ("{}", "{add: vip, remove: vip}"):
        with pytest.raises(InvalidInput, match=r"no segment is named|added and removed at once"):
            await world.publish(f"journey: l\nsteps:\n  - segment: {wrong}\n")


async def test_delete_erases_the_contact_and_ends_the_enrollment(world: World) -> None:
    version = await world.publish("journey: d\nsteps:\n  - {id: bye, delete: contact, outcome: forgotten}\n")
    gone, stays = await world.contact(), await world.contact()
    (one,) = await world.enroll(version, gone)
    for _ in range(2):
        acted = await world.act(version, "bye", [(one, 1)])
        assert acted.ended == [[one, 1, "forgotten"]]
    assert [row.id for row in await world.run("select id from contact")] == [stays]
    assert world.beats == 1


async def test_a_wait_for_criteria_looks_at_the_whole_batch_and_again_on_a_grid(world: World) -> None:
    await world.attribute("city", "text")
    source = "journey: w\nsteps:\n  - {id: w, wait: 30d, until: {when: {contact.city: Moscow}}, then: [{end: moved}]}\n"
    version = await world.publish(source)
    here, there = await world.contact(city="Moscow"), await world.contact(city="Perm")
    one, two = await world.enroll(version, here, there)
    at = datetime(2026, 11, 22, 10, 3, tzinfo=UTC)
    acted = await world.act(version, "w", [(one, 1), (two, 1)], at)
    assert acted.went == [[one, 1, 1, "criteria"]]
    assert acted.due == [[two, 1, None, datetime(2026, 11, 22, 10, 15, tzinfo=UTC).timestamp()]]


async def test_a_wait_for_a_date_follows_the_date(world: World) -> None:
    await world.attribute("ends", "date")
    source = (
        "journey: w\nsteps:\n  - {id: w, wait: {date: contact.ends, minus: 3d, at: 09:00}, missing: [{end: none}]}\n"
    )
    version = await world.publish(source)
    far, past, without = (
        await world.contact(ends="2026-12-10"),
        await world.contact(ends="2026-11-01"),
        await world.contact(),
    )
    one, two, three = await world.enroll(version, far, past, without)
    at = datetime(2026, 11, 22, 10, 3, tzinfo=UTC)
    acted = await world.act(version, "w", [(one, 1), (two, 1), (three, 1)], at)
    due = datetime(2026, 12, 7, 6, tzinfo=UTC).timestamp()  # nine o'clock in Moscow
    assert acted.due == [[one, 1, due, datetime(2026, 11, 23, tzinfo=UTC).timestamp()]]
    step = version.plan.steps[0]
    assert sorted(row[2:] for row in acted.went) == sorted([[step.next, "timeout"], [step.date.missing, "missing"]])  # type: ignore[union-attr]
    await world.run('update contact set attributes = \'{"ends": "2026-11-20"}\' where id = :id', id=far)
    assert (await world.act(version, "w", [(one, 1)], at)).went == [[one, 1, step.next, "timeout"]]  # type: ignore[union-attr]


async def test_a_wait_for_hours_goes_on_at_once_within_them(world: World) -> None:
    source = "journey: w\nsteps:\n  - {id: w, wait: {hours: 10:00-20:00, days: weekdays, holidays: RU}}\n"
    version = await world.publish(source)
    (one,) = await world.enroll(version, await world.contact())
    monday = datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert (await world.act(version, "w", [(one, 1)], monday)).went == [[one, 1, 1, "timeout"]]
    evening = datetime(2026, 11, 20, 18, tzinfo=UTC)  # a Friday
    acted = await world.act(version, "w", [(one, 1)], evening)
    assert acted.due == [[one, 1, datetime(2026, 11, 23, 7, tzinfo=UTC).timestamp(), None]]
    holidays = datetime(2026, 12, 31, 18, tzinfo=UTC)
    opened = (await world.act(version, "w", [(one, 1)], holidays)).due[0][2]
    assert opened >= datetime(2027, 1, 11, 7, tzinfo=UTC).timestamp()  # Russia rests for the first week


async def test_entering_another_journey_is_asked_for_once(world: World) -> None:
    await world.publish("journey: child\nsteps:\n  - end\n")
    version = await world.publish("journey: p\nsteps:\n  - {id: go, enroll: child, await: true, key: k}\n")
    contact = await world.contact()
    (one,) = await world.enroll(version, contact)
    for _ in range(2):
        await world.act(version, "go", [(one, 1)])
    (event,) = await world.events("journey.enter")
    assert event.properties == {"journey": "child", "key": "k", "parent": one}


async def test_a_stopped_journey_lets_nobody_in_and_says_so(world: World) -> None:
    await world.publish("journey: child\nsteps:\n  - end\n")
    version = await world.publish("journey: p\nsteps:\n  - {id: go, enroll: child, await: 30d}\n")
    await world.run("update journey set state = 'stopped' where name = 'child'")
    (one,) = await world.enroll(version, await world.contact())
    await world.act(version, "go", [(one, 1)])
    assert await world.events("journey.enter") == []
    (event,) = await world.events("journey.finished")
    assert event.properties == {"journey": "child", "outcome": "not_entered", "parent": one}


async def test_maintenance_forgets_effects_that_are_long_over(world: World) -> None:
    from core.maintenance import maintain

    await world.run("insert into applied_visit values (1, 1, :old), (2, 1, now())", old=now() - timedelta(days=31))
    await maintain(world.database, world.settings)
    assert [row.enrollment_id for row in await world.run("select enrollment_id from applied_visit")] == [2]
