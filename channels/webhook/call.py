"""What a webhook's template says, and one call made of it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from channels.filling import fill_data, fill_header, fill_url
from core.documents import Document, did_you_mean
from core.errors import Problem

FIELDS = ("url", "method", "headers")
METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET")
_URL = re.compile(r"https?://[^\s/?#{}@]+(?:[/?#][^\n]*)?")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "kaskad-id", "kaskad-signature", "idempotency-key"}
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call, filled in."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    """JSON; empty for methods that carry none."""


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A call as a message of the ledger."""

    message_id: UUID
    call: Call = field(repr=False)

    @property
    def parts(self) -> int:
        """A call is one, however long."""
        return 1


def read(document: Document, body: str, line: int, problems: list[Problem]) -> dict[str, Any]:
    """The call that a template file describes, as JSON data: url, method, headers, and the JSON of its body.

    Args:
        document: the front matter.
        body: what stands behind it.
        line: where that begins.
        problems: gets what is wrong.
    """
    data = document.data
    url, method, headers = data.get("url"), data.get("method", "POST"), data.get("headers") or {}
    if not isinstance(url, str) or not _URL.fullmatch(url):
        mend = "write url: https://…, with {{ … }} behind the host only"
        problems.append(document.problem(("url",), "a webhook needs an address", mend))
    elif not _has_host(url):
        problems.append(document.problem(("url",), f"{url} names no host that can be called", "url: https://…"))
    if method not in METHODS:
        problems.append(document.problem(("method",), f"{method} is no method", did_you_mean(str(method), METHODS)))
    if not isinstance(headers, dict):
        problems.append(document.problem(("headers",), "headers are names and texts", "headers: {X-Token: abc}"))
        headers = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or not isinstance(value, str) or "\n" in value:
            mend = "letters, digits and dashes, and a text of one line"
            problems.append(document.problem(("headers", name), f"{name} cannot be a header", mend))
        elif name.lower() in _OURS:
            problems.append(document.problem(("headers", name), f"{name} is set by Kaskad", "take it out"))
    content: Any = None
    if method in {"GET", "DELETE"}:
        if body.strip() not in {"", "{}"}:
            problems.append(Problem(f"a {method} carries no body", "write {} for none", document.file, line, 1))
    else:
        try:
            content = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            mend = 'values stand in its texts: {"order": "{{ event.order_id }}"}'
            problems.append(Problem(f"the body is no JSON: {error}", mend, document.file, line, 1))
    return {"url": url, "method": method, "headers": headers, "body": content}


def _has_host(url: str) -> bool:
    """Whether the host can be looked up: its labels have 1 to 63 characters (RFC 1035, section 2.3.4)."""
    try:
        parts = urlsplit(url.split("{", 1)[0])
        host = parts.hostname or ""
        if parts.port != 0 and ":" not in host:
            host.encode("idna")
    except ValueError:
        return False
    return bool(host)


def texts(call: Mapping[str, Any]) -> Iterator[str]:
    """Every text of a call that may hold values."""
    yield call["url"] or ""
    yield from call["headers"].values()
    yield from _texts(call["body"])


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)


def fill(call: Mapping[str, Any], known: Mapping[str, Any]) -> Call:
    """The call for one contact.

    Raises:
        Unfilled: it needs a value that is not there.
    """
    url = fill_url(call["url"], known)
    headers = {name.lower(): fill_header(value, known) for name, value in call["headers"].items()}
    if call["method"] in {"GET", "DELETE"}:
        return Call(call["method"], url, headers, b"")
    body = msgspec.json.encode(fill_data(call["body"], known))
    return Call(call["method"], url, {"content-type": "application/json", **headers}, body)


def notice(url: str, text: str) -> Call:
    """The call that notifies the staff: a JSON object with the text, as chat programs take it."""
    return Call("POST", url, {"content-type": "application/json"}, msgspec.json.encode({"text": text}))


def host(call: Mapping[str, Any]) -> str:
    """What a webhook is sent to, as the ledger's address: no value stands in a host."""
    return re.split("[/?#]", call["url"].partition("://")[2], maxsplit=1)[0]
