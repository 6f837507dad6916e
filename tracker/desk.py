"""Taking in what a site's pages report: from a request that was read to hits that are committed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from contacts.identities import Pair
from core.database import Database
from core.errors import InvalidInput, KaskadError, NotAllowed, Problem
from core.ids import derived_hex
from core.periodic import repeating
from core.settings import Settings
from tracker import agents, hits, identify, visitors
from tracker.agents import Agent
from tracker.gate import Caller, Gate, kept_address, located_address
from tracker.hits import Body, Frame, Hit, Ident
from tracker.ingest import ERASED, Duplicate, Fate, Intake, Stored
from tracker.places import NOWHERE, Place, Places
from tracker.sessions import Visit
from tracker.sites import REMEMBERED_SECONDS, Directory, Site
from tracker.spans import Client, Step
from tracker.store import Entry
from tracker.tally import WRITTEN_EVERY, Tally
from tracker.wire import Incoming, Refused

_log = structlog.get_logger()
_LEFT_OUT = {
    "origin": "this site's pages are elsewhere: kaskad site show NAME tells the origins that may report for it",
}


@dataclass(frozen=True)
class Taken:
    """What became of a request's events, in their order, and of its `ident`."""

    accepted: int = 0
    duplicates: int = 0
    problems: tuple[Problem, ...] = ()
    is_anew: bool = False
    """The anonymous id is somebody else's, or of somebody who was erased: the browser has to begin a new one."""
    is_identified: bool = False
    """`ident` was taken in."""
    is_limited: bool = False
    """Too much was sent; nothing was taken."""


class Desk:
    """What one process needs to take hits in. Made inside its event loop."""

    def __init__(self, database: Database, settings: Settings, intake: Intake) -> None:
        self._database = database
        self._intake = intake
        self._settings = settings
        self._oldest = timedelta(days=settings.event_dedupe_days)
        self._salts = visitors.Salts(database)
        self._places = Places(settings.geoip)
        self.directory = Directory(database)
        self.gate = Gate(settings)
        self.tally = Tally(database)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep the directory fresh and the counts written until the block ends."""
        await asyncio.to_thread(agents.prepare)
        try:
            async with (
                repeating(self.directory.refresh, REMEMBERED_SECONDS - 1, name="sites"),
                repeating(self.tally.write, WRITTEN_EVERY, name="counts of hits", wait_first=True),
            ):
                yield
        finally:
            await self._leave()

    async def _leave(self) -> None:
        self._places.close()
        try:
            await self.tally.write()
        except (KaskadError, DBAPIError) as error:  # nothing else may be kept from its end by it
            _log.error("counts of hits are lost", reason=str(error))

    async def take(self, site: Site, caller: Caller, body: Body, received: datetime) -> Taken:
        """Check a request of a known site and store what is fit, answering when it is committed.

        Raises:
            NotAllowed: the page's origin is none of the site's.
            Busy, DatabaseUnavailable: nothing is known to be written; the same ids may be sent again.
        """
        count = max(1, len(body.events))
        fate = self.gate.verdict(site, caller, body, count)
        if fate is not None:
            self.tally.count(site.id, received, fate, count)
            if fate in _LEFT_OUT:
                raise NotAllowed(_LEFT_OUT[fate])
            return Taken(is_limited=fate == "limited")
        problems: list[Problem] = []
        pair, is_anew, is_identified = None, False, False
        try:
            if body.ident is not None:
                pair, is_anew = await self._identified(body.anon, body.ident, site, problems)
                is_identified = True
        except InvalidInput as error:
            problems += error.problems
        if pair is None:
            pair = ("anonymous_id", body.anon or await self._cookieless(site, caller, received))
        items = hits.check(body, self._frame(site, caller, received))
        client = self._client(site, caller, body)
        entries = [_entry(item, site, pair, client) for item in items if isinstance(item, Hit)]
        fates = await self._intake.put(entries) if entries else []
        taken = self._taken(site, received, items, fates, problems)
        return replace(taken, is_anew=taken.is_anew or is_anew, is_identified=is_identified)

    async def _cookieless(self, site: Site, caller: Caller, received: datetime) -> str:
        salt = await self._salts.of(received)
        return visitors.anonymous_id(salt, site.id, str(caller.address or ""), caller.agent_header)

    async def _identified(
        self, device: str | None, ident: Ident, site: Site, problems: list[Problem]
    ) -> tuple[Pair | None, bool]:
        """Connect the visitor with who he says to be: by what his contact is found, and whether he needs a new id.

        The hash of a visitor without storage is no device: all who share an address and a browser have the same one.
        """
        said = hits.said(ident, self._settings.phone_region)
        trusted = identify.is_vouched(site, ident)
        source = f"site {site.name}"
        met = await identify.connect(
            self._database, device, said, ident.attributes or {}, source, self._settings, trusted=trusted
        )
        problems += met.problems
        pair = identify.known_as(said, met.who) if device is None or met.who.anew else None
        return pair, met.who.anew

    def _frame(self, site: Site, caller: Caller, received: datetime) -> Frame:
        address = kept_address(site, caller.address)
        extra: dict[str, Any] = {} if address is None else {"ip": str(address)}
        return Frame(site.name, extra, received, self._oldest, self._intake.limits)

    def _client(self, site: Site, caller: Caller, body: Body) -> Client:
        place = self._places.of(located_address(site, caller.address)) if self._places.is_known else NOWHERE
        return _client(caller.agent, hits.language(body.ctx.lang), place)

    def _taken(
        self,
        site: Site,
        received: datetime,
        items: Sequence[Hit | Refused],
        fates: Sequence[Fate],
        problems: list[Problem],
    ) -> Taken:
        left = iter(fates)
        accepted = duplicates = 0
        is_anew = False
        for item in items:
            fate = item.problem if isinstance(item, Refused) else next(left)
            if isinstance(fate, Stored):
                accepted += 1
            elif isinstance(fate, Duplicate):
                duplicates += 1
            else:
                is_anew = is_anew or fate is ERASED
                problems.append(fate if fate.path.startswith("events[") else _placed(fate, item.index))
        self.tally.count(site.id, received, "stored", accepted)
        self.tally.count(site.id, received, "duplicate", duplicates)
        self.tally.count(site.id, received, "refused", len(items) - accepted - duplicates)
        return Taken(accepted, duplicates, tuple(problems), is_anew=is_anew)


def _client(agent: Agent, language: str | None, place: Place) -> Client:
    where = (place.country, place.region, place.city)
    return Client(agent.device, agent.browser, agent.os, language, *where, agent.brand, agent.model)


def _entry(hit: Hit, site: Site, pair: Pair, client: Client) -> Entry:
    """The hit on its way into the log; its id counts within the site, whichever of its keys it came with."""
    event = Incoming(hit.index, hit.id, hit.name, *pair, hit.at, hit.value, hit.properties)
    step = Step(hit.at, hit.url, hit.referrer, hit.arrival, hit.is_page, client)
    return Entry(event, derived_hex(f"site {site.id}", hit.id), Visit(site.id, step))


def _placed(problem: Problem, index: int) -> Problem:
    return Problem(problem.message, problem.mend, path=f"events[{index}]")
