"""Merging and undoing it: against a naive model, with many at work at once, and when the connection dies."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import carrying, consents, erasure, identify, merging, profiles, resolve, scores
from contacts.identities import Pair
from contacts.profiles import Item
from core import eventlog
from core.database import Database
from core.errors import Conflict, DatabaseUnavailable, InvalidInput, NotFound
from segments import store, tracking

AT = datetime.now(UTC) - timedelta(hours=1)


async def person(database: Database, **known_by: str) -> int:
    async with database.begin() as connection:
        (done,) = await profiles.upsert(connection, [Item(known_by)])
    assert done.contact_id is not None
    return done.contact_id


async def happened(connection: AsyncConnection, contact: int, name: str = "page.viewed", count: int = 1) -> None:
    names = await eventlog.name_ids(connection, [name])
    await eventlog.append(connection, [eventlog.NewEvent(contact, names[name], AT)] * count)


async def events_of(connection: AsyncConnection) -> dict[int, int]:
    rows = await connection.execute(text("select contact_id, count(*) from event group by 1"))
    return {row[0]: row[1] for row in rows}


async def merged(database: Database, loser: int, winner: int) -> int:
    async with database.begin() as connection:
        return await merging.merge(connection, loser, winner, source="test")


async def undone(database: Database, number: int) -> merging.Undone:
    async with database.begin() as connection:
        return await merging.unmerge(connection, number)


async def settled(database: Database) -> None:
    """Settle until nothing is left to be settled."""
    for _ in range(100):
        async with database.begin() as connection:
            if not await merging.settle(connection):
                return
    raise AssertionError("a transaction is still open")


async def picture(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """All that merging may move, but for the history of what was agreed."""
    queries = {
        "contact": "select id, attributes, tags, language, time_zone, created_at from contact",
        "identity": "select kind, value, contact_id from identity",
        "event": "select id, contact_id, merged_from from event",
        "message": "select id, contact_id, merged_from from message",
        "enrollment": "select id, contact_id, merged_from, closed_by from enrollment",
        "consent": "select contact_id, channel, purpose, granted, changed_at from consent",
        "consent_record": "select id, contact_id, merged_from from consent_record where source <> 'merge'",
        "segment_member": "select segment_id, contact_id, since from segment_member",
        "segment_presence": "select segment_id, contact_id, since from segment_presence",
        "session": "select id, contact_id, merged_from from session",
        "contact_touch": "select contact_id, which, at, url from contact_touch",
        "conversion": "select enrollment_id, contact_id, merged_from from conversion",
        "delivery_report": "select id, contact_id, merged_from from delivery_report",
        "message_settlement": "select id, contact_id, merged_from from message_settlement",
        "preference_record": "select id, contact_id, merged_from from preference_record",
        "frequency": "select contact_id, channel, per_week, changed_at from frequency",
        "consent_request": "select contact_id, channel, purpose, address, asked_at from consent_request",
    }
    async with database.begin() as connection:
        return {
            name: sorted((tuple(row) for row in await connection.execute(text(query))), key=str)
            for name, query in queries.items()
        }


async def furnish(database: Database, contact: int, salt: int, granted: bool) -> None:
    """Something in every table that follows a contact."""
    at = AT + timedelta(minutes=salt)
    values: dict[str, object] = {"contact": contact, "salt": salt, "at": at}
    async with database.begin() as connection:
        await profiles.apply(connection, [contact], {"city": f"city {salt}", f"own{salt}": salt}, [f"tag{salt}", "all"])
        await consents.record(connection, [contact], "email", "marketing", granted, "test", {}, at)
        for statement in (
            "insert into message (id, created_at, contact_id, state, channel, purpose) "
            "values (gen_random_uuid(), now(), :contact, 50, 'email', 'marketing')",
            "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, key) "
            "values (:contact, 1, 1, 1, true, 'k' || :salt)",
            "insert into conversion values (:salt, 1, now(), :contact, null, 1, 1)",
            "insert into segment (id, name, title, source) values (1, 'a', 'A', ''), (2, 'b', 'B', '') "
            "on conflict do nothing",
            "insert into segment_member values (1, :contact, :at)",
            "insert into segment_member values (:salt, :contact, :at) on conflict do nothing",
            "insert into segment_presence values (1, :contact, :at)",
            "insert into session (contact_id, site_id, started_at, ended_at, pages) values (:contact, 1, :at, :at, 1)",
            "insert into contact_touch (contact_id, which, at, site_id, url) "
            "values (:contact, 0, :at, 1, 'u' || :salt), (:contact, 1, :at, 1, 'u' || :salt)",
            "insert into delivery_report (contact_id, reported_at, provider_id, kind) "
            "values (:contact, :at, 1, 'delivered')",
            "insert into message_settlement (message_id, contact_id, word, was, by) "
            "values (gen_random_uuid(), :contact, 'sent', 30, 'anna')",
            "insert into preference_record (contact_id, changes, source) values (:contact, '{}', 'page')",
            "insert into frequency (contact_id, channel, per_week, changed_at) values (:contact, 'email', :salt, :at)",
            "insert into consent_request (contact_id, channel, purpose, address, asked_at, expires_at, source) "
            "values (:contact, 'email', 'marketing', 'x' || :salt, :at, :at, 'api'), "
            "(:contact, 'email', 'own' || :salt, 'x' || :salt, :at, :at, 'api')",
        ):
            given = {name: value for name, value in values.items() if f":{name}" in statement}
            await connection.execute(text(statement.replace(":salt", "cast(:salt as int)")), given)
        await happened(connection, contact, count=salt)


async def test_everything_follows_and_undoing_brings_it_back(database: Database) -> None:
    winner = await person(database, email="anna@x.com")
    loser = await person(database, anonymous_id="laptop")
    await furnish(database, winner, 2, granted=True)
    await furnish(database, loser, 1, granted=False)
    before = await picture(database)
    number = await merged(database, loser, winner)
    await settled(database)
    after = await picture(database)
    for table in ("identity", "event", "message", "enrollment", "conversion", "consent_record", "session"):
        assert len(after[table]) == len(before[table]), table
    for table, rows in after.items():
        place = {
            "contact": 0,
            "identity": 2,
            "consent": 0,
            "contact_touch": 0,
            "frequency": 0,
            "consent_request": 0,
        }.get(table, 1)
        assert {row[place] for row in rows} == {winner}, table
    ((_, attributes, tags, *_),) = after["contact"]
    assert (attributes, tags) == ({"city": "city 2", "own1": 1, "own2": 2}, ["tag2", "all", "tag1"])
    assert [(row[1], row[3]) for row in after["contact_touch"]] == [(0, "u1"), (1, "u2")]
    assert [row[2] for row in after["frequency"]] == [2]
    assert [(row[2], row[3]) for row in after["consent_request"]] == [
        ("marketing", "x2"),
        ("own1", "x1"),
        ("own2", "x2"),
    ]
    assert after["consent"] == [(winner, "email", "marketing", True, AT + timedelta(minutes=2))]
    async with database.begin() as connection:
        assert await profiles.find(connection, str(loser)) == winner
        (shown,) = await merging.listing(connection, winner)
        assert (shown["id"], shown["loser_id"], shown["can_be_undone"]) == (number, loser, True)
    await undone(database, number)
    assert await picture(database) == before
    with pytest.raises(Conflict, match="was undone"):
        await undone(database, number)


async def test_merges_of_merges_are_undone_in_turn(database: Database) -> None:
    a, b, c = [await person(database, external_id=str(n)) for n in range(3)]
    for salt, one in enumerate((a, b, c), 1):
        async with database.begin() as connection:
            await happened(connection, one, count=salt)
    states = [await picture(database)]
    first = await merged(database, a, b)
    await settled(database)
    states.append(await picture(database))
    second = await merged(database, b, c)
    async with database.begin() as connection:
        assert await merging.current(connection, [a, b, c]) == {a: c, b: c}
        assert await events_of(connection) == {c: 6}
    with pytest.raises(Conflict, match=f"undo merge {second} first"):
        await undone(database, first)
    await undone(database, second)
    assert await picture(database) == states[1]
    async with database.begin() as connection:
        assert await merging.current(connection, [a, b, c]) == {a: b}
    await undone(database, first)
    assert await picture(database) == states[0]


async def test_what_cannot_be_merged(database: Database) -> None:
    a, b = await person(database, external_id="a"), await person(database, external_id="b")
    with pytest.raises(InvalidInput):
        await merged(database, a, a)
    with pytest.raises(NotFound):
        await merged(database, a, 10**9)
    number = await merged(database, a, b)
    with pytest.raises(NotFound, match=f"merged into {b}"):
        await merged(database, a, b)
    async with database.begin() as connection:
        await erasure.erase(connection, b)
    with pytest.raises(Conflict, match="erased"):
        await undone(database, number)
    async with database.begin() as connection:
        assert (await connection.execute(text("select count(*) from contact"))).scalar() == 0


async def test_what_was_written_about_the_loser_meanwhile_is_carried_over(database: Database) -> None:
    """A transaction has found the loser; the contacts merge; then it writes."""
    winner, loser = await person(database, email="anna@x.com"), await person(database, anonymous_id="d")
    async with database.begin() as connection:
        await scores.add(connection, [winner, loser], {"score": 5})
    async with database.begin() as late:
        assert await resolve(late, [("anonymous_id", "d")]) == [loser]
        await merged(database, loser, winner)
        async with database.begin() as connection:
            assert await merging.settle(connection) == 1
            assert await merging.settle(connection) == 1  # the other transaction could still write
        await scores.add(late, [loser], {"score": 2})
        await profiles.apply(late, [loser], {"city": "Tver"}, ["late"])
        await consents.record(late, [loser], "email", "marketing", False, "late", {}, AT)
        await late.execute(
            text("insert into identity (kind, value, contact_id) values ('phone', '1', :id)"), {"id": loser}
        )
        await happened(late, loser)
    await settled(database)
    async with database.begin() as connection:
        found = await profiles.get(connection, winner)
        assert (found.attributes, found.tags) == ({"score": 12, "city": "Tver"}, ["late"])
        assert {one["kind"] for one in found.identities} == {"email", "anonymous_id", "phone"}
        assert [(one["granted"], one["changed_at"]) for one in found.consents] == [(False, AT)]
        assert await events_of(connection) == {winner: 1}
        assert (await connection.execute(text("select array_agg(id) from contact"))).scalar() == [winner]


async def _looked_at(database: Database) -> list[int]:
    """Let the tracked segment look at everybody who waits for it; who is in it then, by the log as well."""
    async with database.begin() as connection:
        while await tracking.look_on(connection):
            pass
    async with database.begin() as connection:
        kept = list((await connection.execute(text("select contact_id from segment_presence"))).scalars())
        told = await connection.execute(
            text(
                "select e.contact_id, sum(case n.name when 'segment.entered' then 1 else -1 end)::int as sum "
                "from event e join event_name n on n.id = e.name_id where n.name like 'segment.%' group by 1"
            )
        )
        assert {row.contact_id for row in told if row.sum} == set(kept)
    return kept


async def test_a_tracked_segment_hears_of_events_that_change_hands(database: Database) -> None:
    winner, loser = await person(database, email="a@x.com"), await person(database, email="b@x.com")
    async with database.begin() as connection:
        criteria = "{event: {name: order.paid, count: {gte: 3}}}"
        await store.publish(connection, f"segment: loyal\ncriteria: {criteria}\n")
        await tracking.listen(connection, ["loyal"])
        assert await tracking.sweep(connection)
        await happened(connection, winner, "order.paid", 1)
        await happened(connection, loser, "order.paid", 1)
    assert await _looked_at(database) == []
    async with database.begin() as late:
        assert await resolve(late, [("email", "b@x.com")]) == [loser]
        number = await merged(database, loser, winner)
        assert await _looked_at(database) == []
        await happened(late, loser, "order.paid", 1)
    await settled(database)
    assert await _looked_at(database) == [winner]
    await undone(database, number)
    assert await _looked_at(database) == []


async def test_two_open_runs_of_one_journey_become_one(database: Database) -> None:
    winner, loser = await person(database, email="anna@x.com"), await person(database, anonymous_id="d")
    insert = text(
        "insert into enrollment (contact_id, cohort_id, journey_id, version_id, exclusive, key, state) "
        "values (:contact, 1, :journey, 1, :exclusive, :key, 'active') returning id"
    )
    runs = {}
    async with database.begin() as connection:
        for who, contact in (("winner", winner), ("loser", loser)):
            for journey, exclusive, key in ((1, True, ""), (2, False, ""), (3, True, who)):
                values = {"contact": contact, "journey": journey, "exclusive": exclusive, "key": key}
                runs[who, journey] = (await connection.execute(insert, values)).scalar_one()
    number = await merged(database, loser, winner)
    async with database.begin() as connection:
        rows = await connection.execute(text("select id, contact_id, closed_by is null as is_open from enrollment"))
        found = {row.id: (row.contact_id, row.is_open) for row in rows}
        assert found == {run: (winner, key != ("loser", 1)) for key, run in runs.items()}
        orders = await connection.execute(text("select enrollment_id, outcome from enrollment_order"))
        assert [tuple(row) for row in orders] == [(runs["loser", 1], "merged")]
    assert (await undone(database, number)).ended == [runs["loser", 1]]


async def test_a_connection_that_dies_in_the_middle_leaves_everything_as_it_was(database: Database) -> None:
    winner, loser = await person(database, email="anna@x.com"), await person(database, anonymous_id="d")
    await furnish(database, winner, 2, granted=True)
    await furnish(database, loser, 1, granted=False)
    before = await picture(database)
    with pytest.raises(DatabaseUnavailable):
        async with database.begin() as connection:
            await merging.merge(connection, loser, winner, source="test")
            mine = (await connection.execute(text("select pg_backend_pid()"))).scalar_one()
            async with database.begin() as other:
                await other.execute(text("select pg_terminate_backend(:pid)"), {"pid": mine})
            await connection.execute(text("select 1"))
    assert await picture(database) == before
    await merged(database, loser, winner)
    await settled(database)
    async with database.begin() as connection:
        assert set(await events_of(connection)) == {winner}


async def test_every_table_about_contacts_is_thought_of(database: Database) -> None:
    """A new table with a contact_id either follows merges or is named here with the reason why not."""
    elsewhere = {
        "identity": "moved first, by carry",
        "consent": "decided by combining.agree",
        "identity_conflict": "turned or dropped, by carry",
        "segment_look": "only says that somebody has to look at the contact; merging has both looked at",
    }
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select c.table_name from information_schema.columns c where c.column_name = 'contact_id' "
                "and c.table_schema = 'public' and c.table_name not in "
                "(select inhrelid::regclass::text from pg_inherits)"
            )
        )
        tables = set(rows.scalars())
    assert tables == {*carrying._FOLLOWING, *carrying._SIDE, *carrying._CHOSEN, *elsewhere}


# --- against a model


@dataclass
class Model:
    """The rules as a child would write them down."""

    owner: dict[Pair, int] = field(default_factory=dict)
    events: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Contact to the contacts that the events first belonged to."""
    merges: list[tuple[int, int, int, set[Pair]]] = field(default_factory=list)
    """Number, loser, winner and the loser's identities; those that stand."""

    def merge(self, number: int, loser: int, winner: int) -> None:
        mine = {pair for pair, contact in self.owner.items() if contact == loser}
        self.owner.update(dict.fromkeys(mine, winner))
        self.events[winner] += self.events.pop(loser, [])
        self.merges.append((number, loser, winner, mine))

    def family(self, contact: int) -> set[int]:
        return {contact}.union(*(self.family(loser) for _, loser, winner, _ in self.merges if winner == contact))

    def unmerge(self, which: tuple[int, int, int, set[Pair]]) -> None:
        _, loser, winner, mine = which
        self.merges.remove(which)
        self.owner.update(dict.fromkeys(mine, loser))
        family = self.family(loser)
        self.events[loser] = [one for one in self.events[winner] if one in family]
        self.events[winner] = [one for one in self.events[winner] if one not in family]


@pytest.mark.parametrize("seed", range(12))
async def test_any_sequence_agrees_with_the_model(database: Database, seed: int) -> None:
    chance, model = random.Random(seed), Model()
    devices = [("anonymous_id", f"d{n}") for n in range(6)]
    for _ in range(40):
        action = chance.choice(["visit", "visit", "identify", "identify", "merge", "unmerge", "settle"])
        if action == "visit":
            pair = chance.choice(devices)
            async with database.begin() as connection:
                (contact,) = await resolve(connection, [pair])
                await happened(connection, contact)
            assert model.owner.setdefault(pair, contact) == contact
            model.events[contact].append(contact)
        elif action == "identify":
            _, device = chance.choice(devices)
            said = {"external_id": f"u{chance.randrange(3)}"}
            before = dict(model.owner)
            async with database.begin() as connection:
                done = await identify(connection, device, said)
                await happened(connection, done.contact_id)
            _identified(model, before, device, ("external_id", said["external_id"]), done)
            model.events[done.contact_id].append(done.contact_id)
        elif action == "merge" and len(set(model.owner.values())) > 1:
            loser, winner = chance.sample(sorted(set(model.owner.values())), 2)
            model.merge(await merged(database, loser, winner), loser, winner)
        elif action == "unmerge" and model.merges:
            which = chance.choice(model.merges)
            if any(loser == which[2] for _, loser, _, _ in model.merges):
                with pytest.raises(Conflict):
                    await undone(database, which[0])
            else:
                await undone(database, which[0])
                model.unmerge(which)
        elif action == "settle":
            await settled(database)
        async with database.begin() as connection:
            rows = await connection.execute(text("select kind, value, contact_id from identity"))
            assert {(row.kind, row.value): row.contact_id for row in rows} == model.owner, action
            counts = {contact: len(events) for contact, events in model.events.items() if events}
            assert await events_of(connection) == counts, action


def _identified(model: Model, before: dict[Pair, int], device: str, said: Pair, done: object) -> None:
    """What identify must have done, by the words of the manual."""
    mark = ("anonymous_id", device)
    contact, merges, anew = done.contact_id, done.merges, done.anew  # type: ignore[attr-defined]

    def external(one: int) -> set[str]:
        return {value for (kind, value), owner in before.items() if owner == one and kind == "external_id"}

    visitor, known = before.get(mark), before.get(said)
    if known is not None:
        assert contact == known
        if visitor not in {None, known} and not external(visitor):
            model.merge(merges[0], visitor, known)
        assert anew == (visitor not in {None, known} and bool(external(visitor)))
    elif visitor is not None and not external(visitor):
        assert contact == visitor
    else:
        assert contact not in before.values()
        assert anew == (visitor is not None)
    model.owner[said] = contact
    if not anew:
        model.owner[mark] = contact


async def test_nothing_is_lost_when_all_happens_at_once(database: Database) -> None:
    """Visitors act while they are identified, on several devices, and merges are undone meanwhile."""
    tracked: list[int] = []

    async def often(work: Sequence[object], task: object) -> None:
        for one in work:
            while True:
                try:
                    await task(one)  # type: ignore[operator]
                    break
                except exc.DBAPIError as error:
                    if not isinstance(error.orig, psycopg.errors.DeadlockDetected | psycopg.errors.UniqueViolation):
                        raise

    async def act(number: object) -> None:
        async with database.begin() as connection:
            contacts = await resolve(connection, [("anonymous_id", f"d{n}") for n in range(4)])
            await asyncio.sleep(0)
            names = await eventlog.name_ids(connection, ["page.viewed"])
            await eventlog.append(connection, [eventlog.NewEvent(one, names["page.viewed"], AT) for one in contacts])
        tracked.append(len(contacts))

    async def tell(number: object) -> None:
        async with database.begin() as connection:
            await identify(connection, f"d{number}", {"email": "anna@x.com", "external_id": "u"})

    async def undo(number: object) -> None:
        async with database.begin() as connection:
            standing = await merging.listing(connection)
            if standing and standing[0]["can_be_undone"]:
                await merging.unmerge(connection, standing[0]["id"])

    async def settle(number: object) -> None:
        async with database.begin() as connection:
            await merging.settle(connection)

    await asyncio.gather(
        often(range(25), act),
        often(range(25), act),
        often([n % 4 for n in range(16)], tell),
        often([n % 4 for n in range(16)], tell),
        often(range(6), undo),
        often(range(20), settle),
    )
    await often([0, 1, 2, 3], tell)
    await settled(database)
    async with database.begin() as connection:
        rows = await connection.execute(text("select kind, value, contact_id from identity"))
        owner = {(row.kind, row.value): row.contact_id for row in rows}
        everybody = set((await connection.execute(text("select id from contact"))).scalars())
        counted = await events_of(connection)
    assert len({owner["anonymous_id", f"d{n}"] for n in range(4)}) == 1
    assert set(owner.values()) == everybody
    assert set(counted) <= everybody
    assert sum(counted.values()) == sum(tracked)
