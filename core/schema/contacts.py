"""Contacts: people, what they are known by, what they agreed to, and addresses that must not be used."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.schema.base import big_id, metadata, moment

IDENTITY_KINDS = ("anonymous_id", "external_id", "email", "phone", "push_endpoint")
ATTRIBUTE_TYPES = ("text", "number", "boolean", "date", "datetime", "list")

contact = Table(
    "contact",
    metadata,
    big_id(),
    moment("created_at", default=True),
    moment("updated_at", default=True),
    Column("language", Text, comment="BCP 47"),
    Column("time_zone", Text, comment="IANA name"),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    Index("ix_contact_created_at", "created_at"),
)

attribute = Table(
    "attribute",
    metadata,
    Column("name", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("label", Text),
    moment("created_at", default=True),
    CheckConstraint(f"type in {ATTRIBUTE_TYPES}", name="type"),
    comment="The typed custom attributes that contacts may carry in contact.attributes",
)

identity = Table(
    "identity",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("value", Text(collation="C"), primary_key=True),
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), nullable=False),
    moment("created_at", default=True),
    CheckConstraint(f"kind in {IDENTITY_KINDS}", name="kind"),
    Index("ix_identity_contact_id", "contact_id"),
)

consent = Table(
    "consent",
    metadata,
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("granted", Boolean, nullable=False),
    moment("changed_at", default=True),
    comment="What holds now; consent_record says how it came to be",
)

consent_record = Table(
    "consent_record",
    metadata,
    big_id(),
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), nullable=False),
    Column("channel", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("granted", Boolean, nullable=False),
    moment("recorded_at", default=True),
    Column("source", Text, nullable=False, comment="import, api, unsubscribe page, one-click, journey …"),
    Column("evidence", JSONB, nullable=False, server_default=text("'{}'")),
    Index("ix_consent_record_contact_id", "contact_id"),
)

suppression = Table(
    "suppression",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("reason", Text, nullable=False, comment="bounced, complained, unsubscribed, manual"),
    moment("created_at", default=True),
    Column("note", Text),
)

contact_import = Table(
    "contact_import",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("fingerprint", Text, nullable=False, unique=True, comment="Of the file's bytes and the mapping"),
    Column("file", Text, nullable=False),
    Column("position", BigInteger, nullable=False, server_default="0", comment="Rows already taken in"),
    Column("accepted", BigInteger, nullable=False, server_default="0"),
    Column("rejected", BigInteger, nullable=False, server_default="0"),
    Column("created", BigInteger, nullable=False, server_default="0", comment="Accepted rows that made a contact"),
    Column("duplicates", BigInteger, nullable=False, server_default="0", comment="Met earlier in the file"),
    moment("started_at", default=True),
    moment("finished_at", nullable=True),
)
