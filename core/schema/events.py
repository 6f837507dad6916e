"""The event log: what happened to contacts, in commit order; and the cursors of those who read it."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.base import merged_from, metadata, moment

event_name = Table(
    "event_name",
    metadata,
    Column("id", Integer, Identity(always=False), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

event_id = Sequence("event_id_seq", metadata=metadata)

# Fixed-width columns first, so that PostgreSQL pads nothing. A row without properties takes 32 + 48 bytes.
event = Table(
    "event",
    metadata,
    Column("id", BigInteger, nullable=False, server_default=event_id.next_value(), comment="Commit order"),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    moment("received_at", default=True),
    Column("contact_id", BigInteger, nullable=False),
    Column("value", Double, comment="The property `value` where it is a number: the narrow fact"),
    Column("name_id", Integer, nullable=False),
    Column("properties", JSONB),
    merged_from(),
    Column("site_id", Integer, comment="The site whose page reported it; null if a server did, or Kaskad itself"),
    PrimaryKeyConstraint("id", "occurred_at"),
    Index("ix_event_contact_id_name_id_occurred_at", "contact_id", "name_id", "occurred_at"),
    # Facts in the order of their contacts, so that segments need neither the rows nor a hash (docs/decisions/0002).
    Index("ix_event_name_id_contact_id", "name_id", "contact_id", "occurred_at", postgresql_include=["value"]),
    postgresql_partition_by="RANGE (occurred_at)",
)

event_key = Table(
    "event_key",
    metadata,
    Column("key", Uuid, primary_key=True, comment="Of the sender and its event id"),
    Column("received_on", Date, nullable=False, server_default=text("current_date")),
    comment="Event ids seen lately, for deduplication",
)

log_cursor = Table(
    "log_cursor",
    metadata,
    Column("reader", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, server_default="0", comment="The last event id worked off"),
    moment("moved_at", default=True),
)

log_history = Table(
    "log_history",
    metadata,
    Column("first_id", BigInteger, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False),
    comment="Stretches of the log that were imported as history: they start nothing and count for no journey",
)

event_import = Table(
    "event_import",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("fingerprint", Text, nullable=False, unique=True, comment="Of the file's bytes and the options"),
    Column("file", Text, nullable=False),
    Column("position", BigInteger, nullable=False, server_default="0", comment="Rows already taken in"),
    Column("accepted", BigInteger, nullable=False, server_default="0"),
    Column("duplicates", BigInteger, nullable=False, server_default="0", comment="Whose id was in the log already"),
    Column("rejected", BigInteger, nullable=False, server_default="0"),
    moment("started_at", default=True),
    moment("finished_at", nullable=True),
)
