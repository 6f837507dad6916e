"""The grammar of a journey's YAML: what may stand where. `journeys.loader` reads files into these models.

A step is a mapping with one key that says its kind (`send`, `wait`, …), an optional `id`, and the kind's own keys. It
goes to the next one unless it says otherwise. A new kind is a class here, a line in `STEPS`, and a method of
`journeys.compiler`.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from core import documents
from core.documents import Document, did_you_mean
from core.errors import InvalidInput, Problem
from journeys import expressions, timing
from segments import criteria, eventfilter

CHANNELS = ("email", "sms", "voice", "webpush")
CONFIGURED_CHANNELS = ("email",)
"""Those that messages can leave by; a journey that uses another is valid, and cannot be published yet."""

STEPS_LIMIT = 500
DEFAULT_OUTCOME = "completed"


class _Called:
    """Says in the JSON Schema what people call a type that has no model: editors ignore it, the reference prints it."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core) | {"$comment": self.words}


Slug = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]+(?:[-_.][a-z0-9]+)*$", max_length=100), _Called("name in small letters")
]
"""A name in small letters, digits, dots, dashes and underscores."""
EventName = Annotated[str, StringConstraints(min_length=1, max_length=200), _Called("name of an event")]
Outcome = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Priority = Literal["alert", "triggered", "broadcast"]


def _refuse(error: timing.Unreadable) -> PydanticCustomError:
    return PydanticCustomError("words", "{message}", {"message": str(error), "mend": error.mend})


def _refuse_all(problems: "list[Problem] | tuple[Problem, ...]") -> PydanticCustomError:
    return PydanticCustomError("problems", "several", {"problems": tuple(problems)})


def _readable(read: Callable[[str], Any]) -> AfterValidator:
    """A validator that keeps the text and makes sure that `read` understands it."""

    def check(text: str) -> str:
        try:
            read(text)
        except timing.Unreadable as error:
            raise _refuse(error) from None
        return text

    return AfterValidator(check)


def _say(message: str, mend: str) -> PydanticCustomError:
    return PydanticCustomError("words", "{message}", {"message": message, "mend": mend})


def _check_template(text: str) -> str:
    problem = expressions.problem_of(text)
    if problem is not None:
        raise _say(*problem)
    return text


def _check_texts(data: Any) -> Any:
    for text in expressions.texts(data):
        _check_template(text)
    return data


_templated = AfterValidator(_check_template)
Duration = Annotated[str, _readable(timing.duration), _Called("duration, such as 4h")]
ClockTime = Annotated[str, _readable(timing.clock), _Called("time of day, such as 10:00")]
_Attribute = Annotated[
    str, StringConstraints(pattern=r"^contact\.[^.]+$"), _Called("attribute, such as contact.birthday")
]
_Property = Annotated[str, StringConstraints(pattern=r"^event\..+"), _Called("property, such as event.total")]
ClockSpan = Annotated[str, _readable(timing.span), _Called("hours, such as 22:00-08:00")]
Zone = Annotated[str, _readable(timing.zone), _Called("time zone, such as Europe/Moscow")]


def _check_criteria(data: dict[str, Any]) -> dict[str, Any]:
    try:
        criteria.parse(data)
    except InvalidInput as error:
        raise _refuse_all(error.problems) from None
    return data


def _check_where(data: dict[str, Any]) -> dict[str, Any]:
    problems: list[Problem] = []
    eventfilter.parse(data, (), problems, correlated=True)
    if problems:
        raise _refuse_all(problems)
    return data


def _check_answer(data: dict[str, Any]) -> dict[str, Any]:
    problems: list[Problem] = []
    strange = [key for key in data if key != "status" and not re.fullmatch(r"answer(?:\.[^.]+)*", key)]
    for key in strange:
        place = documents.pointer((key,))
        problems.append(Problem(f"{key} is no part of an answer", "write status, or answer.score", path=place))
    eventfilter.parse({f"{eventfilter.PREFIX}{key}": test for key, test in data.items()}, (), problems)
    if problems:
        raise _refuse_all(problems)
    return data


def _check_entry_where(data: dict[str, Any]) -> dict[str, Any]:
    about_event, about_contact = split_where(data)
    problems: list[Problem] = []
    if about_event:
        eventfilter.parse(about_event, (), problems)
    if about_contact or not data:
        try:
            criteria.parse(about_contact)
        except InvalidInput as error:
            problems.extend(error.problems)
    if problems:
        raise _refuse_all(problems)
    return data


def split_where(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tests of an entry's `where`: those on the event, and those on the contact."""
    about_event = {key: test for key, test in data.items() if key.startswith(eventfilter.PREFIX)}
    return about_event, {key: test for key, test in data.items() if key not in about_event}


_DEFINED = "kaskad:defined"  # stands in the models' schemas for definitions that `json_schema` brings along

CriteriaData = Annotated[dict[str, Any], AfterValidator(_check_criteria), WithJsonSchema({_DEFINED: ["Criteria"]})]
Where = Annotated[dict[str, Any], AfterValidator(_check_where), WithJsonSchema({_DEFINED: ["Where"]})]
EntryWhere = Annotated[
    dict[str, Any],
    AfterValidator(_check_entry_where),
    WithJsonSchema({_DEFINED: ["Where", "Criteria"]}),
]


class Node(BaseModel):
    """A mapping in the YAML: keys that it does not know are refused, and types are not bent to fit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False)


def _several(value: Any) -> Any:
    """A lone mapping is a list of one."""
    return [value] if isinstance(value, dict) else value


def _tuple(value: Any) -> Any:
    """Strict models want tuples, YAML gives lists."""
    return tuple(value) if isinstance(value, list) else value


# --- how it begins and ends


class Enter(Node):
    """Who comes in, and when. Entering by hand and by the API is possible whatever stands here."""

    event: EventName | None = Field(None, description="Enter when this event comes")
    where: EntryWhere | None = Field(None, description="Tests on the event (event.…) and on the contact (contact.…)")
    key: _Property | None = Field(
        None, description="The property that tells apart two runs of one contact, such as event.cart_id"
    )
    segment: Words | None = Field(None, description="Enter the members of this segment; `all` is everybody")
    on: Literal["entered", "left", "in"] | None = Field(
        None, description="With a segment: who comes into it, who leaves it, or who is in it now or later"
    )
    date: _Attribute | None = Field(
        None, description="Enter when this day of the contact comes, such as contact.birthday"
    )
    minus: Duration | None = Field(None, description="So long before the date")
    plus: Duration | None = Field(None, description="So long after the date")
    at: ClockTime | None = Field(None, description="At this time of the day; 10:00 if the attribute is a day")
    yearly: bool = Field(False, description="Every anniversary of the date")
    schedule: Annotated[str, _readable(timing.schedule), _Called("schedule")] | None = Field(
        None, description="When: cron, @daily, or a recurrence rule such as FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9"
    )
    zone: Zone | None = Field(None, alias="in", description="Zone of the schedule or the date")
    reenter: Literal["never", "after_exit", "always"] | None = Field(
        None,
        description="Whether a contact may come again; never by default, after_exit with a schedule or a yearly date",
    )
    cooldown: Duration | None = Field(None, description="How long after entering a contact may not enter again")

    @model_validator(mode="after")
    def _one_way(self) -> "Enter":
        if bool(self.event) + bool(self.segment) + bool(self.date) > 1:
            raise _say("a journey is entered by an event, a segment or a date, not by several", "make two journeys")
        if self.on and (not self.segment or self.segment == "all" or self.schedule):
            raise _say("on tells how contacts come to a segment", "write segment: NAME, without a schedule")
        if (self.minus or self.plus or self.at or self.yearly) and not self.date:
            raise _say("minus, plus, at and yearly belong to a date", "add date: contact.birthday")
        if self.minus and self.plus:
            raise _say("minus and plus at once", "write one of them, such as minus: 3d")
        if self.schedule and not self.segment:
            raise _say("a schedule needs to know who enters", "add segment: all, or the name of a segment")
        if self.zone and not self.schedule and not self.date:
            raise _say("in belongs to a schedule or a date", "add schedule: 0 9 * * mon, or take it out")
        if self.zone and self.schedule and timing.zone(self.zone) == "contact":
            raise _say("a schedule runs at one moment for everybody", "write in: Europe/Moscow")
        if self.key and not self.event:
            raise _say("key names a property of the entry event; there is none", "add event: …, or take it out")
        if self.where and not self.event and split_where(self.where)[0]:
            raise _say("where tests an event, but no event is named", "add event: …")
        return self


class Rule(Node):
    """An event that ends the journey."""

    event: EventName = Field(description="The event")
    where: Where | None = Field(None, description="Tests on the event")
    outcome: Outcome | None = Field(None, description="How the journey ended; goal or exit if not given")


Rules = Annotated[
    tuple[Rule, ...],
    BeforeValidator(lambda value: _tuple(_several(value)), json_schema_input_type=Rule | list[Rule]),
    Field(max_length=20),
]


# --- steps


class StepNode(Node):
    """What all steps have."""

    id: Slug | None = Field(None, description="A name to go to, and to keep contacts in place when versions change")


class SendStep(StepNode):
    """Send a message."""

    send: Literal[CHANNELS] = Field(description="The channel")  # type: ignore[valid-type]
    template: Words = Field(description="The name of the template")
    purpose: Slug = Field("marketing", description="What the contact has to have agreed to")
    priority: Priority | None = Field(None, description="Which rules hold for it; the journey's if not given")
    if_overdue: Literal["send", "skip"] = Field(
        "send", description="What becomes of it when a pause held it up for more than an hour"
    )
    repeat_in_doubt: bool | None = Field(
        None, description="Send again if a crash left it unknown whether it went out; alerts are"
    )


class UntilRule(Node):
    """What ends a wait: an event, or criteria that hold for the contact."""

    event: EventName | None = Field(None, description="The event; or write when")
    where: Where | None = Field(None, description="Tests on the event")
    when: CriteriaData | None = Field(None, description="Criteria; looked at on events and every quarter of an hour")
    then: "Branch | None" = Field(None, description="Where to go when it came")

    @model_validator(mode="after")
    def _one_way(self) -> "UntilRule":
        if (self.event is None) == (self.when is None):
            raise _say("until names an event, or criteria under when", "write until: {event: order.paid}")
        if self.where is not None and self.event is None:
            raise _say("where tests an event; there is none", "add event: …, or put the criteria under when")
        return self


class DateNode(Node):
    """A day that an attribute of the contact names."""

    date: _Attribute = Field(description="The attribute, such as contact.contract_ends")
    minus: Duration | None = Field(None, description="So long before")
    plus: Duration | None = Field(None, description="So long after")
    at: ClockTime | None = Field(None, description="At this time of the day; 10:00 if the attribute is a day")
    zone: Zone | None = Field(None, alias="in", description="Whose clock; the contact's if not given")
    yearly: bool = Field(False, description="The next anniversary, as for birthdays")

    @model_validator(mode="after")
    def _one_offset(self) -> "DateNode":
        if self.minus and self.plus:
            raise _say("minus and plus at once", "write one of them, such as minus: 3d")
        return self


class WindowNode(Node):
    """Hours of the week."""

    hours: ClockSpan | None = Field(None, description="10:00-20:00; may span midnight; the whole day if not given")
    days: Annotated[str, _readable(timing.weekdays), _Called("days of the week")] | None = Field(
        None, description="weekdays, Monday and Friday …"
    )
    holidays: Annotated[str, _readable(timing.holidays), _Called("country")] | None = Field(
        None, description="A country, or a part of one such as DE-BY, whose public holidays are left out"
    )
    zone: Zone | None = Field(None, alias="in", description="Whose clock; the contact's if not given")

    @model_validator(mode="after")
    def _something(self) -> "WindowNode":
        if not (self.hours or self.days or self.holidays):
            raise _say("this window is always open", "add hours: 10:00-20:00, days: weekdays, or holidays: RU")
        return self


def _wait_kind(value: Any) -> str:
    if isinstance(value, DateNode) or (isinstance(value, dict) and "date" in value):
        return "wait:date"
    return "wait:window" if isinstance(value, dict | WindowNode) else "wait:text"


class WaitStep(StepNode):
    """Wait for a time, or for an event with that time at most."""

    wait: Annotated[
        Annotated[str, _readable(timing.length), _Called("time, as text"), Tag("wait:text")]
        | Annotated[DateNode, Tag("wait:date")]
        | Annotated[WindowNode, Tag("wait:window")],
        Discriminator(_wait_kind),
    ] = Field(
        description="4h, until 10:00 on weekdays, in Europe/Moscow; forever, with until; {date: contact.birthday}; "
        "{hours: 10:00-20:00, days: weekdays}"
    )
    until: Annotated[
        tuple[UntilRule, ...],
        BeforeValidator(lambda value: _tuple(_several(value)), json_schema_input_type=UntilRule | list[UntilRule]),
        Field(max_length=20),
    ] = Field((), description="What ends the wait early; one or a list")
    then: "Branch | None" = Field(None, description="Where to go when the event came; else the next step")
    missing: "Branch | None" = Field(
        None, description="Where to go when the contact has no such date; else on, at once"
    )
    precise: bool = Field(False, description="Do not round the end of the wait")

    @model_validator(mode="after")
    def _ends(self) -> "WaitStep":
        if isinstance(self.wait, str) and self.wait.strip() == "forever" and not self.until:
            raise _say("nothing ever ends this wait", "add until: {event: …}, or a length of time")
        if self.missing is not None and not isinstance(self.wait, DateNode):
            raise _say("missing belongs to a wait for a date", "write wait: {date: contact.birthday}, or take it out")
        timed = isinstance(self.wait, WindowNode) or (isinstance(self.wait, str) and self.wait.startswith("until"))
        if timed and any(rule.when for rule in self.until):
            raise _say("criteria end a wait of a length, not one for a time of day", "write wait: 1d, or forever")
        if self.then is not None and not self.until:
            raise _say("then says where to go when an event came; there is no until", "add until, or use goto")
        return self


class IfStep(StepNode):
    """Go one way if criteria hold for the contact, another way if not."""

    criteria: CriteriaData = Field(alias="if", description="Criteria on the contact")
    then: "Branch" = Field(description="Where to go if they hold")
    otherwise: "Branch | None" = Field(None, alias="else", description="Where to go if not; else the next step")


class Case(Node):
    """One branch of choose."""

    when: CriteriaData = Field(description="Criteria on the contact")
    then: "Branch" = Field(description="Where to go if they hold")


class ChooseStep(StepNode):
    """Take the first branch whose criteria hold."""

    choose: Annotated[
        tuple[Case, ...],
        BeforeValidator(_tuple, json_schema_input_type=Annotated[list[Case], Field(min_length=1, max_length=50)]),
        Field(min_length=1, max_length=50),
    ] = Field(description="The branches, in the order they are tried")
    otherwise: "Branch | None" = Field(None, alias="else", description="Where to go if not; else the next step")


class ArmNode(Node):
    """One variant of a split."""

    weight: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] = Field(
        1, description="Its share of the contacts, against the other arms"
    )
    then: "Branch | None" = Field(None, description="Where to go; the next step if not given")


def _weighed(value: Any) -> Any:
    """A bare number is an arm's weight."""
    return {"weight": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


_Arm = Annotated[ArmNode, BeforeValidator(_weighed, json_schema_input_type=ArmNode | float)]


class WinnerNode(Node):
    """When the best arm takes everybody from then on."""

    metric: Literal["opened", "clicked", "goal"] = Field(description="What is counted for each arm")
    sample: Annotated[int, Field(ge=10, le=10_000_000)] = Field(100, description="Contacts that each arm has to have")
    confidence: Annotated[float, Field(ge=50, lt=100, strict=False)] = Field(95, description="Percent")
    deadline: Duration | None = Field(None, description="After that, the arm that is ahead wins")


class SplitStep(StepNode):
    """Send contacts down different arms, by weight; the same contact always takes the same arm."""

    split: Annotated[dict[Slug, _Arm], Field(min_length=2, max_length=26)] = Field(
        description="The arms by name: a weight, or more"
    )
    holdout: Annotated[float, Field(gt=0, lt=100, strict=False)] | None = Field(
        None, description="Percent of contacts for whom the journey ends here, to compare with"
    )
    winner: WinnerNode | None = Field(None, description="Let the best arm take everybody who comes later")

    @model_validator(mode="after")
    def _one_holdout(self) -> "SplitStep":
        if self.holdout is not None and "holdout" in self.split:
            raise _say("an arm is called holdout, and there is a holdout", "rename the arm, or take the key out")
        return self


class ParallelStep(StepNode):
    """Go several ways at the same time, and on when they have met."""

    parallel: Annotated[dict[Slug, "Steps"], Field(min_length=2, max_length=10)] = Field(
        description="The branches by name"
    )
    join: Literal["all", "first"] = Field("all", description="Go on when all have come, or give up the others")


_TagList = Annotated[
    tuple[Words, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else _tuple(value), json_schema_input_type=str | list[str]
    ),
]


class Tags(Node):
    """Tags to add and to remove; one or a list."""

    add: _TagList = Field((), description="Tags to add")
    remove: _TagList = Field((), description="Tags to take off")


class Changes(Node):
    """What to write on the contact."""

    attributes: dict[Words, str | int | float | bool | list[str] | None] = Field(
        default_factory=dict, description="Name to value; null removes it"
    )
    tags: Tags = Field(Tags(), description="Tags to add and to remove")
    consents: dict[Slug, bool | dict[Slug, bool]] = Field(
        default_factory=dict, description="Channel to true or false (for marketing), or to purposes"
    )

    @model_validator(mode="after")
    def _something(self) -> "Changes":
        if not (self.attributes or self.tags.add or self.tags.remove or self.consents):
            raise _say("nothing to update", "add attributes, tags or consents")
        return self


class UpdateStep(StepNode):
    """Write attributes, tags and consents on the contact."""

    update: Changes = Field(description="What to write")


def _added(value: Any) -> Any:
    """A lone tag, or a list of them, is to be added."""
    return {"add": value} if isinstance(value, str | list) else value


class TagStep(StepNode):
    """Add tags to the contact, or remove some."""

    tag: Annotated[Tags, BeforeValidator(_added, json_schema_input_type=Tags | str | list[str])] = Field(
        description="A tag or a list, to add; or what to add and what to remove"
    )

    @model_validator(mode="after")
    def _something(self) -> "TagStep":
        if not (self.tag.add or self.tag.remove):
            raise _say("no tag is named", "write tag: vip, or tag: {remove: vip}")
        return self


class ConsentStep(StepNode):
    """Write down that the contact agreed, or refused."""

    consent: Annotated[dict[Slug, bool | dict[Slug, bool]], Field(min_length=1)] = Field(
        description="Channel to true or false (for marketing), or to purposes"
    )


class ScoreStep(StepNode):
    """Add to a number on the contact, or take from it: once for each visit."""

    score: Annotated[
        dict[Words, Annotated[float, Field(ge=-1e12, le=1e12, strict=False)]], Field(min_length=1, max_length=20)
    ] = Field(description="Attribute to what is added; a missing attribute counts as 0")


class DeleteStep(StepNode):
    """Erase the contact with everything that is known of it; the journey ends."""

    delete: Literal["contact"] = Field(description="What is erased")
    outcome: Outcome = Field("deleted", description="How the journey ended")


_Addresses = Annotated[
    tuple[Words, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else _tuple(value), json_schema_input_type=str | list[str]
    ),
    Field(min_length=1, max_length=10),
]
_Template = Annotated[str, StringConstraints(min_length=1, max_length=20_000), _templated]


class NotifyStep(StepNode):
    """Write to the staff, as an alert."""

    notify: Literal["email", "sms", "webhook"] = Field(description="How they are written to")
    to: _Addresses = Field(description="Addresses, phone numbers or https addresses; one or a list")
    subject: Annotated[str, StringConstraints(min_length=1, max_length=500), _templated] | None = Field(
        None, description="Of an email; may use {{ contact.… }} and {{ event.… }}"
    )
    text: _Template = Field(description="May use {{ contact.… }} and {{ event.… }}")

    @model_validator(mode="after")
    def _fits(self) -> "NotifyStep":
        if self.notify == "email" and self.subject is None:
            raise _say("subject is missing", "add subject: …")
        for address in self.to:
            if not _TARGETS[self.notify].fullmatch(address):
                raise _say(f"{address} cannot be written to by {self.notify}", _TARGET_MENDS[self.notify])
        return self


_TARGETS = {
    "email": re.compile(r"[^\s@<>\"(),:;\\[\]]{1,64}@[^\s@<>\"(),:;\\[\]]{1,253}"),
    "sms": re.compile(r"\+[1-9][0-9]{6,14}"),
    "webhook": re.compile(r"https?://[^\s/?#]+[^\s]*"),
}
_TARGET_MENDS = {
    "email": "write an address like sales@example.com",
    "sms": "write it with its country, like +79161234567",
    "webhook": "write an address like https://example.com/hook",
}


class AnswerCase(Node):
    """A branch of a call: tests on status and on the answer."""

    when: Annotated[dict[str, Any], Field(min_length=1), AfterValidator(_check_answer)] = Field(
        description="Such as {status: 404} or {answer.score: {gte: 50}}"
    )
    then: "Branch" = Field(description="Where to go if they hold")


class CallStep(StepNode):
    """Ask another program over HTTP, and go on by what it answers."""

    call: Annotated[
        str, StringConstraints(pattern=r"^https?://[^\s/?#{}]+(?:[/?#]\S*(?: \S+)*)?$", max_length=2000), _templated
    ] = Field(description="The address; behind the host it may use {{ contact.… }} and {{ event.… }}")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field("POST", description="The HTTP method")
    headers: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")],
        Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]*$", max_length=2000), _templated],
    ] = Field(default_factory=dict, description="HTTP headers by name; their texts are templates")
    body: Annotated[Any, AfterValidator(_check_texts)] = Field(None, description="JSON; its texts are templates")
    timeout: Duration | None = Field(None, description="How long an answer may take; 10s, at most 60s")
    retry: Duration | None = Field(None, description="How long transient failures are tried again; 1h, at most 7d")
    save: dict[
        Words, Annotated[str, StringConstraints(pattern=r"^answer(?:\.[^.]+)*$"), _Called("path into the answer")]
    ] = Field(default_factory=dict, description="Attribute to a path into the answer, such as answer.score")
    answers: Annotated[
        tuple[AnswerCase, ...],
        BeforeValidator(lambda value: _tuple(_several(value)), json_schema_input_type=AnswerCase | list[AnswerCase]),
        Field(max_length=20),
    ] = Field((), description="Branches by the answer: the first that holds")
    failed: "Branch | None" = Field(None, description="Where to go when it failed; else the next step")

    @model_validator(mode="after")
    def _bounds(self) -> "CallStep":
        if self.timeout and timing.duration(self.timeout).total_seconds() > 60:
            raise _say("an answer may take 60 seconds at most", "write timeout: 30s")
        if self.retry and timing.duration(self.retry).total_seconds() > 7 * 86_400:
            raise _say("a call is tried again for a week at most", "write retry: 1d")
        if self.body is not None and self.method in {"GET", "DELETE"}:
            raise _say(f"a {self.method} carries no body", "write method: POST, or take the body out")
        return self


class EnrollStep(StepNode):
    """Let the contact into another journey, and wait for its end or not."""

    enroll: Slug = Field(description="The other journey")
    key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="The key of the run in the other journey"
    )
    awaited: bool | Annotated[str, _readable(timing.duration), _Called("duration, such as 30d")] = Field(
        False, alias="await", description="Wait until the other journey has ended for the contact; or so long at most"
    )
    outcomes: dict[Outcome, "Branch"] = Field(
        default_factory=dict, description="Where to go by the other journey's outcome; not_entered if it let nobody in"
    )
    late: "Branch | None" = Field(None, description="Where to go when the time is over")

    @model_validator(mode="after")
    def _waits(self) -> "EnrollStep":
        if (self.outcomes or self.late is not None) and not self.awaited:
            raise _say("outcomes are known once the other journey has ended", "add await: true")
        if self.late is not None and not isinstance(self.awaited, str):
            raise _say("late needs a time", "write await: 30d")
        return self


class AskStep(StepNode):
    """Ask the contact, and go on by the answer."""

    ask: Literal["link", "form", "reply", "keypad"] = Field(description="How the answer is given")
    of: Words | None = Field(None, description="The id of the sending step that asks; or the name of the form")
    answers: Annotated[dict[Words, "Branch"], Field(min_length=1, max_length=20)] = Field(
        description="Address of the link, value, word or key to where it leads"
    )
    within: Duration = Field(description="How long to wait for the answer")
    otherwise: "Branch | None" = Field(None, alias="else", description="Where to go without an answer")

    @model_validator(mode="after")
    def _fits(self) -> "AskStep":
        if self.ask == "form" and self.of is None:
            raise _say("which form?", "add of: the form's name")
        wrong = [key for key in self.answers if self.ask == "keypad" and not re.fullmatch(r"[0-9*#]", key)]
        if wrong:
            raise _say(f"{wrong[0]} is not a key of a telephone", 'write a digit in quotes, like "1"')
        return self


class ShowStep(StepNode):
    """Put content into a place of the site for this contact."""

    show: Slug = Field(description="The place")
    template: Words = Field(description="The name of the template")


class HideStep(StepNode):
    """Take away what is shown in a place of the site."""

    hide: Slug = Field(description="The place")


class GotoStep(StepNode):
    """Go to the step with this id."""

    goto: Slug = Field(description="The id of the step")


class EndStep(StepNode):
    """The journey is over for this contact; a bare `- end` will do."""

    end: Outcome | None = Field(None, description=f"How it ended; {DEFAULT_OUTCOME} if not given")


STEPS: dict[str, type[StepNode]] = {
    "send": SendStep,
    "wait": WaitStep,
    "if": IfStep,
    "choose": ChooseStep,
    "split": SplitStep,
    "parallel": ParallelStep,
    "update": UpdateStep,
    "tag": TagStep,
    "consent": ConsentStep,
    "score": ScoreStep,
    "notify": NotifyStep,
    "call": CallStep,
    "enroll": EnrollStep,
    "ask": AskStep,
    "show": ShowStep,
    "hide": HideStep,
    "delete": DeleteStep,
    "goto": GotoStep,
    "end": EndStep,
}


def _kind(value: Any) -> str:
    if value == "end" or isinstance(value, EndStep):
        return "step:end"
    if isinstance(value, StepNode):
        return next(f"step:{kind}" for kind, model in STEPS.items() if isinstance(value, model))
    return f"step:{_kinds(value)[0]}"


def _kinds(value: Any) -> list[str]:
    return [kind for kind in STEPS if isinstance(value, dict) and kind in value]


def _one_kind(value: Any) -> Any:
    """Before the union chooses: refuse, in words, what is not one step."""
    kinds = _kinds(value)
    if value == "end" or isinstance(value, StepNode) or len(kinds) == 1:
        return value
    raise _unclear(value, kinds)


def _unclear(value: Any, kinds: list[str]) -> PydanticCustomError:
    if len(kinds) > 1:
        message = f"this step has two kinds: {' and '.join(kinds)}"
        return _say(message, "make it two steps, each with its own dash")
    if not isinstance(value, dict):
        known = ", ".join(STEPS)
        mend = did_you_mean(value, tuple(STEPS)) if isinstance(value, str) else f"write a mapping with one of: {known}"
        return _say("a step is expected here", mend)
    words = [str(key) for key in value if key not in {"id", "then", "else", "template", "until"}]
    for word in words:
        mend = did_you_mean(word, tuple(STEPS))
        if mend.startswith("did"):
            return _say(f"there is no step {word}", mend)
    named = f"there is no step {words[0]}" if words else "this step does not say what it does"
    return _say(named, "steps are: " + ", ".join(STEPS))


def _bare_end(value: Any) -> Any:
    return {"end": None} if value == "end" else value


Step = Annotated[
    Annotated[SendStep, Tag("step:send")]
    | Annotated[WaitStep, Tag("step:wait")]
    | Annotated[IfStep, Tag("step:if")]
    | Annotated[ChooseStep, Tag("step:choose")]
    | Annotated[SplitStep, Tag("step:split")]
    | Annotated[ParallelStep, Tag("step:parallel")]
    | Annotated[UpdateStep, Tag("step:update")]
    | Annotated[TagStep, Tag("step:tag")]
    | Annotated[ConsentStep, Tag("step:consent")]
    | Annotated[ScoreStep, Tag("step:score")]
    | Annotated[NotifyStep, Tag("step:notify")]
    | Annotated[CallStep, Tag("step:call")]
    | Annotated[EnrollStep, Tag("step:enroll")]
    | Annotated[AskStep, Tag("step:ask")]
    | Annotated[ShowStep, Tag("step:show")]
    | Annotated[HideStep, Tag("step:hide")]
    | Annotated[DeleteStep, Tag("step:delete")]
    | Annotated[GotoStep, Tag("step:goto")]
    | Annotated[
        EndStep,
        BeforeValidator(_bare_end, json_schema_input_type=EndStep | Literal["end"]),
        Tag("step:end"),
    ],
    Discriminator(_kind),
    BeforeValidator(_one_kind),
]
Steps = Annotated[
    tuple[Step, ...],
    BeforeValidator(_tuple, json_schema_input_type=Annotated[list[Step], Field(min_length=1, max_length=200)]),
    Field(min_length=1, max_length=200),
    _Called("steps"),
]


def _branch_kind(value: Any) -> str:
    if isinstance(value, str):
        return "branch:target"
    return "branch:steps"


def _target_or_steps(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        return value
    raise _say("where to go is expected here", "write the id of a step, or a list of steps")


Branch = Annotated[
    Annotated[Slug, Tag("branch:target")] | Annotated[Steps, Tag("branch:steps")],
    Discriminator(_branch_kind),
    BeforeValidator(_target_or_steps),
    _Called("id of a step, or steps"),
]
"""The id of a step, or steps that stand right here and go on behind."""


class LimitsNode(Node):
    """How much is too much."""

    messages: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Messages of a channel that a contact gets within the time, from all journeys together"
    )
    within: Duration | None = Field(None, description="That time; a day if not given")
    per_minute: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] | None = Field(
        None, description="Messages that this journey sends in a minute"
    )

    @model_validator(mode="after")
    def _something(self) -> "LimitsNode":
        if self.messages is None and self.per_minute is None:
            raise _say("nothing is limited", "add messages: 3 with within: 7d, or per_minute: 600")
        if self.within is not None and self.messages is None:
            raise _say("within what is counted?", "add messages: 3")
        return self


class ConversionNode(Node):
    """The event that the journey is meant to bring about."""

    event: EventName = Field(description="The event")
    where: Where | None = Field(None, description="Tests on the event")
    within: Duration = Field("30d", description="How long after entering it counts")
    value: _Property | None = Field(None, description="The property that says what it was worth, such as event.total")


class Journey(Node):
    """One journey, as written."""

    journey: Slug = Field(description="Its name; stays the same from version to version")
    name: Words | None = Field(None, description="What people call it")
    enter: Enter = Field(Enter(), description="Who comes in, and when; by hand and by the API if not given")
    goal: Rules = Field((), description="Events that end it well; one or a list")
    exit: Rules = Field((), description="Events that end it otherwise; one or a list")
    priority: Priority | None = Field(None, description="Of its messages, where a step says nothing else")
    quiet_hours: ClockSpan | None = Field(None, description="22:00-08:00 by the contact's clock: marketing waits")
    send_window: WindowNode | None = Field(None, description="When messages may leave; others wait for it")
    limits: LimitsNode | None = Field(None, description="How many messages are too many")
    conversion: ConversionNode | None = Field(None, description="The event that the journey is meant to bring about")
    steps: Steps = Field(description="What happens, from top to bottom")

    _document: Document = PrivateAttr(default=Document(None))

    @property
    def document(self) -> Document:
        """The file it was read from, for line and column."""
        return self._document


_MODELS: tuple[type[BaseModel], ...] = (UntilRule, AnswerCase, Case, ArmNode, *STEPS.values(), Journey)
for _model in _MODELS:
    _model.model_rebuild()


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a journey, for editors: completion and checking while one writes."""
    schema = Journey.model_json_schema(by_alias=True, mode="validation", ref_template="#/$defs/{model}")
    schema = dict(_pointed(schema))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Kaskad journey"
    schema["$defs"] = {**schema.get("$defs", {}), **criteria.json_schema()}
    return schema


def _pointed(schema: Any) -> Any:
    """The schema with references where definitions of other packages are meant."""
    if isinstance(schema, list):
        return [_pointed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _pointed(value) for key, value in schema.items() if key != _DEFINED}
    references = [{"$ref": f"#/$defs/{name}"} for name in schema.get(_DEFINED, ())]
    if len(references) > 1:
        return plain | {"anyOf": references}
    return plain | references[0] if references else plain
