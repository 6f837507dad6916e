"""Journeys and the runs of contacts through them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array

from core.schema.base import big_id, merged_from, metadata, moment

CLOSED_BY_CRITERIA = 0
"""In `enrollment.closed_by`: no event reached the goal or the exit, its criteria held."""

journey = Table(
    "journey",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True, comment="The slug, as in the YAML's first line"),
    Column("title", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="active"),
    Column("paused_because", Text, comment="Why Kaskad itself paused it; null where people did"),
    Column("control", Integer, nullable=False, server_default="0", comment="Counts pauses, resumes and stops"),
    Column("version_id", Integer, comment="The version that newcomers get"),
    Column("backfills", Integer, nullable=False, server_default="0", comment="Counts the wishes to let members in"),
    moment("created_at", default=True),
    CheckConstraint("state in ('active', 'paused', 'finishing', 'stopped')", name="state"),
)

journey_spending = Table(
    "journey_spending",
    metadata,
    Column("journey_id", Integer, ForeignKey("journey.id"), primary_key=True),
    Column(
        "spent",
        Numeric(16, 6),
        nullable=False,
        comment="In the currency of the prices; of journeys with a budget",
    ),
)

journey_version = Table(
    "journey_version",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("journey_id", Integer, ForeignKey("journey.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("source", Text, nullable=False, comment="The YAML as it was published"),
    Column("plan", JSONB, nullable=False),
    moment("published_at", default=True),
    Column("published_by", Text),
    UniqueConstraint("journey_id", "number"),
    comment="Never changes once written; a trigger refuses it",
)

cohort = Table(
    "cohort",
    metadata,
    big_id(),
    Column("version_id", Integer, ForeignKey("journey_version.id"), nullable=False),
    Column("size", Integer, nullable=False, server_default="0"),
    Column("control", Integer, nullable=False, server_default="0", comment="The journey's count it has heard of"),
    Column("state", Text, nullable=False, server_default="open"),
    Column("broadcast", Boolean, nullable=False, server_default=text("false")),
    moment("opened_at", default=True),
    CheckConstraint("state in ('open', 'closed', 'finished')", name="state"),
    Index("ix_cohort_open", "version_id", postgresql_where=text("state = 'open'")),
    Index("ix_cohort_unfinished", "id", postgresql_where=text("state <> 'finished'")),
)

enrollment = Table(
    "enrollment",
    metadata,
    big_id(),
    Column("contact_id", BigInteger, nullable=False),
    Column("cohort_id", BigInteger, nullable=False),
    moment("entered_at", default=True),
    Column("entry_event_id", BigInteger, comment="The event that began it, with its time, to find it again"),
    Column("entry_event_at", DateTime(timezone=True)),
    Column(
        "closed_by",
        BigInteger,
        comment="The event that reached a goal or an exit, as the router saw it; 0 if criteria did",
    ),
    moment("finished_at", nullable=True),
    moment("due_at", nullable=True, comment="When its present wait ends"),
    Column("journey_id", Integer, nullable=False),
    Column("version_id", Integer, nullable=False),
    Column("visit", Integer, nullable=False, server_default="0", comment="Steps visited so far"),
    Column("step", SmallInteger, comment="Number of the step in the plan"),
    Column("exclusive", Boolean, nullable=False, comment="Only one open enrollment per contact and key"),
    Column("state", Text, nullable=False, server_default="entering"),
    Column("key", Text, nullable=False, server_default=""),
    Column("outcome", Text),
    Column("correlation", JSONB, comment="Properties of the entry event that `same:` compares with"),
    Column("branch_steps", ARRAY(SmallInteger), comment="Where its parallel branches stand; null while it has none"),
    Column("branch_ends", ARRAY(DateTime(timezone=True)), comment="When the wait of each of these branches ends"),
    merged_from(),
    CheckConstraint("state in ('entering', 'active', 'finished')", name="state"),
    Index("ix_enrollment_contact_id", "contact_id", "journey_id", "key"),
    Index(
        "uq_enrollment_open",
        "contact_id",
        "journey_id",
        "key",
        unique=True,
        postgresql_where=text("exclusive and closed_by is null and finished_at is null"),
    ),
    Index(
        "uq_enrollment_entry",
        "entry_event_id",
        "journey_id",
        unique=True,
        postgresql_where=text("entry_event_id is not null"),
    ),
    Index("ix_enrollment_entering", "cohort_id", postgresql_where=text("state = 'entering'")),
    Index("ix_enrollment_version_id", "version_id"),
    postgresql_with={"fillfactor": 50},  # updated at each step: room in its page spares the indexes
)


STANDING_ON: ColumnElement[list[int]] = func.coalesce(enrollment.c.branch_steps, array([enrollment.c.step]))
"""The steps of its plan that an enrollment stands on: one, or as many as it has parallel branches."""


step_visit = Table(
    "step_visit",
    metadata,
    Column("arrived_at", DateTime(timezone=True), nullable=False),
    Column("enrollment_id", BigInteger, nullable=False),
    Column("version_id", Integer, nullable=False),
    Column("visit", Integer, nullable=False),
    Column("step", SmallInteger, nullable=False),
    Column("via", Text, comment="How it came here: next, event, timeout, branch …"),
    PrimaryKeyConstraint("enrollment_id", "visit", "arrived_at"),
    postgresql_partition_by="RANGE (arrived_at)",
)

journey_move = Table(
    "journey_move",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("journey_id", Integer, ForeignKey("journey.id"), nullable=False, index=True),
    Column("version_id", Integer, ForeignKey("journey_version.id"), nullable=False, comment="Where everybody goes"),
    Column("placement", JSONB, nullable=False, comment="Step id of an earlier version to where its contacts go"),
    Column("moved_by", Text),
    moment("moved_at", default=True),
    comment="Says that contacts of earlier versions go on in this one; cohorts take the moves in their order",
)

enrollment_order = Table(
    "enrollment_order",
    metadata,
    big_id(),
    Column("enrollment_id", BigInteger, nullable=False),
    Column("cohort_id", BigInteger, nullable=False),
    Column("step", Text, comment="The id of the step to go to; null: leave the journey"),
    Column("outcome", Text, comment="How the enrollment ends, with a null step"),
    Column("ordered_by", Text),
    moment("ordered_at", default=True),
    moment("done_at", nullable=True),
    Column("refusal", Text, comment="Why nothing came of it"),
    Index("ix_enrollment_order_open", "id", postgresql_where=text("done_at is null")),
    Index("ix_enrollment_order_enrollment_id", "enrollment_id"),
    comment="What a person has asked for one contact in a journey",
)

broadcast = Table(
    "broadcast",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("version_id", Integer, ForeignKey("journey_version.id"), nullable=False),
    Column("criteria", JSONB, comment="Who enters; everyone if null"),
    Column("contact_ids", JSONB, comment="A list of contacts, when entered by hand"),
    Column("occasion", Text, nullable=False, unique=True, comment="The run of a schedule or a request; once each"),
    Column("position", BigInteger, nullable=False, server_default="0", comment="The last contact id looked at"),
    Column("entered", BigInteger, nullable=False, server_default="0"),
    Column("priority", SmallInteger, nullable=False, server_default="5", comment="1 goes first"),
    moment("started_at", default=True),
    moment("served_at", nullable=True, comment="When its last page was let in"),
    moment("finished_at", nullable=True),
)
