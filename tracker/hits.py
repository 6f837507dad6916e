"""What the site snippet sends (docs/tracking-wire.md): bytes in, checked hits out.

Nothing here knows the clock, the network or the database. What a newer snippet may add is ignored; what is there has
to be right. A hit that cannot be stored does not keep its neighbours out.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from contacts.identities import normalise
from core.errors import InvalidInput, Problem
from tracker import wire
from tracker.campaigns import Arrival, arrival, outside
from tracker.wire import Limits, Refused

VERSION = 1
EVENTS_LIMIT = 100
URL_LENGTH = 2000
TITLE_LENGTH = 300
PAGE_VIEWED = "page.viewed"
IDENTITIES = ("external_id", "email", "phone")

_ANONYMOUS = re.compile(r"[A-Za-z0-9_-]{8,64}")
_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_URL = re.compile(r"https?://[^\s/?#@\\\x00-\x1f\x7f]{1,255}(?:[/?#][^\s\x00-\x1f\x7f]*)?")
_REFERRER = re.compile(r"(?:https?|android-app)://[^\s/?#@\\\x00-\x1f\x7f]{1,255}(?:[/?#][^\s\x00-\x1f\x7f]*)?")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_000)]

_MENDS = {
    "v": f"this Kaskad understands version {VERSION}",
    "key": "give the site's write key: kaskad site key NAME",
    "sent": "milliseconds since 1970 by the browser's clock",
    "anon": "8 to 64 of A-Z, a-z, 0-9, - and _ (a UUID, for example), or null",
    "ctx": "an object with the page's `url`",
    "events": f"an array of up to {EVENTS_LIMIT}, each with `id`, `name`, `at` and perhaps `props` and `url`",
    "ident": "an object with external_id, email or phone, and perhaps `attributes`",
}
_FIELDS = {"event": "name", "properties": "props"}
"""What the snippet calls what `wire` calls otherwise."""

_FIELD = re.compile(r" - at `\$\.?(\w*)(?:\[\d*\.*\])?[^`]*`\Z")


class Context(msgspec.Struct, gc=False):
    """The page at the time of the first event."""

    url: str = ""
    ref: str = ""
    title: str = ""
    lang: str = ""
    tz: str = ""


class Ident(msgspec.Struct):
    """Who the visitor says to be."""

    external_id: str | None = None
    email: str | None = None
    phone: str | None = None
    attributes: dict[str, Any] | None = None
    signature: str | None = None
    """By which the site's server vouches for the three identities."""


class Body(msgspec.Struct):
    """One request. Its events are read one by one, so that one bad event costs nobody else."""

    v: int
    key: str
    sent: _MOMENT
    ctx: Context = msgspec.field(default_factory=Context)
    events: list[msgspec.Raw] = []
    anon: str | None = None
    ident: Ident | None = None


class _Event(msgspec.Struct, gc=False):
    id: str
    name: str
    at: _MOMENT
    props: dict[str, Any] | None = None
    url: str | None = None


class Hit(msgspec.Struct, frozen=True, gc=False):
    """An event of a page that is fit to be stored."""

    index: int
    id: str
    name: str
    at: datetime
    url: str
    referrer: str | None
    """The page before, of a page view, if it was on another host."""
    arrival: Arrival
    value: float | None
    properties: bytes

    @property
    def is_page(self) -> bool:
        """Whether somebody looked at a page, as opposed to doing something there."""
        return self.name == PAGE_VIEWED


_body = msgspec.json.Decoder(Body)
_event = msgspec.json.Decoder(_Event)


def read(content: bytes) -> Body:
    """Read a request's body.

    Raises:
        InvalidInput: it cannot be read as a whole.
    """
    try:
        body = _body.decode(wire.marked(content))
    except UnicodeDecodeError as error:
        problem = Problem(f"the body is not UTF-8: {error.reason} at byte {error.start:,}", "send JSON in UTF-8")
        raise InvalidInput(problem) from None
    except msgspec.ValidationError as error:
        found = _FIELD.search(str(error))
        field = found[1] if found else ""
        raise InvalidInput(Problem(_FIELD.sub("", str(error)), _MENDS.get(field, ""), path=field)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(
            Problem(f"the body cannot be read: {error}", "send what docs/tracking-wire.md says")
        ) from None
    problems = list(_body_problems(body))
    if problems:
        raise InvalidInput(*problems)
    return body


def _body_problems(body: Body) -> list[Problem]:
    found = []
    if body.v != VERSION:
        found.append(("v", f"version {body.v} is not known here"))
    if not 0 < len(body.key) <= 100 or not body.key.isascii():
        found.append(("key", "this is no write key"))
    if body.anon is not None and not _ANONYMOUS.fullmatch(body.anon):
        found.append(("anon", "this is no anonymous id"))
    if len(body.events) > EVENTS_LIMIT:
        found.append(("events", f"{len(body.events):,} events in one request are too many"))
    if not body.events and body.ident is None:
        found.append(("events", "there is nothing in this request"))
    if wire.holds_nul(msgspec.to_builtins((body.ctx, body.ident))):
        found.append(("", r"it holds the character \u0000 or half of a surrogate pair"))
    return [Problem(message, _MENDS.get(field, ""), path=field) for field, message in found]


class Frame(msgspec.Struct, frozen=True):
    """What holds for all hits of a request: Kaskad's own properties, the clocks, and the limits."""

    site: str
    extra: dict[str, Any]
    """Properties that Kaskad adds to each hit, beside `site` and `page`."""
    received: datetime
    oldest: timedelta
    limits: Limits


def check(body: Body, frame: Frame) -> list[Hit | Refused]:
    """Check the events of a body, in their order."""
    late = frame.received - _moment(body.sent)
    return [_item(index, bytes(raw), body.ctx, late, frame) for index, raw in enumerate(body.events)]


def _item(index: int, piece: bytes, context: Context, late: timedelta, frame: Frame) -> Hit | Refused:
    event = None
    try:
        event = _decoded(piece)
        return _checked(index, event, context, late, frame)
    except wire.Unfit as unfit:
        field = _FIELDS.get(unfit.field, unfit.field)
        path = f"events[{index}].{field}" if field else f"events[{index}]"
        return Refused(index, event.id[:64] if event else None, Problem(unfit.message, unfit.mend, path=path))


def _decoded(piece: bytes) -> _Event:
    try:
        event = _event.decode(piece)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _FIELD.search(str(error))
        raise wire.Unfit(found[1] if found else "", _FIELD.sub("", str(error)), _MENDS["events"]) from None
    if b"\\u0000" in piece and (wire.holds_nul(event.props) or "\0" in (event.url or "")):
        mend = "PostgreSQL cannot store such text: take the character out"
        raise wire.Unfit("", r"it holds the character \u0000 or half of a surrogate pair", mend)
    return event


def _checked(index: int, event: _Event, context: Context, late: timedelta, frame: Frame) -> Hit:
    if not _EVENT_ID.fullmatch(event.id):
        raise wire.Unfit("id", "this is no id of an event", "8 to 64 of A-Z, a-z, 0-9, - and _, such as a UUID")
    wire.check_name(event.name)
    given = event.props or {}
    is_page = event.name == PAGE_VIEWED
    url = _url(event.url or (_string(given.get("url")) if is_page else "") or context.url)
    referrer = outside(url, _referrer(_string(given.get("referrer", context.ref)))) if is_page else None
    properties = {**given, **frame.extra, "site": frame.site, "url" if is_page else "page": url}
    if is_page:
        properties["title"] = (_string(given.get("title")) or context.title)[:TITLE_LENGTH]
        properties["referrer"] = _referrer(_string(given.get("referrer", context.ref)))
        properties = {name: value for name, value in properties.items() if value not in ("", None)}
    return Hit(
        index=index,
        id=event.id,
        name=event.name,
        at=_time(event.at, late, frame),
        url=url,
        referrer=referrer,
        arrival=arrival(url, referrer),
        value=wire.value_of(properties),
        properties=wire.check_properties(properties, frame.limits),
    )


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _time(at: int, late: timedelta, frame: Frame) -> datetime:
    """When it happened by our clock; never later than it was received."""
    try:
        moment = min(_moment(at) + late, frame.received)
    except OverflowError:
        moment = _EPOCH
    if moment < frame.received - frame.oldest:
        days = f"{frame.oldest.days:,} days"
        raise wire.Unfit("at", f"it is more than {days} old", "an event id is not remembered longer: send it sooner")
    return moment


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _url(text: str) -> str:
    """A page's address, cut to what is kept.

    Raises:
        Unfit: it is none.
    """
    text = text[:URL_LENGTH]
    if not _URL.fullmatch(text):
        raise wire.Unfit(
            "url", f"{text[:100]!r} is no address of a page", "give http:// or https://, in ctx.url or url"
        )
    return text


def _referrer(text: str) -> str:
    """The page before, or nothing if this is no address: a referrer is only a hint."""
    text = text[:URL_LENGTH]
    return text if _REFERRER.fullmatch(text) else ""


def language(text: str) -> str | None:
    """A browser's language (BCP 47), written the usual way: ru, de-AT; None if it is none."""
    if not _LANGUAGE.fullmatch(text):
        return None
    first, *others = text.split("-")
    return "-".join([first.lower(), *(part.upper() if len(part) == 2 else part.title() for part in others)])


def said(ident: Ident, region: str) -> dict[str, str]:
    """The identities that `identify` was given, as `normalise` writes them.

    Raises:
        InvalidInput: with everything that is wrong.
    """
    found, problems = {}, []
    for kind in IDENTITIES:
        value = getattr(ident, kind)
        if value is None:
            continue
        try:
            found[kind] = normalise(kind, value, region)
        except InvalidInput as error:
            problems += [Problem(one.message, one.mend, path=f"ident.{kind}") for one in error.problems]
    if not found and not problems:
        problems.append(Problem("it names nobody", _MENDS["ident"], path="ident"))
    if problems:
        raise InvalidInput(*problems)
    return found
