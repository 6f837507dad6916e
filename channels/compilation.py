"""From a template file to what is rendered: reading, checking, MJML to HTML, tracked links, plain text.

A template file is YAML front matter between `---` lines, then the body, then an optional plain-text part after a line
`--- text`. See docs/templates.md. Nothing here touches the database.
"""

import html
import re
from dataclasses import asdict, dataclass
from email.errors import MessageError
from email.headerregistry import AddressHeader, HeaderRegistry
from typing import Any

import mjml
from jinja2 import TemplateSyntaxError

from channels import markup, variables
from channels.rendering import environment
from channels.variables import Use
from core import documents
from core.documents import Document, did_you_mean
from core.errors import InvalidInput, Problem

SIZE_LIMIT = 512 * 1024
FIELDS = ("template", "channel", "purpose", "subject", "preheader", "from", "track")
TRACKS = ("clicks", "opens")
CHANNELS = ("email", "sms", "voice", "webpush", "site", "webhook")
_FRONT = re.compile(r"---[ \t]*\n(.*?\n)---[ \t]*\n", re.DOTALL)
_TEXT_PART = re.compile(r"^--- text[ \t]*\n", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_PIXEL = '<img src="{{ _pixel }}" width="1" height="1" alt="" style="display:block;border:0">'
_HIDDEN = "display:none;max-height:0;max-width:0;opacity:0;overflow:hidden;font-size:1px;line-height:1px"


@dataclass(frozen=True)
class Part:
    """A piece of the file and the line it begins on."""

    source: str
    line: int


@dataclass(frozen=True)
class Source:
    """A template file, taken apart."""

    name: str
    channel: str
    purpose: str | None
    sender: str | None
    track: tuple[str, ...]
    subject: Part
    preheader: Part
    body: Part
    text: Part | None
    file: str


@dataclass(frozen=True)
class CompiledSource:
    """What is kept in template_version.compiled, and the values used, for checks against the database."""

    subject: str
    html: str
    text: str
    sender: str | None
    purpose: str | None
    variables: tuple[str, ...]

    def stored(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"variables": list(self.variables)}


def parse(source: str | bytes, file: str = "") -> Source:
    """Take a template file apart.

    Raises:
        InvalidInput: with every problem's line.
    """
    content = _decoded(source, file)
    front = _FRONT.match(content)
    if front is None:
        mend = "begin with ---, template: NAME, subject: …, and another ---"
        raise InvalidInput(Problem("the file has no front matter", mend, file, 1, 1))
    # A blank line stands for the first ---, so that line numbers are those of the file.
    document = documents.read("\n" + front.group(1), file)
    rest, line = content[front.end() :], content.count("\n", 0, front.end()) + 1
    split = _TEXT_PART.search(rest)
    body = Part(rest[: split.start()] if split else rest, line)
    plain = Part(rest[split.end() :], line + rest.count("\n", 0, split.end())) if split else None
    return _fields(document, body, plain, file)


def _decoded(source: str | bytes, file: str) -> str:
    if isinstance(source, bytes):
        try:
            return _decoded(source.decode("utf-8-sig"), file)
        except UnicodeDecodeError as error:
            line = source.count(b"\n", 0, error.start) + 1
            raise InvalidInput(Problem("the file is not UTF-8", "save it as UTF-8", file, line, 1)) from error
    if len(source) > SIZE_LIMIT:
        raise InvalidInput(Problem(f"the template is longer than {SIZE_LIMIT} characters", "shorten it", file, 1, 1))
    return source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _fields(document: Document, body: Part, plain: Part | None, file: str) -> Source:
    data = document.data
    if not isinstance(data, dict):
        raise InvalidInput(document.problem((), "the front matter is no list of names and values", "template: NAME"))
    problems = [
        document.problem((key,), f"{key} is no field of a template", did_you_mean(key, FIELDS))
        for key in data
        if key not in FIELDS
    ]
    values: dict[str, str] = {}
    for key in FIELDS[:-1]:
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            problems.append(document.problem((key,), f"{key} must be text", "put it in quotes"))
        elif value:
            values[key] = value
    channel = values.get("channel", "email")
    problems += _check_fields(document, values, channel, body)
    track = _track(document, problems)
    if problems:
        raise InvalidInput(*problems)

    def part(key: str) -> Part:
        return Part(values.get(key, ""), document.locate((key,))[0])

    sender, purpose = values.get("from"), values.get("purpose")
    subject, preheader = part("subject"), part("preheader")
    return Source(values["template"], channel, purpose, sender, track, subject, preheader, body, plain, file)


def _check_fields(document: Document, values: dict[str, str], channel: str, body: Part) -> list[Problem]:
    problems = []
    if not _NAME.fullmatch(values.get("template", "")):
        mend = "template: NAME, of a-z, 0-9, - and _"
        problems.append(document.problem(("template",), "the template has no usable name", mend))
    if channel not in CHANNELS:
        mend = did_you_mean(channel, CHANNELS)
        problems.append(document.problem(("channel",), f"there is no channel {channel}", mend))
    if channel == "email" and not values.get("subject", "").strip():
        problems.append(document.problem(("subject",), "a letter needs a subject", "add subject: …"))
    if not body.source.strip():
        problems.append(
            Problem("the template has no body", "write it after the second ---", document.file, body.line, 1)
        )
    if "from" in values and not _is_sender(values["from"]):
        mend = "write it like Kaskad <hello@example.com>"
        problems.append(document.problem(("from",), "this cannot be a sender", mend))
    return problems


def _is_sender(value: str) -> bool:
    if not value.isprintable():
        return False
    try:
        header = HeaderRegistry()("from", value)
    except (MessageError, ValueError, IndexError):
        return False
    addresses = header.addresses if isinstance(header, AddressHeader) else ()
    return len(addresses) == 1 and bool(addresses[0].username and addresses[0].domain) and not header.defects


def _track(document: Document, problems: list[Problem]) -> tuple[str, ...]:
    value = document.data.get("track", True)
    if isinstance(value, bool):
        return TRACKS if value else ()
    words = value if isinstance(value, list) else [value]
    if not all(word in TRACKS for word in words):
        problems.append(document.problem(("track",), "track cannot be this", "true, false, or a list of clicks, opens"))
    return tuple(str(word) for word in words)


def check(source: Source, attributes: set[str] | None = None) -> list[Use]:
    """The values that the template uses.

    Args:
        source: the file.
        attributes: the attributes that contacts may have; None leaves them unchecked.

    Raises:
        InvalidInput: wrong Jinja, a value that cannot exist, or an unguarded attribute that no contact can have.
    """
    uses: list[Use] = []
    problems: list[Problem] = []
    for part, is_html in ((source.subject, False), (source.preheader, True), (source.body, True), (source.text, False)):
        if part is not None:
            found, wrong = variables.analyse(environment(is_html), part.source, source.file, part.line)
            uses += found
            problems += wrong
    guarded = {use.path for use in uses if use.guarded}
    for use in uses:
        if use.path not in guarded and (problem := _impossible(use, source.file, attributes)):
            problems.append(problem)
    if problems:
        raise InvalidInput(*sorted(set(problems), key=lambda problem: problem.line))
    return uses


def _impossible(use: Use, file: str, attributes: set[str] | None) -> Problem | None:
    root, _, rest = use.path.partition(".")
    name = rest.partition(".")[0]
    known = variables.JOURNEY_FIELDS if root == "journey" else None
    if root == "contact" and attributes is not None:
        known = variables.CONTACT_FIELDS | attributes
    if known is None or not name or name in known:
        return None
    mend = did_you_mean(name, sorted(known))
    if root == "contact":
        default = f"write {{{{ {use.path} | default('…') }}}}, or import contacts that have it first"
        mend = f"{mend} Or {default}" if mend.startswith("did you mean") else default
        return Problem(f"no contact has the attribute {name}", mend, file, use.line, 1)
    return Problem(f"there is no {use.path}", mend, file, use.line, 1)


def compile_source(source: Source, uses: list[Use]) -> CompiledSource:
    """What is rendered for each contact.

    Raises:
        InvalidInput: the MJML cannot be compiled.
    """
    paths = tuple(sorted({use.path for use in uses}))
    if source.channel != "email":
        return CompiledSource(source.subject.source, "", source.body.source.strip(), None, source.purpose, paths)
    marks = markup.Marks()
    marked = _to_html(source, marks)
    plain = source.text.source if source.text else marks.show(markup.text_of(marked))
    if "clicks" in source.track:
        marked = markup.track_links(marked, marks)
    marked = _dress(marked, source, marks)
    compiled = CompiledSource(
        source.subject.source, marks.show(marked), plain.strip() + "\n", source.sender, source.purpose, paths
    )
    _check_compiled(compiled, source)
    return compiled


def _to_html(source: Source, marks: markup.Marks) -> str:
    marked = marks.hide(source.body.source)
    if "<mjml" not in marked and not source.file.endswith(".mjml"):
        if "<body" in marked.lower():
            return marked
        return f'<!doctype html><html><head><meta charset="utf-8"></head><body>{marked}</body></html>'
    markup.check_mjml(marked, source.file, source.body.line)
    marked = markup.keep_bare_marks(marked, marks)
    try:
        compiled = str(mjml.mjml2html(marked.strip(), fonts={}, disable_comments=False))
    except ValueError as error:
        mend = 'close every element, also <p> and <br/>, and write attributes as name="value"'
        raise InvalidInput(Problem(f"MJML: {error}", mend, source.file, source.body.line, 1)) from error
    _check_lost(marked, compiled, marks, source)
    return compiled


def _check_lost(marked: str, compiled: str, marks: markup.Marks, source: Source) -> None:
    kept = set(marks.pattern.findall(compiled))
    problems = [
        Problem(
            f"{marks.show(found.group())} stands where MJML drops it",
            "put it inside mj-text, mj-raw, or an attribute",
            source.file,
            source.body.line + marked.count("\n", 0, found.start()),
            1,
        )
        for found in marks.pattern.finditer(marked)
        if found.group(1) not in kept and not marks.show(found.group()).startswith("{#")
    ]
    if problems:
        raise InvalidInput(*problems)


def _dress(marked: str, source: Source, marks: markup.Marks) -> str:
    """Put the preheader at the beginning and the open pixel at the end of the letter's body."""
    if source.preheader.source:
        shown = html.escape(marks.hide(source.preheader.source))
        hidden = f'<div style="{_HIDDEN}">{shown}</div>'
        marked = re.sub(r"<body\b[^>]*>", lambda match: match.group() + hidden, marked, count=1)
    if "opens" in source.track:
        before, closing, after = marked.rpartition("</body>")
        marked = f"{before}{marks.mark(_PIXEL)}{closing}{after}" if closing else marked + marks.mark(_PIXEL)
    return marked


def _check_compiled(compiled: CompiledSource, source: Source) -> None:
    """What was sound before must be so after MJML and the way to plain text."""
    for is_html, part, mend in (
        (True, compiled.html, "keep each {% … %} and its end at the same level of elements"),
        (False, compiled.text, "add a part of your own after a line `--- text`"),
    ):
        try:
            environment(is_html).parse(part)
        except TemplateSyntaxError as error:
            kind = "letter" if is_html else "plain text"
            message = f"the tags make no {kind} after compilation: {error.message}"
            raise InvalidInput(Problem(message, mend, source.file, source.body.line, 1)) from error
