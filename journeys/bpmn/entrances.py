"""How contacts enter, and what ends the journey wherever they stand: start events and event sub-processes."""

from dataclasses import dataclass, field
from typing import Any

from core.documents import Path
from journeys.bpmn.changes import CRITERIA_MEND
from journeys.bpmn.chart import BOTTOM
from journeys.bpmn.drawing import entrance_of, trigger_of
from journeys.bpmn.foreign import criteria_of, mapping
from journeys.bpmn.labels import short
from journeys.bpmn.markup import Tag
from journeys.bpmn.source import BPMN, Definition, Source


@dataclass
class Found:
    """Keys of a journey, and by place the elements they come from."""

    data: dict[str, Any] = field(default_factory=dict)
    tags: dict[Path, Tag] = field(default_factory=dict)
    target: str = BOTTOM


def entrance(source: Source) -> Found:
    """The start event of a process."""
    starts = [tag for tag in source.nodes.values() if tag.name == "startEvent"]
    found = Found()
    if not starts:
        source.refuse(source.process, "there is no start event", "draw one")
        return found
    for extra in starts[1:]:
        source.refuse(extra, "a journey is entered in one way", "take it out, or make it a journey of its own")
    start = starts[0]
    enter = _entrance(source, start)
    found.tags[("enter",)] = start
    if enter is not None:
        found.data["enter"] = enter
    leaving = source.leaving(start.attributes.get("id", ""))
    if len(leaving) == 1:
        found.target = leaving[0].target
    else:
        source.refuse(start, f"{len(leaving)} flows leave it, not one", "begin with one step; use gateways behind it")
    return found


def _entrance(source: Source, tag: Tag) -> dict[str, Any] | None:
    own = source.detail(tag, "enter")
    definition = next(iter(source.definitions(tag)), None)
    if own is not None:
        return _changed(source, tag, own[1], definition)
    if definition is None:
        return None
    if definition.kind == "timer":
        return _schedule(source, tag, definition)
    found = _begun_by(definition)
    if found is None:
        source.refuse(
            tag,
            f"a start by {definition.kind} has no meaning here",
            "begin with a timer, with a message or signal that has a name, or on the condition contact.segments: X",
        )
    return found


def _begun_by(definition: Definition) -> dict[str, Any] | None:
    """How contacts enter by what another tool drew."""
    member = (mapping(definition.body) or {}) if definition.kind == "conditional" else {}
    if list(member) == ["contact.segments"] and isinstance(member["contact.segments"], str):
        return {"segment": member["contact.segments"], "on": "entered"}
    key = {"message": "event", "signal": "segment"}.get(definition.kind)
    return {key: definition.body} if key and definition.body else None


def _changed(source: Source, tag: Tag, own: dict[str, Any], definition: Definition | None) -> dict[str, Any]:
    """Our detail, with what was changed in the event definition since."""
    trigger = entrance_of(own)[1]
    before = None if trigger is None else (trigger.kind, trigger.body)
    now = None if definition is None else (definition.kind, definition.body)
    if before == now:
        return own
    key = {"message": "event", "timer": "schedule", "signal": "segment"}.get(definition.kind, "") if definition else ""
    if definition is None or key not in own:
        source.refuse(
            tag,
            "its event definition and its Kaskad details say different things",
            "take kaskad:enter out, or restore it",
        )
        return own
    return own | {key: definition.body}


def _schedule(source: Source, tag: Tag, definition: Definition) -> dict[str, Any] | None:
    cron = _cron(definition.body) if definition.form == "timeCycle" else None
    said = mapping(tag.attributes.get("name", "")) or {}
    if cron is None:
        source.refuse(
            tag,
            f"{definition.form} {definition.body} says no time of day",
            "write a timeCycle in cron, such as 0 9 * * mon",
        )
    elif "segment" not in said:
        source.refuse(
            tag, "a timer does not say who enters", "name it like “segment: readers”; segment: all is everybody"
        )
    else:
        return {"schedule": cron} | said
    return None


def _cron(body: str) -> str | None:
    """A recurrence rule; or cron of five fields; of six, as Java programs write it, if the seconds in front are 0."""
    fields = body.replace("?", "*").split()
    if len(fields) == 6 and fields[0] == "0":
        fields = fields[1:]
    return " ".join(fields) if len(fields) == 5 or body.startswith(("@", "FREQ=")) else None


# --- goals and exits


def rules(source: Source) -> Found:
    """The event sub-processes: goals and exits."""
    found = Found()
    for tag in source.nodes.values():
        if tag.name == "subProcess" and tag.attributes.get("triggeredByEvent") == "true":
            made = _rule(source, tag)
            if made is not None:
                role, rule = made
                listed = found.data.setdefault(role, [])
                found.tags[role, len(listed)] = tag
                found.tags.setdefault((role,), tag)
                listed.append(rule)
    found.data = {role: listed[0] if len(listed) == 1 else listed for role, listed in found.data.items()}
    return found


def _rule(source: Source, tag: Tag) -> tuple[str, dict[str, Any]] | None:
    inside = [one for one in tag.each(BPMN) if one.name in {"startEvent", "endEvent"}]
    start = next((one for one in inside if one.name == "startEvent"), None)
    definition = next(iter(source.definitions(start)), None) if start is not None else None
    steps = [
        one for one in tag.each(BPMN) if one.name not in {"startEvent", "endEvent", "sequenceFlow", "extensionElements"}
    ]
    for step in steps:
        source.refuse(step, "a goal or an exit only ends the journey", "take it out; act in the journey itself")
    if start is None or definition is None or start.attributes.get("isInterrupting") == "false":
        source.refuse(
            tag,
            "an event sub-process is a goal or an exit here",
            "begin it with one interrupting message or conditional event",
        )
        return None
    end = next((one.attributes.get("name", "") for one in inside if one.name == "endEvent"), "")
    for role in ("goal", "exit"):
        own = source.detail(tag, role)
        if own is not None:
            return role, _own_rule(source, start, own[1], definition, end, role)
    cause = _cause(source, start, definition)
    role = "goal" if tag.attributes.get("name", "").lower().startswith("goal") else "exit"
    return None if cause is None else (role, cause | ({"outcome": end} if end and end != role else {}))


def _cause(source: Source, start: Tag, definition: Definition) -> dict[str, Any] | None:
    """The event or the criteria that end the journey."""
    if definition.kind == "message" and definition.body:
        return {"event": definition.body}
    if definition.kind != "conditional":
        source.refuse(start, "only a message with a name, or a condition, ends a journey", "give it one of them")
        return None
    data = criteria_of(definition.body)
    if data is None:
        source.refuse(start, f"its condition {definition.body[:60]} is not criteria", CRITERIA_MEND)
        return None
    return {"when": data}


def _own_rule(
    source: Source, start: Tag, rule: dict[str, Any], definition: Definition, end: str, role: str
) -> dict[str, Any]:
    trigger = trigger_of(rule)
    if (definition.kind, definition.body) != (trigger.kind, trigger.body):
        if definition.kind != trigger.kind:
            source.refuse(
                start, "its event definition and its Kaskad details say different things", "restore one of them"
            )
            return rule
        rule = rule | (_cause(source, start, definition) or {})
    written = str(rule.get("outcome") or role)
    return rule if not end or end == short(written) else rule | {"outcome": end}
