"""Where the branches of a step stand: found from the language's models, so that a new step kind needs nothing here.

A branch is what a model of `journeys.steps` declares as `Branch` (or as `Steps`): the `then` of an `if`, of a case,
of an arm, of an event. Its place is the path inside the step as written: `("until", 0, "then")`.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag

from core.documents import Path
from journeys.steps.grammar import Branch, StepNode, Steps
from journeys.steps.registry import BY_KEY


def kind_of(step: dict[str, Any]) -> str:
    """The kind of a step as written."""
    return next(kind for kind in BY_KEY if kind in step)


def places(step: dict[str, Any]) -> list[Path]:
    """Where branches stand in a step, or could stand if they were written, in the order of the models."""
    return list(_walk(BY_KEY[kind_of(step)].model, step, ()))


def read(step: StepNode) -> Iterator[tuple[Path, tuple[StepNode, ...]]]:
    """The branches of a step that was read, each with its place in the step; those that only name a step left out."""
    yield from _read(step, ())


def _read(value: Any, path: Path) -> Iterator[tuple[Path, tuple[StepNode, ...]]]:
    if isinstance(value, tuple) and value and isinstance(value[0], StepNode):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, key in _keys(type(value)).items():
            yield from _read(getattr(value, name), (*path, key))
    elif isinstance(value, dict | tuple):
        for part, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _read(inside, (*path, part))


def required(step: dict[str, Any], place: Path) -> bool:
    """Whether the branch at this place must be written."""
    return place in set(_walk(BY_KEY[kind_of(step)].model, step, (), only_required=True))


def _walk(hint: Any, value: Any, path: Path, *, only_required: bool = False) -> Iterator[Path]:
    if hint in (Branch, Steps):
        yield path
        return
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _walk(get_args(hint)[0], value, path, only_required=only_required)
    elif origin in (Union, UnionType):
        yield from _optional(hint, value, path, only_required=only_required)
    elif value is not None:
        for inner, part, place in _inside(hint, origin, value, path):
            yield from _walk(inner, part, place, only_required=only_required)


def _optional(hint: Any, value: Any, path: Path, *, only_required: bool) -> Iterator[Path]:
    members = [member for member in get_args(hint) if member is not NoneType]
    branch = next((member for member in members if member in (Branch, Steps)), None)
    if branch is not None:
        if not only_required:
            yield path
        return
    if value is None:
        return
    fitting = [member for member in members if _fits(member, value)]
    for member in fitting[:1]:
        yield from _walk(member, value, path, only_required=only_required)


def _fits(member: Any, value: Any) -> bool:
    while get_origin(member) is Annotated:
        member = get_args(member)[0]
    if isinstance(member, type) and issubclass(member, BaseModel):
        return isinstance(value, dict) and set(value) <= set(_keys(member).values())
    origin = get_origin(member) or member
    if origin is tuple:
        return isinstance(value, list)
    return not isinstance(origin, type) or isinstance(value, origin)


def _inside(hint: Any, origin: Any, value: Any, path: Path) -> Iterator[tuple[Any, Any, Path]]:
    """The parts of a value, each with its type and its place."""
    if origin in (tuple, list):
        inner = get_args(hint)[0]
        if isinstance(value, list):
            yield from ((inner, part, (*path, index)) for index, part in enumerate(value))
        elif isinstance(value, dict):  # a lone mapping is a list of one
            yield inner, value, path
    elif origin is dict and isinstance(value, dict):
        yield from ((get_args(hint)[1], part, (*path, str(key))) for key, part in value.items())
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        mapping = value if isinstance(value, dict) else {}  # a bare number is an arm without a branch
        hints = _hints(hint)
        for name, key in _keys(hint).items():
            yield hints[name], mapping.get(key), (*path, key)


def keys_at(whole: type[BaseModel], place: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that a mapping knows; its place is as pydantic names it, with the tags of unions between the keys."""
    steps = [index for index, part in enumerate(place) if str(part).startswith("step:")]
    if steps:
        whole, place = BY_KEY[str(place[steps[-1]]).removeprefix("step:")].model, place[steps[-1] + 1 :]
    hints: list[Any] = [whole]
    for part in place:
        hints = [inside for hint in hints for inside in _into(hint, part)]
    return tuple(key for hint in hints for model in _models(hint) for key in _keys(model).values())


def _into(hint: Any, part: str | int) -> Iterator[Any]:
    """The types at a key, an index or the tag of a union."""
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _into(get_args(hint)[0], part)
    elif origin in (Union, UnionType):
        members = get_args(hint)
        tagged = [one for one in members if get_origin(one) is Annotated and Tag(str(part)) in one.__metadata__]
        yield from tagged or [inside for member in members for inside in _into(member, part)]
    elif origin is dict:
        yield get_args(hint)[1]
    elif origin in (tuple, list) and isinstance(part, int):
        yield get_args(hint)[0]
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        yield from (_hints(hint)[name] for name, key in _keys(hint).items() if key == part)


def _models(hint: Any) -> Iterator[type[BaseModel]]:
    if get_origin(hint) in (Annotated, Union, UnionType):
        for member in get_args(hint)[: 1 if get_origin(hint) is Annotated else None]:
            yield from _models(member)
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint


@cache
def _hints(model: type[BaseModel]) -> dict[str, Any]:
    return get_type_hints(model, include_extras=True)


def _keys(model: type[BaseModel]) -> dict[str, str]:
    return {name: field.alias or name for name, field in model.model_fields.items()}


def at(data: Any, path: Path) -> Any:
    """What stands at a place; None if nothing does."""
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def written(data: dict[str, Any], path: Path) -> bool:
    """Whether the key at the end of a path is there, whatever its value."""
    holder = at(data, path[:-1])
    return isinstance(holder, dict) and path[-1] in holder


def put(data: dict[str, Any], path: Path, value: Any) -> None:
    """Write a branch at its place; a bare number on the way becomes a mapping with that weight."""
    here: Any = data
    for part in path[:-1]:
        if not isinstance(here[part], dict | list):
            here[part] = {"weight": here[part]}
        here = here[part]
    here[path[-1]] = value


def without_branches(step: dict[str, Any]) -> dict[str, Any]:
    """A copy of a step in which null stands where a branch was written."""
    bare = step
    for place in places(step):
        if written(bare, place):
            bare = _nulled(bare, place)
    return bare


def _nulled(data: Any, path: Path) -> Any:
    if not path:
        return None
    if isinstance(data, dict):
        return {key: _nulled(value, path[1:]) if key == path[0] else value for key, value in data.items()}
    return [_nulled(value, path[1:]) if index == path[0] else value for index, value in enumerate(data)]
