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
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.schema.base import big_id, merged_from, metadata, moment

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
    Column("company_id", BigInteger, ForeignKey("company.id", ondelete="SET NULL")),
    Index("ix_contact_created_at", "created_at"),
    Index("ix_contact_company_id", "company_id", postgresql_where=text("company_id is not null")),
)

attribute = Table(
    "attribute",
    metadata,
    Column("name", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("label", Text),
    Column("merging", Text, nullable=False, server_default="keep", comment="When contacts merge: keep one, or add up"),
    moment("created_at", default=True),
    CheckConstraint(f"type in {ATTRIBUTE_TYPES}", name="type"),
    CheckConstraint("merging in ('keep', 'add')", name="merging"),
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
    merged_from(),
    Index("ix_consent_record_contact_id", "contact_id"),
)

consent_request = Table(
    "consent_request",
    metadata,
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("address", Text, nullable=False, comment="That the letter goes to; only it can confirm"),
    moment("asked_at"),
    moment("expires_at"),
    moment("told_at", nullable=True, comment="When the event was written that makes a journey ask"),
    Column("source", Text, nullable=False),
    Column("evidence", JSONB, nullable=False, server_default=text("'{}'")),
    Index("ix_consent_request_expires_at", "expires_at"),
    Index("ix_consent_request_untold", "asked_at", postgresql_where=text("told_at is null")),
    comment="Consents that wait for the contact's own word (double opt-in)",
)

frequency = Table(
    "frequency",
    metadata,
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("per_week", SmallInteger, nullable=False),
    moment("changed_at", default=True),
    CheckConstraint("per_week between 1 and 100", name="per_week"),
    comment="The most messages in seven days that a contact wants, besides transactional ones; none: no limit",
)

preference_record = Table(
    "preference_record",
    metadata,
    big_id(),
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), nullable=False),
    moment("recorded_at", default=True),
    Column("changes", JSONB, nullable=False, comment="What became what: per_week.email, language, time_zone, asked"),
    Column("source", Text, nullable=False),
    Column("evidence", JSONB, nullable=False, server_default=text("'{}'")),
    merged_from(),
    Index("ix_preference_record_contact_id", "contact_id"),
    comment="What contacts chose besides consents, with the proof",
)

purpose = Table(
    "purpose",
    metadata,
    Column("name", Text, primary_key=True),
    Column("channels", ARRAY(Text), nullable=False, comment="On which it is offered"),
    Column("titles", JSONB, nullable=False, comment="Language to words"),
    Column("texts", JSONB, nullable=False, server_default=text("'{}'"), comment="Language to a sentence or two"),
    Column("place", SmallInteger, nullable=False, server_default="0", comment="From the top of the page"),
    comment="What the preference page offers; empty: marketing, on every channel",
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

import_reject = Table(
    "import_reject",
    metadata,
    Column("import_id", Integer, ForeignKey("contact_import.id", ondelete="CASCADE"), primary_key=True),
    Column("line", BigInteger, primary_key=True, autoincrement=False),
    Column("column", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("cells", ARRAY(Text), nullable=False),
    moment("noted_at", default=True),
    Index("ix_import_reject_noted_at", "noted_at"),
    comment="Rows of uploaded files that were left out: for a few days, and so many of an import",
)

contact_merge = Table(
    "contact_merge",
    metadata,
    big_id(),
    Column("loser_id", BigInteger, nullable=False, comment="The contact that is no more"),
    Column("winner_id", BigInteger, nullable=False, comment="Into which it was merged"),
    Column("now_id", BigInteger, nullable=False, comment="Who that is now: winners can be merged, too"),
    moment("merged_at", default=True),
    Column("source", Text, nullable=False, comment="identify, command, api …"),
    Column("merged_by", Text),
    Column("before", JSONB, comment="What undoing needs; null once it cannot be undone any more"),
    moment("seen_at", nullable=True, comment="When what was under way had to be waited for"),
    moment("settled_at", nullable=True, comment="When nothing more could be written about the loser"),
    moment("undone_at", nullable=True),
    Column("undone_by", Text),
    Index("uq_contact_merge_loser_id", "loser_id", unique=True, postgresql_where=text("undone_at is null")),
    Index("ix_contact_merge_now_id", "now_id", postgresql_where=text("undone_at is null")),
    Index("ix_contact_merge_winner_id", "winner_id"),
    Index("ix_contact_merge_unsettled", "id", postgresql_where=text("settled_at is null")),
)

identity_conflict = Table(
    "identity_conflict",
    metadata,
    big_id(),
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), nullable=False),
    Column("owner_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    moment("noted_at", default=True),
    Column("source", Text, nullable=False),
    UniqueConstraint("contact_id", "owner_id", "kind", "value"),
    comment="A contact was said to be known by what another one is known by; nothing was merged",
)

erased_identity = Table(
    "erased_identity",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of kind, NUL and value"),
    moment("erased_at", default=True),
    comment="Anonymous ids of contacts who were erased: nothing comes in under them any more",
)
