"""`kaskad email dkim-key` and the URL options it prints."""

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import dkim as dkimpy
import pytest
from typer.testing import CliRunner

from channels.email import SmtpSettings, mime
from channels.email.cli import app
from channels.provider import Letter
from core.errors import InvalidInput, Misconfigured

AT = datetime(2026, 11, 22, tzinfo=UTC)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["dkim-key", "--domain", "export.example", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KASKAD_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("algorithm", ["rsa", "ed25519"])
def test_a_made_key_signs_letters_that_verify(data: Path, algorithm: str) -> None:
    code, output = run("--selector", "s1", "--algorithm", algorithm, "--json")
    assert code == 0
    made = json.loads(output)
    assert Path(made["file"]).stat().st_mode & 0o777 == 0o600
    signer = SmtpSettings.of(f"smtp://127.0.0.1?{made['url_options']}").signer(data)
    assert signer is not None
    letter = Letter(UUID(int=1), "news@export.example", "a@b.example", "Hi", "<p>Hi", "Hi")
    built = mime.build(letter, AT)
    whole = signer.sign(built.fields, built.body, AT) + built.head() + built.body
    records = {f"{made['name']}.".encode(): made["value"].encode()}
    assert dkimpy.DKIM(whole).verify(dnsfunc=lambda name, timeout=5: records[name])


def test_words_for_people_name_record_and_options(data: Path) -> None:
    code, output = run("--selector", "s1")
    assert code == 0
    assert "s1._domainkey.export.example" in output
    assert "v=DKIM1; k=rsa; p=" in output
    assert "dkim_domain=export.example&dkim_key=s1:dkim/export.example.s1.pem" in output


def test_a_key_is_never_overwritten(data: Path) -> None:
    run("--selector", "s1")
    before = (data / "dkim" / "export.example.s1.pem").read_bytes()
    assert run("--selector", "s1")[0] == 1
    assert (data / "dkim" / "export.example.s1.pem").read_bytes() == before


@pytest.mark.parametrize("arguments", [("--selector", "no spaces"), ("--selector", "s1", "--algorithm", "dsa")])
def test_wrong_arguments_make_nothing(data: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 1
    assert not (data / "dkim").exists()


def test_pem_in_the_url(data: Path) -> None:
    run("--selector", "s1")
    pem = (data / "dkim" / "export.example.s1.pem").read_text()
    signer = SmtpSettings.of(f"smtp://h?dkim_domain=export.example&dkim_key=s1:{quote(pem)}").signer(data)
    assert signer is not None
    assert signer.keys[0].algorithm == "rsa-sha256"
    assert SmtpSettings.of("smtp://h").signer(data) is None


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("dkim_domain=export.example", InvalidInput),
        ("dkim_key=s1:x.pem", InvalidInput),
        ("dkim_domain=bad domain&dkim_key=s1:x.pem", InvalidInput),
        ("dkim_domain=export.example&dkim_key=s1:x.pem", Misconfigured),
    ],
)
def test_half_a_setting_is_refused(data: Path, query: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"DKIM"):
        SmtpSettings.of(f"smtp://h?{query}").signer(data)
