"""The engine as a whole: worker and router over real PostgreSQL, Temporal and SMTP servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from sqlalchemy.engine import make_url
from temporalio.client import Client
from temporalio.service import RPCError

from channels import attempt, contents, providers
from channels.policy import Reason
from channels.rendering import TemplateCache
from contacts import profiles, suppressions
from core import temporal
from core.database import Database
from core.ids import seed
from core.schema.messages import MessageState
from core.settings import Settings
from engine import broadcasts, entering, history
from engine.cohorts import Cohorts
from engine.entries import Cohort, Placed
from engine.versions import Versions
from engine.wire import cohort_workflow_id
from journeys import machine, store
from journeys.calendar import next_local
from journeys.plan import LocalTime, Split
from segments import store as segments
from studio.stack.postgres import DATABASE, EmbeddedPostgres
from studio.stack.process import free_port
from studio.stack.temporal import EmbeddedTemporal, plain
from tests.engine.world import World, letterbox, publish_letters, unique


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def temporal_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """The embedded Temporal server."""
    folder = tmp_path_factory.mktemp("temporal")
    server = EmbeddedTemporal(folder, free_port(), folder / "temporal.log")
    await server.start()
    try:
        yield await temporal.connect(plain("default"), server.address)
    finally:
        await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    postgres: EmbeddedPostgres, temporal_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """An installation that the tests of this module share; each has its own journeys and contacts."""
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as connection:
        make = sql.SQL("create database whole template {} owner kaskad strategy file_copy")
        await connection.execute(make.format(sql.Identifier(DATABASE)))
    url = make_url(postgres.url).set(database="whole").render_as_string(hide_password=False)
    database = Database(url)
    data: Path = tmp_path_factory.mktemp("whole")
    async with letterbox() as (box, email):
        settings = Settings(data=data, email=email, entry_window_ms=50, cohort_size=250)
        made = World(database, settings, temporal_client, box)
        await publish_letters(database)
        made.start("worker")
        made.start("router")
        try:
            yield made
        finally:
            await made.close()
            await database.close()


def reference(name: str, wait: str = "3s") -> str:
    """The reference journey."""
    same = "{event.application_id: {same: application_id}}"
    return f"""
journey: {name}
name: Reference
enter: {{event: {name}.saved, where: {{event.status: draft}}, key: event.application_id, reenter: after_exit}}
goal: {{event: {name}.submitted, outcome: submitted, where: {same}}}
steps:
  - send: email
    id: letter
    template: first
  - wait: {wait}
    id: wait
    until: {{event: {name}.changed, where: {same}}}
    then: done
  - if: {{contact.city: Moscow}}
    then:
      - send: email
        template: second
  - end: silent
  - id: done
    end: returned
"""


def one_letter(name: str, enter: str) -> str:
    """A journey with one letter."""
    return f"""
journey: {name}
name: One letter
enter: {enter}
steps:
  - send: email
    id: letter
    template: first
  - end: sent
"""


async def test_reference_journey_by_events_with_correlation(world: World) -> None:
    name = unique("reference")
    await world.publish(reference(name))
    silent, returns, stranger, submits = await world.contacts(4, city="Moscow")
    (elsewhere,) = await world.contacts(1, city="Kazan")
    (final,) = await world.contacts(1)
    for contact in (silent, returns, stranger, submits, elsewhere):
        await world.happen(f"{name}.saved", contact, status="draft", application_id=contact)
    await world.happen(f"{name}.saved", final, status="final", application_id=final)
    await world.happen(f"{name}.changed", returns, application_id=returns)
    await world.happen(f"{name}.changed", stranger, application_id=returns)

    async def written_to() -> bool:
        return bool(world.letters(submits))

    await world.until(written_to)
    await world.happen(f"{name}.submitted", submits, application_id=submits)
    wanted = {silent: "silent", returns: "returned", stranger: "silent", submits: "submitted", elsewhere: "silent"}
    await world.until_outcomes(name, {contact: [outcome] for contact, outcome in wanted.items()})
    assert world.letters(silent) == world.letters(stranger) == ["first", "second"]
    assert world.letters(returns) == world.letters(submits) == world.letters(elsewhere) == ["first"]
    assert world.letters(final) == []
    rows = await world.run("select state, count(*) from message where contact_id = any(:ids) group by 1", ids=[*wanted])
    assert [tuple(row) for row in rows] == [(MessageState.ACCEPTED, 7)]
    async with world.database.begin() as connection:
        (story,) = await history.of_contact(connection, silent, name)
    assert [moment.step for moment in story.moments][:2] == ["letter", "wait"]
    assert story.moments[-1].what == "finished at an end step: silent"


async def test_answer_of_before_the_time_out_counts_though_the_router_was_away(world: World) -> None:
    name = unique("away")
    await world.publish(reference(name, wait="2s"))
    silent, returns, submits = await world.contacts(3, city="Moscow")
    for contact in (silent, returns, submits):
        await world.happen(f"{name}.saved", contact, status="draft", application_id=contact)
    await world.until_at(name, "wait", 3)
    await world.stop("router")
    await world.happen(f"{name}.changed", returns, application_id=returns)
    await world.happen(f"{name}.submitted", submits, application_id=submits)
    rows = await world.run("select max(cohort_id) from enrollment where contact_id = :contact", contact=silent)
    cohort = world.client.get_workflow_handle(cohort_workflow_id(rows[0][0]))

    async def asks() -> bool:
        pending = (await cohort.describe()).raw_description.pending_activities
        return [one.activity_type.name for one in pending] == ["listen"]

    await world.until(asks)  # the wait has run out
    world.start("router")
    wanted = {silent: ["silent"], returns: ["returned"], submits: ["submitted"]}
    await world.until_outcomes(name, wanted)
    assert world.letters(silent) == ["first", "second"]
    assert world.letters(returns) == world.letters(submits) == ["first"]


async def test_paused_provider_keeps_no_activity_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "PAUSED_WAIT", timedelta(seconds=1))
    name = unique("closed")
    await world.publish(one_letter(name, f"{{event: {name}.come}}"))
    (contact,) = await world.contacts(1)
    await world.run("update provider set state = 'paused'")
    await world.happen(f"{name}.come", contact)
    await world.until_at(name, "letter", 1)
    rows = await world.run("select max(cohort_id) from enrollment where contact_id = :contact", contact=contact)
    cohort = world.client.get_workflow_handle(cohort_workflow_id(rows[0][0]))

    async def rests() -> bool:
        history = await cohort.fetch_history()
        asked = [
            event.event_id
            for event in history.events
            if event.activity_task_scheduled_event_attributes.activity_type.name == "deliver"
        ]
        ended = [event.activity_task_completed_event_attributes.scheduled_event_id for event in history.events]
        return len(set(asked) & set(ended)) > 1

    await world.until(rests)
    assert world.letters(contact) == []
    await world.run("update provider set state = 'active'")
    await world.until_outcomes(name, {contact: ["sent"]})
    assert world.letters(contact) == ["first"]


@pytest.mark.parametrize("killed", [False, True])
async def test_letters_of_a_provider_that_is_down_leave_by_another(world: World, killed: bool) -> None:
    """Each of them once, also if the worker dies in the middle of passing them on."""
    name, down = unique("failover"), unique("down")
    url = f"smtp://127.0.0.1:{free_port()}"
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, down, url, {"failover_after": "0"})
    await world.run("insert into route (provider_id, tier) select id, 0 from provider where name = :down", down=down)
    await world.publish(one_letter(name, f"{{event: {name}.come}}"))
    contacts = await world.contacts(60)
    for contact in contacts:
        await world.happen(f"{name}.come", contact)

    async def some_moved() -> bool:
        return bool(await world.run("select from message where tried is not null and contact_id = any(:ids)",
                                    ids=contacts))  # fmt: skip

    if killed:
        await world.until(some_moved)
        await world.break_off("worker")
        world.start("worker")
    await world.until_outcomes(name, {contact: ["sent"] for contact in contacts})
    rows = await world.run(
        "select p.name, m.state, m.tried is not null as moved from message m join provider p on p.id = m.provider_id "
        "where contact_id = any(:ids)", ids=contacts,
    )  # fmt: skip
    async with world.database.begin() as connection:
        await providers.set_state(connection, down, "removed")
    sent = {contact: world.letters(contact) for contact in contacts}
    doubtful = sum(row.state == MessageState.IN_DOUBT for row in rows)
    assert all(letters in (["first"], []) for letters in sent.values())
    assert sum(letters == [] for letters in sent.values()) <= doubtful
    assert {row.name for row in rows if row.state == MessageState.ACCEPTED} == {"default"}
    assert killed or doubtful == 0
    assert any(row.moved for row in rows)


async def test_a_journey_that_has_spent_its_budget_pauses_itself(world: World) -> None:
    name = unique("budget")

    async def ready() -> bool:
        return bool(await world.run("select from provider where name = 'default'"))

    await world.until(ready)
    await world.run("insert into price (provider_id, amount, currency) select id, 0.5, 'EUR' from provider "
                    "where name = 'default'")  # fmt: skip
    try:
        await world.publish(one_letter(name, f"{{event: {name}.come}}") + "limits: {budget: 2}\n")
        contacts = await world.contacts(6)
        for contact in contacts:
            await world.happen(f"{name}.come", contact)

        async def paused() -> bool:
            rows = await world.run("select paused_because from journey where name = :name and state = 'paused'",
                                   name=name)  # fmt: skip
            return bool(rows) and "its budget of 2 is spent" in rows[0].paused_because

        await world.until(paused)

        async def four_sent() -> bool:
            return sum(world.letters(contact) == ["first"] for contact in contacts) == 4

        await world.until(four_sent)
        rows = await world.run("select spent from journey_spending s join journey j on j.id = s.journey_id "
                               "where j.name = :name", name=name)  # fmt: skip
        assert rows[0].spent == 2
        reasons = await world.run("select distinct reason from message where contact_id = any(:ids) and state = 15",
                                  ids=contacts)  # fmt: skip
        assert {row.reason for row in reasons} <= {str(Reason.OVER_BUDGET)}
        await world.set_state(name, "active")
        rows = await world.run("select paused_because from journey where name = :name", name=name)
        assert rows[0].paused_because is None
    finally:
        await world.run("delete from price")


async def test_entering_by_hand_by_list_and_by_segment(world: World) -> None:
    name = unique("entering")
    await world.publish(one_letter(name, "{segment: all}"))
    by_hand = await world.contacts(3)
    by_list = await world.contacts(3)
    members = await world.contacts(3, tag=name)
    async with world.database.begin() as connection:
        await segments.publish(connection, f"segment: {name}\nname: Members\ncriteria: {{contact.tags: {name}}}\n")
        await entering.enter(connection, name, by_hand)
    async with world.database.begin() as connection:
        await broadcasts.start(connection, name, occasion=f"{name}-list", contact_ids=by_list)
        await broadcasts.start(connection, name, occasion=f"{name}-segment", segment=name)
        assert await broadcasts.start(connection, name, occasion=f"{name}-segment", segment=name) is None
    everybody = [*by_hand, *by_list, *members]
    await world.until_outcomes(name, {contact: ["sent"] for contact in everybody})
    assert all(world.letters(contact) == ["first"] for contact in everybody)


async def test_comings_and_goings_of_segments_resume_a_wait_and_end_by_exit_and_goal(world: World) -> None:
    name = unique("comings")
    async with world.database.begin() as connection:
        for one in ("back", "keen", "won"):
            await segments.publish(connection, f"segment: {name}-{one}\ncriteria: {{contact.tags: {name}-{one}}}\n")
    source = f"""
journey: {name}
enter: {{event: {name}.began}}
goal: {{event: segment.entered, where: {{event.segment: {name}-won}}, outcome: won}}
exit: {{event: segment.left, where: {{event.segment: {name}-keen}}, outcome: cooled}}
steps:
  - wait: 30d
    id: wait
    until: {{event: segment.entered, where: {{event.segment: {name}-back}}}}
    then: done
  - end: silent
  - id: done
    end: returned
"""
    await world.publish(source)
    back, won, stays = await world.contacts(3)
    (keen,) = await world.contacts(1, tag=f"{name}-keen")
    for contact in (back, won, stays, keen):
        await world.happen(f"{name}.began", contact)
    await world.until_at(name, "wait", 4)

    async def kept() -> bool:
        rows = await world.run("select tracking from segment where name like :names", names=f"{name}-%")
        return [row.tracking for row in rows] == ["on"] * 3

    await world.until(kept)
    for contact, tags in ((back, [f"{name}-back"]), (won, [f"{name}-won"]), (keen, []), (stays, ["other"])):
        await world.run("update contact set tags = :tags where id = :id", tags=tags, id=contact)

    async def ended() -> bool:
        wanted = {back: ["returned"], won: ["won"], stays: [None], keen: ["cooled"]}
        return await world.outcomes(name) == wanted

    await world.until(ended, lambda: world.outcomes(name))


async def test_schedule_fires_a_broadcast_each_time(world: World) -> None:
    name = unique("scheduled")
    members = await world.contacts(2, tag=name)
    async with world.database.begin() as connection:
        await segments.publish(connection, f"segment: {name}\nname: Members\ncriteria: {{contact.tags: {name}}}\n")
    await world.publish(one_letter(name, f'{{segment: {name}, schedule: "0 4 1 1 *", in: Europe/Moscow}}'))
    handle = world.client.get_schedule_handle(f"journey-{name}")

    async def exists() -> bool:
        try:
            return bool((await handle.describe()).schedule.spec)
        except RPCError:
            return False

    await world.until(exists)
    next_run = (await handle.describe()).info.next_action_times[0]
    assert (next_run.month, next_run.day, next_run.hour) == (1, 1, 1)  # 4:00 in Moscow
    for times in (1, 2):
        await handle.trigger()
        await world.until_outcomes(name, {contact: ["sent"] * times for contact in members})
        # Two runs within one second would be one occasion to Temporal.
        moment = datetime.now(UTC).replace(microsecond=0)
        await world.until(lambda moment=moment: _later(moment))  # type: ignore[misc]
    await world.set_state(name, "stopped")

    async def gone() -> bool:
        return not await exists()

    await world.until(gone)


async def _later(moment: datetime) -> bool:
    return datetime.now(UTC).replace(microsecond=0) > moment


@pytest.mark.parametrize(("rule", "times"), [("never", 1), ("after_exit", 2), ("always", 3)])
async def test_entering_again(world: World, rule: str, times: int) -> None:
    name = unique("again")
    await world.publish(
        f"""
journey: {name}
name: Again
enter: {{event: {name}.come, key: event.visit, reenter: {rule}}}
steps:
  - wait: forever
    id: wait
    until: {{event: {name}.go}}
  - end: gone
"""
    )
    (contact,) = await world.contacts(1)
    for visit in ("a", "a", "b"):
        await world.happen(f"{name}.come", contact, visit=visit)
    at_first = 3 if rule == "always" else 2
    await world.until_at(name, "wait", at_first)
    await world.happen(f"{name}.go", contact)
    await world.until_outcomes(name, {contact: ["gone"] * at_first})
    await world.happen(f"{name}.come", contact, visit="a")
    await world.happen(f"{name}.go", contact)
    await world.happen(f"{name}.come", contact, visit="other")  # in order, so what was before is routed when it is in
    await world.until_at(name, "wait", 1)
    await world.happen(f"{name}.go", contact)
    await world.until_outcomes(name, {contact: ["gone"] * (at_first + 1 + (times > 1))})


async def test_pause_holds_letters_resume_lets_them_go_and_stop_ends_everything(world: World) -> None:
    name = unique("paused")
    await world.publish(reference(name, wait="1h"))
    first, second = await world.contacts(2)
    await world.happen(f"{name}.saved", first, status="draft", application_id=1)
    await world.until_at(name, "wait", 1)
    await world.set_state(name, "paused")
    await world.happen(f"{name}.saved", second, status="draft", application_id=2)
    await world.until_at(name, "letter", 1)
    await world.happen(f"{name}.submitted", first, application_id=1)  # a pause does not keep a goal from being reached
    await world.until_outcomes(name, {first: ["submitted"], second: [None]})  # type: ignore[list-item]
    assert world.letters(second) == []
    await world.set_state(name, "active")
    await world.until_at(name, "wait", 1)
    assert world.letters(second) == ["first"]
    await world.set_state(name, "stopped")
    await world.until_outcomes(name, {first: ["submitted"], second: ["stopped"]})
    await world.happen(f"{name}.saved", first, status="draft", application_id=3)
    (position,) = await world.run("select max(id) from event")

    async def routed() -> bool:
        (row,) = await world.run("select position from log_cursor where reader = 'router'")
        return bool(row[0] >= position[0])

    await world.until(routed)
    assert await world.outcomes(name) == {first: ["submitted"], second: ["stopped"]}


async def test_choose_split_and_update(world: World) -> None:
    name = unique("branches")
    version = await world.publish(
        f"""
journey: {name}
name: Branches
enter: {{event: {name}.come}}
steps:
  - choose:
      - when: {{contact.city: Moscow}}
        then:
          - split: {{a: {{weight: 1, then: [{{end: arm-a}}]}}, b: {{weight: 1, then: [{{end: arm-b}}]}}}}
            id: halves
      - when: {{contact.city: Kazan}}
        then:
          - update:
              attributes: {{level: gold, city: null}}
              tags: {{add: [{name}]}}
              consents: {{email: false}}
          - send: email
            template: first
          - end: written
    else:
      - end: nowhere
"""
    )
    moscow = await world.contacts(20, city="Moscow")
    (kazan,) = await world.contacts(1, city="Kazan")
    (nowhere,) = await world.contacts(1)
    for contact in [*moscow, kazan, nowhere]:
        await world.happen(f"{name}.come", contact)
    async with world.database.begin() as connection:
        plan = await store.plan_of(connection, version)
    (split,) = (step for step in plan.steps if isinstance(step, Split))
    arms = {contact: machine.choose_arm(split, seed(contact))[0] for contact in moscow}
    assert set(arms.values()) == {"a", "b"}
    wanted = {contact: [f"arm-{arm}"] for contact, arm in arms.items()}
    await world.until_outcomes(name, wanted | {kazan: ["written"], nowhere: ["nowhere"]})
    (row,) = await world.run(
        "select c.attributes, c.tags, k.granted from contact c join consent k on k.contact_id = c.id where c.id = :id",
        id=kazan,
    )
    assert row.attributes == {"first_name": "Ann", "level": "gold"}
    assert row.tags == [name]
    assert row.granted is False
    assert world.letters(kazan) == []  # the consent was withdrawn a step before


async def test_wait_for_a_local_time_in_each_contacts_own_zone(world: World) -> None:
    name = unique("local")
    await world.publish(
        f"""
journey: {name}
name: Local time
enter: {{event: {name}.come}}
steps:
  - wait: until 10:00 on weekdays, in the contact's time zone
    id: wait
  - end: morning
"""
    )
    zones = {(await world.contacts(1, zone=zone))[0]: zone for zone in ("Asia/Vladivostok", "America/Lima", None)}
    begun = datetime.now(UTC)
    for contact in zones:
        await world.happen(f"{name}.come", contact)

    async def waiting() -> bool:
        return len(await due()) == len(zones)

    async def due() -> dict[int, datetime]:
        rows = await world.run(
            "select contact_id, due_at from enrollment where contact_id = any(:ids) and due_at is not null",
            ids=list(zones),
        )
        return {row[0]: row[1] for row in rows}

    await world.until(waiting)
    morning = LocalTime(time="10:00", weekdays=(0, 1, 2, 3, 4), zone="contact")
    for contact, at in (await due()).items():
        # Whether the test began before or after somebody's 10:00, the wait was asked for between then and now.
        assert at in {next_local(moment, morning, zones[contact]) for moment in (begun, datetime.now(UTC))}
    await world.set_state(name, "stopped")


async def test_wait_for_a_local_time_ends(world: World) -> None:
    name = unique("hastened")
    journey = f"""
journey: {name}
name: Local time
enter: {{event: {name}.come}}
steps:
  - wait: until 10:00 in the contact's time zone
  - end: morning
"""
    await world.publish(journey, hasten=timedelta(days=1) / timedelta(seconds=2))
    (contact,) = await world.contacts(1, zone="Asia/Tokyo")
    await world.happen(f"{name}.come", contact)
    await world.until_outcomes(name, {contact: ["morning"]})


async def test_contacts_who_must_not_be_written_to_are_skipped_with_a_reason(world: World) -> None:
    name = unique("skipped")
    await world.publish(one_letter(name, f"{{event: {name}.come}}"))
    (refused,) = await world.contacts(1, consent=False)
    (unsubscribed,) = await world.contacts(1)
    async with world.database.begin() as connection:
        await suppressions.suppress(connection, "email", [f"c{unsubscribed}@example.com"], "unsubscribed")
    (erased,) = await world.contacts(1)
    await world.run("delete from identity where contact_id = :id", id=erased)
    for contact in (refused, unsubscribed, erased):
        await world.happen(f"{name}.come", contact)
    await world.until_outcomes(name, {contact: ["sent"] for contact in (refused, unsubscribed, erased)})
    rows = await world.run(
        "select contact_id, state, reason from message where contact_id = any(:ids)",
        ids=[refused, unsubscribed, erased],
    )
    assert {row[0]: (row[1], row[2]) for row in rows} == {
        refused: (MessageState.SKIPPED, Reason.NO_CONSENT),
        unsubscribed: (MessageState.SKIPPED, f"{Reason.SUPPRESSED}: unsubscribed"),
        erased: (MessageState.SKIPPED, Reason.NO_ADDRESS),
    }
    assert not world.all_letters([refused, unsubscribed, erased])


async def test_broadcast_enters_everybody_once_though_the_router_breaks_off(world: World) -> None:
    name = unique("broadcast")
    await world.publish(
        f"""
journey: {name}
name: Broadcast
enter: {{segment: all}}
steps:
  - wait: 1s
  - end: reached
"""
    )
    members = await world.contacts(3000, tag=name)
    async with world.database.begin() as connection:
        await segments.publish(connection, f"segment: {name}\nname: Members\ncriteria: {{contact.tags: {name}}}\n")
        number = await broadcasts.start(connection, name, occasion=name, segment=name)

    async def progress() -> tuple[int, bool]:
        (row,) = await world.run("select entered, finished_at is not null from broadcast where id = :id", id=number)
        return row[0], row[1]

    breaks = 0
    for pages in (2, 5, 9):

        async def so_far(pages: int = pages) -> bool:
            entered, finished = await progress()
            return finished or entered >= pages * world.settings.cohort_size

        await world.until(so_far, progress)
        breaks += not (await progress())[1]
        await world.break_off("router")
        world.start("router")
    assert breaks, "the broadcast was over before the router broke off"

    async def all_reached() -> bool:
        (row,) = await world.run(
            "select count(*) from enrollment e join journey j on j.id = e.journey_id "
            "where j.name = :name and e.outcome = 'reached'", name=name
        )  # fmt: skip
        return bool(row[0] >= len(members))

    await world.until(all_reached, progress)
    assert await world.outcomes(name) == {contact: ["reached"] for contact in members}
    assert await progress() == (3000, True)
    cohorts = await world.run(
        "select count(distinct cohort_id) from enrollment where contact_id = any(:ids)", ids=members
    )
    assert cohorts[0][0] == 12


async def test_version_of_a_broadcast_is_heard_though_the_next_one_is_published_before_it_begins(world: World) -> None:
    name = unique("versions")
    text = """
journey: {name}
name: Versions
enter: {{segment: all}}
steps:
  - wait: forever
    id: wait
    until: {{event: {event}}}
  - end: {event}
"""
    await world.publish(text.format(name=name, event=f"{name}.old"))
    contacts = await world.contacts(2)
    await world.stop("router")
    async with world.database.begin() as connection:
        await broadcasts.start(connection, name, occasion=name, contact_ids=contacts)
    await world.publish(text.format(name=name, event=f"{name}.new"))
    world.start("router")
    await world.until_at(name, "wait", 2)
    for contact in contacts:
        await world.happen(f"{name}.old", contact)
    await world.until_outcomes(name, {contact: [f"{name}.old"] for contact in contacts})


async def test_entries_written_before_a_crash_are_told_to_their_cohort_before_their_events(world: World) -> None:
    """A router that died between writing enrollments and telling their cohort: the next one must tell it first."""
    name = unique("crash")
    await world.publish(reference(name, wait="1h"))
    (contact,) = await world.contacts(1)
    await world.stop("router")
    await world.happen(f"{name}.saved", contact, status="draft", application_id=1)
    await world.run(
        "with v as (select v.id, v.journey_id from journey_version v join journey j on j.id = v.journey_id "
        "where j.name = :name), "
        "c as (insert into cohort (version_id, size, state) select id, 1, 'open' from v returning id), "
        "e as (select max(id) as id, max(occurred_at) as at from event where contact_id = :contact) "
        "insert into enrollment (contact_id, cohort_id, entry_event_id, entry_event_at, journey_id, version_id, "
        "exclusive, key, correlation) select :contact, c.id, e.id, e.at, v.journey_id, v.id, true, '1', "
        "jsonb_build_object('application_id', 1) from v, c, e",
        name=name, contact=contact,
    )  # fmt: skip
    await world.happen(f"{name}.changed", contact, application_id=1)
    world.start("router")
    await world.until_outcomes(name, {contact: ["returned"]})
    assert world.letters(contact) == ["first"]


async def test_late_news_of_newcomers_does_not_begin_a_finished_cohort_anew(world: World) -> None:
    """A request that was repeated after its cohort had ended; only who is still `entering` may begin."""
    name = unique("late")
    await world.publish(one_letter(name, "{segment: all}"))
    early, late = await world.contacts(2)
    async with world.database.begin() as connection:
        await broadcasts.start(connection, name, occasion=name, contact_ids=[early])
    await world.until_outcomes(name, {early: ["sent"]})
    (row,) = await world.run(
        "select e.id, e.journey_id, e.version_id, c.id as cohort, c.opened_at from enrollment e "
        "join cohort c on c.id = e.cohort_id where e.contact_id = :id",
        id=early,
    )
    await world.client.get_workflow_handle(f"cohort-{row.cohort}").result()
    (second,) = await world.run(
        "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive) "
        "values (:contact, :cohort, :journey, :version, true) returning id",
        contact=late, cohort=row.cohort, journey=row.journey_id, version=row.version_id,
    )  # fmt: skip
    versions = Versions()
    async with world.database.begin() as connection:
        version = await versions.get(connection, row.version_id)
    cohort = Cohort(row.cohort, row.version_id, row.opened_at, True, 0, "active")
    joins = [[row.id, seed(early)], [second.id, seed(late)]]
    for _ in range(2):
        await Cohorts(world.client, world.settings).join(world.database, [Placed(cohort, version, joins)])
        await world.until_outcomes(name, {early: ["sent"], late: ["sent"]})
        await world.client.get_workflow_handle(f"cohort-{row.cohort}").result()
    visits = await world.run("select count(*) from step_visit where enrollment_id = any(:ids)", ids=[row.id, second.id])
    assert visits[0][0] == 4
    assert world.letters(early) == world.letters(late) == ["first"]


async def test_only_one_of_two_routers_works(world: World) -> None:
    """The second stands by and takes over when the first stops."""
    name = unique("standby")
    await world.publish(one_letter(name, f"{{event: {name}.come}}"))
    first, second = await world.contacts(2)
    running, stop = world._running.pop("router")
    world.start("router")
    await world.happen(f"{name}.come", first)
    await world.until_outcomes(name, {first: ["sent"]})
    locks = await world.run(
        "select count(*) from pg_locks where locktype = 'advisory' and granted and objid = :key and database = "
        "(select oid from pg_database where datname = current_database())",
        key=0x6B61736C,
    )
    assert locks[0][0] == 1
    stop.set()
    await running
    await world.happen(f"{name}.come", second)
    await world.until_outcomes(name, {first: ["sent"], second: ["sent"]})
    assert world.letters(first) == world.letters(second) == ["first"]


async def test_stopping_a_role_is_prompt(world: World) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await world.stop("router")
    await world.stop("worker")
    assert loop.time() - begun < 20
    world.start("worker")
    world.start("router")


async def test_a_consent_that_is_asked_for_is_confirmed_by_the_letters_page(world: World) -> None:
    async with world.database.begin() as connection:
        asked = profiles.ConsentItem("email", "marketing", True, confirm=True)
        people = [
            profiles.Item({"email": f"{language}@ask.example"}, language=language, consents=[asked])
            for language in ("en", "ru-RU")
        ]
        found = [one.contact_id or 0 for one in await profiles.upsert(connection, people)]

    async def asked_both() -> bool:
        return {"en@ask.example", "ru-RU@ask.example".lower()} <= set(world.box.subjects)

    await world.until(asked_both)
    rows = await world.run(
        "select id, created_at, purpose from message where contact_id = any(:ids) order by contact_id",
        ids=found,
    )
    assert [row.purpose for row in rows] == ["transactional"] * 2
    async with world.database.begin() as connection:
        letters = [
            await contents.again(connection, world.settings, TemplateCache(), row.id, row.created_at) for row in rows
        ]
    english, russian = (letter.rendered for letter in letters if letter)
    assert english.subject == "Please confirm that you agree"
    assert russian.subject == "Подтвердите, пожалуйста, своё согласие"
    assert "К подтверждению" in russian.html and "/s/" in russian.html and "/t/c/" not in russian.html
    assert "/s/" in english.text
