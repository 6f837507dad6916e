"""Who somebody is: what a visitor or a program says about identities, and what follows from it.

`decide` holds the rules and nothing else; docs/identity.md says them in words. `identify` carries them out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import identities, merging
from contacts.belonging import lock, note_conflicts, somebody_elses
from contacts.identities import KNOWN_KINDS, Pair
from contacts.profiles import Limits
from core.database import driver
from core.errors import Conflict, InvalidInput, NotFound, Problem
from core.settings import Settings

_LOCKS = 0x6B617369  # "kasi"
_ATTEMPTS = 5

Rule = Literal["conflict", "merge"]


@dataclass(frozen=True)
class Rules:
    """What happens when an identity that is said to be somebody's belongs to another known contact.

    `conflict` writes it down and merges nothing; `merge` merges, unless both have an external id. There is no rule for
    external ids: two of them are two people.
    """

    email: Rule = "conflict"
    phone: Rule = "conflict"

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """The rules of an installation."""
        return cls(settings.identity_email, settings.identity_phone)

    def merges(self, kind: str) -> bool:
        """Whether an identity of this kind may make two known contacts one."""
        return {"email": self.email, "phone": self.phone}.get(kind) == "merge"


@dataclass(frozen=True)
class Identified:
    """Who it is."""

    contact_id: int
    merges: tuple[int, ...] = ()
    """Numbers of the merges that came of it."""
    conflicts: tuple[Pair, ...] = ()
    """Identities that belong to other contacts and stay theirs."""
    withheld: tuple[Pair, ...] = ()
    """Identities that were not added, because whoever spoke is not trusted to add them to somebody who is known."""
    anew: bool = False
    """The device belongs to another known contact, or its id to somebody who was erased: it needs a new anonymous id.
    Until it has one, what comes under the old id is not this contact's."""


@dataclass(frozen=True)
class Known:
    """A contact as the rules see it: kind to the values it is known by."""

    kinds: Mapping[str, frozenset[str]]

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing says who it is."""
        return not any(kind in self.kinds for kind in KNOWN_KINDS)

    def is_other(self, pair: Pair) -> bool:
        """Whether it has identities of this kind, and not this one."""
        return pair[0] in self.kinds and pair[1] not in self.kinds[pair[0]]


@dataclass
class Decision:
    """What is to be done."""

    target: int | None = None
    """The contact it is; None for a new one."""
    attach: list[Pair] = field(default_factory=list)
    merge: list[int] = field(default_factory=list)
    conflicts: list[tuple[Pair, int]] = field(default_factory=list)
    withheld: list[Pair] = field(default_factory=list)
    anew: bool = False


def decide(
    device: Pair | None,
    said: Sequence[Pair],
    owners: Mapping[Pair, int],
    contacts: Mapping[int, Known],
    rules: Rules,
    *,
    trusted: bool,
) -> Decision:
    """Find out who is meant, and what may become of the identities.

    Args:
        device: the anonymous id it was said from, if there is one.
        said: external id, email and phone; one of a kind at most.
        owners: whose those of the identities are that somebody has.
        contacts: those owners.
        rules: what may merge known contacts.
        trusted: whether a server said it, or vouched for it by a signature. Else a page said it, where anybody can
            write: it is believed as to whose device this is, but gives nothing to a contact who is known already, and
            makes no two known contacts one.
    """
    said = sorted(said, key=lambda pair: KNOWN_KINDS.index(pair[0]))
    made = Decision(target=_target(said, owners, contacts))
    owner = owners.get(device) if device else None
    if made.target is None and owner is not None and _may_be(contacts[owner], said, trusted=trusted):
        made.target = owner
    person = contacts.get(made.target) if made.target is not None else None
    is_known = person is not None and not person.is_anonymous
    for pair in said:
        other = owners.get(pair)
        if other is None:
            (made.withheld if is_known and not trusted else made.attach).append(pair)
        elif other != made.target:
            may_merge = trusted and rules.merges(pair[0])
            if may_merge and made.target is not None and not _two_people(contacts, made.target, other):
                made.merge.append(other)
            else:
                made.conflicts.append((pair, other))
    if device is not None:
        if owner is None:
            made.attach.append(device)
        elif owner != made.target and owner not in made.merge:
            if contacts[owner].is_anonymous:
                made.merge.append(owner)
            else:
                made.anew = True
    made.merge = list(dict.fromkeys(made.merge))
    return made


def _target(said: Sequence[Pair], owners: Mapping[Pair, int], contacts: Mapping[int, Known]) -> int | None:
    """The contact that the strongest identity finds; with an external id nobody has, one who has no other."""
    external_ids = {owner: contacts[owner].kinds.get("external_id", frozenset()) for owner in owners.values()}
    elsewhere = somebody_elses(said, owners, external_ids)
    return next((owners[pair] for pair in said if pair in owners and pair not in elsewhere), None)


def _may_be(person: Known, said: Sequence[Pair], *, trusted: bool) -> bool:
    """Whether a device's owner can be who is meant, when nobody is known by what was said.

    A visitor nobody knows yet can. A known person can if it has nothing of the kinds that were said; with another
    address or another external id it is somebody else at the same device.
    """
    if person.is_anonymous:
        return True
    return (trusted or all(kind == "external_id" for kind, _ in said)) and not any(map(person.is_other, said))


def _two_people(contacts: Mapping[int, Known], one: int, other: int) -> bool:
    return "external_id" in contacts[one].kinds and "external_id" in contacts[other].kinds


async def identify(
    connection: AsyncConnection,
    device: str | None,
    said: Mapping[str, str],
    *,
    rules: Rules | None = None,
    trusted: bool = True,
    source: str = "identify",
    limits: Limits | None = None,
    region: str = identities.DEFAULT_REGION,
) -> Identified:
    """Take in that whoever uses a device is known by these identities: find or make the contact, merge the visitor.

    Exact when many do it at once: those who speak of the same identity come one after another. Call it once a
    transaction, before anything else that finds or makes contacts; PostgreSQL may end it with a deadlock (40P01) or a
    unique violation (23505): do the transaction again then.

    Args:
        connection: an open transaction.
        device: the anonymous id, or None when a program speaks of somebody.
        said: external_id, email and phone, as far as they are known; may be empty with a device.
        rules: what may merge known contacts; nothing by default.
        trusted: False for what a page says without a signature: it adds nothing to a known contact.
        source: what stands in the records of merges and conflicts.
        limits: how much a contact may carry.
        region: the country (ISO 3166) of phone numbers without +.

    Raises:
        InvalidInput: an identity cannot be one; there is none at all; or there is only a device whose id belonged to
            somebody who was erased.
    """
    problems: list[Problem] = []
    pairs: list[Pair] = []
    for kind, value in said.items():
        if kind not in KNOWN_KINDS:
            problems.append(Problem(f"nobody is identified by {kind[:40]!r}", "one of " + ", ".join(KNOWN_KINDS)))
            continue
        try:
            pairs.append((kind, identities.normalise(kind, value, region)))
        except InvalidInput as error:
            problems += error.problems
    mark = ("anonymous_id", identities.normalise("anonymous_id", device)) if device is not None else None
    if problems:
        raise InvalidInput(*problems)
    if not pairs and mark is None:
        raise InvalidInput(Problem("nothing says who it is", "give one of " + ", ".join(KNOWN_KINDS)))
    await identities.hold_off_erasure(connection)
    asked = [*pairs, mark] if mark else pairs
    present = set(await (await identities.ask(connection, asked)).contacts())
    if len(present) == 1 and (contact := present.pop()) is not None:  # as pages say again and again: nothing to do
        return Identified(contact)
    await _take_turns(connection, asked)
    gone = bool(mark) and bool(await identities.erased(connection, [mark] if mark else []))
    if gone and not pairs:
        raise InvalidInput(Problem("this anonymous id belonged to a contact who was erased", "begin with a new one"))
    for _ in range(_ATTEMPTS):
        device_pair = None if gone else mark
        found = await identities.lookup(connection, asked)
        await lock(connection, set(found.values()))
        decision = decide(
            device_pair, pairs, found, await _known(connection, found.values()), rules or Rules(), trusted=trusted
        )
        done = await _perform(connection, decision, source, limits)
        if done is not None:
            contact_id, merges = done
            conflicts = tuple(pair for pair, _ in decision.conflicts)
            return Identified(contact_id, merges, conflicts, tuple(decision.withheld), anew=decision.anew or gone)
    raise Conflict("these contacts change too quickly: try again")


async def _take_turns(connection: AsyncConnection, pairs: Sequence[Pair]) -> None:
    """Wait for everyone who identifies somebody by one of these, until the transaction ends; in one order for all."""
    raw = await driver(connection)
    await raw.execute(
        "select pg_advisory_xact_lock(%s, key) from (select distinct hashtext(name) as key "
        "from unnest(%s::text[]) name order by 1) keys",
        (_LOCKS, [f"{kind}:{value}" for kind, value in pairs]),
    )


async def _known(connection: AsyncConnection, contact_ids: Iterable[int]) -> dict[int, Known]:
    """Contacts with what they are known by."""
    rows = await connection.execute(
        text("select contact_id, kind, value from identity where contact_id = any(:ids)"),
        {"ids": sorted(set(contact_ids))},
    )
    kinds: dict[int, dict[str, set[str]]] = {}
    for row in rows:
        kinds.setdefault(row.contact_id, {}).setdefault(row.kind, set()).add(row.value)
    return {one: Known({kind: frozenset(values) for kind, values in its.items()}) for one, its in kinds.items()}


async def _perform(
    connection: AsyncConnection, decision: Decision, source: str, limits: Limits | None
) -> tuple[int, tuple[int, ...]] | None:
    """Do what was decided; None when somebody else was quicker with one of the identities, or merged a contact."""
    attach, target = list(decision.attach), decision.target
    if target is None:
        (target,) = await identities.resolve(connection, attach[:1])
    try:
        for pair in sorted(attach):
            await identities.attach(connection, target, *pair)
        merges = [
            await merging.merge(connection, loser, target, source=source, limits=limits) for loser in decision.merge
        ]
    except (Conflict, NotFound):
        return None
    await note_conflicts(connection, [(target, owner, pair) for pair, owner in decision.conflicts], source)
    return target, tuple(merges)


async def conflicts(
    connection: AsyncConnection, contact_id: int | None = None, before: int | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Identities that one contact was said to have and another one has, newest first."""
    rows = await connection.execute(
        text(
            "select id, contact_id, owner_id, kind, value, noted_at, source from identity_conflict "
            "where (cast(:before as bigint) is null or id < :before) and (cast(:contact as bigint) is null "
            "or contact_id = :contact or owner_id = :contact) order by id desc limit :limit"
        ),
        {"contact": contact_id, "before": before, "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]
