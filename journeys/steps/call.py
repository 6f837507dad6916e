"""`call`: another program is asked over HTTP. `engine.calls` performs it."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from core import documents
from core.documents import Path
from core.errors import Problem
from journeys import timing, wording
from journeys.steps.grammar import (
    TEMPLATED,
    TEMPLATED_TEXTS,
    Branch,
    Called,
    Duration,
    Matching,
    Node,
    StepNode,
    Words,
    checked,
    refusal,
    several,
)
from journeys.steps.kind import Data, Effect, Kind, act
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place
from segments import eventfilter

TIMEOUT_SECONDS = 10
RETRY_SECONDS = 3600
FAILED = "failed"
"""The way of those whose call got no answer, or one that says it failed and has no branch of its own."""


def answered(number: int) -> str:
    """The way of those for whom this one of the branches holds, counted from 1."""
    return f"answer:{number}"


def _wrong_answer(data: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    strange = [key for key in data if key != "status" and not re.fullmatch(r"answer(?:\.[^.]+)*", key)]
    for key in strange:
        place = documents.pointer((key,))
        problems.append(Problem(f"{key} is no part of an answer", "write status, or answer.score", path=place))
    eventfilter.parse({f"{eventfilter.PREFIX}{key}": test for key, test in data.items()}, (), problems)
    return problems


class AnswerCase(Node):
    """A branch of a call: tests on status and on the answer."""

    when: Annotated[dict[str, Any], Field(min_length=1), checked(_wrong_answer)] = Field(
        description="Such as {status: 404} or {answer.score: {gte: 50}}"
    )
    then: Branch = Field(description="Where to go if they hold")


_Address = Annotated[
    str,
    Matching(
        r"^https?://[^\s/?#{}]+(?:[/?#]\S*(?: \S+)*)?$",
        "an address is expected here",
        "write https://…, with {{ … }} behind the host only",
    ),
    Field(max_length=2000),
    TEMPLATED,
]
_NO_HEADER = ("this cannot be a header", "use letters, digits and dashes, and no line breaks")
_Header = Annotated[str, Matching(r"^[^\r\n\x00]*$", *_NO_HEADER), Field(max_length=2000), TEMPLATED]
_AnswerPath = Annotated[
    str,
    Matching(r"^answer(?:\.[^.]+)*$", "a path into the answer is expected here", "write answer.score"),
    Called("path into the answer"),
]


class CallStep(StepNode):
    """Ask another program over HTTP, and go on by what it answers."""

    call: _Address = Field(description="The address; behind the host it may use {{ contact.… }} and {{ event.… }}")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field("POST", description="The HTTP method")
    headers: dict[Annotated[str, Matching(r"^[A-Za-z0-9-]{1,100}$", *_NO_HEADER)], _Header] = Field(
        default_factory=dict, description="HTTP headers by name; their texts are templates"
    )
    body: Annotated[Any, TEMPLATED_TEXTS] = Field(None, description="JSON; its texts are templates")
    timeout: Duration | None = Field(None, description="How long an answer may take; 10s, at most 60s")
    retry: Duration | None = Field(None, description="How long transient failures are tried again; 1h, at most 7d")
    save: dict[Words, _AnswerPath] = Field(
        default_factory=dict, description="Attribute to a path into the answer, such as answer.score"
    )
    answers: Annotated[
        tuple[AnswerCase, ...],
        BeforeValidator(several, json_schema_input_type=AnswerCase | list[AnswerCase]),
        Field(max_length=20),
    ] = Field((), description="Branches by the answer: the first that holds")
    failed: Branch | None = Field(None, description="Where to go when it failed; else the next step")

    @model_validator(mode="after")
    def _bounds(self) -> "CallStep":
        if self.timeout and timing.duration(self.timeout).total_seconds() > 60:
            raise refusal("an answer may take 60 seconds at most", "write timeout: 30s")
        if self.retry and timing.duration(self.retry).total_seconds() > 7 * 86_400:
            raise refusal("a call is tried again for a week at most", "write retry: 1d")
        if self.body is not None and self.method in {"GET", "DELETE"}:
            raise refusal(f"a {self.method} carries no body", "write method: POST, or take the body out")
        return self


class CallData(Data):
    """What is written in the plan."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = None
    """JSON whose texts are templates; without it a POST carries the contact's id and the event."""
    timeout_seconds: float = TIMEOUT_SECONDS
    retry_seconds: float = RETRY_SECONDS
    """For so long transient failures are tried again."""
    save: tuple[tuple[str, str], ...] = ()
    """(attribute, path into the answer such as `answer.score`)"""
    answers: tuple[dict[str, Any], ...] = ()
    """Tests on `status` and on `answer.…`, all of which must hold; the ways are called `answer:1` …"""


def _compile(step: CallStep, place: Place) -> Draft:
    retry = timing.duration(step.retry).total_seconds() if step.retry else RETRY_SECONDS
    data = CallData(
        method=step.method,
        url=step.call,
        headers=tuple(step.headers.items()),
        body=step.body,
        timeout_seconds=timing.duration(step.timeout).total_seconds() if step.timeout else TIMEOUT_SECONDS,
        retry_seconds=retry / place.hasten,
        save=tuple(step.save.items()),
        answers=tuple(case.when for case in step.answers),
    )
    name = place.name("call", step.id)
    ways = {
        answered(number): place.branch(case.then, "answers", number - 1, "then")
        for number, case in enumerate(step.answers, 1)
    }
    ways[FAILED] = place.branch(step.failed, "failed")
    return act("call", name, data, place, ways=ways, long=True)


async def _check(step: CallStep, known: Known, path: Path) -> list[Problem]:
    return [one for name in step.save for one in known.wants((*path, "save", name), name)]


def _way(data: CallData, name: str) -> str:
    if name.startswith("answer:"):
        return f"if {wording.as_written(data.answers[int(name.removeprefix('answer:')) - 1])}"
    return name if name == FAILED else "answered"


KIND = Kind(
    key="call",
    model=CallStep,
    compile=_compile,
    check=_check,
    effect=Effect(
        data=CallData,
        does=lambda data: f"{data.method} {data.url}",
        done=lambda data: f"asked {urlsplit(data.url).hostname}",
        way=_way,
    ),
    element="serviceTask",
    drawn="an exclusive gateway behind it for `answers`, an error on its border for `failed`",
    example="""\
- call: https://crm.example.com/contacts/{{ contact.external_id }}/score
  method: POST
  body: {order: "{{ event.order_id }}"}
  save: {score: answer.score}
  answers:
    - {when: {status: 404}, then: [{tag: unknown-to-crm}]}
  failed: [{tag: not-scored}]
""",
)
