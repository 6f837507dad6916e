"""For generated criteria and data, the SQL for sets, the check of single contacts, and a naive evaluation agree.

The evaluation here knows nothing of the code it checks: it goes through the rows in Python, one contact after another.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

import segments
from core import eventlog
from core.database import Database
from core.schema import contacts, partitions, sessions
from segments import criteria

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
_NAMES = ("order.paid", "page.viewed", "cart.updated")
_CITIES = ("Moscow", "Kazan", "Perm, 50%", "")
_ZONES = ("Europe/Moscow", "America/Los_Angeles", "Asia/Tokyo", None)
_MAPPED: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}

# --- data

_DAYS = st.dates(date(2026, 4, 1), date(2026, 6, 30)) | st.dates(date(1980, 1, 1), date(2010, 12, 31))
_ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "city": st.sampled_from(_CITIES) | st.just(7),
        "age": st.integers(15, 25) | st.sampled_from([17.5, "old"]),
        "vip": st.booleans(),
        "born": _DAYS.map(date.isoformat),
        "seen": st.integers(-40 * 24, 40 * 24).map(lambda h: (NOW + timedelta(hours=h)).isoformat()),
        "likes": st.lists(st.sampled_from(["tea", "oil", "salt"]), max_size=3),
    },
)
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(_NAMES),
        st.integers(0, 60 * 24),  # hours before now
        st.fixed_dictionaries(
            {}, optional={"total": st.integers(-5, 20) | st.just("x"), "path": st.sampled_from(["/a", "/a/b", "/c"])}
        ),
    ),
    max_size=6,
    unique_by=lambda one: one[1],
)
_SESSIONS = st.lists(
    st.fixed_dictionaries(
        {
            "ago": st.integers(0, 60 * 24),
            "pages": st.integers(1, 4),
            "source": st.sampled_from(["google", "bing", None]),
            "country": st.sampled_from(["RU", "KZ", None]),
        }
    ),
    max_size=3,
    unique_by=lambda one: one["ago"],
)
_CONTACTS = st.fixed_dictionaries(
    {
        "attributes": _ATTRIBUTES,
        "tags": st.lists(st.sampled_from(["vip", "new", "it's"]), unique=True),
        "zone": st.sampled_from(_ZONES),
        "emails": st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=2),
        "consents": st.dictionaries(st.sampled_from(["sms", "email"]), st.booleans()),
        "events": _EVENTS,
        "sessions": _SESSIONS,
    }
)

# --- criteria

_NUMBER_TESTS = st.builds(lambda op, n: {op: n}, st.sampled_from(list(_MAPPED)), st.integers(-3, 25)) | st.builds(
    lambda op, a, b: {op: [a, b]}, st.sampled_from(["between", "not_between"]), st.integers(-3, 20), st.integers(10, 25)
)
_COUNT_TESTS = st.builds(lambda op, n: {op: n}, st.sampled_from(list(_MAPPED)), st.integers(0, 4))
_TEXT_TESTS = st.one_of(
    st.builds(lambda op, v: {op: v}, st.sampled_from(["eq", "ne"]), st.sampled_from(_CITIES)),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["in", "not_in"]), st.lists(st.sampled_from(_CITIES), min_size=1)),
    st.builds(
        lambda op, v: {op: v},
        st.sampled_from(["contains", "not_contains", "starts", "not_starts", "ends", "not_ends"]),
        st.sampled_from(["Mos", "ow", "%", "az", "Perm, 50%"]),
    ),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["like", "not_like"]), st.sampled_from(["M%", "K_zan", "%o%"])),
    st.builds(
        lambda op, v: {op: v}, st.sampled_from(["regexp", "not_regexp"]), st.sampled_from(["^M", "[aeo]z", "w$"])
    ),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["exists", "empty"]), st.booleans()),
)
_WHOLE = [f"{which} {unit}" for which in ("this", "last", "next") for unit in ("week", "month")]
_ROLLING = ["last 7 days", "next 10 days", "last 2 weeks", "next 1 month", "last 1 year"]
_PERIODS = st.sampled_from(["today", "yesterday", "tomorrow", *_WHOLE, "this year", "last year", *_ROLLING])
_DATE_TESTS = st.one_of(
    st.builds(lambda op, v: {op: v}, st.sampled_from(["date", "anniversary"]), _PERIODS),
    st.builds(lambda op, d: {op: f"now{d:+}d"}, st.sampled_from(["before", "after", "gte"]), st.integers(-30, 30)),
)
_WINDOW = st.fixed_dictionaries({}, optional={"within": st.integers(1, 50).map(lambda d: f"{d}d"), "when": _PERIODS})
_WHERE: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.builds(
    lambda t: {"where": {"event.total": t}}, _NUMBER_TESTS
)
_FIGURES = st.fixed_dictionaries(
    {},
    optional={
        "count": _COUNT_TESTS,
        "days": _COUNT_TESTS,
        **{kind: _NUMBER_TESTS.map(lambda t: {"event.total": t}) for kind in ("sum", "min", "max", "average")},
        "distinct": _COUNT_TESTS.map(lambda t: {"event.path": t}),
        "first": st.builds(lambda op, d: {op: f"now-{d}d"}, st.sampled_from(["before", "after"]), st.integers(0, 50)),
        "last": st.builds(lambda op, d: {op: f"now-{d}d"}, st.sampled_from(["before", "after"]), st.integers(0, 50)),
        "latest": _NUMBER_TESTS.map(lambda t: {"event.total": t}),
    },
)
_RU = st.just("RU")
_NAMED = st.sampled_from(_NAMES)
_LEAVES = st.one_of(
    _TEXT_TESTS.map(lambda t: {"contact.city": t}),
    _NUMBER_TESTS.map(lambda t: {"contact.age": t}),
    _NUMBER_TESTS.map(lambda t: {"score": {"age": t}}),
    st.booleans().map(lambda v: {"contact.vip": v}),
    _DATE_TESTS.map(lambda t: {"contact.born": t}),
    _DATE_TESTS.map(lambda t: {"contact.seen": t}),
    st.builds(
        lambda op, v: {"contact.likes": {op: v}},
        st.sampled_from(["contains_any", "contains_all"]),
        st.lists(st.sampled_from(["tea", "oil"]), min_size=1),
    ),
    st.builds(
        lambda op, v: {"contact.tags": {op: v}},
        st.sampled_from(["in", "not_in", "contains_all"]),
        st.lists(st.sampled_from(["vip", "it's"]), min_size=1),
    ),
    st.builds(
        lambda op, v: {"contact.email": {op: v}},
        st.sampled_from(["eq", "ne", "starts", "not_starts"]),
        st.sampled_from(["a", "b@x.example"]),
    ),
    st.builds(
        lambda c, s: {"contact.consents": {"channel": c, "state": s}},
        st.sampled_from(["sms", "email"]),
        st.sampled_from(["granted", "refused", "unknown"]),
    ),
    st.builds(lambda n, w, f, x: {"event": {"name": n, **w, **f, **x}}, _NAMED, _WINDOW, _FIGURES, _WHERE),
    st.builds(
        lambda steps, d, w: {"sequence": {**steps, "apart": f"{d}d", **w}},
        st.builds(lambda a, b: {"steps": [a, b]}, _NAMED, _NAMED)
        | st.builds(lambda a, b: {"steps": [a], "without": b}, _NAMED, _NAMED),
        st.integers(1, 20),
        _WINDOW,
    ),
    st.builds(lambda a, b, w: {"not_since": {"event": a, "since": b, **w}}, _NAMED, _NAMED, _WINDOW),
    st.builds(
        lambda p, w, c: {"page": {"path": p, **w, "count": c}}, st.sampled_from(["/a", "/a*"]), _WINDOW, _COUNT_TESTS
    ),
    st.builds(
        lambda t, w, which: {"session": {**t, **w, "which": which}},
        st.fixed_dictionaries(
            {"pages": _NUMBER_TESTS},
            optional={"source": st.sampled_from(["google", {"ne": "google"}, {"exists": False}]), "country": _RU},
        ),
        _WINDOW,
        st.sampled_from(["any", "first", "last"]),
    ),
)  # fmt: skip
_TREES = st.sampled_from(["all", "any", "none"])
_CRITERIA = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda key, items: {key: items}, _TREES, st.lists(inner, min_size=1, max_size=3)),
        inner.map(lambda one: {"not": one}),
    ),
    max_leaves=5,
)  # fmt: skip

# --- the naive evaluation

_MISSING = object()
_DENIALS = {"ne": "eq"} | {
    f"not_{one}": one for one in ("in", "between", "contains", "starts", "ends", "like", "regexp")
}


def _period(words: str, today: date) -> tuple[date, date]:
    """The first and the last day."""
    day, month1 = timedelta(days=1), today.replace(day=1)

    def next_month(first: date, step: int) -> date:
        index = first.year * 12 + first.month - 1 + step
        return date(index // 12, index % 12 + 1, 1)

    monday = today - today.weekday() * day
    years = {"this year": 0, "last year": -1}
    if words in years:
        year = today.year + years[words]
        return date(year, 1, 1), date(year, 12, 31)
    table = {
        "today": (today, today),
        "yesterday": (today - day, today - day),
        "tomorrow": (today + day, today + day),
        "this week": (monday, monday + 6 * day),
        "last week": (monday - 7 * day, monday - day),
        "next week": (monday + 7 * day, monday + 13 * day),
        "this month": (month1, next_month(month1, 1) - day),
        "last month": (next_month(month1, -1), month1 - day),
        "next month": (next_month(month1, 1), next_month(month1, 2) - day),
        "last 7 days": (today - 6 * day, today),
        "next 10 days": (today, today + 9 * day),
        "last 2 weeks": (today - 13 * day, today),
        "next 1 month": (today, next_month(month1, 1).replace(day=today.day) - day),  # of days up to the 28th
        "last 1 year": (today.replace(year=today.year - 1) + day, today),
    }
    return table[words]


def _on(value: Any, zone: str | None) -> date | None:
    if not isinstance(value, str):
        return None
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return date.fromisoformat(value)
    try:
        return datetime.fromisoformat(value).astimezone(ZoneInfo(zone or "UTC")).date()
    except ValueError:
        return None


def _test(operator: str, operand: Any, value: Any, zone: str | None = None) -> bool:  # noqa: PLR0911, PLR0912
    if operator in _DENIALS:
        return not _test(_DENIALS[operator], operand, value, zone)
    if operator == "exists":
        return (value is not _MISSING) is operand
    if operator == "empty":
        return (value is _MISSING or value in ("", [])) is operand
    if value is _MISSING:
        return False
    if operator in {"date", "anniversary"}:
        day = _on(value, zone)
        first, last = _period(operand, NOW.astimezone(ZoneInfo(zone or "UTC")).date())
        if day is None:
            return False
        if operator == "date":
            return first <= day <= last
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        leap = (day.month, day.day) == (2, 29)
        same_days = {(day.month, day.day)} | ({(2, 28)} if leap else set())
        return any((d.month, d.day) in same_days and not (leap and d.day == 28 and d.year % 4 == 0) for d in days)
    if operator in {"before", "after", "gte"} and isinstance(operand, str):
        moment = NOW + timedelta(days=int(operand[3:-1]))
        if not isinstance(value, str) or not re.match(r"\d{4}-", value):
            return False
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return at < moment if operator == "before" else at > moment if operator == "after" else at >= moment
    if operator in {"contains_any", "contains_all"}:
        held = [one in value for one in operand] if isinstance(value, list) else [False]
        return any(held) if operator == "contains_any" else all(held)
    if operator == "in":
        return isinstance(value, str) and value in operand
    if operator in {"contains", "starts", "ends", "like", "regexp"}:
        if not isinstance(value, str):
            return False
        like = fnmatchcase(value, str(operand).replace("%", "*").replace("_", "?"))
        found = re.search(str(operand), value) is not None if operator == "regexp" else False
        by_name = {"contains": operand in value, "starts": value.startswith(operand), "ends": value.endswith(operand)}
        return bool(by_name.get(operator, like if operator == "like" else found))
    if operator == "between":
        return _is_number(value) and operand[0] <= value <= operand[1]
    if _is_number(operand):
        return _is_number(value) and _MAPPED[operator](value, operand)
    return type(value) is type(operand) and bool(value == operand)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tests(test: Any, value: Any, zone: str | None = None) -> bool:
    pairs = test.items() if isinstance(test, dict) else [("eq", test)]
    return all(_test(operator, operand, value, zone) for operator, operand in pairs)


def _in_window(options: dict[str, Any], ago: int) -> bool:
    at = NOW - timedelta(hours=ago)
    if "within" in options and at <= NOW - timedelta(days=int(options["within"][:-1])):
        return False
    if "when" in options:
        first, last = _period(options["when"], NOW.date())
        return first <= at.date() <= last
    return True


def _moment(test: dict[str, str], ago: int) -> bool:
    return _tests(test, (NOW - timedelta(hours=ago)).isoformat())


def _event(options: dict[str, Any], person: dict[str, Any]) -> bool:
    rows = [
        (ago, properties)
        for name, ago, properties in person["events"]
        if name == options["name"]
        and _in_window(options, ago)
        and all(_tests(t, properties.get(key[6:], _MISSING)) for key, t in options.get("where", {}).items())
    ]
    figures: dict[str, Any] = {
        "count": len(rows),
        "days": len({(NOW - timedelta(hours=ago)).date() for ago, _ in rows}),
    }
    asked = [key for key in options if key not in {"name", "where", "within", "when"}]
    held = [_tests(options[key], figures[key]) for key in asked if key in figures]
    for kind in ("sum", "min", "max", "average", "distinct"):
        for key, test in options.get(kind, {}).items():
            values = [properties[key[6:]] for _, properties in rows if key[6:] in properties]
            numbers = [value for value in values if _is_number(value)]
            figure: Any = len(set(values)) if kind == "distinct" else sum(numbers)
            if kind in {"min", "max", "average"} and numbers:
                figure = {"min": min(numbers), "max": max(numbers), "average": sum(numbers) / len(numbers)}[kind]
            nothing = kind in {"min", "max", "average"} and (not rows or not numbers)
            held.append(bool(rows) and _tests(test, _MISSING) if nothing else _tests(test, figure))
    for kind, pick in (("first", max), ("last", min)):
        if kind in options:
            held.append(bool(rows) and _moment(options[kind], pick(ago for ago, _ in rows)))
    if "latest" in options:
        newest = min(rows, key=lambda row: row[0])[1] if rows else None
        tests = options["latest"].items()
        held.append(newest is not None and all(_tests(t, newest.get(key[6:], _MISSING)) for key, t in tests))
    return all(held) if asked else bool(rows)


def _sequence(options: dict[str, Any], person: dict[str, Any]) -> bool:
    apart = int(options["apart"][:-1]) * 24

    def follows(name: str, after: int) -> bool:
        return any(one == name and 0 < after - ago <= apart for one, ago, _ in person["events"])

    begun = [a for name, a, _ in person["events"] if name == options["steps"][0] and _in_window(options, a)]
    if "without" in options:
        return any(ago >= apart and not follows(options["without"], ago) for ago in begun)
    return any(follows(options["steps"][1], ago) for ago in begun)


def _not_since(options: dict[str, Any], person: dict[str, Any]) -> bool:
    last = {name: min((a for one, a, _ in person["events"] if one == name), default=None) for name in _NAMES}
    done, undone = last[options["since"]], last[options["event"]]
    return done is not None and _in_window(options, done) and (undone is None or undone >= done)


def _session(options: dict[str, Any], person: dict[str, Any]) -> bool:
    rows = sorted((s for s in person["sessions"] if _in_window(options, s["ago"])), key=lambda one: -one["ago"])
    chosen = {"any": rows, "first": rows[:1], "last": rows[-1:]}[options["which"]]
    fields = [name for name in ("pages", "source", "country") if name in options]
    return any(
        all(_tests(options[name], _MISSING if row[name] is None else row[name]) for name in fields) for row in chosen
    )


def _page(options: dict[str, Any], person: dict[str, Any]) -> bool:
    seen = [p.get("path", "") for n, ago, p in person["events"] if n == "page.viewed" and _in_window(options, ago)]
    return _tests(options["count"], sum(fnmatchcase(path, options["path"]) for path in seen))


def _email(test: dict[str, Any], person: dict[str, Any]) -> bool:
    ((operator, operand),) = test.items()
    positive = _DENIALS.get(operator, operator)
    some = any(_test(positive, operand, f"{one}{person['id']}@x.example") for one in person["emails"])
    return some is (positive == operator)


def _holds(data: dict[str, Any], person: dict[str, Any]) -> bool:  # noqa: PLR0911, PLR0912
    ((key, value),) = data.items()
    match key:
        case "all":
            return all(_holds(one, person) for one in value)
        case "any":
            return any(_holds(one, person) for one in value)
        case "none":
            return not any(_holds(one, person) for one in value)
        case "not":
            return not _holds(value, person)
        case "contact.tags":
            ((operator, wanted),) = value.items()
            held = [one in person["tags"] for one in wanted]
            return all(held) if operator == "contains_all" else any(held) is (operator == "in")
        case "contact.email":
            return _email(value, person)
        case "contact.consents":
            said = person["consents"].get(value["channel"])
            return bool({True: "granted", False: "refused", None: "unknown"}[said] == value["state"])
        case "event":
            return _event(value, person)
        case "sequence":
            return _sequence(value, person)
        case "not_since":
            return _not_since(value, person)
        case "page":
            return _page(value, person)
        case "session":
            return _session(value, person)
        case "score":
            age = person["attributes"].get("age", 0)
            return _tests(value["age"], age if _is_number(age) else 0)
    return _tests(value, person["attributes"].get(key.removeprefix("contact."), _MISSING), person["zone"])


# --- the three of them


async def _write(connection: AsyncConnection, people: list[dict[str, Any]]) -> None:
    await connection.execute(text("truncate contact, identity, consent, event, session cascade"))
    names = await eventlog.name_ids(connection, list(_NAMES))
    events = []
    for person in people:
        number = person["id"]
        row = {"id": number, "tags": person["tags"], "attributes": person["attributes"], "time_zone": person["zone"]}
        await connection.execute(insert(contacts.contact).values(row))
        for one in person["emails"]:
            address = f"{one}{number}@x.example"
            await connection.execute(insert(contacts.identity).values(kind="email", value=address, contact_id=number))
        for channel, granted in person["consents"].items():
            said = {"contact_id": number, "channel": channel, "purpose": "marketing", "granted": granted}
            await connection.execute(insert(contacts.consent).values(said))
        for one in person["sessions"]:
            at = NOW - timedelta(hours=one["ago"])
            kept = {"contact_id": number, "site_id": 1, "started_at": at, "ended_at": at}
            kept |= {name: one[name] for name in ("pages", "source", "country")}
            await connection.execute(insert(sessions.session).values(kept))
        for name, ago, properties in person["events"]:
            at = NOW - timedelta(hours=ago)
            events.append(eventlog.NewEvent(number, names[name], at, json.dumps(properties) if properties else None))
    await eventlog.append(connection, events)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking so much data against a database takes for ever
)
@given(people=st.lists(_CONTACTS, min_size=5, max_size=8), asked=st.lists(_CRITERIA, min_size=20, max_size=20))
async def test_sets_single_contacts_and_a_naive_evaluation_agree(
    database: Database, people: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    people = [{**person, "id": number} for number, person in enumerate(people, 1)]
    async with database.begin() as connection:
        await partitions.ensure(connection, "event", NOW - timedelta(days=70), NOW)
        await _write(connection, people)
        for data in asked:
            parsed = criteria.parse(data)
            naive = {person["id"] for person in people if _holds(data, person)}
            everybody = set(await segments.page(connection, parsed, 0, 100, NOW))
            single = {p["id"] for p in people if await segments.matching(connection, parsed, [p["id"]], NOW)}
            wrong = [p for p in people if len({p["id"] in naive, p["id"] in everybody, p["id"] in single}) > 1]
            assert wrong == [], f"{json.dumps(data)}: naive {naive}, set {everybody}, single {single}"
            assert await segments.count(connection, parsed, NOW) == len(naive)
