"""What elements mean that Kaskad did not draw: by their kind, and by what their name or documentation says."""

import re
from typing import Any

from core import documents
from core.documents import did_you_mean
from core.errors import InvalidInput
from journeys.bpmn.markup import Tag
from journeys.bpmn.source import BPMN
from journeys.steps.registry import BY_KEY
from journeys.steps.send import CHANNELS
from segments import criteria

TASKS = frozenset(
    {"task", "sendTask", "serviceTask", "userTask", "manualTask", "scriptTask", "businessRuleTask", "callActivity"}
)
_SHARE = re.compile(r"(?P<name>.*?)[\s:(]*(?P<weight>[0-9]{1,3}(?:\.[0-9]{1,3})?)\s?%\)?")
_MADE_BY_A_TOOL = re.compile(r"(?:[A-Za-z]+_)+(?=[0-9a-z]*[0-9])[0-9a-z]{5,9}|[A-Za-z]+_[0-9]+|sid-[0-9A-Fa-f-]+")
_PLAIN_NAMES = {
    "process": "process",
    "exclusiveGateway": "choice",
    "eventBasedGateway": "wait",
    "parallelGateway": "parallel",
    "intermediateCatchEvent": "wait",
    "endEvent": "end",
}
TASK_MEND = (
    "name it like “email: welcome”, or write the step into its documentation, such as send: email, template: welcome"
)


def step_of(tag: Tag) -> dict[str, Any] | None:
    """The step that a task stands for, as its documentation or its name says; None if they do not."""
    texts = [one.text for one in tag.each(BPMN, "documentation")] + [tag.attributes.get("name", "")]
    if tag.name == "callActivity" and tag.attributes.get("calledElement"):
        texts.append(f"enroll: {slug(tag.attributes['calledElement'].removeprefix('Journey_'))}")
    for text in texts:
        step = _step(text)
        if step is not None:
            return step
    return None


def _step(text: str) -> dict[str, Any] | None:
    data = mapping(text)
    if data is None:
        return None
    first, value = next(iter(data.items()))
    channel = first.lower().removeprefix("send ").replace(" ", "")
    if channel in CHANNELS and isinstance(value, str) and len(data) == 1:
        return {"send": channel, "template": value}
    kinds = [kind for kind in BY_KEY if kind in data]
    return data if len(kinds) == 1 and kinds[0] in _task_kinds() else None


def _task_kinds() -> tuple[str, ...]:
    return tuple(key for key, kind in BY_KEY.items() if kind.element in TASKS)


def mapping(text: str) -> dict[str, Any] | None:
    """What a text says as YAML, if that is a mapping; commas may stand for lines."""
    for form in (text, "{" + text + "}"):
        try:
            data = documents.read(form).data
        except InvalidInput:
            continue
        if isinstance(data, dict) and data and None not in data.values():
            return data
    return None


def task_mend(tag: Tag) -> str:
    """What to write on a task that does not say what it does."""
    word = re.split(r"\W", tag.attributes.get("name", "").lower(), maxsplit=1)[0]
    near = did_you_mean(word, (*CHANNELS, *_task_kinds())) if word else ""
    return f"{near} {TASK_MEND}" if near.startswith("did") else TASK_MEND


def criteria_of(text: str) -> dict[str, Any] | None:
    """Criteria in a condition or on a flow; None if it is anything else, such as an expression of another engine."""
    data = mapping(text)
    if data is None:
        return None
    try:
        criteria.parse(data, in_journey=True)
    except InvalidInput:
        return None
    return data


def share_of(name: str) -> tuple[str, float] | None:
    """The arm and its weight in a name such as `holdout (10%)`."""
    match = _SHARE.fullmatch(name.strip())
    if match is None or not float(match["weight"]):
        return None
    weight = float(match["weight"])
    return slug(match["name"]), int(weight) if weight.is_integer() else weight


def slug(text: str) -> str:
    """A name in small letters, digits and dashes; empty if the text has nothing of these."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80].strip("-")


def name_of(tag: Tag) -> str:
    """What a step would be called if it has to be gone to: by its id if a person chose it, else by its name."""
    key = tag.attributes.get("id", "")
    chosen = "" if _MADE_BY_A_TOOL.fullmatch(key) else slug(key)
    return chosen or slug(tag.attributes.get("name", "")) or _PLAIN_NAMES.get(tag.name, slug(tag.name))
