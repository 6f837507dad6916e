"""What a provider took and did not deliver by its deadline goes to the next one, once."""

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from channels import Item, Rules, byhand, providers, registry, reports, undelivered
from channels.provider import Hook, Report, ReportKind
from contacts import suppressions
from core.clock import now
from core.errors import InvalidInput
from core.ids import message_id
from core.schema.messages import MessageState as S
from tests.channels.world import Recorder, World, no_rules


async def _no_hooks(url: str, hook: Hook) -> list[Report]:
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def two(world: World, spare: Recorder, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two providers; the first reports deliveries and has a deadline for them."""
    async with world.database.begin() as connection:
        main = await providers.find(connection, world.settings, "main")
        name = main.url.partition("://")[0]
        scheme = registry.SCHEMES[name]
        monkeypatch.setitem(
            registry.SCHEMES, name, registry.Scheme(scheme.channel, scheme.open, batch=scheme.batch, reports=_no_hooks)
        )
        await providers.change(connection, world.settings, "main", {"undelivered_after": "60"})
        await providers.add(connection, world.settings, "second", "spare://")
    return world


async def _sent(world: World, at: datetime, count: int = 1) -> list[Item]:
    items = await world.enroll(count)
    await world.prepare(items, at)
    await world.deliver(items, at)
    return items


async def _time_passes(world: World) -> None:
    await world.run("update message_watch set due_at = due_at - interval '61 seconds' where due_at is not null")


async def _look(world: World) -> int:
    async with world.database.begin() as connection:
        return await undelivered.pass_on(connection, world.settings)


async def _report(world: World, item: Item, kind: ReportKind, provider: str = "main", **more: Any) -> reports.Taken:
    [row] = await world.run("select id from provider where name = :name", name=provider)
    told = Report(kind, f"{kind}-{provider}-{item.enrollment_id}", now(), **(more or {"message_id": _id(item)}))
    async with world.database.begin() as connection:
        return await reports.take(connection, row.id, [told])


def _id(item: Item) -> UUID:
    return message_id(item.enrollment_id, item.visit)


async def _where(world: World) -> list[tuple[int, str]]:
    rows = await world.run(
        "select m.state, p.name from message m join provider p on p.id = m.provider_id order by enrollment_id"
    )
    return [tuple(row) for row in rows]


async def test_only_what_is_not_delivered_in_time_goes_to_the_next(two: World, spare: Recorder, at: datetime) -> None:
    delivered, silent, bounced = await _sent(two, at, 3)
    await _report(two, delivered, ReportKind.DELIVERED)
    await _report(two, bounced, ReportKind.BOUNCED)
    assert await _look(two) == 0
    await _time_passes(two)
    assert await _look(two) == 3
    assert await _where(two) == [(S.DELIVERED, "main"), (S.QUEUED, "second"), (S.BOUNCED, "main")]
    assert await byhand.send_again(two.database, two.delivery, no_rules) == 1
    assert [letter.message_id for letter in spare.letters] == [_id(silent)]
    assert await _where(two) == [(S.DELIVERED, "main"), (S.ACCEPTED, "second"), (S.BOUNCED, "main")]
    await _time_passes(two)
    assert await _look(two) == 0
    [minute] = await two.run("select sum(undelivered) as n from provider_minute where provider_id = 1")
    assert minute.n == 2


async def test_what_came_back_softly_goes_to_the_next_at_once(two: World, spare: Recorder, at: datetime) -> None:
    [item] = await _sent(two, at)
    await _report(two, item, ReportKind.SOFT_BOUNCED)
    assert await _look(two) == 1
    assert await byhand.send_again(two.database, two.delivery, no_rules) == 1
    assert await _where(two) == [(S.ACCEPTED, "second")]


async def test_workers_that_look_at_the_same_time_send_once(two: World, spare: Recorder, at: datetime) -> None:
    await _sent(two, at, 30)
    await _time_passes(two)

    async def work() -> None:
        await _look(two)
        await byhand.send_again(two.database, two.delivery, no_rules)

    await asyncio.gather(*(work() for _ in range(3)))
    while await two.run("select 1 from message_settlement where open"):
        await byhand.send_again(two.database, two.delivery, no_rules)
    sent = [letter.message_id for letter in spare.letters]
    assert len(sent) == len(set(sent)) == 30
    assert set(await _where(two)) == {(S.ACCEPTED, "second")}


@pytest.mark.parametrize("ours", [True, False])
async def test_a_late_delivery_counts_also_while_the_next_has_it(
    two: World, spare: Recorder, at: datetime, ours: bool
) -> None:
    [item] = await _sent(two, at)
    await _time_passes(two)
    await _look(two)
    by = {"message_id": _id(item)} if ours else {"provider_message_id": f"id-{_id(item)}"}
    assert (await _report(two, item, ReportKind.DELIVERED, **by)).unmatched == 0
    await byhand.send_again(two.database, two.delivery, no_rules)
    assert spare.letters == []
    assert await _where(two) == [(S.DELIVERED, "second")]
    assert await two.run("select from message_settlement where open") == []


async def test_what_comes_back_late_does_not_stop_the_next(two: World, spare: Recorder, at: datetime) -> None:
    [item] = await _sent(two, at)
    await _time_passes(two)
    await _look(two)
    await _report(two, item, ReportKind.SOFT_BOUNCED)
    assert await _where(two) == [(S.QUEUED, "second")]
    assert (
        await two.run("select 1 from event e join event_name n on n.id = e.name_id where n.name like 'message.%'") == []
    )
    await byhand.send_again(two.database, two.delivery, no_rules)
    assert await _where(two) == [(S.ACCEPTED, "second")]


async def test_without_another_provider_it_stays(two: World, spare: Recorder, at: datetime) -> None:
    await _sent(two, at)
    await two.run("update provider set state = 'paused' where name = 'second'")
    await _time_passes(two)
    assert await _look(two) == 1
    assert await _where(two) == [(S.ACCEPTED, "main")]
    assert await two.run("select 1 from message_watch") == []


async def test_a_suppressed_address_and_an_erased_contact_are_left_alone(
    two: World, spare: Recorder, at: datetime
) -> None:
    suppressed, erased = await _sent(two, at, 2)
    rows = await two.run("select address from message where id = :id", id=_id(suppressed))
    await _report(two, suppressed, ReportKind.SOFT_BOUNCED)
    async with two.database.begin() as connection:
        await suppressions.suppress(connection, "email", [rows[0].address], "complained")
    await two.run("update message set address = null where id = :id", id=_id(erased))
    await _time_passes(two)
    await _look(two)
    assert await _where(two) == [(S.BOUNCED, "main"), (S.ACCEPTED, "main")]


async def test_quiet_hours_hold_for_what_is_sent_again(two: World, spare: Recorder, hour_ago: datetime) -> None:
    await _sent(two, hour_ago)
    await _time_passes(two)
    await _look(two)

    async def quiet(_version_id: int, _step: int) -> Rules:
        return Rules(quiet_from="00:00", quiet_to="23:59")

    assert await byhand.send_again(two.database, two.delivery, quiet) == 0
    assert spare.letters == []
    assert await byhand.send_again(two.database, two.delivery, no_rules) == 1


async def test_both_providers_are_paid(two: World, spare: Recorder, at: datetime) -> None:
    await two.run(
        "insert into price (provider_id, amount, currency) select id, case name when 'main' then 2 else 3 end, 'EUR' "
        "from provider where name in ('main', 'second')"
    )
    await two.run(
        "insert into journey_spending (journey_id, spent) select journey_id, 2 from journey_version where id = :id",
        id=two.version_id,
    )
    await _sent(two, at)
    await _time_passes(two)
    await _look(two)
    [row] = await two.run("select s.spent, m.cost from journey_spending s, message m")
    assert (row.spent, row.cost) == (Decimal(5), Decimal(3))


async def test_a_provider_that_reports_no_deliveries_has_no_deadline(world: World) -> None:
    async with world.database.begin() as connection:
        with pytest.raises(InvalidInput, match="does not report what was delivered"):
            await providers.add(
                connection, world.settings, "lost", "smtp://mail.example.com", {"undelivered_after": "60"}
            )
