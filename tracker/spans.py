"""What a session is. Pure.

The hits of one contact on one site, in the order of their times, are cut where there was a silence longer than the
gap, and where a hit belongs to another campaign than the session it would continue. A session's traffic and visitor
are those of its first hit. `cut` says just that and is what a contact's sessions must equal, in whatever order hits
arrive; `fit` adds hits to sessions that are there already, which is all it takes for nearly every hit. `count` is for
those few for which cutting anew would be too much.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from tracker.campaigns import Arrival, Traffic


class Client(msgspec.Struct, frozen=True, gc=False):
    """With what, in which language and from where a visitor comes, as far as it is known."""

    device: str | None = None
    browser: str | None = None
    os: str | None = None
    language: str | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    brand: str | None = None
    model: str | None = None


class Step(msgspec.Struct, frozen=True, gc=False):
    """What a session is told of a hit."""

    at: datetime
    url: str
    referrer: str | None
    arrival: Arrival
    is_page: bool
    client: Client = Client()


class Span(msgspec.Struct):
    """A session. `id` is None until it is in the database; `entry` is its first hit, if that is known here."""

    id: int | None
    started_at: datetime
    ended_at: datetime
    pages: int
    exit_url: str | None
    traffic: Traffic
    entry: Step | None = None
    is_changed: bool = False


def begin(step: Step) -> Span:
    """The session that begins with a hit."""
    return Span(None, step.at, step.at, int(step.is_page), step.url, step.arrival.traffic, step, is_changed=True)


def continues(span: Span, step: Step, gap: timedelta) -> bool:
    """Whether a hit that is not before the session's last one belongs to it."""
    return step.at - span.ended_at <= gap and not _is_new_campaign(span, step)


def _is_new_campaign(span: Span, step: Step) -> bool:
    return step.arrival.is_campaign and step.arrival.traffic != span.traffic


def _extend(span: Span, step: Step) -> None:
    if step.at >= span.ended_at:
        span.ended_at, span.exit_url = step.at, step.url
    span.pages += step.is_page
    span.is_changed = True


def cut(steps: Iterable[Step], gap: timedelta) -> list[Span]:
    """The sessions of hits that come in the order of their times."""
    spans: list[Span] = []
    for step in steps:
        if spans and continues(spans[-1], step, gap):
            _extend(spans[-1], step)
        else:
            spans.append(begin(step))
    return spans


def fit(spans: Sequence[Span], steps: Sequence[Step], gap: timedelta) -> list[Span] | None:
    """Add hits to the sessions around them.

    Args:
        spans: in order, the last session that began not later than the first hit, and all that began since, up to a
            gap past the last hit.
        steps: in the order of their times.
        gap: the longest silence within a session.

    Returns:
        The sessions, those that are new or changed marked; None if hits came so late that sessions have to be cut anew
        from the log: where a session would be split, joined to another or begin earlier.
    """
    fitted = list(spans)
    for step in steps:
        span = _before(fitted, step)
        later = fitted[fitted.index(span) + 1] if span and span is not fitted[-1] else None
        if span is None:
            if fitted:
                return None  # something before the first one: it may begin earlier now
            fitted.append(begin(step))
        elif step.at < span.ended_at:
            if _is_new_campaign(span, step):
                return None
            _extend(span, step)
        elif later is not None:
            return None  # it may join the two, or the later one may begin with it
        elif continues(span, step, gap):
            _extend(span, step)
        else:
            fitted.append(begin(step))
    return fitted


def count(spans: Sequence[Span], steps: Sequence[Step], gap: timedelta) -> list[Span]:
    """Add hits to the sessions around them without cutting anything anew: each once, but where `fit` gives up, sessions
    are not split, joined or begun earlier.

    Args:
        spans, steps, gap: as `fit` has them.
    """
    counted = list(spans)
    for step in steps:
        span = _before(counted, step)
        if span is not None and (step.at < span.ended_at or continues(span, step, gap)):
            _extend(span, step)
        else:
            counted.insert(0 if span is None else counted.index(span) + 1, begin(step))
    return counted


def _before(spans: Sequence[Span], step: Step) -> Span | None:
    """The last session that began not later than a hit."""
    return next((one for one in reversed(spans) if one.started_at <= step.at), None)
