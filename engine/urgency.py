"""Whose work goes first in every task queue: alerts before triggered messages before broadcasts. Pure; a part of the
cohort workflow."""

from journeys.plan import Notify, Plan, Send

_PRIORITY = {"alert": 1, "triggered": 3, "broadcast": 5}
"""As Temporal counts: 1 goes first, 5 last."""


def of_step(step: Send | Notify, *, broadcast: bool) -> int:
    """Of a message of a step. In the cohort of a broadcast all but alerts are broadcast messages."""
    if isinstance(step, Notify):
        return _PRIORITY["alert"]
    return _PRIORITY["broadcast" if broadcast and step.priority == "triggered" else step.priority]


def of_plan(plan: Plan, *, broadcast: bool) -> int:
    """Of everything else that a cohort has done for it: as its least urgent message to contacts, so that one alert
    among them does not put a broadcast of millions before other journeys."""
    sends = [of_step(step, broadcast=broadcast) for step in plan.steps if isinstance(step, Send)]
    return max(sends, default=_PRIORITY["broadcast" if broadcast else "triggered"])
