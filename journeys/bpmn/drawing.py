"""From a chart to BPMN elements: the few shapes that steps are drawn in. A kind names its element in its own file."""

from collections.abc import Callable
from typing import Any

from core.documents import Path
from journeys import branches
from journeys.bpmn.chart import BOTTOM, NEXT, SHARED, Chart, Node
from journeys.bpmn.diagram import NAMESPACE, Diagram, Element, Rule, Trigger
from journeys.bpmn.labels import as_json, clean, iso_duration, short, words_of
from journeys.steps.grammar import DEFAULT_OUTCOME
from journeys.steps.registry import BY_KEY

Draw = Callable[[Diagram, Node], None]
BY_HAND = "by hand or by the API"


# --- tasks


def _task(tag: str) -> Draw:
    """One task; boundary events and an exclusive gateway behind it say which branch is gone."""

    def draw(diagram: Diagram, node: Node) -> None:
        called = {"calledElement": f"Journey_{node.data['enroll']}"} if tag == "callActivity" else {}
        diagram.elements.append(_main(node, tag, task_label(node.data), attributes=called))
        ways = {place: to for place, to in node.ways.items() if place[0] not in BOUNDARIES}
        if not node.ways:  # it ends the journey
            diagram.elements.append(Element(f"Gone_{node.name}", "endEvent", "deleted", of=node.key))
            diagram.connect(node.key, f"Gone_{node.name}")
        elif set(ways) == {NEXT}:
            diagram.connect(node.key, node.ways[NEXT])
        else:
            _answers(diagram, node, ways)
        _boundaries(diagram, node)

    return draw


def _answers(diagram: Diagram, node: Node, ways: dict[Path, str]) -> None:
    """The gateway behind a task with branches."""
    gateway = Element(f"Ways_{node.name}", "exclusiveGateway", of=node.key)
    diagram.elements.append(gateway)
    diagram.connect(node.key, gateway.id)
    for place, to in ways.items():
        condition = condition_at(node.data, place)
        words = "else" if place == NEXT else decision_way(node.data, place)
        text = as_json(condition) if condition else ""
        diagram.connect(gateway.id, to, name=words, way=place, condition=text, default=place == NEXT)


BOUNDARIES = {"else": "within", "late": "await", "failed": ""}
"""Branches that are gone when a task has taken too long, with the key that says how long, or when it has failed."""


def _boundaries(diagram: Diagram, node: Node) -> None:
    """Interrupting events on the border of a task."""
    for key, limit in BOUNDARIES.items():
        place: Path = (key,)
        length = node.data.get(limit)
        if place not in node.ways or not (
            isinstance(length, str) or (not limit and branches.written(node.data, place))
        ):
            continue
        trigger = timer_of(length) if isinstance(length, str) else Trigger("error", "")
        border = Element(
            f"{key.capitalize()}_{node.name}", "boundaryEvent", short(length or key), trigger, of=node.key, way=place
        )
        border.attributes["attachedToRef"] = node.key
        diagram.elements.append(border)
        diagram.connect(border.id, node.ways[place])


def task_label(data: dict[str, Any]) -> str:
    """What a task is called: `email: draft-saved`, `update: tags: add: vip`."""
    kind = branches.kind_of(data)
    if kind == "send":
        return short(f"{data['send']}: {data['template']}")
    return short(f"{kind}: {words_of(data[kind])}")


# --- waits


def _wait(diagram: Diagram, node: Node) -> None:
    """A catching timer event; with events that end the wait, an event-based gateway before it and them."""
    special = {place: to for place, to in node.ways.items() if place not in (NEXT, SHARED) and place[0] != "until"}
    rules = {place: to for place, to in node.ways.items() if place[0] == "until"}
    if not special and not rules:
        diagram.elements.append(
            _main(node, "intermediateCatchEvent", time_label(node.data), timer_of(node.data["wait"]))
        )
        diagram.connect(node.key, node.ways[NEXT])
        return
    if special:
        _special(diagram, node, special, f"Wait_{node.name}")
    if rules:
        _race(diagram, node, rules, main=not special)
    else:
        _timer(diagram, node, f"Wait_{node.name}")


def _special(diagram: Diagram, node: Node, ways: dict[Path, str], wait: str) -> None:
    """Ways that are gone instead of waiting, such as that of contacts who lack the date."""
    diagram.elements.append(_main(node, "exclusiveGateway", time_label(node.data)))
    for place, to in ways.items():
        diagram.connect(node.key, to, name=str(place[0]), way=place, condition=as_json(condition_at(node.data, place)))
    diagram.connect(node.key, wait, default=True)


def _race(diagram: Diagram, node: Node, rules: dict[Path, str], *, main: bool) -> None:
    """Whichever comes first: the events, or the time."""
    key = node.key if main else f"Wait_{node.name}"
    gateway = _main(node, "eventBasedGateway") if main else Element(key, "eventBasedGateway", of=node.key)
    diagram.elements.append(gateway)
    for number, (place, to) in enumerate(rules.items(), 1):
        rule = branches.at(node.data, place[:-1])
        event = Element(
            f"Event_{node.name}_{number}",
            "intermediateCatchEvent",
            short(rule_label(rule)),
            trigger_of(rule),
            of=node.key,
            way=place,
        )
        diagram.elements.append(event)
        diagram.connect(key, event.id)
        diagram.connect(event.id, to)
    if node.shared is not None and all(branches.written(node.data, place) for place in rules):
        gateway.attributes["kaskad:then"] = node.shared  # each event says itself where it leads, so no flow tells it
    if is_endless(node.data):
        gateway.attributes["kaskad:next"] = node.ways[NEXT]
    else:
        _timer(diagram, node, f"Time_{node.name}", key)


def _timer(diagram: Diagram, node: Node, key: str, source: str | None = None) -> None:
    label, trigger = time_label(node.data), timer_of(node.data["wait"])
    diagram.elements.append(Element(key, "intermediateCatchEvent", label, trigger, of=node.key, way=NEXT))
    if source:
        diagram.connect(source, key)
    diagram.connect(key, node.ways[NEXT])


def is_endless(data: dict[str, Any]) -> bool:
    """Whether only an event ends this wait."""
    return str(data["wait"]).strip() == "forever"


def time_label(data: dict[str, Any]) -> str:
    """How long a wait lasts, in a line."""
    return short(words_of(data["wait"]))


def timer_of(length: Any) -> Trigger:
    """A timer: a duration in ISO 8601; another kind of time as it is written."""
    iso = iso_duration(length) if isinstance(length, str) else None
    if iso is not None:
        return Trigger("timer", iso, "timeDuration")
    return Trigger("timer", clean(length) if isinstance(length, str) else as_json(length), "timeDate", NAMESPACE)


def rule_label(rule: dict[str, Any]) -> str:
    """What ends a wait, or the journey."""
    return str(rule["event"]) if "event" in rule else words_of(rule.get("when", ""))


def trigger_of(rule: dict[str, Any]) -> Trigger:
    """A message for an event, a condition for criteria."""
    if "event" in rule:
        return Trigger("message", clean(str(rule["event"])))
    return Trigger("conditional", as_json(rule.get("when")), language=NAMESPACE)


# --- gateways


def _decision(diagram: Diagram, node: Node) -> None:
    """An exclusive gateway; criteria are the conditions of its flows."""
    diagram.elements.append(_main(node, "exclusiveGateway", decision_label(node.data)))
    for place, to in node.ways.items():
        condition = condition_at(node.data, place)
        diagram.connect(
            node.key,
            to,
            name=decision_way(node.data, place),
            way=place,
            condition="" if condition is None else as_json(condition),
            default=place == ("else",),
        )
    if "holdout" in node.data and "split" in node.data:
        diagram.elements.append(Element(f"Holdout_{node.name}", "endEvent", "holdout", of=node.key))
        share = as_json({"holdout": node.data["holdout"]})
        diagram.connect(node.key, f"Holdout_{node.name}", name=f"{node.data['holdout']}%", condition=share)


def condition_at(data: dict[str, Any], place: Path) -> Any:
    """The criteria under which a branch is gone; None if they are not in the flow's own words."""
    if "if" in data:
        return data["if"] if place == ("then",) else None
    holder = branches.at(data, place[:-1]) if len(place) > 1 else None
    if isinstance(holder, dict) and "when" in holder:
        return holder["when"]
    if len(place) > 1:
        return {str(place[0]): place[1]}
    return None if place in (NEXT, ("else",)) else {"way": place[0]}


def decision_label(data: dict[str, Any]) -> str:
    """The question that a gateway asks."""
    return short(words_of(data["if"]) + "?") if "if" in data else branches.kind_of(data)


def decision_way(data: dict[str, Any], place: Path) -> str:
    """The answer that a flow stands for."""
    if "if" in data:
        return "yes" if place == ("then",) else "no"
    if "split" in data:
        return short(_share(data["split"], str(place[1])))
    if len(place) == 1:
        return str(place[0])
    return short(str(place[1]) if isinstance(place[1], str) else words_of(condition_at(data, place)))


def _share(arms: dict[str, Any], name: str) -> str:
    weights = {key: weight_of(arm) for key, arm in arms.items()}
    if name not in weights or any(weight is None for weight in weights.values()):
        return name
    return f"{name} ({weights[name] / sum(weights.values()):.0%})"


def weight_of(arm: Any) -> Any:
    """The weight of an arm of a split, as written in one way or the other."""
    if isinstance(arm, dict):
        return arm.get("weight", 1)
    return arm if isinstance(arm, int | float) else None


def _fork(diagram: Diagram, node: Node) -> None:
    """A parallel gateway that all branches leave, and one where they meet; complex if the first to come goes on."""
    diagram.elements.append(_main(node, "parallelGateway"))
    for place, to in node.ways.items():
        if place != NEXT:
            diagram.connect(node.key, to, name=short(str(place[1])), way=place)
    waits_for_all = node.data.get("join", "all") == "all"
    tag = "parallelGateway" if waits_for_all else "complexGateway"
    diagram.elements.append(Element(node.join, tag, "" if waits_for_all else "the first", of=node.key))
    diagram.connect(node.join, node.ways[NEXT])


# --- ends


def _end(diagram: Diagram, node: Node) -> None:
    diagram.elements.append(_main(node, "endEvent", short(outcome_of(node.data))))


def outcome_of(data: dict[str, Any]) -> str:
    """How a step `end` says that the journey ended."""
    return clean(data["end"] or DEFAULT_OUTCOME)


def _main(
    node: Node, tag: str, name: str = "", trigger: Trigger | None = None, attributes: dict[str, str] | None = None
) -> Element:
    """The element that carries a step's detail."""
    detail = ("step", as_json(node.data))
    return Element(node.key, tag, name, trigger, detail, place=node.place, attributes=attributes or {})


SHAPES: dict[str, Draw] = {
    **{tag: _task(tag) for tag in ("sendTask", "serviceTask", "userTask", "callActivity")},
    "intermediateCatchEvent": _wait,
    "exclusiveGateway": _decision,
    "parallelGateway": _fork,
    "endEvent": _end,
}
"""BPMN element to how steps are drawn whose kind names it; `goto` is a flow and has no node."""


# --- the whole


def drawn(chart: Chart) -> Diagram:
    """The diagram of a chart: how contacts enter, the steps, the bottom if anybody comes there, goals and exits."""
    head = chart.head
    rest: dict[str, Any] = {key: head[key] for key in ("journey", "name") if key in head}
    rest |= {key: value for key, value in head.items() if key not in {"enter", "goal", "exit"}}
    name = str(head.get("name") or head["journey"])
    diagram = Diagram(f"Journey_{head['journey']}", clean(name), ("journey", as_json(rest)))
    _entrance(diagram, head.get("enter"), chart.start)
    for node in chart.nodes:
        SHAPES[BY_KEY[node.kind].element](diagram, node)
    if any(flow.target == BOTTOM for flow in diagram.flows):
        diagram.elements.append(Element(BOTTOM, "endEvent", DEFAULT_OUTCOME))
    for role in ("goal", "exit"):
        rules = head.get(role, [])
        for number, rule in enumerate([rules] if isinstance(rules, dict) else rules, 1):
            diagram.rules.append(_rule(role, number, rule))
    return diagram


def _entrance(diagram: Diagram, enter: dict[str, Any] | None, first: str) -> None:
    label, trigger = entrance_of(enter or {})
    detail = None if enter is None else ("enter", as_json(enter))
    diagram.elements.append(Element("Start", "startEvent", label, trigger, detail))
    diagram.connect("Start", first)


def entrance_of(enter: dict[str, Any]) -> tuple[str, Trigger | None]:
    """The name of a start event, and what it waits for."""
    if "event" in enter:
        words = clean(str(enter["event"]))
        return short(words), Trigger("message", words)
    if "schedule" in enter:
        words = clean(str(enter["schedule"]))
        zone = f", {enter['in']}" if "in" in enter else ""
        return short(f"{words}{zone}: {enter.get('segment', '')}"), Trigger("timer", words, "timeCycle", NAMESPACE)
    if "date" in enter:
        words = clean(words_of({key: enter[key] for key in ("date", "minus", "plus", "at", "in") if key in enter}))
        return short(words), Trigger("timer", words, "timeCycle" if enter.get("yearly") else "timeDate", NAMESPACE)
    if "on" in enter:
        member = {"contact.segments": enter["segment"]}
        condition = as_json({"not": member} if enter["on"] == "left" else member)
        return short(f"{enter['on']}: {enter['segment']}"), Trigger("conditional", condition, language=NAMESPACE)
    if "segment" in enter:
        words = clean(str(enter["segment"]))
        return short(words), Trigger("signal", words)
    return BY_HAND, None


def _rule(role: str, number: int, rule: dict[str, Any]) -> Rule:
    outcome = clean(str(rule.get("outcome") or role))
    return Rule(
        f"{role.capitalize()}_{number}",
        short(f"{role}: {outcome}"),
        Element(f"{role.capitalize()}_{number}_start", "startEvent", short(rule_label(rule)), trigger_of(rule)),
        Element(f"{role.capitalize()}_{number}_end", "endEvent", short(outcome)),
        (role, as_json(rule)),
    )
