"""What is written and what was sent: providers, templates and the ledger of messages."""

from enum import IntEnum

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.base import metadata, moment


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
    PrimaryKeyConstraint("id", "created_at"),
    Index("ix_message_contact_id_created_at", "contact_id", "created_at"),
    postgresql_partition_by="RANGE (created_at)",
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
