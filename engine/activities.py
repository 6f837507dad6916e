"""What cohort workflows ask to be done: each activity is one transaction, or a hand-over to a provider.

Every activity may be run again after it succeeded (a worker can die before it says so), so each is idempotent.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog
from prometheus_client import Histogram
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity

import channels
from channels import DeliverRequest, Delivery, Item, NotNow, PrepareRequest
from channels.policy import Reason
from core.database import Database
from core.errors import Conflict
from core.settings import Settings
from engine import asking, pacing, projection
from engine.acting import Acting, contacts_of
from engine.versions import Version, Versions
from engine.wire import Acted, HandedOver, HandOver, Places, Prepared, RecordRequest, StepRequest, Withdrawal
from journeys import store
from journeys.plan import Choose, Notify, Send

log = structlog.get_logger()
BATCH_SIZE = Histogram("kaskad_batch_members", "Tokens in a batch", ["step"], buckets=(1, 10, 50, 100, 500, 1000, 5000))


class Activities:
    """The activities of a worker, over its database and its open providers."""

    def __init__(self, database: Database, settings: Settings, delivery: Delivery, versions: Versions) -> None:
        self._database = database
        self._settings = settings
        self._delivery = delivery
        self._versions = versions
        self._acting = Acting(database, settings)

    async def close(self) -> None:
        """Close what the activities opened."""
        await self._acting.close()

    @activity.defn
    async def record(self, request: RecordRequest) -> None:
        """Write visits, waits and endings into the tables that people look at."""
        async with self._database.begin() as connection:
            await projection.record(connection, request)

    @activity.defn
    async def prepare(self, request: StepRequest) -> Prepared:
        """Ask the policy and write the ledger rows of a send step."""
        BATCH_SIZE.labels("send").observe(len(request.members))
        prepared = Prepared({}, [], [])
        version = await self._version(request.version_id)
        step, rules = version.plan.steps[request.step], version.plan.rules
        if isinstance(step, Send) and step.priority != "alert" and rules.per_minute is not None:
            async with self._database.begin() as connection:
                request.members, prepared.delayed = await pacing.pace(
                    connection, version.journey_id, rules.per_minute, request
                )
        if not request.members:
            return prepared
        async with self._database.begin() as connection:
            verdicts = await self._verdicts(connection, version, request)
        visits = {member[0]: member[1] for member in request.members}
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

    async def _version(self, version_id: int) -> Version:
        """A version; the database is asked the first time only."""
        kept = self._versions.kept(version_id)
        if kept is not None:
            return kept
        async with self._database.begin() as connection:
            return await self._versions.get(connection, version_id)

    async def rules_of(self, version_id: int, step: int) -> channels.Rules:
        """What a journey asks of the messages of a step."""
        version = await self._version(version_id)
        found = version.plan.steps[step]
        return rules_of(version, found) if isinstance(found, Send) else channels.Rules()

    async def _verdicts(
        self, connection: AsyncConnection, version: Version, request: StepRequest
    ) -> list[channels.Verdict]:
        step, at, items = version.plan.steps[request.step], _moment(request.at), _items(request.members)
        if isinstance(step, Notify):
            notice = channels.NoticeRequest(version.id, request.step, step.channel, step.to, at, items)
            return await channels.prepare_notices(connection, notice)
        assert isinstance(step, Send)  # noqa: S101 -- the plan and the workflow are of one version
        asked = PrepareRequest(
            version_id=version.id,
            step=request.step,
            channel=step.channel,
            template=step.template,
            purpose=step.purpose,
            priority=step.priority,
            at=at,
            items=items,
            rules=rules_of(version, step),
            budget=_budget(version, step),
        )
        verdicts = await channels.prepare(connection, self._settings, asked)
        if any(verdict.reason == Reason.OVER_BUDGET for verdict in verdicts):
            words = f"its budget of {version.plan.rules.budget:g} is spent; publish it with another, then resume it"
            if await store.pause_itself(connection, version.journey_id, words):
                log.warning("journey paused itself", journey=version.plan.journey, why=words)
        return verdicts

    @activity.defn
    async def deliver(self, request: HandOver) -> HandedOver:
        """Hand messages over to their provider; give the turn back when it cannot take them now.

        A letter that has to wait does not keep the others: what is settled is told at once. The cohort waits for the
        rest, not Temporal between two attempts: a cohort cannot continue as new while an activity is open.
        """
        version = await self._version(request.version_id)
        try:
            done = await self._delivery.deliver(
                DeliverRequest(
                    provider=request.provider,
                    at=_moment(request.at),
                    items=_items(request.members),
                    repeat_in_doubt=request.repeat_in_doubt,
                    rules=await self.rules_of(request.version_id, request.step),
                    journey_id=version.journey_id,
                ),
                activity.heartbeat,
            )
        except NotNow as wait:
            moved = _moved(request, wait.moved)
            gone = wait.settled.union(*wait.moved.values())
            rest = [member for member in request.members if member[0] not in gone]
            return HandedOver(rest, wait.retry_after.total_seconds(), moved)
        return HandedOver([], 0.0, _moved(request, done.moved))

    @activity.defn
    async def withdraw(self, request: Withdrawal) -> None:
        """Skip messages that have not left and are not to leave any more.

        Raises:
            Conflict: some are just being handed over; their word will be known in a moment.
        """
        reason = Reason.JOURNEY_STOPPED if request.stopped else Reason.LEFT_JOURNEY
        async with self._database.begin() as connection:
            leaving = await channels.withdraw(connection, _moment(request.at), _items(request.members), reason)
        if leaving:
            raise Conflict(f"{leaving} messages are just being handed over")

    @activity.defn
    async def choose(self, request: StepRequest) -> Places:
        """Find the branch whose criteria hold, for each enrollment."""
        BATCH_SIZE.labels("choose").observe(len(request.members))
        async with self._database.begin() as connection:
            version = await self._versions.get(connection, request.version_id)
            step = version.plan.steps[request.step]
            assert isinstance(step, Choose)  # noqa: S101 -- the plan and the workflow are of one version
            rest = await contacts_of(connection, request)
            target: dict[int, tuple[int, str]] = {}
            for place, (number, to) in enumerate(step.branches):
                matched = await asking.holding(connection, version.plan, number, rest)
                target.update(dict.fromkeys(matched, (to, f"branch:{place + 1}")))
                rest = {enrollment: contact for enrollment, contact in rest.items() if enrollment not in matched}
        otherwise = (step.otherwise, "otherwise")
        return Places(
            [[enrollment, visit, *target.get(enrollment, otherwise)] for enrollment, visit in request.members]
        )

    @activity.defn
    async def leave(self, request: StepRequest) -> Acted:
        """Find those of a batch who meet the criteria that end the journey."""
        BATCH_SIZE.labels("leave").observe(len(request.members))
        version = await self._version(request.version_id)
        async with self._database.begin() as connection:
            return Acted(ended=await asking.leaving(connection, version.plan, await contacts_of(connection, request)))

    @activity.defn
    async def act(self, request: StepRequest) -> Acted:
        """Do what any other step does: write, look, enroll, call, erase, choose an arm."""
        BATCH_SIZE.labels("act").observe(len(request.members))
        version = await self._version(request.version_id)
        return await self._acting.act(version, request, activity.heartbeat)


def rules_of(version: Version, step: Send) -> channels.Rules:
    """What the journey asks of a step's messages. Alerts wait for no hour."""
    rules, alert = version.plan.rules, step.priority == "alert"
    begin, end = rules.quiet if rules.quiet and not alert else (None, None)
    window = rules.window if not alert else None
    hours = None
    if window is not None:
        zone = None if window.zone == "contact" else window.zone
        hours = channels.Hours(window.start, window.end, window.weekdays, window.holidays, zone)
    return channels.Rules(quiet_from=begin, quiet_to=end, cap=rules.cap, cap_seconds=rules.cap_seconds, window=hours)


def _budget(version: Version, step: Send) -> channels.Budget | None:
    """What the journey may spend; alerts are neither counted nor stopped."""
    amount = version.plan.rules.budget
    return channels.Budget(version.journey_id, str(amount)) if amount is not None and step.priority != "alert" else None


def _moved(request: HandOver, moved: Mapping[str, Sequence[int]]) -> dict[str, list[list[int]]]:
    """The members of a hand-over that other providers are to carry."""
    members = {member[0]: member for member in request.members}
    return {name: [members[one] for one in ids] for name, ids in moved.items()}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _items(members: Sequence[Sequence[int]]) -> list[Item]:
    return [Item(enrollment, visit) for enrollment, visit in members]
