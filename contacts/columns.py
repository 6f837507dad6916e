"""What the columns of an imported table mean, and how their cells are read."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Literal, cast

import msgspec

from contacts import attributes, companies, consents, identities, optin, profiles
from core.errors import InvalidInput, Problem
from core.schema.contacts import ATTRIBUTE_TYPES, IDENTITY_KINDS

IGNORE = "-"
SAMPLE = 1000
"""Records that types are inferred from."""

_HEADERS = {
    "email": "email, mail, email address, e mail, e mail address, почта, эл почта, электронная почта, "
    "адрес электронной почты, емейл, имейл, емайл",
    "phone": "phone, phone number, mobile, mobile phone, cell phone, tel, telephone, телефон, номер телефона, "
    "мобильный, мобильный телефон, тел, контактный телефон",
    "external_id": "external id, id, customer id, client id, crm id, user id, внешний id, id клиента, ид клиента, "
    "код клиента, идентификатор",
    "anonymous_id": "anonymous id",
    "push_endpoint": "push endpoint",
    "language": "language, lang, locale, язык",
    "time_zone": "time zone, timezone, tz, часовой пояс",
    "tags": "tags, tag, теги, метки",
    "first_name": "first name, firstname, given name, имя",
    "last_name": "last name, lastname, surname, family name, фамилия",
    "middle_name": "middle name, patronymic, отчество",
    "full_name": "full name, name, фио, полное имя",
    "city": "city, town, город",
    "country": "country, страна",
    "region": "region, регион, область",
    "company": "company, organization, organisation, компания, организация",
    "position": "position, job title, должность",
    "birthday": "birthday, birth date, date of birth, dob, день рождения, дата рождения",
    "gender": "gender, sex, пол",
    "age": "age, возраст",
    IGNORE: "line, column, reason",
}
_KNOWN = {header: target for target, headers in _HEADERS.items() for header in headers.split(", ")}
_REJECTS_PREFIX = ("line", "column", "reason")
_TRUE = frozenset(
    ("true", "yes", "y", "1", "да", "д", "истина", "+", "on", "granted", "agreed", "subscribed", "согласен", "согласна")
)
_FALSE = frozenset(["false", "no", "n", "0", "нет", "н", "ложь", "-", "off", "refused", "unsubscribed", "отказ"])
_PLAIN_BOOLEANS = frozenset(["true", "false", "yes", "no", "да", "нет", "истина", "ложь"])
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_RUSSIAN_DATE = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4})(?:[ T](\d\d?):(\d\d)(?::(\d\d))?)?")
_SPACES = str.maketrans("", "", "  \u00a0\u202f")

Role = Literal["identity", "language", "time_zone", "tags", "company", "attribute", "consent", "evidence", "ignore"]


@dataclass(frozen=True)
class Options:
    """How a file is to be read; what is left out is found out."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    """Column to an identity kind, `language`, `time_zone`, `tags`, `company`, an attribute's name, or `-`: left out."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Column to the type of its attribute."""
    identity: str | None = None
    """The kind that every row must have and is found by; without it any identity of the row finds the contact."""
    consent_column: str | None = None
    consents: tuple[tuple[str, str], ...] = ()
    """(channel, purpose) pairs that the consent column speaks of."""
    confirm: bool = False
    """Whether those who agreed are asked to confirm it (double opt-in); nothing is granted before."""
    evidence_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    enter: str | None = None
    """A journey that the contacts of the file enter."""


@dataclass(frozen=True)
class Column:
    """One column of the file: its place, its name, what it means; for attributes, their name and type."""

    place: int
    header: str
    role: Role
    target: str = ""
    type: str = ""


def plan(
    header: Sequence[str], sample: Sequence[Sequence[str]], options: Options, types: Mapping[str, str]
) -> list[Column]:
    """Say what each column means: what the options say, else what its name says, else an attribute of that name.

    Args:
        header: the names of the columns.
        sample: the first records, for the types of attributes that are new.
        options: what the caller decided.
        types: the attributes that exist, with their types.

    Raises:
        InvalidInput: an option speaks of a column, type or identity that is not there; two columns mean the same;
            no column identifies contacts.
    """
    problems: list[Problem] = []
    _check_options(header, options, problems)
    columns = []
    for place, name in enumerate(header):
        try:
            columns.append(_column(place, name.strip(), header, sample, options, types))
        except InvalidInput as error:
            problems += [Problem(f"column {name.strip()!r}: {p.message}", p.mend) for p in error.problems]
    problems += _contradictions(columns, options)
    if problems:
        raise InvalidInput(*problems)
    return columns


def _check_options(header: Sequence[str], options: Options, problems: list[Problem]) -> None:
    present = {_key(name) for name in header}
    named = [*options.mapping, *options.types, options.consent_column, options.evidence_column]
    unknown = [name for name in named if name is not None and _key(name) not in present]
    problems += [Problem(f"the file has no column {name!r}", "it has " + ", ".join(header)) for name in unknown]
    for name, kind in options.types.items():
        if kind not in ATTRIBUTE_TYPES:
            mend = "one of " + ", ".join(ATTRIBUTE_TYPES)
            problems.append(Problem(f"column {name!r}: there is no type {kind!r}", mend))
    if (options.consent_column is None) != (not options.consents):
        mend = "such as --consent-column agreed --consent email:marketing"
        problems.append(Problem("a consent column and what it is a consent to go together", mend))
    for channel, purpose in options.consents:
        try:
            (optin.check if options.confirm else consents.check_words)(channel, purpose)
        except InvalidInput as error:
            problems.extend(error.problems)


def _key(name: str) -> str:
    return name.strip().casefold()


def _column(
    place: int,
    name: str,
    header: Sequence[str],
    sample: Sequence[Sequence[str]],
    options: Options,
    types: Mapping[str, str],
) -> Column:
    key = _key(name)
    if options.consent_column is not None and key == _key(options.consent_column):
        return Column(place, name, "consent")
    if options.evidence_column is not None and key == _key(options.evidence_column):
        return Column(place, name, "evidence")
    target = {_key(column): target for column, target in options.mapping.items()}.get(key)
    target = _target(place, name, header) if target is None else target
    if target == IGNORE:
        return Column(place, name, "ignore")
    if target in IDENTITY_KINDS:
        return Column(place, name, "identity", target)
    if target in {"language", "time_zone", "tags", "company"}:
        return Column(place, name, cast("Role", target), target)
    attributes.check_name(target)
    wanted = {_key(column): kind for column, kind in options.types.items()}.get(key)
    if wanted and target in types and types[target] != wanted:
        mend = "map the column to another attribute"
        raise InvalidInput(Problem(f"attribute {target} exists and is of type {types[target]}", mend))
    cells = (record[place].strip() for record in sample if place < len(record))
    kind = wanted or types.get(target) or infer(cell for cell in cells if cell)
    return Column(place, name, "attribute", target, kind)


def _target(place: int, name: str, header: Sequence[str]) -> str:
    """What a column is for, by its name alone."""
    words = re.sub(r"[\W_]+", " ", name.casefold()).strip()
    if not words:
        return IGNORE
    known = _KNOWN.get(words)
    if known == IGNORE:  # the columns that a rejects file begins with mean nothing; elsewhere they are attributes
        rejects = [_key(column) for column in header[:3]] == list(_REJECTS_PREFIX)
        return IGNORE if rejects and place < 3 else words
    if known is not None:
        return known
    slug = words.replace(" ", "_")[:63]
    return slug if not slug[0].isdigit() else f"column_{slug}"[:63]


def _contradictions(columns: Iterable[Column], options: Options) -> list[Problem]:
    problems, seen = [], dict[str, Column]()
    for column in columns:
        if column.target and column.target in seen:
            mend = f'leave one out: --map "{column.header}=-"'
            both = f"{seen[column.target].header!r} and {column.header!r}"
            problems.append(Problem(f"the columns {both} both mean {column.target}", mend))
        seen[column.target] = column
    kinds = [column.target for column in columns if column.role == "identity"]
    if not kinds:
        mend = 'say which one does, such as --map "Column=email"; kinds are ' + ", ".join(IDENTITY_KINDS)
        problems.append(Problem("no column identifies the contacts", mend))
    elif options.identity is not None and options.identity not in kinds:
        mend = "one of " + ", ".join(kinds)
        problems.append(Problem(f"no column holds the identity {options.identity!r}", mend))
    return problems


# --- types


def infer(cells: Iterable[str]) -> str:
    """The narrowest type that all these cells fit; text when there are none, or when numbers begin with 0 or +."""
    given = list(cells)
    if not given:
        return "text"
    if all(cell.casefold() in _PLAIN_BOOLEANS for cell in given):
        return "boolean"
    for kind in ("number", "date", "datetime"):
        if all(_reads(kind, cell) for cell in given):
            return kind
    return "text"


def _reads(kind: str, cell: str) -> bool:
    if kind == "number" and re.match(r"[+]|-?0\d|\d{16}", cell):
        return False
    try:
        _READERS[kind](cell)
    except InvalidInput:
        return False
    return True


def number(cell: str) -> int | float:
    """A number as people write it: 1 234,5 and 1234.5 and 1,234.56; a single comma is a decimal one.

    Raises:
        InvalidInput: it is none.
    """
    if _INTEGER.fullmatch(cell):
        return int(cell)
    plain = cell.translate(_SPACES).replace("\u2212", "-")
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+\.\d+", plain) or re.fullmatch(r"[+-]?\d{1,3}(,\d{3}){2,}", plain):
        plain = plain.replace(",", "")
    plain = plain.replace(",", ".")
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", plain) or not math.isfinite(float(plain)):
        raise InvalidInput(Problem("expected a number", "like 1234.5"))
    return int(plain) if re.fullmatch(r"[+-]?\d{1,300}", plain) else float(plain)


def boolean(cell: str) -> bool:
    """Yes or no, in English or Russian, or 1 and 0.

    Raises:
        InvalidInput: it is neither.
    """
    word = cell.casefold()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidInput(Problem("expected yes or no", "true, yes, да, 1, or false, no, нет, 0"))


def _moment(cell: str) -> tuple[datetime, bool]:
    """A date (31.12.2026 or 2026-12-31) with or without a time, and whether it has one."""
    try:
        if match := _RUSSIAN_DATE.fullmatch(cell):
            day, month, year, hour, minute, second = (int(part or 0) for part in match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC), match[4] is not None
        if len(cell) >= 10 and cell[4] == cell[7] == "-":
            if len(cell) == 10:
                return datetime.combine(date.fromisoformat(cell), datetime.min.time(), UTC), False
            moment = datetime.fromisoformat(cell)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC), True
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(Problem("expected a date", "like 2026-12-31 or 31.12.2026, with or without a time"))


def _date(cell: str) -> str:
    moment, timed = _moment(cell)
    if timed and (moment.hour or moment.minute or moment.second):
        raise InvalidInput(Problem("expected a date without a time", "like 2026-12-31 or 31.12.2026"))
    return moment.date().isoformat()


def _datetime(cell: str) -> str:
    return _moment(cell)[0].isoformat().replace("+00:00", "Z")


def _text(cell: str) -> str:
    if attributes.storable(cell):
        return cell
    raise InvalidInput(Problem("the text holds a character that cannot be kept", "remove it"))


def labels(cell: str) -> list[str]:
    """Several texts in one cell, apart by ; or ,."""
    return [_text(part.strip()) for part in re.split(r"[;,]", cell) if part.strip()]


_READERS: dict[str, Callable[[str], object]] = {
    "text": _text,
    "number": number,
    "boolean": boolean,
    "date": _date,
    "datetime": _datetime,
    "list": labels,
}


def reader(column: Column, region: str) -> Callable[[str], object]:  # noqa: PLR0911 - one line a role
    """What reads a cell of this column: gives the value as it is written down, raises InvalidInput.

    Attributes come as the inside of a JSON object (`"city":"Moscow"`), so that a row's are joined, not encoded.
    """
    match column.role:
        case "identity":
            return partial(identities.normalise, column.target, region=region)
        case "language":
            return profiles.check_language
        case "time_zone":
            return profiles.check_time_zone
        case "tags":
            return lambda cell: [profiles.check_tag(tag) for tag in labels(cell)]
        case "company":
            return lambda cell: cell if companies.check_key(cell) else None
        case "consent":
            return boolean
        case "attribute":
            read, key = _READERS[column.type], msgspec.json.encode(column.target).decode()
            return lambda cell: f"{key}:{msgspec.json.encode(read(cell)).decode()}"
    return _text
