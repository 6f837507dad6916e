"""What steps of journeys did, so that doing them again does nothing; and what journeys brought about."""

from sqlalchemy import BigInteger, Column, Double, Index, Integer, PrimaryKeyConstraint, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.base import merged_from, metadata, moment

applied_visit = Table(
    "applied_visit",
    metadata,
    Column("enrollment_id", BigInteger, nullable=False),
    Column("visit", Integer, nullable=False),
    moment("applied_at", default=True),
    PrimaryKeyConstraint("enrollment_id", "visit"),
    comment="Visits whose effect must not happen twice: scores, entries into other journeys",
)

call_attempt = Table(
    "call_attempt",
    metadata,
    Column("enrollment_id", BigInteger, nullable=False),
    Column("visit", Integer, nullable=False),
    moment("began_at", default=True),
    moment("next_at", nullable=True, comment="When it is tried again; null once it is settled"),
    Column("attempts", SmallInteger, nullable=False),
    Column("status", SmallInteger, comment="Of HTTP; null where there was no answer"),
    Column("goes_to", SmallInteger, comment="The step that the contact goes to; null until it is settled"),
    Column("via", Text),
    Column("error", Text),
    PrimaryKeyConstraint("enrollment_id", "visit"),
)

sending_turn = Table(
    "sending_turn",
    metadata,
    Column("enrollment_id", BigInteger, nullable=False),
    Column("visit", Integer, nullable=False),
    moment("leaves_at"),
    PrimaryKeyConstraint("enrollment_id", "visit"),
    comment="Turns that messages of a journey with a limit a minute have taken",
)

child_run = Table(
    "child_run",
    metadata,
    Column("enrollment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("parent_id", BigInteger, nullable=False),
    comment="Enrollments that a step of another enrollment asked for; the parent is told of their end",
)

split_decision = Table(
    "split_decision",
    metadata,
    Column("journey_id", Integer, nullable=False),
    Column("salt", Text, nullable=False, comment="Names the split"),
    Column("arms", Text, nullable=False, comment="Their names; other arms are another split"),
    Column("arm", Text, nullable=False),
    Column("figures", JSONB, nullable=False, comment="Contacts and successes of each arm when it was decided"),
    Column("reason", Text, nullable=False, comment="significance or deadline"),
    moment("decided_at", default=True),
    PrimaryKeyConstraint("journey_id", "salt", "arms"),
)

split_look = Table(
    "split_look",
    metadata,
    Column("journey_id", Integer, nullable=False),
    Column("salt", Text, nullable=False),
    Column("arms", Text, nullable=False),
    Column("looks", SmallInteger, nullable=False, comment="How often it was looked whether an arm has won"),
    Column("successes", Integer, nullable=False, comment="Of all arms, at the last look"),
    PrimaryKeyConstraint("journey_id", "salt", "arms"),
    comment="Splits that are not decided yet; each look may err, so looks are few and counted",
)

unrouted_event = Table(
    "unrouted_event",
    metadata,
    Column("event_id", BigInteger, nullable=False),
    Column("version_id", Integer, nullable=False, comment="Whose criteria failed on it; 0 if nobody could take it in"),
    moment("occurred_at"),
    moment("left_out_at", default=True),
    Column("error", Text, nullable=False, comment="The error's name"),
    PrimaryKeyConstraint("event_id", "version_id"),
    comment="Events that the router left out, because it failed on them",
)

conversion = Table(
    "conversion",
    metadata,
    Column("enrollment_id", BigInteger, nullable=False),
    Column("event_id", BigInteger, nullable=False),
    moment("occurred_at"),
    Column("contact_id", BigInteger, nullable=False),
    Column("value", Double),
    Column("journey_id", Integer, nullable=False),
    Column("version_id", Integer, nullable=False),
    merged_from(),
    PrimaryKeyConstraint("enrollment_id", "event_id"),
    Index("ix_conversion_journey_id_occurred_at", "journey_id", "occurred_at"),
    Index("ix_conversion_contact_id", "contact_id"),
)
