"""Companies that contacts belong to."""

from sqlalchemy import Column, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.base import big_id, metadata, moment

company = Table(
    "company",
    metadata,
    big_id(),
    Column("key", Text(collation="C"), nullable=False, unique=True, comment="What it is known by outside: a domain …"),
    Column("name", Text, nullable=False),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    moment("created_at", default=True),
    moment("changed_at", default=True),
)
