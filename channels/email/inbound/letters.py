"""Letters that came in, taken apart: what any software may send is read as well as can be and never raises."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message

PARTS_LIMIT = 200


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


def parse(source: bytes) -> Message | None:
    """The letter; None where it is nested so deeply that nobody meant it."""
    try:
        return message_from_bytes(source)
    except RecursionError:
        return None


def parts(message: Message) -> Iterator[Message]:
    """The letter and every part of it, also those of letters in it, outermost first; at most PARTS_LIMIT."""
    waiting, seen = [message], 0
    while waiting and seen < PARTS_LIMIT:
        part = waiting.pop(0)
        seen += 1
        yield part
        inner = part.get_payload()
        if isinstance(inner, list):
            waiting += [one for one in inner if isinstance(one, Message)]


def header(message: Message, name: str) -> str:
    """A header's value, decoded and unfolded; empty if it is not there."""
    return _decoded(message.get(name, ""))


def values(message: Message, names: tuple[str, ...]) -> list[str]:
    """The values of all headers of these names."""
    return [_decoded(value) for name in names for value in message.get_all(name, [])]


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
    try:
        text = payload.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, UnicodeError):
        text = payload.decode("utf-8", "replace")
    return storable(text.replace("\r\n", "\n").replace("\r", "\n"))


def storable(text: str) -> str:
    """Text that PostgreSQL and JSON take: no nulls, no lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
