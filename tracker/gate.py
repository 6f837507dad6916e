"""Whose hits are taken: the site, the origin, the rates, bots and internal traffic. Decides; the route answers."""

import re
import time
from dataclasses import dataclass

from starlette.datastructures import Headers

from core import addresses
from core.addresses import Address
from core.settings import Settings
from tracker import agents, origins
from tracker.agents import Agent
from tracker.hits import Body
from tracker.sites import Site
from tracker.throttle import Throttle

INTERNAL = "kaskad_internal"
"""A cookie, or a parameter of the page's URL, that keeps hits from counting."""

_HEADERS = frozenset({b"user-agent", b"origin", b"referer", b"cookie"})
_KEYS_REMEMBERED = 1000
_INTERNAL_URL = re.compile(rf"[?&]{INTERNAL}(?:[=&#]|\Z)")
_INTERNAL_COOKIE = re.compile(rf"(?:\A|;)\s*{INTERNAL}=")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as its connection and headers tell."""

    address: Address | None
    agent_header: str
    origin: str | None
    cookie: str

    @property
    def agent(self) -> Agent:
        """With what; not told before it is asked for, since it takes longest of all."""
        return agents.read(self.agent_header)


class Gate:
    """What one process lets in."""

    def __init__(self, settings: Settings) -> None:
        self._trusted = addresses.listed(settings.trusted_proxies)
        seconds = settings.hit_burst_seconds
        self._keys = Throttle(settings.hit_key_rate, settings.hit_key_rate * seconds, _KEYS_REMEMBERED)
        self._addresses = Throttle(
            settings.hit_address_rate, settings.hit_address_rate * seconds, settings.hit_addresses_remembered
        )

    def caller(self, peer: str, headers: Headers) -> Caller:
        """Who sent a request."""
        given = {name: value.decode("latin-1") for name, value in headers.raw if name in _HEADERS}
        forwarded = ",".join(
            value.decode("latin-1") for name, value in headers.raw if name == b"x-forwarded-for" and self._trusted
        )
        return Caller(
            address=addresses.visitor(peer, forwarded, self._trusted),
            agent_header=given.get(b"user-agent", "")[: agents.HEADER_LENGTH],
            origin=origins.sent(given.get(b"origin"), given.get(b"referer")),
            cookie=given.get(b"cookie", ""),
        )

    def may_ask(self, caller: Caller, count: int) -> bool:
        """Whether the caller's address may send so many hits now; to be asked before anything is looked up for it."""
        return self._addresses.allows(addresses.bucket(caller.address), count, time.monotonic())

    def verdict(self, site: Site, caller: Caller, body: Body, count: int) -> str | None:
        """Why the hits of a request are not stored, as one of `tally.FATES`; None if they are."""
        if not origins.allows(site.origins, caller.origin):
            return "origin"
        if caller.agent.is_bot:
            return "bot"
        if _is_internal(site, caller, body):
            return "internal"
        if not self._keys.allows(body.key, count, time.monotonic()):
            return "limited"
        return None


def _is_internal(site: Site, caller: Caller, body: Body) -> bool:
    if caller.address is not None and site.networks and addresses.within(caller.address, site.networks):
        return True
    return bool(_INTERNAL_URL.search(body.ctx.url) or (caller.cookie and _INTERNAL_COOKIE.search(caller.cookie)))


def kept_address(site: Site, address: Address | None) -> Address | None:
    """What of an address may be known beyond the moment: all of it, its first part, or nothing."""
    if address is None or site.address == "drop":
        return None
    return address if site.address == "keep" else addresses.truncated(address)


def located_address(site: Site, address: Address | None) -> Address | None:
    """The address that geography is asked about: never more of it than is kept, but for `drop` its first part."""
    return address if address is None or site.address == "keep" else addresses.truncated(address)
