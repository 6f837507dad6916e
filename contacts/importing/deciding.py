"""Which row is about which contact: pure decisions."""

import itertools
from collections import Counter as Counted
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from contacts import belonging, identities
from contacts.columns import Column
from contacts.importing.reading import Chunk


@dataclass
class Person:
    """What the rows of a chunk say about one contact, later ones over earlier ones."""

    id: int
    new: bool
    rows: list[int]
    fragment: str = ""
    language: str | None = None
    time_zone: str | None = None
    tags: list[str] | None = None
    company: str | None = None
    consent: bool | None = None
    consent_row: int = 0


@dataclass
class Decided:
    """A chunk whose rows have found their contacts."""

    plain: list[int]
    """Rows that each make a contact of their own, which is what nearly all rows of a first import do."""
    plain_ids: list[int]
    people: dict[int, Person]
    """The contacts of the other rows."""
    attached: list[tuple[str, str, int]]
    """Identities nobody had, with whom they go to."""
    conflicts: list[belonging.Conflict]
    """Identities of somebody with another external id, whose they stay."""
    rejects: dict[int, tuple[str, str]]


def rows_that_meet(chunk: Chunk, known: dict[identities.Pair, int]) -> set[int]:
    """The good rows with an identity that somebody has, or that comes twice in the chunk."""
    others: set[int] = set()
    for kind, values in chunk.kinds:
        mine = [values[n] for n in chunk.good]
        given = [value for value in mine if value is not None]
        twice = (
            {value for value, count in Counted(given).items() if count > 1} if len(set(given)) < len(given) else set()
        )
        if known or twice:
            others.update(
                n for n, value in zip(chunk.good, mine, strict=True) if value in twice or (kind, value) in known
            )
    return others


def decide(
    chunk: Chunk,
    known: dict[identities.Pair, int],
    external_ids: dict[int, set[str]],
    others: set[int],
    fresh: Iterator[int],
    columns: Sequence[Column],
) -> Decided:
    """Give every good row its contact: the one that its identities point to, or a new one.

    Args:
        chunk: the rows.
        known: whose the identities are that somebody has.
        external_ids: of those contacts.
        others: the rows that meet a contact or one another.
        fresh: ids for new contacts.
        columns: of the file.
    """
    plain = [n for n in chunk.good if n not in others] if others else chunk.good
    plain_ids = list(itertools.islice(fresh, len(plain)))
    decided = Decided(plain, plain_ids, {}, [], [], dict(chunk.rejects))
    for kind, values in chunk.kinds:
        mine = [values[n] for n in plain]
        pairs = zip(itertools.repeat(kind), mine, plain_ids)
        decided.attached += [pair for pair in pairs if pair[1] is not None] if None in mine else list(pairs)  # type: ignore[arg-type,misc]
    people, owner = decided.people, dict(known)
    held = {contact_id: set(values) for contact_id, values in external_ids.items()}
    for n in sorted(others):
        pairs_of_row = [(kind, value) for kind, values in chunk.kinds if (value := values[n]) is not None]
        elsewhere = belonging.somebody_elses(pairs_of_row, owner, held)
        own = [pair for pair in pairs_of_row if pair not in elsewhere]
        owners = {owner[pair] for pair in own if pair in owner}
        if len(owners) > 1:
            decided.rejects[n] = (columns[0].header, _different(own, owner))
            continue
        is_new = not owners
        contact_id = next(fresh) if is_new else owners.pop()
        if contact_id not in people:
            people[contact_id] = Person(contact_id, is_new, [])
        for kind, value in own:
            if (kind, value) not in owner:
                owner[kind, value] = contact_id
                decided.attached.append((kind, value, contact_id))
                if kind == "external_id":
                    held.setdefault(contact_id, set()).add(value)
        decided.conflicts += [(contact_id, other, pair) for pair, other in elsewhere.items()]
        _lay_over(people[contact_id], chunk, n)
    return decided


def leave_out(decided: Decided, contact_ids: set[int], reason: str) -> None:
    """Refuse all rows about some contacts."""
    for contact_id in contact_ids:
        for n in decided.people.pop(contact_id).rows:
            decided.rejects[n] = ("", reason)
    if contact_ids:
        decided.attached = [one for one in decided.attached if one[2] not in contact_ids]
        decided.conflicts = [one for one in decided.conflicts if one[0] not in contact_ids]


def _different(pairs: Iterable[identities.Pair], owner: dict[identities.Pair, int]) -> str:
    kinds = " and ".join(kind for kind, value in pairs if (kind, value) in owner)
    return f"its {kinds} belong to different contacts"


def _lay_over(person: Person, chunk: Chunk, n: int) -> None:
    """Add a row to what is said about a contact. In JSON, PostgreSQL keeps the last of two equal names."""
    person.rows.append(n)
    fragment = chunk.fragments[n]
    person.fragment = f"{person.fragment},{fragment}" if person.fragment and fragment else person.fragment or fragment
    person.language = chunk.language[n] or person.language
    person.time_zone = chunk.time_zone[n] or person.time_zone
    person.company = chunk.company[n] or person.company
    if tags := chunk.tags[n]:
        person.tags = list(dict.fromkeys([*(person.tags or ()), *tags]))
    if (consent := chunk.consent[n]) is not None:
        person.consent, person.consent_row = consent, n
