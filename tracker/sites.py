"""Sites and their write keys: making and changing them, and the directory of them that each process carries."""

import asyncio
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from core import addresses
from core.database import Database
from core.errors import Conflict, InvalidInput, NotFound, Problem
from core.schema.sites import ADDRESSES, IDENTIFY
from tracker import origins, script
from tracker.throttle import Throttle

SCRIPT_PATH = "/k/s.js"
ENDPOINT_PATH = "/k/e"

REMEMBERED_SECONDS = 5.0
"""How long a process believes what it knows of sites, so how long a revoked key may still work."""
_MISSES_A_SECOND, _MISSES_AT_ONCE = 1, 20
"""How often unknown keys make a process look again."""

_SECRET_BYTES = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]{1,60}){1,6}")
_TAKEN = ("/v1", "/healthz", "/readyz", "/metrics", "/openapi.json", "/journeys", "/static", "/t", "/u")


@dataclass(frozen=True)
class Site:
    """A site as the database knows it."""

    id: int
    name: str
    origins: tuple[str, ...]
    script_path: str
    endpoint_path: str
    address: str
    """What is kept of a visitor's IP address: drop, truncate or keep."""
    internal: tuple[str, ...]
    """Networks whose traffic does not count."""
    identify: str
    """Whose word on who a visitor is counts: `signed` by the site's server, or `open`: the page's."""
    secret: str = field(repr=False)
    """What the site's server signs with."""
    keys: tuple[str, ...]
    """The write keys in use, the newest first."""
    created_at: datetime
    networks: tuple[addresses.Network, ...] = field(repr=False, default=())

    @property
    def key(self) -> str:
        """The write key that new tags are to carry.

        Raises:
            NotFound: all were revoked.
        """
        if not self.keys:
            raise NotFound(f"the site {self.name} has no write key: kaskad site key {self.name} --new")
        return self.keys[0]


@dataclass(frozen=True)
class Wanted:
    """What an operator says about a site."""

    name: str
    origins: Sequence[str]
    script_path: str = SCRIPT_PATH
    endpoint_path: str = ENDPOINT_PATH
    address: str = "drop"
    internal: Sequence[str] = ()
    identify: str = "signed"

    def checked(self) -> dict[str, Any]:
        """The columns of the table.

        Raises:
            InvalidInput: with everything that is wrong.
        """
        found: list[str] = []
        problems: list[Problem] = []
        for one in self.origins:
            try:
                found.append(origins.normalise(one))
            except InvalidInput as error:
                problems += error.problems
        if not _NAME.fullmatch(self.name):
            problems.append(Problem(f"{self.name!r} is no name of a site", "use a-z, 0-9 and -", path="name"))
        if not 0 < len(self.origins) <= origins.ORIGINS_LIMIT:
            mend = "name the origins its pages have, such as https://example.com"
            problems.append(Problem(f"a site has 1 to {origins.ORIGINS_LIMIT} origins", mend, path="origin"))
        if self.address not in ADDRESSES:
            problems.append(Problem(f"{self.address!r} is nothing", f"one of {', '.join(ADDRESSES)}", path="address"))
        if self.identify not in IDENTIFY:
            problems.append(Problem(f"{self.identify!r} is nothing", f"one of {', '.join(IDENTIFY)}", path="identify"))
        try:
            addresses.networks(self.internal)
        except ValueError as error:
            problems.append(Problem(str(error), "write networks as in 192.0.2.0/24", path="internal"))
        problems += [*_path_problems("script", self.script_path), *_path_problems("endpoint", self.endpoint_path)]
        if self.script_path == self.endpoint_path:
            problems.append(Problem("script and endpoint have one path", "give each its own", path="endpoint"))
        if problems:
            raise InvalidInput(*problems)
        return {
            "name": self.name,
            "origins": list(dict.fromkeys(found)),
            "script_path": self.script_path,
            "endpoint_path": self.endpoint_path,
            "address": self.address,
            "internal": list(self.internal),
            "identify": self.identify,
        }


def _path_problems(name: str, path: str) -> list[Problem]:
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        return [Problem(f"{path[:100]!r} is no path", "write it as in /assets/app.js", path=name)]
    if path.rpartition("/")[2] in {f"{part}.js" for part in script.bundle().part_names}:
        return [Problem(f"{path!r} is where a part of the snippet is", "choose another name", path=name)]
    if any(path == taken or path.startswith(taken + "/") for taken in _TAKEN):
        return [Problem(f"{path!r} belongs to the API", "choose another beginning", path=name)]
    return []


_COLUMNS = "id, name, origins, script_path, endpoint_path, address, internal, identify, secret, created_at"
_LIST = f"""
select {_COLUMNS}, array(
    select key from site_key where site_id = site.id and revoked_at is null order by created_at desc, key
) as keys
from site where removed_at is null
"""  # noqa: S608 - a constant


async def add(connection: AsyncConnection, wanted: Wanted) -> Site:
    """Make a site with a write key.

    Raises:
        InvalidInput: something about it cannot be.
        Conflict: there is one of this name, or one that has its script where this one has its endpoint.
    """
    values = wanted.checked()
    await _refuse_crossing(connection, values)
    try:
        await connection.execute(
            text(
                "insert into site (name, origins, script_path, endpoint_path, address, internal, identify, secret) "
                "values (:name, :origins, :script_path, :endpoint_path, :address, :internal, :identify, :secret)"
            ),
            {**values, "secret": secrets.token_hex(_SECRET_BYTES)},
        )
    except IntegrityError:
        raise Conflict(f"there is a site {wanted.name} already") from None
    await new_key(connection, wanted.name)
    return await get(connection, wanted.name)


async def change(connection: AsyncConnection, wanted: Wanted) -> Site:
    """Set a site, found by its name, to what is wanted; its keys stay. Processes know within REMEMBERED_SECONDS.

    Raises:
        NotFound, InvalidInput, Conflict: as `get` and `add` do.
    """
    values = wanted.checked()
    site = await get(connection, wanted.name)
    await _refuse_crossing(connection, values)
    await connection.execute(
        text(
            "update site set origins = :origins, script_path = :script_path, endpoint_path = :endpoint_path, "
            "address = :address, internal = :internal, identify = :identify where id = :id"
        ),
        {**{name: value for name, value in values.items() if name != "name"}, "id": site.id},
    )
    return await get(connection, wanted.name)


async def _refuse_crossing(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    crossing = await connection.execute(
        text(
            "select name from site where removed_at is null and name <> :name and "
            "(script_path = :endpoint_path or endpoint_path = :script_path)"
        ),
        {name: values[name] for name in ("name", "script_path", "endpoint_path")},
    )
    if (other := crossing.scalar()) is not None:
        raise Conflict(f"the site {other} has its script where this one has its endpoint, or the other way round")


async def listing(connection: AsyncConnection) -> list[Site]:
    """All sites by name."""
    rows = await connection.execute(text(f"{_LIST} order by name"))
    return [_site(row) for row in rows.mappings()]


async def get(connection: AsyncConnection, name: str) -> Site:
    """A site by its name; NotFound if there is none."""
    rows = await connection.execute(text(f"{_LIST} and name = :name"), {"name": name})
    row = rows.mappings().first()
    if row is None:
        raise NotFound(f"there is no site {name}: kaskad site list names them all")
    return _site(row)


async def new_key(connection: AsyncConnection, name: str) -> str:
    """Give a site one more write key, which new tags carry from now on. The others go on until they are revoked."""
    key = f"ks_{secrets.token_urlsafe(16)}"
    done = await connection.execute(
        text(
            "insert into site_key (key, site_id, created_at) "
            "select :key, id, clock_timestamp() from site where name = :name and removed_at is null"
        ),
        {"key": key, "name": name},
    )
    if not done.rowcount:
        raise NotFound(f"there is no site {name}: kaskad site list names them all")
    return key


async def revoke_key(connection: AsyncConnection, name: str, key: str) -> None:
    """Make a write key worthless, in every process within REMEMBERED_SECONDS; NotFound if the site has no such key."""
    done = await connection.execute(
        text(
            "update site_key set revoked_at = now() where key = :key and revoked_at is null "
            "and site_id = (select id from site where name = :name and removed_at is null)"
        ),
        {"key": key, "name": name},
    )
    if not done.rowcount:
        raise NotFound(f"the site {name} has no write key {key} in use")


async def new_secret(connection: AsyncConnection, name: str) -> Site:
    """Give a site another secret; what was signed with the old one is void in every process within REMEMBERED_SECONDS.

    Raises:
        NotFound: there is no such site.
    """
    site = await get(connection, name)
    await connection.execute(
        text("update site set secret = :secret where id = :id"),
        {"id": site.id, "secret": secrets.token_hex(_SECRET_BYTES)},
    )
    return await get(connection, name)


async def remove(connection: AsyncConnection, name: str) -> None:
    """Take no more hits for a site. What it reported stays; its name is free again."""
    site = await get(connection, name)
    await connection.execute(
        text("update site_key set revoked_at = now() where site_id = :id and revoked_at is null"), {"id": site.id}
    )
    await connection.execute(text("update site set removed_at = now() where id = :id"), {"id": site.id})


async def counts(connection: AsyncConnection, site_id: int, days: int) -> list[dict[str, Any]]:
    """What became of a site's hits on the last days: day, fate and hits, the newest day first."""
    rows = await connection.execute(
        text(
            "select day, fate, hits from site_count where site_id = :site and day > current_date - cast(:days as int) "
            "order by day desc, fate"
        ),
        {"site": site_id, "days": days},
    )
    return [dict(row) for row in rows.mappings()]


def _site(row: RowMapping) -> Site:
    return Site(
        id=row["id"],
        name=row["name"],
        origins=tuple(row["origins"]),
        script_path=row["script_path"],
        endpoint_path=row["endpoint_path"],
        address=row["address"],
        internal=tuple(row["internal"]),
        identify=row["identify"],
        secret=row["secret"],
        keys=tuple(row["keys"]),
        created_at=row["created_at"],
        networks=addresses.networks(row["internal"]),
    )


class Directory:
    """All sites, as one process knows them: by write key, and the paths they are served at.

    Whoever has it keeps it fresh by `refresh`; a key that is not in it makes it look again, though not for each of a
    flood of them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sites: Mapping[str, Site] = {}
        self._scripts: frozenset[str] = frozenset({SCRIPT_PATH})
        self._endpoints: frozenset[str] = frozenset({ENDPOINT_PATH})
        self._folders = _folders(SCRIPT_PATH, ENDPOINT_PATH)
        self._read_at = 0.0
        self._misses = Throttle(_MISSES_A_SECOND, _MISSES_AT_ONCE, remembered=1)
        self._reading: asyncio.Task[None] | None = None

    def is_script(self, path: str) -> bool:
        """Whether a site has its script here."""
        return path in self._scripts

    def is_endpoint(self, path: str) -> bool:
        """Whether a site has its endpoint here."""
        return path in self._endpoints

    def part(self, path: str) -> str | None:
        """Which part of the snippet is here, if it is one: they are beside the script and the endpoint of each site."""
        folder, _, name = path.rpartition("/")
        part = name.removesuffix(".js")
        return part if folder in self._folders and part != name and part in script.bundle().part_names else None

    async def find(self, key: str) -> Site | None:
        """The site of a write key that is in use."""
        at = time.monotonic()
        site = self._sites.get(key)
        is_old = not self._read_at or at - self._read_at > REMEMBERED_SECONDS
        if is_old or (site is None and self._misses.allows("", 1, at)):
            if self._is_reading():  # it may have begun before the key was made
                await self.refresh()
            await self.refresh()
            site = self._sites.get(key)
        return site

    async def allow(self, origin: str | None) -> bool:
        """Whether any site allows an origin: all that can be told before a request says its key."""
        await self.find("")
        return any(origins.allows(site.origins, origin) for site in set(self._sites.values()))

    async def refresh(self) -> None:
        """Read all sites; those who ask meanwhile wait for the same answer."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="sites")
        await asyncio.shield(self._reading)

    def _is_reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def _read(self) -> None:
        async with self._database.begin() as connection:
            found = await listing(connection)
        self._sites = {key: site for site in found for key in site.keys}
        self._scripts = frozenset({SCRIPT_PATH, *(site.script_path for site in found)})
        self._endpoints = frozenset({ENDPOINT_PATH, *(site.endpoint_path for site in found)})
        self._folders = _folders(*self._scripts, *self._endpoints)
        self._read_at = time.monotonic()


def _folders(*paths: str) -> frozenset[str]:
    return frozenset(path.rpartition("/")[0] for path in paths)
