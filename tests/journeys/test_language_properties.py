"""Generated journeys: what loads compiles into a sound plan, and a plan survives being written down."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta

import journeys
from core.errors import InvalidInput
from examples import FOLDERS
from journeys import graph, picture
from journeys.plan import Plan, Send, Split, Wait
from journeys.steps.registry import BY_KEY

_CRITERIA = st.sampled_from(
    [
        {"contact.tags": "vip"},
        {"any": [{"contact.age": {"gte": 18}}, {"not": {"contact.consents": "sms"}}]},
        {"event": {"name": "order.paid", "count": {"gte": 2}, "within": "30d"}},
        {"not": {"event": {"name": "order.paid", "where": {"event.cart": {"same": "cart"}}}}},
    ]
)
_WHERE = st.sampled_from(
    [{"event.status": "draft"}, {"event.amount": {"gt": 5}}, {"event.cart": {"same": "cart"}, "event.n": [1, 2]}]
)
_RULE = st.fixed_dictionaries({"event": st.sampled_from(["a.b", "Order paid"])}, optional={"where": _WHERE})
_LENGTH = st.sampled_from(
    ["4h", "2 days", "1w 3d", "until 9:30", "until 10:00 on weekdays, in the contact's time zone",
     "until 18:00 on Mon, Wed and Friday in Europe/Moscow"]
)  # fmt: skip
_SEND = st.fixed_dictionaries(
    {"send": st.sampled_from(["email", "sms"]), "template": st.just("t")},
    optional={"priority": st.sampled_from(["alert", "broadcast"]), "repeat_in_doubt": st.booleans()},
)
_UPDATE = st.sampled_from(
    [
        {"update": {"attributes": {"age": 5, "gone": None}}},
        {"update": {"tags": {"add": "x", "remove": ["y"]}, "consents": {"email": True, "sms": {"news": False}}}},
    ]
)
_OTHER = st.sampled_from(
    [
        {"tag": ["a", "b"]},
        {"consent": {"email": True}},
        {"score": {"points": -2}},
        {"notify": "email", "to": ["a@x.example", "b@x.example"], "subject": "s", "text": "{{ contact.id }}"},
        {"notify": "email", "to": "somebody@x.example", "subject": "s", "text": "{{ contact.id }}"},
        {"enroll": "other"},
        {"enroll": "other", "await": "3d", "outcomes": {"good": [{"tag": "good"}]}, "late": [{"tag": "late"}]},
        {
            "call": "https://x.example/{{ contact.id }}",
            "body": {"a": ["{{ event.b }}", 1]},
            "save": {"age": "answer.a"},
        },
        {"ask": "link", "within": "1d", "answers": {"https://x.example/": [{"tag": "yes"}]}},
        {"ask": "keypad", "within": "1d", "answers": {"1": [{"tag": "yes"}], "#": [{"tag": "no"}]}},
        {"ask": "reply", "within": "1d", "answers": {'"1"': [{"tag": "yes"}], "a/b": [{"tag": "no"}]}},
        {"show": "banner", "template": "t"},
        {"hide": "banner"},
        {"wait": {"date": "contact.birthday", "yearly": True, "minus": "1d"}, "missing": [{"tag": "ageless"}]},
        {"wait": {"hours": "22:00-06:00", "days": "weekdays", "holidays": "RU"}},
        {"wait": "forever", "until": {"when": {"contact.tags": "vip"}, "then": [{"tag": "seen"}]}},
    ]
)
_PLAIN_WAIT = st.fixed_dictionaries({"wait": _LENGTH}, optional={"precise": st.booleans()})


def _with_branches(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    block = st.lists(steps, min_size=1, max_size=3)
    case = st.fixed_dictionaries({"when": _CRITERIA, "then": block})
    arm = st.fixed_dictionaries({"weight": st.integers(1, 9)}, optional={"then": block}) | st.integers(1, 5)
    until = st.fixed_dictionaries({"event": st.just("x")}, optional={"where": _WHERE, "then": block})
    return st.one_of(
        st.fixed_dictionaries({"if": _CRITERIA, "then": block}, optional={"else": block}),
        st.fixed_dictionaries({"choose": st.lists(case, min_size=1, max_size=2)}, optional={"else": block}),
        st.fixed_dictionaries({"split": st.fixed_dictionaries({"a": arm, "2": arm})}),
        st.fixed_dictionaries({"split": st.fixed_dictionaries({"a": arm, "b": arm}), "holdout": st.integers(1, 50)}),
        st.fixed_dictionaries(
            {"parallel": st.fixed_dictionaries({"a": block, "b": block})},
            optional={"join": st.sampled_from(["all", "first"])},
        ),
        st.fixed_dictionaries(
            {
                "call": st.just("https://x.example"),
                "answers": st.fixed_dictionaries({"when": st.just({"status": 404}), "then": block}),
            },
            optional={"failed": block},
        ),
        st.fixed_dictionaries({"wait": _LENGTH | st.just("forever"), "until": until}, optional={"then": block}),
        st.fixed_dictionaries({"wait": _LENGTH, "until": st.lists(until, min_size=1, max_size=2)}),
    )


_STEPS = st.lists(
    st.recursive(_SEND | _PLAIN_WAIT | _UPDATE | _OTHER, _with_branches, max_leaves=8), min_size=1, max_size=5
)


def _all_steps(steps: list[Any]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        for value in step.values():
            yield from _all_steps(list(_inner(value)))


def _inner(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for one in value:
            if isinstance(one, dict) and set(one) & set(BY_KEY):
                yield one
            else:
                yield from _inner(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key in {"then", "else", "a", "b", "2"} or isinstance(one, dict):
                yield from _inner(one)


@st.composite
def _journeys(draw: Any) -> dict[str, Any]:
    steps = json.loads(json.dumps(draw(_STEPS)))  # strategies may hand out the same object twice
    for number, step in enumerate(_all_steps(steps)):
        if draw(st.booleans()):
            step["id"] = f"s{number}"
    named = [step["id"] for step in _all_steps(steps) if "id" in step]
    if named and draw(st.booleans()):
        steps.append({"goto": draw(st.sampled_from(named))})
    return {"journey": "generated", "goal": draw(_RULE), "exit": [draw(_RULE)], "steps": steps}


class _Plain(yaml.SafeDumper):
    """Without anchors for objects that stand twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _sound(plan: Plan) -> None:
    for step in plan.steps:
        assert all(0 <= there < len(plan.steps) for there in graph.successors(step))
        if isinstance(step, Wait):
            lengths = [one for one in (step.seconds, step.local, step.window, step.date) if one is not None]
            assert len(lengths) <= 1 or (plan.hasten != 1 and step.date is not None and len(lengths) == 2)
            assert lengths or step.until or step.watches
            assert all(plan.subscriptions[way.subscription].role == "wait" for way in step.until)
    assert len({step.id for step in plan.steps}) == len(plan.steps)
    assert graph.unreachable(plan) == []
    assert graph.restless_loops(plan) == []


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=_journeys(), hasten=st.sampled_from([1.0, 60.0, 0.5]))
def test_what_loads_compiles_into_a_sound_plan(data: dict[str, Any], hasten: float) -> None:
    text = yaml.dump(data, Dumper=_Plain, allow_unicode=True, sort_keys=False)
    try:
        journey = journeys.load(text)
    except InvalidInput as error:
        # The generator knows nothing of loops, of steps behind a loop, and of the borders of branches; those are the
        # only things refused.
        assert all(
            "a loop without a wait" in one.message
            or "nothing leads to this step" in one.message
            or "leads across the border of a parallel branch" in one.message
            for one in error.problems
        ), error
        assume(False)
    plan = journeys.compile(journey, hasten)
    _sound(plan)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan
    assert sum(isinstance(step, Send) for step in plan.steps) == sum(
        "send" in step for step in _all_steps(data["steps"])
    )
    drawing = picture.drawn(plan)
    assert all(step.id in _text(drawing) for step in plan.steps)
    _SCHEMA.validate(data)


_SCHEMA = Draft202012Validator(journeys.json_schema())


def _text(tree: Any) -> str:
    return str(tree.label) + "\n" + "\n".join(_text(child) for child in tree.children)


def test_the_schema_is_a_schema_and_refuses_what_the_loader_refuses() -> None:
    meta.validate(journeys.json_schema())
    good = {"journey": "x", "steps": [{"send": "email", "template": "t"}, "end"]}
    _SCHEMA.validate(good)
    for bad in (
        {"steps": ["end"]},
        {"journey": "x", "steps": []},
        {"journey": "x", "steps": [{"send": "pigeon", "template": "t"}]},
        {"journey": "x", "steps": [{"send": "email", "tempalte": "t"}]},
        {"journey": "x", "steps": [{"if": {"tags": 1}, "then": ["end"]}]},
        {"journey": "x", "enter": {"event": 5}, "steps": ["end"]},
    ):
        assert not _SCHEMA.is_valid(bad), bad


@pytest.mark.parametrize(
    "file",
    [file for folder in FOLDERS for file in sorted(folder.glob("journeys/*.yaml"))],
    ids=lambda file: str(file.stem),
)
def test_examples_are_sound_and_fit_the_schema(file: Any) -> None:
    journey = journeys.load(file.read_bytes(), file.name)
    _sound(journeys.compile(journey))
    _SCHEMA.validate(journey.document.data)


def test_a_picture_shows_branches_and_jumps() -> None:
    text = """\
journey: x
name: "Brackets [bold] are kept"
enter: {event: cart.updated, key: event.cart, cooldown: 1d}
goal: {event: order.paid, where: {event.cart: {same: cart}}, outcome: bought}
steps:
  - {id: quiet, wait: 1h, until: {event: cart.updated}, then: quiet}
  - if: {contact.tags: vip}
    then: [{send: email, template: a}]
    else: [{split: {short: 1, long: 3}}]
  - {id: morning, wait: "until 10:00 on weekdays, in the contact's time zone"}
  - update: {tags: {add: late}, consents: {email: false}}
  - end: lost
"""
    drawing = _text(picture.drawn(journeys.compile(journeys.load(text), 1)))
    for words in (
        "Brackets \\[bold] are kept",
        "enter on [magenta]cart.updated[/]",
        "for each cart, 1 day apart",
        "goal on [magenta]order.paid[/] cart: same: cart: [bold]bought[/]",
        "wait 1 hour",
        "→ quiet",
        "if contact.tags: vip",
        "long (75%)",
        "wait until 10:00 on weekdays, in the contact's time zone",
        "update tag late, consent: no marketing by email",
        "end lost",
    ):
        assert words in drawing, drawing
    assert drawing.count("morning") == 1


def test_arms_are_salted_by_journey_and_step() -> None:
    text = "journey: x\nsteps:\n  - split: {a: 1, b: 2.5}\n  - split: {a: 1, b: 1}\n"
    splits = [step for step in journeys.compile(journeys.load(text)).steps if isinstance(step, Split)]
    assert [step.salt for step in splits] == ["x:split-1", "x:split-2"]
    assert [(arm.name, arm.weight) for arm in splits[0].arms] == [("a", 1), ("b", 2.5)]


def test_the_language_can_be_imported_in_the_middle_of_something() -> None:
    """Its models lead to each other by names, so that pydantic does not go down one within the other."""
    program = "import sys; sys.setrecursionlimit(400); from journeys import language; language.json_schema()"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)
