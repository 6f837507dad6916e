"""Templates in the database: publishing versions and finding them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from channels import compilation, files, senders
from channels.variables import Use
from contacts import consents
from core.errors import Conflict, InvalidInput, NotFound, Problem


@dataclass(frozen=True)
class PublishedTemplate:
    """What publishing a file came to."""

    name: str
    channel: str
    version_id: int
    number: int
    changed: bool
    """False if the file was published before, and this is its version."""
    warnings: tuple[str, ...]


async def publish(
    connection: AsyncConnection, source: str | bytes, file: str = "", attachments: Mapping[str, bytes] | None = None
) -> PublishedTemplate:
    """Check and compile a template file and make it the version that new messages use.

    Publishing the same file again changes nothing.

    Args:
        connection: an open transaction.
        source: the file's content.
        file: its name, for errors; `.mjml` says that the body is MJML.
        attachments: the contents of the files that it names, by their names.

    Raises:
        InvalidInput: every problem with its line.
        Conflict: the template exists for another channel.
    """
    parsed = compilation.parse(source, file)
    attributes = set((await connection.execute(text("select name from attribute"))).scalars())
    uses = compilation.check(parsed, attributes)
    compiled = compilation.compile_source(parsed, uses).stored() | _attached(parsed, attachments or {})
    await _check_sender(connection, parsed)
    content = source.decode("utf-8-sig") if isinstance(source, bytes) else source
    stored = {"text": content, "file": file.rpartition("/")[2]}
    template_id = await _template(connection, parsed.name, parsed.channel)
    warnings = tuple(_warnings(parsed, uses))
    current = await _current(connection, template_id)
    if current is not None and (current["source"], current["compiled"]) == (stored, compiled):
        return PublishedTemplate(parsed.name, parsed.channel, current["id"], current["number"], False, warnings)
    number = 1 + (current["newest"] if current else 0)
    row = await connection.execute(
        text(
            "insert into template_version (template_id, number, source, compiled) "
            "values (:template, :number, :source, :compiled) returning id"
        ).bindparams(bindparam("source", type_=JSONB), bindparam("compiled", type_=JSONB)),
        {"template": template_id, "number": number, "source": stored, "compiled": compiled},
    )
    version_id = row.scalar_one()
    await connection.execute(
        text("update template set version_id = :version where id = :id"), {"version": version_id, "id": template_id}
    )
    return PublishedTemplate(parsed.name, parsed.channel, version_id, number, True, warnings)


async def _check_sender(connection: AsyncConnection, source: compilation.Source) -> None:
    """Refuse a sender that is not registered for the channel and purpose, where senders are kept."""
    if source.sender is None:
        return
    why = senders.objection(
        await senders.registered(connection, source.channel), source.channel, source.sender, source.purpose
    )
    if why is not None:
        mend = f"register it: kaskad sender add {source.channel} {senders.sender_key(source.channel, source.sender)}"
        raise InvalidInput(Problem(why, mend, file=source.file, path="from"))


def _attached(source: compilation.Source, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """What goes with the letters of a version; nothing at all where nothing does, as in older versions."""
    kept: dict[str, Any] = {}
    if source.attach:
        kept["files"] = files.packed(source.attach, contents, source.file)
    if source.invite:
        kept["invite"] = dict(source.invite)
    return kept


async def _template(connection: AsyncConnection, name: str, channel: str) -> int:
    # The update that changes nothing locks the row, so that two publishers take turns.
    row = await connection.execute(
        text(
            "insert into template as t (name, channel) values (:name, :channel) "
            "on conflict (name) do update set channel = t.channel returning id, channel"
        ),
        {"name": name, "channel": channel},
    )
    found = row.one()
    if found.channel != channel:
        raise Conflict(f"the template {name!r} is for {found.channel}; give the one for {channel} another name")
    return int(found.id)


async def _current(connection: AsyncConnection, template_id: int) -> Mapping[str, Any] | None:
    rows = await connection.execute(
        text(
            "select v.id, v.number, v.source, v.compiled, "
            "(select max(number) from template_version where template_id = t.id) as newest "
            "from template t join template_version v on v.id = t.version_id where t.id = :id"
        ),
        {"id": template_id},
    )
    row = rows.mappings().one_or_none()
    return dict(row) if row else None


def _warnings(source: compilation.Source, uses: list[Use]) -> list[str]:
    guarded = {use.path for use in uses if use.guarded}
    open_ends = sorted({use.path for use in uses if use.path.startswith("contact.")} - guarded - {"contact.id"})
    if source.channel == "email":
        open_ends = [path for path in open_ends if path != "contact.email"]
    found = [f"{path} has no default: who lacks it gets no message" for path in open_ends]
    marketing = source.purpose is None or consents.needed(source.purpose)
    if (
        source.channel == "email"
        and marketing
        and not any(use.path in {"unsubscribe_url", "preferences_url"} for use in uses)
    ):
        found.append("the letter has no visible unsubscribe link; marketing needs {{ unsubscribe_url }}")
    return found


@dataclass(frozen=True)
class TemplateVersion:
    """One version of a template."""

    id: int
    name: str
    channel: str
    number: int
    source: str
    compiled: dict[str, Any]


async def find(connection: AsyncConnection, name: str) -> TemplateVersion:
    """The version of a template that new messages use.

    Raises:
        NotFound: no template of that name was published.
    """
    rows = await connection.execute(
        text(
            "select v.id, t.name, t.channel, v.number, v.source->>'text' as source, v.compiled "
            "from template t join template_version v on v.id = t.version_id where t.name = :name"
        ),
        {"name": name},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no template {name!r}; publish it with `kaskad template publish FILE`")
    return TemplateVersion(**row)


async def listing(connection: AsyncConnection) -> list[dict[str, Any]]:
    """All templates: name, channel, version, when it was published and the values it uses."""
    rows = await connection.execute(
        text(
            "select t.name, t.channel, v.number as version, v.published_at, "
            "array(select jsonb_array_elements_text(v.compiled->'variables')) as variables "
            "from template t join template_version v on v.id = t.version_id order by t.name"
        )
    )
    return [dict(row) for row in rows.mappings()]
