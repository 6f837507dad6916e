"""Every kind of step. A new one is a file in this folder and a line here."""

from typing import Any

from journeys.plan import Act, Step
from journeys.steps import (
    ask,
    call,
    choose,
    consent,
    delete,
    end,
    enroll,
    goto,
    notify,
    parallel,
    score,
    segment,
    send,
    show,
    split,
    suppress,
    tag,
    update,
    wait,
)
from journeys.steps.grammar import StepNode
from journeys.steps.kind import Effect, Kind, Told

KINDS: tuple[Kind, ...] = (
    send.KIND,
    wait.KIND,
    choose.IF,
    choose.CHOOSE,
    split.KIND,
    parallel.KIND,
    update.KIND,
    tag.KIND,
    consent.KIND,
    suppress.KIND,
    score.KIND,
    segment.KIND,
    notify.KIND,
    call.KIND,
    enroll.KIND,
    ask.KIND,
    show.SHOW,
    show.HIDE,
    delete.KIND,
    goto.KIND,
    end.KIND,
)

BY_KEY: dict[str, Kind] = {kind.key: kind for kind in KINDS}


def kind_of(step: StepNode) -> Kind:
    """The kind of a step as it was read."""
    return next(kind for kind in BY_KEY.values() if type(step) is kind.model)


def effect_of(step: Act) -> Effect[Any]:
    """What a compiled step does.

    Raises:
        LookupError: no kind here does this; another version of Kaskad published it.
    """
    kind = BY_KEY.get(step.kind)
    if kind is None or kind.effect is None:
        raise LookupError(f"step {step.id}: nothing is known of steps that {step.kind}")
    return kind.effect


def told_of(step: Step) -> Told:
    """The words of a compiled step that is no `Act`."""
    return next(kind.told[step.kind] for kind in BY_KEY.values() if step.kind in kind.told)
