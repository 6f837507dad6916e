"""Our signatures, verified by another implementation (dkimpy)."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from channels.email import dkim, mime
from channels.provider import Letter
from core.errors import Misconfigured

AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
KEYS = [dkim.Key("r1", dkim.generate("rsa")), dkim.Key("e1", dkim.generate("ed25519"))]
SIGNER = dkim.Signer("export.example", KEYS)
RECORDS = {f"{key.selector}._domainkey.export.example.".encode(): dkim.dns_record(key.private).encode() for key in KEYS}
HEADERS = {
    "List-Unsubscribe": "<https://export.example/u/abc>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}


def letter(html: str = "<p>Hi  there\t!</p>", text: str = "Hi", subject: str = "Hello") -> Letter:
    return Letter(UUID(int=1), "Export <news@export.example>", "a@b.example", subject, html, text, HEADERS)


def lookup(name: bytes, timeout: int = 5) -> bytes | None:
    return RECORDS.get(name)


def signed(made: mime.Mime, signer: dkim.Signer = SIGNER) -> bytes:
    return signer.sign(made.fields, made.body, AT) + made.head() + made.body


def verified(whole: bytes) -> list[bool]:
    count = len(re.findall(rb"(?im)^dkim-signature:", whole))
    return [bool(dkimpy.DKIM(whole).verify(idx=index, dnsfunc=lookup)) for index in range(count)]


def holds(whole: bytes) -> list[bool]:
    """Like `verified`, where a failed check may also be an exception."""
    try:
        return verified(whole)
    except dkimpy.DKIMException:
        return [False]


def test_both_signatures_verify() -> None:
    assert verified(signed(mime.build(letter(), AT))) == [True, True]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    html=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" \t\n"), max_size=200),
    subject=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=120),
)
def test_any_letter_verifies(html: str, subject: str) -> None:
    whole = signed(mime.build(letter(html=html, subject=subject), AT))
    assert verified(whole) == [True, True]


@given(body=st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"x", b"yy ", b"\r\n\r\n"]), max_size=30).map(b"".join))
def test_relaxed_body_is_what_dkimpy_makes(body: bytes) -> None:
    body += b"\r\n"
    assert dkim.relaxed_body(body) == dkimpy.canonicalization.Relaxed.canonicalize_body(body)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"<p>Hi", b"<p>Ho"),
        (b"Subject: Hello", b"Subject: Hullo"),
        (b"One-Click", b"Two-Click"),
        (b"/u/abc>", b"/u/abd>"),
        (b"To: a@", b"To: b@"),
        (b"From: Export", b"From: Import"),
        (b"Subject:", b"From: other@export.example\r\nSubject:"),
        (b"Subject:", b"Subject: another\r\nSubject:"),
        (b"Subject:", b"List-Unsubscribe: <https://evil.example>\r\nSubject:"),
        (b"Subject:", b"Reply-To: other@export.example\r\nSubject:"),
    ],
)
def test_a_changed_letter_does_not_verify(before: bytes, after: bytes) -> None:
    whole = signed(mime.build(letter(), AT))
    assert before in whole
    assert not any(holds(whole.replace(before, after, 1)))


def test_relaying_may_change_white_space() -> None:
    whole = signed(mime.build(letter(), AT))
    assert verified(whole.replace(b"Subject: Hello", b"SUBJECT:   Hello  ")) == [True, True]


def test_signature_lines_are_short() -> None:
    block = SIGNER.sign(mime.build(letter(), AT).fields, b"x\r\n", AT)
    assert max(map(len, block.split(b"\r\n"))) <= 100
    assert block.endswith(b"\r\n")


def test_keys_from_file_and_pem(tmp_path: Path) -> None:
    file = tmp_path / "r1.pem"
    file.write_bytes(dkim.to_pem(KEYS[0].private))
    made = dkim.Signer.of(
        dkim.DkimSettings(
            domain="export.example",
            keys=(
                dkim.DkimKey(selector="r1", file=file),
                dkim.DkimKey(selector="e1", pem=SecretStr(dkim.to_pem(KEYS[1].private).decode())),
            ),
        )
    )
    assert verified(signed(mime.build(letter(), AT), made)) == [True, True]


def pem(private: Any) -> SecretStr:
    return SecretStr(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (dkim.DkimKey(selector="a"), "either"),
        (dkim.DkimKey(selector="a", file=Path("/nowhere.pem")), "cannot be read"),
        (dkim.DkimKey(selector="a", pem=SecretStr("nonsense")), "not a usable private key"),
        (dkim.DkimKey(selector="a", pem=pem(ec.generate_private_key(ec.SECP256R1()))), "RSA and Ed25519"),
        (dkim.DkimKey(selector="a", pem=pem(rsa.generate_private_key(65537, 1024))), None),
    ],
)
def test_unusable_keys_are_named(key: dkim.DkimKey, words: str | None) -> None:
    config = dkim.DkimSettings(domain="export.example", keys=(key,))
    if words is None:
        assert dkim.Signer.of(config).keys[0].algorithm == "rsa-sha256"
        return
    with pytest.raises(Misconfigured, match=words):
        dkim.Signer.of(config)


def test_zone_line_splits_long_strings() -> None:
    line = dkim.zone_line("export.example", "r1", KEYS[0].private)
    strings = re.findall(r'"([^"]*)"', line)
    assert line.startswith("r1._domainkey.export.example. IN TXT")
    assert "".join(strings) == dkim.dns_record(KEYS[0].private)
    assert all(len(string) <= 255 for string in strings)
