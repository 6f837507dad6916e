"""How long from an event that is accepted to the letter at the SMTP server: `python -m benchmarks.react`.

The whole embedded stack; events over HTTP at a steady rate, each by another contact, each beginning a journey whose
first step is a letter. A real SMTP server (aiosmtpd) in this process notes when each letter's last byte is there. The
time runs from the moment the API has answered that the event is committed.
"""

import argparse
import asyncio
import statistics
import time

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import SecretStr
from sqlalchemy import text

from benchmarks.harness import console, report, scratch_stack
from channels import templates
from core import access
from core.database import Database
from journeys import store
from studio.stack.process import free_port

TEMPLATE = """---
template: hello
channel: email
subject: Your application {{ event.application_id }}
---
<mjml><mj-body><mj-section><mj-column><mj-text>
Hello {{ contact.first_name | default("there") }}, <a href="https://example.com/continue">go on</a> where you stopped.
</mj-text></mj-column></mj-section></mj-body></mjml>
"""

JOURNEY = """
journey: react
name: React
enter: {event: application.saved, key: event.application_id}
steps:
  - send: email
    template: hello
  - end: sent
"""


class Sink:
    """Notes when the letter to each address arrived."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Take the letter."""
        at = time.perf_counter()
        for address in envelope.rcpt_tos:
            if address in self.arrived:
                raise SystemExit(f"two letters to {address}")
            self.arrived[address] = at
        return "250 taken"


async def prepare(database: Database, contacts: int) -> str:
    """Contacts with consent, the template and the journey; an API key."""
    async with database.begin() as connection:
        await connection.execute(text("insert into attribute (name, type) values ('first_name', 'text')"))
        await connection.execute(
            text(
                "insert into contact (id, attributes) select n, jsonb_build_object('first_name', 'Name' || n) "
                "from generate_series(1, :n) n"
            ),
            {"n": contacts},
        )
        await connection.execute(
            text(
                "insert into identity (kind, value, contact_id) select kind, prefix || n || suffix, n "
                "from generate_series(1, :n) n, (values ('email', 'c', '@example.com'), ('external_id', 'x', '')) "
                "as k(kind, prefix, suffix)"
            ),
            {"n": contacts},
        )
        await connection.execute(
            text(
                "insert into consent (contact_id, channel, purpose, granted) "
                "select n, 'email', 'marketing', true from generate_series(1, :n) n"
            ),
            {"n": contacts},
        )
        await templates.publish(connection, TEMPLATE, "hello.mjml")
        await store.publish(connection, JOURNEY, "react.yaml", "benchmark")
        return await access.create(connection, "benchmark", ["events:write"])


async def post(client: httpx.AsyncClient, number: int, accepted: dict[str, float]) -> None:
    """Send one event and note when it was accepted."""
    body = {
        "event": "application.saved",
        "contact": {"external_id": f"x{number}"},
        "properties": {"application_id": str(number)},
    }
    answer = await client.post("/v1/events", json=body)
    answer.raise_for_status()
    accepted[f"c{number}@example.com"] = time.perf_counter()


async def react(rate: int, seconds: int) -> list[float]:
    """The delay of each letter, in milliseconds, sorted."""
    sink = Sink()
    port = free_port()
    controller = Controller(sink, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        email = SecretStr(f"smtp://127.0.0.1:{port}")
        async with scratch_stack(email=email) as (stack, database):
            key = await prepare(database, rate * (seconds + 5))
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
                await drive(client, range(1, rate * 5 + 1), rate, sink)  # warm-up
                console.log("warm; measuring")
                delays = await drive(client, range(rate * 5 + 1, rate * (seconds + 5) + 1), rate, sink)
    finally:
        controller.stop()
    return delays


async def drive(client: httpx.AsyncClient, numbers: range, rate: int, sink: Sink) -> list[float]:
    """Post events at a steady rate and wait for all their letters."""
    accepted: dict[str, float] = {}
    begun = time.perf_counter()
    tasks = []
    for place, number in enumerate(numbers):
        await asyncio.sleep(max(0.0, begun + place / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(post(client, number, accepted)))
    await asyncio.gather(*tasks)
    deadline = time.perf_counter() + 60
    while not accepted.keys() <= sink.arrived.keys():
        if time.perf_counter() > deadline:
            raise SystemExit(f"{len(accepted.keys() - sink.arrived.keys())} letters did not arrive")
        await asyncio.sleep(0.05)
    return sorted(max(0.0, sink.arrived[address] - at) * 1000 for address, at in accepted.items())


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=200, help="events a second")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    delays = asyncio.run(react(options.rate, options.seconds))
    cuts = statistics.quantiles(delays, n=100)
    report("react", {"p50_ms": cuts[49], "p90_ms": cuts[89], "p99_ms": cuts[98], "max_ms": delays[-1]})


if __name__ == "__main__":
    main()
