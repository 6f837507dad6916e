"""From a journey as written to the plan that the machine runs. The files of `journeys.steps` compile the steps."""

from typing import Any

from core.documents import Path
from core.errors import InvalidInput
from journeys import timing
from journeys.language import Enter, Journey
from journeys.plan import ANY_EVENT, AttributeDate, Conversion, End, Ending, Endings, Entry, EventFilter, Plan, Rules
from journeys.steps.grammar import DEFAULT_OUTCOME, StepNode, split_where
from journeys.steps.place import END, Assembler, Draft, Place, event_filter
from journeys.steps.registry import kind_of
from journeys.steps.wait import LOOK_SECONDS
from segments import eventfilter
from segments.naming import ENTERED, LEFT


def compile(journey: Journey, hasten: float = 1.0) -> Plan:  # noqa: A001 - callers write journeys.compile
    """Compile a journey.

    Args:
        journey: as `journeys.load` gives it.
        hasten: waits and cooldowns are divided by this, for demonstrations. A wait for a time of day becomes half a
            day divided by it.

    Raises:
        InvalidInput: `hasten` is not a positive number, or a target does not exist.
    """
    return assemble(journey, hasten).plan


class Assembly:
    """A plan with the places in the YAML that its steps come from."""

    def __init__(self, plan: Plan, paths: tuple[Path, ...], idle: tuple[Path, ...]) -> None:
        self.plan = plan
        self.paths = paths
        """By step number."""
        self.idle = idle
        """Of `goto`s that nothing leads to; they left no step."""


def assemble(journey: Journey, hasten: float = 1.0) -> Assembly:
    """Compile a journey, keeping track of where steps come from; see `compile`."""
    if not 0 < hasten < float("inf"):
        raise InvalidInput("hasten is a positive number")
    priority = journey.priority or ("broadcast" if journey.enter.segment and not journey.enter.on else "triggered")
    steps = Assembler(journey.journey, journey.document, journey.steps, priority=priority, hasten=hasten, draft=_draft)
    first = steps.block(journey.steps, ("steps",), END)
    if journey.steps[0].stands_for() is not None:
        raise InvalidInput(journey.document.problem(("steps", 0), "a journey cannot begin with goto", "begin there"))
    steps.used.add(first)
    endings = _endings(journey, steps)
    made = [draft() for draft in steps.drafts]
    if END in steps.used:
        made.append(End(id=steps.name("end", None), outcome=DEFAULT_OUTCOME))
        steps.paths.append(("steps",))
    plan = Plan(
        journey=journey.journey,
        title=journey.name or journey.journey,
        entry=_entry(journey.enter, hasten),
        steps=tuple(made),
        criteria=tuple(steps.criteria),
        subscriptions=tuple(steps.subscriptions),
        endings=endings,
        rules=_rules(journey, hasten),
        conversion=_conversion(journey, hasten),
        hasten=hasten,
    )
    idle = tuple(path for label, path in steps.gotos.items() if label not in steps.used)
    return Assembly(plan, tuple(steps.paths), idle)


def _endings(journey: Journey, steps: Assembler) -> Endings | None:
    """What ends the journey wherever a contact stands: subscribes to the events, gives the criteria."""
    met: list[Ending] = []
    for role, rules in (("goal", journey.goal), ("exit", journey.exit)):
        for rule in rules:
            outcome = rule.outcome or role
            if rule.when is not None:
                met.append(Ending(role=role, criteria=steps.criterion(rule.when), outcome=outcome))
            else:
                steps.subscribe(role, event_filter(str(rule.event), rule.where), outcome)
    if not met:
        return None
    watching = steps.subscribe("watch", EventFilter(event=ANY_EVENT))
    return Endings(rules=tuple(met), subscription=watching, look_seconds=max(1.0, LOOK_SECONDS / steps.hasten))


def _draft(step: StepNode, place: Place) -> Draft:
    compile_step = kind_of(step).compile
    assert compile_step is not None, "a step that only leads to another has no place of its own"  # noqa: S101
    return compile_step(step, place)


def _rules(journey: Journey, hasten: float) -> Rules:
    limits = journey.limits
    within = timing.duration(limits.within).total_seconds() if limits and limits.within else 86_400
    real = hasten == 1  # nobody waits for the morning in a demonstration
    return Rules(
        quiet=timing.span(journey.quiet_hours) if journey.quiet_hours and real else None,
        window=journey.send_window.window() if journey.send_window and real else None,
        cap=limits.messages if limits else None,
        cap_seconds=max(1, int(within / hasten)),
        per_minute=limits.per_minute if limits else None,
        budget=limits.budget if limits else None,
    )


def _conversion(journey: Journey, hasten: float) -> Conversion | None:
    wanted = journey.conversion
    if wanted is None:
        return None
    return Conversion(
        filter=event_filter(wanted.event, wanted.where),
        within_seconds=timing.duration(wanted.within).total_seconds() / hasten,
        value=wanted.value.removeprefix(eventfilter.PREFIX) if wanted.value else None,
    )


def _entry_event(enter: Enter, where: dict[str, Any]) -> EventFilter | None:
    if enter.on and enter.segment:
        name = LEFT if enter.on == "left" else ENTERED
        return EventFilter(event=name, where={"segment": enter.segment})
    return event_filter(enter.event, where) if enter.event else None


def _entry_date(enter: Enter) -> AttributeDate | None:
    if enter.date is None:
        return None
    offset = timing.duration(enter.plus).total_seconds() if enter.plus else 0.0
    offset -= timing.duration(enter.minus).total_seconds() if enter.minus else 0.0
    return AttributeDate(
        attribute=enter.date.removeprefix("contact."),
        offset_seconds=offset,
        time=timing.clock(enter.at) if enter.at else None,
        zone=timing.zone(enter.zone) if enter.zone else "contact",
        yearly=enter.yearly,
    )


def _entry(enter: Enter, hasten: float) -> Entry:
    about_event, about_contact = split_where(enter.where or {})
    reenter = enter.reenter or ("after_exit" if enter.schedule or enter.yearly else "never")
    cooldown = timing.duration(enter.cooldown).total_seconds() / hasten if enter.cooldown else 0
    return Entry(
        event=_entry_event(enter, about_event),
        criteria=about_contact or None,
        segment=enter.segment,
        present=enter.on == "in",
        date=_entry_date(enter),
        cron=enter.schedule and timing.schedule(enter.schedule).cron,
        rrule=enter.schedule and timing.schedule(enter.schedule).rrule,
        zone=timing.zone(enter.zone) if enter.zone else "UTC",
        key=enter.key.removeprefix(eventfilter.PREFIX) if enter.key else None,
        reenter=reenter,
        cooldown_seconds=cooldown,
    )
