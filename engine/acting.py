"""What steps do besides sending and choosing. Each may be run again.

Most effects stand in the file of their kind (`journeys.steps`) and need a connection only. Those that need the engine
stand here: `Acting` lists them.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import erasure
from core.database import Database
from core.errors import NotFound
from core.settings import Settings
from engine import looking, runs, winners
from engine.calls import Calls
from engine.versions import Version
from engine.wire import Acted, StepRequest
from journeys.plan import Act, Split, Wait
from journeys.steps.kind import Doing
from journeys.steps.registry import effect_of

Perform = Callable[[Version, Act, StepRequest, Callable[[], None]], Awaitable[Acted]]


class Acting:
    """The steps' work, over the database of a worker and its connections to other programs."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._calls = Calls(database, settings)
        self.own: Mapping[str, Perform] = {
            "call": self._calls.perform,
            "delete": self._delete,
            "enroll": self._enroll,
        }
        """By kind: the effects that need more than a connection."""

    async def close(self) -> None:
        """Close the connections to other programs."""
        await self._calls.close()

    async def act(self, version: Version, request: StepRequest, heartbeat: Callable[[], None]) -> Acted:
        """Do a step for a batch and say where each of its members goes.

        Raises:
            LookupError: nothing is known of steps of this kind.
            TypeError: the step is not one that acts.
        """
        step = version.plan.steps[request.step]
        if isinstance(step, Act):
            perform = self.own.get(step.kind, self._perform)
            return await perform(version, step, request, heartbeat)
        async with self._database.begin() as connection:
            match step:
                case Wait():
                    return await looking.look(connection, version, step, request)
                case Split():
                    return await winners.choose(connection, version, step, request)
        raise TypeError(f"step {step.id} is not one that acts")

    async def _perform(
        self, version: Version, step: Act, request: StepRequest, _heartbeat: Callable[[], None]
    ) -> Acted:
        """An effect that stands in the file of its kind, in one transaction."""
        effect = effect_of(step)
        if effect.perform is None:
            raise LookupError(f"step {step.id}: steps that {step.kind} cannot be performed yet")
        async with self._database.begin() as connection:
            contact_of = await contacts_of(connection, request)
            at = datetime.fromtimestamp(request.at, UTC)
            doing = Doing(version.journey, step.id, at, request.members, contact_of)
            ways = await effect.perform(connection, doing, effect.read(step)) or {}
        return gone(step, request, ways)

    async def _enroll(self, version: Version, step: Act, request: StepRequest, heartbeat: Callable[[], None]) -> Acted:
        async with self._database.begin() as connection:
            await runs.enroll(connection, step, request, await contacts_of(connection, request))
        return gone(step, request, {})

    async def _delete(self, version: Version, step: Act, request: StepRequest, heartbeat: Callable[[], None]) -> Acted:
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
        return gone(step, request, {})


def gone(step: Act, request: StepRequest, ways: Mapping[int, str]) -> Acted:
    """Where the members of a batch go that did a step: those in `ways` by that way, the others on, or out."""
    acted = Acted()
    for enrollment, visit in request.members:
        way = ways.get(enrollment, "next")
        to = step.leads(way)
        if to is None:
            acted.ended.append([enrollment, visit, step.outcome])
        else:
            acted.went.append([enrollment, visit, to, way])
    return acted


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
