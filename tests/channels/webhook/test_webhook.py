"""The webhook channel: templates, calls that are signed, and what answers come to."""

import asyncio
import hashlib
import hmac
import socket
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from channels import DeliverRequest, Item, byhand, compilation, fates, notices, prepare, providers, story, templates
from channels.keys import webhook_key
from channels.provider import NotNow, Outcome, Receipt
from channels.requests import PrepareRequest
from channels.webhook.call import Call, WebhookMessage, fill, host
from channels.webhook.provider import open_webhook
from core.errors import InvalidInput
from core.ids import message_id
from core.settings import Settings
from journeys import store
from journeys.plan import Send
from tests.channels.webhook.receiver import Receiver, Taken, receiving, status
from tests.channels.world import World, no_rules

TEMPLATE = """---
template: crm
channel: webhook
url: URL/orders/{{ contact.first_name }}?n={{ event.total | default(3) }}
method: PUT
headers: {X-Token: "{{ contact.token | default('none') }}"}
---
{"name": "{{ contact.first_name }}", "total": "{{ event.total | default(12) }}", "list": [1, "x{{ contact.id }}"]}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """Another program."""
    async with receiving() as made:
        yield made


async def publish(world: World, receiver: Receiver, options: str = "?private=yes&timeout=1") -> None:
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "hooks", f"webhook://{options}")
        await connection.exec_driver_sql(
            "insert into attribute (name, type) values ('first_name', 'text'), ('token', 'text')"
        )
        await templates.publish(connection, TEMPLATE.replace("URL", receiver.url), "crm.txt")


async def made(world: World, at: datetime, count: int = 1, **attributes: Any) -> list[Item]:
    items = await world.enroll(count, consent=None, **attributes)
    request = PrepareRequest(
        version_id=world.version_id, step=0, channel="webhook", template="crm", purpose="transactional",
        priority="triggered", at=at, items=items,
    )  # fmt: skip
    async with world.database.begin() as connection:
        verdicts = await prepare(connection, world.settings, request)
    assert {one.action for one in verdicts} == {"deliver"}, verdicts
    return items


async def send(world: World, items: list[Item], at: datetime) -> dict[int, str]:
    return (await world.delivery.deliver(DeliverRequest("hooks", at, items, False), lambda: None)).states


async def test_a_call_is_filled_signed_and_named(world: World, receiver: Receiver, at: datetime) -> None:
    await publish(world, receiver)
    items = await made(world, at, first_name='A/n"n', token="t\r\nx")
    assert set((await send(world, items, at)).values()) == {"accepted"}
    [taken] = receiver.taken
    [row] = await world.run("select id, address, contact_id from message")
    assert (taken.method, taken.path) == ("PUT", "/orders/A%2Fn%22n?n=3")
    assert taken.data == {"name": 'A/n"n', "total": 12, "list": [1, f"x{row.contact_id}"]}
    assert taken.headers["x-token"] == "t x"
    assert taken.headers["kaskad-id"] == taken.headers["idempotency-key"] == str(row.id)
    moment, _, digest = taken.headers["kaskad-signature"].removeprefix("t=").partition(",v1=")
    signed = hmac.new(webhook_key(world.settings), moment.encode() + b"." + taken.body, hashlib.sha256)
    assert digest == signed.hexdigest()
    assert row.address == f"127.0.0.1:{receiver.port}"
    async with world.database.begin() as connection:
        told = await story.show(connection, world.settings, row.id)
    assert told["content"]["text"].encode() == taken.body
    assert told["content"]["subject"] == f"PUT {receiver.url}{taken.path}"


async def test_a_value_that_is_missing_skips_it(world: World, receiver: Receiver, at: datetime) -> None:
    await publish(world, receiver)
    assert set((await send(world, await made(world, at), at)).values()) == {"skipped"}
    assert receiver.taken == []
    assert [row.reason for row in await world.rows()] == ["missing_value: contact.first_name"]


async def test_what_fails_is_tried_again_by_its_own_name(world: World, receiver: Receiver, at: datetime) -> None:
    await publish(world, receiver)
    answers = iter([status(503, "retry-after: 1"), None, status(200)])
    receiver.answer = lambda _taken: next(answers)
    items = await made(world, at, first_name="Ann")
    assert set((await send(world, items, at)).values()) == {"accepted"}
    assert len({one.headers["kaskad-id"] for one in receiver.taken}) == 1
    assert len(receiver.taken) == 3


async def test_what_is_refused_waits_in_the_list_of_failures(world: World, receiver: Receiver, at: datetime) -> None:
    await publish(world, receiver)
    receiver.answer = lambda _taken: status(422)
    items = await made(world, at, first_name="Ann")
    assert set((await send(world, items, at)).values()) == {"failed"}
    receiver.answer = lambda _taken: status(204)
    async with world.database.begin() as connection:
        await byhand.retry(connection, message_id(items[0].enrollment_id, 1), "olga", None)
    assert await byhand.send_again(world.database, world.delivery, no_rules) == 1
    assert await world.states() == [50]


async def test_a_dead_receiver_makes_them_wait(world: World, receiver: Receiver, at: datetime) -> None:
    await publish(world, receiver)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with world.database.begin() as connection:
            await templates.publish(connection, TEMPLATE.replace("URL", closed), "crm.txt")
        items = await made(world, at, first_name="Ann")
        with pytest.raises(NotNow):
            await send(world, items, at)
    assert await world.states() == [10]


async def test_staff_are_notified_by_webhook(world: World, receiver: Receiver, at: datetime) -> None:
    await publish(world, receiver)
    [version] = await world.run(
        "insert into journey_version (journey_id, number, source, plan) select journey_id, 2, '', jsonb_build_object("
        "'steps', jsonb_build_array(jsonb_build_object('id', 'first', 'subject', '', "
        "'text', '{{ contact.first_name }} \"paid\"'))) from journey_version returning id"
    )
    items = await world.enroll(1, first_name="Ann")
    request = notices.NoticeRequest(version.id, 0, "webhook", f"{receiver.url}/chat", at, items)
    async with world.database.begin() as connection:
        [verdict] = await notices.prepare_notices(connection, request)
    assert verdict.provider == "hooks"
    assert set((await send(world, items, at)).values()) == {"accepted"}
    [taken] = receiver.taken
    assert (taken.method, taken.path, taken.data) == ("POST", "/chat", {"text": 'Ann "paid"'})


# Where it must not go


async def hand(url: str, settings: Settings, options: str = "?timeout=1") -> Receipt:
    provider = open_webhook(f"webhook://{options}", settings)
    try:
        [receipt] = await provider.hand_over([WebhookMessage(UUID(int=1), Call("POST", url, {}, b"{}"))])
        return receipt
    finally:
        await provider.close()


async def test_private_addresses_are_refused(settings: Settings, receiver: Receiver) -> None:
    for address in (receiver.url, f"http://localhost:{receiver.port}", "http://[::1]/", "http://169.254.169.254/"):
        receipt = await hand(address, settings)
        assert (receipt.outcome, "private network" in receipt.reason) == (Outcome.REJECTED, True)
    assert receiver.taken == []
    assert (await hand(receiver.url, settings, "?private=yes")).outcome is Outcome.ACCEPTED


async def test_a_name_that_changes_its_address_gains_nothing(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when it is checked, private when it is asked for again."""
    asked: list[str] = []
    connected: list[Any] = []
    loop = asyncio.get_running_loop()
    real, connect = loop.getaddrinfo, loop.create_connection

    async def resolve(host: Any, port: Any, **more: Any) -> Any:
        if host != "rebinding.example":
            return await real(host, port, **more)
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    async def to_the_receiver(protocol: Any, host: Any, port: Any, **more: Any) -> Any:
        """The public address is on this machine, for the test."""
        connected.append(host)
        return await connect(protocol, "127.0.0.1" if host == "93.184.215.14" else host, port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "create_connection", to_the_receiver)
    first = await hand(f"http://rebinding.example:{receiver.port}/", settings)
    assert (first.outcome, connected, asked) == (Outcome.ACCEPTED, ["93.184.215.14"], ["rebinding.example"])
    second = await hand(f"http://rebinding.example:{receiver.port}/", settings)
    assert (second.outcome, "private" in second.reason) == (Outcome.REJECTED, True)
    assert len(receiver.taken) == len(connected) == 1


async def test_redirects_are_looked_at_as_closely(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public address that leads into a private network; here `is_public` takes 127.0.0.1 for a public one."""
    from core import outbound

    real = outbound.is_public
    monkeypatch.setattr(outbound, "is_public", lambda address: str(address) == "127.0.0.1" or real(address))

    def lead(taken: Taken) -> bytes:
        return status(307, "location: http://10.0.0.1/inner") if taken.path == "/out" else status(200)

    receiver.answer = lead
    receipt = await hand(f"{receiver.url}/out", settings)
    assert (receipt.outcome, "10.0.0.1 is in a private network" in receipt.reason) == (Outcome.REJECTED, True)
    assert [one.path for one in receiver.taken] == ["/out"]


async def test_one_message_that_cannot_be_sent_leaves_the_others_alone(
    settings: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core import outbound

    def broken(key: bytes, body: bytes, at: float) -> str:
        if body == b"3":
            raise KeyError("a defect")
        return outbound.signature(key, body, at)

    monkeypatch.setattr("channels.webhook.provider.signature", broken)
    urls = [f"{receiver.url}/1", "http://hooks..example/", f"{receiver.url}/3", f"{receiver.url}/4"]
    provider = open_webhook("webhook://?private=yes&timeout=5", settings)
    messages = [
        WebhookMessage(UUID(int=number), Call("POST", url, {}, str(number).encode()))
        for number, url in enumerate(urls, 1)
    ]
    receipts = await provider.hand_over(messages)
    await provider.close()
    states = [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNKNOWN, Outcome.ACCEPTED]
    assert [receipt.outcome for receipt in receipts] == states
    assert {one.path for one in receiver.taken} == {"/1", "/4"}


async def test_a_silent_receiver_leaves_it_in_doubt(settings: Settings) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        receipt = await hand(f"http://127.0.0.1:{port}/", settings, "?private=yes&timeout=0.3")
    assert receipt.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("options", ["?timeout=0", "?timeout=x", "?privat=yes", "?private=maybe", "host/"])
def test_wrong_options_are_refused(settings: Settings, options: str) -> None:
    with pytest.raises(InvalidInput):
        open_webhook(f"webhook://{options}", settings)


# Templates


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("url: URL", "url: ftp://x.example"), "address"),
        (("url: URL", "url: https://{{ contact.first_name }}.example"), "address"),
        (("url: URL", "url: https://hooks..example.com"), "no host"),
        (("url: URL", f"url: https://{'a' * 64}.example"), "no host"),
        (("url: URL", "url: https://[::1"), "no host"),
        (("url: URL", "url: https://hooks.example:99999"), "no host"),
        (("PUT", "FETCH"), "FETCH"),
        (("X-Token", "Kaskad-Id"), "set by Kaskad"),
        (('{"name"', "name"), "no JSON"),
        (('contact.first_name }}"', 'contact.first_name "'), "Jinja"),
        (("event.total | default(12)", "__class__"), "not for templates"),
        (("channel: webhook", "channel: email\nsubject: x"), "url is no field"),
    ],
)
def test_wrong_templates_are_refused(change: tuple[str, str], words: str) -> None:
    source = TEMPLATE.replace(*change).replace("URL", "https://crm.example")
    with pytest.raises(InvalidInput, match=words):
        parsed = compilation.parse(source, "crm.txt")
        compilation.check(parsed)


def test_an_email_template_is_stored_as_before() -> None:
    source = compilation.parse("---\ntemplate: x\nsubject: y\n---\n<p>z</p>\n", "x.html")
    assert "call" not in compilation.compile_source(source, compilation.check(source)).stored()


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_value_leaves_its_place(name: str, token: str) -> None:
    call = {
        "url": "https://crm.example/a/{{ contact.name }}?t={{ contact.token }}#x", "method": "POST",
        "headers": {"X": "{{ contact.token }}"}, "body": {"a": "{{ contact.name }}", "b": "-{{ contact.token }}"},
    }  # fmt: skip
    made = fill(call, {"contact": {"name": name, "token": token}})
    assert made.url.startswith("https://crm.example/a/")
    assert (made.url.count("/"), made.url.count("?"), made.url.count("#")) == (4, 1, 1)
    assert made.headers["x"].isprintable() or "\n" not in made.headers["x"]
    import json

    assert json.loads(made.body) == {"a": name, "b": "-" + token}
    assert host(call) == "crm.example"


def test_waits_are_uneven_and_bounded() -> None:
    late = Receipt(Outcome.DEFERRED)
    waits = [fates.pause(4, late, UUID(int=n)) for n in range(1, 2000)]
    assert timedelta(seconds=4) <= min(waits) < max(waits) <= timedelta(seconds=12)
    assert len(set(waits)) > 500
    told = Receipt(Outcome.DEFERRED, retry_after=timedelta(seconds=9))
    assert fates.pause(4, told, UUID(int=5)) == timedelta(seconds=9)


async def test_a_journey_sends_and_notifies_by_webhook(world: World, receiver: Receiver) -> None:
    await publish(world, receiver)
    source = (
        "journey: tell\nenter: {event: order.paid}\nsteps:\n  - send: webhook\n    template: crm\n"
        "  - notify: webhook\n    to: https://chat.example/x\n    text: paid\n"
    )
    async with world.database.begin() as connection:
        published = await store.publish(connection, source, "tell.yaml")
        plan = await store.plan_of(connection, published.version_id)
    first = next(step for step in plan.steps if isinstance(step, Send))
    assert (first.channel, first.purpose) == ("webhook", "transactional")
