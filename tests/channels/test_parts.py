"""Parts of a text: the limits of 3GPP TS 23.038 and 23.040."""

import pytest

from channels import parts


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("à{}" + "é" * 155, 1),  # the braces are of the extension: two septets each
        ("à{}" + "é" * 156, 2),
        ("a" * 152 + "€" + "a" * 152, 3),  # a pair does not stand in two parts, so the first one has 152
        ("a" * 153 + "€" + "a" * 151, 2),
        ("я" * 70, 1),
        ("я" * 71, 2),
        ("я" * 134, 2),
        ("я" * 135, 3),
        ("ç" + "a" * 69, 1),  # the alphabet has the capital only
        ("ç" + "a" * 70, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),  # 33 of them in each: 67 units is an odd number
    ],
)
def test_parts_of_an_sms(text: str, count: int) -> None:
    assert parts.count("sms", text) == count


def test_a_message_of_another_channel_is_one() -> None:
    assert [parts.count(channel, "я" * 1000) for channel in ("email", "webhook", "voice")] == [1, 1, 1]
