"""What values a template uses, and refusing those it never could have."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from core.errors import Problem

ROOTS = {
    "contact": "the contact's attributes and id, email, phone, language, time_zone, tags",
    "event": "properties of the event that began the journey",
    "journey": "name and title",
    "unsubscribe_url": "the page where the contact unsubscribes",
    "preferences_url": "the page where the contact chooses what it gets, and how often",
    "view_url": "the page that shows the letter in a browser",
    "confirm_url": "the page where the contact confirms what it was asked (double opt-in)",
}
CONTACT_FIELDS = frozenset({"id", "email", "phone", "external_id", "language", "time_zone", "tags", "company"})
JOURNEY_FIELDS = frozenset({"name", "title"})
_FORBIDDEN = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


@dataclass(frozen=True)
class Use:
    """One value a template uses: its path, where, and whether the template copes without it."""

    path: str
    line: int
    guarded: bool


def analyse(environment: Environment, source: str, file: str, first_line: int) -> tuple[list[Use], list[Problem]]:
    """The values that one part of a template uses, and what is wrong with it.

    A value is guarded if the template tests it anywhere (`if`, `is defined`) or gives it a default.

    Args:
        environment: the sandbox.
        source: the part.
        file: for the problems.
        first_line: the line of the file on which the part begins.
    """
    try:
        tree = environment.parse(source)
    except TemplateSyntaxError as error:
        line = first_line + error.lineno - 1
        return [], [Problem(f"Jinja: {error.message}", "see the Jinja template documentation", file, line, 1)]
    problems = list(_forbidden(tree, file, first_line))
    unknown = meta.find_undeclared_variables(tree) - set(ROOTS) - set(environment.globals)
    for name in tree.find_all(nodes.Name):
        if name.name in unknown:
            unknown.discard(name.name)
            problems.append(_unknown_root(name, file, first_line))
    guards = set(_guards(tree))
    uses = [
        Use(path, first_line + line - 1, any(path == guard or path.startswith(guard + ".") for guard in guards))
        for path, line in _paths(tree)
        if path.split(".")[0] in ROOTS
    ]
    return uses, problems


def _unknown_root(name: nodes.Name, file: str, first_line: int) -> Problem:
    near = get_close_matches(name.name, ROOTS, n=1)
    mend = f"did you mean {near[0]}?" if near else f"write contact.{name.name} or event.{name.name}"
    return Problem(f"there is no value {name.name!r}", mend, file, first_line + name.lineno - 1, 1)


def _forbidden(tree: nodes.Template, file: str, first_line: int) -> Iterator[Problem]:
    for kind in _FORBIDDEN:
        for node in tree.find_all(kind):
            line = first_line + node.lineno - 1
            yield Problem("a template cannot read other files", "put the part into this file", file, line, 1)
    hidden = [(found.attr, found.lineno) for found in tree.find_all(nodes.Getattr)]
    hidden += [(found.name, found.lineno) for found in tree.find_all(nodes.Name)]
    for name, lineno in hidden:
        if name.startswith("_"):
            line = first_line + lineno - 1
            yield Problem(f"{name} is not for templates", "names do not begin with _", file, line, 1)


def _path(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        base = _path(node.node)
        return f"{base}.{node.attr}" if base else None
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        base = _path(node.node)
        return f"{base}.{node.arg.value}" if base else None
    return None


def _paths(node: nodes.Node) -> Iterator[tuple[str, int]]:
    """The longest path of each value used. A method's name is no part of it."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        yield from _paths(node.node.node)
        for child in (*node.args, *node.kwargs):
            yield from _paths(child)
        return
    path = _path(node)
    if path is not None:
        if not (isinstance(node, nodes.Name) and node.ctx != "load"):
            yield path, node.lineno
        return
    for child in node.iter_child_nodes():
        yield from _paths(child)


def _guards(tree: nodes.Template) -> Iterator[str]:
    for test in tree.find_all(nodes.Test):
        if test.name in {"defined", "undefined"} and (path := _path(test.node)):
            yield path
    for given in tree.find_all(nodes.Filter):
        if given.name in {"default", "d"} and given.node is not None and (path := _path(given.node)):
            yield path
    conditions = [branch.test for branch in tree.find_all(nodes.If)]
    conditions += [branch.test for branch in tree.find_all(nodes.CondExpr)]
    for condition in conditions:
        for path, _line in _paths(condition):
            yield path
