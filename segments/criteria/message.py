"""What we sent and what became of it: `{message: {template: welcome, state: opened, within: 7d}}`."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, select

from core.documents import did_you_mean
from core.schema.contacts import contact
from core.schema.messages import MessageState, message, template, template_version
from segments.criteria import counting
from segments.criteria.base import Context, Leaf, Reference, known_keys

_KEYS = ("template", "state", "count", "within")
STATES: dict[str, ColumnElement[bool]] = {
    "accepted": message.c.state >= MessageState.ACCEPTED,
    "delivered": message.c.delivered_at.is_not(None),
    "opened": message.c.opened_at.is_not(None),
    "clicked": message.c.clicked_at.is_not(None),
    "bounced": message.c.state == MessageState.BOUNCED,
    "failed": message.c.state == MessageState.FAILED,
    "skipped": message.c.state == MessageState.SKIPPED,
}
_SAID = {"accepted": "was sent", "opened": "opened", "clicked": "clicked"}


class Message(Leaf):
    """A message made of a template reached a state; `within` counts from when it was made."""

    KEYS: ClassVar[tuple[str, ...]] = ("message",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "template": {"type": "string"},
            "state": {"enum": list(STATES)},
            "count": counting.SCHEMA,
            "within": {"type": "string"},
        },
        "required": ["template"],
        "additionalProperties": False,
    }

    template: str
    state: str = "accepted"
    count: counting.Count = counting.Count()
    within: timedelta | None = None
    path: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the mapping under `message`."""
        if not known_keys(value, _KEYS, "template", context):
            return None
        found: dict[str, Any] = {"template": value["template"], "path": context.under("template").pointer}
        state = value.get("state", "accepted")
        if not isinstance(state, str) or state not in STATES:
            context.problem(f"unknown state {state}", did_you_mean(str(state), tuple(STATES)), "state")
            return None
        if "count" in value:
            found["count"] = counting.read_count(value["count"], context.under("count"))
        if "within" in value:
            found["within"] = counting.read_within(value["within"], context.under("within"))
        return cls(state=state, **found)

    def clause(self) -> ColumnElement[bool]:
        """EXISTS, NOT EXISTS or a count over the ledger."""
        versions = select(template_version.c.id).where(
            template_version.c.template_id == template.c.id, template.c.name == self.template
        )
        return self.count.clause(
            message,
            message.c.contact_id == contact.c.id,
            message.c.template_version_id.in_(versions),
            STATES[self.state],
            *counting.since(message.c.created_at, self.within),
        )

    def words(self) -> str:
        """`clicked welcome within 7 days`."""
        did = _SAID.get(self.state, f"message {self.state}:")
        return f"{did} {self.template}{self.count.words()}{counting.lately(self.within)}"

    def references(self) -> Iterator[Reference]:
        """The template."""
        yield Reference("template", self.template, self.path)
