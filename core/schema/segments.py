"""Segments: named sets of contacts."""

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Integer, Table, Text
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
)

segment_member = Table(
    "segment_member",
    metadata,
    Column("segment_id", Integer, ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True),
    Column("contact_id", BigInteger, primary_key=True),
    moment("since", default=True),
    Index("ix_segment_member_contact_id", "contact_id"),
)
