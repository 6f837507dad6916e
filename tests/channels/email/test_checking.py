"""What `kaskad email check` says of domains, by a DNS server on this machine, and of letters."""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dkim as dkimpy
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from channels.email import dkim
from channels.email.checking import GMAIL_CLIP, Records, of_html, of_letter, of_records, of_signatures
from channels.email.cli import app

KEY = "v=DKIM1; k=rsa; p=" + "A" * 392
GOOD = {
    ("good.example", "MX"): ["10 mx.good.example."],
    ("good.example", "TXT"): ['"google-site-verification=x"', '"v=spf1 ip4:192.0.2.0/24 " "-all"'],
    ("_dmarc.good.example", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:d@good.example"'],
    ("k1._domainkey.good.example", "TXT"): [f'"{KEY[:200]}" "{KEY[200:]}"'],
}


@pytest.fixture
def dns_server() -> Iterator[str]:
    """A DNS server that knows GOOD, and nothing else."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
    listening.settimeout(0.1)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                data, client = listening.recvfrom(4096)
            except TimeoutError:
                continue
            asked = dns.message.from_wire(data)
            [question] = asked.question
            answer = dns.message.make_response(asked)
            kind = dns.rdatatype.to_text(question.rdtype)
            found = GOOD.get((question.name.to_text(omit_final_dot=True), kind))
            if found:
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
            else:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            listening.sendto(answer.to_wire(), client)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    stop.set()
    thread.join()
    listening.close()


def test_a_domain_on_the_command_line(dns_server: str) -> None:
    good = ["check", "good.example", "--selector", "k1", "--resolver", dns_server]
    told = CliRunner().invoke(app, good)
    assert told.exit_code == 0, told.output
    assert "mail goes to mx.good.example" in told.output
    found = json.loads(CliRunner().invoke(app, [*good, "--json"]).output)
    assert [(one["about"], one["level"]) for one in found] == [
        ("MX", "ok"), ("SPF", "ok"), ("DKIM k1", "ok"), ("DMARC", "ok"),
    ]  # fmt: skip
    bad = CliRunner().invoke(app, ["check", "bad.example", "--selector", "k1", "--resolver", dns_server, "--json"])
    assert bad.exit_code == 1
    assert [one["level"] for one in json.loads(bad.output)] == ["warning", "problem", "problem", "problem"]


@pytest.mark.parametrize(
    ("records", "about", "level", "words"),
    [
        (Records(txt=["v=spf1 +all"]), "SPF", "problem", "everybody"),
        (Records(txt=["v=spf1 -all", "v=spf1 ~all"]), "SPF", "problem", "none counts"),
        (
            Records(txt=["v=spf1 " + " ".join(f"include:{n}.example" for n in range(11)) + " ~all"]),
            "SPF",
            "problem",
            "11",
        ),
        (
            Records(
                txt=["v=spf1 include:a.example mx -all"],
                included={
                    "a.example": ["x", "v=spf1 include:b.example include:b.example a ?all"],
                    "b.example": ["v=spf1 mx a:x.example exists:%{i}.example include:%{d}.example -all"],
                },
            ),
            "SPF", "problem", "13 times",
        ),
        (
            Records(txt=["v=spf1 include:a.example -all"], included={"a.example": ["v=spf1 redirect=a.example"]}),
            "SPF", "problem", "receivers stop at 10",
        ),
        (
            Records(txt=["v=spf1 redirect=a.example -all"], included={"a.example": ["v=spf1 " + "a " * 11]}),
            "SPF", "ok", "redirect",
        ),
        (Records(txt=["v=spf1 include:a.example -all"], included={"a.example": ["x"]}), "SPF", "problem", "a.example"),
        (Records(txt=["v=spf1 ip4:192.0.2.1"]), "SPF", "warning", "others"),
        (Records(txt=["v=spf1 redirect=_spf.example"]), "SPF", "ok", "redirect"),
        (Records(txt=["v=spf10 -all"]), "SPF", "problem", "no SPF"),
        (Records(dkim={"k": ["v=DKIM1; p="]}), "DKIM k", "problem", "revoked"),
        (Records(dkim={"k": ["v=DKIM1; p=" + "A" * 120]}), "DKIM k", "problem", "short"),
        (Records(dkim={"k": ["v=DKIM1; k=ed25519; p=" + "A" * 44]}), "DKIM k", "ok", "ed25519"),
        (Records(), "DKIM", "warning", "looked for"),
        (Records(dmarc=["v=DMARC1; p=none; rua=mailto:x@y"]), "DMARC", "warning", "watches"),
        (Records(dmarc=["v=DMARC1; p=reject"]), "DMARC", "warning", "reports"),
        (Records(dmarc=["v=DMARC1; rua=mailto:x@y"]), "DMARC", "problem", "policy"),
        (Records(mx=[""]), "MX", "warning", "takes no mail"),
    ],
)  # fmt: skip
def test_what_records_mean(records: Records, about: str, level: str, words: str) -> None:
    [found] = [one for one in of_records("x.example", records) if one.about == about]
    assert (found.level, words in found.message) == (level, True), found


LETTER = """From: a@good.example
To: b@example.net
Subject: {subject}
Date: Mon, 23 Nov 2026 12:00:00 +0000
Message-ID: <1@good.example>
DKIM-Signature: v=1; a=rsa-sha256
List-Unsubscribe: <https://k.example/u/x>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain; charset=utf-8

Hi https://k.example/u/x
--b
Content-Type: text/html; charset=utf-8

{html}
--b--
"""
PAGE = '<p>Hi</p><img src="a.png" alt=""><a href="https://k.example/u/x">unsubscribe</a>'


def _told(source: str) -> list[tuple[str, str]]:
    return [(one.about, one.level) for one in of_letter(source.encode())]


def test_a_good_letter_has_nothing_to_mend() -> None:
    assert _told(LETTER.format(subject="Hi", html=PAGE)) == [("size", "ok")]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (("DKIM-Signature: v=1; a=rsa-sha256\n", ""), ("DKIM", "warning")),
        (("Date: Mon, 23 Nov 2026 12:00:00 +0000\n", ""), ("headers", "problem")),
        (("List-Unsubscribe: <https://k.example/u/x>\n", ""), ("unsubscribe", "problem")),
        (("List-Unsubscribe-Post: List-Unsubscribe=One-Click\n", ""), ("unsubscribe", "problem")),
        (("<p>Hi</p>", "<p>Hi</p>" * 12_000), ("size", "problem")),
        (("text/plain", "text/calendar"), ("text", "warning")),
        ((' alt=""', ""), ("images", "warning")),
    ],
)
def test_what_is_wrong_with_a_letter(changed: tuple[str, str], expected: tuple[str, str]) -> None:
    assert expected in _told(LETTER.format(subject="Hi", html=PAGE).replace(*changed))


@pytest.mark.parametrize(
    ("html", "about"),
    [
        ('<a href="http://a.example">x</a>', "links"),
        ('<a href="#">x</a>', "links"),
        ('<a href="https://evil.example/x">https://bank.example/login</a>', "links"),
        ("<script>1</script>", "HTML"),
        ('<a href="https://shop.bank.example/x">www.bank.example</a>', None),
        ('<a href="https://k.example/t/c/x">https://bank.example</a>', None),
    ],
)
def test_what_is_wrong_with_html(html: str, about: str | None) -> None:
    assert [one.about for one in of_html(html)] == ([about] if about else [])


# Signatures

RSA, ED = dkim.generate("rsa"), dkim.generate("ed25519")
KEYS = {"r1._domainkey.good.example": [dkim.dns_record(RSA)], "e1._domainkey.good.example": [dkim.dns_record(ED)]}
UNSIGNED = LETTER.format(subject="Hi  there", html=PAGE).replace("DKIM-Signature: v=1; a=rsa-sha256\n", "")


def _signed(canonical: tuple[bytes, bytes] = (b"relaxed", b"relaxed"), **more: Any) -> bytes:
    """A letter signed by somebody else's library."""
    source = UNSIGNED.replace("\n", "\r\n").encode() + b"\r\n\r\n"
    head = dkimpy.sign(source, b"r1", b"good.example", dkim.to_pem(RSA), canonicalize=canonical, **more)
    return bytes(head) + source


def _ours() -> bytes:
    head, _, body = UNSIGNED.replace("\n", "\r\n").encode().partition(b"\r\n\r\n")
    fields = [
        (name.decode(), value.strip()) for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))
    ]
    signer = dkim.Signer("good.example", [dkim.Key("r1", RSA), dkim.Key("e1", ED)])
    return signer.sign(fields, body, datetime.now(UTC)) + head + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "source",
    [
        _ours(), _ours().replace(b"\r\n", b"\n"), _signed(), _signed((b"simple", b"simple")),
        _signed((b"relaxed", b"simple")), _signed((b"simple", b"relaxed")),
        _signed(length=True) + b"-- \r\na footer\r\n",
    ],
)  # fmt: skip
def test_signatures_that_hold(source: bytes) -> None:
    told = of_signatures(source, KEYS)
    assert {one.level for one in told} == {"ok"}, told
    assert len(told) == source.count(b"DKIM-Signature:")


OTHER = {"r1._domainkey.good.example": [dkim.dns_record(dkim.generate("rsa"))]}


@pytest.mark.parametrize(
    ("source", "keys", "words"),
    [
        (_signed().replace(b"Hi https", b"Ho https"), KEYS, "the body was changed"),
        (_signed().replace(b"Hi  there", b"Ho there"), KEYS, "the headers were changed"),
        (_signed((b"simple", b"simple")).replace(b"Hi  there", b"Hi there"), KEYS, "the headers were changed"),
        (b"From: x@evil.example\r\n" + _signed(include_headers=[b"from", b"from"]), KEYS, "the headers were changed"),
        (_signed(), OTHER, "the key is another"),
        (_signed(), {}, "no key"),
        (_signed(), {"r1._domainkey.good.example": ["v=DKIM1; p="]}, "no key"),
        (_signed(), {"r1._domainkey.good.example": ["p=!!!"]}, "cannot be read"),
        (_signed(), {"r1._domainkey.good.example": ["p=AAAA"]}, "cannot be read"),
        (_signed(), {"r1._domainkey.good.example": KEYS["e1._domainkey.good.example"]}, "two kinds"),
        (_signed().replace(b"a=rsa-sha256", b"a=rsa-sha1"), KEYS, "algorithm"),
        (_signed(include_headers=[b"from"]).replace(b"h=from", b"h=date"), KEYS, "does not sign From"),
        (b"DKIM-Signature: v=1; d=../x; s=1\r\n" + UNSIGNED.encode(), KEYS, "names no key"),
    ],
)
def test_signatures_that_do_not_hold(source: bytes, keys: dict[str, list[str]], words: str) -> None:
    [told] = of_signatures(source, keys)
    assert (told.level, words in told.message) == ("problem", True), told


@given(st.binary(max_size=200), st.text(max_size=50))
def test_any_signature_is_looked_at_without_an_error(value: bytes, record: str) -> None:
    for source in (b"DKIM-Signature: d=a.example; s=s;" + value + b"\r\n\r\nx", _signed().replace(b"bh=", value)):
        of_signatures(source, {"s._domainkey.a.example": [record], "r1._domainkey.good.example": [record]})


def test_the_signature_of_a_saved_letter_on_the_command_line(
    dns_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = dkim.dns_record(RSA)
    monkeypatch.setitem(GOOD, ("r1._domainkey.good.example", "TXT"), [f'"{record[:200]}" "{record[200:]}"'])
    letter = tmp_path / "a.eml"
    for source, code in ((_signed(), 0), (_signed().replace(b"Hi https", b"Ho https"), 1)):
        letter.write_bytes(source)
        told = CliRunner().invoke(app, ["check", str(letter), "--resolver", dns_server])
        assert told.exit_code == code, told.output
        assert ("holds" in told.output) == (code == 0)


def test_includes_of_spf_are_looked_up(dns_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"s{number}.example" for number in range(11)]
    for name, following in zip(names, [*names[1:], "end.example"], strict=True):
        monkeypatch.setitem(GOOD, (name, "TXT"), [f'"v=spf1 include:{following} -all"'])
    monkeypatch.setitem(GOOD, ("end.example", "TXT"), ['"v=spf1 -all"'])
    told = CliRunner().invoke(app, ["check", "s0.example", "--resolver", dns_server])
    assert told.exit_code == 1
    assert "SPF asks the DNS 11 times" in told.output


def test_letters_and_templates_on_the_command_line(tmp_path: Path) -> None:
    letter = tmp_path / "a.eml"
    letter.write_text(UNSIGNED)
    assert CliRunner().invoke(app, ["check", str(letter)]).exit_code == 0
    template = tmp_path / "a.html"
    template.write_text(f"---\ntemplate: a\nsubject: x\n---\n<p>{'x' * GMAIL_CLIP}</p>")
    told = CliRunner().invoke(app, ["check", str(template)])
    assert told.exit_code == 1
    assert "Gmail cuts it" in told.output
    assert "unsubscribe_url" in told.output
    missing = CliRunner().invoke(app, ["check", str(tmp_path / "b.eml")])
    assert missing.exit_code != 0
