"""Profiles: what is known about contacts, written in bulk and read one by one."""

import re
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes, belonging, companies, consents, identities, optin
from core.clock import now
from core.errors import InvalidInput, NotFound, Problem
from core.schema.contacts import IDENTITY_KINDS
from core.settings import Settings

_LANGUAGE = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})(?:-[a-z]{4})?(?:-(?:[a-z]{2}|\d{3}))?"
    r"(?:-(?:[a-z0-9]{5,8}|\d[a-z0-9]{3}))*(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*(?:-x(?:-[a-z0-9]{1,8})+)?"
)
_TAG_LENGTH = 100


@dataclass(frozen=True)
class Limits:
    """How much one contact may carry, and how long a consent waits for its confirmation."""

    attributes: int = 200
    bytes: int = 32_768
    tags: int = 200
    confirmation_days: int = 7

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits of an installation."""
        return cls(
            settings.contact_attributes_limit,
            settings.contact_bytes_limit,
            settings.contact_tags_limit,
            settings.confirmation_days,
        )


@dataclass(frozen=True)
class ConsentItem:
    """A consent given or refused: on which channel, for which purpose, when, and what proves it."""

    channel: str
    purpose: str
    granted: bool
    at: datetime | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    confirm: bool = False
    """Ask the contact first (double opt-in); until it has confirmed, nothing is granted."""


@dataclass(frozen=True)
class Item:
    """What is said about one contact. What is left out stays as it is."""

    identities: Mapping[str, str]
    """Kind to value; those known find the contact, and the others become its own too. With an external id, what
    belongs to a contact with another one does neither."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Name to value; None removes the attribute."""
    language: str | None = None
    time_zone: str | None = None
    add_tags: Sequence[str] = ()
    remove_tags: Sequence[str] = ()
    consents: Sequence[ConsentItem] = ()
    company: str | None = None
    """The key of the company it belongs to; an empty text takes it out."""


@dataclass(frozen=True)
class Upserted:
    """What became of one item: the contact, or the problems for which nothing of it was written."""

    contact_id: int | None = None
    created: bool = False
    problems: tuple[Problem, ...] = ()
    conflicts: tuple[identities.Pair, ...] = ()
    """Identities that belong to a contact with another external id and stay its own; they were written down."""


def check_language(value: str) -> str:
    """A language tag in its usual capitals (BCP 47: RFC 5646, section 2.1.1).

    Raises:
        InvalidInput: it is not well-formed.
    """
    if len(value) > 60 or not _LANGUAGE.fullmatch(value.lower().replace("_", "-")):
        raise InvalidInput(Problem(f"{value[:60]!r} is no language tag", "like ru or pt-BR (BCP 47)", path="language"))
    first, *rest = value.replace("_", "-").split("-")
    shown, single = [first.lower()], False
    for part in rest:
        plain = single or len(part) not in {2, 4} or not part.isalpha()
        shown.append(part.lower() if plain else part.upper() if len(part) == 2 else part.title())
        single = single or len(part) == 1
    return "-".join(shown)


@cache
def _zones() -> dict[str, str]:
    return {name.lower(): name for name in zoneinfo.available_timezones() if name != "localtime"}


def check_time_zone(value: str) -> str:
    """The IANA name of a time zone, in its own capitals.

    Raises:
        InvalidInput: there is none of that name.
    """
    name = _zones().get(value.strip().lower())
    if name is None:
        mend = "an IANA name like Europe/Moscow"
        raise InvalidInput(Problem(f"there is no time zone {value[:60]!r}", mend, path="time_zone"))
    return name


def check_tag(value: str) -> str:
    """A tag, trimmed.

    Raises:
        InvalidInput: it is empty, too long, or holds a control character.
    """
    tag = value.strip()
    if not tag or len(tag) > _TAG_LENGTH or not tag.isprintable() or not attributes.storable(tag):
        mend = f"1 to {_TAG_LENGTH} characters that can be seen"
        raise InvalidInput(Problem(f"{value[:60]!r} cannot be a tag", mend, path="tags"))
    return tag


@dataclass
class _Draft:
    """An item on its way: checked and normalised."""

    index: int
    pairs: list[identities.Pair]
    item: Item
    language: str | None
    time_zone: str | None
    add_tags: list[str]
    remove_tags: list[str]
    values: dict[str, attributes.Value | None] = field(default_factory=dict)
    contact_id: int = 0
    created: bool = False
    elsewhere: dict[identities.Pair, int] = field(default_factory=dict)
    """Identities that are another person's, and whose."""

    @property
    def own(self) -> list[identities.Pair]:
        """The identities that are its contact's or become so."""
        return [pair for pair in self.pairs if pair not in self.elsewhere]


# An external id makes the contact, where there is one: somebody else may be just about to take the address.
_ORDER = ("external_id", "push_endpoint", "phone", "email", "anonymous_id")


async def upsert(
    connection: AsyncConnection,
    items: Sequence[Item],
    *,
    limits: Limits | None = None,
    region: str = identities.DEFAULT_REGION,
    source: str = "api",
) -> list[Upserted]:
    """Find or make the contacts of these items and write what is said about them, in a few statements for all.

    Each item stands alone: one with a problem is left out whole and the others are written. An item that speaks of
    the same contact as an earlier one comes after it.

    Args:
        items: up to a thousand or so.
        limits: how much one contact may carry.
        region: the country (ISO 3166) of phone numbers without +.
        source: where consents among the items come from.

    Returns:
        One answer for each item, in their order.
    """
    limits = limits or Limits()
    results = [Upserted()] * len(items)
    drafts = []
    for index, item in enumerate(items):
        try:
            drafts.append(_draft(index, item, region))
        except InvalidInput as error:
            results[index] = Upserted(problems=error.problems)
    await identities.hold_off_erasure(connection)
    drafts = await _still_wanted(connection, drafts, results)
    types = await _types(connection, drafts)
    for group in _rounds(_typed(drafts, types, results)):
        await _write(connection, group, limits, source, results)
    return results


def _draft(index: int, item: Item, region: str) -> _Draft:
    """Check everything that needs no database; all problems of the item are raised together."""
    problems: list[Problem] = []

    def checked(check: Any, *arguments: Any) -> Any:
        try:
            return check(*arguments)
        except InvalidInput as error:
            problems.extend(error.problems)
            return None

    pairs = [(kind, checked(identities.normalise, kind, value, region)) for kind, value in item.identities.items()]
    if not pairs:
        problems.append(Problem("no identity is given", "give one of " + ", ".join(IDENTITY_KINDS), path="identities"))
    for name in item.attributes:
        checked(attributes.check_name, name)
    if item.company:
        checked(companies.check_key, item.company)
    for consent in item.consents:
        checked(optin.check if consent.confirm else consents.check_words, consent.channel, consent.purpose)
        if consent.confirm and not consent.granted:
            problems.append(Problem("a refusal is not confirmed", "leave confirm out", path="consents.confirm"))
    draft = _Draft(
        index,
        sorted(pairs, key=lambda pair: _ORDER.index(pair[0]) if pair[0] in _ORDER else 0),
        item,
        checked(check_language, item.language) if item.language is not None else None,
        checked(check_time_zone, item.time_zone) if item.time_zone is not None else None,
        [checked(check_tag, tag) for tag in item.add_tags],
        [checked(check_tag, tag) for tag in item.remove_tags],
    )
    if problems:
        raise InvalidInput(*problems)
    return draft


async def _still_wanted(connection: AsyncConnection, drafts: list[_Draft], results: list[Upserted]) -> list[_Draft]:
    """Leave out items with an anonymous id of somebody who was erased."""
    gone = await identities.erased(connection, {pair for draft in drafts for pair in draft.pairs})
    problem = Problem("this id belonged to a contact who was erased", "leave it out", path="identities.anonymous_id")
    for draft in drafts if gone else ():
        if gone.intersection(draft.pairs):
            results[draft.index] = Upserted(problems=(problem,))
    return [draft for draft in drafts if not gone.intersection(draft.pairs)]


async def _types(connection: AsyncConnection, drafts: Iterable[_Draft]) -> dict[str, str]:
    """The types of all attributes spoken of; a name seen for the first time takes the type of its first value."""
    given: dict[str, str] = {}
    names = {name for draft in drafts for name in draft.item.attributes}
    known = await attributes.types(connection, names) if names else {}
    for draft in drafts:
        for name, value in draft.item.attributes.items():
            if name not in known and name not in given and value is not None:
                try:
                    given[name] = attributes.infer(value)
                except InvalidInput:
                    continue  # said as a problem of its item when the value is fitted
    return known | (await attributes.register(connection, given) if given else {})


def _typed(drafts: Iterable[_Draft], types: Mapping[str, str], results: list[Upserted]) -> list[_Draft]:
    """Fit the attributes to their types; items with one that does not fit get their problems and drop out."""
    good = []
    for draft in drafts:
        problems = []
        for name, value in draft.item.attributes.items():
            try:
                draft.values[name] = None if value is None else _fitted(types, name, value)
            except InvalidInput as error:
                problems += [Problem(p.message, p.mend, path=f"attributes.{name}") for p in error.problems]
        if problems:
            results[draft.index] = Upserted(problems=tuple(problems))
        else:
            good.append(draft)
    return good


def _fitted(types: Mapping[str, str], name: str, value: object) -> attributes.Value:
    return attributes.fit(types[name] if name in types else attributes.infer(value), value)


def _rounds(drafts: Iterable[_Draft]) -> list[list[_Draft]]:
    """Split items so that none shares an identity with another of its round; later ones come in later rounds."""
    rounds: list[list[_Draft]] = []
    depth: dict[identities.Pair, int] = {}
    for draft in drafts:
        number = max((depth.get(pair, 0) for pair in draft.pairs), default=0)
        depth.update((pair, number + 1) for pair in draft.pairs)
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(draft)
    return rounds


async def _write(
    connection: AsyncConnection, drafts: list[_Draft], limits: Limits, source: str, results: list[Upserted]
) -> None:
    """One round: find or make the contacts, lock them, leave out what cannot be, write the rest."""
    drafts = await _settle(connection, drafts, results)
    profiles = await _lock(connection, drafts)
    drafts, overtaken = await _overtaken(connection, drafts)
    if overtaken:
        await _write(connection, overtaken, limits, source, results)
    fitting, _ = _merge(drafts, profiles, limits, results)
    good = await _attach(connection, fitting, results)
    _, changed = _merge(good, profiles, limits, results)
    kept = {draft.index for draft in good}
    await _remove(connection, {draft.contact_id for draft in drafts if draft.created and draft.index not in kept})
    await _update(connection, changed)
    said = [(draft.contact_id, draft.item.company) for draft in good if draft.item.company is not None]
    await companies.assign(connection, {contact_id: company or None for contact_id, company in said})
    for draft in good:
        results[draft.index] = Upserted(draft.contact_id, draft.created, conflicts=tuple(draft.elsewhere))
    conflicts = [(draft.contact_id, owner, pair) for draft in good for pair, owner in draft.elsewhere.items()]
    await belonging.note_conflicts(connection, conflicts, source)
    await _write_consents(connection, good, source, limits.confirmation_days)


async def _settle(connection: AsyncConnection, drafts: list[_Draft], results: list[Upserted]) -> list[_Draft]:
    """Give each draft its contact; whoever names two contacts at once is refused."""
    known = await identities.lookup(connection, [pair for draft in drafts for pair in draft.pairs])
    external_ids = await belonging.external_ids(connection, set(known.values()))
    good: list[_Draft] = []
    for draft in drafts:
        draft.elsewhere = belonging.somebody_elses(draft.pairs, known, external_ids)
        owners = {known[pair] for pair in draft.own if pair in known}
        if len(owners) > 1:
            results[draft.index] = Upserted(problems=(_several(draft.own, known),))
        else:
            draft.contact_id = owners.pop() if owners else 0
            good.append(draft)
    new = [draft for draft in good if not draft.contact_id]
    for draft, contact_id in zip(new, await identities.resolve(connection, [d.own[0] for d in new]), strict=True):
        draft.contact_id, draft.created = contact_id, True
    return good


def _several(pairs: Iterable[identities.Pair], known: Mapping[identities.Pair, int]) -> Problem:
    owners = ", ".join(f"{kind} of contact {known[kind, value]}" for kind, value in pairs if (kind, value) in known)
    return Problem(f"these identities belong to different contacts: {owners}", "send them apart", path="identities")


async def _lock(connection: AsyncConnection, drafts: Iterable[_Draft]) -> dict[int, "_Profile"]:
    """Lock the contacts in the order of their ids and read them; find out which of them this transaction made."""
    rows = await connection.execute(
        text(
            "select id, attributes, tags, language, time_zone, xmin = pg_current_xact_id()::xid as made "
            "from contact where id = any(:ids) order by id for no key update"
        ),
        {"ids": [draft.contact_id for draft in drafts]},
    )
    profiles, made = {}, set()
    for row in rows:
        profiles[row.id] = (dict(row.attributes), list(row.tags), row.language, row.time_zone)
        if row.made:
            made.add(row.id)
    for draft in drafts:  # another transaction may have been quicker to make it
        draft.created = draft.created and draft.contact_id in made
    return profiles


async def _overtaken(connection: AsyncConnection, drafts: list[_Draft]) -> tuple[list[_Draft], list[_Draft]]:
    """Those whose contact is still theirs now that it is locked, and those to whom another transaction was quicker to
    give it another external id."""
    external_ids = await belonging.external_ids(connection, {draft.contact_id for draft in drafts})
    kept: list[_Draft] = []
    overtaken: list[_Draft] = []
    for draft in drafts:
        other = belonging.somebody_elses(draft.own, dict.fromkeys(draft.own, draft.contact_id), external_ids)
        (overtaken if other else kept).append(draft)
    return kept, overtaken


async def _attach(connection: AsyncConnection, drafts: list[_Draft], results: list[Upserted]) -> list[_Draft]:
    """Write the identities that nobody has yet; a draft whose identity another transaction just took is refused, unless
    that was for a contact with another external id."""
    pairs = sorted((pair, draft.contact_id) for draft in drafts for pair in draft.own)
    known = await identities.lookup(connection, [pair for pair, _ in pairs])
    missing = [(pair, contact_id) for pair, contact_id in pairs if pair not in known]
    if missing:
        await connection.execute(
            text(
                "insert into identity (kind, value, contact_id) select * from "
                "unnest(cast(:kinds as text[]), cast(:values as text[]), cast(:ids as bigint[])) on conflict do nothing"
            ),
            {
                "kinds": [pair[0] for pair, _ in missing],
                "values": [pair[1] for pair, _ in missing],
                "ids": [contact_id for _, contact_id in missing],
            },
        )
        known |= await identities.lookup(connection, [pair for pair, _ in missing])
    taken = {known[pair] for pair, contact_id in pairs if known[pair] != contact_id}
    external_ids = await belonging.external_ids(connection, taken)
    good = []
    for draft in drafts:
        draft.elsewhere |= belonging.somebody_elses(draft.own, known, external_ids)
        if all(known[pair] == draft.contact_id for pair in draft.own):
            good.append(draft)
        else:
            results[draft.index] = Upserted(problems=(_several(draft.own, known),))
    return good


def _merge(
    drafts: Iterable[_Draft], profiles: Mapping[int, "_Profile"], limits: Limits, results: list[Upserted]
) -> tuple[list[_Draft], dict[int, "_Profile"]]:
    """Lay the drafts over the profiles; gives those that stay within the limits, and the profiles that change."""
    good: list[_Draft] = []
    changed: dict[int, _Profile] = {}
    for draft in drafts:
        before = changed.get(draft.contact_id) or profiles[draft.contact_id]
        after = _merged(before, draft)
        if problem := _over(after[0], after[1], limits):
            results[draft.index] = Upserted(problems=(problem,))
            continue
        good.append(draft)
        if after != before:
            changed[draft.contact_id] = after
    return good, changed


async def _remove(connection: AsyncConnection, contact_ids: Iterable[int]) -> None:
    """Take back the contacts that this transaction made for items that turned out not to be possible."""
    if unwanted := list(contact_ids):
        await connection.execute(text("delete from contact where id = any(:ids)"), {"ids": unwanted})


_Profile = tuple[dict[str, Any], list[str], str | None, str | None]


def _merged(before: _Profile, draft: _Draft) -> _Profile:
    values, tags, language, time_zone = before
    merged = {name: value for name, value in {**values, **draft.values}.items() if value is not None}
    removed = set(draft.remove_tags)
    kept = [tag for tag in dict.fromkeys([*tags, *draft.add_tags]) if tag not in removed]
    return merged, kept, draft.language or language, draft.time_zone or time_zone


def _over(values: Mapping[str, Any], tags: Sequence[str], limits: Limits) -> Problem | None:
    if len(values) > limits.attributes:
        return Problem(f"a contact may carry {limits.attributes} attributes", "remove some", path="attributes")
    if len(msgspec.json.encode(values)) > limits.bytes:
        return Problem(f"a contact's attributes may take {limits.bytes} bytes", "remove some", path="attributes")
    if len(tags) > limits.tags:
        return Problem(f"a contact may carry {limits.tags} tags", "remove some", path="tags")
    return None


async def _update(connection: AsyncConnection, changed: Mapping[int, _Profile]) -> None:
    if not changed:
        return
    body = [
        {"id": contact_id, "attributes": values, "tags": tags, "language": language, "time_zone": zone}
        for contact_id, (values, tags, language, zone) in changed.items()
    ]
    await connection.execute(
        text(
            "update contact c set attributes = n.attributes, tags = n.tags, language = n.language, "
            "time_zone = n.time_zone, updated_at = now() from jsonb_to_recordset(cast(:body as jsonb)) "
            "as n (id bigint, attributes jsonb, tags text[], language text, time_zone text) where c.id = n.id"
        ),
        {"body": msgspec.json.encode(body).decode()},
    )


async def _write_consents(connection: AsyncConnection, drafts: Iterable[_Draft], source: str, days: int) -> None:
    """One statement for all contacts who said the same, with the same evidence, at the same time."""
    at = now()
    said: dict[tuple[str, str, bool, datetime, bytes], list[int]] = {}
    asked: dict[tuple[str, str, bytes], list[int]] = {}
    for draft in drafts:
        for consent in draft.item.consents:
            evidence = msgspec.json.encode(consent.evidence)
            if consent.confirm:
                asked.setdefault((consent.channel, consent.purpose, evidence), []).append(draft.contact_id)
                continue
            key = (consent.channel, consent.purpose, consent.granted, consent.at or at, evidence)
            said.setdefault(key, []).append(draft.contact_id)
    for (channel, purpose, granted, moment, evidence), contact_ids in said.items():
        decoded = msgspec.json.decode(evidence)
        await consents.record(connection, contact_ids, channel, purpose, granted, source, decoded, moment)
    for (channel, purpose, evidence), contact_ids in asked.items():
        decoded = msgspec.json.decode(evidence)
        await optin.ask(connection, dict.fromkeys(contact_ids, decoded), channel, purpose, source, at, days)


_APPLY = text(
    """
    with person as (
        select id, attributes, tags from contact where id = any(:ids) order by id for no key update
    ), wanted as (
        select id, (attributes || cast(:set as jsonb)) - cast(:unset as text[]) as attributes,
            array(select tag from unnest(tags || cast(:add as text[])) with ordinality as t (tag, place)
                  where tag <> all(cast(:remove as text[])) group by tag order by min(place)) as tags
        from person
    ), fitting as (
        select * from wanted
        where octet_length(attributes::text) <= :bytes and cardinality(tags) <= :tag_limit
          and (select count(*) from jsonb_object_keys(attributes)) <= :attribute_limit
    ), written as (
        update contact c set attributes = f.attributes, tags = f.tags, updated_at = now() from fitting f
        where c.id = f.id and (c.attributes, c.tags) is distinct from (f.attributes, f.tags)
    )
    select id from wanted except select id from fitting
    """
)


async def apply(
    connection: AsyncConnection,
    contact_ids: Sequence[int],
    attributes_: Mapping[str, Any],
    add_tags: Sequence[str] = (),
    remove_tags: Sequence[str] = (),
    limits: Limits | None = None,
) -> set[int]:
    """Write the same attributes (None removes one) and tags on many contacts: the `update` step of a journey.

    Doing it again changes nothing. Contacts that do not exist any more are passed over.

    Returns:
        Those contacts for whom it would exceed the limits; they are left as they were.

    Raises:
        InvalidInput: a value does not fit its attribute's type, or a tag cannot be.
    """
    limits = limits or Limits()
    values = await _checked(connection, attributes_)
    refused = await connection.execute(
        _APPLY,
        {
            "ids": list(contact_ids),
            "set": msgspec.json.encode({n: v for n, v in values.items() if v is not None}).decode(),
            "unset": [name for name, value in values.items() if value is None],
            "add": [check_tag(tag) for tag in add_tags],
            "remove": [check_tag(tag) for tag in remove_tags],
            "bytes": limits.bytes,
            "tag_limit": limits.tags,
            "attribute_limit": limits.attributes,
        },
    )
    return set(refused.scalars())


async def _checked(connection: AsyncConnection, given: Mapping[str, Any]) -> dict[str, attributes.Value | None]:
    """Attributes of one update fitted to their types; new names are registered."""
    problems: list[Problem] = []
    wanted = {}
    for name, value in given.items():
        try:
            attributes.check_name(name)
            if value is not None:
                wanted[name] = attributes.infer(value)
        except InvalidInput as error:
            problems += [Problem(p.message, p.mend, path=f"attributes.{name}") for p in error.problems]
    if problems:
        raise InvalidInput(*problems)
    types = await attributes.register(connection, wanted) if wanted else {}
    checked: dict[str, attributes.Value | None] = {}
    for name, value in given.items():
        try:
            checked[name] = None if value is None else attributes.fit(types[name], value)
        except InvalidInput as error:
            problems += [Problem(p.message, p.mend, path=f"attributes.{name}") for p in error.problems]
    if problems:
        raise InvalidInput(*problems)
    return checked


@dataclass(frozen=True)
class Profile:
    """All there is to show of one contact, save its timeline."""

    id: int
    created_at: datetime
    updated_at: datetime
    language: str | None
    time_zone: str | None
    tags: list[str]
    attributes: dict[str, Any]
    identities: list[dict[str, Any]]
    consents: list[dict[str, Any]]
    company: str | None = None
    """The key of its company."""


async def get(connection: AsyncConnection, contact_id: int) -> Profile:
    """One contact with its identities and what it agreed to.

    Raises:
        NotFound: there is none with this id.
    """
    rows = await connection.execute(
        text(
            "select c.id, c.created_at, c.updated_at, c.language, c.time_zone, c.tags, c.attributes, o.key as company "
            "from contact c left join company o on o.id = c.company_id where c.id = :id"
        ),
        {"id": contact_id},
    )
    row = rows.mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no contact {contact_id}")
    known_by = await identities.of(connection, contact_id)
    return Profile(**row, identities=known_by, consents=await consents.of(connection, contact_id))


async def find(connection: AsyncConnection, reference: str, region: str = identities.DEFAULT_REGION) -> int:
    """The contact meant by `42` or by `email:anna@example.com`, `external_id:7` and so on.

    The number of a contact that was merged means the one it was merged into.

    Raises:
        InvalidInput: the reference is neither.
        NotFound: nobody is known by it.
    """
    if reference.isascii() and reference.isdigit() and len(reference) < 19:
        number = int(reference)
        merged = await connection.execute(
            text("select now_id from contact_merge where loser_id = :id and undone_at is null"), {"id": number}
        )
        return int(merged.scalar() or number)
    kind, colon, value = reference.partition(":")
    if not colon:
        kinds = ", ".join(IDENTITY_KINDS)
        raise InvalidInput(Problem(f"{reference[:80]!r} is no contact", f"a number, or kind:value with one of {kinds}"))
    pair = (kind, identities.normalise(kind, value, region))
    found = (await identities.lookup(connection, [pair])).get(pair)
    if found is None:
        raise NotFound(f"nobody is known by this {kind}")
    return found


async def page(connection: AsyncConnection, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    """Contacts in the order of their ids, from the first one after `after`, each with its identities."""
    rows = await connection.execute(
        text(
            "select c.id, c.created_at, c.updated_at, c.language, c.time_zone, c.tags, c.attributes, "
            "(select o.key from company o where o.id = c.company_id) as company, coalesce((select "
            "jsonb_agg(jsonb_build_object('kind', i.kind, 'value', i.value, 'created_at', i.created_at) order by "
            "i.created_at, i.kind) from identity i where i.contact_id = c.id), '[]') as identities "
            "from contact c where c.id > :after order by c.id limit :limit"
        ),
        {"after": after, "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]
