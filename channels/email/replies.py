"""What an SMTP reply means for the letter: a pure decision, written as tables."""

import re
from datetime import timedelta

from channels.email.inbound.bounces import says_gone
from channels.email.wire import Reply
from channels.provider import Outcome, Receipt

SOON = timedelta(minutes=1)
LATER = timedelta(minutes=5)

# RFC 4954, section 6, and RFC 3207: the server wants a sign-in or encryption first. That says nothing about a letter.
SESSION_CODES = frozenset({530, 534, 535, 538})

# Greylisting and "too many from you": trying again at once only prolongs it.
_LATER = frozenset({"4.7.0", "4.7.1", "4.4.7", "4.2.2", "4.3.1"})

_QUEUE_IDS = (
    re.compile(r"\bqueued as ([^\s,;]+)", re.IGNORECASE),  # Postfix, Haraka, many appliances
    re.compile(r"\bid=([^\s,;]+)", re.IGNORECASE),  # Exim
    re.compile(r"<([^<>\s]+)>.*Queued mail for delivery", re.IGNORECASE),  # Exchange
    re.compile(r"^(\S{6,}) Message accepted", re.IGNORECASE),  # Sendmail, OpenSMTPD
    re.compile(r"^Ok:? (\S{6,})$", re.IGNORECASE),  # Amazon SES
)
_RELAY = re.compile(r"\brelay(ing)?\b.*\b(denied|not permitted|prohibited|not allowed)\b", re.IGNORECASE)
_ENHANCED = re.compile(r"^\d\.\d{1,3}\.\d{1,3}\s+")


def is_about_session(reply: Reply) -> bool:
    """Whether a refusal is about us and our settings rather than about this letter."""
    return reply.code in SESSION_CODES


def of_refusal(reply: Reply, at: str) -> Receipt:
    """The receipt for a letter that was refused at MAIL, RCPT, DATA or after its end.

    4xx is "not now" and 5xx "never" (RFC 5321, section 4.2.1), except for 5xx replies that ask for a sign-in: the
    operator has to act, and the letter is not to blame.
    """
    reason = f"{at}: {reply}"
    if is_about_session(reply):
        return Receipt(
            Outcome.DEFERRED, reason=f"the server wants a sign-in or encryption; {reason}", retry_after=LATER
        )
    if 500 <= reply.code < 600:
        gone = at == "RCPT" and says_gone(reply.enhanced, reply.text)
        return Receipt(Outcome.REJECTED, reason=reason, elsewhere=_is_its_own(reply, at), no_such_address=gone)
    return Receipt(Outcome.DEFERRED, reason=reason, retry_after=LATER if reply.enhanced in _LATER else SOON)


def _is_its_own(reply: Reply, at: str) -> bool:
    """Whether a refusal is this server's own affair, so that another one may carry the letter: it does not take our
    sender, or nothing for places not its own. What it says of the recipient or the letter may be about them."""
    return at == "MAIL" or _RELAY.search(str(reply)) is not None


def of_answer(reply: Reply) -> Receipt:
    """The receipt for the reply to a letter's end."""
    if reply.good:
        return Receipt(Outcome.ACCEPTED, provider_message_id=queue_id(reply.text))
    if reply.code >= 400:
        return of_refusal(reply, "end of letter")
    return Receipt(Outcome.UNKNOWN, reason=f"the server answered the letter with {reply}")


def queue_id(text: str) -> str | None:
    """The server's own name for the letter, or its words where no known form fits; None if it said nothing."""
    words = _ENHANCED.sub("", text).strip()
    for form in _QUEUE_IDS:
        match = form.search(words)
        if match is not None:
            return match[1]
    return words[:100] or None
