"""The client for other programs, against the API on a real port and against a server that misbehaves."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from core.database import Database
from studio.stack.process import free_port
from tests.tracker.conftest import make_key
from tracker.client import Dropped, Kaskad, KaskadError

WHO = {"external_id": "u-1"}


@pytest_asyncio.fixture(loop_scope="session")
async def url(app: FastAPI) -> AsyncIterator[str]:
    """The API on a port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


class Misbehaving:
    """A server whose answers a test decides; it keeps what it was sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer: Callable[[int, Any], tuple[int, Any, dict[str, str]]] = lambda _n, _body: (202, None, {})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(body)
                status, data, headers = outer.answer(len(outer.requests), body)
                if not status:
                    self.close_connection = True
                    return
                said = json.dumps(data).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(said)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def misbehaving() -> Iterator[Misbehaving]:
    made = Misbehaving()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


async def test_events_arrive_once(url: str, database: Database) -> None:
    key = await make_key(database, "events:write", "contacts:write")
    dropped: list[Dropped] = []
    kaskad = Kaskad(url, key, on_drop=dropped.append)
    at = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=3)))
    at = at if at > datetime.now(UTC) - timedelta(days=300) else datetime.now(UTC) - timedelta(days=1)
    first = kaskad.track("order.paid", WHO, {"value": 3, "due": at}, at=at)
    kaskad.track("order.paid", WHO, {"value": 3}, id=first)
    for number in range(1200):
        kaskad.track("page.viewed", {"anonymous_id": f"a{number % 5}"}, {"value": number})
    kaskad.track("Page Viewed", WHO)
    assert await asyncio.to_thread(kaskad.flush)
    assert [(one.event, kaskad.dropped) for one in dropped] == [("Page Viewed", 1)]
    assert "no name of an event" in dropped[0].reason
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select n.name, count(*), min(e.occurred_at) from event e "
                "join event_name n on n.id = e.name_id group by 1"
            )
        )
        found = {row.name: tuple(row)[1:] for row in rows}
    assert found["order.paid"] == (1, at)
    assert found["page.viewed"][0] == 1200
    answer = await asyncio.to_thread(kaskad.identify, anonymous_id="a1", email="anna@x.com")
    assert answer["merges"] == []
    with pytest.raises(KaskadError, match="422"):
        await asyncio.to_thread(lambda: kaskad.identify(email="no address"))
    await asyncio.to_thread(kaskad.close)
    assert kaskad.waiting == 0


async def test_a_key_that_is_not_known_loses_the_events_and_says_so(url: str) -> None:
    dropped: list[Dropped] = []
    with Kaskad(url, "kk_wrong", on_drop=dropped.append) as kaskad:
        kaskad.track("page.viewed", WHO)
        assert await asyncio.to_thread(kaskad.flush)
    assert [one.reason[:3] for one in dropped] == ["401"]


def test_what_is_not_answered_is_sent_again_with_the_same_ids(misbehaving: Misbehaving) -> None:
    answers: list[tuple[int, Any, dict[str, str]]] = [
        (503, None, {"retry-after": "1"}),
        (0, None, {}),
        (500, "x", {}),
        (202, {"events": []}, {}),
    ]
    misbehaving.answer = lambda n, _body: answers[min(n, 4) - 1]
    with Kaskad(misbehaving.url, "kk") as kaskad:
        began = time.monotonic()
        sent = [kaskad.track("a.b", WHO) for _ in range(3)]
        assert kaskad.flush(20)
        assert time.monotonic() - began > 1
        assert kaskad.dropped == 0
    assert [[one["id"] for one in request] for request in misbehaving.requests] == [sent] * 4


def test_a_request_that_is_too_large_is_halved(misbehaving: Misbehaving) -> None:
    misbehaving.answer = lambda _n, body: (413 if len(body) > 2 else 202, None, {})
    with Kaskad(misbehaving.url, "kk") as kaskad:
        sent = [kaskad.track("a.b", WHO) for _ in range(8)]
        assert kaskad.flush()
    taken = [one["id"] for request in misbehaving.requests if len(request) <= 2 for one in request]
    assert taken == sent


def test_what_does_not_fit_or_takes_too_long_is_dropped_and_told(misbehaving: Misbehaving) -> None:
    misbehaving.answer = lambda _n, _body: (503, None, {})
    dropped: list[Dropped] = []
    kaskad = Kaskad(misbehaving.url, "kk", queue=5, gather=5.0, patience=0.5, on_drop=dropped.append)
    sent = [kaskad.track("a.b", WHO) for _ in range(7)]
    assert [(one.id, "wait already" in one.reason) for one in dropped] == [(sent[5], True), (sent[6], True)]
    assert kaskad.flush(20)
    assert sorted(one.id for one in dropped) == sorted(sent)
    kaskad.close()
    kaskad.track("a.b", WHO)
    assert (dropped[-1].reason, kaskad.dropped) == ("the client is closed", 8)


@pytest.mark.parametrize(
    ("event", "contact", "properties", "more"),
    [
        ("", WHO, {}, {}),
        ("a", {}, {}, {}),
        ("a", WHO, {"x": float("nan")}, {}),
        ("a", WHO, {"x": object()}, {}),
        ("a", WHO, {"x": "y" * 70_000}, {}),
        ("a", WHO, {}, {"at": datetime(2026, 1, 1)}),  # noqa: DTZ001
    ],
)
def test_what_can_be_no_event_is_refused_at_once(
    event: str, contact: dict[str, str], properties: dict[str, Any], more: dict[str, Any]
) -> None:
    kaskad = Kaskad("http://127.0.0.1:1", "kk")
    with pytest.raises((TypeError, ValueError)):
        kaskad.track(event, contact, properties, **more)
    assert kaskad.waiting == 0
    kaskad.close(0)


@pytest.mark.parametrize(("url", "key"), [("ftp://x", "k"), ("x", "k"), ("http://x", ""), ("http://x", "k\r\nX: y")])
def test_an_address_or_key_that_cannot_be(url: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"address|key"):
        Kaskad(url, key)


def test_the_queue_is_emptied_when_the_program_ends_and_after_a_fork(misbehaving: Misbehaving) -> None:
    misbehaving.answer = lambda _n, _body: (202, {"events": []}, {})
    program = f"""
        import os
        from tracker.client import Kaskad
        kaskad = Kaskad({misbehaving.url!r}, "kk", gather=60)
        kaskad.track("parent.before", {WHO!r})
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        kaskad.track("parent.after" if child else "child.after", {WHO!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=30, check=False, env=os.environ)
    assert done.returncode == 0
    names = sorted(one["event"] for request in misbehaving.requests for one in request)
    assert names == ["child.after", "parent.after", "parent.before"]
