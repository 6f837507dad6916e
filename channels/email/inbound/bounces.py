"""Letters that came back: delivery status notifications (RFC 3464), and what other servers write instead."""

import logging
import re
from collections.abc import Iterator
from email.message import Message

from flufl.bounce import all_failures

from channels.email.inbound.letters import header, parts, storable
from channels.provider import ReportKind

# It logs a traceback for each of its readers that trips over a letter; such a letter is kept for people anyway.
logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)

_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")

# Enhanced status codes (RFC 3463) of permanent failures after which the address is not to blame: full for now, too
# big a letter, a loop on the way, a policy, what was in it. The next letter may arrive.
_NOT_THE_ADDRESS = re.compile(r"5\.(?:2\.[234]|3\.\d+|4\.\d+|5\.\d+|6\.\d+|7\.\d+)")
# Bad mailbox, domain or syntax, moved without a trace, ambiguous; takes no mail (RFC 7505); disabled.
_NO_SUCH_ADDRESS = re.compile(r"5\.1\.(?:[1-46]|10)|5\.2\.1")
_SAYS_NOTHING = frozenset({"", "5.0.0", "5.1.0", "5.5.0"})
_NO_SUCH_USER = re.compile(
    r"(?:user|recipient) (?:is )?unknown|unknown (?:user|recipient)|no such (?:user|mailbox|recipient|address)|"
    r"(?:user|recipient|mailbox|account|address) (?:not found|(?:does not|doesn't) exist)|unrouteable address",
    re.IGNORECASE,
)
_OURS = re.compile(r"\b(?:sender|client|helo|ehlo|spf|relay\w*|denied|your)\b", re.IGNORECASE)
_GONE = re.compile(
    r"user unknown|unknown user|no such (?:user|mailbox|recipient|address)|does(?: not|n't) exist|invalid recipient|"
    r"recipient (?:address )?rejected: (?:user|undeliverable)|mailbox (?:unavailable|not found|is disabled)|"
    r"account (?:is )?(?:disabled|inactive|closed)|unrouteable address|host (?:or domain name )?not found",
    re.IGNORECASE,
)
_NOT_NOW = re.compile(
    r"quota|mailbox (?:is )?full|over\s?quota|insufficient storage|try again|temporar|too many|rate limit|greylist|"
    r"spam|blocked|black\s?list|blocklist|reputation|policy|dmarc",
    re.IGNORECASE,
)


def kind_of(status: str, words: str = "") -> ReportKind:
    """What a failure means for the address, by its enhanced status code and the server's words.

    Only what says that the address itself is no good is BOUNCED, for that suppresses it.
    """
    if _GONE.search(words) and not status.startswith("4."):
        return ReportKind.BOUNCED
    if status.startswith("4.") or _NOT_THE_ADDRESS.fullmatch(status) or _NOT_NOW.search(words):
        return ReportKind.SOFT_BOUNCED
    return ReportKind.BOUNCED


def says_gone(status: str, words: str) -> bool:
    """Whether a server that refuses a recipient for good says that there is none such.

    Stricter than `kind_of`: it says so before it has seen the letter, and many refuse senders and networks there,
    too. So policies (5.7.x) and words about the sender (5.1.7, 5.1.8) never count; without a status that names the
    address the words have to name it, and nothing else.

    Args:
        status: the enhanced status code (RFC 3463), or nothing.
        words: the whole answer.
    """
    if _NOT_NOW.search(words):
        return False
    if _NO_SUCH_ADDRESS.fullmatch(status):
        return True
    return status in _SAYS_NOTHING and _NO_SUCH_USER.search(words) is not None and not _OURS.search(words)


def is_notification(message: Message) -> bool:
    """Whether it is a delivery status notification."""
    return message.get_content_type() == "multipart/report" and any(
        part.get_content_type() == "message/delivery-status" for part in parts(message)
    )


def notified(message: Message) -> Iterator[tuple[ReportKind, str, str]]:
    """What a notification says of each recipient: kind, recipient, the server's words.

    `relayed` and `expanded` say that nobody will tell any more, so they are left out.
    """
    for part in parts(message):
        if part.get_content_type() != "message/delivery-status":
            continue
        for block in part.get_payload() if part.is_multipart() else []:
            if isinstance(block, Message) and block.get("Action"):
                said = _of_block(block)
                if said is not None:
                    yield said, _address(block), _words(block)
        return


def _of_block(block: Message) -> ReportKind | None:
    status = _STATUS.search(header(block, "Status"))
    words = _words(block)
    match header(block, "Action").partition(" ")[0].lower():
        case "failed":
            return kind_of(status.group() if status else "", words)
        case "delayed":
            return ReportKind.DEFERRED
        case "delivered":
            return ReportKind.DELIVERED
        case "relayed" | "expanded":
            return None
        case _:
            return ReportKind.UNKNOWN


def _address(block: Message) -> str:
    """`rfc822; anna@example.com`, of the original recipient where it is named."""
    value = header(block, "Original-Recipient") or header(block, "Final-Recipient")
    return value.rpartition(";")[2].strip().strip("<>")


def _words(block: Message) -> str:
    return " ".join(filter(None, [header(block, "Status"), header(block, "Diagnostic-Code")]))


def recognised(message: Message) -> list[tuple[ReportKind, str]]:
    """What a bounce in a form of its own says: kind and recipient; empty where it is none that flufl.bounce knows."""
    try:
        temporary, permanent = all_failures(message)
    except Exception:  # noqa: BLE001 - its readers trip over broken letters in every way; `_bounce` keeps the letter
        return []
    # Of an address that failed in both ways the worse one counts.
    kinds = dict.fromkeys(map(_plain, temporary), ReportKind.SOFT_BOUNCED)
    kinds |= dict.fromkeys(map(_plain, permanent), ReportKind.BOUNCED)
    return [(kind, address) for address, kind in sorted(kinds.items())]


def _plain(address: bytes | str) -> str:
    return storable(address.decode("utf-8", "replace") if isinstance(address, bytes) else address)
