"""The call step: what it sends, where answers lead, and that it is tried again no longer than it should be."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from channels.keys import webhook_key
from core.database import Database
from core.errors import DatabaseUnavailable
from core.outbound import signature
from core.settings import Settings
from engine import calls
from engine.acting import Acting
from engine.versions import Version
from tests.core.test_outbound import Server, reply, server
from tests.engine.steps_world import World

__all__ = ["server"]

SOURCE = """\
journey: crm
enter: {event: order.paid}
steps:
  - id: ask
    call: http://127.0.0.1:PORT/contacts/{{ contact.name }}/score
    headers: {X-Team: "{{ contact.name }}"}
    body: {order: "{{ event.order }}", text: "order {{ event.order }}", of: [kaskad, 1]}
    retry: 1h
    save: {score: answer.score, label: answer.items.0.label}
    answers:
      - {when: {status: 404}, then: [{id: unknown, end: unknown}]}
      - {when: {answer.score: {gte: 50}}, then: [{id: hot, end: hot}]}
    failed: [{id: failed, end: failed}]
  - {id: cold, end: cold}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def open_world(database: Database, settings: Settings) -> AsyncIterator[World]:
    """An installation that may call the loopback."""
    allowed = settings.model_copy(update={"call_private": True})
    acting = Acting(database, allowed)
    world = World(database, allowed, acting)
    await world.attribute("score", "number")
    await world.attribute("label", "text")
    await world.attribute("name", "text")
    yield world
    await acting.close()


async def enrolled(world: World, server: Server, name: str = "anna") -> tuple[Version, int, int]:
    """A contact who has paid an order of 7."""
    version = await world.publish(SOURCE.replace("PORT", str(server.port)))
    contact = await world.contact(name=name)
    return version, contact, await paid(world, version, contact)


async def paid(world: World, version: Version, contact: int) -> int:
    """Enroll a contact because of an order of 7."""
    (one,) = await world.enroll(version, contact)
    rows = await world.run(
        "with n as (insert into event_name (name) values ('order.paid') on conflict (name) do update "
        "set name = excluded.name returning id) insert into event (occurred_at, contact_id, name_id, properties) "
        "select now(), :contact, id, '{\"order\": 7}' from n returning id, occurred_at",
        contact=contact,
    )
    await world.run(
        "update enrollment set entry_event_id = :event, entry_event_at = :at where id = :id",
        event=rows[0].id, at=rows[0].occurred_at, id=one,
    )  # fmt: skip
    return one


def place(version: Version, step: str) -> int:
    return next(number for number, one in enumerate(version.plan.steps) if one.id == step)


async def test_what_is_sent_is_filled_in_signed_and_asked_once(open_world: World, server: Server) -> None:
    version, contact, one = await enrolled(open_world, server, name="a/../b\r\nX: y")
    path = "/contacts/a%2F..%2Fb%0D%0AX%3A%20y/score"
    server.answers[path] = reply(200, b'{"score": 61, "items": [{"label": "vip"}]}')
    for _ in range(2):
        acted = await open_world.act(version, "ask", [(one, 1)])
        assert acted.went == [[one, 1, place(version, "hot"), "answer:2"]]
    ((head, body),) = server.requests
    assert head.startswith(f"POST {path} HTTP/1.1\r\n")
    assert json.loads(body) == {"order": 7, "text": "order 7", "of": ["kaskad", 1]}
    fields = dict(line.lower().split(": ", 1) for line in head.strip().splitlines()[1:])
    assert fields["x-team"] == "a/../b x: y"
    at = float(fields["kaskad-signature"].split(",")[0].removeprefix("t="))
    assert fields["kaskad-signature"] == signature(webhook_key(open_world.settings), body, at)
    carried = await open_world.attributes_of(contact)
    assert (carried["score"], carried["label"]) == (61, "vip")


async def test_answers_lead_where_they_say(open_world: World, server: Server) -> None:
    version, contact, one = await enrolled(open_world, server)
    cases = [
        (reply(200, b'{"score": 3}'), "cold", "answered"),
        (reply(404, b"nothing"), "unknown", "answer:1"),
        (reply(400, b'{"score": 3}'), "failed", "failed"),
        (reply(200, b'{"score": "high"}'), "cold", "answered"),
    ]
    for visit, (answer, step, via) in enumerate(cases, 1):
        server.answers["/contacts/anna/score"] = answer
        acted = await open_world.act(version, "ask", [(one, visit)])
        assert acted.went == [[one, visit, place(version, step), via]]
    assert (await open_world.attributes_of(contact))["score"] == 3  # a text does not fit a number


async def test_a_transient_failure_is_tried_again_and_not_for_ever(open_world: World, server: Server) -> None:
    version, _, one = await enrolled(open_world, server)
    server.answers["/contacts/anna/score"] = reply(503, b"", **{"retry-after": "60"})
    (held,) = (await open_world.act(version, "ask", [(one, 1)])).held
    (row,) = await open_world.run("select attempts, status, next_at - began_at as pause, next_at from call_attempt")
    assert (row.attempts, row.status) == (1, 503)
    assert timedelta(seconds=58) < row.pause < timedelta(seconds=62)
    assert held == [one, 1, row.next_at.timestamp()]
    await open_world.act(version, "ask", [(one, 1)])
    assert len(server.requests) == 1  # not before its time
    ids = {line for head, _ in server.requests for line in head.splitlines() if line.lower().startswith("kaskad-id")}
    await open_world.run("update call_attempt set next_at = now(), began_at = now() - interval '59 minutes 50 seconds'")
    acted = await open_world.act(version, "ask", [(one, 1)])
    assert acted.went == [[one, 1, place(version, "failed"), "failed"]]
    ids |= {line for head, _ in server.requests for line in head.splitlines() if line.lower().startswith("kaskad-id")}
    assert len(ids) == 1
    (row,) = await open_world.run("select attempts, error from call_attempt")
    assert (row.attempts, row.error) == (2, "given up after 2 attempts: status 503")


async def test_what_cannot_be_sent_fails_at_once(open_world: World, server: Server) -> None:
    version, contact, one = await enrolled(open_world, server)
    await open_world.run("update contact set attributes = '{}' where id = :id", id=contact)
    acted = await open_world.act(version, "ask", [(one, 1)])
    assert acted.went == [[one, 1, place(version, "failed"), "failed"]]
    assert server.requests == []
    (row,) = await open_world.run("select error from call_attempt")
    assert row.error == "missing value: contact.name"


async def test_one_contact_that_makes_a_call_impossible_leaves_the_others_alone(
    open_world: World, server: Server
) -> None:
    version, _, one = await enrolled(open_world, server)
    server.answers["/contacts/anna/score"] = reply(302, location="http://[")
    server.answers["/contacts/boris/score"] = reply(200, b'{"score": 61}')
    other = await paid(open_world, version, await open_world.contact(name="boris"))
    acted = await open_world.act(version, "ask", [(one, 1), (other, 1)])
    assert sorted(acted.went) == [
        [one, 1, place(version, "failed"), "failed"],
        [other, 1, place(version, "hot"), "answer:2"],
    ]


async def test_a_call_that_cannot_be_written_down_lets_the_others_end(
    open_world: World, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, _, one = await enrolled(open_world, server)
    server.answers["/contacts/boris/score"] = reply(200, b'{"score": 61}')
    other = await paid(open_world, version, await open_world.contact(name="boris"))
    keep, failed = calls._keep, asyncio.Event()

    async def full_disk(connection: Any, step: Any, enrollment: int, visit: int, settled: Any) -> None:
        if enrollment == one:
            failed.set()
            raise DatabaseUnavailable("the disk is full")
        await failed.wait()
        await keep(connection, step, enrollment, visit, settled)

    monkeypatch.setattr(calls, "_keep", full_disk)
    with pytest.raises(DatabaseUnavailable):
        await open_world.act(version, "ask", [(one, 1), (other, 1)])
    assert [row.via for row in await open_world.run("select via from call_attempt")] == ["answer:2"]


async def test_private_addresses_fail_unless_allowed(world: World, server: Server) -> None:
    for name, kind in (("score", "number"), ("label", "text"), ("name", "text")):
        await world.attribute(name, kind)
    version, _, one = await enrolled(world, server)
    acted = await world.act(version, "ask", [(one, 1)])
    assert acted.went == [[one, 1, place(version, "failed"), "failed"]]
    assert server.requests == []
    (row,) = await world.run("select error from call_attempt")
    assert "KASKAD_CALL_PRIVATE" in row.error
