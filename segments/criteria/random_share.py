"""A random share of all contacts that stays the same: `{random: 10}`, `{random: {share: 10, from: 20}}`."""

from decimal import Decimal
from typing import Any, ClassVar, Self

from sqlalchemy import BigInteger, ColumnElement, Text, and_, cast, func, literal
from sqlalchemy.dialects.postgresql import BIT

from core.schema.contacts import contact
from segments import comparison
from segments.criteria.base import Context, Leaf, options_of
from segments.operands import is_number

PARTS = 10_000
_KEYS = ("share", "from", "salt")
_PERCENT: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0, "maximum": 100}


class RandomShare(Leaf):
    """The contact falls into a share of so many percent. Shares with one salt and other beginnings do not overlap."""

    KEYS: ClassVar[tuple[str, ...]] = ("random",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            _PERCENT,
            {
                "type": "object",
                "properties": {
                    "share": _PERCENT,
                    "from": {"type": "number", "minimum": 0, "exclusiveMaximum": 100},
                    "salt": {"type": "string"},
                },
                "required": ["share"],
                "additionalProperties": False,
            },
        ]
    }

    first: int
    """The first of ten thousand parts."""
    end: int
    """The first part that does not belong to the share any more."""
    salt: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read percent, with at most two decimals."""
        if is_number(value):
            value = {"share": value}
        options = options_of(value, _KEYS, context, "{random: 10}")
        if options is None:
            return None
        share, first = (_parts(options.get(name, 0)) for name in ("share", "from"))
        if share is None or first is None or not 0 < share <= PARTS or not 0 <= first <= PARTS - share:
            mend = "write {random: 10}, or {random: {share: 10, from: 90}}"
            context.problem("a share is some percent, up to 100, with at most two decimals", mend)
            return None
        salt = options.get("salt", "")
        if not isinstance(salt, str) or len(salt) > 200 or not comparison.storable(salt):
            context.problem("salt is a text", "write salt: spring", "salt")
            return None
        return cls(first=first, end=first + share, salt=salt)

    def clause(self) -> ColumnElement[bool]:
        """Over the first 32 bits of SHA-256 of the salt and the contact's number, so it is the same everywhere."""
        said = func.convert_to(func.concat(literal(f"{self.salt}:", Text), contact.c.id), "UTF8")
        digits = func.substr(func.encode(func.sha256(said), "hex"), 1, 8)
        part = func.mod(cast(cast(func.concat("x", digits), BIT(32)), BigInteger), PARTS)
        return and_(part >= self.first, part < self.end)

    def words(self) -> str:
        """`is in a random 10 %`."""
        begin = f" from {self.first / 100:g} % on" if self.first else ""
        salt = f" of the draw {self.salt}" if self.salt else ""
        return f"is in a random {(self.end - self.first) / 100:g} %{begin}{salt}"


def _parts(percent: Any) -> int | None:
    if not is_number(percent) or percent - percent != 0:
        return None
    parts = Decimal(repr(percent)) * (PARTS // 100)
    return int(parts) if parts == parts.to_integral_value() and abs(parts) <= PARTS else None
