"""Whether ledger, SMTP sink, event log and outcomes agree after the chaos. Every sentence returned is a defect."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.ids import message_id
from core.schema.messages import MessageState
from tests.chaos.sink import Taken
from tests.chaos.story import Person

FINAL = (MessageState.SKIPPED, MessageState.IN_DOUBT, MessageState.FAILED, MessageState.ACCEPTED)
COMMIT_SECONDS = 2.0
"""An event's received_at is when its transaction began. What counts is its commit, so much later at the most."""


@dataclass(frozen=True)
class Run:
    """One enrollment as the database has it."""

    id: int
    contact: int
    journey: str
    state: str
    outcome: str | None
    visits: tuple[tuple[int, str, str, datetime], ...]
    """(visit, step, via, arrived at)"""

    @property
    def way(self) -> list[str]:
        """The steps that it came to."""
        return [step for _, step, _, _ in self.visits]


@dataclass(frozen=True)
class Row:
    """One message of the ledger."""

    id: UUID
    enrollment: int
    visit: int
    state: MessageState
    reason: str | None
    address: str | None

    @property
    def refused(self) -> bool:
        """Whether the mail server said that there is no such mailbox."""
        return "550" in (self.reason or "")


@dataclass(frozen=True)
class Facts:
    """What the database says after the chaos."""

    events: Mapping[str, tuple[tuple[int, datetime], ...]]
    """What the sender called an event to (id, received at) of each in the log."""
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    cursor_lag: int
    broken_cohorts: int
    """Cohorts whose size is not the number of their enrollments."""


async def gather(connection: AsyncConnection) -> Facts:
    """Read everything that the judgement needs."""
    events: dict[str, list[tuple[int, datetime]]] = defaultdict(list)
    for name, number, at in await connection.execute(
        text("select properties ->> 'sent_as', id, received_at from event where properties ? 'sent_as' order by id")
    ):
        events[name].append((number, at))
    visits: dict[int, list[tuple[int, str, str, datetime]]] = defaultdict(list)
    for enrollment, visit, step, via, at in await connection.execute(
        text(
            "select s.enrollment_id, s.visit, v.plan -> 'steps' -> cast(s.step as int) ->> 'id', s.via, s.arrived_at "
            "from step_visit s join journey_version v on v.id = s.version_id order by s.enrollment_id, s.visit"
        )
    ):
        visits[enrollment].append((visit, step, via, at))
    runs = await connection.execute(
        text(
            "select e.id, e.contact_id, j.name, e.state, e.outcome from enrollment e "
            "join journey j on j.id = e.journey_id order by e.id"
        )
    )
    rows = await connection.execute(text("select id, enrollment_id, visit, state, reason, address from message"))
    lag = "select (select max(id) from event) - position from log_cursor where reader = 'router'"
    cohorts = (
        "select count(*) from cohort c where c.size <> (select count(*) from enrollment e where e.cohort_id = c.id)"
    )
    return Facts(
        events={name: tuple(found) for name, found in events.items()},
        runs=tuple(Run(row[0], row[1], row[2], row[3], row[4], tuple(visits[row[0]])) for row in runs),
        rows=tuple(Row(row[0], row[1], row[2], MessageState(row[3]), row[4], row[5]) for row in rows),
        cursor_lag=int((await connection.execute(text(lag))).scalar_one()),
        broken_cohorts=int((await connection.execute(text(cohorts))).scalar_one()),
    )


@dataclass(frozen=True)
class Judgement:
    """What is wrong, and the counts that a reader wants to see."""

    defects: tuple[str, ...]
    counts: Mapping[str, int]


def judge(
    people: Sequence[Person],
    acknowledged: Mapping[str, float],
    facts: Facts,
    taken: Mapping[UUID, Sequence[Taken]],
    wait_seconds: float,
) -> Judgement:
    """Compare what was acknowledged, what the database says, and what came to the sink.

    Args:
        people: the script.
        acknowledged: the events that the API acknowledged.
        facts: of the database.
        taken: the letters of the sink.
        wait_seconds: how long the reference journey waits.
    """
    counts: Counter[str] = Counter({"answers that came too late": 0})
    defects = [
        *_log_defects(people, acknowledged, facts, counts),
        *_run_defects(people, facts, wait_seconds, counts),
        *_letter_defects(people, facts, counts),
        *_sink_defects(facts, taken, counts),
    ]
    if facts.cursor_lag:
        defects.append(f"{facts.cursor_lag} events were never routed")
    if facts.broken_cohorts:
        defects.append(f"{facts.broken_cohorts} cohorts have another size than enrollments")
    return Judgement(tuple(defects), dict(counts))


def _log_defects(
    people: Sequence[Person], acknowledged: Mapping[str, float], facts: Facts, counts: Counter[str]
) -> Iterator[str]:
    """Invariant 2: what was acknowledged is in the log, and once."""
    sent = {event["id"] for person in people for event in [*person.opening(), *person.answer()]}
    for name in sorted(sent - acknowledged.keys()):
        yield f"event {name} was never acknowledged"
    for name in sorted(acknowledged.keys() - facts.events.keys()):
        yield f"event {name} was acknowledged and is not in the log"
    for name, found in facts.events.items():
        if len(found) > 1:
            yield f"event {name} is in the log {len(found)} times"
    counts["events acknowledged"] = len(acknowledged)
    counts["events in the log"] = sum(len(found) for found in facts.events.values())


def _run_defects(people: Sequence[Person], facts: Facts, wait_seconds: float, counts: Counter[str]) -> Iterator[str]:
    """Invariants 1 and 3: every entry and event took effect once, and ended as the script says."""
    runs: dict[tuple[int, str], list[Run]] = defaultdict(list)
    for run in facts.runs:
        runs[run.contact, run.journey].append(run)
        counts[f"outcome {run.outcome}"] += 1
    for person in people:
        wanted = {"chaos": 1, "chaos-alert": int(person.alarmed)}
        for journey, number in wanted.items():
            found = runs[person.number, journey]
            if len(found) != number:
                yield f"contact {person.number} ({person.act}) is {len(found)} times in {journey}, not {number}"
            for run in found:
                if run.state != "finished":
                    yield f"enrollment {run.id} of contact {person.number} ({person.act}) is left {run.state}"
                elif journey == "chaos":
                    yield from _path_defects(person, run, facts, wait_seconds, counts)
                elif run.way != ["alarm", "over"] or run.outcome != "told":
                    yield f"enrollment {run.id} of the alert ended {run.outcome} by the way {run.way}"


def _path_defects(person: Person, run: Run, facts: Facts, wait_seconds: float, counts: Counter[str]) -> Iterator[str]:
    way = run.way
    if [visit[0] for visit in run.visits] != list(range(1, len(way) + 1)):
        yield f"enrollment {run.id} has visits {[visit[0] for visit in run.visits]}"
    whole = ["letter", "wait", "check", *(["reminder"] if person.city == "Moscow" else []), "over"]
    silent = way[2:3] == ["check"] or way == whole
    if run.outcome == "silent" and way != whole:
        yield f"enrollment {run.id} of contact {person.number} ended silent by the way {way}"
    if run.outcome == "returned" and way != ["letter", "wait", "done"]:
        yield f"enrollment {run.id} of contact {person.number} returned by the way {way}"
    if run.outcome == "submitted" and way != whole[: len(way)]:
        yield f"enrollment {run.id} of contact {person.number} submitted by the way {way}"
    if silent:
        waited = (run.visits[2][3] - run.visits[1][3]).total_seconds()
        if waited < wait_seconds:
            yield f"enrollment {run.id} waited {waited:.1f} s, not {wait_seconds}"
    if run.outcome == person.outcome:
        return
    late = _answered_late(person, run, facts, wait_seconds)
    if late is None or run.outcome != "silent":
        yield f"contact {person.number} ({person.act}) ended {run.outcome}, not {person.outcome}"
    elif late < -COMMIT_SECONDS:
        yield f"contact {person.number} ({person.act}) ended silent though it answered {-late:.1f} s in time"
    else:
        counts["answers that came too late"] += 1


def _answered_late(person: Person, run: Run, facts: Facts, wait_seconds: float) -> float | None:
    """By how many seconds the contact's answer came after the time at which its wait ended, at the earliest."""
    answers = facts.events.get(f"answer-{person.number}")
    if not answers or len(run.visits) < 3:
        return None
    return (answers[0][1] - run.visits[1][3]).total_seconds() - wait_seconds


def _letter_defects(people: Sequence[Person], facts: Facts, counts: Counter[str]) -> Iterator[str]:
    """Invariants 4 and 5: one row for each letter that the way has, each with its end and its reason."""
    by_number = {person.number: person for person in people}
    rows: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in facts.rows:
        rows[row.enrollment, row.visit].append(row)
        counts[f"message {row.state.name.lower()}"] += 1
    contacts = {run.id: run.contact for run in facts.runs}
    bounced = {contacts[row.enrollment] for row in facts.rows if row.refused and row.enrollment in contacts}
    expected: set[tuple[int, int]] = set()
    for run in facts.runs:
        person = by_number[run.contact]
        for visit, step, _, _ in run.visits:
            if step not in {"letter", "reminder", "alarm"}:
                continue
            expected.add((run.id, visit))
            found = rows[run.id, visit]
            if not found and run.outcome == "submitted" and visit == len(run.visits):
                counts["goal reached before the letter"] += 1
            elif len(found) != 1:
                yield f"enrollment {run.id} visit {visit} ({step}) has {len(found)} messages"
            for row in found:
                yield from _row_defects(person, run, row, person.number in bounced)
    for extra in rows.keys() - expected:
        yield f"a message of enrollment {extra[0]} visit {extra[1]} belongs to no visit"


def _row_defects(person: Person, run: Run, row: Row, bounced: bool) -> Iterator[str]:
    name = f"message {row.id} of contact {person.number}"
    if row.id != message_id(row.enrollment, row.visit):
        yield f"{name} has an id of its own"
    if row.state not in FINAL:
        yield f"{name} is left {row.state.name}"
    if row.state in {MessageState.SKIPPED, MessageState.IN_DOUBT, MessageState.FAILED} and not row.reason:
        yield f"{name} is {row.state.name} without a reason"
    # Nothing more is sent to an address that was refused once as unknown, nor to who reached the goal meanwhile.
    suppressed = bounced and row.reason == "suppressed: bounced"
    left = run.outcome == "submitted" and row.reason == "left_journey"
    if (row.state is MessageState.SKIPPED) == (person.consent is True and not suppressed and not left):
        yield f"{name} is {row.state.name} ({row.reason}) with consent {person.consent}"
    # One in doubt that is refused for good when it is repeated, or that may not be repeated since its address was
    # refused, stays in doubt: the first may have arrived.
    settled = row.refused or (bounced and row.reason == "not repeated: suppressed: bounced")
    if run.journey == "chaos-alert" and row.state is MessageState.IN_DOUBT and not settled:
        yield f"{name} is an alert that stayed in doubt: {row.reason}"


def _sink_defects(facts: Facts, taken: Mapping[UUID, Sequence[Taken]], counts: Counter[str]) -> Iterator[str]:
    """Invariant 4: what the ledger says was taken is there, once; what is there and not so called is in doubt."""
    alerts = {run.id for run in facts.runs if run.journey == "chaos-alert"}
    rows = {row.id: row for row in facts.rows}
    for unknown in taken.keys() - rows.keys():
        yield f"the sink has a letter {unknown} that no ledger row knows"
    for row in facts.rows:
        letters = taken.get(row.id, ())
        name = f"message {row.id} ({row.state.name})"
        alert = row.enrollment in alerts
        if len(letters) > 1 and not alert:
            yield f"{name} is in the sink {len(letters)} times: {letters}"
        if len(letters) > 1 and alert:
            counts["alerts repeated, as promised"] += 1
        if row.state is MessageState.ACCEPTED and not letters:
            yield f"{name} is not in the sink"
        if row.state in {MessageState.SKIPPED, MessageState.FAILED} and letters:
            yield f"{name} is in the sink: {row.reason}"
        if letters and letters[0].recipient != row.address:
            yield f"{name} went to {letters[0].recipient}, not {row.address}"
        if row.state is MessageState.IN_DOUBT:
            counts["in doubt, at the sink" if letters else "in doubt, lost"] += 1
    counts["letters at the sink"] = sum(len(letters) for letters in taken.values())
