"""Stretches of the calendar that are named from today: `this week`, `last 7 days`, `next month in Europe/Moscow`.

Weeks begin on Monday (ISO 8601). `last 7 days` are today and the six days before, `next 7 days` today and the six
after; so with weeks, months, quarters and years, which reach to the day after the same day of the month (of a shorter
month: its last day). Which day is today depends on the time zone: the contact's own where a contact is asked about and
its zone is known, otherwise the installation's (`KASKAD_TIME_ZONE`), unless the words name one.
"""

import re
from calendar import monthrange
from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Date, DateTime, Integer, and_, case, cast, func, literal, or_

from contacts.profiles import check_time_zone
from core.errors import InvalidInput

Unit = Literal["day", "week", "month", "quarter", "year"]

CONTACT = "contact"
INSTALLATION = "installation"

_MONTHS: dict[str, int] = {"month": 1, "quarter": 3, "year": 12}
_DAYS: dict[str, int] = {"day": 1, "week": 7}
_MOST = {"day": 3650, "week": 520, "month": 120, "quarter": 40, "year": 10}
_NAMED = {"today": 0, "yesterday": -1, "tomorrow": 1}
_WHICH = {"this": 0, "last": -1, "next": 1}
_ZONES = {"the contact's time zone": CONTACT, "the installation's time zone": INSTALLATION}
_WORDS = re.compile(
    r"(?:(today|yesterday|tomorrow)|(this|last|next) (week|month|quarter|year)"
    r"|(last|next) ([1-9][0-9]{0,3}) (day|week|month|quarter|year)s?)(?: in ([A-Za-z0-9_+/' -]{1,60}))?"
)
KNOWN = (
    *_NAMED,
    *(f"{which} {unit}" for which in _WHICH for unit in ("week", "month", "quarter", "year")),
    "last 7 days",
    "next 30 days",
)
"""Examples of what can be written, for mends and editors."""


class Period(BaseModel):
    """Whole units of the calendar counted from the present one, or so many units that end or begin with today."""

    model_config = ConfigDict(frozen=True)

    unit: Unit
    offset: int = 0
    """0 the present unit, -1 the last, 1 the next."""
    rolling: int = 0
    """-7: the last seven units up to today; 7: the next seven from today on; 0: whole units."""
    zone: str | None = None
    """`contact`, `installation` or an IANA name; None leaves it to what is asked about."""


def _zone(words: str) -> str | None:
    if words in _ZONES:
        return _ZONES[words]
    with suppress(InvalidInput):
        return check_time_zone(words)
    return None


@lru_cache(maxsize=1024)
def read(words: str) -> Period | None:
    """A period as people write it, or None."""
    match = _WORDS.fullmatch(words)
    if match is None:
        return None
    named, which, whole, side, number, unit, where = match.groups()
    zone = None if where is None else _zone(where)
    if where is not None and zone is None:
        return None
    if named:
        return Period(unit="day", offset=_NAMED[named], zone=zone)
    if which:
        return Period(unit=whole, offset=_WHICH[which], zone=zone)
    count = int(number)
    if count > _MOST[unit]:
        return None
    return Period(unit=unit, rolling=-count if side == "last" else count, zone=zone)


def must(words: str) -> Period:
    """A period that was checked before."""
    period = read(words)
    if period is None:
        raise ValueError(f"{words} is not a period")
    return period


# --- in Python


def bounds(period: Period, today: date) -> tuple[date, date]:
    """The first day of a period and the first one behind it."""
    if period.rolling < 0:
        return _moved(today, period.unit, period.rolling) + timedelta(days=1), today + timedelta(days=1)
    if period.rolling > 0:
        return today, _moved(today, period.unit, period.rolling)
    first = _moved(_start(today, period.unit), period.unit, period.offset)
    return first, _moved(first, period.unit, 1)


def holds(period: Period, day: date, today: date) -> bool:
    """Whether a day lies in the period."""
    first, end = bounds(period, today)
    return first <= day < end


def anniversary_holds(period: Period, day: date, today: date) -> bool:
    """Whether an anniversary of a day lies in the period; the 29th of February is kept on the 28th in other years."""
    first, end = bounds(period, today)
    years = {first.year, (end - timedelta(days=1)).year}
    return any(first <= _in_year(day, year) < end for year in years)


def _in_year(day: date, year: int) -> date:
    return day.replace(year=year, day=min(day.day, monthrange(year, day.month)[1]))


def _start(day: date, unit: str) -> date:
    match unit:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "year":
            return day.replace(month=1, day=1)
    return day


def _moved(day: date, unit: str, count: int) -> date:
    if unit in _DAYS:
        return day + timedelta(days=count * _DAYS[unit])
    year, month = divmod(day.year * 12 + day.month - 1 + count * _MONTHS[unit], 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


# --- the same in SQL


def clause(period: Period, day: ColumnElement[Any], today: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether an expression of type date lies in the period."""
    first, end = _bounds(period, today)
    return and_(day >= first, day < end)


def moment_clause(
    period: Period, moment: ColumnElement[Any], today: ColumnElement[Any], zone: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Whether a timestamptz lies in the period; the column stays bare, so that an index and partitions serve."""
    first, end = (func.timezone(zone, cast(one, DateTime(timezone=False))) for one in _bounds(period, today))
    return and_(moment >= first, moment < end)


def anniversary_clause(period: Period, day: ColumnElement[Any], today: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether an anniversary of a date lies in the period."""
    first, end = _bounds(period, today)

    def in_year_of(other: ColumnElement[Any]) -> ColumnElement[Any]:
        years = func.date_part("year", other) - func.date_part("year", day)
        # `date + interval` keeps the 29th of February on the 28th where there is none
        return cast(day + func.make_interval(cast(years, Integer)), Date)

    early, late = in_year_of(first), in_year_of(end - literal(1))
    return case(
        (day.is_not(None), or_(and_(early >= first, early < end), and_(late >= first, late < end))), else_=False
    )


def _bounds(period: Period, today: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    if period.rolling < 0:
        return _moved_sql(today, period.unit, period.rolling) + literal(1), today + literal(1)
    if period.rolling > 0:
        return today, _moved_sql(today, period.unit, period.rolling)
    start = today
    if period.unit != "day":
        start = cast(func.date_trunc(period.unit, cast(today, DateTime(timezone=False))), Date)
    first = _moved_sql(start, period.unit, period.offset)
    return first, _moved_sql(first, period.unit, 1)


def _moved_sql(day: ColumnElement[Any], unit: str, count: int) -> ColumnElement[Any]:
    if unit in _DAYS:
        return day + literal(count * _DAYS[unit])
    return cast(day + func.make_interval(0, count * _MONTHS[unit]), Date)
