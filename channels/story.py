"""Everything that happened to one message, and what it said."""

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import contents, messages, reasons, undelivered
from channels.rendering import TemplateCache
from core.errors import NotFound
from core.schema.messages import MessageState
from core.settings import Settings

_ROW = text("""
select m.id, m.created_at, m.contact_id, m.channel, m.purpose, m.state, j.name as journey, v.number as version,
    v.plan #>> array['steps', m.step::text, 'id'] as step, m.enrollment_id, m.visit,
    t.name as template, tv.number as template_version, p.name as provider,
    array(select name from provider where id = any(m.tried)) as tried,
    m.address, m.attempts, m.claimed_at, m.accepted_at, m.delivered_at, m.opened_at, m.clicked_at, m.reason,
    m.provider_message_id, m.parts, m.cost
from message m
left join journey_version v on v.id = m.version_id left join journey j on j.id = v.journey_id
left join template_version tv on tv.id = m.template_version_id left join template t on t.id = tv.template_id
left join provider p on p.id = m.provider_id
where m.id = :id and m.created_at = :at
""")
_REPORTS = text("""
select r.reported_at, r.received_at, r.kind, r.reason, r.details, p.name as provider, r.raw is not null as raw
from delivery_report r left join provider p on p.id = r.provider_id
where r.message_id = :id order by r.reported_at, r.id limit 500
""")
_HITS = text("""
select e.occurred_at, n.name, e.properties from event e join event_name n on n.id = e.name_id
where e.contact_id = :contact and n.name = any(:names) and e.occurred_at >= :at
    and e.properties ->> 'message' = cast(:id as text)
order by e.occurred_at, e.id limit 500
""")
_SETTLEMENTS = text("""
select settled_at, word, was, reason, by, why, open from message_settlement where message_id = :id order by id
""")
_KEPT = text("""
select kept_at from message_content where created_at = :at and message_id = :id order by kept_at
""")
_HIT_NAMES = ["message.opened", "message.clicked", "message.unsubscribed", "message.replied", "preferences.changed"]


async def show(
    connection: AsyncConnection, settings: Settings, message_id: UUID, templates: TemplateCache | None = None
) -> dict[str, Any]:
    """All that is known of one message.

    Returns:
        The row, with `why` in a sentence where it was not sent; `happened`, oldest first: made, each attempt whose
        content is kept, accepted, reports, openings, clicks, what people decided; `content` as it was rendered, or None
        where it is not kept any more.

    Raises:
        NotFound: there is no such message, or it is past retention.
    """
    at = await messages.place(connection, message_id)
    values = {"id": message_id, "at": at}
    row = (await connection.execute(_ROW, values)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no message {message_id}")
    content = await contents.again(connection, settings, templates or TemplateCache(), message_id, at)
    happened = await _happened(connection, dict(row), values)
    said = content and {
        "sender": content.sender,
        "subject": content.rendered.subject,
        "html": content.rendered.html,
        "text": content.rendered.text,
        "attachments": [asdict(one) for one in content.attachments],
    }
    return {
        **messages.worded(row),
        "why": reasons.sentence(row["reason"]),
        "happened": happened,
        "content": said,
    }


async def _happened(connection: AsyncConnection, row: dict[str, Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[tuple[datetime, str, dict[str, Any]]] = [(row["created_at"], "made", {})]
    attempts = list((await connection.execute(_KEPT, values)).scalars())
    found += [(moment, "handed over", {"attempt": number}) for number, moment in enumerate(attempts, 1)]
    if row["accepted_at"]:
        found.append((row["accepted_at"], "accepted", {"provider": row["provider"]}))
    for report in (await connection.execute(_REPORTS, {"id": values["id"]})).mappings():
        about = {key: report[key] for key in ("provider", "reason", "details", "received_at", "raw") if report[key]}
        found.append((report["reported_at"], f"reported {report['kind']}", about))
    hits = {"id": str(values["id"]), "at": values["at"], "contact": row["contact_id"], "names": _HIT_NAMES}
    for hit in (await connection.execute(_HITS, hits)).mappings():
        known = {"message", "journey", "step", "template"}
        about = {key: value for key, value in (hit["properties"] or {}).items() if key not in known}
        found.append((hit["occurred_at"], hit["name"].removeprefix("message."), about))
    for one in (await connection.execute(_SETTLEMENTS, {"id": values["id"]})).mappings():
        about = {"by": one["by"], "why": one["why"], "was": MessageState(one["was"]).name.lower()}
        if one["reason"]:
            about["reason"] = one["reason"]
        if one["open"]:
            about["waits"] = "for a worker"
        what = one["word"] if one["word"] == undelivered.PASSED_ON else f"by hand: {one['word']}"
        found.append((one["settled_at"], what, about))
    return [{"at": moment, "what": what, "about": about} for moment, what, about in sorted(found, key=lambda x: x[0])]
