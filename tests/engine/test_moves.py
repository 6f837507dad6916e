"""Live edits in the database: who is moved where, what is refused, and what is written down when it is done."""

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core import access
from core.clock import now
from core.database import Database
from core.errors import Conflict, InvalidInput, NotFound
from core.schema import contacts, messages
from core.schema.journeys import cohort, enrollment, enrollment_order, journey_move
from core.settings import Settings
from engine import moves
from engine.entries import NewRow, place, reserve_ids
from engine.versions import Versions
from engine.wire import Finishes, News, Order, RecordRequest
from journeys import store
from journeys.edits import Unplaced, placed
from studio.api import create_app

pytestmark = pytest.mark.usefixtures("email_provider")

FIRST = """\
journey: hello
enter: {event: cart.left}
steps:
  - {send: email, id: letter, template: welcome}
  - {wait: 2h, id: pause}
  - {wait: 1d, id: patience, until: {event: order.paid}}
  - {send: email, id: last, template: welcome}
"""
SECOND = FIRST.replace("  - {wait: 2h, id: pause}\n", "").replace("wait: 1d", "wait: 3d")


class Told:
    """Cohorts that remember what they are told."""

    def __init__(self) -> None:
        self.news: list[tuple[int, News]] = []

    async def inform(self, cohort_id: int, news: News) -> bool:
        """Keep it."""
        self.news.append((cohort_id, news))
        return True


@pytest.fixture
async def ready(database: Database) -> Database:
    """A database with a template."""
    async with database.begin() as connection:
        await connection.execute(insert(messages.template).values(id=1, name="welcome", channel="email", version_id=1))
        await connection.execute(
            insert(messages.template_version).values(id=1, template_id=1, number=1, source={}, compiled={})
        )
        await connection.execute(insert(contacts.contact), [{"id": number} for number in range(1, 10)])
    return database


async def _enroll(
    connection: AsyncConnection, settings: Settings, version_id: int, steps: dict[int, int | None]
) -> list[int]:
    """Put contacts onto steps of a version; None: not told yet. Gives the enrollments."""
    version = await Versions().get(connection, version_id)
    numbers = await reserve_ids(connection, len(steps))
    rows = [NewRow(number, contact, "", True, now()) for number, contact in zip(numbers, steps, strict=True)]
    await place(connection, settings, version, rows, broadcast=False)
    for number, step in zip(numbers, steps.values(), strict=True):
        if step is not None:
            await connection.execute(
                update(enrollment).where(enrollment.c.id == number).values(state="active", step=step, visit=1)
            )
    return numbers


async def test_publishing_refuses_to_move_those_whose_step_is_gone(ready: Database, settings: Settings) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        await _enroll(connection, settings, first.version_id, {1: 0, 2: 1, 3: 1, 4: 2, 5: None})
    async with ready.begin() as connection:
        with pytest.raises(Unplaced) as refused:
            await store.publish(connection, SECOND, move=True)
    assert [str(problem) for problem in refused.value.problems] == [
        "2 contacts stand on the step pause of version 1, which is gone "
        "(say where to: --place pause=STEP, or --place pause=end)"
    ]
    expected: list[tuple[Any, ...]] = [
        (1, "letter", "rerouted", 2, "letter"),  # one of them is entering, and will come there first
        (1, "pause", "gone", 2, None),
        (1, "patience", "retimed", 1, "patience"),
    ]
    assert [(s.version, s.step, s.edit, s.contacts, s.to) for s in refused.value.standing] == expected
    async with ready.begin() as connection:
        assert (await store.find(connection, "hello")).number == 1
        assert [one.contacts for one in await store.preview(connection, SECOND)] == [2, 2, 1]
        done = await store.publish(connection, SECOND, move=True, placement={"pause": "patience"})
        assert [(s.step, s.to) for s in done.standing] == [
            ("letter", "letter"),
            ("pause", "patience"),
            ("patience", "patience"),
        ]
        row = (await connection.execute(select(journey_move))).one()
        assert (row.version_id, row.placement) == (done.version_id, {"pause": "patience"})


async def test_without_move_everybody_stays(ready: Database, settings: Settings) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        await _enroll(connection, settings, first.version_id, {1: 1})
        second = await store.publish(connection, SECOND)
        assert second.standing == ()
        with pytest.raises(InvalidInput, match="add --move"):
            await store.publish(connection, SECOND, placement={"pause": "end"})
    told = Told()
    assert await moves.Moves(ready, told, Versions()).spread() == 0  # type: ignore[arg-type]
    async with ready.begin() as connection:
        late = await store.publish(connection, SECOND, move=True, placement={"pause": "end"})
    assert (late.changed, [one.to for one in late.standing if one.contacts]) == (False, ["end"])
    assert await moves.Moves(ready, told, Versions()).spread() == 1  # type: ignore[arg-type]


async def test_a_placement_names_steps_that_exist(ready: Database, settings: Settings) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        await _enroll(connection, settings, first.version_id, {1: 1})
        with pytest.raises(InvalidInput) as refused:
            await store.publish(connection, SECOND, move=True, placement={"pose": "lst"})
    assert [str(problem) for problem in refused.value.problems] == [
        "nobody stands on a step pose (did you mean pause?)",
        "the new version has no step lst (did you mean last?)",
    ]
    assert placed(["a=b", "c=end"]) == {"a": "b", "c": "end"}
    with pytest.raises(InvalidInput, match="'ab' places nobody"):
        placed(["ab", "=c"])


async def test_cohorts_are_told_until_they_have_gone_over(ready: Database, settings: Settings) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        numbers = await _enroll(connection, settings, first.version_id, {1: 1, 2: 2, 3: None})
        second = await store.publish(connection, SECOND, move=True, placement={"pause": "end"})
        third = await store.publish(connection, SECOND.replace("3d", "4d"), move=True)
    told = Told()
    spreading = moves.Moves(ready, told, Versions())  # type: ignore[arg-type]
    assert await spreading.spread() == 1
    assert await spreading.spread() == 0  # it was told just now
    (number, news), *_ = told.news
    assert news.shift is not None
    assert (news.shift.from_version_id, news.shift.version_id) == (first.version_id, second.version_id)
    assert news.shift.steps["pause"] == ("end", True)
    request = RecordRequest(
        number,
        second.version_id,
        [],
        [],
        [Finishes(1, now().timestamp(), "taken out", [numbers[0]])],
        over=False,
        moved=[[numbers[1], 1, now().timestamp()]],
    )
    for _ in range(2):  # the activity may be run again
        async with ready.begin() as connection:
            await moves.acknowledge(connection, request)
    async with ready.begin() as connection:
        rows = (
            await connection.execute(
                select(enrollment.c.version_id, enrollment.c.step, enrollment.c.state).order_by(enrollment.c.id)
            )
        ).all()
        assert (await connection.execute(select(cohort.c.version_id))).scalar_one() == second.version_id
    assert [tuple(row) for row in rows][1:] == [(second.version_id, 1, "active"), (second.version_id, None, "entering")]
    assert await spreading.spread() == 1
    assert told.news[1][1].shift is not None
    assert told.news[1][1].shift.version_id == third.version_id


async def test_newcomers_never_land_between_two_versions(ready: Database, settings: Settings) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        await _enroll(connection, settings, first.version_id, {1: None})
        second = await store.publish(connection, SECOND, move=True)
        (number,) = (await connection.execute(select(cohort.c.id))).scalars()
        await moves.acknowledge(connection, RecordRequest(number, second.version_id, [], [], [], False, moved=[]))
        # A round that began before still places somebody by the first version: into a cohort of its own.
        await _enroll(connection, settings, first.version_id, {2: None})
        rows = await connection.execute(select(cohort.c.version_id).order_by(cohort.c.id))
        assert list(rows.scalars()) == [second.version_id, first.version_id]
    told = Told()
    assert await moves.Moves(ready, told, Versions()).spread() == 1  # type: ignore[arg-type]


async def test_what_the_new_version_compares_with_is_taken_from_the_entry_event(
    ready: Database, settings: Settings
) -> None:
    same = FIRST.replace("until: {event: order.paid}", "until: {event: order.paid, where: {event.cart: {same: cart}}}")
    at = now()
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        (number,) = await _enroll(connection, settings, first.version_id, {1: 1})
        name = (
            await connection.execute(text("insert into event_name (name) values ('cart.left') returning id"))
        ).scalar_one()
        event = (
            await connection.execute(
                text(
                    "insert into event (occurred_at, contact_id, name_id, properties) "
                    "values (:at, 1, :name, cast(:body as jsonb)) returning id"
                ),
                {"at": at, "name": name, "body": json.dumps({"cart": 42, "secret": "x"})},
            )
        ).scalar_one()
        await connection.execute(update(enrollment).values(entry_event_id=event, entry_event_at=at))
        second = await store.publish(connection, same, move=True)
        request = RecordRequest(1, second.version_id, [], [], [], False, moved=[[number, 1, None]])
        await moves.acknowledge(connection, request)
        assert (await connection.execute(select(enrollment.c.correlation))).scalar_one() == {"cart": 42}


async def test_a_broadcast_under_way_goes_on_in_the_version_that_everybody_moves_to(
    ready: Database, settings: Settings
) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        await connection.execute(
            text("insert into broadcast (version_id, occasion) values (:version, 'x')"), {"version": first.version_id}
        )
        await store.publish(connection, SECOND)
    told = Told()
    await moves.Moves(ready, told, Versions()).spread()  # type: ignore[arg-type]
    async with ready.begin() as connection:
        version = (await connection.execute(text("select version_id from broadcast"))).scalar_one()
        assert version == first.version_id
        second = await store.publish(connection, SECOND, move=True)
    await moves.Moves(ready, told, Versions()).spread()  # type: ignore[arg-type]
    async with ready.begin() as connection:
        assert (await connection.execute(text("select version_id from broadcast"))).scalar_one() == second.version_id


async def test_orders(ready: Database, settings: Settings) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        here, entering, ended = await _enroll(connection, settings, first.version_id, {1: 1, 2: None, 3: 1})
        await connection.execute(
            update(enrollment).where(enrollment.c.id == ended).values(state="finished", finished_at=now())
        )
        with pytest.raises(InvalidInput, match="no step nowhere; its steps are letter, pause, patience, last"):
            await moves.order(connection, here, step="nowhere")
        with pytest.raises(Conflict, match="only just entering"):
            await moves.order(connection, entering, step="last")
        with pytest.raises(Conflict, match="has ended"):
            await moves.order(connection, ended, step="last")
        with pytest.raises(NotFound):
            await moves.order(connection, 99, step="last")
        one = await moves.order(connection, here, step="last", by="anna")
        other = await moves.order(connection, here, outcome="refunded")
    told = Told()
    spreading = moves.Moves(ready, told, Versions())  # type: ignore[arg-type]
    assert await spreading.spread() == 2
    assert await spreading.spread() == 0
    assert [news.orders for _, news in told.news] == [
        [Order(one, here, "last", ""), Order(other, here, None, "refunded")]
    ]
    answers: list[list[Any]] = [[one, None], [other, "the enrollment had ended"]]
    request = RecordRequest(1, first.version_id, [], [], [], over=False, orders=answers)
    async with ready.begin() as connection:
        await moves.acknowledge(connection, request)
        rows = await connection.execute(select(enrollment_order).order_by(enrollment_order.c.id))
        assert [(row.done_at is not None, row.refusal) for row in rows] == [
            (True, None),
            (True, "the enrollment had ended"),
        ]


async def test_over_http(ready: Database, settings: Settings) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        (number,) = await _enroll(connection, settings, first.version_id, {1: 1})
        key = await access.create(connection, "test", ["journeys:read", "journeys:write"])
    transport = httpx.ASGITransport(app=create_app(settings, ready))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", headers={"Authorization": f"Bearer {key}"}
    ) as client:
        looked = await client.post("/v1/journeys/preview", content=SECOND)
        assert [(row["step"], row["edit"], row["contacts"], row["to"]) for row in looked.json()] == [
            ("pause", "gone", 1, None),
            ("patience", "retimed", 0, "patience"),
        ]
        refused = await client.post("/v1/journeys?move=true", content=SECOND)
        assert refused.status_code == 422
        assert "1 contact stands on the step pause" in refused.text
        done = await client.post("/v1/journeys?move=true&place=pause=patience", content=SECOND)
        assert [(row["step"], row["to"]) for row in done.json()["standing"]] == [
            ("pause", "patience"),
            ("patience", "patience"),
        ]
        moved = await client.post(f"/v1/enrollments/{number}/move", json={"step": "last"})
        assert (moved.status_code, moved.json()) == (202, {"order": 1})
        assert (await client.post(f"/v1/enrollments/{number}/end", json={})).json() == {"order": 2}
        assert (await client.post(f"/v1/enrollments/{number}/move", json={"step": "no"})).status_code == 422
        assert (await client.post("/v1/journeys/hello/stop?finish=true")).json()["state"] == "finishing"
        assert (await client.post("/v1/journeys/hello/enter", json={"contacts": ["2"]})).status_code == 409


async def test_an_order_waits_until_the_cohort_knows_the_contact(ready: Database, settings: Settings) -> None:
    """Contacts that merge end enrollments that may be only just entering."""
    async with ready.begin() as connection:
        first = await store.publish(connection, FIRST)
        (number,) = await _enroll(connection, settings, first.version_id, {1: None})
        await connection.execute(insert(enrollment_order).values(enrollment_id=number, cohort_id=1, outcome="merged"))
    told = Told()
    spreading = moves.Moves(ready, told, Versions())  # type: ignore[arg-type]
    assert await spreading.spread() == 0
    async with ready.begin() as connection:
        await connection.execute(update(enrollment).values(state="active"))
    assert await spreading.spread() == 1
    assert [news.orders for _, news in told.news] == [[Order(1, number, None, "merged")]]
