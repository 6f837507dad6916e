"""Reading a journey from YAML: every problem at once, each with file, line, column and the mend."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core import documents
from core.documents import Document, Path, did_you_mean
from core.errors import InvalidInput, Problem
from journeys import branches, compiler, graph, language
from journeys.language import Journey
from journeys.plan import Join, Parallel
from journeys.steps.registry import BY_KEY

_TAGS = ("step:", "branch:", "wait:")
_SLUG_MEND = "use small letters, digits and dashes, such as second-reminder"
_BOUNDS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}
_SAID: dict[str, tuple[str, str]] = {
    "bool_type": ("true or false is expected here", "yes, no, on and off are words, not booleans"),
    "dict_type": ("a mapping is expected here", "write key: value, indented below"),
    "model_type": ("a mapping is expected here", "write key: value, indented below"),
    "model_attributes_type": ("a mapping is expected here", "write key: value, indented below"),
    "tuple_type": ("a list is expected here", "begin each item with a dash"),
    "float_parsing": ("a number is expected here", "write it in digits"),
    "float_type": ("a number is expected here", "write it in digits"),
    "int_type": ("a whole number is expected here", "write it in digits"),
    "int_from_float": ("a whole number is expected here", "take the fraction off"),
    "string_too_short": ("this is empty", "write something, or leave the key out"),
}


def load(text: str | bytes, file: str = "") -> Journey:
    """Read a journey and check all that can be checked without the database.

    Args:
        text: YAML, as text or as bytes in UTF-8.
        file: the name for messages.

    Raises:
        InvalidInput: with every problem found, in the order of lines.
    """
    document = documents.read(text, file)
    problems = list(_target_problems(document))
    journey: Journey | None = None
    try:
        journey = Journey.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problems += _translate(details, document)
    if journey is not None and not problems:
        journey._document = document
        problems += _graph_problems(journey)
    if journey is None or problems:
        raise InvalidInput(*sorted(set(problems), key=lambda one: (one.line, one.column, one.message)))
    return journey


# --- what the models found


def _translate(details: ErrorDetails, document: Document) -> list[Problem]:
    path: Path = tuple(
        part for part in details["loc"] if not (isinstance(part, str) and part.startswith(_TAGS)) and part != "[key]"
    )
    context = details.get("ctx", {})
    if details["type"] == "problems":
        return [
            document.problem((*path, *documents.parts(one.path)), one.message, one.mend) for one in context["problems"]
        ]
    if details["type"] == "too_short" and len(details["input"]) >= context["min_length"]:
        return []  # there are enough, but some are wrong, which is said of those
    return [document.problem(path, *_said(details, context))]


def _said(details: ErrorDetails, context: dict[str, Any]) -> tuple[str, str]:  # noqa: PLR0911 - one line a kind
    """An error of pydantic in our words, with the mend."""
    kind, loc = details["type"], details["loc"]
    match kind:
        case "words":
            return context["message"], context["mend"]
        case "missing":
            return f"{loc[-1]} is missing", f"add {loc[-1]}: …"
        case "extra_forbidden":
            return f"unknown key {loc[-1]}", did_you_mean(str(loc[-1]), branches.keys_at(Journey, loc[:-1]))
        case "literal_error":
            known = tuple(re.findall(r"'([^']*)'", context["expected"]))
            return f"{details['input']} is not known here", did_you_mean(str(details["input"]), known)
        case "string_pattern_mismatch":
            return f"{details['input']!r} cannot be a name", _SLUG_MEND
        case "string_type":
            return _no_text(details["input"], loc)
        case "too_short" | "too_long":
            least, most = context.get("min_length"), context.get("max_length")
            bound = f"at least {least}" if kind == "too_short" else f"at most {most}"
            return f"{bound} are expected here, not {context['actual_length']}", ""
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            (bound,) = (value for key, value in context.items() if key in {"gt", "ge", "lt", "le"})
            return f"{details['input']} is expected to be {_BOUNDS[kind]} {bound:g}", "write another number"
    return _SAID.get(kind, (details["msg"], ""))


def _no_text(value: Any, place: tuple[int | str, ...]) -> tuple[str, str]:
    if isinstance(value, int | float) and not isinstance(value, bool) and "wait:text" in place:
        return "a length of time has a unit", f"write wait: {value}d, or {value}h"
    if isinstance(value, list | dict):
        return "a text is expected here", "write it behind the colon, on one line"
    return "a text is expected here", "put it in quotes"


# --- ids and targets, looked up in the data as written, so that they are reported beside everything else


def _target_problems(document: Document) -> Iterator[Problem]:
    steps = document.data.get("steps") if isinstance(document.data, dict) else None
    places: dict[str, Path] = {}
    targets: list[tuple[Path, str]] = []
    number = 0
    for path, step in _raw_steps(steps, ("steps",)):
        number += 1
        name = step.get("id")
        if isinstance(name, str) and name in places:
            first = document.locate(places[name])[0]
            yield document.problem((*path, "id"), f"the id {name} stands twice; first on line {first}", "rename one")
        elif isinstance(name, str):
            places[name] = (*path, "id")
        targets += _raw_targets(step, path)
    if number > language.STEPS_LIMIT:
        yield document.problem(("steps",), f"{number} steps, more than {language.STEPS_LIMIT}", "make two journeys")
    for path, target in targets:
        if target not in places:
            mend = did_you_mean(target, tuple(places)) or f"give a step the id {target}"
            yield document.problem(path, f"there is no step {target}", mend)


def _raw_branches(step: dict[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    if any(key in step for key in BY_KEY):
        yield from (((*path, *place), branches.at(step, place)) for place in branches.places(step))
    else:  # a kind that does not exist: ids may stand in any list
        yield from (((*path, key), value) for key, value in step.items() if isinstance(value, list))


def _raw_steps(steps: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        if isinstance(step, dict):
            yield (*path, index), step
            for place, branch in _raw_branches(step, (*path, index)):
                yield from _raw_steps(branch, place)


def _raw_targets(step: dict[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(step.get("goto"), str):
        yield (*path, "goto"), step["goto"]
    for place, branch in _raw_branches(step, path):
        if isinstance(branch, str):
            yield place, branch


# --- what only shows once the steps are put together


def _graph_problems(journey: Journey) -> list[Problem]:
    assembly = compiler.assemble(journey)
    document, plan = journey.document, assembly.plan
    problems = list(_crossings(assembly, document))
    problems += [
        document.problem(path, "nothing leads to this step", "remove it, or give it an id and go to it")
        for path in (*(assembly.paths[number] for number in graph.unreachable(plan)), *assembly.idle)
    ]
    for loop in graph.restless_loops(plan):
        names = " → ".join(plan.steps[number].id for number in loop)
        message = f"a loop without a wait: {names}"
        problems.append(document.problem(assembly.paths[loop[0]], message, "put a wait between them"))
    return problems


def _crossings(assembly: compiler.Assembly, document: Document) -> Iterator[Problem]:
    """Ways that lead into or out of a branch of parallel other than by its fork and its join."""
    plan, paths = assembly.plan, assembly.paths
    for number, step in enumerate(plan.steps):
        here = _region(paths[number])
        inside = {here}
        if isinstance(step, Parallel):
            inside = {(*paths[number], "parallel", branch.name) for branch in step.branches}
        for there in graph.successors(step):
            if _region(paths[there]) in inside:
                continue
            if isinstance(plan.steps[there], Join) and paths[there] == here[:-2]:
                continue
            name = plan.steps[there].id
            message = f"{step.id} leads across the border of a parallel branch, to {name}"
            yield document.problem(paths[number], message, "let branches meet at their end; goto stays inside a branch")


def _region(path: Path) -> Path:
    """The innermost branch of parallel that a place lies in, as its path."""
    ends = [
        index + 2 for index, part in enumerate(path[:-2]) if part == "parallel" and isinstance(path[index - 1], int)
    ]
    return path[: ends[-1]] if ends else ()
