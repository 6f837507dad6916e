"""What must hold for a plan as a graph: no loop without a wait, no step that nothing leads to."""

from collections.abc import Iterator

from journeys.plan import Act, Choose, End, Parallel, Plan, Split, Step, Wait


def successors(step: Step) -> tuple[int, ...]:  # noqa: PLR0911 - one line a kind
    """The steps that a step may lead to, in the order they are written."""
    match step:
        case Choose():
            return (*(to for _, to in step.branches), step.otherwise)
        case Split():
            return tuple(arm.next for arm in step.arms)
        case Wait():
            ways = [*(way.next for way in step.until), *(way.next for way in step.watches), step.next]
            return (*ways, step.date.missing) if step.date else tuple(ways)
        case Parallel():
            return tuple(branch.next for branch in step.branches)
        case Act():
            return (*(way.next for way in step.ways), *(() if step.next is None else (step.next,)))
        case End():
            return ()
    return (step.next,)


def _rests(step: Step) -> bool:
    """Whether a contact stays there for some time. A window may be open, a date past, criteria hold already."""
    return isinstance(step, Wait) and not (step.window or step.date or step.watches)


def at_once(plan: Plan) -> set[int]:
    """The steps that a contact may come to without resting anywhere, from its entry on."""
    return {0, *_reached(plan, 0, through_waits=False)}


def unreachable(plan: Plan) -> list[int]:
    """The steps that no way leads to."""
    reached = set(_reached(plan, 0, through_waits=True)) | {0}
    return [number for number in range(len(plan.steps)) if number not in reached]


def restless_loops(plan: Plan) -> list[list[int]]:
    """Loops in which a contact would run for ever without waiting, from a step back to itself."""
    loops: list[list[int]] = []
    named: set[int] = set()
    for number in range(len(plan.steps)):
        if number in named or _rests(plan.steps[number]):
            continue
        came_from = _reached(plan, number, through_waits=False)
        if number in came_from:
            loop = _way_back(came_from, number)
            named.update(loop)
            loops.append(loop)
    return loops


def _reached(plan: Plan, start: int, *, through_waits: bool) -> dict[int, int]:
    """The steps that can be reached from one, each with the step it was first reached from."""
    came_from: dict[int, int] = {}
    front = [start]
    while front:
        here = front.pop(0)
        if _rests(plan.steps[here]) and not through_waits:
            continue
        for there in successors(plan.steps[here]):
            if there not in came_from:
                came_from[there] = here
                front.append(there)
    return came_from


def _way_back(came_from: dict[int, int], number: int) -> list[int]:
    return [number, *reversed(list(_backwards(came_from, number))), number]


def _backwards(came_from: dict[int, int], number: int) -> Iterator[int]:
    here = came_from[number]
    while here != number:
        yield here
        here = came_from[here]
