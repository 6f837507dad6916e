"""Consents: `{contact.consents: sms}`, `{contact.consents: {channel: email, purpose: news, state: refused}}`."""

from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, not_

from contacts.consents import CHANNELS
from core.schema.contacts import consent
from segments import facts
from segments.criteria import counting
from segments.criteria.base import Context, Leaf, choice_of, known_keys

DEFAULT_PURPOSE = "marketing"
STATES = ("granted", "refused", "unknown")
_KEYS = ("channel", "purpose", "state", "within", "when")


class Consent(counting.Window, Leaf):
    """The contact agreed to a purpose on a channel and it still holds; or refused it; or was never asked."""

    KEYS: ClassVar[tuple[str, ...]] = ("contact.consents",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"enum": list(CHANNELS)},
            {
                "type": "object",
                "properties": {
                    "channel": {"enum": list(CHANNELS)},
                    "purpose": {"type": "string"},
                    "state": {"enum": list(STATES)},
                    "within": {"type": "string"},
                    "when": counting.WHEN_SCHEMA,
                },
                "required": ["channel"],
                "additionalProperties": False,
            },
        ]
    }

    channel: str
    purpose: str = DEFAULT_PURPOSE
    state: str = "granted"

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read a channel (its purpose is marketing), or a channel, a purpose, and what was said when."""
        if isinstance(value, str):
            value = {"channel": value}
        if not known_keys(value, _KEYS, "channel", context):
            return None
        channel = choice_of(value, "channel", CHANNELS, "", context)
        purpose = value.get("purpose", DEFAULT_PURPOSE)
        if not isinstance(purpose, str) or not 0 < len(purpose) <= 200:
            context.problem("purpose is not a name", "write purpose: marketing", "purpose")
            return None
        state = choice_of(value, "state", STATES, "granted", context)
        window = counting.read_window(value, context)
        if state == "unknown" and window:
            context.problem("nothing was said, so there is no time of it", "leave within and when out", "state")
        return cls(channel=channel, purpose=purpose, state=state, **window)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS over consents, or NOT EXISTS."""
        said = [consent.c.channel == self.channel, consent.c.purpose == self.purpose]
        if self.state == "unknown":
            return not_(facts.some(consent, *said))
        held = consent.c.granted if self.state == "granted" else not_(consent.c.granted)
        return facts.some(consent, *said, held, *self.times(consent.c.changed_at))

    def words(self) -> str:
        """`agreed to marketing by sms`."""
        did = {"granted": "agreed to", "refused": "refused", "unknown": "was never asked about"}[self.state]
        return f"{did} {self.purpose} by {self.channel}{self.lately()}"
