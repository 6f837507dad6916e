"""One performance: the whole stack as child processes, a faulty SMTP server, clients that insist, and a killer."""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from channels import templates
from core import access
from core.database import Database
from core.errors import Unavailable
from core.settings import Settings
from journeys import store
from studio.stack.supervisor import Stack, running_stack
from tests.chaos import story, verdict
from tests.chaos.client import Poster
from tests.chaos.killer import Killer
from tests.chaos.sink import Fault, Sink
from tests.chaos.story import Person
from tests.chaos.verdict import Judgement

FULL_FAULTS: dict[Fault, float] = {"hang_up": 0.01, "cut": 0.01, "swallow": 0.01, "later": 0.004, "never": 0.01}


@dataclass(frozen=True)
class Options:
    """What is played."""

    contacts: int = 2000
    kills: int = 24
    seed: int = 1
    wait_seconds: int = 45
    spread_seconds: float = 60
    """The time in which contacts begin."""
    pause_seconds: tuple[float, float] = (1.5, 7.0)
    """Before each kill."""
    faults: dict[Fault, float] = field(default_factory=lambda: dict(FULL_FAULTS))
    patience_seconds: float = 900
    """How long after the last kill everything has to be settled."""
    keep: Path | None = None
    """A folder that keeps the data and logs."""


@dataclass(frozen=True)
class Result:
    """What came of it."""

    options: Options
    judgement: Judgement
    killed: dict[str, int]
    requests: dict[str, int]
    faults: dict[str, int]
    seconds: float
    settled_after: float
    """Seconds from the last kill until nothing was left to do."""
    where: str

    def figures(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "seed": self.options.seed,
            "contacts": self.options.contacts,
            "kills": self.killed,
            "smtp faults": self.faults,
            "requests": self.requests,
            "counts": dict(sorted(self.judgement.counts.items())),
            "seconds": round(self.seconds, 1),
            "settled after the last kill (s)": round(self.settled_after, 1),
            "defects": list(self.judgement.defects),
        }


async def play(options: Options, say: Callable[[str], None] = lambda _text: None) -> Result:
    """Play once and judge.

    Args:
        options: how many contacts and kills, and the seed of all dice (timing stays the machine's).
        say: is told what happens.

    Raises:
        TimeoutError: the clients could not get their events acknowledged.
    """
    dice = random.Random(options.seed)
    people = story.cast(options.contacts, options.spread_seconds, dice)
    begun = time.monotonic()
    sink = Sink(random.Random(options.seed + 1), options.faults)
    async with sink, installation(sink, options.keep) as (stack, database):
        key = await fill(database, people, options.wait_seconds)
        client = poster(stack, key, len(people))
        killer = Killer(stack, random.Random(options.seed + 2))
        async with client.http, asyncio.TaskGroup() as tasks:
            start = time.monotonic()
            for person in people:
                tasks.create_task(client.play(person, start))
            tasks.create_task(killer.rage(options.kills, options.pause_seconds, say))
        last_kill = time.monotonic()
        settled = await _settle(database, people, options.patience_seconds, say)
        settled_after = time.monotonic() - last_kill
        facts = await _patiently(database, verdict.gather)
        judgement = verdict.judge(people, client.acknowledged, facts, sink.letters, options.wait_seconds)
        where = str(stack.settings.data)
    more = [*(f"refused: {words}" for words in client.refused), *(f"strange letter: {one!r}" for one in sink.strange)]
    if not settled:
        more.append(f"not settled {options.patience_seconds:g} s after the last kill")
    return Result(
        options,
        Judgement((*more, *judgement.defects), judgement.counts),
        dict(killer.killed),
        dict(client.tries),
        {str(fault): count for fault, count in sink.faults.items()},
        time.monotonic() - begun,
        settled_after,
        where,
    )


@asynccontextmanager
async def installation(sink: Sink, keep: Path | None = None) -> AsyncIterator[tuple[Stack, Database]]:
    """The whole stack as child processes, with small cohorts that soon close, its letters going to the sink."""
    folder = keep or Path(tempfile.mkdtemp(prefix="kaskad-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)  # root's servers run as another user
    settings = Settings(
        data=folder / "data",
        port=0,
        email=SecretStr(f"smtp://127.0.0.1:{sink.port}?connections=10"),
        cohort_size=250,
        cohort_open_seconds=20,
    )
    try:
        async with running_stack(settings) as stack:
            database = Database(stack.settings.database or "")
            try:
                yield stack, database
            finally:
                await database.close()
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


async def fill(database: Database, people: Sequence[Person], wait_seconds: int) -> str:
    """Contacts, consents, templates, journeys; gives an API key."""
    numbers = [person.number for person in people]
    async with database.begin() as connection:
        await connection.execute(
            text("insert into attribute (name, type) values ('first_name', 'text'), ('city', 'text')")
        )
        await connection.execute(
            text(
                "insert into contact (id, attributes) select n, "
                "jsonb_build_object('first_name', 'Name' || n, 'city', city) "
                "from unnest(cast(:numbers as bigint[]), cast(:cities as text[])) as u(n, city)"
            ),
            {"numbers": numbers, "cities": [person.city for person in people]},
        )
        await connection.execute(
            text(
                "insert into identity (kind, value, contact_id) select kind, prefix || n || suffix, n "
                "from unnest(cast(:numbers as bigint[])) as n, "
                "(values ('email', 'c', '@example.com'), ('external_id', 'x', '')) as k(kind, prefix, suffix)"
            ),
            {"numbers": numbers},
        )
        await connection.execute(
            text(
                "insert into consent (contact_id, channel, purpose, granted) select n, 'email', 'marketing', granted "
                "from unnest(cast(:numbers as bigint[]), cast(:granted as boolean[])) as u(n, granted) "
                "where granted is not null"
            ),
            {"numbers": numbers, "granted": [person.consent for person in people]},
        )
        for name, source in story.TEMPLATES.items():
            await templates.publish(connection, source, f"{name}.mjml")
        for name, source in story.journeys(wait_seconds).items():
            await store.publish(connection, source, f"{name}.yaml", "chaos")
        return await access.create(connection, "chaos", ["events:write"])


def poster(stack: Stack, key: str, clients: int) -> Poster:
    """Clients of the API."""
    limits = httpx.Limits(max_connections=min(100, clients))
    timeout = httpx.Timeout(10, pool=600)
    headers = {"Authorization": f"Bearer {key}"}
    return Poster(httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=timeout, limits=limits))


async def _settle(database: Database, people: Sequence[Person], patience: float, say: Callable[[str], None]) -> bool:
    """Wait until every event is routed, everybody has finished and no message is open; False if that never comes."""
    wanted = len(people) + sum(person.alarmed for person in people)
    left = text(
        "select (select count(*) from enrollment where state = 'finished') as finished, "
        "(select count(*) from message where state in (10, 20)) as open, "
        "(select max(id) from event) - (select position from log_cursor where reader = 'router') as lag"
    )
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        row = (await _patiently(database, lambda connection: connection.execute(left))).one()
        say(f"{row.finished:,} of {wanted:,} finished, {row.open} messages open, {row.lag} events to route")
        if row.finished >= wanted and row.open == 0 and row.lag == 0:
            return True
        await asyncio.sleep(1)
    return False


async def _patiently(database: Database, work: Callable[[Any], Any]) -> Any:
    """Do `work` in a transaction, again while PostgreSQL comes back."""
    async with asyncio.timeout(120):
        while True:
            try:
                async with database.begin() as connection:
                    return await work(connection)
            except (Unavailable, DBAPIError):
                await asyncio.sleep(0.2)
