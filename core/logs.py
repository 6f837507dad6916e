"""Structured logs: readable on a terminal, JSON elsewhere, and no secrets in either."""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from core.errors import Misconfigured
from core.settings import Settings

_SECRET_NAME = re.compile(r"password|secret|authorization|api_?key|credential|private|dsn|^key$|token$", re.IGNORECASE)
# Up to the last @: a password in which / or @ was not written as %XX is hidden, too. Rather too much than too little.
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:]*):\S+@")
_PARAMETER = re.compile(r"(\w*(?:password|passwd|secret|token|api_?key)=)(?:'[^']*'|[^&\s'\"]+)", re.IGNORECASE)
_API_KEY = re.compile(r"\bkk_[\w-]{20,}")
HIDDEN = "[hidden]"


def configure(settings: Settings) -> None:
    """Set up logging of this process: ours, and that of the libraries through the standard library."""
    as_json = not sys.stderr.isatty() if settings.log_json is None else settings.log_json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    rendering: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        rendering += [structlog.processors.format_exc_info, hide_secrets, structlog.processors.JSONRenderer()]
    else:
        rendering += [
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            _hand_over,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=rendering, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_level(settings.log_level))
    for chatty in ("httpx", "httpcore", "alembic", "aiosmtplib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def hide_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace values whose names say that they are secret, passwords inside URLs, and API keys."""
    return {
        name: HIDDEN if _SECRET_NAME.search(name) and value is not None else _without_secrets(value)
        for name, value in event.items()
    }


def _without_secrets(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return _without_secret_words(value)
    if isinstance(value, dict):
        return hide_secrets(None, "", {str(key): inner for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return [_without_secrets(item) for item in value]
    # Anything else is shown as a text in the end: bytes, an exception, a URL of some library.
    shown = value.decode(errors="backslashreplace") if isinstance(value, bytes) else repr(value)
    hidden = _without_secret_words(shown)
    return value if hidden == shown else hidden


def _without_secret_words(text: str) -> str:
    text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    return _API_KEY.sub(HIDDEN, _PARAMETER.sub(rf"\1{HIDDEN}", text))


def report_errors(settings: Settings, role: str) -> None:
    """Send unexpected errors to the Sentry-compatible service of KASKAD_SENTRY_DSN, if it is set.

    Raises:
        Misconfigured: it is set but the optional package is not installed, or the address is malformed.
    """
    if settings.sentry_dsn is None:
        return
    try:
        import sentry_sdk  # noqa: PLC0415 - optional
    except ImportError:
        raise Misconfigured(
            "KASKAD_SENTRY_DSN is set, but sentry-sdk is not installed: pip install 'kaskad[sentry]'"
        ) from None
    try:
        sentry_sdk.init(
            dsn=settings.sentry_dsn.get_secret_value(),
            send_default_pii=False,
            include_local_variables=False,
            max_request_body_size="never",
            before_send=_for_report,
            before_breadcrumb=_for_report,
        )
    except sentry_sdk.utils.BadDsn as error:
        raise Misconfigured(f"KASKAD_SENTRY_DSN cannot be used: {error}") from None
    sentry_sdk.set_tag("role", role)


def _for_report(event: Any, hint: dict[str, Any]) -> Any:
    """A report, or what happened before, without secrets. What our loggers are given arrives as one text of a dict."""
    record = hint.get("log_record")
    if isinstance(record, logging.LogRecord) and isinstance(record.msg, dict):
        said = hide_secrets(None, "", record.msg)
        words = said.pop("event", "")
        details = {name: value if isinstance(value, (int, str)) else str(value) for name, value in said.items()}
        details.pop("exc_info", None)
        if "logentry" in event:
            event["logentry"] = {"message": words}
            event["extra"] = {**event.get("extra", {}), **details}
        else:
            event["message"], event["data"] = words, details
    return _without_secrets(event)


def _hand_over(logger: Any, name: str, event: EventDict) -> tuple[tuple[EventDict], dict[str, Any]]:
    """Give an event to the standard library's logging, with its exception where others look for one."""
    arguments, named = structlog.stdlib.ProcessorFormatter.wrap_for_formatter(logger, name, event)
    return arguments, {**named, "exc_info": event.get("exc_info")}


def _level(name: str) -> int:
    levels = logging.getLevelNamesMapping()
    if name.upper() not in levels:
        raise Misconfigured(f"KASKAD_LOG_LEVEL {name!r} is not one of debug, info, warning, error")
    return levels[name.upper()]
