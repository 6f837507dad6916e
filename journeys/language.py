"""The grammar of a journey's YAML: what may stand where. `journeys.loader` reads files into these models.

A step is a mapping with one key that says its kind (`send`, `wait`, …), an optional `id`, and the kind's own keys. It
goes to the next one unless it says otherwise. A new kind is a class here, a line in `STEPS`, and a method of
`journeys.compiler`.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from core.documents import Document, did_you_mean
from core.errors import InvalidInput, Problem
from journeys import timing
from segments import criteria, eventfilter

CHANNELS = ("email", "sms", "voice", "webpush")
CONFIGURED_CHANNELS = ("email",)
"""Those that messages can leave by; a journey that uses another is valid, and cannot be published yet."""

STEPS_LIMIT = 500
DEFAULT_OUTCOME = "completed"

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(?:[-_.][a-z0-9]+)*$", max_length=100)]
"""A name in small letters, digits, dots, dashes and underscores."""
EventName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Outcome = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]


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
    key: Annotated[str, StringConstraints(pattern=r"^event\..+")] | None = Field(
        None, description="The property that tells apart two runs of one contact, such as event.cart_id"
    )
    segment: Words | None = Field(None, description="Enter the members of this segment; `all` is everybody")
    schedule: Annotated[str, _readable(timing.cron)] | None = Field(None, description="When: cron, or @daily")
    zone: Annotated[str, _readable(timing.zone)] | None = Field(None, alias="in", description="Zone of the schedule")
    reenter: Literal["never", "after_exit", "always"] | None = Field(
        None, description="Whether a contact may come again; never by default, after_exit with a schedule"
    )
    cooldown: Annotated[str, _readable(timing.duration)] | None = Field(
        None, description="How long after entering a contact may not enter again"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "Enter":
        if self.event and (self.segment or self.schedule):
            raise _say("a journey is entered by an event or by a segment, not both", "make two journeys")
        if self.schedule and not self.segment:
            raise _say("a schedule needs to know who enters", "add segment: all, or the name of a segment")
        if self.zone and not self.schedule:
            raise _say("in belongs to a schedule", "add schedule: 0 9 * * mon, or take it out")
        if self.zone and timing.zone(self.zone) == "contact":
            raise _say("a schedule runs at one moment for everybody", "write in: Europe/Moscow")
        if self.key and not self.event:
            raise _say("key names a property of the entry event; there is none", "add event: …, or take it out")
        if self.where and not self.event and split_where(self.where)[0]:
            raise _say("where tests an event, but no event is named", "add event: …")
        return self


def _say(message: str, mend: str) -> PydanticCustomError:
    return PydanticCustomError("words", "{message}", {"message": message, "mend": mend})


class Rule(Node):
    """An event that ends the journey."""

    event: EventName
    where: Where | None = None
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
    template: Words
    purpose: Slug = Field("marketing", description="What the contact has to have agreed to")
    priority: Literal["alert", "triggered", "broadcast"] | None = None
    repeat_in_doubt: bool | None = Field(
        None, description="Send again if a crash left it unknown whether it went out; alerts are"
    )


class UntilRule(Node):
    """An event that ends a wait."""

    event: EventName
    where: Where | None = None
    then: "Branch | None" = Field(None, description="Where to go when it came")


class WaitStep(StepNode):
    """Wait for a time, or for an event with that time at most."""

    wait: Annotated[str, _readable(timing.length)] = Field(
        description="4h, until 10:00 on weekdays, in Europe/Moscow; or forever, with until"
    )
    until: Annotated[
        tuple[UntilRule, ...],
        BeforeValidator(lambda value: _tuple(_several(value)), json_schema_input_type=UntilRule | list[UntilRule]),
        Field(max_length=20),
    ] = ()
    then: "Branch | None" = Field(None, description="Where to go when the event came; else the next step")
    precise: bool = Field(False, description="Do not round the end of the wait")

    @model_validator(mode="after")
    def _ends(self) -> "WaitStep":
        if self.wait.strip() == "forever" and not self.until:
            raise _say("nothing ever ends this wait", "add until: {event: …}, or a length of time")
        if self.then is not None and not self.until:
            raise _say("then says where to go when an event came; there is no until", "add until, or use goto")
        return self


class IfStep(StepNode):
    """Go one way if criteria hold for the contact, another way if not."""

    criteria: CriteriaData = Field(alias="if")
    then: "Branch"
    otherwise: "Branch | None" = Field(None, alias="else")


class Case(Node):
    """One branch of choose."""

    when: CriteriaData
    then: "Branch"


class ChooseStep(StepNode):
    """Take the first branch whose criteria hold."""

    choose: Annotated[
        tuple[Case, ...],
        BeforeValidator(_tuple, json_schema_input_type=Annotated[list[Case], Field(min_length=1, max_length=50)]),
        Field(min_length=1, max_length=50),
    ]
    otherwise: "Branch | None" = Field(None, alias="else")


class ArmNode(Node):
    """One variant of a split."""

    weight: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] = 1
    then: "Branch | None" = None


def _weighed(value: Any) -> Any:
    """A bare number is an arm's weight."""
    return {"weight": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


_Arm = Annotated[ArmNode, BeforeValidator(_weighed, json_schema_input_type=ArmNode | float)]


class SplitStep(StepNode):
    """Send contacts down different arms, by weight; the same contact always takes the same arm."""

    split: Annotated[dict[Slug, _Arm], Field(min_length=2, max_length=26)]


_TagList = Annotated[
    tuple[Words, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else _tuple(value), json_schema_input_type=str | list[str]
    ),
]


class Tags(Node):
    """Tags to add and to remove; one or a list."""

    add: _TagList = ()
    remove: _TagList = ()


class Changes(Node):
    """What to write on the contact."""

    attributes: dict[Words, str | int | float | bool | list[str] | None] = Field(
        default_factory=dict, description="Name to value; null removes it"
    )
    tags: Tags = Tags()
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

    update: Changes


class GotoStep(StepNode):
    """Go to the step with this id."""

    goto: Slug


class EndStep(StepNode):
    """The journey is over for this contact."""

    end: Outcome | None = Field(None, description=f"How it ended; {DEFAULT_OUTCOME} if not given")


STEPS: dict[str, type[StepNode]] = {
    "send": SendStep,
    "wait": WaitStep,
    "if": IfStep,
    "choose": ChooseStep,
    "split": SplitStep,
    "update": UpdateStep,
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
    | Annotated[UpdateStep, Tag("step:update")]
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
]
"""The id of a step, or steps that stand right here and go on behind."""


class Journey(Node):
    """One journey, as written."""

    journey: Slug = Field(description="Its name; stays the same from version to version")
    name: Words | None = Field(None, description="What people call it")
    enter: Enter = Enter()
    goal: Rules = ()
    exit: Rules = ()
    steps: Steps

    _document: Document = PrivateAttr(default=Document(None))

    @property
    def document(self) -> Document:
        """The file it was read from, for line and column."""
        return self._document


for _model in (UntilRule, WaitStep, IfStep, Case, ChooseStep, ArmNode, SplitStep, Journey):
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
