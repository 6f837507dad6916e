"""What all tables share: one metadata with constraint names by convention, and column shorthands."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, MetaData, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def big_id() -> Column[int]:
    """A 64-bit key given out by the database."""
    return Column("id", BigInteger, Identity(always=False), primary_key=True)


def moment(name: str, *, nullable: bool = False, default: bool = False, **options: Any) -> Column[Any]:
    """An aware point in time; `default` fills in the transaction's own."""
    if default:
        options["server_default"] = text("now()")
    return Column(name, DateTime(timezone=True), nullable=nullable, **options)


def merged_from() -> Column[Any]:
    """Whose row this was before contacts were merged, so that a merge can be undone; null for nearly all."""
    return Column("merged_from", BigInteger, comment="The contact it belonged to before a merge")
