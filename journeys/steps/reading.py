"""How a list of steps is read: which model each mapping is, by the one key that names a registered kind."""

from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from core.documents import did_you_mean
from journeys.steps.grammar import Called, Slug, StepNode, Steps, as_tuple, refusal
from journeys.steps.kind import Kind
from journeys.steps.registry import BY_KEY

_EVERYWHERE = {"id", "then", "else", "template", "until"}
"""Keys that say nothing of what was meant when the kind is missing."""


def registered(name: Literal["Steps", "Branch"]) -> Any:
    """What `grammar.Steps` and `grammar.Branch` stand for. They have names, so that models may lead back to them."""
    return _named(name, tuple(BY_KEY))


@cache
def _named(name: str, _kinds: tuple[str, ...]) -> Any:
    return TypeAliasType(name, _steps() if name == "Steps" else _branch())


def _steps() -> Any:
    one: Any = _step()
    items: Any = Annotated[list[one], Field(min_length=1, max_length=200)]
    return Annotated[
        tuple[one, ...],
        BeforeValidator(as_tuple, json_schema_input_type=items),
        Field(min_length=1, max_length=200),
        Called("steps"),
    ]


def _branch() -> Any:
    return Annotated[
        Annotated[Slug, Tag("branch:target")] | Annotated[Steps, Tag("branch:steps")],
        Discriminator(lambda value: "branch:target" if isinstance(value, str) else "branch:steps"),
        BeforeValidator(_target_or_steps),
        Called("id of a step, or steps"),
    ]


def _step() -> Any:
    members = tuple(_member(kind) for kind in BY_KEY.values())
    return Annotated[Union[members], Discriminator(_tag), BeforeValidator(_one_kind)]  # noqa: UP007


def _member(kind: Kind) -> Any:
    if not kind.bare:
        return Annotated[kind.model, Tag(f"step:{kind.key}")]
    spelled: Any = kind.model | Literal[kind.key]
    read = BeforeValidator(lambda value: {value: None} if value == kind.key else value, json_schema_input_type=spelled)
    return Annotated[kind.model, read, Tag(f"step:{kind.key}")]


def _target_or_steps(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        return value
    raise refusal("where to go is expected here", "write the id of a step, or a list of steps")


def _tag(value: Any) -> str:
    if isinstance(value, StepNode):
        return next(f"step:{key}" for key, kind in BY_KEY.items() if type(value) is kind.model)
    return f"step:{value if isinstance(value, str) else _kinds(value)[0]}"


def _kinds(value: Any) -> list[str]:
    return [key for key in BY_KEY if isinstance(value, dict) and key in value]


def _one_kind(value: Any) -> Any:
    """Before the union chooses: refuse, in words, what is not one step."""
    kinds = _kinds(value)
    bare = isinstance(value, str) and value in BY_KEY and BY_KEY[value].bare
    if bare or isinstance(value, StepNode) or len(kinds) == 1:
        return value
    raise _unclear(value, kinds)


def _unclear(value: Any, kinds: list[str]) -> PydanticCustomError:
    known = tuple(BY_KEY)
    if len(kinds) > 1:
        message = f"this step has two kinds: {' and '.join(kinds)}"
        return refusal(message, "make it two steps, each with its own dash")
    if not isinstance(value, dict):
        listed = f"write a mapping with one of: {', '.join(known)}"
        return refusal("a step is expected here", did_you_mean(value, known) if isinstance(value, str) else listed)
    words = [str(key) for key in value if key not in _EVERYWHERE]
    for word in words:
        mend = did_you_mean(word, known)
        if mend.startswith("did"):
            return refusal(f"there is no step {word}", mend)
    named = f"there is no step {words[0]}" if words else "this step does not say what it does"
    return refusal(named, "steps are: " + ", ".join(known))
