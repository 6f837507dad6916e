"""Publishing journeys: versions, refusals with line and column, states, and the HTTP and command-line edges."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, update
from typer.testing import CliRunner

from core import access
from core.database import Database
from core.errors import InvalidInput, NotFound
from core.schema import contacts, messages
from core.schema.journeys import journey
from core.settings import Settings
from journeys import canonical, cli, compiler, loader, store
from journeys.plan import Plan, Split, Wait
from segments import members as segment_members
from segments import store as segment_store
from studio.api import create_app

pytestmark = pytest.mark.usefixtures("email_provider")

GOOD = """\
journey: hello
enter: {event: contact.registered, where: {contact.age: {gte: 18}}}
steps:
  - send: email
    template: welcome
  - wait: 2h
  - update: {attributes: {age: 19}}
"""


@pytest.fixture
async def ready(database: Database) -> Database:
    """A database with a template for email, one for SMS, and two attributes."""
    async with database.begin() as connection:
        await connection.execute(
            insert(contacts.attribute), [{"name": "age", "type": "number"}, {"name": "born", "type": "date"}]
        )
        for number, (name, channel, variables) in enumerate(
            [
                ("welcome", "email", ["contact.age", "contact.email", "unsubscribe_url"]),
                ("text", "sms", []),
                ("about-event", "email", ["event.total", "contact.shoe_size"]),
            ],
            start=1,
        ):
            await connection.execute(
                insert(messages.template).values(id=number, name=name, channel=channel, version_id=number)
            )
            await connection.execute(
                insert(messages.template_version).values(
                    id=number, template_id=number, number=1, source={}, compiled={"variables": variables}
                )
            )
    return database


async def test_publishing_makes_versions_only_of_changes(ready: Database) -> None:
    async with ready.begin() as connection:
        first = await store.publish(connection, GOOD, "a.yaml", "anna")
        again = await store.publish(connection, GOOD.encode(), "a.yaml", "boris")
        hastened = await store.publish(connection, GOOD, "a.yaml", hasten=60)
        changed = await store.publish(connection, GOOD.replace("2h", "3h") + "\n", "a.yaml", "anna")
        found = await store.find(connection, "hello")
        old = await store.plan_of(connection, first.version_id)
    assert (first.number, first.changed) == (1, True)
    assert (again.version_id, again.number, again.changed) == (first.version_id, 1, False)
    assert (hastened.number, hastened.changed) == (2, True)
    assert (changed.number, found.number, found.version_id) == (3, 3, changed.version_id)
    assert (found.published_by, found.state, found.title) == ("anna", "active", "hello")
    wait = old.steps[1]
    assert isinstance(wait, Wait) and wait.seconds == 7200


async def test_publishing_refuses_what_does_not_exist_with_line_and_column(ready: Database) -> None:
    bad = """\
journey: hello
enter: {segment: nowhere}
steps:
  - send: email
    template: welcom
  - send: email
    template: text
  - send: sms
    template: text
  - if: {contact.agee: 5, contact.age: young}
    then: [end]
  - update: {attributes: {age: old, shoe: 5, born: 2026-02-30}}
  - wait: forever
    until: {event: x, then: [{send: email, template: about-event}]}
"""
    with pytest.raises(InvalidInput) as caught:
        async with ready.begin() as connection:
            await store.publish(connection, bad, "bad.yaml")
    assert [str(problem) for problem in caught.value.problems] == [
        "bad.yaml:2:9: there is no segment nowhere (publish it first, or write all)",
        "bad.yaml:5:5: there is no template welcom (did you mean welcome?)",
        "bad.yaml:7:5: the template text is for sms, not for email (name another template)",
        "bad.yaml:8:5: the channel sms is not configured yet (use email or webhook meanwhile)",
        "bad.yaml:10:10: contacts have no attribute agee (did you mean age?)",
        "bad.yaml:10:27: the attribute age is a number; eq with 'young' does not fit (compare it with a number)",
        "bad.yaml:12:27: the attribute age is a number; 'old' is not (write a number)",
        "bad.yaml:12:37: contacts have no attribute shoe (import contacts that have it, or create the attribute)",
        "bad.yaml:12:46: the attribute born is a date; '2026-02-30' is not (write a date)",
        "bad.yaml:14:44: the template about-event uses contact.shoe_size, which is not to be had here "
        "(import contacts that have the attribute, or create it)",
        "bad.yaml:14:44: the template about-event uses event.total, which is not to be had here "
        "(only journeys that are entered by an event have its properties)",
    ]
    async with ready.begin() as connection:
        assert await store.listing(connection) == []


async def test_a_change_of_state_is_counted_once(ready: Database) -> None:
    async with ready.begin() as connection:
        await store.publish(connection, GOOD)
        assert await store.set_state(connection, "hello", "paused") == "active"
        assert await store.set_state(connection, "hello", "paused") == "paused"
        control = (await connection.execute(select(journey.c.control))).scalar_one()
        assert control == 1
        assert (await store.find(connection, "hello")).state == "paused"
        with pytest.raises(NotFound, match="there is no journey helo; did you mean hello"):
            await store.set_state(connection, "helo", "active")
        with pytest.raises(InvalidInput, match="there is no state sleeping"):
            await store.set_state(connection, "hello", "sleeping")
        with pytest.raises(NotFound, match="no journey version 99"):
            await store.plan_of(connection, 99)


async def test_a_plan_in_the_database_is_the_plan(ready: Database) -> None:
    async with ready.begin() as connection:
        done = await store.publish(connection, GOOD)
        plan = await store.plan_of(connection, done.version_id)
    assert plan == Plan.model_validate_json(plan.model_dump_json())
    assert plan.entry.criteria == {"contact.age": {"gte": 18}}


async def _client(ready: Database, settings: Settings, scope: str) -> httpx.AsyncClient:
    async with ready.begin() as connection:
        key = await access.create(connection, "test", [scope])
    transport = httpx.ASGITransport(app=create_app(settings, ready))
    return httpx.AsyncClient(
        transport=transport, base_url="http://localhost", headers={"Authorization": f"Bearer {key}"}
    )


async def test_over_http(ready: Database, settings: Settings) -> None:
    async with await _client(ready, settings, "admin") as client:
        made = await client.post("/v1/journeys", content=GOOD.encode())
        assert made.status_code == 200, made.text
        assert made.json()["number"] == 1
        listed = (await client.get("/v1/journeys")).json()
        assert [(one["name"], one["state"], one["running"]) for one in listed] == [("hello", "active", 0)]
        assert (await client.post("/v1/journeys/hello/pause")).json()["state"] == "paused"
        assert (await client.post("/v1/journeys/hello/resume")).json()["before"] == "paused"
        assert (await client.post("/v1/journeys/hello/stop")).json()["state"] == "stopped"
        shown = (await client.get("/v1/journeys/hello")).json()
        assert (shown["state"], shown["source"]) == ("stopped", GOOD)
        assert shown["plan"]["steps"][0]["template"] == "welcome"
        assert (await client.get("/v1/journeys/nope")).status_code == 404
        refused = await client.post("/v1/journeys", content=b"journey: x\nsteps: [edn]\n")
        assert refused.status_code == 422
        assert "did you mean end?" in refused.text
    async with await _client(ready, settings, "journeys:read") as reader:
        assert (await reader.get("/v1/journeys/hello")).status_code == 200
        assert (await reader.post("/v1/journeys", content=GOOD.encode())).status_code == 403
        assert (await reader.post("/v1/journeys/hello/pause")).status_code == 403


def test_validate_on_the_command_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text("journey: x\nsteps: [edn]\n")
    runner = CliRunner()
    assert runner.invoke(cli.app, ["validate", str(good)]).exit_code == 0
    failed = runner.invoke(cli.app, ["validate", str(good), str(bad), str(tmp_path / "none"), "--json"])
    assert failed.exit_code == 1
    told = json.loads(failed.stdout)
    assert [one["journey"] for one in told["journeys"]] == ["hello"]
    assert [(one["line"], one["mend"]) for one in told["problems"]] == [(2, "did you mean end?"), (1, "name a file")]


def test_the_schema_on_the_command_line_is_json() -> None:
    result = CliRunner().invoke(cli.app, ["schema"])
    assert json.loads(result.stdout)["$defs"]["Criteria"]["type"] == "object"


SEGMENT = "segment: loyal\nname: Loyal ones\n"


async def _people(database: Database) -> None:
    async with database.begin() as connection:
        for number, name in enumerate(["anna", "boris"], start=1):
            await connection.execute(insert(contacts.contact).values(id=number, tags=[name]))
            values: dict[str, Any] = {"kind": "email", "value": f"{name}@example.com", "contact_id": number}
            await connection.execute(insert(contacts.identity).values(values))


async def test_segments_with_criteria(ready: Database) -> None:
    await _people(ready)
    async with ready.begin() as connection:
        source = SEGMENT + "criteria: {contact.tags: anna}\n"
        assert (await segment_store.publish(connection, source)).changed
        assert not (await segment_store.publish(connection, source)).changed
        assert await segment_members.count(connection, "loyal") == 1
        assert await segment_members.count(connection, "all") == 2
        assert await segment_store.criteria_of(connection, "all") is None
        members = await segment_members.page(connection, "loyal", 0, 10)
        assert members == [{"id": 1, "email": "anna@example.com", "since": None}]
        changed = source.replace("anna", "boris")
        assert (await segment_store.publish(connection, changed)).changed
        assert [one["id"] for one in await segment_members.page(connection, "loyal", 0, 10)] == [2]
        (listed,) = await segment_store.listing(connection)
        assert (listed["name"], listed["title"], listed["kind"]) == ("loyal", "Loyal ones", "criteria")
        with pytest.raises(NotFound, match="did you mean loyal"):
            await segment_members.count(connection, "loyall")


async def test_segments_with_lists(ready: Database) -> None:
    await _people(ready)
    async with ready.begin() as connection:
        source = SEGMENT + "list:\n  - Anna@example.com\n"
        assert (await segment_store.publish(connection, source)).changed
        assert not (await segment_store.publish(connection, source)).changed
        assert await segment_store.add_members(connection, "loyal", [1, 2, 99]) == 1
        assert [one["id"] for one in await segment_members.page(connection, "loyal", 1, 10)] == [2]
        assert await segment_store.remove_members(connection, "loyal", [1]) == 1
        assert await segment_members.count(connection, "loyal") == 1
        (row,) = await segment_members.page(connection, "loyal", 0, 10)
        assert row["since"] is not None
        with pytest.raises(InvalidInput, match=r"f:4:5: no contact has the address x@example\.com"):
            await segment_store.publish(connection, SEGMENT + "list:\n  - x@example.com\n", "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- x", "a segment is a mapping"),
        ("segment: all\ncriteria: {contact.tags: x}", "1:1: the segment has no usable name"),
        ("segment: a\nlist: []\ncriteria: {contact.tags: x}", "either criteria or a list"),
        ("segment: a", "either criteria or a list"),
        ("segment: a\ncriterion: {}\nlist: []", "2:1: unknown key criterion (did you mean criteria?)"),
        ("segment: a\ncriteria: {contact.tags: {gt: x}}", "2:27: gt takes a number or a date"),
        ("segment: a\nlist: [anna]", "2:8: an email address is expected"),
    ],
)
def test_segment_files_with_mistakes(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        segment_store.parse(text, "s.yaml")
    assert message in str(caught.value)


async def test_a_segment_cannot_contain_itself(ready: Database) -> None:
    async with ready.begin() as connection:
        await segment_store.publish(connection, "segment: a\ncriteria: {contact.tags: x}")
        await segment_store.publish(connection, "segment: b\ncriteria: {contact.segments: a}")
        with pytest.raises(InvalidInput, match="would contain itself: a → b → a"):
            await segment_store.publish(connection, "segment: a\ncriteria: {contact.segments: b}")


async def test_a_channel_without_a_provider_is_refused(ready: Database) -> None:
    async with ready.begin() as connection:
        await connection.execute(update(messages.provider).values(state="removed"))
    with pytest.raises(InvalidInput) as caught:
        async with ready.begin() as connection:
            await store.publish(connection, GOOD, "hello.yaml", "ann")
    [problem] = caught.value.problems
    assert (problem.line, problem.message) == (4, "no provider carries email yet")
    assert "kaskad provider add" in problem.mend


async def test_splits_deal_on_as_they_did_in_the_version_before(ready: Database) -> None:
    """The winner found for a split, and the arm that a contact takes, are known by its salt."""
    first = "journey: arms\nsteps:\n  - split: {a: 1, b: 1}\n  - end\n"
    second = first.replace("steps:\n", "steps:\n  - split: {c: {then: [{wait: 1d}]}, d: 1}\n")
    async with ready.begin() as connection:
        await store.publish(connection, first)
        made = await store.publish(connection, second, move=True)
        again = await store.publish(connection, second)
        plan = await store.plan_of(connection, made.version_id)
    assert [step.salt for step in plan.steps if isinstance(step, Split)] == ["arms:split-1+1", "arms:split-1"]
    assert not again.changed
    assert canonical.text(plan) == canonical.text(compiler.compile(loader.load(second)))


LOOPING = "journey: {name}\nenter: {{reenter: {reenter}{more}}}\nsteps:\n  - tag: a\n{wait}  - enroll: {other}\n"


async def _enrolling(
    database: Database, name: str, other: str, reenter: str = "always", more: str = "", wait: str = ""
) -> list[str]:
    """Publish a journey that lets contacts into another one; gives the problems."""
    source = LOOPING.format(name=name, other=other, reenter=reenter, more=more, wait=wait)
    try:
        async with database.begin() as connection:
            await store.publish(connection, source, "x.yaml")
    except InvalidInput as error:
        return [str(problem) for problem in error.problems]
    return []


async def test_journeys_that_let_contacts_into_one_another_for_ever_are_refused(database: Database) -> None:
    mend = "(put a wait before it, or write reenter: never or a cooldown under enter)"
    said = f"x.yaml:5:5: contacts would be let in for ever, without a wait: {{}} {mend}"
    assert await _enrolling(database, "own", "own") == [said.format("own → own")]
    assert await _enrolling(database, "own", "own", "after_exit") == []  # it is still inside
    assert await _enrolling(database, "own", "own", "never") == []
    assert await _enrolling(database, "own", "own", more=", cooldown: 1d") == []
    assert await _enrolling(database, "own", "own", wait="  - wait: 1d\n") == []
    async with database.begin() as connection:
        await store.publish(connection, "journey: c\nsteps:\n  - tag: c\n")
    assert await _enrolling(database, "b", "c") == []
    assert await _enrolling(database, "a", "b") == []
    assert await _enrolling(database, "c", "a", "after_exit") == [said.format("c → a → b → c")]
    assert await _enrolling(database, "c", "a", "never") == []
    assert await _enrolling(database, "b", "c", wait="  - wait: 1d\n") == []
    assert await _enrolling(database, "c", "a") == []


async def test_an_endless_loop_through_a_wait_behind_the_step_is_refused_as_well(database: Database) -> None:
    source = "journey: own\nenter: {reenter: always}\nsteps:\n  - {enroll: own, await: true}\n"
    with pytest.raises(InvalidInput, match="own → own"):
        async with database.begin() as connection:
            await store.publish(connection, source)
