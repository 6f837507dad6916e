"""Finding or making contacts and writing what is said about them, in a few statements for all."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import attributes, belonging, companies, consents, identities, optin
from contacts.profiles.items import Draft, Item, Limits, Upserted, prepare
from core.clock import now
from core.errors import InvalidInput, Problem


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
            drafts.append(prepare(index, item, region))
        except InvalidInput as error:
            results[index] = Upserted(problems=error.problems)
    await identities.hold_off_erasure(connection)
    drafts = await _still_wanted(connection, drafts, results)
    types = await _types(connection, drafts)
    for group in _rounds(_typed(drafts, types, results)):
        await _write(connection, group, limits, source, results)
    return results


async def _still_wanted(connection: AsyncConnection, drafts: list[Draft], results: list[Upserted]) -> list[Draft]:
    """Leave out items with an anonymous id of somebody who was erased."""
    gone = await identities.erased(connection, {pair for draft in drafts for pair in draft.pairs})
    problem = Problem("this id belonged to a contact who was erased", "leave it out", path="identities.anonymous_id")
    for draft in drafts if gone else ():
        if gone.intersection(draft.pairs):
            results[draft.index] = Upserted(problems=(problem,))
    return [draft for draft in drafts if not gone.intersection(draft.pairs)]


async def _types(connection: AsyncConnection, drafts: Iterable[Draft]) -> dict[str, str]:
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


def _typed(drafts: Iterable[Draft], types: Mapping[str, str], results: list[Upserted]) -> list[Draft]:
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


def _rounds(drafts: Iterable[Draft]) -> list[list[Draft]]:
    """Split items so that none shares an identity with another of its round; later ones come in later rounds."""
    rounds: list[list[Draft]] = []
    depth: dict[identities.Pair, int] = {}
    for draft in drafts:
        number = max((depth.get(pair, 0) for pair in draft.pairs), default=0)
        depth.update((pair, number + 1) for pair in draft.pairs)
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(draft)
    return rounds


async def _write(
    connection: AsyncConnection, drafts: list[Draft], limits: Limits, source: str, results: list[Upserted]
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


async def _settle(connection: AsyncConnection, drafts: list[Draft], results: list[Upserted]) -> list[Draft]:
    """Give each draft its contact; whoever names two contacts at once is refused."""
    known = await identities.lookup(connection, [pair for draft in drafts for pair in draft.pairs])
    external_ids = await belonging.external_ids(connection, set(known.values()))
    good: list[Draft] = []
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


async def _lock(connection: AsyncConnection, drafts: Iterable[Draft]) -> dict[int, "_Profile"]:
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


async def _overtaken(connection: AsyncConnection, drafts: list[Draft]) -> tuple[list[Draft], list[Draft]]:
    """Those whose contact is still theirs now that it is locked, and those to whom another transaction was quicker to
    give it another external id."""
    external_ids = await belonging.external_ids(connection, {draft.contact_id for draft in drafts})
    kept: list[Draft] = []
    overtaken: list[Draft] = []
    for draft in drafts:
        other = belonging.somebody_elses(draft.own, dict.fromkeys(draft.own, draft.contact_id), external_ids)
        (overtaken if other else kept).append(draft)
    return kept, overtaken


async def _attach(connection: AsyncConnection, drafts: list[Draft], results: list[Upserted]) -> list[Draft]:
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
    drafts: Iterable[Draft], profiles: Mapping[int, "_Profile"], limits: Limits, results: list[Upserted]
) -> tuple[list[Draft], dict[int, "_Profile"]]:
    """Lay the drafts over the profiles; gives those that stay within the limits, and the profiles that change."""
    good: list[Draft] = []
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


def _merged(before: _Profile, draft: Draft) -> _Profile:
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


async def _write_consents(connection: AsyncConnection, drafts: Iterable[Draft], source: str, days: int) -> None:
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
