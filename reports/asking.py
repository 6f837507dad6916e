"""From the words of a command or a URL to what a report is asked for, with every problem said at once."""

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core.documents import did_you_mean
from core.errors import InvalidInput, Problem
from core.settings import Settings
from reports.declarations import MESSAGES, AnyMeasure, Source
from reports.dimensions.registry import BY_SLUG as DIMENSIONS
from reports.measures.registry import BY_SLUG as MEASURES
from reports.query import Wanted, parts
from segments import words

T = TypeVar("T")

NAMES_LIMIT = 100
"""Journeys or channels in one report."""


def read(
    settings: Settings,
    at: datetime,
    *,
    measures: Sequence[str],
    by: Sequence[str] = (),
    since: str = "30d",
    until: str | None = None,
    zone: str | None = None,
    limit: int = 1000,
    journeys: Sequence[str] = (),
    channels: Sequence[str] = (),
) -> Wanted:
    """Read what a report is asked for.

    Args:
        settings: the limits, and the time zone unless one is named.
        at: now.
        measures: slugs.
        by: slugs of dimensions.
        since: `30d` ago, a day (from its midnight in the time zone) or a moment.
        until: the same; not included. Now unless given.
        zone: an IANA name.
        limit: rows at most.
        journeys: only these.
        channels: only messages of these.

    Raises:
        InvalidInput: with all that is wrong; `path` names the parameter.
    """
    problems: list[Problem] = []
    known = _zone(zone or settings.time_zone, problems)
    found = Wanted(
        measures=_all(measures, MEASURES, "measure", problems),
        dimensions=_all(by, DIMENSIONS, "by", problems),
        since=_moment(since, "since", at, known, problems),
        until=at if until is None else _moment(until, "until", at, known, problems),
        zone=known.key,
        limit=limit,
        journeys=tuple(dict.fromkeys(journeys)),
        channels=tuple(dict.fromkeys(channels)),
    )
    if not measures:
        problems.append(Problem("no measure is named", "`kaskad report measures` lists them", path="measure"))
    if not 1 <= limit <= settings.report_rows_limit:
        problems.append(Problem(f"must be from 1 to {settings.report_rows_limit}", path="limit"))
    for path, names in (("journey", found.journeys), ("channel", found.channels)):
        if len(names) > NAMES_LIMIT:
            problems.append(Problem(f"more than {NAMES_LIMIT} names", path=path))
    if not problems:
        problems += _contradictions(found, settings.report_days_limit)
    if problems:
        raise InvalidInput(*problems)
    return found


def _contradictions(wanted: Wanted, days_limit: int) -> list[Problem]:
    found = []
    if wanted.since >= wanted.until:
        found.append(Problem("the period ends before it begins", path="since"))
    if (wanted.until - wanted.since).days > days_limit:
        found.append(Problem(f"the period is longer than {days_limit} days", "ask for less of it", path="since"))
    for source in _sources(wanted.measures):
        theirs = ", ".join(measure.slug for measure in wanted.measures if source in _sources((measure,)))
        found += [
            Problem(f"{theirs}: {source.name} have no {one.slug}", "leave one of the two out", path="by")
            for one in wanted.dimensions
            if not one.fits(source)
        ]
        if wanted.channels and source is not MESSAGES:
            found.append(
                Problem(f"{theirs}: {source.name} have no channel", "leave one of the two out", path="channel")
            )
    return found


def _sources(measures: tuple[AnyMeasure, ...]) -> list[Source]:
    return list({part.source.name: part.source for part in parts(measures)}.values())


def _all(slugs: Sequence[str], known: dict[str, T], path: str, problems: list[Problem]) -> tuple[T, ...]:
    wanted = tuple(dict.fromkeys(slugs))[: len(known) + 1]
    what = "measure" if path == "measure" else "dimension"
    problems += [
        Problem(f"there is no {what} {slug[:60]}", did_you_mean(slug[:60], list(known)), path=path)
        for slug in wanted
        if slug not in known
    ]
    return tuple(known[slug] for slug in wanted if slug in known)


def _zone(name: str, problems: list[Problem]) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(Problem(f"there is no time zone {name[:60]}", "name one like Europe/Moscow", path="time_zone"))
        return ZoneInfo("UTC")


def _moment(said: str, path: str, at: datetime, zone: ZoneInfo, problems: list[Problem]) -> datetime:
    distance = words.duration(said)
    if distance is not None and distance <= words.LONGEST:
        return at - distance
    if words.is_day(said):
        return datetime.combine(date.fromisoformat(said), time(), zone)
    moment = words.moment(said)
    if moment is None:
        problems.append(Problem(f"{said[:60]} is neither a time ago nor a day", "write 30d or 2026-05-31", path=path))
        return at
    return moment
