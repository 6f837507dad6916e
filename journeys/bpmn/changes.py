"""What was changed in a modeler since we drew it: the standard part of an element goes before its Kaskad details."""

from typing import Any

from core.documents import Path
from journeys import branches
from journeys.bpmn import foreign
from journeys.bpmn.chart import NEXT, Node
from journeys.bpmn.diagram import NAMESPACE, place_of
from journeys.bpmn.drawing import BOUNDARIES, condition_at, outcome_of, task_label, timer_of, trigger_of
from journeys.bpmn.labels import as_json, same_time, short
from journeys.bpmn.markup import Tag
from journeys.bpmn.source import Definition, Link, Source

CRITERIA_MEND = "write criteria as the condition or as the flow's name, such as contact.tags: vip"


def way_of(source: Source, key: str) -> Path | None:
    """The branch of its step that an element belongs to, if it says so."""
    way = source.nodes[key].own(NAMESPACE, "way")
    return None if way is None else place_of(way)


def taken_over(source: Source, node: Node, group: set[str], exits: list[Link]) -> None:
    """Write what elements and flows say now into the details of the step that they belong to.

    Args:
        source: the file.
        node: the step, with its details as we wrote them.
        group: its elements.
        exits: the flows that leave them.
    """
    data = node.data
    for key in group:
        tag = source.nodes[key]
        for definition in source.definitions(tag):
            _changed_event(source, node, key, tag, definition)
    for link in exits:
        if link.condition and link.way is not None:
            _changed_condition(source, node, link)
    tag = source.nodes[node.key]
    name = tag.attributes.get("name", "").strip()
    if node.kind == "end" and name and name != short(outcome_of(data)):
        data["end"] = name
    elif node.kind == "send" and name != task_label(data):
        step = foreign.step_of(tag)
        if step is not None and "send" in step:
            data |= step
    called = tag.attributes.get("calledElement", "").removeprefix("Journey_")
    if node.kind == "enroll" and called:
        data["enroll"] = called


def _changed_event(source: Source, node: Node, key: str, tag: Tag, definition: Definition) -> None:
    way = way_of(source, key)
    if definition.kind == "timer":
        limit = BOUNDARIES.get(str(way[0]), "") if way and way != NEXT else "wait"
        now = node.data.get(limit)
        before = timer_of(now)
        if (before.form, before.body) == (definition.form, definition.body):
            return
        if not (isinstance(now, str) and definition.form == "timeDuration" and same_time(now, definition.body)):
            node.data[limit] = source.duration(tag, definition) or now
    elif definition.kind in {"message", "conditional"} and way is not None:
        _changed_rule(source, branches.at(node.data, way[:-1]), tag, definition)


def _changed_rule(source: Source, rule: Any, tag: Tag, definition: Definition) -> None:
    if not isinstance(rule, dict) or definition.body == trigger_of(rule).body:
        return
    if definition.kind == "message" and "event" in rule and definition.body:
        rule["event"] = definition.body
    elif definition.kind == "conditional" and "when" in rule:
        _changed_criteria(source, rule, "when", definition.body, tag)
    else:
        source.refuse(tag, "its event definition and its Kaskad details say different things", "restore one of them")


def _changed_condition(source: Source, node: Node, link: Link) -> None:
    place = link.way or ()
    before = condition_at(node.data, place)
    if before is not None and link.condition == as_json(before):
        return
    holder = branches.at(node.data, place[:-1])
    if node.kind == "if" and place == ("then",):
        _changed_criteria(source, node.data, "if", link.condition, link.tag)
    elif isinstance(holder, dict) and "when" in holder:
        _changed_criteria(source, holder, "when", link.condition, link.tag)
    else:
        source.refuse(link.tag, "a condition has no meaning here", "take it out")


def _changed_criteria(source: Source, holder: dict[str, Any], key: str, text: str, tag: Tag) -> None:
    data = foreign.mapping(text)
    if data is None:
        source.refuse(tag, f"its condition {text[:60]} is not criteria", CRITERIA_MEND)
    else:
        holder[key] = data
