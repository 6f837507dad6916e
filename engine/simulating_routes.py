"""`POST /v1/journeys/simulate`: simulations of bounded size over HTTP."""

import asyncio
import time
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from core.access import require
from core.errors import InvalidInput, Problem
from engine import simulating
from journeys.steps.known import Abilities
from journeys.tally import Result

router = APIRouter(prefix="/v1/journeys", tags=["journeys"])

MOST_CONTACTS = 20_000
MOST_SECONDS = 20.0
_AT_ONCE = asyncio.Semaphore(1)
"""A simulation takes a core; requests for others wait for their turn."""


class SimulateRequest(BaseModel):
    """A journey, who enters, and how people answer."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"journey": "welcome", "segment": "all", "days": 14, "response": "opened=0.3,clicked=0.05@2h"}]
        },
    )

    journey: Annotated[str | None, Field(max_length=100, description="The name of a published journey")] = None
    source: Annotated[str | None, Field(max_length=500_000, description="The YAML of one that is not published")] = None
    segment: Annotated[str | None, Field(max_length=100, description="Who enters; `all` is every contact")] = None
    contact: Annotated[str | None, Field(max_length=300, description="Tell one contact's story instead")] = None
    days: Annotated[int, Field(ge=1, le=simulating.MOST_DAYS)] = 30
    response: Annotated[str, Field(max_length=5000, description="EVENT=SHARE[@DELAY], with commas between")] = ""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    start: Annotated[AwareDatetime | None, Field(description="Now, if not given")] = None
    enter_over_seconds: Annotated[float, Field(ge=0, le=simulating.MOST_DAYS * 86_400)] = 0
    prices: Annotated[dict[str, Annotated[float, Field(ge=0, le=1e6)]], Field(max_length=20)] = {}
    properties: Annotated[dict[str, Any], Field(max_length=200, description="Of the entry event, for a story")] = {}


class Message(BaseModel):
    """A message as the contact would get it."""

    subject: str
    text: str
    problem: str


class Line(BaseModel):
    """One thing that happens to a contact."""

    at: datetime
    step: str
    what: str
    message: Message | None


class SimulateAnswer(BaseModel):
    """What the simulation came to; `story` is told of one contact only."""

    result: Result
    not_let_in: int = Field(description="Of the population, those who do not meet the entry criteria")
    warnings: list[str] = Field(description="What would keep the journey from being published")
    story: list[Line] | None = None


@router.post("/simulate", dependencies=[Depends(require("journeys:read"))], summary="Simulate a journey")
async def simulate_journey(body: SimulateRequest, request: Request) -> SimulateAnswer:
    """Let contacts go through a journey under a virtual clock. Nothing is sent, nothing is written.

    At most 20,000 contacts and 20 seconds; `kaskad journey simulate` has no such bounds.
    """
    if (body.journey is None) == (body.source is None):
        raise InvalidInput(Problem("give either journey or source", "name a journey, or send its YAML"))
    if body.contact is not None and body.segment is not None:
        raise InvalidInput(Problem("give either segment or contact", "leave one of them out"))
    database = request.app.state.database
    async with simulating.read_only(database) as connection:
        plan, warnings = await simulating.plan_of(
            connection, body.journey or "source", body.source, Abilities.of(request.app.state.settings)
        )
    wanted = simulating.Wanted(
        plan,
        segment=body.segment,
        contact=body.contact,
        days=body.days,
        responses=body.response,
        seed=body.seed,
        start=body.start,
        enter_within=timedelta(seconds=body.enter_over_seconds),
        prices=body.prices,
        properties=body.properties,
        most=MOST_CONTACTS,
        warnings=warnings,
    )
    async with _AT_ONCE:
        if wanted.contact is not None:
            story = await simulating.tell(database, request.app.state.settings, wanted)
            return SimulateAnswer.model_validate(
                {
                    "result": story.result,
                    "not_let_in": int(not story.let_in),
                    "warnings": list(warnings),
                    "story": simulating.plain(story)["lines"],
                }
            )
        ready = await simulating.prepare(database, wanted)
        done = await asyncio.to_thread(ready.run, _deadline())
    return SimulateAnswer(result=done.result, not_let_in=done.not_let_in, warnings=list(warnings))


def _deadline() -> Any:
    end = time.monotonic() + MOST_SECONDS

    def check(done: int, total: int) -> None:
        if time.monotonic() > end:
            message = f"{done} of {total} contacts in {MOST_SECONDS:g} s"
            raise InvalidInput(Problem(f"this takes too long here: {message}", "simulate fewer contacts or days"))

    return check
