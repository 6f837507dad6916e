"""Letters that came in, taken apart: what any software may send is read as well as can be and never raises."""

import codecs
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import Compat32

PARTS_LIMIT = 200
HEADER_LIMIT = 5000
"""Characters of one header; the standard library's readers take time by the square of its length."""
HEADERS_LIMIT = 100
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape"})
"""Codecs of Python that are none of mail's; some take time by the square of the text's length."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A letter as it came. `recipients` are those of the envelope; a mailbox that is read later has lost them."""

    source: bytes
    received_at: datetime
    recipients: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What makes it this very letter, also when it is handed over or read again."""
        head, _, body = self.source.replace(b"\r\n", b"\n").partition(b"\n\n")
        lines = [line for line in head.split(b"\n") if line[:11].lower() == b"message-id:"]
        return hashlib.sha256(b"\n".join(lines) + b"\0" + body.rstrip()).hexdigest()


class _Bounded(Compat32):
    """The lenient rules, with headers of a bounded length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:HEADER_LIMIT]


_RULES = _Bounded()


def parse(source: bytes) -> Message | None:
    """The letter; None where it is nested so deeply that nobody meant it."""
    try:
        return message_from_bytes(source, policy=_RULES)
    except RecursionError:
        return None


def parts(message: Message) -> Iterator[Message]:
    """The letter and every part of it, also those of letters in it, outermost first; at most PARTS_LIMIT."""
    waiting, seen = [message], 0
    while waiting and seen < PARTS_LIMIT:
        part = waiting.pop(0)
        seen += 1
        yield part
        if part.is_multipart():
            waiting += [one for one in part.get_payload() if isinstance(one, Message)]


def header(message: Message, name: str) -> str:
    """A header's value, decoded and unfolded; empty if it is not there."""
    return _decoded(message.get(name, ""))


def headers(message: Message) -> list[tuple[str, str]]:
    """All headers with their values, decoded and unfolded."""
    return [(storable(name), _decoded(value)) for name, value in message.items()]


def content(message: Message, kind: str) -> str:
    """The letter's text as `plain` or `html`: of its first such part that is no attachment; empty if there is none."""
    for part in parts(message):
        if part.get_content_type() == f"text/{kind}" and part.get_content_disposition() != "attachment":
            return text_of(part)
    return ""


def values(message: Message, names: tuple[str, ...]) -> list[str]:
    """The values of the headers of these names, of each name the first HEADERS_LIMIT."""
    return [_decoded(value) for name in names for value in message.get_all(name, [])[:HEADERS_LIMIT]]


def _decoded(value: object) -> str:
    text = str(value)
    with suppress(HeaderParseError, LookupError, UnicodeError, ValueError):
        text = str(make_header(decode_header(text)))
    return storable(" ".join(text.split()))


def text_of(part: Message) -> str:
    """The text of a part, with line ends as \\n."""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    return storable(decoded(payload, part).replace("\r\n", "\n").replace("\r", "\n"))


def decoded(payload: bytes, part: Message) -> str:
    """The text of bytes in the charset that the part names; in UTF-8 where that is none."""
    try:
        charset = codecs.lookup(part.get_content_charset("utf-8")).name
        return payload.decode("utf-8" if charset.replace("-", "_") in _NO_CHARSETS else charset, "replace")
    except (LookupError, ValueError):  # unknown, with a null in its name, or not made for text
        return payload.decode("utf-8", "replace")


def storable(text: str) -> str:
    """Text that PostgreSQL and JSON take: no nulls, no lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
