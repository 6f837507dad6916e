"""Reading XML that strangers made: no document types, so no entities; bounded; every element knows its line."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from core.errors import InvalidInput, Problem

SIZE_LIMIT = 8 * 1024 * 1024
DEPTH_LIMIT = 64
ELEMENT_LIMIT = 100_000
_SEPARATOR = " "


@dataclass
class Tag:
    """An element with its name split into namespace and local name, and its place in the file."""

    namespace: str
    name: str
    attributes: dict[str, str]
    """Those without a namespace, by name; others as `namespace name`."""
    line: int
    column: int
    text: str = ""
    children: list["Tag"] = field(default_factory=list)

    def each(self, namespace: str, name: str | None = None) -> Iterator["Tag"]:
        """The children of a namespace, of any or of one name."""
        return (one for one in self.children if one.namespace == namespace and name in (None, one.name))

    def own(self, namespace: str, name: str) -> str | None:
        """An attribute that has a namespace."""
        return self.attributes.get(f"{namespace}{_SEPARATOR}{name}")


def parse(content: bytes, file: str = "") -> Tag:
    """Read an XML document.

    Args:
        content: the bytes of the file; their encoding is found as XML says.
        file: the name for messages.

    Raises:
        InvalidInput: too large or too deep, not well-formed, or with a document type.
    """
    if len(content) > SIZE_LIMIT:
        message = f"the file has {len(content)} bytes, more than the {SIZE_LIMIT} allowed"
        raise InvalidInput(Problem(message, "is it a single process?", file, 1, 1))
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    builder = _Builder(parser, file)
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        message = f"this is not XML: {expat.ErrorString(error.code)}"
        raise InvalidInput(Problem(message, "save it again as BPMN", file, error.lineno, error.offset + 1)) from error
    except (
        LookupError,
        ValueError,
        UnicodeError,
    ) as error:  # an encoding that Python does not know, or not by single bytes
        message = "the encoding of this file is not known"
        raise InvalidInput(Problem(message, "save the file as UTF-8", file, 1, 1)) from error
    return builder.top.children[0]


class _Builder:
    def __init__(self, parser: expat.XMLParserType, file: str) -> None:
        self.parser, self.file = parser, file
        self.top = Tag("", "", {}, 0, 0)
        self.open = [self.top]
        self.count = 0
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def _problem(self, message: str, mend: str) -> InvalidInput:
        line, column = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        return InvalidInput(Problem(message, mend, self.file, line, column))

    def _refuse_doctype(self, *_: object) -> None:
        raise self._problem("a document type is not allowed here", "take the <!DOCTYPE …> out; BPMN needs none")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if self.count > ELEMENT_LIMIT:
            raise self._problem(f"more than {ELEMENT_LIMIT} elements", "split the process")
        if len(self.open) > DEPTH_LIMIT:
            raise self._problem(f"nested more than {DEPTH_LIMIT} deep", "make it flatter")
        namespace, _, local = name.rpartition(_SEPARATOR)
        line, column = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        tag = Tag(namespace, local, attributes, line, column)
        self.open[-1].children.append(tag)
        self.open.append(tag)

    def _end(self, _name: str) -> None:
        self.open.pop()

    def _text(self, text: str) -> None:
        self.open[-1].text += text
