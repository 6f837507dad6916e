"""Whether criteria hold for a contact, worked out by going through rows in Python: knows nothing of what it checks."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from tests.segments.criteria.generated import COMPANIES, NAMES, NOW, SEGMENTS

Person = dict[str, Any]
_MAPPED: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}


_MISSING = object()
_DENIALS = {"ne": "eq"} | {
    f"not_{one}": one for one in ("in", "between", "contains", "starts", "ends", "like", "regexp")
}


_FIELDS = ("pages", "source", "campaign", "referrer", "device", "brand", "os", "country", "city")


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
    last = {name: min((a for one, a, _ in person["events"] if one == name), default=None) for name in NAMES}
    done, undone = last[options["since"]], last[options["event"]]
    return done is not None and _in_window(options, done) and (undone is None or undone >= done)


def _session(options: dict[str, Any], person: dict[str, Any]) -> bool:
    rows = sorted((s for s in person["sessions"] if _in_window(options, s["ago"])), key=lambda one: -one["ago"])
    chosen = {"any": rows, "first": rows[:1], "last": rows[-1:]}[options.get("which", "any")]
    found = [row for row in chosen if all(_field(options[name], row[name]) for name in _FIELDS if name in options)]
    return _often(options, len(found))


def _field(test: Any, value: Any) -> bool:
    if isinstance(test, list):
        test = {"in": test}
    if isinstance(test, str) and "*" in test:
        return value is not None and fnmatchcase(value, test)
    return _tests(test, _MISSING if value is None else value)


def _often(options: dict[str, Any], number: int) -> bool:
    return _tests(options["count"], number) if "count" in options else number > 0


def _page(options: dict[str, Any], person: dict[str, Any]) -> bool:
    seen = [p.get("path", "") for n, ago, p in person["events"] if n == "page.viewed" and _in_window(options, ago)]
    return _tests(options["count"], sum(fnmatchcase(path, options["path"]) for path in seen))


def _email(test: dict[str, Any], person: dict[str, Any]) -> bool:
    ((operator, operand),) = test.items()
    positive = _DENIALS.get(operator, operator)
    some = any(_test(positive, operand, f"{one}{person['id']}@x.example") for one in person["emails"])
    return some is (positive == operator)


def _utm(options: dict[str, Any], person: Person) -> bool:
    if options["which"] == "any":
        return _session(options, person)
    touch = person["touches"][0 if options["which"] == "first" else 1]
    return touch is not None and _in_window(options, touch["ago"]) and _field(options["source"], touch["source"])


def _done(name: str, key: str, options: dict[str, Any], person: Person) -> bool:
    rows = [p for n, ago, p in person["events"] if n == name and _in_window(options, ago)]
    return _often(options, sum(_field(options[key], p.get(key)) for p in rows))


_REACHED: dict[str, Callable[[Person], bool]] = {
    "accepted": lambda m: m["state"] in {"ACCEPTED", "DELIVERED", "BOUNCED"},
    "delivered": lambda m: "delivered" in m["marks"],
    "opened": lambda m: "opened" in m["marks"],
    "clicked": lambda m: "clicked" in m["marks"],
    "ignored": lambda m: m["state"] in {"ACCEPTED", "DELIVERED"} and not m["marks"] & {"opened", "clicked"},
    "bounced": lambda m: m["state"] == "BOUNCED",
    "failed": lambda m: m["state"] == "FAILED",
    "skipped": lambda m: m["state"] == "SKIPPED",
    "in_doubt": lambda m: m["state"] == "IN_DOUBT",
    "answered": lambda m: m["answer"] is not None,
}


def _message(options: dict[str, Any], person: Person) -> bool:
    def meant(one: Person) -> bool:
        if "url" in options:
            reached = _field(options["url"], one["url"])
        elif "answer" in options:
            reached = one["answer"] is not None and _field(options["answer"], one["answer"])
        else:
            reached = _REACHED[options["state"]](one)
        names = ("template", "journey", "channel", "purpose", "reason")
        same = all(one[name] == options[name] for name in names if name in options)
        return reached and same and one["purpose"] != "staff" and _in_window(options, one["ago"])

    return _often(options, sum(map(meant, person["messages"])))


def _journey(options: dict[str, Any], person: Person) -> bool:
    state = "running" if "step" in options else options.get("state", "entered")

    def meant(one: Person) -> bool:
        steps = ("first", "last")
        return (
            one["journey"] == options["name"]
            and (state == "entered" or (one["outcome"] is None) is (state == "running"))
            and options.get("outcome", one["outcome"]) == one["outcome"]
            and options.get("key", one["key"]) == one["key"]
            and options.get("version", 1) == 1
            and options.get("step", steps[one["step"]]) == steps[one["step"]]
            and ("visited" not in options or (one["visited"] and options["visited"] == steps[one["step"]]))
            and _in_window(options, one["ago"])
        )

    return _often(options, sum(map(meant, person["runs"])))


def _suppressed(value: Any, person: Person) -> bool:
    if value == "sms":
        return False
    wanted = value["reason"] if isinstance(value, dict) else None
    reasons = [person["suppressed"].get(one) for one in person["emails"]]
    return any(one is not None and wanted in {None, one} for one in reasons)


def _in_random(options: dict[str, Any], person: Person) -> bool:
    digest = hashlib.sha256(f"{options['salt']}:{person['id']}".encode()).hexdigest()
    part = int(digest[:8], 16) % 10_000
    return bool(options["from"] * 100 <= part < (options["from"] + options["share"]) * 100)


def _rfm(options: dict[str, Any], person: Person, everybody: list[Person]) -> bool:
    figures = {}
    for one in everybody:
        rows = [(ago, p.get("total")) for name, ago, p in one["events"] if name == options["event"]]
        if rows:
            worth = sum(total for _, total in rows if _is_number(total))
            figures[one["id"]] = {"recency": -min(ago for ago, _ in rows), "frequency": len(rows), "monetary": worth}
    if person["id"] not in figures:
        return False
    mine = figures[person["id"]]
    scores = {
        kind: 1 + 5 * sum(other[kind] < mine[kind] for other in figures.values()) // len(figures) for kind in mine
    }
    scores["total"] = sum(scores.values())
    return all(_tests(options[kind], score) for kind, score in scores.items() if kind in options)


def _in_segment(name: str, person: Person, everybody: list[Person]) -> bool:
    inside = SEGMENTS[name]
    if inside is None:
        return bool(person["lists"])
    return all(holds({key: value}, person, everybody) for key, value in inside.items())


def _segments(value: Any, person: Person, everybody: list[Person]) -> bool:
    ((operator, names),) = value.items() if isinstance(value, dict) else [("in", [value])]
    held = [_in_segment(name, person, everybody) for name in names]
    return all(held) if operator == "contains_all" else any(held) is (operator == "in")


def _company(key: str, test: Any, person: Person) -> bool:
    name = person["company"]
    if key == "contact.company":
        return _field(test, name)
    return _field(test, COMPANIES.get(name, {}).get(key.removeprefix("company.")))


def _active(test: dict[str, str], person: Person) -> bool:
    ours = ("message.", "segment.", "journey.")
    agos = [ago for name, ago, _ in person["events"] if not name.startswith(ours)]
    agos += [one["ago"] for one in person["messages"] if one["answer"] or one["url"]]
    return bool(agos) and _moment(test, min(agos))


_BY_KEY: dict[str, Callable[[Any, Person], bool]] = {
    "contact.email": _email,
    "event": _event,
    "sequence": _sequence,
    "not_since": _not_since,
    "page": _page,
    "session": _session,
    "referrer": lambda value, person: _session({**value, "referrer": value["url"]}, person),
    "device": lambda value, person: _session({**value, "device": value["kind"]} if "kind" in value else value, person),
    "geography": _session,
    "utm": _utm,
    "form": lambda value, person: _done("form.submitted", "form", value, person),
    "link": lambda value, person: _done("link.clicked", "url", value, person),
    "message": _message,
    "journey": _journey,
    "random": _in_random,
    "contact.suppressed": _suppressed,
    "contact.language": lambda value, person: _field(value, person["language"]),
    "contact.id": lambda value, person: _tests(value, person["id"]),
    "contact.created_at": lambda value, person: _tests(
        value, (NOW - timedelta(hours=person["created"])).isoformat(), person["zone"]
    ),
    "contact.known": lambda value, person: bool(person["emails"]) is value,
    "contact.identified_at": lambda value, person: bool(person["emails"]) and _moment(value, person["identified"]),
    "contact.last_active_at": _active,
}


def holds(data: dict[str, Any], person: Person, everybody: list[Person]) -> bool:  # noqa: PLR0911
    """Whether criteria hold for one of some people."""
    ((key, value),) = data.items()
    match key:
        case "all":
            return all(holds(one, person, everybody) for one in value)
        case "any":
            return any(holds(one, person, everybody) for one in value)
        case "none":
            return not any(holds(one, person, everybody) for one in value)
        case "not":
            return not holds(value, person, everybody)
        case "include" | "exclude":
            return any(_in_segment(one, person, everybody) for one in value) is (key == "include")
        case "contact.segments":
            return _segments(value, person, everybody)
        case "rfm":
            return _rfm(value, person, everybody)
        case "contact.tags":
            ((operator, wanted),) = value.items() if isinstance(value, dict) else [("in", [value])]
            held = [one in person["tags"] for one in wanted]
            return all(held) if operator == "contains_all" else any(held) is (operator == "in")
        case "contact.consents":
            said = person["consents"].get(value["channel"])
            return bool({True: "granted", False: "refused", None: "unknown"}[said] == value["state"])
        case "score":
            age = person["attributes"].get("age", 0)
            return _tests(value["age"], age if _is_number(age) else 0)
    if key in _BY_KEY:
        return _BY_KEY[key](value, person)
    if key == "contact.company" or key.startswith("company."):
        return _company(key, value, person)
    return _tests(value, person["attributes"].get(key.removeprefix("contact."), _MISSING), person["zone"])
