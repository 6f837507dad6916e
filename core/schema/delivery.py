"""Which provider carries what, at what price, and under which sender; how each of them has done lately."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from core.schema.base import metadata, moment


def _words(name: str, comment: str) -> Column[list[str]]:
    return Column(name, ARRAY(Text), nullable=False, server_default=text("'{}'"), comment=comment)


route = Table(
    "route",
    metadata,
    Column("id", Integer, Identity(always=False), primary_key=True),
    Column("provider_id", SmallInteger, ForeignKey("provider.id", ondelete="CASCADE"), nullable=False),
    Column("tier", SmallInteger, nullable=False, server_default="1", comment="1 before 2"),
    Column("weight", Double, nullable=False, server_default="1"),
    _words("prefixes", "Of the address; empty: any"),
    _words("countries", "ISO 3166; empty: any"),
    _words("operators", "As the numbering plan names them; of email the domain; empty: any"),
    _words("purposes", "Empty: any"),
    Column("opens", Text, comment="HH:MM by the contact's clock; null: always"),
    Column("closes", Text),
)

price = Table(
    "price",
    metadata,
    Column("provider_id", SmallInteger, ForeignKey("provider.id", ondelete="CASCADE"), primary_key=True),
    Column("prefix", Text, primary_key=True, server_default=""),
    Column("country", Text, primary_key=True, server_default="", comment="ISO 3166; empty: any"),
    Column("operator", Text, primary_key=True, server_default="", comment="Empty: any"),
    Column("amount", Numeric(14, 6), nullable=False, comment="Of one part of a message"),
    Column("currency", Text, nullable=False, comment="ISO 4217; one for all prices of a channel"),
)

sender = Table(
    "sender",
    metadata,
    Column("id", Integer, Identity(always=False), primary_key=True),
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False, comment="An email address with its name, a number, an alphanumeric name"),
    _words("purposes", "What it may be used for; empty: anything"),
    _words("countries", "Where it may be used; empty: anywhere"),
    moment("created_at", default=True),
    UniqueConstraint("channel", "address"),
)

provider_minute = Table(
    "provider_minute",
    metadata,
    Column("provider_id", SmallInteger, ForeignKey("provider.id", ondelete="CASCADE"), primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("accepted", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0", comment="Refused, or no answer"),
    Column("delivered", Integer, nullable=False, server_default="0"),
    Column("undelivered", Integer, nullable=False, server_default="0", comment="Came back"),
    comment="How providers do, minute by minute; the breaker reads the last of them",
)

provider_day = Table(
    "provider_day",
    metadata,
    Column("provider_id", SmallInteger, ForeignKey("provider.id", ondelete="CASCADE"), primary_key=True),
    Column("day", Date, primary_key=True, comment="In UTC"),
    Column("taken", Integer, nullable=False, comment="Messages handed over, or about to be"),
    comment="What providers that are being warmed up have had each day; all workers count here",
)

number_range = Table(
    "number_range",
    metadata,
    Column("first", BigInteger, primary_key=True, autoincrement=False, comment="E.164 without the plus"),
    Column("last", BigInteger, nullable=False),
    Column("operator", Text, nullable=False),
    Column("country", Text, comment="ISO 3166"),
    comment="Telephone numbers and the operators they belong to; ranges do not overlap",
)
