"""The status pages show what a direct count over the tables gives, and escape what people typed."""

import httpx
import pytest
from sqlalchemy import insert, text

from core.clock import now
from core.database import Database
from core.errors import NotFound
from core.schema.journeys import enrollment, journey, journey_version, step_visit
from core.schema.messages import MessageState, message
from core.settings import Settings
from journeys.plan import End, Entry, EventFilter, Plan, Send, Subscription, Until, Wait
from studio import status
from studio.api import create_app

PLAN = Plan(
    journey="welcome",
    title="Welcome <b>friends</b>",
    entry=Entry(),
    steps=(
        Send(id="letter", channel="email", template="hello", next=1),
        Wait(id="pause", seconds=5400, until=(Until(subscription=0, next=2),), next=2),
        End(id="done", outcome="returned"),
    ),
    subscriptions=(Subscription(role="wait", filter=EventFilter(event="signed.in")),),
    hasten=60,
)


@pytest.fixture
async def filled(database: Database) -> Database:
    async with database.begin() as connection:
        await connection.execute(insert(journey).values(id=1, name="welcome", title=PLAN.title, version_id=1))
        await connection.execute(
            insert(journey_version).values(
                id=1, journey_id=1, number=1, source="…", plan=PLAN.model_dump(mode="json"), published_by="ann"
            )
        )
        for number in range(1, 8):
            finished = number <= 3
            await connection.execute(
                insert(enrollment).values(
                    id=number,
                    contact_id=number,
                    cohort_id=1,
                    journey_id=1,
                    version_id=1,
                    exclusive=True,
                    state="finished" if finished else "entering" if number == 7 else "active",
                    step=2 if finished else None if number == 7 else 1,
                    outcome="returned" if finished else None,
                    finished_at=now() if finished else None,
                )
            )
            await connection.execute(
                insert(step_visit).values(arrived_at=now(), enrollment_id=number, version_id=1, visit=1, step=0)
            )
            await connection.execute(
                insert(message).values(
                    id=f"00000000-0000-8000-8000-{number:012}",
                    created_at=now(),
                    contact_id=number,
                    version_id=1,
                    step=0,
                    state=MessageState.ACCEPTED if number > 2 else MessageState.IN_DOUBT,
                    channel="email",
                    purpose="marketing",
                    opened_at=now() if number == 3 else None,
                )
            )
    return database


async def test_overview_counts_what_is_in_the_tables(filled: Database) -> None:
    async with filled.begin() as connection:
        figures = await status.overview(connection)
        messages = await connection.scalar(text("select count(*) from message"))
    (line,) = figures.journeys
    assert sum(figures.messages.values()) == messages == 7
    assert figures.messages == {"in doubt": 2, "accepted": 5}
    assert (figures.opened, figures.clicked) == (1, 0)
    assert (line.entered, line.running, line.outcomes, line.hasten) == (7, 4, {"returned": 3}, 60)
    assert next(iter(line.standing.items())) == ("entering", 1) and sum(line.standing.values()) == line.running
    assert figures.latest_events == {}


async def test_a_journey_shows_who_stands_where(filled: Database) -> None:
    async with filled.begin() as connection:
        page = await status.journey(connection, "welcome")
        with pytest.raises(NotFound):
            await status.journey(connection, "nothing")
    (version,) = page.versions
    assert version.entering == 1 and version.newcomers and version.outcomes == {"returned": 3}
    assert [(step.here, step.visits) for step in version.steps] == [(0, 7), (3, 0), (0, 0)]
    assert version.steps[0].messages == {"in doubt": 2, "accepted": 5}
    assert version.steps[1].does == "3 days 18 hours (hastened to 1 hour 30 minutes); on signed.in: done; in time: done"


async def test_pages_escape_and_state_the_factor(filled: Database, settings: Settings) -> None:
    transport = httpx.ASGITransport(app=create_app(settings, filled))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        index, page = await client.get("/"), await client.get("/journeys/welcome")
        missing = await client.get("/journeys/nothing")
    assert "hastened 60×" in index.text
    assert "1/60 of what the journey says" in page.text
    for text_of_page in (index.text, page.text):
        assert "Welcome &lt;b&gt;friends&lt;/b&gt;" in text_of_page
        assert "<b>friends" not in text_of_page
    assert missing.status_code == 404
