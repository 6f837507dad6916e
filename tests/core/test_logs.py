"""Logs are JSON where no person reads them, and carry no secrets."""

import gzip
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from core import logs
from core.errors import Misconfigured
from core.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _put_logging_back() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _line(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, object]]:
    text = capsys.readouterr().err
    return text, json.loads(text.splitlines()[-1])


def test_json_and_no_secrets(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(settings)
    structlog.get_logger("kaskad.test").info(
        "hand over",
        password="hunter2",
        url="smtp://user:hunter2@mail.example:25",
        nested={"api_key": "hunter2", "note": "kk_abcdefghijklmnopqrstuvwxyz0123456789"},
        contact_id=7,
    )
    text, line = _line(capsys)
    assert "hunter2" not in text and "kk_abc" not in text
    assert line["event"] == "hand over" and line["contact_id"] == 7 and line["level"] == "info"
    assert line["url"] == "smtp://user:[hidden]@mail.example:25"


class _Strange:
    def __repr__(self) -> str:
        return "<smtp://user:hunter2@mail>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({7: "seven", ("a",): {b"password": "hunter2"}}, "{'7': 'seven', \"('a',)\": {\"b'password'\": '[hidden]'}}"),
        ("smtp://user:hun/ter2@hunter2@mail.example/x", "smtp://user:[hidden]@mail.example/x"),
        ("smtp://user@example.com:hunter2@mail.example", "smtp://user@example.com:[hidden]@mail.example"),
        ("redis://:hunter2@mail.example", "redis://:[hidden]@mail.example"),
        ("https://x.example/?user=a&password=hunter2&b=1", "https://x.example/?user=a&password=[hidden]&b=1"),
        ("host=db sslpassword='hunter2 hunter2' user=k", "host=db sslpassword=[hidden] user=k"),
        (b"smtp://user:hunter2@mail.example\xff", "smtp://user:[hidden]@mail.example\\xff"),
        (_Strange(), "<smtp://user:[hidden]@mail>"),
        ([ValueError("postgresql://k:hunter2@db/k")], "[\"ValueError('postgresql://k:[hidden]@db/k')\"]"),
        ("http://127.0.0.1:8000/v1/events", "http://127.0.0.1:8000/v1/events"),
        (True, "True"),
    ],
)
def test_secrets_are_hidden_wherever_they_stand(
    value: object, shown: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(settings)
    structlog.get_logger().warning("seen", value=value)
    text, line = _line(capsys)
    assert "hunter2" not in text
    assert str(line["value"]) == shown


def test_libraries_go_the_same_way(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(settings)
    logging.getLogger("some.library").warning("cannot reach %s", "postgresql://kaskad:hunter2@db/kaskad")
    text, line = _line(capsys)
    assert "hunter2" not in text
    assert line["logger"] == "some.library"


def test_a_traceback_hides_passwords_too(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(settings)
    try:
        raise ValueError("cannot open smtp://user:hunter2@mail.example")
    except ValueError:
        structlog.get_logger().exception("failed")
    text, line = _line(capsys)
    assert "hunter2" not in text
    assert "ValueError" in str(line["exception"])


# A process of its own, since what reports errors hooks into everything.
_ROLE = """
import logging, os, sys
import sentry_sdk, structlog
from core import cli
from core.settings import Settings
from studio.commands.launching import begin
with cli.plain_errors():
    begin(Settings(), "worker")
structlog.get_logger().warning("not a defect", url="smtp://user:hunter2@mail.example")
try:
    raise ValueError("cannot open smtp://user:hunter2@mail.example")
except ValueError as error:
    structlog.get_logger("kaskad.test").error("a duty failed", exc_info=error, password="hunter2", contact_id=7)
sentry_sdk.flush(20)
"""


class Sink:
    """A service that takes error reports, on this machine."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.reports += [one for line in body.splitlines() if "exception" in (one := json.loads(line))]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self.server.server_port}/1"


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def _role(dsn: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KASKAD_DATA": str(tmp_path), "KASKAD_SENTRY_DSN": dsn}
    return subprocess.run(
        [sys.executable, "-c", _ROLE],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_defect_is_reported_once_with_its_traceback_and_without_secrets(sink: Sink, tmp_path: Path) -> None:
    done = _role(sink.dsn, tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = sink.reports
    (error,) = report["exception"]["values"]
    assert (error["type"], error["value"]) == ("ValueError", "cannot open smtp://user:[hidden]@mail.example")
    assert error["stacktrace"]["frames"]
    assert report["logentry"]["message"] == "a duty failed" and report["tags"]["role"] == "worker"
    assert report["extra"]["password"] == "[hidden]" and report["extra"]["contact_id"] == 7
    (before,) = report["breadcrumbs"]["values"]
    assert before["message"] == "not a defect" and before["data"]["url"] == "smtp://user:[hidden]@mail.example"
    assert "hunter2" not in json.dumps(report) and "hunter2" not in done.stderr


def test_an_address_for_reports_that_cannot_be_one(tmp_path: Path) -> None:
    done = _role("http://127.0.0.1/no-key-and-no-project", tmp_path)
    assert done.returncode == 1 and "KASKAD_SENTRY_DSN cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_reports_without_their_package_say_how_to_get_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)  # importing it fails, as where it is not installed
    wanted = settings.model_copy(update={"sentry_dsn": SecretStr("http://public@127.0.0.1/1")})
    with pytest.raises(Misconfigured, match=r"pip install 'kaskad\[sentry\]'"):
        logs.report_errors(wanted, "worker")


def test_an_unknown_level_is_refused(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="loud"):
        logs.configure(settings.model_copy(update={"log_level": "loud"}))
