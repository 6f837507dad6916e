"""Which reports are new, and which messages they are about."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels.provider import Report
from core.database import driver


@dataclass(frozen=True, slots=True)
class Known:
    """A message that a report is about."""

    id: UUID
    created_at: datetime
    contact_id: int
    channel: str
    purpose: str
    address: str | None
    present: bool
    """Whether the contact still exists."""
    earlier: bool
    """Whether another provider has it by now."""
    about: dict[str, str]
    """Journey, step and template, by name, where there are any."""


Found = tuple[Report, Known]
"""A report and its message."""


_SEE = """
insert into delivery_report_key (provider_id, key) select %(provider)s, unnest(%(keys)s::bytea[])
on conflict do nothing returning key
"""


async def unseen(connection: AsyncConnection, provider_id: int, reports: Sequence[Report]) -> list[Report]:
    """Those that did not come before, each once. Locked in one order, so that two hooks never wait for each other."""
    by_key = {_digest(report): report for report in reversed(reports)}
    values = {"provider": provider_id, "keys": sorted(by_key)}
    rows = await (await driver(connection)).execute(_SEE, values)
    unseen = {bytes(row[0]) for row in await rows.fetchall()}
    return [report for key, report in reversed(by_key.items()) if key in unseen]


def _digest(report: Report) -> bytes:
    return hashlib.sha256(f"{report.kind}\0{report.key}".encode()).digest()[:16]


_ABOUT = """
select m.id, {own}.provider_message_id, m.created_at, m.contact_id, m.channel, m.purpose, m.address, c.id is not null,
    m.provider_id <> %(provider)s, j.name, v.plan #>> array['steps', m.step::text, 'id'], t.name
from {rows}
left join contact c on c.id = m.contact_id
left join journey_version v on v.id = m.version_id left join journey j on j.id = v.journey_id
left join template_version tv on tv.id = m.template_version_id left join template t on t.id = tv.template_id
where {own}.provider_id = %(provider)s and (m.id = any(%(ids)s) or {own}.provider_message_id = any(%(theirs)s))
"""
_MESSAGES = _ABOUT.format(own="m", rows="message m")
_HAD = _ABOUT.format(
    own="w", rows="message_watch w join message m on m.id = w.message_id and m.created_at = w.created_at"
)
"""Messages that the provider has had, as long as that is known."""


async def messages(
    connection: AsyncConnection, provider_id: int, reports: Sequence[Report]
) -> dict[UUID | str | None, Known]:
    """The messages that reports are about, by our id and by the provider's."""
    found = await _asked(connection, _MESSAGES, provider_id, reports)
    unknown = [one for one in reports if (one.message_id or one.provider_message_id) not in found]
    return await _asked(connection, _HAD, provider_id, unknown) | found if unknown else found


async def _asked(
    connection: AsyncConnection, statement: str, provider_id: int, reports: Iterable[Report]
) -> dict[UUID | str | None, Known]:
    values = {
        "provider": provider_id,
        "ids": list({report.message_id for report in reports if report.message_id}),
        "theirs": list({r.provider_message_id for r in reports if r.provider_message_id and not r.message_id}),
    }
    rows = await (await driver(connection)).execute(statement, values)
    found: dict[UUID | str | None, Known] = {}
    for (
        number,
        theirs,
        created_at,
        contact,
        channel,
        purpose,
        address,
        present,
        earlier,
        *names,
    ) in await rows.fetchall():
        about = {key: name for key, name in zip(("journey", "step", "template"), names, strict=True) if name}
        known = Known(number, created_at, contact, channel, purpose, address, present, earlier, about)
        found[number] = known
        if theirs is not None:
            found[theirs] = known
    return found
