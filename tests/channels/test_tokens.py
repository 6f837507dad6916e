"""Signed tokens: what was signed comes back, and nothing else does."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.tokens import BadToken, Signer

ROW = UUID(int=5), datetime(2026, 11, 1, 9, 30, 15, 123456, tzinfo=UTC)
signer = Signer(b"secret", "click")


@given(
    st.uuids(),
    st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
)
def test_what_was_signed_comes_back(message: UUID, at: datetime, payload: str) -> None:
    said = signer.read(signer.sign(message, at, payload))
    assert (said.message_id, said.created_at, said.payload) == (message, at, payload)


@given(st.data())
def test_one_changed_bit_is_refused(data: st.DataObject) -> None:
    raw = bytearray(urlsafe_b64decode(signer.sign(*ROW, "https://a.example/") + "=="))
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[place // 8] ^= 1 << place % 8
    with pytest.raises(BadToken):
        signer.read(urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode())


def test_a_changed_address_is_refused() -> None:
    token = signer.sign(*ROW, "https://good.example/")
    head = urlsafe_b64decode(token + "=" * (-len(token) % 4))[:40]
    forged = urlsafe_b64encode(head + b"https://evil.example/").rstrip(b"=").decode()
    with pytest.raises(BadToken):
        signer.read(forged)


@pytest.mark.parametrize("token", ["", "a", "=", "é", "%00", "A" * 53, "A" * 9000, "\u0000"])
def test_rubbish_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        signer.read(token)


def test_a_token_is_good_for_its_use_and_installation_only() -> None:
    token = signer.sign(*ROW)
    for other in (Signer(b"secret", "unsubscribe"), Signer(b"another", "click")):
        with pytest.raises(BadToken):
            other.read(token)
