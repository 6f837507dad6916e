"""Letters that came in, on their way to the ledger: whoever brings them hands them to `Inbox.take`."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import prometheus_client
import structlog

from channels import reports
from channels.email.inbound.letters import Incoming
from channels.email.inbound.reading import Reader
from channels.provider import Report
from channels.signed import SignedAddresses
from channels.tokens import Signers
from core.database import Database, driver
from core.errors import Misconfigured
from core.settings import Settings

_RAW_LIMIT = 100_000
_LETTERS = prometheus_client.Counter("kaskad_mail_received", "Letters that came in, by what they were", ["kind"])
_log = structlog.get_logger()


class Inbox:
    """Reads letters and writes down what they say. One for a process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Make it.

        Raises:
            Misconfigured: KASKAD_INBOUND_ADDRESS is not set.
        """
        addresses = SignedAddresses.of(settings)
        if addresses is None:
            raise Misconfigured("mail cannot come in: KASKAD_INBOUND_ADDRESS says which addresses are ours")
        self.addresses = addresses
        self._database = database
        self._limit = reports.SoftLimit.of(settings)
        self._reader = Reader(addresses, Signers(settings).unsubscribe)
        # Big letters take a while; meanwhile others come in.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="inbound")

    async def take(self, letter: Incoming) -> reports.Taken:
        """Write down what a letter says; when this returns, it is committed. The same letter again changes nothing.

        Raises:
            DatabaseUnavailable: it has to come again.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._reader.read, letter)
        if not found:
            _LETTERS.labels("ignored").inc()
            return reports.Taken(0, 0)
        new = unmatched = 0
        for provider_id, own in (await self._by_provider(found)).items():
            async with self._database.begin() as connection:
                taken = await reports.take(connection, provider_id, own, letter.source[:_RAW_LIMIT], self._limit)
            new, unmatched = new + taken.new, unmatched + taken.unmatched
        for report in found:
            _LETTERS.labels(str(report.kind)).inc()
        _log.info("mail_received", kinds=sorted({str(report.kind) for report in found}), new=new)
        return reports.Taken(new, unmatched)

    async def _by_provider(self, found: Sequence[Report]) -> dict[int, list[Report]]:
        """Reports belong to who carries the message now. Messages that are no longer in the ledger fall away."""
        async with self._database.begin() as connection:
            rows = await (await driver(connection)).execute(
                "select id, provider_id from message where id = any(%s)", ([report.message_id for report in found],)
            )
            carriers: dict[UUID, int] = dict(await rows.fetchall())
        by_provider: dict[int, list[Report]] = {}
        for report in found:
            carrier = carriers.get(report.message_id) if report.message_id else None
            if carrier is not None:
                by_provider.setdefault(carrier, []).append(report)
        return by_provider

    def close(self) -> None:
        """Give the threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
