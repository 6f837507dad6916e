"""Replies of people: telling them from those of machines, and what they say without what they quote."""

import re
from email.message import Message
from html import unescape

from channels.email.inbound.letters import header, parts, text_of

TEXT_LIMIT = 5000
_READ_LIMIT = 200_000
_LINES_LIMIT = 2000
# What mail programs put between an answer and the letter it answers, where they do not mark each line of that.
_SEPARATOR = re.compile(
    r"^\s*(?:-{2,}\s?(?:original|исходное|пересылаемое|forwarded|ursprüngliche)\b.*|_{20,}|"
    r"\*?(?:from|от|от кого|von|de)\s?:\*?.*@.*)$",
    re.IGNORECASE,
)
_WROTE = re.compile(
    r"\b(?:wrote|писал|пишет|написал|написала|schrieb|a écrit|escribió)(?:\(а\))?\s?:\s*$", re.IGNORECASE
)
_DATE = re.compile(r"\d{1,4}\D+\d{2}")
_SIGNATURE = re.compile(r"^(?:-- ?|Sent from my .*|Отправлено из .*|Отправлено с .*)$", re.IGNORECASE)
_PRECEDENCE = frozenset({"auto_reply", "bulk", "junk", "list"})
_MARKS = ("X-Autoreply", "X-Autorespond", "X-Auto-Reply", "X-AutoReply-From", "X-Mail-Autoreply", "List-Id")
_SUBJECT = re.compile(
    r"^(?:auto(?:matic|mated)?[ -]?(?:reply|response|antwort)|out of (?:the )?office|"
    r"автоответ|автоматический ответ|вне офиса)\b",
    re.IGNORECASE,
)

_BREAKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "ul", "ol", "table"})
_HIDDEN = frozenset({"head", "blockquote"})
_RAW = frozenset({"style", "script", "title"})
# A comment, or a tag up to its end or the next one's beginning: no place is scanned twice.
_MARK = re.compile(r"<!--.*?(?:-->|\Z)|<(?P<closes>/?)(?P<name>[a-z][a-z0-9]*)[^<>]*>|<[!?/][^<>]*>", re.DOTALL | re.I)


def is_automatic(message: Message) -> bool:
    """Whether no human wrote it: RFC 3834, section 5, and what was usual before it."""
    if header(message, "Auto-Submitted").partition(";")[0].strip().lower() not in ("", "no"):
        return True
    if header(message, "Precedence").lower() in _PRECEDENCE or header(message, "Return-Path") == "<>":
        return True
    return any(message.get(name) is not None for name in _MARKS) or bool(_SUBJECT.match(header(message, "Subject")))


def said(message: Message) -> str:
    """What a reply says: plain text without quotes and signature, at most TEXT_LIMIT characters."""
    return cut(_content(message))


def cut(text: str) -> str:
    """A reply without what it quotes and without the signature."""
    lines = text[:_READ_LIMIT].split("\n")[:_LINES_LIMIT]
    end = next((number for number, line in enumerate(lines) if _ends_answer(line)), len(lines))
    kept = _without_quotes(lines[:end])
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()[:TEXT_LIMIT]


def _ends_answer(line: str) -> bool:
    return bool(_SIGNATURE.match(line.strip()) or _SEPARATOR.match(line))


def _without_quotes(lines: list[str]) -> list[str]:
    """The lines that are not quoted, nor say who is: what ends with a colon right above a quote."""
    kept: list[str] = []
    for number, line in enumerate(lines):
        if not line.lstrip().startswith(">"):
            if _WROTE.search(line):
                return _drop_attribution([*kept, line])
            kept.append(line.rstrip())
        elif number and not lines[number - 1].lstrip().startswith(">"):
            kept = _drop_attribution(kept)
    return kept


def _drop_attribution(kept: list[str]) -> list[str]:
    """`On Monday, Kaskad <…> wrote:`, in any language, on up to three lines."""
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    if not end or not kept[end - 1].rstrip().endswith(":"):
        return kept
    dated = [line for line in range(max(0, end - 3), end) if _DATE.search(kept[line]) and all(kept[line:end])]
    return kept[: dated[-1] if dated else end - 1]


def _content(message: Message) -> str:
    """The first plain part; else the first HTML part as text."""
    pages = ""
    for part in parts(message):
        if part.get_content_disposition() == "attachment":
            continue
        if part.get_content_type() == "text/plain":
            return text_of(part)
        if part.get_content_type() == "text/html" and not pages:
            pages = text_of(part)
    return _plain(pages[:_READ_LIMIT])


class _Plain:
    """The words of a page. What stands in a blockquote is a quote."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._hidden = 0
        self._raw = ""
        """The element open here of which nothing but its own end is read."""

    def tag(self, name: str, closes: bool) -> None:
        """Lines and what is not shown."""
        if self._raw:
            self._raw = "" if closes and name == self._raw else self._raw
        elif name in _RAW and not closes:
            self._raw = name
        elif name in _HIDDEN:
            self._hidden = max(0, self._hidden - 1) if closes else self._hidden + 1
        elif name in _BREAKS and not closes:
            self._words.append("\n")

    def text(self, text: str) -> None:
        """Words, if they are shown."""
        if not self._raw and not self._hidden:
            self._words.append(re.sub(r"\s+", " ", unescape(text)))

    def lines(self) -> str:
        """All of them."""
        return "\n".join(line.strip() for line in "".join(self._words).split("\n"))


def _plain(page: str) -> str:
    """A page as text. Each character is looked at a bounded number of times, whatever the page is like; the standard
    library's parser takes minutes over tags that never end."""
    reader, end = _Plain(), 0
    for mark in _MARK.finditer(page):
        reader.text(page[end : mark.start()])
        end = mark.end()
        if mark["name"]:
            reader.tag(mark["name"].lower(), bool(mark["closes"]))
    reader.text(page[end:])
    return reader.lines()
