"""Messages a minute of one journey: turns are handed out exactly, by a limit that all workers share.

A message that has to wait for its turn keeps it in `sending_turn`, so it is not asked about again before, however many
wait. A turn that was not taken in time (the journey was paused) is void, so a resumed journey does not flood.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import limits
from core.clock import now
from core.ids import message_id
from engine.wire import StepRequest

_EARLY = timedelta(seconds=1)
_VOID_AFTER = timedelta(minutes=1)


async def pace(
    connection: AsyncConnection, journey_id: int, per_minute: float, request: StepRequest
) -> tuple[list[list[int]], list[list[float]]]:
    """Divide a batch into those whose turn it is, and those who wait for it.

    Call it in a transaction of its own: others wait for its end.

    Returns:
        [enrollment, visit] to be prepared now; [enrollment, visit, until] of the others. The same batch, asked again
        after it was prepared, is let through.
    """
    begun = await _prepared(connection, request)
    turns = await _turns(connection, request)
    at = now()
    ready, wait, fresh = [], [], []
    for enrollment, visit in request.members:
        turn = turns.get((enrollment, visit))
        if enrollment in begun or (turn is not None and at - _VOID_AFTER <= turn <= at + _EARLY):
            ready.append([enrollment, visit])
        elif turn is not None and turn > at:
            wait.append([enrollment, visit, turn.timestamp()])
        else:
            fresh.append([enrollment, visit])
    if fresh:
        name, per_second = f"journey:{journey_id}", per_minute / 60
        last = at + await limits.take(connection, name, per_second, len(fresh))
        taken = [last - timedelta(seconds=(len(fresh) - 1 - place) / per_second) for place in range(len(fresh))]
        await _keep(connection, fresh, taken)
        for member, turn in zip(fresh, taken, strict=True):
            if turn <= at + _EARLY:
                ready.append(member)
            else:
                wait.append([*member, turn.timestamp()])
    return ready, wait


async def _prepared(connection: AsyncConnection, request: StepRequest) -> set[int]:
    rows = await connection.execute(
        text("select enrollment_id from message where created_at = :at and id = any(:ids)"),
        {
            "at": datetime.fromtimestamp(request.at, UTC),
            "ids": [message_id(enrollment, visit) for enrollment, visit in request.members],
        },
    )
    return set(rows.scalars())


async def _turns(connection: AsyncConnection, request: StepRequest) -> dict[tuple[int, int], datetime]:
    enrollments, visits = zip(*request.members, strict=True)
    rows = await connection.execute(
        text(
            "select t.enrollment_id, t.visit, t.leaves_at from sending_turn t join unnest(cast(:ids as bigint[]), "
            "cast(:visits as int[])) as u(id, visit) on t.enrollment_id = u.id and t.visit = u.visit"
        ),
        {"ids": list(enrollments), "visits": list(visits)},
    )
    return {(row.enrollment_id, row.visit): row.leaves_at for row in rows}


async def _keep(connection: AsyncConnection, members: list[list[int]], turns: list[datetime]) -> None:
    await connection.execute(
        text(
            "insert into sending_turn (enrollment_id, visit, leaves_at) select * from unnest(cast(:ids as bigint[]), "
            "cast(:visits as int[]), cast(:turns as timestamptz[])) on conflict (enrollment_id, visit) "
            "do update set leaves_at = excluded.leaves_at"
        ),
        {"ids": [one for one, _ in members], "visits": [visit for _, visit in members], "turns": turns},
    )
