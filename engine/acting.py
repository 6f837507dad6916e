"""What steps do besides sending and choosing: one function for each kind, each of which may be run again."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import contacts
from contacts import consents, erasure
from core.database import Database
from core.errors import NotFound
from core.settings import Settings
from engine import looking, runs, winners
from engine.calls import Calls
from engine.effects import first_time
from engine.versions import Version
from engine.wire import Acted, StepRequest
from journeys.plan import Call, Delete, Enroll, Split, Update, Wait


class Acting:
    """The steps' work, over the database of a worker and its connections to other programs."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._calls = Calls(database, settings)

    async def close(self) -> None:
        """Close the connections to other programs."""
        await self._calls.close()

    async def act(self, version: Version, request: StepRequest, heartbeat: Callable[[], None]) -> Acted:
        """Do a step for a batch and say where each of its members goes.

        Raises:
            TypeError: the step is not one that acts.
        """
        step = version.plan.steps[request.step]
        if isinstance(step, Call):
            return await self._calls.perform(version, step, request, heartbeat)
        if isinstance(step, Delete):
            return await self._delete(step, request, heartbeat)
        async with self._database.begin() as connection:
            match step:
                case Update():
                    await _update(connection, version, step, request)
                case Wait():
                    return await looking.look(connection, version, step, request)
                case Split():
                    return await winners.choose(connection, version, step, request)
                case Enroll():
                    await runs.enroll(connection, step, request, await contacts_of(connection, request))
                case _:
                    raise TypeError(f"step {step.id} is not one that acts")
        return Acted(went=[[enrollment, visit, step.next, "next"] for enrollment, visit in request.members])

    async def _delete(self, step: Delete, request: StepRequest, heartbeat: Callable[[], None]) -> Acted:
        """Erase contacts one by one: each time everybody else who writes about contacts has to stand aside."""
        async with self._database.begin() as connection:
            contact_of = await contacts_of(connection, request)
        for contact in sorted(set(contact_of.values())):
            heartbeat()
            try:
                async with self._database.begin() as connection:
                    await erasure.erase(connection, contact)
            except NotFound:
                continue  # erased by an earlier attempt, or by another way
        return Acted(ended=[[enrollment, visit, step.outcome] for enrollment, visit in request.members])


async def contacts_of(connection: AsyncConnection, request: StepRequest) -> dict[int, int]:
    """Enrollment id to contact id, for those of a batch whose contact still exists."""
    rows = await connection.execute(
        text(
            "select e.id, c.id as contact_id from enrollment e join contact c on c.id = e.contact_id "
            "where e.id = any(:ids)"
        ),
        {"ids": [enrollment for enrollment, _ in request.members]},
    )
    return {row.id: row.contact_id for row in rows}


async def _update(connection: AsyncConnection, version: Version, step: Update, request: StepRequest) -> None:
    """Write attributes, tags, consents and scores on the contacts."""
    contact_of = await contacts_of(connection, request)
    ids = sorted(set(contact_of.values()))
    if step.attributes or step.add_tags or step.remove_tags:
        await contacts.apply(connection, ids, step.attributes, step.add_tags, step.remove_tags)
    evidence = {"journey": version.journey, "step": step.id}
    at = datetime.fromtimestamp(request.at, UTC)
    for channel, purpose, granted in step.consents:
        await consents.record(connection, ids, channel, purpose, granted, "journey", evidence, at)
    if step.scores:
        fresh = await first_time(connection, request.members)
        scored = [contact_of[enrollment] for enrollment in fresh if enrollment in contact_of]
        await contacts.scores.add(connection, scored, dict(step.scores))
