"""The tables that people look at: visits, places, waits and endings, written as cohorts tell of them."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.schema.journeys import CLOSED_BY_CRITERIA
from engine import moves, runs
from engine.wire import RecordRequest

# The groups travel as JSON and are spread out by PostgreSQL, which is cheaper than long arrays from Python.
_VISITS = text("""
insert into step_visit (enrollment_id, visit, step, arrived_at, via, version_id)
select unnest(g.enrollments), g.visit, g.step, to_timestamp(g.at), g.via, :version
from jsonb_to_recordset(cast(:visits as jsonb)) as g (visit int, step int, at float8, via text, enrollments bigint[])
on conflict do nothing
""")
# Each row comes to the last that is known of it. A repeated request changes nothing, because visits only count up.
_PLACES = text("""
with moves as (
    select unnest(g.enrollments) as id, g.visit, g.step, null::float8 as due, null::float8 as finished,
        null::text as outcome, null::boolean as met, 0 as rank, 0 as n
    from jsonb_to_recordset(cast(:visits as jsonb)) as g (visit int, step int, enrollments bigint[])
    union all
    select unnest(g.enrollments), g.visit, null, g.due, null, null, null, 1, g.n
    from rows from (jsonb_to_recordset(cast(:waits as jsonb)) as (visit int, due float8, enrollments bigint[]))
        with ordinality as g (visit, due, enrollments, n)
    union all
    select unnest(g.enrollments), g.visit, null, null, g.at, g.outcome, g.met, 2, 0
    from jsonb_to_recordset(cast(:finished as jsonb))
        as g (visit int, at float8, outcome text, met boolean, enrollments bigint[])
), last as (
    select distinct on (id) id, visit, due, finished, outcome, met,
        first_value(step) over (partition by id order by step is null, visit desc) as step
    from moves order by id, visit desc, rank desc, n desc
)
update enrollment e set visit = u.visit, step = coalesce(u.step, e.step), due_at = to_timestamp(u.due),
    finished_at = to_timestamp(u.finished), outcome = u.outcome,
    state = case when u.finished is null then 'active' else 'finished' end,
    closed_by = coalesce(e.closed_by, case when u.met then :by_criteria end),
    branch_steps = case when u.finished is null then e.branch_steps end,
    branch_ends = case when u.finished is null then e.branch_ends end
from last u where e.id = u.id and e.visit <= u.visit and e.state <> 'finished'
returning e.id, e.state
""")
# Branches never go on without a visit, so their place belongs to the enrollment's latest one.
_BRANCHES = text("""
with last as (
    select distinct on (id) id, g.visit, g.steps, g.ends
    from rows from (jsonb_to_recordset(cast(:branches as jsonb))
        as (visit int, steps smallint[], ends float8[], enrollments bigint[]))
        with ordinality as g (visit, steps, ends, enrollments, n), unnest(g.enrollments) as id
    order by id, g.visit desc, g.n desc
)
update enrollment e set branch_steps = nullif(u.steps, '{}'),
    branch_ends = nullif(array(
        select to_timestamp(ends) from unnest(u.ends) with ordinality as o (ends, n) order by n), '{}')
from last u where e.id = u.id and e.visit = u.visit and e.state <> 'finished'
""")


async def record(connection: AsyncConnection, request: RecordRequest) -> None:
    """Write down what happened to the tokens of a cohort; doing it again changes nothing."""
    await moves.acknowledge(connection, request)
    groups = {
        "visits": msgspec.json.encode(request.visits).decode(),
        "waits": msgspec.json.encode(request.waits).decode(),
        "finished": msgspec.json.encode(request.finished).decode(),
    }
    if request.visits:
        await connection.execute(_VISITS, {"version": request.version_id, "visits": groups["visits"]})
    finished: list[int] = []
    if request.visits or request.waits or request.finished:
        moved = await connection.execute(_PLACES, groups | {"by_criteria": CLOSED_BY_CRITERIA})
        finished = [row.id for row in moved if row.state == "finished"]
    if request.branches:
        await connection.execute(_BRANCHES, {"branches": msgspec.json.encode(request.branches).decode()})
    if request.over:
        await connection.execute(text("update cohort set state = 'finished' where id = :id"), {"id": request.cohort_id})
    if request.again:  # or nobody would tell it of pauses and moves
        await connection.execute(
            text("update cohort set state = 'closed' where id = :id and state = 'finished'"), {"id": request.cohort_id}
        )
    if finished:
        await runs.tell_parents(connection, finished)
