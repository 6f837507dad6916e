"""What is said about a contact: its parts, and the checks that need no database."""

import re
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from contacts import attributes, companies, consents, identities, optin
from core.errors import InvalidInput, Problem
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
class Draft:
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


def prepare(index: int, item: Item, region: str) -> Draft:
    """An item, checked as far as that needs no database.

    Args:
        index: its place among the others.
        item: what is said.
        region: the country (ISO 3166) of phone numbers without +.

    Raises:
        InvalidInput: with all that is wrong.
    """
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
        checked(consents.check_evidence, consent.evidence)
        if consent.confirm and not consent.granted:
            problems.append(Problem("a refusal is not confirmed", "leave confirm out", path="consents.confirm"))
    made = Draft(
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
    return made
