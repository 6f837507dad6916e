"""Named segments in the database.

A file is YAML: `segment:` (its name), `name:` (what people call it), and either `criteria:` or `list:` with email
addresses. Publishing a list adds the contacts who are named; those added by hand stay.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, func, insert, null, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities
from core import documents
from core.documents import Document, did_you_mean
from core.errors import Conflict, InvalidInput, NotFound, Problem
from core.schema.contacts import identity
from core.schema.segments import segment, segment_member
from segments import criteria as language
from segments import naming, tracking, versions
from segments.criteria import Criteria
from segments.operands import TEXT_LIMIT, storable
from segments.resolving import ask, problems_of

EVERYBODY = "all"
"""Stands for all contacts wherever a segment's name is expected; no segment can have this name."""

_KEYS = ("segment", "name", "criteria", "list")
_LIST_LIMIT = 10_000
_NAME = re.compile(r"\w(?:[\w .-]{0,98}\w)?")
_TAKEN = (EVERYBODY, "overlap")
"""Names that mean something else where the name of a segment is expected, in commands and addresses of the API."""


_ALONE = text("select pg_advisory_xact_lock(hashtext('segments are published'))")
"""Whoever changes what segments say is alone: two that come to name each other could not see it, each by itself."""
_STILL = text("select pg_advisory_xact_lock_shared(hashtext('segments are published'))")


@dataclass(frozen=True)
class PublishedSegment:
    """What publishing a file came to."""

    name: str
    changed: bool
    """False if the segment is just as the file says already."""


@dataclass(frozen=True)
class Segment:
    """A segment as written."""

    name: str
    title: str
    criteria: dict[str, Any] | None
    members: tuple[str, ...]
    """Email addresses of a list."""
    document: Document


def parse(source: str | bytes, file: str = "") -> Segment:
    """Read a segment file.

    Raises:
        InvalidInput: with every problem's file, line, column and mend.
    """
    document = documents.read(source, file)
    data = document.data
    if not isinstance(data, dict):
        raise InvalidInput(document.problem((), "a segment is a mapping", "begin with segment: NAME"))
    problems = [
        document.problem((key,), f"unknown key {key}", did_you_mean(key, _KEYS)) for key in data if key not in _KEYS
    ]
    name, title = data.get("segment"), data.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not storable(name) or name == EVERYBODY:
        problems.append(document.problem(("segment",), "the segment has no usable name", "write segment: loyal"))
    if title is not None and not (isinstance(title, str) and len(title) <= TEXT_LIMIT and storable(title)):
        problems.append(document.problem(("name",), "a text is expected here", "put it in quotes"))
    if ("criteria" in data) == ("list" in data):
        problems.append(document.problem((), "a segment has either criteria or a list", "add one of them"))
    problems += _criteria_problems(document) if "criteria" in data else []
    problems += _list_problems(document) if "list" in data else []
    if problems:
        raise InvalidInput(*sorted(problems, key=lambda one: (one.line, one.column)))
    return Segment(str(name), title or str(name), data.get("criteria"), tuple(data.get("list") or ()), document)


def _criteria_problems(document: Document) -> list[Problem]:
    try:
        language.parse(document.data["criteria"], "/criteria")
    except InvalidInput as error:
        return [document.problem(documents.parts(one.path), one.message, one.mend) for one in error.problems]
    return []


def _list_problems(document: Document) -> list[Problem]:
    members = document.data["list"]
    if members is not None and not isinstance(members, list):
        return [document.problem(("list",), "a list of email addresses is expected here", "begin each with a dash")]
    if len(members or ()) > _LIST_LIMIT:
        mend = "add the others with kaskad segment add"
        return [document.problem(("list",), f"more than {_LIST_LIMIT} members in a file", mend)]
    return [
        document.problem(("list", index), "an email address is expected here", "write anna@example.com")
        for index, member in enumerate(members or ())
        if not isinstance(member, str) or "@" not in member or not storable(member)
    ]


async def publish(
    connection: AsyncConnection, source: str | bytes, file: str = "", by: str = "command"
) -> PublishedSegment:
    """Store a segment, new or changed; what is new or changed becomes its next version.

    Args:
        connection: an open transaction.
        source: the file's content.
        file: its name, for messages.
        by: who publishes, for the version.

    Raises:
        InvalidInput: every problem: with the file, names that do not exist, members who are not contacts.
        Conflict: a list would become criteria or the other way round.
    """
    written = parse(source, file)
    await connection.execute(_ALONE)
    await _check_names(connection, written)
    content = source.decode("utf-8-sig") if isinstance(source, bytes) else source
    before = (await connection.execute(select(segment).where(segment.c.name == written.name))).one_or_none()
    if before is not None and (before.criteria is None) != (written.criteria is None):
        raise Conflict(f"the segment {written.name} has {'a list' if before.criteria is None else 'criteria'} already")
    # null(), because None would be stored as the JSON value null
    stored = null() if written.criteria is None else written.criteria
    values = {"title": written.title, "criteria": stored, "source": content}
    if before is None:
        _check_new_name(written)
        made = insert(segment).values(name=written.name, **values).returning(segment.c.id)
        number = (await connection.execute(made)).scalar_one()
        await versions.keep(connection, number, by)
    elif before.source != content:
        changed = (
            update(segment).where(segment.c.id == before.id).values(**values, changed_at=func.now(), rests_until=None)
        )
        await connection.execute(changed)
        await versions.keep(connection, before.id, by)
        await _check_users(connection, written)
        await tracking.renew(connection, written.name)
    added = await add_members(connection, written.name, await _members(connection, written)) if written.members else 0
    return PublishedSegment(written.name, before is None or before.source != content or added > 0)


async def checked(connection: AsyncConnection, source: str | bytes, file: str = "") -> Criteria:
    """The criteria of a segment's file, everything checked as when it is published.

    Raises:
        InvalidInput: every problem.
        Conflict: it is a list.
    """
    written = parse(source, file)
    if not await is_there(connection, written.name):
        _check_new_name(written)
    await _check_names(connection, written)
    if written.criteria is None:
        raise Conflict(f"the segment {written.name} is a list; only criteria can be previewed")
    return language.parse(written.criteria)


def _check_new_name(written: Segment) -> None:
    """Segments of earlier versions keep names that new ones cannot have."""
    if not _NAME.fullmatch(written.name) or written.name in _TAKEN:
        mend = "write segment: loyal; letters and digits, with spaces, -, _ or . between them"
        raise InvalidInput(written.document.problem(("segment",), "the segment has no usable name", mend))


async def _check_names(connection: AsyncConnection, written: Segment) -> None:
    if written.criteria is None:
        return
    parsed = language.parse(written.criteria, "/criteria")
    problems = await problems_of(connection, parsed, "/criteria", (written.name,))
    if problems:
        raise InvalidInput(
            *(written.document.problem(documents.parts(one.path), one.message, one.mend) for one in problems)
        )


async def _check_users(connection: AsyncConnection, written: Segment) -> None:
    """That whatever names a changed segment, itself or through others, can still be asked."""
    for words, parsed in await naming.users_through(connection, written.name):
        try:
            await ask(connection, parsed)
        except InvalidInput as error:
            raise InvalidInput(
                *(
                    written.document.problem(("criteria",), f"{words} names it: {one.message}", "name another segment")
                    for one in error.problems
                )
            ) from None


async def _members(connection: AsyncConnection, written: Segment) -> list[int]:
    """The contacts on a list; raises InvalidInput naming the lines of those who are none."""
    addresses = [member.strip().lower() for member in written.members]
    rows = await connection.execute(
        select(identity.c.value, identity.c.contact_id).where(
            identity.c.kind == "email", identity.c.value.in_(addresses)
        )
    )
    found = {row.value: row.contact_id for row in rows}
    problems = [
        written.document.problem(("list", index), f"no contact has the address {address}", "import them first")
        for index, address in enumerate(addresses)
        if address not in found
    ]
    if problems:
        raise InvalidInput(*problems)
    return [found[address] for address in addresses]


async def add_members(connection: AsyncConnection, name: str, contact_ids: Sequence[int]) -> int:
    """Put contacts on a segment's list; those on it already stay, with the day they came.

    Returns:
        How many are new on it.

    Raises:
        NotFound: no such segment.
        Conflict: its members follow from criteria.
    """
    number = await list_id(connection, name)
    await identities.hold_off_erasure(connection)
    rows = await connection.execute(
        text(
            "insert into segment_member (segment_id, contact_id) "
            "select :segment, c.id from contact c where c.id = any(:ids) order by c.id on conflict do nothing"
        ),
        {"segment": number, "ids": list(contact_ids)},
    )
    return rows.rowcount


async def remove_members(connection: AsyncConnection, name: str, contact_ids: Sequence[int]) -> int:
    """Take contacts off a segment's list; gives how many were on it. Raises like `add_members`."""
    number = await list_id(connection, name)
    rows = await connection.execute(
        delete(segment_member).where(
            segment_member.c.segment_id == number, segment_member.c.contact_id.in_(list(contact_ids))
        )
    )
    return rows.rowcount


async def existing(connection: AsyncConnection, contact_ids: Sequence[int]) -> set[int]:
    """Those of the numbers that are contacts."""
    rows = await connection.execute(text("select id from contact where id = any(:ids)"), {"ids": list(contact_ids)})
    return set(rows.scalars())


async def list_id(connection: AsyncConnection, name: str) -> int:
    """The number of a segment that has a list. Raises NotFound, and Conflict if its members follow from criteria."""
    row = await row_of(connection, name)
    if row.criteria is not None:
        raise Conflict(f"the members of {name} follow from its criteria; only lists take members")
    return int(row.id)


async def row_of(connection: AsyncConnection, name: str) -> Any:
    """A segment as the database has it. Raises NotFound, with what may have been meant."""
    row = (await connection.execute(select(segment).where(segment.c.name == name))).one_or_none()
    if row is None:
        known = tuple((await connection.execute(select(segment.c.name))).scalars())
        mend = did_you_mean(name, known)
        raise NotFound(f"there is no segment {name}" + (f"; {mend}" if mend else ""))
    return row


async def criteria_of(connection: AsyncConnection, name: str) -> dict[str, Any] | None:
    """Criteria, as data, that hold for a segment's members, lists included; None for `all`, which is everybody.

    Raises:
        NotFound: no such segment.
    """
    if name == EVERYBODY:
        return None
    await row_of(connection, name)
    return {"contact.segments": name}


async def members_are(connection: AsyncConnection, name: str) -> Criteria | None:
    """The same, parsed. Raises NotFound."""
    data = await criteria_of(connection, name)
    return None if data is None else language.parse(data)


async def delete_segment(connection: AsyncConnection, name: str) -> None:
    """Delete a segment with its list, versions and growth; its contacts stay.

    Raises:
        NotFound: no such segment.
        Conflict: another segment, a journey that somebody may be in, or a broadcast under way names it.
    """
    await connection.execute(_ALONE)
    row = await row_of(connection, name)
    users = await naming.users(connection, name)
    if users:
        raise Conflict(f"{name} is named by {', '.join(users[:5])}; change that first")
    await connection.execute(delete(segment).where(segment.c.id == row.id))


async def get(connection: AsyncConnection, name: str) -> dict[str, Any]:
    """One segment as it is listed, with its source and criteria. Raises NotFound."""
    row = await row_of(connection, name)
    words = None if row.criteria is None else language.parse(row.criteria).words()
    return {**_listed(row), "created_at": row.created_at, "words": words, "source": row.source}


async def listing(connection: AsyncConnection) -> list[dict[str, Any]]:
    """All segments, in the order of their names: name, title, kind (criteria or list), version, contacts (where they
    are kept), changed_at."""
    rows = await connection.execute(select(segment).order_by(segment.c.name))
    return [_listed(row) for row in rows]


def _listed(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "kind": "list" if row.criteria is None else "criteria",
        "version": row.version,
        "contacts": row.members if row.tracking == "on" else None,
        "changed_at": row.changed_at,
    }


async def lists(connection: AsyncConnection) -> dict[str, bool]:
    """Every segment, with whether it is a list."""
    rows = await connection.execute(select(segment.c.name, segment.c.criteria.is_(None).label("is_list")))
    return {row.name: row.is_list for row in rows}


async def hold_still(connection: AsyncConnection) -> None:
    """Have no segment changed or deleted until the transaction ends: for what is stored with names of segments."""
    await connection.execute(_STILL)


async def is_there(connection: AsyncConnection, name: str) -> bool:
    """Whether a segment of this name exists; `all` always does."""
    if name == EVERYBODY:
        return True
    return bool((await connection.execute(select(exists().where(segment.c.name == name)))).scalar_one())
