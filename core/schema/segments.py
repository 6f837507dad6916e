"""Segments: named sets of contacts."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Identity, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.base import metadata, moment

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
    Column("tracking", Text, comment="Whether comings and goings become events: null, beginning (first sweep) or on"),
    Column("sweep_position", BigInteger, nullable=False, server_default="0", comment="The last contact id looked at"),
    moment("sweep_begun_at", nullable=True),
    moment("sweep_due_at", nullable=True),
    CheckConstraint("tracking in ('beginning', 'on')", name="tracking"),
)

segment_member = Table(
    "segment_member",
    metadata,
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True),
    Column("contact_id", BigInteger, primary_key=True),
    moment("since", default=True),
    Index("ix_segment_member_contact_id", "contact_id"),
)

segment_presence = Table(
    "segment_presence",
    metadata,
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True),
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True),
    moment("since", default=True),
    Index("ix_segment_presence_contact_id", "contact_id"),
    comment="Who was in a tracked segment when it was last looked at",
)
