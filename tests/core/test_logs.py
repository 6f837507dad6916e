"""Logs are JSON where no person reads them, and carry no secrets."""

import json
import logging

import pytest
import structlog

from core import logs
from core.errors import Misconfigured
from core.settings import Settings


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


def test_an_unknown_level_is_refused(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="loud"):
        logs.configure(settings.model_copy(update={"log_level": "loud"}))
