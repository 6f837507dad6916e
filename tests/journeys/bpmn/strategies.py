"""Generated journeys with steps of every kind."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from hypothesis import assume
from hypothesis import strategies as st

import journeys
from core.errors import InvalidInput
from journeys.language import Journey
from journeys.steps.registry import BY_KEY

_CRITERIA = st.sampled_from(
    [
        {"contact.tags": "vip"},
        {"any": [{"contact.age": {"gte": 18}}, {"not": {"contact.consents": "sms"}}]},
        {"event": {"name": "order.paid", "count": {"gte": 2}, "within": "30d"}},
        {"contact.city": 'Kazan & "<Co>" \u0007 é\n\ttwo'},
    ]
)
_WHERE = st.sampled_from(
    [{"event.status": "draft"}, {"event.amount": {"gt": 5}}, {"event.cart": {"same": "cart"}, "event.n": [1, 2.5]}]
)
_EVENT = st.sampled_from(["a.b", "Order paid", 'odd <&> "name" \u0001\n', "1e5", "null", "10:30"])
_RULE = st.fixed_dictionaries({"event": _EVENT}, optional={"where": _WHERE})
_ENDING = st.one_of(_RULE, st.fixed_dictionaries({"when": _CRITERIA}, optional={"outcome": st.just("left <&>")}))
_LENGTH = st.sampled_from(
    ["4h", "2 days", "1w 3d", "90s", "until 9:30", "until 10:00 on weekdays, in the contact's time zone",
     {"hours": "10:00-20:00", "days": "weekdays"}]
)  # fmt: skip
_DURATION = st.sampled_from(["4h", "1w 3d"])
_SIMPLE = st.one_of(
    st.fixed_dictionaries(
        {"send": st.sampled_from(["email", "sms"]), "template": st.sampled_from(["t", "Привет: мир"])},
        optional={"priority": st.sampled_from(["alert", "broadcast"]), "repeat_in_doubt": st.booleans()},
    ),
    st.fixed_dictionaries({"wait": _LENGTH}, optional={"precise": st.booleans()}),
    st.sampled_from(
        [
            {"update": {"attributes": {"age": 5, "gone": None, "yes": "no"}}},
            {"update": {"tags": {"add": "x", "remove": ["y"]}, "consents": {"email": True, "sms": {"news": False}}}},
            {"tag": "vip"},
            {"tag": {"remove": ["a", "b"]}},
            {"consent": {"sms": True}},
            {"score": {"points": -2.5}},
            {"segment": {"add": "vip", "remove": ["trial", "new ones"]}},
            {"suppress": "email"},
            {"suppress": ["sms", "voice"], "reason": "bounced", "lift": True},
            {"notify": "email", "to": "a@example.com", "subject": "Hi", "text": "{{ contact.email }}\nsecond line\n"},
            {"show": "banner", "template": "b"},
            {"hide": "banner"},
            {"enroll": "other"},
            {"call": "https://example.com/?q={{ contact.email }}", "method": "GET", "save": {"x": "answer.x"}},
        ]
    ),
)


_SOMEWHERE = "somewhere"
"""Stands for the id of a step until the steps have theirs."""
_ENDINGS = st.sampled_from(
    [
        {"end": None},
        {"end": "done <&>"},
        {"delete": "contact"},
        {"delete": "contact", "outcome": "gone"},
        {"goto": _SOMEWHERE},
    ]
)
_WINNER = st.sampled_from(
    [
        {"metric": "clicked"},
        {"metric": "opened", "sample": 50, "confidence": 90.5},
        {"metric": "goal", "sample": 1000, "deadline": "1w 3d"},
    ]
)


def _answers(ask: str, of: str | None, said: list[str], block: Any) -> st.SearchStrategy[Any]:
    known = {"ask": st.just(ask), "within": _DURATION} | ({"of": st.just(of)} if of else {})
    answers = st.dictionaries(st.sampled_from(said), block, min_size=1, max_size=2)
    return st.fixed_dictionaries(known | {"answers": answers}, optional={"else": block})


def _with_branches(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    listed = st.lists(steps, min_size=1, max_size=3)
    listed |= st.tuples(st.lists(steps, max_size=2), _ENDINGS).map(lambda parts: [*parts[0], parts[1]])
    block = listed | st.just(_SOMEWHERE)
    case = st.fixed_dictionaries({"when": _CRITERIA, "then": block})
    arm = st.fixed_dictionaries({"weight": st.integers(1, 9)}, optional={"then": block}) | st.integers(1, 5)
    rule = st.one_of(
        st.fixed_dictionaries({"event": _EVENT}, optional={"where": _WHERE, "then": block}),
        st.fixed_dictionaries({"when": _CRITERIA}, optional={"then": block}),
    )
    answer = st.fixed_dictionaries(
        {"when": st.sampled_from([{"status": 404}, {"answer.score": {"gte": 5}}]), "then": block}
    )
    return st.one_of(
        st.fixed_dictionaries({"if": _CRITERIA, "then": block}, optional={"else": block}),
        st.fixed_dictionaries({"choose": st.lists(case, min_size=1, max_size=2)}, optional={"else": block}),
        st.fixed_dictionaries(
            {"split": st.fixed_dictionaries({"a": arm, "b": arm})}, optional={"holdout": st.just(5), "winner": _WINNER}
        ),
        st.fixed_dictionaries({"wait": _DURATION | st.just("forever"), "until": rule}, optional={"then": block}),
        st.fixed_dictionaries(
            {"wait": _DURATION, "until": st.lists(rule, min_size=1, max_size=2)}, optional={"then": block}
        ),
        st.fixed_dictionaries(
            {"wait": st.just({"date": "contact.birthday", "minus": "3d"})}, optional={"missing": block}
        ),
        st.fixed_dictionaries(
            {"parallel": st.fixed_dictionaries({"one": listed, "two": listed})}, optional={"join": st.just("first")}
        ),
        _answers("form", "f", ["yes", "no", "/~1"], block),
        _answers("link", "letter", ["https://x.example/yes?a=1&b=2", "https://x.example/no"], block),
        _answers("reply", None, ["yes", "Нет, спасибо"], block),
        _answers("keypad", "call", ["1", "#"], block),
        st.fixed_dictionaries(
            {"call": st.just("https://example.com/hook")},
            optional={"answers": answer | st.lists(answer, min_size=1, max_size=2), "failed": block},
        ),
        st.fixed_dictionaries(
            {"enroll": st.just("other"), "await": st.just("2d")},
            optional={"late": block, "outcomes": st.fixed_dictionaries({"bought": block})},
        ),
    )


_STEPS = st.lists(st.recursive(_SIMPLE, _with_branches, max_leaves=8), min_size=1, max_size=5)
_HEAD = st.fixed_dictionaries(
    {"journey": st.sampled_from(["generated", "1.st_journey"])},
    optional={
        "name": st.sampled_from(["A & B", "Имя\u0007 <x>", "yes"]),
        "enter": st.sampled_from(
            [
                {"event": "order.paid", "where": {"event.total": {"gt": 5}}, "key": "event.id", "reenter": "always"},
                {"schedule": "0 9 * * mon", "in": "Europe/Moscow", "segment": "readers"},
                {"segment": "all"},
                {"segment": "readers", "on": "left"},
                {"date": "contact.birthday", "minus": "3d", "yearly": True},
                {"schedule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9", "segment": "all"},
                {"reenter": "always"},
            ]
        ),
        "goal": _ENDING,
        "exit": st.lists(_ENDING, min_size=1, max_size=5),
        "quiet_hours": st.just("22:00-08:00"),
        "priority": st.sampled_from(["alert", "triggered", "broadcast"]),
        "send_window": st.sampled_from(
            [
                {"hours": "09:00-19:00", "days": "weekdays", "holidays": "DE-BY", "in": "Europe/Berlin"},
                {"days": "Monday"},
            ]
        ),
        "limits": st.sampled_from(
            [{"messages": 3, "within": "7d"}, {"messages": 1, "per_minute": 0.5, "budget": 99.5}, {"budget": 10}]
        ),
        "conversion": st.fixed_dictionaries(
            {"event": _EVENT}, optional={"where": _WHERE, "within": _DURATION, "value": st.just("event.total <&>")}
        ),
    },
)


def _listed_steps(steps: list[Any]) -> Iterator[dict[str, Any]]:
    """Steps at any depth: mappings that stand in lists of branches."""
    for step in steps:
        yield step
        for value in step.values():
            yield from _within(value)


def _within(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list) and value and all(isinstance(one, dict) and set(one) & set(BY_KEY) for one in value):
        yield from _listed_steps(value)
    elif isinstance(value, list):
        for one in value:
            yield from _within(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _within(one)


@st.composite
def written_journeys(draw: Any) -> str:
    """The YAML of a journey that loads."""
    steps = json.loads(json.dumps(draw(_STEPS)))  # strategies may hand out the same object twice
    ending = draw(st.none() | st.just("end") | _ENDINGS)
    if isinstance(ending, dict):
        steps.append(dict(ending))
    for number, step in enumerate(_listed_steps(steps)):
        if draw(st.booleans()) or "winner" in step:
            step["id"] = f"s{number}"
    if "id" not in steps[0]:
        steps[0]["id"] = "first"
    named = [step["id"] for step in _listed_steps(steps) if "id" in step and "goto" not in step]
    steps = _aimed(steps, lambda: draw(st.sampled_from(named)))
    if ending == "end":
        steps.append("end")
    return yaml.dump(draw(_HEAD) | {"steps": steps}, Dumper=_Plain, allow_unicode=True, sort_keys=False)


def _aimed(value: Any, where: Callable[[], str]) -> Any:
    """The data, with the id of a step wherever one is to be."""
    if isinstance(value, list):
        return [_aimed(one, where) for one in value]
    if isinstance(value, dict):
        return {key: _aimed(one, where) for key, one in value.items()}
    return where() if value == _SOMEWHERE else value


class _Plain(yaml.SafeDumper):
    """Without anchors for objects that stand twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_MAY_BE_REFUSED = (
    "a loop without a wait",
    "nothing leads to this step",
    "leads across the border",
    "these gotos only lead to each other",
)


def loaded(text: str) -> Journey:
    """The journey, if it loads; else the example does not count."""
    try:
        return journeys.load(text)
    except InvalidInput as error:
        strange = [one for one in error.problems if not any(words in one.message for words in _MAY_BE_REFUSED)]
        assert not strange, (strange, text)
        assume(False)
        raise
