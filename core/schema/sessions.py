"""Visits to a site, and what campaign a contact came from first and last."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, SmallInteger, Table, Text

from core.schema.base import big_id, merged_from, metadata, moment

FIRST, LAST = 0, 1

# The columns that change with each hit are in no index, and a page has room: the update stays in its page (HOT).
session = Table(
    "session",
    metadata,
    big_id(),
    Column("contact_id", BigInteger, nullable=False),
    Column("site_id", Integer, nullable=False),
    moment("started_at"),
    moment("ended_at"),
    Column("pages", Integer, nullable=False),
    Column("entry_url", Text),
    Column("exit_url", Text),
    Column("referrer", Text),
    Column("source", Text),
    Column("medium", Text),
    Column("campaign", Text),
    Column("term", Text),
    Column("content", Text),
    Column("device", Text),
    Column("browser", Text),
    Column("os", Text),
    Column("language", Text),
    Column("country", Text),
    Column("region", Text),
    Column("city", Text),
    Column("brand", Text),
    Column("model", Text),
    merged_from(),
    Index("ix_session_contact_id_started_at", "contact_id", "started_at"),
    Index("ix_session_started_at", "started_at", postgresql_using="brin"),
    postgresql_with={"fillfactor": "80"},
    comment="Hits of one contact on one site without a long silence or a new campaign between them",
)

contact_touch = Table(
    "contact_touch",
    metadata,
    Column("contact_id", BigInteger, ForeignKey("contact.id", ondelete="CASCADE"), primary_key=True),
    Column("which", SmallInteger, primary_key=True, comment=f"{FIRST} is the first, {LAST} the last"),
    moment("at"),
    Column("site_id", Integer, nullable=False),
    Column("source", Text),
    Column("medium", Text),
    Column("campaign", Text),
    Column("term", Text),
    Column("content", Text),
    Column("click", Text, comment="The advertiser's click id with its parameter, as in gclid=…"),
    Column("url", Text, nullable=False),
    CheckConstraint(f"which in ({FIRST}, {LAST})", name="which"),
    comment="The first and the last campaign that brought a contact",
)
