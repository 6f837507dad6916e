"""Comparing what people write back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.answers import LIMIT, plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Да!", "да"),
        ("  YES, \nplease", "yes"),
        ("\n\n— ok —\n", "ok"),
        ("«Нет»", "нет"),
        ("1", "1"),
        ("call me  later.", "call me later"),
        ("!!!", ""),
        ("", ""),
    ],
)
def test_the_words_of_the_first_line(text: str, said: str) -> None:
    assert plain(text) == said


@given(st.text())
def test_it_is_settled_after_once(text: str) -> None:
    assert len(plain(text)) <= LIMIT
    assert plain(text) == "" or plain(plain(text)) != ""
