"""Webhooks of providers over HTTP: verified, written down once, refused in words."""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime

import httpx
import pytest

from channels import providers, registry
from channels.provider import Forged, Hook, Report, ReportKind
from core.errors import InvalidInput
from core.ids import message_id
from studio.api import create_app
from tests.channels.world import Recorder, World


async def _parse(url: str, hook: Hook) -> list[Report]:
    """A provider that signs with the password of its URL."""
    key = url.partition("://")[2].partition("@")[0].partition(":")[2].encode()
    wanted = hmac.new(key, hook.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted, hook.headers.get("x-signature", "")):
        raise Forged("the signature does not hold")
    try:
        data = json.loads(hook.body)
    except ValueError as error:
        raise InvalidInput("the body is not JSON") from error
    at = datetime.fromtimestamp(data["at"], UTC)
    return [Report(ReportKind(data["kind"]), data["key"], at, provider_message_id=data["id"])]


@pytest.fixture
def signing(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `test://` send webhooks."""
    scheme = registry.Scheme("email", lambda _url, _settings: recorder, reports=_parse)
    monkeypatch.setitem(registry.SCHEMES, "test", scheme)


async def _post(world: World, body: bytes, key: bytes = b"hunter2", provider: str = "main") -> httpx.Response:
    app = create_app(world.settings, world.database)
    signature = hmac.new(key, body, hashlib.sha256).hexdigest()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post(f"/hooks/{provider}", content=body, headers={"X-Signature": signature})


async def _body(world: World, at: datetime) -> bytes:
    [item] = await world.enroll(1)
    await world.prepare([item], at)
    await world.deliver([item], at)
    theirs = f"id-{message_id(item.enrollment_id, item.visit)}"
    return json.dumps({"kind": "delivered", "key": "e1", "at": at.timestamp(), "id": theirs}).encode()


@pytest.mark.usefixtures("signing")
async def test_a_webhook_is_written_down_once(world: World, at: datetime) -> None:
    body = await _body(world, at)
    first, second = await _post(world, body), await _post(world, body)
    assert (first.status_code, first.json()) == (200, {"new": 1, "unmatched": 0})
    assert (second.status_code, second.json()) == (200, {"new": 0, "unmatched": 0})
    assert await world.states() == [60]


@pytest.mark.usefixtures("signing")
async def test_a_forged_webhook_is_refused_and_changes_nothing(world: World, at: datetime) -> None:
    body = await _body(world, at)
    refused = await _post(world, body, key=b"guess")
    assert refused.status_code == 403
    assert "signature" in refused.json()["detail"]
    assert await world.states() == [50]


@pytest.mark.usefixtures("signing")
async def test_garbage_is_refused_in_words(world: World) -> None:
    refused = await _post(world, b"\xff{")
    assert (refused.status_code, refused.json()["detail"]) == (422, "the body is not JSON")


async def test_providers_without_webhooks_have_no_door(world: World) -> None:
    assert (await _post(world, b"{}")).status_code == 404
    assert (await _post(world, b"{}", provider="nobody")).status_code == 404


@pytest.mark.usefixtures("signing")
async def test_a_provider_that_was_removed_still_reports(world: World, at: datetime) -> None:
    body = await _body(world, at)
    async with world.database.begin() as connection:
        await providers.set_state(connection, "main", "removed")
    assert (await _post(world, body, key=b"guess")).status_code == 403
    assert (await _post(world, body)).json() == {"new": 1, "unmatched": 0}
    assert await world.states() == [60]


async def test_a_token_that_signs_no_body_comes_with_one_body_only(world: World, at: datetime) -> None:
    """Mailgun signs a time and a token: whoever saw one webhook could send any other with them."""
    [item] = await world.enroll(1)
    await world.prepare([item], at)
    await world.deliver([item], at)
    ours = str(message_id(item.enrollment_id, item.visit))
    async with world.database.begin() as connection:
        url = "mailgun://key@/mg.example.com?webhook_key=signing"
        await providers.add(connection, world.settings, "gun", url)
    await world.run("update message set provider_id = (select id from provider where name = 'gun')")

    def told(event: str, token: str = "t" * 50) -> bytes:
        stamp = str(int(time.time()))
        signature = hmac.new(b"signing", (stamp + token).encode(), hashlib.sha256).hexdigest()
        signed = {"timestamp": stamp, "token": token, "signature": signature}
        about = {"event": event, "id": f"{event}-1", "timestamp": at.timestamp(), "user-variables": {"kaskad": ours}}
        return json.dumps({"signature": signed, "event-data": about}).encode()

    async def states(bodies: list[bytes]) -> list[int]:
        return [(await _post(world, body, provider="gun")).status_code for body in bodies]

    first = told("opened")
    assert await states([first, first, told("complained"), told("complained", "u" * 50), first]) == [
        200,
        200,
        403,
        200,
        200,
    ]
    assert [row.kind for row in await world.run("select kind from delivery_report order by id")] == [
        "opened",
        "complained",
    ]
