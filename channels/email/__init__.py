"""Email: letters as MIME, signed by DKIM, handed over by SMTP; and the built-in mailbox that catches them."""

from channels.email.mailbox.provider import MailboxProvider
from channels.email.settings import SmtpSettings
from channels.email.smtp import SmtpProvider
from core.settings import Settings

__all__ = ["SmtpProvider", "SmtpSettings", "open_mailbox", "open_smtp"]


def open_smtp(url: str, settings: Settings) -> SmtpProvider:
    """The provider for an SMTP URL, without connecting. Key files with a relative path lie in the data folder.

    Raises:
        InvalidInput: the URL cannot work.
        Misconfigured: a DKIM key it names cannot be used.
    """
    parsed = SmtpSettings.of(url)
    return SmtpProvider(parsed, parsed.signer(settings.data))


def open_mailbox(url: str, settings: Settings) -> MailboxProvider:
    """The provider that hands letters to the built-in mailbox: `mailbox://`, or elsewhere `mailbox://HOST:PORT`.

    Raises:
        InvalidInput: the URL cannot work.
    """
    return MailboxProvider(url, settings)
