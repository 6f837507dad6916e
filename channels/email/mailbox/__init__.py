"""The built-in mailbox of demo mode: an SMTP server on the loopback interface that keeps what it gets for reading."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from channels.email.mailbox.receiver import receiving
from channels.email.mailbox.store import Store
from core.database import Database
from core.errors import Unavailable
from core.settings import Settings

__all__ = ["address", "running"]


def _file(settings: Settings) -> Path:
    return settings.data / "mailbox.address"


@asynccontextmanager
async def running(database: Database, settings: Settings) -> AsyncIterator[str]:
    """Run the mailbox's SMTP server while the block lasts; gives `host:port`.

    The port is a free one; senders on this machine find it in the data folder.
    """
    async with receiving(Store(database).keep) as (host, port):
        settings.data.mkdir(parents=True, exist_ok=True)
        file = _file(settings)
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{host}:{port}")
        fresh.replace(file)
        yield f"{host}:{port}"


def address(settings: Settings) -> str:
    """Where the mailbox of this data folder listens.

    Raises:
        Unavailable: it never ran.
    """
    try:
        return _file(settings).read_text().strip()
    except FileNotFoundError:
        raise Unavailable("the built-in mailbox is not running; it starts with the API in demo mode") from None
