"""Letters that come in, all the way to the ledger: by SMTP, and out of Dovecot's mailboxes."""

import asyncio
import imaplib
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from channels import Delivery, templates
from channels.email.inbound import Inbox, Incoming, MailboxUrl, Poller, receiving_mail, serving
from channels.reports import Taken
from channels.signed import Addressed, SignedAddresses
from core.clock import now
from core.errors import InvalidInput, Misconfigured, Unavailable
from core.ids import message_id
from core.schema.messages import MessageState
from studio import doctor
from tests.channels.email.inbound import samples
from tests.channels.email.inbound.dovecot import Dovecot, dovecot, without
from tests.channels.email.servers import certificate
from tests.channels.world import LETTER, World

DOMAIN = "in.example.com"


@asynccontextmanager
async def _inbox(world: World, **settings: object) -> AsyncIterator[Inbox]:
    inbox = Inbox(world.database, world.settings.model_copy(update={"inbound_address": DOMAIN, **settings}))
    try:
        yield inbox
    finally:
        inbox.close()


async def _sent(world: World, at: datetime, count: int = 1) -> list[UUID]:
    items = await world.enroll(count)
    await world.prepare(items, at)
    await world.deliver(items, at)
    return [message_id(item.enrollment_id, item.visit) for item in items]


def _letter(source: str) -> Incoming:
    return Incoming(source.replace("\n", "\r\n").encode(), now())


async def test_letters_leave_with_a_return_path_and_a_reply_address_of_their_own(world: World, at: datetime) -> None:
    settings = world.settings.model_copy(update={"inbound_address": DOMAIN})
    world.delivery = Delivery(world.database, settings)
    [number] = await _sent(world, at)
    [letter] = world.recorder.letters
    ours = SignedAddresses(settings.secret, DOMAIN)
    assert letter.return_path is not None
    assert ours.read(letter.return_path) == Addressed("bounce", number)
    assert ours.read(letter.headers["Reply-To"]) == Addressed("reply", number)


@pytest.mark.parametrize("comes_in", [True, False])
async def test_answers_go_where_the_template_says(world: World, at: datetime, comes_in: bool) -> None:
    settings = world.settings.model_copy(update={"inbound_address": DOMAIN if comes_in else None})
    world.delivery = Delivery(world.database, settings)
    letter = LETTER.replace("subject:", "reply_to: Sales <sales@shop.example>\nsubject:")
    async with world.database.begin() as connection:
        assert (await templates.publish(connection, letter, "letter.html")).changed
        assert not (await templates.publish(connection, letter, "letter.html")).changed
    await _sent(world, at)
    [sent] = world.recorder.letters
    assert sent.headers["Reply-To"] == "Sales <sales@shop.example>"
    assert (sent.return_path is not None) == comes_in  # bounces come to us all the same


async def test_a_bounce_suppresses_and_comes_twice_without_harm(world: World, at: datetime) -> None:
    [number] = await _sent(world, at)
    async with _inbox(world) as inbox:
        bounce = _letter(samples.failed(inbox.addresses.make("bounce", number)))
        assert await inbox.take(bounce) == Taken(1, 0)
        assert await inbox.take(bounce) == Taken(0, 0)
    assert await world.states() == [MessageState.BOUNCED]
    assert [row.reason for row in await world.run("select reason from suppression")] == ["bounced"]


async def test_soft_bounces_add_up_by_message(world: World, at: datetime) -> None:
    [item] = await world.enroll(1)
    numbers = []
    for visit in range(1, 4):
        again = type(item)(item.enrollment_id, visit)
        await world.prepare([again], at)
        await world.deliver([again], at)
        numbers.append(message_id(item.enrollment_id, visit))
    async with _inbox(world, soft_bounces=3) as inbox:
        for index, number in enumerate(numbers):
            assert await world.run("select 1 from suppression") == []
            for twice in ("a", "b"):
                source = samples.failed(inbox.addresses.make("bounce", number), "5.2.2", "552 5.2.2 mailbox full")
                await inbox.take(_letter(source.replace("4711@", f"{index}{twice}@")))
    [row] = await world.run("select reason, note from suppression")
    assert tuple(row) == ("bounced", "3 soft bounces within 30 days")


async def test_a_reply_is_an_event(world: World, at: datetime) -> None:
    [number] = await _sent(world, at)
    async with _inbox(world) as inbox:
        source = samples.REPLY.format(to=inbox.addresses.make("reply", number), text="Да!\n\n> Ну что?")
        await inbox.take(_letter(source))
    [event] = await world.run(
        "select e.properties from event e join event_name n on n.id = e.name_id where n.name = 'message.replied'"
    )
    assert (event.properties["text"], event.properties["answer"]) == ("Да!", "да")
    assert (event.properties["message"], event.properties["journey"]) == (str(number), "welcome")
    assert await world.states() == [MessageState.ACCEPTED]


async def test_a_letter_about_what_is_no_longer_there_falls_away(world: World) -> None:
    async with _inbox(world) as inbox:
        to = inbox.addresses.make("bounce", UUID(int=1))
        assert await inbox.take(_letter(samples.failed(to))) == Taken(0, 0)


# By SMTP


def _hand_in(port: int, to: str, source: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("", [to], source.replace("\n", "\r\n"))


async def test_a_bounce_by_smtp_is_acknowledged_when_it_is_written(world: World, at: datetime) -> None:
    [number] = await _sent(world, at)
    async with _inbox(world) as inbox, serving(inbox, world.settings) as (_, port):
        to = inbox.addresses.make("bounce", number)
        await asyncio.to_thread(_hand_in, port, to, samples.failed(to))
        assert await world.states() == [MessageState.BOUNCED]


async def test_nobody_else_gets_mail_here(world: World) -> None:
    async with _inbox(world) as inbox, serving(inbox, world.settings) as (_, port):
        for to in (f"postmaster@{DOMAIN}", "x@example.net", f"b-{'a' * 42}@{DOMAIN}"):
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                await asyncio.to_thread(_hand_in, port, to, "Subject: x\n\nx\n")
            assert refused.value.recipients[to][0] == 550


async def test_a_letter_that_is_too_big_is_refused(world: World, at: datetime) -> None:
    [number] = await _sent(world, at)
    small = world.settings.model_copy(update={"inbound_bytes_limit": 20_000})
    async with _inbox(world) as inbox, serving(inbox, small) as (_, port):
        to = inbox.addresses.make("bounce", number)
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            await asyncio.to_thread(_hand_in, port, to, samples.failed(to) + "x\n" * 20_000)
        assert refused.value.smtp_code == 552
    assert await world.states() == [MessageState.ACCEPTED]


async def test_what_cannot_be_written_comes_again(world: World, at: datetime) -> None:
    [number] = await _sent(world, at)
    async with _inbox(world) as inbox, serving(inbox, world.settings) as (_, port):
        to = inbox.addresses.make("bounce", number)
        await world.run("alter table delivery_report rename to away")
        try:
            assert (await asyncio.to_thread(_raw, port, to, samples.failed(to)))[0] == 451
        finally:
            await world.run("alter table away rename to delivery_report")
        assert (await asyncio.to_thread(_raw, port, to, samples.failed(to)))[0] == 250
    assert await world.states() == [MessageState.BOUNCED]


def _raw(port: int, to: str, source: str) -> tuple[int, bytes]:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.ehlo()
        client.mail("")
        client.rcpt(to)
        return client.data(source.replace("\n", "\r\n"))


async def test_mail_comes_in_encrypted(world: World, at: datetime, tmp_path: Path) -> None:
    [number] = await _sent(world, at)
    _, ca = certificate(tmp_path)
    settings = world.settings.model_copy(
        update={"inbound_tls_cert": ca, "inbound_tls_key": tmp_path / "key.pem", "inbound_port": 0}
    )
    async with _inbox(world) as inbox, serving(inbox, settings) as (_, port):
        to = inbox.addresses.make("bounce", number)

        def hand_in() -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                client.starttls(context=ssl.create_default_context(cafile=ca))
                assert isinstance(client.sock, ssl.SSLSocket)
                client.sendmail("", [to], samples.failed(to).replace("\n", "\r\n"))

        await asyncio.to_thread(hand_in)
    assert await world.states() == [MessageState.BOUNCED]


# Out of a mailbox


@pytest.fixture
async def box() -> AsyncIterator[Dovecot]:
    """A mail server of somebody else's."""
    async with dovecot() as running:
        yield running


@pytest.mark.parametrize("then", ["seen", "delete", "move:Done"])
async def test_imap_letters_are_taken_once(world: World, at: datetime, box: Dovecot, then: str) -> None:
    first, second = await _sent(world, at, 2)
    async with AsyncExitStack() as stack:
        inbox = await stack.enter_async_context(_inbox(world))
        box.put("INBOX", samples.failed(inbox.addresses.make("bounce", first)))
        box.put("INBOX", samples.REPLY.format(to=inbox.addresses.make("reply", second), text="yes"))
        box.put("INBOX", "Subject: about nothing of ours\n\nhello\n")
        poller = Poller(world.database, inbox, MailboxUrl.of(f"{box.imap}/INBOX?then={then}"), 1_000_000)
        stack.callback(poller.close)
        assert await poller.look() == 3
        assert await poller.look() == 0
    assert await world.states() == [MessageState.BOUNCED, MessageState.ACCEPTED]
    assert len(await world.run("select 1 from delivery_report where kind = 'answered'")) == 1
    left = {"seen": (3, 0), "delete": (0, 0), "move:Done": (0, 3)}[then]
    assert (box.count("INBOX"), box.count("Done")) == left


async def test_pop_letters_are_deleted_when_they_are_taken(world: World, at: datetime, box: Dovecot) -> None:
    [number] = await _sent(world, at)
    async with AsyncExitStack() as stack:
        inbox = await stack.enter_async_context(_inbox(world))
        box.put("INBOX", samples.failed(inbox.addresses.make("bounce", number)))
        box.put("INBOX", "Subject: too big\n\n" + "x" * 70 + "\n")
        poller = Poller(world.database, inbox, MailboxUrl.of(box.pop), 1_000_000)
        stack.callback(poller.close)
        assert await poller.look() == 2
        assert await poller.look() == 0
    assert await world.states() == [MessageState.BOUNCED]
    assert box.count("INBOX") == 0


@asynccontextmanager
async def _poller(world: World, url: str, limit: int = 1_000_000) -> AsyncIterator[tuple[Poller, Inbox]]:
    async with _inbox(world) as inbox:
        poller = Poller(world.database, inbox, MailboxUrl.of(url), limit)
        try:
            yield poller, inbox
        finally:
            poller.close()


@pytest.mark.parametrize("then", ["pop", "?then=seen", "?then=delete", "?then=move:Done"])
async def test_a_letter_that_is_too_big_is_read_at_its_beginning_and_never_deleted(
    world: World, at: datetime, box: Dovecot, then: str
) -> None:
    [number] = await _sent(world, at)
    async with _poller(world, box.pop if then == "pop" else f"{box.imap}/INBOX{then}", 100_000) as (poller, inbox):
        text = "yes\n\n-- \n" + "an attachment\n" * 20_000
        box.put("INBOX", samples.REPLY.format(to=inbox.addresses.make("reply", number), text=text))
        assert await poller.look() == 1
        assert await poller.look() == 0
    [report] = await world.run("select kind, details->>'text' as text from delivery_report")
    assert tuple(report) == ("answered", "yes")
    assert (box.count("INBOX"), box.count("Done")) == ((0, 1) if "move" in then else (1, 0))


@pytest.mark.parametrize("scheme", ["imap", "pop3"])
async def test_one_letter_that_nobody_can_take_holds_up_no_other(
    world: World, at: datetime, box: Dovecot, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [number] = await _sent(world, at)
    async with _poller(world, f"{box.imap}/INBOX?then=delete" if scheme == "imap" else box.pop) as (poller, inbox):
        box.put("INBOX", "Subject: poison\n\nx\n")
        box.put("INBOX", samples.failed(inbox.addresses.make("bounce", number)))
        take = inbox.take

        async def stumble(incoming: Incoming) -> Taken:
            if b"poison" in incoming.source:
                raise AssertionError("nobody thought of this")
            return await take(incoming)

        monkeypatch.setattr(inbox, "take", stumble)
        assert [await poller.look(), await poller.look()] == [1, 0]
    assert await world.states() == [MessageState.BOUNCED]
    assert box.count("INBOX") == 1  # people may look at it


async def test_lines_that_are_too_long_hold_up_no_mailbox(world: World, at: datetime, box: Dovecot) -> None:
    """2,048 bytes are too long for the standard library, and a million for us."""
    first, second = await _sent(world, at, 2)
    async with _poller(world, box.pop, 10_000_000) as (poller, inbox):
        long = samples.REPLY.format(to=inbox.addresses.make("reply", first), text="yes " * 1000)
        box.put("INBOX", long)
        box.put("INBOX", "Subject: longest\n\n" + "x" * 1_100_000 + "\n")
        box.put("INBOX", samples.failed(inbox.addresses.make("bounce", second)))
        for _ in range(3):
            await poller.look()
    assert await world.states() == [MessageState.ACCEPTED, MessageState.BOUNCED]
    assert len(await world.run("select 1 from delivery_report where kind = 'answered'")) == 1
    assert box.count("INBOX") == 1


@pytest.mark.parametrize("scheme", ["imaps", "imap+starttls", "pop3s", "pop3+starttls"])
async def test_mailboxes_are_read_encrypted(world: World, at: datetime, box: Dovecot, scheme: str) -> None:
    [number] = await _sent(world, at)
    url = box.secure[scheme]
    async with _poller(world, f"{url}?ca={box.ca}") as (poller, inbox):
        box.put("INBOX", samples.failed(inbox.addresses.make("bounce", number)))
        assert await poller.look() == 1
    assert await world.states() == [MessageState.BOUNCED]
    async with _poller(world, url) as (poller, _):  # nobody vouches for its certificate
        with pytest.raises(Misconfigured, match="cannot be trusted"):
            await poller.look()


@pytest.mark.parametrize("abilities", [None, "IMAP4REV1 UIDPLUS"])
async def test_only_letters_that_were_taken_are_deleted(
    world: World, box: Dovecot, abilities: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has marked a letter of theirs, and may change their mind."""
    box.put("INBOX", "Subject: theirs\n\nx\n")
    host, _, port = box.imap.rpartition("@")[2].partition(":")
    with imaplib.IMAP4(host, int(port)) as other:
        other.login("anna", "secret")
        other.select("INBOX")
        other.store("1", "+FLAGS", r"(\Seen \Deleted)")
        other.logout()
    if abilities is not None:
        monkeypatch.setattr(imaplib.IMAP4, "capability", lambda _: ("OK", [abilities.encode()]))
    for then, done in (("delete", 0), ("move:Done", 1)):
        box.put("INBOX", "Subject: ours\n\nx\n")
        async with _poller(world, f"{box.imap}/INBOX?then={then}") as (poller, _):
            assert await poller.look() == 1
        assert (box.count("INBOX"), box.count("Done")) == (1, done)


async def test_the_mailbox_is_looked_into_again_and_again(
    world: World, at: datetime, box: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one look comes to: a server that is away, and what nobody thought of."""
    numbers = await _sent(world, at, 2)
    url = SecretStr(f"{box.imap}/INBOX")
    settings = world.settings.model_copy(
        update={"inbound_address": DOMAIN, "inbound_mailbox": url, "inbound_mailbox_seconds": 0.05}
    )
    look, troubles = Poller.look, iter([Unavailable("away"), AssertionError("nobody thought of this")])

    async def troubled(poller: Poller) -> int:
        for trouble in troubles:
            raise trouble
        return await look(poller)

    monkeypatch.setattr(Poller, "look", troubled)
    addresses = SignedAddresses.of(settings)
    assert addresses is not None
    async with receiving_mail(settings, world.database):
        for taken, number in enumerate(numbers, 1):
            box.put("INBOX", samples.failed(addresses.make("bounce", number)).replace("4711@", f"{taken}@"))
            await _until_bounced(world, taken)


async def _until_bounced(world: World, count: int) -> None:
    for _ in range(600):
        if (await world.states()).count(MessageState.BOUNCED) == count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await world.rows())


async def test_a_mailbox_that_cannot_be_read_says_why(world: World, box: Dovecot) -> None:
    async with _inbox(world) as inbox:
        for url, error, words in (
            (box.imap.replace("secret", "wrong"), Misconfigured, "AUTHENTICATIONFAILED"),
            (box.imap + "/Nowhere", Misconfigured, "Nowhere"),
            (box.pop.replace("secret", "wrong"), Misconfigured, "Authentication failed"),
            ("imap://a:b@127.0.0.1:1", Unavailable, "127.0.0.1:1"),
        ):
            poller = Poller(world.database, inbox, MailboxUrl.of(url), 10_000)
            with pytest.raises(error, match=words):
                await poller.look()
            poller.close()


async def test_a_mailbox_whose_letters_have_no_names_is_refused(world: World, box: Dovecot) -> None:
    box.put("INBOX", samples.failed("somebody@example.net"))
    async with without(b"UIDL", box.pop) as url:
        settings = world.settings.model_copy(update={"inbound_mailbox": SecretStr(url)})
        [found] = [one for one in await doctor.examine(settings) if one.part == "mailbox"]
        async with _poller(world, url) as (poller, _):
            with pytest.raises(Misconfigured, match=r"has no UIDL .*; read the mailbox by IMAP"):
                await poller.look()
    assert (found.verdict, box.count("INBOX")) == (doctor.Verdict.BROKEN, 1)
    assert "has no UIDL" in found.found
    settings = world.settings.model_copy(update={"inbound_mailbox": SecretStr(box.pop)})
    [found] = [one for one in await doctor.examine(settings) if one.part == "mailbox"]
    assert found.verdict is doctor.Verdict.GOOD
    assert "secret" not in found.found


@pytest.mark.parametrize(
    "url",
    [
        "imap://a:b@mail.example.com",
        "imaps://mail.example.com",
        "smtp://a:b@localhost",
        "pop3s://a:b@mail.example.com?then=seen",
        "imaps://a:b@mail.example.com?later=1",
        "imaps://a:b@mail.example.com/IN%22BOX",
        "imaps://a:hunter2@mail.example.com:port",
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        MailboxUrl.of(url)
    assert "hunter2" not in str(refused.value)
