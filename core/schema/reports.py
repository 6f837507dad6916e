"""What providers said about messages after they had taken them."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.schema.base import merged_from, metadata, moment

delivery_report = Table(
    "delivery_report",
    metadata,
    Column("id", BigInteger, Identity(always=False), nullable=False),
    moment("received_at", default=True),
    Column("reported_at", DateTime(timezone=True), nullable=False, comment="When it happened, as the provider says"),
    Column("message_id", Uuid, comment="Null: no message of ours was found"),
    Column("contact_id", BigInteger),
    Column("provider_id", SmallInteger, nullable=False),
    Column("kind", Text, nullable=False, comment="delivered, bounced, opened …; see channels.provider.ReportKind"),
    Column("reason", Text),
    Column("details", JSONB),
    Column("raw", LargeBinary, comment="As the provider sent it, compressed; kept for a while"),
    merged_from(),
    PrimaryKeyConstraint("id", "received_at"),
    Index("ix_delivery_report_message_id", "message_id"),
    Index("ix_delivery_report_contact_id", "contact_id"),
    postgresql_partition_by="RANGE (received_at)",
)

delivery_report_key = Table(
    "delivery_report_key",
    metadata,
    Column("provider_id", SmallInteger, primary_key=True),
    Column("key", LargeBinary, primary_key=True, comment="A digest of what makes a report this very one"),
    Column("received_on", Date, nullable=False, server_default=text("current_date")),
    comment="Reports seen lately, for deduplication",
)
