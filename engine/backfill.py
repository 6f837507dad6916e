"""Those who are in a segment already when a journey is published that wants them: let in once. A duty of the router."""

import structlog
from sqlalchemy import text

from core.database import Database
from core.errors import Conflict, NotFound
from engine import broadcasts

log = structlog.get_logger()


async def let_members_in(database: Database) -> None:
    """Begin the broadcasts that publishing asked for: for a segment's present members, once each."""
    async with database.begin() as connection:
        rows = await connection.execute(
            text(
                "select w.name, w.occasion from (select j.name, 'backfill:' || j.id || ':' || j.backfills as occasion "
                "from journey j where j.backfills > 0 and j.state = 'active' union all "
                "select j.name, 'present:' || j.id || ':' || (v.plan -> 'entry' ->> 'segment') from journey j "
                "join journey_version v on v.id = j.version_id "
                "where j.state = 'active' and (v.plan -> 'entry' ->> 'present') = 'true') w "
                "where not exists (select from broadcast b where b.occasion = w.occasion)"
            )
        )
        for name, occasion in rows.all():
            try:
                await broadcasts.start(connection, name, occasion=occasion)
            except (NotFound, Conflict) as reason:
                log.warning("members were not let in", journey=name, reason=str(reason))
