"""API keys: who may call what.

A key is shown once, when it is made; the database keeps its SHA-256 digest and finds it by that, so comparing takes the
same time whatever is tried. A key with only `events:write` may stand in a web page (a site write key).
"""

import asyncio
import base64
import binascii
import hashlib
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import now
from core.database import Database
from core.errors import InvalidInput, NotAllowed, NotFound, NotSignedIn
from core.schema.access import api_key
from core.settings import Settings

SCOPES = (
    "events:write",
    "contacts:read",
    "contacts:write",
    "journeys:read",
    "journeys:write",
    "segments:read",
    "segments:write",
    "messages:read",
    "messages:write",
    "reports:read",
    "admin",
)
"""What a key may be good for; `admin` is good for everything."""

REMEMBERED_SECONDS = 5.0
"""How long a process believes a key without asking again, so how long a revoked one may still work."""

_REMEMBERED_KEYS = 10_000
_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer kk_…`")
_header = APIKeyHeader(name="X-Kaskad-Key", auto_error=False, description="An API key, where Authorization is taken")


@dataclass(frozen=True)
class Key:
    """An API key as the database knows it."""

    id: int
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None

    def allows(self, scope: str) -> bool:
        """Whether the key is good for this scope."""
        return scope in self.scopes or "admin" in self.scopes


async def create(connection: AsyncConnection, name: str, scopes: Sequence[str]) -> str:
    """Make a key and return it; this is the only time it can be read.

    Raises:
        InvalidInput: no scope, or one that does not exist.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        wrong = f"unknown scope {', '.join(unknown)}" if unknown else "a key needs a scope"
        raise InvalidInput(f"{wrong}; there are {', '.join(SCOPES)}")
    key = f"kk_{secrets.token_urlsafe(32)}"
    await connection.execute(insert(api_key).values(name=name, digest=_digest(key), scopes=sorted(set(scopes))))
    return key


async def revoke(connection: AsyncConnection, key_id: int) -> None:
    """Make a key worthless, in every process within REMEMBERED_SECONDS. NotFound if there is none of this number."""
    done = await connection.execute(
        update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None)).values(revoked_at=now())
    )
    if not done.rowcount:
        raise NotFound(f"there is no API key {key_id} in use")


async def listing(connection: AsyncConnection) -> list[Key]:
    """All keys, revoked ones too, oldest first."""
    rows = await connection.execute(select(*_COLUMNS).order_by(api_key.c.id))
    return [_key(*row) for row in rows]


_COLUMNS = (
    api_key.c.id,
    api_key.c.name,
    api_key.c.scopes,
    api_key.c.created_at,
    api_key.c.revoked_at,
)


def _key(number: int, name: str, scopes: list[str], created_at: datetime, revoked_at: datetime | None) -> Key:
    return Key(number, name, tuple(scopes), created_at, revoked_at)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


class Keys:
    """Finds keys of one database and believes what it found for a few seconds.

    Calls that ask for the same key at once share one look-up. What was not found is not remembered, so that a
    flood of wrong keys takes no memory.
    """

    def __init__(self) -> None:
        self._found: dict[bytes, tuple[float, asyncio.Task[Key | None]]] = {}

    async def find(self, database: Database, key: str) -> Key | None:
        """The key that this text is, or None if there is none or it was revoked."""
        digest = _digest(key)
        known = self._found.get(digest)
        if known is None or known[0] < time.monotonic():
            known = (time.monotonic() + REMEMBERED_SECONDS, asyncio.ensure_future(self._look_up(database, digest)))
            if len(self._found) >= _REMEMBERED_KEYS:
                self._found.clear()
            self._found[digest] = known
        return known[1].result() if known[1].done() else await asyncio.shield(known[1])

    async def _look_up(self, database: Database, digest: bytes) -> Key | None:
        found = None
        try:
            async with database.begin() as connection:
                rows = await connection.execute(
                    select(*_COLUMNS).where(api_key.c.digest == digest, api_key.c.revoked_at.is_(None))
                )
                row = rows.first()
                found = None if row is None else _key(*row)
        finally:
            if found is None:
                self._found.pop(digest, None)
        return found


_keys: WeakKeyDictionary[Database, Keys] = WeakKeyDictionary()


async def check(database: Database, key: str | None, scope: str) -> Key:
    """The caller's key, which is good for the scope.

    Raises:
        NotSignedIn: no key, or one that does not exist or was revoked.
        NotAllowed: a key that is not good for this.
    """
    if not key:
        raise NotSignedIn("an API key is needed: send it as `Authorization: Bearer kk_…`")
    keys = _keys.get(database)
    if keys is None:
        keys = _keys[database] = Keys()
    found = await keys.find(database, key)
    if found is None:
        raise NotSignedIn("this API key does not exist or was revoked; make one with `kaskad key create`")
    if not found.allows(scope):
        raise NotAllowed(f"this API key is not good for {scope}, only for {', '.join(found.scopes)}")
    return found


def sent_key(request: Request) -> str | None:
    """The API key in a request's headers, if there is one."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    return request.headers.get("x-kaskad-key")


def require(scope: str) -> Callable[..., Awaitable[Key]]:
    """A FastAPI dependency that lets only holders of a key for `scope` pass, and gives the key."""
    if scope not in SCOPES:
        raise ValueError(f"no such scope: {scope}")

    async def dependency(
        request: Request,
        _bearer_key: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        _header_key: Annotated[str | None, Security(_header)],
    ) -> Key:
        return await check(request.app.state.database, sent_key(request), scope)

    return dependency


async def require_page(request: Request) -> None:
    """A FastAPI dependency for pages that people look at with a browser.

    Whoever sits at this machine may look: nothing but this machine reaches the server, and the request names this
    machine and was not forwarded. Everyone else signs in with an admin API key as the password (any user name), and
    so does everybody where KASKAD_BASE_URL is another machine's: then there is a proxy, and a proxy may hide both whom
    it forwards for and the name that it was called by.

    Raises:
        NotSignedIn: from elsewhere and without a key; the browser is to ask for one.
        NotAllowed: the key is not good for `admin`.
    """
    state = request.app.state
    if not (_is_private(state.settings) and _is_local(request)):
        await check(state.database, _password(request) or sent_key(request), "admin")


def _is_private(settings: Settings) -> bool:
    public = settings.base_url
    return _is_loopback(settings.host) and (public is None or _is_loopback(urlsplit(public).hostname or ""))


def _is_local(request: Request) -> bool:
    forwarded = {"x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "via"} & set(request.headers)
    return not forwarded and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _password(request: Request) -> str | None:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None
