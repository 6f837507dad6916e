"""The provider store: encrypted at rest, redacted on screens, chosen by channel."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from channels import DeliverRequest, providers, registry
from channels.providers import Provider
from core.clock import now
from core.database import Database
from core.errors import Conflict, InvalidInput, Misconfigured, NotFound
from core.settings import Settings
from tests.channels.world import World

URL = "smtp+starttls://bob:hunter2@mail.example:2525"


async def add(database: Database, settings: Settings, name: str, url: str = URL, **options: str) -> Provider:
    async with database.begin() as connection:
        return await providers.add(connection, settings, name, url, options)


async def listing(database: Database, settings: Settings) -> list[Provider]:
    async with database.begin() as connection:
        return await providers.listing(connection, settings)


async def test_the_password_is_kept_encrypted_and_not_shown(database: Database, settings: Settings) -> None:
    await add(database, settings, "main", give_up_hours="48", per_second="20")
    async with database.begin() as connection:
        raw = await connection.exec_driver_sql("select secret, settings::text as settings from provider")
        row = raw.one()
    assert b"hunter2" not in bytes(row.secret)
    assert "hunter2" not in row.settings
    [found] = await listing(database, settings)
    assert found.url == URL
    assert found.options.stored() == {"give_up_hours": 48, "per_second": 20}
    assert found.shown == "smtp+starttls://…@mail.example:2525"
    assert "hunter2" not in repr(found)


async def test_another_key_says_so(database: Database, settings: Settings) -> None:
    await add(database, settings, "main")
    other = settings.model_copy(update={"secret_key": SecretStr("another")})
    other.__dict__.pop("secret", None)
    with pytest.raises(Misconfigured, match="KASKAD_SECRET_KEY"):
        await listing(database, other)


@pytest.mark.parametrize(
    ("name", "url", "options", "words"),
    [
        ("Main!", URL, {}, "no name for a provider"),
        ("main", "smpt://x:hunter2@y", {}, "did you mean smtp://"),
        ("main", "hunter2", {}, "it begins with one of"),
        ("main", URL, {"give_up_hours": "soon"}, "give_up_hours cannot be 'soon'"),
        ("main", URL, {"colour": "red"}, "colour"),
        ("main", "blackhole://", {"connections": "5"}, "no setting of this provider"),
        ("main", "blackhole://", {"per_second": "0"}, "per_second cannot be '0'"),
        ("main", "blackhole://", {"warm_up_days": "5"}, "a warm-up needs its first day's number"),
    ],
)
async def test_what_cannot_be_used_is_refused_without_the_password(
    database: Database, settings: Settings, name: str, url: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await add(database, settings, name, url, **options)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_names_are_taken_once_until_removed(world: World) -> None:
    database, settings = world.database, world.settings
    await add(database, settings, "spare", "blackhole://")
    with pytest.raises(Conflict):
        await add(database, settings, "spare", "blackhole://")
    async with database.begin() as connection:
        await providers.set_state(connection, "spare", "removed")
        with pytest.raises(NotFound):
            await providers.find(connection, settings, "spare")
        with pytest.raises(NotFound):
            await providers.set_state(connection, "spare", "active")
        with pytest.raises(Conflict, match="was a provider of email"):  # its old messages would change their channel
            await providers.add(connection, settings, "spare", "webhook://")
    await add(database, settings, "spare", "blackhole://")


async def test_a_provider_with_messages_waiting_stays(world: World) -> None:
    await world.prepare(await world.enroll(1), now())
    with pytest.raises(Conflict, match="messages wait"):
        async with world.database.begin() as connection:
            await providers.set_state(connection, "main", "removed")


async def test_the_first_active_provider_carries_new_messages(world: World) -> None:
    await add(world.database, world.settings, "two", "blackhole://")
    chosen = []
    for name in ("", "main", "two"):
        async with world.database.begin() as connection:
            if name:
                await providers.set_state(connection, name, "paused")
        [verdict] = await world.prepare(await world.enroll(1), now())
        chosen.append(verdict.provider)
    assert chosen == ["main", "two", "main"]


async def test_options_change_and_the_rest_stays(database: Database, settings: Settings) -> None:
    await add(database, settings, "main", per_second="20", give_up_hours="48")
    async with database.begin() as connection:
        await providers.change(connection, settings, "main", {"per_second": "5", "give_up_hours": ""})
        with pytest.raises(InvalidInput, match="connections: no setting that can be changed"):
            await providers.change(connection, settings, "main", {"connections": "5"})
    [found] = await listing(database, settings)
    assert (found.options.per_second, found.options.give_up_hours) == (5, 24)
    assert found.url == URL


async def test_options_in_a_url_are_taken_out_of_it(database: Database, settings: Settings) -> None:
    made = await add(database, settings, "main", URL + "?connections=3&per_second=7")
    assert made.url == URL + "?connections=3"
    assert made.options.per_second == 7
    with_limit = settings.model_copy(update={"email": SecretStr("smtp://127.0.0.1:25?per_second=4")})
    for _ in range(2):
        async with database.begin() as connection:
            await providers.ensure_default(connection, with_limit)
    assert [(one.url, one.options.per_second) for one in await listing(database, settings)][1] == (
        "smtp://127.0.0.1:25",
        4,
    )


async def test_the_default_comes_from_the_settings(database: Database, tmp_path: Path) -> None:
    async def ensured(settings: Settings) -> list[str]:
        async with database.begin() as connection:
            await providers.ensure_default(connection, settings)
        return [provider.url for provider in await listing(database, settings)]

    assert await ensured(Settings(data=tmp_path)) == []
    demo = Settings(data=tmp_path, demo=True)
    assert await ensured(demo) == ["mailbox://"]
    assert await ensured(demo) == ["mailbox://"]
    assert await ensured(Settings(data=tmp_path, demo=True, email=SecretStr(URL))) == [URL]


def test_every_scheme_has_a_channel_and_opens_lazily() -> None:
    assert {"smtp", "smtps", "smtp+starttls", "mailbox", "blackhole"} <= set(registry.SCHEMES)
    assert [name for name, scheme in registry.SCHEMES.items() if not scheme.needs_content] == ["blackhole"]


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("smtp://host", "smtp://host"),
        ("smtps://u:p@host:465?dkim_key=s:secret", "smtps://…@host:465"),
        ("smtp://u:p@host:bad", "smtp://…@host"),
        ("mailbox://", "mailbox://"),
    ],
)
def test_redaction(url: str, want: str) -> None:
    assert registry.redacted(url) == want


async def test_the_black_hole_takes_all_without_content(world: World) -> None:
    async with world.database.begin() as connection:
        await providers.set_state(connection, "main", "paused")
        await providers.add(connection, world.settings, "hole", "blackhole://")
    items, at = await world.enroll(3), now()
    verdicts = await world.prepare(items, at)
    assert {verdict.provider for verdict in verdicts} == {"hole"}
    done = await world.delivery.deliver(DeliverRequest("hole", at, items, False), lambda: None)
    assert set(done.states.values()) == {"accepted"}
