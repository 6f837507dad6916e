"""The provider behind `mailbox://`: real SMTP to the built-in mailbox, wherever that listens now."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from channels.email.mailbox import address
from channels.email.settings import SmtpSettings
from channels.email.smtp import SmtpProvider
from channels.provider import Letter, Outcome, Receipt
from core.errors import Unavailable
from core.settings import Settings


class MailboxProvider:
    """An SmtpProvider whose address stands in the data folder, for the mailbox takes a free port at each start."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Make it without connecting; raises InvalidInput for a URL that cannot work."""
        self._settings = settings
        self._fixed = urlsplit(url).netloc
        self._query = urlsplit(url).query
        self._address = ""
        self._smtp: SmtpProvider | None = None
        self._parsed(self._fixed or "127.0.0.1")

    async def hand_over(self, letters: Sequence[Letter]) -> list[Receipt]:
        """See EmailProvider."""
        try:
            provider = await self._provider()
        except Unavailable as error:
            return [Receipt(Outcome.DEFERRED, reason=str(error)) for _ in letters]
        return await provider.hand_over(letters)

    async def check(self) -> None:
        """See EmailProvider."""
        await (await self._provider()).check()

    async def close(self) -> None:
        """See EmailProvider."""
        if self._smtp is not None:
            await self._smtp.close()

    async def _provider(self) -> SmtpProvider:
        current = self._fixed or address(self._settings)
        if self._smtp is None or current != self._address:
            old, self._smtp = self._smtp, SmtpProvider(self._parsed(current))
            self._address = current
            if old is not None:
                await old.close()
        return self._smtp

    def _parsed(self, host: str) -> SmtpSettings:
        return SmtpSettings.of(f"smtp://{host}?{self._query}")
