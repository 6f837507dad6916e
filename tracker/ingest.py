"""Group commit: requests hand their events over and wait; what has gathered is written in one transaction.

While a flush is under way the next one gathers, so a flush carries more the busier it is. When enough has gathered
another begins meanwhile: PostgreSQL works on one while this process prepares the other. Nobody is answered
before his events are committed. What PostgreSQL will not store is searched for by halves and answered alone; when
PostgreSQL cannot store anything just now, that is no event's fault, and all may be sent again.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import structlog
from prometheus_client import Counter, Histogram
from sqlalchemy.exc import DBAPIError

from core.database import Database
from core.errors import DatabaseUnavailable, Problem, Unavailable
from core.retry import sqlstate
from core.settings import Settings
from tracker.store import Entry, Months, Names, New, entries, store
from tracker.wire import Incoming, Limits

FLUSH_LIMIT = 2_000
"""Events in one flush: at about 20 µs each the lock of the log is never held for long."""
FLUSHES = 3
WORTH_ANOTHER = 60
"""Events that must have gathered before another flush begins beside those under way; for fewer it would only cost
more."""
SITES_SHARE = 0.5
"""Of the event names that an installation may have, how many may be there before pages can make no more: anybody can
write anything into a page, and must not use up what servers need."""
ATTEMPTS = 3
RETRIED = {"40001", "40P01", "23514"}
"""What another transaction can cause (RETRIED by SQLSTATE): serialisation, deadlock, a partition that was dropped."""
DATA_CLASSES = {"22", "23", "54"}
"""Classes of SQLSTATE that blame what was given: data exception, integrity constraint violation, program limit
exceeded. Whatever else PostgreSQL says (a server that only reads, say, after a failover) holds for every event."""
SEARCHES = 64
"""Transactions in which the events of one request are looked for that PostgreSQL will not store."""

_log = structlog.get_logger()
_taken = Counter("kaskad_events_total", "Events by what became of them", ["fate"])
_flushes = Histogram("kaskad_event_flush_seconds", "Time from the start of a flush to its commit")
_sizes = Histogram("kaskad_event_flush_events", "Events in a flush", buckets=(1, 10, 30, 100, 300, 1000, 3000))


class Busy(Unavailable):
    """More events are waiting to be written than this process may hold; try again in a second."""


@dataclass(frozen=True)
class Stored:
    """The event is in the log, committed."""


@dataclass(frozen=True)
class Duplicate:
    """An event with this id is in the log already."""


Fate = Stored | Duplicate | Problem
_STORED, _DUPLICATE = Stored(), Duplicate()
ERASED = Problem("this anonymous id belonged to somebody who was erased", "begin a new one", path="contact")
_UNTRIED = Problem(
    "too many events of this request cannot be stored; this one was not tried",
    "send it again with fewer others, or without those that were refused",
)
_FATES: dict[New, Fate] = {New.YES: _STORED, New.NO: _DUPLICATE, New.ERASED: ERASED}


@dataclass(frozen=True, slots=True)
class _Parcel:
    """The events of one request and who waits for their fates."""

    entries: list[Entry]
    fates: "asyncio.Future[list[Fate]]"


class Intake:
    """The way into the event log for one process. Made inside its event loop; `close` writes what is left."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._limit = settings.event_queue_limit
        self._gap = timedelta(seconds=settings.session_gap_seconds)
        self.limits = Limits.of(settings)
        self._names = Names(settings.event_names_limit)
        self._months = Months()
        self._waiting: deque[_Parcel] = deque()
        self._held = 0
        self._gathered = 0
        self._closed = False
        self._awaited = False
        self._flushes: set[asyncio.Task[None]] = set()

    async def take(self, events: Sequence[Incoming], sender: int) -> list[Fate]:
        """Write events and say what became of each, once that is committed.

        Args:
            events: checked ones.
            sender: the number of the API key; event ids count within it.

        Raises:
            Busy: too much is waiting already; nothing was taken.
            DatabaseUnavailable: nothing is known to be written; sending the same ids again is safe.
        """
        return await self.put(entries(events, sender)) if events else []

    async def put(self, batch: list[Entry]) -> list[Fate]:
        """The same as `take`, for entries that are made already; at least one."""
        if self._closed or (self._held and self._held + len(batch) > self._limit):
            raise Busy("more events are waiting to be written than this process may hold; try again in a second")
        parcel = _Parcel(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(parcel)
        self._held += len(batch)
        self._gathered += len(batch)
        if not self._awaited:
            self._awaited = True
            asyncio.get_running_loop().call_soon(self._start)  # after the requests that are being read just now
        return await parcel.fates

    async def close(self) -> None:
        """Take nothing more and write what is waiting."""
        self._closed = True
        self._start()
        while self._flushes:
            await asyncio.wait(self._flushes)

    def _start(self) -> None:
        """Begin a flush if there is something to write and enough of it."""
        self._awaited = False
        while self._waiting and (
            not self._flushes or (len(self._flushes) < FLUSHES and self._gathered >= WORTH_ANOTHER)
        ):
            flush = asyncio.create_task(self._flush(self._gather()), name="event flush")
            self._flushes.add(flush)
            flush.add_done_callback(self._finished)

    def _finished(self, flush: "asyncio.Task[None]") -> None:
        self._flushes.discard(flush)
        self._start()

    def _gather(self) -> list[_Parcel]:
        """The parcels of the next flush: as many as fit, at least one."""
        parcels = [self._waiting.popleft()]
        size = len(parcels[0].entries)
        while self._waiting and size + len(self._waiting[0].entries) <= FLUSH_LIMIT:
            parcels.append(self._waiting.popleft())
            size += len(parcels[-1].entries)
        self._gathered -= size
        return parcels

    async def _flush(self, parcels: Sequence[_Parcel]) -> None:
        try:
            with _flushes.time():
                fates = await self._write([parcel.entries for parcel in parcels])
        except (DBAPIError, psycopg.Error) as error:
            _log.error("events cannot be written now", state=sqlstate(error), reason=_reason(error))
            for parcel in parcels:
                _answer(parcel, DatabaseUnavailable(f"PostgreSQL stores nothing now: {_reason(error)}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            for parcel in parcels:
                _answer(parcel, error)
        else:
            for parcel, found in zip(parcels, fates, strict=True):
                _answer(parcel, found)
            _count([fate for found in fates for fate in found])
        finally:
            self._held -= sum(len(parcel.entries) for parcel in parcels)

    async def _write(self, requests: Sequence[Sequence[Entry]]) -> list[list[Fate]]:
        """Make the names and months that are missing, then write; a name beyond the limit is a problem."""
        batch = [entry for request in requests for entry in request]
        names = {entry.event.name for entry in batch}
        if names - self._names.numbers.keys():
            from_servers = {entry.event.name for entry in batch if entry.visit is None}
            await self._names.learn(self._database, from_servers)
            await self._names.learn(self._database, names - from_servers, SITES_SHARE)
        await self._months.provide(self._database, [entry.event.at for entry in batch])
        numbers = self._names.numbers
        if not names - numbers.keys():
            return await self._store(requests)
        stored = await self._store(
            [[entry for entry in request if entry.event.name in numbers] for request in requests]
        )
        found = []
        for request, fates in zip(requests, map(iter, stored), strict=True):
            found.append([next(fates) if one.event.name in numbers else self._too_many(one) for one in request])
        return found

    def _too_many(self, entry: Entry) -> Problem:
        return Problem(
            f"{entry.event.name!r} would be one name of an event more than the {self._names.limit:,} allowed here",
            "put what varies into properties, or raise KASKAD_EVENT_NAMES_LIMIT",
            path="event",
        )

    async def _store(self, requests: Sequence[Sequence[Entry]]) -> list[list[Fate]]:
        """Write requests in one transaction; where PostgreSQL refuses, each half in its own, down to the one at
        fault.
        """
        try:
            fates = iter(await self._store_together([entry for request in requests for entry in request]))
            return [[next(fates) for _ in request] for request in requests]
        except (DBAPIError, psycopg.Error) as error:
            if not _blames_data(error):
                raise
            if len(requests) == 1:
                return [await self._search(requests[0], error, iter(range(SEARCHES)))]
            middle = len(requests) // 2
            return [*await self._store(requests[:middle]), *await self._store(requests[middle:])]

    async def _search(self, refused: Sequence[Entry], error: Exception, tries: Iterator[int]) -> list[Fate]:
        """The fates of a request's events that PostgreSQL refused together: each half in a transaction of its own,
        down to the culprits. What no tries are left for is refused untried: others wait, and its sender can send less.
        """
        if len(refused) == 1:
            return [_refusal(refused[0], error)]
        fates: list[Fate] = []
        middle = len(refused) // 2
        for half in (refused[:middle], refused[middle:]):
            if next(tries, None) is None:
                fates += [_UNTRIED] * len(half)
                continue
            try:
                fates += await self._store_together(half)
            except (DBAPIError, psycopg.Error) as other:
                if not _blames_data(other):
                    raise
                fates += await self._search(half, other, tries)
        return fates

    async def _store_together(self, batch: Sequence[Entry]) -> list[Fate]:
        if not batch:
            return []
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._database.direct() as connection:
                    new = await store(connection, batch, self._names.numbers, self._gap)
                return [_FATES[one] for one in new]
            except (DBAPIError, psycopg.Error) as error:
                if attempt == ATTEMPTS or sqlstate(error) not in RETRIED:
                    raise
                self._months.known.clear()
                await self._months.provide(self._database, [entry.event.at for entry in batch])
        raise AssertionError("the last attempt returns or raises")


def _blames_data(error: BaseException) -> bool:
    """Whether an error is about what was to be stored, so that another event may fare better."""
    return (sqlstate(error) or "")[:2] in DATA_CLASSES


def _reason(error: BaseException) -> str:
    """PostgreSQL's own words, without the statement and its values."""
    original = error.orig if isinstance(error, DBAPIError) else error
    diagnosis = original.diag.message_primary if isinstance(original, psycopg.Error) else None
    return diagnosis or "no reason given"


def _refusal(entry: Entry, error: BaseException) -> Problem:
    _log.error(
        "event refused by the database", event_name=entry.event.name, state=sqlstate(error), reason=_reason(error)
    )
    return Problem(f"PostgreSQL cannot store this event: {_reason(error)}", "leave out what it names")


def _answer(parcel: _Parcel, outcome: "list[Fate] | Exception") -> None:
    if parcel.fates.done():  # the request was given up meanwhile
        return
    if isinstance(outcome, Exception):
        parcel.fates.set_exception(outcome)
    else:
        parcel.fates.set_result(outcome)


def _count(fates: Sequence[Fate]) -> None:
    _sizes.observe(len(fates))
    stored, duplicates = fates.count(_STORED), fates.count(_DUPLICATE)
    _taken.labels("stored").inc(stored)
    _taken.labels("duplicate").inc(duplicates)
    _taken.labels("refused").inc(len(fates) - stored - duplicates)
