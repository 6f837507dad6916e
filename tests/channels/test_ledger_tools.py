"""The ledger's tools: finding messages, everything about one, settling and retrying by hand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from channels import byhand, messages, providers, reasons, reports, story
from channels.messages import Wanted
from channels.policy import Reason
from channels.provider import Letter, Outcome, Receipt, Report, ReportKind
from channels.tokens import Signers
from contacts import erasure
from core import access
from core.clock import now
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import message_id
from core.schema.messages import MessageState as S
from studio.api import create_app
from tests.channels.world import Recorder, World, accept, no_rules


async def lose(letters: Sequence[Letter]) -> list[Receipt]:
    """A provider's behaviour: nobody knows."""
    return [Receipt(Outcome.UNKNOWN, reason="connection lost") for _ in letters]


async def refuse(letters: Sequence[Letter]) -> list[Receipt]:
    """A provider's behaviour: never."""
    return [Receipt(Outcome.REJECTED, reason="550 no such user") for _ in letters]


async def sent(world: World, at: datetime, count: int = 1, behaviour: Any = None) -> list[UUID]:
    """The ids of messages that were handed over."""
    if behaviour is not None:
        world.recorder.behaviour = behaviour
    items = await world.enroll(count, first_name="Anna")
    await world.prepare(items, at)
    await world.deliver(items, at)
    return [message_id(item.enrollment_id, item.visit) for item in items]


async def found(world: World, limit: int = 50, at: datetime | None = None, **wanted: Any) -> messages.Page:
    async with world.database.begin() as connection:
        return await messages.listing(connection, Wanted(**wanted), at or now(), limit)


async def shown(world: World, number: UUID) -> dict[str, Any]:
    async with world.database.begin() as connection:
        return await story.show(connection, world.settings, number)


async def test_messages_are_found_by_what_is_known(world: World, at: datetime) -> None:
    first, second = await sent(world, at, 2)
    await world.run("update message set state = 40 where id = :id", id=second)
    [row] = await world.run("select contact_id, address from message where id = :id", id=second)
    matching: tuple[dict[str, Any], ...] = (
        {"state": "failed"}, {"contact_id": row.contact_id}, {"address": row.address.upper()},
        {"state": "failed", "provider": "main", "journey": "welcome", "channel": "email"},
    )  # fmt: skip
    for wanted in matching:
        page = await found(world, **wanted)
        assert [one["id"] for one in page.messages] == [second], wanted
    for wanted in ({"provider": "other"}, {"journey": "x"}, {"channel": "sms"}, {"before": at}, {"address": "a@b.c"}):
        assert (await found(world, **wanted)).messages == [], wanted
    assert {one["id"] for one in (await found(world, since=at)).messages} == {first, second}
    wrong: tuple[dict[str, Any], ...] = ({"state": "lost"}, {"page": "x"})
    for wanted in wrong:
        with pytest.raises(InvalidInput):
            await found(world, **wanted)


async def test_a_list_goes_a_week_back_and_a_contacts_further(world: World, at: datetime) -> None:
    await sent(world, at)
    [row] = await world.run("select contact_id from message")
    later = at + timedelta(days=8)
    assert (await found(world, at=later)).messages == []
    assert len((await found(world, at=later, since=at)).messages) == 1
    assert len((await found(world, at=later, contact_id=row.contact_id)).messages) == 1


async def test_pages_follow_each_other_without_gap_or_double(world: World, at: datetime) -> None:
    ids = {one for n in range(3) for one in await sent(world, at - timedelta(hours=n * 5), 3)}
    seen: list[UUID] = []
    page = None
    for _ in range(5):
        answer = await found(world, limit=2, page=page)
        seen += [one["id"] for one in answer.messages]
        page = answer.next
        if page is None:
            break
    assert (len(seen), set(seen)) == (9, ids)
    made = [one["created_at"] for one in (await found(world, limit=9)).messages]
    assert made == sorted(made, reverse=True)


async def test_everything_about_one_message_is_shown(world: World, at: datetime, api: httpx.AsyncClient) -> None:
    [number] = await sent(world, at)
    link = Signers(world.settings).click.sign(number, at, "https://a.example/")
    assert (await api.get(f"/t/c/{link}")).status_code == 302
    [provider] = await world.run("select id from provider")
    async with world.database.begin() as connection:
        report = Report(ReportKind.DELIVERED, "1", now(), number, reason="250 ok")
        await reports.take(connection, provider.id, [report], b"raw")
    told = await shown(world, number)
    assert (told["state"], told["journey"], told["step"], told["provider"]) == ("delivered", "welcome", "first", "main")
    what = [one["what"] for one in told["happened"]]
    assert what == ["made", "handed over", "accepted", "clicked", "reported delivered"]
    assert told["happened"][-2]["about"]["url"] == "https://a.example/"
    letter = world.recorder.letters[0]
    assert told["content"] == {
        "sender": letter.sender, "subject": letter.subject, "html": letter.html, "text": letter.text,
        "attachments": [],
    }  # fmt: skip
    with pytest.raises(NotFound):
        await shown(world, UUID(int=1))


async def test_why_it_was_skipped_is_said_in_words(world: World, at: datetime) -> None:
    items = await world.enroll(1, consent=False)
    await world.prepare(items, at)
    told = await shown(world, message_id(items[0].enrollment_id, 1))
    assert (told["reason"], told["content"]) == ("no_consent", None)
    assert told["why"].startswith("The contact has not agreed")


def test_every_reason_has_a_sentence() -> None:
    for reason in Reason:
        assert reasons.sentence(str(reason)) != str(reason)
    assert reasons.sentence("missing_value: contact.x") == (
        "The template needs a value that the contact or the event lacks: contact.x."
    )
    assert reasons.sentence("550 5.1.1: no such user") == "550 5.1.1: no such user"
    assert reasons.sentence(None) is None


@pytest.mark.parametrize(("was_sent", "state"), [(True, "accepted"), (False, "failed")])
async def test_what_is_in_doubt_is_settled_once(world: World, at: datetime, was_sent: bool, state: str) -> None:
    [number] = await sent(world, at, behaviour=lose)
    assert (await shown(world, number))["state"] == "in_doubt"
    async with world.database.begin() as connection:
        await byhand.resolve(connection, number, was_sent, "olga", "the log of the server")
    told = await shown(world, number)
    assert told["state"] == state
    [kept] = [one["about"] for one in told["happened"] if one["what"].startswith("by hand")]
    assert kept == {"by": "olga", "why": "the log of the server", "was": "in_doubt", "reason": "connection lost"}
    with pytest.raises(Conflict):
        async with world.database.begin() as connection:
            await byhand.resolve(connection, number, was_sent, "olga", None)


@pytest.mark.parametrize("behaviour", [lose, refuse])
async def test_a_retry_sends_again_once(world: World, at: datetime, behaviour: Any) -> None:
    [number] = await sent(world, at, behaviour=behaviour)
    world.recorder.behaviour = accept

    async def ask() -> str:
        try:
            async with world.database.begin() as connection:
                await byhand.retry(connection, number, "olga", None)
        except Conflict:
            return "refused"
        return "taken"

    assert sorted(await asyncio.gather(*[ask() for _ in range(4)])) == ["refused"] * 3 + ["taken"]
    before = len(world.recorder.letters)
    workers = [byhand.send_again(world.database, world.delivery, no_rules) for _ in range(3)]
    await asyncio.gather(*workers)
    assert len(world.recorder.letters) == before + 1
    assert (await shown(world, number))["state"] == "accepted"
    assert await byhand.send_again(world.database, world.delivery, no_rules) == 0
    assert await world.run("select from message_settlement where open") == []


async def test_a_retry_waits_for_a_paused_provider_and_asks_the_policy(world: World, hour_ago: datetime) -> None:
    first, second = await sent(world, hour_ago, 2, behaviour=refuse)
    world.recorder.behaviour = accept
    for number in (first, second):
        async with world.database.begin() as connection:
            await byhand.retry(connection, number, "olga", None)
    await world.run("update provider set state = 'paused'")
    await world.run(
        "update consent set granted = false where contact_id = (select contact_id from message where id = :id)",
        id=second,
    )
    assert await byhand.send_again(world.database, world.delivery, no_rules) == 0
    assert len(await world.run("select from message_settlement where open")) == 2
    await world.run("update provider set state = 'active'")
    assert await byhand.send_again(world.database, world.delivery, no_rules) == 2
    assert (await shown(world, first))["state"] == "accepted"
    assert (await shown(world, second))["reason"] == "no_consent"


async def put_off(letters: Sequence[Letter]) -> list[Receipt]:
    """A provider's behaviour: not for an hour."""
    return [Receipt(Outcome.DEFERRED, reason="busy", retry_after=timedelta(hours=1)) for _ in letters]


async def retried(world: World, *numbers: UUID) -> None:
    for number in numbers:
        async with world.database.begin() as connection:
            await byhand.retry(connection, number, "olga", None)


async def test_what_cannot_leave_keeps_no_other_providers_messages_waiting(
    world: World, spare: Recorder, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byhand, "_AT_ONCE", 2)
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "second", "spare://")
    numbers = await sent(world, at, 5, behaviour=refuse)
    await world.run(
        "update message set provider_id = (select id from provider where name = 'second') where id = :id",
        id=numbers[4],
    )
    await retried(world, *numbers)
    world.recorder.behaviour = put_off
    assert await byhand.send_again(world.database, world.delivery, no_rules) == 1
    assert [letter.message_id for letter in spare.letters] == [numbers[4]]


async def test_who_sends_again_gives_it_the_whole_time_anew(world: World, hour_ago: datetime) -> None:
    async with world.database.begin() as connection:
        await providers.change(connection, world.settings, "main", {"give_up_hours": "0.5"})
    [number] = await sent(world, hour_ago, behaviour=refuse)
    await retried(world, number)
    world.recorder.behaviour = put_off
    assert await byhand.send_again(world.database, world.delivery, no_rules) == 0
    assert [(row.state, row.attempts) for row in await world.rows()] == [(S.QUEUED, 1)]
    await world.run("update message_settlement set settled_at = settled_at - interval '1 hour'")
    assert await byhand.send_again(world.database, world.delivery, no_rules) == 1
    assert [row.reason for row in await world.rows()] == ["given up after 2 attempts: busy"]


async def test_what_was_sent_or_erased_is_not_retried(world: World, at: datetime) -> None:
    [number] = await sent(world, at)
    with pytest.raises(Conflict, match="accepted"):
        async with world.database.begin() as connection:
            await byhand.retry(connection, number, "olga", None)
    [lost] = await sent(world, at, behaviour=lose)
    async with world.database.begin() as connection:
        await byhand.resolve(connection, lost, False, "olga", "anna asked me")
    [row] = await world.run("select contact_id from message where id = :id", id=lost)
    async with world.database.begin() as connection:
        await erasure.erase(connection, row.contact_id)
    assert await world.run("select from message_settlement") == []
    with pytest.raises(Conflict, match="erased"):
        async with world.database.begin() as connection:
            await byhand.retry(connection, lost, "olga", None)


@pytest_asyncio.fixture(loop_scope="session")
async def api(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The whole API."""
    app: FastAPI = create_app(world.settings, world.database)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://kaskad.example") as made:
        yield made


async def test_the_api_asks_for_its_scopes_and_keeps_the_key(
    world: World, at: datetime, api: httpx.AsyncClient
) -> None:
    [number] = await sent(world, at, behaviour=lose)
    async with world.database.begin() as connection:
        reader = {"Authorization": f"Bearer {await access.create(connection, 'eyes', ['messages:read'])}"}
        writer = {"Authorization": f"Bearer {await access.create(connection, 'hand', ['messages:write'])}"}
    assert (await api.get("/v1/messages")).status_code == 401
    assert (await api.get("/v1/messages", headers=writer)).status_code == 403
    page = (await api.get("/v1/messages", params={"state": "in_doubt"}, headers=reader)).json()
    assert [one["id"] for one in page["messages"]] == [str(number)]
    detail = (await api.get(f"/v1/messages/{number}", headers=reader)).json()
    assert detail["content"]["subject"] == "Hi Anna"
    body = {"outcome": "sent", "why": "saw it"}
    assert (await api.post(f"/v1/messages/{number}/resolve", json=body, headers=reader)).status_code == 403
    assert (await api.post(f"/v1/messages/{number}/resolve", json=body, headers=writer)).status_code == 204
    assert (await api.post(f"/v1/messages/{number}/resolve", json=body, headers=writer)).status_code == 409
    assert (await api.post(f"/v1/messages/{number}/retry", json={}, headers=writer)).status_code == 409
    [kept] = await world.run("select by, why from message_settlement")
    assert tuple(kept) == ("key hand", "saw it")
