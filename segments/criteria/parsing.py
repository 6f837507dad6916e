"""Reading criteria from data."""

from typing import Any

from core.documents import did_you_mean, parts
from core.errors import InvalidInput, Problem
from segments.criteria import tree
from segments.criteria.attribute import Attribute
from segments.criteria.base import Context, Criteria
from segments.criteria.company import PREFIX, Company
from segments.criteria.registry import BY_KEY
from segments.criteria.segment import Segment

DEPTH_LIMIT = 10
NODE_LIMIT = 300

TREE_KEYS = ("all", "any", "none", "not", "include", "exclude")
"""Keys of criteria over criteria. `include` and `exclude` also take names of segments."""


def parse(data: Any, path: str = "", *, in_journey: bool = False) -> Criteria:
    """Read criteria.

    Args:
        data: a mapping, as YAML or JSON gives it.
        path: JSON Pointer of where it stands, put before the path of each problem.
        in_journey: whether a contact is asked about on its way through a journey, so that `{same: cart_id}` may
            compare with the event that began the run. Such criteria are for `segments.matching_runs` only.

    Raises:
        InvalidInput: with every problem found.
    """
    problems: list[Problem] = []
    criteria = _mapping(data, Context(parts(path), problems, in_journey=in_journey))
    if not problems and criteria is not None and criteria.size() > NODE_LIMIT:
        problems.append(Problem(f"{criteria.size():,} criteria, more than {NODE_LIMIT}", "use segments", path=path))
    if problems or criteria is None:
        raise InvalidInput(*problems)
    return criteria


def _mapping(data: Any, context: Context) -> Criteria | None:
    """Several keys in one mapping must all hold."""
    if context.depth > DEPTH_LIMIT:
        context.problem(f"criteria nested more than {DEPTH_LIMIT} deep", "make them flatter, or use segments")
        return None
    if not isinstance(data, dict) or not data:
        context.problem("criteria are expected here", "write a mapping such as {contact.city: Moscow}")
        return None
    found = [_item(str(key), value, context.under(key)) for key, value in data.items()]
    items = [item for item in found if item is not None]
    return items[0] if len(items) == 1 else tree.All(items=tuple(items))


def _item(key: str, value: Any, context: Context) -> Criteria | None:
    if key in TREE_KEYS:
        return _branch(key, value, context.deeper())
    family = BY_KEY.get(key)
    if family is None and key.startswith("contact."):
        family = Attribute
    if family is None and key.startswith(PREFIX):
        family = Company
    if family is None:
        context.problem(f"unknown criterion {key}", _mend(key))
        return None
    return family.read(key, value, context)


def _branch(key: str, value: Any, context: Context) -> Criteria | None:
    if key == "not":
        item = _mapping(value, context)
        return tree.Not(item=item) if item is not None else None
    if key in {"include", "exclude"} and not isinstance(value, list):
        value = [value]
    if not isinstance(value, list) or not value:
        context.problem(f"{key} takes a list of criteria", f"write {key}: [{{contact.tags: vip}}, …]")
        return None
    by_name = key in {"include", "exclude"}
    found = [_part(one, context.under(index), by_name=by_name) for index, one in enumerate(value)]
    items = tuple(item for item in found if item is not None)
    if key == "all":
        return tree.All(items=items)
    some = tree.Any(items=items)
    return tree.Not(item=some) if key in {"none", "exclude"} else some


def _part(data: Any, context: Context, *, by_name: bool) -> Criteria | None:
    """Criteria of a list; where segments may stand by name, a text is one."""
    if by_name and isinstance(data, str):
        return Segment.read("contact.segments", data, context)
    return _mapping(data, context)


def _mend(key: str) -> str:
    if key.startswith("event."):
        return "properties of an event can only be tested where there is an event: in where"
    known = (*TREE_KEYS, *BY_KEY)
    return did_you_mean(key, known) or f"did you mean contact.{key}?"
