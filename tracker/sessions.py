"""Writing sessions with the hits that make them: the same transaction, so each hit counts once, whatever dies when.

Whoever writes sessions of a contact holds the contact's lock from before they are read until the commit, so that API
processes count one after the other where they meet. See docs/decisions/0004-sessions-are-written-with-their-hits.md.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from core.database import Direct, array
from core.schema.sessions import FIRST, LAST
from tracker.campaigns import Traffic, arrival, outside
from tracker.hits import PAGE_VIEWED
from tracker.spans import Client, Span, Step, count, cut, fit

LOCKS = 1024
"""Contacts share so many locks: PostgreSQL's lock table is small, and a batch may be of thousands of contacts."""
_LOCK_SPACE = 0x73657373  # "sess"
CUT_HITS, CUT_TIME = 1_000, timedelta(hours=24)
"""How much is cut anew for a late hit, at most: all who send events wait meanwhile, and anybody can send late hits
without end."""


class Visit(msgspec.Struct, frozen=True, gc=False):
    """What a hit tells about sessions."""

    site_id: int
    step: Step


class _Group(msgspec.Struct):
    """The hits of one contact on one site that are being written."""

    contact: int
    site_id: int
    steps: list[Step]


class _Row(msgspec.Struct, array_like=True):
    group: int
    id: int
    started_at: datetime
    ended_at: datetime
    pages: int
    exit_url: str | None
    source: str | None
    medium: str | None
    campaign: str | None
    term: str | None
    content: str | None


class _Old(_Row, array_like=True):
    device: str | None
    browser: str | None
    os: str | None
    language: str | None
    country: str | None
    region: str | None
    city: str | None
    brand: str | None
    model: str | None


class _Logged(msgspec.Struct, array_like=True):
    at: datetime
    is_page: bool
    url: str
    referrer: str | None


class _Found(msgspec.Struct):
    """Sessions on their way into the table."""

    group: _Group
    spans: list[Span]
    is_rebuilt: bool = False


async def record(connection: Direct, visits: Iterable[tuple[int, Visit]], gap: timedelta) -> None:
    """Count hits in their contacts' sessions, and remember the campaigns that brought them.

    One round trip, unless hits came so late that sessions are cut anew. Call it on a pipeline, after everything else
    that can wait for others but the log, and commit soon: others who write about these contacts wait meanwhile.

    Args:
        connection: in a transaction that also appends the hits to the log.
        visits: contacts and their hits, none of which was counted before.
        gap: the longest silence within a session.
    """
    groups = _grouped(visits)
    if not groups:
        return
    await _lock(connection, groups)
    around = await _around(connection, groups, gap)
    found = []
    for number, group in enumerate(groups):
        spans = fit(around.get(number, []), group.steps, gap)
        found.append(await _late(connection, group, gap) if spans is None else _Found(group, spans))
    await _write(connection, found)
    await _touch(connection, groups)


def _grouped(visits: Iterable[tuple[int, Visit]]) -> list[_Group]:
    groups: dict[tuple[int, int], _Group] = {}
    for contact, visit in visits:
        group = groups.get((contact, visit.site_id))
        if group is None:
            group = groups[contact, visit.site_id] = _Group(contact, visit.site_id, [])
        group.steps.append(visit.step)
    for group in groups.values():
        group.steps.sort(key=_time)
    return list(groups.values())


def _time(step: Step) -> datetime:
    return step.at


_TAKE = "select pg_advisory_xact_lock(%s::int, lock) from unnest(%s::int[]) as given (lock)"


async def _lock(connection: Direct, groups: Sequence[_Group]) -> None:
    locks = sorted({group.contact % LOCKS for group in groups})
    await connection.execute(_TAKE, (_LOCK_SPACE, _numbers(locks)))


# The last session that began before the hits, and those that began since: the only ones that hits can belong to.
_AROUND = """
select coalesce(json_agg(json_build_array(
    number - 1, id, started_at, ended_at, pages, exit_url, source, medium, campaign, term, content
) order by number, started_at, id), '[]')::text
from unnest(%s::bigint[], %s::int[], %s::timestamptz[], %s::timestamptz[]) with ordinality
    as given (contact, site, first, last, number),
lateral (
    (select * from session where contact_id = contact and site_id = site and started_at <= first
     order by started_at desc, id desc limit 1)
    union all
    (select * from session where contact_id = contact and site_id = site and started_at > first and started_at <= last)
) as near
"""


async def _around(connection: Direct, groups: Sequence[_Group], gap: timedelta) -> dict[int, list[Span]]:
    cursor = await connection.execute(
        _AROUND,
        (
            _numbers([group.contact for group in groups]),
            _numbers([group.site_id for group in groups]),
            _numbers([group.steps[0].at for group in groups]),
            _numbers([group.steps[-1].at + gap for group in groups]),
        ),
    )
    ((text,),) = await cursor.fetchall()
    spans: dict[int, list[Span]] = {}
    for row in _rows.decode(text):
        spans.setdefault(row.group, []).append(_span(row))
    return spans


def _span(row: _Row) -> Span:
    traffic = Traffic(row.source or "", row.medium or "", row.campaign, row.term, row.content)
    return Span(row.id, row.started_at, row.ended_at, row.pages, row.exit_url, traffic)


_rows = msgspec.json.Decoder(list[_Row])
_olds = msgspec.json.Decoder(list[_Old])
_logged = msgspec.json.Decoder(list[_Logged])


# ---- late hits: sessions cut anew from the log ----

_NEAR = """
select coalesce(json_agg(json_build_array(
    0, id, started_at, ended_at, pages, exit_url, source, medium, campaign, term, content,
    device, browser, os, language, country, region, city, brand, model
) order by started_at, id), '[]')::text
from (
    select * from session where contact_id = %s and site_id = %s and ended_at >= %s and started_at <= %s limit %s
) as near
"""
_LOGGED = """
select coalesce(json_agg(json_build_array(occurred_at, is_page, url, referrer) order by occurred_at, id), '[]')::text
from (
    select e.occurred_at, e.id, n.name = %s as is_page, e.properties->>'referrer' as referrer,
        coalesce(e.properties->>'page', e.properties->>'url') as url
    from event e join event_name n on n.id = e.name_id
    where e.contact_id = %s and e.occurred_at between %s and %s and e.site_id = %s limit %s
) as hit
where url is not null
"""


async def _late(connection: Direct, group: _Group, gap: timedelta) -> _Found:
    """What becomes of sessions by hits that came too late to fit in."""
    anew = await _anew(connection, group, gap)
    if anew is not None:
        return _Found(group, anew, is_rebuilt=True)
    around = await _around(connection, [group], gap)
    return _Found(group, count(around.get(0, []), group.steps, gap))


async def _anew(connection: Direct, group: _Group, gap: timedelta) -> list[Span] | None:
    """Cut all sessions anew that no silence parts from the hits, as many rows as can keep their number; None if that
    would be more than CUT_HITS or CUT_TIME.
    """
    old = await _chain(connection, group, gap)
    if old is None:
        return None
    logged = await _logged_hits(connection, group, old) if old else []
    if len(logged) > CUT_HITS:
        return None
    steps = [_step(hit, old) for hit in logged] + group.steps
    spans = cut(sorted(steps, key=_time), gap)
    for span, row in zip(spans, old, strict=False):
        span.id = row.id
    surplus = [row.id for row in old[len(spans) :]]
    if surplus:
        await connection.execute("delete from session where id = any(%s::bigint[])", (_numbers(surplus),))
    return spans


async def _logged_hits(connection: Direct, group: _Group, old: Sequence[_Old]) -> list[_Logged]:
    """The hits of these sessions that are in the log, at most one more than may be cut anew."""
    ended_at = max(one.ended_at for one in old)
    arguments = (PAGE_VIEWED, group.contact, old[0].started_at, ended_at, group.site_id, CUT_HITS + 1)
    ((text,),) = await (await connection.execute(_LOGGED, arguments)).fetchall()
    return _logged.decode(text)


async def _chain(connection: Direct, group: _Group, gap: timedelta) -> list[_Old] | None:
    """The sessions around hits, and those around them, until silence; None if that is more than may be cut anew."""
    first, last = group.steps[0].at, group.steps[-1].at
    arguments = (group.contact, group.site_id, first - CUT_TIME, last + CUT_TIME, CUT_HITS + 1)
    ((text,),) = await (await connection.execute(_NEAR, arguments)).fetchall()
    near = _olds.decode(text)
    if len(near) > CUT_HITS:
        return None
    found: list[_Old] = []
    while len(wider := [one for one in near if one.ended_at >= first - gap and one.started_at <= last + gap]) > len(
        found
    ):
        found = wider
        first = min(first, found[0].started_at)
        last = max(last, *(one.ended_at for one in found))
    return found if last - first <= CUT_TIME else None


def _step(hit: _Logged, old: Sequence[_Old]) -> Step:
    row = next((one for one in reversed(old) if one.started_at <= hit.at), old[0])
    client = Client(
        row.device, row.browser, row.os, row.language, row.country, row.region, row.city, row.brand, row.model
    )
    referrer = outside(hit.url, hit.referrer) if hit.is_page else None
    return Step(hit.at, hit.url, referrer, arrival(hit.url, referrer), hit.is_page, client)


# ---- writing ----

_COLUMNS = (
    ("id", "bigint"),
    ("contact_id", "bigint"),
    ("site_id", "int"),
    ("started_at", "timestamptz"),
    ("ended_at", "timestamptz"),
    ("pages", "int"),
    *(
        (name, "text")
        for name in (
            *("entry_url", "exit_url", "referrer", "source", "medium", "campaign", "term", "content"),
            *("device", "browser", "os", "language", "country", "region", "city", "brand", "model"),
        )
    ),
)
_NAMES = ", ".join(name for name, _ in _COLUMNS)
_VALUES = ", ".join(name for name, _ in _COLUMNS[1:])
_GIVEN = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS)
_INSERT = f"""
insert into session ({_NAMES})
select coalesce(id, nextval((select pg_get_serial_sequence('session', 'id')::regclass))), {_VALUES}
from json_to_recordset(%s::json) as given ({_GIVEN})
"""  # noqa: S608 - constants
_REWRITE = f"""
update session set ({_VALUES}) = row({", ".join(f"given.{name}" for name, _ in _COLUMNS[1:])})
from json_to_recordset(%s::json) as given ({_GIVEN})
where session.id = given.id
"""  # noqa: S608 - constants
_UPDATE = """
update session set ended_at = given.ended_at, pages = given.pages, exit_url = given.exit_url
from unnest(%s::bigint[], %s::timestamptz[], %s::int[], %s::text[]) as given (id, ended_at, pages, exit_url)
where session.id = given.id
"""


async def _write(connection: Direct, found: Sequence[_Found]) -> None:
    rebuilt = [_row(one.group, span) for one in found if one.is_rebuilt for span in one.spans if span.id is not None]
    if rebuilt:
        await connection.execute(_REWRITE, (msgspec.json.encode(rebuilt).decode(),))
    new = [_row(one.group, span) for one in found for span in one.spans if span.id is None]
    if new:
        await connection.execute(_INSERT, (msgspec.json.encode(new).decode(),))
    grown = [
        span for one in found if not one.is_rebuilt for span in one.spans if span.id is not None and span.is_changed
    ]
    if grown:
        grown.sort(key=lambda span: span.id or 0)
        await connection.execute(
            _UPDATE,
            (
                _numbers([span.id for span in grown]),
                _numbers([span.ended_at for span in grown]),
                _numbers([span.pages for span in grown]),
                array([span.exit_url for span in grown]),
            ),
        )


def _row(group: _Group, span: Span) -> dict[str, Any]:
    assert span.entry is not None  # noqa: S101 - a session that is written whole has just been cut
    return {
        "id": span.id,
        "contact_id": group.contact,
        "site_id": group.site_id,
        "started_at": span.started_at,
        "ended_at": span.ended_at,
        "pages": span.pages,
        "entry_url": span.entry.url,
        "exit_url": span.exit_url,
        "referrer": span.entry.referrer,
        **msgspec.structs.asdict(span.traffic),
        **msgspec.structs.asdict(span.entry.client),
    }


_TOUCH_COLUMNS = "contact_id, which, at, site_id, source, medium, campaign, term, content, click, url"
_TOUCH = f"""
insert into contact_touch ({_TOUCH_COLUMNS})
select {_TOUCH_COLUMNS}
from json_to_recordset(%s::json) as given (
    contact_id bigint, which smallint, at timestamptz, site_id int, source text, medium text, campaign text,
    term text, content text, click text, url text)
order by contact_id, which
on conflict (contact_id, which) do update set at = excluded.at, site_id = excluded.site_id, source = excluded.source,
    medium = excluded.medium, campaign = excluded.campaign, term = excluded.term, content = excluded.content,
    click = excluded.click, url = excluded.url
where case contact_touch.which when {FIRST} then excluded.at < contact_touch.at else excluded.at >= contact_touch.at end
"""  # noqa: S608 - constants


async def _touch(connection: Direct, groups: Sequence[_Group]) -> None:
    """Keep the first and the last campaign of each contact, by the times of the page views."""
    touches: dict[tuple[int, int], tuple[_Group, Step]] = {}
    for group in groups:
        for step in group.steps:
            if step.is_page and step.arrival.is_campaign:
                first, last = (group.contact, FIRST), (group.contact, LAST)
                if first not in touches or step.at < touches[first][1].at:
                    touches[first] = (group, step)
                if last not in touches or step.at >= touches[last][1].at:
                    touches[last] = (group, step)
    if touches:
        rows = [_touch_row(which, group, step) for (_, which), (group, step) in touches.items()]
        await connection.execute(_TOUCH, (msgspec.json.encode(rows).decode(),))


def _touch_row(which: int, group: _Group, step: Step) -> dict[str, Any]:
    return {
        "contact_id": group.contact,
        "which": which,
        "at": step.at,
        "site_id": group.site_id,
        **msgspec.structs.asdict(step.arrival.traffic),
        "click": step.arrival.click,
        "url": step.url,
    }


def _numbers(values: Sequence[int | datetime | None]) -> str:
    """Numbers or moments as an array literal: a list of them in JSON is one but for its brackets."""
    return f"{{{msgspec.json.encode(values)[1:-1].decode()}}}"
