"""Providers with an HTTP API: what they share. A vendor says how a call is made and what its answer means, both
pure; `VendorProvider` does the talking, bounded in connections, time and size, and maps how it may fail."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID

import httpx
import prometheus_client
import structlog

from channels.provider import Letter, Outcome, Receipt
from core.addresses import is_loopback
from core.clock import now
from core.errors import InvalidInput, Misconfigured, Problem, Unavailable
from core.wire import retry_after

METADATA = "kaskad"
"""The name under which vendors keep our message id and give it back in their webhooks."""
SOON = timedelta(minutes=1)
LATER = timedelta(minutes=5)
_LONGEST_WAIT = timedelta(hours=1)
_ANSWER_LIMIT = 200_000
_log = structlog.get_logger()
_RECEIPTS = prometheus_client.Counter("kaskad_vendor_receipts", "Letters handed to HTTP APIs", ["vendor", "outcome"])


@dataclass(frozen=True, slots=True)
class VendorUrl:
    """`SCHEME://USER:SECRET@HOST/PATH?option=value`, as a provider was added."""

    scheme: str
    user: str
    secret: str = field(repr=False)
    host: str
    path: str
    base: str
    """Where its API is: https, or plain HTTP to this machine (`tls=no`, for tests)."""
    options: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, url: str, host: str, options: Mapping[str, str]) -> "VendorUrl":
        """Read a URL.

        Args:
            url: as it was added; `SCHEME://KEY@` is enough where the vendor has one host.
            host: the vendor's, where the URL names none.
            options: those it takes, with what they mean.

        Raises:
            InvalidInput: it cannot be used; secrets are not shown.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"the provider's URL cannot be read: {error}") from None
        known = {**options, "connections": "calls at a time", "timeout": "seconds", "tls": "no: plain, to this machine"}
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(set(given) - set(known)):
            there_are = ", ".join(f"{name} ({words})" for name, words in known.items())
            raise InvalidInput(
                Problem(f"{', '.join(unknown)}: no option of {parts.scheme}://", f"there are {there_are}")
            )
        if not parts.username and not parts.password:
            raise InvalidInput(Problem(f"{parts.scheme}:// needs a key", f"{parts.scheme}://KEY@{host}"))
        where = parts.hostname or host
        plain = given.get("tls") == "no"
        if plain and not is_loopback(where):
            raise InvalidInput("the key would travel unencrypted: tls=no is for this machine only")
        made = cls(
            parts.scheme,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            where,
            unquote(parts.path.strip("/")),
            f"{'http' if plain else 'https'}://{where}{f':{port}' if port else ''}",
            given,
        )
        made.number("connections", 10)
        made.number("timeout", 30)
        return made

    @property
    def key(self) -> str:
        """The API key, wherever it stands."""
        return self.secret or self.user

    def number(self, name: str, default: float) -> float:
        """A positive number among the options; raises InvalidInput."""
        try:
            value = float(self.options.get(name, default))
        except ValueError:
            value = 0.0
        if not 0 < value <= 1000:
            raise InvalidInput(f"{name} is a number above 0, at most 1000")
        return value


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a vendor."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class Vendor(Protocol):
    """What is special to one vendor. No I/O."""

    name: str
    url: VendorUrl

    def build(self, letter: Letter, at: datetime) -> Call:
        """The call that sends a letter; raises InvalidInput where it cannot be sent."""
        ...

    def accepted(self, answer: Answer) -> str | None:
        """The vendor's id of the letter, from a 2xx answer; None if it is not what the vendor answers."""
        ...

    def refused(self, answer: Answer) -> Receipt | None:
        """What an answer of 4xx or 5xx means; None leaves it to `refusal`."""
        ...

    def probe(self, at: datetime) -> Call:
        """A call that changes nothing and needs the key."""
        ...


class VendorProvider:
    """Hands letters to a vendor's API, each by a call of its own."""

    def __init__(self, vendor: Vendor) -> None:
        """Make it without connecting."""
        self._vendor = vendor
        self._timeout = vendor.url.number("timeout", 30)
        self._width = int(vendor.url.number("connections", 10))
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(self._width)

    async def hand_over(self, letters: Sequence[Letter]) -> list[Receipt]:
        """See `Provider`."""
        receipts = await asyncio.gather(*[self._send(letter) for letter in letters])
        for receipt in receipts:
            _RECEIPTS.labels(self._vendor.name, receipt.outcome.value).inc()
        return receipts

    async def check(self) -> None:
        """See `Provider`."""
        async with self._slots:
            try:
                answer = await self._call(self._vendor.probe(now()))
            except (httpx.HTTPError, TimeoutError, _TooMuch) as error:
                raise Unavailable(f"{self._vendor.name} does not answer: {_words(error)}") from error
        if answer.status in (401, 403):
            raise Misconfigured(f"{self._vendor.name} refuses the key: {_said(answer)}")
        if not 200 <= answer.status < 300:
            raise Unavailable(f"{self._vendor.name} answers {answer.status}: {_said(answer)}")

    async def close(self) -> None:
        """See `Provider`."""
        if self._client is not None:
            await self._client.aclose()

    async def _send(self, letter: Letter) -> Receipt:
        async with self._slots:
            call = self._built(letter)
            if isinstance(call, Receipt):
                return call
            try:
                answer = await self._call(call)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                return Receipt(Outcome.DEFERRED, reason=_words(error), retry_after=SOON)
            except (httpx.HTTPError, TimeoutError, _TooMuch) as error:
                return Receipt(Outcome.UNKNOWN, reason=f"{_words(error)}, after the letter had left")
        return self._understood(answer)

    def _built(self, letter: Letter) -> Call | Receipt:
        """The call; or what becomes of a letter that cannot be made into one."""
        try:
            return self._vendor.build(letter, now())
        except InvalidInput as error:
            return Receipt(Outcome.REJECTED, reason=str(error))
        except Exception as error:  # noqa: BLE001 - one letter's defect, logged and in its receipt
            # A defect over one letter is that letter's affair: the others of the batch are under way.
            _log.exception("letter_not_made", vendor=self._vendor.name, message=str(letter.message_id))
            return Receipt(Outcome.REJECTED, reason=f"the letter cannot be made: {type(error).__name__}: {error}")

    def _understood(self, answer: Answer) -> Receipt:
        try:
            return receipt_of(self._vendor, answer)
        except Exception:  # noqa: BLE001 - one letter's defect, logged and in its receipt
            _log.exception("answer_not_understood", vendor=self._vendor.name, answer=_said(answer))
            return Receipt(Outcome.UNKNOWN, reason=f"an answer that nobody understands: {_said(answer)}")

    async def _call(self, call: Call) -> Answer:
        if self._client is None:
            limits = httpx.Limits(max_connections=self._width, max_keepalive_connections=self._width)
            # Connecting and encrypting have to fail before the time for the whole call is over: by their errors it is
            # told that nothing has left.
            timeout = httpx.Timeout(self._timeout, connect=self._timeout / 3)
            # No proxy from the environment: the letters are not its business.
            self._client = httpx.AsyncClient(trust_env=False, limits=limits, timeout=timeout)
        async with asyncio.timeout(self._timeout):
            request = self._client.stream(call.method, call.url, headers=dict(call.headers), content=call.body)
            async with request as response:
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _ANSWER_LIMIT:
                        raise _TooMuch
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, headers, body)


class _TooMuch(Exception):
    """the answer has no end"""


def receipt_of(vendor: Vendor, answer: Answer) -> Receipt:
    """What a vendor's answer to a letter means."""
    if 200 <= answer.status < 300:
        number = vendor.accepted(answer)
        if number is None:
            return vendor.refused(answer) or Receipt(Outcome.UNKNOWN, reason=f"an answer that is none: {_said(answer)}")
        return Receipt(Outcome.ACCEPTED, provider_message_id=number)
    return vendor.refused(answer) or refusal(answer, _said(answer))


def refusal(answer: Answer, words: str, named: bool = False) -> Receipt:
    """What an error means by its status alone.

    Args:
        answer: what came.
        words: the vendor's.
        named: whether these are the vendor's own, in its own form. Then even 500 means that it did not take the
            letter; from whatever stands before it (502, 504) nobody knows.
    """
    reason = f"{answer.status} {words}".strip()
    match answer.status:
        case 429 | 503:
            return Receipt(Outcome.DEFERRED, reason=reason, retry_after=_wait(answer))
        case 401 | 403 | 404:
            # Key, permission or address of the API: the operator has to act, and the letter is not to blame.
            return Receipt(Outcome.DEFERRED, reason=reason, retry_after=LATER)
        case 402:
            return Receipt(Outcome.REJECTED, reason=reason, elsewhere=True)
        case status if 400 <= status < 500:
            return Receipt(Outcome.REJECTED, reason=reason)
        case status if status >= 500 and named:
            return Receipt(Outcome.DEFERRED, reason=reason, retry_after=_wait(answer))
    return Receipt(Outcome.UNKNOWN, reason=reason)


def _wait(answer: Answer) -> timedelta:
    """What `Retry-After` says, from a second to an hour."""
    asked = retry_after(answer.headers)
    return SOON if asked is None else min(max(asked, timedelta(seconds=1)), _LONGEST_WAIT)


def our_id(value: object) -> UUID | None:
    """Our message id out of a vendor's metadata."""
    try:
        return UUID(str(value))
    except ValueError:
        return None


def moment(value: object, default: datetime) -> datetime:
    """A vendor's time: seconds since 1970, or ISO 8601 (UTC where it names no zone)."""
    try:
        if isinstance(value, int | float) or (isinstance(value, str) and value.replace(".", "", 1).isdigit()):
            return datetime.fromtimestamp(float(value), UTC)
        at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return default
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object; an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def text(value: object, limit: int = 500) -> str:
    """A text of a JSON answer; empty in the place of null."""
    return "" if value is None else str(value)[:limit]


def _said(answer: Answer) -> str:
    return " ".join(answer.body[:300].decode("utf-8", "replace").split())


def _words(error: Exception) -> str:
    return str(error) or error.__doc__ or type(error).__name__
