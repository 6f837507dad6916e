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
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
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
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
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
    if isinstance(value, str):
        return _API_KEY.sub(HIDDEN, _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", value))
    if isinstance(value, dict):
        return dict(hide_secrets(None, "", value))
    if isinstance(value, (list, tuple)):
        return [_without_secrets(item) for item in value]
    return value


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
            before_send=lambda event, _hint: _without_secrets(event),
        )
    except sentry_sdk.utils.BadDsn as error:
        raise Misconfigured(f"KASKAD_SENTRY_DSN cannot be used: {error}") from None
    sentry_sdk.set_tag("role", role)


def _level(name: str) -> int:
    levels = logging.getLevelNamesMapping()
    if name.upper() not in levels:
        raise Misconfigured(f"KASKAD_LOG_LEVEL {name!r} is not one of debug, info, warning, error")
    return levels[name.upper()]
