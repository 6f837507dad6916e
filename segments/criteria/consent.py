"""Consents: `{contact.consents: sms}`, `{contact.consents: {channel: email, purpose: news}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, exists

from core.schema.contacts import consent, contact
from segments.criteria.base import Context, Leaf, known_keys

DEFAULT_PURPOSE = "marketing"


class Consent(Leaf):
    """The contact agreed to a purpose on a channel, and it still holds."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.consents",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"channel": {"type": "string"}, "purpose": {"type": "string"}},
                "required": ["channel"],
                "additionalProperties": False,
            },
        ]
    }

    channel: str
    purpose: str = DEFAULT_PURPOSE

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a channel (its purpose is marketing), or a channel and a purpose."""
        if isinstance(value, str):
            value = {"channel": value}
        if not known_keys(value, ("channel", "purpose"), "channel", context):
            return None
        purpose = value.get("purpose", DEFAULT_PURPOSE)
        if not isinstance(purpose, str) or not purpose:
            context.problem("purpose is not a name", "write purpose: marketing", "purpose")
            return None
        return cls(channel=value["channel"], purpose=purpose)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over consents that are granted."""
        return (
            exists()
            .where(
                consent.c.contact_id == contact.c.id,
                consent.c.channel == self.channel,
                consent.c.purpose == self.purpose,
                consent.c.granted,
            )
            .correlate(contact)
        )

    def words(self) -> str:
        """`agreed to marketing by sms`."""
        return f"agreed to {self.purpose} by {self.channel}"
