"""Sessions on the site: `{session: {source: google, pages: {gte: 5}, within: 30d}}`."""

from typing import Any, ClassVar, Self

from segments.criteria import visits
from segments.criteria.base import Context
from segments.criteria.device import FIELDS as DEVICE
from segments.criteria.geography import FIELDS as PLACE
from segments.criteria.utm import FIELDS as UTM

FIELDS = ("pages", "seconds", "entry_url", "exit_url", "referrer", *UTM, *DEVICE, *PLACE)


class Session(visits.Visited):
    """A session passes every test: its length, pages, campaign, referrer, device, language or place."""

    KEYS: ClassVar[tuple[str, ...]] = ("session",)
    SCHEMA: ClassVar[dict[str, Any]] = visits.schema(FIELDS)

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the mapping under `session`."""
        found = visits.read(value, FIELDS, context, "{session: {pages: {gte: 5}, within: 30d}}")
        return cls(**found) if found is not None else None
