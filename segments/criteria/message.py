"""What we sent and what became of it: `{message: {template: welcome, state: opened, within: 7d}}`."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, Text, and_, cast, exists, func, or_, select

from contacts.consents import CHANNELS
from core.schema.events import event
from core.schema.journeys import journey, journey_version
from core.schema.messages import MessageState, message, provider, template, template_version
from segments import eventfilter, sqltests
from segments.criteria import counting, deeds
from segments.criteria.base import Context, Reference, choice_of, name_of, options_of

ANSWERS = {"message.replied": "text", "voice.pressed": "key"}
"""The events that are answers to a message, and the property that says what was answered."""
_CLICKED = "message.clicked"
STATES: dict[str, ColumnElement[bool]] = {
    "accepted": message.c.state >= MessageState.ACCEPTED,
    "delivered": message.c.delivered_at.is_not(None),
    "opened": message.c.opened_at.is_not(None),
    "clicked": message.c.clicked_at.is_not(None),
    "ignored": and_(
        message.c.state.in_((MessageState.ACCEPTED, MessageState.DELIVERED)),
        message.c.opened_at.is_(None),
        message.c.clicked_at.is_(None),
    ),
    "bounced": message.c.state == MessageState.BOUNCED,
    "failed": message.c.state == MessageState.FAILED,
    "skipped": message.c.state == MessageState.SKIPPED,
    "in_doubt": message.c.state == MessageState.IN_DOUBT,
}
_NAME: dict[str, Any] = {"type": "string"}
_STATES = (*STATES, "answered")
_SAID = {"accepted": "was sent", "opened": "opened", "clicked": "clicked", "ignored": "ignored", "answered": "answered"}
_NAMES = ("template", "journey", "step", "channel", "purpose", "provider", "reason")
_KEYS = (*_NAMES, "state", "url", "answer", *counting.KEYS)
STAFF = "staff"


class Message(counting.Counted):
    """A message of a template, journey, step or channel reached a state; `within` counts from when it was made."""

    KEYS: ClassVar[tuple[str, ...]] = ("message",)
    SCHEMA: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    **dict.fromkeys(_NAMES, _NAME),
                    "channel": {"enum": list(CHANNELS)},
                    "state": {"enum": list(_STATES)},
                    "url": {"$ref": "#/$defs/Test"},
                    "answer": {"$ref": "#/$defs/Test"},
                    **counting.SCHEMAS,
                },
                "minProperties": 1,
                "additionalProperties": False,
            },
        ]
    }

    template: str | None = None
    journey: str | None = None
    step: str | None = None
    channel: str | None = None
    purpose: str | None = None
    provider: str | None = None
    reason: str | None = None
    state: str = "accepted"
    url: Any = None
    """A test of the link that was clicked."""
    answer: Any = None
    """A test of the text that was answered."""
    path: str = ""

    @classmethod
    def read(cls, key: str, value: Any, context: Context) -> Self | None:
        """Read the name of a template, or the mapping under `message`."""
        if isinstance(value, str):
            value = {"template": value}
        options = options_of(value, _KEYS, context, "{message: {template: welcome, state: opened}}")
        if options is None:
            return None
        implied = "clicked" if "url" in options else "answered" if "answer" in options else "accepted"
        found: dict[str, Any] = {name: name_of(options, name, context) for name in _NAMES}
        if found["channel"] is not None:
            choice_of(options, "channel", CHANNELS, found["channel"], context)
        found["state"] = choice_of(options, "state", _STATES, implied, context)
        for name, state in (("url", "clicked"), ("answer", "answered")):
            if name in options:
                found[name] = deeds.pattern(options[name]) if name == "url" else options[name]
                context.under(name).tests(found[name])
                if found["state"] != state:
                    context.problem(f"{name} is about messages that were {state}", f"write state: {state}", name)
        if found["step"] is not None and found["journey"] is None:
            context.problem("a step belongs to a journey", "add journey: its name", "step")
        return cls(**found, path=context.pointer, **counting.read_counted(options, context))

    def clause(self) -> ColumnElement[bool]:
        """EXISTS, NOT EXISTS or a count over the ledger."""
        conditions = [message.c.purpose != STAFF, *self._which(), *self.times(message.c.created_at), self._reached()]
        return self.count.clause(message, *conditions)

    def _which(self) -> Iterator[ColumnElement[bool]]:
        if self.template is not None:
            versions = select(template_version.c.id).join(template, template.c.id == template_version.c.template_id)
            yield message.c.template_version_id.in_(versions.where(template.c.name == self.template))
        if self.journey is not None:
            joined = journey_version.join(journey, journey.c.id == journey_version.c.journey_id)
            of_journey = select(journey_version.c.id).select_from(joined).where(journey.c.name == self.journey)
            yield message.c.version_id.in_(of_journey)
        if self.step is not None:
            yield exists().where(
                journey_version.c.id == message.c.version_id,
                step_id(journey_version.c.plan, message.c.step) == self.step,
            )
        if self.provider is not None:
            yield message.c.provider_id.in_(select(provider.c.id).where(provider.c.name == self.provider))
        if self.channel is not None:
            yield message.c.channel == self.channel
        if self.purpose is not None:
            yield message.c.purpose == self.purpose
        if self.reason is not None:
            yield message.c.reason == self.reason

    def _reached(self) -> ColumnElement[bool]:
        if self.url is not None:
            return _heard((_CLICKED,), {"url": self.url})
        if self.answer is not None:
            return or_(*(_heard((name,), {key: self.answer}) for name, key in ANSWERS.items()))
        if self.state == "answered":
            return _heard(tuple(ANSWERS), {})
        return STATES[self.state]

    def is_about(self, journey_name: str, template_name: str, channel: str) -> bool:
        """Whether a message of a simulation, of which no more is known, is one of those meant."""
        unknown = (self.step, self.purpose, self.provider, self.reason, self.url, self.answer)
        return (
            all(one is None for one in unknown)
            and not self.when
            and self.template in {None, template_name}
            and self.journey in {None, journey_name}
            and self.channel in {None, channel}
        )

    def words(self) -> str:
        """`clicked welcome within 7 days`."""
        did = _SAID.get(self.state, f"message {self.state}:")
        named = [f"{name} {getattr(self, name)}" for name in _NAMES[1:] if getattr(self, name) is not None]
        which = " of ".join([*([self.template] if self.template else ["a message"]), *named])
        link = f" by {eventfilter.phrase({'url': self.url})}" if self.url is not None else ""
        said = f" so that {eventfilter.phrase({'text': self.answer})}" if self.answer is not None else ""
        return f"{did} {which}{link}{said}{self.often()}"

    def references(self) -> Iterator[Reference]:
        """The template, the journey and the provider."""
        if self.template is not None:
            yield Reference("template", self.template, f"{self.path}/template")
        if self.journey is not None:
            yield Reference("journey", self.journey, f"{self.path}/journey")
        if self.provider is not None:
            yield Reference("provider", self.provider, f"{self.path}/provider")


def step_id(plan: ColumnElement[Any], number: ColumnElement[Any]) -> ColumnElement[Any]:
    """The id that the step of this number has in a plan."""
    return func.jsonb_extract_path_text(plan, "steps", cast(number, Text), "id", type_=Text)


def _heard(names: tuple[str, ...], where: dict[str, Any]) -> ColumnElement[bool]:
    """That an event of the message's contact names the message and passes tests."""
    same = sqltests.plain(event.c.properties["message"]) == cast(message.c.id, Text)
    return (
        exists()
        .where(event.c.contact_id == message.c.contact_id, *deeds.conditions(names, where), same)
        .correlate(message)
    )
