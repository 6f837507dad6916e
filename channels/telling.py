"""The events of the log that tell journeys and segments what providers report."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from channels.matching import Found, Known
from channels.provider import Report, ReportKind
from core import answers, eventlog, links
from core.clock import now

EVENTS = {
    ReportKind.DELIVERED: "message.delivered",
    ReportKind.SOFT_BOUNCED: "message.bounced",
    ReportKind.BOUNCED: "message.bounced",
    ReportKind.COMPLAINED: "message.complained",
    ReportKind.UNSUBSCRIBED: "message.unsubscribed",
    ReportKind.OPENED: "message.opened",
    ReportKind.CLICKED: "message.clicked",
    ReportKind.ANSWERED: "message.replied",
    ReportKind.PRESSED: "voice.pressed",
}
"""The event of the log that tells journeys and segments of a report; DEFERRED and UNKNOWN are only kept."""
_LOOK_BACK = timedelta(days=30)


async def tell(connection: AsyncConnection, found: Sequence[Found]) -> None:
    """Write the reports on contacts that still exist to the log; the last thing of its transaction."""
    told = [(report, message) for report, message in found if message.present and report.kind in EVENTS]
    if not told:
        return
    moment = now()
    numbers = await eventlog.name_ids(connection, [EVENTS[report.kind] for report, _ in told])
    await eventlog.append(
        connection,
        [
            eventlog.NewEvent(
                message.contact_id,
                numbers[EVENTS[report.kind]],
                _in_the_log(report.at, moment),
                msgspec.json.encode(_properties(report, message)),
            )
            for report, message in told
        ],
    )


def _in_the_log(at: datetime, moment: datetime) -> datetime:
    """When the log says it happened: a provider's clock may be wrong by years, and the log has no place for that."""
    return max(min(at, moment), moment - _LOOK_BACK)


def _properties(report: Report, message: Known) -> dict[str, Any]:
    own: dict[str, Any] = {"message": str(message.id), "channel": message.channel, **message.about}
    if EVENTS[report.kind] == "message.bounced":
        own["permanent"] = report.kind is ReportKind.BOUNCED
    if report.kind is ReportKind.ANSWERED:
        own["answer"] = answers.plain(str(report.details.get("text", "")))
    if report.kind is ReportKind.CLICKED and "url" in report.details:
        own["url"] = links.normal(str(report.details["url"]))
    if report.kind is ReportKind.UNSUBSCRIBED:
        own["purpose"] = message.purpose
    return {**report.details, **own}
