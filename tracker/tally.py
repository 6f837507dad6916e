"""Counting what became of hits, those above all that are not stored: by site, day and fate."""

from collections import Counter
from datetime import date, datetime

import msgspec
from prometheus_client import Counter as Metric
from sqlalchemy import text

from core.database import Database

FATES = ("stored", "duplicate", "bot", "internal", "limited", "origin", "refused")
WRITTEN_EVERY = 5.0
"""Seconds; a process that is killed forgets to count what happened since."""

_metric = Metric("kaskad_hits_total", "Hits of site snippets by what became of them", ["fate"])

_ADD = """
insert into site_count (site_id, day, fate, hits)
select site, day, fate, hits
from json_to_recordset(cast(:counts as json)) as given (site int, day date, fate text, hits bigint)
where site in (select id from site)
order by site, day, fate
on conflict (site_id, day, fate) do update set hits = site_count.hits + excluded.hits
"""


class Tally:
    """The counts of one process that are not in the database yet: a handful, however many hits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: Counter[tuple[int, date, str]] = Counter()

    def count(self, site_id: int, at: datetime, fate: str, hits: int) -> None:
        """Count hits that one of FATES befell."""
        if hits:
            self._counts[site_id, at.date(), fate] += hits
            _metric.labels(fate).inc(hits)

    async def write(self) -> None:
        """Add what was counted to the table. If that fails, for whatever reason, it is kept for the next time.

        Raises:
            DatabaseUnavailable, DBAPIError: it failed.
        """
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        rows = [{"site": site, "day": day, "fate": fate, "hits": hits} for (site, day, fate), hits in counts.items()]
        try:
            async with self._database.begin() as connection:
                await connection.execute(text(_ADD), {"counts": msgspec.json.encode(rows).decode()})
        except BaseException:
            self._counts.update(counts)
            raise
