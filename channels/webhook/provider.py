"""The provider `webhook://`: calls addresses, signed, never in private networks unless that is allowed."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog

from channels.keys import webhook_key
from channels.provider import Outcome, Receipt
from channels.webhook.call import WebhookMessage
from core.clock import now
from core.errors import InvalidInput, Misconfigured, Problem, Unavailable
from core.outbound import Answer, Caller, NoAnswer, Refused, Unreached, signature
from core.settings import Settings
from core.wire import retry_after

_log = structlog.get_logger()
_LATER = frozenset({408, 425, 429})
_LONGEST_WAIT = timedelta(hours=1)
_OPTIONS: dict[str, tuple[float, float, float]] = {"timeout": (10.0, 0.1, 60.0), "at_once": (50.0, 1.0, 200.0)}
"""Default, least and most."""


class WebhookProvider:
    """Calls addresses, a number of them at once."""

    def __init__(self, caller: Caller, key: bytes, timeout: float, at_once: int, test: str | None = None) -> None:
        self._caller = caller
        self._key = key
        self._timeout = timeout
        self._gate = asyncio.Semaphore(at_once)
        self._test = test

    async def hand_over(self, messages: Sequence[WebhookMessage]) -> list[Receipt]:
        """Call for each message; see `channels.provider.Provider`."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(message)) for message in messages]
        return [task.result() for task in tasks]

    async def check(self) -> None:
        """Each template has its own address; the one named by the option `test` has to answer, whatever it says."""
        if self._test is None:
            return
        try:
            await self._caller.call("GET", self._test, {"user-agent": "Kaskad"}, None, self._timeout)
        except NoAnswer as error:
            raise Unavailable(str(error)) from error
        except Refused as error:
            raise Misconfigured(str(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._caller.close()

    async def _one(self, message: WebhookMessage) -> Receipt:
        call, number = message.call, str(message.message_id)
        headers = {
            "user-agent": "Kaskad",
            **call.headers,
            "kaskad-id": number,
            "idempotency-key": number,
        }
        async with self._gate:
            try:
                headers["kaskad-signature"] = signature(self._key, call.body, now().timestamp())
                answer = await self._caller.call(call.method, call.url, headers, call.body or None, self._timeout)
            except Refused as error:
                return Receipt(Outcome.REJECTED, reason=str(error))
            except Unreached as error:
                return Receipt(Outcome.DEFERRED, reason=str(error))
            except NoAnswer as error:
                return Receipt(Outcome.UNKNOWN, reason=str(error))
            except Exception as error:  # noqa: BLE001 - one message's defect, logged and in its receipt
                # A defect over one message is that message's affair: the others of the batch are under way.
                _log.exception("webhook_failed", message=number)
                return Receipt(Outcome.UNKNOWN, reason=f"{type(error).__name__}: {error}")
        return judged(answer)


def judged(answer: Answer) -> Receipt:
    """What an answer means: 2xx is taken; 408, 425, 429 and 5xx ask for another time; all else is a refusal."""
    if 200 <= answer.status < 300:
        return Receipt(Outcome.ACCEPTED)
    reason = f"status {answer.status}"
    if answer.status in _LATER or answer.status >= 500:
        return Receipt(Outcome.DEFERRED, reason=reason, retry_after=_wait(answer))
    return Receipt(Outcome.REJECTED, reason=reason)


def _wait(answer: Answer) -> timedelta | None:
    asked = retry_after(answer.headers)
    return None if asked is None else min(asked, _LONGEST_WAIT)


def open_webhook(url: str, settings: Settings) -> WebhookProvider:
    """The provider of a URL such as `webhook://?timeout=5`.

    Raises:
        InvalidInput: an option that does not exist or cannot be.
    """
    parts = urlsplit(url)
    given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    private, test = given.pop("private", "no"), given.pop("test", None)
    problems = [
        Problem(f"webhook:// has no option {name}", f"there are {', '.join([*_OPTIONS, 'private', 'test'])}")
        for name in given
        if name not in _OPTIONS
    ]
    if private not in {"yes", "no"}:
        problems.append(Problem("private is yes or no"))
    if parts.netloc or parts.path.strip("/"):
        problems.append(Problem("webhook:// names no host", "the address stands in the template: url: https://…"))
    values = {name: default for name, (default, _, _) in _OPTIONS.items()}
    for name, (_, least, most) in _OPTIONS.items():
        try:
            values[name] = float(given.get(name, values[name]))
        except ValueError:
            values[name] = float("nan")
        if not least <= values[name] <= most:
            problems.append(Problem(f"{name} cannot be {given[name]!r}", f"give a number from {least:g} to {most:g}"))
    if problems:
        raise InvalidInput(*problems)
    at_once = int(values["at_once"])
    caller = Caller(settings.call_private or private == "yes", connections=at_once)
    return WebhookProvider(caller, webhook_key(settings), values["timeout"], at_once, test)
