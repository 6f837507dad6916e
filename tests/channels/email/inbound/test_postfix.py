"""Letters by a real mail server, and what it sends back: all the way out and in again."""

import asyncio
from datetime import datetime
from pathlib import Path

from channels import DeliverRequest, Delivery, providers
from channels.email.inbound import Inbox, serving
from core.schema.messages import MessageState
from tests.channels.email.inbound.postfix import postfix
from tests.channels.world import World


async def _until(world: World, states: list[int]) -> None:
    for _ in range(400):
        if sorted(await world.states()) == sorted(states):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await world.rows())


def _count(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.exists() else 0


async def test_what_postfix_cannot_keep_comes_back_to_its_message(world: World, at: datetime) -> None:
    settings = world.settings.model_copy(update={"inbound_address": "in.example.com"})
    inbox = Inbox(world.database, settings)
    delivery = Delivery(world.database, settings)
    async with serving(inbox, settings) as (_, inbound), postfix(inbound) as (port, mail):
        async with world.database.begin() as connection:
            await providers.set_state(connection, "main", "removed")
            await providers.add(connection, settings, "real", f"smtp://127.0.0.1:{port}")
        items = await world.enroll(3)
        for item, name in zip(items, ("anna", "nobody", "full"), strict=True):
            await world.run(
                "update identity set value = :to where contact_id = "
                "(select contact_id from enrollment where id = :id)",
                to=f"{name}@far.example", id=item.enrollment_id,
            )  # fmt: skip
        await world.prepare(items, at)
        done = await delivery.deliver(DeliverRequest("real", at, items, False), lambda: None)
        assert set(done.states.values()) == {"accepted"}
        await _until(world, [MessageState.ACCEPTED, MessageState.BOUNCED, MessageState.BOUNCED])
        for _ in range(200):
            if await asyncio.to_thread(_count, mail):
                break
            await asyncio.sleep(0.05)
        assert await asyncio.to_thread(_count, mail) == 1
    inbox.close()
    await delivery.close()
    reports = await world.run("select kind, reason from delivery_report order by kind")
    assert [row.kind for row in reports] == ["bounced", "soft_bounced"], reports
    assert [row.address for row in await world.run("select address from suppression")] == ["nobody@far.example"]
