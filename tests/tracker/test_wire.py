"""What is taken from a request body, and the words for what is not."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.settings import Settings
from tracker.wire import Incoming, Limits, Refused, parse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Limits()


def event(**changes: Any) -> dict[str, Any]:
    made = {"event": "page.viewed", "contact": {"external_id": "u-1"}} | changes
    return {name: value for name, value in made.items() if value != "absent"}


def items(data: Any, limits: Limits = LIMITS) -> list[Incoming | Refused]:
    """What is made of data, which must be the same however it is written; the first way is looked at piece by piece."""
    if isinstance(data, bytes):
        return parse(data, limits, NOW).items
    spaced = json.dumps(data).encode()
    found = parse(spaced.replace(b'"event', b'"\\u0065vent'), limits, NOW).items
    assert parse(spaced, limits, NOW).items == found
    with suppress(UnicodeEncodeError):  # half of a surrogate pair can only be written as an escape
        compact = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
        assert parse(compact, limits, NOW).items == found
    return found


def only(data: Any, limits: Limits = LIMITS) -> Incoming:
    (item,) = items(data, limits)
    assert isinstance(item, Incoming), item
    return item


def refusal(data: Any, limits: Limits = LIMITS) -> str:
    (item,) = items(data, limits)
    assert isinstance(item, Refused), item
    return str(item.problem)


def test_all_fields_arrive() -> None:
    sent = event(
        id="e-1",
        at="2026-03-01T14:30:00+03:00",
        contact={"email": "Anna@Example.com"},
        properties={"value": 7, "a": "б"},
    )
    taken = only(sent)
    assert taken == Incoming(
        index=0,
        id="e-1",
        name="page.viewed",
        kind="email",
        identity="anna@example.com",
        at=datetime(2026, 3, 1, 11, 30, tzinfo=UTC),
        value=7.0,
        properties='{"value":7,"a":"б"}'.encode(),
    )
    assert taken.at.tzinfo is UTC


def test_what_is_left_out_is_filled_in() -> None:
    taken = only(event())
    assert (taken.id, taken.at, taken.value, taken.properties) == (None, NOW, None, None)
    assert only(event(properties={})).properties is None
    assert only(event(properties={"value": True})).value is None


@pytest.mark.parametrize(
    "body",
    [[event(), event()], {"events": [event(), event()]}, b"  [" + json.dumps(event()).encode() + b",\n{}] "],
)
def test_lists_come_in_two_forms(body: Any) -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    parsed = parse(text, LIMITS, NOW)
    assert not parsed.single
    assert [item.index for item in parsed.items] == [0, 1]


def test_one_event_is_one_event() -> None:
    assert parse(json.dumps(event()).encode(), LIMITS, NOW).single


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"event": "absent"}, "required field `event`"),
        ({"contact": "absent"}, "required field `contact`"),
        ({"event": "Page viewed"}, "event: 'Page viewed' is no name of an event (use lower-case words"),
        ({"event": "a" * 101}, "event: the name has 101 characters"),
        ({"event": "journey.enter"}, "event: 'journey.enter' is a name that only Kaskad writes"),
        ({"event": "message.opened"}, "only Kaskad"),
        ({"event": 5}, "event: Expected `str`, got `int`"),
        ({"contact": {}}, "contact: it must be known by exactly one thing (give one of external_id"),
        ({"contact": {"email": "a@b.io", "phone": "+79161234567"}}, "exactly one"),
        ({"contact": {"nick": "anna"}}, "contact: 'nick' is nothing a contact is known by"),
        ({"contact": {"push_endpoint": "https://a.b"}}, "nothing a contact is known by"),
        ({"contact": {"email": "anna"}}, "contact.email: this is not an email address"),
        ({"contact": {"external_id": ""}}, "contact.external_id: external_id is empty"),
        ({"contact": {"external_id": "x" * 201}}, "longer than 200"),
        ({"id": ""}, "id: it has 0 characters (give a string of 1 to 200"),
        ({"id": "x" * 201}, "id: it has 201 characters"),
        ({"id": 5}, "id: Expected `str | null`, got `int`"),
        ({"at": "yesterday"}, "at: Invalid RFC3339 encoded datetime (write it as in 2026-"),
        ({"at": "2026-03-01T10:00:00"}, "at: Expected `datetime` with a timezone"),
        ({"at": "2026-03-01T12:05:01Z"}, "at: 2026-03-01T12:05:01+00:00 lies in the future"),
        ({"at": "9999-12-31T23:59:59-12:00"}, "lies in the future"),
        ({"at": "2024-01-01T00:00:00Z"}, "at: 2024-01-01T00:00:00+00:00 is older than events are kept"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "older"),
        ({"properties": [1]}, "properties: Expected `object | null`, got `array`"),
        ({"properties": {f"p{n}": 1 for n in range(10_000)}}, "properties: 10,000 properties are too many"),
        ({"properties": {"a": "x" * 40_000}}, "properties: they take 40,008 bytes (send at most 32,768"),
        ({"properties": {"a": [[[[[1]]]]]}}, "properties: 'a' nests too deeply (nest objects and lists at most 5"),
        ({"properties": {"": 1}}, "the name '' has 0 characters"),
        ({"properties": {"a": "x\0y"}}, r"it holds the character \u0000"),
        ({"properties": {"a": [{"b\0": 1}]}}, r"it holds the character \u0000"),
        ({"properties": {"a": "\ud83d"}}, "half of a surrogate pair"),
        ({"properties": {"a": "\udc00 and more"}}, "half of a surrogate pair"),
        ({"properties": {"value": 10**400}}, "`value` is too large"),
        ({"porperties": {}}, "unknown field `porperties` (an event has `event`"),
    ],
)
def test_unfit_events_are_refused_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(event(**changes))


def test_bounds_themselves_are_taken() -> None:
    assert only(event(at="2026-03-01T12:05:00Z")).at == NOW + LIMITS.future
    assert only(event(at=(NOW - LIMITS.age).isoformat())).at == NOW - LIMITS.age
    assert only(event(event="a" * 100, id="x" * 200, properties={"a": [[[[1]]]]})).id == "x" * 200
    assert only(event(properties={f"p{n}": 1 for n in range(200)}))


@pytest.mark.parametrize("text", [r"\\u0000", r"\\ud83d", r"\ud83d\ude00", r"\"\u00e9\\"])
def test_escapes_that_only_look_bad_are_taken(text: str) -> None:
    body = b'{"event":"a.b","contact":{"external_id":"u"},"properties":{"t":"%s"}}' % text.encode()
    properties = only(body).properties
    assert properties is not None
    assert json.loads(properties) == {"t": json.loads(f'"{text}"')}


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"a","event":"b","contact":{"external_id":"u"}}',
        b'{"event":"a","contact":{"external_id":"u","external_id":"v"}}',
        b'{"event":"a","contact":{"external_id":"u"},"properties":{"x":{"a":1,"b":2,"a":3}}}',
        b'{"event":"a", "contact":{"external_id":"u"}, "properties":{"a":1, "\\u0061" :2}}',
    ],
)
def test_names_that_stand_twice_are_refused(body: bytes) -> None:
    assert "stands twice in one object" in refusal(body)


def test_a_number_no_double_holds_is_refused() -> None:
    assert "properties: Number out of range" in refusal(
        b'{"event":"a","contact":{"external_id":"u"},"properties":{"a":1e999}}'
    )


def test_neighbours_of_a_bad_event_are_taken_and_it_is_named() -> None:
    good, bad, broken = event(id="1"), event(id="2", event="NO"), event(id="3", properties={"t": "\ud83d"})
    first, second, third, fourth = items({"events": [good, bad, broken, good | {"id": "4"}]})
    assert isinstance(first, Incoming) and isinstance(fourth, Incoming)
    assert isinstance(second, Refused) and isinstance(third, Refused)
    assert (second.index, second.id, second.problem.path) == (1, "2", "events[1].event")
    assert (third.index, third.id, third.problem.path) == (2, "3", "events[2]")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body cannot be read: Input data was truncated"),
        (b"{", "truncated"),
        (b"hello", "the body cannot be read: JSON is malformed: invalid character (byte 0)"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b'{"event":"\xff"}', "the body is not UTF-8: invalid start byte at byte 10 (send JSON in UTF-8"),
        (b'[{"a":NaN}]', "JSON knows no NaN"),
        (b"5", "neither an event nor a list"),
        (b'{"events":5}', "neither an event nor a list"),
        (b"[]", "there are no events"),
        (b'{"events":[]}', "there are no events"),
        (b'{"events":[1],"event":"a"}', "beside `events` there may be nothing else"),
        (b'{"events":[1],"events":[2]}', "beside `events` there may be nothing else"),
        (b"[" * 100_000, "nests objects or lists too deeply"),
        (b"[" + b"5," * 1000 + b"5]", "1,001 events in one request are too many (send at most 1,000"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused_whole(body: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(body, LIMITS, NOW)
    assert words in str(error.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
field = st.sampled_from(["event", "contact", "id", "at", "properties", "events"])


@given(st.binary() | st.dictionaries(field, json_values).map(lambda d: json.dumps([d]).encode()))
def test_whatever_comes_is_answered_in_words(body: bytes) -> None:
    try:
        taken = parse(body, LIMITS, NOW).items
    except InvalidInput as error:
        assert str(error)
    else:
        assert all(isinstance(item, Incoming) or item.problem.message for item in taken)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20), json_values
    )
)
def test_properties_come_out_as_they_went_in(properties: dict[str, Any]) -> None:
    try:
        body = json.dumps(event(properties=properties), allow_nan=False).encode()
    except ValueError:
        return
    (item,) = items(body, Limits(depth=50, age=timedelta(days=1)))
    if isinstance(item, Incoming) and properties:
        assert item.properties is not None
        assert json.loads(item.properties) == properties
    elif isinstance(item, Refused):
        assert any(words in item.problem.message for words in ("\\u0000", "out of range", "too large"))


def test_phone_numbers_without_a_country_are_of_the_installations_region() -> None:
    said = event(contact={"phone": "030 1234567"})
    assert only(said, Limits.of(Settings(phone_region="DE"))).identity == "+49301234567"
    assert only(event(contact={"phone": "8 912 345-67-89"})).identity == "+79123456789"
