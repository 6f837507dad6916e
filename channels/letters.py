"""From claimed rows to letters: the contacts' values, the templates, the links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from channels import contents
from channels.claims import Claimed
from channels.contents import Kept
from channels.files import invitation
from channels.notices import STAFF
from channels.policy import Reason, Skip
from channels.provider import Letter
from channels.rendering import Compiled, Links, Rendered, TemplateCache, render, scopes
from channels.signed import SignedAddresses
from channels.webhook.call import WebhookMessage, notice
from contacts import consents
from core.clock import now
from core.database import array_of, driver
from core.errors import InvalidInput
from core.settings import Settings

_CONTEXT = """
select e.id, c.id, c.language, c.time_zone, c.tags, c.attributes, o.name, j.name, j.title,
    {properties}
from enrollment e
join contact c on c.id = e.contact_id
join journey j on j.id = e.journey_id
left join company o on o.id = c.company_id
{event}
where e.id = any(%s::bigint[])
"""
_WITHOUT_EVENT = _CONTEXT.format(properties="null", event="")
_WITH_EVENT = _CONTEXT.format(
    properties="v.properties",
    event="left join event v on v.id = e.entry_event_id and v.occurred_at = e.entry_event_at",
)
_IDENTITIES = """
select distinct on (contact_id, kind) contact_id, kind, value from identity where contact_id = any(%s::bigint[])
order by contact_id, kind, created_at, value
"""


Sendable = Letter | WebhookMessage
"""What the workshop makes: the messages of every channel."""
WEBHOOK = "webhook"


@dataclass(frozen=True)
class Workshop:
    """What letters are made with; one for each worker process."""

    settings: Settings
    links: Links
    templates: TemplateCache

    @cached_property
    def addresses(self) -> SignedAddresses | None:
        """Makes return paths and reply addresses, where mail comes in."""
        return SignedAddresses.of(self.settings)

    async def write(
        self, connection: AsyncConnection, rows: Sequence[Claimed], at: datetime
    ) -> dict[UUID, Sendable | Skip]:
        """A letter for each row, or why there is none. 100 letters of 17 KB take about 15 ms."""
        written = {
            _source(row): await self._template(connection, row) for row in {_source(r): r for r in rows}.values()
        }
        contexts = await contexts_of(connection, [row.enrollment_id for row in rows], list(written.values()))
        letters: dict[UUID, Sendable | Skip] = {}
        kept: list[Kept] = []
        for row in rows:
            template, context = written[_source(row)], contexts.get(row.enrollment_id)
            letter = letters[row.id] = self._letter(row, at, template, context)
            if not isinstance(letter, Skip) and context is not None and self.settings.content_days:
                sender = letter.sender if isinstance(letter, Letter) else None
                kept.append(Kept(row.id, sender, template.known(context)))
        await contents.keep(connection, at, kept)
        return letters

    async def sender(self, connection: AsyncConnection, row: Claimed) -> str | None:
        """Whom the template of a row names as its sender; None where it names nobody."""
        if row.template_version_id is None:
            return None
        return (await self._template(connection, row)).sender

    async def _template(self, connection: AsyncConnection, row: Claimed) -> Compiled:
        if row.template_version_id is None:
            return await self.templates.notice(connection, row.version_id, row.step)
        return await self.templates.get(connection, row.template_version_id)

    def _letter(
        self, row: Claimed, at: datetime, template: Compiled, context: Mapping[str, Any] | None
    ) -> Sendable | Skip:
        if context is None or row.address is None:
            return Skip(Reason.CONTACT_GONE)
        links = self.links.context(row.id, at, template.variables)
        if row.purpose != STAFF and row.channel != WEBHOOK:
            context["contact"].setdefault(row.channel if row.channel == "email" else "phone", row.address)
        content = render(template, {**context, **links})
        if isinstance(content, Skip):
            return content
        if row.channel == WEBHOOK:
            return WebhookMessage(row.id, content.call or notice(row.address, content.text))
        try:
            return self._envelope(row, row.address, template, content, links["unsubscribe_url"])
        except InvalidInput as error:
            return Skip(Reason.CANNOT_RENDER, str(error))

    def _envelope(self, row: Claimed, address: str, template: Compiled, content: Rendered, unsubscribe: str) -> Letter:
        headers = {}
        if consents.needed(row.purpose) and row.purpose != STAFF:
            # One-click unsubscribing: RFC 8058, section 3.1.
            headers = {"List-Unsubscribe": f"<{unsubscribe}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
        sender = template.sender or self.settings.email_from
        return_path = None
        if self.addresses is not None and row.channel == "email":
            return_path = self.addresses.make("bounce", row.id)
            if row.purpose != STAFF:
                headers["Reply-To"] = self.addresses.make("reply", row.id)
        if template.reply_to is not None:
            headers["Reply-To"] = template.reply_to
        attachments = template.attachments
        if content.invite:
            attachments += (invitation(row.id, content.invite, sender, address, now()),)
        return Letter(
            row.id, sender, address, content.subject, content.html, content.text, headers, return_path, attachments
        )

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
    found = await (await raw.execute(statement, (array_of(enrollments),))).fetchall()
    identities: dict[int, dict[str, str]] = {}
    if any(template.uses(f"contact.{kind}") for template in templates for kind in ("email", "phone", "external_id")):
        known = await (await raw.execute(_IDENTITIES, (array_of([row[1] for row in found]),))).fetchall()
        for contact_id, kind, value in known:
            identities.setdefault(contact_id, {})[kind] = value
    contexts = {}
    for number, contact_id, language, zone, tags, attributes, company, name, title, properties in found:
        own = {"id": contact_id, "language": language, "time_zone": zone, "tags": tags, "company": company}
        contact = {**attributes, **identities.get(contact_id, {}), **own}
        contexts[number] = scopes(contact, properties or {}, {"name": name, "title": title})
    return contexts
