"""Senders are used only for what, and where, they are registered."""

from datetime import datetime

import pytest
import pytest_asyncio

from channels import Item, PrepareRequest, Verdict, prepare, providers, registry, senders, templates
from channels.senders import Sender, barred
from core.errors import InvalidInput
from tests.channels.world import Recorder, World

TEXT = "---\ntemplate: text\nchannel: sms\nfrom: EXPORT\n---\nHi"
GERMAN, RUSSIAN = "+4915112345678", "+79161234567"


@pytest.mark.parametrize(
    ("known", "purpose", "country", "why"),
    [
        ([], "marketing", "DE", None),
        ([Sender("OTHER", (), ("RU",))], "marketing", "DE", None),  # EXPORT was struck off
        ([Sender("EXPORT")], "marketing", "DE", None),
        ([Sender("EXPORT", (), ("RU", "KZ"))], "marketing", "KZ", None),
        ([Sender("EXPORT", (), ("RU",))], "marketing", "DE", "EXPORT is not registered for DE"),
        ([Sender("EXPORT", (), ("RU",))], "marketing", None, None),
        ([Sender("EXPORT", ("transactional",), ("RU",))], "marketing", "DE", "EXPORT is not registered for marketing"),
        ([Sender("EXPORT", ("transactional",))], "transactional", "DE", None),
    ],
)
def test_who_may_be_used_for_what_and_where(
    known: list[Sender], purpose: str, country: str | None, why: str | None
) -> None:
    assert barred(known, "sms", "EXPORT", purpose, country) == why


def test_of_a_domain_and_an_address_one_that_fits_is_enough() -> None:
    known = [Sender("@shop.example", ("transactional",)), Sender("news@shop.example", ("marketing",))]
    assert barred(known, "email", "Shop <News@shop.example>", "marketing", None) is None
    assert barred(known, "email", "Shop <sales@shop.example>", "marketing", None) is not None


@pytest_asyncio.fixture(loop_scope="session")
async def texts(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world that sends texts, from a sender that is registered for Russia."""
    scheme = registry.Scheme("sms", lambda _url, _settings: Recorder())
    monkeypatch.setitem(registry.SCHEMES, "texts", scheme)
    async with world.database.begin() as connection:
        await providers.add(connection, world.settings, "texts", "texts://")
        await senders.add_sender(connection, "sms", "EXPORT", ["marketing"], ["RU"])
        await templates.publish(connection, TEXT, "text.txt")
    return world


async def _enrolled(world: World, *numbers: str) -> list[Item]:
    items = await world.enroll(len(numbers))
    await world.run("insert into consent (contact_id, channel, purpose, granted) "
                    "select contact_id, 'sms', 'marketing', true from enrollment")  # fmt: skip
    for item, number in zip(items, numbers, strict=True):
        await world.run(
            "insert into identity (kind, value, contact_id) select 'phone', :number, contact_id "
            "from enrollment where id = :id",
            id=item.enrollment_id, number=number,
        )  # fmt: skip
    return items


async def _prepared(world: World, items: list[Item], at: datetime) -> list[Verdict]:
    async with world.database.begin() as connection:
        request = PrepareRequest(world.version_id, 0, "sms", "text", "marketing", "triggered", at, items)
        return await prepare(connection, world.settings, request)


async def test_a_sender_is_not_used_in_a_country_it_is_not_registered_for(texts: World, at: datetime) -> None:
    verdicts = await _prepared(texts, await _enrolled(texts, GERMAN, RUSSIAN), at)
    assert [verdict.action for verdict in verdicts] == ["skip", "deliver"]
    assert verdicts[0].reason == "sender_barred: EXPORT is not registered for DE"


async def test_it_is_asked_again_when_the_message_leaves(texts: World, hour_ago: datetime) -> None:
    items = await _enrolled(texts, RUSSIAN)
    assert [verdict.action for verdict in await _prepared(texts, items, hour_ago)] == ["deliver"]
    async with texts.database.begin() as connection:
        await senders.remove_sender(connection, "sms", "EXPORT")
        await senders.add_sender(connection, "sms", "EXPORT", [], ["KZ"])
    done = await texts.deliver(items, hour_ago, provider="texts")
    assert list(done.states.values()) == ["skipped"]
    assert [row.reason for row in await texts.rows()] == ["sender_barred: EXPORT is not registered for RU"]


@pytest.mark.parametrize("sender", ["+74951234567", "EXPORT", "4242", "My Shop"])
async def test_a_text_comes_from_a_number_or_a_name(world: World, sender: str) -> None:
    async with world.database.begin() as connection:
        await templates.publish(connection, TEXT.replace("EXPORT", f"'{sender}'"), "text.txt")


@pytest.mark.parametrize("sender", ["a name much too long", "Магазин", "-"])
async def test_a_text_comes_from_nothing_else(world: World, sender: str) -> None:
    async with world.database.begin() as connection:
        with pytest.raises(InvalidInput, match="cannot be a sender"):
            await templates.publish(connection, TEXT.replace("EXPORT", f"'{sender}'"), "text.txt")
