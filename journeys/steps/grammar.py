"""What the models of the language are made of: names, times, criteria, texts with values in them, and branches."""

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from core.documents import Path
from core.errors import InvalidInput, Problem
from journeys import expressions, timing
from segments import criteria, eventfilter

DEFAULT_OUTCOME = "completed"


class Called:
    """Says in the JSON Schema what people call a type that has no model: editors ignore it, the reference prints it."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core) | {"$comment": self.words}


class Matching:
    """Holds a text to a pattern, and says what is expected where it does not fit."""

    def __init__(self, pattern: str, message: str, mend: str) -> None:
        self.pattern, self.message, self.mend = re.compile(pattern), message, mend

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core) | {"pattern": self.pattern.pattern}

    def _check(self, text: str) -> str:
        if not self.pattern.search(text):
            raise refusal(self.message, self.mend)
        return text


def refusal(message: str, mend: str) -> PydanticCustomError:
    """What a validator raises, to be reported with this mend."""
    return PydanticCustomError("words", "{message}", {"message": message, "mend": mend})


def _refuse_all(problems: "list[Problem] | tuple[Problem, ...]") -> PydanticCustomError:
    return PydanticCustomError("problems", "several", {"problems": tuple(problems)})


def readable(read: Callable[[str], Any]) -> AfterValidator:
    """A validator that keeps the text and makes sure that `read` understands it."""

    def check(text: str) -> str:
        try:
            read(text)
        except timing.Unreadable as error:
            raise refusal(str(error), error.mend) from None
        return text

    return AfterValidator(check)


def several(value: Any) -> Any:
    """A lone mapping is a list of one; strict models want tuples, YAML gives lists."""
    return (value,) if isinstance(value, dict) else as_tuple(value)


def as_tuple(value: Any) -> Any:
    """Strict models want tuples, YAML gives lists."""
    return tuple(value) if isinstance(value, list) else value


# --- texts


def _check_template(text: str) -> str:
    problem = expressions.problem_of(text)
    if problem is not None:
        raise refusal(*problem)
    return text


def _check_texts(data: Any) -> Any:
    for text in expressions.texts(data):
        _check_template(text)
    return data


TEMPLATED = AfterValidator(_check_template)
"""The text may use `{{ contact.… }}` and `{{ event.… }}`."""
TEMPLATED_TEXTS = AfterValidator(_check_texts)
"""So may every text in this data."""

Slug = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]+(?:[-_.][a-z0-9]+)*$", max_length=100), Called("name in small letters")
]
"""A name in small letters, digits, dots, dashes and underscores."""
EventName = Annotated[str, StringConstraints(min_length=1, max_length=200), Called("name of an event")]
Outcome = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]
WordList = Annotated[
    tuple[Words, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else as_tuple(value),
        json_schema_input_type=Words | list[Words],
    ),
]
"""One, or a list."""
Priority = Literal["alert", "triggered", "broadcast"]
Duration = Annotated[str, readable(timing.duration), Called("duration, such as 4h")]
ClockTime = Annotated[str, readable(timing.clock), Called("time of day, such as 10:00")]
ClockSpan = Annotated[str, readable(timing.span), Called("hours, such as 22:00-08:00")]
Zone = Annotated[str, readable(timing.zone), Called("time zone, such as Europe/Moscow")]
DateAttribute = Annotated[
    str,
    Matching(r"^contact\.[^.]+$", "date names an attribute of the contact", "write date: contact.birthday"),
    Called("attribute, such as contact.birthday"),
]


# --- criteria and tests


def _check_criteria(data: dict[str, Any]) -> dict[str, Any]:
    try:
        criteria.parse(data, in_journey=True)
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


def checked(problems_of: Callable[[dict[str, Any]], list[Problem]]) -> AfterValidator:
    """A validator that keeps a mapping in which `problems_of` finds nothing wrong; paths begin at the mapping."""

    def check(data: dict[str, Any]) -> dict[str, Any]:
        problems = problems_of(data)
        if problems:
            raise _refuse_all(problems)
        return data

    return AfterValidator(check)


DEFINED = "kaskad:defined"
"""Stands in the models' schemas for definitions that `language.json_schema` brings along."""

CriteriaData = Annotated[dict[str, Any], AfterValidator(_check_criteria), WithJsonSchema({DEFINED: ["Criteria"]})]
Where = Annotated[dict[str, Any], AfterValidator(_check_where), WithJsonSchema({DEFINED: ["Where"]})]
EntryWhere = Annotated[
    dict[str, Any],
    AfterValidator(_check_entry_where),
    WithJsonSchema({DEFINED: ["Where", "Criteria"]}),
]


# --- mappings, steps and branches


class Node(BaseModel):
    """A mapping in the YAML: keys that it does not know are refused, and types are not bent to fit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False, defer_build=True)


class StepNode(Node):
    """What all steps have. The kind is the key by the name of the class's `Kind` (`journeys.steps.kind`)."""

    id: Slug | None = Field(None, description="A name to go to, and to keep contacts in place when versions change")

    def stands_for(self) -> str | None:
        """The id of another step, if this one only leads there and does nothing."""
        return None

    def criteria(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The criteria on contacts that it names, each with its place in the step; for the check at publishing."""
        yield from ()


class _Registered:
    """A type of which the registry knows more than this file may: it is looked up when the schema is built."""

    def __init__(self, name: Literal["Steps", "Branch"]) -> None:
        self.name = name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from journeys.steps import reading  # noqa: PLC0415 - it knows every step, and every step knows this file

        return handler.generate_schema(reading.registered(self.name))


Steps = Annotated[tuple[StepNode, ...], _Registered("Steps")]
"""Steps one below the other."""
Branch = Annotated[str | tuple[StepNode, ...], _Registered("Branch")]
"""The id of a step, or steps that stand right here and go on behind."""
