"""Reading YAML that people write: safely, strictly, and remembering where everything stood.

The dialect is YAML with the traps taken out: `true` and `false` are the only booleans (`on`, `yes` and `no` are words),
`10:30` is not a number in base sixty, dates stay text, and there are no tags, anchors, aliases or merge keys. A key
may stand once. Every problem carries the line and column.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import yaml

from core.errors import InvalidInput, Problem

SIZE_LIMIT = 256 * 1024
DEPTH_LIMIT = 60
NODE_LIMIT = 20_000

_NULL = re.compile(r"(?:~|null|)\Z")
_BOOL = re.compile(r"(?:true|false)\Z")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}(?:e[-+]?[0-9]{1,2})?\Z")

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """A composer whose plain scalars are resolved by us."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own spelling of the registry


@dataclass(frozen=True)
class Document:
    """What a file says (`data`) and where it says it."""

    data: Any
    file: str = ""
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def locate(self, path: Path) -> tuple[int, int]:
        """Line and column (from 1) of the deepest part of `path` that exists in the file.

        Parts that the file does not have are passed over: models put a lone mapping into a list, for instance.
        """
        here: Path = ()
        for part in path:
            if (*here, part) in self.marks:
                here = (*here, part)
        return self.marks.get(here, (1, 1))

    def problem(self, path: Path, message: str, mend: str = "") -> Problem:
        """A problem at a place of this document."""
        line, column = self.locate(path)
        return Problem(message, mend, self.file, line, column, pointer(path))


def pointer(path: Path) -> str:
    """A path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def parts(pointed: str) -> Path:
    """The path that a JSON Pointer stands for; digits become list indices."""
    words = [word.replace("~1", "/").replace("~0", "~") for word in pointed.split("/")[1:]]
    return tuple(int(word) if word.isdecimal() and len(word) < 10 else word for word in words)


def did_you_mean(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """A mend that names the nearest of the known words, or all of them when they are few."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    if known and len(known) <= 15:
        return "known: " + ", ".join(sorted(known))
    return ""


def read(source: str | bytes, file: str = "") -> Document:
    """Read one YAML document.

    Args:
        source: the text, or its bytes in UTF-8.
        file: the name for messages.

    Raises:
        InvalidInput: not UTF-8, too large or too deep, not YAML, or one of the parts that are not in our dialect.
    """
    text = _decoded(source, file)
    try:
        _check_limits(text, file)
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise InvalidInput(_syntax_problem(error, file)) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise InvalidInput(
            Problem(f"this is not YAML: {_one_line(str(error))}", file=file, line=1, column=1)
        ) from error
    if node is None:
        raise InvalidInput(Problem("the file is empty", "write something into it", file=file, line=1, column=1))
    marks: dict[Path, tuple[int, int]] = {}
    problems: list[Problem] = []
    data = _Builder(file, marks, problems).build(node, ())
    if problems:
        raise InvalidInput(*problems)
    return Document(data, file, marks)


def _decoded(source: str | bytes, file: str) -> str:
    size = len(source) if isinstance(source, bytes) else len(source.encode("utf-8", "surrogatepass"))
    if size > SIZE_LIMIT:
        message = f"the file has {size} bytes, more than the {SIZE_LIMIT} allowed"
        raise InvalidInput(Problem(message, "split it", file, 1, 1))
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        column = error.start - source.rfind(b"\n", 0, error.start)
        message = f"byte 0x{source[error.start]:02x} is not UTF-8"
        raise InvalidInput(Problem(message, "save the file as UTF-8", file, line, column)) from error


def _check_limits(text: str, file: str) -> None:
    """Walk the events, which needs no recursion, and refuse what could hurt the composer, which does."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        problem = _forbidden(event)
        nodes += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_LIMIT:
            problem = (f"nested more than {DEPTH_LIMIT} deep", "make it flatter")
        if nodes > NODE_LIMIT:
            problem = (f"more than {NODE_LIMIT} values", "split the file")
        if problem:
            mark = event.start_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise InvalidInput(Problem(*problem, file, line, column))


def _forbidden(event: Any) -> tuple[str, str] | None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        return "anchors and aliases (& and *) are not part of the language", "write it out, or put it in quotes"
    if getattr(event, "tag", None):
        return f"tags such as {event.tag[:40]} are not part of the language", "leave the tag out"
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    said = _one_line(error.problem or error.context or "unreadable")
    if "'\\t'" in said:
        return Problem("a tab cannot stand here", "indent with spaces", file, line, column)
    if "another document" in said:
        return Problem("a second document begins here", "put each into a file of its own", file, line, column)
    message = f"this is not YAML: {said}"
    return Problem(message, "look at the indentation, colons and quotes here and one line above", file, line, column)


class _Builder:
    """Turns nodes into plain data, noting marks and duplicate keys on the way."""

    def __init__(self, file: str, marks: dict[Path, tuple[int, int]], problems: list[Problem]) -> None:
        self.file, self.marks, self.problems = file, marks, problems

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.marks.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _items(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key := _scalar(key_node), str):
                said = getattr(key_node, "value", "")
                message = f"the key {said} is not a word" if isinstance(said, str) else "a key must be a word"
                self.problems.append(Problem(message, "put it in quotes", self.file, line, column))
                continue
            if key in seen:
                message = f"the key {key} stands twice; first on line {seen[key]}"
                self.problems.append(Problem(message, "keep one of them", self.file, line, column, pointer(path)))
                continue
            seen[key] = line
            self.marks[*path, key] = (line, column)
            yield key, self.build(value_node, (*path, key))


def _scalar(node: Any) -> Any:
    text: str = node.value
    if node.style is not None:  # quoted or a block: text, whatever it looks like
        return text
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text == "true"
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text
