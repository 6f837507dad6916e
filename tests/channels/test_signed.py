"""Addresses that name a message."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.signed import Addressed, SignedAddresses
from core.settings import Settings

OURS = SignedAddresses(b"secret", "in.example.com")
TAILED = SignedAddresses(b"secret", "hello+@example.com")


@given(st.uuids(), st.sampled_from(["bounce", "reply"]), st.sampled_from([OURS, TAILED]), st.booleans())
def test_an_address_is_read_back_in_any_case(number: UUID, use: str, ours: SignedAddresses, shout: bool) -> None:
    made = ours.make(use, number)  # type: ignore[arg-type]
    assert len(made.rpartition("@")[0]) <= 64
    assert ours.read(made.upper() if shout else made) == Addressed(use, number)  # type: ignore[arg-type]


@given(st.uuids(), st.integers(2, 43), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_one_letter_changed_and_it_is_nobodys(number: UUID, place: int, letter: str) -> None:
    made = OURS.make("bounce", number)
    changed = made[:place] + letter + made[place + 1 :]
    said = OURS.read(changed)
    # The last letter carries two bits that base32 does not use.
    assert said is None or changed == made or (place == 43 and said.message_id == number)


def test_uses_domains_and_installations_are_apart() -> None:
    made = OURS.make("bounce", uuid4())
    assert OURS.read("r" + made[1:]) is None
    assert OURS.read(made.replace("in.example.com", "example.com")) is None
    assert SignedAddresses(b"other", "in.example.com").read(made) is None
    assert TAILED.read(made) is None


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert OURS.read(text) is None
    assert OURS.find([text]) is None


def test_an_address_is_found_among_others() -> None:
    number = uuid4()
    made = OURS.make("reply", number)
    assert OURS.find(["Anna <anna@example.net>", f'"Kaskad, Inc" <{made}>, x@y']) == Addressed("reply", number)


@pytest.mark.parametrize("wrong", ["hello@example.com", "@", "a b.com", "hello+@", "x" * 30 + "+@example.com"])
def test_a_place_that_cannot_carry_tokens_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="mailbox with a tail"):
        Settings(inbound_address=wrong)
