"""Where addresses belong: the country and operator of a telephone number, the domain of an email address.

The numbering plan that the library knows has no operators for many countries (Russia is one). Tables of number ranges
say more and are asked first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import phonenumbers
from phonenumbers import carrier as numbering
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import sheets
from core.database import driver
from core.errors import InvalidInput, Problem

_DIGITS = 15
"""Of a number at most (E.164)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address belongs."""

    country: str | None = None
    """ISO 3166, of a telephone number."""
    operator: str | None = None
    """Of a telephone number; of an email address its domain."""


@lru_cache(maxsize=100_000)
def place_of(address: str) -> Place:
    """Where an address belongs by itself.

    Of a telephone number (E.164) as the numbering plan has it: a number that was taken along to another operator still
    counts as the first one's. About 60 µs for a new number.
    """
    if "@" in address:
        return Place(None, address.rpartition("@")[2].lower())
    try:
        number = phonenumbers.parse(address)
    except phonenumbers.NumberParseException:
        return Place()
    return Place(phonenumbers.region_code_for_number(number), numbering.name_for_number(number, "en") or None)


_FIND = """
select n.number, r.operator, r.country from unnest(%(numbers)s::bigint[]) as n (number)
join lateral (select * from number_range where first <= n.number order by first desc limit 1) r on r.last >= n.number
"""


async def places(connection: AsyncConnection, addresses: Iterable[str]) -> dict[str, Place]:
    """Where each address belongs: by the ranges that were imported, or by itself."""
    found = {address: place_of(address) for address in addresses}
    numbers = {int(one[1:]): one for one in found if one[:1] == "+" and one[1:].isascii() and one[1:].isdecimal()}
    if numbers:
        rows = await (await driver(connection)).execute(_FIND, {"numbers": list(numbers)})
        for number, operator, country in await rows.fetchall():
            address = numbers[number]
            found[address] = Place(country or found[address].country, operator)
    return found


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `first` to `last`, both included, and whose they are."""

    first: int
    last: int
    operator: str
    country: str | None


def read_ranges(data: bytes, file: str) -> list[Range]:
    """The ranges of a CSV file with the columns from, to, operator, country.

    Raises:
        InvalidInput: every line that cannot be used, and ranges that overlap.
    """
    columns = ("from", "to", "operator", "country")
    rows = sheets.read(data, file, columns, columns[:3], _range)
    rows.sort(key=lambda row: row[1].first)
    overlaps = [
        Problem(
            f"the range overlaps the one of line {before}", "a number belongs to one operator", file=file, line=line
        )
        for (before, one), (line, other) in pairwise(rows)
        if other.first <= one.last
    ]
    if overlaps:
        raise InvalidInput(*overlaps[:50])
    return [row for _, row in rows]


def _range(cells: dict[str, str]) -> Range:
    first, last = _number(cells["from"]), _number(cells["to"])
    if last < first:
        raise sheets.Unfit(f"the range ends ({last}) before it begins ({first})", "exchange from and to")
    if not cells["operator"]:
        raise sheets.Unfit("the operator is missing", "name whose numbers these are")
    return Range(first, last, cells["operator"], country_code(cells.get("country", "")) or None)


def _number(cell: str) -> int:
    digits = cell.removeprefix("+").replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdecimal() and 0 < len(digits) <= _DIGITS):
        raise sheets.Unfit(f"{cell!r} is no number", "write it with its country's code, such as +79160000000")
    return int(digits)


def country_code(cell: str) -> str:
    """A country as ISO 3166 has it, or nothing. Raises Unfit."""
    code = cell.upper()
    if code and code not in phonenumbers.SUPPORTED_REGIONS:
        raise sheets.Unfit(f"{cell!r} is no country", "write two letters (ISO 3166), such as RU")
    return code


async def replace_ranges(connection: AsyncConnection, ranges: Iterable[Range]) -> int:
    """Put these ranges in the place of all there were; gives how many."""
    raw = await driver(connection)
    await raw.execute("delete from number_range")
    count = 0
    async with (
        raw.cursor() as cursor,
        cursor.copy("copy number_range (first, last, operator, country) from stdin") as copy,
    ):
        for one in ranges:
            await copy.write_row((one.first, one.last, one.operator, one.country))
            count += 1
    return count


async def summary(connection: AsyncConnection) -> list[dict[str, Any]]:
    """The operators that ranges name: country, operator, ranges, numbers."""
    rows = await connection.execute(
        text(
            "select country, operator, count(*) as ranges, sum(last - first + 1)::bigint as numbers "
            "from number_range group by country, operator order by country, numbers desc"
        )
    )
    return [dict(row) for row in rows.mappings()]
