"""Feedback reports (ARF, RFC 5965): a recipient called a letter spam, and the mail provider says so."""

from collections.abc import Iterator
from email.message import Message

from channels.email.inbound.letters import header, parts, values
from channels.provider import ReportKind

KINDS = {
    "abuse": ReportKind.COMPLAINED,
    "fraud": ReportKind.COMPLAINED,
    "opt-out": ReportKind.UNSUBSCRIBED,
    "opt-out-list": ReportKind.UNSUBSCRIBED,
}
"""By `Feedback-Type`; the others (not-spam, virus, other, auth-failure) are kept and do nothing."""

_OF_THE_LETTER = ("Return-Path", "Reply-To", "List-Unsubscribe", "X-Original-Mail-From")
_OF_THE_REPORT = ("Original-Mail-From", "Original-Envelope-Id")


def feedback(message: Message) -> Message | None:
    """The machine's part of a feedback report; None if the letter is none."""
    if message.get_content_type() != "multipart/report":
        return None
    for part in parts(message):
        if part.get_content_type() == "message/feedback-report":
            return _fields(part)
    return None


def _fields(part: Message) -> Message:
    """The report's fields: the parser makes them a letter of their own, as it does of every message/*."""
    inner = part.get_payload() if part.is_multipart() else []
    return inner[0] if isinstance(inner, list) and inner and isinstance(inner[0], Message) else part


def kind_of(report: Message) -> ReportKind:
    """What a report means."""
    return KINDS.get(header(report, "Feedback-Type").lower(), ReportKind.UNKNOWN)


def hints(message: Message, report: Message) -> Iterator[str]:
    """Texts in which our signed address or link of the original letter may stand."""
    yield from values(report, _OF_THE_REPORT)
    for part in parts(message):
        yield from values(part, _OF_THE_LETTER)


def recipient(report: Message) -> str:
    """Who complained, where the mail provider says so; most do not."""
    return header(report, "Original-Rcpt-To").strip("<>")
