"""Where addresses belong."""

import pytest

from channels import numbers
from channels.numbers import Place
from core.database import Database
from core.errors import InvalidInput

RANGES = b"""from,to,operator,country
+79160000000,+79169999999,MTS,RU
79030000000,79039999999,Beeline,RU
+4915110000000,+4915119999999,Own Net,
"""


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("+79161234567", Place("RU")),  # the library knows no operators of Russia
        ("+4915112345678", Place("DE", "T-Mobile")),
        ("anna@Example.COM", Place(None, "example.com")),
        ("nonsense", Place()),
    ],
)
def test_an_address_has_a_place(address: str, place: Place) -> None:
    assert numbers.place_of(address) == place


async def test_imported_ranges_say_more(database: Database) -> None:
    async with database.begin() as connection:
        assert await numbers.replace_ranges(connection, numbers.read_ranges(RANGES, "ranges.csv")) == 3
        found = await numbers.places(
            connection, ["+79161234567", "+79030000000", "+74951234567", "+4915112345678", "a@b.example"]
        )
        operators = await numbers.summary(connection)
    assert found == {
        "+79161234567": Place("RU", "MTS"),
        "+79030000000": Place("RU", "Beeline"),
        "+74951234567": Place("RU"),
        "+4915112345678": Place("DE", "Own Net"),  # the country is known without the table
        "a@b.example": Place(None, "b.example"),
    }
    assert {(row["country"], row["operator"], row["ranges"]) for row in operators} >= {("RU", "MTS", 1)}


async def test_an_import_takes_the_place_of_the_one_before(database: Database) -> None:
    async with database.begin() as connection:
        for _ in range(2):
            await numbers.replace_ranges(connection, numbers.read_ranges(RANGES, "ranges.csv"))
        assert sum(row["ranges"] for row in await numbers.summary(connection)) == 3


def test_every_bad_line_is_named() -> None:
    bad = b"from;to;operator;country\nx;79039999999;B;RU\n5;4;B;RU\n6;7;;RU\n8;9;B;XX\n10;20;B;RU\n"
    with pytest.raises(InvalidInput) as caught:
        numbers.read_ranges(bad, "ranges.csv")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4, 5]
    with pytest.raises(InvalidInput, match="overlaps the one of line 2"):
        numbers.read_ranges(b"from,to,operator\n1,10,A\n10,20,B\n", "ranges.csv")
    with pytest.raises(InvalidInput, match="first line does not fit: to"):
        numbers.read_ranges(b"from,operator\n1,A\n", "ranges.csv")
    with pytest.raises(InvalidInput, match="no rows"):
        numbers.read_ranges(b"from,to,operator\n", "ranges.csv")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        numbers.read_ranges("from,to,operator\n1,2,Билайн\n".encode("cp1251"), "ranges.csv")
