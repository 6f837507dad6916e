"""How many contacts a second go through a journey: `python -m benchmarks.journey`.

The reference journey (send, wait until an event or a time-out, if, send) on the whole embedded stack, with ledger and
visits written, and a provider that accepts everything. Every contact enters by a broadcast; a fifth of them do what
the wait is for. The time runs from the broadcast's beginning until the last contact has finished, the wait included.

In the same run the same journey goes with one workflow per contact, which is the same code with cohorts of one.
"""

import argparse
import asyncio
import time

from sqlalchemy import text

from benchmarks.harness import console, cpu_seconds, report, scratch_stack
from channels import providers, templates
from core import eventlog
from core.clock import now
from core.database import Database
from engine import broadcasts
from journeys import store

WAIT_SECONDS = 2
EVENT_SHARE = 5  # every so-manieth contact does what the wait is for

TEMPLATE = """---
template: {name}
channel: email
subject: Your application
---
<mjml><mj-body><mj-section><mj-column><mj-text>Hello {{{{ contact.first_name }}}}</mj-text></mj-column></mj-section>
</mj-body></mjml>
"""

JOURNEY = f"""
journey: reference
name: Reference
enter: {{segment: all}}
steps:
  - send: email
    template: first
  - wait: {WAIT_SECONDS}s
    until: {{event: application.submitted}}
    then: done
  - if: {{contact.city: Moscow}}
    then:
      - send: email
        template: second
  - end: silent
  - id: done
    end: submitted
"""


async def fill(database: Database, contacts: int) -> None:
    """Contacts with an address and consent, the templates, the provider and the journey."""
    async with database.begin() as connection:
        await connection.execute(
            text(
                "insert into attribute (name, type) values ('first_name', 'text'), ('city', 'text') "
                "on conflict do nothing"
            )
        )
        await connection.execute(
            text(
                "insert into contact (id, attributes) select n, jsonb_build_object('first_name', 'Name' || n, "
                "'city', case when n % 10 < 8 then 'Moscow' else 'Kazan' end) from generate_series(1, :n) n"
            ),
            {"n": contacts},
        )
        await connection.execute(
            text(
                "insert into identity (kind, value, contact_id) "
                "select 'email', 'c' || n || '@example.com', n from generate_series(1, :n) n"
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
        for name in ("first", "second"):
            await templates.publish(connection, TEMPLATE.format(name=name), f"{name}.mjml")
        await store.publish(connection, JOURNEY, "reference.yaml", "benchmark")
    async with database.engine.connect() as raw:
        await raw.execution_options(isolation_level="AUTOCOMMIT")
        await raw.execute(text("vacuum analyze"))


async def carry(contacts: int, cohort_size: int) -> float:
    """Let so many contacts through the journey; the seconds it took."""
    async with scratch_stack(cohort_size=cohort_size) as (stack, database):
        async with database.begin() as connection:
            await providers.add(connection, stack.settings, "void", "blackhole://")
        await fill(database, contacts)
        await asyncio.sleep(3)  # the worker looks for new providers every two seconds
        before = cpu_seconds(stack)
        begun = time.perf_counter()
        async with database.begin() as connection:
            await broadcasts.start(connection, "reference", occasion="benchmark")
        events = asyncio.create_task(respond(database, contacts))
        while True:
            finished = await count(database, "select count(*) from enrollment where finished_at is not null")
            console.log(f"{finished:,} of {contacts:,} finished")
            if finished == contacts:
                break
            await asyncio.sleep(0.5)
        seconds = time.perf_counter() - begun
        for name, used in cpu_seconds(stack).items():
            console.log(f"{name}: {(used - before[name]) / contacts * 1e6:,.0f} µs of CPU a contact")
        await events
        await check(database, contacts)
    return seconds


async def respond(database: Database, contacts: int) -> None:
    """Append the event of every fifth contact as soon as its letter has left."""
    done = 0
    while done < contacts:
        async with database.begin() as connection:
            rows = await connection.execute(
                text(
                    "select contact_id from enrollment where contact_id > :done and step >= 1 "
                    "order by contact_id limit 5000"
                ),
                {"done": done},
            )
            ready = list(rows.scalars())
        if not ready:
            if await count(database, "select count(*) from enrollment where step is null or step < 1") == 0:
                entered = await count(database, "select count(*) from enrollment")
                if entered == contacts:
                    return
            await asyncio.sleep(0.3)
            continue
        done = ready[-1]
        chosen = [contact for contact in ready if contact % EVENT_SHARE == 0]
        async with database.begin() as connection:
            names = await eventlog.name_ids(connection, ["application.submitted"])
            at = now()
            await eventlog.append(
                connection, [eventlog.NewEvent(one, names["application.submitted"], at) for one in chosen]
            )


async def check(database: Database, contacts: int) -> None:
    """Everybody has finished, and everybody got the letters that its way has, once."""
    outcomes = await count(database, "select count(*) from enrollment where outcome in ('silent', 'submitted')")
    letters = await count(database, "select count(*) from message where state = 50")
    expected = await count(
        database,
        "select count(*) + (select count(*) from step_visit v join enrollment e on e.id = v.enrollment_id "
        "where v.step = 3) from enrollment",
    )
    if (outcomes, letters) != (contacts, expected):
        raise SystemExit(f"{outcomes} outcomes for {contacts} contacts, {letters} letters instead of {expected}")
    console.log(f"{letters:,} letters in the ledger, each accepted")


async def count(database: Database, query: str) -> int:
    """The one number that a query gives."""
    async with database.begin() as connection:
        return int((await connection.execute(text(query))).scalar_one())


def main() -> None:
    """Run both ways and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contacts", type=int, default=50_000)
    parser.add_argument("--apart", type=int, default=300, help="contacts with a workflow each")
    parser.add_argument("--cohort-size", type=int, default=2000)
    options = parser.parse_args()
    together = options.contacts / asyncio.run(carry(options.contacts, options.cohort_size))
    apart = options.apart / asyncio.run(carry(options.apart, 1))
    report(
        "journey",
        {
            "contacts_per_s": together,
            "per_contact_workflows_per_s": apart,
            "ratio_to_per_contact": together / apart,
        },
    )


if __name__ == "__main__":
    main()
