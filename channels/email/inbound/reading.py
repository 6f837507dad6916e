"""What a letter that came in says about a message of ours: a pure function from its bytes to reports."""

import re
from email.message import Message
from uuid import UUID

import structlog

from channels.email.inbound import bounces, complaints, replies
from channels.email.inbound.letters import Incoming, header, parse, parts, text_of, values
from channels.provider import Report, ReportKind
from channels.signed import Addressed, SignedAddresses
from channels.tokens import BadToken, Signer

_TO = ("Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To", "To", "Cc")
_LINK = re.compile(r"/u/([A-Za-z0-9_-]{40,200})")
_EXCERPT = 500
_HEAD = 20_000
_UNREAD = "a letter that cannot be read"
_log = structlog.get_logger()


class Reader:
    """Reads the letters that come to an installation."""

    def __init__(self, addresses: SignedAddresses, unsubscribe: Signer) -> None:
        """Make it.

        Args:
            addresses: ours.
            unsubscribe: knows the links of List-Unsubscribe, which name the message in feedback reports.
        """
        self._addresses = addresses
        self._unsubscribe = unsubscribe

    def read(self, letter: Incoming) -> list[Report]:
        """The reports in a letter; none where it is a machine's answer or about no message of ours.

        Whoever wrote it has to show a signed address or link: what the letter merely claims makes nobody bounce. A
        letter that a reader trips over is kept as UNKNOWN: raised, it would come again for ever and hold up the others.
        """
        try:
            message = parse(letter.source)
            return [] if message is None else self._read(letter, message)
        except Exception:  # noqa: BLE001 - anybody may write anything; logged in full, and the letter is kept
            _log.exception("mail_not_understood", letter=letter.key)
            to = self._addresses.find([*letter.recipients, letter.source[:_HEAD].decode("utf-8", "replace")])
            return [] if to is None else [_report(letter, ReportKind.UNKNOWN, to.message_id, reason=_UNREAD)]

    def _read(self, letter: Incoming, message: Message) -> list[Report]:
        report = complaints.feedback(message)
        if report is not None:
            return self._complaint(letter, message, report)
        to = self._addressed(letter, message)
        if to is None:
            return []
        if to.use == "reply" and not bounces.is_notification(message):
            return self._reply(letter, message, to.message_id)
        return _bounce(letter, message, to.message_id)

    def _addressed(self, letter: Incoming, message: Message) -> Addressed | None:
        return self._addresses.find([*letter.recipients, *values(message, _TO)])

    def _complaint(self, letter: Incoming, message: Message, report: Message) -> list[Report]:
        hints = list(complaints.hints(message, report))
        found = self._addresses.find(hints)
        number = found.message_id if found else self._of_links(hints)
        if number is None:
            return []
        words = f"feedback report: {header(report, 'Feedback-Type')}, {header(report, 'User-Agent')}"
        who = complaints.recipient(report) or None
        return [_report(letter, complaints.kind_of(report), number, recipient=who, reason=words)]

    def _of_links(self, texts: list[str]) -> UUID | None:
        for match in _LINK.finditer(" ".join(texts)[:100_000]):
            try:
                return self._unsubscribe.read(match[1]).message_id
            except BadToken:
                continue
        return None

    def _reply(self, letter: Incoming, message: Message, number: UUID) -> list[Report]:
        if replies.is_automatic(message):
            return []
        details = {"text": replies.said(message), "subject": header(message, "Subject")[:_EXCERPT]}
        return [_report(letter, ReportKind.ANSWERED, number, details=details)]


def _bounce(letter: Incoming, message: Message, number: UUID) -> list[Report]:
    if bounces.is_notification(message):
        return [
            _report(letter, kind, number, recipient=who, reason=words) for kind, who, words in bounces.notified(message)
        ]
    found = bounces.recognised(message)
    if found:
        words = _excerpt(message)
        return [_report(letter, kind, number, recipient=who, reason=words) for kind, who in found]
    if replies.is_automatic(message) and header(message, "Return-Path") != "<>":
        return []
    return [_report(letter, ReportKind.UNKNOWN, number, reason=_excerpt(message))]


def _excerpt(message: Message) -> str:
    for part in parts(message):
        if part.get_content_type() == "text/plain":
            return " ".join(text_of(part)[:5000].split())[:_EXCERPT]
    return header(message, "Subject")[:_EXCERPT]


def _report(
    letter: Incoming,
    kind: ReportKind,
    number: UUID,
    recipient: str | None = None,
    reason: str = "",
    details: dict[str, str] | None = None,
) -> Report:
    key = f"mail:{letter.key}:{(recipient or '').lower()}"
    return Report(kind, key, letter.received_at, number, recipient=recipient, reason=reason, details=details or {})
