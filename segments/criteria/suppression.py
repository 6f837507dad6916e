"""Addresses that must not be used: `{contact.suppressed: email}`, `{contact.suppressed: {reason: bounced}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, or_

from contacts.suppressions import ADDRESS_KINDS, REASONS
from core.schema.contacts import identity, suppression
from segments import facts
from segments.criteria.base import Context, Leaf, choice_of, options_of

_ANY = "any"


class Suppressed(Leaf):
    """An address of the contact is suppressed: for a channel or any, for a reason or any."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.suppressed",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"enum": [_ANY, *ADDRESS_KINDS]},
            {
                "type": "object",
                "properties": {"channel": {"enum": [_ANY, *ADDRESS_KINDS]}, "reason": {"enum": [_ANY, *REASONS]}},
                "minProperties": 1,
                "additionalProperties": False,
            },
        ]
    }

    channel: str = _ANY
    reason: str = _ANY

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a channel (or `any`), or a channel and a reason."""
        if isinstance(value, str):
            value = {"channel": value}
        options = options_of(value, ("channel", "reason"), context, "{contact.suppressed: email}")
        if options is None:
            return None
        return cls(
            channel=choice_of(options, "channel", (_ANY, *ADDRESS_KINDS), _ANY, context),
            reason=choice_of(options, "reason", (_ANY, *REASONS), _ANY, context),
        )

    def each(self) -> dict[str, list["Suppressed"]]:
        """By channel that this is about: a criterion for every reason there is."""
        channels = ADDRESS_KINDS if self.channel == _ANY else (self.channel,)
        return {one: [Suppressed(channel=one, reason=reason) for reason in REASONS] for one in channels}

    def is_for(self, reason: str | None) -> bool:
        """Whether this is the reason it is about."""
        return reason is not None and self.reason in {_ANY, reason}

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over identities that are suppressed."""
        kinds = ADDRESS_KINDS.items() if self.channel == _ANY else [(self.channel, ADDRESS_KINDS[self.channel])]
        matches = [and_(suppression.c.channel == channel, identity.c.kind == kind) for channel, kind in kinds]
        joined = identity.join(suppression, identity.c.value == suppression.c.address)
        reasons = [] if self.reason == _ANY else [suppression.c.reason == self.reason]
        return facts.some(joined, or_(*matches), *reasons, owner=identity.c.contact_id)

    def words(self) -> str:
        """`must not be written to by email (bounced)`."""
        channel = "" if self.channel == _ANY else f" by {self.channel}"
        return f"must not be written to{channel}{'' if self.reason == _ANY else f' ({self.reason})'}"
