"""Providers with an HTTP API: what they share. A vendor says how a call is made and what its answer means, both
pure; `VendorProvider` does the talking, bounded in connections, time and size, and maps how it may fail."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import httpx
import prometheus_client
import structlog

from channels.email.vendors.answers import SOON, Answer, refusal, said
from channels.email.vendors.url import VendorUrl
from channels.provider import Letter, Outcome, Receipt
from core.clock import now
from core.errors import InvalidInput, Misconfigured, Unavailable

_ANSWER_LIMIT = 200_000
_log = structlog.get_logger()
_RECEIPTS = prometheus_client.Counter("kaskad_vendor_receipts", "Letters handed to HTTP APIs", ["vendor", "outcome"])


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a vendor."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = b""


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
            raise Misconfigured(f"{self._vendor.name} refuses the key: {said(answer)}")
        if not 200 <= answer.status < 300:
            raise Unavailable(f"{self._vendor.name} answers {answer.status}: {said(answer)}")

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
            _log.exception("answer_not_understood", vendor=self._vendor.name, answer=said(answer))
            return Receipt(Outcome.UNKNOWN, reason=f"an answer that nobody understands: {said(answer)}")

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
            return vendor.refused(answer) or Receipt(Outcome.UNKNOWN, reason=f"an answer that is none: {said(answer)}")
        return Receipt(Outcome.ACCEPTED, provider_message_id=number)
    return vendor.refused(answer) or refusal(answer, said(answer))


def _words(error: Exception) -> str:
    return str(error) or error.__doc__ or type(error).__name__
