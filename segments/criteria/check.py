"""Checking that what criteria name exists, and that types fit: done when something is published."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Column, Table, column, distinct, func, select, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from core.documents import did_you_mean
from core.errors import Problem
from core.schema.companies import company
from core.schema.contacts import attribute
from core.schema.journeys import journey
from core.schema.messages import provider, template
from core.schema.segments import segment
from segments.criteria.base import Reference

_TABLES: dict[str, Table] = {
    "segment": segment,
    "template": template,
    "journey": journey,
    "provider": provider,
}
_JSON_TYPES = {
    "string": ("text", "date", "datetime"),
    "number": ("number",),
    "boolean": ("boolean",),
    "array": ("list",),
}
_MENDS = {
    "company attribute": "import companies that have it",
    "segment": "publish it first",
    "template": "publish it first",
    "journey": "publish it first",
    "provider": "add it first",
}


async def check(connection: AsyncConnection, references: Iterable[Reference]) -> list[Problem]:
    """The references that lead nowhere, and the comparisons that do not fit an attribute's type."""
    wanted = list(references)
    problems: list[Problem] = []
    attributes = await attribute_types(connection) if any(r.kind == "attribute" for r in wanted) else {}
    names = {kind: await _names(connection, kind) for kind in _TABLES if any(r.kind == kind for r in wanted)}
    held: Mapping[str, set[str]] = {}
    if any(r.kind == "company attribute" for r in wanted):
        held = await _company_attributes(connection)
        names["company attribute"] = set(held)
    for reference in wanted:
        if reference.kind == "attribute":
            problems += attribute_problems(reference, attributes)
        elif reference.name in held and reference.kind == "company attribute":
            problems += _company_problems(reference, held[reference.name])
        elif reference.name not in names[reference.kind]:
            mend = _near(reference.name, names[reference.kind]) or _MENDS[reference.kind]
            message = f"there is no {reference.kind} {reference.name}"
            problems.append(Problem(message, mend, path=reference.path))
    return problems


async def attribute_types(connection: AsyncConnection) -> dict[str, str]:
    """The custom attributes of contacts and their types."""
    rows = await connection.execute(select(attribute.c.name, attribute.c.type))
    return {row.name: row.type for row in rows}


def attribute_problems(reference: Reference, types: Mapping[str, str]) -> list[Problem]:
    """What is wrong with one attribute as it is used."""
    kind = types.get(reference.name)
    if kind is None:
        mend = _near(reference.name, types) or "import contacts that have it, or create the attribute"
        return [Problem(f"contacts have no attribute {reference.name}", mend, path=reference.path)]
    return [
        Problem(
            f"the attribute {reference.name} is a {kind}; {test.operator} with {test.operand!r} does not fit",
            f"compare it with a {kind}",
            path=reference.path,
        )
        for test in reference.comparisons
        if not test.fits(kind)
    ]


def _near(name: str, known: Iterable[str]) -> str:
    mend = did_you_mean(name, tuple(known))
    return mend if mend.startswith("did you mean") else ""


async def _names(connection: AsyncConnection, kind: str) -> set[str]:
    column: Column[str] = _TABLES[kind].c.name
    return set((await connection.execute(select(column))).scalars())


async def _company_attributes(connection: AsyncConnection) -> dict[str, set[str]]:
    """The attributes of companies, which nobody declares, with the kinds of values that are there."""
    each = func.jsonb_each(company.c.attributes).table_valued("key", column("value", JSONB))
    rows = await connection.execute(
        select(each.c.key, func.array_agg(distinct(func.jsonb_typeof(each.c.value))))
        .select_from(company)
        .join(each, true())
        .group_by(each.c.key)
    )
    return {name: set(kinds) for name, kinds in rows}


def _company_problems(reference: Reference, kinds: set[str]) -> list[Problem]:
    """Comparisons that no value of any company fits."""
    types = {one for kind in kinds for one in _JSON_TYPES.get(kind, ())}
    return [
        Problem(
            f"{reference.name} of companies is a {' or '.join(sorted(kinds))}; "
            f"{test.operator} with {test.operand!r} does not fit",
            "compare it with such a value",
            path=reference.path,
        )
        for test in reference.comparisons
        if types and not any(test.fits(one) for one in types)
    ]
