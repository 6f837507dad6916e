"""The built-in mailbox: what is sent to it by real SMTP, and how its pages show it."""

import asyncio
import json
import re
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.email import checking, open_mailbox
from channels.email.mailbox import running, store
from channels.email.mailbox.receiver import Received, receiving
from channels.email.mailbox.routes import with_base
from channels.provider import Letter, Outcome
from core.database import Database
from core.errors import DatabaseUnavailable, InvalidInput, NotFound, Unavailable
from core.settings import Settings
from studio.api import create_app


def letter(
    number: int, html: str = "<p>Hello <a href='https://x.example/1'>there</a></p>", subject: str = ""
) -> Letter:
    return Letter(
        UUID(int=number), "Экспорт <news@export.example>", f"a{number}@shop.example",
        subject or f"Письмо {number}", html, f"Hello {number}\n.dot", {"X-Tag": "one"},
    )  # fmt: skip


@asynccontextmanager
async def browser(database: Database, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, database)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
def demo(settings: Settings) -> Settings:
    return settings.model_copy(update={"demo": True})


async def caught(database: Database, letters: list[Received]) -> list[int]:
    async with database.begin() as connection:
        return await store.keep(connection, letters)


def source(html: str, subject: str = "Hi") -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "a@b.example", "c@d.example"
    message.set_content("plain words")
    message.add_alternative(html, subtype="html")
    return message.as_bytes()


async def test_letters_go_by_smtp_from_the_provider_to_the_page(database: Database, demo: Settings) -> None:
    provider = open_mailbox("mailbox://", demo)
    with pytest.raises(Unavailable, match="mailbox is not running"):
        await provider.check()
    (early,) = await provider.hand_over([letter(1)])
    assert early.outcome is Outcome.DEFERRED
    async with running(database, demo):
        await provider.check()
        receipts = await provider.hand_over([letter(number) for number in range(60)])
    assert {receipt.outcome for receipt in receipts} == {Outcome.ACCEPTED}
    async with running(database, demo):  # another port: the provider finds it
        (late,) = await provider.hand_over([letter(77)])
        assert late.outcome is Outcome.ACCEPTED
        await provider.close()
    async with browser(database, demo) as client:
        page = (await client.get("/mailbox")).text
        assert "61 letters" in page
        assert "a77@shop.example" in page
        assert "Письмо 77" in page
        answer = (await client.get("/mailbox/api/letters", params={"to": "A5@shop.example"})).json()
        (only,) = answer["letters"]
        assert (only["recipient"], only["subject"], answer["total"]) == ("a5@shop.example", "Письмо 5", 61)
        whole = (await client.get(f"/mailbox/api/letters/{only['id']}")).json()
        assert whole["text"].replace("\r\n", "\n") == "Hello 5\n.dot"
        assert ["X-Tag", "one"] in whole["headers"]
        assert ["From", "Экспорт <news@export.example>"] in whole["headers"]


async def test_older_letters_are_a_click_away(database: Database, demo: Settings) -> None:
    ids = await caught(database, [Received("s@x.example", (f"r{n}@x.example",), source("<p>x")) for n in range(60)])
    async with browser(database, demo) as client:
        page = (await client.get("/mailbox")).text
        link = re.search(r'href="(/mailbox\?[^"]*before=\d+)"', page)
        assert link is not None
        older = (await client.get(link[1].replace("&amp;", "&"))).text
    shown = [set(map(int, re.findall(r'href="/mailbox/(\d+)"', text))) for text in (page, older)]
    assert (len(shown[0]), len(shown[1])) == (50, 10)
    assert shown[0] | shown[1] == set(ids)


async def test_a_letter_cannot_run_anything_on_the_page(database: Database, demo: Settings) -> None:
    trick = '<script>alert(1)</script><p onclick="x()">Hi</p>'
    (number,) = await caught(database, [Received("s@x.example", ("<i>@x.example",), source(trick, trick))])
    async with browser(database, demo) as client:
        for view in ("", "html", "text", "headers", "source"):
            response = await client.get(f"/mailbox/{number}", params={"view": view})
            assert response.status_code == 200
            assert "<script" not in response.text
            assert "<i>" not in response.text
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert "unsafe" not in response.headers["content-security-policy"]
        listing = (await client.get("/mailbox")).text
        assert "<script" not in listing
        frame = await client.get(f"/mailbox/{number}/html")
    policy = frame.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert '<base target="_parent">' in frame.text


async def test_frame_is_sandboxed(database: Database, demo: Settings) -> None:
    (number,) = await caught(database, [Received("s@x.example", ("r@x.example",), source("<p>x"))])
    async with browser(database, demo) as client:
        page = (await client.get(f"/mailbox/{number}")).text
    sandbox = re.search(r'<iframe [^>]*sandbox="([^"]*)"', page)
    assert sandbox is not None
    assert "allow-scripts" not in sandbox[1]
    assert "allow-top-navigation-by-user-activation" in sandbox[1]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>x</p>", '<base target="_parent"><p>x</p>'),
        ("<html><head><title>t</title></head>", '<html><head><base target="_parent"><title>t</title></head>'),
        ('<!doctype html><HEAD a="b">', '<!doctype html><HEAD a="b"><base target="_parent">'),
        ("<!DOCTYPE html>\n<p>x", '<!DOCTYPE html><base target="_parent">\n<p>x'),
    ],
)
def test_links_open_in_the_page_around(html: str, expected: str) -> None:
    assert with_base(html) == expected


async def test_pages_are_there_in_demo_mode_only(database: Database, settings: Settings) -> None:
    async with browser(database, settings) as client:
        for path in ("/mailbox", "/mailbox/api/letters", "/mailbox/1", "/mailbox/1/html"):
            assert (await client.get(path)).status_code == 404


async def test_what_is_not_there(database: Database, demo: Settings) -> None:
    async with browser(database, demo) as client:
        assert (await client.get("/mailbox/1")).status_code == 404
        assert (await client.get("/mailbox/99999999999999999999")).status_code == 422
        assert "No letters yet" in (await client.get("/mailbox")).text
        assert (await client.get("/mailbox/style.css")).headers["content-type"].startswith("text/css")
    async with database.begin() as connection:
        with pytest.raises(NotFound):
            await store.find(connection, 1)


async def test_emptying(database: Database, demo: Settings) -> None:
    await caught(database, [Received("s@x.example", ("r@x.example",), source("<p>x"))])
    async with browser(database, demo) as client:
        foreign = await client.post("/mailbox/clear", headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403
        assert (await client.get("/mailbox/api/letters")).json()["total"] == 1
        assert (await client.post("/mailbox/clear", follow_redirects=True)).status_code == 200
        assert (await client.get("/mailbox/api/letters")).json() == {"letters": [], "total": 0}


async def test_only_the_newest_are_kept(database: Database, demo: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "KEPT", 5)
    await caught(database, [Received("s@x.example", (f"r{n}@x.example",), source("<p>x")) for n in range(8)])
    async with database.begin() as connection:
        kept = await store.listing(connection, None, None, 100)
    assert [one.recipient for one in kept] == [f"r{n}@x.example" for n in (7, 6, 5, 4, 3)]


@pytest.mark.parametrize(
    "broken",
    [b"", b"\r\n", b"no headers at all", b"Subject: =?bad?x?=\r\n\r\nx", b"Subject: \xff\xfe\0\r\n\r\n\xff\0",
     b"Content-Type: text/html; charset=nonsense\r\n\r\n<p>\xff", b"Content-Type: multipart/mixed\r\n\r\nx",
     b'To:  "\r\n\r\nx', b"From: =?utf-8?q?=22?= <\r\nMessage-ID: <\r\n\r\nx", b"Content-Disposition: ;=\"\r\n\r\nx",
     b'Content-Type: text/plain; charset="a\0b"\r\n\r\nx', b"Content-Type: ;\"*0=\r\nDate: x\r\n\r\nx"],
)  # fmt: skip
async def test_broken_letters_are_kept_and_shown(database: Database, demo: Settings, broken: bytes) -> None:
    (number,) = await caught(database, [Received("", ("r@x.example",), broken)])
    async with browser(database, demo) as client:
        assert (await client.get("/mailbox")).status_code == 200
        for view in ("", "source", "headers"):
            assert (await client.get(f"/mailbox/{number}", params={"view": view})).status_code == 200


_HEADERS = [
    "To",
    "From",
    "Message-ID",
    "Content-Type",
    "Content-Disposition",
    "Content-Transfer-Encoding",
    "Date",
    "Sender",
]
_ODD = st.lists(
    st.sampled_from([*'"<>@;,:=?()[]\\*\0 \t', "=?utf-8?q?", "?=", "a", "*0*", "text/", "\xff"]), max_size=12
)


@given(st.lists(st.tuples(st.sampled_from(_HEADERS), _ODD), min_size=1, max_size=5))
def test_whatever_stands_in_the_headers_a_letter_can_be_opened(headers: list[tuple[str, list[str]]]) -> None:
    lines = [f"{name}: {''.join(value)}\r\n" for name, value in headers]
    broken = "".join(lines).encode("latin-1") + b"\r\nwords"
    shown = store.opened(store.Caught(1, datetime.now(UTC), "", "", store.subject_of(broken)), broken)
    assert {name for name, _ in shown.headers} <= set(_HEADERS)
    json.dumps(shown.headers, ensure_ascii=False).encode()
    checking.of_letter(broken)


# The SMTP server, with the standard library's client


async def test_speaks_with_the_standard_library(database: Database, demo: Settings) -> None:
    async with running(database, demo) as address:
        host, _, port = address.partition(":")

        def converse() -> dict[str, int]:
            with smtplib.SMTP(host, int(port), timeout=10) as client:
                codes = {
                    "rcpt first": client.docmd("RCPT", "TO:<a@b.example>")[0],
                    "ehlo": client.ehlo()[0],
                    "unknown": client.docmd("FROB")[0],
                    "bad mail": client.docmd("MAIL", "TO:<a@b.example>")[0],
                    "data first": client.docmd("DATA")[0],
                    "mail": client.docmd("MAIL", "FROM:<>")[0],
                    "mail again": client.docmd("MAIL", "FROM:<a@b.example>")[0],
                    "data without rcpt": client.docmd("DATA")[0],
                    "rset": client.rset()[0],
                    "too big": client.docmd("MAIL", "FROM:<a@b.example> SIZE=99999999")[0],
                    "noop": client.noop()[0],
                }
                client.sendmail("s@x.example", ["one@x.example", "two@x.example"], "Subject: Hi\n\n.dot\n..dots\n")
                client.docmd("MAIL", "FROM:<s@x.example>")
                client.docmd("RCPT", "TO:<three@x.example>")
                client.docmd("DATA")
                codes["empty letter"] = client.docmd(".")[0]
                return codes

        codes = await asyncio.to_thread(converse)
    assert codes == {
        "rcpt first": 503, "ehlo": 250, "unknown": 502, "bad mail": 501, "data first": 503, "mail": 250,
        "mail again": 503, "data without rcpt": 554, "rset": 250, "too big": 552, "noop": 250, "empty letter": 250,
    }  # fmt: skip
    async with database.begin() as connection:
        kept = await store.listing(connection, None, None, 10)
        whole = await store.find(connection, kept[-1].id)
    assert [one.recipient for one in kept] == ["three@x.example", "two@x.example", "one@x.example"]
    assert whole.source == b"Subject: Hi\r\n\r\n.dot\r\n..dots\r\n"


@pytest.mark.parametrize("error", [DatabaseUnavailable("PostgreSQL does not answer"), KeyError("a defect")])
async def test_what_cannot_be_stored_is_not_acknowledged(error: Exception) -> None:
    async def broken(_letter: Received) -> str:
        raise error

    async with receiving(broken) as (host, port):
        provider = open_mailbox(f"mailbox://{host}:{port}", Settings())
        (receipt,) = await provider.hand_over([letter(1)])
        await provider.close()
    assert receipt.outcome is Outcome.DEFERRED
    assert "451 4.3.0" in receipt.reason


async def test_one_byte_at_a_time_and_all_at_once() -> None:
    kept: list[Received] = []

    async def keep(one: Received) -> str:
        kept.append(one)
        return str(len(kept))

    talk = (
        b"EHLO x\r\n"
        + b"MAIL FROM:<s@x.example>\r\nRCPT TO:<r@x.example>\r\nDATA\r\nA: b\r\n\r\n..\r\nend\r\n.\r\n" * 3
        + b"QUIT\r\n"
    )
    for step in (1, 7, len(talk)):
        async with receiving(keep) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            for start in range(0, len(talk), step):
                writer.write(talk[start : start + step])
                await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            await writer.wait_closed()
        assert answer.count(b"queued as") == 3
        assert answer.rstrip().endswith(b"221 2.0.0 Bye")
    assert {one.source for one in kept} == {b"A: b\r\n\r\n.\r\nend\r\n"}
    assert len(kept) == 9


async def test_endless_line_ends_the_conversation() -> None:
    async def keep(_one: Received) -> str:
        raise AssertionError

    async with receiving(keep) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"x" * 10_000)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert b"500 5.5.2" in answer


def test_wrong_url() -> None:
    with pytest.raises(InvalidInput):
        open_mailbox("mailbox://host:port", Settings())
