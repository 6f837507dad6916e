"""What may be set on a provider of any kind: how fast, how long, and when another one takes over.

Settings that only one kind of provider has belong to its URL.
"""

from datetime import date
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import InvalidInput, Problem


class Options(BaseModel):
    """The options of a provider; all workers keep them together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    give_up_hours: float = Field(24, ge=0.01, le=24 * 14, description="A message that nobody takes fails after this.")
    per_second: float | None = Field(
        None, ge=0.001, le=100_000, description="Messages a second, all workers together; a long SMS counts its parts."
    )
    domain_per_second: float | None = Field(
        None, ge=0.001, le=100_000, description="Letters a second to each recipient domain, all workers together."
    )
    failover_after: float = Field(
        300, ge=0, le=24 * 14 * 3600,
        description="Seconds after which a message that this provider puts off goes to another, if there is one.",
    )  # fmt: skip
    undelivered_after: float | None = Field(
        None, ge=10, le=7 * 24 * 3600,
        description="Seconds after which a message that this provider took, but did not deliver, goes to another one. "
        "It may arrive twice then.",
    )  # fmt: skip
    warm_up: int | None = Field(None, ge=1, le=10_000_000, description="Messages on the first day of a warm-up.")
    warm_up_from: date | None = Field(None, description="That day (UTC); the day it was set, if not given.")
    warm_up_growth: float = Field(1.5, ge=1, le=10, description="Each day as many times more than the day before.")
    warm_up_days: int = Field(30, ge=1, le=365, description="The day after this many has no limit.")

    @classmethod
    def of(cls, given: dict[str, str]) -> Self:
        """Options from words.

        Raises:
            InvalidInput: every value that cannot be.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidInput(*(_problem(given, one["loc"], one["msg"]) for one in error.errors())) from None

    @model_validator(mode="after")
    def _warm_up_is_whole(self) -> Self:
        if self.warm_up is None and self.model_fields_set & {"warm_up_from", "warm_up_growth", "warm_up_days"}:
            raise ValueError("a warm-up needs its first day's number: warm_up=50")
        return self

    def stored(self) -> dict[str, str | float]:
        """Those that were set, as JSON keeps them."""
        return self.model_dump(mode="json", exclude_unset=True)

    def quota(self, day: date) -> int | None:
        """How many messages may be handed over on a day (UTC); None is any number."""
        if self.warm_up is None or self.warm_up_from is None:
            return None
        number = (day - self.warm_up_from).days
        if number >= self.warm_up_days:
            return None
        return int(self.warm_up * self.warm_up_growth ** max(number, 0)) if number >= 0 else 0


def split(url: str) -> tuple[str, dict[str, str]]:
    """A provider's URL without these options, and those that stood in its query."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    common = {name: value for name, value in pairs if name in Options.model_fields}
    if not common:
        return url, {}
    query = urlencode([(name, value) for name, value in pairs if name not in common])
    return urlunsplit(parts._replace(query=query)), common


def _problem(given: dict[str, str], place: tuple[int | str, ...], message: str) -> Problem:
    name = str(place[0]) if place else "warm_up"
    field = Options.model_fields.get(name)
    value = f" {given[name]!r}" if name in given else ""
    return Problem(f"{name} cannot be{value}: {message}", (field.description if field else None) or "")
