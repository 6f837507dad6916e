"""From claimed rows to letters: the contacts' values, the templates, the links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels.claims import Claimed
from channels.notices import STAFF
from channels.policy import Reason, Skip
from channels.provider import Letter
from channels.rendering import Compiled, Links, Rendered, TemplateCache, render, scopes
from contacts import consents
from core.database import driver
from core.settings import Settings

_CONTEXT = """
select e.id, c.id, c.language, c.time_zone, c.tags, c.attributes, j.name, j.title,
    {properties}
from enrollment e
join contact c on c.id = e.contact_id
join journey j on j.id = e.journey_id
{event}
where e.id = any(%s)
"""
_WITHOUT_EVENT = _CONTEXT.format(properties="null", event="")
_WITH_EVENT = _CONTEXT.format(
    properties="v.properties",
    event="left join event v on v.id = e.entry_event_id and v.occurred_at = e.entry_event_at",
)
_IDENTITIES = """
select distinct on (contact_id, kind) contact_id, kind, value from identity where contact_id = any(%s)
order by contact_id, kind, created_at, value
"""


@dataclass(frozen=True)
class Workshop:
    """What letters are made with; one for each worker process."""

    settings: Settings
    links: Links
    templates: TemplateCache

    async def write(
        self, connection: AsyncConnection, rows: Sequence[Claimed], at: datetime
    ) -> dict[UUID, Letter | Skip]:
        """A letter for each row, or why there is none. 100 letters of 17 KB take about 15 ms."""
        written = {
            _source(row): await self._template(connection, row) for row in {_source(r): r for r in rows}.values()
        }
        contexts = await contexts_of(connection, [row.enrollment_id for row in rows], list(written.values()))
        return {row.id: self._letter(row, at, written[_source(row)], contexts.get(row.enrollment_id)) for row in rows}

    async def _template(self, connection: AsyncConnection, row: Claimed) -> Compiled:
        if row.template_version_id is None:
            return await self.templates.notice(connection, row.version_id, row.step)
        return await self.templates.get(connection, row.template_version_id)

    def _letter(
        self, row: Claimed, at: datetime, template: Compiled, context: Mapping[str, Any] | None
    ) -> Letter | Skip:
        if context is None or row.address is None:
            return Skip(Reason.CONTACT_GONE)
        links = self.links.context(row.id, at)
        if row.purpose != STAFF:
            context["contact"].setdefault(row.channel if row.channel == "email" else "phone", row.address)
        content = render(template, {**context, **links})
        if isinstance(content, Skip):
            return content
        return self._envelope(row, row.address, template, content, links["unsubscribe_url"])

    def _envelope(self, row: Claimed, address: str, template: Compiled, content: Rendered, unsubscribe: str) -> Letter:
        headers = {}
        if consents.needed(row.purpose) and row.purpose != STAFF:
            # One-click unsubscribing: RFC 8058, section 3.1.
            headers = {"List-Unsubscribe": f"<{unsubscribe}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
        sender = template.sender or self.settings.email_from
        return Letter(row.id, sender, address, content.subject, content.html, content.text, headers)

    def blank(self, row: Claimed) -> Letter:
        """A letter without content, for a provider that reads none."""
        return Letter(row.id, self.settings.email_from, row.address or "", "", "", "")


def _source(row: Claimed) -> tuple[int | None, int, int]:
    """What a letter is written from: a version of a template, or for a letter to the staff the step itself."""
    if row.template_version_id is None:
        return None, row.version_id, row.step
    return row.template_version_id, 0, 0


async def contexts_of(
    connection: AsyncConnection, enrollments: Sequence[int], templates: Sequence[Compiled]
) -> dict[int, dict[str, Any]]:
    """The values that templates find, for each enrollment whose contact still exists; those that none uses are left
    out."""
    raw = await driver(connection)
    with_event = any(template.uses("event") for template in templates)
    statement = _WITH_EVENT if with_event else _WITHOUT_EVENT
    found = await (await raw.execute(statement, (list(enrollments),))).fetchall()
    identities: dict[int, dict[str, str]] = {}
    if any(template.uses(f"contact.{kind}") for template in templates for kind in ("email", "phone", "external_id")):
        known = await (await raw.execute(_IDENTITIES, ([row[1] for row in found],))).fetchall()
        for contact_id, kind, value in known:
            identities.setdefault(contact_id, {})[kind] = value
    contexts = {}
    for number, contact_id, language, zone, tags, attributes, name, title, properties in found:
        own = {"id": contact_id, "language": language, "time_zone": zone, "tags": tags}
        contact = {**attributes, **identities.get(contact_id, {}), **own}
        contexts[number] = scopes(contact, properties or {}, {"name": name, "title": title})
    return contexts
