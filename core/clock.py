"""The one place that asks the machine for the time."""

from datetime import UTC, datetime
from functools import cache

from core.settings import Settings


def now() -> datetime:
    """The present moment, aware and in UTC."""
    return datetime.now(UTC)


@cache
def installation_zone() -> str:
    """The IANA name of the zone whose calendar counts where a contact's own is not known or not asked about."""
    return Settings().time_zone
