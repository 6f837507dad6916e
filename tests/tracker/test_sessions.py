"""Sessions in the database: late hits, many processes at once, kills, and what merging and erasing leave."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from core.database import Database
from core.ids import derived_hex
from core.settings import Settings
from tests.tracker.site_world import SESSIONS, rows
from tracker import sessions
from tracker.campaigns import arrival
from tracker.ingest import Intake
from tracker.sessions import Visit
from tracker.spans import Client, Step, cut
from tracker.store import Entry
from tracker.wire import Incoming

pytestmark = pytest.mark.asyncio(loop_scope="session")

GAP = timedelta(minutes=30)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
URLS = ("https://a.example/", "https://a.example/?utm_source=x&utm_campaign=1", "https://a.example/?utm_source=y")


def entry(visitor: str, number: int, minutes: float, campaign: int = 0, site: int = 1, device: str = "mobile") -> Entry:
    url = URLS[campaign]
    at = NOON + timedelta(minutes=minutes)
    properties = msgspec.json.encode({"url": url, "site": f"site-{site}", "number": number})
    event = Incoming(0, str(number), "page.viewed", "anonymous_id", visitor, at, None, properties)
    step = Step(at, url, None, arrival(url, None), True, Client(device=device))
    return Entry(event, derived_hex(visitor, str(number)), Visit(site, step))


def wanted(entries: list[Entry]) -> list[tuple[Any, ...]]:
    steps = sorted((one.visit.step for one in entries if one.visit), key=lambda step: step.at)
    return [
        (
            one.started_at,
            one.ended_at,
            one.pages,
            one.entry.url if one.entry else None,
            one.exit_url,
            one.traffic.source,
        )
        for one in cut(steps, GAP)
    ]


COLUMNS = ("started_at", "ended_at", "pages", "entry_url", "exit_url", "source")


async def written(database: Database, visitor: str) -> list[tuple[Any, ...]]:
    found = await rows(
        database,
        "select s.* from session s join identity i on i.contact_id = s.contact_id and i.value = :visitor "
        "order by s.site_id, s.started_at",
        visitor=visitor,
    )
    return [tuple(row[name] for name in COLUMNS) for row in found]


async def test_a_late_campaign_cuts_sessions_anew_from_the_log(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings)
    entries = [entry("v", 0, 0), entry("v", 1, 10, device="tablet"), entry("v", 2, 40), entry("v", 3, 75)]
    await intake.put(entries)
    (first, second) = await rows(database, SESSIONS)
    late = [entry("v", 4, 20, campaign=1), entry("v", 5, 60)]
    await intake.put(late)
    await intake.close()
    assert await written(database, "v") == wanted([*entries, *late])
    sessions = await rows(database, SESSIONS)
    assert [row["id"] for row in sessions] == [first["id"], second["id"]], "rows keep their numbers"
    assert [(row["pages"], row["source"], row["campaign"]) for row in sessions] == [(2, "direct", None), (4, "x", "1")]
    assert {row["device"] for row in sessions} == {"mobile"}


async def test_what_a_server_says_of_a_site_is_no_hit_of_it(database: Database, settings: Settings) -> None:
    """Anybody with a key for events can write such properties; only what came in by the site counts."""
    intake = Intake(database, settings)
    hits = [entry("v", 0, 0), entry("v", 1, 20)]
    await intake.put(hits)
    forged = entry("v", 2, 10).event
    await intake.put([Entry(forged, None), Entry(msgspec.structs.replace(forged, name="order.paid"), None)])
    late = entry("v", 3, 15, campaign=1)
    await intake.put([late])
    await intake.close()
    assert await written(database, "v") == wanted([*hits, late])
    marks = [row["site_id"] for row in await rows(database, "select site_id from event order by id")]
    assert marks == [1, 1, None, None, 1]


async def test_beyond_a_bound_late_hits_count_and_cut_nothing_anew(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CUT_HITS", 20)
    intake = Intake(database, settings)
    hits = [entry("v", n, n) for n in range(0, 40, 2)]
    await intake.put(hits)
    await intake.put([entry("v", 100, 31, campaign=1)])
    assert await written(database, "v") == wanted([*hits, entry("v", 100, 31, campaign=1)]), "just within the bound"
    await intake.put([entry("w", n, n) for n in range(21)])
    await intake.put([entry("w", 100, 10.5, campaign=1), entry("w", 101, -5), entry("w", 102, 12.5, campaign=2)])
    found = [row[-2:] for row in await written(database, "w")]
    await intake.close()
    counted = await rows(
        database, "select sum(pages) from session s join identity i on i.contact_id = s.contact_id and i.value = 'w'"
    )
    assert counted == [{"sum": 24}], "each hit counts once all the same"
    assert [source for _, source in found] == ["direct", "direct"]


async def test_sessions_without_end_are_not_cut_anew(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings)
    await intake.put([entry("v", n, n * 25) for n in range(-60, 60)])
    await intake.put([entry("v", 100, 10, campaign=1)])
    await intake.close()
    assert [row["pages"] for row in await rows(database, SESSIONS)] == [121]


async def test_sessions_are_those_of_one_contact_and_one_site(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings)
    await intake.put([entry(f"v{n % 2}", n, n, site=1 + n // 2 % 2) for n in range(8)])
    await intake.put([entry("v0", 8, 3.5, campaign=1, site=2)])
    await intake.close()
    found = {(row["contact_id"], row["site_id"], row["source"]): row["pages"] for row in await rows(database, SESSIONS)}
    assert sorted(found.values()) == [1, 2, 2, 2, 2] and len(found) == 5


async def test_in_whatever_order_and_by_however_many_processes(database: Database, settings: Settings) -> None:
    """Each order is another visitor of the same database; two intakes stand for two processes."""
    numbers = iter(range(10_000))

    @effort(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.tuples(st.integers(0, 150), st.integers(0, 2)), min_size=2, max_size=12, unique_by=lambda x: x[0]),
        st.integers(0, 2**32),
    )
    def collect(hits: list[tuple[int, int]], seed: int) -> None:
        examples.append((hits, seed))

    examples: list[tuple[list[tuple[int, int]], int]] = []
    collect()
    intakes = [Intake(database, settings), Intake(database, settings)]

    visitors = []
    for hits, seed in examples:
        visitor = f"v-{next(numbers)}"
        entries = [entry(visitor, n, minutes, campaign) for n, (minutes, campaign) in enumerate(hits)]
        chance = random.Random(seed)
        order = chance.sample(entries, len(entries))  # none comes twice: whoever claims the same id waits, too
        visitors.append((visitor, entries, order, chance))
    # The first hit makes the contact, and whoever makes the same one waits: it would hide what happens afterwards.
    await asyncio.gather(*(intakes[0].put([order[0]]) for _, _, order, _ in visitors))
    rest = [(chance.choice(intakes), hit) for _, _, order, chance in visitors for hit in order[1:]]
    await asyncio.gather(*(intake.put([hit]) for intake, hit in rest))
    for visitor, entries, _, _ in visitors:
        assert await written(database, visitor) == wanted(entries), visitor
    for intake in intakes:
        await intake.close()


async def test_first_and_last_campaign(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings)
    for batch in ([entry("v", 0, 50, 1)], [entry("v", 1, 60)], [entry("v", 2, 10, 2), entry("v", 3, 20, 1)]):
        await intake.put(batch)
    await intake.close()
    found = await rows(database, "select which, at, source, campaign, url from contact_touch order by which")
    assert [(row["which"], row["source"], row["campaign"]) for row in found] == [(0, "y", None), (1, "x", "1")]
    assert [row["at"] for row in found] == [NOON + timedelta(minutes=10), NOON + timedelta(minutes=50)]


async def test_what_is_refused_or_doubled_counts_nowhere(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings)
    good, other = entry("v", 0, 0), entry("v", 1, 1)
    broken = Entry(msgspec.structs.replace(entry("v", 2, 2).event, properties=b'{"a":"\\u0000"}'), None, other.visit)
    fates = await intake.put([good, broken, good, other])
    await intake.close()
    assert [type(fate).__name__ for fate in fates] == ["Stored", "Problem", "Duplicate", "Stored"]
    assert [row["pages"] for row in await rows(database, SESSIONS)] == [2]


async def test_pages_cannot_use_up_the_names_of_events(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings.model_copy(update={"event_names_limit": 4}))
    hits = [entry("v", number, number) for number in range(5)]
    named = [
        msgspec.structs.replace(hit, event=msgspec.structs.replace(hit.event, name=f"name{number}"))
        for number, hit in enumerate(hits)
    ]
    fates = await intake.put(named)
    assert [type(fate).__name__ for fate in fates].count("Stored") == 2
    spoken = [msgspec.structs.replace(one, visit=None, key=None) for one in named]
    assert [type(fate).__name__ for fate in await intake.put(spoken)].count("Stored") == 4
    await intake.close()


async def test_a_name_that_a_server_sends_with_a_page_is_the_servers(database: Database, settings: Settings) -> None:
    intake = Intake(database, settings.model_copy(update={"event_names_limit": 2}))
    await intake.put([entry("v", 0, 0)])
    hit = entry("v", 1, 1)
    hit = msgspec.structs.replace(hit, event=msgspec.structs.replace(hit.event, name="order.paid"))
    fates = await intake.put([hit, msgspec.structs.replace(hit, visit=None, key=None)])
    await intake.close()
    assert [type(fate).__name__ for fate in fates] == ["Stored", "Stored"]
