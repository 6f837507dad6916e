"""Exact rate limits that all workers share: the generic cell rate algorithm, one row and one statement each.

`rate_limit.free_at` is the algorithm's theoretical arrival time: the moment from which the next message may leave.
Taking turns moves it on by the messages taken over the rate. PostgreSQL's row lock puts the takers in order and its
clock is the only one asked, so the rate holds however many processes take, and none has to be right about the time.
"""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.provider import NotNow

# now() would be the start of the transaction, from before the wait for the row; clock_timestamp() is the moment.
_TAKE = text("""
insert into rate_limit as r (name, free_at) values (:name, clock_timestamp() + :taken)
on conflict (name) do update set free_at = greatest(r.free_at, clock_timestamp()) + :taken
where cast(:within as interval) is null
   or greatest(r.free_at, clock_timestamp()) + :taken - :spacing <= clock_timestamp() + cast(:within as interval)
returning free_at - :spacing - clock_timestamp()
""")
_AHEAD = text("select free_at - clock_timestamp() from rate_limit where name = :name")


async def take(
    connection: AsyncConnection, name: str, per_second: float, n: int = 1, within: timedelta | None = None
) -> timedelta:
    """Reserve `n` turns and say how long to wait until the last of them may leave.

    Whoever waits that long before sending all `n` never runs ahead of the rate. Call it in a transaction of its own:
    others wait for its end.

    Args:
        connection: an open transaction.
        name: what is limited; a provider, or a provider and a domain.
        per_second: the rate; more than 0.
        n: how many turns.
        within: refuse, and reserve nothing, if the last turn is further away than this.

    Raises:
        NotNow: the last turn is further away than `within`; carries when to ask again.
    """
    spacing = timedelta(seconds=1 / per_second)
    row = await connection.execute(_TAKE, {"name": name, "taken": n * spacing, "spacing": spacing, "within": within})
    wait: timedelta | None = row.scalar_one_or_none()
    if wait is None:
        ahead = (await connection.execute(_AHEAD, {"name": name})).scalar_one()
        raise NotNow(f"the limit of {per_second:g} a second of {name} is used up", max(ahead, spacing))
    return max(wait, timedelta())
