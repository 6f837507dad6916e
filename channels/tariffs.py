"""Routes and prices: what people say about who carries what, and at what price."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import numbers, sheets
from core.database import driver
from core.errors import InvalidInput, NotFound, Problem

_CURRENCY = re.compile(r"[A-Z]{3}")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PREFIX = re.compile(r"\+?[^\s,;]{0,63}")
_AMOUNT_LIMIT = Decimal(1_000_000)


# Routes


@dataclass(frozen=True)
class NewRoute:
    """A route as it is written; what is empty does not matter."""

    provider: str
    tier: int = 1
    weight: float = 1.0
    prefixes: Sequence[str] = ()
    countries: Sequence[str] = ()
    operators: Sequence[str] = ()
    purposes: Sequence[str] = ()
    opens: str | None = None
    closes: str | None = None


async def add_route(connection: AsyncConnection, route: NewRoute) -> int:
    """Say what a provider carries; gives the route's number.

    Raises:
        NotFound: no such provider.
        InvalidInput: everything that cannot be.
    """
    problems = _route_problems(route)
    if problems:
        raise InvalidInput(*problems)
    provider_id = await _provider(connection, route.provider)
    row = await connection.execute(
        text(
            "insert into route (provider_id, tier, weight, prefixes, countries, operators, purposes, opens, closes) "
            "values (:provider, :tier, :weight, :prefixes, :countries, :operators, :purposes, :opens, :closes) "
            "returning id"
        ),
        {
            "provider": provider_id,
            "tier": route.tier,
            "weight": route.weight,
            "prefixes": list(route.prefixes),
            "countries": [country.upper() for country in route.countries],
            "operators": list(route.operators),
            "purposes": list(route.purposes),
            "opens": route.opens,
            "closes": route.closes,
        },
    )
    return int(row.scalar_one())


def _route_problems(route: NewRoute) -> list[Problem]:
    problems = country_problems(route.countries) + purpose_problems(route.purposes)
    if not 0 <= route.tier <= 1000:
        problems.append(Problem(f"tier cannot be {route.tier}", "give a number from 0 to 1000"))
    if not 0 <= route.weight <= 1_000_000:
        problems.append(Problem(f"weight cannot be {route.weight:g}", "give a number from 0 to 1,000,000"))
    for prefix in route.prefixes:
        if not prefix or not _PREFIX.fullmatch(prefix):
            problems.append(Problem(f"{prefix!r} is no prefix", "write how the address begins, such as +7916"))
    if (route.opens is None) != (route.closes is None):
        problems.append(Problem("hours need a beginning and an end", "write 09:00-21:00"))
    for clock in (route.opens, route.closes):
        if clock is not None and not _CLOCK.fullmatch(clock):
            problems.append(Problem(f"{clock!r} is no time of the day", "write HH:MM"))
    return problems


async def routes(connection: AsyncConnection) -> list[dict[str, Any]]:
    """All routes by channel, tier and provider."""
    rows = await connection.execute(
        text(
            "select r.id, p.name as provider, p.channel, r.tier, r.weight, r.prefixes, r.countries, r.operators, "
            "r.purposes, r.opens || '-' || r.closes as hours from route r join provider p on p.id = r.provider_id "
            "where p.state <> 'removed' order by p.channel, r.tier, p.id, r.id"
        )
    )
    return [dict(row) for row in rows.mappings()]


async def remove_route(connection: AsyncConnection, number: int) -> None:
    """Forget a route. A provider without any carries everything of its channel. Raises NotFound."""
    done = await connection.execute(text("delete from route where id = :id"), {"id": number})
    if not done.rowcount:
        raise NotFound(f"there is no route {number}; `kaskad route list` shows those there are")


# Prices


@dataclass(frozen=True)
class NewPrice:
    """A line of a price list; what is empty fits any."""

    provider: str
    amount: Decimal
    currency: str
    prefix: str = ""
    country: str = ""
    operator: str = ""


PRICE_COLUMNS = ("provider", "prefix", "country", "operator", "amount", "currency")


def read_prices(data: bytes, file: str) -> list[tuple[int, NewPrice]]:
    """The prices of a CSV file, with their lines. Raises InvalidInput for every line that cannot be used."""
    return sheets.read(data, file, PRICE_COLUMNS, ("provider", "amount", "currency"), _price)


def _price(cells: dict[str, str]) -> NewPrice:
    try:
        amount = Decimal(cells["amount"].replace(",", "."))
    except InvalidOperation:
        raise sheets.Unfit(f"{cells['amount']!r} is no amount", "write a number, such as 1.95") from None
    if not (amount.is_finite() and 0 <= amount < _AMOUNT_LIMIT) or amount != amount.quantize(Decimal("1e-6")):
        raise sheets.Unfit(f"{cells['amount']!r} is no price of a message", "at most six places after the point")
    currency = cells["currency"].upper()
    if not _CURRENCY.fullmatch(currency):
        raise sheets.Unfit(f"{cells['currency']!r} is no currency", "write three letters (ISO 4217), such as RUB")
    prefix = cells.get("prefix", "")
    if not _PREFIX.fullmatch(prefix):
        raise sheets.Unfit(f"{prefix!r} is no prefix", "write how the address begins, such as +7916")
    if prefix[:1].isdecimal():
        prefix = "+" + prefix
    country = numbers.country_code(cells.get("country", ""))
    return NewPrice(cells["provider"], amount, currency, prefix, country, cells.get("operator", ""))


async def import_prices(connection: AsyncConnection, prices: Sequence[tuple[int, NewPrice]], file: str) -> int:
    """Take a price list over: for every provider that it names it takes the place of the one before.

    Returns:
        How many prices there are now for those providers.

    Raises:
        InvalidInput: providers that do not exist, prices that come twice, two currencies in one channel.
    """
    known = {
        row.name: row
        for row in await connection.execute(text("select id, name, channel from provider where state <> 'removed'"))
    }
    problems = _price_problems(prices, known, file)
    if problems:
        raise InvalidInput(*problems[:50])
    ids = sorted({known[price.provider].id for _, price in prices})
    raw = await driver(connection)
    await raw.execute("delete from price where provider_id = any(%s)", (ids,))
    async with (
        raw.cursor() as cursor,
        cursor.copy("copy price (provider_id, prefix, country, operator, amount, currency) from stdin") as copy,
    ):
        for _, one in prices:
            number = known[one.provider].id
            await copy.write_row((number, one.prefix, one.country, one.operator, one.amount, one.currency))
    await _refuse_two_currencies(connection, file)
    return len(prices)


def _price_problems(prices: Sequence[tuple[int, NewPrice]], known: Mapping[str, Any], file: str) -> list[Problem]:
    problems, seen = [], dict[tuple[str, str, str, str], int]()
    for line, one in prices:
        key = (one.provider, one.prefix, one.country, one.operator)
        if one.provider not in known:
            mend = "`kaskad provider list` shows those there are"
            problems.append(Problem(f"there is no provider {one.provider!r}", mend, file=file, line=line))
        if key in seen:
            problems.append(Problem(f"line {seen[key]} has a price for the same", "keep one", file=file, line=line))
        seen[key] = line
    return problems


async def _refuse_two_currencies(connection: AsyncConnection, file: str) -> None:
    rows = await connection.execute(
        text(
            "select p.channel, string_agg(distinct r.currency, ' and ') as currencies from price r "
            "join provider p on p.id = r.provider_id where p.state <> 'removed' "
            "group by p.channel having count(distinct r.currency) > 1"
        )
    )
    problems = [
        Problem(
            f"prices of {row.channel} would be in {row.currencies}",
            "convert them to one: what is cheaper could not be told otherwise",
            file=file,
        )
        for row in rows
    ]
    if problems:
        raise InvalidInput(*problems)


async def price_list(connection: AsyncConnection, provider: str | None = None) -> list[dict[str, Any]]:
    """All prices, or those of one provider."""
    rows = await connection.execute(
        text(
            "select p.name as provider, r.prefix, r.country, r.operator, r.amount, r.currency from price r "
            "join provider p on p.id = r.provider_id where p.state <> 'removed' "
            "and (cast(:provider as text) is null or p.name = :provider) "
            "order by p.id, r.country, r.operator, r.prefix"
        ),
        {"provider": provider},
    )
    return [dict(row) for row in rows.mappings()]


# What they share


async def _provider(connection: AsyncConnection, name: str) -> int:
    rows = await connection.execute(
        text("select id from provider where name = :name and state <> 'removed'"), {"name": name}
    )
    number = rows.scalar_one_or_none()
    if number is None:
        raise NotFound(f"there is no provider {name!r}; `kaskad provider list` shows those there are")
    return int(number)


def country_problems(given: Sequence[str]) -> list[Problem]:
    """What is wrong with a list of countries."""
    problems = []
    for country in given:
        try:
            if not numbers.country_code(country):
                raise sheets.Unfit("a country is empty", "write two letters (ISO 3166), such as RU")
        except sheets.Unfit as error:
            problems.append(Problem(str(error.args[0]), error.mend))
    return problems


def purpose_problems(given: Sequence[str]) -> list[Problem]:
    """What is wrong with a list of purposes."""
    mend = "write it as consents have it, such as marketing or transactional"
    return [Problem(f"{one!r} is no purpose", mend) for one in given if not _WORD.fullmatch(one)]
