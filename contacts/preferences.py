"""What contacts chose for themselves: consents by channel and purpose, how often, language and time zone.

Whatever changes is written down with its proof: consents in `consent_record`, everything else in `preference_record`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from contacts import consents, identities, notes, profiles, suppressions
from contacts.suppressions import ADDRESS_KINDS
from core.errors import InvalidInput, NotFound, Problem

Pair = tuple[str, str]
"""A channel and a purpose."""
MOST_PER_WEEK = 100


@dataclass(frozen=True)
class Purpose:
    """What the preference page offers."""

    name: str
    channels: tuple[str, ...]
    titles: Mapping[str, str]
    """Language to words."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Language to a sentence or two."""
    place: int = 0
    """From the top of the page."""

    def title(self, language: str) -> str:
        """In this language, or in any, or the name itself."""
        return self.titles.get(language) or next(iter(self.titles.values()), self.name)

    def text(self, language: str) -> str:
        """In this language, or none."""
        return self.texts.get(language, "")


MARKETING = Purpose(
    consents.MARKETING,
    tuple(ADDRESS_KINDS),
    {"en": "News and offers", "ru": "Новости и предложения"},
)
"""What is offered as long as nothing else is set up."""


async def purposes(connection: AsyncConnection) -> list[Purpose]:
    """What is offered, from the top of the page."""
    rows = await connection.execute(
        text("select name, channels, titles, texts, place from purpose order by place, name")
    )
    found = [Purpose(row.name, tuple(row.channels), row.titles, row.texts, row.place) for row in rows]
    return found or [MARKETING]


async def offer(connection: AsyncConnection, purpose: Purpose) -> None:
    """Offer a purpose on the page, or offer it in other words.

    Raises:
        InvalidInput: a channel that does not exist, a word that cannot be a purpose, no title, or the one purpose that
            nobody is asked about.
    """
    for channel in purpose.channels:
        consents.check_words(channel, purpose.name)
    if not purpose.channels or not purpose.titles:
        raise InvalidInput(Problem("a purpose needs a channel and a title", "--channel email --title en=News"))
    if purpose.name == consents.TRANSACTIONAL:
        raise InvalidInput(Problem("transactional messages need no consent", "offer another purpose", path="name"))
    await connection.execute(
        text(
            "insert into purpose (name, channels, titles, texts, place) "
            "values (:name, :channels, :titles, :texts, :place) on conflict (name) do update "
            "set channels = excluded.channels, titles = excluded.titles, texts = excluded.texts, place = excluded.place"
        ).bindparams(bindparam("titles", type_=JSONB), bindparam("texts", type_=JSONB)),
        {
            "name": purpose.name,
            "channels": list(purpose.channels),
            "titles": dict(purpose.titles),
            "texts": dict(purpose.texts),
            "place": purpose.place,
        },
    )


async def withdraw_offer(connection: AsyncConnection, name: str) -> None:
    """Offer a purpose no longer; what contacts said about it stays.

    Raises:
        NotFound: it is not offered.
    """
    done = await connection.execute(text("delete from purpose where name = :name"), {"name": name})
    if not done.rowcount:
        raise NotFound(f"the purpose {name!r} is not offered; `kaskad purpose list` shows those that are")


@dataclass(frozen=True)
class Preferences:
    """What holds for a contact."""

    contact_id: int
    language: str | None
    time_zone: str | None
    consents: Mapping[Pair, bool]
    per_week: Mapping[str, int]
    """Channel to the most messages in seven days; channels without a limit are not in it."""
    channels: frozenset[str]
    """Those that the contact has an address for."""


_PLAIN = text("select language, time_zone from contact where id = :id")
_LOCKED = text("select language, time_zone from contact where id = :id for no key update")


async def read(connection: AsyncConnection, contact_id: int, lock: bool = False) -> Preferences | None:
    """What holds for a contact, or None if there is none.

    Args:
        connection: an open transaction.
        contact_id: whose.
        lock: keep others from changing it until the transaction ends.
    """
    found = await connection.execute(_LOCKED if lock else _PLAIN, {"id": contact_id})
    row = found.one_or_none()
    if row is None:
        return None
    stated = await consents.of(connection, contact_id)
    limits = await connection.execute(
        text("select channel, per_week from frequency where contact_id = :id"), {"id": contact_id}
    )
    kinds = {one["kind"] for one in await identities.of(connection, contact_id)}
    return Preferences(
        contact_id,
        row.language,
        row.time_zone,
        {(one["channel"], one["purpose"]): one["granted"] for one in stated},
        {one.channel: one.per_week for one in limits},
        frozenset(channel for channel, kind in ADDRESS_KINDS.items() if kind in kinds),
    )


@dataclass(frozen=True)
class Wish:
    """What a contact wants from now on. What is left out stays as it is."""

    consents: Mapping[Pair, bool] = field(default_factory=dict)
    per_week: Mapping[str, int | None] = field(default_factory=dict)
    """None lifts the limit."""
    language: str | None = None
    time_zone: str | None = None


@dataclass(frozen=True)
class Changed:
    """What a wish came to."""

    consents: Mapping[Pair, bool]
    others: Mapping[str, tuple[Any, Any]]
    """`language`, `time_zone`, `per_week.CHANNEL`: what it was and what it is."""

    def __bool__(self) -> bool:
        return bool(self.consents or self.others)


async def choose(
    connection: AsyncConnection, contact_id: int, wish: Wish, source: str, evidence: Mapping[str, Any], at: datetime
) -> Changed:
    """Write down what a contact chose; what it chose before is not written down again.

    Who agrees to something anew is no longer suppressed for having unsubscribed.

    Args:
        connection: an open transaction.
        contact_id: whose.
        wish: what it wants.
        source: where it said so, such as `preference page`.
        evidence: what proves it.
        at: when.

    Raises:
        NotFound: the contact is gone.
        InvalidInput: a channel, a purpose, a language, a time zone or a number that cannot be.
    """
    wish = _checked(wish)
    await identities.hold_off_erasure(connection)
    before = await read(connection, contact_id, lock=True)
    if before is None:
        raise NotFound(f"there is no contact {contact_id}")
    changed = _differences(before, wish)
    for (channel, purpose), granted in changed.consents.items():
        await consents.record(connection, [contact_id], channel, purpose, granted, source, evidence, at)
    agreed = {channel for (channel, _), granted in changed.consents.items() if granted}
    await suppressions.welcome(connection, contact_id, agreed)
    await _set_limits(connection, contact_id, changed, at)
    if "language" in changed.others or "time_zone" in changed.others:
        await connection.execute(
            text(
                "update contact set language = coalesce(:language, language), "
                "time_zone = coalesce(:time_zone, time_zone), updated_at = now() where id = :id"
            ),
            {"id": contact_id, "language": wish.language, "time_zone": wish.time_zone},
        )
    if changed.others:
        words = {name: {"was": was, "is": wanted} for name, (was, wanted) in changed.others.items()}
        await notes.note(connection, {contact_id: evidence}, words, source, at)
    return changed


def _checked(wish: Wish) -> Wish:
    for channel, purpose in wish.consents:
        consents.check_words(channel, purpose)
    for channel, number in wish.per_week.items():
        consents.check_words(channel, consents.MARKETING)
        if number is not None and not 1 <= number <= MOST_PER_WEEK:
            mend = f"a number from 1 to {MOST_PER_WEEK}"
            raise InvalidInput(Problem(f"{number} messages a week cannot be a limit", mend, path=f"per_week.{channel}"))
    language = None if wish.language is None else profiles.check_language(wish.language)
    zone = None if wish.time_zone is None else profiles.check_time_zone(wish.time_zone)
    return replace(wish, language=language, time_zone=zone)


def _differences(before: Preferences, wish: Wish) -> Changed:
    agreed = {pair: said for pair, said in wish.consents.items() if before.consents.get(pair) is not said}
    others: dict[str, tuple[Any, Any]] = {
        f"per_week.{channel}": (before.per_week.get(channel), number)
        for channel, number in wish.per_week.items()
        if before.per_week.get(channel) != number
    }
    for name, was, wanted in (
        ("language", before.language, wish.language),
        ("time_zone", before.time_zone, wish.time_zone),
    ):
        if wanted is not None and wanted != was:
            others[name] = (was, wanted)
    return Changed(agreed, others)


async def _set_limits(connection: AsyncConnection, contact_id: int, changed: Changed, at: datetime) -> None:
    for name, (_, number) in changed.others.items():
        kind, _, channel = name.partition(".")
        if kind != "per_week":
            continue
        values = {"id": contact_id, "channel": channel, "number": number, "at": at}
        if number is None:
            statement = "delete from frequency where contact_id = :id and channel = :channel"
            values = {"id": contact_id, "channel": channel}
        else:
            statement = (
                "insert into frequency (contact_id, channel, per_week, changed_at) "
                "values (:id, :channel, :number, :at) on conflict (contact_id, channel) do update "
                "set per_week = excluded.per_week, changed_at = excluded.changed_at"
            )
        await connection.execute(text(statement), values)
