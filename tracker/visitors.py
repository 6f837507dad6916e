"""Visitors who agreed to no storage in their browser: told apart for a day by a keyed hash, and by nothing afterwards.

The hash is of the site, the address and the User-Agent header, keyed with a random salt that all API processes share
for a day (UTC). The salt is deleted on the day after the next, and then nobody can tell any more which address made
which hash; neither address nor header is stored for it.
"""

import base64
import hashlib
from datetime import date, datetime, timedelta

from sqlalchemy import text

from contacts import identities
from core.database import Database

MARK = identities.DAILY_MARK
"""What such anonymous ids begin with. The wire format has no such ids, so nobody can claim to be one of them."""
_HASH_BYTES = 16


class Salts:
    """The salts of a database, as one process knows them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._day: date | None = None
        self._salt = b""

    async def of(self, moment: datetime) -> bytes:
        """The salt of the day (UTC) that a moment lies in, which is the present one but for seconds."""
        day = moment.date()
        if day != self._day:
            self._salt = await self._read(day)
            self._day = day
        return self._salt

    async def _read(self, day: date) -> bytes:
        async with self._database.begin() as connection:
            await connection.execute(
                text(
                    "insert into visitor_salt (day, salt) values (:day, "
                    "uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) on conflict do nothing"
                ),
                {"day": day},
            )
            await connection.execute(
                text("delete from visitor_salt where day < :oldest"), {"oldest": day - timedelta(days=1)}
            )
            found = await connection.execute(text("select salt from visitor_salt where day = :day"), {"day": day})
            return bytes(found.scalar_one())


def anonymous_id(salt: bytes, site_id: int, address: str, agent: str) -> str:
    """What a visitor without storage is known by on a site today. The same however often it is asked, until the salt
    changes.
    """
    told = f"{site_id}\0{address}\0{agent}".encode(errors="surrogatepass")
    digest = hashlib.blake2b(told, key=salt, digest_size=_HASH_BYTES).digest()
    return MARK + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
