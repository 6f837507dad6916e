"""Messages go to the provider that routes, prices and health name."""

from collections import Counter
from datetime import datetime
from typing import Any

from channels import carriers, health, providers
from channels.health import Tally
from tests.channels.world import World


async def _add(world: World, name: str, **route: Any) -> int:
    async with world.database.begin() as connection:
        added = await providers.add(connection, world.settings, name, "test://user:hunter2@host")
    if route:
        columns = ", ".join(route)
        values = ", ".join(f":{key}" for key in route)
        await world.run(f"insert into route (provider_id, {columns}) values (:id, {values})", id=added.id, **route)
    return added.id


async def _providers(world: World) -> list[str]:
    rows = await world.run(
        "select p.name from message m join provider p on p.id = m.provider_id order by m.enrollment_id"
    )
    return [row.name for row in rows]


async def test_a_route_for_a_domain_takes_its_addresses_from_the_first_provider(world: World, at: datetime) -> None:
    await _add(world, "corporate", operators=["example.com"], tier=0)
    items = await world.enroll(2)
    await world.run("update identity set value = 'x@elsewhere.example' where contact_id = "
                    "(select contact_id from enrollment where id = :id)", id=items[1].enrollment_id)  # fmt: skip
    verdicts = await world.prepare(items, at)
    assert [verdict.provider for verdict in verdicts] == ["corporate", "main"]
    assert await _providers(world) == ["corporate", "main"]


async def test_what_nobody_carries_is_skipped_with_the_reason(world: World, at: datetime) -> None:
    await world.run("insert into route (provider_id, purposes) select id, '{transactional}' from provider")
    [verdict] = await world.prepare(await world.enroll(1), at)
    assert (verdict.action, verdict.reason) == ("skip", "no_route")
    [row] = await world.run("select state, reason, provider_id from message")
    assert tuple(row) == (15, "no_route", None)


async def test_the_cheaper_of_one_tier_carries_and_its_price_is_on_the_row(world: World, at: datetime) -> None:
    dear, cheap = await _add(world, "dear", tier=0), await _add(world, "cheap", tier=0)
    for provider, amount in ((dear, "0.02"), (cheap, "0.01")):
        await world.run(
            "insert into price (provider_id, amount, currency) values (:id, cast(:amount as numeric), 'RUB')",
            id=provider, amount=amount,
        )  # fmt: skip
    await world.prepare(await world.enroll(1), at)
    assert await _providers(world) == ["cheap"]
    [row] = await world.run("select cost from message")
    assert str(row.cost) == "0.010000"


async def test_a_provider_that_fails_half_of_its_messages_gives_way(world: World, at: datetime) -> None:
    await _add(world, "second")
    await world.run("insert into provider_minute (provider_id, minute, accepted, failed) "
                    "select id, now(), 20, 60 from provider where name = 'main'")  # fmt: skip
    await world.prepare(await world.enroll(health.PROBES + 1), at)
    assert (await _providers(world))[health.PROBES :] == ["second"]


async def test_an_ill_provider_is_tried_by_a_few_and_no_more(world: World, at: datetime) -> None:
    await _add(world, "second")
    await world.run("insert into provider_minute (provider_id, minute, failed) "
                    "select id, now(), 90 from provider where name = 'main'")  # fmt: skip
    await world.prepare(await world.enroll(20), at)
    await world.prepare(await world.enroll(20), at)
    assert Counter(await _providers(world)) == {"main": health.PROBES, "second": 40 - health.PROBES}


async def test_a_few_probes_that_succeed_make_it_well_again(world: World) -> None:
    async def minute(ago: int, tally: Tally) -> None:
        await world.run(
            "insert into provider_minute (provider_id, minute, accepted, failed) select id, "
            "now() - make_interval(mins => :ago), :accepted, :failed from provider",
            ago=ago, accepted=tally.accepted, failed=tally.failed,
        )  # fmt: skip

    async def well() -> bool:
        async with world.database.begin() as connection:
            [carrier] = await carriers.load(connection, "email")
        return carrier.healthy

    await minute(3, Tally(failed=500))
    assert not await well()
    await minute(2, Tally(accepted=20))
    assert not await well()
    await minute(1, Tally(accepted=30))
    assert await well()


async def test_without_a_provider_messages_are_skipped(world: World, at: datetime) -> None:
    await world.run("update provider set state = 'removed'")
    verdicts = await world.prepare(await world.enroll(2), at)
    assert {(verdict.action, verdict.reason) for verdict in verdicts} == {("skip", "no_route")}
