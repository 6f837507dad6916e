"""Where a contact was: `{geography: {country: RU, city: Kazan}}`, `{geography: {country: [RU, KZ], which: last}}`."""

from typing import Any, ClassVar, Self

from segments.criteria import visits
from segments.criteria.base import Context

FIELDS = ("country", "region", "city", "language")


class Geography(visits.Visited):
    """A session from such a country (ISO 3166), region or city, or in such a language."""

    KEYS: ClassVar[tuple[str, ...]] = ("geography",)
    SCHEMA: ClassVar[dict[str, Any]] = {"anyOf": [{"type": ["string", "array"]}, visits.schema(FIELDS)]}

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a country or several, or the mapping under `geography`."""
        if not isinstance(value, dict):
            value = {"country": value}
        found = visits.read(value, FIELDS, context, "{geography: {country: RU, city: Kazan}}")
        return cls(**found) if found is not None else None
