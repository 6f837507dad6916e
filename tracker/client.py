"""Kaskad from other programs: send events and say who somebody is. One file, nothing but the standard library.

    from tracker.client import Kaskad

    kaskad = Kaskad("https://kaskad.example", key="kk_…")
    kaskad.track("order.paid", {"external_id": "u-17"}, {"value": 1200, "currency": "RUB"})

`track` puts the event into a bounded queue and returns at once; a thread sends what has gathered, and sends it again
while Kaskad does not answer. Every event has an id, so nothing is stored twice. What could not be delivered is counted,
logged (logger `kaskad`) and told to `on_drop`. At the end of the program the queue is emptied, for seconds at most.
"""

import atexit
import http.client
import json
import logging
import os
import random
import ssl
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Dropped", "Kaskad", "KaskadError"]

_BATCH = 500
_BATCH_BYTES = 1_000_000
_EVENT_BYTES = 60_000
_LONGEST_REST = 60.0
_TOO_LARGE = 413
_ACCEPTED = 202
_log = logging.getLogger("kaskad")


class KaskadError(Exception):
    """Kaskad refused, or did not answer."""


@dataclass(frozen=True)
class Dropped:
    """An event that will not arrive."""

    id: str
    event: str
    reason: str


@dataclass(frozen=True)
class _Waiting:
    """An event on its way, as JSON."""

    id: str
    event: str
    body: bytes


@dataclass(frozen=True)
class _Answer:
    status: int
    body: Any
    retry_after: float | None


class Kaskad:
    """A connection to one installation. Make one for the whole program; any thread may use it, also after a fork.

    Args:
        url: where the installation is, such as https://kaskad.example
        key: an API key with the scope events:write (and contacts:write for `identify`).
        queue: events that may wait; `track` drops those beyond it.
        gather: seconds that an event may wait for others, to travel together.
        timeout: seconds that one request may take.
        patience: seconds for which an event is sent again while Kaskad does not answer.
        at_exit: seconds that the end of the program may take to empty the queue.
        on_drop: told of each event that will not arrive, in the thread that sends, or in the one that tracks.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        queue: int = 10_000,
        gather: float = 0.25,
        timeout: float = 10.0,
        patience: float = 3600.0,
        at_exit: float = 5.0,
        on_drop: Callable[[Dropped], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address: write it like https://kaskad.example")
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError("the API key is empty or holds characters that no key has")
        self._host, self._port = parts.hostname, parts.port
        self._is_tls, self._path = parts.scheme == "https", parts.path.rstrip("/")
        self._key, self._limit, self._gather = key, queue, gather
        self._timeout, self._patience, self._on_drop = timeout, patience, on_drop
        self._dropped = 0
        self._begin()
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self.close, at_exit)

    def _begin(self) -> None:
        """Begin with nothing: in a new process, too, where the thread of the old one does not live on."""
        self._events: deque[_Waiting] = deque()
        self._under_way: list[_Waiting] = []
        self._closed = False
        self._hurry = False
        self._deadline: float | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """How many events will not arrive."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """How many events are not delivered yet."""
        with self._changed:
            return len(self._events) + len(self._under_way)

    def track(
        self,
        event: str,
        contact: Mapping[str, str],
        properties: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the API's word
        at: datetime | None = None,
    ) -> str:
        """Report what happened to a contact. It never waits for the network.

        Args:
            event: lower-case words joined by dots, such as order.paid.
            contact: exactly one of external_id, email, phone, anonymous_id.
            properties: what JSON can hold; moments become RFC 3339.
            id: the event's own id, if it has one: sent twice, it is stored once.
            at: when it happened, aware; now if left out.

        Returns:
            The event's id.

        Raises:
            TypeError, ValueError: this can be no event: JSON cannot hold it, it is too large, or `at` is naive.
        """
        if not event or len(contact) != 1:
            raise ValueError("an event has a name, and a contact known by exactly one thing")
        moment = at or datetime.now(UTC)
        if moment.tzinfo is None:
            raise ValueError("`at` has no time zone")
        number = id or uuid.uuid4().hex
        said: dict[str, Any] = {"id": number, "event": event, "contact": dict(contact), "at": moment.isoformat()}
        if properties:
            said["properties"] = dict(properties)
        body = json.dumps(said, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_written).encode()
        if len(body) > _EVENT_BYTES:
            raise ValueError(f"the event takes {len(body):,} bytes; at most {_EVENT_BYTES:,} are sent")
        waiting = _Waiting(number, event, body)
        with self._changed:
            reason = "the client is closed" if self._closed else ""
            if len(self._events) >= self._limit:
                reason = f"{self._limit:,} events wait already"
            if not reason:
                self._events.append(waiting)
                self._wake()
        if reason:
            self._drop([waiting], reason)
        return number

    def identify(self, *, anonymous_id: str | None = None, **known_by: str) -> dict[str, Any]:
        """Say who somebody is, and wait for the answer.

        Args:
            anonymous_id: of the browser that the person uses.
            **known_by: external_id, email, phone.

        Returns:
            contact_id, merges, conflicts, and anew: whether the browser has to take a new anonymous id.

        Raises:
            KaskadError: it was refused, or Kaskad did not answer within the time of a few requests.
        """
        said = dict(known_by) if anonymous_id is None else {"anonymous_id": anonymous_id, **known_by}
        body, connection = json.dumps(said).encode(), None
        for attempt in range(4):
            if attempt:
                time.sleep(min(2.0**attempt / 4, _LONGEST_REST))
            connection = connection or self._connect()
            answer = self._ask(connection, "/v1/identify", body)
            if answer is None or answer.status >= http.client.INTERNAL_SERVER_ERROR:
                connection.close()
                continue
            connection.close()
            if answer.status == http.client.OK and isinstance(answer.body, dict):
                return answer.body
            raise KaskadError(_reason(answer))
        raise KaskadError("Kaskad does not answer")

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything that was tracked is delivered or dropped.

        Returns:
            Whether it was, within `timeout` seconds.
        """
        with self._changed:
            self._hurry = True
            self._wake()
            return self._changed.wait_for(lambda: not self._events and not self._under_way, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what is waiting, for `timeout` seconds at most; the rest is dropped. Nothing is taken after it."""
        with self._changed:
            self._closed = True
            self._deadline = time.monotonic() + timeout
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout + 1.0)
        with self._changed:
            left, unsure = list(self._events), list(self._under_way)
            self._events.clear()
        self._drop(left, "the program ended before they were sent")
        self._drop(unsure, "the program ended before Kaskad answered; they may have arrived")
        atexit.unregister(self.close)

    def __enter__(self) -> "Kaskad":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the thread that sends

    def _wake(self) -> None:
        """Let the thread look; begin it with the first event of a process. The lock is held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="kaskad", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _send_all(self) -> None:
        connection = self._connect()
        while batch := self._gathered():
            self._deliver(connection, batch)
            with self._changed:
                self._under_way = []
                self._changed.notify_all()
        connection.close()

    def _gathered(self) -> list[_Waiting]:
        """The next events, once some have gathered; none when the client is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closed)
            self._changed.wait_for(
                lambda: len(self._events) >= _BATCH or self._closed or self._hurry, timeout=self._gather
            )
            batch: list[_Waiting] = []
            size = 0
            while self._events and len(batch) < _BATCH and size + len(self._events[0].body) <= _BATCH_BYTES:
                batch.append(self._events.popleft())
                size += len(batch[-1].body)
            self._hurry = self._hurry and bool(self._events)
            self._under_way = batch
            return batch

    def _deliver(self, connection: http.client.HTTPConnection, batch: list[_Waiting]) -> None:
        """Send events until they are stored or there is no hope."""
        body = b"[" + b",".join(one.body for one in batch) + b"]"
        began, attempt = time.monotonic(), 0
        while True:
            answer = self._ask(connection, "/v1/events", body)
            if answer is not None and answer.status == _TOO_LARGE and len(batch) > 1:
                self._deliver(connection, batch[: len(batch) // 2])
                self._deliver(connection, batch[len(batch) // 2 :])
                return
            if (
                answer is not None
                and answer.status < http.client.INTERNAL_SERVER_ERROR
                and answer.status not in {408, 429}
            ):
                self._settle(batch, answer)
                return
            attempt += 1
            rest = min(_LONGEST_REST, 0.25 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
            rest = max(rest, (answer.retry_after or 0.0) if answer else 0.0)
            if time.monotonic() + rest > began + self._patience or not self._rested(rest):
                self._drop(batch, "Kaskad did not answer" if answer is None else _reason(answer))
                return

    def _rested(self, seconds: float) -> bool:
        """Wait; whether there is time for another attempt, which there is not after the end of the program."""
        until = time.monotonic() + seconds
        with self._changed:
            while (left := until - time.monotonic()) > 0:
                if self._deadline is not None and time.monotonic() + left > self._deadline:
                    return False
                self._changed.wait(left)
            return True

    def _settle(self, batch: list[_Waiting], answer: _Answer) -> None:
        """Say which events of an answered request were refused."""
        if answer.status != _ACCEPTED:
            self._drop(batch, _reason(answer))
            return
        results = answer.body.get("events", []) if isinstance(answer.body, dict) else []
        for one, result in zip(batch, results, strict=False):
            if result.get("status") == "refused":
                errors = result.get("errors") or [{}]
                self._drop([one], str(errors[0].get("message", "refused")))

    def _drop(self, events: list[_Waiting], reason: str) -> None:
        if not events:
            return
        self._dropped += len(events)
        _log.warning("%d events dropped: %s", len(events), reason)
        if self._on_drop is not None:
            for one in events:
                try:
                    self._on_drop(Dropped(one.id, one.event, reason))
                except Exception:  # noqa: BLE001 - the program's own; sending must go on
                    _log.exception("on_drop failed")

    # --- HTTP

    def _connect(self) -> http.client.HTTPConnection:
        if self._is_tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _ask(self, connection: http.client.HTTPConnection, path: str, body: bytes) -> _Answer | None:
        """One request; None when there was no answer."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", "User-Agent": "kaskad"}
        try:
            connection.request("POST", self._path + path, body, headers)
            response = connection.getresponse()
            text = response.read(10_000_000)
            after = response.getheader("Retry-After", "")
        except (OSError, http.client.HTTPException) as error:
            _log.debug("no answer from Kaskad: %s", error)
            connection.close()  # the next request opens it anew
            return None
        try:
            data = json.loads(text) if text else None
        except ValueError:
            data = None
        return _Answer(response.status, data, float(after) if after.isdigit() and len(after) < 6 else None)


def _written(value: object) -> str:
    """What JSON does not know."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be a property")


def _reason(answer: _Answer) -> str:
    """Why Kaskad refused, in its own words."""
    said = answer.body if isinstance(answer.body, dict) else {}
    errors = said.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return f"{answer.status}: {errors[0].get('message', '')}"
    return f"{answer.status}: {said.get('detail') or said.get('title') or 'no reason given'}"
