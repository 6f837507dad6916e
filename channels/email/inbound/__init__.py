"""Mail that comes in: bounces, complaints and replies, by SMTP to workers or out of a mailbox. See docs/email.md."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from channels.email.inbound.letters import Incoming
from channels.email.inbound.mailbox import MailboxUrl, check
from channels.email.inbound.polling import Poller
from channels.email.inbound.server import serving
from channels.email.inbound.taking import Inbox
from core.database import Database
from core.periodic import repeating
from core.settings import Settings

__all__ = ["Inbox", "Incoming", "MailboxUrl", "Poller", "check", "receiving_mail", "serving"]
_log = structlog.get_logger()


@asynccontextmanager
async def receiving_mail(settings: Settings, database: Database) -> AsyncIterator[None]:
    """Take mail in while the block lasts, in the ways that the settings name; in none, nothing happens.

    Raises:
        InvalidInput, Misconfigured: the settings cannot work.
    """
    if settings.inbound_address is None or not (settings.inbound_port or settings.inbound_mailbox):
        yield
        return
    async with AsyncExitStack() as stack:
        inbox = Inbox(database, settings)
        stack.callback(inbox.close)
        if settings.inbound_port:
            host, port = await stack.enter_async_context(serving(inbox, settings))
            _log.info("mail comes in", host=host, port=port)
        if settings.inbound_mailbox:
            url = MailboxUrl.of(settings.inbound_mailbox.get_secret_value())
            poller = Poller(database, inbox, url, settings.inbound_bytes_limit)
            stack.callback(poller.close)
            await stack.enter_async_context(repeating(poller.turn, settings.inbound_mailbox_seconds, name="mailbox"))
            _log.info("mailbox is read", mailbox=str(url))
        yield
