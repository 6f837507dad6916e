"""Segments: named sets of contacts, their versions, who is in those that are kept up to date, and how they grew."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.base import big_id, metadata, moment

segment = Table(
    "segment",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("criteria", JSONB, comment="Null for a list"),
    Column("source", Text, nullable=False),
    moment("created_at", default=True),
    moment("changed_at", default=True),
    Column("version", Integer, nullable=False, server_default="1", comment="The number of the last publication"),
    Column(
        "tracking", Text, comment="Whether segment_presence says who is in: null, beginning (until it is full) or on"
    ),
    moment("kept_until", nullable=True, comment="Tracked so long because it is often asked for"),
    Column("asked", Integer, nullable=False, server_default="0", comment="How often on the day asked_on"),
    Column("asked_on", Date),
    Column("members", BigInteger, nullable=False, server_default="0", comment="Rows in segment_presence, by trigger"),
    Column(
        "depends",
        ARRAY(Text),
        nullable=False,
        server_default=text("'{}'"),
        comment="What a tracked one can change with: event:NAME, event:*, a table's name, birth, time",
    ),
    moment("sweep_due_at", nullable=True, comment="When everybody is to be gone through next"),
    Column(
        "unnoted_before",
        BigInteger,
        comment="Transactions before this one may have changed facts unnoted: gone through once more when they are "
        "over; 0 until that is known",
    ),
    moment("rests_until", nullable=True, comment="Left alone until then, because its question failed"),
    CheckConstraint("tracking in ('beginning', 'on')", name="tracking"),
)

segment_version = Table(
    "segment_version",
    metadata,
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("criteria", JSONB, comment="Null for a list"),
    Column("source", Text, nullable=False),
    moment("published_at", default=True),
    Column("published_by", Text, nullable=False),
    comment="Each publication of a segment",
)

segment_member = Table(
    "segment_member",
    metadata,
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True),
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True),
    moment("since", default=True),
    Index("ix_segment_member_contact_id", "contact_id"),
    comment="Who is on the list of a segment that has no criteria",
)

segment_presence = Table(
    "segment_presence",
    metadata,
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True),
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True),
    moment("since", default=True),
    Index("ix_segment_presence_contact_id", "contact_id"),
    comment="Who is in a tracked segment",
)

segment_look = Table(
    "segment_look",
    metadata,
    big_id(),
    Column("contact_id", BigInteger, nullable=False),
    Column("cause", Text, nullable=False, comment="The table that changed, by trigger; birth; or sweep"),
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), comment="Null: all that depend on it"),
    Index("ix_segment_look_segment_id_id", "segment_id", "id"),
    comment="Contacts to be looked at, since a fact about them changed without an event",
)

segment_day = Table(
    "segment_day",
    metadata,
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True, comment="UTC"),
    Column("members", BigInteger, nullable=False, comment="At the end of the day, or so far"),
    Column("entered", BigInteger, comment="Null where the segment was not tracked"),
    Column("gone", BigInteger, comment="Null where the segment was not tracked"),
    comment="How a segment grew",
)
