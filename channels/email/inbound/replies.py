"""Replies of people: telling them from those of machines, and what they say without what they quote."""

import re
from email.message import Message
from html.parser import HTMLParser

from channels.email.inbound.letters import header, parts, text_of

TEXT_LIMIT = 5000
_READ_LIMIT = 200_000
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
    lines = text[:_READ_LIMIT].split("\n")
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


class _Plain(HTMLParser):
    """The words of a page. What stands in a blockquote is a quote."""

    _BREAKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "ul", "ol", "table"})
    _HIDDEN = frozenset({"style", "script", "head", "title", "blockquote"})

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Lines and what is not shown."""
        del attrs
        if tag in self._HIDDEN:
            self._hidden += 1
        if tag in self._BREAKS:
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """The end of what is not shown."""
        if tag in self._HIDDEN and self._hidden:
            self._hidden -= 1

    def handle_data(self, data: str) -> None:
        """Words."""
        if not self._hidden:
            self.words.append(re.sub(r"\s+", " ", data))


def _plain(pages: str) -> str:
    reader = _Plain()
    reader.feed(pages)
    reader.close()
    return "\n".join(line.strip() for line in "".join(reader.words).split("\n"))
