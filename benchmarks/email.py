"""Letters a second of one worker, from the ledger to an SMTP server: `python -m benchmarks.email`.

Personalised letters of 17 KB with tracked links, an open pixel and a DKIM signature (RSA-2048) go from rows in the
ledger of a real, durable PostgreSQL through `channels.Delivery` to a sink in another process: postfix's smtp-sink
where it is installed, a small one of ours otherwise. The same letters in a plain loop (EmailMessage, dkimpy, smtplib)
give the ratio.
"""

import argparse
import asyncio
import cProfile
import logging
import os
import pstats
import shutil
import smtplib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import dkim as dkimpy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.harness import console, report
from channels import DeliverRequest, Delivery, Item, PrepareRequest, prepare, providers, templates
from channels.email import dkim
from channels.email.mailbox.receiver import Received, receiving
from channels.provider import Letter, Outcome, Receipt
from channels.registry import SCHEMES, Scheme
from core.clock import now
from core.database import Database
from core.migrate import migrate
from core.settings import Settings
from studio.stack.process import free_port
from studio.stack.scratch import scratch_server

BATCH = 1000
_PARAGRAPH = (
    "Your application {{ event.application_id }} for {{ event.product }} is kept for you, "
    "{{ contact.first_name | default('reader') }}. It takes five minutes to finish it. "
)
_ROW = """<mj-section background-color="#ffffff" padding="12px"><mj-column>
<mj-text font-size="15px" color="#223344">PARAGRAPH</mj-text>
<mj-button href="https://export.example/apply/{{ event.application_id }}?step=NUMBER">Go on with it</mj-button>
</mj-column></mj-section>
"""
ROWS = 5


def template() -> str:
    """A letter of about 17 KB when compiled."""
    rows = "".join(_ROW.replace("PARAGRAPH", _PARAGRAPH * 3).replace("NUMBER", str(row)) for row in range(ROWS))
    return (
        "---\ntemplate: letter\nchannel: email\n"
        "subject: \"{{ contact.first_name | default('Hello') }}, your application waits\"\n---\n"
        f'<mjml><mj-body background-color="#f0f2f5">{rows}<mj-section><mj-column><mj-text>'
        '<a href="{{ unsubscribe_url }}">Unsubscribe</a></mj-text></mj-column></mj-section></mj-body></mjml>\n'
    )


async def prepared(database: Database, settings: Settings, url: str, count: int) -> list[DeliverRequest]:
    """Contacts, their events, a journey, the template and ledger rows that wait for their letters."""
    async with database.begin() as connection:
        await providers.add(connection, settings, "main", url)
        await templates.publish(connection, template(), "letter.mjml")
        version, items = await enrolled(connection, count)
    requests = []
    for start in range(0, count, BATCH):
        at, chosen = now(), items[start : start + BATCH]
        async with database.begin() as connection:
            verdicts = await prepare(
                connection,
                settings,
                PrepareRequest(
                    version_id=version, step=0, channel="email", template="letter", purpose="marketing",
                    priority="triggered", at=at, items=chosen,
                ),
            )  # fmt: skip
        assert {verdict.action for verdict in verdicts} == {"deliver"}, verdicts[0]
        requests.append(DeliverRequest("main", at, chosen, False))
    return requests


async def enrolled(connection: AsyncConnection, count: int) -> tuple[int, list[Item]]:
    """A journey's version, and so many contacts in it who began with an event."""
    version = await connection.scalar(_JOURNEY)
    name = await connection.scalar(text("insert into event_name (name) values ('application.saved') returning id"))
    rows = await connection.execute(_ENROLLMENTS, {"count": count, "version": version, "name": name})
    return int(version), [Item(row[0], 1) for row in rows]


_JOURNEY = text(
    "with j as (insert into journey (name, title) values ('benchmark', 'Benchmark') returning id) "
    "insert into journey_version (journey_id, number, source, plan) select id, 1, '', "
    """'{"steps": [{"id": "letter"}]}'::jsonb from j returning id"""
)
_ENROLLMENTS = text(
    "with c as (insert into contact (attributes) select jsonb_build_object('first_name', 'Anna ' || n) "
    "from generate_series(1, :count) n returning id), "
    "i as (insert into identity (kind, value, contact_id) "
    "select 'email', 'anna' || id || '@shop' || id % 40 || '.example', id from c), "
    "k as (insert into consent (contact_id, channel, purpose, granted) select id, 'email', 'marketing', true from c), "
    "e as (insert into event (occurred_at, contact_id, name_id, properties) select now(), id, :name, "
    "jsonb_build_object('application_id', 'A-' || id, 'product', 'timber and saw-wood') from c "
    "returning id, contact_id, occurred_at) "
    "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, entry_event_id, entry_event_at) "
    "select contact_id, 1, (select journey_id from journey_version where id = :version), :version, false, id, "
    "occurred_at from e returning id"
)


@asynccontextmanager
async def sink() -> AsyncIterator[int]:
    """An SMTP server in another process that takes everything; gives its port."""
    port = free_port()
    found = shutil.which("smtp-sink", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [found, *as_user, f"127.0.0.1:{port}", "1000"] if found else []
    if not command:
        command = [sys.executable, "-m", "benchmarks.email", "--sink", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await listening(port)
        console.log(f"sink: {'smtp-sink' if found else 'ours'} at port {port}")
        yield port
    finally:
        process.terminate()
        await process.wait()


async def listening(port: int) -> None:
    """Wait until somebody listens at a port."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit("the sink does not listen")


async def be_sink(port: int) -> None:
    """The sink of ours."""

    async def keep(_letter: Received) -> str:
        return "taken"

    async with receiving(keep, port=port):
        await asyncio.Event().wait()


async def delivered(database: Database, settings: Settings, requests: Sequence[DeliverRequest], width: int) -> float:
    """Letters a second; `width` batches at a time, as a worker's activities do."""
    delivery = Delivery(database, settings)
    waiting = list(reversed(requests))
    states: Counter[str] = Counter()

    async def work() -> None:
        while waiting:
            done = await delivery.deliver(waiting.pop(), lambda: None)
            states.update(done.states.values())

    started = time.perf_counter()
    await asyncio.gather(*[work() for _ in range(width)])
    took = time.perf_counter() - started
    await delivery.close()
    count = sum(len(request.items) for request in requests)
    if states != {"accepted": count}:
        raise SystemExit(f"{count} letters were due, and they were {dict(states)}")
    return count / took


def plainly(letters: Sequence[Letter], pem: bytes, port: int) -> float:
    """Letters a second of the plain loop: EmailMessage, dkimpy, smtplib."""
    signed = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"List-Unsubscribe", b"List-Unsubscribe-Post"]
    started = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", port) as client:
        for letter in letters:
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = letter.sender, letter.recipient, letter.subject
            message["Message-ID"] = f"<{letter.message_id}@export.example>"
            message["Date"] = now()
            for name, value in letter.headers.items():
                message[name] = value
            message.set_content(letter.text)
            message.add_alternative(letter.html, subtype="html")
            source = message.as_bytes()
            signature = dkimpy.sign(source, b"r1", b"export.example", pem, include_headers=signed)
            client.sendmail("news@export.example", [letter.recipient], signature + source)
    return len(letters) / (time.perf_counter() - started)


class Keeper:
    """A provider that keeps the letters it is given, for the plain loop."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []

    async def hand_over(self, letters: Sequence[Letter]) -> list[Receipt]:
        """Keep them."""
        self.letters += letters
        return [Receipt(Outcome.ACCEPTED) for _ in letters]

    async def check(self) -> None:
        """Nothing can be wrong."""

    async def close(self) -> None:
        """Nothing is open."""


async def rendered(database: Database, settings: Settings, request: DeliverRequest) -> list[Letter]:
    """The letters of one batch as delivery renders them."""
    keeper = Keeper()
    SCHEMES["keep"] = Scheme("email", lambda _url, _settings: keeper)
    async with database.begin() as connection:
        keeping = await providers.add(connection, settings, "keeper", "keep://here")
        await connection.execute(
            text("update message set provider_id = :keeper where created_at = :at"),
            {"keeper": keeping.id, "at": request.at},
        )
    await delivered(database, settings, [replace(request, provider="keeper")], 1)
    return keeper.letters


async def compare(count: int, plain: int, width: int, profile: bool) -> None:
    """Measure both and report."""
    pem = dkim.to_pem(dkim.generate("rsa"))
    with TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), email_from="Export <news@export.example>")
        async with scratch_server({}) as server, sink() as port:
            database = Database(server.url)
            await migrate(database, settings)
            url = f"smtp://127.0.0.1:{port}?dkim_domain=export.example&dkim_key=r1:{quote(pem.decode(), safe='')}"
            first, *requests = await prepared(database, settings, url, count + BATCH)
            letters = await rendered(database, settings, first)
            size = sum(len(letter.html) for letter in letters) / len(letters)
            console.log(f"letters of {size:.0f} bytes of HTML, {letters[0].html.count('/t/c/')} tracked links")
            with profiled(profile):
                ours = await delivered(database, settings, requests, width)
            console.log(f"delivery: {ours:.0f} letters/s")
            theirs = await asyncio.to_thread(plainly, letters[:plain], pem, port)
            console.log(f"plain loop: {theirs:.0f} letters/s")
            await database.close()
    figures = {"letters_per_s": ours, "ratio_to_plain_loop": ours / theirs, "plain_per_s": theirs, "html_bytes": size}
    report("email", figures)


@contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Print where the time went, if wanted."""
    if not wanted:
        yield
        return
    profiler = cProfile.Profile()
    with profiler:
        yield
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(40)


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--letters", type=int, default=20_000, help="how many (default 20,000)")
    parser.add_argument("--plain", type=int, default=500, help="how many by the plain loop (default 500)")
    parser.add_argument("--width", type=int, default=8, help="batches at a time, as in a worker (default 8)")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--sink", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    if given.sink:
        asyncio.run(be_sink(given.sink))
    else:
        asyncio.run(compare(given.letters, min(given.plain, BATCH), given.width, given.profile))


if __name__ == "__main__":
    main()
