"""How many parts a text leaves in: what a provider's limit counts and its bill names.

An SMS carries 140 bytes (3GPP TS 23.040): 160 septets where every character is in the default alphabet of TS 23.038 or
its extension, which takes two septets for one; otherwise 70 units of UTF-16. What is longer leaves in parts, each with
a header of six bytes that puts them together again: 153 septets or 67 units. No character stands in two parts.
"""

from collections.abc import Iterable

COUNTED = frozenset({"sms"})
"""The channels whose messages may be of several parts; of all others a message is one, however long."""
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")


def count(channel: str, text: str) -> int:
    """The parts of a message with this text."""
    if channel not in COUNTED:
        return 1
    if all(letter in _BASIC or letter in _EXTENSION for letter in text):
        return _filled((2 if letter in _EXTENSION else 1 for letter in text), 160, 153)
    return _filled((2 if ord(letter) > 0xFFFF else 1 for letter in text), 70, 67)


def _filled(sizes: Iterable[int], whole: int, each: int) -> int:
    """The parts that characters of these sizes fill: one of `whole`, or several of `each`."""
    total = used = 0
    parts = 1
    for size in sizes:
        total += size
        if used + size > each:
            parts, used = parts + 1, 0
        used += size
    return 1 if total <= whole else parts
