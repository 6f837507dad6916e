"""Which provider carries a message."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.routing import Carrier, Price, Route, Target, price_of, rank

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MOSCOW = Target(UUID(int=1), "+79161234567", "marketing", "RU", "MTS", "Europe/Moscow")


def _price(provider: int, amount: str, **more: str) -> Price:
    return Price(provider, Decimal(amount), "RUB", **more)


def _names(target: Target, *carriers: Carrier, at: datetime = NOON, tried: tuple[int, ...] = ()) -> list[str]:
    return [choice.name for choice in rank(target, carriers, at, tried)]


def test_without_routes_and_prices_the_first_added_comes_first() -> None:
    assert _names(MOSCOW, Carrier(7, "first"), Carrier(3, "second")) == ["first", "second"]


@pytest.mark.parametrize(
    ("route", "taken"),
    [
        (Route(1), True),
        (Route(1, prefixes=("+7916", "+7917")), True),
        (Route(1, prefixes=("+7999",)), False),
        (Route(1, countries=("RU", "KZ")), True),
        (Route(1, countries=("KZ",)), False),
        (Route(1, operators=("MTS",)), True),
        (Route(1, operators=("Beeline",)), False),
        (Route(1, purposes=("marketing",)), True),
        (Route(1, purposes=("transactional",)), False),
        (Route(1, hours=("09:00", "18:00")), True),  # 15:00 in Moscow
        (Route(1, hours=("18:00", "09:00")), False),
        (Route(1, countries=("RU",), operators=("Beeline",)), False),
    ],
)
def test_a_route_takes_what_it_names(route: Route, taken: bool) -> None:
    assert _names(MOSCOW, Carrier(1, "it", routes=(route,))) == (["it"] if taken else [])


def test_a_number_of_unknown_country_falls_under_no_route_for_countries() -> None:
    unknown = Target(UUID(int=1), "+88300000000", "marketing")
    assert _names(unknown, Carrier(1, "it", routes=(Route(1, countries=("RU",)),))) == []


def test_the_lower_tier_comes_first_whatever_it_costs() -> None:
    dear = Carrier(1, "dear", routes=(Route(1, tier=1),), prices=(_price(1, "9"),))
    cheap = Carrier(2, "cheap", routes=(Route(2, tier=2),), prices=(_price(2, "1"),))
    assert _names(MOSCOW, cheap, dear) == ["dear", "cheap"]


def test_within_a_tier_the_cheapest_comes_first_and_the_unpriced_last() -> None:
    route = {number: (Route(number),) for number in (1, 2, 3)}
    one = Carrier(1, "2.10", routes=route[1], prices=(_price(1, "2.10"),))
    two = Carrier(2, "1.95 to MTS", routes=route[2], prices=(_price(2, "3"), _price(2, "1.95", operator="MTS")))
    three = Carrier(3, "unpriced", routes=route[3])
    assert _names(MOSCOW, one, two, three) == ["1.95 to MTS", "2.10", "unpriced"]
    beeline = Target(UUID(int=1), "+79031234567", "marketing", "RU", "Beeline")
    assert _names(beeline, one, two, three) == ["2.10", "1.95 to MTS", "unpriced"]


def test_the_longest_prefix_is_the_price() -> None:
    prices = [
        _price(1, "5"),
        _price(1, "4", prefix="+7"),
        _price(1, "3", prefix="+7916"),
        _price(1, "2", prefix="+7999"),
    ]
    found = price_of(MOSCOW, prices)
    assert found is not None
    assert found.amount == 3


def test_who_is_ill_or_paused_comes_last_and_is_there_still() -> None:
    paused = Carrier(1, "paused", active=False)
    ill = Carrier(2, "ill", healthy=False)
    assert _names(MOSCOW, paused, ill, Carrier(3, "well")) == ["well", "ill", "paused"]


def test_who_had_it_already_is_left_out() -> None:
    assert _names(MOSCOW, Carrier(1, "one"), Carrier(2, "two"), tried=(1,)) == ["two"]


def test_weights_are_the_odds_of_coming_first() -> None:
    carriers = [Carrier(number, str(number), routes=(Route(number, weight=number),)) for number in (1, 3)]
    firsts = Counter(rank(Target(uuid4(), "+79161234567", "marketing"), carriers, NOON)[0].name for _ in range(4000))
    assert 0.70 < firsts["3"] / 4000 < 0.80


_carriers = st.lists(
    st.builds(
        lambda number, tier, weight, price, active, healthy: Carrier(
            number,
            str(number),
            active,
            healthy,
            (Route(number, tier, weight),),
            (_price(number, price),) if price else (),
        ),
        st.integers(1, 50),
        st.integers(1, 3),
        st.floats(0, 10),
        st.sampled_from(["", "1", "2", "2.5"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda carrier: carrier.id,
)


@given(_carriers, st.uuids(version=4), st.randoms())
def test_the_ranking_is_the_same_in_whatever_order_one_asks_and_loses_nobody(carriers, number, random) -> None:  # type: ignore[no-untyped-def]
    target = Target(number, "+79161234567", "marketing")
    before = rank(target, carriers, NOON)
    random.shuffle(carriers)
    assert rank(target, carriers, NOON) == before
    assert {choice.provider_id for choice in before} == {carrier.id for carrier in carriers}
    if before:  # without the first, the others keep their order
        assert rank(target, carriers, NOON, tried=[before[0].provider_id]) == before[1:]
