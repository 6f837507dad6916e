"""Sites whose visitors are tracked: who may report from them, how, and what was left out."""

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
    LargeBinary,
    Table,
    Text,
    text,
)

from core.schema.base import metadata, moment

ADDRESSES = ("drop", "truncate", "keep")
IDENTIFY = ("signed", "open")

site = Table(
    "site",
    metadata,
    Column("id", Integer, Identity(always=False), primary_key=True),
    Column("name", Text, nullable=False),
    Column("origins", ARRAY(Text), nullable=False, comment="https://example.com, https://*.example.com or *"),
    Column("script_path", Text, nullable=False, server_default="/k/s.js"),
    Column("endpoint_path", Text, nullable=False, server_default="/k/e"),
    Column("address", Text, nullable=False, server_default="drop", comment="What is kept of a visitor's IP address"),
    Column("internal", ARRAY(Text), nullable=False, server_default=text("'{}'"), comment="Networks that do not count"),
    Column("identify", Text, nullable=False, server_default="signed", comment="Whose word on who a visitor is counts"),
    Column("secret", Text, nullable=False, comment="Signs who a visitor is; never in a page"),
    moment("created_at", default=True),
    moment("removed_at", nullable=True),
    CheckConstraint(f"address in {ADDRESSES}", name="address"),
    CheckConstraint(f"identify in {IDENTIFY}", name="identify"),
    Index("uq_site_name", "name", unique=True, postgresql_where=text("removed_at is null")),
)

site_key = Table(
    "site_key",
    metadata,
    Column("key", Text, primary_key=True, comment="Stands in the site's pages, so it is no secret"),
    Column("site_id", Integer, ForeignKey("site.id", ondelete="CASCADE"), nullable=False),
    moment("created_at", default=True),
    moment("revoked_at", nullable=True),
    Index("ix_site_key_site_id", "site_id"),
)

site_count = Table(
    "site_count",
    metadata,
    Column("site_id", Integer, ForeignKey("site.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("fate", Text, primary_key=True, comment="stored, duplicate, bot, internal, limited, origin, refused"),
    Column("hits", BigInteger, nullable=False),
    comment="What became of hits; those that are left out are nowhere else",
)

visitor_salt = Table(
    "visitor_salt",
    metadata,
    Column("day", Date, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    comment="Keys the hash by which visitors without storage are told apart for a day; gone with the day",
)
