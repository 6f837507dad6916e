"""Why a message was not sent, in a sentence."""

from channels.policy import Reason

_WORDS = {
    Reason.CONTACT_GONE: "The contact was erased.",
    Reason.NO_ADDRESS: "The contact has no address for this channel.",
    Reason.INVALID_ADDRESS: "The contact's address cannot be written to.",
    Reason.NO_CONSENT: "The contact has not agreed to messages of this purpose on this channel, or refused them.",
    Reason.SUPPRESSED: "The address must not be used",
    Reason.DUPLICATE: "The address got the same step's message a moment before.",
    Reason.FREQUENCY_CAP: "The contact had enough messages lately",
    Reason.SENDER_BARRED: "The template's sender may not be used for this message",
    Reason.OVER_BUDGET: "The journey has spent what it may spend.",
    Reason.NO_ROUTE: "No provider carries messages to such an address.",
    Reason.NEVER_OPEN: "The journey's send window does not open within a year.",
    Reason.MISSING_VALUE: "The template needs a value that the contact or the event lacks",
    Reason.CANNOT_RENDER: "The template failed on the contact's values",
}
_MORE = {"erased": "The contact was erased."}


def sentence(reason: str | None) -> str | None:
    """The reason of a row as a sentence; a provider's own words stay as they are."""
    if reason is None:
        return None
    word, _, detail = reason.partition(": ")
    known = {str(one): words for one, words in _WORDS.items()} | _MORE
    words = known.get(word)
    if words is None:
        return reason
    return f"{words.rstrip('.')}: {detail}." if detail else f"{words.rstrip('.')}."
