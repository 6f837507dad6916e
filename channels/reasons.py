"""Why a message was not sent, in words: the one list of them."""

from channels.policy import Reason

_ERASED = "erased"
"""What an erasure leaves on the rows of messages that had not left."""
_WORDS: dict[str, str] = {
    Reason.CONTACT_GONE: "the contact exists no more",
    Reason.NO_ADDRESS: "the contact has no address for {channel}",
    Reason.INVALID_ADDRESS: "the contact's address cannot be written to",
    Reason.NO_CONSENT: "the contact has not agreed to {purpose} by {channel}",
    Reason.SUPPRESSED: "the address must not be used",
    Reason.DUPLICATE: "the address got the same step's message a moment before",
    Reason.FREQUENCY_CAP: "the contact had enough messages lately",
    Reason.SENDER_BARRED: "the template's sender may not be used for this message",
    Reason.OVER_BUDGET: "the journey has spent what it may spend",
    Reason.NO_ROUTE: "no provider carries messages to such an address",
    Reason.NEVER_OPEN: "the journey's send window does not open within a year",
    Reason.MISSING_VALUE: "the template needs a value that the contact or the event lacks",
    Reason.CANNOT_RENDER: "the template failed on the contact's values",
    Reason.JOURNEY_STOPPED: "the journey was stopped before it could leave",
    Reason.LEFT_JOURNEY: "the contact left the journey before it could leave",
    _ERASED: "the contact was erased",
}


def clause(reason: str, channel: str = "this channel", purpose: str = "messages of this purpose") -> str | None:
    """The reason of a row as what follows "because"; None if it is in a provider's own words."""
    word, _, detail = reason.partition(": ")
    if word not in _WORDS:
        return None
    said = _WORDS[word].format(channel=channel, purpose=purpose)
    return f"{said}: {detail}" if detail else said


def sentence(reason: str | None) -> str | None:
    """The reason of a row as a sentence; a provider's own words stay as they are."""
    said = None if reason is None else clause(reason)
    return reason if said is None else f"{said[0].upper()}{said[1:]}."
