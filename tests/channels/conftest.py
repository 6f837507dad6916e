"""The fixtures of the ledger's tests."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio

from channels import Delivery, providers, registry, templates
from core.clock import now
from core.database import Database
from core.settings import Settings
from tests.channels.world import LETTER, Recorder, World


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What `test://` opens."""
    made = Recorder()
    scheme = registry.Scheme("email", lambda _url, _settings: made, batch=10)
    monkeypatch.setitem(registry.SCHEMES, "test", scheme)
    return made


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What `spare://` opens: another provider."""
    made = Recorder()
    scheme = registry.Scheme("email", lambda _url, _settings: made, batch=10)
    monkeypatch.setitem(registry.SCHEMES, "spare", scheme)
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def world(database: Database, settings: Settings, recorder: Recorder) -> AsyncIterator[World]:
    """An installation with a journey, a template and the recorder as its provider."""
    delivery = Delivery(database, settings)
    made = World(database, settings, recorder, delivery)
    async with database.begin() as connection:
        await providers.add(connection, settings, "main", "test://user:hunter2@host")
        await templates.publish(connection, LETTER, "letter.html")
    [row] = await made.run(
        "with j as (insert into journey (name, title) values ('welcome', 'Welcome') returning id), v as (insert into "
        "journey_version (journey_id, number, source, plan) select id, 1, '', "
        "jsonb_build_object('steps', jsonb_build_array(jsonb_build_object('id', 'first'))) from j returning id) "
        "select id from v"
    )
    made.version_id = row[0]
    yield made
    await delivery.close()


@pytest.fixture
def at() -> datetime:
    """When the batch of a test was made: just now."""
    return now()


@pytest.fixture
def hour_ago() -> datetime:
    """Long enough ago for the policy to be asked again, and in this month or the last."""
    return now() - timedelta(hours=1)
