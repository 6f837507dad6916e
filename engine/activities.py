"""What cohort workflows ask to be done: each activity is one transaction, or a hand-over to a provider.

Every activity may be run again after it succeeded (a worker can die before it says so), so each is idempotent.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from prometheus_client import Histogram
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity
from temporalio.exceptions import ApplicationError

import channels
import contacts
from channels import DeliverRequest, Delivery, Item, NotNow, PrepareRequest
from core.database import Database
from core.settings import Settings
from engine.versions import Versions
from engine.wire import HandedOver, HandOver, Places, Prepared, RecordRequest, StepRequest
from journeys.calendar import next_local
from journeys.plan import Choose, Send, Update, Wait
from segments import matching
from segments.criteria import parse

BATCH_SIZE = Histogram("kaskad_batch_members", "Tokens in a batch", ["step"], buckets=(1, 10, 50, 100, 500, 1000, 5000))


class Activities:
    """The activities of a worker, over its database and its open providers."""

    def __init__(self, database: Database, settings: Settings, delivery: Delivery, versions: Versions) -> None:
        self._database = database
        self._settings = settings
        self._delivery = delivery
        self._versions = versions

    @activity.defn
    async def record(self, request: RecordRequest) -> None:
        """Write visits, waits and endings into the tables that people look at."""
        async with self._database.begin() as connection:
            await _record(connection, request)

    @activity.defn
    async def prepare(self, request: StepRequest) -> Prepared:
        """Ask the policy and write the ledger rows of a send step."""
        BATCH_SIZE.labels("send").observe(len(request.members))
        async with self._database.begin() as connection:
            version = await self._versions.get(connection, request.version_id)
            step = version.plan.steps[request.step]
            assert isinstance(step, Send)  # noqa: S101 -- the plan and the workflow are of one version
            verdicts = await channels.prepare(
                connection,
                self._settings,
                PrepareRequest(
                    version_id=request.version_id,
                    step=request.step,
                    channel=step.channel,
                    template=step.template,
                    purpose=step.purpose,
                    priority=step.priority,
                    at=_moment(request.at),
                    items=_items(request.members),
                ),
            )
        visits = {member[0]: member[1] for member in request.members}
        prepared = Prepared({}, [], [])
        for verdict in verdicts:
            enrollment, visit = verdict.enrollment_id, visits.pop(verdict.enrollment_id)
            if verdict.action == "deliver" and verdict.provider is not None:
                prepared.deliver.setdefault(verdict.provider, []).append([enrollment, visit])
            elif verdict.action == "delay" and verdict.until is not None:
                prepared.delayed.append([enrollment, visit, verdict.until.timestamp()])
            else:
                prepared.skipped.append([enrollment, visit])
        # Who was erased meanwhile has no verdict, and nothing to send.
        prepared.skipped.extend([enrollment, visit] for enrollment, visit in visits.items())
        return prepared

    @activity.defn
    async def deliver(self, request: HandOver) -> HandedOver:
        """Hand messages over to their provider; give the turn back when it cannot take them now.

        A letter that has to wait does not keep the others: what is settled is told at once. Only if nothing is does
        Temporal try again; but not with what was left over once, since a cohort cannot continue as new meanwhile.
        """
        try:
            await self._delivery.deliver(
                DeliverRequest(
                    provider=request.provider,
                    at=_moment(request.at),
                    items=_items(request.members),
                    repeat_in_doubt=request.repeat_in_doubt,
                ),
                activity.heartbeat,
            )
        except NotNow as wait:
            if not wait.settled and not request.remainder:
                raise ApplicationError(str(wait), type="NotNow", next_retry_delay=wait.retry_after) from None
            rest = [member for member in request.members if member[0] not in wait.settled]
            return HandedOver(rest, wait.retry_after.total_seconds())
        return HandedOver([], 0.0)

    @activity.defn
    async def choose(self, request: StepRequest) -> Places:
        """Find the branch whose criteria hold, for each contact."""
        BATCH_SIZE.labels("choose").observe(len(request.members))
        async with self._database.begin() as connection:
            version = await self._versions.get(connection, request.version_id)
            step = version.plan.steps[request.step]
            assert isinstance(step, Choose)  # noqa: S101 -- the plan and the workflow are of one version
            contact_of = await _contacts(connection, request)
            rest = sorted(set(contact_of.values()))
            target: dict[int, tuple[int, str]] = {}
            for place, (number, to) in enumerate(step.branches):
                matched = await matching(connection, parse(version.plan.criteria[number]), rest)
                target.update(dict.fromkeys(matched, (to, f"branch:{place + 1}")))
                rest = [contact for contact in rest if contact not in matched]
        otherwise = (step.otherwise, "otherwise")
        return Places(
            [
                [enrollment, visit, *target.get(contact_of.get(enrollment, 0), otherwise)]
                for enrollment, visit in request.members
            ]
        )

    @activity.defn
    async def update(self, request: StepRequest) -> None:
        """Write attributes, tags and consents on the contacts."""
        async with self._database.begin() as connection:
            version = await self._versions.get(connection, request.version_id)
            step = version.plan.steps[request.step]
            assert isinstance(step, Update)  # noqa: S101 -- the plan and the workflow are of one version
            ids = sorted(set((await _contacts(connection, request)).values()))
            if step.attributes or step.add_tags or step.remove_tags:
                await contacts.apply(connection, ids, step.attributes, step.add_tags, step.remove_tags)
            evidence = {"journey": version.journey, "step": step.id}
            for channel, purpose, granted in step.consents:
                await contacts.consents.record(
                    connection, ids, channel, purpose, granted, "journey", evidence, _moment(request.at)
                )

    @activity.defn
    async def next_local(self, request: StepRequest) -> Places:
        """Find when a wait for a local time ends, for each contact in its own zone."""
        async with self._database.begin() as connection:
            version = await self._versions.get(connection, request.version_id)
            step = version.plan.steps[request.step]
            assert isinstance(step, Wait) and step.local is not None  # noqa: S101 -- as above
            rows = await connection.execute(
                text(
                    "select e.id, c.time_zone from enrollment e join contact c on c.id = e.contact_id "
                    "where e.id = any(:ids)"
                ),
                {"ids": [enrollment for enrollment, _ in request.members]},
            )
            zone_of = {row.id: row.time_zone for row in rows}
        at = _moment(request.at)
        due = {zone: next_local(at, step.local, zone).timestamp() for zone in {None, *zone_of.values()}}
        return Places([[enrollment, visit, due[zone_of.get(enrollment)], ""] for enrollment, visit in request.members])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _items(members: Sequence[Sequence[int]]) -> list[Item]:
    return [Item(enrollment, visit) for enrollment, visit in members]


async def _contacts(connection: AsyncConnection, request: StepRequest) -> dict[int, int]:
    """Enrollment id to contact id, for those that still exist."""
    rows = await connection.execute(
        text("select id, contact_id from enrollment where id = any(:ids)"),
        {"ids": [enrollment for enrollment, _ in request.members]},
    )
    return {row.id: row.contact_id for row in rows}


# The groups travel as JSON and are spread out by PostgreSQL, which is cheaper than long arrays from Python.
_VISITS = text("""
insert into step_visit (enrollment_id, visit, step, arrived_at, via, version_id)
select unnest(g.enrollments), g.visit, g.step, to_timestamp(g.at), g.via, :version
from jsonb_to_recordset(cast(:visits as jsonb)) as g (visit int, step int, at float8, via text, enrollments bigint[])
on conflict do nothing
""")
# Each row comes to the last that is known of it. A repeated request changes nothing, because visits only count up.
_PLACES = text("""
with moves as (
    select unnest(g.enrollments) as id, g.visit, g.step, null::float8 as due, null::float8 as finished,
        null::text as outcome, 0 as rank, 0 as n
    from jsonb_to_recordset(cast(:visits as jsonb)) as g (visit int, step int, enrollments bigint[])
    union all
    select unnest(g.enrollments), g.visit, null, g.due, null, null, 1, g.n
    from rows from (jsonb_to_recordset(cast(:waits as jsonb)) as (visit int, due float8, enrollments bigint[]))
        with ordinality as g (visit, due, enrollments, n)
    union all
    select unnest(g.enrollments), g.visit, null, null, g.at, g.outcome, 2, 0
    from jsonb_to_recordset(cast(:finished as jsonb)) as g (visit int, at float8, outcome text, enrollments bigint[])
), last as (
    select distinct on (id) id, visit, due, finished, outcome,
        first_value(step) over (partition by id order by step is null, visit desc) as step
    from moves order by id, visit desc, rank desc, n desc
)
update enrollment e set visit = u.visit, step = coalesce(u.step, e.step), due_at = to_timestamp(u.due),
    finished_at = to_timestamp(u.finished), outcome = u.outcome,
    state = case when u.finished is null then 'active' else 'finished' end
from last u where e.id = u.id and e.visit <= u.visit and e.state <> 'finished'
""")


async def _record(connection: AsyncConnection, request: RecordRequest) -> None:
    groups = {
        "visits": msgspec.json.encode(request.visits).decode(),
        "waits": msgspec.json.encode(request.waits).decode(),
        "finished": msgspec.json.encode(request.finished).decode(),
    }
    if request.visits:
        await connection.execute(_VISITS, {"version": request.version_id, "visits": groups["visits"]})
    if request.visits or request.waits or request.finished:
        await connection.execute(_PLACES, groups)
    if request.over:
        await connection.execute(text("update cohort set state = 'finished' where id = :id"), {"id": request.cohort_id})
