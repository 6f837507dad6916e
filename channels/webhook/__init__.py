"""Webhooks: messages that go to another program over HTTP. See docs/webhooks.md."""
