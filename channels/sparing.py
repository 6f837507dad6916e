"""What reports say about the people: addresses that must not be used again, and consents that are withdrawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from channels.matching import Found
from channels.provider import ReportKind
from contacts import consents, suppressions
from core.database import driver
from core.settings import Settings

SUPPRESSED = {ReportKind.BOUNCED: "bounced", ReportKind.COMPLAINED: "complained"}
"""Reports after which the address must not be used again, and the reason."""


@dataclass(frozen=True, slots=True)
class SoftLimit:
    """How many messages may come back softly before their address is suppressed."""

    bounces: int = 5
    within: timedelta = timedelta(days=30)

    @classmethod
    def of(cls, settings: Settings) -> "SoftLimit":
        """As this installation has it."""
        return cls(settings.soft_bounces, timedelta(days=settings.soft_bounce_days))


USUAL = SoftLimit()


async def spare_addresses(connection: AsyncConnection, found: Sequence[Found]) -> None:
    """Suppress the addresses that came back for good, and those of people who complained."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for report, message in found:
        if report.kind in SUPPRESSED and message.address:
            wanted.setdefault((message.channel, SUPPRESSED[report.kind]), set()).add(message.address)
    for (channel, reason), addresses in sorted(wanted.items()):
        await suppressions.suppress(connection, channel, sorted(addresses), reason)


_OFTEN = """
select m.channel, m.address, count(distinct m.id)
from delivery_report r join message m on m.id = r.message_id
where r.contact_id = any(%(contacts)s) and r.kind = 'soft_bounced' and r.received_at > now() - %(within)s
    and m.address = any(%(addresses)s)
group by m.channel, m.address having count(distinct m.id) >= %(bounces)s order by 1, 2
"""


async def spare_the_often_full(connection: AsyncConnection, found: Sequence[Found], limit: SoftLimit) -> None:
    """Suppress addresses whose messages keep coming back softly: several messages, not several reports of one."""
    soft = [message for report, message in found if report.kind is ReportKind.SOFT_BOUNCED and message.address]
    if not soft:
        return
    values = {
        "contacts": list({message.contact_id for message in soft}),
        "addresses": list({message.address for message in soft}),
        "within": limit.within,
        "bounces": limit.bounces,
    }
    rows = await (await driver(connection)).execute(_OFTEN, values)
    for channel, address, count in await rows.fetchall():
        note = f"{count} soft bounces within {limit.within.days} days"
        await suppressions.suppress(connection, channel, [address], "bounced", note)


async def withdraw(connection: AsyncConnection, found: Sequence[Found]) -> None:
    """Who unsubscribed by the provider's own link, or complained, has withdrawn the consent of that message."""
    for report, message in found:
        if report.kind in {ReportKind.UNSUBSCRIBED, ReportKind.COMPLAINED} and message.present:
            evidence = {"message": str(message.id), "report": report.key[:200]}
            await consents.record(
                connection,
                [message.contact_id],
                message.channel,
                message.purpose,
                False,
                "provider",
                evidence,
                report.at,
            )
