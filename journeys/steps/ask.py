"""`ask`: a question to the contact. It compiles to a wait for the event that is the answer."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core import answers, links
from core.documents import Path
from core.errors import Problem
from core.schema.messages import template, template_version
from journeys.plan import EventFilter, Until, Wait
from journeys.steps.grammar import Branch, Duration, StepNode, Words, refusal
from journeys.steps.kind import Kind
from journeys.steps.known import Known
from journeys.steps.place import Draft, Place


class AskStep(StepNode):
    """Ask the contact, and go on by the answer."""

    ask: Literal["link", "form", "reply", "keypad"] = Field(description="How the answer is given")
    of: Words | None = Field(None, description="The id of the sending step that asks; or the name of the form")
    answers: Annotated[dict[Words, Branch], Field(min_length=1, max_length=20)] = Field(
        description="Address of the link, value, word or key to where it leads"
    )
    within: Duration = Field(description="How long to wait for the answer")
    otherwise: Branch | None = Field(None, alias="else", description="Where to go without an answer")

    @model_validator(mode="after")
    def _fits(self) -> "AskStep":
        if self.ask == "form" and self.of is None:
            raise refusal("which form?", "add of: the form's name")
        if self.ask == "reply":
            said = [answers.plain(key) for key in self.answers]
            if "" in said or len(set(said)) < len(said):
                raise refusal("two answers are one, or one says nothing", "replies are compared without case and signs")
        if self.ask == "link" and len({links.normal(key) for key in self.answers}) < len(self.answers):
            raise refusal("two answers are one link", "let them differ in more than how the same address is written")
        wrong = [key for key in self.answers if self.ask == "keypad" and not re.fullmatch(r"[0-9*#]", key)]
        if wrong:
            raise refusal(f"{wrong[0]} is not a key of a telephone", 'write a digit in quotes, like "1"')
        return self


def _compile(step: AskStep, place: Place) -> Draft:
    name = place.name("ask", step.id)
    ways = [
        (place.subscribe(_answer(place.journey, step, answer)), place.branch(branch, "answers", answer))
        for answer, branch in step.answers.items()
    ]
    otherwise = place.branch(step.otherwise, "else")
    return lambda: Wait(
        id=name,
        seconds=place.seconds(step.within),
        until=tuple(Until(subscription=number, next=place.number(to)) for number, to in ways),
        next=place.number(otherwise),
    )


def _answer(journey: str, step: AskStep, answer: str) -> EventFilter:
    """The event that is this answer."""
    if step.ask == "form":
        return EventFilter(event="form.submitted", where={"form": step.of, "answer": answer})
    event, key = {
        "link": ("message.clicked", "url"),
        "reply": ("message.replied", "answer"),
        "keypad": ("voice.pressed", "key"),
    }[step.ask]
    said = {"link": links.normal, "reply": answers.plain}.get(step.ask, str)(answer)
    asked: dict[str, Any] = {"journey": journey, **({"step": step.of} if step.of else {})}
    if step.ask == "link":
        asked["machine"] = {"exists": False}  # a scanner that follows every link answers nothing
    return EventFilter(event=event, where={**asked, key: said})


async def _check(step: AskStep, known: Known, path: Path) -> list[Problem]:
    """That replies come in, and to us."""
    if step.ask != "reply":
        return []
    if not known.abilities.reads_replies:
        mend = "set KASKAD_INBOUND_ADDRESS (docs/email.md), or ask by a link meanwhile"
        return [known.problem((*path, "ask"), "no mail comes in here, so nobody's reply would be read", mend)]
    asking = known.asking.get(step.of or "")
    if asking in await known.once(_answered_elsewhere):
        message = f"answers to the template {asking} go to its reply_to, so they would not be read"
        return [known.problem((*path, "of"), message, "take reply_to out of the template")]
    return []


async def _answered_elsewhere(connection: AsyncConnection) -> frozenset[str]:
    """Published templates that say where answers go."""
    says = template_version.c.compiled["reply_to"].astext.is_not(None)
    rows = await connection.execute(
        select(template.c.name).join(template_version, template_version.c.id == template.c.version_id).where(says)
    )
    return frozenset(rows.scalars())


KIND = Kind(
    key="ask",
    model=AskStep,
    compile=_compile,
    check=_check,
    goes_on=False,
    unbuilt={
        "form": ("forms on the site cannot ask yet", "ask by a link meanwhile"),
        "keypad": ("the channel voice is not configured yet", "ask by a link meanwhile"),
    },
    element="userTask",
    drawn="an exclusive gateway behind it for the answers, a timer on its border for `else`",
    example="""\
- {id: question, send: email, template: how-was-it}
- ask: link
  of: question
  within: 3d
  answers:
    https://shop.example.com/good: [{tag: happy}]
    https://shop.example.com/bad: [{tag: unhappy}]
  else: [{end: silent}]
""",
)
