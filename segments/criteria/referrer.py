"""Where a contact came from: `{referrer: "https://www.google.*"}`, `{referrer: {url: …, which: first}}`."""

from typing import Any, ClassVar, Self

from segments.criteria import counting, visits
from segments.criteria.base import Context

_OPTIONS = {"url", "which", *counting.KEYS}


class Referrer(visits.Visited):
    """A session that began on this page of another site; * in an address stands for anything."""

    KEYS: ClassVar[tuple[str, ...]] = ("referrer",)
    SCHEMA: ClassVar[dict[str, Any]] = {"anyOf": [{"type": "string"}, visits.schema(("url",)), visits.TEST]}

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read an address, a test, or a mapping with `url`."""
        if not isinstance(value, dict) or not _OPTIONS & value.keys():
            value = {"url": value}
        renamed = {"referrer" if name == "url" else name: one for name, one in value.items()}
        found = visits.read(renamed, ("referrer",), context, '{referrer: "https://www.google.*"}')
        return cls(**found) if found is not None else None
