"""The providers of a channel as routing sees them: their routes, prices and health, from the database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import health, numbers
from channels.numbers import Place
from channels.routing import Carrier, Choice, Price, Route, Target, rank

_PROVIDERS = text(
    "select id, name, state = 'active' as active from provider "
    "where channel = :channel and state <> 'removed' order by id"
)
_ROUTES = text("select * from route where provider_id = any(:ids) order by id")
_PRICES = text("select * from price where provider_id = any(:ids)")


async def load(connection: AsyncConnection, channel: str) -> list[Carrier]:
    """The providers of a channel that were not removed, in the order they were added."""
    rows = list(await connection.execute(_PROVIDERS, {"channel": channel}))
    ids = {"ids": [row.id for row in rows]}
    well = await health.healthy(connection, ids["ids"])
    routes: dict[int, list[Route]] = {}
    for row in await connection.execute(_ROUTES, ids):
        routes.setdefault(row.provider_id, []).append(
            Route(
                row.provider_id,
                row.tier,
                row.weight,
                tuple(row.prefixes),
                tuple(row.countries),
                tuple(row.operators),
                tuple(row.purposes),
                (row.opens, row.closes) if row.opens else None,
            )
        )
    prices: dict[int, list[Price]] = {}
    for row in await connection.execute(_PRICES, ids):
        prices.setdefault(row.provider_id, []).append(
            Price(row.provider_id, row.amount, row.currency, row.prefix, row.country or None, row.operator or None)
        )
    return [
        Carrier(
            row.id,
            row.name,
            row.active,
            well[row.id],
            tuple(routes.get(row.id, ())),
            tuple(prices.get(row.id, ())),
        )
        for row in rows
    ]


def nobody(channel: str) -> str:
    """Says that a channel has no provider."""
    return f"no provider carries {channel}; set KASKAD_EMAIL or add one: kaskad provider add NAME URL"


def asks_for_place(carriers: Iterable[Carrier]) -> bool:
    """Whether any route or price depends on where an address belongs; finding that out costs time."""
    return any(route.countries or route.operators for carrier in carriers for route in carrier.routes) or any(
        price.country or price.operator for carrier in carriers for price in carrier.prices
    )


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A message that is to be carried."""

    id: UUID
    address: str
    purpose: str
    time_zone: str | None = None
    tried: tuple[int, ...] = ()
    """Providers that had it already."""


async def choices(
    connection: AsyncConnection, among: Sequence[Carrier], messages: Sequence[Wanted], at: datetime
) -> dict[UUID, list[Choice]]:
    """Who may carry each message, the best first; empty where nobody does."""
    places: Mapping[str, Place] = {}
    if asks_for_place(among):
        places = await numbers.places(connection, {one.address for one in messages})
    nowhere = Place()
    return {one.id: rank(_target(one, places.get(one.address, nowhere)), among, at, one.tried) for one in messages}


def _target(one: Wanted, place: Place) -> Target:
    return Target(one.id, one.address, one.purpose, place.country, place.operator, one.time_zone)


async def choose(
    connection: AsyncConnection, among: Sequence[Carrier], messages: Sequence[Wanted], at: datetime
) -> dict[UUID, Choice]:
    """The provider of each new message; those that nobody carries are left out. A few of them try providers that are
    ill; see channels.health."""
    found = await choices(connection, among, messages, at)
    first = {number: ranked[0] for number, ranked in found.items() if ranked}
    for ill in [carrier for carrier in among if carrier.active and not carrier.healthy]:
        well = [replace(carrier, healthy=carrier.healthy or carrier is ill) for carrier in among]
        sick = [one for one in messages if one.id in first and first[one.id].provider_id != ill.id]
        if not sick:
            continue
        trying = await choices(connection, well, sick[: health.PROBES], at)
        trying = {number: ranked for number, ranked in trying.items() if ranked[0].provider_id == ill.id}
        if trying and await health.probes(connection, ill.name):
            first |= {number: ranked[0] for number, ranked in trying.items()}
    return first
