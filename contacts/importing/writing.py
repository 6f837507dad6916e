"""Writing a chunk that was decided: contacts, identities and consents, by COPY and as sets."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import belonging, companies, identities, optin
from contacts.importing.deciding import Decided, Person, decide, leave_out, rows_that_meet
from contacts.importing.job import Job, Taken
from contacts.importing.reading import Chunk
from contacts.profiles import Limits
from core.clock import now
from core.database import driver

_BLOCK = 500
"""Rows that are written for COPY at a time."""


async def write(connection: AsyncConnection, chunk: Chunk, job: Job, limits: Limits, taken: Taken) -> Decided:
    """Write one chunk: who the rows are about, then contacts, identities and consents."""
    await identities.hold_off_erasure(connection)
    await _leave_out_erased(connection, chunk)
    known = await _known(connection, chunk)
    others = rows_that_meet(chunk, known)
    external_ids = await _external_ids(connection, chunk, known)
    decided = decide(chunk, known, external_ids, others, await _reserve(connection, len(chunk.good)), job.columns)
    met = [person for person in decided.people.values() if not person.new]
    if met:
        over = await _stage(connection, met, limits)
        leave_out(decided, over, "the contact would carry more attributes or tags than a contact may")
        await connection.execute(_UPDATE)
    await _copy(connection, "contact (id, language, time_zone, tags, attributes)", _contacts(chunk, decided))
    await _copy(connection, "identity (kind, value, contact_id)", sorted(decided.attached))
    await belonging.note_conflicts(connection, decided.conflicts, "import")
    await companies.assign(connection, dict(_members(chunk, decided)))
    if job.options.consents:
        await _write_consents(connection, chunk, decided, job, taken)
    return decided


async def _leave_out_erased(connection: AsyncConnection, chunk: Chunk) -> None:
    """Refuse the rows that name an anonymous id of somebody who was erased: it must not become usable again."""
    anonymous = next((values for kind, values in chunk.kinds if kind == "anonymous_id"), None)
    if anonymous is None:
        return
    given = {("anonymous_id", value) for n in chunk.good if (value := anonymous[n]) is not None}
    gone = {value for _, value in await identities.erased(connection, given)}
    if gone:
        chunk.rejects |= {
            n: ("", "the anonymous id belonged to a contact who was erased") for n in chunk.good if anonymous[n] in gone
        }
        chunk.good[:] = [n for n in chunk.good if n not in chunk.rejects]


async def _known(connection: AsyncConnection, chunk: Chunk) -> dict[identities.Pair, int]:
    """The contacts behind those identities of the good rows that somebody has."""
    given = [(kind, value) for kind, values in chunk.kinds for n in chunk.good if (value := values[n]) is not None]
    return await identities.lookup(connection, given)


async def _external_ids(
    connection: AsyncConnection, chunk: Chunk, known: Mapping[identities.Pair, int]
) -> dict[int, set[str]]:
    """The external ids of the known contacts, if the rows speak of such; nobody gives them others meanwhile."""
    if not known or all(kind != "external_id" for kind, _ in chunk.kinds):
        return {}
    contact_ids = set(known.values())
    await belonging.lock(connection, contact_ids)
    return await belonging.external_ids(connection, contact_ids)


def _contacts(chunk: Chunk, decided: Decided) -> Iterator[Sequence[object]]:
    """The contacts to be made, as COPY takes them."""
    plain = decided.plain
    yield from zip(
        decided.plain_ids,
        [chunk.language[n] for n in plain],
        [chunk.time_zone[n] for n in plain],
        [_array(chunk.tags[n]) for n in plain],
        [f"{{{chunk.fragments[n]}}}" for n in plain],
        strict=True,
    )
    for person in decided.people.values():
        if person.new:
            yield _staged(person)


def _members(chunk: Chunk, decided: Decided) -> Iterator[tuple[int, str]]:
    """The contacts that the rows give a company."""
    for contact_id, n in zip(decided.plain_ids, decided.plain, strict=True):
        if company := chunk.company[n]:
            yield contact_id, company
    for person in decided.people.values():
        if person.company:
            yield person.id, person.company


def _staged(person: Person) -> Sequence[object]:
    return person.id, person.language, person.time_zone, _array(person.tags), f"{{{person.fragment}}}"


async def _reserve(connection: AsyncConnection, count: int) -> Iterator[int]:
    """Ids for contacts about to be made. Those that turn out not to be needed stay unused."""
    raw = await driver(connection)
    query = "select nextval((select pg_get_serial_sequence('contact', 'id')::regclass)) from generate_series(1, %s)"
    cursor = await raw.execute(query, (count,), binary=True)
    return itertools.chain.from_iterable(await cursor.fetchall())


async def _copy(connection: AsyncConnection, target: str, rows: Iterable[Sequence[object]]) -> None:
    """COPY rows; None becomes null. The CSV form, because Python writes it without a loop of ours. In blocks, so that
    PostgreSQL stores one while the next is written."""
    left = iter(rows)
    block = _csv(left)
    if not block:
        return
    raw = await driver(connection)
    async with raw.cursor() as cursor, cursor.copy(f"copy {target} from stdin (format csv)".encode()) as copy:
        while block:
            await copy.write(block)
            block = _csv(left)


def _csv(rows: Iterator[Sequence[object]]) -> bytes:
    """The next block of rows as CSV; empty after the last one."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(itertools.islice(rows, _BLOCK))
    return buffer.getvalue().encode()


def _array(values: Iterable[str] | None) -> str:
    """Texts as PostgreSQL writes an array."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values or ())
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


# A contact that is met again: locked in the order of ids, and only rewritten where something changes.
_STAGE = """
create temporary table staged_contact (
    id bigint not null, language text, time_zone text, tags text[] not null, attributes jsonb not null
) on commit drop
"""
_OVER = text(
    """
    with person as materialized (
        select id, attributes, tags from contact where id in (select id from staged_contact) order by id
        for no key update
    ), merged as (
        select id, person.attributes || s.attributes as attributes,
            array(select distinct unnest(person.tags || s.tags)) as tags
        from person join staged_contact s using (id)
        where s.attributes <> '{}' or s.tags <> '{}'
    ), refused as (
        select id from merged
        where octet_length(attributes::text) > :bytes or cardinality(tags) > :tags
           or (select count(*) from jsonb_object_keys(attributes)) > :attributes
    )
    delete from staged_contact where id in (select id from refused) returning id
    """
)
_UPDATE = text(
    """
    update contact c
    set attributes = c.attributes || s.attributes, language = coalesce(s.language, c.language),
        time_zone = coalesce(s.time_zone, c.time_zone), updated_at = now(),
        tags = c.tags || array(select t from unnest(s.tags) t where t <> all(c.tags))
    from staged_contact s
    where c.id = s.id and (c.attributes || s.attributes <> c.attributes
        or not c.tags @> s.tags or s.language <> coalesce(c.language, '')
        or s.time_zone <> coalesce(c.time_zone, ''))
    """
)


async def _stage(connection: AsyncConnection, people: Iterable[Person], limits: Limits) -> set[int]:
    """Lay what is said about known contacts beside them; gives those who would carry too much, and drops them."""
    await connection.execute(text(_STAGE))
    await _copy(connection, "staged_contact", map(_staged, people))
    await connection.execute(text("analyze staged_contact"))
    over = await connection.execute(
        _OVER, {"bytes": limits.bytes, "tags": limits.tags, "attributes": limits.attributes}
    )
    return set(over.scalars())


_STAGE_CONSENTS = """
create temporary table staged_consent (
    contact_id bigint not null, channel text not null, purpose text not null, granted boolean not null
) on commit drop
"""
_MERGE_CONSENTS = text(
    """
    insert into consent as held (contact_id, channel, purpose, granted, changed_at)
    select contact_id, channel, purpose, granted, :at from staged_consent order by contact_id
    on conflict (contact_id, channel, purpose) do update
    set granted = excluded.granted, changed_at = excluded.changed_at
    where excluded.changed_at >= held.changed_at
    """
)


async def _write_consents(connection: AsyncConnection, chunk: Chunk, decided: Decided, job: Job, taken: Taken) -> None:
    """What the rows say about consent, said at the time the import began: a later row of the file overrules it."""
    at, pairs = taken.started_at.isoformat(), job.options.consents
    new = [
        (contact_id, granted, n)
        for contact_id, n in zip(decided.plain_ids, decided.plain, strict=True)
        if (granted := chunk.consent[n]) is not None
    ]
    met: list[tuple[int, bool, int]] = []
    for person in decided.people.values():
        if person.consent is not None:
            (new if person.new else met).append((person.id, person.consent, person.consent_row))
    if job.options.confirm:
        agreed = {contact_id: n for contact_id, granted, n in itertools.chain(new, met) if granted}
        await _ask(connection, chunk, agreed, job, taken)
        new, met = [one for one in new if not one[1]], [one for one in met if not one[1]]
    await _copy(
        connection,
        "consent_record (contact_id, channel, purpose, granted, recorded_at, source, evidence)",
        (
            (contact_id, channel, purpose, granted, at, "import", _evidence(chunk, n, taken))
            for channel, purpose in pairs
            for contact_id, granted, n in itertools.chain(new, met)
        ),
    )
    await _copy(
        connection,
        "consent (contact_id, channel, purpose, granted, changed_at)",
        ((contact_id, channel, purpose, granted, at) for channel, purpose in pairs for contact_id, granted, _ in new),
    )
    if met:
        rows = ((contact_id, channel, purpose, granted) for channel, purpose in pairs for contact_id, granted, _ in met)
        await connection.execute(text(_STAGE_CONSENTS))
        await _copy(connection, "staged_consent", rows)
        await connection.execute(_MERGE_CONSENTS, {"at": taken.started_at})


async def _ask(connection: AsyncConnection, chunk: Chunk, agreed: dict[int, int], job: Job, taken: Taken) -> None:
    """Double opt-in: those who agreed, by the file's account, are asked themselves."""
    evidence = {contact_id: msgspec.json.decode(_evidence(chunk, n, taken)) for contact_id, n in agreed.items()}
    for channel, purpose in job.options.consents:
        days = job.settings.confirmation_days
        await optin.ask(connection, evidence, channel, purpose, "import", now(), days)


def _evidence(chunk: Chunk, n: int, taken: Taken) -> str:
    """Which import and which line said so, and what stood in the evidence column."""
    told = chunk.evidence[n]
    shown = "" if told is None else f',"text":{msgspec.json.encode(told).decode()}'
    return f'{{"import":{taken.id},"line":{chunk.records[n][0]}{shown}}}'
