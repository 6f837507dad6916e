"""The `call` step: asking another program over HTTP for each contact of a batch.

What became of each call is a row in `call_attempt`, committed as soon as it is known, so an activity that runs again
calls only those that are not settled. A crash between the answer and its row repeats that one call: the header
`Kaskad-Id` is the same then.
"""

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import contacts
from channels import texts
from channels.keys import webhook_key
from contacts import attributes
from core.clock import now
from core.database import Database
from core.errors import InvalidInput
from core.ids import derived_uuid
from core.outbound import Answer, Caller, NoAnswer, Refused, signature
from core.settings import Settings
from core.wire import retry_after
from engine.versions import Version
from engine.wire import Acted, StepRequest
from journeys.plan import Act
from journeys.steps.call import FAILED, CallData, answered
from segments import eventfilter

AT_ONCE = 10
_log = structlog.get_logger()
_TRANSIENT = frozenset({408, 425, 429})
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 900.0


@dataclass(frozen=True)
class _Settled:
    """What a call came to: where the contact goes, or when to try again."""

    status: int | None
    way: str
    """By which it goes; empty: again."""
    error: str | None = None
    again: datetime | None = None
    saved: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Earlier:
    attempts: int
    began_at: datetime
    goes_to: int | None
    via: str | None
    next_at: datetime | None


class Calls:
    """Performs the calls of a worker process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._caller = Caller(settings.call_private)
        self._key = webhook_key(settings)

    async def close(self) -> None:
        """Close the connections."""
        await self._caller.close()

    async def perform(self, version: Version, step: Act, request: StepRequest, heartbeat: Callable[[], None]) -> Acted:
        """Call for each member of a batch that is not settled yet; a few at a time."""
        call = CallData.model_validate(step.data)
        async with self._database.begin() as connection:
            earlier = await _earlier(connection, request.members)
            values = await texts.values(connection, [one for one, _ in request.members])
        acted, open_ = Acted(), []
        moment = now()
        for enrollment, visit in request.members:
            known = earlier.get((enrollment, visit))
            if known is not None and known.goes_to is not None:
                acted.went.append([enrollment, visit, known.goes_to, known.via])
            elif known is not None and known.next_at is not None and known.next_at > moment:
                acted.held.append([enrollment, visit, known.next_at.timestamp()])
            elif enrollment not in values:  # erased meanwhile
                acted.went.append([enrollment, visit, step.leads(FAILED), FAILED])
            else:
                open_.append((enrollment, visit))
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(enrollment: int, visit: int) -> None:
            async with gate:
                known = earlier.get((enrollment, visit))
                settled = await self._one(call, enrollment, visit, values[enrollment], known)
                async with self._database.begin() as connection:
                    await _keep(connection, step, enrollment, visit, settled)
                heartbeat()
            if settled.again is not None:
                acted.held.append([enrollment, visit, settled.again.timestamp()])
            else:
                acted.went.append([enrollment, visit, step.leads(settled.way), settled.way])

        # Whatever one comes to, the others are heard out: what is cut off would be called once more.
        done = await asyncio.gather(*(one(*member) for member in open_), return_exceptions=True)
        for failure in done:
            if failure is not None:
                raise failure
        return acted

    async def _one(
        self, call: CallData, enrollment: int, visit: int, values: Mapping[str, Any], known: _Earlier | None
    ) -> _Settled:
        try:
            url, headers, body = _request(call, values)
        except texts.Unfilled as error:
            return _Settled(None, FAILED, str(error))
        headers["kaskad-id"] = str(derived_uuid("call", f"{enrollment}:{visit}"))
        headers["kaskad-signature"] = signature(self._key, body or b"", now().timestamp())
        try:
            answer = await self._caller.call(call.method, url, headers, body, call.timeout_seconds)
        except Refused as error:
            return _Settled(None, FAILED, str(error))
        except NoAnswer as error:
            return _again(call, known, None, str(error), None)
        except Exception as error:  # noqa: BLE001 - one contact's defect, logged and in its row
            # A defect over one contact leads it to `failed`; raised, it would hold up the whole batch for ever.
            _log.exception("call_failed", enrollment=enrollment)
            return _Settled(None, FAILED, f"{type(error).__name__}: {error}")
        settled = settle(call, answer)
        if settled is None:
            return _again(call, known, answer.status, f"status {answer.status}", retry_after(answer.headers))
        return settled


def settle(call: CallData, answer: Answer) -> _Settled | None:
    """Where an answer leads; None if the call is to be tried again.

    A branch of the step's own goes before the rule that a status is transient.
    """
    found = _json(answer)
    said = {"status": answer.status, "answer": found}
    good = answer.status < 400
    saved = {name: value for name, path in call.save if (value := _dig(said, path)) is not None} if good else {}
    for number, where in enumerate(call.answers, 1):
        properties = {key: value for key in where if (value := _dig(said, key)) is not None}
        if eventfilter.matches(where, properties, {}):
            return _Settled(answer.status, answered(number), saved=saved)
    if answer.status in _TRANSIENT or answer.status >= 500:
        return None
    if good:
        return _Settled(answer.status, "answered", saved=saved)
    return _Settled(answer.status, FAILED, f"status {answer.status}")


def _again(call: CallData, known: _Earlier | None, status: int | None, error: str, asked: timedelta | None) -> _Settled:
    """Try again later, at growing and uneven distances, unless the time for that is over."""
    moment = now()
    attempts = known.attempts if known else 0
    began = known.began_at if known else moment
    pause = min(_FIRST_PAUSE * 2.0**attempts, _LONGEST_PAUSE)
    pause *= random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing
    asked_for = min(asked.total_seconds(), _LONGEST_PAUSE) if asked else 0.0
    again = moment + timedelta(seconds=max(pause, asked_for))
    if again - began > timedelta(seconds=call.retry_seconds):
        return _Settled(status, FAILED, f"given up after {attempts + 1} attempts: {error}")
    return _Settled(status, "", error, again)


def _request(call: CallData, values: Mapping[str, Any]) -> tuple[str, dict[str, str], bytes | None]:
    url = texts.fill_url(call.url, values)
    headers = {name.lower(): texts.fill_header(value, values) for name, value in call.headers}
    headers.setdefault("user-agent", "Kaskad")
    if call.method in {"GET", "DELETE"}:
        return url, headers, None
    data = texts.fill_data(call.body, values)
    if call.body is None:
        data = {
            "contact": values["contact"]["id"],
            "journey": values["journey"]["name"],
            "event": dict(values["event"]),
        }
    headers.setdefault("content-type", "application/json")
    return url, headers, msgspec.json.encode(data)


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body) if answer.body else None
    except (ValueError, RecursionError):
        return None


def _dig(data: Any, path: str) -> Any:
    """The value at a dotted path; lists take numbers. None if there is nothing."""
    for part in path.split("."):
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and part.isascii() and part.isdecimal() and len(part) < 6 and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


async def _earlier(connection: AsyncConnection, members: Sequence[Sequence[int]]) -> dict[tuple[int, int], _Earlier]:
    rows = await connection.execute(
        text(
            "select c.* from call_attempt c join unnest(cast(:ids as bigint[]), cast(:visits as int[])) "
            "as u(id, visit) on c.enrollment_id = u.id and c.visit = u.visit"
        ),
        {"ids": [one for one, _ in members], "visits": [visit for _, visit in members]},
    )
    return {
        (row.enrollment_id, row.visit): _Earlier(row.attempts, row.began_at, row.goes_to, row.via, row.next_at)
        for row in rows
    }


async def _keep(connection: AsyncConnection, step: Act, enrollment: int, visit: int, settled: _Settled) -> None:
    """Write down what a call came to, and what is saved of the answer, in one transaction."""
    if settled.saved:
        found = await connection.execute(text("select contact_id from enrollment where id = :id"), {"id": enrollment})
        known = await attributes.types(connection, settled.saved)
        fitting = {name: value for name, value in settled.saved.items() if _fits(known.get(name), value)}
        if fitting:
            await contacts.apply(connection, [found.scalar_one()], fitting)
    await connection.execute(
        text(
            "insert into call_attempt as c (enrollment_id, visit, attempts, status, goes_to, via, error, next_at) "
            "values (:enrollment, :visit, 1, :status, :goes_to, :via, :error, :again) "
            "on conflict (enrollment_id, visit) do update set attempts = c.attempts + 1, status = excluded.status, "
            "goes_to = excluded.goes_to, via = excluded.via, error = excluded.error, next_at = excluded.next_at "
            "where c.goes_to is null"
        ),
        {
            "enrollment": enrollment,
            "visit": visit,
            "status": settled.status,
            "goes_to": step.leads(settled.way) if settled.way else None,
            "via": settled.way or None,
            "error": settled.error[:500] if settled.error else None,
            "again": settled.again,
        },
    )


def _fits(kind: str | None, value: Any) -> bool:
    if kind is None:
        return False
    try:
        attributes.fit(kind, value)
    except InvalidInput:
        return False
    return True
