"""The pages that email brings: the built-in mailbox."""

from channels.email.mailbox.routes import router

__all__ = ["router"]
