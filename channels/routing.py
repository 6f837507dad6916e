"""Which provider carries a message: a pure decision over what each one takes, costs and lets through at present.

A provider carries what one of its routes names; one that has no route carries everything of its channel, after those
that were added before it. Of the routes that fit, the lower tier comes first; within a tier the lower price; where
prices are the same or unknown, chance by weight, which is the same for the same message however often one asks. What
follows the first in the ranking is where a message goes when the first refuses it or is down.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import inf, log
from uuid import UUID

import msgspec

from core import hours


class Target(msgspec.Struct, frozen=True, gc=False):
    """A message as routing sees it."""

    message_id: UUID
    address: str
    purpose: str
    country: str | None = None
    """ISO 3166, of a telephone number."""
    operator: str | None = None
    """Of a telephone number, as the numbering plan says; of an email address its domain."""
    time_zone: str | None = None


class Route(msgspec.Struct, frozen=True, gc=False):
    """What a provider is given, and when. What is empty does not matter."""

    provider_id: int
    tier: int = 1
    """1 before 2; a higher one is for when the lower ones cannot."""
    weight: float = 1.0
    prefixes: tuple[str, ...] = ()
    """Of the address: `+7916`."""
    countries: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    hours: tuple[str, str] | None = None
    """From and to by the contact's clock; may span midnight."""

    def takes(self, target: Target, at: datetime) -> bool:
        """Whether a message falls under this route at a moment."""
        return (
            _among(self.countries, target.country)
            and _among(self.operators, target.operator)
            and _among(self.purposes, target.purpose)
            and (not self.prefixes or target.address.startswith(self.prefixes))
            and (self.hours is None or _open(self.hours, target.time_zone, at))
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What one part of a message costs where prefix, country and operator fit; the longest prefix counts. All prices of
    a channel are in one currency, so that they can be compared."""

    provider_id: int
    amount: Decimal
    currency: str
    prefix: str = ""
    country: str | None = None
    operator: str | None = None


@dataclass(frozen=True)
class Carrier:
    """A provider as routing sees it."""

    id: int
    name: str
    active: bool = True
    """False while it is paused: it still is the last resort, and messages wait for it."""
    healthy: bool = True
    """False while its breaker is open: others come first."""
    routes: tuple[Route, ...] = ()
    prices: tuple[Price, ...] = ()


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One provider that could carry a message."""

    provider_id: int
    name: str
    price: Decimal | None
    """Of one part; None where nobody said."""
    currency: str | None


def rank(target: Target, carriers: Sequence[Carrier], at: datetime, tried: Iterable[int] = ()) -> list[Choice]:
    """The providers that may carry a message, the best first.

    Args:
        target: the message.
        carriers: the providers of its channel, in the order they were added.
        at: the moment of sending.
        tried: providers that had it already; they are left out.

    Returns:
        Empty if nobody carries such messages. Paused providers come last: the message waits for them only if nobody
        else takes it.
    """
    left_out = set(tried)
    found = []
    for place, carrier in enumerate(carriers):
        route = _route_of(carrier, place, target, at) if carrier.id not in left_out else None
        if route is not None:
            price = price_of(target, carrier.prices)
            found.append((carrier, route, price))
    if len(found) > 1:
        found.sort(key=lambda one: _order(target, *one))
    return [
        Choice(carrier.id, carrier.name, price.amount if price else None, price.currency if price else None)
        for carrier, _, price in found
    ]


def price_of(target: Target, prices: Iterable[Price]) -> Price | None:
    """What a part of the message costs: the most particular of the prices that fit."""
    fitting = [
        price
        for price in prices
        if target.address.startswith(price.prefix)
        and price.country in (None, target.country)
        and price.operator in (None, target.operator)
    ]
    return max(
        fitting,
        key=lambda price: (len(price.prefix), price.operator is not None, price.country is not None),
        default=None,
    )


def _route_of(carrier: Carrier, place: int, target: Target, at: datetime) -> Route | None:
    """The best of a carrier's routes that take the message."""
    if not carrier.routes:
        return Route(carrier.id, tier=place + 1)
    fitting = [route for route in carrier.routes if route.takes(target, at)]
    return min(fitting, key=lambda route: (route.tier, -route.weight), default=None)


def _order(target: Target, carrier: Carrier, route: Route, price: Price | None) -> tuple[object, ...]:
    return (
        not carrier.active,
        not carrier.healthy,
        route.tier,
        price is None,
        price.amount if price else Decimal(0),
        _lot(target.message_id, carrier.id, route.weight),
        carrier.id,
    )


def _lot(message_id: UUID, provider_id: int, weight: float) -> float:
    """A draw in which weights are the odds of coming first, the same for the same message (weighted rendezvous
    hashing, Wang et al. 2019): a provider that drops out changes nothing among the others."""
    digest = hashlib.blake2b(message_id.bytes + provider_id.to_bytes(4, "big"), digest_size=8).digest()
    point = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return inf if weight <= 0 else -log(point) / weight


def _among(allowed: tuple[str, ...], value: str | None) -> bool:
    return not allowed or value in allowed


def _open(span: tuple[str, str], zone: str | None, at: datetime) -> bool:
    opened = hours.opens(at, span[0], span[1], (0, 1, 2, 3, 4, 5, 6), None, zone)
    return opened is not None and opened <= at
