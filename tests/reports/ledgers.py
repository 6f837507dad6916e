"""Generated ledgers for the tests of reports, and how they come into the database."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import now
from core.schema.effects import conversion
from core.schema.journeys import enrollment
from core.schema.messages import MessageState, message

DAYS = 3
Row = dict[str, Any]


@dataclass(frozen=True)
class Ledger:
    """Rows of the three sources; times are hours before the test's end."""

    messages: list[Row]
    enrollments: list[Row]
    conversions: list[Row]


_hours = st.integers(0, DAYS * 24 - 1)
_version = st.sampled_from([1, 2, 3])  # 1 and 2 are of one journey
_seldom = st.booleans()

_messages = st.fixed_dictionaries({
    "hours": _hours, "version_id": st.one_of(st.none(), _version), "step": st.sampled_from([0, 1]),
    "template_version_id": st.sampled_from([None, 1, 2, 3]), "provider_id": st.sampled_from([None, 1, 2]),
    "state": st.sampled_from([int(state) for state in MessageState]), "channel": st.sampled_from(["email", "sms"]),
    "purpose": st.sampled_from(["marketing", "staff"]), "reason": st.sampled_from([None, "no_consent", "550 no"]),
    "opened": _seldom, "clicked": _seldom,
})  # fmt: skip
_enrollments = st.fixed_dictionaries({
    "hours": _hours, "version_id": _version, "state": st.sampled_from(["entering", "active", "finished"]),
    "closed_by": st.sampled_from([None, 0, 7]),
    "outcome": st.sampled_from([None, "paid", "left", "rich", "moved", "gave-up"]),
})  # fmt: skip
_values = st.sampled_from([None, 0.0, 2.5, 40.0, -8.0])  # sums of these are exact
_conversions = st.fixed_dictionaries({"hours": _hours, "version_id": _version, "value": _values})
ledgers = st.builds(
    Ledger,
    st.lists(_messages, max_size=40),
    st.lists(_enrollments, max_size=20),
    st.lists(_conversions, max_size=20),
)

JOURNEY_OF = {1: 1, 2: 1, 3: 2}
_PLAN = (
    '{"steps": [{"id": "first"}, {"id": "second"}], "subscriptions": '
    '[{"role": "goal", "outcome": "paid"}, {"role": "exit", "outcome": "left"}, {"role": "wait", "outcome": ""}], '
    '"endings": {"rules": [{"role": "goal", "outcome": "rich"}, {"role": "exit", "outcome": "moved"}]}}'
)
_WORLD = (
    "insert into journey (id, name, title) overriding system value values (1, 'one', 'One'), (2, 'two', 'Two')",
    "insert into template (id, name, channel) overriding system value "
    "values (1, 'hello', 'email'), (2, 'bye', 'email')",
    "insert into template_version (id, template_id, number, source, compiled) overriding system value "
    "values (1, 1, 1, '{}', '{}'), (2, 1, 2, '{}', '{}'), (3, 2, 1, '{}', '{}')",
    "insert into provider (id, name, channel, secret) overriding system value "
    "values (1, 'main', 'email', ''), (2, 'other', 'sms', '')",
)


def end() -> datetime:
    """Where the period of a test ends: lately, in a month whose partitions exist."""
    month = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return month + timedelta(days=DAYS)


async def write(connection: AsyncConnection, ledger: Ledger) -> None:
    """Write two journeys (of two versions and one), templates and providers, and the rows."""
    for statement in _WORLD:
        await connection.execute(text(statement))
    await connection.execute(
        text(
            "insert into journey_version (id, journey_id, number, source, plan) overriding system value "
            "values (:id, :journey, :id, '', cast(:plan as jsonb))"
        ),
        [{"id": id_, "journey": journey, "plan": _PLAN} for id_, journey in JOURNEY_OF.items()],
    )
    last = end()

    def at(row: Row) -> datetime:
        return last - timedelta(hours=row["hours"], minutes=30)

    def only(row: Row, *without: str) -> Row:
        return {key: value for key, value in row.items() if key not in {"hours", *without}}

    if ledger.messages:
        rows = [
            only(row, "opened", "clicked")
            | {"id": uuid4(), "created_at": at(row), "contact_id": number % 3}
            | {f"{what}_at": at(row) if row[what] else None for what in ("opened", "clicked")}
            for number, row in enumerate(ledger.messages)
        ]
        await connection.execute(insert(message), rows)
    if ledger.enrollments:
        rows = [
            only(row)
            | {"contact_id": number % 3, "cohort_id": 1, "entered_at": at(row), "exclusive": False}
            | {"journey_id": JOURNEY_OF[row["version_id"]]}
            for number, row in enumerate(ledger.enrollments)
        ]
        await connection.execute(insert(enrollment), rows)
    if ledger.conversions:
        rows = [
            only(row)
            | {"enrollment_id": number, "event_id": number, "contact_id": 1, "occurred_at": at(row)}
            | {"journey_id": JOURNEY_OF[row["version_id"]]}
            for number, row in enumerate(ledger.conversions)
        ]
        await connection.execute(insert(conversion), rows)
