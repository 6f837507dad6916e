"""From a template file to what is rendered: reading, checking, MJML to HTML, tracked links, plain text.

A template file is YAML front matter between `---` lines, then the body, then an optional plain-text part after a line
`--- text`. See docs/templates.md. Nothing here touches the database.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.errors import MessageError
from email.headerregistry import AddressHeader, HeaderRegistry
from typing import Any

import mjml
from jinja2 import TemplateSyntaxError

from channels import files, markup, variables
from channels.inlining import inlined
from channels.rendering import environment
from channels.variables import Use
from channels.webhook import call as webhook
from core import documents
from core.documents import Document, did_you_mean
from core.errors import InvalidInput, Problem

SIZE_LIMIT = 512 * 1024
FIELDS = ("template", "channel", "purpose", "subject", "preheader", "from", "reply_to", "track", "attach", "invite")
TRACKS = ("clicks", "opens")
# A telephone number, a short number, or a name of up to eleven characters (GSM 03.40, section 9.1.2.5).
_TEXT_SENDER = re.compile(r"\+?\d{3,15}|[A-Za-z0-9][A-Za-z0-9 ._&-]{0,10}")
CHANNELS = ("email", "sms", "voice", "webpush", "site", "webhook")
_FRONT = re.compile(r"---[ \t]*\n(.*?\n)---[ \t]*\n", re.DOTALL)
_TEXT_PART = re.compile(r"^--- text[ \t]*\n", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_PIXEL = '<img src="{{ _pixel }}" width="1" height="1" alt="" style="display:block;border:0">'
# No person sees or reaches it; what follows it follows every link (channels.visits).
_TRAP = '<a href="{{ _trap }}" style="display:none" tabindex="-1" aria-hidden="true"></a>'
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
    attach: tuple[files.Named, ...] = ()
    invite: Mapping[str, str] | None = None
    call: Mapping[str, Any] | None = None
    """Of a webhook."""
    reply_to: str | None = None


@dataclass(frozen=True)
class CompiledSource:
    """What is kept in template_version.compiled, and the values used, for checks against the database."""

    subject: str
    html: str
    text: str
    sender: str | None
    purpose: str | None
    variables: tuple[str, ...]
    call: Mapping[str, Any] | None = None
    """Of a webhook; see channels.webhook.call."""
    reply_to: str | None = None
    """Where answers go; None is the sender, or Kaskad where mail comes in."""

    def stored(self) -> dict[str, Any]:
        """As JSON data. What few templates have is left out of the others, as in versions of before there was any."""
        data = asdict(self) | {"variables": list(self.variables)}
        left_out = {key for key in ("call", "reply_to") if data[key] is None}
        return {key: value for key, value in data.items() if key not in left_out}


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
        if key not in FIELDS and not (key in webhook.FIELDS and data.get("channel") == "webhook")
    ]
    values: dict[str, str] = {}
    for key in FIELDS[: FIELDS.index("track")]:  # not attach, nor invite: those are texts
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            problems.append(document.problem((key,), f"{key} must be text", "put it in quotes"))
        elif value:
            values[key] = value
    channel = values.get("channel", "email")
    problems += _check_fields(document, values, channel, body)
    track = _track(document, problems)
    attach, invite = files.named(document, problems), files.invited(document, problems)
    call = webhook.read(document, body.source, body.line, problems) if channel == "webhook" else None
    if problems:
        raise InvalidInput(*problems)

    def part(key: str) -> Part:
        return Part(values.get(key, ""), document.locate((key,))[0])

    return Source(
        name=values["template"],
        channel=channel,
        purpose=values.get("purpose"),
        sender=values.get("from"),
        track=track,
        subject=part("subject"),
        preheader=part("preheader"),
        body=body,
        text=plain,
        file=file,
        attach=attach,
        invite=invite,
        call=call,
        reply_to=values.get("reply_to"),
    )


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
    if "from" in values and not _is_sender(values["from"], channel):
        spoken = channel in {"sms", "voice"}
        mend = "a number such as +74951234567, or a name" if spoken else "write it like Kaskad <hello@example.com>"
        problems.append(document.problem(("from",), "this cannot be a sender", mend))
    if "reply_to" in values:
        if channel != "email":
            problems.append(document.problem(("reply_to",), f"{channel} has no answers by mail", "leave it out"))
        elif not _is_sender(values["reply_to"], channel):
            mend = "write it like Sales <sales@example.com>"
            problems.append(document.problem(("reply_to",), "this cannot be an address for answers", mend))
    return problems


def _is_sender(value: str, channel: str) -> bool:
    if not value.isprintable():
        return False
    if channel in {"sms", "voice"}:
        return _TEXT_SENDER.fullmatch(value) is not None
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
    parts: tuple[tuple[Part | None, bool], ...] = (
        (source.subject, False),
        (source.preheader, True),
        (source.body, True),
        (source.text, False),
    )
    if source.call is not None:
        parts = tuple((Part(text, source.body.line), False) for text in webhook.texts(source.call))
    for part, is_html in parts:
        if part is not None:
            found, wrong = variables.analyse(environment(is_html), part.source, source.file, part.line)
            uses += found
            problems += wrong
    for text in (source.invite or {}).values():
        found, wrong = variables.analyse(environment(False), text, source.file, 1)
        uses, problems = uses + found, problems + wrong
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
    if source.call is not None:
        return CompiledSource("", "", "", None, source.purpose, paths, source.call)
    if source.channel != "email":
        plain = source.body.source.strip()
        return CompiledSource(source.subject.source, "", plain, source.sender, source.purpose, paths)
    marks = markup.Marks()
    marked = _to_html(source, marks)
    if "<mjml" not in source.body.source or "<mj-style" in source.body.source:
        marked = inlined(marked, marks)  # MJML has written its own styles where they belong
    plain = source.text.source if source.text else marks.show(markup.text_of(marked))
    if "clicks" in source.track:
        marked = markup.track_links(marked, marks)
    marked = _dress(marked, source, marks)
    compiled = CompiledSource(
        source.subject.source,
        marks.show(marked),
        plain.strip() + "\n",
        source.sender,
        source.purpose,
        paths,
        reply_to=source.reply_to,
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
    end = _TRAP * ("clicks" in source.track and "{% filter track %}" in marks.show(marked)) + _PIXEL * (
        "opens" in source.track
    )
    if end:
        before, closing, after = marked.rpartition("</body>")
        marked = f"{before}{marks.mark(end)}{closing}{after}" if closing else marked + marks.mark(end)
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
