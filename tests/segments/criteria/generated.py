"""Contacts with all that may have happened to them, and criteria about it, for tests to generate."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
NAMES = ("order.paid", "page.viewed", "cart.updated", "form.submitted", "link.clicked")
COMPANIES: dict[str, dict[str, Any]] = {"acme.com": {"employees": 12}, "tiny.example": {"employees": 3, "trade": "oil"}}
SEGMENTS: dict[str, dict[str, Any] | None] = {
    "chosen": None,
    "grown": {"contact.age": {"gte": 18}},
    "around": {"contact.segments": "grown", "not": {"contact.tags": "vip"}},
}
"""Criteria, or None for a list."""
STATES = ("accepted", "delivered", "opened", "clicked", "ignored", "bounced", "failed", "skipped", "in_doubt")
_CITIES = ("Moscow", "Kazan", "Perm, 50%", "")
_ZONES = ("Europe/Moscow", "America/Los_Angeles", "Asia/Tokyo", None)
_ORDERED = ("gt", "gte", "lt", "lte", "eq", "ne")

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
        st.sampled_from(NAMES),
        st.integers(0, 60 * 24),  # hours before now
        st.fixed_dictionaries(
            {},
            optional={
                "total": st.integers(-5, 20) | st.just("x"),
                "path": st.sampled_from(["/a", "/a/b", "/c"]),
                "form": st.sampled_from(["subscribe", "ask"]),
                "url": st.sampled_from(["https://a.example/x.pdf", "https://a.example/y"]),
            },
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
            "campaign": st.sampled_from(["spring", None]),
            "referrer": st.sampled_from(["https://news.example/a", "https://bing.example/", None]),
            "device": st.sampled_from(["mobile", "desktop", None]),
            "brand": st.sampled_from(["Apple", "Samsung", None]),
            "os": st.sampled_from(["iOS", "Linux", None]),
            "country": st.sampled_from(["RU", "KZ", None]),
            "city": st.sampled_from(["Moscow", "Almaty", None]),
        }
    ),
    max_size=3,
    unique_by=lambda one: one["ago"],
)
_TOUCH = st.none() | st.fixed_dictionaries(
    {"ago": st.integers(0, 60 * 24), "source": st.sampled_from(["google", "bing", None])}
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "ago": st.integers(0, 60 * 24),
            "template": st.sampled_from(["welcome", "digest", None]),
            "journey": st.sampled_from(["onboarding", "renewal", None]),
            "channel": st.sampled_from(["email", "sms"]),
            "purpose": st.sampled_from(["marketing", "news", "staff"]),
            "state": st.sampled_from(["ACCEPTED", "DELIVERED", "BOUNCED", "FAILED", "SKIPPED", "IN_DOUBT"]),
            "reason": st.sampled_from(["cap", "consent", None]),
            "marks": st.sets(st.sampled_from(["delivered", "opened", "clicked"])),
            "answer": st.sampled_from(["yes", "no", None]),
            "url": st.sampled_from(["https://a.example/x.pdf", "https://a.example/y", None]),
        }
    ),
    max_size=4,
)
_RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "ago": st.integers(0, 60 * 24),
            "journey": st.sampled_from(["onboarding", "renewal"]),
            "key": st.sampled_from(["", "a"]),
            "step": st.integers(0, 1),
            "visited": st.booleans(),
            "outcome": st.sampled_from(["bought", "lost", None]),
        }
    ),
    max_size=3,
)
PEOPLE = st.fixed_dictionaries(
    {
        "attributes": _ATTRIBUTES,
        "tags": st.lists(st.sampled_from(["vip", "new", "it's"]), unique=True),
        "zone": st.sampled_from(_ZONES),
        "emails": st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=2),
        "consents": st.dictionaries(st.sampled_from(["sms", "email"]), st.booleans()),
        "events": _EVENTS,
        "sessions": _SESSIONS,
        "touches": st.tuples(_TOUCH, _TOUCH),
        "messages": _MESSAGES,
        "runs": _RUNS,
        "language": st.sampled_from(["ru", "en", None]),
        "created": st.integers(0, 60 * 24),
        "company": st.sampled_from([*COMPANIES, None]),
        "suppressed": st.dictionaries(
            st.sampled_from(["a", "b", "c"]), st.sampled_from(["bounced", "complained"]), max_size=2
        ),
        "identified": st.integers(0, 60 * 24),
        "lists": st.booleans(),
    }
)

# --- criteria

_NUMBER_TESTS = st.builds(lambda op, n: {op: n}, st.sampled_from(_ORDERED), st.integers(-3, 25)) | st.builds(
    lambda op, a, b: {op: [a, b]}, st.sampled_from(["between", "not_between"]), st.integers(-3, 20), st.integers(10, 25)
)
_COUNT_TESTS = st.builds(lambda op, n: {op: n}, st.sampled_from(_ORDERED), st.integers(0, 4))
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
_DEVICE = ("device", "brand", "os")
_WITHIN = st.integers(1, 50).map(lambda d: f"{d}d")
_WINDOW = st.fixed_dictionaries({}, optional={"within": _WITHIN, "when": _PERIODS})
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
_NUMBERED = st.fixed_dictionaries({}, optional={"count": _COUNT_TESTS, "within": _WITHIN, "when": _PERIODS})
_MESSAGE = st.fixed_dictionaries(
    {"state": st.sampled_from([*STATES, "answered"])},
    optional={
        "template": st.sampled_from(["welcome", "digest"]),
        "journey": st.sampled_from(["onboarding", "renewal"]),
        "channel": st.sampled_from(["email", "sms"]),
        "purpose": st.sampled_from(["marketing", "news"]),
        "reason": st.sampled_from(["cap", "consent"]),
    },
) | st.sampled_from([{"url": "*.pdf"}, {"answer": "yes"}, {"answer": {"ne": "yes"}}])
_JOURNEY = st.fixed_dictionaries(
    {"name": st.sampled_from(["onboarding", "renewal"])},
    optional={
        "outcome": st.sampled_from(["bought", "lost"]),
        "visited": st.sampled_from(["first", "last"]),
        "key": st.just("a"),
        "version": st.integers(1, 2),
    },
)
_STANDING = st.sampled_from([{"state": "running"}, {"state": "finished"}, {"state": "entered"}, {"step": "last"}])
_OF_SESSION = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["mobile", {"ne": "mobile"}, ["mobile", "desktop"]]),
        "brand": st.sampled_from(["Apple", {"starts": "Sam"}]),
        "os": st.sampled_from(["iOS", {"exists": False}]),
        "city": st.sampled_from(["Moscow", {"empty": True}]),
        "campaign": st.sampled_from(["spring", {"exists": True}]),
    },
).filter(bool)
_WHICH = st.sampled_from(["any", "first", "last"])
_MADE = st.builds(lambda op, d: {op: f"now-{d}d"}, st.sampled_from(["before", "after", "gte"]), st.integers(0, 50))
_LIST_OF_SEGMENTS = st.lists(st.sampled_from(list(SEGMENTS)), min_size=1, unique=True)
_FIFTHS = st.builds(lambda op, n: {op: n}, st.sampled_from(_ORDERED), st.integers(1, 5))
_MORE = st.one_of(
    st.builds(lambda m, n: {"message": {**m, **n}}, _MESSAGE, _NUMBERED),
    st.builds(lambda j, s, n: {"journey": {**j, **s, **n}}, _JOURNEY, _STANDING, _NUMBERED),
    st.sampled_from(
        [
            {"contact.company": "acme.com"},
            {"contact.company": {"ne": "acme.com"}},
            {"contact.company": {"exists": False}},
            {"company.trade": {"in": ["oil", "salt"]}},
            {"company.trade": {"not_in": ["oil"]}},
        ]
    ),
    _NUMBER_TESTS.map(lambda t: {"company.employees": t}),
    st.builds(
        lambda s, w, which: {"utm": {"source": s, **w, "which": which}},
        st.sampled_from(["google", {"ne": "google"}, {"exists": False}]),
        _WINDOW,
        _WHICH,
    ),
    st.builds(
        lambda u, n: {"referrer": {"url": u, **n}}, st.sampled_from(["https://news.*", {"exists": True}]), _NUMBERED
    ),
    st.builds(
        lambda o, n: {"device": {("kind" if k == "device" else k): v for k, v in o.items() if k in _DEVICE} | n},
        _OF_SESSION.filter(lambda o: any(k in _DEVICE for k in o)),
        _NUMBERED,
    ),
    st.builds(lambda c, n: {"geography": {"country": c, **n}}, st.sampled_from(["RU", ["RU", "KZ"]]), _NUMBERED),
    st.builds(lambda o, w, which: {"session": {**o, **w, "which": which}}, _OF_SESSION, _WINDOW, _WHICH),
    st.builds(lambda f, n: {"form": {"form": f, **n}}, st.sampled_from(["subscribe", "*s*"]), _NUMBERED),
    st.builds(lambda u, n: {"link": {"url": u, **n}}, st.sampled_from(["*.pdf", "https://a.example/y"]), _NUMBERED),
    st.sampled_from([{"contact.language": "ru"}, {"contact.language": {"ne": "ru"}}, {"contact.language": ["en"]}]),
    _MADE.map(lambda t: {"contact.created_at": t}),
    _PERIODS.map(lambda p: {"contact.created_at": {"date": p}}),
    st.builds(lambda op, n: {"contact.id": {op: n}}, st.sampled_from(_ORDERED), st.integers(0, 9)),
    st.booleans().map(lambda v: {"contact.known": v}),
    _MADE.map(lambda t: {"contact.identified_at": t}),
    _MADE.map(lambda t: {"contact.last_active_at": t}),
    st.sampled_from(
        [
            {"contact.suppressed": "any"},
            {"contact.suppressed": "email"},
            {"contact.suppressed": "sms"},
            {"contact.suppressed": {"reason": "bounced"}},
        ]
    ),
    st.sampled_from(list(SEGMENTS)).map(lambda name: {"contact.segments": name}),
    st.builds(
        lambda op, names: {"contact.segments": {op: names}},
        st.sampled_from(["in", "not_in", "contains_all"]),
        _LIST_OF_SEGMENTS,
    ),
    st.builds(lambda key, names: {key: names}, st.sampled_from(["include", "exclude"]), _LIST_OF_SEGMENTS),
    st.builds(
        lambda share, first, salt: {"random": {"share": share, "from": first, "salt": salt}},
        st.sampled_from([10, 33.33, 50]),
        st.sampled_from([0, 12.5, 50]),
        st.sampled_from(["", "spring"]),
    ),
    st.builds(
        lambda kind, t: {"rfm": {"event": "order.paid", "value": "event.total", kind: t}},
        st.sampled_from(["recency", "frequency", "monetary", "total"]),
        _FIFTHS,
    ),
)
_NAMED = st.sampled_from(NAMES)
_LEAVES = st.one_of(
    _MORE,
    _MORE,
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
CRITERIA = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda key, items: {key: items}, _TREES, st.lists(inner, min_size=1, max_size=3)),
        inner.map(lambda one: {"not": one}),
    ),
    max_leaves=5,
)  # fmt: skip
