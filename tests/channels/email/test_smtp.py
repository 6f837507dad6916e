"""Handing letters over to servers that behave well, badly and worse."""

import asyncio
import os
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from uuid import UUID

import dkim as dkimpy
import pytest

from channels.email import SmtpProvider, SmtpSettings, dkim, mime
from channels.provider import Letter, Outcome, Receipt
from core.errors import InvalidInput, Misconfigured, Unavailable
from tests.channels.email.servers import DROP, EHLO, HANG, Handler, Script, certificate, knows, real, scripted
from tests.peers import needs_peer


def letter(number: int = 1, **changes: Any) -> Letter:
    values: dict[str, Any] = {
        "message_id": UUID(int=number),
        "sender": "Export <news@export.example>",
        "recipient": f"a{number}@shop{number % 3}.example",
        "subject": f"Letter {number}",
        "html": "<p>Hello</p>\n.dot\n..dots\n",
        "text": "Hello\n.dot",
        "headers": {},
    }
    return Letter(**{**values, **changes})


@asynccontextmanager
async def provider(port: int, options: str = "", scheme: str = "smtp", **given: Any) -> AsyncIterator[SmtpProvider]:
    made = SmtpProvider(SmtpSettings.of(f"{scheme}://127.0.0.1:{port}?{options}"), **given)
    try:
        yield made
    finally:
        await made.close()


def telling(event: asyncio.Event, words: str) -> Callable[[str], str]:
    """An answer that also tells the test that it was given."""

    def answer(_line: str) -> str:
        event.set()
        return words

    return answer


async def outcome_of(script: Script, **changes: Any) -> Receipt:
    """Hand one letter to such a server. Only where it will never answer is the time short: machines may be busy."""
    silent = script.deaf or {HANG, "250-never ending"} & {script.greeting, *map(str, script.answers.values())}
    options = "timeout=0.3&answer=0.3" if silent else "timeout=20&answer=20"
    async with scripted(script) as port, provider(port, options) as smtp:
        (receipt,) = await smtp.hand_over([letter(**changes)])
        return receipt


async def test_letters_arrive_and_answer_in_order() -> None:
    handler = Handler()
    async with real(handler, enable_SMTPUTF8=True) as port, provider(port, "connections=3") as smtp:
        receipts = await smtp.hand_over([letter(number) for number in range(40)])
    assert [receipt.outcome for receipt in receipts] == [Outcome.ACCEPTED] * 40
    assert sorted(to for _, (to,), _ in handler.letters) == sorted(f"a{n}@shop{n % 3}.example" for n in range(40))
    sender, _, source = handler.letters[0]
    message = message_from_bytes(source, policy=policy.default)
    assert sender == "news@export.example"
    body = message.get_body(("html",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == "<p>Hello</p>\n.dot\n..dots\n"
    by_id = {f"A{index}": to for index, (_, (to,), _) in enumerate(handler.letters, 1)}
    assert [by_id[receipt.provider_message_id or ""] for receipt in receipts] == [
        letter(number).recipient for number in range(40)
    ]


async def test_a_letter_that_begins_with_a_dot() -> None:
    handler = Handler()
    async with real(handler) as port, provider(port) as smtp:
        await smtp.hand_over([letter(html="", text=".first\n")])
    assert handler.letters[0][2].endswith(b"\r\n\r\n.first\r\n\r\n")


async def test_nothing_to_hand_over() -> None:
    async with provider(1) as smtp:
        assert await smtp.hand_over([]) == []


@pytest.mark.parametrize("kind", ["pipelining", "plain", "helo"])
async def test_one_round_trip_where_the_server_pipelines(kind: str) -> None:
    answers: dict[str, Any] = {"plain": {"EHLO": "250 test"}, "helo": {"EHLO": "502 no", "HELO": "250 hi"}}.get(
        kind, {}
    )
    script = Script(answers)
    async with scripted(script) as port, provider(port, "connections=1") as smtp:
        receipts = await smtp.hand_over([letter(1), letter(2)])
    assert [receipt.outcome for receipt in receipts] == [Outcome.ACCEPTED] * 2
    assert script.connections == 1
    assert len(script.letters) == 2
    assert receipts[0].provider_message_id == "Q1"


async def test_connections_are_kept_between_calls() -> None:
    script = Script()
    async with scripted(script) as port, provider(port) as smtp:
        for number in range(3):
            await smtp.hand_over([letter(number)])
        assert script.connections == 1
    assert script.lines[-1] == "QUIT"


async def test_a_connection_carries_so_many_letters() -> None:
    script = Script()
    async with scripted(script) as port, provider(port, "connections=1&letters_per_connection=2") as smtp:
        await smtp.hand_over([letter(number) for number in range(5)])
    assert script.connections == 3
    assert script.lines.count("QUIT") == 3


async def test_a_fresh_connection_takes_the_place_of_an_idle_one() -> None:
    script = Script()
    async with scripted(script) as port, provider(port, "connections=1") as smtp:
        await smtp.hand_over([letter()])
        await smtp.check()
    assert script.connections == 2
    assert script.lines.count("QUIT") == 1  # of the one that is left; two would be more than may be open


async def test_an_idle_connection_is_closed() -> None:
    script = Script()
    gone = asyncio.Event()
    script.answers["QUIT"] = telling(gone, "221 bye")
    async with scripted(script) as port, provider(port, "idle=0.05") as smtp:
        await smtp.hand_over([letter()])
        await asyncio.wait_for(gone.wait(), 5)


# What becomes of a letter: nobody there, or trouble before the letter has left


async def test_nobody_listens() -> None:
    async with scripted(Script()) as port:
        pass
    async with provider(port) as smtp:
        (receipt,) = await smtp.hand_over([letter()])
        assert receipt.outcome is Outcome.DEFERRED
        assert "cannot be reached" in receipt.reason
        assert receipt.retry_after is not None
        with pytest.raises(Unavailable, match="cannot be reached"):
            await smtp.check()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(greeting=HANG), "no answer within"),
        (Script(greeting=DROP), "closed the connection|lost"),
        (Script(greeting="421 busy"), "busy"),
        (Script(greeting="554 go away"), "go away"),
        (Script(greeting="HTTP/1.1 400 Bad Request"), "not SMTP"),
        (Script(greeting="2" * 10_000), "not SMTP|too long"),
        (Script({"EHLO": HANG}), "no answer within"),
        (Script({"EHLO": DROP}), "closed the connection|lost"),
        (Script({"EHLO": "550 no", "HELO": "550 no"}), "550 no"),
        (Script({"MAIL": HANG}), "no answer within"),
        (Script({"MAIL": "250-never ending"}), "no answer within"),
        (Script({"MAIL": "421 4.7.0 too many"}), "too many"),
        (Script({"MAIL": "451 4.3.0 later"}), "451 4.3.0 later"),
        (Script({"MAIL": "530 5.7.0 sign in"}), "sign-in"),
        (Script({"RCPT": "450 4.7.1 greylisted"}), "greylisted"),
        (Script({"RCPT": "452 4.2.2 mailbox full"}), "full"),
        (Script({"RCPT": DROP}), "closed the connection|lost"),
        (Script({"RCPT": "banana"}), "not SMTP"),
        (Script({"RCPT": "199 odd"}), "not SMTP"),
        (Script({"DATA": HANG}), "no answer within"),
        (Script({"DATA": DROP}), "closed the connection|lost"),
        (Script({"DATA": "451 later"}), "later"),
        (Script({"DATA": "250 what"}), "unexpected"),
        (Script({"END": "451 4.3.0 disk full"}), "disk full"),
        (Script({"END": "421 4.3.2 going down"}), "going down"),
    ],
    ids=lambda value: repr(value.answers or value.greeting[:20]) if isinstance(value, Script) else None,
)
async def test_deferred_when_surely_not_taken(script: Script, words: str) -> None:
    receipt = await outcome_of(script)
    assert receipt.outcome is Outcome.DEFERRED
    assert re.search(words, receipt.reason)
    assert receipt.retry_after is not None
    assert receipt.retry_after > timedelta()
    assert [one for one in script.letters if one != b".\r\n"] == [] or "END" in script.answers


@pytest.mark.parametrize(
    "answers",
    [
        {"MAIL": "553 5.1.8 not this sender"},
        {"RCPT": "550 5.1.1 no such user"},
        {"RCPT": "550-5.1.1 no\r\n550 5.1.1 such user"},
        {"DATA": "554 5.7.1 no"},
        {"END": "554 5.7.1 spam"},
        {"END": "552 5.3.4 too big"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("pipelining", [True, False])
async def test_rejected_for_good(answers: dict[str, Any], pipelining: bool) -> None:
    answers = answers if pipelining else {**answers, "EHLO": "250 test"}
    receipt = await outcome_of(Script(dict(answers)))
    assert receipt.outcome is Outcome.REJECTED
    assert re.search(r": 55\d ", receipt.reason)
    assert receipt.no_such_address is ("5.1.1" in str(answers))


@pytest.mark.parametrize("after", ["554 no valid recipients", "354 go"], ids=["refuses DATA", "stray go-ahead"])
async def test_a_refused_recipient_leaves_the_conversation_usable(after: str) -> None:
    """With pipelining DATA has gone out before the refusal is known (RFC 2920, section 3.1)."""
    script = Script({"RCPT": lambda line: "550 5.1.1 no such user" if "bad" in line else "250 ok"})
    script.answers["DATA"] = lambda _line: after if "bad" in script.lines[-2] else "354 go"
    async with scripted(script) as port, provider(port, "connections=1") as smtp:
        letters = [letter(1), letter(2, recipient="bad@shop.example"), letter(3)]
        receipts = await smtp.hand_over(letters)
    assert [receipt.outcome for receipt in receipts] == [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.ACCEPTED]
    assert script.connections == 1
    assert len([one for one in script.letters if one != b".\r\n"]) == 2


# In doubt: the letter had left


@pytest.mark.parametrize("end", [DROP, HANG, "banana", "354 again"])
async def test_unknown_after_the_final_dot(end: str) -> None:
    receipt = await outcome_of(Script({"END": end}))
    assert receipt.outcome is Outcome.UNKNOWN
    assert receipt.reason


async def test_dropped_in_the_middle_of_a_big_letter_is_not_in_doubt() -> None:
    script = Script({"EHLO": "250 test"}, drop_after_bytes=1000)
    receipt = await outcome_of(script, html="x" * 900 + "\n", text=("y" * 900 + "\n") * 20_000)
    assert receipt.outcome is Outcome.DEFERRED


async def test_server_that_stops_reading_is_not_in_doubt() -> None:
    """18 MB do not fit into the network's buffers, so the end has not left."""
    script = Script({"EHLO": "250 test"}, deaf=True)
    receipt = await outcome_of(script, text=("y" * 900 + "\n") * 20_000)
    assert receipt.outcome is Outcome.DEFERRED
    assert "no answer within" in receipt.reason


# Neighbours


async def test_a_bad_connection_fails_only_its_own_letter() -> None:
    script = Script({"RCPT": lambda line: DROP if "a7@" in line else "250 ok"})
    async with scripted(script) as port, provider(port, "connections=4") as smtp:
        receipts = await smtp.hand_over([letter(number) for number in range(20)])
    assert [index for index, receipt in enumerate(receipts) if receipt.outcome is not Outcome.ACCEPTED] == [7]
    assert receipts[7].outcome is Outcome.DEFERRED


async def test_a_server_that_falls_silent_puts_few_letters_in_doubt() -> None:
    script = Script({"END": HANG})
    async with scripted(script) as port, provider(port, "connections=2&answer=0.2") as smtp:
        receipts = await smtp.hand_over([letter(number) for number in range(30)])
    outcomes = Counter(receipt.outcome for receipt in receipts)
    assert outcomes == {Outcome.UNKNOWN: 4, Outcome.DEFERRED: 26}
    assert script.lines.count("DATA") == 4


async def test_server_that_takes_one_connection_only_gets_all_letters_on_it() -> None:
    script = Script()
    busy = "421 too many connections"

    def hello(_line: str) -> str:
        return EHLO if script.connections == 1 else busy

    script.answers = {"EHLO": hello, "HELO": busy}
    async with scripted(script) as port, provider(port, "connections=5") as smtp:
        (first,) = await smtp.hand_over([letter(0)])
        receipts = await smtp.hand_over([letter(number) for number in range(1, 20)])
    assert first.outcome is Outcome.ACCEPTED
    assert {receipt.outcome for receipt in receipts} == {Outcome.ACCEPTED}


async def test_a_kept_connection_that_died_is_replaced() -> None:
    script = Script()
    script.answers["MAIL"] = lambda _line: DROP if script.connections == 1 and script.letters else "250 ok"
    async with scripted(script) as port, provider(port) as smtp:
        (first,) = await smtp.hand_over([letter(1)])
        (second,) = await smtp.hand_over([letter(2)])
    assert (first.outcome, second.outcome) == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert len(script.letters) == 2
    assert script.connections == 2


async def test_unusable_letters_are_rejected_and_the_others_go() -> None:
    script = Script()
    letters = [
        letter(1),
        letter(2, subject="Hi\r\nBcc: x@y.example"),
        letter(3, recipient="nonsense"),
        letter(4, recipient="анна@shop.example"),
        letter(5, text="x" * 250_000),
        letter(6),
    ]
    async with scripted(script) as port, provider(port) as smtp:
        receipts = await smtp.hand_over(letters)
    assert [receipt.outcome.value for receipt in receipts] == ["accepted", *["rejected"] * 4, "accepted"]
    assert "line break" in receipts[1].reason
    assert "SMTPUTF8" in receipts[3].reason
    assert "at most 200000" in receipts[4].reason
    assert len(script.letters) == 2
    assert not any("Bcc" in line for line in script.lines)


async def test_a_defect_over_one_letter_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    build = mime.build

    def broken(one: Letter, at: datetime) -> mime.Mime:
        if one.subject == "broken":
            raise KeyError("a defect")
        return build(one, at)

    monkeypatch.setattr(mime, "build", broken)
    script = Script()
    async with scripted(script) as port, provider(port) as smtp:
        receipts = await smtp.hand_over([letter(1), letter(2, subject="broken"), letter(3)])
    assert [receipt.outcome.value for receipt in receipts] == ["accepted", "rejected", "accepted"]
    assert "KeyError" in receipts[1].reason
    assert len(script.letters) == 2


async def test_cancelled_hand_over_leaves_a_working_provider() -> None:
    script = Script({"END": HANG})
    reached = asyncio.Event()
    script.answers["DATA"] = telling(reached, "354 go")
    async with scripted(script) as port, provider(port) as smtp:
        task = asyncio.create_task(smtp.hand_over([letter()]))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del script.answers["END"]
        (receipt,) = await smtp.hand_over([letter(2)])
    assert receipt.outcome is Outcome.ACCEPTED


# Signing in and encryption


@pytest.mark.parametrize("excluded", [[], ["PLAIN"]], ids=["PLAIN", "LOGIN alone"])
async def test_signs_in(tmp_path: Path, excluded: list[str]) -> None:
    context, ca = certificate(tmp_path)
    options: dict[str, Any] = {"authenticator": knows(b"u@x", b"p:w/d"), "auth_exclude_mechanism": excluded}
    async with real(Handler(), tls_context=context, auth_required=True, **options) as port:
        async with provider(port, f"ca={ca}", "smtp+starttls") as nobody:
            (receipt,) = await nobody.hand_over([letter()])
            assert receipt.outcome is Outcome.DEFERRED
            assert "sign-in" in receipt.reason
        smtp = SmtpProvider(SmtpSettings.of(f"smtp+starttls://u%40x:p%3Aw%2Fd@127.0.0.1:{port}?ca={ca}"))
        await smtp.check()
        (receipt,) = await smtp.hand_over([letter()])
        await smtp.close()
    assert receipt.outcome is Outcome.ACCEPTED


async def test_wrong_password_is_misconfigured_and_rejects_nothing(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path)
    async with real(Handler(), tls_context=context, authenticator=knows(b"u", b"right"), auth_required=True) as port:
        smtp = SmtpProvider(SmtpSettings.of(f"smtp+starttls://u:wrong@127.0.0.1:{port}?ca={ca}"))
        with pytest.raises(Misconfigured, match="AUTH: 535"):
            await smtp.check()
        (receipt,) = await smtp.hand_over([letter()])
        await smtp.close()
    assert receipt.outcome is Outcome.DEFERRED
    assert "wrong" not in receipt.reason


async def test_server_without_a_known_way_to_sign_in() -> None:
    async with scripted(Script()) as port:
        smtp = SmtpProvider(SmtpSettings.of(f"smtp://u:p@127.0.0.1:{port}"))
        with pytest.raises(Misconfigured, match="neither AUTH PLAIN nor AUTH LOGIN"):
            await smtp.check()
        await smtp.close()


async def test_starttls_and_direct_tls_with_checked_certificate(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path)
    handler = Handler()
    async with real(handler, tls_context=context, require_starttls=True) as port:
        async with provider(port, f"ca={ca}", "smtp+starttls") as smtp:
            (receipt,) = await smtp.hand_over([letter()])
            assert receipt.outcome is Outcome.ACCEPTED
        async with provider(port) as unencrypted:
            (receipt,) = await unencrypted.hand_over([letter()])
            assert receipt.outcome is Outcome.DEFERRED
    async with real(handler, direct_tls=context) as port, provider(port, f"ca={ca}", "smtps") as smtp:
        receipts = await smtp.hand_over([letter(number) for number in range(5)])
        assert {receipt.outcome for receipt in receipts} == {Outcome.ACCEPTED}


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
async def test_unknown_authority_is_refused_unless_told_otherwise(tmp_path: Path, scheme: str) -> None:
    context, _ = certificate(tmp_path)
    tls: dict[str, Any] = {"direct_tls": context} if scheme == "smtps" else {"tls_context": context}
    async with real(Handler(), **tls) as port:
        async with provider(port, "", scheme) as smtp:
            with pytest.raises(Misconfigured, match=r"certificate.*cannot be trusted"):
                await smtp.check()
            (receipt,) = await smtp.hand_over([letter()])
            assert receipt.outcome is Outcome.DEFERRED
        async with provider(port, "verify=no", scheme) as smtp:
            (receipt,) = await smtp.hand_over([letter()])
            assert receipt.outcome is Outcome.ACCEPTED


async def test_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    context, ca = certificate(tmp_path, ["mail.example"])
    async with real(Handler(), direct_tls=context) as port:
        smtp = SmtpProvider(SmtpSettings.of(f"smtps://localhost:{port}?ca={ca}"))
        with pytest.raises(Misconfigured, match="cannot be trusted"):
            await smtp.check()
        await smtp.close()


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (Script(), Misconfigured, "STARTTLS is not offered"),
        (Script({"EHLO": "250-test\r\n250 STARTTLS", "STARTTLS": "454 later"}), Unavailable, "454 later"),
        (
            Script({"EHLO": "250-test\r\n250 STARTTLS", "STARTTLS": "220 go\r\n250 injected"}),
            Unavailable,
            "before encry",
        ),
        (Script({"EHLO": "250-test\r\n250 STARTTLS", "STARTTLS": DROP}), Unavailable, "closed|lost"),
    ],
    ids=["not offered", "later", "injection", "drop"],
)
async def test_starttls_that_does_not_come_about(script: Script, error: type[Exception], words: str) -> None:
    async with scripted(script) as port, provider(port, "timeout=2", "smtp+starttls") as smtp:
        with pytest.raises(error, match=words):
            await smtp.check()
        (receipt,) = await smtp.hand_over([letter()])
    assert receipt.outcome is Outcome.DEFERRED
    assert script.letters == []


async def test_plain_text_server_behind_smtps() -> None:
    async with scripted(Script()) as port, provider(port, "timeout=2", "smtps") as smtp:
        with pytest.raises(Unavailable, match=r"encryption|reached|lost"):
            await smtp.check()


async def test_international_address_goes_by_smtputf8() -> None:
    script = Script({"EHLO": "250-test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8"})
    async with scripted(script) as port, provider(port) as smtp:
        (receipt,) = await smtp.hand_over([letter(recipient="анна@почта.рф")])
    assert receipt.outcome is Outcome.ACCEPTED
    assert "MAIL FROM:<news@export.example> BODY=8BITMIME SMTPUTF8" not in script.lines[0]
    assert any("SMTPUTF8" in line for line in script.lines)
    assert "RCPT TO:<анна@xn--80a1acny.xn--p1ai>" in script.lines


@pytest.mark.parametrize(
    ("options", "sender"), [("", "b-1@in.example"), ("return_path=bounce@export.example", "bounce@export.example")]
)
async def test_a_letter_has_its_own_return_path_unless_the_provider_has_one(options: str, sender: str) -> None:
    handler = Handler()
    async with real(handler) as port, provider(port, options) as smtp:
        await smtp.hand_over([letter(return_path="b-1@in.example")])
    assert [one[0] for one in handler.letters] == [sender]


async def test_letters_are_signed_and_bounces_go_to_the_return_path() -> None:
    keys = [dkim.Key("r1", dkim.generate("rsa")), dkim.Key("e1", dkim.generate("ed25519"))]
    records = {
        f"{key.selector}._domainkey.export.example.".encode(): dkim.dns_record(key.private).encode() for key in keys
    }
    handler = Handler()
    signer = dkim.Signer("export.example", keys)
    async with (
        real(handler) as port,
        provider(port, "return_path=bounce@export.example", signer=signer) as smtp,
    ):
        await smtp.hand_over([letter(number) for number in range(20)])
    for sender, _, source in handler.letters:
        assert sender == "bounce@export.example"
        checks = [dkimpy.DKIM(source).verify(index, dnsfunc=lambda name, timeout=5: records[name]) for index in (0, 1)]
        assert checks == [True, True]
    assert len(handler.letters) == 20


# Whose affair a refusal is


@pytest.mark.parametrize(
    ("verb", "words", "elsewhere"),
    [
        ("MAIL", "550 5.7.1 sender blocked", True),
        ("RCPT", "554 5.7.1 <a@b.example>: Relay access denied", True),
        ("RCPT", "550 relaying to b.example prohibited by administrator", True),
        ("RCPT", "550 5.1.1 no such user", False),
        ("END", "554 5.7.1 this looks like spam", False),
    ],
)
async def test_another_server_may_carry_what_this_one_refuses_for_itself(
    verb: str, words: str, elsewhere: bool
) -> None:
    async with scripted(Script({verb: words})) as port, provider(port) as smtp:
        [receipt] = await smtp.hand_over([letter()])
    assert (receipt.outcome, receipt.elsewhere) == (Outcome.REJECTED, elsewhere)


# Rate limits


# The URL


def test_url_is_read() -> None:
    settings = SmtpSettings.of("smtp+starttls://us%40er:p%2Fw@mail.example?connections=3&timeout=5")
    assert (settings.host, settings.port, settings.user) == ("mail.example", 587, "us@er")
    assert settings.password.get_secret_value() == "p/w"
    assert (settings.options.connections, settings.options.timeout) == (3, 5)
    assert SmtpSettings.of("smtps://h").port == 465
    assert SmtpSettings.of("smtp://h").port == 25
    assert "p/w" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://mail.example", "begins with one of"),
        ("smtp://", "names no server"),
        ("smtp://mail.example:99999", "cannot be read"),
        ("smtp://mail.example?conections=3", "known options"),
        ("smtp://mail.example?connections=0", "connections"),
        ("smtp://mail.example?connections=0", "connections"),
        ("smtp://mail.example?verify=maybe", "verify"),
        ("smtp://user:secret@mail.example", "unencrypted"),
    ],
)
def test_wrong_urls_are_named(url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        SmtpSettings.of(url)
    assert "secret" not in str(caught.value)


def test_unreadable_authority_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="ca="):
        SmtpSettings.of("smtps://h?ca=/nowhere.pem").tls()


def test_old_tls_is_refused() -> None:
    assert SmtpSettings.of("smtps://h").tls().minimum_version >= ssl.TLSVersion.TLSv1_2


# A peer by others


@pytest.fixture
async def smtp_sink() -> AsyncIterator[Callable[..., Any]]:
    program = needs_peer("smtp-sink", "postfix")
    running: list[asyncio.subprocess.Process] = []
    as_user = ("-u", "nobody") if os.geteuid() == 0 else ()  # it refuses to run as root, and others cannot change

    async def start(*options: str) -> int:
        async with scripted(Script()) as free:
            port = free
        process = await asyncio.create_subprocess_exec(
            program, *as_user, *options, f"127.0.0.1:{port}", "100",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        running.append(process)
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return port
        raise TimeoutError("smtp-sink does not listen")

    yield start
    for process in running:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ((), Outcome.ACCEPTED),
        (("-p",), Outcome.ACCEPTED),  # without PIPELINING
        (("-e",), Outcome.ACCEPTED),  # without ESMTP
        (("-q", "rcpt"), Outcome.DEFERRED),  # hangs up at RCPT
        (("-r", "rcpt"), Outcome.DEFERRED),  # 4xx at RCPT
        (("-f", "rcpt"), Outcome.REJECTED),  # 5xx at RCPT
        (("-f", "."), Outcome.REJECTED),
        (("-r", "."), Outcome.DEFERRED),
        (("-q", "."), Outcome.UNKNOWN),
    ],
    ids=str,
)
async def test_with_postfix_smtp_sink(smtp_sink: Any, options: tuple[str, ...], outcome: Outcome) -> None:
    port = await smtp_sink(*options)
    async with provider(port, "connections=4&timeout=5&answer=5") as smtp:
        count = 4 if "-q" in options else 30  # after two lost connections a sender stops
        receipts = await smtp.hand_over([letter(number) for number in range(count)])
    assert {receipt.outcome for receipt in receipts} == {outcome}
