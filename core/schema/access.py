"""Who may call the API."""

from sqlalchemy import Column, Identity, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from core.schema.base import metadata, moment

api_key = Table(
    "api_key",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256; the key itself is not kept"),
    Column("scopes", ARRAY(Text), nullable=False),
    moment("created_at", default=True),
    moment("revoked_at", nullable=True),
)
