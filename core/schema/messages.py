"""What is written and what was sent: providers, templates and the ledger of messages."""

from enum import IntEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.schema.base import merged_from, metadata, moment


class MessageState(IntEnum):
    """A message's life. States only move forward, and a greater number is further on.

    One step back exists: a provider that surely did not take a letter (it said "later") puts it from HANDING to
    QUEUED again. See docs/delivery.md.
    """

    QUEUED = 10  # will be handed over
    SKIPPED = 15  # policy said no; `reason` says why
    HANDING = 20  # being handed over; a crash now leaves it in doubt
    IN_DOUBT = 30  # nobody knows whether the provider took it
    FAILED = 40  # refused for good; `reason` says why
    ACCEPTED = 50  # the provider took it
    DELIVERED = 60  # the provider says it arrived
    BOUNCED = 70  # it came back


provider = Table(
    "provider",
    metadata,
    Column("id", SmallInteger, Identity(always=False), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("channel", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False, comment="Its URL, encrypted with the installation's key"),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default="active"),
    moment("created_at", default=True),
)

rate_limit = Table(
    "rate_limit",
    metadata,
    Column("name", Text, primary_key=True, comment="provider, or provider and domain"),
    moment("free_at", comment="When the next message may leave: the theoretical arrival time of GCRA"),
)

template = Table(
    "template",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("channel", Text, nullable=False),
    Column("version_id", Integer, comment="The version that new messages use"),
    moment("created_at", default=True),
)

template_version = Table(
    "template_version",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("template_id", Integer, ForeignKey("template.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("source", JSONB, nullable=False, comment="As it was published"),
    Column("compiled", JSONB, nullable=False, comment="MJML turned into HTML, the variables it uses"),
    moment("published_at", default=True),
    UniqueConstraint("template_id", "number"),
)

# No index looks at the state: one that did made every step of every message rewrite all index entries (10 to 20 % of
# the time of delivery, measured in docs/delivery.md). Delivery finds its rows by their ids.
message = Table(
    "message",
    metadata,
    Column("id", Uuid, nullable=False),
    moment("created_at"),
    Column("contact_id", BigInteger, nullable=False),
    Column("enrollment_id", BigInteger),
    Column("accepted_at", DateTime(timezone=True)),
    Column("delivered_at", DateTime(timezone=True)),
    Column("opened_at", DateTime(timezone=True)),
    Column("clicked_at", DateTime(timezone=True)),
    Column("claimed_at", DateTime(timezone=True), comment="While HANDING: the sign of life of the attempt that has it"),
    Column("claim", Uuid, comment="While HANDING: the attempt that has it; null once settled"),
    Column("version_id", Integer, comment="journey version"),
    Column("template_version_id", Integer),
    Column("visit", Integer),
    Column("step", SmallInteger),
    Column("provider_id", SmallInteger),
    Column("state", SmallInteger, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("channel", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("address", Text),
    Column("reason", Text),
    Column("provider_message_id", Text),
    merged_from(),
    Column("parts", SmallInteger, comment="On the bill; null is one"),
    Column("cost", Numeric(14, 6), comment="Of all parts, in the currency of the channel's prices"),
    Column("tried", ARRAY(SmallInteger), comment="Providers that had it before this one"),
    PrimaryKeyConstraint("id", "created_at"),
    Index("ix_message_contact_id_created_at", "contact_id", "created_at"),
    # A few pages for millions of rows, and untouched by updates: lists of a period read that period.
    Index("ix_message_created_at", "created_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (created_at)",
)

# Written by every attempt and read by hand only: no unique key, and an index that grows at one end. Of the contact's
# values only those that the template uses are here; with the version, which never changes, they give the content again.
message_content = Table(
    "message_content",
    metadata,
    moment("created_at", comment="Of the message"),
    Column("message_id", Uuid, nullable=False),
    moment("kept_at", default=True),
    Column("sender", Text),
    Column("known", JSONB, nullable=False, comment="What it was rendered from"),
    Index("ix_message_content_created_at", "created_at"),
    postgresql_partition_by="RANGE (kept_at)",
    comment="What messages were written from; kept for a while",
)

message_settlement = Table(
    "message_settlement",
    metadata,
    Column("id", BigInteger, Identity(always=False), primary_key=True),
    Column("message_id", Uuid, nullable=False),
    Column("contact_id", BigInteger, nullable=False),
    moment("settled_at", default=True),
    Column("word", Text, nullable=False, comment="sent, not-sent, retried, passed on"),
    Column("was", SmallInteger, nullable=False, comment="The state before"),
    Column("reason", Text, comment="Of the state before"),
    Column("by", Text, nullable=False),
    Column("why", Text),
    Column("open", Boolean, nullable=False, server_default=text("false"), comment="A worker has to send it again"),
    merged_from(),
    Index("ix_message_settlement_open", "id", postgresql_where=text("open")),
    Index("ix_message_settlement_message_id", "message_id"),
    Index("ix_message_settlement_contact_id", "contact_id"),
    comment="What people decided about single messages",
)

message_watch = Table(
    "message_watch",
    metadata,
    Column("message_id", Uuid, nullable=False),
    Column("provider_id", SmallInteger, nullable=False),
    moment("created_at", comment="Of the message"),
    moment("due_at", nullable=True, comment="When it has to be delivered; null once another provider has it"),
    moment("accepted_at"),
    Column("provider_message_id", Text, comment="By which this provider may still report"),
    PrimaryKeyConstraint("message_id", "provider_id"),
    Index("ix_message_watch_due_at", "due_at", postgresql_where=text("due_at is not null")),
    Index("ix_message_watch_provider_message_id", "provider_message_id", "provider_id"),
    comment="Messages of providers that have a deadline for delivery (undelivered_after)",
)

caught_letter = Table(
    "caught_letter",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    moment("received_at", default=True),
    Column("sender", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("source", LargeBinary, nullable=False),
    comment="What the built-in mailbox caught in demo mode; the newest are kept",
)
